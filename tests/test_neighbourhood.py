"""The view of the nearest training rows, and what the training rows are said to be."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly import VAEDetector, load_detector
from vae_anomaly.detectors.description import check_weights
from vae_anomaly.scoring.neighbourhood import Neighbourhood, _places_of_least
from vae_anomaly.scoring.views import Elbo


def learned(x, observed=None, widths=None, n_reference=100, n_held_out=10, model=None):
    widths = [1] * x.shape[1] if widths is None else widths
    observed = np.ones((len(x), len(widths)), "float32") if observed is None else observed
    view = Neighbourhood(widths, n_reference)
    view.learn(model, (x, observed), np.arange(len(x)) < n_held_out, seed=0)
    return view


def normal_rows(n_rows, n_features, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, n_features)).astype("float32")


@pytest.mark.slow
@given(
    n_rows=st.integers(1, 60),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    n_reference=st.integers(1, 300),
    seed=st.integers(0, 99),
)
def test_columns_add_up_to_minus_d_log_r(n_rows, widths, n_reference, seed):
    rng = np.random.default_rng(seed)
    view = learned(normal_rows(200, sum(widths), seed), None, widths, n_reference)
    observed = (rng.random((n_rows, len(widths))) < 0.7).astype("float32")
    is_seen = np.repeat(observed, widths, axis=1)
    x = normal_rows(n_rows, sum(widths), seed + 1) * is_seen
    references = view.references.numpy()
    squares = (((x[:, None] - references) * is_seen[:, None]) ** 2).sum(axis=2)
    n_observed = observed.sum(axis=1)
    scaled = np.sort(squares, axis=1)[:, :10].mean(axis=1) * len(widths)
    scaled /= np.maximum(n_observed, 1)
    columns = view(x, observed).numpy()
    expected = -n_observed / 2 * np.log(scaled + view.blur.numpy())
    np.testing.assert_allclose(columns.sum(axis=1), expected, rtol=1e-4, atol=1e-4)
    assert (columns[observed == 0] == 0).all()


@given(
    n_values=st.integers(5, 400),
    values=st.sampled_from([[0.0], [0.0, 1.0], np.linspace(-1, 1, 1000)]),
    seed=st.integers(0, 99),
)
def test_the_least_values_are_found_in_blocks(n_values, values, seed):
    rows = np.random.default_rng(seed).choice(values, size=(7, n_values)).astype("float32")
    places = _places_of_least(keras.ops.convert_to_tensor(rows), 5).numpy()
    assert all(len(set(row)) == 5 for row in places.tolist())
    found = np.sort(np.take_along_axis(rows, places, axis=1), axis=1)
    np.testing.assert_array_equal(found, np.sort(rows, axis=1)[:, :5])


def test_reference_rows_are_training_rows_that_are_not_held_out():
    x = normal_rows(200, 3)
    references = learned(x, n_reference=50, n_held_out=100).references.numpy()
    places = [np.flatnonzero((x == row).all(axis=1)).item() for row in references]
    assert min(places) >= 100
    assert len(set(places)) == 50


def test_where_no_row_is_held_out_all_rows_do_both():
    x = normal_rows(40, 3)
    references = learned(x, n_reference=40, n_held_out=40).references.numpy()
    np.testing.assert_array_equal(np.sort(references, axis=0), np.sort(x, axis=0))


def test_reference_rows_that_are_not_there_are_near_to_nobody():
    x, ones = normal_rows(60, 3), np.ones((60, 3), "float32")
    few, many = (learned(x, n_reference=n) for n in (50, 90))
    np.testing.assert_array_equal(many(x * 100, ones), few(x * 100, ones))


def test_duplicates_are_near_and_not_infinitely_so():
    x = np.repeat(normal_rows(20, 3), 20, axis=0)
    scores = learned(x, n_reference=390)(x, np.ones_like(x)).numpy().sum(axis=1)
    assert np.isfinite(scores).all()
    constant = learned(np.zeros((50, 2), "float32"))
    near, far = constant(np.array([[0, 0], [0, 3]], "float32"), np.ones((2, 2), "float32")).numpy()
    assert np.isfinite(near).all()
    assert near.sum() > far.sum()


def test_the_column_that_takes_a_row_away_from_others_is_the_reason():
    view = learned(normal_rows(200, 4))
    x = np.zeros((3, 4), "float32")
    x[1:, 2] = 5, 50
    usual, away, far = view(x, np.ones_like(x)).numpy()
    assert away.argmin() == far.argmin() == 2
    assert far[2] < away[2] < usual.min()
    # What is nearer than usual is nobody's merit.
    np.testing.assert_allclose(usual, usual[0], rtol=1e-6)


def test_missing_cells_of_reference_rows_are_reconstructed():
    class Model:
        def reconstruct(self, inputs):
            return np.full_like(inputs[0], 7)

    x, observed = normal_rows(60, 3), np.ones((60, 2), "float32")
    observed[::2, 1] = 0
    is_seen = np.repeat(observed, [1, 2], axis=1)
    view = learned(x * is_seen, observed, [1, 2], n_reference=50, model=Model())
    references = view.references.numpy()
    order = [np.flatnonzero(x[:, 0] == value).item() for value in references[:, 0]]
    np.testing.assert_array_equal(references, np.where(is_seen, x, 7)[order])


def test_the_view_survives_its_config():
    view = learned(normal_rows(60, 3))
    again = Neighbourhood.from_config(view.get_config())
    again.set_weights(view.get_weights())
    x = normal_rows(9, 3, seed=1)
    np.testing.assert_array_equal(again(x, np.ones_like(x)), view(x, np.ones_like(x)))


@pytest.fixture(scope="module")
def clean(detector, rows):
    """A detector with the weights of ``detector``, whose training rows are said to be normal."""

    def train(trainer, *args, **kwargs):
        trainer.model.set_weights(detector.scorer_.model.get_weights())
        return detector.history_

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.vae.training.Trainer.train", train)
        patch.setattr("vae_anomaly.detectors.base.can_cross_fit", lambda is_validation: False)
        params = {**detector.get_params(), "training": "clean"}
        return VAEDetector(**params).fit(rows)


def test_of_clean_rows_elbo_and_neighbourhood_count_alike(clean, detectors, rows):
    elbo, view = detectors["elbo"].score_samples(rows), clean.scorer_.score.views[1]
    x, observed = clean.scorer_.preprocess({f"x{i}": c for i, c in enumerate(rows.T)})
    near = view(x, observed).numpy().sum(axis=1)
    both = (elbo + near) / 2
    difference = clean.score_samples(rows) - both
    np.testing.assert_allclose(difference, difference[0], atol=1e-3)


def test_a_clean_detector_explains_saves_and_loads(clean, rows, tmp_path):
    clean.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model")
    assert (loaded.training, loaded.n_reference) == ("clean", 2000)
    np.testing.assert_array_equal(loaded.score_samples(rows), clean.score_samples(rows))
    contribution = loaded.explain(rows[:20])["contribution"]
    np.testing.assert_allclose(contribution.sum(axis=1), clean.score_samples(rows[:20]))
    assert clean.scorer_.score.views[1].n_reference == 360  # 40 of 400 rows are held out


@pytest.mark.slow
def test_each_fold_has_reference_rows_of_its_own(can_cross_fit, monkeypatch):
    calls = []
    learn = Neighbourhood.learn

    def noted(view, model, inputs, is_held_out, seed):
        learn(view, model, inputs, is_held_out, seed)
        calls.append((inputs[0], is_held_out, view.references.numpy()))

    monkeypatch.setattr(Neighbourhood, "learn", noted)
    monkeypatch.setattr("vae_anomaly.detectors.base.can_cross_fit", can_cross_fit)
    X = normal_rows(50, 2)
    detector = VAEDetector(hidden_units=(4,), max_steps=2, random_state=0)
    with pytest.warns(UserWarning, match="calibration"):
        detector.fit(X)
    assert [len(x) for x, _, _ in calls] == [50, *[40] * 5]
    for x, is_held_out, references in calls:
        trained = x[~is_held_out]
        np.testing.assert_array_equal(
            np.sort(references[: len(trained)], axis=0), np.sort(trained, axis=0)
        )
    kept = detector.scorer_.score.views[2].references.numpy()
    np.testing.assert_array_equal(kept, calls[0][2])


def test_without_reference_rows_there_are_two_views(trainings):
    detector = VAEDetector(hidden_units=(), n_reference=0, random_state=0)
    detector.fit(normal_rows(200, 2))
    assert len(detector.scorer_.score.views) == 2
    assert detector.scorer_.score.rank_weights == (0.75, 0.25)
    assert not [name for name in detector.scorer_.own_weights if "neighbourhood" in name]


@pytest.mark.slow
def test_of_clean_rows_without_reference_rows_there_is_one_view(trainings):
    detector = VAEDetector(training="clean", n_reference=0, random_state=0)
    (view,) = detector.fit(normal_rows(200, 2)).scorer_.score.views
    assert isinstance(view, Elbo)


@pytest.mark.parametrize("params", [{"training": "clean"}, {"n_reference": 10}])
def test_images_have_no_reference_rows(trainings, digits, params):
    (name,) = params
    with pytest.raises(ValueError, match=f"Expected `{name}` for tables only"):
        VAEDetector(**params).fit(digits)


def test_clean_training_rows_choose_no_other_score_than_the_composite(trainings):
    with pytest.raises(ValueError, match="score_type='composite', for whose views `training`"):
        VAEDetector(training="clean", score_type="elbo").fit(normal_rows(200, 2))


def test_reference_rows_of_another_number_than_declared_are_refused():
    scorer = {"n_draws": 1, "n_calibration": 3, "score_options": {"n_reference": 5}}
    content = {"scorer": scorer, "model": {"latent_dim": 2, "column_widths": [1, 2]}}
    shapes = {
        "scorer/noise": (1, 2),
        "scorer/calibration_scores": (3,),
        "scorer/neighbourhood_references": (5, 3),
    }
    check_weights(content, shapes)
    scorer["score_options"]["n_reference"] = 1_000_000
    with pytest.raises(ValueError, match="references' of shape \\(1000000, 3\\)"):
        check_weights(content, shapes)
