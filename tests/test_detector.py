"""The detectors as users of scikit-learn and pandas meet them."""

import copy
import pickle
import random

import joblib
import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from vae_anomaly import AutoencoderDetector, DataWarning, VAEDetector
from vae_anomaly.scoring.tables import SCORE_TYPES, TableScorer

BOTH = pytest.mark.parametrize("detector_class", [VAEDetector, AutoencoderDetector])
# For tests of what goes in and comes out; the composite score is slower to calibrate.
SMALL = {
    "score_type": "elbo",
    "hidden_units": (4,),
    "latent_dim": 2,
    "max_steps": 2,
    "random_state": 0,
}


@pytest.fixture(params=["array", "table", "autoencoder"])
def fitted(request, rows, table, detector, table_detector, table_autoencoder):
    """A fitted detector and rows for it."""
    return {
        "array": (detector, rows),
        "table": (table_detector, table),
        "autoencoder": (table_autoencoder, table),
    }[request.param]


@pytest.fixture(scope="module")
def small(rows):
    """A detector fitted on ``rows`` in a few steps."""
    return VAEDetector(**SMALL).fit(rows)


@pytest.fixture(scope="module")
def untrained(rows, leave_out_training):
    """A detector fitted on ``rows`` as ``trainings`` does it."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_training(patch)
        return VAEDetector(**SMALL).fit(rows)


# The same number for the same row


def test_every_method_gives_one_value_per_row(fitted):
    detector, X = fitted
    scores = detector.score_samples(X)
    assert scores.dtype == np.float64
    assert scores.shape == (len(X),)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(detector.decision_function(X), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(scores < detector.offset_, -1, 1))
    assert detector.score(X) == scores.mean()


def test_a_row_scores_the_same_alone_and_shuffled(fitted):
    detector, X = fitted
    scores = detector.score_samples(X)
    order = np.random.default_rng(0).permutation(len(X))
    if isinstance(X, pd.DataFrame):
        shuffled, alone = X.iloc[order], [X.iloc[[row]] for row in range(20)]
    else:
        shuffled, alone = X[order], [X[[row]] for row in range(20)]
    np.testing.assert_array_equal(detector.score_samples(shuffled), scores[order])
    np.testing.assert_array_equal([detector.score_samples(row)[0] for row in alone], scores[:20])


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda detector: pickle.loads(pickle.dumps(detector))],
    ids=["deepcopy", "pickle"],
)
def test_copies_score_bit_for_bit(fitted, copied):
    detector, X = fitted
    again = copied(detector)
    for method in ("score_samples", "p_values", "transform"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(detector, method)(X))
    assert again.offset_ == detector.offset_
    assert again.history_ == detector.history_
    assert again.get_params() == detector.get_params()


def test_joblib_files_score_bit_for_bit(table_detector, table, tmp_path):
    joblib.dump(table_detector, tmp_path / "detector.joblib")
    again = joblib.load(tmp_path / "detector.joblib")
    np.testing.assert_array_equal(again.predict(table), table_detector.predict(table))
    np.testing.assert_array_equal(again.score_samples(table), table_detector.score_samples(table))


def test_copying_leaves_the_first_as_it_was(detector, rows):
    scores = detector.score_samples(rows)
    again = copy.deepcopy(detector)
    again.offset_ = 1e9
    assert (again.predict(rows) == -1).all()
    assert not (detector.predict(rows) == -1).all()
    np.testing.assert_array_equal(detector.score_samples(rows), scores)


# Explanations


@pytest.mark.parametrize("score_type", SCORE_TYPES)
def test_contributions_add_up_to_the_score(detectors, rows, score_type):
    detector = detectors[score_type]
    contribution = detector.explain(rows)["contribution"]
    assert list(contribution) == ["x0", "x1", "x2", "x3", "latent", "baseline"]
    np.testing.assert_allclose(
        contribution.sum(axis=1), detector.score_samples(rows), rtol=1e-9, atol=1e-12
    )


def test_an_explanation_has_the_value_seen_and_the_value_expected(table, table_detector):
    frame = table.iloc[5:15]
    explanation = table_detector.explain(frame)
    groups = explanation.columns.get_level_values(0)
    assert list(dict.fromkeys(groups)) == [
        *("contribution", "value", "gain"),
        *("expected", "low", "high"),
    ]
    assert list(explanation["contribution"]) == [*table.columns, "latent", "baseline"]
    assert explanation.index.equals(frame.index)
    pd.testing.assert_series_equal(
        explanation["value"]["amount"], frame["amount"], check_names=False
    )
    np.testing.assert_allclose(
        explanation["contribution"].sum(axis=1), table_detector.score_samples(frame), rtol=1e-9
    )


def test_the_odd_column_is_the_one_that_is_blamed(detector, rows):
    row = rows.mean(axis=0)
    row[2] += 8 * rows[:, 2].std()
    explanation = detector.explain([row]).iloc[0]
    assert explanation["contribution"][["x0", "x1", "x2", "x3"]].idxmin() == "x2"
    assert explanation["gain"].idxmax() == "x2"
    assert explanation["expected"]["x2"] == pytest.approx(rows[:, 2].mean(), abs=rows[:, 2].std())


def test_columns_may_be_called_latent_and_baseline(trainings):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)))
    frame.columns = ["latent", "baseline"]
    detector = VAEDetector(**SMALL).fit(frame)
    contribution = detector.explain(frame)["contribution"]
    assert contribution.shape == (20, 4)
    np.testing.assert_allclose(contribution.sum(axis=1), detector.score_samples(frame), rtol=1e-9)


# Far from the data, and in its empty middle


@pytest.mark.parametrize("score_type", SCORE_TYPES)
def test_the_score_falls_along_rays_that_leave_the_data(detectors, rows, score_type):
    # Along axes, principal axes and other directions; a unit is a standard deviation of the
    # data in that direction.
    mean, covariance = rows.mean(axis=0), np.cov(rows.T)
    principal = np.linalg.eigh(covariance)[1].T
    others = np.random.default_rng(0).normal(size=(20, 4)) * rows.std(axis=0)
    directions = np.concatenate([np.eye(4), -np.eye(4), principal, -principal, others])
    precision = np.linalg.inv(covariance)
    units = np.sqrt(np.einsum("ij,jk,ik->i", directions, precision, directions))
    directions /= units[:, None]
    distances = [5, 7, 10, 20, 50, 100]
    scores = np.stack(
        [detectors[score_type].score_samples(mean + d * directions) for d in distances]
    )
    assert (np.diff(scores, axis=0) < 0).all()
    assert (scores[-1] < detectors[score_type].score_samples(rows).min()).all()


@pytest.mark.slow
def test_a_far_cluster_of_training_rows_does_not_make_what_is_beyond_it_normal(rows):
    # 2% of the rows have a number that stands for "unknown" in one column.
    marked = rows.copy()
    marked[:8, 0] = 1e9
    detector = VAEDetector(hidden_units=(16,), max_steps=300, random_state=0).fit(marked)
    row = rows.mean(axis=0)
    beyond = np.array([[value, *row[1:]] for value in (1e11, 1e13, 1e17, 1e30, 1e300)])
    scores = detector.score_samples(beyond)
    assert (np.diff(scores) < 0).all()
    assert (scores < detector.score_samples(rows).min()).all()


def test_the_empty_middle_of_a_ring_is_flagged():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, size=1000)
    radii = 1 + 0.05 * rng.normal(size=1000)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    middle = rng.uniform(-0.25, 0.25, size=(100, 2))
    # Without the warm-up z is ignored: the model takes the ring for a round cloud.
    detector = VAEDetector(
        hidden_units=(32, 32),
        max_steps=800,
        kl_warmup_steps=400,
        learning_rate=5e-3,
        random_state=0,
    ).fit(ring)
    assert (detector.predict(middle) == -1).all()
    assert np.mean(detector.predict(ring) == -1) < 0.05
    # The other scores of the same model; not the reconstruction error, which has no density.
    for score_type in ("reconstruction_probability", "importance_weighted", "elbo"):
        scorer = TableScorer(
            detector.scorer_.preprocessor,
            detector.scorer_.model,
            score_type=score_type,
            n_calibration=1000,
            seed=0,
        )
        scorer.calibrate(dict(zip(("x0", "x1"), ring.T, strict=True)), np.ones(1000, dtype=bool))
        p_value = scorer.run(dict(zip(("x0", "x1"), middle.T, strict=True)))["p_value"]
        assert (p_value < 0.02).all()


# Options


def dense_layers(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


@pytest.fixture(scope="module")
def unusual(table):
    """A detector with no option at its default."""
    return VAEDetector(
        score_type="elbo",
        contamination=0.2,
        hidden_units=[6, 5],
        latent_dim=3,
        activation="tanh",
        variance="column",
        beta=0.5,
        kl_warmup_steps=20,
        n_draws=3,
        n_train_draws=4,
        max_steps=30,
        batch_size=32,
        learning_rate=1e-2,
        validation_fraction=0.25,
        patience=30,
        max_levels=2,
        normal_scores=False,
        kinds={"count": "categorical"},
        random_state=np.random.RandomState(0),
        verbose=0,
    ).fit(table)


def test_score_type_decides_what_is_computed(detectors, rows):
    scores = [detector.score_samples(rows) for detector in detectors.values()]
    for index, first in enumerate(scores):
        assert all((first != other).any() for other in scores[index + 1 :])


def test_hidden_units_are_the_layers_of_both_networks(unusual):
    model = unusual.scorer_.model
    assert [layer.units for layer in dense_layers(model.encoder)] == [6, 5, 3, 3]
    assert [layer.units for layer in dense_layers(model.decoder)][:2] == [5, 6]


def test_latent_dim_is_the_width_of_the_transform(unusual, table):
    assert unusual.transform(table).shape == (400, 3)


@pytest.mark.parametrize(
    ("detector_class", "n_columns", "expected"),
    [
        (VAEDetector, 5, 5),
        (VAEDetector, 20, 16),
        (AutoencoderDetector, 5, 2),
        (AutoencoderDetector, 1, 1),
        (AutoencoderDetector, 40, 16),
    ],
)
def test_latent_dim_follows_from_the_columns(trainings, detector_class, n_columns, expected):
    X = np.random.default_rng(0).normal(size=(20, n_columns))
    assert detector_class(hidden_units=()).fit(X).transform(X).shape == (20, expected)


def test_activation_is_that_of_the_hidden_layers(unusual, detector):
    for fitted, name in ((unusual, "tanh"), (detector, "relu")):
        for network in (fitted.scorer_.model.encoder, fitted.scorer_.model.decoder):
            hidden = [layer for layer in dense_layers(network) if layer.name[:6] == "hidden"]
            assert {layer.activation.__name__ for layer in hidden} == {name}


def test_activation_may_be_a_function(trainings, rows):
    detector = VAEDetector(**SMALL, activation=keras.activations.silu).fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()


@pytest.mark.parametrize(
    ("variance", "n_outputs", "n_weights"),
    [("row", 8, 4), ("column", 4, 4), ("shared", 4, 1), (0.5, 4, 0), (np.float32(2), 4, 0)],
)
def test_variance_decides_who_decides_the_variance(trainings, rows, variance, n_outputs, n_weights):
    detector = VAEDetector(**SMALL, variance=variance).fit(rows)
    model = detector.scorer_.model
    assert model.decoder.output_shape == (None, n_outputs)
    assert sum(np.size(weight) for weight in model.likelihood.weights) == n_weights
    assert np.isfinite(detector.score_samples(rows)).all()


def test_beta_weighs_the_divergence(unusual):
    history = {name: np.array(values) for name, values in unusual.history_.items()}
    np.testing.assert_allclose(
        history["val_loss"], 0.5 * history["val_kl"] - history["val_log_prob"], rtol=1e-4
    )


def test_the_weight_of_the_divergence_grows_over_kl_warmup_steps(unusual):
    history = {name: np.array(values) for name, values in unusual.history_.items()}
    weight = (history["loss"] + history["log_prob"]) / history["kl"]
    expected = 0.5 * np.minimum(1, history["step"] / 20)
    np.testing.assert_allclose(weight, expected, atol=0.01)


def test_n_draws_is_the_number_of_fixed_draws(unusual, detector):
    assert unusual.scorer_.noise.shape == (3, 3)
    assert detector.scorer_.noise.shape == (8, 4)


def test_n_train_draws_steadies_the_bound_of_training(unusual, detector, rows):
    assert unusual.scorer_.model.n_draws == 4
    assert detector.scorer_.model.n_draws == 1


def test_training_gets_its_options(trainings, rows):
    VAEDetector(max_steps=np.int64(7), batch_size=3, learning_rate=1e-4, patience=5, verbose=1).fit(
        rows
    )
    (call,) = trainings
    expected = {
        "max_steps": 7,
        "batch_size": 3,
        "learning_rate": 1e-4,
        "patience": 5,
        "verbose": 1,
    }
    assert {name: call[name] for name in expected} == expected


def test_max_steps_is_the_length_of_training(unusual):
    assert unusual.history_["step"][-1] == 30


def test_validation_fraction_is_the_share_held_out(unusual, trainings, rows):
    assert unusual.history_["val_loss"]
    VAEDetector(**SMALL, validation_fraction=0.1).fit(rows)
    assert trainings[0]["is_validation"].sum() == 40


def test_without_rows_held_out_all_rows_calibrate(rows):
    detector = VAEDetector(**SMALL, validation_fraction=0).fit(rows)
    assert set(detector.history_) == {"step", "loss", "log_prob", "kl"}
    scores = detector.score_samples(rows)
    np.testing.assert_array_equal(detector.scorer_.calibration_scores, np.sort(scores))
    assert detector.offset_ == np.sort(scores)[3]  # 4 / 401 <= 1% < 5 / 401


@pytest.mark.slow
def test_small_values_of_a_very_skewed_column_that_do_not_fit_the_others_are_found():
    rng = np.random.default_rng(0)
    size = rng.lognormal(sigma=2, size=1000)
    X = np.column_stack([size, np.log(size) + 0.1 * rng.normal(size=1000)])
    odd = np.column_stack([np.exp(rng.uniform(-5, -3, 20)), rng.normal(size=20)])
    detector = VAEDetector(max_steps=300, random_state=0).fit(X)
    scores = detector.score_samples(X)
    assert np.median(detector.score_samples(odd)) < np.quantile(scores, 0.05)


def test_max_levels_are_kept_and_other_values_count_as_unknown(unusual):
    levels = unusual.scorer_.preprocessor.levels
    assert levels["city"] == ["Bergen", "Oslo"]
    assert len(levels["count"]) == 2


def test_kinds_override_the_dtype(unusual, table_detector):
    assert unusual.scorer_.preprocessor.skewed == []
    assert table_detector.scorer_.preprocessor.skewed == ["amount"]
    assert unusual.scorer_.preprocessor.kinds["count"] == "categorical"
    assert table_detector.scorer_.preprocessor.kinds["count"] == "numeric"


def test_kinds_leave_columns_out_of_the_model(trainings, table):
    frame = table.assign(key=np.arange(400).astype(str))
    detector = VAEDetector(**SMALL, kinds={"key": "id", "day": "dropped"}).fit(frame)
    modelled = table.columns.drop("day")
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(table[modelled]), scores)
    np.testing.assert_array_equal(detector.score_samples(frame.assign(key="other")), scores)
    assert list(detector.reconstruct(frame)) == list(modelled)
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(ValueError, match="Expected a DataFrame, as in fit"),
    ):
        detector.score_samples(np.zeros((2, 7)))


def test_kinds_need_a_frame(rows):
    with pytest.raises(ValueError, match="Expected a DataFrame where `kinds` is given"):
        VAEDetector(kinds={"x0": "categorical"}).fit(rows)


@pytest.mark.parametrize("share", [("unusual", 0.2), ("detector", "auto")], ids=["share", "auto"])
def test_contamination_decides_the_share_that_is_flagged(share, unusual, detector, table, rows):
    name, contamination = share
    fitted, X = {"unusual": (unusual, table), "detector": (detector, rows)}[name]
    assert fitted.contamination == contamination
    if contamination == "auto":
        # Of 40 calibration scores, for 2 / 41 is more than 1%.
        assert fitted.offset_ == fitted.scorer_.calibration_scores.numpy()[0]
    else:
        assert np.mean(fitted.predict(X) == -1) == contamination


def test_the_autoencoder_takes_its_options(table):
    detector = AutoencoderDetector(
        contamination=0.1,
        hidden_units=(7,),
        latent_dim=3,
        activation="elu",
        max_steps=12,
        batch_size=50,
        learning_rate=1e-2,
        validation_fraction=0.5,
        patience=12,
        max_levels=1,
        normal_scores=False,
        kinds={"count": "categorical"},
        random_state=1,
        verbose=0,
    ).fit(table)
    encoder = dense_layers(detector.scorer_.model.encoder)
    assert [layer.units for layer in encoder] == [7, 3]
    assert encoder[0].activation.__name__ == "elu"
    assert np.mean(detector.predict(table) == -1) == 0.1
    assert detector.history_["step"][-1] == 12
    assert detector.scorer_.n_calibration == 200
    assert len(detector.scorer_.preprocessor.levels["count"]) == 1
    assert detector.scorer_.preprocessor.skewed == []
    assert (detector.score_samples(table) <= 0).all()


def test_silence_is_the_default(rows, capsys):
    AutoencoderDetector(hidden_units=(), max_steps=2).fit(rows)
    assert capsys.readouterr() == ("", "")


def test_verbose_shows_progress_on_stderr(rows, capsys):
    AutoencoderDetector(hidden_units=(), max_steps=2, verbose=1).fit(rows)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2 steps" in err


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contamination", 0.0),
        ("contamination", 0.6),
        ("contamination", "some"),
        ("hidden_units", 128),
        ("latent_dim", 0),
        ("activation", 1),
        ("max_steps", 0),
        ("max_steps", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("validation_fraction", 1.0),
        ("validation_fraction", -0.1),
        ("patience", 0),
        ("max_levels", 0),
        ("normal_scores", "yes"),
        ("kinds", ["numeric"]),
        ("random_state", "seed"),
        ("verbose", "yes"),
    ],
)
def test_impossible_parameters_are_refused_by_name(detector_class, rows, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        detector_class(**{name: value}).fit(rows)


def test_a_variance_finer_than_the_tables_of_the_composite_score_is_refused(trainings, rows):
    with pytest.raises(ValueError, match="`variance` >= 0.001 for score_type='composite'"):
        VAEDetector(variance=1e-4).fit(rows)
    VAEDetector(variance=1e-4, **SMALL).fit(rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_type", "mse"),
        ("variance", 0.0),
        ("variance", "cell"),
        ("beta", -1.0),
        ("kl_warmup_steps", -1),
        ("n_draws", 0),
        ("n_train_draws", 0),
    ],
)
def test_impossible_parameters_of_the_vae_are_refused_by_name(rows, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        VAEDetector(**{name: value}).fit(rows)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hidden_units": (8, 0)}, r"hidden_units\[1\]"),
        ({"activation": "reelu"}, "reelu"),
    ],
)
def test_impossible_networks_are_refused_by_name(rows, kwargs, message):
    with pytest.raises(ValueError, match=message):
        VAEDetector(**kwargs).fit(rows)


# Thresholds


def test_assigning_the_offset_moves_predictions_without_refitting(detector, rows):
    moved = copy.deepcopy(detector)
    scores = moved.score_samples(rows)
    moved.offset_ = float(np.median(scores))
    assert np.mean(moved.predict(rows) == -1) == 0.5
    np.testing.assert_array_equal(moved.decision_function(rows), scores - np.median(scores))
    np.testing.assert_array_equal(moved.score_samples(rows), scores)
    again = pickle.loads(pickle.dumps(moved))
    np.testing.assert_array_equal(again.predict(rows), moved.predict(rows))


# With scikit-learn


def test_it_is_a_step_of_a_pipeline(trainings, rows):
    pipeline = make_pipeline(StandardScaler(), VAEDetector(**SMALL)).fit(rows)
    assert set(pipeline.predict(rows)) <= {-1, 1}
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.score_samples(rows), pipeline.score_samples(rows))


def test_it_is_searched_over_its_parameters(trainings, rows):
    search = GridSearchCV(
        VAEDetector(**SMALL),
        {"variance": [1000.0, "column"]},
        cv=2,
        refit=False,
        error_score="raise",
    ).fit(rows)
    assert search.best_params_ == {"variance": "column"}


@BOTH
def test_a_clone_has_the_parameters_and_is_not_fitted(detector_class, rows):
    detector = detector_class(hidden_units=(3,), kinds={"a": "numeric"}, random_state=5)
    again = clone(detector)
    assert again.get_params() == detector.get_params()
    with pytest.raises(NotFittedError):
        again.predict(rows)


@BOTH
@pytest.mark.parametrize(
    "method",
    ["score_samples", "decision_function", "predict", "p_values", "score", "transform"]
    + ["reconstruct", "explain"],
)
def test_unfitted_use_is_refused(detector_class, rows, method):
    with pytest.raises(NotFittedError):
        getattr(detector_class(), method)(rows)


def test_an_unfitted_detector_has_no_offset_and_nothing_to_draw_or_save(tmp_path):
    assert not hasattr(VAEDetector(), "offset_")
    with pytest.raises(NotFittedError):
        VAEDetector().sample(3)
    with pytest.raises(NotFittedError):
        VAEDetector().save(tmp_path / "m")


def test_fit_predict_is_fit_then_predict(untrained, trainings, rows):
    labels = VAEDetector(**SMALL).fit_predict(rows)
    np.testing.assert_array_equal(labels, untrained.predict(rows))


def test_labels_are_ignored(untrained, trainings, rows):
    y = np.arange(len(rows))
    first, second = untrained, VAEDetector(**SMALL).fit(rows, y)
    np.testing.assert_array_equal(first.score_samples(rows), second.score_samples(rows))
    assert first.score(rows) == second.score(rows, y)


def test_the_transform_has_named_columns(detector, rows):
    names = [f"vaedetector{index}" for index in range(4)]
    assert list(detector.get_feature_names_out()) == names
    latent = detector.transform(rows)
    assert latent.dtype == np.float64
    framed = copy.deepcopy(detector).set_output(transform="pandas").transform(rows)
    assert list(framed) == names
    np.testing.assert_array_equal(framed, latent)


def test_the_transform_of_a_frame_keeps_its_index(table_detector, table):
    frame = table.iloc[10:20]
    framed = copy.deepcopy(table_detector).set_output(transform="pandas").transform(frame)
    assert framed.index.equals(frame.index)


def test_a_fit_that_fails_leaves_the_detector_as_it_was(trainings, rows, table):
    detector = VAEDetector(**SMALL).fit(rows)
    scores = detector.score_samples(rows)
    with pytest.raises(ValueError, match="infinity"):
        detector.fit(table.assign(amount=np.inf))
    np.testing.assert_array_equal(detector.score_samples(rows), scores)


def test_refitting_forgets_the_first_fit(trainings, rows, table):
    detector = VAEDetector(**SMALL).fit(table)
    assert list(detector.feature_names_in_) == list(table.columns)
    detector.fit(rows)
    assert not hasattr(detector, "feature_names_in_")
    assert detector.n_features_in_ == 4
    assert detector.score_samples(rows).shape == (400,)


# Random numbers


def test_equal_seeds_give_equal_detectors(small, rows):
    same = VAEDetector(**SMALL).fit(rows)
    assert small.history_ == same.history_
    np.testing.assert_array_equal(small.score_samples(rows), same.score_samples(rows))


def test_other_seeds_give_other_detectors(untrained, trainings, rows):
    other = VAEDetector(**{**SMALL, "random_state": 1}).fit(rows)
    assert (untrained.score_samples(rows) != other.score_samples(rows)).any()


def test_a_random_state_object_is_used_as_it_is(trainings, rows):
    state = np.random.RandomState(3)
    first = VAEDetector(**{**SMALL, "random_state": state}).fit(rows)
    second = VAEDetector(**{**SMALL, "random_state": state}).fit(rows)
    again = VAEDetector(**{**SMALL, "random_state": np.random.RandomState(3)}).fit(rows)
    np.testing.assert_array_equal(first.score_samples(rows), again.score_samples(rows))
    assert (first.score_samples(rows) != second.score_samples(rows)).any()


def test_global_random_numbers_are_left_alone(rows, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a global seed was set")

    for module, name in (
        (np.random, "seed"),
        (random, "seed"),
        (tf.random, "set_seed"),
        (keras.utils, "set_random_seed"),
    ):
        monkeypatch.setattr(module, name, refuse)
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    detector = VAEDetector(**SMALL).fit(rows)
    detector.score_samples(rows)
    detector.sample(3, random_state=0)
    copy.deepcopy(detector)
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    assert random.getstate() == python_state


# Rows out


def test_reconstructions_are_in_the_units_of_x(detector, rows):
    reconstructed = detector.reconstruct(rows)
    assert reconstructed.shape == rows.shape
    error = ((reconstructed - rows) ** 2).mean(axis=0)
    assert (error < 0.95 * rows.var(axis=0)).all()
    deviation = np.abs(reconstructed.mean(axis=0) - rows.mean(axis=0)) / rows.std(axis=0)
    assert (deviation < 0.3).all()


def test_a_frame_in_is_a_frame_out(table_detector, table):
    frame = table.iloc[::-1]
    reconstructed = table_detector.reconstruct(frame)
    assert list(reconstructed) == list(table.columns)
    assert reconstructed.index.equals(frame.index)
    assert set(reconstructed["city"]) <= {"Bergen", "Oslo", "Tromsø"}
    assert reconstructed["member"].between(0, 1).all()
    assert reconstructed["day"].dt.year.between(2023, 2025).all()


def test_labels_that_are_no_text_come_back(trainings):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=[10, 20, 30])
    detector = VAEDetector(**SMALL).fit(frame)
    assert list(detector.reconstruct(frame)) == [10, 20, 30]
    assert list(detector.explain(frame)["contribution"])[:3] == [10, 20, 30]
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(frame[[30, 10, 20]]), scores)
    np.testing.assert_array_equal(detector.score_samples(frame.to_numpy()), scores)


def test_samples_are_in_the_units_of_x(detector, rows):
    drawn = detector.sample(4000, random_state=0)
    assert drawn.shape == (4000, 4)
    deviation = np.abs(drawn.mean(axis=0) - rows.mean(axis=0)) / rows.std(axis=0)
    assert (deviation < 0.25).all()
    ratio = drawn.std(axis=0) / rows.std(axis=0)
    assert ((ratio > 0.6) & (ratio < 1.5)).all()


def test_samples_of_a_table_look_like_the_table(table_detector, table):
    drawn = table_detector.sample(500, random_state=0)
    assert list(drawn) == list(table.columns)
    shares = drawn["city"].value_counts(normalize=True)
    assert shares["Oslo"] == pytest.approx(
        table["city"].value_counts(normalize=True)["Oslo"], abs=0.25
    )
    assert set(drawn["member"]) == {0.0, 1.0}
    assert drawn["day"].dt.year.between(2022, 2026).all()
    assert np.isfinite(table_detector.score_samples(drawn)).all()


def test_samples_can_be_drawn_again(detector):
    first, same, other = (detector.sample(5, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("n_rows", [0, -1, 2.5, "many"])
def test_an_impossible_number_of_samples_is_refused(detector, n_rows):
    with pytest.raises(ValueError, match="`n_rows` to be an int >= 1"):
        detector.sample(n_rows)


# Arrays of every make


def test_arrays_of_every_make_score_the_same(detector, tmp_path):
    X = np.random.default_rng(0).integers(-50, 150, size=(30, 4)).astype(np.float64)
    scores = detector.score_samples(X)
    readonly = X.copy()
    readonly.flags.writeable = False
    np.save(tmp_path / "x.npy", X)
    makes = [
        X.astype("float32"),
        X.astype("int16"),
        X.astype(object),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
        readonly,
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        X.tolist(),
        tuple(map(tuple, X)),
    ]
    for make in makes:
        np.testing.assert_array_equal(detector.score_samples(make), scores)


def test_fit_takes_lists_and_read_only_fortran_arrays(untrained, trainings, rows):
    expected = untrained.score_samples(rows)
    fortran = np.asfortranarray(rows)
    fortran.flags.writeable = False
    for X in (rows.tolist(), fortran):
        scores = VAEDetector(**SMALL).fit(X).score_samples(rows)
        np.testing.assert_array_equal(scores, expected)


def test_fit_leaves_the_data_as_it_was(trainings, rows, table):
    X, frame = rows.copy(), table.copy(deep=True)
    VAEDetector(**SMALL).fit(X).score_samples(X)
    VAEDetector(**SMALL).fit(frame).score_samples(frame)
    np.testing.assert_array_equal(X, rows)
    pd.testing.assert_frame_equal(frame, table)


@BOTH
def test_sparse_matrices_are_refused(detector_class, rows):
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        detector_class().fit(sparse.csr_matrix(rows))


@BOTH
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.empty((0, 3)), r"0 sample\(s\)"),
        (np.empty((3, 0)), r"0 feature\(s\)"),
        (pd.DataFrame({"a": []}), r"0 sample\(s\)"),
        (pd.DataFrame(index=range(3)), r"0 feature\(s\)"),
        (np.zeros(3), "Expected 2D array, got 1D array"),
        (pd.Series([1.0, 2.0]), "Expected a 2-dimensional|Expected 2D|1D"),
        (np.zeros((2, 2, 2)), "8 x 8 pixels or more"),
        (np.array([["1", "b"], ["c", "d"]]), "Received: 'b' in row 0, column 1"),
        (np.array([[1j]]), "[Cc]omplex"),
    ],
    ids=["rows", "columns", "frame rows", "frame columns", "1d", "series", "3d", "text", "complex"],
)
def test_what_is_no_table_is_refused(detector_class, X, message):
    with pytest.raises(ValueError, match=message):
        detector_class().fit(X)


@BOTH
@pytest.mark.parametrize("make", [np.asarray, lambda X: pd.DataFrame(X).add_prefix("x")])
@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_an_infinity_in_fit_is_refused_by_column(detector_class, rows, make, infinity):
    X = rows.copy()
    X[3, 2] = infinity
    with pytest.raises(ValueError, match="Column 'x2'.*infinity in row 3"):
        detector_class().fit(make(X))


def test_another_number_of_columns_is_refused(detector, rows):
    with pytest.raises(ValueError, match="X has 3 features, but VAEDetector is expecting 4"):
        detector.predict(rows[:, :3])


def test_no_rows_to_score_are_refused(fitted):
    detector, X = fitted
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        detector.predict(X[:0])


@pytest.mark.parametrize(
    ("detector_class", "shape"),
    [
        (VAEDetector, (1, 3)),
        pytest.param(VAEDetector, (5, 1), marks=pytest.mark.slow),
        pytest.param(VAEDetector, (3, 30), marks=pytest.mark.slow),
        (AutoencoderDetector, (1, 1)),
        pytest.param(AutoencoderDetector, (2, 3), marks=pytest.mark.slow),
    ],
)
def test_few_rows_and_few_columns_are_enough(detector_class, shape):
    X = np.random.default_rng(0).normal(size=shape)
    detector = detector_class(hidden_units=(4,), max_steps=2, random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert set(detector.predict(X)) <= {-1, 1}


def test_rows_that_repeat_are_no_trouble():
    X = np.repeat([[1.0, 2.0], [3.0, 4.0]], 50, axis=0)
    detector = VAEDetector(**SMALL).fit(X)
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 2


@pytest.mark.parametrize("detector_class", [VAEDetector, AutoencoderDetector])
def test_a_deviation_from_a_constant_column_is_less_normal(detector_class, rows):
    X = np.column_stack([rows[:, 0], np.full(len(rows), 7.0)])
    detector = detector_class(hidden_units=(8,), max_steps=40, random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    row = np.array([rows[:, 0].mean(), 7.0])
    by_distance = detector.score_samples([row, row + [0, 1], row + [0, 2], row + [0, 10]])
    assert (np.diff(by_distance) < 0).all()
    by_distance = detector.score_samples([row, row - [0, 1], row - [0, 2], row - [0, 10]])
    assert (np.diff(by_distance) < 0).all()


def test_missing_cells_of_an_array_are_nan_or_none(detector, rows):
    X = rows[:5].astype(object)
    X[0, 1] = None
    X[1, 2] = np.nan
    contribution = detector.explain(X)["contribution"]
    assert contribution.loc[0, "x1"] == 0.0
    assert contribution.loc[1, "x2"] == 0.0
    np.testing.assert_allclose(contribution.sum(axis=1), detector.score_samples(X), rtol=1e-9)


def test_fit_learns_from_arrays_with_missing_cells(trainings, rows):
    X = rows.copy()
    X[::3, 1] = np.nan
    detector = VAEDetector(**SMALL).fit(X)
    assert detector.scorer_.preprocessor.schema()[1]["missing_share"] == pytest.approx(134 / 400)
    assert np.isfinite(detector.score_samples(X)).all()


# Arrays and frames meet


def test_a_frame_of_numbers_and_its_array_give_the_same_scores(untrained, trainings, rows):
    frame = pd.DataFrame(rows, columns=list("abcd"))
    by_frame = VAEDetector(**SMALL).fit(frame)
    by_array = untrained
    expected = by_array.score_samples(rows)
    np.testing.assert_array_equal(by_frame.score_samples(frame), expected)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        scores = by_frame.score_samples(rows)
    np.testing.assert_array_equal(scores, expected)
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        scores = by_array.score_samples(frame)
    np.testing.assert_array_equal(scores, expected)


def test_an_array_where_the_frame_of_fit_had_text_is_refused(table_detector):
    with (
        pytest.warns(UserWarning, match="feature names"),
        pytest.raises(ValueError, match="Expected a DataFrame, as in fit"),
    ):
        table_detector.predict(np.zeros((2, 6)))


def test_a_frame_may_have_the_names_that_arrays_get(trainings):
    frame = pd.DataFrame({"x0": [1.0, 2.0, 3.0] * 5, "x1": ["a", "b", None] * 5})
    detector = VAEDetector(**SMALL).fit(frame)
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(frame[["x1", "x0"]]), scores)
    assert list(detector.sample(2, random_state=0)) == ["x0", "x1"]


def test_a_frame_of_numbers_named_like_an_array_stays_a_frame(trainings, rows):
    frame = pd.DataFrame(rows, columns=["x0", "x1", "x2", "x3"])
    detector = VAEDetector(**SMALL).fit(frame)
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(frame[frame.columns[::-1]]), scores)
    assert isinstance(detector.sample(2, random_state=0), pd.DataFrame)


# Tables as they are


def test_fit_decides_the_kind_of_each_column(table_detector, table):
    assert table_detector.scorer_.preprocessor.kinds == {
        "amount": "numeric",
        "count": "numeric",
        "city": "categorical",
        "member": "boolean",
        "day": "datetime",
        "grade": "categorical",
    }
    assert table_detector.n_features_in_ == 6
    assert list(table_detector.feature_names_in_) == list(table.columns)


def test_missing_cells_contribute_exactly_nothing(table_detector, table):
    contribution = table_detector.explain(table)["contribution"]
    missing = table.isna().to_numpy()
    assert missing.any()
    assert (contribution[table.columns].to_numpy()[missing] == 0.0).all()
    assert (contribution[table.columns].to_numpy()[~missing] != 0.0).all()


def test_the_score_of_an_incomplete_row_is_its_observed_cells_and_what_holes_cost(
    table_detector, table
):
    contribution = table_detector.explain(table)["contribution"]
    observed = contribution[table.columns].where(table.notna(), 0.0).sum(axis=1)
    np.testing.assert_allclose(
        table_detector.score_samples(table),
        observed + contribution["latent"] + contribution["baseline"],
        rtol=1e-9,
    )


def test_rows_that_lack_as_many_cells_are_made_up_to_alike(trainings, table):
    detector = VAEDetector(
        **{**SMALL, "score_type": "reconstruction_probability", "hidden_units": (16,)}
    ).fit(table)
    made_up = detector.explain(table)["contribution"]["latent"]
    assert made_up.groupby(table.isna().sum(axis=1)).nunique().max() == 1


def test_rows_are_neither_flagged_nor_excused_for_what_they_lack(table_detector, table):
    rng = np.random.default_rng(0)
    whole = table.dropna()
    scores = table_detector.score_samples(whole)
    for share in (0.25, 0.5, 0.75):
        lacking = table_detector.score_samples(whole.mask(rng.random(whole.shape) < share))
        assert lacking.mean() == pytest.approx(scores.mean(), abs=0.5)
        assert np.mean(lacking < table_detector.offset_) < 0.05


def test_a_row_without_any_cell_is_an_ordinary_row(table_detector, table):
    empty = table.iloc[:1].astype(object)
    empty[:] = None
    score = table_detector.score_samples(empty)[0]
    held_out = table_detector.scorer_.calibration_scores.numpy()
    # What missing cells cost is measured on the rows that early stopping held out.
    error = held_out.std() / np.sqrt(table_detector.validation_fraction * len(table))
    assert score == pytest.approx(table_detector.scorer_.baseline, abs=3 * error)
    assert table_detector.predict(empty)[0] == 1


@pytest.mark.parametrize("marker", [None, np.nan, pd.NA, pd.NaT, ""])
def test_every_marker_of_a_missing_cell_scores_the_same(table_detector, table, marker):
    frame = table.iloc[:20].astype(object)
    frame = frame.where(frame.notna(), None)
    expected = table_detector.score_samples(frame)
    for name in frame:
        frame[name] = [marker if pd.isna(cell) else cell for cell in frame[name]]
    np.testing.assert_array_equal(table_detector.score_samples(frame.astype(object)), expected)


@pytest.mark.parametrize("name", ["amount", "count"])
@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_an_infinity_scores_worse_than_any_number(table_detector, table, name, infinity):
    row = table.dropna().iloc[[0]].astype({"count": "float64"})
    values = [table[name].median(), *(np.sign(infinity) * 10.0 ** np.arange(0, 200, 20)), infinity]
    frame = pd.concat([row.assign(**{name: value}) for value in values])
    with pytest.warns(UserWarning, match="1 rows have infinite cells"):
        scores = table_detector.score_samples(frame)
    assert np.isfinite(scores).all()
    assert scores.argmin() == len(values) - 1
    assert scores[-1] < table_detector.offset_


def test_an_infinity_in_an_array_is_scored(detector, rows):
    X = rows[:3].copy()
    X[0, 0], X[1, 1] = np.inf, -np.inf
    with pytest.warns(UserWarning, match="2 rows have infinite cells"):
        scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    assert scores[:2].max() < detector.score_samples(rows).min()
    with pytest.warns(UserWarning, match="2 rows have infinite cells"):
        explanation = detector.explain(X)
    assert np.isfinite(explanation["contribution"]).all(axis=None)


def test_a_value_never_seen_is_scored_and_less_normal_than_common_ones(table_detector, table):
    row = table.dropna().iloc[[0]]
    frame = pd.concat([row.assign(city=city) for city in ("Oslo", "Bergen", "Atlantis")])
    gain = table_detector.explain(frame)["gain"]["city"].to_numpy()
    assert gain.argmax() == 2
    assert table_detector.score_samples(frame).argmin() == 2


@pytest.mark.filterwarnings("ignore:column 'nothing'. all cells are missing")
def test_a_column_that_is_all_missing_is_carried_along(trainings, table):
    frame = table.assign(nothing=np.nan, no_text=pd.Series([None] * 400, dtype="string"))
    detector = VAEDetector(**SMALL).fit(frame)
    contribution = detector.explain(frame)["contribution"]
    assert (contribution[["nothing", "no_text"]] == 0.0).all(axis=None)
    later = frame.iloc[:3].assign(nothing=[1.0, -1e9, np.nan], no_text=["a", None, "b"])
    assert np.isfinite(detector.score_samples(later)).all()


def test_a_value_seen_once_is_no_level(trainings, table):
    frame = table.assign(rare=["once"] + ["often"] * 397 + ["twice"] * 2)
    detector = VAEDetector(**SMALL).fit(frame)
    assert detector.scorer_.preprocessor.levels["rare"] == ["often", "twice"]
    new = frame.head(1).assign(rare="never")
    np.testing.assert_array_equal(detector.score_samples(new), detector.score_samples(frame[:1]))


def test_values_none_of_which_is_a_level_are_told_of(trainings, table):
    frame = table.assign(city=[f"city {index % 80}" for index in range(400)])
    with pytest.warns(DataWarning, match="'city': no value is a level.*max_levels=50.*'text'"):
        detector = VAEDetector(**SMALL).fit(frame)
    assert detector.scorer_.preprocessor.levels["city"] == []


def test_unused_levels_of_a_categorical_are_not_modelled(table_detector):
    assert table_detector.scorer_.preprocessor.levels["grade"] == ["a", "b"]


def test_text_and_categories_of_the_same_values_score_the_same(table_detector, table):
    scores = table_detector.score_samples(table)
    for city in (
        table["city"].astype("category"),
        table["city"].astype("string"),
        table["city"].astype(object),
        table["city"].astype(pd.ArrowDtype(pa.string())),
    ):
        np.testing.assert_array_equal(table_detector.score_samples(table.assign(city=city)), scores)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("count", "Int64"),
        ("count", "float32"),
        ("count", pd.ArrowDtype(pa.int32())),
        ("amount", "Float64"),
        ("amount", pd.ArrowDtype(pa.float64())),
        ("member", object),
        ("member", "Int64"),
        ("member", "float32"),
        ("member", pd.ArrowDtype(pa.bool_())),
        ("day", "datetime64[ns]"),
        ("day", "datetime64[ns, UTC]"),
        ("day", pd.ArrowDtype(pa.timestamp("us"))),
        ("day", object),
        ("grade", object),
    ],
    ids=str,
)
def test_other_dtypes_of_the_same_values_score_the_same(table_detector, table, name, dtype):
    column = table[name]
    if dtype == "datetime64[ns, UTC]":
        column = column.dt.tz_localize("UTC")
    frame = table.assign(**{name: column.astype(dtype)})
    np.testing.assert_array_equal(
        table_detector.score_samples(frame), table_detector.score_samples(table)
    )


def test_fit_takes_nullable_and_arrow_tables(trainings, table):
    expected = VAEDetector(**SMALL).fit(table).score_samples(table)
    for backend in ("numpy_nullable", "pyarrow"):
        frame = table.convert_dtypes(dtype_backend=backend)
        scores = VAEDetector(**SMALL).fit(frame).score_samples(frame)
        np.testing.assert_array_equal(scores, expected)


def test_the_same_instant_in_two_zones_scores_the_same(table_detector, table):
    utc = table["day"].dt.tz_localize("UTC")
    scores = [
        table_detector.score_samples(table.assign(day=day))
        for day in (table["day"], utc, utc.dt.tz_convert("Asia/Kolkata"))
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_seconds_and_large_integers_are_told_apart(trainings):
    frame = pd.DataFrame(
        {
            "when": pd.Timestamp("2024-05-05") + pd.to_timedelta(np.arange(60), unit="s"),
            "key": 2**52 + np.arange(60),
        }
    )
    kinds = {"when": "timestamp", "key": "numeric"}
    scores = VAEDetector(**SMALL, kinds=kinds).fit(frame).score_samples(frame)
    assert len(np.unique(scores)) == 60


def test_columns_in_another_order_score_the_same(table_detector, table):
    np.testing.assert_array_equal(
        table_detector.score_samples(table[table.columns[::-1]]),
        table_detector.score_samples(table),
    )


def test_missing_and_unexpected_columns_are_listed(table_detector, table):
    frame = table.rename(columns={"amount": "amounts"}).assign(extra=1)
    with pytest.raises(ValueError, match="Missing: 'amount'.*Unexpected: 'amounts', 'extra'"):
        table_detector.predict(frame)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("amount", "many"),
        ("amount", pd.Timestamp("2024-01-01")),
        ("member", "yes"),
        ("member", 7),
        ("day", 3.0),
        ("day", "soon"),
    ],
)
def test_a_column_of_another_kind_is_refused_by_name(table_detector, table, name, column):
    with pytest.raises(ValueError, match=f"Column '{name}'(, row 0)?: expected"):
        table_detector.predict(table.assign(**{name: column}))


def test_repeated_column_names_are_refused(table_detector, table):
    frame = pd.concat([table, table[["city"]]], axis=1)
    with pytest.raises(ValueError, match="unique column names"):
        VAEDetector().fit(frame)
    with pytest.raises(ValueError, match="unique column names"):
        table_detector.predict(frame)


def test_columns_of_mixed_types_are_categories(trainings, table):
    frame = table.assign(mixed=[1, "a", 2.5, None] * 100)
    with pytest.warns(DataWarning, match="67% of the cells are numbers, the others text"):
        detector = VAEDetector(**SMALL).fit(frame)
    assert detector.scorer_.preprocessor.levels["mixed"] == ["1", "2.5", "a"]


def test_a_category_of_numbers_is_their_text(trainings, table):
    codes = pd.Series(np.arange(400) % 3)
    detector = VAEDetector(**SMALL).fit(table.assign(code=codes.astype("category")))
    assert detector.scorer_.preprocessor.kinds["code"] == "categorical"
    assert detector.scorer_.preprocessor.levels["code"] == ["0", "1", "2"]
    scores = detector.score_samples(table.assign(code=codes))
    for dtype in ("category", "float64", "Int64", "str", pd.ArrowDtype(pa.int8())):
        frame = table.assign(code=codes.astype(dtype))
        np.testing.assert_array_equal(detector.score_samples(frame), scores)


def test_durations_are_numbers_of_seconds(trainings, table):
    seconds = pd.Series(np.arange(400.0)).where(table["amount"].notna())
    durations = pd.to_timedelta(seconds, unit="s")
    detector = VAEDetector(**SMALL).fit(table.assign(lag=durations))
    assert detector.scorer_.preprocessor.kinds["lag"] == "numeric"
    scores = detector.score_samples(table.assign(lag=seconds))
    for lag in (durations, durations.astype("timedelta64[ms]"), durations.astype(object)):
        np.testing.assert_array_equal(detector.score_samples(table.assign(lag=lag)), scores)


def test_booleans_score_as_the_numbers_that_fit_saw(trainings, table):
    flags = pd.Series(np.arange(400) % 2)
    detector = VAEDetector(**SMALL).fit(table.assign(flag=flags))
    assert detector.scorer_.preprocessor.kinds["flag"] == "numeric"
    scores = detector.score_samples(table.assign(flag=flags))
    for dtype in (bool, "boolean", object):
        frame = table.assign(flag=flags.astype(bool).astype(dtype))
        np.testing.assert_array_equal(detector.score_samples(frame), scores)


def test_a_category_of_numbers_does_not_depend_on_holes_in_other_rows(trainings, table):
    codes = np.arange(400) % 3
    detector = VAEDetector(**SMALL, kinds={"code": "categorical"}).fit(table.assign(code=codes))
    scores = detector.score_samples(table.assign(code=codes))
    with_a_hole = table.assign(code=np.where(np.arange(400) == 7, np.nan, codes))
    others = np.arange(400) != 7
    np.testing.assert_array_equal(detector.score_samples(with_a_hole)[others], scores[others])


CELLS = {
    "amount": st.floats() | st.none() | st.just(pd.NA),
    "count": st.integers(-(2**63), 2**63 - 1) | st.floats() | st.none(),
    "city": st.text() | st.none() | st.sampled_from(["Oslo", "", "[UNK]"]),
    "member": st.booleans() | st.none(),
    "day": st.datetimes(pd.Timestamp(1700, 1, 1), pd.Timestamp(2200, 1, 1)) | st.none(),
    "grade": st.sampled_from(["a", "b", "c"]) | st.none() | st.integers() | st.text(),
}
HYPOTHESIS = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.mark.filterwarnings("ignore:.*infinite cells")
@settings(max_examples=20, **HYPOTHESIS)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=12))
def test_any_cells_are_scored(table_detector, cells):
    frame = pd.DataFrame(cells, dtype=object)
    scores = table_detector.score_samples(frame)
    assert np.isfinite(scores).all()
    contribution = table_detector.explain(frame)["contribution"]
    np.testing.assert_allclose(contribution.sum(axis=1), scores, rtol=1e-9)
    assert table_detector.reconstruct(frame).shape == frame.shape


FINITE = {
    **CELLS,
    "amount": st.floats(allow_infinity=False) | st.none(),
    "count": st.integers(-(2**63), 2**63 - 1) | st.none(),
}


@pytest.mark.filterwarnings("ignore::vae_anomaly.DataWarning")
@settings(max_examples=4, **HYPOTHESIS)
@given(st.lists(st.fixed_dictionaries(FINITE), min_size=1, max_size=12))
def test_any_table_is_fitted(trainings, cells):
    frame = pd.DataFrame(cells, dtype=object)
    detector = VAEDetector(**SMALL).fit(frame)
    assert np.isfinite(detector.score_samples(frame)).all()
    assert np.isfinite(detector.offset_)
    pickle.loads(pickle.dumps(detector))
