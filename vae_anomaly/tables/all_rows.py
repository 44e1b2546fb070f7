"""What all rows of a table show, counted part by part, where only a sample of them is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from vae_anomaly.tables.date_parts import DateFacts, DateParts
from vae_anomaly.tables.level_counts import LevelCounts
from vae_anomaly.tables.quantiles import QuantileSketch


class AllRows:
    """What ``learning.learn`` asks of columns, of rows that are read once and not kept.

    Counts, missing shares, lowest and highest values and what decides on parts of dates are exact
    (counts of levels within the error of ``LevelCounts``). The values of numbers are those of a
    ``QuantileSketch``, with weights. The order of rows matters within that error only; how they
    are cut into parts does not.

    Parameters
    ----------
    kinds : mapping of column name to kind
        Of the columns that are modelled.

    Attributes
    ----------
    n_rows : int
        How many were added.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.n_rows = 0
        self._kinds = dict(kinds)
        self._dates = [name for name, kind in kinds.items() if kind == "datetime"]
        self._earlier = {later: earlier for earlier, later in pairwise(self._dates)}
        self._facts = DateFacts(self._dates)
        self._n_missing = dict.fromkeys(kinds, 0)
        self._levels = {n: LevelCounts() for n, kind in kinds.items() if kind == "categorical"}
        self._bounds = {n: (np.inf, -np.inf) for n in kinds if n not in self._levels}
        self._sketches: dict[tuple[str, str], list[QuantileSketch]] = {}

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Look at more rows.

        Parameters
        ----------
        arrays : mapping of column name to array (n,)
            As ``columns.frame_arrays`` makes them, without infinities.
        """
        for name, array in arrays.items():
            if name in self._levels:
                present = array[array != ""]
                self._levels[name].add(present)
            else:
                present = array[~np.isnan(array)]
                self._add_numbers(name, present)
            self._n_missing[name] += len(array) - len(present)
        self._facts.add({name: arrays[name] for name in self._dates})
        self._add_parts_of_dates(arrays)
        self.n_rows += len(next(iter(arrays.values())))

    def merge(self, other: AllRows) -> None:
        """Look at the rows that another one, of the same columns, has seen.

        What is exact stays so; sketches depend on which rows were together, within their error.
        """
        self.n_rows += other.n_rows
        self._facts.merge(other._facts)
        for name, counts in self._levels.items():
            counts.merge(other._levels[name])
        for name, n_missing in other._n_missing.items():
            self._n_missing[name] += n_missing
        for name, (low, high) in other._bounds.items():
            self._bounds[name] = min(self._bounds[name][0], low), max(self._bounds[name][1], high)
        for (name, part), sketches in other._sketches.items():
            for index, sketch in enumerate(sketches):
                self._sketch(name, part, index).merge(sketch)

    def _add_parts_of_dates(self, arrays):
        if not self._dates:
            return
        # It needs TensorFlow, which workers that count rows elsewhere need not load.
        from vae_anomaly.tables.date_features import numbers_of

        for name in self._dates:
            for part in ("time", "since") if name in self._earlier else ("time",):
                for index, values in enumerate(numbers_of(name, part, self._earlier, arrays)):
                    self._sketch(name, part, index).add(_present(np.asarray(values)))

    def _add_numbers(self, name, present):
        if not len(present):
            return
        low, high = float(present.min()), float(present.max())
        self._bounds[name] = min(self._bounds[name][0], low), max(self._bounds[name][1], high)
        if self._kinds[name] in ("numeric", "timestamp"):
            self._sketch(name, "value", 0).add(present)

    def _sketch(self, name, part, index):
        sketches = self._sketches.setdefault((name, part), [])
        if index == len(sketches):
            sketches.append(QuantileSketch())
        return sketches[index]

    def level_counts(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the values of a categorical column, (m,), and twice how often each is there."""
        found, counts = self._levels[name].arrays()
        return found, counts, counts

    def date_parts(self) -> dict[str, DateParts]:
        """Return what is modelled of columns of dates."""
        return self._facts.parts()

    def missing_share(self, name: str) -> float:
        """Return the share of a column's cells that are missing."""
        return self._n_missing[name] / self.n_rows

    def bounds(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a column, 0 if there is none."""
        low, high = self._bounds[name]
        return (low, high) if low <= high else (0.0, 0.0)

    def numbers(
        self, name: str, part: str, since: Mapping[str, str | None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield values of each number of a part of a column, and how many rows each stands for.

        ``since`` says which date is before each; it is the one before it in the table.
        """
        n_numbers = 2 if part == "time" else 1
        for index in range(n_numbers):
            yield self._sketch(name, part, index).weighted()


def _present(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]
