"""Weights of training rows: checked, rows of weight 0 left out, the others 1 on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def rows_and_weights(
    sample_weight: Any, n_rows: int, left_out: Sequence[int] = ()
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return which rows train, and how much each of them counts.

    Parameters
    ----------
    sample_weight : array-like (n,), number or None
        Not negative.
    n_rows : int
    left_out : sequence of int
        Rows that are not there any more, for other reasons.

    Returns
    -------
    rows : int array or None
        Those, of the rows that are there, whose weight is not 0; None: all.
    weights : float64 array or None
        Of these rows, 1 on average; None: all equal.

    Raises
    ------
    ValueError
        Weights that are negative, not finite, all 0, or not one for each row.

    Examples
    --------
    >>> rows_and_weights([0, 1, 3], 3)
    (array([1, 2]), array([0.5, 1.5]))
    >>> rows_and_weights([2, 2, 2], 3)
    (None, None)
    """
    if sample_weight is None:
        return None, None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n_rows, weights)
    if weights.shape != (n_rows,):
        raise ValueError(
            f"Expected `sample_weight` to have one number for each of the {n_rows} rows, shape "
            f"({n_rows},). Received: shape {weights.shape}."
        )
    strange = ~np.isfinite(weights) | (weights < 0)
    present = np.delete(weights, np.asarray(left_out, dtype=int))
    if strange.any() or not present.any():
        row = int(np.argmax(strange))
        what = f"{weights[row]} in row {row}" if strange.any() else "zeros alone"
        raise ValueError(
            f"Expected `sample_weight` to be finite, not negative and not all 0. Received: {what}."
        )
    rows = None if present.all() else np.flatnonzero(present)
    present = present if rows is None else present[rows]
    return rows, None if np.ptp(present) == 0 else present / present.mean()
