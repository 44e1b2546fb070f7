"""Columns of Arrow tables as the arrays that a model takes, and as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.tables.markers import without_markers
from vae_anomaly.tables.rules import DATE_KINDS, category_text, kind_of_type
from vae_anomaly.tables.schema import ColumnSchema
from vae_anomaly.tables.tallies import ColumnTally

# pandas and pyarrow are imported inside functions: `vae-anomaly --help` needs neither.
if TYPE_CHECKING:
    import pyarrow as pa


def array_of(
    column: pa.ChunkedArray, schema: ColumnSchema, missing: Iterable[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return a column as the array that carries its kind.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Text is parsed by the schema.
    schema : ColumnSchema
        Of a kind that is modelled.
    missing : iterable of str
        Markers of missing cells besides the usual ones.

    Returns
    -------
    values : numpy.ndarray, (n,)
        As ``columns.frame_arrays`` makes it; NaN where a cell is bad.
    bad : numpy.ndarray, (n,), bool
        Where a cell is neither missing nor of the kind.
    """
    import pyarrow as pa

    no_bad = np.zeros(len(column), dtype=bool)
    if schema.kind == "categorical":
        return _categories(text_of(column), missing), no_bad
    if _is_text(column) or column.type == "null":
        return schema.read(text_of(column).combine_chunks(), missing)
    if schema.kind in DATE_KINDS and not pa.types.is_temporal(column.type):
        return schema.read_numbers(_numbers(column, missing))
    if schema.kind in DATE_KINDS:
        return _moments(column, missing)
    values = _numbers(column, missing)
    if schema.kind == "boolean":
        bad = ~(np.isnan(values) | (values == 0) | (values == 1))
        return np.where(bad, np.nan, values), bad
    return values, no_bad


def add_cells(tally: ColumnTally, column: pa.ChunkedArray, missing: Iterable[str] = ()) -> None:
    """Count what the cells of a column show; ``missing`` as of ``array_of``."""
    import pyarrow as pa

    if _is_text(column):
        tally.add_text(text_of(column).combine_chunks(), missing)
    elif pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        if not _is_moment(column):
            tally.add_numbers(np.full(len(column), np.nan))
            return
        seconds, bad = _moments(column, missing)
        tally.add_numbers(seconds[~bad])
        if bad.any():
            tally.add_bad(int(bad.sum()), cell_text(column, int(bad.argmax())) or "")
    else:
        tally.add_numbers(_numbers(column, missing))


def are_empty(column: pa.ChunkedArray) -> np.ndarray:
    """Tell which cells are none, NaN or the empty text, (n,) bool."""
    import pyarrow.compute as pc

    empty = pc.is_null(column, nan_is_null=True)
    if str(column.type) in ("string", "large_string"):
        empty = pc.or_(empty, pc.fill_null(pc.equal(column, ""), True))
    return empty.to_numpy()


def _is_text(column: pa.ChunkedArray) -> bool:
    return kind_of_type(str(column.type)) == "categorical"


def _is_moment(column: pa.ChunkedArray) -> bool:
    return kind_of_type(str(column.type)) == "datetime"


def _categories(text: pa.ChunkedArray, missing: Iterable[str]) -> np.ndarray:
    none = set(missing)
    encoded = text.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    levels = [*("" if text in none else category_text(text) for text in texts), ""]
    indices = encoded.indices.fill_null(len(levels) - 1).to_numpy()
    return np.array(levels, dtype=object)[indices]


def _numbers(column: pa.ChunkedArray, missing: Iterable[str]) -> np.ndarray:
    """Return a column of a type of numbers, booleans or durations as float64; seconds of these."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        return column.cast("float64").to_numpy()
    if pa.types.is_duration(column.type):
        return column.to_pandas().dt.total_seconds().to_numpy()
    if pa.types.is_decimal(column.type):
        column = column.cast("string")  # to get the same float64 as from CSV
    return without_markers(column.cast("float64", safe=False).to_numpy(), missing, dates=False)


def _moments(column: pa.ChunkedArray, missing: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return dates or moments as seconds since 1970-01-01 UTC, and where one is too far."""
    import pyarrow as pa

    bad = _are_too_far(column)
    if bad.any():
        column = column.take(pa.array(np.arange(len(bad)), mask=bad))
    return without_markers(_seconds(column), missing, dates=True), bad


def _seconds(column: pa.ChunkedArray) -> np.ndarray:
    """Return dates or moments as seconds since 1970-01-01 UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type):
        # In UTC, without its zone. A cast alone would round towards 1970, unlike text.
        column = column.cast(pa.timestamp(column.type.unit))
        column = pc.floor_temporal(column, unit="microsecond")
    micros = column.cast("timestamp[us]").cast("int64")
    return micros.cast("float64", safe=False).to_numpy() / 1e6


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text which reads back as the same values, and the same categories; NaN is missing."""
    import pyarrow as pa

    if getattr(column.type, "tz", None):
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))  # offsets can have seconds
    if pa.types.is_floating(column.type):
        values = column.to_numpy()  # not Python's floats: they would give a float32 more digits
    elif re.match(r"duration|extension<pandas|time\d|.*binary", str(column.type)):
        values = column.to_pandas()
    elif kind_of_type(str(column.type)) and not str(column.type).startswith("extension"):
        return column.cast("string")
    else:
        values = column.to_pylist()
    texts = [None if value is None or value != value else str(value) for value in values]
    return pa.chunked_array([pa.array(texts, "string")])


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


def _are_too_far(column: pa.ChunkedArray) -> np.ndarray:
    """Whether each moment is more than 64-bit integers of microseconds hold, (n,) bool."""
    units = {"timestamp[s": 10**6, "timestamp[m": 10**3, "date32": 86400 * 10**6, "date64": 10**3}
    micros = next((n for unit, n in units.items() if str(column.type).startswith(unit)), 1)
    values = column.cast("int32" if str(column.type).startswith("date32") else "int64")
    values = values.cast("int64").fill_null(0).to_numpy()
    most = (2**63 - 1) // micros
    return (values > most) | (values < -most)
