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
    present = {name: seconds[~np.isnan(seconds)] for name, seconds in dates.items()}
    spans = {name: np.ptp(seconds) if seconds.size else 0.0 for name, seconds in present.items()}
    pairs = [
        (earlier, later)
        for earlier, later in pairwise(dates)
        if spans[earlier] and spans[later] and not np.isnan(dates[later] - dates[earlier]).all()
    ]
    since = {later: earlier for earlier, later in pairs[:MOST_PAIRS]}
    return {
        name: DateParts(
            time=bool(span > DAY and (present[name] % DAY).any()),
            weekday=bool(span > WEEK and not (span > _YEAR and _are_first_days(present[name]))),
            month=bool(span > _YEAR),
            since=since.get(name),
        )
        for name, span in spans.items()
    }


def _are_first_days(present):
    days = np.floor(present / DAY).astype("datetime64[D]")
    return bool((days == days.astype("datetime64[M]")).all())
