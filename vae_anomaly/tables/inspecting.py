"""Decides on a table that is a file or a DataFrame: tallies all cells, then asks ``inspection``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.tables.arrow_cells import tally_of
from vae_anomaly.tables.columns import series_tally, unique_names
from vae_anomaly.tables.dates import DateFormat
from vae_anomaly.tables.files import table_error
from vae_anomaly.tables.frames import in_pandas
from vae_anomaly.tables.inspection import decide
from vae_anomaly.tables.names import with_nearest
from vae_anomaly.tables.pieces import BadRow
from vae_anomaly.tables.reader import TableReader, check_columns
from vae_anomaly.tables.rules import DATE_KINDS, KINDS, UNMODELLED_KINDS, kind_of_type
from vae_anomaly.tables.schema import Note, Schema
from vae_anomaly.tables.tallies import ColumnTally

if TYPE_CHECKING:
    import pandas as pd
    from narwhals.typing import IntoDataFrame

_ISO = DateFormat("%Y-%m-%d")


def file_schema(
    path: str | Path,
    *,
    kinds: Mapping[str, str] | None = None,
    date_formats: Mapping[str, DateFormat] | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = (),
    **options: Any,
) -> Schema:
    """Decide what the columns of a whole file are.

    Parameters
    ----------
    path : path
    kinds, date_formats, decimal, missing
        As of ``inspection.decide``.
    **options
        Of ``TableReader``.

    Returns
    -------
    Schema

    Raises
    ------
    TableError
        The file can't be read, or a column that is not said to be an id has a type without a kind.
    ValueError
        ``kinds`` has an unknown column or kind.
    """
    kinds = dict(kinds or {})
    dates = dict(date_formats or {})
    with TableReader(path, **options) as reader:
        check_kinds(kinds, reader.names)
        check_columns(path, reader.names, {**kinds, **dates}, ignore=reader.names)
        tallies = {name: ColumnTally() for name in reader.names}
        for name in reader.names:
            type_name = str(reader.schema.field(name).type)
            found = kind_of_type(type_name)
            if found is None and kinds.get(name) not in UNMODELLED_KINDS:
                where, expected = f"{path}, column {name!r}", f"one of {', '.join(KINDS)}"
                raise table_error(where, expected, type_name, "convert it or choose a kind")
            _add_type_kind(name, found, type_name, kinds, dates)
        n_bad, first_bad = 0, None
        counted = [name for name in reader.names if kinds.get(name) not in UNMODELLED_KINDS]
        for chunk in reader.chunks(Schema({}), keep_bad=True):
            n_bad += len(chunk.bad)  # the rows themselves may be gigabytes
            first_bad = first_bad or next(iter(chunk.bad), None)
            for name in counted:
                tallies[name].merge(tally_of(chunk.raw[name], missing))
        schema = decide(
            tallies,
            kinds=kinds,
            date_formats=dates,
            decimal=decimal,
            dialect=reader.dialect,
            units=reader.units,
            missing=missing,
        )
        return replace(schema, notes=(*_notes_of_rows(n_bad, first_bad), *schema.notes))


def _notes_of_rows(n_bad: int, first: BadRow | None) -> list[Note]:
    if first is None:
        return []
    told = f"rows that cannot be read, left out: {n_bad}; line {first.line}: {first.reason}"
    return [Note("bad_rows", None, told)]


def frame_schema(
    frame: pd.DataFrame,
    *,
    kinds: Mapping[Any, str] | None = None,
    missing: Sequence[str] = (),
) -> Schema:
    """Decide what the columns of a DataFrame are; see ``file_schema``.

    Raises
    ------
    ValueError
        Column names that are there twice; ``kinds`` has an unknown column or kind.
    TypeError
        A column of complex numbers, or one whose cells are containers.

    Examples
    --------
    >>> import pandas as pd
    >>> frame_schema(pd.DataFrame({"age": [1.5, 2.0], "city": ["a", None]})).kinds
    {'age': 'numeric', 'city': 'categorical'}
    """
    names = unique_names(frame)
    kinds = {str(name): kind for name, kind in (kinds or {}).items()}
    dates: dict[str, DateFormat] = {}
    check_kinds(kinds, names)
    tallies = {}
    for index, name in enumerate(names):
        tallies[name] = ColumnTally()
        if kinds.get(name) not in UNMODELLED_KINDS:
            series = frame.iloc[:, index]
            found, tallies[name] = series_tally(series, name, missing)
            if found == "categorical" and series.dtype != object and series.isna().all():
                kinds.setdefault(name, found)  # no cell tells, but the type does
            _add_type_kind(name, found, str(series.dtype), kinds, dates)
    return decide(tallies, kinds=kinds, date_formats=dates, missing=missing)


def inspect(X: IntoDataFrame | str | Path, *, kinds: Mapping[Any, str] | None = None) -> Schema:
    """Tell what ``fit`` would take a table for, without training.

    Parameters
    ----------
    X : DataFrame of pandas or another library, or path of a CSV, TSV or Parquet file
    kinds : mapping of column name to kind, or None
        Kinds that are known; see ``VAEDetector``.

    Returns
    -------
    Schema
        Kind, format, examples, distinct values and missing share of each column, and ``notes`` on
        what is probably a mistake. Its ``to_json`` can be edited, and given to
        ``VAEDetector(schema=...)``.

    Raises
    ------
    ValueError
        The file is no table; ``kinds`` has an unknown column or kind.
    TypeError
        A column of complex numbers, or one whose cells are containers.

    Examples
    --------
    >>> import pandas as pd
    >>> import vae_anomaly
    >>> frame = pd.DataFrame({"price": ["1.250,50 €", "7,25 €"], "zip": ["02139", "01002"]})
    >>> schema = vae_anomaly.inspect(frame)
    >>> schema.kinds
    {'price': 'numeric', 'zip': 'categorical'}
    >>> schema.columns["price"].format_text
    '1.234,5 €'
    """
    if isinstance(X, (str, Path)):
        return file_schema(X, kinds={str(name): kind for name, kind in (kinds or {}).items()})
    return frame_schema(in_pandas(X), kinds=kinds)


def check_kinds(kinds: Mapping[str, str], names: Sequence[str]) -> None:
    """Check that columns are there and kinds are known.

    Raises
    ------
    ValueError
        They are not.
    """
    for name, kind in kinds.items():
        if kind not in KINDS + UNMODELLED_KINDS:
            raise ValueError(
                f"Column {name!r}: expected a kind among {KINDS + UNMODELLED_KINDS}. "
                f"Received: {kind!r}."
            )
        if kind in KINDS and name not in names:
            raise ValueError(
                f"Expected a column of the table. Received: {with_nearest(name, names)}."
            )


def _add_type_kind(
    name: str,
    found: str | None,
    type_name: str,
    kinds: dict[str, str],
    dates: dict[str, DateFormat],
) -> None:
    """Add what the type of a column says: only text and numbers are looked at cell by cell."""
    if kinds.get(name, "datetime") in DATE_KINDS and found == "datetime":
        dates.setdefault(name, _ISO)
    elif name not in kinds and name not in dates:
        is_fixed = type_name.startswith(("category", "dictionary", "duration", "timedelta"))
        if found == "boolean" or (found is not None and is_fixed):
            kinds[name] = found
