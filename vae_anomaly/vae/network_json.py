"""Networks from their Keras configuration, built of parts that are known to compute and no more.

A configuration can name any class or function of Keras, among them some that run code, read files
or allocate memory for numbers that they are given. Only these are built:

- layers of ``keras.layers`` that are activations, attention, convolutions, dense or embedding
  layers, merging, normalization, pooling, regularization, reshaping or recurrent ones (but
  unrolled ones), and ``Rescaling`` and ``Normalization``;
- arithmetic of ``keras.ops``, initializers, regularizers, constraints and activations of Keras;
- what the process has registered with ``keras.saving.register_keras_serializable``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import keras

MAX_LAYERS = 500  #: of a network with those that it contains
MAX_PARTS = 10_000  #: named classes, arguments of layers included

_LAYER_MODULES = (
    *("activations", "attention", "convolutional", "core", "merging", "normalization", "pooling"),
    *("regularization", "reshaping", "rnn"),
)
_OTHER_LAYERS = ("Normalization", "Rescaling")
_LAYERS_WITH_CODE = ("Lambda", "TFSMLayer")
_MODELS = {("keras", "Sequential"), ("keras.src.models.functional", "Functional")}
_PART_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
_NO_ACTIVATIONS = ("deserialize", "get", "serialize")
_PLAIN_PARTS = ("__keras_tensor__", "__slice__", "__ellipsis__", "__tuple__")


def network_from_json(text: str) -> keras.Model:
    """Build a network from its Keras configuration, without running code that came with it.

    Parameters
    ----------
    text : str
        As ``keras.Model.to_json`` makes it.

    Raises
    ------
    ValueError
        As ``check_network``.
    """
    check_network(text)
    return keras.models.model_from_json(text)


def check_network(text: str) -> None:
    """Check the Keras configuration of a network, without building anything.

    Raises
    ------
    ValueError
        It has parts that are not those in the list above, or too many.
    """
    try:
        config = json.loads(text)
    except RecursionError as error:
        raise ValueError("Expected JSON of fewer levels.") from error
    parts = [item for item in _items(config) if isinstance(item, dict) and "class_name" in item]
    nested = [item.get("layers") for item in _items(config) if isinstance(item, dict)]
    n_layers = sum(len(layers) for layers in nested if isinstance(layers, list))
    if n_layers > MAX_LAYERS or len(parts) > MAX_PARTS:
        raise ValueError(
            f"Expected a network of at most {MAX_LAYERS} layers. Received: {n_layers} layers, "
            f"{len(parts)} parts."
        )
    for part in parts:
        _check_part(part)


def _check_part(part: dict[str, Any]) -> None:
    name, module, registered = (part.get(k) for k in ("class_name", "module", "registered_name"))
    is_known = isinstance(name, str) and (
        (module is None and name in _PLAIN_PARTS)
        or _is_registered(registered or name)
        or _is_of_keras(str(module or "keras.layers"), name, part.get("config"))
    )
    if not is_known or name in _LAYERS_WITH_CODE:
        raise ValueError(
            "Expected networks of Keras' layers, or of layers registered with "
            "keras.saving.register_keras_serializable, and none that read files or hold code, such "
            f"as {', '.join(_LAYERS_WITH_CODE)}. Received: {module}.{name}"[:500]
        )
    if isinstance(part.get("config"), dict) and part["config"].get("unroll"):
        raise ValueError(f"Expected recurrent layers with unroll=False. Received: {name}")
    # Called with numbers alone, it would compute them at once, however large the outcome.
    for node in part.get("inbound_nodes") or ():
        if not any(isinstance(item, dict) and _is_tensor(item) for item in _items(node)):
            raise ValueError(f"Expected layers that are called with tensors. Received: {name}")


def _is_tensor(part: dict[str, Any]) -> bool:
    return part.get("class_name") == "__keras_tensor__"


def _items(config: Any) -> Iterator[Any]:
    """Yield a configuration and all that is in it."""
    left = [config]
    while left:
        yield (item := left.pop())
        if isinstance(item, (dict, list)):
            left.extend(item.values() if isinstance(item, dict) else item)


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _is_of_keras(module: str, name: str, config: Any) -> bool:
    if (module, name) in _MODELS or (module == "keras" and name == "DTypePolicy"):
        return True
    if module == "keras.layers":
        layer = getattr(keras.layers, name, None)
        where = getattr(layer, "__module__", "").split(".")
        return name in _OTHER_LAYERS or where[3:4] in [[kind] for kind in _LAYER_MODULES]
    if module in _PART_MODULES:
        return isinstance(getattr(getattr(keras, module.split(".")[1]), name, None), type)
    if name == "function":
        is_activation = hasattr(keras.activations, str(config)) and config not in _NO_ACTIVATIONS
        return is_activation and module in ("keras.activations", "builtins")
    if module.startswith("keras.src.ops."):
        operation = getattr(keras.src.ops, module.split(".")[3], None)
        operation = getattr(operation, name, None)
        return isinstance(operation, type) and issubclass(operation, keras.Operation)
    return False
