"""Which network ``backbone`` means: a model, a ``.keras`` file, or one of ``keras.applications``.

Files and saved detectors may come from anybody: only networks of known layers are built of them.
"""

from __future__ import annotations

import os
import re
import zipfile
from typing import Any

import keras

from vae_anomaly.vae.network_json import check_network
from vae_anomaly.vae.unallocated import unallocated

MAX_WEIGHTS = 2**27  #: numbers in a network that comes from a file: 512 MB
_MAX_CONFIG_BYTES = 4 * 2**20
# Maps of these strides are taken from networks of keras.applications.
_STRIDES = (4, 8, 16)
# Channel means of ImageNet that networks were trained with, in the order of the file, and in units
# of 0 to 255; deviations of those that were divided by them. Other networks take -1 to 1, or scale
# pixels themselves.
_MEANS, _DEVIATIONS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_BLUE_FIRST_MEANS = (123.68, 116.779, 103.939)
_STANDARDISED = ("DenseNet",)
_BLUE_FIRST = ("VGG", "ResNet50", "ResNet101", "ResNet152")


def backbone_of(given: Any, image_shape: tuple[int, int, int]) -> keras.Model:
    """Return the network that a detector's ``backbone`` is.

    Parameters
    ----------
    given : keras.Model, path or str
        A model is returned as it is. A path ends in ".keras". A name is that of a network in
        ``keras.applications``, in any case, with its ImageNet weights, which Keras downloads once;
        of it the last sums of residual blocks (or else the last layers) of strides 4, 8 and 16.
    image_shape : (int, int, int)
        Height, width and channels of the images.

    Raises
    ------
    ValueError
        There is no such file or name, or its layers are not known to be harmless.
    """
    if isinstance(given, keras.Model):
        return given
    path = os.fspath(given)
    if path.endswith(".keras"):
        return _from_file(path)
    networks = {_plain(name): name for name in dir(keras.applications) if name[0].isupper()}
    if _plain(path) not in networks:
        raise ValueError(
            "Expected `backbone` to be a keras.Model, a file that ends in .keras, or a network of "
            f"keras.applications, such as 'efficientnetv2-b0'. Received: backbone={given!r}"
        )
    return _from_applications(networks[_plain(path)], image_shape[:2])


def check_backbone(text: str) -> None:
    """Check the configuration of a network without building it in memory.

    Raises
    ------
    ValueError
        It has layers that are not known to be harmless, or more than ``MAX_WEIGHTS``.
    """
    check_network(text)
    with unallocated():
        n_weights = keras.models.model_from_json(text).count_params()
    if n_weights > MAX_WEIGHTS:
        raise ValueError(
            f"Expected a backbone of at most {MAX_WEIGHTS} weights. Received: {n_weights}."
        )


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _from_file(path: str) -> keras.Model:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            text = file.read(_MAX_CONFIG_BYTES + 1)
        if len(text) > _MAX_CONFIG_BYTES:
            raise ValueError(f"its configuration has more than {_MAX_CONFIG_BYTES} bytes")
        check_backbone(text.decode())
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: expected a network saved by Keras of layers that are known to be harmless. "
            f"Received: {reason}"
        ) from error


def _from_applications(name: str, size: tuple[int, int]) -> keras.Model:
    try:
        network = getattr(keras.applications, name)(include_top=False, input_shape=(*size, 3))
    except Exception as error:  # whatever Keras and the operating system say of a download
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"Expected the weights of {name}, which Keras downloads once. Received: {reason}"
        ) from error
    outputs = [_last_of_stride(network, stride, size) for stride in _STRIDES]
    network = keras.Model(network.inputs, [output for output in outputs if output is not None])
    inputs = keras.Input((*size, 3))
    if name.startswith(_STANDARDISED):
        scaled = keras.layers.Rescaling(
            [1 / deviation for deviation in _DEVIATIONS],
            [-mean / deviation for mean, deviation in zip(_MEANS, _DEVIATIONS, strict=True)],
        )(inputs)
    elif name.startswith(_BLUE_FIRST) and not name.endswith("V2"):
        offsets = [-mean for mean in _BLUE_FIRST_MEANS]
        scaled = keras.ops.flip(keras.layers.Rescaling(1.0, offsets)(inputs), axis=-1)
    else:
        return network
    return keras.Model(inputs, network(scaled))


def _last_of_stride(network, stride, size):
    """Return the last sum of residual blocks of a stride, the last output if there is none."""
    wanted = (-(-size[0] // stride), -(-size[1] // stride))
    found = [
        layer
        for layer in network.layers
        if isinstance(getattr(layer, "output", None), keras.KerasTensor)
        and layer.output.shape[1:3] == wanted
    ]
    sums = [layer for layer in found if isinstance(layer, keras.layers.Add)]
    return (sums or found)[-1].output if found else None
