"""Images as a Keras layer: from arrays of any size and colour to what the model sees, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.images.form import ImageForm, check_resize

Tensor: TypeAlias = Any  #: what TensorFlow and Keras compute with


def with_shape(
    images: Tensor,
    image_shape: tuple[int, int, int],
    *,
    is_rounded: bool,
    resize: str = "stretch",
    fill: float = 0.0,
) -> Tensor:
    """Resize images and make them grey or coloured, as ``ImagePreprocessor`` says.

    Parameters
    ----------
    images : tensor of numbers, (n, height, width, channels)
    image_shape : (int, int, int)
        Height, width and channels of the output.
    is_rounded : bool
        Whether to round back to whole levels.
    resize : {"stretch", "pad", "crop"}
        What to do about other proportions.
    fill : float
        The value to pad with.

    Returns
    -------
    float32 tensor, (n, *image_shape)
    """
    images = tf.convert_to_tensor(images)
    x = tf.cast(images, tf.float32)
    height, width, channels = image_shape
    # The size may be known only when the graph runs; images that have it already do not change,
    # for interpolation at a scale of one is the identity.
    if tuple(images.shape[1:3]) != (height, width):
        x = _resized(x, (height, width), resize, fill)
    # So may the number of channels.
    if images.shape[-1] is None and channels == 1:
        x = tf.cond(tf.equal(tf.shape(x)[-1], 3), lambda: _grey(x), lambda: x)
    elif images.shape[-1] == 3 and channels == 1:
        x = _grey(x)
    elif channels == 3:
        x = tf.broadcast_to(x, tf.concat([tf.shape(x)[:3], [3]], axis=0))
    x = tf.ensure_shape(x, (None, *image_shape))
    return tf.round(x) if is_rounded else x


def _resized(x, size, resize, fill):
    """Bring images to (height, width); see ``ImagePreprocessor``."""
    if resize == "stretch":
        return tf.image.resize(x, size, antialias=True)
    wanted = tf.constant(size, tf.float64)
    given = tf.shape(x)[1:3]
    scales = wanted / tf.cast(given, tf.float64)
    if resize == "crop":
        kept = tf.cast(tf.round(wanted / tf.reduce_max(scales)), tf.int32)
        kept = tf.clip_by_value(kept, 1, given)
        top, left = tf.unstack((given - kept) // 2)
        x = x[:, top : top + kept[0], left : left + kept[1]]
        return tf.image.resize(x, size, antialias=True)
    kept = tf.cast(tf.round(tf.cast(given, tf.float64) * tf.reduce_min(scales)), tf.int32)
    kept = tf.clip_by_value(kept, 1, size)
    before = (size - kept) // 2
    margins = tf.stack([before, size - kept - before], axis=1)
    x = tf.image.resize(x, kept, antialias=True)
    return tf.pad(x, tf.pad(margins, [[1, 1], [0, 0]]), constant_values=fill)


def _grey(x):
    return tf.reduce_sum(x * tf.constant([0.2989, 0.587, 0.114]), axis=-1, keepdims=True)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class ImagePreprocessor(keras.layers.Layer):
    """Resize images, make them grey or coloured, and bring their values into [0, 1].

    ============ ==================================================================================
    size         linear interpolation, antialiased when it shrinks; values of ``uint8`` and
                 ``uint16`` are rounded back to whole levels, so that a resized image scores as if
                 it had been stored so
    proportions  "stretch": height and width are scaled each by itself; "pad": by the same factor,
                 the image is in the middle and the rest has the lowest value; "crop": the largest
                 part of the wanted proportions, from the middle, is scaled
    channels     3 to 1: 0.2989 red + 0.587 green + 0.114 blue; 1 to 3: repeated
    values       (value - low) / (high - low) of ``value_range``, cut off at 0 and 1; NaN becomes 0
    ============ ==================================================================================

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels of the output.
    value_range : (float, float)
        Lowest and highest value of an input.
    image_dtype : {"uint8", "uint16", "float32"}
        Of the input.
    resize : {"stretch", "pad", "crop"}
        What to do about images of other proportions.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> layer = ImagePreprocessor((8, 8, 1), (0, 255), "uint8")
    >>> x = layer(np.full((2, 16, 16, 3), 51, dtype=np.uint8))
    >>> tuple(x.shape), round(float(np.max(x)), 6)
    ((2, 8, 8, 1), 0.2)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        value_range: Sequence[float],
        image_dtype: str,
        resize: str = "stretch",
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.image_shape = tuple(int(size) for size in image_shape)
        self.value_range = tuple(float(value) for value in value_range)
        if (
            len(self.value_range) != 2
            or not -np.inf < self.value_range[0] < self.value_range[1] < np.inf
        ):
            raise ValueError(
                "Expected `value_range` of two finite numbers, the lower one first. "
                f"Received: value_range={value_range!r}"
            )
        self.image_dtype = str(image_dtype)
        self.resize = check_resize(resize)
        self.built = True

    @property
    def x_shape(self) -> tuple[int, ...]:
        """The shape of an output: what the model sees of an image."""
        return self.image_shape

    @property
    def form(self) -> ImageForm:
        """The form to which files are brought."""
        height, width, channels = self.image_shape
        return ImageForm((height, width, channels), self.image_dtype, self.resize)

    def call(self, images: Tensor) -> Tensor:
        """Preprocess images.

        Parameters
        ----------
        images : tensor of ``image_dtype``, (n, height, width, channels)

        Returns
        -------
        float32 tensor, (n, *x_shape)
        """
        return self.pixels(images)

    def pixels(self, images: Tensor) -> Tensor:
        """Return images of one shape with values from 0 to 1, float32 (n, *image_shape)."""
        low, high = self.value_range
        x = with_shape(
            images,
            self.form.shape,
            is_rounded=self.image_dtype != "float32",
            resize=self.resize,
            fill=low,
        )
        x = tf.clip_by_value((x - low) / (high - low), 0.0, 1.0)
        return tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)

    def inverse(self, x: Tensor) -> Tensor:
        """Return images in the units of the input, float32, of x with values from 0 to 1."""
        low, high = self.value_range
        return low + x * (high - low)

    def schema(self) -> dict[str, Any]:
        """Describe the images, for people and for programs.

        Returns
        -------
        dict of plain numbers and text
        """
        height, width, channels = self.image_shape
        return {
            "height": height,
            "width": width,
            "channels": channels,
            "value_range": list(self.value_range),
            "dtype": self.image_dtype,
            "resize": self.resize,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "value_range": list(self.value_range),
            "image_dtype": self.image_dtype,
            "resize": self.resize,
        }
