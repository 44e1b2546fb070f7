"""A uniform sample of rows that are read once, in parts; all of them where there are few."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vae_anomaly.tables.all_rows import AllRows

Arrays = dict[str, np.ndarray]

#: Cells of the sample where nobody says how many rows; the fewest rows of it then.
SAMPLE_CELLS, FEWEST_ROWS = 2_000_000, 10_000
# Keys of rows that are drawn at a time.
_KEYS = 2**20


def default_max_rows(n_columns: int) -> int:
    """Return how many rows of a table are kept at most: about two million cells.

    Training visits 1.5 million rows (6000 steps of 256), of which some thousands tell as much.

    Examples
    --------
    >>> default_max_rows(30), default_max_rows(1000)
    (66666, 10000)
    """
    return max(FEWEST_ROWS, SAMPLE_CELLS // n_columns)


def largest_key(n_rows: int, max_rows: int, seed: int) -> int | None:
    """Return the largest key of a sample of a table of ``n_rows`` rows; None if all are kept.

    Examples
    --------
    >>> key = largest_key(1000, max_rows=3, seed=0)
    >>> part = RowSample({"a": "numeric"}, 3, 0, first_row=500, largest=key)
    >>> part.add({"a": np.arange(500.0, 1000.0)})
    >>> len(part.arrays()["a"]) <= 3
    True
    """
    if n_rows <= max_rows:
        return None
    random, kept = np.random.Philox(key=seed), np.empty(0, np.uint64)
    for start in range(0, n_rows, _KEYS):
        keys = random.random_raw(min(_KEYS, n_rows - start))
        if len(kept) == max_rows:
            keys = keys[keys < kept[-1]]
        kept = np.sort(np.concatenate([kept, keys]))[:max_rows]
    return int(kept[-1])


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
    first_row : int
        The number of the first row that is added, where others add those before it.
    largest : int or None
        Of the keys of rows that may be kept, if that is known before, by ``largest_key``.

    Attributes
    ----------
    n_rows : int
        How many rows were added.

    Examples
    --------
    >>> sample = RowSample({"a": "numeric"}, max_rows=3, seed=0)
    >>> for start in range(0, 1000, 100):
    ...     sample.add({"a": np.arange(start, start + 100.0)})
    >>> len(sample.arrays()["a"]), sample.n_rows, sample.all_rows.bounds("a")
    (3, 1000, (0.0, 999.0))
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        max_rows: int,
        seed: int,
        *,
        first_row: int = 0,
        largest: int | None = None,
    ) -> None:
        self.n_rows = 0
        self._kinds, self._max_rows = dict(kinds), max_rows
        self._random = np.random.Philox(key=seed)
        self._random.advance(first_row // 4)  # of four keys each
        self._random.random_raw(first_row % 4)
        self._largest = largest  # of the keys that are still small enough
        # Rows that are not kept have to be counted from the first one on.
        self._all_rows = None if largest is None else AllRows(kinds)
        self._keys: list[np.ndarray] = []
        self._parts: list[Arrays] = []
        self._n_kept = 0

    def add(self, arrays: Arrays) -> None:
        """Add rows, named arrays (n,), as ``AllRows.add`` takes them."""
        n_rows = len(next(iter(arrays.values())))
        keys = self._random.random_raw(n_rows)
        self.n_rows += n_rows
        if self.n_rows > self._max_rows and self._all_rows is None:
            self._all_rows = self._counted()
        if self._all_rows is not None:
            self._all_rows.add(arrays)
        if self._largest is not None:
            kept = np.flatnonzero(keys <= self._largest)
            keys, arrays = keys[kept], {name: array[kept] for name, array in arrays.items()}
        self._keep(keys, arrays)

    def merge(self, other: RowSample) -> None:
        """Add the rows of another sample, by the same seed, that come after; the last ones.

        The sample is that of all their rows. What all of them show is as of ``AllRows.merge``.
        """
        is_sample = self.n_rows + other.n_rows > self._max_rows
        if self._all_rows is None and (is_sample or other._all_rows is not None):
            self._all_rows = self._counted()
        if self._all_rows is not None:
            self._all_rows.merge(other._all_rows or other._counted())
        self.n_rows += other.n_rows
        for keys, arrays in zip(other._keys, other._parts, strict=True):
            self._keep(keys, arrays)

    @property
    def all_rows(self) -> AllRows | None:
        """What all rows show; None as long as all are kept."""
        return self._all_rows if self.n_rows > self._max_rows else None

    def arrays(self) -> Arrays:
        """Return the sample, in the order of its rows."""
        self._shrink()
        return self._parts[0]

    def _counted(self) -> AllRows:
        """Return what the rows so far show, which are all still here."""
        all_rows = AllRows(self._kinds)
        for part in self._parts:
            all_rows.add(part)
        return all_rows

    def _keep(self, keys: np.ndarray, arrays: Arrays) -> None:
        self._keys.append(keys)
        self._parts.append(arrays)
        self._n_kept += len(keys)
        if self._n_kept > 2 * self._max_rows:
            self._shrink()

    def _shrink(self) -> None:
        """Join the parts, and keep the rows of the smallest keys."""
        keys = np.concatenate(self._keys)
        whole = {n: np.concatenate([part[n] for part in self._parts]) for n in self._kinds}
        if len(keys) > self._max_rows:
            self._largest = np.partition(keys, self._max_rows - 1)[self._max_rows - 1]
            kept = np.flatnonzero(keys <= self._largest)[: self._max_rows]
            keys, whole = keys[kept], {name: array[kept] for name, array in whole.items()}
        self._keys, self._parts, self._n_kept = [keys], [whole], len(keys)
