"""Which files of a folder are images, and folders as arrays that are read piece by piece."""

from __future__ import annotations

import copy
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vae_anomaly.data_warning import DataWarning
from vae_anomaly.image_windows import SMALLEST_SIDE
from vae_anomaly.images.decoding import (
    ImageFileError,
    Stored,
    in_threads,
    printable,
    read_images,
    read_in_graph,
    stored,
)
from vae_anomaly.images.form import ImageForm, check_resize

if TYPE_CHECKING:
    import tensorflow as tf

Path: TypeAlias = "str | os.PathLike[str]"

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")  #: in any case
# Pixels on the longer side of images whose shape is chosen here.
_LARGEST_SIDE = 64
# The factor between the scales of height and width from which stretching is worth a warning.
_MOST_STRETCHING = 1.1


class ImageFolder:
    """Image files as if they were an array, of which only the part asked for is in memory.

    What ``VAEDetector`` takes in place of an array (n, height, width, channels). All files are
    decoded once, to find those that cannot be read; these are left out, with a warning. Files of 16
    bits per channel are uint16; if there are some of 8 and some of 16, the fewer are left out.

    Parameters
    ----------
    folder : path, or sequence of path
        A folder with images in it and in its sub-folders, or the files themselves. Of a folder,
        files whose suffix is not among ``SUFFIXES`` are skipped, with a warning; names that begin
        with a dot are ignored and linked folders are not followed.
    image_shape : (int, int, int) or None
        Height, width and channels (1 or 3) to which all images are brought, by the operations of
        ``preprocessing.ImagePreprocessor``. None: the most frequent size, shrunk to 64 pixels on
        the longer side if that is larger, with 8 pixels or more on the shorter one; grey if all
        files are grey. A detector brings the images that it scores to its own shape.
    resize : {"stretch", "pad", "crop"}
        How images of other proportions are brought to this size: stretched (a warning says which),
        padded with the lowest value, or cut on two sides. A detector keeps what it was fitted with.

    Attributes
    ----------
    paths : list of str
        The files that can be read, in order.
    unreadable : dict of str to str
        The others, and why.
    skipped : list of str
        Files in the folder that are no images by their suffix.
    form : ImageForm
        What the images are brought to.
    has_default_shape : bool
        Whether ``image_shape`` was None: a detector with a backbone or with tiles then takes larger
        images.
    stored_shape : (int, int, int)
        The most frequent height and width of the files, and 1 channel if all are grey, else 3.
    shape : (int, int, int, int)
    dtype : numpy.dtype
        uint8 or uint16.
    value_range : (int, int)
        (0, 255) for uint8; for uint16 the lowest and highest value in the files.

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

    def __init__(
        self,
        folder: Path | Sequence[Path],
        image_shape: Sequence[int] | None = None,
        *,
        resize: str = "stretch",
    ) -> None:
        paths, self.skipped = _listed(folder)
        check_resize(resize)
        found = _examined(paths)
        dtypes = Counter(what.dtype for what in found.values() if isinstance(what, Stored))
        dtype = max(dtypes, key=lambda name: (dtypes[name], name == "uint8"), default="uint8")
        self.unreadable = {
            path: reason for path, what in found.items() if (reason := _reason(what, dtype))
        }
        self.paths = [path for path in paths if path not in self.unreadable]
        if self.unreadable:
            self._report_unreadable(len(paths))
        if self.skipped:
            warnings.warn(skipped_text(self.skipped), DataWarning, stacklevel=2)
        self._stored: list[Any] = [found[path] for path in self.paths]
        self._names = [os.fsencode(path) for path in self.paths]
        self.value_range = _value_range(self._stored, dtype)
        self.has_default_shape = image_shape is None
        self.stored_shape = _stored_shape(self._stored)
        shape = _shrunk(self.stored_shape) if image_shape is None else _checked(image_shape)
        self.form = ImageForm(shape, dtype, resize)
        if stretching := self.stretching():
            warnings.warn(stretching, DataWarning, stacklevel=2)

    def _report_unreadable(self, n_files):
        path, reason = next(iter(self.unreadable.items()))
        what = f"{len(self.unreadable)} of {n_files} files, such as {printable(path)}: {reason}"
        if not self.paths:
            raise ValueError(f"Expected images that can be read. Received: {what}.")
        warnings.warn(f"Left out, as they cannot be read: {what}.", DataWarning, stacklevel=3)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number, height, width and channels of the images."""
        return (len(self.paths), *self.form.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of the pixels."""
        return np.dtype(self.form.dtype)

    def with_shape(self, image_shape: Sequence[int]) -> ImageFolder:
        """Return the same files, brought to another shape; they are not looked at again."""
        images = self.with_form(self.form._replace(shape=_checked(image_shape)))
        images.has_default_shape = False
        return images

    def with_rows(self, rows: Sequence[int]) -> ImageFolder:
        """Return some of the files, by their numbers; they are not looked at again."""
        images = copy.copy(self)
        for name in ("paths", "_stored", "_names"):
            setattr(images, name, [getattr(self, name)[row] for row in rows])
        return images

    def with_form(self, form: ImageForm) -> ImageFolder:
        """Return the same files, brought to another form; they are not looked at again."""
        images = copy.copy(self)
        images.form = form
        return images

    def stretching(self) -> str:
        """Return a sentence about the images that are stretched; "" if none are by over 10%."""
        height, width, _ = self.form.shape
        sizes = np.array([what.shape[:2] for what in self._stored], dtype=float)
        ratios = (height / sizes[:, 0]) / (width / sizes[:, 1])
        factors = np.maximum(ratios, 1 / ratios)
        worst = int(np.argmax(factors))
        if self.form.resize != "stretch" or factors[worst] <= _MOST_STRETCHING:
            return ""
        rows, columns = self._stored[worst].shape[:2]
        return (
            f"{int((factors > _MOST_STRETCHING).sum())} of {len(self)} images have other "
            f"proportions than {height} x {width} pixels and are stretched, such as "
            f"{printable(self.paths[worst])} of {rows} x {columns}, by a factor of "
            f"{factors[worst]:.2g}. To keep proportions, pad or crop them with `resize`."
        )

    def check(self) -> None:
        """Raise ImageFileError if a file has become unreadable."""
        for path, what in _examined(self.paths).items():
            if reason := _reason(what, self.form.dtype):
                raise ImageFileError(path, reason)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return some images, an array (m, height, width, channels) of ``dtype``.

        Parameters
        ----------
        rows : slice, or int array (m,)

        Raises
        ------
        ImageFileError
            A file has become unreadable.
        """
        chosen = np.arange(len(self.paths))[rows]
        images, errors = read_images([self.paths[row] for row in chosen], self.form)
        if errors:
            raise errors[min(errors)]
        return images

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """Return some images in TensorFlow operations, while the graph runs.

        Parameters
        ----------
        rows : int tensor (m,)

        Returns
        -------
        tensor of ``dtype`` (m, height, width, channels)
        """
        import tensorflow as tf

        # Captured by the graph, not written into it, for there may be millions.
        with tf.init_scope():
            paths = tf.constant(self._names)
        return read_in_graph(tf.gather(paths, rows), self.form)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def files_in(folder: Path) -> list[str]:
    """Return the image files in a folder and its sub-folders, sorted; hidden ones are skipped.

    Directories named like images are reported as unreadable.

    Raises
    ------
    OSError
        A folder cannot be listed.
    """
    return sorted(path for path, _ in _walked(folder) if is_image(path))


def others_in(folder: Path) -> list[str]:
    """Return the files in a folder and its sub-folders whose suffix is of no image, sorted."""
    return sorted(path for path, is_file in _walked(folder) if is_file and not is_image(path))


def skipped_text(paths: Sequence[str]) -> str:
    """Return a sentence that counts skipped files by suffix, and names one."""
    counts = Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in paths)
    suffixes = ", ".join(f"{suffix} ({count})" for suffix, count in counts.most_common(10))
    return (
        f"Skipped {len(paths)} files whose suffix is not among {', '.join(SUFFIXES)}: {suffixes}; "
        f"such as {printable(paths[0])}."
    )


def _walked(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield what is in a folder and its sub-folders but hidden, and whether it is a file."""

    def fail(error):
        raise error

    for parent, folders, files in os.walk(os.fspath(folder), onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from ((os.path.join(parent, name), False) for name in folders)
        visible = (name for name in files if not name.startswith("."))
        yield from ((os.path.join(parent, name), True) for name in visible)


def _listed(folder):
    """Return the images that a folder or a sequence of files stands for, and what is skipped."""
    if not isinstance(folder, (str, os.PathLike)):
        paths = [os.fspath(path) for path in folder]
        if not paths:
            raise ValueError("Expected image files. Received: none.")
        return paths, []
    paths = files_in(folder)
    if not paths:
        raise ValueError(
            f"{printable(folder)}: expected a folder with {', '.join(SUFFIXES)} files. Received: "
            "none. Check the path."
        )
    return paths, others_in(folder)


def _examined(paths):
    """Return by path what is stored, or why it cannot be read."""

    def examine(path):
        try:
            return stored(path)
        except ImageFileError as error:
            return error.reason

    return dict(zip(paths, in_threads(examine, paths), strict=True))


def _reason(what, dtype):
    """Return why a file is left out, "" if it is not."""
    if isinstance(what, str):
        return what
    if what.dtype == dtype:
        return ""
    bits = {"uint8": 8, "uint16": 16}
    return (
        f"expected {bits[dtype]} bits per channel, as most files have. Received: {bits[what.dtype]}"
    )


def _value_range(found, dtype):
    if dtype == "uint8":
        return 0, 255
    return min(what.lowest for what in found), max(what.highest for what in found)


def _stored_shape(found):
    (height, width), _ = Counter(what.shape[:2] for what in found).most_common(1)[0]
    return height, width, 1 if all(what.shape[2] < 3 for what in found) else 3


def _shrunk(shape):
    height, width, channels = shape
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    height, width = (max(SMALLEST_SIDE, round(side * scale)) for side in (height, width))
    return height, width, channels


def _checked(image_shape):
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3):
        raise ValueError(
            "Expected `image_shape` of (height, width, channels), with 1 or 3 channels, as image "
            f"files have. Received: image_shape={shape!r}"
        )
    return shape
