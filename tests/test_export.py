"""What TensorFlow Serving gets: the same scores, by documented names, from conservative ops."""

import copy
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from tensorflow.core.protobuf import saved_model_pb2

from vae_anomaly import AutoencoderDetector, VAEDetector, cli, load_detector
from vae_anomaly.scoring.tables import SCORE_TYPES
from vae_anomaly.serving import export, saved_model
from vae_anomaly.serving.check import TOLERANCE, ExportError
from vae_anomaly.serving.served import SERVED_OUTPUTS
from vae_anomaly.serving.tables import MISSING_NUMBER, ServedTable, input_names, raw_columns
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.rules import category_text
from vae_anomaly.tables.schema import Schema

ROOT = pathlib.Path(__file__).parents[1]
# The default; the others are a second look.
SCORES = [
    pytest.param(name, marks=[] if name == "composite" else [pytest.mark.slow])
    for name in SCORE_TYPES
]
SMALL = {"hidden_units": (8,), "max_steps": 10, "random_state": 0}
# TensorFlow's own ops, all of those of the tests' detectors: no Python function, no random numbers,
# no state but variables and hash tables. DisableCopyOnRead, MergeV2Checkpoints, SaveV2 and
# ShardedFilename are only in the function that saves, which no server calls.
CONSERVATIVE_OPS = (
    "Abs AddN AddV2 Any ArgMax ArgMin Asinh AssignVariableOp BiasAdd Cast ConcatV2 Const "
    "DisableCopyOnRead DivNoNan Exp Expm1 Fill Floor FloorDiv FloorMod GatherV2 Greater "
    "GreaterEqual HashTableV2 Identity IsFinite IsNan Less LessEqual Log Log1p LogSoftmax "
    "LogicalAnd LogicalNot LogicalOr LookupTableFindV2 LookupTableImportV2 MatMul Max Maximum "
    "Mean MergeV2Checkpoints Min Minimum Mul Neg NoOp NotEqual OneHot Pack PadV2 Placeholder "
    "Range ReadVariableOp RealDiv Relu Reshape RestoreV2 Round SaveV2 SegmentSum Select SelectV2 "
    "Shape ShardedFilename Sigmoid Sign Softmax Softplus Split Sqrt Square "
    "StatefulPartitionedCall StatelessIf StaticRegexFullMatch StaticRegexReplace StopGradient "
    "StridedSlice StringJoin Sub Sum Tanh TopKV2 Transpose Unpack UpperBound VarHandleOp ZerosLike"
)


@pytest.fixture(scope="module")
def frame(table):
    """Every kind of column, a name that TensorFlow does not take, and a constant."""
    length = np.random.default_rng(1).normal(3.0, 1.0, len(table))
    return table.assign(**{"petal length (cm)": length, "fixed": 1e9})


@pytest.fixture(scope="module")
def mixed(frame):
    return VAEDetector(**SMALL).fit(frame)


@pytest.fixture(scope="module")
def quick():
    """A detector that is quick to export, for what does not depend on its graph."""
    X = np.random.default_rng(0).normal(size=(20, 2))
    return AutoencoderDetector(hidden_units=(), max_steps=1, random_state=0).fit(X)


@pytest.fixture(scope="module")
def served(mixed, tmp_path_factory):
    """The folder of a version, written by the command."""
    folder = tmp_path_factory.mktemp("served")
    mixed.save(folder / "m")
    arguments = ["export", str(folder / "m"), "--output", str(folder / "fraud")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "largest_difference", lambda *_: 0.0)
        result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"fraud/1: answers as .* largest difference of 5 scores: \S+\n", result.stderr)
    return folder / "fraud" / "1"


@pytest.mark.slow
def test_another_process_answers_the_sample(mixed, tmp_path):
    assert mixed.export(tmp_path / "m").n_rows == 5


@pytest.fixture(scope="module")
def edge_rows(frame):
    """Rows of all sorts; the row i of the last ones is edgy in its own way."""
    rows = frame.iloc[:25].reset_index(drop=True).astype({"count": float})
    edges = rows.iloc[:6].copy()
    edges.loc[0, :] = None
    edges.loc[1, "city"] = "never seen"
    edges.loc[2, "amount"] = np.inf
    edges.loc[3, "amount"] = -np.inf
    edges.loc[4, "fixed"] = 1e9 + 5
    edges.loc[5, "grade"] = None
    return pd.concat([rows, edges.astype(rows.dtypes)], ignore_index=True)


@pytest.fixture
def unchecked(monkeypatch):
    """Leave out the check by another process, where the test does its own."""
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.0)


def tensors(detector, frame):
    """The columns of a frame as the inputs of an export."""
    arrays = frame_arrays(frame, Schema.of_kinds(detector.scorer_.preprocessor.kinds))
    names = input_names(list(arrays))
    return {names[name]: tf.constant(array) for name, array in arrays.items()}


@functools.cache
def loaded(folder):
    return tf.saved_model.load(str(folder))


def signatures(folder):
    return loaded(folder).signatures


def ask(folder, inputs, signature="serving_default"):
    outputs = signatures(folder)[signature](**inputs)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def assert_close(received, expected, size):
    difference = np.abs(received - expected).T
    assert (difference <= TOLERANCE * (1 + size)).all(), difference.max()


def assert_same_bytes(answer, other):
    for name, tensor in answer.items():
        if tensor.dtype != tf.string:
            assert tensor.numpy().tobytes() == other[name].numpy().tobytes()


def strict_json(path):
    """Read JSON that has no NaN and no Infinity."""
    return json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)


def sample_inputs(folder):
    rows = strict_json(folder / "sample_request.json")["instances"]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def assert_answers_its_sample(folder):
    """An export gives the answer that is stored beside it."""
    answer = ask(folder, {name: tf.constant(a) for name, a in sample_inputs(folder).items()})
    expected = strict_json(folder / "sample_response.json")["predictions"]
    scores = np.array([row["score"] for row in expected])
    assert set(expected[0]) == set(answer)
    for name in ("score", "decision", "feature_log_prob"):
        assert_close(answer[name], np.array([row[name] for row in expected]), np.abs(scores))
    assert answer["is_anomaly"].tolist() == [row["is_anomaly"] for row in expected]
    np.testing.assert_allclose(answer["p_value"], [row["p_value"] for row in expected], atol=1e-6)


def graph_of(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0]


@pytest.mark.filterwarnings("ignore:.*infinite cells")
def test_python_the_saved_detector_and_the_savedmodel_give_the_same_scores(
    mixed, served, edge_rows, tmp_path
):
    mixed.save(tmp_path / "m")
    scores = mixed.score_samples(edge_rows)
    np.testing.assert_array_equal(load_detector(tmp_path / "m").score_samples(edge_rows), scores)
    answer = ask(served, tensors(mixed, edge_rows))
    assert set(answer) == set(SERVED_OUTPUTS)
    explanation = mixed.explain(edge_rows)["contribution"]
    parts = explanation[list(mixed.feature_names_in_)].to_numpy()
    size = np.maximum(np.abs(scores), np.abs(parts).max(axis=1))
    assert_close(answer["score"], scores, size)
    assert_close(answer["decision"], mixed.decision_function(edge_rows), size)
    assert_close(answer["feature_log_prob"], parts, size)
    np.testing.assert_array_equal(answer["is_anomaly"], mixed.predict(edge_rows) == -1)
    np.testing.assert_allclose(answer["p_value"], mixed.p_values(edge_rows), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*infinite cells")
def test_explain_adds_contributions_and_expected_values_that_are_pythons(mixed, served, edge_rows):
    answer = ask(served, tensors(mixed, edge_rows), "explain")
    explanation, reconstructed = mixed.explain(edge_rows), mixed.reconstruct(edge_rows)
    size = np.abs(answer["score"])
    total = answer["feature_log_prob"].sum(axis=1) + answer["latent"] + answer["baseline"]
    assert_close(total, answer["score"], size)
    for column, name in input_names(list(mixed.feature_names_in_)).items():
        contribution = answer[f"{name}_contribution"]
        assert_close(contribution, explanation["contribution"][column].to_numpy(), size)
        expected = reconstructed[column]
        received = answer[f"{name}_expected"]
        if received.dtype == object:
            assert [text.decode() for text in received] == expected.fillna("").tolist()
        elif expected.dtype.kind == "M":
            moments = pd.to_datetime(received, unit="s")
            assert (np.abs(moments - expected) < pd.Timedelta("1min")).all()
        else:
            np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


def test_latent_gives_the_latent_means(mixed, served, frame):
    z_mean = ask(served, tensors(mixed, frame), "latent")["z_mean"]
    np.testing.assert_allclose(z_mean, mixed.transform(frame), atol=1e-5)


@pytest.mark.parametrize("score_type", SCORES)
def test_every_score_type_is_served_from_rows_as_a_matrix(
    detectors, rows, score_type, tmp_path, unchecked
):
    detector = detectors[score_type]
    folder = detector.export(tmp_path / "m").folder
    matrix = rows.copy()
    matrix[0] = np.nan
    matrix[1, 2] = np.nan
    matrix[2, 1] += 1e6
    size = np.abs(detector.score_samples(matrix))
    by_row = ask(folder, {"rows": tf.constant(matrix)}, "matrix")
    assert_close(by_row["score"], detector.score_samples(matrix), size)
    by_column = ask(
        folder, {f"x{index}": tf.constant(column) for index, column in enumerate(matrix.T)}
    )
    for name, array in by_row.items():
        np.testing.assert_array_equal(array, by_column[name])
    assert ops_of(folder) <= set(CONSERVATIVE_OPS.split())


@pytest.mark.slow
def test_an_autoencoder_is_served(table_autoencoder, table, tmp_path, unchecked):
    folder = table_autoencoder.export(tmp_path / "m").folder
    scores = table_autoencoder.score_samples(table)
    answer = ask(folder, tensors(table_autoencoder, table))
    assert_close(answer["score"], scores, np.abs(scores))
    assert ops_of(folder) <= set(CONSERVATIVE_OPS.split())
    assert_answers_its_sample(folder)


@pytest.mark.slow
def test_a_table_of_categories_alone_has_a_matrix_of_text(trainings, tmp_path, unchecked):
    frame = pd.DataFrame({"a": ["x", "y"] * 20, "b": ["u", "v", "w", None] * 10})
    detector = VAEDetector(score_type="elbo", **SMALL).fit(frame)
    folder = detector.export(tmp_path / "m").folder
    answer = ask(folder, {"rows": tf.constant([["x", ""], ["y", "v"]])}, "matrix")
    expected = detector.score_samples(pd.DataFrame({"a": ["x", "y"], "b": [None, "v"]}))
    assert_close(answer["score"], expected, np.abs(expected))


def test_a_table_of_several_types_has_no_matrix(served):
    assert sorted(signatures(served)) == ["explain", "latent", "serving_default"]


def test_the_same_request_gets_the_same_bytes(mixed, served, edge_rows):
    function = signatures(served)["explain"]
    inputs = tensors(mixed, edge_rows)
    assert_same_bytes(function(**inputs), function(**inputs))


@pytest.mark.slow
def test_the_same_request_gets_the_same_bytes_of_a_model_that_is_loaded_again(
    mixed, served, edge_rows
):
    inputs = tensors(mixed, edge_rows)
    other = tf.saved_model.load(str(served)).signatures["explain"]
    assert_same_bytes(signatures(served)["explain"](**inputs), other(**inputs))


def test_a_row_is_served_alone_as_among_others(mixed, served, edge_rows):
    function = signatures(served)["serving_default"]
    inputs = tensors(mixed, edge_rows)
    together = function(**inputs)["score"].numpy()
    alone = [
        function(**{name: column[i : i + 1] for name, column in inputs.items()})["score"].numpy()[0]
        for i in range(len(together))
    ]
    assert_close(np.array(alone), together, np.abs(together))


def test_no_rows_get_no_answers(mixed, served, frame):
    inputs = {name: column[:0] for name, column in tensors(mixed, frame).items()}
    assert {len(array) for array in ask(served, inputs).values()} == {0}


def test_a_missing_number_is_nan_or_the_number_that_json_can_carry(mixed, served, frame):
    inputs = tensors(mixed, frame.iloc[:4])
    by_nan, by_number = dict(inputs), dict(inputs)
    for name in ("amount", "member", "day"):
        by_nan[name] = tf.fill([4], tf.constant(np.nan, tf.float64))
        by_number[name] = tf.fill([4], tf.constant(MISSING_NUMBER, tf.float64))
    received = ask(served, by_number)
    for name, array in ask(served, by_nan).items():
        np.testing.assert_array_equal(received[name], array)


def test_minus_infinity_is_a_number_and_not_missing(mixed, served, frame):
    inputs = tensors(mixed, frame.iloc[:1])
    far = ask(served, {**inputs, "amount": tf.constant([-np.inf], tf.float64)})
    assert far["feature_log_prob"][0, 0] < -100


@pytest.mark.parametrize(
    "text",
    [
        *("", "Oslo", "Tromsø", "3", "3.0", "-3.0", "-0.0", "-00.0", "3.00", "3.10", ".0", "1e3"),
        *("true", "TRUE", "False", "fAlSe", "truely", "nan", "x\0", "3.0\0\0"),
        *("2020-01-31", "2020-01-31 00:00:00", "2020-01-31T00:00", "2020-01-31 10:00"),
        *("2020-01-31 10:00:00.500", "2020-01-31T10:00:00.000", "2020-01-31 10:00:00.050100"),
        *("12020-01-31 10:00", "9 days 00:00:00", "-9 days +10:00:00.50", "9 days +00:00:00"),
        *("2020-01-31 10:00:00Z", "2020-01-31 00:00:00+00:00", "2020-01-31T10:00:00.10-00:00"),
        *("2020-01-31 10Z", "2020-01-31 25:00Z", "2020-01-31 10:61:00Z", "2020-01-31T10:00Z"),
        *("2020-01-31 10", "at 2020-01-31 10:00", "2020-01-31 10:00:00.", "2020-01-31\n00:00:00"),
    ],
)
def test_a_category_may_be_spelled_as_in_a_file(text):
    raw = raw_columns({"c": tf.constant([text])}, {"c": "categorical"})["c"]
    assert raw.numpy()[0].decode() == category_text(text)


@pytest.mark.slow
def test_threshold_and_calibration_are_those_of_the_moment(quick, tmp_path, unchecked):
    detector, rng = copy.deepcopy(quick), np.random.default_rng(3)
    detector.calibrate(rng.normal(size=(30, 2))).set_threshold(false_alarm_rate=0.3)
    X = rng.normal(size=(20, 2))
    answer = ask(detector.export(tmp_path / "m").folder, {"rows": tf.constant(X)}, "matrix")
    decisions, size = detector.decision_function(X), np.abs(detector.score_samples(X))
    assert_close(answer["decision"], decisions, size)
    np.testing.assert_array_equal(answer["is_anomaly"], decisions < 0)
    assert 0 < answer["is_anomaly"].sum() < 20
    np.testing.assert_allclose(answer["p_value"], detector.p_values(X), atol=1e-6)


@given(st.lists(st.text(max_size=6), unique=True, max_size=8))
def test_input_names_are_valid_and_never_collide(columns):
    names = input_names(columns)
    assert list(names) == columns
    assert len({name.lower() for name in names.values()}) == len(columns)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in names.values())
    assert input_names(columns) == names


def test_a_column_whose_name_can_be_an_input_keeps_it():
    columns = ["a b", "a_b", "rows", "Age", "age", "age_2", "x1_", "score"]
    changed = {"a b": "a_b_2", "age": "age_3"}
    assert input_names(columns) == {name: name for name in columns} | changed


@pytest.mark.slow
def test_columns_with_awkward_names_are_exported(trainings, tmp_path, unchecked):
    names = ["class", "self", "b64", "rows", "score", "Age", "age", "a/b", "a b", "æøå", "", "1"]
    X = np.random.default_rng(0).normal(size=(60, len(names) + 1))
    frame = pd.DataFrame(X, columns=[*names, "sent_bytes"])
    detector = VAEDetector(score_type="elbo", **SMALL).fit(frame)
    folder = detector.export(tmp_path / "m").folder
    scores = detector.score_samples(frame)
    assert_close(ask(folder, tensors(detector, frame))["score"], scores, np.abs(scores))
    columns = strict_json(folder / "schema.json")["columns"]
    assert {column["name"]: column["input"] for column in columns} == input_names(list(frame))


def test_no_output_has_a_name_that_means_base64(served):
    for function in signatures(served).values():
        assert not any(name.endswith("_bytes") for name in function.structured_outputs)


@pytest.mark.slow
def test_versions_are_integers_that_go_up(quick, tmp_path, unchecked):
    base = tmp_path / "new" / "m"
    assert quick.export(base).folder == base / "1"
    assert quick.export(base, version=7).folder == base / "7"
    (base / "9.tmp").mkdir()
    (base / "v12").mkdir()
    assert quick.export(base).folder == base / "8"
    assert {path.name for path in base.iterdir()} == {"1", "7", "8", "9.tmp", "v12"}


def test_a_version_that_exists_is_never_touched(quick, tmp_path):
    (tmp_path / "m" / "3").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"m/3\. Choose another"):
        quick.export(tmp_path / "m", version=3)
    assert list((tmp_path / "m" / "3").iterdir()) == []
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["3"]


@pytest.mark.slow
def test_versions_are_what_tensorflow_serving_takes_for_numbers(quick, tmp_path, unchecked):
    (tmp_path / "m" / "007").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"m/7\. Choose another"):
        quick.export(tmp_path / "m", version=7)
    (tmp_path / "m" / f"{2**63 - 1}").mkdir()
    with pytest.raises(ValueError, match=f"at most.*Received: {2**63}"):
        quick.export(tmp_path / "m")


def test_a_folder_that_tensorflow_takes_for_a_pattern_is_refused(quick, tmp_path):
    with pytest.raises(ValueError, match=r"without \*, \? and \["):
        quick.export(tmp_path / "a[1]")
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_is_no_number_is_refused(quick, tmp_path):
    other = copy.deepcopy(quick)
    with pytest.raises(ValueError, match="Expected a finite"):
        other.offset_ = -np.inf
    other.scorer_.offset.assign(-np.inf)
    with pytest.raises(ValueError, match="Expected a finite threshold"):
        other.export(tmp_path / "m")


def test_a_version_that_another_export_takes_first_is_never_touched(quick, tmp_path, monkeypatch):
    def overtaken(*_):
        (tmp_path / "m" / "1").mkdir()
        (tmp_path / "m" / "1" / "theirs").touch()
        return 0.0

    monkeypatch.setattr(export, "largest_difference", overtaken)
    assert quick.export(tmp_path / "m").folder.name == "2"
    assert [path.name for path in (tmp_path / "m" / "1").iterdir()] == ["theirs"]


@pytest.mark.parametrize("version", [-1, 1.5, "1", True])
def test_a_version_is_an_integer(quick, tmp_path, version):
    with pytest.raises(ValueError, match="Expected `version`"):
        quick.export(tmp_path / "m", version=version)


def test_a_server_sees_nothing_before_the_export_is_complete(quick, tmp_path, monkeypatch):
    seen = []

    def look(part, *_):
        seen.extend(path.name for path in (tmp_path / "m").iterdir())
        assert (part / "schema.json").exists()
        return 0.0

    monkeypatch.setattr(export, "largest_difference", look)
    quick.export(tmp_path / "m")
    assert len(seen) == 1
    assert not seen[0].isdigit()
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


@pytest.mark.slow
def test_other_answers_than_pythons_fail_the_export_and_leave_nothing(quick, tmp_path, monkeypatch):
    true_answers = ServedTable.answers

    def wrong_answers(served, raw):
        answers = true_answers(served, raw)
        return {**answers, "score": answers["score"] + 0.01}

    monkeypatch.setattr(ServedTable, "answers", wrong_answers)
    with pytest.raises(ExportError, match="output 'score' .* up to 0.01 off. Nothing was exported"):
        quick.export(tmp_path / "new" / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def other_program(monkeypatch, tmp_path_factory):
    """Have another program check exports than ``answer.py``."""

    def use(text):
        program = tmp_path_factory.mktemp("program") / "answer.py"
        program.write_text(text)
        monkeypatch.setattr(saved_model, "PROGRAM", program)

    return use


def test_an_export_that_does_not_load_fails_and_leaves_nothing(quick, tmp_path, other_program):
    other_program("raise RuntimeError('no such op')")
    (tmp_path / "m" / "5").mkdir(parents=True)
    with pytest.raises(ExportError, match="no such op"):
        quick.export(tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["5"]


@pytest.mark.slow
def test_the_check_cannot_import_this_package(quick, tmp_path, other_program):
    start = "tf.saved_model.load("
    text = saved_model.PROGRAM.read_text("utf-8")
    assert start in text
    other_program(text.replace(start, f"__import__('vae_anomaly') and {start}"))
    with pytest.raises(ExportError, match="import of vae_anomaly halted"):
        quick.export(tmp_path / "m")


def test_what_a_killed_export_left_is_removed_and_told(quick, tmp_path, unchecked):
    left = tmp_path / "m" / ".export.part" / "export" / "variables"
    left.mkdir(parents=True)
    (left / "variables.index").touch()
    (tmp_path / "m" / "notes.txt").touch()
    with pytest.warns(UserWarning, match="left by a process that was killed"):
        quick.export(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"1", "notes.txt"}


def test_only_a_fitted_detector_can_be_exported(tmp_path):
    with pytest.raises(NotFittedError):
        AutoencoderDetector().export(tmp_path / "m")


def test_a_column_of_numbers_that_would_be_missing_is_refused(trainings, tmp_path):
    X = np.linspace(-1.2e308, -1.1e308, 40)[:, None]
    detector = AutoencoderDetector(**SMALL).fit(X)
    with pytest.raises(ValueError, match="Column 'x0': expected numbers far above -9e"):
        detector.export(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_the_sample_request_gets_the_sample_response(served):
    request = strict_json(served / "sample_request.json")
    assert request["signature_name"] == "serving_default"
    assert set(sample_inputs(served)["amount"] == MISSING_NUMBER) == {True, False}
    assert_answers_its_sample(served)


def test_the_schema_tells_the_input_of_each_column_and_how_it_is_spelled(served, frame):
    schema = strict_json(served / "schema.json")
    columns = {column["name"]: column for column in schema["columns"]}
    assert list(columns) == list(frame)
    assert columns["petal length (cm)"]["input"] == "petal_length_cm"
    assert columns["city"]["dtype"] == "string"
    assert columns["city"]["missing"] == [""]
    assert columns["city"]["levels"] == ["Bergen", "Oslo", "Tromsø"]
    assert columns["amount"]["missing"] == ["NaN", MISSING_NUMBER]
    assert columns["member"]["units"] == "0 or 1"
    assert columns["day"]["units"] == "seconds since 1970-01-01 UTC"


@pytest.mark.slow
def test_saved_model_cli_lists_the_documented_names_and_types(served):
    shown = subprocess.run(
        [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--all"]
        + ["--dir", str(served)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    types = {"DT_DOUBLE": "float64", "DT_FLOAT": "float32", "DT_STRING": "string"}
    types["DT_BOOL"] = "bool"
    found = {}
    sections = re.split(r"signature_def\['(\w+)'\]:", shown.split("Concrete Functions:")[0])[1:]
    for key, section in zip(sections[::2], sections[1::2], strict=True):
        listed = re.findall(
            r"(inputs|outputs)\['(\w+)'\] tensor_info:\s+dtype: (\w+)\s+shape: \((.*?)\)", section
        )
        found[key] = {
            side: {
                name: {
                    "dtype": types[dtype],
                    "shape": [None if size == "-1" else int(size) for size in shape.split(", ")],
                }
                for where, name, dtype, shape in listed
                if where == side
            }
            for side in ("inputs", "outputs")
        }
    found.pop("__saved_model_init_op")
    assert found == strict_json(served / "schema.json")["signatures"]


def ops_of(folder):
    graph = graph_of(folder).graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def test_the_graph_has_conservative_ops_alone(served):
    assert ops_of(served) <= set(CONSERVATIVE_OPS.split())


def test_the_warm_up_file_decodes_as_published_and_replays(served):
    prediction_log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = served / "assets.extra" / "tf_serving_warmup_requests"
    model = signatures(served)
    sizes = {key: [] for key in model}
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "fraud"
        function = model[request.model_spec.signature_name]
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        outputs = function(**inputs)
        sizes[request.model_spec.signature_name].append(len(next(iter(outputs.values()))))
        assert request.SerializeToString(deterministic=True)
    assert sizes == {key: [1, 5] for key in model}


@pytest.mark.slow
def test_a_c_program_that_loads_it_as_a_server_does_gets_the_expected_answer(served, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here: cc, gcc and clang are missing")
    libraries = pathlib.Path(tf.sysconfig.get_lib())
    if not (libraries / "libtensorflow_cc.so.2").exists():
        pytest.skip("this TensorFlow comes without libtensorflow_cc.so.2")
    program = tmp_path / "serve"
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", str(ROOT / "tests" / "serve.c")]
        + ["-o", str(program), "-I", tf.sysconfig.get_include(), "-L", str(libraries)]
        + ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
        + [f"-Wl,-rpath,{libraries}"],
        check=True,
    )
    signature = graph_of(served).signature_def["serving_default"]
    lines = []
    for name, array in sample_inputs(served).items():
        dtype = "string" if array.dtype.kind == "U" else "double"
        tensor = signature.inputs[name].name.split(":")[0]
        lines.append("\t".join(["in", tensor, dtype, *map(str, array.tolist())]))
    for name in SERVED_OUTPUTS:
        lines.append("\t".join(["out", *signature.outputs[name].name.split(":")]))
    ran = subprocess.run(
        [str(program), str(served)],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ran.returncode == 0, ran.stderr
    received = {
        name: np.array([float(field) for field in line.split("\t")])
        for name, line in zip(SERVED_OUTPUTS, ran.stdout.splitlines(), strict=True)
    }
    expected = strict_json(served / "sample_response.json")["predictions"]
    size = max(abs(row["score"]) for row in expected)
    for name, array in received.items():
        flat = np.array([row[name] for row in expected], dtype=np.float64).ravel()
        assert_close(array, flat, size)


def test_the_command_refuses_a_version_that_exists_with_one_line(served):
    model, output = served.parents[1] / "m", served.parent
    arguments = ["export", str(model), "--output", str(output), "--version", "1"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "Choose another" in result.stderr


@pytest.mark.slow
def test_the_command_fails_with_one_line_where_answers_differ(mixed, tmp_path, other_program):
    mixed.save(tmp_path / "m")
    other_program("import sys; sys.exit('first line\\nlast line')")
    arguments = ["export", str(tmp_path / "m"), "--output", str(tmp_path / "served")]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "last line" in result.stderr
    assert not (tmp_path / "served").exists()


EXPORTS = sorted((ROOT / "saved_models").glob("*/[0-9]*"))


def test_there_is_a_stored_export():
    assert EXPORTS


@pytest.mark.parametrize(
    "folder", EXPORTS, ids=lambda folder: f"{folder.parent.name}/{folder.name}"
)
def test_an_export_of_an_earlier_release_still_answers(folder):
    assert_answers_its_sample(folder)
