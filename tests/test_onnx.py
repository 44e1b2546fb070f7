"""An ONNX model answers as Python does, from one array, in ONNX Runtime alone."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from vae_anomaly import AutoencoderDetector, VAEDetector, cli
from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.scoring.tables import SCORE_TYPES
from vae_anomaly.serving import export, onnx_handlers, onnx_model
from vae_anomaly.serving.check import TOLERANCE, ExportError
from vae_anomaly.serving.tables import MISSING_NUMBER
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.schema import Schema

for package in ("tf2onnx", "onnxruntime"):
    pytest.importorskip(package, reason="needs the extra [onnx]")

pytestmark = pytest.mark.slow

SMALL = {"hidden_units": (8,), "max_steps": 10, "random_state": 0}


def leave_out_the_check(patch):
    patch.setattr(export, "largest_difference", lambda *_: 0.0)


@pytest.fixture
def unchecked(monkeypatch):
    """Leave out the check by another process, where the test does its own."""
    leave_out_the_check(monkeypatch)


@pytest.fixture(scope="module")
def exported(table_detector, tmp_path_factory):
    """The folder of a model of every kind of column."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_check(patch)
        return table_detector.export(tmp_path_factory.mktemp("onnx") / "m", format="onnx").folder


@pytest.fixture(scope="module")
def session(exported):
    return load(exported)


@pytest.fixture(scope="module")
def edge_rows(table):
    """Rows of all sorts; each of the last ones is edgy in its own way."""
    rows = table.iloc[:20].reset_index(drop=True).astype({"count": float})
    edges = rows.iloc[:4].copy()
    edges.loc[0, :] = None
    edges.loc[1, "city"] = "never seen"
    edges.loc[2, "amount"] = np.inf
    edges.loc[3, "amount"] = -np.inf
    return pd.concat([rows, edges.astype(rows.dtypes)], ignore_index=True)


def load(folder):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def ask(session, array):
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {given.name: array}), strict=True))


def schema_of(folder):
    return json.loads((folder / "schema.json").read_text("utf-8"))


def array_of(detector, folder, frame):
    """The array of a DataFrame, by what ``schema.json`` says."""
    arrays = frame_arrays(frame, Schema.of_kinds(detector.scorer_.preprocessor.kinds))
    columns = []
    for column in schema_of(folder)["columns"]:
        cells = arrays[column["name"]]
        if "levels" in column:
            places = {level: index + 1 for index, level in enumerate(column["levels"])}
            cells = [np.nan if cell == "" else places.get(cell, 0) for cell in cells]
        columns.append(cells)
    return np.array(columns, dtype=np.float64).T


def assert_answers(answer, detector, raw):
    """The answer is that of the detector's scorer to its raw input."""
    expected = detector.scorer_.run(raw)
    assert set(answer) == {*expected, "baseline"}
    features = np.abs(expected["feature_log_prob"])
    size = np.maximum(np.abs(expected["score"]), features.max(axis=tuple(range(1, features.ndim))))
    allowed = TOLERANCE * (1 + size)
    for name in ("score", "decision", "latent", "feature_log_prob"):
        difference = np.abs(answer[name] - expected[name]).T
        assert (difference <= allowed).all(), (name, difference.max())
    # A calibration row may come out on either side of its own score, and so of the threshold.
    differs = answer["is_anomaly"] != expected["is_anomaly"]
    assert (np.abs(expected["decision"][differs]) <= allowed[differs]).all()
    calibration = detector.scorer_.calibration_scores.numpy()
    low, high = (p_values(expected["score"] + sign * allowed, calibration) for sign in (-1, 1))
    assert ((low - 1e-9 <= answer["p_value"]) & (answer["p_value"] <= high + 1e-9)).all()


@pytest.mark.filterwarnings("ignore:.*infinite cells")
def test_a_table_of_every_kind_of_column_is_answered_as_by_python(
    table_detector, exported, session, edge_rows
):
    answer = ask(session, array_of(table_detector, exported, edge_rows))
    kinds = table_detector.scorer_.preprocessor.kinds
    assert_answers(answer, table_detector, frame_arrays(edge_rows, Schema.of_kinds(kinds)))
    assert 0 < answer["is_anomaly"].sum() < len(edge_rows)
    total = answer["feature_log_prob"].sum(axis=1) + answer["latent"] + answer["baseline"]
    np.testing.assert_allclose(total, answer["score"])


def test_a_p_value_counts_the_calibration_scores_at_or_below_the_score(table_detector, session):
    rows = np.random.default_rng(0).normal(size=(200, 6)) * [3, 3, 1, 1, 1e9, 1]
    answer = ask(session, rows)
    calibration = table_detector.scorer_.calibration_scores.numpy()
    rank = 1 + (calibration <= answer["score"][:, None]).sum(axis=1)
    np.testing.assert_allclose(answer["p_value"], rank / (len(calibration) + 1))
    assert len(set(rank)) > 1


def test_places_that_are_no_levels_are_unseen_and_nan_is_missing_as_the_lowest_number_is(
    session, exported
):
    row = np.array([[2.0, 3.0, 1.0, 0.0, 1.72e9, 1.0]])
    columns = [column["name"] for column in schema_of(exported)["columns"]]
    city = columns.index("city")
    places = np.array([1, 99, 0, -1, np.inf, 1e300, np.nan, MISSING_NUMBER])
    rows = np.repeat(row, len(places), axis=0)
    rows[:, city] = places
    answer = ask(session, rows)
    known, *unseen = answer["score"][:6]
    missing, lowest = answer["score"][6:]
    assert len(set(unseen)) == 1
    assert missing == lowest
    assert len({known, unseen[0], missing}) == 3
    assert answer["feature_log_prob"][6, city] == 0


def test_a_row_is_answered_alone_as_among_others(table_detector, exported, session, edge_rows):
    rows = array_of(table_detector, exported, edge_rows)
    together = ask(session, rows)["score"]
    alone = [ask(session, rows[i : i + 1])["score"][0] for i in range(len(rows))]
    np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-5)


def test_the_schema_tells_the_array_and_the_outputs(exported, session):
    schema = schema_of(exported)
    (signature,) = schema["signatures"].values()
    assert signature["inputs"] == {"rows": {"dtype": "float64", "shape": [None, 6]}}
    assert set(signature["outputs"]) == {output.name for output in session.get_outputs()}
    assert set(schema["meanings"]) == set(signature["outputs"])
    assert {column["input"] for column in schema["columns"]} == {"rows"}
    assert {column["dtype"] for column in schema["columns"]} == {"float64"}
    (city,) = (column for column in schema["columns"] if column["name"] == "city")
    assert city["units"] == "place among the levels, from 1; 0: any other value"
    assert "tf2onnx" in schema["versions"]


def test_the_sample_request_gets_the_sample_response(exported, session):
    request = json.loads((exported / "sample_request.json").read_text())
    response = json.loads((exported / "sample_response.json").read_text())["predictions"]
    answer = ask(session, np.array(request["rows"]))
    scores = [row["score"] for row in response]
    np.testing.assert_allclose(answer["score"], scores, rtol=TOLERANCE)
    assert answer["is_anomaly"].tolist() == [row["is_anomaly"] for row in response]


@pytest.mark.parametrize(
    ("format", "other"), [("onnx", "saved_model.pb"), ("savedmodel", "model.onnx")]
)
def test_versions_of_two_formats_do_not_share_a_folder(table_detector, tmp_path, format, other):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / other).touch()
    with pytest.raises(ValueError, match=rf"no other format than '{format}'.*m/1/{other}"):
        table_detector.export(tmp_path / "m", format=format)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


def test_an_unknown_format_is_refused(table_detector, tmp_path):
    with pytest.raises(ValueError, match=r"Expected `format` .* Received: format='pmml'"):
        table_detector.export(tmp_path / "m", format="pmml")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_it_says_what_to_install(table_detector, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "_PACKAGES", ("no_such_package",))
    with pytest.raises(
        ValueError, match=r"Received no no_such_package: .* pip install '.\[onnx\]'"
    ):
        table_detector.export(tmp_path / "new" / "m", format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_detector_of_other_operations_is_refused_and_they_are_named(
    detector, tmp_path, monkeypatch
):
    monkeypatch.delitem(onnx_handlers.HANDLERS, "UpperBound")
    with pytest.raises(ValueError, match=r"Received: UpperBound\. Export a SavedModel"):
        detector.export(tmp_path / "m", format="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("score_type", SCORE_TYPES)
def test_every_score_type_is_answered_far_from_the_data_too(
    detectors, rows, score_type, tmp_path, unchecked
):
    detector = detectors[score_type]
    matrix = rows.copy()
    matrix[:3] += [[1e4], [-1e4], [1e9]]
    matrix[3], matrix[4], matrix[5] = np.inf, -np.inf, np.nan
    matrix[6:40] = np.where(np.random.default_rng(0).random((34, 4)) < 0.3, np.nan, matrix[6:40])
    answer = ask(load(detector.export(tmp_path / "m", format="onnx").folder), matrix)
    assert_answers(answer, detector, {f"x{i}": column for i, column in enumerate(matrix.T)})


def test_skewed_columns_and_values_beyond_their_ranks_are_answered(tmp_path, unchecked):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.lognormal(0, 2, 300), rng.normal(size=300), rng.lognormal(0, 3, 300)])
    detector = VAEDetector(**SMALL).fit(X)
    assert len(detector.scorer_.preprocessor.skewed) == 2
    X[:4, 0] = [-1e6, 1e12, np.inf, 0]
    answer = ask(load(detector.export(tmp_path / "m", format="onnx").folder), X)
    assert_answers(answer, detector, {f"x{i}": column for i, column in enumerate(X.T)})


def test_a_detector_trained_on_clean_rows_and_an_autoencoder_are_answered(
    rows, tmp_path, unchecked
):
    for detector in (VAEDetector(training="clean", **SMALL), AutoencoderDetector(**SMALL)):
        folder = detector.fit(rows).export(tmp_path / "m", format="onnx").folder
        arrays = {f"x{i}": column for i, column in enumerate(rows.T)}
        assert_answers(ask(load(folder), rows), detector, arrays)


def test_images_are_answered_with_maps(
    image_detector, image_autoencoder, colour_image_detector, digits, stripes, tmp_path, unchecked
):
    cases = [
        (image_detector, digits[:20, ..., None]),
        (image_autoencoder, digits[:20, ..., None]),
        (colour_image_detector, stripes[:20]),
    ]
    for detector, images in cases:
        folder = detector.export(tmp_path / "m", format="onnx").folder
        assert_answers(ask(load(folder), images), detector, images)
        assert schema_of(folder)["images"]["sizes"] == "height, width and channels as here"


def test_images_by_feature_maps_are_answered_with_maps(stripes, tmp_path, unchecked):
    import keras

    make = {"padding": "same", "activation": "relu"}
    inputs = keras.Input((None, None, 3))
    first = keras.layers.Conv2D(5, 3, **make)(inputs)
    network = keras.Model(inputs, [first, keras.layers.Conv2D(7, 3, strides=2, **make)(first)])
    images = stripes.repeat(2, axis=1).repeat(2, axis=2)
    detector = VAEDetector(backbone=network, **SMALL).fit(images)
    folder = detector.export(tmp_path / "m", format="onnx").folder
    assert_answers(ask(load(folder), images[:8]), detector, images[:8])
    strange = np.random.default_rng(0).integers(0, 2, images[:4].shape, dtype=np.uint8) * 255
    assert detector.score_samples(strange).max() < -1000  # beyond what exp can take
    assert_answers(ask(load(folder), strange), detector, strange)


def test_the_command_writes_a_model_that_another_process_has_checked(detector, tmp_path):
    detector.save(tmp_path / "m")
    arguments = ["export", str(tmp_path / "m"), "--output", str(tmp_path / "served")]
    result = CliRunner().invoke(cli.main, [*arguments, "--format", "onnx"])
    assert result.exit_code == 0, result.output
    assert re.search(r"served/1: answers as .* difference of 5 scores: \S+\n", result.stderr)
    names = {path.name for path in (tmp_path / "served" / "1").iterdir()}
    samples = {"sample_request.json", "sample_response.json"}
    assert names == {"model.onnx", "schema.json", *samples}


def test_other_answers_than_pythons_fail_the_export_and_leave_nothing(
    detector, tmp_path, monkeypatch
):
    monkeypatch.setitem(onnx_handlers.HANDLERS, "Log1p", onnx_handlers.HANDLERS["Log"])
    with pytest.raises(ExportError, match="output 'score' of signature 'model.onnx'"):
        detector.export(tmp_path / "new" / "m", format="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "wanted"), [(4, 2), (2, 4), (7, 5), (5, 13), (9, 9)])
def test_the_weights_of_resizing_are_those_of_tensorflow(size, wanted):
    import tensorflow as tf

    pixels = np.eye(size, dtype="float32")[None, :, :, None]
    resized = tf.image.resize(pixels, (wanted, size), antialias=True)[0, :, :, 0]
    np.testing.assert_allclose(onnx_handlers.resizing_weights(size, wanted), resized, atol=1e-6)
