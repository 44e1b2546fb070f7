"""Scores from raw columns: what they are, and that each is a pure function of its row."""

import functools
import json
import pickle

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.utils import check_random_state

from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.scoring.missing import KNOTS, with_hidden_cells
from vae_anomaly.scoring.tables import SCORE_TYPES, TableScorer
from vae_anomaly.scoring.views import Composite, View
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.preprocessing import TablePreprocessor
from vae_anomaly.tables.schema import Schema
from vae_anomaly.vae.builders import build_table_model

# The default and the one that differs most from it; the others are a second look.
SCORES = [
    pytest.param(
        name, marks=[] if name in ("composite", "importance_weighted") else [pytest.mark.slow]
    )
    for name in SCORE_TYPES
]
COMPOSITE_AND_ELBO = pytest.mark.parametrize(
    "score_type", ["composite", pytest.param("elbo", marks=pytest.mark.slow)]
)


@pytest.fixture(
    params=[*SCORES, "table", pytest.param("table autoencoder", marks=pytest.mark.slow)]
)
def scorer_and_arrays(request, detectors, rows, table, table_detector, table_autoencoder):
    """A scorer and 1000 rows for it: arrays of numbers for each score, and a mixed table."""
    if request.param in SCORE_TYPES:
        columns = np.resize(rows, (1000, rows.shape[1])).T
        return detectors[request.param].scorer_, {f"x{i}": c for i, c in enumerate(columns)}
    detector = table_detector if request.param == "table" else table_autoencoder
    frame = table.iloc[np.resize(np.arange(len(table)), 1000)]
    return detector.scorer_, frame_arrays(
        frame, Schema.of_kinds(detector.scorer_.preprocessor.kinds)
    )


def taken(arrays, indices):
    return {name: array[indices] for name, array in arrays.items()}


def assert_same(outputs, expected):
    for name, output in outputs.items():
        np.testing.assert_array_equal(output, expected[name], err_msg=name)


def test_the_same_row_twice_scores_the_same(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    # Both fixtures hold 400 rows, repeated.
    outputs = scorer.run(arrays)
    assert_same(taken(outputs, slice(0, 400)), taken(outputs, slice(400, 800)))
    assert_same(scorer.run(arrays), outputs)


def test_shuffled_rows_score_the_same(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    order = np.random.default_rng(0).permutation(1000)
    assert_same(scorer.run(taken(arrays, order)), taken(scorer.run(arrays), order))


@pytest.mark.parametrize("row", [0, 17, 999])
def test_a_row_scores_the_same_alone_as_among_1000(scorer_and_arrays, row):
    scorer, arrays = scorer_and_arrays
    alone = scorer.run(taken(arrays, slice(row, row + 1)))
    assert_same(alone, taken(scorer.run(arrays), slice(row, row + 1)))


@pytest.mark.parametrize("size", [1, 7, 333, 4096])
def test_the_size_of_chunks_does_not_change_scores(scorer_and_arrays, size):
    scorer, arrays = scorer_and_arrays
    n_rows = {1: 50, 7: 200}.get(size, 1000)
    chunks = [
        scorer.run(taken(arrays, slice(start, start + size))) for start in range(0, n_rows, size)
    ]
    together = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    assert_same(taken(together, slice(0, n_rows)), taken(scorer.run(arrays), slice(0, n_rows)))


@pytest.mark.parametrize("n_draws", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize(
    ("n_columns", "hidden_units", "latent_dim"),
    [
        pytest.param(4, (128, 128), 2, marks=pytest.mark.slow),
        pytest.param(30, (16,), 16, marks=pytest.mark.slow),
        (101, (128, 128), 7),
        (300, (250, 33), 3),
    ],
)
def test_no_network_is_of_a_size_that_lets_rows_depend_on_others(
    n_columns, hidden_units, latent_dim, n_draws
):
    # Matrix products take other ways for other shapes and for rows that do not fill a block.
    preprocessor = TablePreprocessor({f"x{i}": "numeric" for i in range(n_columns)})
    model = build_table_model(
        preprocessor.column_widths,
        n_columns,
        0,
        resolution=np.zeros(n_columns),
        variational=True,
        hidden_units=hidden_units,
        latent_dim=latent_dim,
        seed=0,
    )
    scorer = TableScorer(
        preprocessor, model, score_type="importance_weighted", n_draws=n_draws, seed=0
    )
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=1100) for name in preprocessor.kinds}
    expected = scorer.run(arrays)
    for size in (1, 73, 258, 480, 928, 1100):
        order = rng.permutation(1100)[:size]
        assert_same(scorer.run(taken(arrays, order)), taken(expected, order))


def test_contributions_add_up_to_the_score(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    outputs = scorer.run(arrays)
    total = outputs["feature_log_prob"].sum(axis=1) + outputs["latent"] + scorer.baseline
    np.testing.assert_allclose(total, outputs["score"], rtol=1e-9)


def test_only_scores_with_a_divergence_have_a_latent_part(detectors, rows):
    for score_type, detector in detectors.items():
        latent = detector.explain(rows)["contribution"]["latent"].to_numpy()
        assert latent.any() == (score_type in ("composite", "elbo", "importance_weighted"))


def test_outputs_have_their_names_types_and_shapes(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    outputs = scorer.run(arrays)
    n_columns = len(arrays)
    assert {name: (o.dtype.name, o.shape) for name, o in outputs.items()} == {
        "score": ("float64", (1000,)),
        "decision": ("float64", (1000,)),
        "is_anomaly": ("bool", (1000,)),
        "p_value": ("float64", (1000,)),
        "feature_log_prob": ("float64", (1000, n_columns)),
        "latent": ("float64", (1000,)),
    }


def test_decisions_are_scores_against_the_offset(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    outputs = scorer.run(arrays)
    np.testing.assert_array_equal(outputs["decision"], outputs["score"] - scorer.offset.numpy())
    np.testing.assert_array_equal(outputs["is_anomaly"], outputs["decision"] < 0)


def test_p_values_are_those_of_the_calibration_scores(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    outputs = scorer.run(arrays)
    expected = p_values(outputs["score"], scorer.calibration_scores.numpy())
    # TensorFlow multiplies by the reciprocal.
    np.testing.assert_allclose(outputs["p_value"], expected, rtol=1e-15)


def test_no_rows_give_no_outputs(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    assert {len(output) for output in scorer.run(taken(arrays, slice(0, 0))).values()} == {0}


def test_the_scorer_survives_its_config_and_weights(scorer_and_arrays):
    scorer, arrays = scorer_and_arrays
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(scorer)))
    again = keras.saving.deserialize_keras_object(config)
    again.set_weights(scorer.get_weights())
    assert_same(again.run(arrays), scorer.run(arrays))
    assert again.baseline == scorer.baseline


def draws(detector, x):
    """Posterior of each row, its draws of z, and their log-probabilities (n, K, d)."""
    scorer = detector.scorer_
    arrays = {f"x{i}": column for i, column in enumerate(x.T)}
    inputs = scorer.preprocess(arrays)
    z_mean, z_log_var = (np.asarray(t, np.float64) for t in scorer.model.encode(inputs))
    z = z_mean[:, None] + np.exp(z_log_var / 2)[:, None] * scorer.noise.numpy()
    log_prob = np.asarray(scorer.model.feature_log_prob(inputs, z.astype("float32")), np.float64)
    return z_mean, np.exp(z_log_var / 2), z, log_prob


def test_reconstruction_probability_is_the_mean_log_probability_over_the_draws(detectors, rows):
    detector = detectors["reconstruction_probability"]
    *_, log_prob = draws(detector, rows)
    np.testing.assert_allclose(
        detector.score_samples(rows), log_prob.sum(axis=2).mean(axis=1), rtol=1e-4
    )


def by_neighbours(view, x, observed):
    """A composite's last view, (n,), by brute force; each feature is a column."""
    differences = (x[:, None].astype(np.float64) - view.references.numpy()) * observed[:, None]
    nearest = np.sort((differences**2).sum(axis=2), axis=1)[:, :10].mean(axis=1)
    n_observed = observed.sum(axis=1)
    square = nearest * observed.shape[1] / np.maximum(n_observed, 1)
    return -n_observed / 2 * np.log(square + view.blur.numpy())


def three_views(detector, x):
    """Elbo, sum of marginals, and the neighbourhood, (3, n)."""
    scorer = detector.scorer_
    z_mean, z_scale, _, log_prob = draws(detector, x)
    kl = 0.5 * (z_mean**2 + z_scale**2 - 1 - 2 * np.log(z_scale)).sum(axis=1)
    prepared, observed = scorer.preprocess({f"x{i}": column for i, column in enumerate(x.T)})
    marginals = np.asarray(scorer.score.views[1](prepared), np.float64)
    return np.stack(
        [
            (log_prob.mean(axis=1) * observed).sum(axis=1) - kl,
            (marginals * observed).sum(axis=1),
            by_neighbours(scorer.score.views[2], prepared, observed),
        ]
    )


def held_out(rows):
    """The tenth of the rows that the fixtures' detectors were not trained on."""
    seeds = check_random_state(0).randint(2**31 - 1, size=4)
    return np.random.default_rng(int(seeds[0])).permutation(len(rows))[: len(rows) // 10]


def test_the_composite_is_mostly_the_view_that_is_further_below_its_median(detectors, rows):
    detector = detectors["composite"]
    views = three_views(detector, rows)
    medians = np.median(three_views(detector, rows[held_out(rows)]), axis=1)
    excess = views - medians[:, None]
    assert (np.bincount(excess.argmin(axis=0), minlength=3) > 0.05 * len(rows)).all()
    lowest, middle, _ = np.sort(excess, axis=0)
    expected = medians.mean() + 0.75 * lowest + 0.25 * middle
    np.testing.assert_allclose(detector.score_samples(rows), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_missing", [1, 2, 3])
def test_a_row_with_missing_cells_is_compared_with_rows_that_lack_as_many(
    detectors, rows, n_missing
):
    score = detectors["composite"].scorer_.score
    partial = rows[held_out(rows)].repeat(10, axis=0)
    order = np.random.default_rng(0).permuted(np.tile(range(4), (len(partial), 1)), axis=1)
    partial[order < n_missing] = np.nan
    usual = [np.interp(n_missing / 4, np.linspace(0, 1, 11), k) for k in score.usual_excess.numpy()]
    usual = np.stack(usual)[:, None] + score.usual_features.numpy() @ (order >= n_missing).T
    excess = three_views(detectors["composite"], partial) - usual
    # Knots are a tenth apart, and these shares lie between them.
    assert (np.abs(np.median(excess, axis=1)) < [0.3, 0.3, 1.0]).all()


def test_the_composite_score_does_not_jump_where_the_other_view_becomes_the_more_unusual_one(
    detectors, rows
):
    # From rows that are unusual together to rows that are unusual alone, by thousandths.
    views = three_views(detectors["composite"], rows)
    ends = rows[np.argmin(views[0] - views[1])], rows[np.argmax(views[0] - views[1])]
    way = ends[0] + np.linspace(0, 1, 1001)[:, None] * (ends[1] - ends[0])
    excess = three_views(detectors["composite"], way)
    excess -= np.median(three_views(detectors["composite"], rows[held_out(rows)]), axis=1)[:, None]
    assert len(np.unique(excess.argmin(axis=0))) > 1
    steps = np.abs(np.diff(detectors["composite"].score_samples(way)))
    steps_of_views = np.abs(np.diff(excess, axis=1)).max(axis=0)
    assert (steps <= steps_of_views + 1e-4).all()


def test_the_elbo_is_the_reconstruction_probability_minus_the_divergence(detectors, rows):
    z_mean, z_scale, _, log_prob = draws(detectors["elbo"], rows)
    kl = 0.5 * (z_mean**2 + z_scale**2 - 1 - 2 * np.log(z_scale)).sum(axis=1)
    np.testing.assert_allclose(
        detectors["elbo"].score_samples(rows),
        log_prob.sum(axis=2).mean(axis=1) - kl,
        rtol=1e-4,
    )


def test_the_importance_weighted_score_is_the_log_mean_weight_of_the_draws(detectors, rows):
    z_mean, z_scale, z, log_prob = draws(detectors["importance_weighted"], rows)
    log_prior = norm.logpdf(z).sum(axis=2)
    log_posterior = norm.logpdf(z, z_mean[:, None], z_scale[:, None]).sum(axis=2)
    log_weight = log_prob.sum(axis=2) + log_prior - log_posterior
    np.testing.assert_allclose(
        detectors["importance_weighted"].score_samples(rows),
        logsumexp(log_weight, axis=1) - np.log(z.shape[1]),
        rtol=1e-4,
    )


def test_the_reconstruction_error_is_the_squared_distance_in_scales(detectors, rows):
    detector = detectors["reconstruction_error"]
    scale = detector.scorer_.preprocessor.numbers.scale.numpy()
    error = (((rows - detector.reconstruct(rows)) / scale) ** 2).sum(axis=1)
    np.testing.assert_allclose(detector.score_samples(rows), -error, rtol=1e-4, atol=1e-4)


def test_the_baseline_is_the_mean_training_score(detectors, rows):
    for detector in detectors.values():
        assert detector.scorer_.baseline == pytest.approx(detector.score_samples(rows).mean())


def test_each_column_contributes_zero_on_average(table, table_detector):
    contribution = table_detector.explain(table)["contribution"]
    for name in table.columns:
        seen = table[name].notna()
        assert contribution.loc[seen, name].mean() == pytest.approx(0.0, abs=1e-9)


def small_scorer(score_type="elbo", variational=True, **kwargs):
    preprocessor = TablePreprocessor({"a": "numeric", "b": "numeric"})
    model = build_table_model(
        preprocessor.column_widths,
        2,
        0,
        resolution=[0.0, 0.0],
        variational=variational,
        hidden_units=(4,),
        latent_dim=3,
        seed=0,
    )
    return TableScorer(preprocessor, model, score_type=score_type, **kwargs)


@pytest.mark.parametrize("n_draws", [1, 2, 5, 8, 64])
def test_the_noise_comes_in_mirrored_pairs(n_draws):
    noise = small_scorer(n_draws=n_draws, seed=0).noise.numpy()
    assert noise.shape == (n_draws, 3)
    pairs = noise[: n_draws // 2 * 2].reshape(-1, 2, 3)
    np.testing.assert_array_equal(pairs[:, 0], -pairs[:, 1])


def test_the_noise_is_standard_normal():
    noise = small_scorer(n_draws=1024, seed=0).noise.numpy()
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.02)


def test_equal_seeds_give_equal_noise_and_others_do_not():
    first, same, other = (small_scorer(seed=seed).noise.numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@COMPOSITE_AND_ELBO
def test_calibration_keeps_the_scores_of_the_held_out_rows(score_type):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=40), "b": rng.normal(size=40)}
    held_out = np.arange(40) < 10
    scorer = small_scorer(score_type, n_calibration=10, seed=0)
    scores = scorer.calibrate(arrays, held_out)
    np.testing.assert_array_equal(scorer.run(arrays)["score"], scores)
    np.testing.assert_array_equal(scorer.calibration_scores.numpy(), np.sort(scores[held_out]))


@COMPOSITE_AND_ELBO
def test_calibrating_again_changes_nothing(score_type):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=40), "b": rng.normal(size=40)}
    scorer = small_scorer(score_type, n_calibration=40, seed=0)
    first = scorer.calibrate(arrays, np.ones(40, dtype=bool))
    np.testing.assert_array_equal(scorer.calibrate(arrays, np.ones(40, dtype=bool)), first)


def test_moving_the_offset_moves_decisions_of_the_compiled_graph():
    arrays = {"a": np.zeros(3), "b": np.zeros(3)}
    scorer = small_scorer(seed=0)
    for offset, flagged in ((-1e9, False), (1e9, True), (-1e9, False)):
        scorer.offset.assign(offset)
        assert (scorer.run(arrays)["is_anomaly"] == flagged).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"score_type": "mse"}, "`score_type` to be one of"),
        ({"n_draws": 0}, "`n_draws` >= 1"),
        ({"variational": False}, "score_type='reconstruction_error' for a model without"),
    ],
)
def test_impossible_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small_scorer(**kwargs)


@pytest.mark.parametrize("score_type", [*SCORE_TYPES][:-1])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_row_is_neither_flagged_nor_excused_for_its_missing_cells(
    detectors, rows, score_type, share
):
    detector = detectors[score_type]
    rng = np.random.default_rng(3)
    rows = np.resize(rows, (2000, 4))
    partial = np.where(rng.uniform(size=rows.shape) < share, np.nan, rows)
    lowest = np.quantile(detector.score_samples(rows), 0.1)
    assert (detector.score_samples(partial) < lowest).mean() < 0.2
    assert 0.3 < detector.p_values(partial).mean() < 0.7
    assert abs(detector.score_samples(partial).mean() - detector.scorer_.baseline) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_rows_to_score_have_the_scores_that_all_that_can_be_learned_gives_them(
    table, table_detector, missing
):
    scorer = pickle.loads(pickle.dumps(table_detector)).scorer_
    scorer.seed = 0  # a copy has none
    schema = Schema.of_kinds(scorer.preprocessor.kinds)
    is_hidden = np.random.default_rng(0).random(table.shape) < missing
    scored = frame_arrays(table.dropna().mask(is_hidden[: len(table.dropna())]), schema)
    arrays, is_held_out = frame_arrays(table, schema), np.arange(len(table)) % 5 == 0
    found = scorer.learn_to_score(arrays, is_held_out, scored)
    scorer.learn(arrays, is_held_out)
    np.testing.assert_allclose(found, scorer.run(scored, ("score",))["score"], rtol=1e-12)


def test_a_hidden_cell_is_preprocessed_as_a_missing_one(table, table_detector):
    scorer = table_detector.scorer_
    arrays = frame_arrays(table, Schema.of_kinds(scorer.preprocessor.kinds))
    columns = scorer.preprocessor.column_names
    order = [columns.index(name) for name in arrays]
    prepared = scorer.preprocess(arrays)
    widths = scorer.preprocessor.column_widths
    x, observed = with_hidden_cells(*prepared, widths, order, np.random.default_rng(0), KNOTS)
    rng = np.random.default_rng(0)
    for index, share in enumerate(KNOTS):
        part = slice(index * len(table), (index + 1) * len(table))
        partial = {}
        for name, array in arrays.items():
            hidden = rng.uniform(size=len(table)) < share
            missing = "" if scorer.preprocessor.kinds[name] == "categorical" else np.nan
            partial[name] = np.where(hidden, missing, array)
        expected_x, expected_observed = scorer.preprocess(partial)
        np.testing.assert_array_equal(x[part], expected_x)
        np.testing.assert_array_equal(observed[part], expected_observed)
        assert observed[part].mean() == pytest.approx(prepared[1].mean() * (1 - share), abs=0.05)


def test_rows_are_measured_by_one_function_that_is_traced_once(monkeypatch):
    traced = []
    measure = TableScorer._measure

    @functools.wraps(measure)
    def counted(self, *inputs):
        traced.append(inputs)
        return measure(self, *inputs)

    monkeypatch.setattr(TableScorer, "_measure", counted)
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=40), "b": np.where(np.arange(40) < 3, np.nan, 1.0)}
    scorer = small_scorer("composite", n_calibration=10, seed=0)
    scorer.calibrate(arrays, np.arange(40) < 10)
    scorer.run(arrays)
    scorer.run(taken(arrays, slice(0, 3)), ("score",))
    assert len(traced) == 1


@pytest.mark.slow
@given(
    excess=hnp.arrays(np.float64, (20, 3), elements=st.integers(-3, 3)),
    observed=hnp.arrays(np.float32, (20, 2), elements=st.sampled_from([0.0, 1.0])),
)
def test_a_composite_weighs_any_number_of_views_by_rank(excess, observed):
    composite = Composite([View(), View(), View()], (0.6, 0.3, 0.1), n_columns=2)
    level = np.array([5.0, -1.0, 2.0])
    composite.usual_excess.assign(np.repeat(level[:, None], len(KNOTS), axis=1))
    columns = np.stack([excess, np.zeros_like(excess)], axis=2) * observed[:, None, :]
    rest = level + excess * (1 - observed[:, :1])
    terms = [(columns[:, view], rest[:, view]) for view in range(3)]
    features, latent = composite.combined(terms, observed)
    expected = np.sort(excess, axis=1) @ [0.6, 0.3, 0.1] + level.mean()
    np.testing.assert_allclose(np.sum(features, axis=1) + latent, expected, rtol=1e-12, atol=1e-12)
