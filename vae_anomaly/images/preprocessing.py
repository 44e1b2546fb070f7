"""Images as a Keras layer: from arrays of any size and colour to what the model sees, and back."""

import keras
import numpy as np
import tensorflow as tf


def with_shape(images, image_shape, *, is_rounded):
    """Resize images and make them grey or coloured, as ``ImagePreprocessor`` says.

    Parameters
    ----------
    images : tensor of numbers, (n, height, width, channels)
    image_shape : (int, int, int)
        Height, width and channels of the output.
    is_rounded : bool
        Whether to round back to whole levels.

    Returns
    -------
    float32 tensor, (n, *image_shape)
    """
    images = tf.convert_to_tensor(images)
    x = tf.cast(images, tf.float32)
    height, width, channels = image_shape
    # The size may be known only when the graph runs; images that have it already pass as
    # they are, for interpolation at a scale of one is the identity.
    if tuple(images.shape[1:3]) != (height, width):
        x = tf.image.resize(x, (height, width), antialias=True)
    # So may the number of channels.
    if images.shape[-1] is None and channels == 1:
        x = tf.cond(tf.equal(tf.shape(x)[-1], 3), lambda: _grey(x), lambda: x)
    elif images.shape[-1] == 3 and channels == 1:
        x = _grey(x)
    elif channels == 3:
        x = tf.broadcast_to(x, tf.concat([tf.shape(x)[:3], [3]], axis=0))
    x = tf.ensure_shape(x, (None, *image_shape))
    return tf.round(x) if is_rounded else x


def _grey(x):
    return tf.reduce_sum(x * tf.constant([0.2989, 0.587, 0.114]), axis=-1, keepdims=True)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class ImagePreprocessor(keras.layers.Layer):
    """Resize images, make them grey or coloured, and bring their values into [0, 1].

    ============ ==================================================================================
    size         linear interpolation, antialiased when it shrinks; of ``uint8`` images rounded back
                 to whole levels, so that a resized image scores as if it had been stored so
    channels     3 to 1: 0.2989 red + 0.587 green + 0.114 blue; 1 to 3: repeated
    values       (value - low) / (high - low) of ``value_range``, cut off at 0 and 1; NaN becomes 0
    ============ ==================================================================================

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels of the output.
    value_range : (float, float)
        Lowest and highest value of an input.
    image_dtype : {"uint8", "float32"}
        Of the input.
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

    def __init__(self, image_shape, value_range, image_dtype, **kwargs):
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
        self.built = True

    def call(self, images):
        """Preprocess images.

        Parameters
        ----------
        images : tensor of ``image_dtype``, (n, height, width, channels)

        Returns
        -------
        float32 tensor, (n, *image_shape)
        """
        x = with_shape(images, self.image_shape, is_rounded=self.image_dtype == "uint8")
        low, high = self.value_range
        x = tf.clip_by_value((x - low) / (high - low), 0.0, 1.0)
        return tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)

    def inverse(self, x):
        """Return images in the units of the input, float32, of x with values from 0 to 1."""
        low, high = self.value_range
        return low + x * (high - low)

    def schema(self):
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
        }

    def get_config(self):
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "value_range": list(self.value_range),
            "image_dtype": self.image_dtype,
        }
