"""The requests that TensorFlow Serving runs on loading a model, in its file format."""

import pathlib

import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto


def write_warmup(
    path: pathlib.Path, model_name: str, requests: list[tuple[str, dict[str, TensorProto]]]
) -> None:
    """Write a file of warm-up requests.

    Parameters
    ----------
    path : path
        ``assets.extra/tf_serving_warmup_requests`` of a SavedModel.
    model_name : str
    requests : list of (signature, dict of input name to TensorProto)
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, tensors in requests:
            writer.write(_prediction_log(model_name, signature, tensors))


def _prediction_log(model_name, signature, tensors):
    """Encode a request as ``tensorflow.serving.PredictionLog``.

    By hand, since the package that defines these messages requires another version of TensorFlow:
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
