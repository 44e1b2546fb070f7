"""Writes a fitted detector as a SavedModel that TensorFlow Serving loads, and has it checked.

``folder/<version>/`` holds the SavedModel and, beside it:

=============================================== ==============================================
``schema.json``                                 inputs and outputs: names, types, units, how a
                                                missing cell is spelled, sizes of images
``sample_request.json``                         the body of a REST request
``sample_encoded_request.json``                 the same for PNG files, where a model takes them
``sample_response.json``                        the expected answer to both: Python's scores
``assets.extra/tf_serving_warmup_requests``     requests that TensorFlow Serving runs on loading
=============================================== ==============================================

``serving.tables`` and ``serving.images`` tell what a server takes and answers.

Scores are those of Python but for the last digits: a server takes any number of rows at a time, and
matrix products of other sizes add up in another order. ``check.TOLERANCE`` bounds the difference.
"""

import base64
import contextlib
import importlib.metadata
import json
import logging
import os
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from vae_anomaly import atomic
from vae_anomaly.serving.check import TOLERANCE, largest_difference
from vae_anomaly.serving.served import SERVED_OUTPUTS, Arrays, Served
from vae_anomaly.serving.warmup import write_warmup

_LARGEST_VERSION = 2**63 - 1
_MEANINGS = {
    "score": "score_samples: higher is more normal",
    "decision": "score - threshold",
    "is_anomaly": "decision < 0",
    "p_value": "share of calibration scores at or below this one",
    "baseline": "mean training score: feature_log_prob, latent and baseline add up to score",
    "z_mean": "latent means",
}


class Exported(NamedTuple):
    """What ``export`` wrote and how it was checked.

    Attributes
    ----------
    folder : pathlib.Path
        The version's folder.
    n_rows : int
        Rows, or images, of the sample request.
    largest_difference : float
        Between their served scores and Python's.
    """

    folder: pathlib.Path
    n_rows: int
    largest_difference: float


def export(served: Served, folder: str | os.PathLike[str], version: int | None = None) -> Exported:
    """Write a fitted detector for TensorFlow Serving, and check it in another process.

    Waits while another process exports to the same folder. What a killed export has left there,
    in ``.export.part``, is removed, with a warning.

    Parameters
    ----------
    served : vae_anomaly.serving.served.Served
        A fitted detector.
    folder : path
        The model's folder; its name is the model's name. Created.
    version : int >= 0 or None
        None: 1, or the largest version there plus 1.

    Returns
    -------
    Exported

    Raises
    ------
    FileExistsError
        The version exists already, or the folder is a file.
    ValueError
        ``version`` is no version; the threshold is not finite; the path has a * ? or [.
    ExportError
        The SavedModel did not load, or its answers are not Python's. Nothing is left of it.
    """
    folder = pathlib.Path(folder)
    _check_arguments(served, folder, version)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_free(folder, version)
        # A name that is no number: TensorFlow Serving does not look into it.
        with atomic.work_folder(folder / ".export.part") as work:
            part = work / "export"
            expected = _write(served, part, folder.resolve().name)
            difference = largest_difference(part, expected, served)
            final = _place(part, folder, version)
    except BaseException:
        for path in created:
            with contextlib.suppress(OSError):  # not empty: another export has begun there
                path.rmdir()
        raise
    return Exported(final, len(expected["score"]), difference)


def _check_arguments(served, folder, version):
    if version is not None and not (
        isinstance(version, (int, np.integer)) and not isinstance(version, bool) and version >= 0
    ):
        raise ValueError(f"Expected `version` to be an int >= 0. Received: version={version!r}")
    if re.search(r"[*?\[]", str(folder.resolve())):
        raise ValueError(
            f"Expected a folder without *, ? and [ in its path, which TensorFlow takes for a "
            f"pattern. Received: {folder.resolve()}. Choose another."
        )
    threshold = served.scorer.offset.numpy()
    if not np.isfinite(threshold):
        raise ValueError(
            f"Expected a finite threshold. Received: offset_={threshold}. Assign to `offset_`."
        )


def _check_free(folder, version):
    if version is not None and version in _versions(folder):
        raise FileExistsError(
            f"Expected a version that does not exist. Received: {folder / str(version)}. "
            "Choose another, or none for the next one."
        )


def _versions(folder):
    return [int(path.name) for path in folder.iterdir() if re.fullmatch("[0-9]+", path.name)]


def _place(part, folder, version):
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
        with contextlib.suppress(FileExistsError):  # taken by another export: the next one
            atomic.place(part, final)
            return final


def _write(served: Served, part: pathlib.Path, model_name: str) -> Arrays:
    """Write all files; return Python's answers to the sample request, by output."""
    functions = served.signatures()
    _save_model(served, part, functions)
    raw = served.sample()
    expected, requests = served.answers(raw), served.requests(raw)
    _write_samples(served, part, expected, requests)
    _write_json(part / "schema.json", _schema(served, functions), indent=1)
    (part / "assets.extra").mkdir()
    # For each signature a request of one row and one of all sample rows.
    warmup = [
        (key, {name: _proto(requests[key][name][:size], spec) for name, spec in specs.items()})
        for key, specs in _specs(functions).items()
        for size in (1, None)
    ]
    write_warmup(part / "assets.extra" / "tf_serving_warmup_requests", model_name, warmup)
    return expected


def _save_model(served, part, functions):
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


def _write_samples(served, part, expected, requests):
    for name, key in (("sample_request", "serving_default"), ("sample_encoded_request", "encoded")):
        if key in requests:
            columns = {name: _listed(array) for name, array in requests[key].items()}
            request = {"signature_name": key, "instances": _rows(columns)}
            _write_json(part / f"{name}.json", request, served.indent)
    outputs = {name: expected[name].tolist() for name in SERVED_OUTPUTS}
    _write_json(part / "sample_response.json", {"predictions": _rows(outputs)}, served.indent)


def _listed(array):
    """Numbers, text and bytes as a request has them; float32 in as few digits as tell it."""
    if array.dtype == np.float32:
        array = array.astype(str).astype(np.float64)
    return [
        {"b64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell
        for cell in array.tolist()
    ]


def _rows(columns):
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _specs(functions):
    """The inputs of each signature, by name."""
    return {key: f.structured_input_signature[0][0] for key, f in functions.items()}


def _schema(served: Served, functions: dict[str, Any]) -> dict[str, Any]:
    signatures = {
        key: {
            "inputs": {name: _type(spec) for name, spec in specs.items()},
            "outputs": {name: _type(t) for name, t in functions[key].structured_outputs.items()},
        }
        for key, specs in _specs(functions).items()
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


def _type(tensor):
    return {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}


def _proto(array, spec):
    return tf.make_tensor_proto(array, dtype=spec.dtype)


def _write_json(path, content, indent):
    text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
