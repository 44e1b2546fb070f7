"""Which columns a model has: those of the table, except that a date is several, its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vae_anomaly.tables.date_parts import N_MONTH, N_WEEKDAY, DateParts

#: A column of the table, and the part of it: "value", "time", "weekday", "month" or "since".
Part = tuple[str, str]


@dataclass(frozen=True)
class ModelColumns:
    """The columns of a model, in the order of its features.

    Examples
    --------
    >>> columns = ModelColumns.of(
    ...     {"sold": "datetime", "price": "numeric"}, {"sold": DateParts(time=True, weekday=True)})
    >>> columns.all
    [('sold', 'time'), ('price', 'value'), ('sold', 'weekday')]
    """

    numeric: list[Part]  #: numeric columns, times of day and differences of dates
    boolean: list[Part]
    one_hots: list[Part]  #: categories, weekdays and months

    @classmethod
    def of(cls, kinds: Mapping[str, str], dates: Mapping[str, DateParts]) -> ModelColumns:
        """Return the columns of a table of these kinds.

        Raises
        ------
        ValueError
            There is none.
        """
        numeric, boolean, one_hots, behind = [], [], [], []
        for name, kind in kinds.items():
            parts = dates.get(name, DateParts())
            numeric += [(name, "value")] * (kind in ("numeric", "timestamp"))
            numeric += [(name, "time")] * parts.time + [(name, "since")] * bool(parts.since)
            boolean += [(name, "value")] * (kind == "boolean")
            one_hots += [(name, "value")] * (kind == "categorical")
            behind += [(name, "weekday")] * parts.weekday + [(name, "month")] * parts.month
        if not numeric + boolean + one_hots + behind:
            raise ValueError(
                "Expected a column to model. Received: dates alone, "
                f"{', '.join(map(repr, dates))}, of one day at most, of whose times and weekdays "
                'that tells nothing. Model them as numbers: kinds={name: "timestamp"}.'
            )
        return cls(numeric, boolean, one_hots + behind)

    @property
    def numbers(self) -> list[Part]:
        """Those that consist of numbers."""
        return self.numeric + self.boolean

    @property
    def all(self) -> list[Part]:
        return self.numbers + self.one_hots

    @cached_property
    def counts(self) -> list[int]:
        """How many numbers each of ``numbers`` is; a time of day is a sine and a cosine."""
        return [2 if part == "time" else 1 for _, part in self.numbers]

    @property
    def n_numbers(self) -> int:
        return sum(self.counts)

    @property
    def n_numeric_numbers(self) -> int:
        return sum(self.counts[: len(self.numeric)])

    @cached_property
    def first_numbers(self) -> list[int]:
        """The place of the first number of each of ``numbers``."""
        return (np.cumsum(self.counts, dtype=int) - self.counts).tolist()

    def number_of(self, name: str, part: str) -> int:
        """Return the place of the first number of a part of a column."""
        return self._places[name, part]

    @cached_property
    def _places(self):
        return dict(zip(self.numbers, self.first_numbers, strict=True))

    def widths(self, number_widths: list[int], levels: Mapping[str, list[str]]) -> list[int]:
        """Return how many features each column takes.

        Parameters
        ----------
        number_widths : list of int
            Features of each number.
        levels : mapping of categorical column name to list of str
        """
        fixed = {"weekday": N_WEEKDAY, "month": N_MONTH}
        numbers = [
            sum(number_widths[first : first + count])
            for first, count in zip(self.first_numbers, self.counts, strict=True)
        ]
        return numbers + [
            fixed.get(part) or 1 + max(1, len(levels[name])) for name, part in self.one_hots
        ]
