"""Writes a fitted detector as an ONNX model, for ONNX Runtime and what else runs such models.

==================================== =========================================================
``model.onnx``                       takes one array and answers ``score``, ``decision``,
                                     ``is_anomaly``, ``p_value``, ``feature_log_prob``,
                                     ``latent`` and ``baseline``, as signature ``explain``
``schema.json``                      what is in the array; names, types and shapes of outputs
``sample_request.json``              an array, by name
``sample_response.json``             the expected answer: Python's scores
==================================== =========================================================

Of tables the array is ``rows``, float64 (n, columns), where a category is the place of its level
in ``schema.json``, since ONNX has no text operations that would spell it; of images it is
``images``, of the model's height, width and channels, since ONNX resizes in another way.

The graph is converted by tf2onnx (https://github.com/onnx/tensorflow-onnx).
"""

import importlib.util
import logging
import pathlib
from typing import Any

import tensorflow as tf

from vae_anomaly.serving.description import (
    listed,
    quiet,
    signature_of,
    write_json,
    write_response,
    write_schema,
)
from vae_anomaly.serving.onnx_handlers import HANDLERS
from vae_anomaly.serving.served import Arrays, Served

#: What an export of this format has.
FILE = "model.onnx"
#: The program that has a model answer its sample request; it is read, not imported.
PROGRAM = pathlib.Path(__file__).with_name("answer_onnx.py")

# The newest that tf2onnx has.
_OPSET = 18
_PACKAGES = ("tf2onnx", "onnxruntime")


def write(served: Served, part: pathlib.Path, model_name: str) -> Arrays:
    """Write all files; return Python's answers to the sample request, by output.

    Parameters
    ----------
    served : Served
    part : pathlib.Path
        Folder to write to; created.
    model_name : str
        Name of the graph.

    Raises
    ------
    ValueError
        tf2onnx or ONNX Runtime is not installed, or ONNX lacks an operation of the detector.
    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"Expected the packages of ONNX. Received no {' and no '.join(missing)}: in this "
            "project's folder, pip install '.[onnx]'"
        )
    spec = served.array_spec()
    function = tf.function(served.scored_array, input_signature=[spec], autograph=False)
    model = _converted(function, spec, model_name)
    raw = served.array_sample()
    expected = served.answers(raw)
    part.mkdir()
    (part / FILE).write_bytes(model.SerializeToString())
    request = {spec.name: listed(served.array_of(raw))}
    write_json(part / "sample_request.json", request, served.indent)
    write_response(part, served, expected)
    outputs = function.get_concrete_function().structured_outputs
    signature = signature_of([spec], outputs)
    packages = ("vae-anomaly", "tensorflow", "tf2onnx")
    write_schema(part, served, served.array_schema(), {FILE: signature}, packages)
    return expected


def _converted(function: Any, spec: tf.TensorSpec, name: str) -> Any:
    import onnx
    import tf2onnx

    # What can't be converted is told of below.
    with quiet("tf2onnx", logging.CRITICAL), quiet("tensorflow", logging.ERROR):
        model, _ = tf2onnx.convert.from_function(
            function, [spec], opset=_OPSET, custom_op_handlers=HANDLERS
        )
    unknown = {
        node.op_type
        for node in model.graph.node
        if not onnx.defs.has(node.op_type, _OPSET, node.domain)
    }
    if unknown:
        raise ValueError(
            "Expected a detector of operations that ONNX has. Received: "
            f"{', '.join(sorted(unknown))}. Export a SavedModel."
        )
    model.graph.name = name
    return model
