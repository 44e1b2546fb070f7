"""Cells hidden one by one: what the score gains, and what the others suggest for them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_t

from vae_anomaly import VAEDetector
from vae_anomaly.detectors.reasons import Reasons, cell_text
from vae_anomaly.scoring.conditionals import ConditionalStudent
from vae_anomaly.scoring.occlusion import hide_each_cell, usual_values


@pytest.fixture(scope="module")
def hidden(table_detector, table):
    arrays = table_detector._input.check(table_detector, table[:60])
    return arrays, hide_each_cell(table_detector.scorer_, arrays)


def gains_of_scores(detector, rows):
    """What scores gain where cells of a DataFrame are missing, (n, columns)."""
    without = [
        detector.score_samples(rows.assign(**{name: rows[name].mask(rows[name].notna())}))
        for name in rows
    ]
    return np.stack(without, axis=1) - detector.score_samples(rows)[:, None]


def test_the_gain_is_no_less_than_that_of_a_row_whose_cell_is_missing(
    table_detector, table, hidden
):
    _, found = hidden
    of_scores = gains_of_scores(table_detector, table[:60])
    is_missing = table[:60].isna().to_numpy()
    is_compared = ~is_missing & ~table.columns.isin(["amount", "count"])  # by a Student's t too
    assert (found.gain >= of_scores)[is_compared].all()
    assert (found.gain == of_scores)[is_compared].any()
    assert (found.gain[is_missing] == 0).all()


def test_the_gain_of_a_score_of_one_view_is_that_of_the_score(detectors, rows):
    for score_type in ("elbo", "reconstruction_probability"):
        one = detectors[score_type]
        frame = pd.DataFrame(rows[:20], columns=["a", "b", "c", "d"])
        named = one._input.check(one, rows[:20])
        found = hide_each_cell(one.scorer_, named)
        for index, name in enumerate(frame):
            without = frame.assign(**{name: np.nan}).to_numpy()
            np.testing.assert_array_equal(
                found.gain[:, index], one.score_samples(without) - one.score_samples(rows[:20])
            )


def test_the_gain_is_that_of_score_or_first_view_and_for_numbers_that_of_a_student_too(
    table_detector, hidden
):
    arrays, found = hidden
    scorer = table_detector.scorer_
    x, observed = scorer.preprocess(arrays)
    names, widths = scorer.preprocessor.column_names, scorer.preprocessor.column_widths
    n_numeric = scorer.preprocessor.n_numeric
    student = ConditionalStudent(
        scorer.reference_rows[:, : sum(widths[:n_numeric])], widths[:n_numeric]
    )
    of_numbers = student.gains(x[:, : sum(widths[:n_numeric])], observed[:, :n_numeric])
    whole = scorer.judged(x, observed)
    for index, name in enumerate(arrays):
        is_kept = np.array([column != name for column in names], dtype=np.float32)
        gained = scorer.judged(x * np.repeat(is_kept, widths), observed * is_kept) - whole
        gain = gained.max(axis=1)
        if name in ("amount", "count"):
            gain = (gain + of_numbers[:, names.index(name)]) / 2
        has_value = (observed * (1 - is_kept)).any(axis=1)
        np.testing.assert_array_equal(found.gain[has_value, index], gain[has_value])


def log_density(rows, student, of):
    """Of some features of standardised rows under the Student's t that gains are of."""
    shape = student._covariance[np.ix_(of, of)] / student._unbiased
    return multivariate_t(shape=shape, df=30).logpdf(student._standardised(rows)[:, of])


def test_a_student_says_how_improbable_each_column_is_given_the_others():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)) + 7
    student = ConditionalStudent(rows, [1, 2, 1, 1])
    columns = [[0], [1, 2], [3], [4]]
    for missing in (None, 2):
        there = [column for column in range(4) if column != missing]
        observed = np.tile(np.isin(np.arange(4), there), (10, 1))
        gains = student.gains(rows[:10], observed)
        assert np.isnan(gains[:, ~observed[0]]).all()
        whole = [feature for column in there for feature in columns[column]]
        for column in there:
            others = [feature for feature in whole if feature not in columns[column]]
            densities = [log_density(rows[:10], student, of) for of in (others, whole)]
            expected = densities[0] - densities[1]
            np.testing.assert_allclose(
                gains[:, column] - gains[0, column], expected - expected[0], atol=1e-9
            )


def test_one_wild_value_is_not_the_fault_of_the_others():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 500))
    student = ConditionalStudent(np.stack([a, a + 0.1 * noise], axis=1), [1, 1])
    wild, wilder = student.gains([[50.0, 0.0], [500.0, 0.0]], np.ones((2, 2)))
    assert wild[1] < 0.6 * wild[0] and wilder[1] < 0.4 * wilder[0]
    assert wilder[0] - wild[0] > 20 * (wilder[1] - wild[1])


def test_a_student_is_told_by_more_rows_than_features_and_not_of_constants():
    rows = np.random.default_rng(0).normal(size=(6, 4))
    assert not ConditionalStudent(rows, [1, 1, 1, 1]).is_sure
    rows[:, 2:] = 3.0
    student = ConditionalStudent(rows, [1, 1, 1, 1])
    assert student.is_sure
    gains = student.gains(rows, np.ones_like(rows))
    assert np.isfinite(gains[:, :2]).all() and np.isnan(gains[:, 2:]).all()


def test_without_reference_rows_the_score_and_its_first_view_tell(
    table_detector, hidden, monkeypatch
):
    arrays, found = hidden
    monkeypatch.setattr(type(table_detector.scorer_), "reference_rows", None)
    without = hide_each_cell(table_detector.scorer_, arrays)
    names = list(arrays)
    is_number = np.isin(names, ["amount", "count"])
    np.testing.assert_array_equal(without.gain[:, ~is_number], found.gain[:, ~is_number])
    assert (without.gain[:, is_number] != found.gain[:, is_number]).any(axis=0).all()


def test_a_column_that_is_mostly_missing_is_not_blamed_by_what_was_made_up_for_it(monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc"))
    frame["b"] += frame["a"]
    fresh = frame[:50] + rng.normal(size=(50, 3))
    frame.loc[rng.random(400) < 0.9, "c"] = np.nan
    detector = VAEDetector(hidden_units=(8,), latent_dim=2, max_steps=40, random_state=0).fit(frame)
    arrays = detector._input.check(detector, fresh)
    gains = hide_each_cell(detector.scorer_, arrays).gain
    monkeypatch.setattr("vae_anomaly.scoring.occlusion._student_of", lambda scorer: None)
    without = hide_each_cell(detector.scorer_, arrays).gain
    np.testing.assert_array_equal(gains[:, 2], without[:, 2])
    assert (gains[:, :2] != without[:, :2]).all()


def test_what_is_told_of_a_row_does_not_depend_on_the_others(table_detector, hidden):
    arrays, found = hidden
    chosen = [7, 3, 7]
    some = hide_each_cell(table_detector.scorer_, {n: a[chosen] for n, a in arrays.items()})
    np.testing.assert_array_equal(some.gain, found.gain[chosen])
    for group in ("expected", "low", "high"):
        for name, values in getattr(found, group).items():
            np.testing.assert_array_equal(getattr(some, group)[name], values[chosen])


def test_blocks_of_rows_are_put_together(detector, rows):
    arrays = {f"x{i}": column for i, column in enumerate(np.tile(rows, (2, 1)).T)}
    found = hide_each_cell(detector.scorer_, arrays)
    assert found.gain.shape == (800, 4)
    np.testing.assert_array_equal(found.gain[:400], found.gain[400:])
    np.testing.assert_array_equal(found.low["x1"][:400], found.low["x1"][400:])


def test_expected_values_lie_in_their_range_and_are_the_columns_own(table, hidden):
    _, found = hidden
    assert set(found.low) == set(found.high) == {"amount", "count"}
    for name in found.low:
        assert (found.low[name] <= found.expected[name]).all()
        assert (found.expected[name] <= found.high[name]).all()
        assert (found.low[name] < found.high[name]).any()
    assert (found.low["count"] % 1 == 0).all()
    assert set(found.expected["city"]) <= set(table["city"].dropna())


@pytest.mark.slow
def test_the_others_tell_the_hidden_cell(rows):
    detector = VAEDetector(hidden_units=(64,), max_steps=2000, random_state=0).fit(rows)
    # The regression on the other columns is the best that there is for a Gaussian.
    arrays = {f"x{i}": column for i, column in enumerate(rows.T)}
    found = hide_each_cell(detector.scorer_, arrays)
    for index, name in enumerate(arrays):
        others = np.column_stack([np.delete(rows, index, axis=1), np.ones(len(rows))])
        best = others @ np.linalg.lstsq(others, rows[:, index], rcond=None)[0]
        if np.var(best) > 0.3 * np.var(rows[:, index]):
            assert np.corrcoef(found.expected[name], best)[0, 1] > 0.7
        inside = (found.low[name] <= rows[:, index]) & (rows[:, index] <= found.high[name])
        assert 0.6 < inside.mean() < 0.98  # 80% if the model were true


def test_a_shifted_cell_is_named_by_its_gain(detector, rows):
    rng = np.random.default_rng(0)
    X, columns = rows[:100].copy(), rng.integers(0, 4, size=100)
    X[np.arange(100), columns] += 6 * rows.std(axis=0)[columns] * rng.choice([-1, 1], size=100)
    explanation = detector.explain(X)
    named = explanation["gain"].to_numpy().argmax(axis=1) == columns
    blamed = explanation["contribution"].iloc[:, :4].to_numpy().argmin(axis=1) == columns
    assert named.mean() > 0.9
    assert named.mean() >= blamed.mean()


def test_an_autoencoder_has_gains_and_expected_values_but_no_range(table_autoencoder, table):
    explanation = table_autoencoder.explain(table[:10])
    groups = ["contribution", "value", "gain", "expected"]
    assert list(explanation.columns.get_level_values(0).unique()) == groups


def test_usual_values_are_those_of_the_training_rows(table_detector, table):
    usual = usual_values(table_detector.scorer_)
    assert usual["city"][0] == "Oslo"
    low, high = table["count"].quantile([0.1, 0.9])
    assert abs(usual["count"][0] - low) <= 1 and abs(usual["count"][1] - high) <= 1
    assert usual["day"] == []


def test_reasons_are_the_cells_that_lowered_the_score_heaviest_first(table_detector, hidden):
    arrays, found = hidden
    reasons = Reasons(table_detector.scorer_).of(arrays, most=3)
    names = list(arrays)
    for row, of_row in enumerate(reasons):
        gains = [reason.gain for reason in of_row]
        assert gains == sorted(found.gain[row][found.gain[row] > 0], reverse=True)[:3]
        for reason in of_row:
            assert reason.gain == found.gain[row, names.index(reason.column)]
            assert "None" not in reason.sentences and "nan" not in reason.sentences


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (np.nan, "numeric", ""),
        (1234567.0, "numeric", "1234567"),
        (0.2, "boolean", "false"),
        ("Oslo", "categorical", "Oslo"),
        (0.4, "datetime", "1970-01-01 00:00:00"),
    ],
)
def test_a_cell_is_written_as_text(value, kind, text):
    assert cell_text(value, kind) == text
