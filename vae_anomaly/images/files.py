"""Image files: which there are, what is in them, and folders of them as arrays read piece by piece.

====================== =====================================================================
files                  .png, .jpg, .jpeg in any case, in all sub-folders, sorted; names that
                       begin with a dot are skipped, linked folders not followed
colour                 what is stored as grey is grey, all else (palettes, CMYK) red, green, blue
transparency           ignored
16 bits per channel    the upper eight
EXIF orientation       ignored: images are taken as stored
====================== =====================================================================

A file is unreadable if it is empty, cut off, damaged or no image; what it is inside counts, not its
suffix. TensorFlow is imported when the first file is decoded.
"""

import copy
import functools
import os
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vae_anomaly.image_size import SMALLEST_SIDE

SUFFIXES = (".png", ".jpg", ".jpeg")
# Pixels on the longer side of images whose shape is chosen here.
_LARGEST_SIDE = 64
# Files decoded at once, whatever their number.
_DECODED_AT_ONCE = 4
# What the formats that TensorFlow decodes begin with.
_FIRST_BYTES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF")


class ImageFileError(ValueError):
    """A file, ``path``, is no image that can be read; ``reason`` says why in one line."""

    def __init__(self, path, reason):
        super().__init__(f"{printable(path)}: {reason}")
        self.path, self.reason = path, reason


class ImageFolder:
    """Image files as if they were an array, of which only the asked for part is in memory.

    What ``VAEDetector`` takes in place of an array (n, height, width, channels) of uint8. All files
    are decoded once, to find those that cannot be read; these are left out, with a warning.

    Parameters
    ----------
    folder : path, or sequence of path
        A folder with images in it and in its sub-folders, or the files themselves.
    image_shape : (int, int, int) or None
        Height, width and channels (1 or 3) to which all images are brought, by the operations of
        ``image_preprocessing.ImagePreprocessor``. None: the most frequent size, shrunk to 64
        pixels on the longer side if that is larger, with 8 pixels or more on the shorter one; grey
        if all files are grey. A detector brings the images that it scores to its own shape.

    Attributes
    ----------
    paths : list of str
        The files that can be read, in order.
    unreadable : dict of str to str
        The others, and why.
    shape : (int, int, int, int)
    dtype : numpy.dtype
        uint8.

    Raises
    ------
    ValueError
        No images, or none that can be read.

    Examples
    --------
    >>> import numpy as np, tempfile, tensorflow as tf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in "ab":
    ...         pixels = np.full((16, 12, 1), 255, dtype=np.uint8)
    ...         tf.io.write_file(f"{folder}/{name}.png", tf.io.encode_png(pixels))
    ...     images = ImageFolder(folder)
    ...     images.shape, images[1:].shape, int(images[0:2].min())
    ((2, 16, 12, 1), (1, 16, 12, 1), 255)
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, folder, image_shape=None):
        if isinstance(folder, (str, os.PathLike)):
            paths = files_in(folder)
            if not paths:
                raise ValueError(
                    f"{printable(folder)}: expected a folder with {', '.join(SUFFIXES)} files. "
                    "Received: none. Check the path."
                )
        else:
            paths = [os.fspath(path) for path in folder]
            if not paths:
                raise ValueError("Expected image files. Received: none.")
        found = _examined(paths)
        self.unreadable = {path: what for path, what in found.items() if isinstance(what, str)}
        self.paths = [path for path in paths if path not in self.unreadable]
        self._names = [os.fsencode(path) for path in self.paths]
        if self.unreadable:
            path, reason = next(iter(self.unreadable.items()))
            what = (
                f"{len(self.unreadable)} of {len(paths)} files, such as {printable(path)}: {reason}"
            )
            if not self.paths:
                raise ValueError(f"Expected images that can be read. Received: {what}.")
            warnings.warn(f"Left out, as they cannot be read: {what}.", stacklevel=2)
        if image_shape is None:
            image_shape = _chosen_shape([found[path] for path in self.paths])
        self._set_shape(image_shape)

    def _set_shape(self, image_shape):
        image_shape = tuple(int(size) for size in image_shape)
        if len(image_shape) != 3 or min(image_shape) < 1 or image_shape[2] not in (1, 3):
            raise ValueError(
                "Expected `image_shape` of (height, width, channels), with 1 or 3 channels, as "
                f"image files have. Received: image_shape={image_shape!r}"
            )
        self.shape = (len(self.paths), *image_shape)

    def with_shape(self, image_shape):
        """Return the same files, brought to another shape; they are not looked at again."""
        images = copy.copy(self)
        images._set_shape(image_shape)
        return images

    def check(self):
        """Raise ImageFileError if a file has become unreadable."""
        for path, what in _examined(self.paths).items():
            if isinstance(what, str):
                raise ImageFileError(path, what)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        """Return some images, a uint8 array (m, height, width, channels).

        Parameters
        ----------
        rows : slice, or int array (m,)

        Raises
        ------
        ImageFileError
            A file has become unreadable.
        """
        chosen = np.arange(len(self.paths))[rows]
        images, errors = read_images([self.paths[row] for row in chosen], self.shape[1:])
        if errors:
            raise errors[min(errors)]
        return images

    def read(self, rows):
        """Return some images in TensorFlow operations, while the graph runs.

        Parameters
        ----------
        rows : int tensor (m,)

        Returns
        -------
        uint8 tensor (m, height, width, channels)
        """
        import tensorflow as tf

        # Captured by the graph, not written into it, for there may be millions.
        with tf.init_scope():
            paths = tf.constant(self._names)
        return tf.map_fn(
            lambda path: decode(tf.io.read_file(path), self.shape[1:]),
            tf.gather(paths, rows),
            parallel_iterations=_DECODED_AT_ONCE,
            fn_output_signature=tf.TensorSpec(self.shape[1:], tf.uint8),
        )


def is_image(path):
    """Whether the name is that of an image file."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def files_in(folder):
    """Return the image files in a folder and its sub-folders, sorted; hidden ones are skipped.

    Raises
    ------
    OSError
        A folder cannot be listed.
    """

    def fail(error):
        raise error

    found = []
    for parent, folders, files in os.walk(os.fspath(folder), onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # What has such a name and is a folder is looked at, and found to be unreadable.
        found += [
            os.path.join(parent, name)
            for name in files + folders
            if is_image(name) and not name.startswith(".")
        ]
    return sorted(found)


def printable(path):
    """Return a path as text; bytes of a name that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def decode(encoded, image_shape):
    """Decode one image and bring it to a shape; the only way from a file to pixels.

    Parameters
    ----------
    encoded : string tensor, ()
        The bytes of a file.
    image_shape : (int, int, int)
        Height, width and channels.

    Returns
    -------
    uint8 tensor, of ``image_shape``

    Raises
    ------
    tensorflow.errors.InvalidArgumentError
        They are no image; when the graph runs.
    """
    import tensorflow as tf

    from vae_anomaly.images.preprocessing import with_shape

    stored = tf.io.decode_image(encoded, expand_animations=False)

    def shaped(n_channels):
        pixels = tf.ensure_shape(stored[:, :, :n_channels], (None, None, n_channels))
        return with_shape(pixels[None], image_shape, is_rounded=True)[0]

    # Grey, grey and alpha; or three colours, three colours and alpha.
    is_grey = tf.shape(stored)[-1] < 3
    image = tf.cond(is_grey, lambda: shaped(1), lambda: shaped(3))
    return tf.cast(tf.ensure_shape(image, image_shape), tf.uint8)


def read_images(paths, image_shape):
    """Read image files and bring them to a shape.

    Parameters
    ----------
    paths : sequence of path
    image_shape : (int, int, int)

    Returns
    -------
    images : uint8 array (n, *image_shape)
        Undefined where a file cannot be read.
    errors : dict of int to ImageFileError
        By the position of such a file.
    """
    images = np.empty((len(paths), *image_shape), dtype=np.uint8)
    errors = {}
    decoder = _decoder(tuple(image_shape))

    def read(position):
        try:
            images[position] = _decoded(paths[position], decoder).numpy()
        except ImageFileError as error:
            errors[position] = error

    with ThreadPoolExecutor(_DECODED_AT_ONCE) as pool:
        list(pool.map(read, range(len(paths))))
    return images, errors


def _examined(paths):
    """Return by path (height, width, channels) of the image, or why it cannot be read."""
    with ThreadPoolExecutor(_DECODED_AT_ONCE) as pool:
        return dict(zip(paths, pool.map(_stored_shape, paths), strict=True))


def _stored_shape(path):
    import tensorflow as tf

    try:
        image = _decoded(path, lambda data: tf.io.decode_image(data, expand_animations=False))
    except ImageFileError as error:
        return error.reason
    return tuple(image.shape)


def _decoded(path, decoder):
    import tensorflow as tf

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ImageFileError(path, error.strerror or str(error)) from error
    if not data:
        raise ImageFileError(path, "the file is empty")
    if not data.startswith(_FIRST_BYTES):
        raise ImageFileError(path, f"no image: the file begins with {data[:8]!r}")
    try:
        return decoder(tf.constant(data))
    except tf.errors.OpError as error:
        raise ImageFileError(path, "the image is damaged or cut off") from error


@functools.cache
def _decoder(image_shape):
    import tensorflow as tf

    return tf.function(
        lambda encoded: decode(encoded, image_shape),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    ).get_concrete_function()


def _chosen_shape(stored):
    (height, width), _ = Counter(shape[:2] for shape in stored).most_common(1)[0]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    size = [max(SMALLEST_SIDE, round(side * scale)) for side in (height, width)]
    return (*size, 1 if all(shape[2] < 3 for shape in stored) else 3)
