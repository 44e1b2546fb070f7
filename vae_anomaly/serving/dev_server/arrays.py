"""Arrays for the inputs of a signature, from the JSON of a request."""

import base64
import binascii
import itertools
import math
from collections import Counter

import numpy as np

from vae_anomaly.serving.dev_server.refusals import RequestError, shown

TYPES = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT8": np.int8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT8": np.uint8,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
    "DT_STRING": np.object_,
}
# NumPy has no arrays of more than 64 dimensions.
_MOST_LEVELS = 32
# By NumPy's letter for a family of types: what JSON values it is made of.
_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "f": ({int, float}, "a number"),
    "i": ({int}, "an integer"),
    "u": ({int}, "an integer"),
    "b": ({bool}, "true or false"),
    "O": ({str, dict}, 'a string, or {"b64": "..."} for bytes'),
}


def to_arrays(document, inputs):
    """Arrays for the inputs of a signature.

    Parameters
    ----------
    document : dict
        With either 'instances' (a list with one item per row: an object of all inputs by name, or
        the bare value of a single input) or 'inputs' (an object of whole inputs by name, or the
        bare value of a single one).
    inputs : dict of str to (str, tuple of int or None)
        By name, the dtype, as in 'DT_DOUBLE', and the shape: -1 is any size, None any shape.

    Returns
    -------
    dict of str to ndarray
    str
        The key of the answer: 'predictions' for 'instances', 'outputs' for 'inputs'.

    Raises
    ------
    RequestError
        On wrong names, shapes, types and values.
    """
    if "instances" in document and "inputs" in document:
        raise RequestError(
            "Not formatted correctly: expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "instances" in document:
        columns, key = _columns_of_rows(document["instances"], inputs), "predictions"
    elif "inputs" in document:
        columns, key = _columns(document["inputs"], inputs), "outputs"
    else:
        raise RequestError("Missing 'inputs' or 'instances' key")
    arrays = {name: _array(name, columns[name], *inputs[name]) for name in inputs}
    _check_rows(arrays, inputs)
    return arrays, key


def _check_rows(arrays, inputs):
    """Refuse inputs of unequal length where all can be of any length: they are columns."""
    if any(not shape or shape[0] != -1 for _, shape in inputs.values()):
        return
    n_rows = {name: len(array) for name, array in arrays.items()}
    if len(set(n_rows.values())) > 1:
        usual, _ = Counter(n_rows.values()).most_common(1)[0]
        odd = [f"{name}: {n}" for name, n in n_rows.items() if n != usual]
        raise RequestError(
            f"Expected as many rows in each input. Received {usual} in most, but "
            f"{shown(', '.join(odd))}."
        )


def _columns_of_rows(rows, inputs):
    if not isinstance(rows, list):
        raise RequestError(f"Expecting 'instances' to be an list/array. Received: {shown(rows)}")
    if not rows:
        raise RequestError("No values in 'instances' array")
    if not _is_named(rows[0]):
        if len(inputs) > 1:
            raise RequestError(
                "instances is a plain list, but expecting list of objects as multiple input "
                f"tensors required: {', '.join(inputs)}"
            )
        return dict.fromkeys(inputs, rows)
    for index, row in enumerate(rows):
        if not _is_named(row):
            raise RequestError(
                f"Expecting object but got {shown(row)} at item {index} of input list"
            )
        if row.keys() != inputs.keys():
            _check_names(row, inputs, f"element {index} of the 'instances' list")
    return {name: [row[name] for row in rows] for name in inputs}


def _columns(value, inputs):
    if not _is_named(value):
        if len(inputs) > 1:
            raise RequestError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                f"required: {', '.join(inputs)}"
            )
        return dict.fromkeys(inputs, value)
    _check_names(value, inputs, "the 'inputs' object")
    return value


def _is_named(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _check_names(received, inputs, where):
    missing = [name for name in inputs if name not in received]
    unknown = [name for name in received if name not in inputs]
    if missing or unknown:
        raise RequestError(
            f"Failed to process {where}: must only have keys: {', '.join(inputs)}. "
            f"Missing: {', '.join(missing) or 'none'}. Unknown: {', '.join(unknown) or 'none'}."
        )


def _array(name, value, dtype, shape):
    if dtype not in TYPES:
        raise RequestError(f"Conversion of JSON Value to type {dtype} is not supported", 501)
    sizes, leaves = _flattened(name, value)
    target = np.dtype(TYPES[dtype])
    allowed, words = _JSON_TYPES[target.kind]

    def refuse(is_wrong, expected):
        index = next(index for index, leaf in enumerate(leaves) if is_wrong(leaf))
        where = [int(i) for i in np.unravel_index(index, sizes)] if sizes else []
        raise RequestError(
            f"Input '{name}' at {where}: JSON Value: {shown(leaves[index])} is not of expected "
            f"type: {dtype}. Send {expected}."
        )

    if set(map(type, leaves)) - allowed:
        hint = "; null is no value here: see how the model spells a missing one"
        refuse(lambda leaf: type(leaf) not in allowed, words + (hint if None in leaves else ""))
    if target.kind == "O":
        flat = np.empty(len(leaves), target)
        flat[:] = [_encoded(name, leaf) for leaf in leaves]
    elif target.kind == "b":
        flat = np.array(leaves, target)
    else:
        if not _is_within(leaves, target):
            refuse(*_limits(target))
        flat = np.array(leaves, target)
    if shape is not None and not _fits(sizes, shape):
        raise RequestError(
            f"Input '{name}': expected a tensor of shape {_shown(shape)}. "
            f"Received: {_shown(sizes)}."
        )
    return flat.reshape(sizes)


def _flattened(name, value):
    """Sizes and leaves of nested lists, which must be rectangular."""
    sizes: list[int] = []
    leaves = [value]
    while list in (types := set(map(type, leaves))):
        if len(types) > 1 or len(set(map(len, leaves))) > 1:
            raise RequestError(
                f"Input '{name}': expected lists of equal size at level {len(sizes)}. Received "
                "lists of different sizes, or values among lists."
            )
        sizes.append(len(leaves[0]))
        if len(sizes) > _MOST_LEVELS:
            raise RequestError(
                f"Input '{name}': expected lists in at most {_MOST_LEVELS} levels. Received more."
            )
        leaves = list(itertools.chain.from_iterable(leaves))
    return tuple(sizes), leaves


def _is_within(leaves, target):
    """Whether a type can hold all of these numbers; as ``_limits`` says, but fast."""
    whole = [leaf for leaf in leaves if type(leaf) is int]
    low, high = _whole_limits(target)
    if whole and not (low <= min(whole) and max(whole) <= high):
        return False
    if target != np.float32:
        return True
    sizes = np.abs(np.array(leaves, np.float64))
    return not (np.isfinite(sizes) & (sizes > np.finfo(target).max)).any()


def _whole_limits(target):
    if target.kind != "f":
        return int(np.iinfo(target).min), int(np.iinfo(target).max)
    exact = 2 ** (np.finfo(target).nmant + 1) - 1
    return -exact, exact


def _limits(target):
    """A test for numbers that a type cannot hold, and words for those that it can."""
    low, high = _whole_limits(target)
    if target.kind != "f":
        return lambda leaf: not low <= leaf <= high, f"an integer from {low} to {high}"
    largest = float(np.finfo(target).max)

    def is_wrong(leaf):
        if type(leaf) is int:
            return not low <= leaf <= high
        return abs(leaf) > largest and not math.isinf(leaf)

    return is_wrong, f"a number within {largest:.8g}, without a decimal point within {high}"


def _encoded(name, leaf):
    try:
        if isinstance(leaf, str):
            return leaf.encode()
        if _is_base64(leaf):
            return base64.b64decode(leaf["b64"], validate=True)
    except UnicodeEncodeError:
        raise RequestError(f"Input '{name}': a string has half a surrogate pair") from None
    except (binascii.Error, ValueError):
        raise RequestError(f"Input '{name}': Unable to base64 decode {shown(leaf)}") from None
    raise RequestError(
        f"Input '{name}': JSON Value: {shown(leaf)} not formatted correctly for base64 data"
    )


def _fits(sizes, shape):
    return len(sizes) == len(shape) and all(
        expected in (-1, size) for size, expected in zip(sizes, shape, strict=True)
    )


def _shown(shape):
    return "[" + ",".join(map(str, shape)) + "]"
