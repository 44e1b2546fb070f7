"""Durations as text: what pandas writes of them, as seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vae_anomaly.tables.rules import DURATION_TEXT

if TYPE_CHECKING:
    import pyarrow as pa


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
