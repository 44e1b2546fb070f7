"""The detectors as users of scikit-learn and pandas meet them."""

import copy
import pickle
import random

import joblib
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_detectors import BOTH, SMALL

from vae_anomaly import AutoencoderDetector, VAEDetector
from vae_anomaly.scoring.tables import SCORE_TYPES, TableScorer

# The default and the one that differs most from it; the others are a second look.
SCORES = [
    pytest.param(
        name, marks=[] if name in ("composite", "importance_weighted") else [pytest.mark.slow]
    )
    for name in SCORE_TYPES
]


@pytest.fixture(params=["array", "table", "autoencoder"])
def fitted(request, rows, table, detector, table_detector, table_autoencoder):
    """A fitted detector and rows for it."""
    return {
        "array": (detector, rows),
        "table": (table_detector, table),
        "autoencoder": (table_autoencoder, table),
    }[request.param]


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
    [
        pytest.param(copy.deepcopy, id="deepcopy", marks=pytest.mark.slow),
        pytest.param(lambda detector: pickle.loads(pickle.dumps(detector)), id="pickle"),
    ],
)
@pytest.mark.parametrize(
    "fitted",
    ["table", *(pytest.param(name, marks=pytest.mark.slow) for name in ("array", "autoencoder"))],
    indirect=True,
)
def test_copies_score_bit_for_bit(fitted, copied):
    detector, X = fitted
    again = copied(detector)
    for method in ("score_samples", "p_values", "transform"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(detector, method)(X))
    assert again.offset_ == detector.offset_
    assert again.history_ == detector.history_
    assert again.get_params() == detector.get_params()


@pytest.mark.slow
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


@pytest.mark.parametrize("score_type", SCORES)
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


@pytest.mark.slow
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


# Thresholds


def test_assigning_the_offset_moves_predictions_without_refitting(detector, rows):
    moved = copy.deepcopy(detector)
    scores = moved.score_samples(rows)
    moved.offset_ = float(np.median(scores))
    assert np.mean(moved.predict(rows) == -1) == 0.5
    np.testing.assert_array_equal(moved.decision_function(rows), scores - np.median(scores))
    np.testing.assert_array_equal(moved.score_samples(rows), scores)


@pytest.mark.slow
def test_an_offset_that_was_assigned_survives_pickling(detector, rows):
    moved = copy.deepcopy(detector)
    moved.offset_ = float(np.median(moved.score_samples(rows)))
    again = pickle.loads(pickle.dumps(moved))
    np.testing.assert_array_equal(again.predict(rows), moved.predict(rows))


# With scikit-learn


def test_it_is_a_step_of_a_pipeline(trainings, rows):
    pipeline = make_pipeline(StandardScaler(), VAEDetector(**SMALL)).fit(rows)
    assert set(pipeline.predict(rows)) <= {-1, 1}
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.score_samples(rows), pipeline.score_samples(rows))


@pytest.mark.slow
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


@pytest.mark.slow
def test_refitting_forgets_the_first_fit(trainings, rows, table):
    detector = VAEDetector(**SMALL).fit(table)
    assert list(detector.feature_names_in_) == list(table.columns)
    detector.fit(rows)
    assert not hasattr(detector, "feature_names_in_")
    assert detector.n_features_in_ == 4
    assert detector.score_samples(rows).shape == (400,)


# Random numbers


@pytest.mark.parametrize(
    "detector_class", [pytest.param(VAEDetector, marks=pytest.mark.slow), AutoencoderDetector]
)
def test_equal_seeds_give_equal_detectors(detector_class, rows):
    params = {"hidden_units": (4,), "latent_dim": 2, "max_steps": 2, "random_state": 0}
    first, same = (detector_class(**params).fit(rows) for _ in range(2))
    assert first.history_ == same.history_
    np.testing.assert_array_equal(first.score_samples(rows), same.score_samples(rows))


def test_other_seeds_give_other_detectors(untrained, trainings, rows):
    other = VAEDetector(**{**SMALL, "random_state": 1}).fit(rows)
    assert (untrained.score_samples(rows) != other.score_samples(rows)).any()


@pytest.mark.slow
def test_a_random_state_object_is_used_as_it_is(trainings, rows):
    state = np.random.RandomState(3)
    first = VAEDetector(**{**SMALL, "random_state": state}).fit(rows)
    second = VAEDetector(**{**SMALL, "random_state": state}).fit(rows)
    again = VAEDetector(**{**SMALL, "random_state": np.random.RandomState(3)}).fit(rows)
    np.testing.assert_array_equal(first.score_samples(rows), again.score_samples(rows))
    assert (first.score_samples(rows) != second.score_samples(rows)).any()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "make", [np.asfortranarray, pytest.param(np.ndarray.tolist, marks=pytest.mark.slow)]
)
def test_fit_takes_lists_and_read_only_fortran_arrays(untrained, trainings, rows, make):
    X = make(rows)
    if isinstance(X, np.ndarray):
        X.flags.writeable = False
    scores = VAEDetector(**SMALL).fit(X).score_samples(rows)
    np.testing.assert_array_equal(scores, untrained.score_samples(rows))


@pytest.mark.slow
def test_fit_leaves_the_array_as_it_was(trainings, rows):
    X = rows.copy()
    VAEDetector(**SMALL).fit(X).score_samples(X)
    np.testing.assert_array_equal(X, rows)


def test_fit_leaves_the_table_as_it_was(trainings, table):
    frame = table.copy(deep=True)
    VAEDetector(**SMALL).fit(frame).score_samples(frame)
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
        pytest.param(VAEDetector, (1, 3), marks=pytest.mark.slow),
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


@pytest.mark.slow
def test_rows_that_repeat_are_no_trouble():
    X = np.repeat([[1.0, 2.0], [3.0, 4.0]], 50, axis=0)
    detector = VAEDetector(**SMALL).fit(X)
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 2


@pytest.mark.slow
@BOTH
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


@pytest.mark.slow
def test_a_frame_of_numbers_named_like_an_array_stays_a_frame(trainings, rows):
    frame = pd.DataFrame(rows, columns=["x0", "x1", "x2", "x3"])
    detector = VAEDetector(**SMALL).fit(frame)
    scores = detector.score_samples(frame)
    np.testing.assert_array_equal(detector.score_samples(frame[frame.columns[::-1]]), scores)
    assert isinstance(detector.sample(2, random_state=0), pd.DataFrame)
