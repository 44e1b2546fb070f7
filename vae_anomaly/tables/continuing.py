"""A preprocessor that has learned goes on with new rows, such that networks go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_anomaly.tables.all_rows import AllRows
from vae_anomaly.tables.learning import Known, learn
from vae_anomaly.tables.preprocessing import TablePreprocessor


def continued(
    before: TablePreprocessor,
    arrays: Mapping[str, np.ndarray],
    weights: np.ndarray | None = None,
    all_rows: AllRows | None = None,
    *,
    max_levels: int,
    takes_levels: bool,
) -> TablePreprocessor:
    """Return a preprocessor that knows new rows too.

    Kinds, parts of dates, centers, scales, steps and normal scores stay: what networks were
    trained on. Levels of the new rows come behind those known; ranges grow. Shares of missing
    cells, grids and profiles are those of the new rows.

    Parameters
    ----------
    before : TablePreprocessor
        Adapted; it stays as it is.
    arrays, weights, all_rows
        As of ``TablePreprocessor.adapt``.
    max_levels : int
        Most levels that the new rows bring along, known ones among them.
    takes_levels : bool
        Whether networks can grow by new levels.

    Raises
    ------
    ValueError
        A column contains an infinity.

    Examples
    --------
    >>> before = TablePreprocessor({"size": "numeric", "color": "categorical"})
    >>> red = np.array(["red"] * 3, dtype=object)
    >>> before.adapt({"size": np.array([1.0, 3.0, 5.0]), "color": red})
    >>> blue = np.array(["blue", "blue", "red"], dtype=object)
    >>> new = {"size": np.array([2.0, 3.0, 9.0]), "color": blue}
    >>> after = continued(before, new, max_levels=50, takes_levels=True)
    >>> after.levels["color"], after.bounds.numpy().tolist(), float(after.numbers.center[0])
    (['red', 'blue'], [[1.0, 9.0]], 3.0)
    """
    learned = learn(
        before.kinds,
        arrays,
        max_levels=max_levels,
        normal_scores=before.normal_scores,
        weights=weights,
        all_rows=all_rows,
        known=Known(before.levels, before.dates, takes_levels),
    )
    after = TablePreprocessor(
        before.kinds,
        levels=learned.levels,
        dates=before.dates,
        skewed=before.numbers.skewed,
        profiles=learned.profiles,
        dtypes=before.dtypes,
        max_levels=max_levels,
        normal_scores=before.normal_scores,
    )
    for weight, kept in zip(after.numbers.weights, before.numbers.weights, strict=True):
        weight.assign(kept)
    after.missing_share.assign(learned.missing_shares)
    after.bounds.assign(_ranges(before, after, learned.bounds))
    after.grid.assign(learned.grid)
    return after


def _ranges(before: TablePreprocessor, after: TablePreprocessor, bounds: np.ndarray) -> Any:
    """Return the ranges of all rows that were ever learned from, (columns with a unit, 2)."""
    old = np.asarray(before.bounds)
    places = [list(before.kinds).index(name) for name in before.measured]
    was_empty, is_empty = (
        np.asarray(layer.missing_share)[places, None] == 1 for layer in (before, after)
    )
    both = np.column_stack([np.minimum(old, bounds)[:, 0], np.maximum(old, bounds)[:, 1]])
    return np.where(was_empty, bounds, np.where(is_empty, old, both))
