"""Writes a fitted detector as a SavedModel that TensorFlow Serving loads.

Beside it are

=============================================== ==============================================
``schema.json``                                 inputs and outputs: names, types, units, how a
                                                missing cell is spelled, sizes of images
``sample_request.json``                         the body of a REST request
``sample_encoded_request.json``                 the same for PNG files, where a model takes them
``sample_response.json``                        the expected answer to both: Python's scores
``assets.extra/tf_serving_warmup_requests``     requests that TensorFlow Serving runs on loading
=============================================== ==============================================

``serving.tables`` and ``serving.images`` tell what a server takes and answers.
"""

import logging
import pathlib

import tensorflow as tf

from vae_anomaly.serving.description import (
    listed,
    quiet,
    rows_of,
    signature_of,
    write_json,
    write_response,
    write_schema,
)
from vae_anomaly.serving.served import Arrays, Served
from vae_anomaly.serving.warmup import write_warmup

#: What an export of this format has.
FILE = "saved_model.pb"
#: The program that has a SavedModel answer its sample requests; it is read, not imported.
PROGRAM = pathlib.Path(__file__).with_name("answer.py")


def write(served: Served, part: pathlib.Path, model_name: str) -> Arrays:
    """Write all files; return Python's answers to the sample request, by output.

    Parameters
    ----------
    served : Served
    part : pathlib.Path
        Folder to write to; created.
    model_name : str
        What clients will call the model.
    """
    functions = served.signatures()
    _save_model(served, part, functions)
    raw = served.sample()
    expected, requests = served.answers(raw), served.requests(raw)
    _write_requests(served, part, requests)
    write_response(part, served, expected)
    signatures = {
        key: signature_of(specs.values(), functions[key].structured_outputs)
        for key, specs in _specs(functions).items()
    }
    write_schema(part, served, served.schema(), signatures, ("vae-anomaly", "tensorflow"))
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
    # "Assets written to" a folder that is about to be renamed.
    with quiet("tensorflow", logging.ERROR):
        tf.saved_model.save(module, str(part), signatures=functions)


def _write_requests(served, part, requests):
    for name, key in (("sample_request", "serving_default"), ("sample_encoded_request", "encoded")):
        if key in requests:
            columns = {name: listed(array) for name, array in requests[key].items()}
            request = {"signature_name": key, "instances": rows_of(columns)}
            write_json(part / f"{name}.json", request, served.indent)


def _specs(functions):
    """The inputs of each signature, by name."""
    return {key: f.structured_input_signature[0][0] for key, f in functions.items()}


def _proto(array, spec):
    return tf.make_tensor_proto(array, dtype=spec.dtype)
