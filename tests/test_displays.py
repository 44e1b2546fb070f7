"""Pictures of detectors: calibration, reasons of a row, the latent map, reconstruction."""

import numpy as np
import pandas as pd
import pytest
from small_detectors import SMALL

from vae_anomaly import (
    CalibrationDisplay,
    ExplanationDisplay,
    LatentMapDisplay,
    ReconstructionDisplay,
    ScoreDistributionDisplay,
    VAEDetector,
)

pytest.importorskip("matplotlib", reason="needs the extra [plot]")


@pytest.fixture(scope="module")
def odd(table):
    odd = table[:60].copy()
    odd.loc[3, "amount"] = 900.0
    return odd


def test_a_detector_gives_scores_and_threshold(table_detector, odd):
    labels = np.where(odd["amount"] > 100, "odd", "usual")
    display = ScoreDistributionDisplay.from_estimator(table_detector, odd, labels=labels)
    np.testing.assert_array_equal(display.scores, table_detector.score_samples(odd))
    assert display.offset == table_detector.offset_
    assert [t.get_text() for t in display.ax_.get_legend().get_texts()][:2] == ["odd", "usual"]


def test_the_rates_of_normal_rows_lie_in_the_band():
    rng = np.random.default_rng(1)
    display = CalibrationDisplay.from_scores(rng.normal(size=20_000), rng.normal(size=500))
    inside = (display.low <= display.obtained) & (display.obtained <= display.high)
    assert inside.mean() > 0.6
    anomalous = CalibrationDisplay.from_scores(rng.normal(-3, 1, size=999), rng.normal(size=500))
    assert (anomalous.obtained > anomalous.high).mean() > 0.9


def test_the_obtained_rate_is_the_share_of_p_values_up_to_it():
    from vae_anomaly.scoring.calibration import p_values

    rng = np.random.default_rng(2)
    scores, calibration = rng.normal(size=300), rng.normal(size=77)
    display = CalibrationDisplay.from_scores(scores, calibration)
    shares = [np.mean(p_values(scores, calibration) <= rate) for rate in display.asked]
    np.testing.assert_array_equal(display.obtained, shares)


def test_a_detector_gives_the_intervals_of_its_report(table_detector, odd):
    display = CalibrationDisplay.from_estimator(table_detector, odd)
    m = table_detector.scorer_.n_calibration
    report = table_detector.threshold_report(false_alarm_rate=1 / (m + 1))
    assert (display.low[0], display.high[0]) == (report.rate_low, report.rate_high)
    assert display.obtained[-1] > display.obtained[0] > 0
    assert CalibrationDisplay.from_estimator(table_detector).obtained is None


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_intervals_of_scores_are_those_of_the_report_with_ties_too(decimals):
    from vae_anomaly.scoring.calibration import report_threshold

    calibration = np.random.default_rng(3).normal(size=77).round(decimals)
    display = CalibrationDisplay.from_scores(calibration, calibration, level=0.8)
    ranks = (display.asked * 78).round().astype(int)
    for offset, low, high in zip(
        np.sort(calibration)[ranks - 1], display.low, display.high, strict=True
    ):
        report = report_threshold(offset, calibration, chosen_by="rank", level=0.8)
        np.testing.assert_allclose([low, high], [report.rate_low, report.rate_high])


@pytest.mark.parametrize("name", ["low", "high", "obtained"])
def test_rates_of_another_number_are_refused(name):
    arrays = {"low": [0.1], "high": [0.2], "obtained": [0.1]}
    with pytest.raises(ValueError, match=f"Expected `{name}` of shape"):
        CalibrationDisplay([0.1], **{**arrays, name: [0.1, 0.2]})


def test_no_rates_are_refused():
    with pytest.raises(ValueError, match="Expected `asked`"):
        CalibrationDisplay([], low=[], high=[])


def test_the_reasons_of_a_row_are_those_of_explain(table_detector, odd):
    display = ExplanationDisplay.from_estimator(table_detector, odd, row=3, n_columns=4)
    gains = table_detector.explain(odd[3:4])["gain"].iloc[0].astype(float).nlargest(4)
    assert display.columns == list(gains.index) and display.columns[0] == "amount"
    np.testing.assert_array_equal(display.gain, gains)
    assert display.sentences[0].startswith("900, expected ")
    assert " to " in display.sentences[0]
    # The longest bar is on top.
    assert [label.get_text() for label in display.ax_.get_yticklabels()][-1] == "amount"
    assert display.ax_.get_title().endswith("anomaly")


def test_cells_of_every_kind_have_a_text(table_detector, table):
    lacking = table.reindex([len(table)])
    for X in (table[:1], lacking):
        sentences = ExplanationDisplay.from_estimator(table_detector, X).sentences
        assert len(sentences) == table.shape[1]
    assert all(sentence.startswith("missing") for sentence in sentences)


def test_autoencoders_are_explained(table_autoencoder, table):
    display = ExplanationDisplay.from_estimator(table_autoencoder, table, row=2)
    assert display.columns
    display.figure_.draw_without_rendering()


def test_names_of_columns_are_not_mathematics():
    display = ExplanationDisplay(
        ["$x^{2", "a$b$"],
        gain=[3.0, -1.0],
        value=["$_{", 1.0],
        expected=["b", 2.0],
        low=[None, 1.0],
        high=[None, 3.0],
        score=0.0,
        offset=1.0,
    ).plot()
    display.figure_.draw_without_rendering()
    assert display.ax_.get_yticklabels()[-1].get_text() == "$x^{2"


def test_an_expected_value_that_reads_like_the_one_seen_is_left_out():
    display = ExplanationDisplay(
        ["a", "b"],
        gain=[1.0, 1.0],
        value=[2.0, 1.23456],
        expected=[3.0, 1.23457],
        low=[3.0, 1.0],
        high=[3.0, 2.0],
        score=0.0,
        offset=1.0,
    )
    assert display.sentences == ["2, expected 3", "1.235"]


def test_an_explanation_without_columns_or_of_others_is_refused():
    empty = {name: [] for name in ("gain", "value", "expected", "low", "high")}
    with pytest.raises(ValueError, match="one column or more"):
        ExplanationDisplay([], **empty, score=0.0, offset=0.0)
    with pytest.raises(ValueError, match="Expected `gain` of 1 columns. Received: 0"):
        ExplanationDisplay(["a"], **empty, score=0.0, offset=0.0)


def test_images_have_another_picture(image_detector, digits):
    with pytest.raises(ValueError, match="Use ImageExplanationDisplay"):
        ExplanationDisplay.from_estimator(image_detector, digits)
    with pytest.raises(ValueError, match="use ImageExplanationDisplay"):
        ReconstructionDisplay.from_estimator(image_detector, digits)


def test_the_latent_map_keeps_the_distances_of_two_dimensions():
    z_mean = np.random.default_rng(0).normal(size=(30, 2))
    display = LatentMapDisplay(z_mean).plot()
    before, after = (
        np.linalg.norm(z[:, None] - z[None], axis=-1) for z in (z_mean, display.position_)
    )
    np.testing.assert_allclose(after, before)


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (1, 1), (4, 7)])
def test_any_latent_space_has_a_map(shape):
    display = LatentMapDisplay(np.ones(shape)).plot()
    assert display.position_.shape == (shape[0], 2)
    display.figure_.draw_without_rendering()


def test_the_latent_map_tells_anomalies_or_labels(table_detector, image_detector, odd, digits):
    display = LatentMapDisplay.from_estimator(table_detector, odd)
    _, names = display.ax_.get_legend_handles_labels()
    assert names == ["normal", "anomaly"]
    assert (
        len(display.ax_.collections[1].get_offsets()) == (table_detector.predict(odd) == -1).sum()
    )
    labels = np.arange(20) % 3
    display = LatentMapDisplay.from_estimator(image_detector, digits[:20], labels=labels)
    assert display.ax_.get_legend_handles_labels()[1] == ["0", "1", "2"]


def test_a_latent_map_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="Expected `z_mean`"):
        LatentMapDisplay([1.0, 2.0])
    with pytest.raises(ValueError, match="Expected `labels`"):
        LatentMapDisplay(np.ones((2, 2)), labels=[1])


def test_reconstruction_draws_columns_of_numbers_against_what_is_expected(table_detector, odd):
    display = ReconstructionDisplay.from_estimator(table_detector, odd)
    assert display.columns == ["amount", "count"]
    reconstructed = table_detector.reconstruct(odd)
    np.testing.assert_array_equal(display.expected[:, 0], reconstructed["amount"])
    np.testing.assert_array_equal(display.value[:, 1], odd["count"])
    display.figure_.draw_without_rendering()
    one = ReconstructionDisplay.from_estimator(table_detector, odd, columns=["count"])
    assert [ax.get_title() for ax in one.axes_] == ["count"]


@pytest.mark.parametrize("columns", [["city"], ["nowhere"], []])
def test_columns_that_are_no_numbers_are_refused(table_detector, odd, columns):
    with pytest.raises(ValueError, match="Expected columns of numbers: of"):
        ReconstructionDisplay.from_estimator(table_detector, odd, columns=columns)


def test_reconstructions_of_other_shapes_are_refused():
    value = np.ones((3, 2))
    with pytest.raises(ValueError, match="Expected `value`"):
        ReconstructionDisplay([1.0], [1.0], columns=["a"])
    with pytest.raises(ValueError, match="Expected `expected`"):
        ReconstructionDisplay(value, value[:2], columns=["a", "b"])
    with pytest.raises(ValueError, match="Expected 2 axes"):
        ReconstructionDisplay(value, value, columns=["a", "b"]).plot(np.array([None]))


def test_all_pictures_leave_pyplot_alone(table_detector, odd):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    for display in (
        ScoreDistributionDisplay,
        CalibrationDisplay,
        ExplanationDisplay,
        LatentMapDisplay,
        ReconstructionDisplay,
    ):
        display.from_estimator(table_detector, odd)
    assert plt.get_fignums() == before


def test_columns_may_be_nullable_or_unnamed(table_detector, table):
    nullable = table[:5].convert_dtypes()
    assert ReconstructionDisplay.from_estimator(table_detector, nullable).value.shape == (5, 2)
    assert isinstance(nullable["count"].dtype, pd.Int64Dtype)


def as_polars(frame):
    polars = pytest.importorskip("polars")
    return polars.from_pandas(frame)


def as_arrow(frame):
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


@pytest.mark.parametrize("other", [as_polars, pytest.param(as_arrow, marks=pytest.mark.slow)])
def test_frames_of_other_libraries_have_the_same_pictures(table_detector, odd, other):
    for display in (ReconstructionDisplay, ExplanationDisplay):
        expected, found = (display.from_estimator(table_detector, X) for X in (odd, other(odd)))
        assert found.columns == expected.columns
        for one, another in zip(found.value, expected.value, strict=True):
            np.testing.assert_array_equal(one, another)


def test_columns_that_are_not_modelled_are_not_drawn(trainings, odd):
    frame = odd.assign(order=np.arange(len(odd)))[["order", *odd]]
    detector = VAEDetector(**SMALL, kinds={"order": "id"}).fit(frame)
    assert ReconstructionDisplay.from_estimator(detector, frame).columns == ["amount", "count"]
    with pytest.raises(ValueError, match="Expected columns of numbers: of"):
        ReconstructionDisplay.from_estimator(detector, frame, columns=["order"])


def test_columns_of_arrays_are_drawn_by_position(detector, rows):
    display = ReconstructionDisplay.from_estimator(detector, rows[:9], columns=[2, 0])
    np.testing.assert_array_equal(display.value, rows[:9, [2, 0]])
    np.testing.assert_array_equal(display.expected, detector.reconstruct(rows[:9])[:, [2, 0]])
