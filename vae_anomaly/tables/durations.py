"""Durations as text: what pandas writes of them, and what clocks show, as seconds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vae_anomaly.tables.rules import DURATION_TEXT

if TYPE_CHECKING:
    import pyarrow as pa

# Days only as Python writes them: 1 day, 2:03:04. No number is beyond a float.
_COUNT = r"\d{1,9}"
_CLOCK = rf"^(-?)(?:({_COUNT}) days?, )?(?:({_COUNT}):([0-5]\d)|({_COUNT})):([0-5]\d(?:[.,]\d+)?)$"


def with_seconds(text: pa.Array) -> pa.Array:
    """Return text in which durations, as pandas writes them, are seconds.

    Examples
    --------
    >>> import pyarrow as pa
    >>> with_seconds(pa.array(["1 days 00:00:01.5", "7"])).to_pylist()
    ['86401.5', '7']
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(text, " days")).as_py():
        return text
    found = pc.match_substring_regex(text, rf"^\s*({DURATION_TEXT})\s*$")
    durations = pc.if_else(found, pc.utf8_trim_whitespace(text), None).to_pandas()
    seconds = pd.to_timedelta(durations, errors="coerce").dt.total_seconds()
    numbers = pa.array([None if value != value else f"{value!r}" for value in seconds], "string")
    return pc.coalesce(numbers, text)


def are_clocks(text: pa.Array) -> pa.Array:
    """Tell which cells are what a clock shows that counts on: 26:10:05, 86:41.5."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, _CLOCK)


def clocks_as_seconds(text: pa.Array) -> pa.Array:
    """Return text in which what clocks show is seconds; two numbers are minutes and seconds.

    Examples
    --------
    >>> import pyarrow as pa
    >>> clocks_as_seconds(pa.array(["26:10:05", "86:41.5", "-1 day, 0:00:01", "x"])).to_pylist()
    ['94205.0', '5201.5', '-86399.0', 'x']
    """
    import pyarrow as pa

    return pa.array([cell and _seconds(cell) for cell in text.to_pylist()], "string")


def _seconds(cell: str) -> str:
    match = re.fullmatch(_CLOCK, cell)
    if not match:
        return cell
    sign, days, hours, minutes, only_minutes, seconds = match.groups("0")
    whole = int(hours) * 3600 + (int(minutes) + int(only_minutes)) * 60
    time = whole + float(seconds.replace(",", "."))
    if match[2]:  # of a negative one, the days alone are below zero
        return f"{int(days) * (-86400 if sign == '-' else 86400) + time!r}"
    return f"{-time if sign == '-' else time!r}"
