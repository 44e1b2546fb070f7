"""What is modelled of dates: time of day, weekday, month, and the time since another date.

Absolute time is not: rows of next month would all be anomalies.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

DAY = 86400.0  #: seconds
WEEK = 7 * DAY
#: From the first second of the year 1 to the last of the year 9999.
FIRST_SECOND, LAST_SECOND = -62135596800.0, 253402300799.0
#: Features of a weekday and of a month: one for what is no date, one for each.
N_WEEKDAY, N_MONTH = 8, 13
#: The most differences of dates that are modelled.
MOST_PAIRS = 3
_YEAR = 366 * DAY


class DateParts(NamedTuple):
    """What is modelled of a column of dates."""

    time: bool = False  #: the time of day
    weekday: bool = False
    month: bool = False
    since: str | None = None  #: the column before it: the time that has passed since that date


def learn_parts(dates: Mapping[str, np.ndarray]) -> dict[str, DateParts]:
    """Decide what is modelled of columns of dates.

    A cycle is modelled where the training rows span more than one: the time of day beyond a day,
    unless all dates are midnights; the weekday beyond a week; the month beyond a year. The weekday
    is not if all dates are first days of months. Differences are those of each column to the one
    before it, the first three pairs in which neither has one date only.

    Parameters
    ----------
    dates : mapping of column name to float64 array (n,)
        Seconds since 1970-01-01 UTC, in the table's order; NaN where missing.

    Returns
    -------
    dict of column name to DateParts

    Examples
    --------
    >>> days = np.arange(20) * 86400.0
    >>> learn_parts({"sent": days, "seen": days + 7200})["seen"]
    DateParts(time=True, weekday=True, month=False, since='sent')
    """
    facts = DateFacts(list(dates))
    facts.add(dates)
    return facts.parts()


class DateFacts:
    """What columns of dates show, part by part of a table: all that ``learn_parts`` decides by.

    Parameters
    ----------
    names : list of str
        In the table's order.

    Examples
    --------
    >>> facts = DateFacts(["day"])
    >>> for day in range(20):
    ...     facts.add({"day": np.array([day * 86400.0])})
    >>> facts.parts()["day"]
    DateParts(time=False, weekday=True, month=False, since=None)
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._low = dict.fromkeys(names, np.inf)
        self._high = dict.fromkeys(names, -np.inf)
        self._has_times: set[str] = set()
        self._has_other_days: set[str] = set()
        self._meet: set[tuple[str, str]] = set()  # in some row both dates are there

    def add(self, dates: Mapping[str, np.ndarray]) -> None:
        """Look at rows; NaN is missing."""
        for name in self._names:
            present = dates[name][~np.isnan(dates[name])]
            if not present.size:
                continue
            self._low[name] = min(self._low[name], float(present.min()))
            self._high[name] = max(self._high[name], float(present.max()))
            if (present % DAY).any():
                self._has_times.add(name)
            if not _are_first_days(present):
                self._has_other_days.add(name)
        for earlier, later in pairwise(self._names):
            if not np.isnan(dates[later] - dates[earlier]).all():
                self._meet.add((earlier, later))

    def merge(self, other: DateFacts) -> None:
        """Look at the rows that another one, of the same columns, has seen."""
        for name in self._names:
            self._low[name] = min(self._low[name], other._low[name])
            self._high[name] = max(self._high[name], other._high[name])
        self._has_times |= other._has_times
        self._has_other_days |= other._has_other_days
        self._meet |= other._meet

    def parts(self) -> dict[str, DateParts]:
        """Return what is modelled of each column."""
        spans = {name: max(0.0, self._high[name] - self._low[name]) for name in self._names}
        pairs = [
            (earlier, later)
            for earlier, later in pairwise(self._names)
            if spans[earlier] and spans[later] and (earlier, later) in self._meet
        ]
        since = {later: earlier for earlier, later in pairs[:MOST_PAIRS]}
        return {
            name: DateParts(
                time=span > DAY and name in self._has_times,
                weekday=span > WEEK and not (span > _YEAR and name not in self._has_other_days),
                month=span > _YEAR,
                since=since.get(name),
            )
            for name, span in spans.items()
        }


def _are_first_days(present):
    with np.errstate(invalid="ignore"):  # what is in no calendar
        days = np.floor(present / DAY).astype("datetime64[D]")
    return bool((days == days.astype("datetime64[M]")).all())
