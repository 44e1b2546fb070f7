"""A uniform sample of rows that are read once, in parts; all of them where there are few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

# Imported inside functions, for it needs TensorFlow, and most commands do not.
if TYPE_CHECKING:
    from vae_anomaly.tables.all_rows import AllRows

Arrays = dict[str, np.ndarray]

#: Cells of the sample where nobody says how many rows; the fewest rows of it then.
SAMPLE_CELLS, FEWEST_ROWS = 2_000_000, 10_000


def default_max_rows(n_columns: int) -> int:
    """Return how many rows of a table are kept at most: about two million cells.

    Training visits 1.5 million rows (6000 steps of 256), of which some thousands tell as much.

    Examples
    --------
    >>> default_max_rows(30), default_max_rows(1000)
    (66666, 10000)
    """
    return max(FEWEST_ROWS, SAMPLE_CELLS // n_columns)


class RowSample:
    """A uniform sample of rows: those of the smallest keys, drawn by the row's number.

    The key of a row depends on the seed and on its number alone (Philox, Salmon et al. 2011,
    "Parallel random numbers: as easy as 1, 2, 3"): how rows are cut into parts changes nothing.

    Parameters
    ----------
    kinds : mapping of column name to kind
        Of the columns that are modelled.
    max_rows : int
        How many rows are kept, >= 1.
    seed : int
        At least 0.

    Attributes
    ----------
    n_rows : int
        How many rows were added.
    all_rows : AllRows or None
        What all of them show; None as long as all are kept.

    Examples
    --------
    >>> sample = RowSample({"a": "numeric"}, max_rows=3, seed=0)
    >>> for start in range(0, 1000, 100):
    ...     sample.add({"a": np.arange(start, start + 100.0)})
    >>> len(sample.arrays()["a"]), sample.n_rows, sample.all_rows.bounds("a")
    (3, 1000, (0.0, 999.0))
    """

    def __init__(self, kinds: Mapping[str, str], max_rows: int, seed: int) -> None:
        self.n_rows = 0
        self.all_rows: AllRows | None = None
        self._kinds, self._max_rows = dict(kinds), max_rows
        self._random = np.random.Philox(key=seed)
        self._largest: int | None = None  # of the keys that are still small enough
        self._keys: list[np.ndarray] = []
        self._parts: list[Arrays] = []
        self._n_kept = 0

    def add(self, arrays: Arrays) -> None:
        """Add rows, named arrays (n,), as ``columns.frame_arrays`` makes them.

        Raises
        ------
        ValueError
            A column contains an infinity, and not all rows are kept.
        """
        n_rows = len(next(iter(arrays.values())))
        keys = self._random.random_raw(n_rows)
        self.n_rows += n_rows
        if self.n_rows > self._max_rows and self.all_rows is None:
            self._start_counting()
        if self.all_rows is not None:
            self.all_rows.add(arrays)
        if self._largest is not None:
            kept = np.flatnonzero(keys <= self._largest)
            keys, arrays = keys[kept], {name: array[kept] for name, array in arrays.items()}
        self._keys.append(keys)
        self._parts.append(arrays)
        self._n_kept += len(keys)
        if self._n_kept > 2 * self._max_rows:
            self._shrink()

    def arrays(self) -> Arrays:
        """Return the sample, in the order of its rows."""
        self._shrink()
        return self._parts[0]

    def _start_counting(self) -> None:
        """Count what all rows show, those first that are all still here."""
        from vae_anomaly.tables.all_rows import AllRows

        self.all_rows = AllRows(self._kinds)
        for part in self._parts:
            self.all_rows.add(part)

    def _shrink(self) -> None:
        """Join the parts, and keep the rows of the smallest keys."""
        keys = np.concatenate(self._keys)
        whole = {n: np.concatenate([part[n] for part in self._parts]) for n in self._kinds}
        if len(keys) > self._max_rows:
            self._largest = np.partition(keys, self._max_rows - 1)[self._max_rows - 1]
            kept = np.flatnonzero(keys <= self._largest)[: self._max_rows]
            keys, whole = keys[kept], {name: array[kept] for name, array in whole.items()}
        self._keys, self._parts, self._n_kept = [keys], [whole], len(keys)
