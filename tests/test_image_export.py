"""Served images: the scores and maps of Python, from pixels and from files."""

import base64
import functools
import json
import re
import threading

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow.core.protobuf import saved_model_pb2

from vae_anomaly import AutoencoderDetector, VAEDetector, cli
from vae_anomaly.images.decoding import decode
from vae_anomaly.images.form import ImageForm
from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.serving import export
from vae_anomaly.serving.check import TOLERANCE
from vae_anomaly.serving.served import SERVED_OUTPUTS

SMALL = {"hidden_units": (8,), "random_state": 0}
# TensorFlow's own ops, those of the tests' detectors: ScaleAndTranslate resizes, DecodeImage reads
# files in a loop (While, TensorList...), If tells grey from colour. As for tables, there is no
# Python function, no random number and no state but variables.
CONSERVATIVE_OPS = (
    "Add AddV2 All AssignVariableOp BiasAdd BroadcastTo Cast ConcatV2 Const Conv2D "
    "Conv2DBackpropInput DecodeImage DisableCopyOnRead Einsum EnsureShape Equal Exp ExpandDims "
    "Fill Greater Identity If IsNan Less Log LogicalAnd LoopCond MatMul Max Maximum Mean "
    "MergeV2Checkpoints Minimum MirrorPad Mul Neg NoOp Pack Pad Placeholder Prod Range "
    "ReadVariableOp RealDiv Relu Reshape RestoreV2 Round SaveV2 ScaleAndTranslate Select SelectV2 "
    "Shape ShardedFilename Sigmoid Softplus Square Squeeze StatefulPartitionedCall StatelessIf "
    "StatelessWhile StaticRegexFullMatch StopGradient StridedSlice StringJoin Sub Sum Tanh "
    "TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack "
    "Tile Transpose Unpack UpperBound VarHandleOp While ZerosLike"
)


@pytest.fixture
def unchecked(monkeypatch):
    """Leave out the check by another process, where the test does its own."""
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.0)


@pytest.fixture(scope="module")
def served(image_detector, tmp_path_factory):
    """The folder of a version, written by the command."""
    folder = tmp_path_factory.mktemp("images")
    image_detector.save(folder / "m")
    arguments = ["export", str(folder / "m"), "--output", str(folder / "served" / "digits")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "largest_difference", lambda *_: 0.0)
        result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"digits/1: answers as .* difference of 4 scores: \S+\n", result.stderr)
    return folder / "served" / "digits" / "1"


@pytest.mark.slow
def test_another_process_answers_the_sample(image_detector, tmp_path):
    assert image_detector.export(tmp_path / "m").n_rows == 4


@pytest.fixture(scope="module")
def resizing(stripes, tmp_path_factory):
    """A detector of grey 8 x 8 images, fitted on larger ones in colour, and its export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.vae.training.Trainer.train", lambda *_, **__: {"step": []})
        detector = VAEDetector(image_shape=(8, 8, 1), **SMALL).fit(stripes)
        patch.setattr(export, "largest_difference", lambda *_: 0.0)
        return detector, detector.export(tmp_path_factory.mktemp("resizing") / "m").folder


@pytest.fixture(scope="module")
def edge_images(digits):
    """Digits, and images unlike them: blank, full, inverted, noise, a checkerboard."""
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, (8, 8)).astype(np.uint8)
    edges = [np.zeros_like(board), np.full_like(board, 255), 255 - digits[0], noise, board]
    return np.concatenate([digits[:20], edges])


@functools.cache
def load(folder):
    return tf.saved_model.load(str(folder))


def ask(folder, signature="serving_default", **inputs):
    function = load(folder).signatures[signature]
    outputs = function(**{name: tf.constant(array) for name, array in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def png(image):
    return tf.io.encode_png(image if image.ndim == 3 else image[..., None]).numpy()


def strict_json(path):
    return json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)


def ops_of(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def assert_answers_as_python(answer, detector, images):
    scores = detector.score_samples(images)
    explanation = detector.explain(images)
    parts = explanation["contribution"]
    largest = np.maximum(np.abs(parts).max(axis=(1, 2)), np.abs(explanation["latent"]))
    size = TOLERANCE * (1 + np.maximum(np.abs(scores), largest))
    assert (np.abs(answer["score"] - scores) <= size).all()
    decision = detector.decision_function(images)
    assert (np.abs(answer["decision"] - decision) <= size).all()
    assert (np.abs(answer["feature_log_prob"] - parts) <= size[:, None, None]).all()
    # The threshold is the score of a calibration image.
    assert ((answer["is_anomaly"] == (decision < 0)) | (np.abs(decision) <= size)).all()
    # Images that were calibrated by tie with themselves.
    calibration = np.asarray(detector.scorer_.calibration_scores)
    assert (answer["p_value"] >= p_values(scores - size, calibration) - 1e-6).all()
    assert (answer["p_value"] <= p_values(scores + size, calibration) + 1e-6).all()
    if "expected" in answer:
        assert (np.abs(answer["latent"] - explanation["latent"]) <= size).all()
        assert (np.abs(answer["baseline"] - explanation["baseline"]) <= size).all()
        expected = explanation["expected"].reshape(answer["expected"].shape)
        np.testing.assert_allclose(answer["expected"], expected, atol=1e-3)


def test_served_scores_and_maps_are_pythons(image_detector, served, edge_images):
    answer = ask(served, images=edge_images[..., None])
    assert set(answer) == set(SERVED_OUTPUTS)
    assert_answers_as_python(answer, image_detector, edge_images)


def test_explain_adds_the_expected_images_and_what_makes_the_score_up(
    image_detector, served, edge_images
):
    answer = ask(served, "explain", images=edge_images[..., None])
    assert set(answer) == {*SERVED_OUTPUTS, "latent", "baseline", "expected"}
    assert_answers_as_python(answer, image_detector, edge_images)
    total = answer["feature_log_prob"].sum(axis=(1, 2)) + answer["latent"] + answer["baseline"]
    np.testing.assert_allclose(total, answer["score"], rtol=1e-9)


def test_latent_gives_the_latent_means(image_detector, served, digits):
    z_mean = ask(served, "latent", images=digits[..., None])["z_mean"]
    np.testing.assert_allclose(z_mean, image_detector.transform(digits), atol=1e-5)


def test_a_file_is_scored_as_the_image_in_it(image_detector, served, edge_images):
    files = np.array([png(image) for image in edge_images], dtype=object)
    answer = ask(served, "encoded", image_bytes=files)
    assert set(answer) == set(SERVED_OUTPUTS)
    assert_answers_as_python(answer, image_detector, edge_images)


def test_files_in_colour_and_of_other_sizes_are_brought_to_the_models(served, digits):
    large = np.repeat(np.repeat(digits[0], 2, axis=0), 3, axis=1)
    coloured = np.stack([large] * 3, axis=-1)
    files = [png(digits[0]), png(large), png(coloured), tf.io.encode_jpeg(coloured).numpy()]
    scores = ask(served, "encoded", image_bytes=np.array(files, dtype=object))["score"]
    assert scores[1] == pytest.approx(scores[2], abs=0.05 * abs(scores[1]))
    shown = [decode(file, ImageForm((8, 8, 1))).numpy() for file in files]
    np.testing.assert_allclose(ask(served, images=np.array(shown))["score"], scores, rtol=TOLERANCE)
    np.testing.assert_array_equal(shown[0][..., 0], digits[0])


@pytest.mark.slow
def test_images_in_colour_are_served(colour_image_detector, stripes, tmp_path, unchecked):
    folder = colour_image_detector.export(tmp_path / "m").folder
    images = np.concatenate([stripes, 255 - stripes[:5]])
    assert_answers_as_python(ask(folder, "explain", images=images), colour_image_detector, images)
    files = np.array([png(image) for image in images], dtype=object)
    answer = ask(folder, "encoded", image_bytes=files)
    assert_answers_as_python(answer, colour_image_detector, images)
    grey = np.repeat(stripes[:1, ..., :1], 3, axis=-1)
    answer = ask(folder, "encoded", image_bytes=[png(stripes[0, ..., :1])])
    assert_answers_as_python(answer, colour_image_detector, grey)
    assert ops_of(folder) <= set(CONSERVATIVE_OPS.split())


@pytest.mark.slow
def test_an_autoencoder_of_images_is_served(image_autoencoder, edge_images, tmp_path, unchecked):
    folder = image_autoencoder.export(tmp_path / "m").folder
    answer = ask(folder, "explain", images=edge_images[..., None])
    assert_answers_as_python(answer, image_autoencoder, edge_images)
    assert ops_of(folder) <= set(CONSERVATIVE_OPS.split())


@pytest.mark.slow
def test_a_model_that_resizes_takes_any_size_in_grey_or_in_colour(resizing, stripes, digits):
    detector, folder = resizing
    assert ops_of(folder) <= set(CONSERVATIVE_OPS.split())
    larger = np.repeat(stripes, 2, axis=1)
    for images in (stripes, larger, stripes[..., :1], digits[:9, ..., None]):
        assert_answers_as_python(ask(folder, images=images), detector, images)
    answer = ask(folder, "encoded", image_bytes=[png(image) for image in larger])
    assert_answers_as_python(answer, detector, larger)
    grey = stripes[..., 0]
    answer = ask(folder, "encoded", image_bytes=[png(image) for image in grey])
    assert_answers_as_python(answer, detector, grey)
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(folder, images=stripes[..., :2])


@pytest.mark.slow
def test_images_of_sixteen_bits_are_served_as_whole_numbers(tmp_path, unchecked, trainings):
    images = np.random.default_rng(0).integers(1000, 5000, (40, 8, 8)).astype(np.uint16)
    detector = AutoencoderDetector(image_shape=(8, 8, 1), **SMALL).fit(images)
    folder = detector.export(tmp_path / "m").folder
    served = images[..., None].astype(np.int32)
    assert_answers_as_python(ask(folder, "explain", images=served), detector, images)
    assert sorted(load(folder).signatures) == ["explain", "latent", "serving_default"]
    assert strict_json(folder / "schema.json")["images"]["dtype"] == "uint16"


@pytest.mark.slow
def test_images_of_floats_are_served_without_files(tmp_path, unchecked, trainings):
    images = np.random.default_rng(0).uniform(0, 16, (40, 8, 8)).astype(np.float32)
    detector = AutoencoderDetector(value_range=(0, 16), **SMALL).fit(images)
    folder = detector.export(tmp_path / "m").folder
    assert_answers_as_python(ask(folder, "explain", images=images[..., None]), detector, images)
    model = load(folder)
    assert sorted(model.signatures) == ["explain", "latent", "serving_default"]
    assert strict_json(folder / "schema.json")["images"]["value_range"] == [0, 16]
    assert not (folder / "sample_encoded_request.json").exists()
    # A server cannot refuse values that Python refuses: they count as the nearest.
    far, near = images[:2, ..., None].copy(), images[:2, ..., None].copy()
    far[:, 0], near[:, 0] = [[[99.0]], [[np.nan]]], [[[16.0]], [[0.0]]]
    np.testing.assert_array_equal(
        ask(folder, images=far)["score"], ask(folder, images=near)["score"]
    )


def test_the_same_images_get_the_same_bytes_and_no_images_no_answers(served, digits):
    model = load(served)
    images = tf.constant(digits[:7, ..., None])
    first, again = (model.signatures["explain"](images=images) for _ in range(2))
    for name, tensor in first.items():
        assert tensor.numpy().tobytes() == again[name].numpy().tobytes()
    for name, empty in (("serving_default", {"images": images[:0]}), ("encoded", None)):
        empty = empty or {"image_bytes": tf.constant([], tf.string)}
        assert {len(t) for t in model.signatures[name](**empty).values()} == {0}


def test_what_is_no_image_file_is_an_error_of_the_request(served):
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            ask(served, "encoded", image_bytes=[content])


@pytest.mark.parametrize(
    ("request_name", "signature"),
    [("sample_request", "serving_default"), ("sample_encoded_request", "encoded")],
)
def test_the_sample_requests_get_the_sample_response(served, request_name, signature):
    request = strict_json(served / f"{request_name}.json")
    assert request["signature_name"] == signature
    (name,) = request["instances"][0]
    cells = [row[name] for row in request["instances"]]
    if signature == "encoded":
        array = np.array([base64.b64decode(cell["b64"]) for cell in cells], dtype=object)
    else:
        array = np.array(cells, dtype=np.uint8)
    answer = ask(served, signature, **{name: array})
    expected = strict_json(served / "sample_response.json")["predictions"]
    for key in ("score", "feature_log_prob"):
        shown = np.array([row[key] for row in expected])
        np.testing.assert_allclose(answer[key], shown, rtol=TOLERANCE, atol=TOLERANCE)
    assert sum(path.stat().st_size for path in served.rglob("*")) < 1_000_000


def test_the_schema_tells_sizes_and_signatures(served):
    schema = strict_json(served / "schema.json")
    images = schema["images"]
    assert (images["height"], images["width"], images["channels"]) == (8, 8, 1)
    assert (images["input"], images["dtype"]) == ("images", "uint8")
    inputs = {key: signature["inputs"] for key, signature in schema["signatures"].items()}
    fixed = {"images": {"dtype": "uint8", "shape": [None, 8, 8, 1]}}
    assert inputs == {
        **dict.fromkeys(("serving_default", "explain", "latent"), fixed),
        "encoded": {"image_bytes": {"dtype": "string", "shape": [None]}},
    }
    outputs = schema["signatures"]["explain"]["outputs"]
    assert outputs["feature_log_prob"]["shape"] == [None, 8, 8]
    assert outputs["expected"] == {"dtype": "float32", "shape": [None, 8, 8, 1]}
    assert set(outputs) <= {*schema["meanings"]}


@pytest.mark.slow
def test_the_schema_of_a_model_that_resizes_tells_of_any_size(resizing):
    free = strict_json(resizing[1] / "schema.json")
    assert free["images"]["sizes"].startswith("any")
    assert free["signatures"]["latent"]["inputs"]["images"]["shape"] == [None] * 4


def test_the_graph_has_conservative_ops_alone(served):
    assert ops_of(served) <= set(CONSERVATIVE_OPS.split())


def test_the_warm_up_file_decodes_as_published_and_replays(served):
    prediction_log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    model = load(served).signatures
    sizes = {key: [] for key in model}
    path = served / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "digits"
        key = request.model_spec.signature_name
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        sizes[key].append(len(next(iter(model[key](**inputs).values()))))
    assert sizes == {key: [1, 4] for key in model}


@pytest.fixture(scope="module")
def client(served):
    """A client of the development server, which runs in a thread of this process."""
    for package in ("starlette", "uvicorn", "httpx"):
        pytest.importorskip(package, reason="needs the extra [serve], and httpx")
    import httpx
    import uvicorn

    from vae_anomaly.serving.dev_server import app, folder, serve

    models = folder.ServedFolder(served.parents[1], report=lambda line: None)
    models.poll(is_first=True)
    server = uvicorn.Server(uvicorn.Config(app.create_app(models), log_level="critical"))
    with serve.listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
        server.should_exit = True
        thread.join()


def post(client, **request):
    answer = client.post("/v1/models/digits:predict", content=json.dumps(request))
    return answer.status_code, answer.json()


def as_base64(content):
    return {"b64": base64.b64encode(content).decode()}


def test_the_local_server_takes_images_and_files(client, image_detector, edge_images):
    pixels, files = edge_images[..., None].tolist(), [as_base64(png(i)) for i in edge_images]
    requests = [
        {"inputs": pixels},
        {"inputs": {"images": pixels}},
        {"signature_name": "encoded", "inputs": files},
        {"signature_name": "encoded", "inputs": {"image_bytes": files}},
    ]
    for request in requests:
        status, answer = post(client, **request)
        assert status == 200, answer
        outputs = {name: np.array(values) for name, values in answer["outputs"].items()}
        assert_answers_as_python(outputs, image_detector, edge_images)
    rows = [{"images": image} for image in pixels]
    assert post(client, instances=pixels) == post(client, instances=rows)
    by_file = [{"image_bytes": file} for file in files]
    for instances in (files, by_file):
        status, answer = post(client, signature_name="encoded", instances=instances)
        assert status == 200, answer
        scores = [row["score"] for row in answer["predictions"]]
        np.testing.assert_allclose(scores, image_detector.score_samples(edge_images), TOLERANCE)


def test_the_local_server_answers_its_sample(client, served):
    for name in ("sample_request", "sample_encoded_request"):
        status, answer = post(client, **strict_json(served / f"{name}.json"))
        assert status == 200
        expected = strict_json(served / "sample_response.json")["predictions"]
        for row, right in zip(answer["predictions"], expected, strict=True):
            assert row["score"] == pytest.approx(right["score"], rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ({"instances": np.zeros((1, 8, 8), int).tolist()}, "shape [-1,8,8,1]"),
        ({"instances": np.zeros((1, 9, 8, 1), int).tolist()}, "shape [-1,8,8,1]"),
        ({"instances": np.full((1, 8, 8, 1), 256).tolist()}, "an integer from 0 to 255"),
        ({"instances": np.full((1, 8, 8, 1), 0.5).tolist()}, "Send an integer"),
        ({"instances": [[[[None]]]]}, "null is no value"),
        ({"signature_name": "encoded", "instances": [as_base64(b"text")]}, "Unknown image file"),
        ({"signature_name": "encoded", "instances": ["text"]}, "Unknown image file"),
        ({"signature_name": "encoded", "instances": [{"b64": "?"}]}, "Unable to base64 decode"),
    ],
)
def test_the_local_server_refuses_what_is_no_image(client, request_body, words):
    status, answer = post(client, **request_body)
    assert status == 400
    assert words in answer["error"]
