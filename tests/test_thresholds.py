"""Thresholds by intent: rates, alerts, scores, quantiles, labels and costs."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly import DataWarning
from vae_anomaly.scoring.calibration import offset_from_false_alarm_rate
from vae_anomaly.scoring.thresholds import (
    Threshold,
    choose_threshold,
    threshold_from_contamination,
    threshold_from_labels,
)

SCORES = np.random.default_rng(0).normal(size=999)


def test_alerts_are_a_rate():
    threshold = choose_threshold(SCORES, alerts=20, per=1000)
    assert threshold.offset == offset_from_false_alarm_rate(0.02, SCORES)
    assert threshold.rate_asked == 0.02
    assert threshold.chosen_by == "alerts=20, per=1000"


def test_a_score_is_taken_as_it_is():
    assert choose_threshold(SCORES, score=-1.25) == Threshold(-1.25, {"score": -1.25})


@given(st.integers(0, 99), st.integers(1, 300))
def test_a_quantile_flags_that_share_of_the_calibration_rows_rounded_down(percents, m):
    offset = choose_threshold(SCORES[:m], quantile=percents / 100).offset
    assert np.sum(SCORES[:m] < offset) == percents * m // 100


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({}, "Received: none of them"),
        ({"score": 1.0, "quantile": 0.1}, "Received: score, quantile"),
        ({"alerts": 10}, "Received: alerts"),
        ({"per": 10, "score": 0.0}, "Received: score, per"),
        ({"false_alarm_rate": 0.0005}, "0.001"),
        ({"alerts": 10, "per": 10}, "alerts=10, per=10"),
        ({"alerts": 0, "per": 10}, "alerts=0, per=10"),
        ({"score": np.nan}, "score=nan"),
        ({"quantile": 1.0}, "quantile=1.0"),
        ({"quantile": 0.1, "tail": "gpd"}, "tail='gpd', quantile"),
        ({"false_alarm_rate": 0.1, "tail": "normal"}, "tail='normal'"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(wishes, message):
    with pytest.raises(ValueError, match=rf"Expected.*Received.*|.*{message}") as refusal:
        choose_threshold(SCORES, **wishes)
    assert message in str(refusal.value)


def test_a_finer_rate_is_extrapolated_only_if_asked_and_says_how_sure_it_is():
    scores = -np.random.default_rng(1).exponential(size=5000)
    with pytest.raises(ValueError, match="tail='gpd'"):
        choose_threshold(scores, false_alarm_rate=1e-4)
    threshold = choose_threshold(scores, false_alarm_rate=1e-4, tail="gpd")
    assert np.exp(threshold.offset) == pytest.approx(1e-4, rel=1.0)  # the share under it
    report = threshold.report(scores)
    assert report.rate_low < np.exp(threshold.offset) < report.rate_high
    assert report.rate_expected == report.rate_asked == 1e-4
    assert "tail='gpd'" in report.chosen_by


def test_an_extrapolation_that_tells_next_to_nothing_warns():
    scores = -np.random.default_rng(1).exponential(size=600)
    with pytest.warns(DataWarning, match=r"false_alarm_rate=2e-05, tail='gpd' is an extrapolation"):
        choose_threshold(scores, false_alarm_rate=2e-5, tail="gpd")


@pytest.mark.parametrize("wish", [{"score": -3.0}, {"false_alarm_rate": 0.002, "tail": "gpd"}])
def test_a_threshold_survives_json(wish):
    threshold = choose_threshold(SCORES, **wish)
    assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict()))) == threshold


def cost(offset, scores, is_anomaly, cost_false_alarm, cost_miss):
    flagged = scores < offset
    return cost_false_alarm * np.sum(flagged & ~is_anomaly) + cost_miss * np.sum(
        ~flagged & is_anomaly
    )


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=20),
    st.sampled_from([0.5, 1.0, 10.0]),
)
def test_no_other_threshold_costs_less_on_the_labelled_rows(rows, cost_miss):
    scores, is_anomaly = np.array([s for s, _ in rows], float), np.array([a for _, a in rows])
    if is_anomaly.all() or not is_anomaly.any():
        with pytest.raises(ValueError, match="both"):
            threshold_from_labels(scores, is_anomaly)
        return
    offset = threshold_from_labels(scores, is_anomaly, cost_miss=cost_miss).offset
    found = cost(offset, scores, is_anomaly, 1.0, cost_miss)
    others = [cost(other, scores, is_anomaly, 1.0, cost_miss) for other in np.arange(-6, 7) + 0.5]
    assert found == pytest.approx(min(others))


def test_labels_may_be_those_of_predict():
    labels = np.array([-1, -1, 1, 1])
    scores = [-4.0, -3.0, 1.0, 2.0]
    assert threshold_from_labels(scores, labels).offset == -1.0
    assert threshold_from_labels(scores, labels == -1).offset == -1.0


def test_the_share_of_anomalies_in_use_weighs_the_costs():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 500), rng.normal(-2, 1, 500)])
    labels = np.repeat([1, -1], 500)
    balanced = threshold_from_labels(scores, labels).offset
    rare = threshold_from_labels(scores, labels, anomaly_share=0.01).offset
    assert balanced == pytest.approx(-1, abs=0.5)
    assert rare == pytest.approx(-1 - np.log(99) / 2, abs=0.8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": [1, 1]}, "both"),
        ({"labels": [1, 2]}, "both"),
        ({"labels": [1, 0, 1]}, r"shape \(2,\)"),
        ({"cost_miss": 0}, "cost_miss=0"),
        ({"cost_false_alarm": np.nan}, "cost_false_alarm=nan"),
        ({"anomaly_share": 1}, "anomaly_share=1"),
    ],
)
def test_labels_and_costs_that_say_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        threshold_from_labels(**{"scores": [0.0, 1.0], "labels": [1, 0], **wrong})


def test_the_same_wish_can_be_met_by_other_scores():
    other = SCORES[:99] - 5
    for wish in ({"false_alarm_rate": 0.02}, {"alerts": 2, "per": 100}, {"quantile": 0.1}):
        again = choose_threshold(SCORES, **wish).again(other)
        assert again == choose_threshold(other, **wish)
    auto = threshold_from_contamination("auto", [], SCORES)
    assert auto.again(other[:10]).offset == other[:10].min()
    for fixed in (
        choose_threshold(SCORES, score=-2.0),
        threshold_from_contamination(0.1, SCORES, []),
        threshold_from_labels(SCORES, SCORES < 0),
    ):
        assert fixed.again(other) == fixed
    with pytest.raises(ValueError, match="from 0\\.01"):
        choose_threshold(SCORES, false_alarm_rate=0.002).again(other)


def test_a_threshold_says_how_it_was_chosen():
    assert threshold_from_contamination("auto", [], SCORES).chosen_by == "contamination='auto'"
    assert choose_threshold(SCORES, false_alarm_rate=0.02).chosen_by == "false_alarm_rate=0.02"
    labelled = threshold_from_labels(SCORES, SCORES < 0, cost_miss=10)
    assert labelled.chosen_by == "labelled_rows=999, cost_false_alarm=1, cost_miss=10"
