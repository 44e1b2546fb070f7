"""Numbers that are times: dates as digits, and what counts from 1970 or as Excel does."""

from __future__ import annotations

from vae_anomaly.tables.dates import EPOCHS, DateFormat
from vae_anomaly.tables.formats import MIN_SHARE
from vae_anomaly.tables.names import names_rows, words
from vae_anomaly.tables.tallies import NumberTally

MIN_CELLS = 20  #: fewer numbers are months by chance
# Bounds of numbers that count from 1970: 2000 to 2033, of milliseconds to 2100; of Excel to 2050.
_COUNTED = {
    "epoch_s": (946_684_800, 2_000_000_000),
    "epoch_ms": (946_684_800_000, 4_102_444_800_000),
    "epoch_us": (946_684_800 * 10**6, 2 * 10**15),
    "epoch_ns": (946_684_800 * 10**9, 2 * 10**18),
}
_EXCEL = (36_526, 54_789)
_DATE_WORDS = {"date", "datetime", "day", "datum"}
_TIME_WORDS = {"time", "timestamp", "ts", "epoch", "at", "unixtime", "utc", *_DATE_WORDS}


def counted_times(name: str, numbers: NumberTally, n_values: int) -> DateFormat | None:
    """Return the format of numbers that are times; None if they are not.

    Parameters
    ----------
    name : str
        Of the column.
    numbers : NumberTally
    n_values : int
        How many cells the column has that are not missing.

    Examples
    --------
    >>> import numpy as np
    >>> numbers = NumberTally()
    >>> numbers.add(np.array([1704067200.0, 1704153600.0]))
    >>> counted_times("seen_at", numbers, 2)
    DateFormat(pattern='epoch_s')
    """
    said = set(words(name))
    says_time = bool(said & _TIME_WORDS)
    n_zeros = numbers.n_low if numbers.low == 0 else 0  # are no dates
    least = max(MIN_SHARE * (n_values - n_zeros), 1)
    if numbers.n_days >= least:
        return DateFormat("%Y%m%d")
    if said & _DATE_WORDS and numbers.n_short_days >= least and numbers.high >= 10_101:
        return DateFormat("%y%m%d")
    if numbers.n_months >= MIN_SHARE * n_values and (says_time or n_values >= MIN_CELLS):
        return DateFormat("%Y%m")
    if said & _DATE_WORDS and _EXCEL[0] <= numbers.low <= numbers.high <= _EXCEL[1]:
        return DateFormat("excel_days")
    if (numbers.n_whole < numbers.count and not says_time) or names_rows(name):
        return None
    for pattern, (low, high) in _COUNTED.items():
        if low <= numbers.low <= numbers.high <= (2 * high if says_time else high):
            return DateFormat(pattern)
    return None


def n_times(numbers: NumberTally, found: DateFormat) -> int:
    """Return how many numbers are times in a format of such; 0 in others.

    Examples
    --------
    >>> import numpy as np
    >>> numbers = NumberTally()
    >>> numbers.add(np.array([20240131.0, 20240201.0, 0.0, 7.5]))
    >>> n_times(numbers, DateFormat("%Y%m%d")), n_times(numbers, DateFormat("epoch_s"))
    (3, 4)
    """
    if found.pattern in EPOCHS:
        return numbers.count
    digits = {"%Y%m%d": numbers.n_days, "%y%m%d": numbers.n_short_days, "%Y%m": numbers.n_months}
    n_zeros = numbers.n_low if numbers.low == 0 else 0  # read as missing
    return digits[found.pattern] + n_zeros if found.pattern in digits else 0
