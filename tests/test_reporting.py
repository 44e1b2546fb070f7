"""Reports on fitted detectors: from memory and from files."""

import copy
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from vae_anomaly import cli, score_files
from vae_anomaly.batch.reporting import report_files
from vae_anomaly.detectors.reporting import batch_of, report_content, sample_size

pytest.importorskip("matplotlib", reason="needs the extra [plot]")
pytest.importorskip("jinja2", reason="needs the extra [plot]")


def content(detector, X, title="t"):
    data = detector._input.check(detector, X)
    batch = batch_of(detector, data, detector._input.rows, detector._input.row_names(X))
    return report_content(detector, batch, title)


@pytest.fixture(scope="module")
def odd(table):
    """Rows of the table, two of which are wrong, and half of which have a new city."""
    odd = table[:80].copy()
    odd.loc[3, "amount"], odd.loc[5, "count"] = 900.0, 70
    odd.loc[40:, "city"] = "Narvik"
    return odd


def test_a_report_tells_of_the_lowest_rows_with_reasons(table_detector, odd):
    found = content(table_detector, odd)
    scores = table_detector.score_samples(odd)
    lowest = np.argsort(scores)[:10]
    assert [anomaly.name for anomaly in found.anomalies] == [f"row {row}" for row in lowest]
    np.testing.assert_array_equal([a.score for a in found.anomalies], scores[lowest])
    for reasons in (anomaly.reasons for anomaly in found.anomalies):
        assert all(reason.gain >= 0.05 * reasons[0].gain for reason in reasons)
    heaviest = {anomaly.name: anomaly.reasons[0].column for anomaly in found.anomalies}
    assert heaviest["row 3"] == "amount" and heaviest["row 5"] == "count"


@pytest.mark.slow
def test_a_report_tells_what_the_threshold_gives(table_detector, table, odd):
    detector = copy.deepcopy(table_detector).calibrate(table)
    found, report = content(detector, odd), detector.threshold_report()
    assert (found.n_rows, found.n_flagged) == (80, (detector.predict(odd) == -1).sum())
    assert found.rate.expected == report.rate_expected
    assert [rate.asked for rate in found.rates] == [0.0025, 0.005, 0.01, 0.02, 0.05, 0.1]
    for rate in found.rates:
        assert rate.low < rate.expected < rate.high
    share = detector.anomaly_share(odd)
    assert found.anomaly_share == (share.share, share.low, share.high)


def test_a_report_tells_what_moved_and_what_the_columns_are(table_detector, odd, table):
    found = content(table_detector, odd)
    assert [(c.column, c.measure) for c in found.drift if c.moved] == [
        ("city", "rare or unknown levels"),
        ("city", "stability index of values"),
    ]
    assert [column.name for column in found.columns] == list(table)
    assert {fit.column for fit in found.column_fits} == set(table)
    assert len(found.kl_per_dimension) == table_detector._model_args["latent_dim"]


def test_columns_that_are_not_modelled_are_told_of(table, trainings):
    from vae_anomaly import AutoencoderDetector
    from vae_anomaly.detectors.table_report import table_sections

    named = table[["amount"]].assign(order=[f"A-{number}" for number in range(len(table))])
    detector = AutoencoderDetector(hidden_units=(), kinds={"order": "id"}).fit(named)
    last = table_sections(detector, None)["columns"][-1]
    assert (last.name, last.kind, last.description) == ("order", "id", "not modelled")


def test_shares_are_compared_with_those_of_all_training_rows(table_detector, table):
    few = table[:80].copy()
    few.loc[:12, "count"] = 1000
    moved = {(c.column, c.measure) for c in content(table_detector, few).drift if c.moved}
    # More than chance beside 400 training rows, and not beside the 40 that calibrated.
    assert ("count", "values beyond those of training") in moved


def test_a_batch_without_cells_in_a_column_has_moved(table_detector, table):
    empty = table[:80].assign(city=None, amount=np.nan)
    moved = {(c.column, c.measure) for c in content(table_detector, empty).drift if c.moved}
    assert moved == {("city", "missing cells"), ("amount", "missing cells")}


@pytest.mark.slow
def test_columns_that_depend_on_each_other_are_understood():
    from vae_anomaly import VAEDetector

    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    frame = pd.DataFrame({"x": x, "y": x + 0.1 * rng.normal(size=300), "z": rng.normal(size=300)})
    detector = VAEDetector(hidden_units=(32,), max_steps=600, random_state=0).fit(frame)
    fits = {fit.column: fit for fit in content(detector, frame).column_fits}
    assert fits["x"].gain > 0.5 and fits["y"].gain > 0.5
    assert not fits["z"].is_understood


@pytest.mark.slow
def test_every_detector_reports(
    table_detector, table_autoencoder, image_detector, colour_image_detector, table, digits, stripes
):
    for detector, X, n_images in (
        (table_detector, table[:20], 0),
        (table_autoencoder, table[:20], 0),
        (image_detector, digits[:20], 3),
        (colour_image_detector, stripes[:3], 3),
    ):
        anomalies = content(detector, X).anomalies
        assert len(anomalies) == min(10, len(X))
        assert any(anomaly.reasons for anomaly in anomalies) == (n_images == 0)
        assert {len(anomaly.pictures) for anomaly in anomalies} == {n_images}
        page = detector.report(X)
        assert all(anomaly.name in page for anomaly in anomalies)
        assert "<h2>" in detector.report()


@pytest.mark.slow
def test_scores_and_losses_have_their_units(detectors, table_autoencoder, rows):
    for score_type, detector in detectors.items():
        found = content(detector, rows[:9])
        error = score_type == "reconstruction_error"
        assert (found.unit, found.training.unit) == ("squared error" if error else "nats", "nats")
    found = report_content(table_autoencoder, None, "t")
    assert (found.unit, found.training.unit) == ("squared error", "squared error")


def test_images_have_maps(image_detector, digits):
    assert "The 10 images with the lowest scores" in image_detector.report(digits[:20])
    found = content(image_detector, digits[:30])
    assert len(found.anomalies) == 10
    for anomaly in found.anomalies:
        assert [np.shape(picture.pixels)[:2] for picture in anomaly.pictures] == [(8, 8)] * 3


@pytest.mark.slow
def test_a_model_that_expects_nearly_the_same_of_every_image_is_told_of(digits, monkeypatch):
    from vae_anomaly import DataWarning, VAEDetector

    detector = VAEDetector(hidden_units=(), filters=(4,), max_steps=1, random_state=0)
    with pytest.warns(DataWarning, match="expected images that hardly differ"):
        detector.fit(digits[:150])
    assert any("hardly differ" in warning for warning in content(detector, digits[:30]).warnings)
    # Where the expected images differ as images do, nothing is said.
    monkeypatch.setattr(detector.scorer_.model, "reconstruct", lambda x: x, raising=False)
    every = np.ones(30, dtype=bool)
    assert detector._input.doubts(detector.scorer_, digits[:30, ..., None], every) == []


def test_a_report_is_written_to_a_file(table_detector, table, tmp_path):
    page = table_detector.report(table[:9], output=tmp_path / "r.html", title="Nine rows")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page
    assert "<h1>Nine rows</h1>" in page


@pytest.fixture(scope="module")
def model(table_detector, odd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    table_detector.save(folder / "m")
    odd.to_parquet(folder / "odd.parquet")
    return folder


def run(*arguments):
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.slow
def test_files_have_the_report_of_their_rows(model, table_detector, odd, tmp_path):
    shutil.copy(model / "odd.parquet", tmp_path / "again.parquet")
    inputs = (model / "odd.parquet", "--scored", tmp_path / "again.parquet")
    run("report", model / "m", *inputs, "--output", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8").replace("_<wbr>", "_")
    for row in np.argsort(table_detector.score_samples(odd))[:5]:
        for name in ("odd", "again"):
            assert f"{name}.parquet, row {row + 1}<" in page
    assert f"of {2 * len(odd)} rows flagged" in page


def test_a_report_is_not_written_over_its_rows(table_detector, odd, tmp_path):
    path = tmp_path / "t.csv"
    odd.to_csv(path, index=False)
    with pytest.raises(ValueError, match="expected a file of its own to write, received an input"):
        report_files(path, table_detector, path)


def test_a_model_has_a_report_of_its_own(model, table_detector, tmp_path):
    report_files([], table_detector, tmp_path / "alone.html", title="Alone")
    assert "<h1>Alone</h1>" in (tmp_path / "alone.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_tables_that_were_scored_have_the_report_of_their_rows(model, table_detector, tmp_path):
    first, scored = model / "odd.parquet", tmp_path / "odd.parquet"
    score_files(first, table_detector, scored, explain=2, contributions=True)
    pages = []
    for table in (first, scored):
        report_files(table, table_detector, tmp_path / "r.html")
        page = (tmp_path / "r.html").read_text(encoding="utf-8").replace("<wbr>", "")
        pages.append(page.replace(str(table), "odd.parquet"))
    assert pages[0] == pages[1]


def test_columns_that_the_model_does_not_know_are_named(table_detector, odd, tmp_path):
    odd.assign(colour="red", score=1).to_csv(tmp_path / "more.csv", index=False)
    report_files(tmp_path / "more.csv", table_detector, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "does not know are ignored: colour;" in page


@pytest.mark.slow
def test_scoring_reports_by_the_threshold_that_was_asked_for(model, tmp_path):
    common = ("score", model / "odd.parquet", "--model", model / "m", "--quiet")
    outputs = ("--output", tmp_path / "o.csv", "--report", tmp_path / "r.html")
    run(*common, *outputs, "--threshold", 1e9)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<b>80</b>" in page and "score=<wbr>1000000000" in page
    result = CliRunner().invoke(cli.main, [*map(str, (*common, *outputs)), "--fdr", "0.1"])
    assert result.exit_code == 2
    assert "no --fdr" in result.stderr


def test_of_large_images_fewer_are_looked_at(image_detector, monkeypatch):
    assert sample_size(image_detector) == 1000
    monkeypatch.setattr(type(image_detector._input), "n_features", 64 * 64 * 3)
    assert sample_size(image_detector) == 341
    monkeypatch.setattr(type(image_detector._input), "n_features", 2000 * 2000)
    assert sample_size(image_detector) == 10


def test_many_rows_are_thinned(table_detector, odd, tmp_path, monkeypatch):
    from vae_anomaly.batch.reporting import _batch_of_files
    from vae_anomaly.batch.run import loaded_scoring

    monkeypatch.setattr("vae_anomaly.detectors.reporting.SAMPLE_ROWS", 16)
    odd.to_csv(tmp_path / "odd.csv", index=False)
    inputs = tmp_path / "odd.csv"
    batch = _batch_of_files(inputs, loaded_scoring(inputs, table_detector), table_detector)
    assert batch.n_rows == 80
    assert 8 <= len(batch.sample["amount"]) <= 16
    expected = np.sort(table_detector.score_samples(odd))
    np.testing.assert_allclose(np.sort(batch.scores), expected, rtol=0.004)
