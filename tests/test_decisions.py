"""How a detector decides: calibration, thresholds, selection, and how sure all that is."""

import copy
import pickle
import warnings

import numpy as np
import pytest

from vae_anomaly import DataWarning, VAEDetector, load_detector
from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.scoring.discoveries import p_value_cutoff

pytestmark = pytest.mark.usefixtures("cross_fitting")

QUICK = {"hidden_units": (8,), "max_steps": 20, "random_state": 0}


@pytest.fixture(scope="module")
def quick(rows, cross_fitting):
    """Fitted on 200 rows; new normal rows are ``rows[200:]``."""
    return VAEDetector(**QUICK).fit(rows[:200])


@pytest.fixture
def detector(quick):
    return copy.deepcopy(quick)


def test_few_rows_calibrate_by_cross_fitting_and_many_by_those_held_out(quick, trainings):
    assert quick.threshold_report().calibrated_on == "cross-fitted training rows"
    assert quick.scorer_.n_calibration == 200
    many = VAEDetector(**QUICK, score_type="elbo").fit(
        np.random.default_rng(0).normal(size=(1001, 2))
    )
    assert many.threshold_report().calibrated_on == "held-out rows"
    assert many.scorer_.n_calibration == 101


@pytest.mark.slow
def test_cross_fitting_changes_no_score(rows, monkeypatch, quick):
    monkeypatch.setattr("vae_anomaly.detectors.base.can_cross_fit", lambda is_validation: False)
    plain = VAEDetector(**QUICK).fit(rows[:200])
    assert plain.scorer_.n_calibration == 20
    np.testing.assert_array_equal(plain.score_samples(rows), quick.score_samples(rows))


def test_p_values_are_those_of_all_rows_cross_fitted(quick, rows):
    calibration = quick.scorer_.calibration_scores.numpy()
    assert len(calibration) == 200
    # Lower than those of the model that was trained on the rows.
    assert np.mean(calibration) < np.mean(quick.score_samples(rows[:200]))
    expected = p_values(quick.score_samples(rows), calibration)
    np.testing.assert_allclose(quick.p_values(rows), expected, rtol=1e-15)


@pytest.mark.slow
def test_calibration_scores_are_not_those_of_rows_that_the_model_knows(rows):
    detector = VAEDetector(hidden_units=(64,), max_steps=400, random_state=0).fit(rows[:60])
    known, new = detector.score_samples(rows[:60]), detector.score_samples(rows[60:])
    calibration = detector.scorer_.calibration_scores.numpy()
    assert np.median(calibration) < np.median(known)
    assert abs(np.median(calibration) - np.median(new)) < abs(np.median(known) - np.median(new))


@pytest.mark.slow
def test_equal_seeds_give_equal_calibration_scores(rows, quick):
    again = VAEDetector(**QUICK).fit(rows[:200])
    np.testing.assert_array_equal(
        again.scorer_.calibration_scores.numpy(), quick.scorer_.calibration_scores.numpy()
    )


@pytest.mark.slow
def test_calibrating_with_new_rows_changes_no_score(detector, quick, rows):
    normal = rows[200:]
    detector.calibrate(normal)
    np.testing.assert_array_equal(detector.score_samples(rows), quick.score_samples(rows))
    calibration = quick.score_samples(normal)
    np.testing.assert_array_equal(detector.scorer_.calibration_scores.numpy(), np.sort(calibration))
    np.testing.assert_allclose(
        detector.p_values(rows), p_values(quick.score_samples(rows), calibration), rtol=1e-15
    )
    report = detector.threshold_report()
    assert (report.n_calibration, report.calibrated_on) == (200, "rows given to calibrate")
    assert detector.offset_ == np.sort(calibration)[1]  # 2 / 201 <= 1% < 3 / 201


@pytest.mark.slow
def test_calibrating_again_keeps_the_wish(detector, rows):
    detector.set_threshold(false_alarm_rate=0.1).calibrate(rows[200:])
    assert detector.threshold_report().rate_asked == 0.1
    assert np.sum(detector.p_values(rows) <= 0.1) == np.sum(detector.predict(rows) == -1)
    detector.set_threshold(score=-3.0).calibrate(rows[200:300])
    assert detector.offset_ == -3.0
    detector.set_threshold(false_alarm_rate=0.01)
    with pytest.raises(ValueError, match=r"from 0\.0196"):
        detector.calibrate(rows[:50])
    assert detector.scorer_.n_calibration == 100


def test_a_row_is_flagged_if_and_only_if_its_p_value_is_at_most_the_rate(detector, rows):
    for rate in (0.01, 0.05, 0.07, 0.29):
        detector.set_threshold(false_alarm_rate=rate)
        np.testing.assert_array_equal(detector.predict(rows) == -1, detector.p_values(rows) <= rate)


def test_thresholds_move_without_a_score_changing(detector, quick, rows):
    scores = quick.score_samples(rows)
    labels = np.where(scores < np.quantile(scores, 0.1), -1, 1)
    for wish in (
        {"false_alarm_rate": 0.05},
        {"alerts": 30, "per": 1000},
        {"quantile": 0.2},
        {"score": -5.0},
        {"X": rows, "labels": labels, "cost_miss": 5.0},
    ):
        assert detector.set_threshold(**wish) is detector
        np.testing.assert_array_equal(detector.score_samples(rows), scores)
        np.testing.assert_array_equal(detector.predict(rows) == -1, scores < detector.offset_)
    np.testing.assert_array_equal(detector.predict(rows), labels)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "none of them"),
        ({"X": [[0.0] * 4], "score": 1.0}, "Received: score, X"),
        ({"labels": [1, -1]}, "Received: labels"),
        ({"false_alarm_rate": 1e-4}, "tail='gpd'"),
        ({"false_alarm_rate": 1e-4, "tail": "gpd"}, "at least 500 calibration rows"),
    ],
)
def test_a_wish_that_cannot_be_met_leaves_the_threshold(detector, wish, message):
    before = detector.threshold_report()
    with pytest.raises(ValueError, match=message):
        detector.set_threshold(**wish)
    assert detector.threshold_report() == before


@pytest.mark.slow
def test_threshold_and_calibration_survive_saving_and_pickling(detector, rows, tmp_path):
    detector.calibrate(rows[200:]).set_threshold(alerts=2, per=100)
    detector.save(tmp_path / "m")
    for again in (load_detector(tmp_path / "m"), pickle.loads(pickle.dumps(detector))):
        assert again.threshold_report() == detector.threshold_report()
        np.testing.assert_array_equal(again.p_values(rows), detector.p_values(rows))
        np.testing.assert_array_equal(again.predict(rows), detector.predict(rows))


def test_the_report_is_a_sentence(quick):
    text = str(quick.threshold_report())
    assert text.startswith(f"threshold {quick.offset_:.6g}: contamination='auto' flags 1.0% of ")
    assert text.endswith("with 90% confidence, by 200 cross-fitted training rows")


def test_a_report_on_another_rate_leaves_the_threshold(detector):
    before = detector.threshold_report()
    other = detector.threshold_report(false_alarm_rate=0.2)
    assert detector.threshold_report() == before != other
    assert detector.set_threshold(false_alarm_rate=0.2).threshold_report() == other
    with pytest.raises(ValueError, match="tail='gpd'"):
        detector.threshold_report(false_alarm_rate=1e-4)


def test_selection_is_that_of_benjamini_and_hochberg(detector, rows):
    X = np.concatenate([rows[200:], rows[200:230] + 40])
    values = detector.p_values(X)
    selected = detector.select(X, fdr=0.1)
    np.testing.assert_array_equal(selected, values <= p_value_cutoff(values, 0.1))
    assert selected[200:].all() and selected[:200].sum() <= 9


def test_a_selection_that_few_calibration_rows_make_impossible_warns(detector, rows):
    with pytest.warns(DataWarning, match=r"with 200 calibration rows .* unless 20 of the 200"):
        assert not detector.select(rows[200:], fdr=0.05).any()


def test_the_share_of_anomalies_is_estimated(detector, rows):
    normal = rows[200:]
    detector.calibrate(normal)
    clean = detector.anomaly_share(normal)
    assert clean.low == 0.0 and clean.share < 0.01
    X = np.concatenate([normal, rows[200:250] + 40])
    planted = detector.anomaly_share(X)
    assert planted.low < 0.2 < planted.high
    assert planted.share == pytest.approx(0.2, abs=0.01)
    assert detector.anomaly_share(X, level=0.5).high < planted.high


@pytest.mark.slow
def test_few_calibration_rows_are_warned_of(rows):
    with pytest.warns(
        DataWarning, match=r"few calibration rows: 60\. The threshold .* flags 1\.6%"
    ):
        detector = VAEDetector(**{**QUICK, "score_type": "elbo", "max_steps": 2}).fit(rows[:60])
    with pytest.warns(DataWarning, match=r"few calibration rows: 99\."):
        detector.calibrate(rows[300:399])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.calibrate(rows[200:300])


def test_a_far_tail_of_calibration_rows_is_warned_of(detector, rows):
    normal = rows[200:].copy()
    normal[:4] += 500
    with pytest.warns(DataWarning, match="outliers: a few score far lower"):
        detector.calibrate(normal)


def test_no_decision_comes_before_fit():
    detector = VAEDetector()
    for decide in (
        lambda: detector.set_threshold(score=0.0),
        lambda: detector.threshold_report(),
        lambda: detector.calibrate([[0.0]]),
        lambda: detector.select([[0.0]], fdr=0.1),
        lambda: detector.anomaly_share([[0.0]]),
    ):
        with pytest.raises(ValueError, match="is not fitted yet"):
            decide()
