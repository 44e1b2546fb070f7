"""Decides on a table of files or DataFrames: tallies all cells, then asks ``inspection``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vae_anomaly.tables.arrow_cells import add_cells, are_empty
from vae_anomaly.tables.columns import are_missing, series_tally, unique_names
from vae_anomaly.tables.dates import DateFormat
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import table_error
from vae_anomaly.tables.frames import in_pandas, is_frame
from vae_anomaly.tables.inspection import decide
from vae_anomaly.tables.names import with_nearest
from vae_anomaly.tables.pieces import BadRow
from vae_anomaly.tables.reader import TableReader, check_columns
from vae_anomaly.tables.rules import DATE_KINDS, KINDS, UNMODELLED_KINDS, kind_of_type
from vae_anomaly.tables.schema import ColumnSchema, Note, Schema
from vae_anomaly.tables.tallies import ColumnTally

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from narwhals.typing import IntoDataFrame

_ISO = DateFormat("%Y-%m-%d")
_MANY_EMPTY = 0.01  # share of rows without any value that is worth a note


class Inspection:
    """What all cells of a table show, whose rows come in parts: files, chunks, DataFrames.

    Parameters
    ----------
    kinds, date_formats, decimal, missing
        As of ``inspection.decide``.

    Attributes
    ----------
    n_rows : int
        How many rows were looked at, those that cannot be read too.
    """

    def __init__(
        self,
        *,
        kinds: Mapping[Any, str] | None = None,
        date_formats: Mapping[str, DateFormat] | None = None,
        decimal: str | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self.n_rows = 0
        self._kinds = {str(name): kind for name, kind in (kinds or {}).items()}
        self._dates = dict(date_formats or {})
        self._decimal, self._missing = decimal, missing
        self._types: dict[str, list[_Type]] = {}
        self._tallies: dict[str, ColumnTally] = {}
        self._moments: dict[str, ColumnTally] = {}  # of parts whose type is one of dates
        self._n_bad, self._first_bad = 0, ""
        self._n_empty = 0  # rows

    def add_columns(self, where: object, names: Sequence[str]) -> None:
        """Check the columns of a part: those of the first one, in any order.

        Raises
        ------
        ValueError
            Columns are missing, unexpected, or unknown to the caller's kinds.
        """
        if not self._tallies:
            check_kinds(self._kinds, names)
            self._tallies = {name: ColumnTally() for name in names}
            self._moments = {name: ColumnTally() for name in names}
            self._types = {name: [] for name in names}
        check_columns(where, names, list(self._tallies))

    def add_table(self, where: object, names: Sequence[str], schema: pa.Schema) -> None:
        """Check the columns of a file, and note their types.

        Raises
        ------
        ValueError
            As ``add_columns``; a column that is not said to be an id has a type without a kind.
        """
        self.add_types(where, {name: str(schema.field(name).type) for name in names})

    def add_types(self, where: object, types: Mapping[str, str]) -> None:
        """As ``add_table``, given the columns and Arrow's names of their types."""
        names = list(types)
        self.add_columns(where, names)
        check_columns(where, names, {**self._kinds, **self._dates}, ignore=names)
        for name, type_name in types.items():
            found = kind_of_type(type_name)
            if found is None and self.is_counted(name):
                place, expected = f"{where}, column {name!r}", f"one of {', '.join(KINDS)}"
                raise table_error(place, expected, type_name, "convert it or choose a kind")
            self._types[name].append(_Type(found, type_name))

    def add_rows(self, where: object, rows: pa.Table, bad: Sequence[BadRow] = ()) -> None:
        """Look at all cells of rows, and count bad ones, which may be gigabytes."""
        self.n_rows += rows.num_rows + len(bad)
        self._n_bad += len(bad)
        if bad and not self._first_bad:
            self._first_bad = f"line {bad[0].line}: {bad[0].reason}"
        counted = list(filter(self.is_counted, self._tallies))
        self._n_empty += _n_empty(map(are_empty, map(rows.column, counted)))
        for name in counted:
            is_moment = kind_of_type(str(rows[name].type)) == "datetime"
            tally = self._moments[name] if is_moment else self._tallies[name]
            add_cells(tally, rows[name], self._missing)

    def add_frame(self, where: object, frame: pd.DataFrame) -> None:
        """Look at all cells of a DataFrame.

        Raises
        ------
        ValueError
            As ``add_columns``; a name is there twice.
        TypeError
            A column of complex numbers, or one whose cells are containers.
        """
        names = unique_names(frame)
        self.add_columns(where, names)
        self.n_rows += len(frame)
        for index, name in enumerate(names):
            if self.is_counted(name):
                series = frame.iloc[:, index]
                found, tally = series_tally(series, name, self._missing)
                (self._moments if found == "datetime" else self._tallies)[name].merge(tally)
                is_empty = series.dtype != object and bool(series.isna().all())
                self._types[name].append(_Type(found, str(series.dtype), is_empty))
        counted = [index for index, name in enumerate(names) if self.is_counted(name)]
        self._n_empty += _n_empty(are_missing(frame.iloc[:, index]) for index in counted)

    def merge(self, other: Inspection) -> None:
        """Count what another inspection, of rows that come after, has counted.

        Nothing but examples depends on which rows were together.

        Raises
        ------
        ValueError
            As ``add_columns``.
        """
        self.add_columns("the other rows", list(other._tallies))
        self.n_rows += other.n_rows
        self._n_bad += other._n_bad
        self._n_empty += other._n_empty
        self._first_bad = self._first_bad or other._first_bad
        for name in self._tallies:
            self._tallies[name].merge(other._tallies[name])
            self._moments[name].merge(other._moments[name])
            known = self._types[name]
            known += [found for found in other._types[name] if found not in known]

    def decide(self, dialect: Dialect | None = None, units: Sequence[str] = ()) -> Schema:
        """Decide what the columns are, of the dialect and the units of the first file.

        Raises
        ------
        ValueError
            Cells of a column are dates by their type in one part, and in no known format in
            another.
        """
        kinds, dates = dict(self._kinds), dict(self._dates)
        for name, types in self._types.items():
            _add_type_kind(name, types, kinds, dates)
        partly = [
            name
            for name, tally in self._moments.items()
            if tally.n_cells and self._tallies[name].n_cells and kinds.get(name) in DATE_KINDS
        ]
        for name, tally in self._moments.items():
            if tally.n_cells and name not in partly:
                self._tallies[name].merge(tally)
        schema = decide(
            self._tallies,
            kinds=kinds,
            date_formats=dates,
            decimal=self._decimal,
            dialect=dialect,
            units=units,
            missing=self._missing,
        )
        for name in partly:  # the format is that of the others; counts are of all
            schema.columns[name] = self._with_moments(schema.columns[name], name)
        return replace(schema, notes=(*self._row_notes(), *schema.notes))

    def _row_notes(self) -> list[Note]:
        notes = []
        if self._n_bad:
            told = f"rows that cannot be read, left out: {self._n_bad}; {self._first_bad}"
            notes.append(Note("bad_rows", None, told))
        if len(self._tallies) > 1 and self._n_empty >= max(2, _MANY_EMPTY * self.n_rows):
            told = (
                f"rows without any value: {self._n_empty} of {self.n_rows}; they count as normal "
            )
            notes.append(Note("empty_rows", None, f"{told}rows in thresholds; remove them"))
        return notes

    def _with_moments(self, column: ColumnSchema, name: str) -> ColumnSchema:
        """Return a column of dates that was decided on by some of its parts, counted in all."""
        moments, others = self._moments[name], self._tallies[name]
        n_missing = column.missing_share * others.n_cells + moments.n_missing
        return replace(
            column,
            n_distinct=column.n_distinct + moments.distinct.estimate(),
            missing_share=n_missing / (others.n_cells + moments.n_cells),
        )

    def is_counted(self, name: str) -> bool:
        """Whether the cells of a column are looked at: not if its kind is not modelled."""
        return self._kinds.get(name) not in UNMODELLED_KINDS


def _n_empty(columns: Iterable[np.ndarray]) -> int:
    """Return how many rows are empty in all columns; most often, the first of these tell."""
    empty: np.ndarray | None = None
    for column in columns:
        empty = column if empty is None else empty & column
        if not empty.any():
            return 0
    return 0 if empty is None else int(empty.sum())


class _Type(NamedTuple):
    """The type of a column, in one part of a table."""

    kind: str | None
    name: str
    is_empty: bool = False  #: no cell of a DataFrame's column tells, but the type does


def file_schema(
    path: str | Path,
    *,
    kinds: Mapping[Any, str] | None = None,
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
    inspection = Inspection(
        kinds=kinds, date_formats=date_formats, decimal=decimal, missing=missing
    )
    with TableReader(path, **options) as reader:
        inspection.add_table(path, reader.names, reader.schema)
        for chunk in reader.chunks(Schema({}), keep_bad=True):
            inspection.add_rows(path, chunk.raw, chunk.bad)
        return inspection.decide(reader.dialect, reader.units)


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
    inspection = Inspection(kinds=kinds, missing=missing)
    inspection.add_frame("the DataFrame", frame)
    return inspection.decide()


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
        X is neither; a column of complex numbers, or one whose cells are containers.

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
        return file_schema(X, kinds=kinds)
    frame = in_pandas(X)
    if not is_frame(frame):
        raise TypeError(
            "Expected a DataFrame, or the path of a table file. Received: "
            f"{type(X).__name__}. Pass pandas.DataFrame(X); an array without names is numbers."
        )
    return frame_schema(frame, kinds=kinds)


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
    name: str, types: Sequence[_Type], kinds: dict[str, str], dates: dict[str, DateFormat]
) -> None:
    """Add what the types of a column say: only text and numbers are looked at cell by cell."""
    told = [found for found in types if not (found.is_empty or found.name == "null")]
    found = {part.kind for part in told or types}
    if len(found) != 1:
        if "datetime" in found and name not in dates:
            kinds.setdefault(name, "datetime")
        return  # cells decide
    (kind,) = found
    if kinds.get(name, "datetime") in DATE_KINDS and kind == "datetime":
        dates.setdefault(name, _ISO)
    elif name not in kinds and name not in dates:
        fixed = ("category", "dictionary", "duration", "timedelta")
        is_fixed = all(part.name.startswith(fixed) for part in told or types)
        is_untold = kind == "categorical" and all(part.is_empty for part in types)
        if kind == "boolean" or (kind is not None and (is_fixed or is_untold)):
            kinds[name] = kind
