"""Missing cells in scoring: shares of them, and rows with cells hidden to measure what that costs.

Missing cells alone make a row's reconstruction worse, or its prior term smaller. What this costs is
measured on calibration rows at a few shares of missing cells, the *knots*, and is interpolated
between them.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

#: Shares of missing cells at which costs are measured.
KNOTS = np.linspace(0, 1, 11)


def at_share(values: tf.Tensor, observed: tf.Tensor) -> tf.Tensor:
    """Interpolate values at the knots to the rows' shares of missing cells.

    Parameters
    ----------
    values : float64 tensor, (knots,)
    observed : tensor, (n, columns)
        1 where a cell has a value, 0 where it is missing.

    Returns
    -------
    float64 tensor, (n,)

    Examples
    --------
    >>> at_share(tf.constant(KNOTS), tf.constant([[1.0, 1.0, 1.0, 0.0]])).numpy().tolist()
    [0.25]
    """
    observed = tf.cast(observed, tf.float64)
    position = (1 - tf.reduce_mean(observed, axis=1)) * (len(KNOTS) - 1)
    below = tf.minimum(tf.floor(position), len(KNOTS) - 2)
    index = tf.cast(below, tf.int32)
    low, high = (tf.gather(values, index + step) for step in (0, 1))
    return low + (position - below) * (high - low)


def with_hidden_cells(
    x: np.ndarray,
    observed: np.ndarray,
    column_widths: Sequence[int],
    column_order: Sequence[int],
    rng: np.random.Generator,
    shares: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Repeat rows once for each share, each time with that share of all cells hidden at random.

    Parameters
    ----------
    x : array, (n, features)
        Preprocessed.
    observed : array, (n, columns)
    column_widths : sequence of int
        Features of x that each column takes.
    column_order : sequence of int
        The columns in the order in which cells are drawn.
    rng : numpy.random.Generator
    shares : sequence of float

    Returns
    -------
    arrays (shares * n, features) and (shares * n, columns)
        First the rows as they are, then those with 10% of the cells hidden, ...
    """
    xs, observations = [], []
    for share in shares:
        hidden = np.empty(observed.shape, dtype=bool)
        hidden[:, column_order] = (rng.uniform(size=observed.shape[::-1]) < share).T
        xs.append(np.where(np.repeat(hidden, column_widths, axis=1), x.dtype.type(0), x))
        observations.append(np.where(hidden, observed.dtype.type(0), observed))
    return np.concatenate(xs), np.concatenate(observations)
