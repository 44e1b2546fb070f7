"""Detectors in MLflow: saved, logged, loaded, served, and told of."""

import json
import sys
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from small_detectors import SMALL

from vae_anomaly import VAEDetector
from vae_anomaly import mlflow as detectors_in_mlflow

pytestmark = [
    pytest.mark.slow,
    # Of mlflow itself, by newer versions of what it uses.
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.filterwarnings("ignore:Using `httpx` with"),  # in the client for tests
]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """mlflow, which keeps its runs in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        with warnings.catch_warnings(action="ignore"):  # its own, of its own types
            module = pytest.importorskip("mlflow", reason="needs the extra [mlflow]")
            pytest.importorskip("mlflow.pyfunc", reason="needs the extra [mlflow]")
        runs = tmp_path_factory.mktemp("runs")
        module.set_tracking_uri(f"file:{runs}/new")
        yield module
        detectors_in_mlflow.autolog(disable=True)
        module.set_tracking_uri(None)


@pytest.fixture(scope="module")
def detector(small_table_detector):
    return small_table_detector


@pytest.fixture(scope="module")
def model(mlflow, detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow") / "m"
    detectors_in_mlflow.save_model(detector, folder)
    return folder


def test_a_saved_model_answers_what_scoring_adds_to_the_training_table_too(
    mlflow, model, detector, table
):
    answers = mlflow.pyfunc.load_model(str(model)).predict(table.assign(more=1))
    names = ["score", "decision", "is_anomaly", "p_value", "error"]
    assert answers.columns.tolist() == names
    np.testing.assert_array_equal(answers["score"], detector.score_samples(table))
    np.testing.assert_array_equal(answers["is_anomaly"], detector.predict(table) == -1)


def test_a_saved_model_has_no_pickle_and_knows_its_columns(mlflow, model, detector, table):
    files = {path.suffix for path in model.rglob("*") if path.is_file()}
    assert files <= {"", ".json", ".npz", ".py", ".txt", ".yaml"}
    saved = mlflow.models.Model.load(str(model))
    assert saved.get_input_schema().input_names() == table.columns.tolist()
    assert saved.metadata["kinds"] == detector.scorer_.preprocessor.kinds
    example = saved.load_input_example(str(model))
    assert len(detector.score_samples(example.astype({"day": "datetime64[us]"}))) == 3


def test_a_server_answers_typical_rows_and_says_which_cell_is_bad(mlflow, model, detector):
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    client = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(model))))
    example = json.loads((model / "serving_input_example.json").read_text())
    (scores,) = [client.post("/invocations", json=example).json()["predictions"]]
    assert all(np.isfinite(row["score"]) and row["error"] is None for row in scores)
    row = {"amount": "1.5", "count": 2, "city": None, "member": None, "day": None, "grade": "a"}
    rows = [row, {**row, "count": "oops"}, {**row, "day": "2024-03-01T10:00:00"}]
    answer = client.post("/invocations", json={"dataframe_records": rows})
    first, second, third = answer.json()["predictions"]
    frame = pd.DataFrame({**row, "amount": 1.5}, index=[0]).astype({"grade": object})
    assert first["score"] == detector.score_samples(frame)[0]
    assert second["score"] is None
    assert second["error"].startswith("column 'count': expected a number, received 'oops'")
    assert third["error"] is None
    answer = client.post("/invocations", json={"dataframe_records": [{"amount": 1}]})
    assert answer.status_code == 400
    assert "missing inputs" in answer.json()["message"]


def test_a_logged_model_is_the_detector_again(mlflow, detector, table):
    with mlflow.start_run():
        info = detectors_in_mlflow.log_model(detector, "fraud")
    again = detectors_in_mlflow.load_model(info.model_uri)
    np.testing.assert_array_equal(again.score_samples(table), detector.score_samples(table))
    assert again.history_ == detector.history_


def test_a_model_of_others_and_one_of_images_are_refused(mlflow, model, tmp_path):
    other = mlflow.models.Model.load(str(model))
    del other.flavors["vae_anomaly"]
    other.save(tmp_path / "MLmodel")
    with pytest.raises(ValueError, match=r"that vae_anomaly.mlflow has written. Received: "):
        detectors_in_mlflow.load_model(str(tmp_path))
    images = types.SimpleNamespace(_input=types.SimpleNamespace(name="images", title="images"))
    with pytest.raises(ValueError, match="Expected a detector of tables. Received: one of images"):
        detectors_in_mlflow.save_model(images, tmp_path / "m")


@pytest.mark.parametrize("log_models", [False, True])
def test_autolog_logs_parameters_history_threshold_and_the_model(mlflow, rows, log_models):
    detectors_in_mlflow.autolog(log_models=log_models, silent=True)
    fitted = VAEDetector(**SMALL).fit(rows)
    run = mlflow.last_active_run()
    assert run.data.params["latent_dim"] == "2"
    report = fitted.threshold_report()
    assert run.data.metrics["offset"] == fitted.offset_
    assert run.data.metrics["false_alarm_rate_high"] == report.rate_high
    assert run.data.tags["threshold"] == str(report)
    logged = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")
    assert [point.step for point in logged] == fitted.history_["step"]
    assert [point.value for point in logged] == fitted.history_["val_loss"]
    models = mlflow.search_logged_models(
        filter_string=f"source_run_id='{run.info.run_id}'", output_format="list"
    )
    assert len(models) == log_models
    if log_models:  # once is enough
        return
    detectors_in_mlflow.autolog(disable=True)
    VAEDetector(**SMALL).fit(rows)
    assert mlflow.last_active_run().info.run_id == run.info.run_id


def test_an_example_of_narrow_whole_numbers_is_made(trainings):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"count": np.where(rng.random(100) < 0.6, 0, 250), "x": rng.normal(size=100)}
    )
    for dtype in ("uint8", "int16"):
        detector = VAEDetector(**SMALL).fit(frame.astype({"count": dtype}))
        assert detectors_in_mlflow._example(detector)["count"].dtype == "int64"


@pytest.mark.parametrize("version", [None, "2.22.0"])
def test_mlflow_that_is_not_there_or_too_old_is_told_of(monkeypatch, version, tmp_path):
    module = None if version is None else types.SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    received = f"mlflow {version}" if version else "none"
    for call in (
        detectors_in_mlflow.autolog,
        lambda: detectors_in_mlflow.load_model(str(tmp_path)),
        lambda: detectors_in_mlflow.log_model(None),
        lambda: detectors_in_mlflow.save_model(None, tmp_path),
    ):
        with pytest.raises(ImportError, match=f"mlflow 3 or later. Received: {received}. Install"):
            call()
