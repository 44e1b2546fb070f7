"""What the columns of a table are, decided once; and tables as named arrays.

Kinds of column, and the array that carries each:

============== ============================================================ ==================
kind           which columns                                                array, missing cell
============== ============================================================ ==================
``numeric``    integers, floats, decimals, durations (in seconds)           float64, NaN
``boolean``    bool                                                         float64 0/1, NaN
``datetime``   dates and times: seconds since 1970-01-01 UTC                float64, NaN
``categorical``text, ``category`` (whatever its categories are), and object str, ""
               columns of more than one type; each value by its text
============== ============================================================ ==================

The kind is that of the dtype, be it NumPy's, pandas' nullable or pyarrow's; of an object column,
that of its cells. What else may be in a table:

- Missing cells are None, NaN, pd.NA, NaT and the empty string. A column that is all missing has
  the kind of its dtype (of dtype object: numeric), and fits any kind where fit saw another.
- True and 1, False and 0 stand for each other, where fit saw booleans and where it saw numbers.
  Apart from that a column of another kind is refused: other numbers, dates or text as booleans,
  numbers as dates, dates or text as numbers. But anything can be a category, and the text of a
  file is read as what fit saw.
- Integers become float64: beyond 2^53 they lose their last digits.
- An infinity is a number: fit refuses it, scoring takes it for the farthest value there is.
- Dates and times without a zone are UTC; those with one are converted to it.
- Levels that no cell of a ``category`` has are not modelled; one that a single cell has is. A value
  that fit did not see counts as "any other".
- Columns may come in any order. A missing, unexpected or repeated name, complex numbers and
  containers are errors that name the column. Names are compared as text.

A category is its ``category_text``, the same from a DataFrame, from the CSV file that ``to_csv``
writes of it, and from Parquet. Parquet makes three exceptions: it gives all decimals of a column
the same number of digits, does not keep durations in columns of dtype object or ``category``, and
does not tell a float32 ``category`` from a float32 column, which has fewer digits.
"""

import datetime
import difflib
import functools
import numbers
import re

import numpy as np

KINDS = ("numeric", "boolean", "datetime", "categorical")

# Columns that may be in a table and are not modelled; "dropped" ones are not written back either.
UNMODELLED_KINDS = ("id", "dropped")

_WHOLE_NUMBER = re.compile(r"(?:-(?=0\.))?(-?[0-9]+)\.0")
_TIME = re.compile(
    r"([0-9]{4,}-[0-9]{2}-[0-9]{2}|-?[0-9]+ days)"
    r"[ T](\+?[0-9]{2}:[0-9]{2})(:[0-9]{2})?(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?"
)


def frame_kinds(frame, overrides=None):
    """Decide the kind of each column of a DataFrame.

    Parameters
    ----------
    frame : pandas.DataFrame
    overrides : mapping of column name to kind, or None
        Kinds that the caller knows better. "id" and "dropped" columns are not modelled, and
        need not be there.

    Returns
    -------
    dict of str to str
        Column name to kind, in the frame's order, of the columns to model.

    Raises
    ------
    ValueError
        Duplicate column names; an override for a column that is not there, or of no known kind.
    TypeError
        A column of complex numbers, or one whose cells are containers.

    Examples
    --------
    >>> import pandas as pd
    >>> frame_kinds(pd.DataFrame({"age": [1.5, 2.0], "city": ["a", None]}))
    {'age': 'numeric', 'city': 'categorical'}
    """
    names = [str(name) for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"Expected unique column names. Received: {repeated} more than once. Rename them."
        )
    overrides = {str(name): kind for name, kind in (overrides or {}).items()}
    for name, kind in overrides.items():
        if kind not in KINDS + UNMODELLED_KINDS:
            raise ValueError(
                f"Column {name!r}: expected a kind among {KINDS + UNMODELLED_KINDS}. "
                f"Received: {kind!r}."
            )
        if kind in KINDS and name not in names:
            raise ValueError(
                f"Expected a column of the table. Received: {name!r}{_nearest(name, names)}"
            )
    modelled = {
        name: overrides.get(name) or _series_kind(frame.iloc[:, index], name)
        for index, name in enumerate(names)
        if overrides.get(name) not in UNMODELLED_KINDS
    }
    if not modelled:
        raise ValueError(f"Expected at least one column to model. Received: {names}.")
    return modelled


def frame_arrays(frame, kinds, ignored=()):
    """Turn a DataFrame into named arrays, one per column of ``kinds``.

    Parameters
    ----------
    frame : pandas.DataFrame
        Its columns may come in any order.
    kinds : mapping of column name to kind
        As decided in ``fit``.
    ignored : collection of str
        Columns that may be there too.

    Returns
    -------
    dict of str to numpy.ndarray, each (n,)
        See the table at the top of this module.

    Raises
    ------
    ValueError
        Columns that are missing, unexpected, or whose cells are not of their kind.
    """
    names = [str(name) for name in frame.columns]
    missing = [name for name in kinds if name not in names]
    unexpected = [name for name in names if name not in kinds and name not in ignored]
    if missing or unexpected:
        raise ValueError(
            f"Expected the {len(kinds)} columns seen in fit, in any order. "
            + (f"Missing: {_listed(missing, names)}. " if missing else "")
            + (f"Unexpected: {_listed(unexpected, ())}. " if unexpected else "")
            + "Rename, add or drop columns to match."
        )
    if len(set(names)) != len(names):
        frame_kinds(frame)  # names the repeated columns
    return {
        name: _series_array(frame.iloc[:, names.index(name)], name, kind)
        for name, kind in kinds.items()
    }


def category_text(value):
    """Return the text by which a cell is a category.

    It is ``str(value)``, but one text for what files spell in several ways:

    - a whole number is without its ``.0``, which pandas adds where another row's cell is missing;
    - booleans are ``True`` and ``False``, however they are capitalised;
    - times are ``2020-01-31 10:00:00.5`` and durations ``9 days 10:00:00.5``: in UTC, without zeros
      at the end of the fraction, and without a time of day that is midnight. pandas and Parquet
      give all cells of a column as many digits as one of them needs.

    It depends on nothing but the cell, and text is treated like the value it may stand for, since
    a CSV file does not tell them apart.

    Parameters
    ----------
    value : object
        Not missing.

    Returns
    -------
    str

    Examples
    --------
    >>> import datetime
    >>> category_text(3.0), category_text("3.0"), category_text("3.10")
    ('3', '3', '3.10')
    >>> category_text(datetime.datetime(2020, 1, 31)), category_text("2020-01-31 02:00:00+02:00")
    ('2020-01-31', '2020-01-31')
    """
    return _spelling(str(value))


def n_infinite_rows(arrays):
    """Count the rows of named arrays that have an infinite number in some column."""
    return int(
        np.any([np.isinf(a) for a in arrays.values() if a.dtype != object] or [[False]], 0).sum()
    )


def arrays_frame(arrays, kinds, index=None):
    """Turn named arrays back into a DataFrame; datetimes become ``datetime64`` again."""
    import pandas as pd

    frame = pd.DataFrame(arrays, index=index)
    for name, kind in kinds.items():
        if kind == "datetime":
            seconds = frame[name].clip(-6.2e10, 2.5e11)  # the years that have four digits
            micros = (seconds.fillna(0) * 1e6).round().to_numpy(dtype="int64")
            frame[name] = pd.Series(micros.view("datetime64[us]"), frame.index).where(
                seconds.notna()
            )
        elif kind == "categorical":
            frame[name] = frame[name].astype(object).where(frame[name] != "", None)
    return frame


def _series_kind(series, name):
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "categorical"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_datetime64_any_dtype(dtype) or _arrow_type(dtype) in ("date", "timestamp"):
        return "datetime"
    if pd.api.types.is_complex_dtype(dtype):
        raise TypeError(f"Column {name!r}: expected real numbers. Received: complex numbers.")
    if pd.api.types.is_numeric_dtype(dtype) or _is_duration(dtype):
        return "numeric"
    if pd.api.types.is_object_dtype(dtype):
        return _object_kind(series.dropna(), name)
    return "categorical"


def _object_kind(values, name):
    import datetime
    import decimal

    types = {type(value) for value in values if not _is_empty_text(value)}
    if len(values) and not types:
        return "categorical"  # nothing but empty text
    if any(issubclass(t, (list, dict, set, tuple, np.ndarray)) for t in types):
        raise TypeError(
            f"Column {name!r}: expected numbers, booleans, dates or text in each cell. "
            "Received: containers (lists, dicts, ...). Unpack or drop the column."
        )
    if types and all(issubclass(t, (bool, np.bool_)) for t in types):
        return "boolean"
    if all(issubclass(t, (numbers.Real, decimal.Decimal)) for t in types):
        return "numeric"  # also the column that is all missing
    if all(issubclass(t, (datetime.timedelta, np.timedelta64)) for t in types):
        return "numeric"
    if all(issubclass(t, (datetime.date, np.datetime64)) for t in types):
        return "datetime"
    return "categorical"


def _series_array(series, name, kind):
    import pandas as pd

    if kind == "categorical":
        return _text_array(series)
    if series.dtype == np.float64 and kind == "numeric":
        return series.to_numpy(copy=True)
    found = _series_kind(series, name)
    if pd.api.types.is_string_dtype(series.dtype):
        cells = [None if _is_empty_text(value) else value for value in series]
        series = pd.Series(cells, dtype=object)
    if series.isna().all():
        return np.full(len(series), np.nan)
    if kind == "datetime":
        if found != "datetime":
            raise _wrong_kind(name, kind, found, series)
        try:
            values = pd.to_datetime(series, utc=True).dt.tz_localize(None).astype("datetime64[us]")
        except ValueError as error:
            raise ValueError(f"Column {name!r}: expected dates. Received: {error}.") from error
        micros = values.to_numpy().astype("int64").astype(np.float64)
        return np.where(values.isna(), np.nan, micros / 1e6)
    if found not in ("numeric", "boolean"):
        raise _wrong_kind(name, kind, found, series)
    if _is_duration(series.dtype) or pd.api.types.infer_dtype(series) == "timedelta":
        series = pd.Series(pd.to_timedelta(series.astype(object))).dt.total_seconds()
    elif series.dtype == object or pd.api.types.is_extension_array_dtype(series.dtype):
        series = series.astype(object).where(series.notna(), np.nan)
    array = series.to_numpy().astype(np.float64)
    if kind == "boolean" and not np.isin(array[~np.isnan(array)], (0.0, 1.0)).all():
        raise _wrong_kind(name, kind, found, series[~np.isin(array, (0.0, 1.0))])
    return array


def _text_array(series):
    import pandas as pd

    # A float32 object would have the digits of a float64, other ones than in a file.
    is_float = pd.api.types.is_float_dtype(series.dtype)
    cells = series.to_numpy() if is_float else series.astype(object)
    missing = np.asarray(pd.isna(cells))
    return np.array(
        ["" if gone else category_text(value) for gone, value in zip(missing, cells, strict=True)],
        dtype=object,
    )


@functools.lru_cache(maxsize=2**12)  # categories repeat
def _spelling(text):
    # NumPy drops NULs at the end, and TensorFlow refuses halves of surrogate pairs.
    text = text.rstrip("\0")
    if text.lower() in ("true", "false"):
        return text.capitalize()
    if whole := _WHOLE_NUMBER.fullmatch(text):
        return whole[1]
    if time := _TIME.fullmatch(text):
        return _time_spelling(text, *time.groups(""))
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _time_spelling(text, day, minutes, seconds, fraction, zone):
    clock = minutes + (seconds or ":00")
    if zone:
        try:
            local = datetime.datetime.fromisoformat(f"{day} {clock}{zone.replace('Z', '+00:00')}")
            utc = local.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        except (ValueError, OverflowError):
            return text
        day, clock = str(utc).split(" ")
    clock += fraction.rstrip("0").rstrip(".")
    return day if clock.lstrip("+") == "00:00:00" else f"{day} {clock}"


def _is_empty_text(value):
    return isinstance(value, str) and not value


def _wrong_kind(name, kind, found, series):
    example = series.dropna().iloc[0]
    return ValueError(
        f"Column {name!r}: expected {kind} values, as in fit. Received: {found} values "
        f"({series.dtype}), for example {example!r}. Convert the column."
    )


def _is_duration(dtype):
    import pandas as pd

    return pd.api.types.is_timedelta64_dtype(dtype) or _arrow_type(dtype) == "duration"


def _arrow_type(dtype):
    """Name the type of a pyarrow-backed dtype: "date", "timestamp", ...; "" for others."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    return str(arrow).split("[")[0].rstrip("0123456789") if arrow is not None else ""


def _listed(names, candidates):
    return ", ".join(repr(name) + _nearest(name, candidates) for name in names)


def _nearest(name, candidates):
    close = difflib.get_close_matches(name, candidates, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
