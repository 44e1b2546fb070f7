"""Encoder and decoder networks, dense and convolutional, as plain Keras functional models.

Any Keras model with the same inputs and outputs can take their place in ``VAE``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from vae_anomaly.image_windows import SMALLEST_SIDE
from vae_anomaly.vae.layers import EncoderInput, SoftBound, Tensor

Activation: TypeAlias = str | Callable[[Any], Any] | None

# exp(LOG_VAR_LIMIT) is far from overflow in float32, and no posterior needs more.
LOG_VAR_LIMIT = 10.0
_SMALLEST_LARGE_IMAGE = 16
_FORMAT = "channels_last"  # whatever keras.config.image_data_format() says


def dense_encoder(
    n_features: int,
    hidden_units: Sequence[int] = (128, 128),
    latent_dim: int = 16,
    *,
    activation: Activation = "relu",
    variational: bool = True,
    column_widths: Sequence[int] | None = None,
    hidden_share: float = 0.2,
    seed: int | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Build a fully connected encoder, x -> (z_mean, z_log_var).

    Parameters
    ----------
    n_features : int
        Number of features of x.
    hidden_units : sequence of int
        Units of each hidden layer, from x towards z. Empty: a linear encoder.
    latent_dim : int
        Size of z; may exceed ``n_features``.
    activation : str, callable or None
        Activation of the hidden layers.
    variational : bool
        ``False``: the encoder of a plain autoencoder, with the single output z.
    column_widths : sequence of int or None
        Number of features of each column of a table. If given, the encoder takes (x, observed)
        through ``vae_anomaly.vae.layers.EncoderInput``.
    hidden_share : float
        Share of cells that ``EncoderInput`` hides in training; for ``column_widths`` only.
    seed : int or None
        Seed of the initial weights and of the hidden cells.
    dtype : str, keras.DTypePolicy or None
        Precision of the hidden layers; the outputs are float32.

    Returns
    -------
    keras.Model
        (n, n_features), or [(n, n_features), (n, columns)] -> [z_mean, z_log_var], each
        (n, latent_dim); z alone if not ``variational``.

    Raises
    ------
    ValueError
        A size is not an int >= 1, or the widths do not add up to ``n_features``.

    Examples
    --------
    >>> from vae_anomaly.vae import dense_encoder
    >>> [tuple(output.shape) for output in dense_encoder(6, (5, 5, 4), 2).outputs]
    [(None, 2), (None, 2)]
    """
    rng = np.random.default_rng(seed)
    inputs = visible = keras.Input((_positive(n_features, "n_features"),), **_named("x"))
    if column_widths is not None:
        if sum(column_widths) != n_features:
            raise ValueError(
                f"Expected `column_widths` to add up to n_features={n_features}. "
                f"Received: column_widths={column_widths!r}"
            )
        inputs = [inputs, keras.Input((len(column_widths),), **_named("observed"))]
        seeded: dict[str, Any] = {"hidden_share": hidden_share, "seed": _draw_seed(rng)}
        visible = EncoderInput(column_widths, **seeded, **_named("encoder_input"))(inputs)
    hidden = _hidden(visible, hidden_units, activation, rng, dtype)
    return keras.Model(inputs, _latent(hidden, latent_dim, variational, rng), name="encoder")


def dense_decoder(
    latent_dim: int,
    hidden_units: Sequence[int],
    n_outputs: int,
    *,
    activation: Activation = "relu",
    seed: int | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Build a fully connected decoder, z -> the parameters of p(x|z).

    Parameters
    ----------
    latent_dim : int
        Size of z.
    hidden_units : sequence of int
        Units of each hidden layer **as given to the encoder**; used in reverse.
    n_outputs : int
        Number of outputs, for example ``Gaussian(n_features).n_outputs``.
    activation, seed, dtype
        As in ``dense_encoder``.

    Returns
    -------
    keras.Model
        (n, latent_dim) -> (n, n_outputs).

    Raises
    ------
    ValueError
        A size is not an int >= 1.

    Examples
    --------
    >>> from vae_anomaly.vae import dense_decoder
    >>> tuple(dense_decoder(2, (5, 5, 4), 12).output_shape)
    (None, 12)
    """
    rng = np.random.default_rng(seed)
    inputs = keras.Input((_positive(latent_dim, "latent_dim"),), **_named("z"))
    hidden = _hidden(inputs, tuple(hidden_units)[::-1], activation, rng, dtype)
    outputs = _dense(_positive(n_outputs, "n_outputs"), rng, name="outputs", dtype="float32")
    return keras.Model(inputs, outputs(hidden), name="decoder")


def conv_encoder(
    image_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    hidden_units: Sequence[int] = (128,),
    latent_dim: int = 32,
    *,
    activation: Activation = "relu",
    variational: bool = True,
    seed: int | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Build a convolutional encoder, image -> (z_mean, z_log_var).

    Each block is a convolution that divides height and width by its stride (rounded up): 4 for the
    first block of images of 16 x 16 pixels or more, otherwise 2. Kernels are twice as wide.

    Parameters
    ----------
    image_shape : (int, int, int)
        Height and width, 8 or more each, and channels.
    filters : sequence of int or None
        Filters of each block, from the image towards z. ``None``: ``default_filters``.
    hidden_units : sequence of int
        Units of the fully connected layers between the blocks and z.
    latent_dim, activation, variational, seed, dtype
        As in ``dense_encoder``.

    Returns
    -------
    keras.Model
        (n, height, width, channels) -> [z_mean, z_log_var], each (n, latent_dim); z alone if not
        ``variational``.

    Raises
    ------
    ValueError
        Images smaller than 8 x 8 pixels, or more blocks than the images have room for.

    Examples
    --------
    >>> from vae_anomaly.vae import conv_encoder
    >>> [tuple(output.shape) for output in conv_encoder((9, 13, 3), latent_dim=2).outputs]
    [(None, 2), (None, 2)]
    """
    image_shape = check_image_shape(image_shape)
    filters = _filters(filters, image_shape)
    rng = np.random.default_rng(seed)
    inputs = tensor = keras.Input(image_shape, **_named("x"))
    strides = _strides(filters, image_shape)
    for index, (count, stride) in enumerate(zip(filters, strides, strict=True)):
        options = {"activation": activation, **_named(f"conv_{index}", dtype)}
        tensor = _conv(keras.layers.Conv2D, count, stride, rng, **options)(tensor)
    tensor = keras.layers.Flatten(_FORMAT, **_named("flatten", dtype))(tensor)
    hidden = _hidden(tensor, hidden_units, activation, rng, dtype)
    return keras.Model(inputs, _latent(hidden, latent_dim, variational, rng), name="encoder")


def conv_decoder(
    latent_dim: int,
    hidden_units: Sequence[int],
    image_shape: Sequence[int],
    n_maps: int,
    *,
    filters: Sequence[int] | None = None,
    activation: Activation = "relu",
    seed: int | None = None,
    dtype: Any = None,
) -> keras.Model:
    """Build a convolutional decoder, z -> the parameters of p(x|z), mirror of ``conv_encoder``.

    Parameters
    ----------
    latent_dim : int
        Size of z.
    hidden_units : sequence of int
        **As given to the encoder**; used in reverse, like ``filters``.
    image_shape : (int, int, int)
        Height and width, 8 or more each, and channels.
    n_maps : int
        Outputs per value of x: ``likelihood.n_outputs // likelihood.n_features``.
    filters, activation, seed, dtype
        As in ``conv_encoder``.

    Returns
    -------
    keras.Model
        (n, latent_dim) -> (n, n_maps * height * width * channels): all values of the first
        map, then all of the second, as the likelihoods take them.

    Raises
    ------
    ValueError
        As in ``conv_encoder``.

    Examples
    --------
    >>> from vae_anomaly.vae import conv_decoder
    >>> tuple(conv_decoder(2, (16,), (9, 13, 3), n_maps=2).output_shape)
    (None, 702)
    """
    image_shape = check_image_shape(image_shape)
    filters = _filters(filters, image_shape)
    counts = [_positive(n_maps, "n_maps") * image_shape[2], *filters[:-1]]
    strides = _strides(filters, image_shape)
    sizes: list[tuple[int, ...]] = [image_shape[:2]]
    for stride in strides:
        sizes.append(tuple(-(-size // stride) for size in sizes[-1]))
    height, width = sizes[-1]
    rng = np.random.default_rng(seed)
    inputs = keras.Input((_positive(latent_dim, "latent_dim"),), **_named("z"))
    hidden = _hidden(inputs, tuple(hidden_units)[::-1], activation, rng, dtype)
    units = height * width * filters[-1]
    tensor = _dense(units, rng, activation=activation, name="unflatten", dtype=dtype)(hidden)
    tensor = keras.layers.Reshape((height, width, filters[-1]), **_named("to_image", dtype))(tensor)
    for index in reversed(range(len(filters))):
        stride = strides[index]
        options = _named(f"conv_{index}")
        if index:
            options = {"activation": activation, **_named(f"conv_{index}", dtype)}
        conv = _conv(keras.layers.Conv2DTranspose, counts[index], stride, rng, **options)
        tensor = conv(tensor)
        # Sizes that the encoder rounded up come back too large.
        excess = tuple((0, stride * -(-size // stride) - size) for size in sizes[index])
        if excess != ((0, 0), (0, 0)):
            tensor = keras.layers.Cropping2D(excess, _FORMAT, **_named(f"crop_{index}"))(tensor)
    return keras.Model(inputs, flat_maps(tensor, image_shape), name="decoder")


def flat_maps(tensor: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Flatten decoder maps, map by map, as the likelihoods take them.

    Parameters
    ----------
    tensor : KerasTensor, (n, height, width, n_maps * channels)
    image_shape : (int, int, int)
        Height, width and channels.

    Returns
    -------
    KerasTensor, (n, n_maps * height * width * channels)
    """
    height, width, channels = image_shape
    n_maps = tensor.shape[-1] // channels
    if n_maps > 1:
        tensor = keras.layers.Reshape((height * width, n_maps, channels), **_named("maps"))(tensor)
        tensor = keras.layers.Permute((2, 1, 3), **_named("map_by_map"))(tensor)
    return keras.layers.Flatten(_FORMAT, **_named("outputs"))(tensor)


def default_filters(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the filters of the default blocks: 16, 32, then 64 each, until 7 pixels are left.

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels.

    Returns
    -------
    tuple of int
        Filters of each block; after the last one the shorter side is 7 pixels or fewer.

    Examples
    --------
    >>> from vae_anomaly.vae.networks import default_filters
    >>> default_filters((8, 8, 1)), default_filters((28, 28, 1)), default_filters((64, 96, 3))
    ((16,), (16,), (16, 32, 64))
    """
    filters = [16]
    while -(-min(image_shape[:2]) // math.prod(_strides(filters, image_shape))) > 7:
        filters.append(min(2 * filters[-1], 64))
    return tuple(filters)


def is_large(image_shape: Sequence[int]) -> bool:
    """Return whether the shorter side of images is 16 pixels or more.

    The first convolution of large images has stride 4, which was as good as two convolutions of
    stride 2 on MNIST (``benchmarks/LOG.md``) in half of the time.
    """
    return min(image_shape[:2]) >= _SMALLEST_LARGE_IMAGE


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (height, width, channels) as ints; ValueError if smaller than 8 x 8 pixels."""
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape[:2]) < SMALLEST_SIDE or shape[2] < 1:
        raise ValueError(
            "Expected `image_shape` of (height, width, channels), "
            f"{SMALLEST_SIDE} x {SMALLEST_SIDE} pixels or more. "
            f"Received: image_shape={image_shape!r}"
        )
    height, width, channels = shape
    return height, width, channels


def _filters(filters: Sequence[int] | None, image_shape: Sequence[int]) -> Sequence[int]:
    if filters is None:
        return default_filters(image_shape)
    filters = [_positive(count, f"filters[{index}]") for index, count in enumerate(filters)]
    if not filters or math.prod(_strides(filters, image_shape)) > min(image_shape[:2]):
        raise ValueError(
            "Expected `filters` for one block or more that leave at least a pixel of "
            f"{image_shape[0]} x {image_shape[1]}. Received: filters={filters!r}"
        )
    return filters


def _strides(filters: Sequence[int], image_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the factor by which each block shrinks the image."""
    return (4 if is_large(image_shape) else 2, *[2] * (len(filters) - 1))


def _latent(hidden: Tensor, latent_dim: int, variational: bool, rng: np.random.Generator) -> Any:
    latent_dim = _positive(latent_dim, "latent_dim")
    z_mean = _dense(latent_dim, rng, name="z_mean" if variational else "z", dtype="float32")(hidden)
    if not variational:
        return z_mean
    z_log_var = _dense(latent_dim, rng, name="z_log_var_raw", dtype="float32")(hidden)
    return [z_mean, SoftBound(LOG_VAR_LIMIT, name="z_log_var", dtype="float32")(z_log_var)]


def _named(name: str, dtype: Any = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype}


def _conv(
    kind: type[keras.Layer], count: int, stride: int, rng: np.random.Generator, **kwargs: Any
) -> keras.Layer:
    initializer = keras.initializers.GlorotUniform(seed=_draw_seed(rng))
    options = {"strides": stride, "padding": "same", "data_format": _FORMAT, **kwargs}
    return kind(count, 2 * stride, kernel_initializer=initializer, **options)


def _hidden(
    tensor: Tensor,
    hidden_units: Sequence[int],
    activation: Activation,
    rng: np.random.Generator,
    dtype: Any,
) -> Tensor:
    for index, units in enumerate(hidden_units):
        units = _positive(units, f"hidden_units[{index}]")
        tensor = _dense(units, rng, activation=activation, name=f"hidden_{index}", dtype=dtype)(
            tensor
        )
    return tensor


def _dense(units: int, rng: np.random.Generator, **kwargs: Any) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=_draw_seed(rng))
    return keras.layers.Dense(units, kernel_initializer=initializer, **kwargs)


def _draw_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _positive(value: int, name: str) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Expected `{name}` to be an int >= 1. Received: {name}={value!r}")
    return int(value)
