"""The view of whether values are new in a column whose values repeat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly import VAEDetector, load_detector
from vae_anomaly.detectors.description import check_weights
from vae_anomaly.scoring.known_values import KnownValues


def learned(x, observed=None, widths=None, n_known=300, n_held_out=0):
    widths = [1] * x.shape[1] if widths is None else widths
    observed = np.ones((len(x), len(widths)), "float32") if observed is None else observed
    view = KnownValues(widths, len(widths), n_known)
    view.learn(None, (x, observed), np.arange(len(x)) < n_held_out, seed=0)
    return view


def terms(view, *columns):
    x = np.column_stack([np.asarray(column, "float32") for column in columns])
    return view(x, np.ones((len(x), len(view.column_widths)), "float32")).numpy()


def repeated(n_values, n_rows=200):
    """A column of few values, each of which there is several times."""
    return (np.arange(n_rows) % n_values / 7).astype("float32")[:, None]


@pytest.mark.slow
@given(
    values=st.lists(st.integers(0, 30), min_size=30, max_size=400),
    scale=st.sampled_from([0.001, 1 / 7, 15.0]),
    asked=st.integers(-2, 33),
)
def test_a_value_costs_what_new_or_known_ones_are_rare(values, scale, asked):
    column = (np.array(values) * scale).astype("float32")
    known = sorted(set(values))

    def share_of_new(nearby):
        rows = [value for value in values if value in nearby]
        return (sum(values.count(value) == 1 for value in nearby) + 1) / (len(rows) + 2)

    share = share_of_new(known)
    nearby = [value for value in known if value < asked][-5:]
    nearby += [value for value in known if value > asked][:5]
    step = np.median(np.diff(np.unique(values))) if len(set(values)) > 1 else 0
    is_next = min(values) - step <= asked < min(values) or max(values) < asked <= max(values) + step
    is_known = asked in values or is_next
    expected = np.log(1 - share if is_known else share_of_new(nearby)) if share <= 0.1 else 0
    found = terms(learned(column[:, None]), [np.float32(asked * scale)])
    np.testing.assert_allclose(found, [[expected]], rtol=1e-5)


def test_values_that_never_repeat_tell_nothing():
    x = np.random.default_rng(0).normal(size=(200, 1)).astype("float32")
    assert not terms(learned(x), [x[0, 0], 0.5, 1e6]).any()


def test_values_between_known_ones_are_new_and_rounding_is_not():
    new = np.log(1 / 202)
    view = learned(repeated(5))
    between, rounded, far = terms(view, [1.5 / 7, np.float32(3 / 7 * (1 + 2e-7)), 700.0])
    assert between == far == pytest.approx(new)
    assert rounded > -0.01


def test_the_next_number_after_the_last_is_not_new_and_the_one_after_it_is():
    years = np.repeat(np.arange(2014, 2024), 30).astype("float32")[:, None]
    before, first, last, following, later, gap = terms(
        learned(years), [2013, 2014, 2023, 2024, 2025, 2019.5]
    )
    assert before == first == last == following
    assert later < -5
    assert gap < -5


def test_new_values_cost_less_where_there_are_many_of_them():
    tail = 100 + 7 * np.arange(12)  # each once
    x = np.concatenate([np.repeat(np.arange(0, 20, 2), 40), tail]).astype("float32")[:, None]
    among_frequent, in_the_tail = terms(learned(x), [9, 130])[:, 0]
    assert among_frequent == pytest.approx(np.log(1 / 402))
    assert in_the_tail == pytest.approx(np.log(11 / 12))


def test_held_out_rows_make_no_value_known():
    x = repeated(5)
    x[:20] = 9
    assert terms(learned(x, n_held_out=20), [9])[0, 0] < -5
    assert terms(learned(x), [9])[0, 0] > -0.01


def test_where_all_rows_are_held_out_they_make_values_known():
    assert terms(learned(repeated(5), n_held_out=200), [0])[0, 0] > -0.01


def test_the_most_frequent_values_are_kept():
    x = np.concatenate([repeated(5), np.full((5, 1), 8), np.full((5, 1), 9)]).astype("float32")
    kept = terms(learned(x, n_known=5), [*x[:5, 0], 8, 9])[:, 0]
    np.testing.assert_allclose(kept, np.log([201 / 212] * 5 + [11 / 212] * 2), rtol=0.01)


def test_missing_cells_cost_nothing_and_make_no_value_known():
    observed = np.ones((200, 1), "float32")
    observed[::2] = 0
    x = np.where(observed, repeated(4), 2 / 7).astype("float32")  # 1/7 and 3/7 are there
    view = learned(x, observed)
    found = view(np.full((2, 1), 2 / 7, "float32"), np.array([[1], [0]], "float32")).numpy()
    np.testing.assert_allclose(found, [[np.log(1 / 102)], [0]], rtol=1e-6)
    never = learned(x, np.zeros_like(observed))
    assert not terms(never, [0, 1]).any()


def test_of_a_column_of_two_features_the_first_is_the_value():
    x = np.hstack([repeated(5), np.random.default_rng(0).normal(size=(200, 1))]).astype("float32")
    view = learned(x, widths=[2])
    known, new = terms(view, [0, 0.5], [77, 77])[:, 0]
    assert known > -0.01
    assert new < -5


def test_columns_that_are_no_numbers_add_nothing():
    view = KnownValues([1, 1, 3], n_numeric=1, n_known=9)
    x = np.hstack([repeated(5), np.zeros((200, 4), "float32")])
    view.learn(None, (x, np.ones((200, 3), "float32")), np.zeros(200, bool), seed=0)
    found = view(x + 1, np.ones((200, 3), "float32")).numpy()
    assert found.shape == (200, 3)
    assert not found[:, 1:].any()
    assert (found[:, 0] < -5).all()


def test_the_view_survives_its_config():
    view = learned(repeated(5))
    again = KnownValues.from_config(view.get_config())
    again.set_weights(view.get_weights())
    np.testing.assert_array_equal(terms(again, [0, 0.1]), terms(view, [0, 0.1]))


@pytest.fixture(scope="module")
def codes():
    """300 rows of a number and a code, which is even."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.normal(size=300), 2 * rng.integers(0, 9, size=300)])


@pytest.fixture(scope="module", params=["as_is", "clean"])
def of_codes(codes, request):
    from vae_anomaly.detectors import base

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "can_cross_fit", lambda is_validation: False)
        detector = VAEDetector(hidden_units=(8,), max_steps=40, random_state=0)
        return detector.set_params(training=request.param).fit(codes)


@pytest.mark.slow
def test_a_code_that_is_new_is_the_reason_and_is_added_whole(of_codes, codes):
    rows = np.array([[0.0, 8], [0, 9], [0, 10]])
    scores = of_codes.score_samples(rows)
    assert scores[1] < min(scores[0], scores[2]) - 4  # log of 1 in 272
    explained = of_codes.explain(rows)
    contribution = explained["contribution"].to_numpy()
    np.testing.assert_allclose(contribution.sum(axis=1), scores)
    assert explained["gain"].to_numpy()[1].argmax() == 1


@pytest.mark.slow
def test_missing_codes_are_neither_new_nor_known(of_codes, codes):
    rows = np.array([[0.0, 8], [0, 9], [0, np.nan]])
    known, new, missing = of_codes.score_samples(rows)
    assert new + 3 < missing
    assert abs(missing - known) < 3


@pytest.mark.slow
def test_known_values_are_saved_and_score_alike(of_codes, codes, tmp_path):
    of_codes.save(tmp_path / "model")
    rows = np.vstack([codes[:20], codes[:20] + [0, 1]])
    loaded = load_detector(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(rows), of_codes.score_samples(rows))
    assert loaded.scorer_.score_options["n_known"] == 270  # 30 of 300 rows are held out


def test_known_values_of_another_number_than_declared_are_refused():
    scorer = {"n_draws": 1, "n_calibration": 3, "score_options": {"n_known": 5}}
    content = {"scorer": scorer, "model": {"latent_dim": 2, "n_numeric": 2}}
    shapes = {
        "scorer/noise": (1, 2),
        "scorer/calibration_scores": (3,),
        "scorer/known_values": (2, 5),
    }
    check_weights(content, shapes)
    scorer["score_options"]["n_known"] = 1_000_000
    with pytest.raises(ValueError, match="known_values' of shape \\(2, 1000000\\)"):
        check_weights(content, shapes)
