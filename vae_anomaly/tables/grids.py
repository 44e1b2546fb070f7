"""The grid of a column of numbers: the largest usual step of which all its values are multiples."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

#: Usual steps of numbers, the largest first: 1, 0.5, 0.25 and 0.2 times powers of 10.
DECIMAL_STEPS = tuple(
    digit * 10.0**power / 100 for power in range(8, -5, -1) for digit in (100, 50, 25, 20)
)
#: Usual steps of dates, in seconds: from a day to a second.
DATE_STEPS = tuple(
    float(unit * count)
    for unit, counts in (
        (3600, (24, 12, 6, 4, 3, 2, 1)),
        (60, (30, 20, 15, 10, 5, 1)),
        (1, (30, 15, 10, 5, 1)),
    )
    for count in counts
)
# Values off the grid, at most: snapping to it then does more good than harm.
_LARGEST_SHARE_OFF = 0.01
# A multiple may be off by this, relatively, since it may have been a float32; and absolutely.
_RELATIVE, _ABSOLUTE = 2.0**-23, 0.01
_ROUNDING = 2.0**-50
_FIRST_LOOK = 1000


def find_grid(values: np.ndarray, steps: tuple[float, ...] = DECIMAL_STEPS) -> float:
    """Return the largest step of which (nearly) all values are multiples.

    Parameters
    ----------
    values : (n,) float64 array
        Finite.
    steps : tuple of float
        Descending; each is a whole number or one divided by a whole number.

    Returns
    -------
    float
        0 if there is none; at most 1% of the values are off the grid.

    Examples
    --------
    >>> find_grid(np.array([2.5, 4.0, -1.5])), find_grid(np.array([3.13, 0.1])), find_grid(
    ...     np.array([1 / 3]))
    (0.5, 0.01, 0.0)
    """
    values = values[values != 0]
    if not values.size:
        return 0.0
    few = values[:: -(-len(values) // _FIRST_LOOK)]
    for step in steps:
        if _is_grid(few, step) and _is_grid(values, step):
            return step
    return 0.0


def _is_grid(values, step):
    with np.errstate(over="ignore"):
        multiples = np.abs(values / step if step >= 1 else values * round(1 / step))
    if not np.isfinite(multiples).all():
        return False
    off = np.abs(multiples - np.round(multiples))
    allowed = np.minimum(_RELATIVE * multiples, _ABSOLUTE)
    if step < 1:  # beyond that, every float64 would be a multiple
        allowed[_ROUNDING * multiples > _ABSOLUTE] = -1.0
    return np.mean(off <= allowed) >= 1 - _LARGEST_SHARE_OFF


def snapped(values: tf.Tensor, grid: tf.Tensor) -> tf.Tensor:
    """Return the multiples of steps nearest to values; values where the step is 0.

    Parameters
    ----------
    values, grid : float64 tensors that broadcast together

    Examples
    --------
    >>> snapped(tf.constant([0.31, 7.0], tf.float64), tf.constant([0.1, 0.0], tf.float64)).numpy()
    array([0.3, 7. ])
    """
    # Decimal fractions are exact as quotients: 3 / 10 is 0.3, and 3 * 0.1 is not.
    per_unit = tf.where((grid > 0) & (grid < 1), tf.round(1 / tf.maximum(grid, 1e-300)), 1.0)
    whole = tf.maximum(grid, 1.0)
    on_grid = tf.round(values * per_unit / whole) * whole / per_unit
    return tf.where((grid > 0) & tf.math.is_finite(on_grid), on_grid, values)
