"""Figures for pictures that were given no Axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

# matplotlib is an extra, and slow to import: functions import it when they draw.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float = 7, height: float = 4) -> Figure:
    """Return a figure, sizes in inches, that pyplot does not know: nothing to close."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float = 7, height: float = 4) -> Axes:
    """Return the Axes of a new figure, sizes in inches."""
    return new_figure(width, height).add_subplot()
