"""A fitted detector as a SavedModel that TensorFlow Serving loads as it is.

``folder/<version>/`` holds the SavedModel and, beside it:

=============================================== ==============================================
``schema.json``                                 inputs and outputs: names, types, units, how a
                                                missing cell is spelled, sizes of images
``sample_request.json``                         the body of a REST request
``sample_encoded_request.json``                 the same for PNG files, where a model takes them
``sample_response.json``                        the expected answer to both: Python's scores
``assets.extra/tf_serving_warmup_requests``     requests that TensorFlow Serving runs on loading
=============================================== ==============================================

``signatures`` and ``image_signatures`` tell what a server takes and answers.

Scores are those of Python but for the last digits: a server takes any number of rows at a time, and
matrix products of other sizes add up in another order. ``TOLERANCE`` bounds the difference.
"""

import base64
import contextlib
import importlib.metadata
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.serving.signatures import SERVED_OUTPUTS

# Largest difference from Python, as a share of 1 + the largest absolute value of the row.
TOLERANCE = 1e-5

_LARGEST_VERSION = 2**63 - 1
_MEANINGS = {
    "score": "score_samples: higher is more normal",
    "decision": "score - threshold",
    "is_anomaly": "decision < 0",
    "p_value": "share of calibration scores at or below this one",
    "baseline": "mean training score: feature_log_prob, latent and baseline add up to score",
    "z_mean": "latent means",
}
# Run by a Python that has TensorFlow only, as a server has. Its arguments: export, file to write.
_ANSWER = """
import base64, json, pathlib, sys
import numpy as np
import tensorflow as tf

folder = pathlib.Path(sys.argv[1])
requests = {}
for path in folder.glob("sample_*request.json"):
    request = json.loads(path.read_text("utf-8"))
    requests[request["signature_name"]] = request["instances"]
model = tf.saved_model.load(str(folder))
answers = {}
for key, function in model.signatures.items():
    rows = requests.get(key, requests["serving_default"])
    inputs = {}
    for name, spec in function.structured_input_signature[1].items():
        cells = [list(row.values()) for row in rows]
        if spec.shape.rank != 2:  # no matrix
            cells = [row[name] for row in rows]
        if name == "image_bytes":
            cells = [base64.b64decode(cell["b64"]) for cell in cells]
        inputs[name] = tf.constant(np.array(cells, dtype=spec.dtype.as_numpy_dtype))
    answers[key] = {
        name: (np.char.decode(array.astype(bytes), "utf-8") if array.dtype == object else array)
        .tolist()
        for name, tensor in function(**inputs).items()
        for array in [tensor.numpy()]
    }
assert not [name for name in sys.modules if name.split(".")[0] == "vae_anomaly"]
pathlib.Path(sys.argv[2]).write_text(json.dumps(answers))
"""


class ExportError(ValueError):
    """What was exported does not answer as the detector does; ``str(error)`` is one sentence."""


class Exported(NamedTuple):
    """What ``export`` wrote and how it was checked.

    Attributes
    ----------
    folder : pathlib.Path
        The version's folder.
    n_rows : int
        Rows of the sample request.
    largest_difference : float
        Of their served scores from Python's.
    """

    folder: pathlib.Path
    n_rows: int
    largest_difference: float


def export(served, folder, version=None):
    """Write a fitted detector for TensorFlow Serving, and check it in another process.

    ``vae_anomaly.serving.signatures`` and, for images, ``image_signatures`` list the signatures.

    Parameters
    ----------
    served : tables.ServedTable or images.ServedImages
        Of a fitted detector, whose threshold is that of this moment.
    folder : path
        Of the model: its name is the model's name. Created.
    version : int >= 0 or None
        None: 1, or the largest version there plus 1.

    Returns
    -------
    Exported

    Raises
    ------
    FileExistsError
        There is such a version, or the folder is a file.
    ValueError
        ``version`` is no version; a column has values that a server takes for missing.
    ExportError
        The SavedModel did not load, or its answers are not Python's. Nothing is left of it.
    """
    folder = pathlib.Path(folder)
    if version is not None and not (
        isinstance(version, (int, np.integer)) and not isinstance(version, bool) and version >= 0
    ):
        raise ValueError(f"Expected `version` to be an int >= 0. Received: version={version!r}")
    if re.search(r"[*?\[]", str(folder.resolve())):
        raise ValueError(
            f"Expected a folder without *, ? and [ in its path, which TensorFlow takes for a "
            f"pattern. Received: {folder.resolve()}. Choose another."
        )
    scorer = served.scorer
    if not np.isfinite(scorer.offset.numpy()):
        raise ValueError(
            f"Expected a finite threshold. Received: offset_={scorer.offset.numpy()}. Assign to "
            "`offset_`."
        )
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_free(folder, version)
        # A name that is no number: TensorFlow Serving does not look into it.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
            part = pathlib.Path(temporary) / "part"
            expected = _write(served, part, folder.resolve().name)
            difference = _checked(part, expected, served)
            final = _rename(part, folder, version)
    except BaseException:
        for path in created:
            if path.is_dir() and not any(path.iterdir()):
                with contextlib.suppress(OSError):  # another export has begun there
                    path.rmdir()
        raise
    return Exported(final, len(expected["score"]), difference)


def _check_free(folder, version):
    if version is not None and version in _versions(folder):
        raise FileExistsError(
            f"Expected a version that does not exist. Received: {folder / str(version)}. "
            "Choose another, or none for the next one."
        )


def _versions(folder):
    return [int(path.name) for path in folder.iterdir() if re.fullmatch("[0-9]+", path.name)]


def _rename(part, folder, version):
    """Give the finished export its name: nothing can be there, also if others export too."""
    while True:
        _check_free(folder, version)
        number = max(_versions(folder), default=0) + 1 if version is None else version
        if number > _LARGEST_VERSION:
            raise ValueError(
                f"Expected a version of {_LARGEST_VERSION} at most, as TensorFlow Serving has it. "
                f"Received: {number}. Choose `version`, or another folder."
            )
        final = folder / str(number)
        try:
            part.rename(final)
            return final
        except OSError:
            if not os.path.lexists(final):
                raise


def _write(served, part, model_name):
    """Write all files; return Python's answers to the sample request, by output."""
    functions = served.functions()
    variables = {id(v): v for function in functions.values() for v in function.graph.variables}
    # Neither the scorer nor any other Keras object: a server needs what the graph needs.
    module = tf.Module()
    module.weights = list(variables.values())
    module.lookup_tables = served.lookup_tables
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)  # "Assets written to" a folder that is about to be renamed
    try:
        tf.saved_model.save(module, str(part), signatures=functions)
    finally:
        log.setLevel(level)
    raw = served.sample()
    expected = _python_answers(served, raw)
    requests = served.requests(raw)
    for name, key in (("sample_request", "serving_default"), ("sample_encoded_request", "encoded")):
        if key in requests:
            columns = {name: _listed(array) for name, array in requests[key].items()}
            request = {"signature_name": key, "instances": _rows(columns)}
            _write_json(part / f"{name}.json", request, served.indent)
    outputs = {name: expected[name].tolist() for name in SERVED_OUTPUTS}
    _write_json(part / "sample_response.json", {"predictions": _rows(outputs)}, served.indent)
    _write_json(part / "schema.json", _schema(served, functions), indent=1)
    _write_warmup(part, model_name, functions, requests)
    return expected


def _python_answers(served, raw):
    scorer = served.scorer
    answers = scorer.run(raw)
    answers["baseline"] = np.full(len(answers["score"]), scorer.baseline)
    answers["z_mean"] = scorer.latent(raw)
    return {**answers, **served.explained(raw, answers)}


def _listed(array):
    """Numbers, text and bytes as a request has them; of a float32 the fewest digits that do."""
    if array.dtype == np.float32:
        array = array.astype(str).astype(np.float64)
    return [
        {"b64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell
        for cell in array.tolist()
    ]


def _rows(columns):
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _schema(served, functions):
    signatures = {
        key: {
            "inputs": {
                name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
                for name, spec in function.structured_input_signature[0][0].items()
            },
            "outputs": {
                name: {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
                for name, tensor in function.structured_outputs.items()
            },
        }
        for key, function in functions.items()
    }
    return {
        "format": "vae_anomaly export",
        "format_version": 1,
        "score_type": served.scorer.score_type,
        "threshold": float(served.scorer.offset.numpy()),
        "tolerance": TOLERANCE,
        **served.schema(),
        "signatures": signatures,
        "meanings": {**_MEANINGS, **served.meanings},
        "versions": {
            name: importlib.metadata.version(name) for name in ("vae-anomaly", "tensorflow")
        },
    }


def _write_json(path, content, indent):
    text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_warmup(part, model_name, functions, requests):
    """Write a request of one row and one of all sample rows for each signature."""
    path = part / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for key, function in functions.items():
            specs = function.structured_input_signature[0][0]
            for size in (1, None):
                tensors = {
                    name: tf.make_tensor_proto(requests[key][name][:size], dtype=spec.dtype)
                    for name, spec in specs.items()
                }
                writer.write(_prediction_log(model_name, key, tensors))


def _prediction_log(model_name, signature, tensors):
    """Encode a request as ``tensorflow.serving.PredictionLog``.

    By hand, since the package that defines these messages wants a TensorFlow of its own version:
    PredictionLog.predict_log = 6, PredictLog.request = 1, PredictRequest.model_spec = 1 and
    .inputs = 2 (of key = 1, value = 2), ModelSpec.name = 1 and .signature_name = 3.
    """
    request = _field(1, _field(1, model_name.encode()) + _field(3, signature.encode()))
    for name, tensor in tensors.items():
        request += _field(2, _field(1, name.encode()) + _field(2, tensor.SerializeToString()))
    return _field(6, _field(1, request))


def _field(number, content):
    """Encode a field of bytes as Protocol Buffers do: tag, length, content."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _checked(part, expected, served):
    """Ask the export in a process of its own; return the largest difference of scores."""
    answers_file = part.parent / "answers.json"
    process = subprocess.run(
        [sys.executable, "-c", _ANSWER, str(part), str(answers_file)],
        capture_output=True,
        text=True,
        check=False,
        # This process may hold all of a GPU's memory.
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        last = (errors or lines)[-1]
        raise ExportError(
            f"Expected the export to load and answer in a process of its own. Received: {last} "
            "Nothing was exported."
        )
    answers = json.loads(answers_file.read_text())
    allowed = _allowed(expected, served)
    for key, outputs in answers.items():
        for name in sorted(outputs, key=lambda name: name != "score"):  # the rest follows it
            answer = np.array(outputs[name])
            if not _agrees(name, answer, expected, allowed, served.scorer):
                difference = ""
                if answer.dtype == np.float64 and answer.shape == expected[name].shape:
                    difference = f", up to {np.abs(answer - expected[name]).max():.3g} off"
                raise ExportError(
                    f"Expected Python's answers to a tolerance of {TOLERANCE:g}. Received: others "
                    f"of output {name!r} of signature {key!r}{difference}. Nothing was exported."
                )
    return float(np.abs(np.subtract(answers["serving_default"]["score"], expected["score"])).max())


def _allowed(expected, served):
    """Largest differences of the outputs that are float, as arrays that broadcast with theirs."""
    features = np.abs(expected["feature_log_prob"])
    largest = features.max(axis=tuple(range(1, features.ndim)))
    # Parts may be far larger than the score that they add up to.
    largest = np.maximum(largest, np.abs(expected["latent"]))
    of_row = TOLERANCE * (1 + np.maximum(np.abs(expected["score"]), largest))
    allowed = dict.fromkeys(expected, of_row)
    allowed["feature_log_prob"] = of_row.reshape(-1, *[1] * (features.ndim - 1))
    allowed["z_mean"] = TOLERANCE * (1 + np.abs(expected["z_mean"]).max(axis=1, keepdims=True))
    for name, scale in served.scales(expected).items():
        allowed[name] = TOLERANCE * scale
    return allowed


def _agrees(name, answer, expected, allowed, scorer):
    python = expected[name]
    if answer.shape != python.shape:
        return False
    if name == "is_anomaly":
        return np.all((answer == python) | (np.abs(expected["decision"]) <= allowed["decision"]))
    if name == "p_value":
        calibration = np.asarray(scorer.calibration_scores)
        low, high = (
            p_values(expected["score"] + step, calibration)
            for step in (-allowed["score"], allowed["score"])
        )
        # TensorFlow multiplies by 1 / (m + 1): other last digits than a division.
        return np.all((low - TOLERANCE <= answer) & (answer <= high + TOLERANCE))
    if python.dtype == object:
        return np.all(answer == python)
    return np.all(np.abs(answer - python) <= allowed[name])
