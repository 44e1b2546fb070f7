"""A fitted detector as a SavedModel that TensorFlow Serving loads as it is.

``folder/<version>/`` holds the SavedModel and, beside it:

=============================================== ==============================================
``schema.json``                                 inputs and outputs: names, types, units, how a
                                                missing cell is spelled
``sample_request.json``                         the body of a REST request
``sample_response.json``                        its expected answer: Python's scores
``assets.extra/tf_serving_warmup_requests``     requests that TensorFlow Serving runs on loading
=============================================== ==============================================

``signatures`` tells what a server takes and answers.

Scores are those of Python but for the last digits: a server takes any number of rows at a time, and
matrix products of other sizes add up in another order. ``TOLERANCE`` bounds the difference.
"""

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

from vae_anomaly.signatures import (
    MISSING_BELOW,
    MISSING_NUMBER,
    SERVED_OUTPUTS,
    input_names,
    served_dtype,
    trace_signatures,
)
from vae_anomaly.thresholds import p_values

# Largest difference from Python, as a share of 1 + the largest absolute value of the row.
TOLERANCE = 1e-5

_LARGEST_VERSION = 2**63 - 1
_N_TYPICAL_ROWS = 3
_MEANINGS = {
    "score": "score_samples: higher is more normal",
    "decision": "score - threshold",
    "is_anomaly": "decision < 0",
    "p_value": "share of calibration scores at or below this one",
    "feature_log_prob": "what each column adds to the score relative to what is usual for it; "
    "columns in the order of this file",
    "latent": "what no column owns of the score",
    "baseline": "mean training score: feature_log_prob, latent and baseline add up to score",
    "z_mean": "latent means",
}
# Run by a Python that has TensorFlow only, as a server has. Its arguments: export, file to write.
_ANSWER = """
import json, pathlib, sys
import numpy as np
import tensorflow as tf

folder = pathlib.Path(sys.argv[1])
rows = json.loads((folder / "sample_request.json").read_text("utf-8"))["instances"]
model = tf.saved_model.load(str(folder))
answers = {}
for key, function in model.signatures.items():
    inputs = {}
    for name, spec in function.structured_input_signature[1].items():
        cells = [list(row.values()) for row in rows]
        if spec.shape.rank == 1:
            cells = [row[name] for row in rows]
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


def export(detector, folder, version=None):
    """Write a fitted detector for TensorFlow Serving, and check it in a process of its own.

    The top of ``vae_anomaly.signatures`` says what it can be asked.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted. Its threshold is that of this moment.
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
    scorer = detector.scorer_
    if not np.isfinite(scorer.offset.numpy()):
        raise ValueError(
            f"Expected a finite threshold. Received: offset_={scorer.offset.numpy()}. Assign to "
            "`offset_`."
        )
    _check_range(scorer.preprocessor)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_free(folder, version)
        # A name that is no number: TensorFlow Serving does not look into it.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
            part = pathlib.Path(temporary) / "part"
            expected = _write(scorer, part, folder.resolve().name)
            difference = _checked(part, expected, scorer)
            final = _rename(part, folder, version)
    except BaseException:
        for path in created:
            if path.is_dir() and not any(path.iterdir()):
                with contextlib.suppress(OSError):  # another export has begun there
                    path.rmdir()
        raise
    return Exported(final, len(expected["score"]), difference)


def _check_range(preprocessor):
    for column in preprocessor.schema():
        if column.get("center", 0.0) - 100 * column.get("scale", 0.0) < MISSING_BELOW:
            raise ValueError(
                f"Column {column['name']!r}: expected numbers far above {MISSING_BELOW}, under "
                f"which a served number is missing. Received: a column around "
                f"{column['center']:g}. Rescale it and fit again."
            )


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


def _write(scorer, part, model_name):
    """Write all files; return Python's answers to the sample request, by output."""
    kinds = scorer.preprocessor.kinds
    inputs = input_names(list(kinds))
    functions = trace_signatures(scorer, inputs)
    variables = {id(v): v for function in functions.values() for v in function.graph.variables}
    # Neither the scorer nor any other Keras object: a server needs what the graph needs.
    module = tf.Module()
    module.weights = list(variables.values())
    module.lookup_tables = scorer.preprocessor.lookup_tables
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)  # "Assets written to" a folder that is about to be renamed
    try:
        tf.saved_model.save(module, str(part), signatures=functions)
    finally:
        log.setLevel(level)
    arrays = _sample_arrays(scorer.preprocessor)
    expected = _python_answers(scorer, arrays, inputs)
    request, response = _sample(arrays, inputs, expected)
    _write_json(part / "sample_request.json", request)
    _write_json(part / "sample_response.json", response)
    _write_json(part / "schema.json", _schema(scorer, inputs, functions))
    _write_warmup(part, model_name, functions, request["instances"])
    return expected


def _sample_arrays(preprocessor):
    """Rows made of the schema alone: typical ones, one that is all missing, a far one."""
    rng = np.random.default_rng(0)
    arrays = {}
    for column in preprocessor.schema():
        if column["kind"] == "categorical":
            cells = [*rng.choice(column["levels"] or [""], size=_N_TYPICAL_ROWS), "", "never seen"]
            arrays[column["name"]] = np.array([str(cell) for cell in cells], dtype=object)
            continue
        if column["kind"] == "boolean":
            cells = [*rng.integers(0, 2, size=_N_TYPICAL_ROWS), np.nan, 1]
        else:
            center, scale = column["center"], column["scale"]
            near = center + scale * rng.uniform(-1, 1, size=_N_TYPICAL_ROWS)
            cells = [*near, np.nan, min(center + 50 * scale, np.finfo(np.float64).max)]
        exact = np.array(cells, dtype=np.float64)
        # Digits that people can read, where they are enough.
        rounded = np.array([float(f"{cell:.6g}") for cell in exact])
        step = 1e-3 * column.get("scale", 1.0)
        arrays[column["name"]] = np.where(np.abs(rounded - exact) < step, rounded, exact)
    return arrays


def _python_answers(scorer, arrays, inputs):
    answers = scorer.run(arrays)
    expected = scorer.preprocessor.inverse(scorer.reconstruct(arrays))
    for index, name in enumerate(inputs):
        answers[f"{inputs[name]}_contribution"] = answers["feature_log_prob"][:, index]
        answers[f"{inputs[name]}_expected"] = expected[name]
    answers["baseline"] = np.full(len(answers["score"]), scorer.baseline)
    answers["z_mean"] = scorer.latent(arrays)
    return answers


def _sample(arrays, inputs, expected):
    columns = {
        inputs[name]: [
            MISSING_NUMBER if isinstance(cell, float) and np.isnan(cell) else cell
            for cell in array.tolist()
        ]
        for name, array in arrays.items()
    }
    outputs = {name: expected[name].tolist() for name in SERVED_OUTPUTS}
    request = {"signature_name": "serving_default", "instances": _rows(columns)}
    return request, {"predictions": _rows(outputs)}


def _rows(columns):
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _schema(scorer, inputs, functions):
    columns = []
    for column in scorer.preprocessor.schema():
        is_text = column["kind"] == "categorical"
        served = {
            "input": inputs[column["name"]],
            "dtype": served_dtype(column["kind"]).name,
            "missing": [""] if is_text else ["NaN", MISSING_NUMBER],
        }
        if column["kind"] == "boolean":
            served["units"] = "0 or 1"
        columns.append({"name": column["name"], **served, **column})
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
        "score_type": scorer.score_type,
        "threshold": float(scorer.offset.numpy()),
        "tolerance": TOLERANCE,
        "columns": columns,
        "signatures": signatures,
        "meanings": {
            **_MEANINGS,
            "<input>_contribution": "the column's part of feature_log_prob",
            "<input>_expected": "what the model expects in place of the cell, in its units "
            "(a boolean: the probability of 1; a category: the most probable, '' for any other)",
        },
        "versions": {
            name: importlib.metadata.version(name) for name in ("vae-anomaly", "tensorflow")
        },
    }


def _write_json(path, content):
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_warmup(part, model_name, functions, rows):
    """Write a request of one row and one of all sample rows for each signature."""
    path = part / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for key, function in functions.items():
            specs = function.structured_input_signature[0][0]
            for size in (1, len(rows)):
                cells = {name: [row[name] for row in rows[:size]] for name in rows[0]}
                if key == "matrix":
                    cells = {"rows": [list(row.values()) for row in rows[:size]]}
                tensors = {
                    name: tf.make_tensor_proto(cells[name], dtype=spec.dtype)
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


def _checked(part, expected, scorer):
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
    allowed = _allowed(expected, scorer.preprocessor)
    for key, outputs in answers.items():
        for name in sorted(outputs, key=lambda name: name != "score"):  # the rest follows it
            served = np.array(outputs[name])
            if not _agrees(name, served, expected, allowed, scorer):
                difference = ""
                if served.dtype == np.float64 and served.shape == expected[name].shape:
                    difference = f", up to {np.abs(served - expected[name]).max():.3g} off"
                raise ExportError(
                    f"Expected Python's answers to a tolerance of {TOLERANCE:g}. Received: others "
                    f"of output {name!r} of signature {key!r}{difference}. Nothing was exported."
                )
    return float(np.abs(np.subtract(answers["serving_default"]["score"], expected["score"])).max())


def _allowed(expected, preprocessor):
    """Largest differences of the outputs that are float, as arrays that broadcast with theirs."""
    features = np.abs(expected["feature_log_prob"]).max(axis=1)
    of_row = TOLERANCE * (1 + np.maximum(np.abs(expected["score"]), features))
    allowed = dict.fromkeys(expected, of_row)
    allowed["feature_log_prob"] = of_row[:, None]
    allowed["z_mean"] = TOLERANCE * (1 + np.abs(expected["z_mean"]).max(axis=1, keepdims=True))
    columns = preprocessor.schema()
    inputs = input_names([column["name"] for column in columns])
    for column in columns:
        name = f"{inputs[column['name']]}_expected"
        if column["kind"] == "boolean":
            allowed[name] = TOLERANCE
        elif column["kind"] != "categorical":
            away = np.abs(expected[name] - column["center"])
            allowed[name] = TOLERANCE * (column["scale"] + away)
    return allowed


def _agrees(name, served, expected, allowed, scorer):
    python = expected[name]
    if served.shape != python.shape:
        return False
    if name == "is_anomaly":
        return np.all((served == python) | (np.abs(expected["decision"]) <= allowed["decision"]))
    if name == "p_value":
        calibration = np.asarray(scorer.calibration_scores)
        low, high = (
            p_values(expected["score"] + step, calibration)
            for step in (-allowed["score"], allowed["score"])
        )
        # TensorFlow multiplies by 1 / (m + 1): other last digits than a division.
        return np.all((low - TOLERANCE <= served) & (served <= high + TOLERANCE))
    if python.dtype == object:
        return np.all(served == python)
    return np.all(np.abs(served - python) <= allowed[name])
