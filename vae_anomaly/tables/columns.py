"""DataFrames as named arrays: which kind each column is, and the array that carries it.

============== ============================================================ ==================
kind           which columns                                                array, missing cell
============== ============================================================ ==================
``numeric``    integers, floats, decimals, durations (in seconds)           float64, NaN
``boolean``    bool                                                         float64 0/1, NaN
``datetime``   dates and times: seconds since 1970-01-01 UTC                float64, NaN
``timestamp``  the same, where the caller says so: modelled as numbers      float64, NaN
``categorical`` text, ``category``, and object columns of more than one     object str, ""
               type; each value by its ``rules.category_text``
============== ============================================================ ==================

The kind is that of the dtype (NumPy's, pandas' nullable or pyarrow's); of an object column, that
of its cells. Files give the same arrays (``reader``), by the same rules (``rules``).
"""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables.date_parts import FIRST_SECOND, LAST_SECOND
from vae_anomaly.tables.markers import without_markers
from vae_anomaly.tables.names import differences, listed
from vae_anomaly.tables.rules import DATE_KINDS, EXPECTED, category_text, kind_of_type
from vae_anomaly.tables.schema import ColumnSchema, Schema
from vae_anomaly.tables.tallies import ColumnTally

# pandas is imported inside functions: `vae-anomaly --help` does not need it.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


# Beyond it, not every integer is a float64.
_LARGEST_WHOLE = 2**53


@dataclass(frozen=True)
class BadCell:
    """A cell of a DataFrame that is neither missing nor of its column's kind."""

    row: int  #: from 0
    column: str
    value: object


def frame_arrays(
    frame: pd.DataFrame, schema: Schema, *, bad: list[BadCell] | None = None
) -> dict[str, np.ndarray]:
    """Turn a DataFrame into named arrays, one per column that is modelled.

    Parameters
    ----------
    frame : pandas.DataFrame
        Its columns may come in any order.
    schema : Schema
        As decided in ``fit``; columns that are not modelled may be missing.
    bad : list, or None
        Gets the cells that are neither missing nor of their kind, which are NaN then. None: they
        are an error.

    Returns
    -------
    dict of str to numpy.ndarray, each (n,)
        See the table at the top of this module.

    Raises
    ------
    ValueError
        Columns that are missing, unexpected, or whose cells are not of their kind.
    TypeError
        A column of complex numbers, or one whose cells are containers.
    """
    names = [str(name) for name in frame.columns]
    if found := differences(names, schema.kinds, schema.unmodelled):
        raise ValueError(
            f"Expected the {len(schema.kinds)} columns seen in fit, in any order. "
            + "".join(f"{what.capitalize()}: {text}. " for what, text in found.items())
            + "Rename, add or drop columns to match."
        )
    unique_names(frame)
    arrays = {}
    for name in schema.kinds:
        series = frame.iloc[:, names.index(name)]
        column = schema.columns[name]
        arrays[name], wrong = _series_array(series, name, column, schema.missing)
        rows = np.flatnonzero(wrong)
        if len(rows) and bad is None:
            raise _wrong_cell(name, column, series, int(rows[0]))
        if bad is not None:
            bad.extend(BadCell(int(row), name, series.iloc[row]) for row in rows)
    return arrays


def n_infinite_rows(arrays: Mapping[str, np.ndarray]) -> int:
    """Count the rows of named arrays that have an infinite number in some column."""
    return int(
        np.any([np.isinf(a) for a in arrays.values() if a.dtype != object] or [[False]], 0).sum()
    )


def check_finite(arrays: Mapping[str, np.ndarray], rows: np.ndarray | None = None) -> None:
    """Raise ValueError if named arrays, (n,) each, have an infinite number.

    ``rows`` are the numbers of the rows for the message; None: from 0 on.
    """
    for name, array in arrays.items():
        if array.dtype != object and (infinite := np.isinf(array)).any():
            index = int(np.flatnonzero(infinite)[0])
            raise ValueError(
                f"Column {name!r}: expected finite numbers. Received: infinity in row "
                f"{index if rows is None else rows[index]}. Replace it or mark it as missing."
            )


def arrays_frame(
    arrays: Mapping[str, np.ndarray], kinds: Mapping[str, str], index: Any = None
) -> pd.DataFrame:
    """Turn named arrays back into a DataFrame.

    Parameters
    ----------
    arrays : mapping of column name to array (n,)
        As ``frame_arrays`` makes them.
    kinds : mapping of column name to kind
    index : pandas.Index or None

    Returns
    -------
    pandas.DataFrame
        Datetimes as ``datetime64[us]``, to the microsecond; those out of the years 1 to 9999 as the
        nearest one of them. Missing categories as None.
    """
    import pandas as pd

    frame = pd.DataFrame(dict(arrays), index=index)
    for name, kind in kinds.items():
        if kind in DATE_KINDS:
            seconds = frame[name].clip(FIRST_SECOND, LAST_SECOND)
            micros = (seconds.fillna(0) * 1e6).round().to_numpy(dtype="int64")
            frame[name] = pd.Series(micros.view("datetime64[us]"), frame.index).where(
                seconds.notna()
            )
        elif kind == "categorical":
            frame[name] = frame[name].astype(object).where(frame[name] != "", None)
    return frame


def whole_dtypes(frame: pd.DataFrame) -> dict[str, str]:
    """Return the names of the types of integer columns that float64 holds exactly."""
    import pandas as pd

    return {
        str(name): str(column.dtype)
        for name, column in frame.items()
        if pd.api.types.is_integer_dtype(column.dtype)
        and not isinstance(column.dtype, pd.SparseDtype)
        and abs(column.fillna(0)).max() <= _LARGEST_WHOLE
    }


def unique_names(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns, as text.

    Raises
    ------
    ValueError
        A name is there twice.
    """
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"Expected unique column names. Received: {listed(map(repr, repeated))} more than "
            "once. Rename them."
        )
    return names


def _series_kind(series: pd.Series, name: str) -> str:
    dtype = getattr(series.dtype, "subtype", None) if _is_sparse(series) else series.dtype
    type_name = str(dtype)
    if type_name == "object":
        return _object_kind(series.dropna(), name)
    if type_name.startswith("complex"):
        raise TypeError(f"Column {name!r}: expected real numbers. Received: complex numbers.")
    kind = kind_of_type(type_name)
    if kind is None and hasattr(dtype, "pyarrow_dtype"):
        raise _containers(name)
    return kind or "categorical"  # periods, intervals and whatever else pandas knows


def _is_sparse(series: pd.Series) -> bool:
    return str(series.dtype).startswith("Sparse")


def _object_kind(values: pd.Series, name: str) -> str:
    types = {type(value) for value in values if not _is_empty_text(value)}
    if len(values) and not types:
        return "categorical"  # nothing but empty text
    if any(issubclass(t, (list, dict, set, tuple, np.ndarray)) for t in types):
        raise _containers(name)
    if types and all(issubclass(t, (bool, np.bool_)) for t in types):
        return "boolean"
    if all(issubclass(t, (numbers.Real, decimal.Decimal)) for t in types):
        return "numeric"  # also the column that is all missing
    if all(issubclass(t, (datetime.timedelta, np.timedelta64)) for t in types):
        return "numeric"
    if all(issubclass(t, (datetime.date, np.datetime64)) for t in types):
        return "datetime"
    return "categorical"


def series_tally(
    series: pd.Series, name: str, missing: Iterable[str] = ()
) -> tuple[str, ColumnTally]:
    """Return the kind of a column by its type, or the types of its cells, and what cells show.

    Raises
    ------
    TypeError
        Complex numbers, or containers.
    """
    found, tally = _series_kind(series, name), ColumnTally()
    if found == "categorical":
        tally.add_text(_cells(series), missing)
    elif series.isna().all():
        tally.add_numbers(np.full(len(series), np.nan))
    else:
        tally.add_numbers(_value_array(series, name, found, missing))
    return found, tally


def are_missing(series: pd.Series) -> np.ndarray:
    """Tell which cells are none, NaN or the empty text, (n,) bool."""
    empty = np.asarray(series.isna(), dtype=bool)
    if series.dtype == object or str(series.dtype) in ("str", "string"):
        empty = empty | np.array([_is_empty_text(cell) for cell in series], dtype=bool)
    return empty


def _series_array(
    series: pd.Series, name: str, column: ColumnSchema, missing: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a column as the array of its kind, and where cells are not of the kind."""
    kind, no_bad = column.kind, np.zeros(len(series), dtype=bool)
    if series.dtype == np.float64 and kind == "numeric":
        return without_markers(series.to_numpy(copy=True), missing, dates=False), no_bad
    found = _series_kind(series, name)
    if kind == "categorical":
        return _text_array(series, missing), no_bad
    if series.isna().all():
        return np.full(len(series), np.nan), no_bad
    if found == "categorical":
        return column.read(_cells(series), missing)
    if kind in DATE_KINDS:
        if found == "datetime":
            return _value_array(series, name, found, missing), no_bad
        if found == "numeric" and column.dates is not None:
            return column.read_numbers(_value_array(series, name, found, missing))
        raise _wrong_kind(name, kind, found, series)
    if found not in ("numeric", "boolean"):
        raise _wrong_kind(name, kind, found, series)
    array = _value_array(series, name, found, missing)
    if kind == "boolean":
        bad = ~(np.isnan(array) | (array == 0) | (array == 1))
        return np.where(bad, np.nan, array), bad
    return array, no_bad


def _cells(series: pd.Series) -> pa.Array:
    """Return cells as text; Arrow takes no halves of surrogate pairs."""
    import pandas as pd
    import pyarrow as pa

    missing = np.asarray(pd.isna(series))
    try:
        return pa.array(
            [None if no else str(cell) for no, cell in zip(missing, series, strict=True)], "string"
        )
    except UnicodeEncodeError:
        texts = [str(cell).encode("utf-8", "replace").decode() for cell in series]
        return pa.array(texts, "string", mask=missing)


def _value_array(series: pd.Series, name: str, found: str, missing: Iterable[str]) -> np.ndarray:
    """Return a column of a type of values as float64, NaN where a cell is missing."""
    if found == "datetime":
        return without_markers(_seconds_array(series, name), missing, dates=True)
    array = _number_array(series)
    return array if found == "boolean" else without_markers(array, missing, dates=False)


def _seconds_array(series: pd.Series, name: str) -> np.ndarray:
    import pandas as pd

    try:
        values = pd.to_datetime(series, utc=True).dt.tz_localize(None).astype("datetime64[us]")
    except ValueError as error:
        raise ValueError(f"Column {name!r}: expected dates. Received: {error}.") from error
    micros = values.to_numpy().astype("int64").astype(np.float64)
    return np.where(values.isna(), np.nan, micros / 1e6)


def _number_array(series: pd.Series) -> np.ndarray:
    import pandas as pd

    is_duration = str(series.dtype).startswith(("timedelta", "duration"))
    if is_duration or pd.api.types.infer_dtype(series) == "timedelta":
        series = pd.Series(pd.to_timedelta(series.astype(object))).dt.total_seconds()
    elif getattr(series.dtype, "na_value", None) is pd.NA and series.dtype.kind in "iuf":
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    elif series.dtype == object or pd.api.types.is_extension_array_dtype(series.dtype):
        series = series.astype(object)
        series = series.where(series.notna() & (series != ""), np.nan)
    try:
        return series.to_numpy().astype(np.float64)
    except OverflowError:  # integers of Python beyond all float64, which are infinite as text too
        return np.array([float(str(cell)) for cell in series])


def _text_array(series: pd.Series, none: Iterable[str]) -> np.ndarray:
    import pandas as pd

    # A float32 object would have the digits of a float64, other ones than in a file.
    is_float = pd.api.types.is_float_dtype(series.dtype)
    cells = series.to_numpy() if is_float else series.astype(object)
    missing = np.asarray(pd.isna(cells))
    none = set(none)
    return np.array(
        [
            "" if gone or (none and str(value) in none) else category_text(value)
            for gone, value in zip(missing, cells, strict=True)
        ],
        dtype=object,
    )


def _is_empty_text(value: object) -> bool:
    return isinstance(value, str) and not value


def _wrong_cell(name: str, column: ColumnSchema, series: pd.Series, row: int) -> ValueError:
    form = f" like {column.format_text}" if column.format_text else ""
    return ValueError(
        f"Column {name!r}, row {row}: expected {EXPECTED[column.kind]}{form}. Received: "
        f"{series.iloc[row]!r}. Correct the cell, or leave it empty if it is missing."
    )


def _containers(name: str) -> TypeError:
    return TypeError(
        f"Column {name!r}: expected numbers, booleans, dates or text in each cell. "
        "Received: containers (lists, dicts, ...). Unpack or drop the column."
    )


def _wrong_kind(name: str, kind: str, found: str, series: pd.Series) -> ValueError:
    example = series.dropna().iloc[0]
    return ValueError(
        f"Column {name!r}: expected {kind} values, as in fit. Received: {found} values "
        f"({series.dtype}), for example {example!r}. Convert the column."
    )
