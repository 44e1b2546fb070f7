"""Images as feature maps: a frozen network inside the preprocessing, and its maps' components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.image_windows import (
    WindowGrid,
    cut_line,
    seen_shape,
    stitched_line,
    tile_grid,
    window_grid,
)
from vae_anomaly.images.preprocessing import ImagePreprocessor, Tensor

# The maps are brought to the size of the finest one of no more positions than this on a side: a
# covariance for each position takes memory.
_MOST_POSITIONS = 32
# The same, of images that the network sees in parts.
_MOST_TILED_POSITIONS = 64
# Components kept of the maps' channels. On magnetic tiles (benchmarks/LOG.md) 100 of 176 are as
# good as all, 64 are not; at 28 x 28 positions their covariances take 31 MB instead of 97.
_MOST_COMPONENTS = 100
# Each position sees its neighbours, so that a part may be a little displaced.
_NEIGHBOURHOOD = 3
# Images, or windows of images, in a call of the network: bounds the memory that its maps take.
_AT_ONCE = 8
# Values of networks that have no layer of their own to scale pixels, and of those that have one.
_SCALED, _PIXELS = (-1.0, 1.0), (0.0, 255.0)
_SCALING_LAYERS = (keras.layers.Rescaling, keras.layers.Normalization)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class FeaturePreprocessor(ImagePreprocessor):
    """Bring images to one shape, and turn them into standardised maps of a frozen network.

    ============ ==================================================================================
    pixels       as ``ImagePreprocessor``; then from -1 to 1, or from 0 to 255 where the network
                 begins with a ``Rescaling`` or ``Normalization`` layer; grey is repeated for
                 networks of three channels
    maps         all outputs of the network are brought to the size of the finest that has no more
                 than 32 x 32 positions, by linear interpolation (antialiased), joined, and averaged
                 over 3 x 3 positions; with ``tiles``, maps of windows are put together to one of
                 the image, of 64 x 64 positions at most
    components   the channels, each divided by its standard deviation, are projected to their 100
                 largest principal components, each of variance 1 over images and positions
    ============ ==================================================================================

    Parameters
    ----------
    image_shape, value_range, image_dtype, resize, **kwargs
        As in ``ImagePreprocessor``.
    backbone : keras.Model
        (n, height, width, 1 or 3) -> one or several maps (n, height / stride, width / stride,
        channels). Never trained; called as for inference.
    tiles : (int, int) or None
        Height and width of the overlapping windows that the network sees, as in ``image_windows``;
        None: whole images.

    Attributes
    ----------
    x_shape : (int, int, int)
        Height, width and components of the output.
    images_at_once : int
        Images in a call of the network.

    Raises
    ------
    ValueError
        The network does not take such images, or its outputs are no maps.

    Examples
    --------
    >>> network = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, 2)])
    >>> layer = FeaturePreprocessor((17, 17, 1), (0, 255), "uint8", backbone=network)
    >>> images = np.random.default_rng(0).integers(0, 255, (2, 20, 20, 1), dtype=np.uint8)
    >>> layer.adapt(layer.pixels(images))
    >>> tuple(layer(images).shape)
    (2, 8, 8, 4)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        value_range: Sequence[float],
        image_dtype: str,
        resize: str = "stretch",
        *,
        backbone: keras.Model,
        tiles: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_shape, value_range, image_dtype, resize, **kwargs)
        self.backbone = backbone
        self._extracting: Any = None
        grid = tile_grid(tiles, self.image_shape)
        self.tiles = None if grid is None else grid.window
        seen = seen_shape(self.image_shape, grid)
        sizes, n_channels = _map_shapes(backbone, seen)
        # The windows, in pixels and in positions; of an image that is not cut there is one.
        self._windows = grid or window_grid(seen[:2], seen[:2])
        most = _MOST_POSITIONS if grid is None else _MOST_TILED_POSITIONS
        self._places = _positions(self._windows, sizes, most)
        self.images_at_once = max(1, _AT_ONCE // len(self._windows.across.starts))
        n_components = min(n_channels, _MOST_COMPONENTS)
        self._x_shape = (*self._places.size, n_components)
        has_scaling = any(isinstance(layer, _SCALING_LAYERS) for layer in backbone.layers[:2])
        self._lowest, self._highest = _PIXELS if has_scaling else _SCALED
        self.center = self.add_weight(
            shape=(n_channels,), initializer="zeros", trainable=False, name="center"
        )
        self.projection = self.add_weight(
            shape=(n_channels, n_components),
            initializer="zeros",
            trainable=False,
            name="projection",
        )

    @property
    def x_shape(self) -> tuple[int, int, int]:
        return self._x_shape

    @property
    def layers(self) -> list[keras.Model]:
        """The networks inside, by whose layers the weights are named where they are saved."""
        return [self.backbone]

    def adapt(self, pixels: Tensor) -> None:
        """Learn the components from some images.

        Parameters
        ----------
        pixels : tensor, (n, *image_shape), n >= 1
            As of ``pixels``.
        """
        spec = tf.TensorSpec([None, *self.image_shape])
        maps_of = tf.function(self._maps, autograph=False).get_concrete_function(spec)
        starts = range(0, len(pixels), self.images_at_once)
        parts = [pixels[start : start + self.images_at_once] for start in starts]
        maps = np.concatenate([maps_of(tf.constant(part)).numpy() for part in parts])
        flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
        center = flat.mean(axis=0)
        flat -= center
        deviation = flat.std(axis=0)
        deviation[deviation < 1e-6 * max(deviation.max(), 1e-6)] = np.inf  # constant channels
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov((flat / deviation).T)))
        largest = slice(-1, -1 - self.x_shape[2], -1)
        lengths = np.sqrt(np.maximum(values[largest], 1e-6 * max(values[-1], 1e-6)))
        self.center.assign(center)
        self.projection.assign(vectors[:, largest] / deviation[:, None] / lengths)

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        """Return ``features`` of some images, float32, computed for ``images_at_once`` each time.

        Results differ in their last bits with the number of images in a call of the graph, so it
        is always the same; the last call is filled up with black images.
        """
        if self._extracting is None:
            spec = tf.TensorSpec([self.images_at_once, *self.image_shape])
            function = tf.function(self.features, autograph=False)
            self._extracting = function.get_concrete_function(spec)
        missing = -len(pixels) % self.images_at_once
        filled = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))
        parts = np.split(filled, len(filled) // self.images_at_once)
        features = [self._extracting(tf.constant(part)).numpy() for part in parts]
        return np.concatenate(features)[: len(pixels)]

    def features(self, pixels: Tensor) -> Tensor:
        """Return the components of the maps, float32 (n, *x_shape), of what ``pixels`` returns."""
        maps = self._maps(pixels) - self.center.value
        return tf.tensordot(maps, self.projection.value, 1)

    def call(self, images: Tensor) -> Tensor:
        return self.features(self.pixels(images))

    def _maps(self, pixels):
        maps = self._joined(pixels) if self.tiles is None else self._stitched(pixels)
        return tf.nn.avg_pool2d(maps, _NEIGHBOURHOOD, 1, "SAME")

    def _joined(self, pixels):
        """Return the maps of what the network sees at once, brought to one size and joined."""
        x = self._lowest + pixels * (self._highest - self._lowest)
        if self.image_shape[2] == 1:
            x = tf.repeat(x, self.backbone.input_shape[-1], axis=-1)
        maps = self.backbone(x, training=False)
        maps = maps if isinstance(maps, (list, tuple)) else [maps]
        size = self._places.window
        maps = [tf.image.resize(tf.cast(part, tf.float32), size, antialias=True) for part in maps]
        return tf.concat(maps, axis=-1)

    def _stitched(self, pixels):
        """Return the maps of whole images, of which the network sees one row of windows a time."""
        (down, across), (height, width) = self._windows, self._windows.window
        n_across, channels = len(across.starts), self.image_shape[2]

        def row_maps(strip):  # (n, window height, width, channels)
            windows = tf.transpose(cut_line(strip, across, axis=2), (0, 2, 1, 3, 4))
            maps = self._joined(tf.reshape(windows, (-1, height, width, channels)))
            maps = tf.reshape(maps, (-1, n_across, *maps.shape[1:]))
            return stitched_line(tf.transpose(maps, (0, 2, 1, 3, 4)), self._places.across, axis=2)

        strips = tf.transpose(cut_line(pixels, down, axis=1), (1, 0, 2, 3, 4))
        shape = (None, self._places.window[0], self._x_shape[1], self.center.shape[0])
        rows = tf.map_fn(
            row_maps,
            strips,
            parallel_iterations=1,
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )
        return stitched_line(tf.transpose(rows, (1, 0, 2, 3, 4)), self._places.down, axis=1)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "backbone": self.backbone.to_json()}
        return config if self.tiles is None else {**config, "tiles": list(self.tiles)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeaturePreprocessor:
        backbone = keras.models.model_from_json(config["backbone"])
        return cls(**{**config, "backbone": backbone})


def _positions(grid: WindowGrid, sizes: Sequence[tuple[int, int]], most: int) -> WindowGrid:
    """Return the windows of maps: of the finest maps of a window, ``sizes``, that are small.

    ``most`` is how many positions a whole image has on a side. Each window keeps positions of its
    own, and neighbours leave none between them.

    Raises
    ------
    ValueError
        All maps of windows are too coarse for that.
    """

    def whole(size):
        sides = zip(grid.size, grid.window, size, strict=True)
        return tuple(-(-side * count // part) for side, part, count in sides)

    sides = zip(grid, min(sizes), strict=True)
    smaller = tuple(
        max(1, min(count, 2), min(count, most * line.window // line.size)) for line, count in sides
    )
    chosen = max((size for size in sizes if max(whole(size)) <= most), default=smaller)
    if any(len(line.starts) > 1 and count < 2 for line, count in zip(grid, chosen, strict=True)):
        height, width = grid.window
        raise ValueError(
            "Expected `tiles` of which the backbone makes maps of 2 positions or more on a side. "
            f"Received: {chosen[0]} x {chosen[1]} positions of tiles of {height} x {width} pixels. "
            "Take larger ones, or a backbone with finer maps."
        )
    return grid.scaled(whole(chosen), chosen)


def _map_shapes(
    backbone: keras.Model, image_shape: Sequence[int]
) -> tuple[list[tuple[int, int]], int]:
    """Return heights and widths of a network's maps, and how many channels they have together."""
    height, width, channels = image_shape
    taken: tuple[int | None, ...] = backbone.input_shape if len(backbone.inputs) == 1 else ()
    if len(taken) != 4 or not _takes(taken[1:], image_shape):
        raise ValueError(
            f"Expected `backbone` to take images of {height} x {width} pixels and {channels} "
            f"channel(s), or grey ones as colour. Received: a network that takes "
            f"{backbone.input_shape}. Bring the images to its shape with `image_shape`."
        )
    outputs = backbone.compute_output_shape((1, height, width, taken[3]))
    shapes = outputs if isinstance(outputs, list) else [outputs]
    if not all(len(shape) == 4 and min(shape[1:]) >= 1 for shape in shapes):
        raise ValueError(
            "Expected a `backbone` whose outputs are maps (n, height, width, channels). Received: "
            f"one whose outputs are {backbone.output_shape} and, of images of {height} x {width} "
            f"pixels, {shapes}. Leave out its head (include_top=False), or take larger images."
        )
    return [shape[1:3] for shape in shapes], sum(shape[3] for shape in shapes)


def _takes(taken: Sequence[int | None], image_shape: Sequence[int]) -> bool:
    is_size = all(a in (None, b) for a, b in zip(taken[:2], image_shape[:2], strict=True))
    return is_size and taken[2] in ({1, 3} if image_shape[2] == 1 else {image_shape[2]})
