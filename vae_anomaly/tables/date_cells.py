"""Dates and times of cells as seconds since 1970, once it is known how their column spells them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.tables.cells import clean, without_missing
from vae_anomaly.tables.dates import (
    DAYS,
    DIGITS_ALONE,
    EPOCHS,
    FULL_MONTHS,
    MONTHS,
    TIME_ONLY,
    ZONES,
    DateFormat,
    filled,
    split_times,
    with_colons,
)

if TYPE_CHECKING:
    import pyarrow as pa

_TIME_PARTS = re.compile(
    r"(?P<hour>\d+):(?P<minute>\d+)(?::(?P<second>\d+)(?:[.,](?P<fraction>\d+))?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
    r"(?: ?(?:(?P<zone>[A-Z]+)|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?))?"
)
_DIRECTIVES = {
    "%Y": r"(?P<Y>\d{4})",
    "%y": r"(?P<y>\d{2})",
    "%m": r"(?P<m>\d{1,2})",
    "%d": r"(?P<d>\d{1,2})",
    "%b": r"(?P<b>[A-Za-z]{3,9})\.?",
    "%a": rf"{DAYS}",
}


def epoch_seconds(values: np.ndarray, pattern: str) -> np.ndarray:
    """Return the seconds since 1970-01-01 UTC of numbers that count time, as ``EPOCHS`` says."""
    unit, start = EPOCHS[pattern]
    return (values - start) * unit


def convert_dates(
    text: pa.Array, found: DateFormat, missing: Iterable[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the cells of a column into seconds since 1970-01-01 UTC, to the microsecond.

    Parameters
    ----------
    text : pyarrow.Array of strings, (n,)
    found : DateFormat
        Not of epochs, which are numbers.
    missing : iterable of str
        Markers of missing cells besides the usual ones.

    Returns
    -------
    seconds : numpy.ndarray, (n,), float64
        NaN where a cell is missing or bad. A date without a zone is in UTC, one without a day is
        the first of its month, and a time without a date is on 1970-01-01.
    bad : numpy.ndarray, (n,), bool
        Where a cell is neither missing nor a date in this format.

    Examples
    --------
    >>> import pyarrow as pa
    >>> cells = pa.array(["02/01/1970 00:01", "30/02/1970", "-"])
    >>> seconds, bad = convert_dates(cells, DateFormat("%d/%m/%Y"))
    >>> seconds.tolist(), bad.tolist()
    ([86460.0, nan, nan], [False, True, False])
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = tuple(missing)
    if found.pattern == "%Y-%m-%d" and not missing:  # a marker may be a date
        with suppress(pa.ArrowInvalid):  # much faster
            micros = text.cast("timestamp[us]").cast("int64").to_numpy(zero_copy_only=False)
            return micros / 1e6, np.zeros(len(text), bool)
    text = without_missing(clean(text), missing, values=True)
    if found.pattern in DIGITS_ALONE:
        text = _digits(text)
    if found.pattern == "%y%m%d":  # 50131 is 050131
        short = pc.match_substring_regex(text, r"^\d{3,5}$")
        text = pc.if_else(short, pc.utf8_lpad(text, 6, "0"), text)
    text = with_colons(text)
    dates, times = split_times(text)
    days = _of_distinct(dates, partial(_day, pattern=found.pattern))
    micros = _of_distinct(times, _micros)
    present = pc.is_valid(text).to_numpy(zero_copy_only=False)
    none = np.isnan(days) | np.isnan(micros)
    # float64 lacks some integers from 2^53 on, which is in the year 2255 as microseconds.
    whole_days, micros = (np.where(none, 0, part).astype("int64") for part in (days, micros))
    seconds = (whole_days * 86_400_000_000 + micros) / 1e6
    return np.where(none, np.nan, seconds), none & present


def _digits(text: pa.Array) -> pa.Array:
    """Return numbers that spell dates as digits alone: not 20240131.0; no date is 0."""
    import pyarrow.compute as pc

    is_float = pc.match_substring_regex(text, r"^\d+\.0*$|^\d\.\d+[eE]\+?\d+$")
    if pc.any(is_float).as_py():
        whole = pc.if_else(is_float, text, None).cast("float64").cast("int64", safe=False)
        text = pc.coalesce(whole.cast("string"), text)
    return pc.if_else(pc.match_substring_regex(text, "^0+$"), None, text)


def _of_distinct(text: pa.Array, value: Callable[[str], float]) -> np.ndarray:
    """Return the values of cells, each computed once; NaN of missing ones."""
    import pyarrow.compute as pc

    coded = text.dictionary_encode()
    values = np.array([*map(value, coded.dictionary.to_pylist()), np.nan])
    return values[pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)]


@lru_cache(maxsize=2**16)
def _day(date: str, pattern: str) -> float:
    """Return the day of a date from 1970-01-01, NaN if it is none."""
    if date == pattern == TIME_ONLY:
        return 0.0
    match = re.fullmatch(filled(pattern, _DIRECTIVES), date, re.IGNORECASE)
    if not match:
        return np.nan
    parts = match.groupdict()
    year = int(parts.get("Y") or parts.get("y") or 1970)
    if parts.get("y"):  # as POSIX reads years of two digits
        year += 1900 if year >= 69 else 2000
    month = int(parts.get("m") or 1)
    if name := parts.get("b"):
        name = name.lower()
        if name not in (*MONTHS, *FULL_MONTHS, "sept"):
            return np.nan
        month = MONTHS.index(name[:3]) + 1
    try:
        day = datetime.date(year, month, int(parts.get("d") or 1))
    except ValueError:
        return np.nan
    return float(day.toordinal() - datetime.date(1970, 1, 1).toordinal())


def _micros(time: str) -> float:
    """Return the microseconds from midnight UTC of a date to a time on it, NaN if it is none."""
    match = _TIME_PARTS.fullmatch(time or "0:00")
    if not match:
        return np.nan
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    is_end = hour == 24 and not (minute or second or match["half"])  # of the day
    if hour > (12 if match["half"] else 23) + is_end or minute > 59 or second > 60:
        return np.nan
    if match["half"]:
        hour = hour % 12 + 12 * (match["half"] in "pP")
    ahead = int(match["hours"] or 0) * 60 + int(match["minutes"] or 0)
    minute -= -ahead if match["sign"] == "-" else ahead + 60 * ZONES.get(match["zone"], 0)
    fraction = (match["fraction"] or "")[:6].ljust(6, "0")
    return ((hour * 60 + minute) * 60 + second) * 1e6 + int(fraction)
