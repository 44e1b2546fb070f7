"""A table file as chunks of rows: as they were read, and as the arrays that a model takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables.arrow_cells import array_of, cell_text
from vae_anomaly.tables.csv_rows import CsvRows
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import TableError, file_format, reported, table_error
from vae_anomaly.tables.names import differences
from vae_anomaly.tables.parquet_rows import ParquetPiece, ParquetRows
from vae_anomaly.tables.pieces import BadRow, Piece
from vae_anomaly.tables.rules import DATE_KINDS, EXPECTED, kind_of_type
from vae_anomaly.tables.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    import pyarrow as pa

# A multiple of the 480 rows that the scorer takes at once, so that it fills no block up.
CHUNK_ROWS = 17 * 480
_CELL_FIX = "correct it, or leave it empty if missing"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a file."""

    raw: pa.Table  #: every column as read, to be written back unchanged; from CSV all are text
    arrays: dict[str, np.ndarray]  #: the columns asked for, as ``columns.frame_arrays`` makes them
    bad: Sequence[BadRow]  #: rows in between that are not in ``raw``
    end: tuple[int, ...]  #: where in the file the next chunk starts, for ``TableReader.chunks``


class TableReader:
    """A CSV or Parquet file, by its suffix, open for reading; a context manager.

    Parameters
    ----------
    path : path, or "-" for CSV from standard input
    dialect : Dialect, or mapping of its attributes
        Of text files; what a mapping lacks is found from the first rows.
    blank_ok : bool
        Whether the file may lack even a header; there are no names then.

    Attributes
    ----------
    names : list of str
        Of the columns, without the index of a DataFrame in Parquet.
    schema : pyarrow.Schema
        Of all columns.
    is_parquet : bool
    dialect : Dialect or None
        Of text files.
    units : list of str
        Of the columns, if the row below the names holds them.
    skipped : list of str
        Lines at the top of text files that are no part of the table.

    Raises
    ------
    TableError
        If the file can't be read, or a column name is empty or there twice.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dialect: Dialect | Mapping[str, Any] = MappingProxyType({}),
        blank_ok: bool = False,
    ) -> None:
        self.path = path
        table_format = file_format(path)
        self.is_parquet = table_format == "parquet"
        _check_is_file(path)
        self._rows: CsvRows | ParquetRows
        with reported(path, "read"):
            if self.is_parquet:
                self._rows = ParquetRows(path)
            else:
                if table_format == "tsv" and not isinstance(dialect, Dialect):
                    dialect = {"delimiter": "\t", **dialect}
                self._rows = CsvRows(path, dialect)
        self.schema = self._rows.schema
        self.dialect = self._rows.dialect if isinstance(self._rows, CsvRows) else None
        self.units = self._rows.units if isinstance(self._rows, CsvRows) else []
        self.skipped = self._rows.skipped if isinstance(self._rows, CsvRows) else []
        names = list(self.schema.names)
        try:
            if names or self.is_parquet or not blank_ok:
                check_names(path, names)
        except TableError:
            self.close()
            raise
        index = set(self._rows.index_columns)
        self.names = [name for name in names if name not in index]

    def __enter__(self) -> TableReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._rows.close()

    def share_read(self, chunk: Chunk) -> float:
        """Return how much of the file has been read with a chunk, from 0 to 1, about."""
        return self._rows.share_read(chunk.end)

    def chunks(
        self,
        schema: Schema,
        *,
        chunk_rows: int = CHUNK_ROWS,
        start: tuple[int, ...] = (),
        keep_bad: bool = False,
    ) -> Iterator[Chunk]:
        """Read at most ``chunk_rows`` rows at a time, and convert the modelled columns; once.

        A file without rows gives one chunk without rows, so that what is written from it still has
        a header.

        Parameters
        ----------
        schema : Schema
            Columns that are modelled must be there.
        chunk_rows : int
        start : tuple of int
            The ``end`` of a chunk: go on after it, as if it had been read before.
        keep_bad : bool
            Whether rows that are not as expected are put into ``Chunk.bad``, not raised.

        Yields
        ------
        Chunk

        Raises
        ------
        TableError
            If the file can't be read, lacks a column, or its columns have types that do not fit;
            unless ``keep_bad``, if a row has another number of fields, or a cell which is not of
            its kind.
        """
        check_columns(self.path, self.names, schema.kinds, ignore=self.names)
        with reported(self.path, "read"):
            empty = not start
            for piece in self._rows.pieces(chunk_rows, start):
                empty = False
                yield chunk_of(self.path, piece, schema, keep_bad=keep_bad)
            if empty:
                nothing = Piece(self.schema.empty_table(), [], (0,))
                yield chunk_of(self.path, nothing, schema, keep_bad=keep_bad)


def chunk_of(where: object, piece: Piece, schema: Schema, *, keep_bad: bool) -> Chunk:
    """Convert the modelled columns of rows as they were read.

    Parameters
    ----------
    where : path or str
        Where they are from, for messages.
    piece : Piece
    schema : Schema
    keep_bad : bool
        As of ``TableReader.chunks``.

    Raises
    ------
    TableError
        Columns have types that do not fit; unless ``keep_bad``, there is a bad row.
    """
    if piece.bad and not keep_bad:
        raise _bad_row_error(where, piece, piece.bad[0])
    table = piece.table
    arrays: dict[str, np.ndarray] = {}
    wrong: dict[int, BadRow] = {}
    for name, kind in schema.kinds.items():
        column = _column(where, table, name, kind)
        arrays[name], bad = array_of(column, schema.columns[name], schema.missing)
        for index in np.flatnonzero(bad).tolist():
            if index not in wrong:
                wrong[index] = _bad_cell(piece, index, name, schema.columns[name])
            if not keep_bad:
                raise _bad_row_error(where, piece, wrong[index])
    if wrong:
        good = np.setdiff1d(np.arange(table.num_rows), list(wrong))
        table = table.take(good)
        arrays = {name: array[good] for name, array in arrays.items()}
    rows = sorted([*piece.bad, *wrong.values()], key=lambda row: row.line)
    return Chunk(table, arrays, rows, piece.end)


def _bad_row_error(where: object, piece: Piece, bad: BadRow) -> TableError:
    is_number = isinstance(piece, ParquetPiece)
    place = f"row {bad.line} (from 0)" if is_number else f"line {bad.line}"
    column = "" if bad.column is None else f", column {bad.column!r}"
    return TableError(f"{where}, {place}{column}: {bad.reason}")


def _column(where: object, table: pa.Table, name: str, kind: str) -> pa.ChunkedArray:
    """Return a column, checked to be of a type that fits the kind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table[name]
    if not pc.any(pc.invert(pc.is_null(column, nan_is_null=True))).as_py():
        return pa.chunked_array([pa.nulls(len(column))])  # fits any kind
    check_type(str(column.type), kind, f"{where}, column {name!r}")
    return column


def check_type(found: str, kind: str, where: str) -> None:
    """Check that a column of a type, given by Arrow's name of it, can be read as a kind.

    Raises
    ------
    TableError
        It cannot.

    Examples
    --------
    >>> check_type("string", "numeric", "column 'age'")
    >>> check_type("date32[day]", "numeric", "age")
    Traceback (most recent call last):
    vae_anomaly.tables.files.TableError: age: expected a number, received date32[day]; convert it
    """
    found_kind = kind_of_type(found)
    # Text can be parsed as any kind, and any kind can be written as text.
    is_count = found_kind == "numeric" and kind in DATE_KINDS and not found.startswith("duration")
    fits = found_kind == kind or "categorical" in (found_kind, kind) or is_count
    alike = ({"numeric", "boolean"}, set(DATE_KINDS))
    fits = fits or any({found_kind, kind} <= kinds for kinds in alike)
    if found != "null" and (found_kind is None or not fits):
        raise table_error(where, EXPECTED[kind], found, "convert it")


def read_arrays(
    path: str | Path, schema: Schema, *, bad: list[BadRow] | None = None, **options: Any
) -> dict[str, np.ndarray]:
    """Read the modelled columns of a whole file as named arrays.

    Parameters
    ----------
    path : path
    schema : Schema
    bad : list, or None
        Gets the rows that are not as expected. None: they are an error.
    **options
        Of ``TableReader``.

    Returns
    -------
    dict of str to numpy.ndarray, each (n,)
        As ``columns.frame_arrays`` makes them of a DataFrame.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    parts = []
    with TableReader(path, **options) as reader:
        for chunk in reader.chunks(schema, keep_bad=bad is not None):
            parts.append(chunk.arrays)
            if bad is not None:
                bad.extend(chunk.bad)
    return {name: np.concatenate([arrays[name] for arrays in parts]) for name in schema.kinds}


def check_columns(
    path: object, header: Sequence[str], expected: Collection[str], ignore: Iterable[str] = ()
) -> None:
    """Check that a header has the expected columns, and no others except those to ignore.

    Raises
    ------
    TableError
        If columns are missing or unexpected; both are listed.

    Examples
    --------
    >>> check_columns("new.csv", ["id", "age"], ["age"], ignore=["id"])
    >>> check_columns("new.csv", ["Age"], ["age"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vae_anomaly.tables.files.TableError: new.csv: missing columns: 'age' (did you mean 'Age'?)...
    """
    if found := differences(header, expected, ignore):
        problems = "; ".join(f"{what} columns: {names}" for what, names in found.items())
        raise TableError(f"{path}: {problems}; rename, add or remove columns to match")


def wrong_cell(schema: ColumnSchema, text: str) -> str:
    """Return what is to be said of a cell that is not of its column's kind.

    Examples
    --------
    >>> wrong_cell(ColumnSchema("numeric"), "oops")
    "expected a number, received 'oops'; correct it, or leave it empty if missing"
    """
    received = repr(text if len(text) <= 60 else text[:60] + "...")
    form = f" like {schema.format_text}" if schema.format_text else ""
    return f"expected {EXPECTED[schema.kind]}{form}, received {received}; {_CELL_FIX}"


def _bad_cell(piece: Piece, index: int, name: str, schema: ColumnSchema) -> BadRow:
    reason = wrong_cell(schema, cell_text(piece.table[name], index) or "")
    return BadRow(piece.line(index, name), name, reason, piece.text(index))


def _check_is_file(path: str | Path) -> None:
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        fix = "a pipe can be read as -, standard input"
        raise table_error(path, "a file", "something else", fix)


def check_names(path: object, names: Sequence[str]) -> None:
    """Check that there are columns, and that each has a name of its own.

    Raises
    ------
    TableError
        There are none, or a name is empty or there twice.
    """
    if not names:
        raise table_error(path, "a header of column names", "none", "write one")
    if "" in names:
        fix = "name it (if pandas wrote it as its index, use index=False)"
        raise table_error(path, "named columns", f"no name for column {names.index('') + 1}", fix)
    repeated = [f"{name!r}" for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise table_error(
            path, "unique column names", f"{', '.join(repeated)} twice", "rename them"
        )
