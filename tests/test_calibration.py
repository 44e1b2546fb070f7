"""Offsets, p-values, and the intervals of false-alarm rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from vae_anomaly.scoring.calibration import (
    offset_from_contamination,
    offset_from_false_alarm_rate,
    p_values,
    percent,
    rank_of_rate,
    report_threshold,
)

N_SPLITS = 400
# Few distinct values, so that ties are common, beside floating-point numbers of any kind.
SCORES = st.lists(
    st.one_of(st.sampled_from([-1.5, 0.0, 0.1, 0.3]), st.floats(-1e9, 1e9)), min_size=1, max_size=40
)
RATES = st.one_of(
    st.integers(1, 99).map(lambda percents: percents / 100),
    st.integers(1, 999).map(lambda thousandths: thousandths / 1000),
    st.floats(1e-9, 1, exclude_max=True),
)


def at_least(n_right, n, probability):
    """Whether ``n_right`` of ``n`` is no sign that fewer than this share are right."""
    return binom.cdf(n_right, n, probability) > 1e-4


@pytest.mark.parametrize("n_rows", [20, 100, 1000])
@pytest.mark.parametrize("contamination", [0.05, 0.1, 0.25, 0.5])
def test_contamination_flags_that_share_of_the_training_rows(n_rows, contamination):
    scores = np.random.default_rng(0).normal(size=n_rows)
    offset = offset_from_contamination(contamination, scores, scores[:1])
    assert np.sum(scores < offset) == round(contamination * n_rows)


def test_auto_takes_the_kth_smallest_calibration_score_whatever_the_training_rows():
    scores = np.random.default_rng(0).normal(size=1000)
    offset = offset_from_contamination("auto", scores - 1000, scores)
    assert offset == np.sort(scores)[9]  # 10 / 1001 <= 1% < 11 / 1001


@pytest.mark.parametrize("m", [1, 18, 98])
def test_auto_is_the_least_calibration_score_where_these_are_too_few_for_one_percent(m):
    scores = np.random.default_rng(0).normal(size=m)
    assert offset_from_contamination("auto", [], scores) == scores.min()


@pytest.mark.parametrize("contamination", [0, -0.1, 0.51, np.nan, "some"])
def test_impossible_contamination_is_refused_by_name(contamination):
    with pytest.raises(ValueError, match=r"`contamination`.* Received: contamination="):
        offset_from_contamination(contamination, [0.0], [0.0])


@given(SCORES, SCORES, RATES)
def test_a_row_is_flagged_if_and_only_if_its_p_value_is_at_most_the_rate(calibration, scores, rate):
    calibration = np.array(calibration)
    least = 1 / (len(calibration) + 1)
    if rate < least:
        offset = offset_from_contamination("auto", [], calibration)
        rate = max(0.01, least)
    else:
        offset = offset_from_false_alarm_rate(rate, calibration)
    # Ties, and the nearest scores that are none.
    around = [np.nextafter(calibration, -np.inf), np.nextafter(calibration, np.inf)]
    scores = np.concatenate([scores, calibration, *around])
    np.testing.assert_array_equal(scores < offset, p_values(scores, calibration) <= rate)
    np.testing.assert_array_equal(scores - offset < 0, scores < offset)


@given(RATES, st.integers(1, 10_000))
def test_the_rank_is_the_largest_whose_p_value_is_at_most_the_rate(rate, m):
    possible = np.arange(1, m + 1) / (m + 1)
    assert rank_of_rate(rate, m) == max(1, np.sum(possible <= rate))


def test_p_values_follow_their_formula():
    rng = np.random.default_rng(0)
    calibration, scores = rng.normal(size=30), rng.normal(size=50)
    expected = [(1 + sum(c <= s for c in calibration)) / 31 for s in scores]
    np.testing.assert_array_equal(p_values(scores, calibration), expected)


def test_p_values_count_calibration_scores_that_are_equal():
    assert p_values([2.0], [1.0, 2.0, 2.0, 3.0]).tolist() == [4 / 5]


def test_p_values_of_exchangeable_rows_are_uniform():
    # Each of 100 distinct scores in turn is the new one: each rank comes up exactly once.
    scores = np.random.default_rng(0).normal(size=100)
    values = [p_values(scores[[i]], np.delete(scores, i))[0] for i in range(100)]
    np.testing.assert_allclose(np.sort(values), np.arange(1, 101) / 100)


def test_p_values_of_the_extremes_are_in_range():
    assert p_values([-np.inf, np.inf], [0.0, 1.0, 2.0]).tolist() == [0.25, 1.0]


@pytest.mark.parametrize("m", [50, 200, 5000])
@pytest.mark.parametrize("rounded", [False, True])
def test_p_values_of_fresh_normal_rows_are_never_too_small_on_average(m, rounded):
    rng = np.random.default_rng(m)
    levels = np.array([0.02, 0.05, 0.1, 0.5])
    shares = []
    for _ in range(N_SPLITS):
        scores = rng.standard_t(3, size=m + 1000)
        scores = np.round(scores) if rounded else scores
        values = p_values(scores[m:], scores[:m])
        shares.append([np.mean(values <= level) for level in levels])
    shares = np.array(shares)
    error = shares.std(axis=0) / np.sqrt(N_SPLITS)
    expected = np.floor(levels * (m + 1)) / (m + 1)
    assert np.all(shares.mean(axis=0) < expected + 4 * error)
    if not rounded:
        assert np.all(shares.mean(axis=0) > expected - 4 * error)


@pytest.mark.parametrize("m", [18, 50, 200, 5000])
@pytest.mark.parametrize("rate", [0.01, 0.06, 0.3])
def test_the_false_alarm_rate_is_the_one_expected_and_lies_in_its_interval(m, rate):
    # Of uniform scores, the share under a threshold is the threshold.
    rng = np.random.default_rng(m)
    obtained, inside = [], 0
    for _ in range(N_SPLITS):
        calibration = rng.uniform(size=m)
        if rate * (m + 1) < 1:
            offset = offset_from_contamination("auto", [], calibration)
        else:
            offset = offset_from_false_alarm_rate(rate, calibration)
        report = report_threshold(offset, calibration, chosen_by="rate")
        obtained.append(offset)
        inside += report.rate_low <= offset <= report.rate_high
    assert report.rate_expected == report.rank / (m + 1)
    error = np.std(obtained) / np.sqrt(N_SPLITS)
    assert abs(np.mean(obtained) - report.rate_expected) < 4 * error
    assert at_least(inside, N_SPLITS, report.level)
    assert at_least(N_SPLITS - inside, N_SPLITS, 1 - report.level)  # nor wider than it need be


@pytest.mark.parametrize("offset", [0.0005, 0.02, 0.4])
@pytest.mark.parametrize("m", [50, 200, 5000])
def test_a_threshold_chosen_without_the_calibration_rows_has_an_interval_that_holds_too(m, offset):
    rng = np.random.default_rng(m)
    inside = 0
    for _ in range(N_SPLITS):
        report = report_threshold(offset, rng.uniform(size=m), chosen_by="score", level=0.8)
        inside += report.rate_low <= offset <= report.rate_high
    assert at_least(inside, N_SPLITS, 0.8)


@pytest.mark.parametrize("m", [50, 200])
def test_the_interval_holds_where_scores_are_rounded(m):
    # Uniform on 0, 0.1, ... 0.9: the share under a threshold on that grid is the threshold.
    rng = np.random.default_rng(m)
    inside = 0
    for _ in range(N_SPLITS):
        calibration = rng.integers(0, 10, size=m) / 10
        offset = offset_from_false_alarm_rate(0.25, calibration)
        report = report_threshold(offset, calibration, chosen_by="false_alarm_rate=0.25")
        inside += report.rate_low <= offset <= report.rate_high
    assert at_least(inside, N_SPLITS, report.level)


@pytest.mark.parametrize(("offset", "low", "high"), [(-1.0, 0.0, 1.0), (9.0, 0.0, 1.0)])
def test_a_threshold_beyond_all_calibration_scores_has_a_one_sided_interval(offset, low, high):
    report = report_threshold(offset, [1.0, 2.0, 3.0], chosen_by="score", level=0.9)
    assert (report.rate_low == low) != (report.rate_high == high)
    assert 0 <= report.rate_low < report.rate_expected < report.rate_high <= 1


def gaussian_score(rows, new):
    """Log-density of new rows under a Gaussian fitted to rows, up to a constant."""
    centred = new - rows.mean(axis=0)
    covariance = np.cov(rows.T) + 0.1 * np.eye(rows.shape[1])
    return -np.einsum("ij,ij->i", centred @ np.linalg.inv(covariance), centred) / 2


@pytest.mark.parametrize("n_rows", [50, 200])
@pytest.mark.parametrize("n_columns", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_scores_of_five_folds_give_an_interval_that_holds(n_rows, n_columns):
    rng = np.random.default_rng(n_rows)
    inside, splits = 0, 200
    for _ in range(splits):
        rows, new = rng.normal(size=(n_rows, n_columns)), rng.normal(size=(4000, n_columns))
        folds = rng.permutation(n_rows) % 5
        scores = np.empty(n_rows)
        for fold in range(5):
            scores[folds == fold] = gaussian_score(rows[folds != fold], rows[folds == fold])
        offset = offset_from_false_alarm_rate(0.05, scores)
        report = report_threshold(offset, scores, chosen_by="rate", pooled=True)
        obtained = np.mean(gaussian_score(rows, new) < offset)
        inside += report.rate_low <= obtained <= report.rate_high
    assert at_least(inside, splits, report.level)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 0.009, np.nan])
def test_a_false_alarm_rate_that_the_calibration_rows_cannot_tell_is_refused(rate):
    with pytest.raises(ValueError, match=r"0\.0099.*Received.*tail='gpd'"):
        offset_from_false_alarm_rate(rate, np.zeros(100))


def test_the_report_is_a_sentence():
    report = report_threshold(
        -989.0, -np.arange(999.0), chosen_by="contamination='auto'", calibrated_on="held-out rows"
    )
    assert str(report) == (
        "threshold -989: contamination='auto' flags 1.0% of new normal rows, between 0.54% and "
        "1.6% with 90% confidence, by 999 held-out rows"
    )


@given(st.floats(0, 1))
def test_percentages_are_read_back_to_two_digits(share):
    text = percent(share)
    assert text.endswith("%") and "e" not in text
    assert float(text[:-1]) / 100 == pytest.approx(share, rel=0.055, abs=1e-300)
