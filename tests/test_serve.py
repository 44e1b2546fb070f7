# ruff: noqa: E402
"""The development server: what clients of TensorFlow Serving's REST API expect, over sockets."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

for package in ("prometheus_client", "starlette", "uvicorn", "httpx"):
    pytest.importorskip(package, reason="needs the extra [serve], and httpx")

import httpx
import tensorflow as tf
import uvicorn
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from vae_anomaly import cli
from vae_anomaly.serving import export
from vae_anomaly.serving.check import TOLERANCE
from vae_anomaly.serving.dev_server import answers, app, rest, serve
from vae_anomaly.serving.dev_server.folder import ServedFolder
from vae_anomaly.serving.dev_server.model import ServedModel
from vae_anomaly.serving.dev_server.refusals import RequestError
from vae_anomaly.serving.dev_server.request_queue import RequestQueue
from vae_anomaly.serving.tables import MISSING_NUMBER, input_names
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.schema import Schema

TABLE = "/v1/models/table:predict"
HALF = "/v1/models/half:predict"
ROWS = [
    {"amount": 1.5, "count": 2, "city": "Oslo", "member": True},
    {"amount": -3, "count": 0, "city": "Tromsø", "member": False},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


class Table(tf.Module):
    """Several named inputs of several types, several outputs."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float64, name="amount"),
            tf.TensorSpec([None], tf.int64, name="count"),
            tf.TensorSpec([None], tf.string, name="city"),
            tf.TensorSpec([None], tf.bool, name="member"),
        ]
    )
    def score(self, amount, count, city, member):
        total = amount + tf.cast(count, tf.float64)
        return {
            "score": tf.cast(total, tf.float32) / 5,
            "is_anomaly": member,
            "parts": tf.stack([amount, total], axis=1),
            "city": tf.strings.join([city, city]),
            "city_bytes": city,
            "n": count,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def sizes(self, image_bytes):
        return {"size": tf.strings.length(image_bytes)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="x")])
    def refuse(self, x):
        with tf.control_dependencies([tf.debugging.assert_positive(x, message="not positive")]):
            return {"x": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="x")])
    def mean(self, x):
        return {"mean": tf.reduce_mean(x)}


class Half(tf.Module):
    """A single input, a single output."""

    def __init__(self, plus):
        super().__init__()
        self.plus = tf.Variable(plus)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x / 2 + self.plus}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """SavedModels: of a table, of halves plus 3 and plus 4."""
    folder = tmp_path_factory.mktemp("saved")
    table = Table()
    tf.saved_model.save(
        table,
        str(folder / "table"),
        signatures={
            "serving_default": table.score,
            "sizes": table.sizes,
            "refuse": table.refuse,
            "mean": table.mean,
        },
    )
    for plus in (3, 4):
        half = Half(float(plus))
        tf.saved_model.save(half, str(folder / f"plus{plus}"), signatures=half.__call__)
    return folder


@pytest.fixture(scope="session")
def served(saved, tmp_path_factory):
    """The models ``table``, in version 7, and ``half``, in version 123."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(saved / "table", folder / "table" / "7")
    shutil.copytree(saved / "plus3", folder / "half" / "00000123")
    return folder


@contextlib.contextmanager
def running(folder, load=ServedModel, **limits):
    """A client of a server of these models in a thread of this process."""
    models = ServedFolder(folder, load=load, report=lambda line: None)
    models.poll(is_first=True)
    application = app.create_app(models, **{"max_request_bytes": 100_000, **limits})
    server = uvicorn.Server(uvicorn.Config(application, log_level="critical"))
    with serve.listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60
            ) as client:
                client.end_server = lambda: setattr(server, "should_exit", True)
                yield client
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def client(served):
    with running(served) as client:
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*infinite cells")
def test_an_export_answers_over_http_as_python_does(table_detector, table, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.0)
    table_detector.export(tmp_path / "served" / "fraud")
    rows = table.iloc[:30].reset_index(drop=True).astype({"count": float})
    rows.loc[0, :] = None
    rows.loc[1, "city"] = "never seen"
    rows.loc[2, "amount"] = np.inf
    rows.loc[3, "amount"] = -np.inf
    rows = rows.astype(table.astype({"count": float}).dtypes)
    arrays = frame_arrays(rows, Schema.of_kinds(table_detector.scorer_.preprocessor.kinds))
    inputs = {
        input_names(list(arrays))[name]: [MISSING_NUMBER if x != x else x for x in array.tolist()]
        for name, array in arrays.items()
    }
    with running(tmp_path / "served") as client:
        content = json.dumps({"inputs": inputs})
        answers = [client.post("/v1/models/fraud:predict", content=content) for _ in range(2)]
    assert answers[0].content == answers[1].content
    outputs = answers[0].json()["outputs"]
    scores = table_detector.score_samples(rows)
    np.testing.assert_allclose(outputs["score"], scores, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_array_equal(outputs["is_anomaly"], table_detector.predict(rows) == -1)
    np.testing.assert_allclose(outputs["p_value"], table_detector.p_values(rows), atol=1e-6)


@pytest.fixture
def halves(saved, tmp_path):
    """A folder with ``half`` in version 1, which adds 3."""
    shutil.copytree(saved / "plus3", tmp_path / "served" / "half" / "1")
    return tmp_path / "served"


def wait_until_closed(url):
    """Until a server that is about to end takes no more connections."""
    deadline = time.monotonic() + 60
    with contextlib.suppress(httpx.TransportError):
        while time.monotonic() < deadline:
            httpx.get(url)
            time.sleep(0.05)


def states(status):
    return [(version["version"], version["state"]) for version in status["model_version_status"]]


def refused(response, status, *words):
    """The answer is an error with these words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    for word in words:
        assert word in body["error"], body["error"]


def test_rows_of_several_inputs_are_answered_by_rows_of_several_outputs(client):
    response = client.post(TABLE, json={"instances": ROWS})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "predictions": [
            {
                "city": "OsloOslo",
                "city_bytes": {"b64": base64.b64encode(b"Oslo").decode()},
                "is_anomaly": True,
                "n": 2,
                "parts": [1.5, 3.5],
                "score": 0.7,
            },
            {
                "city": "TromsøTromsø",
                "city_bytes": {"b64": base64.b64encode("Tromsø".encode()).decode()},
                "is_anomaly": False,
                "n": 0,
                "parts": [-3.0, -3.0],
                "score": -0.6,
            },
        ]
    }


def test_columns_are_answered_by_columns(client):
    response = client.post(TABLE, json={"inputs": COLUMNS})
    outputs = response.json()["outputs"]
    assert outputs["score"] == [0.7, -0.6]
    assert outputs["parts"] == [[1.5, 3.5], [-3.0, -3.0]]
    assert list(outputs) == ["city", "city_bytes", "is_anomaly", "n", "parts", "score"]


def test_a_single_input_is_a_bare_value_and_a_single_output_loses_its_name(client):
    x = [[1.0, 2.0], [3.0, 4.0]]
    y = [[3.5, 4.0], [4.5, 5.0]]
    assert client.post(HALF, json={"instances": x}).json() == {"predictions": y}
    assert client.post(HALF, json={"inputs": x}).json() == {"outputs": y}


def test_a_single_input_may_be_named_too(client):
    y = {"predictions": [[3.5, 4.0]]}
    assert client.post(HALF, json={"instances": [{"x": [1, 2]}]}).json() == y
    assert client.post(HALF, json={"inputs": {"x": [[1, 2]]}}).json() == {"outputs": [[3.5, 4.0]]}


def test_bytes_are_read_from_base64(client):
    image = {"b64": base64.b64encode(b"\xff\x00\xfe").decode()}
    for request in (
        {"signature_name": "sizes", "instances": [image, "ab"]},
        {"signature_name": "sizes", "instances": [{"image_bytes": image}, {"image_bytes": "ab"}]},
    ):
        assert client.post(TABLE, json=request).json() == {"predictions": [3, 2]}


def test_the_default_signature_can_be_named_and_a_version_asked_for(client):
    request = {"signature_name": "serving_default", "instances": [[1, 2]]}
    for path in ("/v1/models/half/versions/123:predict", "/V1/Models/half/Versions/123:Predict"):
        assert client.post(path, json=request).json() == {"predictions": [[3.5, 4.0]]}


def test_infinities_pass_both_ways_as_literals(client):
    response = client.post(HALF, content='{"instances": [[Infinity, -Infinity]]}')
    assert response.text == '{"predictions": [[Infinity, -Infinity]]}'


def test_nan_is_written_as_a_literal(client):
    rows = '{"instances": [{"amount": Infinity, "count": 0, "city": "", "member": true}]}'
    assert '"parts": [Infinity, Infinity]' in client.post(TABLE, content=rows).text
    assert answers.to_body({"y": np.array([np.nan])}, "outputs") == b'{"outputs": [NaN]}'


def test_float32_is_written_with_few_digits_that_give_the_same_float32_again():
    short = np.array([0.2, 1 / 3, 16777216.0, -3.0, 0.0], np.float32)
    assert answers.to_body({"y": short}, "outputs") == (
        b'{"outputs": [0.2, 0.333333343, 16777216.0, -3.0, 0.0]}'
    )
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), np.float32([np.inf, -np.inf, -0.0])])
    written = json.loads(answers.to_body({"y": x}, "outputs"))["outputs"]
    np.testing.assert_array_equal(np.array(written, np.float64).astype(np.float32), x)
    assert np.signbit(written[-1])
    assert answers.to_body({"y": np.array(0.2, np.float32)}, "outputs") == b'{"outputs": 0.2}'


def test_strings_that_are_not_utf_8_leave_as_they_are():
    body = answers.to_body({"y": np.array([b"\xff"], object)}, "outputs")
    assert body == b'{"outputs": ["\xff"]}'


def test_the_type_of_the_body_need_not_be_declared(client):
    response = client.post(
        HALF, content=b'{"inputs": [[1, 2]]}', headers={"content-type": "text/plain"}
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ("JSON Parse error: The document is empty",)),
        (b"instances = [1, 2]", ("JSON Parse error",)),
        (b'{"instances": [[1, 2],]}', ("JSON Parse error",)),
        (b'{"instances": ["\xff"]}', ("JSON Parse error", "utf-8")),
        (b'{"instances": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", ("nested too deeply",)),
        (b"[[1, 2]]", ("Is not object",)),
        (b'{"instances": [[NaN, 1]]}', ("Received: NaN", "missing value")),
        (b'{"instances": [[1e999, 1]]}', ("too big",)),
        (b'{"instances": [[1, 2]], "instances": [[1, 2]]}', ("'instances' appears more than",)),
        (b"{}", ("Missing 'inputs' or 'instances' key",)),
        (b'{"inputs": [[1, 2]], "instances": [[1, 2]]}', ("only one of",)),
        (b'{"instances": 1}', ("'instances' to be an list/array",)),
        (b'{"instances": []}', ("No values in 'instances' array",)),
        (b'{"signature_name": 100, "instances": [[1, 2]]}', ("must be a string value",)),
        (b'{"signature_name": "q", "instances": [[1, 2]]}', ('name: "q" not found in signature',)),
        (b'{"signature_name": "__saved_model_init_op", "instances": [1]}', ("input map",)),
        (b'{"instances": [{"z": [1, 2]}]}', ("element 0", "Missing: x", "Unknown: z")),
        (b'{"instances": [{"x": [1, 2]}, [1, 2]]}', ("Expecting object", "item 1")),
        (b'{"inputs": {"z": [[1, 2]]}}', ("Missing: x", "Unknown: z")),
        (b'{"inputs": {"\\ud800": [[1, 2]]}}', ("Unknown: \ud800",)),
        (b'{"instances": [[1, "a"]]}', ("'x' at [0, 1]", '"a"', "DT_FLOAT", "Send a number")),
        (b'{"instances": [[1, true]]}', ("true", "Send a number")),
        (b'{"instances": [[1, null]]}', ("null", "how the model spells a missing one")),
        (b'{"instances": [[1, {"a": 1}]]}', ("'x' at [0, 1]",)),
        (b'{"instances": [[1, 2], {"x": [1, 2]}]}', ("different sizes, or values among lists",)),
        (b'{"instances": [[1, 1e39]]}', ("1e+39", "3.4028235e+38")),
        (b'{"instances": [[1, 16777217]]}', ("16777217", "within 16777215")),
        (b'{"instances": [[1, 1' + b"0" * 400 + b"]]}", ("'x' at [0, 1]",)),
        (b'{"instances": [[1, 1' + b"0" * 5000 + b"]]}", ("JSON Parse error",)),
        (b'{"instances": [[1, 2], [3]]}', ("different sizes",)),
        (b'{"instances": [[1, 2], 3]}', ("values among lists",)),
        (b'{"instances": [[1, 2, 3]]}', ("expected a tensor of shape [-1,2]. Received: [1,3]",)),
        (b'{"instances": [1, 2]}', ("expected a tensor of shape [-1,2]. Received: [2]",)),
        (b'{"inputs": [1, 2]}', ("Received: [2]",)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else value[:40].decode("ascii", "replace"),
)
def test_what_is_wrong_with_a_request_is_said_with_400(client, body, words):
    refused(client.post(HALF, content=body), 400, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 2.0}, ("'count'", "2.0", "DT_INT64", "Send an integer")),
        ({"count": True}, ("'count'", "true")),
        ({"count": 2**63}, ("'count'", "from -9223372036854775808 to 9223372036854775807")),
        ({"amount": "1.5"}, ("'amount'", '"1.5"', "DT_DOUBLE")),
        ({"amount": 2**53}, ("'amount'", "within 9007199254740991")),
        ({"amount": [1.5]}, ("'amount'", "values among lists")),
        ({"city": 3}, ("'city'", "DT_STRING", "Send a string")),
        ({"city": {"b64": "a"}}, ("'city'", "base64")),
        ({"city": {"b65": "aa"}}, ("'city'", "base64")),
        ({"city": "\ud800"}, ("'city'", "surrogate")),
        ({"member": 1}, ("'member'", "true or false")),
        ({"city": None}, ("'city'", "null")),
        ({"country": "Norway"}, ("element 1", "Unknown: country")),
    ],
)
def test_a_wrong_value_is_named_with_its_input_and_row(client, change, words):
    rows = [ROWS[0], {**ROWS[1], **change}]
    where = ("element 1",) if "country" in change else ()
    response = client.post(TABLE, content=json.dumps({"instances": rows}))
    refused(response, 400, *words, *where)


def test_a_plain_list_is_not_enough_for_several_inputs(client):
    refused(client.post(TABLE, json={"instances": [1, 2]}), 400, "plain list", "amount, city")
    refused(client.post(TABLE, json={"inputs": [1, 2]}), 400, "plain value/list", "amount, city")


def test_no_rows_can_be_asked_about_by_column_only(client):
    empty = {name: [] for name in COLUMNS}
    outputs = client.post(TABLE, json={"inputs": empty}).json()["outputs"]
    assert outputs["score"] == outputs["city"] == outputs["city_bytes"] == []


def test_an_error_of_the_graph_is_400_where_tensorflow_blames_the_argument(client):
    request = {"signature_name": "refuse", "instances": [-1.0]}
    refused(client.post(TABLE, json=request), 400, "not positive")


def test_an_output_without_rows_has_no_place_in_predictions(client):
    request = {"signature_name": "mean", "instances": [1.0, 3.0]}
    refused(client.post(TABLE, json=request), 400, "Tensor name: mean has no shape information")
    request = {"signature_name": "mean", "inputs": [1.0, 3.0]}
    assert client.post(TABLE, json=request).json() == {"outputs": 2.0}


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        (
            "POST",
            "/v1/models/nobody:predict",
            404,
            "Servable not found for request: Latest(nobody)",
        ),
        (
            "POST",
            "/v1/models/half/versions/9:predict",
            404,
            "Servable not found for request: Specific(half, 9)",
        ),
        ("POST", "/v1/models/half/labels/new:predict", 400, "version label: new"),
        ("POST", f"/v1/models/half/versions/{2**64}:predict", 400, "Failed to convert version"),
        (
            "POST",
            f"/v1/models/half/versions/{'9' * 5000}:predict",
            400,
            "Failed to convert version",
        ),
        ("POST", f"/v1/models/half/versions/{'0' * 5000}9:predict", 404, "Specific(half, 9)"),
        ("POST", "/v1/models/half/versions/a:predict", 400, "Malformed request: POST /v1/models/"),
        ("POST", "/v1/models/half:classify", 501, "classify"),
        ("POST", "/v1/models/half:predict?x=1", 400, "Malformed request"),
        ("POST", "/v1/models/half", 400, "Malformed request"),
        ("POST", "/v1/models:predict", 400, "Malformed request"),
        ("GET", "/v1/models/versions/1", 400, "Missing model name in request."),
        ("POST", "/v1/foo", 400, "Malformed request"),
        ("GET", "/v1/models/half:predict", 400, "Malformed request"),
        ("PUT", "/v1/models/half:predict", 400, "Malformed request: PUT"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("GET", "/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
        ("GET", "/v1/models/nobody/metadata", 404, "Servable not found"),
        ("GET", "/", 404, "Not Found"),
        ("GET", "/models", 404, "Not Found"),
        ("BREW", "/v1/models/half", 405, "Method Not Allowed"),
    ],
)
def test_wrong_paths_have_the_status_of_the_original(client, method, path, status, word):
    content = b'{"instances": [[1, 2]]}' if method == "POST" else None
    refused(client.request(method, path, content=content), status, word)


@pytest.mark.parametrize(("levels", "word"), [(33, "Received more"), (990, "nested too deep")])
def test_lists_nested_too_deep_are_400(client, levels, word):
    content = '{"instances": ' + "[" * levels + '"a"' + "]" * levels + "}"
    refused(client.post(HALF, content=content), 400, word)


def test_a_version_that_cannot_be_looked_through_is_left_for_later(folder):
    folder.write("1")
    folder.models.poll(is_first=True)
    folder.write("2")
    (folder.path / "m" / "2" / "link").symlink_to(folder.path / "nowhere")
    for _ in range(3):
        folder.models.poll()
    assert folder.models.find("m").version == 1
    (folder.path / "m" / "2" / "link").unlink()
    for _ in range(2):
        folder.models.poll()
    assert folder.models.find("m").version == 2


def test_malformed_json_is_400_even_for_a_model_that_there_is_not(client):
    refused(client.post("/v1/models/nobody:predict", content=b"{"), 400, "JSON Parse error")


def test_a_long_request_is_413_with_and_without_a_declared_length(client):
    body = b'{"instances": [' + b"1," * 60_000 + b"1]}"
    refused(client.post(HALF, content=body), 413, "100000 bytes", "--max-request-mib")
    refused(client.post(HALF, content=iter([body])), 413, "100000 bytes")


def test_a_request_of_too_many_values_is_413_before_it_is_parsed(served):
    with running(served, max_request_values=100) as client:
        for body in (b"[],", b"{},", b"1,"):
            content = b'{"instances": [' + body * 100 + b"not JSON"
            refused(client.post(HALF, content=content), 413, "100 commas", "--max-request-values")
        rows = [[1, 2]] * 40
        assert client.post(HALF, json={"instances": rows[:30]}).status_code == 200
        refused(client.post(HALF, json={"instances": rows}), 413, "Received 121")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda values: st.lists(values) | st.dictionaries(st.text(max_size=3), values),
    )
)
def test_a_request_has_at_most_as_many_values_as_are_counted(value):
    def count(part):
        parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        return 1 + sum(map(count, parts))

    document = {"value": value}
    body = json.dumps(document).encode()
    most = sum(map(body.count, (b",", b"[", b"{"))) + 1
    assert count(document) <= most
    assert rest.parse(body, most_values=most) == document


def test_columns_of_unequal_length_are_named(client):
    columns = {**COLUMNS, "count": [1, 2, 3]}
    refused(client.post(TABLE, json={"inputs": columns}), 400, "Received 2 in most", "count: 3")
    # One value would be spread over all rows by the graph.
    columns = {**COLUMNS, "count": [1]}
    refused(client.post(TABLE, json={"inputs": columns}), 400, "as many rows", "count: 1")


def test_a_body_that_trickles_is_408_and_ends_the_connection(served):
    with running(served, read_seconds=0.2) as client:
        address = client.base_url.host, client.base_url.port
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(
                b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
            )
            answer = b"".join(iter(lambda: connection.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 408") and b"within 0.2 seconds" in answer
        assert client.post(HALF, json={"instances": [[1, 2]]}).status_code == 200


def test_requests_beyond_the_bound_are_503_until_there_is_room(saved, halves):
    begun, go, answered = threading.Event(), threading.Event(), []

    class Waiting(ServedModel):
        def run(self, signature, arrays):
            begun.set()
            assert go.wait(60)
            return super().run(signature, arrays)

    def ask():
        answered.append(client.post(HALF, json={"instances": [[1, 2]]}).status_code)

    with running(halves, Waiting, max_requests=1) as client:
        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(60)
        response = client.post(HALF, json={"instances": [[1, 2]]})
        refused(response, 503, "fewer requests")
        assert response.headers["retry-after"] == "1"
        go.set()
        thread.join()
        ask()
    assert answered == [200, 200]


def test_bodies_of_all_requests_together_are_bounded():
    queue = RequestQueue(most_requests=9, most_bytes=100)
    with queue.place() as hold:
        assert hold(60)
        with queue.place() as hold_more:
            assert hold_more(40)
            assert not hold_more(1)
        assert hold(40)
    with queue.place() as hold:
        assert hold(100)
    queue.close()


def test_requests_are_answered_in_the_order_in_which_they_came():
    queue = RequestQueue(most_requests=100, most_bytes=100)
    begun = []

    async def ask():
        await asyncio.gather(*(queue.run(begun.append, n) for n in range(50)))

    with contextlib.closing(queue):
        queue._pool._max_workers = 1
        asyncio.run(ask())
    assert begun == list(range(50))


def metrics_of(client):
    """Samples of ``/metrics``, by name and labels."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_count_requests_rows_anomalies_scores_and_versions(served):
    with running(served) as client:
        rows = [{**ROWS[0], "amount": amount} for amount in (-20.0, 4.0, float("inf"))]
        for _ in range(2):
            client.post(TABLE, content=json.dumps({"instances": [*rows, ROWS[1]]}))
        client.post(TABLE, content=b"{")
        client.post(HALF, json={"instances": [[1, 2]]})
        for name in ("nobody", "nobody-else"):
            client.post(f"/v1/models/{name}:predict", json={"instances": [[1, 2]]})
        found = metrics_of(client)
    assert found["model_server_requests_total", "table", "200"] == 2
    assert found["model_server_requests_total", "table", "400"] == 1
    assert found["model_server_requests_total", "half", "200"] == 1
    assert found["model_server_requests_total", "", "404"] == 2
    assert not any("nobody" in key for key in found)
    assert found["model_server_request_seconds_count", "table"] == 3
    assert found["model_server_rows_total", "table"] == 8
    assert found["model_server_anomalies_total", "table"] == 6
    buckets = [found["model_server_score_bucket", to, "table"] for to in ("-3.0", "0.0", "2.0")]
    assert [*buckets, found["model_server_score_count", "table"]] == [2, 4, 6, 8]
    assert ("model_server_rows_total", "half") not in found
    assert found["model_server_requests_held",] == 0
    assert found["model_server_version_state", "table", "AVAILABLE", "7"] == 1


def test_a_bug_is_counted_as_500(served):
    class Broken(ServedModel):
        def run(self, signature, arrays):
            raise ZeroDivisionError("a bug")

    with running(served, Broken) as client:
        # After a bug the server ends the connection, perhaps while the next request is on its way.
        ends = {"Connection": "close"}
        client.post(HALF, json={"instances": [[1, 2]]}, headers=ends)
        assert metrics_of(client)["model_server_requests_total", "half", "500"] == 1


def test_who_asks_before_sending_a_long_request_is_told_not_to(client):
    address = client.base_url.host, client.base_url.port
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(
            b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_the_status_of_a_model(client):
    status = {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert client.get("/v1/models/half").json() == status
    assert client.get("/v1/models/half/versions/123").json() == status


def test_the_metadata_of_a_model(client):
    metadata = client.get("/v1/models/half/versions/123/metadata").json()
    assert client.get("/v1/models/half/metadata").json() == metadata
    assert metadata["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
            "unknown_rank": False,
        },
        "name": "serving_default_x:0",
    }
    assert list(signature["outputs"]) == ["y"]
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_a_bug_is_answered_with_500_as_json(served):
    class Broken(ServedModel):
        def run(self, signature, arrays):
            raise ZeroDivisionError("a bug")

    with running(served, Broken) as client:
        refused(client.post(HALF, json={"instances": [[1, 2]]}), 500, "ZeroDivisionError: a bug")


@pytest.fixture
def waiting(halves):
    """A server whose version 1 has a request under way until ``go`` is set; its answer."""
    begun, go, answers = threading.Event(), threading.Event(), []

    class Waiting(ServedModel):
        def run(self, signature, arrays):
            if self.version == 1:
                begun.set()
                assert go.wait(60)
            return super().run(signature, arrays)

    def ask():
        answers.append(client.post(HALF, json={"instances": [[1, 2]]}).json())

    with running(halves, Waiting) as client:
        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(60)

        def answer():
            go.set()
            thread.join()
            return answers

        yield client, answer
        go.set()


def test_a_request_under_way_does_not_keep_others_waiting(waiting):
    client, answer = waiting
    assert client.get("/v1/models/half").status_code == 200
    assert client.post(HALF, content=b"{").status_code == 400
    assert answer() == [{"predictions": [[3.5, 4.0]]}]


@pytest.mark.slow
def test_a_request_under_way_is_answered_by_the_version_that_it_began_with(waiting, saved, halves):
    client, answer = waiting
    shutil.copytree(saved / "plus4", halves / "half" / "2")
    deadline = time.monotonic() + 60
    while (
        states(client.get("/v1/models/half").json())[0] != ("2", "AVAILABLE")
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    response = client.post(HALF, json={"instances": [[1, 2]]})
    assert response.json() == {"predictions": [[4.5, 5.0]]}
    assert answer() == [{"predictions": [[3.5, 4.0]]}]


def test_a_request_under_way_is_answered_before_the_server_ends(waiting):
    client, answer = waiting
    client.end_server()
    wait_until_closed(client.base_url)
    assert answer() == [{"predictions": [[3.5, 4.0]]}]


def test_models_saved_the_old_way_are_served_with_names_that_are_no_identifiers(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        y = tf.compat.v1.placeholder(tf.float32, None)
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "old" / "1"))
        signature = tf.compat.v1.saved_model.build_signature_def(
            *(
                {key: tf.compat.v1.saved_model.build_tensor_info(tensor) for key, tensor in part}
                for part in ([("a column", x), ("b/c", y)], [("a sum", x + y)])
            ),
            "tensorflow/serving/predict",
        )
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    with running(tmp_path) as client:
        rows = [{"a column": 1, "b/c": 2}, {"a column": 3, "b/c": 4}]
        response = client.post("/v1/models/old:predict", json={"instances": rows})
        assert response.json() == {"predictions": [3.0, 7.0]}


# What is in the folder, and what is served of it, without TensorFlow.


class FakeModel:
    def __init__(self, name, version, folder):
        if (folder / "saved_model.pb").read_text() != "good":
            raise ValueError("damaged\nin two lines")
        self.name, self.version = name, version


@pytest.fixture
def folder(tmp_path):
    """Writes versions of a model, and the models that are served of them."""
    lines = []
    models = ServedFolder(tmp_path, load=FakeModel, report=lines.append)

    class Folder:
        path = tmp_path

        @staticmethod
        def write(version, content="good", name="m"):
            (tmp_path / name / version).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / version / "saved_model.pb").write_text(content)

    Folder.models, Folder.lines = models, lines
    return Folder


def test_the_highest_integer_is_served(folder):
    for version in ("2", "10", "9"):
        folder.write(version)
    folder.models.poll(is_first=True)
    assert folder.models.find("m").version == 10
    assert folder.lines == ["serving m version 10"]


def test_names_that_are_no_integers_and_folders_without_a_model_are_ignored(folder):
    for version in ("1", "v2", "3.0", "-4", "5_", ".tmp-6", "²", "٣"):
        folder.write(version)
    (folder.path / "m" / "99").mkdir()
    (folder.path / "m" / "100").write_text("a file")
    folder.models.poll(is_first=True)
    assert folder.models.find("m").version == 1
    assert states(folder.models.status("m")) == [("1", "AVAILABLE")]


def test_a_new_version_is_served_once_its_files_stand_still(folder):
    folder.write("1")
    folder.models.poll(is_first=True)
    before = folder.models.find("m")
    folder.write("2", "goo")
    folder.models.poll()
    folder.write("2", "good")
    folder.models.poll()
    assert folder.models.find("m") is before
    folder.models.poll()
    assert folder.models.find("m").version == 2
    assert states(folder.models.status("m")) == [("2", "AVAILABLE"), ("1", "END")]
    with pytest.raises(RequestError, match=r"Specific\(m, 1\)"):
        folder.models.find("m", 1)


def test_a_damaged_version_leaves_the_one_before_and_is_said_once_in_one_line(folder):
    folder.write("1")
    folder.write("2", "damaged")
    folder.write("1", name="other")
    folder.models.poll(is_first=True)
    folder.models.poll()
    folder.models.poll()
    assert folder.models.find("m").version == 1
    assert folder.models.names == ["m", "other"]
    (said,) = [line for line in folder.lines if "2" in line]
    assert "not served" in said and "ValueError: damaged in two lines" in said
    newest = folder.models.status("m")["model_version_status"][0]
    assert newest["state"] == "END"
    assert newest["status"] == {
        "error_code": "UNKNOWN",
        "error_message": "ValueError: damaged in two lines",
    }


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: (path / "round").symlink_to("round"), "symbolic links"),
        (lambda path: (path / "nowhere").symlink_to("not there"), "No such file"),
        (lambda path: os.mkfifo(path / "fifo"), "neither a file nor a folder"),
        (lambda path: replace(path / "saved_model.pb", os.mkfifo), "neither a file nor a folder"),
        (lambda path: replace(path / "saved_model.pb", lambda p: p.symlink_to(p)), "symbolic"),
        (lambda path: replace(path / "saved_model.pb", lambda p: p.symlink_to("x")), "No such"),
        (lambda path: replace(path, lambda p: p.symlink_to(p)), "symbolic links"),
        (lambda path: replace(path, lambda p: p.symlink_to("not there")), "No such file"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.skipif(os.name != "posix", reason="needs links and FIFOs")
def test_one_version_that_cannot_be_read_is_said_and_the_others_are_served(
    folder, spoil, word, is_first
):
    if not is_first:
        folder.models.poll(is_first=True)
    for version in ("1", "2"):
        folder.write(version)
    folder.write("1", name="other")
    spoil(folder.path / "m" / "2")
    for first in (is_first, False, False):
        folder.models.poll(is_first=first)
    assert folder.models.find("m").version == 1
    assert folder.models.names == ["m", "other"]
    (said,) = [line for line in folder.lines if "not served" in line]
    assert str(folder.path / "m" / "2") in said and word in said
    assert states(folder.models.status("m")) == [("2", "END"), ("1", "AVAILABLE")]


def replace(path, make):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def test_a_damaged_version_is_tried_again_when_it_changes(folder):
    folder.write("1", "damaged")
    folder.models.poll(is_first=True)
    folder.write("1", "good")
    folder.models.poll()
    folder.models.poll()
    assert folder.models.find("m").version == 1


def test_a_version_whose_folder_goes_gives_way_to_the_one_before(folder):
    folder.write("1")
    folder.write("2")
    folder.models.poll(is_first=True)
    shutil.rmtree(folder.path / "m" / "2")
    folder.models.poll()
    folder.models.poll()
    assert folder.models.find("m").version == 1
    assert states(folder.models.status("m")) == [("2", "END"), ("1", "AVAILABLE")]


def test_a_model_whose_folder_goes_altogether_stays(folder):
    folder.write("1")
    folder.models.poll(is_first=True)
    shutil.rmtree(folder.path / "m")
    folder.models.poll()
    assert folder.models.find("m").version == 1


def test_a_model_that_appears_is_served(folder):
    folder.write("1")
    folder.models.poll(is_first=True)
    folder.write("1", name="later")
    folder.models.poll()
    folder.models.poll()
    assert folder.models.names == ["later", "m"]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("saved_model.pb", lambda whole: b"\xff\x00\xff", "DecodeError"),
        ("saved_model.pb", lambda whole: b"", "with the tag 'serve'"),
        ("variables/variables.data-00000-of-00001", lambda whole: whole[:-7], "Read less bytes"),
    ],
)
def test_a_damaged_saved_model_is_reported_in_one_line(halves, name, content, word):
    path = halves / "half" / "1" / name
    path.write_bytes(content(path.read_bytes()))
    lines = []
    models = ServedFolder(halves, report=lines.append)
    models.poll(is_first=True)
    assert models.names == []
    assert len(lines) == 1 and "does not load" in lines[0] and word in lines[0], lines
    assert "\n" not in lines[0]


# The command, as a process that is spoken to through a socket.


class Process:
    """``vae-anomaly serve`` at a free port; ``url`` is the first model's."""

    def __init__(self, folder, *options):
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vae_anomaly", "serve", str(folder), "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://(.*):(\d+)/.*", line):
                self.url, self.host, self.port = found[0], found[1], int(found[2])
                return
        raise AssertionError(self.lines)

    def end(self, how=signal.SIGINT):
        self.process.send_signal(how)
        _, rest_of_it = self.process.communicate(timeout=60)
        return rest_of_it


@pytest.mark.slow
def test_a_new_version_takes_over_under_load_without_a_request_lost(saved, halves):
    server = Process(halves)
    stop, answers = threading.Event(), []

    def ask(rows):
        x = [[float(row), 0.0] for row in range(rows)]
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                response = client.post(server.url, json={"instances": x})
                plus = {round(y[1], 6) for y in response.json().get("predictions", [[0, -1]])}
                answers.append((response.status_code, *plus))

    threads = [threading.Thread(target=ask, args=(rows,)) for rows in (1, 1, 20, 200)]
    try:
        for thread in threads:
            thread.start()
        shutil.copytree(saved / "plus4", halves / "half" / ".aside")
        (halves / "half" / ".aside").rename(halves / "half" / "2")
        deadline = time.monotonic() + 120
        while answers[-1:] != [(200, 4.0)] and time.monotonic() < deadline:
            time.sleep(0.05)
        status = httpx.get(server.url.removesuffix(":predict")).json()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        said = server.end()
    assert set(answers) == {(200, 3.0), (200, 4.0)}
    assert states(status) == [("2", "AVAILABLE"), ("1", "END")]
    assert server.process.returncode == 0
    assert said.splitlines()[-2:] == ["serving half version 2", "stopped"]


def test_the_command_listens_at_the_loopback_unless_told_otherwise():
    defaults = {parameter.name: parameter.default for parameter in cli.serve.params}
    assert defaults["host"] == "127.0.0.1"


@pytest.mark.slow
def test_the_command_listens_at_the_loopback_only_and_says_where(halves):
    server = Process(halves)
    try:
        assert server.host == "127.0.0.1"
        assert server.url.endswith("/v1/models/half:predict")
        assert "serving half version 1\n" in server.lines
        assert not any("cuda" in line.lower() for line in server.lines), server.lines
    finally:
        assert server.end(signal.SIGTERM) == "stopped\n"
    assert server.process.returncode == 0


@pytest.mark.slow
def test_a_request_that_is_too_long_or_broken_off_leaves_the_server_in_order(halves):
    server = Process(halves, "--max-request-mib", "1")
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/models/half:predict", b"1" * 2**25)
        assert connection.getresponse().status == 413
        connection.close()
        with socket.create_connection(("127.0.0.1", server.port)) as broken:
            broken.sendall(
                b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
            )
        response = httpx.post(server.url, json={"instances": [[1, 2]]})
        assert response.json() == {"predictions": [[3.5, 4.0]]}
    finally:
        assert server.end() == "stopped\n"


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_who_never_finishes_asking(halves):
    server = Process(halves)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(
            b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        )
        server.process.send_signal(signal.SIGINT)
        wait_until_closed(server.url)
        assert server.end() == "stopped\n"
    assert server.process.returncode == 0


def command(*arguments):
    return CliRunner().invoke(cli.main, ["serve", *map(str, arguments)])


def assert_one_line(result, *words):
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_a_port_that_is_taken_is_one_line(halves):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_line(command(halves, "--port", port), f"--port {port}", "in use", "another port")


def test_answers_are_sent_without_waiting_for_more():
    with serve.listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_an_address_of_another_machine_is_one_line(halves):
    assert_one_line(command(halves, "--host", "192.0.2.1", "--port", 0), "--host 192.0.2.1")


def test_a_folder_without_models_is_one_line(halves, tmp_path):
    (tmp_path / "empty").mkdir()
    expected = "NAME/<integer>/saved_model.pb"
    assert_one_line(command(tmp_path / "empty"), expected, "vae-anomaly export")
    assert_one_line(command(tmp_path / "nowhere"), expected, "no such folder")
    assert_one_line(command(halves / "half"), expected, f"the folder that it is in, {halves}")


def test_a_folder_where_no_model_loads_is_an_error(halves):
    (halves / "half" / "1" / "saved_model.pb").write_bytes(b"\xff")
    result = command(halves, "--port", 0)
    assert result.exit_code == 2
    said = result.stderr.splitlines()
    assert "does not load" in said[0]
    assert said[1].startswith("error: Expected a model that loads") and len(said) == 2


def test_without_the_extra_the_command_says_what_to_install(halves, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    for module in ("app", "serve"):
        monkeypatch.delitem(sys.modules, f"vae_anomaly.serving.dev_server.{module}")
    assert_one_line(command(halves), "no starlette", "pip install '.[serve]'")
