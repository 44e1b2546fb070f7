"""Operations of a scorer's graph that tf2onnx lacks, or computes in float32 where it is float64.

Each handler takes tf2onnx's graph, a node of a TensorFlow operation, its name and a list without
use, and puts nodes of ONNX operations in its place.
"""

from typing import Any

import numpy as np


def _add_n(graph, node, name, _):
    # ONNX adds up several tensors only of floats.
    total, *others = node.input
    for other in others[:-1]:
        total = graph.make_node("Add", [total, other]).output[0]
    _replace(graph, node, "Add", [total, others[-1]])


def _log(graph, node, name, _):
    # tf2onnx's own handler rounds to float32.
    _replace(graph, node, "Log", node.input)


def _log1p(graph, node, name, _):
    one = _constant(graph, node, 1)
    added = graph.make_node("Add", [node.input[0], one]).output
    _replace(graph, node, "Log", added)


def _expm1(graph, node, name, _):
    one = _constant(graph, node, 1)
    grown = graph.make_node("Exp", node.input).output
    _replace(graph, node, "Sub", [*grown, one])


def _select(graph, node, name, _):
    # tf2onnx's own handler multiplies by 0, which does not hide NaN.
    _replace(graph, node, "Where", node.input)


def _softplus(graph, node, name, _):
    # ONNX Runtime's own overflows where exp does.
    x, *_ = node.input
    zero, one = _constant(graph, node, 0), _constant(graph, node, 1)
    size = graph.make_node("Abs", [x]).output
    small = graph.make_node("Exp", graph.make_node("Neg", size).output).output
    rest = graph.make_node("Log", graph.make_node("Add", [*small, one]).output).output
    positive = graph.make_node("Max", [x, zero]).output
    _replace(graph, node, "Add", [*positive, *rest])


def _upper_bound(graph, node, name, _):
    """``UpperBound``: how many of the sorted values, (b, m), are at or below each of (b, n).

    Bisection, all values at once: each pass looks a power of 2 ahead.
    """
    values_sorted, values = node.input
    n_sorted = graph.get_shape(values_sorted)[1]
    n_passes = int(n_sorted).bit_length()
    # So long that no pass looks beyond the end. How many sets there are may not be known here.
    ends = _make_const(graph, np.array([0, 0, 0, 2**n_passes - 1 - n_sorted], np.int64))
    infinity = _make_const(graph, np.array(np.inf, _numpy_type(graph, values)))
    padded = graph.make_node("Pad", [values_sorted, ends, infinity]).output[0]
    shape = graph.make_node("Shape", [values]).output[0]
    zero = graph.make_node("Expand", [_make_const(graph, np.int64(0)), shape]).output[0]
    place = zero
    for step in (2**index for index in reversed(range(n_passes))):
        ahead = graph.make_node("Add", [place, _make_const(graph, np.int64(step - 1))]).output[0]
        found = graph.make_node("GatherElements", [padded, ahead], attr={"axis": 1}).output[0]
        is_below = graph.make_node("LessOrEqual", [found, values]).output[0]
        after = graph.make_node("Add", [ahead, _make_const(graph, np.int64(1))]).output[0]
        place = graph.make_node("Where", [is_below, after, place]).output[0]
    # An infinity is not below the padding, but at it.
    most = _make_const(graph, np.int64(n_sorted))
    place = graph.make_node("Min", [place, most]).output[0]
    _replace(graph, node, "Cast", [place], to=graph.get_dtype(node.output[0]))


def _resize(graph, node, name, _):
    """``ScaleAndTranslate``, as ``tf.image.resize`` has it: a matrix for each of the two axes."""
    images, wanted = node.input[0], node.inputs[1].get_tensor_value()
    given = graph.get_shape(images)[1:3]
    for size, new, equation in zip(given, wanted, ("ah,nhwc->nawc", "bw,nhwc->nhbc"), strict=True):
        inputs = [_make_const(graph, resizing_weights(size, new)), images]
        images = graph.make_node("Einsum", inputs, attr={"equation": equation}).output[0]
    _replace(graph, node, "Identity", [images])


def resizing_weights(size: int, wanted: int) -> np.ndarray:
    """Return by what to multiply pixels to resize them, as ``tf.image.resize(antialias=True)``.

    Parameters
    ----------
    size, wanted : int
        Pixels on a side before and after.

    Returns
    -------
    float32 array, (wanted, size)

    Examples
    --------
    >>> resizing_weights(4, 2).round(3)
    array([[0.429, 0.429, 0.143, 0.   ],
           [0.   , 0.143, 0.429, 0.429]], dtype=float32)
    """
    centers = (np.arange(wanted) + 0.5) * size / wanted
    apart = np.abs(centers[:, None] - (np.arange(size) + 0.5)) / max(size / wanted, 1.0)
    weights = np.maximum(1 - apart, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


#: By TensorFlow operation, as ``tf2onnx.convert.from_function`` takes them.
HANDLERS: dict[str, tuple[Any, list]] = {
    "AddN": (_add_n, []),
    "Expm1": (_expm1, []),
    "Log": (_log, []),
    "Log1p": (_log1p, []),
    "ScaleAndTranslate": (_resize, []),
    "SelectV2": (_select, []),
    "Softplus": (_softplus, []),
    "UpperBound": (_upper_bound, []),
}


def _replace(graph, node, operation, inputs, **attributes):
    """Put an ONNX operation where the node is, with the same outputs."""
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node(
        operation, list(inputs), attr=attributes, outputs=node.output, shapes=shapes, dtypes=dtypes
    )


def _constant(graph, node, value):
    return _make_const(graph, np.array(value, _numpy_type(graph, node.output[0])))


def _make_const(graph, value):
    from tf2onnx.utils import make_name

    return graph.make_const(make_name("const"), np.asarray(value)).output[0]


def _numpy_type(graph, tensor):
    from tf2onnx.utils import map_onnx_to_numpy_type

    return map_onnx_to_numpy_type(graph.get_dtype(tensor))
