"""Columns of Arrow tables as the arrays that a model takes, and as text."""

from __future__ import annotations

import calendar
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.tables.rules import (
    CELL_TEXT,
    DATE_KINDS,
    DURATION_TEXT,
    EXPECTED,
    MISSING_TEXT,
    ZONED_TEXT,
    category_text,
    kind_of_type,
)

# pandas and pyarrow are imported inside functions: `vae-anomaly --help` needs neither.
if TYPE_CHECKING:
    import pyarrow as pa


def array_of(column: pa.ChunkedArray, kind: str) -> np.ndarray:
    """Return a column as the array that carries its kind.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
    kind : str
        One of ``rules.KINDS``; a column of text is parsed as that.

    Returns
    -------
    numpy.ndarray, (n,)
        As ``columns.frame_arrays`` makes it.

    Raises
    ------
    ValueError
        A cell can't be converted; ``bad_cells`` tells which.
    """
    column = converted(column, kind)
    if kind == "categorical":
        return _categories(column)
    if kind in DATE_KINDS:
        micros = column.cast("int64")
        return micros.cast("float64", safe=False).to_numpy() / 1e6
    return column.to_numpy()


def _categories(text: pa.ChunkedArray) -> np.ndarray:
    encoded = text.combine_chunks().dictionary_encode()
    levels = [*map(category_text, encoded.dictionary.to_pylist()), ""]
    indices = encoded.indices.fill_null(len(levels) - 1).to_numpy()
    return np.array(levels, dtype=object)[indices]


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text which reads back as the same values, and the same categories; NaN is missing."""
    import pyarrow as pa

    if getattr(column.type, "tz", None):
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))  # offsets can have seconds
    if pa.types.is_floating(column.type):
        values = column.to_numpy()  # not Python's floats: they would give a float32 more digits
    elif re.match(r"duration|extension<pandas|time\d|.*binary", str(column.type)):
        values = column.to_pandas()
    elif kind_of_type(str(column.type)):
        return column.cast("string")
    else:
        values = column.to_pylist()
    texts = [None if value is None or value != value else str(value) for value in values]
    return pa.chunked_array([pa.array(texts, "string")])


def converts(column: pa.ChunkedArray, kind: str, words: bool = True) -> bool:
    """Whether ``converted`` can convert the column."""
    try:
        converted(column, kind, words)
    except ValueError:
        return False
    return True


def bad_cells(column: pa.ChunkedArray, kind: str) -> list[int]:
    """Return where in a column the cells are that can't be converted to a kind but text."""
    if kind_of_type(str(column.type)) != "categorical":
        return np.flatnonzero(_bad_values(column, kind)).tolist()
    encoded = text_of(column).combine_chunks().dictionary_encode()
    is_bad = np.append(_bad_texts(encoded.dictionary, kind), False)
    indices = encoded.indices.fill_null(len(is_bad) - 1).to_numpy()
    return np.flatnonzero(is_bad[indices]).tolist()


def undecodable_cells(column: pa.ChunkedArray) -> list[int]:
    """Return where in a column of text the cells are that are not UTF-8.

    Raises
    ------
    pyarrow.ArrowInvalid
        Text in lists, or the values of a dictionary, are not UTF-8.
    """
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        if str(column.type) not in ("string", "large_string"):
            raise
        return [i for i, cell in enumerate(_bytes_of(column)) if not _is_utf8(cell)]
    return []


def cell_text(column: pa.ChunkedArray, index: int) -> str | None:
    """Return a cell as ``text_of`` does; bytes that are not UTF-8 as in ``surrogateescape``."""
    cell = column.slice(index, 1)
    if str(column.type) in ("string", "large_string"):
        (value,) = _bytes_of(cell)
        return None if value is None else value.decode("utf-8", "surrogateescape")
    return text_of(cell)[0].as_py()


def _bytes_of(text: pa.ChunkedArray) -> list[bytes | None]:
    return text.cast("large_binary").to_pylist()


def _is_utf8(data: bytes | None) -> bool:
    try:
        (data or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _bad_texts(text: pa.StringArray, kind: str) -> np.ndarray:
    """Whether each text is none of a kind, (n,) bool."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(text)
    is_bad = ~_mask(pc.match_substring_regex(text, CELL_TEXT[kind]))
    if kind in DATE_KINDS:
        is_leap_day = _mask(pc.match_substring_regex(text, r"^\d{4}-02-29")) & ~is_bad
        days = text.filter(pa.array(is_leap_day)).to_pylist()
        is_bad[is_leap_day] = [not calendar.isleap(int(day[:4])) for day in days]
        return is_bad
    is_duration = _mask(pc.match_substring_regex(text, f"^({DURATION_TEXT})$"))
    durations = pd.to_timedelta(text.filter(pa.array(is_duration)).to_pandas(), errors="coerce")
    is_bad[is_duration] = durations.isna()
    if kind == "boolean":
        numbers = converted(pa.chunked_array([text.filter(pa.array(~is_bad))]), "numeric")
        is_bad[~is_bad] = ~_are_booleans(numbers.to_numpy())
    return is_bad


def _bad_values(column: pa.ChunkedArray, kind: str) -> np.ndarray:
    """Whether each value of a column that is no text can't be of a kind, (n,) bool."""
    if kind not in DATE_KINDS:
        return ~_are_booleans(converted(column, "numeric").to_numpy())
    # Microseconds since 1970 are 64-bit integers.
    units = {"timestamp[s": 10**6, "timestamp[m": 10**3, "date32": 86400 * 10**6, "date64": 10**3}
    micros = next((n for unit, n in units.items() if str(column.type).startswith(unit)), 1)
    values = column.cast("int32" if str(column.type).startswith("date32") else "int64")
    values = values.cast("int64").fill_null(0).to_numpy()
    most = (2**63 - 1) // micros
    return (values > most) | (values < -most)


def _are_booleans(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) | (values == 0) | (values == 1)


def _mask(flags: pa.BooleanArray) -> np.ndarray:
    return flags.to_numpy(zero_copy_only=False)


def converted(column: pa.ChunkedArray, kind: str, words: bool = True) -> pa.ChunkedArray:
    """Return a column as float64, timestamp[us] or string; ValueError if a value can't be.

    With ``words``, true and false in text are the numbers 1 and 0.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind == "categorical":
        text = text_of(column)
        return pc.if_else(pc.equal(text, ""), None, text)
    if kind_of_type(str(column.type)) == "categorical" or column.type == "null":
        text = text_of(column)
        column = _moments(text) if kind in DATE_KINDS else _numbers(text, words)
    elif pa.types.is_decimal(column.type):
        column = column.cast("string")  # to get the same float64 as from CSV
    elif pa.types.is_duration(column.type):
        column = pa.chunked_array([column.to_pandas().dt.total_seconds()])
    elif pa.types.is_timestamp(column.type):
        # In UTC, without its zone. A cast alone would round towards 1970, unlike text.
        column = column.cast(pa.timestamp(column.type.unit))
        column = pc.floor_temporal(column, unit="microsecond")
    if kind in DATE_KINDS:
        return column.cast("timestamp[us]")
    column = column.cast("float64", safe=False)
    if kind == "boolean" and not _are_booleans(column.to_numpy()).all():
        raise ValueError(f"expected {EXPECTED[kind]}")
    return column


def _present(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text without spaces around it, null where it says that it is missing."""
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(text)
    missing = pc.match_substring_regex(text, f"^({MISSING_TEXT})?$", ignore_case=True)
    return pc.if_else(missing, None, text)


def _moments(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text as timestamps in UTC; fractions of microseconds are cut off."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.replace_substring_regex(_present(text), r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(text, ZONED_TEXT)
    utc = pc.if_else(zoned, text, None).cast(pa.timestamp("us", "UTC"))
    naive = pc.if_else(zoned, None, text).cast("timestamp[us]")
    return pc.coalesce(utc.cast("timestamp[us]"), naive)


def _numbers(text: pa.ChunkedArray, words: bool) -> pa.ChunkedArray:
    """Return text as float64: numbers, perhaps ``words``, and durations as pandas writes them."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    with suppress(pa.ArrowInvalid):  # numbers nearly always, and much faster
        return text.cast("float64")
    with suppress(pa.ArrowInvalid):
        return pc.if_else(pc.equal(text, ""), None, text).cast("float64")
    text = _present(text)
    with suppress(pa.ArrowInvalid):
        return text.cast("float64")
    for word, number in (("(?i)^true$", "1"), ("(?i)^false$", "0")) if words else ():
        text = pc.replace_substring_regex(text, word, number)
    is_duration = pc.match_substring_regex(text, f"^({DURATION_TEXT})$")
    durations = pd.to_timedelta(pc.if_else(is_duration, text, None).to_pandas())
    seconds = pa.chunked_array([durations.dt.total_seconds()])
    return pc.if_else(is_duration, seconds, pc.if_else(is_duration, None, text).cast("float64"))
