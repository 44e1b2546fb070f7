"""Networks of windows as networks of whole images, which are cut up and put together again."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vae_anomaly.image_windows import WindowGrid, cut, stitched, window_grid
from vae_anomaly.vae.layers import Tensor

# The low-discrepancy sequence of the fixed draws of z has no more dimensions.
_MOST_LATENT = 21_201


def tiled_networks(
    encoder: keras.Model, decoder: keras.Model, image_shape: Sequence[int], window: Sequence[int]
) -> tuple[keras.Model, keras.Model]:
    """Return the networks of whole images that use those of a window for each of their windows.

    z is the z of all windows, one after the other; where windows overlap, the parameters of p(x|z)
    are weighted means of theirs, as in ``image_windows.stitched``.

    Parameters
    ----------
    encoder, decoder : keras.Model
        As of ``VAE`` or ``Autoencoder``, for windows.
    image_shape : (int, int, int)
        Height, width and channels of the images.
    window : (int, int)
        Height and width of a window.

    Raises
    ------
    ValueError
        z would be longer than draws of it can be.

    Examples
    --------
    >>> from vae_anomaly.vae import conv_decoder, conv_encoder
    >>> networks = conv_encoder((8, 8, 1), latent_dim=2), conv_decoder(2, (), (8, 8, 1), n_maps=2)
    >>> encoder, decoder = tiled_networks(*networks, (8, 20, 1), (8, 8))
    >>> encoder.output_shape, decoder.output_shape
    ([(None, 6), (None, 6)], (None, 320))
    """
    grid = window_grid(image_shape[:2], window)
    latent_dim = decoder.input_shape[-1]
    n_latent = grid.n_windows * latent_dim
    if n_latent > _MOST_LATENT:
        raise ValueError(
            f"Expected at most {_MOST_LATENT} numbers in z. Received: {latent_dim} for each of "
            f"{grid.n_windows} windows. Take larger `tiles` or a smaller `latent_dim`."
        )
    images = keras.Input(tuple(image_shape), name="x", dtype="float32")
    outputs = encoder(CutWindows(image_shape, window, name="cut", dtype="float32")(images))
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    codes = [
        Regroup(n_latent, name=f"joined_{index}", dtype="float32")(output)
        for index, output in enumerate(outputs)
    ]
    z = keras.Input((n_latent,), name="z", dtype="float32")
    parts = decoder(Regroup(latent_dim, name="split", dtype="float32")(z))
    whole = StitchWindows(image_shape, window, name="stitched", dtype="float32")(parts)
    return (
        keras.Model(images, codes if len(codes) > 1 else codes[0], name="tiled_encoder"),
        keras.Model(z, whole, name="tiled_decoder"),
    )


class _OfWindows(keras.layers.Layer):
    """A layer without weights that knows the size of images and of windows."""

    def __init__(self, image_shape: Sequence[int], window: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image_shape = tuple(int(size) for size in image_shape)
        self.window = tuple(int(size) for size in window)
        self.grid: WindowGrid = window_grid(self.image_shape[:2], self.window)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "image_shape": list(self.image_shape),
            "window": list(self.window),
        }


@keras.saving.register_keras_serializable(package="vae_anomaly")
class CutWindows(_OfWindows):
    """Cut images (n, height, width, channels) into windows, (n * windows, h, w, channels).

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels.
    window : (int, int)
        Height and width of a window.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.
    """

    def call(self, images: Tensor) -> Tensor:
        windows = cut(images, self.grid)
        return ops.reshape(windows, (-1, *self.window, self.image_shape[2]))


@keras.saving.register_keras_serializable(package="vae_anomaly")
class StitchWindows(_OfWindows):
    """Put maps of windows together, flattened map by map, as decoders give them.

    (n * windows, n_maps * h * w * channels) -> (n, n_maps * height * width * channels).

    Parameters
    ----------
    image_shape, window, **kwargs
        As in ``CutWindows``.
    """

    def call(self, windows: Tensor) -> Tensor:
        (down, across), channels = self.grid, self.image_shape[2]
        n_maps = windows.shape[-1] // (down.window * across.window * channels)
        sides = (len(down.starts), len(across.starts), n_maps, *self.window, channels)
        # Maps beside channels, as of one image with more of them.
        parts = ops.transpose(ops.reshape(windows, (-1, *sides)), (0, 1, 2, 4, 5, 3, 6))
        parts = ops.reshape(parts, (-1, *sides[:2], *self.window, n_maps * channels))
        images = stitched(parts, self.grid)
        images = ops.reshape(images, (-1, *self.image_shape[:2], n_maps, channels))
        images = ops.transpose(images, (0, 3, 1, 2, 4))
        height, width, _ = self.image_shape
        return ops.reshape(images, (-1, n_maps * height * width * channels))


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Regroup(keras.layers.Layer):
    """Write the numbers of all rows anew into rows of another length, (n, d) -> (m, length).

    Parameters
    ----------
    length : int
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.
    """

    def __init__(self, length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = int(length)
        self.built = True

    def call(self, rows: Tensor) -> Tensor:
        return ops.reshape(rows, (-1, self.length))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length}
