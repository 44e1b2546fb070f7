"""Sizes of images, and overlapping windows of them: where they are, and how they become a whole."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Tensor: TypeAlias = Any  #: what TensorFlow and Keras compute with

SMALLEST_SIDE = 8  #: pixels, of an image or a window that is modelled
#: Height and width for a backbone, where nobody chose any: what most such networks have been
#: trained with.
BACKBONE_SIDE = 224
MAX_WINDOWS = 1_024  #: of an image
#: Of an image: of a side in pixels, and of values, which are pixels times channels.
MAX_IMAGE_SIDE, MAX_IMAGE_VALUES = 8_192, 2**24


class Line(NamedTuple):
    """Windows along one side of an image."""

    size: int  #: of the side
    window: int  #: size of a window
    starts: tuple[int, ...]  #: first pixel of each window

    @property
    def pixels(self) -> np.ndarray:
        """The pixels of all windows, one window after the other, (windows * window,)."""
        return (np.array(self.starts)[:, None] + np.arange(self.window)).ravel()

    def shares(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return who decides on each pixel of the side, three arrays (size,).

        Returns
        -------
        before, after : int arrays
            Where the pixel is in ``pixels``, in the two windows that it may belong to.
        share : float32 array
            Of the window after; the one before has the rest. It grows linearly over the middle of
            what two neighbours have in common.
        """
        starts = np.array(self.starts)
        step, common = np.diff(starts), starts[:-1] + self.window - starts[1:]
        middles = starts[1:] + common / 2
        widths = np.maximum(np.minimum(common, step), 1e-6)
        ramps = (np.arange(self.size)[:, None] + 0.5 - middles) / widths + 0.5
        at = np.clip(ramps, 0, 1).sum(axis=1)
        before = np.floor(at).astype(int)
        after = np.minimum(before + 1, len(starts) - 1)
        places = [
            np.clip(np.arange(self.size) - starts[index], 0, self.window - 1) + index * self.window
            for index in (before, after)
        ]
        return places[0], places[1], (at - before).astype(np.float32)


class WindowGrid(NamedTuple):
    """Windows of an image: those of each row, beside those of each column."""

    down: Line
    across: Line

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.down.size, self.across.size

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of a window."""
        return self.down.window, self.across.window

    @property
    def n_windows(self) -> int:
        """How many windows there are."""
        return len(self.down.starts) * len(self.across.starts)

    def scaled(self, size: Sequence[int], window: Sequence[int]) -> WindowGrid:
        """Return as many windows of another size at about the same places of another image."""
        lines = []
        for line, new_size, new_window in zip(self, size, window, strict=True):
            starts = np.round(np.linspace(0, new_size - new_window, len(line.starts)))
            lines.append(Line(new_size, new_window, tuple(map(int, starts))))
        return WindowGrid(*lines)


def window_grid(size: Sequence[int], window: Sequence[int]) -> WindowGrid:
    """Return windows that cover an image: neighbours share a quarter of their side, or more.

    They are at even distances, the first and the last at the edges, and no more than that takes.

    Parameters
    ----------
    size, window : (int, int)
        Height and width of the image, and of a window, which is not larger.

    Examples
    --------
    >>> grid = window_grid((64, 100), (64, 40))
    >>> grid.down.starts, grid.across.starts, grid.n_windows
    ((0,), (0, 30, 60), 3)
    """
    lines = []
    for side, part in zip(size, window, strict=True):
        common = part // 4
        count = max(1, -(-(side - common) // (part - common)))
        starts = np.round(np.linspace(0, side - part, count)).astype(int)
        lines.append(Line(int(side), int(part), tuple(map(int, starts))))
    return WindowGrid(*lines)


def tile_grid(tiles: Sequence[int] | None, image_shape: Sequence[int]) -> WindowGrid | None:
    """Return the windows of a size that was asked for; None for None.

    Parameters
    ----------
    tiles : (int, int) or None
        Height and width of a window.
    image_shape : (int, int, ...)
        Height and width of the images, and more.

    Raises
    ------
    ValueError
        It is not two whole numbers; too small, or larger than the images; or there would be over
        ``MAX_WINDOWS``.
    """
    if tiles is None:
        return None
    window, size = tuple(tiles), tuple(image_shape[:2])
    if len(window) != 2 or any(
        not isinstance(part, numbers.Integral) or not SMALLEST_SIDE <= part <= side
        for part, side in zip(window, size, strict=True)
    ):
        raise ValueError(
            f"Expected `tiles` of (height, width), whole numbers, {SMALLEST_SIDE} pixels or more "
            f"each, and no larger than the images of {size[0]} x {size[1]} pixels. "
            f"Received: tiles={window!r}. "
            "Take smaller ones, or larger images (`image_shape`)."
        )
    grid = window_grid(size, window)
    if grid.n_windows > MAX_WINDOWS:
        raise ValueError(
            f"Expected `tiles` that cut images of {size[0]} x {size[1]} pixels into at most "
            f"{MAX_WINDOWS} windows. Received: tiles={window!r}, which make {grid.n_windows}. "
            "Take larger ones, or smaller images (`image_shape`)."
        )
    return grid


def check_image_size(image_shape: Sequence[int]) -> None:
    """Raise ValueError for images (height, width, channels) larger than those that are modelled."""
    height, width, channels = image_shape
    if max(image_shape) > MAX_IMAGE_SIDE or height * width * channels > MAX_IMAGE_VALUES:
        raise ValueError(
            f"Expected images of at most {MAX_IMAGE_VALUES} values and {MAX_IMAGE_SIDE} pixels on "
            f"a side. Received: {height} x {width} x {channels}. Take smaller ones "
            "(`image_shape`)."
        )


def seen_shape(image_shape: Sequence[int], grid: WindowGrid | None) -> tuple[int, int, int]:
    """Return height, width and channels of what a network sees at once: a window, or an image."""
    height, width, channels = image_shape
    return (height, width, channels) if grid is None else (*grid.window, channels)


def cut(images: Tensor, grid: WindowGrid) -> Tensor:
    """Cut images (n, height, width, channels) into windows, (n, down, across, h, w, channels)."""
    from keras import ops

    strips = cut_line(images, grid.down, axis=1)
    windows = cut_line(strips, grid.across, axis=3)
    return ops.transpose(windows, (0, 1, 3, 2, 4, 5))


def stitched(windows: Tensor, grid: WindowGrid) -> Tensor:
    """Put windows (n, down, across, h, w, channels) together, (n, height, width, channels).

    A pixel of several windows is a weighted mean of them, the more of one the nearer it is to its
    middle: see ``Line.shares``.
    """
    from keras import ops

    strips = stitched_line(ops.transpose(windows, (0, 1, 3, 2, 4, 5)), grid.across, axis=3)
    return stitched_line(strips, grid.down, axis=1)


def cut_line(tensor: Tensor, line: Line, axis: int) -> Tensor:
    """Cut along an axis, which becomes two: windows, and what is in a window."""
    from keras import ops

    parts = ops.take(tensor, line.pixels, axis=axis)
    sides = (len(line.starts), line.window)
    return ops.reshape(parts, (-1, *parts.shape[1:axis], *sides, *parts.shape[axis + 1 :]))


def stitched_line(tensor: Tensor, line: Line, axis: int) -> Tensor:
    """Put windows together along two axes, of windows and of what is in them; see ``stitched``."""
    from keras import ops

    n_pixels = len(line.starts) * line.window
    shape = (-1, *tensor.shape[1:axis], n_pixels, *tensor.shape[axis + 2 :])
    flat = ops.reshape(tensor, shape)
    before, after, share = line.shares()
    share = share.reshape((-1, *[1] * (len(shape) - axis - 1)))
    return (1 - share) * ops.take(flat, before, axis=axis) + share * ops.take(
        flat, after, axis=axis
    )
