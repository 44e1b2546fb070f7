"""Cells as text: one spelling of spaces and signs, and which of them are missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vae_anomaly.tables.rules import MISSING

if TYPE_CHECKING:
    import pyarrow as pa

# Missing in columns of numbers, booleans or dates alone, however it is capitalised.
MISSING_VALUES = (
    "?", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "na", "n/a", "n.a.", "nan",
    "nat", "null", "nil", "none", "nd", "n.d.", "n/d", "missing", "unknown", "no data",
    "not available", "(null)", "(blank)", "#value!", "#div/0!", "#ref!", "#name?", "#null!",
    "#num!", "\\n", "0000-00-00", "0000-00-00 00:00:00", "00/00/0000", "00.00.0000", "$-",
    "$ -", "€-", "€ -", "-€", "- €", "£-", "£ -",
)  # fmt: skip


def clean(text: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return text without spaces around it, with one spelling of space, minus and apostrophe."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    text = pc.utf8_trim_whitespace(text.cast("string"))
    if pc.all(pc.string_is_ascii(text)).as_py() is not False:
        return text
    for marks, mark in (
        ("[\u00a0\u2007\u2009\u202f]", " "),
        ("\u2212", "-"),
        ("[\u2019\u02bc]", "'"),
    ):
        text = pc.replace_substring_regex(text, marks, mark)
    return text


def without_missing(text: pa.Array, more: Iterable[str] = (), *, values: bool) -> pa.Array:
    """Return text that is null where it is a marker of a missing cell.

    Parameters
    ----------
    text : pyarrow.Array of strings
    more : iterable of str
        Markers besides `MISSING`.
    values : bool
        Whether the column is of numbers, booleans or dates, where `MISSING_VALUES` are missing too.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array({*MISSING, *more}, "string")
    text = pc.if_else(pc.is_in(text, value_set=known), None, text)
    if not values:
        return text
    short = pc.less_equal(pc.binary_length(text), max(map(len, MISSING_VALUES)))
    lowered = pc.utf8_lower(pc.if_else(short, text, None))
    known = pa.array(MISSING_VALUES, "string")
    return pc.if_else(pc.is_in(lowered, value_set=known), None, text)
