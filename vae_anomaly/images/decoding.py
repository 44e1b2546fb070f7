"""From an image file to pixels of the form that a model takes.

====================== =====================================================================
PNG, JPEG              decoded by TensorFlow, as in a served model
BMP, GIF, TIFF, WebP   decoded by Pillow: the first frame or page
colour                 what is stored as grey is grey, all else (palettes, CMYK) red, green, blue
transparency           ignored
16 bits per channel    read whole, as uint16; a file of another depth than the model's is an error
EXIF orientation       obeyed
====================== =====================================================================

A file is unreadable if it is empty, cut off, damaged, no image or of more than ``MOST_PIXELS``; its
content counts, not its suffix. TensorFlow is imported when the first file is decoded.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vae_anomaly.images.form import ImageForm

if TYPE_CHECKING:
    import tensorflow as tf

#: Height times width of an image; more would take gigabytes as floats.
MOST_PIXELS = 2**26
# Files decoded at once, whatever their number.
_DECODED_AT_ONCE = 4
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# What the files that Pillow decodes begin with.
_PILLOW_BYTES = (b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
_PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# To which of Pillow's modes an image is brought, by the one it has.
_MODES = {"1": "L", "L": "L", "LA": "L", "I;16": "I;16", "I;16B": "I;16"}
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
_UPRIGHT = 1
_ORIENTATION = 0x0112


class ImageFileError(ValueError):
    """A file, ``path``, is no image that can be read; ``reason`` says why in one line."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{printable(path)}: {reason}")
        self.path, self.reason = path, reason


class Stored(NamedTuple):
    """What is in a file."""

    shape: tuple[int, int, int]  #: height, width and channels
    dtype: str  #: "uint8" or "uint16"
    lowest: int
    highest: int


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text; bytes of a name that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def decode(encoded: tf.Tensor, form: ImageForm) -> tf.Tensor:
    """Decode one image and bring it to a form, in TensorFlow operations.

    Parameters
    ----------
    encoded : string tensor, ()
        The bytes of a PNG or JPEG file, upright, of the form's depth.
    form : ImageForm

    Returns
    -------
    tensor of ``form.dtype``, of ``form.shape``

    Raises
    ------
    tensorflow.errors.InvalidArgumentError
        They are no image; when the graph runs.
    """
    import tensorflow as tf

    from vae_anomaly.images.preprocessing import with_shape

    stored = tf.io.decode_image(encoded, dtype=form.dtype, expand_animations=False)

    def shaped(n_channels):
        pixels = tf.ensure_shape(stored[:, :, :n_channels], (None, None, n_channels))
        return with_shape(pixels[None], form.shape, resize=form.resize, is_rounded=True)[0]

    # Grey, grey and alpha; or three colours, three colours and alpha.
    is_grey = tf.shape(stored)[-1] < 3
    image = tf.cond(is_grey, lambda: shaped(1), lambda: shaped(3))
    return tf.cast(tf.ensure_shape(image, form.shape), form.dtype)


def file_bytes(path: str | os.PathLike[str], dtype: str | None = None) -> bytes:
    """Return an image as the bytes of a PNG or JPEG file that is upright.

    Parameters
    ----------
    path : path
    dtype : {"uint8", "uint16"} or None
        The depth that the image must have; None: either.

    Raises
    ------
    ImageFileError
        There is no file, it is no image that can be read, or it has another depth.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ImageFileError(path, error.strerror or str(error)) from error
    if not data:
        raise ImageFileError(path, "the file is empty")
    if not data.startswith((_PNG, _JPEG, *_PILLOW_BYTES)):
        raise ImageFileError(path, f"no image: the file begins with {data[:8]!r}")
    n_pixels, is_upright = _looked_at(data)
    if n_pixels > MOST_PIXELS:
        raise ImageFileError(path, f"expected at most {MOST_PIXELS} pixels. Received: more")
    if not data.startswith((_PNG, _JPEG)) or not is_upright:
        data = _as_png(path, data)
    if dtype and dtype != depth(data):
        bits = {"uint8": 8, "uint16": 16}
        raise ImageFileError(
            path,
            f"expected {bits[dtype]} bits per channel, as the other images have. Received: "
            f"{bits[depth(data)]}",
        )
    return data


def depth(data: bytes) -> str:
    """Return "uint8" or "uint16" for the bytes of a PNG or JPEG file."""
    return "uint16" if data.startswith(_PNG) and data[24:25] == b"\x10" else "uint8"


def stored(path: str | os.PathLike[str]) -> Stored:
    """Return what is in a file, all of which is decoded.

    Raises
    ------
    ImageFileError
    """
    import tensorflow as tf

    data = file_bytes(path)
    dtype = depth(data)
    image = _decoded(path, data, lambda data: tf.io.decode_image(data, dtype=dtype)).numpy()
    return Stored(image.shape, dtype, int(image.min()), int(image.max()))


def read_images(
    paths: Sequence[str], form: ImageForm
) -> tuple[np.ndarray, dict[int, ImageFileError]]:
    """Read image files and bring them to a form.

    Parameters
    ----------
    paths : sequence of path
    form : ImageForm

    Returns
    -------
    images : array of ``form.dtype`` (n, *form.shape)
        Undefined where a file cannot be read.
    errors : dict of int to ImageFileError
        Why a file cannot be read, by its position in ``paths``.
    """
    images = np.empty((len(paths), *form.shape), dtype=form.dtype)
    errors = {}
    decoder = _decoder(form)

    def read(position):
        path = paths[position]
        try:
            images[position] = _decoded(path, file_bytes(path, form.dtype), decoder).numpy()
        except ImageFileError as error:
            errors[position] = error

    in_threads(read, range(len(paths)))
    return images, errors


def in_threads(function: Callable[[Any], Any], items: Sequence[Any] | range) -> list[Any]:
    """Return what a function returns for each item, a few at once."""
    with ThreadPoolExecutor(_DECODED_AT_ONCE) as pool:
        return list(pool.map(function, items))


def read_in_graph(paths: tf.Tensor, form: ImageForm) -> tf.Tensor:
    """Read image files in TensorFlow operations, while the graph runs.

    Parameters
    ----------
    paths : string tensor (n,)
    form : ImageForm

    Returns
    -------
    tensor of ``form.dtype`` (n, *form.shape)
    """
    import tensorflow as tf

    def content(path):  # bytes, or an array of them where operations run eagerly
        return file_bytes(os.fsdecode(np.asarray(path).item()), form.dtype)

    def read(path):
        data = tf.numpy_function(content, [path], tf.string)
        return decode(tf.ensure_shape(data, ()), form)

    return tf.map_fn(
        read,
        paths,
        parallel_iterations=_DECODED_AT_ONCE,
        fn_output_signature=tf.TensorSpec(form.shape, form.dtype),
    )


def _decoded(path, data, decoder):
    import tensorflow as tf

    try:
        return decoder(tf.constant(data))
    except tf.errors.OpError as error:
        raise ImageFileError(path, "the image is damaged or cut off") from error


@functools.cache
def _decoder(form):
    import tensorflow as tf

    return tf.function(
        lambda encoded: decode(encoded, form),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    ).get_concrete_function()


def _looked_at(data):
    """Return the number of pixels of an image, and whether it is upright, without decoding it."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
            n_pixels = image.width * image.height
            # Elsewhere in a PNG file, Pillow would decode all of it to find EXIF data.
            has_exif = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(_ORIENTATION) if has_exif else _UPRIGHT
            return n_pixels, orientation in (None, _UPRIGHT)
    except Image.DecompressionBombError:
        return math.inf, True
    except Exception:  # damaged; what decodes it says so, or can read it all the same
        return 0, True


def _as_png(path, data):
    """Return an image that Pillow can decode as PNG, upright."""
    from PIL import Image, ImageOps

    if depth(data) == "uint16" and data[25:26] != b"\0":  # Pillow would drop the lower bits
        raise ImageFileError(
            path,
            "expected 8 bits per channel, or grey, where EXIF says how to turn it. Received: 16",
        )
    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
            mode = _MODES.get(image.mode, "RGB" if image.mode in _COLOUR_MODES else None)
            if mode is None:
                raise ImageFileError(
                    path, f"expected 8 or 16 bits per channel. Received: the mode {image.mode}"
                )
            # By way of RGBA, as Pillow wants it of palettes with transparent colours.
            opaque = image.convert("RGBA") if image.mode in ("P", "PA") else image
            upright = ImageOps.exif_transpose(opaque).convert(mode)
        with io.BytesIO() as png:
            upright.save(png, "PNG", compress_level=0)
            return png.getvalue()
    except ImageFileError:
        raise
    except Exception as error:  # decoders of damaged files raise all kinds of errors
        raise ImageFileError(path, "the image is damaged or cut off") from error
