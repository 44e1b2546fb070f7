"""Answers the sample requests of an export, as a server would; run in another process.

    python answer.py EXPORT OUTPUT

loads the SavedModel in the folder EXPORT, with TensorFlow alone, and writes to the file OUTPUT a
JSON object of signature to output name to values.
"""

import base64
import json
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf


def answers(folder: pathlib.Path) -> dict[str, dict[str, list]]:
    """Return what each signature of an export answers to its sample request."""
    requests = {}
    for path in folder.glob("sample_*request.json"):
        request = json.loads(path.read_text("utf-8"))
        requests[request["signature_name"]] = request["instances"]
    found = {}
    # Held until the end, since its functions hold its variables weakly.
    model = tf.saved_model.load(str(folder))
    for key, function in model.signatures.items():
        rows = requests.get(key, requests["serving_default"])
        specs = function.structured_input_signature[1]
        outputs = function(**{name: _input(rows, name, spec) for name, spec in specs.items()})
        found[key] = {name: _listed(tensor.numpy()) for name, tensor in outputs.items()}
    return found


def _input(rows: list[dict[str, Any]], name: str, spec: tf.TensorSpec) -> tf.Tensor:
    # Rows of columns are the input of a signature that takes a matrix too.
    cells: list[Any] = [list(row.values()) if spec.shape.rank == 2 else row[name] for row in rows]
    if name == "image_bytes":
        cells = [base64.b64decode(cell["b64"]) for cell in cells]
    return tf.constant(np.array(cells, dtype=spec.dtype.as_numpy_dtype))


def _listed(array: np.ndarray) -> list:
    if array.dtype == object:
        array = np.char.decode(array.astype(bytes), "utf-8")
    return array.tolist()


if __name__ == "__main__":
    # A server has no such package: nothing of it may be imported from here on.
    sys.modules["vae_anomaly"] = None  # type: ignore[assignment]
    export, output = map(pathlib.Path, sys.argv[1:])
    output.write_text(json.dumps(answers(export)))
