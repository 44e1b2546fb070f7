"""The JSON of an answer, from the arrays that a model returns, as TensorFlow Serving writes it."""

import base64
import json

import numpy as np

from vae_anomaly.serving.dev_server.arrays import TYPES
from vae_anomaly.serving.dev_server.refusals import RequestError


def to_body(outputs, key):
    """The body of an answer.

    Parameters
    ----------
    outputs : dict of str to ndarray
        A single output loses its name. Strings whose name ends in '_bytes' become base64.
    key : str
        'predictions', one item per row, or 'outputs', one per output.

    Returns
    -------
    bytes
        JSON in UTF-8, with the literals NaN, Infinity and -Infinity, as TensorFlow Serving has
        them. A float32 has as many digits as give the same float32 again.

    Raises
    ------
    RequestError
        If an output has a dtype that JSON has no place for, or, by row, outputs have no rows or
        not equally many.
    """
    values: dict[str, list] = {}
    for name, array in outputs.items():
        if key == "predictions":
            _check_rows(name, array, values)
        values[name] = _listed(name, array)
    answer: object = values
    if len(values) == 1:
        (answer,) = values.values()
    elif key == "predictions":
        answer = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    # Strings that are not UTF-8 leave as the bytes they are.
    return json.dumps({key: answer}, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _check_rows(name, array, earlier):
    if array.ndim == 0:
        raise RequestError(f"Tensor name: {name} has no shape information ")
    n_rows = len(next(iter(earlier.values()))) if earlier else len(array)
    if len(array) < 1:
        raise RequestError(f"Tensor name: {name} has invalid batch size: {len(array)}")
    if len(array) != n_rows:
        raise RequestError(
            f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {n_rows}"
        )


def _listed(name, array):
    if array.dtype not in TYPES.values():
        raise RequestError(f"Failed to write JSON value for tensor type: {array.dtype}")
    if array.dtype == np.float32:
        return _in_decimals(array).tolist()
    if array.dtype == np.object_:
        texts = np.empty(array.size, np.object_)
        texts[:] = [_text(name, string) for string in array.ravel()]
        return texts.reshape(array.shape).tolist()
    return array.tolist()


def _in_decimals(x):
    """The float64 to write for a float32: of six significant digits, or nine, or as many as needed.

    The original does so, for 0.2 as a float64 would be 0.20000000298023224. The fewest digits that
    give the same float32 again.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        written = exact = x.astype(np.float64)
        place = np.floor(np.log10(np.abs(exact)))
        place = np.where(np.isfinite(place), place, 0)
        for digits in (9, 6):
            scale = 10.0 ** (digits - 1 - place)
            rounded = np.rint(exact * scale) / scale
            written = np.where(rounded.astype(np.float32) == x, rounded, written)
    return written


def _text(name, string):
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(string).decode()}
    return string.decode("utf-8", "surrogateescape")
