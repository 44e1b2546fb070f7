"""Training images with changed copies of them: flipped, shifted, brighter or darker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

#: What copies of an image may differ in.
AUGMENTATIONS = ("flip_horizontal", "flip_vertical", "shift", "brightness")
#: Copies of each image.
N_COPIES = 7
# A copy is shifted by at most this share of a side, and its brightness changed by at most this.
_MOST_SHIFT, _MOST_BRIGHTNESS = 1 / 32, 0.05


def check_augmentation(names: Sequence[str] | None) -> None:
    """Raise ValueError unless there are none, or some of ``AUGMENTATIONS``."""
    if names is None:
        return
    if not len(names) or any(name not in AUGMENTATIONS for name in names):
        raise ValueError(
            f"Expected `augmentation` of some of {AUGMENTATIONS}. Received: augmentation={names!r}."
        )


class _Changes(NamedTuple):
    """How each image differs from its source, (n,) each."""

    is_mirrored: np.ndarray  #: left and right change places
    is_upside_down: np.ndarray
    down: np.ndarray  #: pixels that it is shifted by
    right: np.ndarray
    factor: np.ndarray  #: of what is above the lowest value


class AugmentedImages:
    """Images, and after them changed copies of some; they are made when they are read.

    A flip has a probability of 1/2 in each copy. A shift is by up to 1/32 of a side, or by one
    pixel, each number of pixels as probable; the margin that comes in repeats the outermost
    pixels. Brightness, counted from the lowest value there may be, is multiplied by 0.95 to 1.05.

    Parameters
    ----------
    images : array (n, height, width, channels) or ImageFolder
    rows : int array (m,)
        The images that are copied, ``N_COPIES`` times each.
    names : sequence of str
        Some of ``AUGMENTATIONS``.
    value_range : (float, float)
        Lowest and highest value of a pixel.
    seed : int

    Attributes
    ----------
    sources : int array (n + N_COPIES m,)
        The image that each is or is a copy of.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    >>> augmented = AugmentedImages(images, np.array([0]), ["flip_horizontal"], (0, 255), seed=0)
    >>> augmented.shape, sorted({int(image[0, 0, 0]) for image in augmented[np.arange(8)]})
    ((8, 8, 8, 1), [0, 7])
    """

    def __init__(
        self,
        images: Any,
        rows: np.ndarray,
        names: Sequence[str],
        value_range: tuple[float, float],
        *,
        seed: int,
    ) -> None:
        self._images = images
        # None where brightness stays: its arithmetic takes a while.
        self._value_range = value_range if "brightness" in names else None
        self.sources = np.concatenate([np.arange(len(images)), np.repeat(rows, N_COPIES)])
        self.shape = (len(self.sources), *images.shape[1:])
        self.dtype = images.dtype
        rng = np.random.default_rng(seed)
        copies = _drawn(names, N_COPIES * len(rows), images.shape[1:3], rng)
        self._changes = _joined(_unchanged(len(images)), copies)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return some images, an array (k, height, width, channels); ``rows`` as of an array."""
        changes = _Changes(*(values[rows] for values in self._changes))
        images = np.asarray(self._images[self.sources[rows]])
        return np.asarray(_changed(images, changes, self._value_range))

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """Return some images, given by an int tensor (k,), in TensorFlow operations."""
        import tensorflow as tf

        # Captured by the graph, not written into it.
        with tf.init_scope():
            sources = tf.constant(self.sources)
            changes = _Changes(*map(tf.constant, self._changes))
            held = None if hasattr(self._images, "read") else tf.constant(self._images)
        sources = tf.gather(sources, rows)
        images = self._images.read(sources) if held is None else tf.gather(held, sources)
        changes = _Changes(*(tf.gather(values, rows) for values in changes))
        return _changed(images, changes, self._value_range)

    def check(self) -> None:
        """Raise ImageFileError if a file has become unreadable."""
        if hasattr(self._images, "check"):
            self._images.check()


def _unchanged(n_images):
    return _Changes(
        np.zeros(n_images, bool),
        np.zeros(n_images, bool),
        np.zeros(n_images, int),
        np.zeros(n_images, int),
        np.ones(n_images),
    )


def _drawn(names, n_copies, size, rng):
    """Draw the changes of copies of images of a size (height, width)."""
    most_down, most_right = (max(1, round(side * _MOST_SHIFT)) for side in size)
    drawn = {
        "flip_horizontal": {"is_mirrored": rng.random(n_copies) < 0.5},
        "flip_vertical": {"is_upside_down": rng.random(n_copies) < 0.5},
        "shift": {
            "down": rng.integers(-most_down, most_down + 1, n_copies),
            "right": rng.integers(-most_right, most_right + 1, n_copies),
        },
        "brightness": {"factor": rng.uniform(1 - _MOST_BRIGHTNESS, 1 + _MOST_BRIGHTNESS, n_copies)},
    }
    changes = _unchanged(n_copies)
    for name in names:
        changes = changes._replace(**drawn[name])
    return changes


def _joined(first, second):
    return _Changes(*map(np.concatenate, zip(first, second, strict=True)))


def _changed(images, changes, value_range):
    """Return changed images, of the type they have."""
    import tensorflow as tf

    images = tf.convert_to_tensor(images)
    height, width = images.shape[1:3]
    rows = _moved(height, changes.is_upside_down, changes.down)
    columns = _moved(width, changes.is_mirrored, changes.right)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    images = tf.gather(images, columns, axis=2, batch_dims=1)
    if value_range is None:
        return images
    low, high = value_range
    factor = tf.reshape(tf.cast(changes.factor, tf.float32), (-1, 1, 1, 1))
    values = tf.clip_by_value(low + factor * (tf.cast(images, tf.float32) - low), low, high)
    if images.dtype.is_integer:
        values = tf.round(values)
    # The images themselves stay the same to the last bit.
    return tf.where(tf.equal(factor, 1), images, tf.cast(values, images.dtype))


def _moved(size, is_flipped, shift):
    """Return the pixel of the source at each place of a side, (n, size)."""
    import tensorflow as tf

    places = tf.range(size, dtype=tf.int64)[None, :] - tf.cast(shift, tf.int64)[:, None]
    places = tf.clip_by_value(places, 0, size - 1)
    return tf.where(tf.convert_to_tensor(is_flipped)[:, None], size - 1 - places, places)
