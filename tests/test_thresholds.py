"""Offsets and p-values."""

import numpy as np
import pytest

from vae_anomaly.scoring.calibration import (
    offset_from_contamination,
    offset_from_false_alarm_rate,
    p_values,
)


@pytest.mark.parametrize("n_rows", [20, 100, 1000])
@pytest.mark.parametrize("contamination", [0.05, 0.1, 0.25, 0.5])
def test_contamination_flags_that_share_of_the_training_rows(n_rows, contamination):
    scores = np.random.default_rng(0).normal(size=n_rows)
    offset = offset_from_contamination(contamination, scores, scores[:1])
    assert np.sum(scores < offset) == round(contamination * n_rows)


def test_auto_flags_one_percent_of_the_calibration_rows_whatever_the_training_rows():
    scores = np.random.default_rng(0).normal(size=1000)
    offset = offset_from_contamination("auto", scores - 1000, scores)
    assert np.mean(scores < offset) == 0.01


@pytest.mark.parametrize("contamination", [0, -0.1, 0.51, np.nan, "some"])
def test_impossible_contamination_is_refused_by_name(contamination):
    with pytest.raises(ValueError, match=r"`contamination`.* Received: contamination="):
        offset_from_contamination(contamination, [0.0], [0.0])


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


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
def test_the_false_alarm_rate_asked_for_is_that_of_new_normal_rows(rate):
    calibration, new = np.random.default_rng(0).normal(size=(2, 50_000))
    offset = offset_from_false_alarm_rate(rate, calibration)
    assert np.mean(new < offset) == pytest.approx(rate, rel=0.3)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 0.009])
def test_a_false_alarm_rate_that_the_calibration_rows_cannot_tell_is_refused(rate):
    with pytest.raises(ValueError, match="0.0099"):
        offset_from_false_alarm_rate(rate, np.zeros(100))
