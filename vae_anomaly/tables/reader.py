"""A table file as chunks of rows: as they were read, and as the arrays that a model takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables.arrow_cells import array_of, bad_cells, cell_text, converts
from vae_anomaly.tables.columns import arrays_frame
from vae_anomaly.tables.csv_rows import CsvRows
from vae_anomaly.tables.files import TableError, file_format, reported, table_error
from vae_anomaly.tables.names import differences
from vae_anomaly.tables.parquet_rows import ParquetRows
from vae_anomaly.tables.pieces import BadRow, Piece
from vae_anomaly.tables.rules import DATE_KINDS, EXPECTED, KINDS, UNMODELLED_KINDS, kind_of_type

if TYPE_CHECKING:
    import pandas as pd
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
    delimiter : str or None
        One character. None: a tab in .tsv files, else a comma.
    encoding : str
        Of the text of CSV and TSV files.
    blank_ok : bool
        Whether the file may lack even a header; there are no names then.

    Attributes
    ----------
    names : list of str
        Of the columns, without the index of a DataFrame in Parquet.
    schema : pyarrow.Schema
        Of all columns.
    is_parquet : bool

    Raises
    ------
    TableError
        If the file can't be read, or a column name is empty or there twice.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        delimiter: str | None = None,
        encoding: str = "utf-8",
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
                delimiter = delimiter or {"tsv": "\t"}.get(table_format, ",")
                self._rows = CsvRows(path, delimiter=delimiter, encoding=encoding)
        self.schema = self._rows.schema
        names = list(self.schema.names)
        try:
            if names or self.is_parquet or not blank_ok:
                _check_names(path, names)
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
        kinds: Mapping[str, str],
        *,
        chunk_rows: int = CHUNK_ROWS,
        start: tuple[int, ...] = (),
        keep_bad: bool = False,
    ) -> Iterator[Chunk]:
        """Read at most ``chunk_rows`` rows at a time, and convert the columns in ``kinds``; once.

        A file without rows gives one chunk without rows, so that what is written from it still has
        a header.

        Parameters
        ----------
        kinds : mapping of column name to kind
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
        check_columns(self.path, self.names, kinds, ignore=self.names)
        with reported(self.path, "read"):
            empty = not start
            for piece in self._rows.pieces(chunk_rows, start):
                empty = False
                if piece.bad and not keep_bad:
                    raise self._bad_row_error(piece.bad[0])
                yield self._chunk(piece, kinds, keep_bad)
            if empty:
                yield self._chunk(Piece(self.schema.empty_table(), [], (0,)), kinds, keep_bad)

    def _bad_row_error(self, bad: BadRow) -> TableError:
        place = f"row {bad.line} (from 0)" if self.is_parquet else f"line {bad.line}"
        column = "" if bad.column is None else f", column {bad.column!r}"
        return TableError(f"{self.path}, {place}{column}: {bad.reason}")

    def _chunk(self, piece: Piece, kinds: Mapping[str, str], keep_bad: bool) -> Chunk:
        table = piece.table
        arrays: dict[str, np.ndarray] = {}
        wrong: dict[int, BadRow] = {}
        for name, kind in kinds.items():
            column = self._column(table, name, kind)
            try:
                arrays[name] = array_of(column, kind)
            except ValueError as error:
                cells = bad_cells(column, kind) if kind != "categorical" else []
                if not cells:
                    where = f"{self.path}, column {name!r}"
                    raise table_error(where, EXPECTED[kind], f"'{error}'", "convert it") from error
                for index in cells:
                    if index not in wrong:
                        wrong[index] = _bad_cell(piece, index, name, kind)
                    if not keep_bad:
                        raise self._bad_row_error(wrong[index]) from None
        if wrong:
            table = table.take(np.setdiff1d(np.arange(table.num_rows), list(wrong)))
            arrays = {n: array_of(self._column(table, n, kind), kind) for n, kind in kinds.items()}
        bad = sorted([*piece.bad, *wrong.values()], key=lambda row: row.line)
        return Chunk(table, arrays, bad, piece.end)

    def _column(self, table: pa.Table, name: str, kind: str) -> pa.ChunkedArray:
        """Return a column, checked to be of a type that fits the kind."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = table[name]
        if not pc.any(pc.invert(pc.is_null(column, nan_is_null=True))).as_py():
            return pa.chunked_array([pa.nulls(len(column))])  # fits any kind
        found = kind_of_type(str(column.type))
        # Text can be parsed as any kind, and any kind can be written as text.
        fits = found == kind or "categorical" in (found, kind)
        alike = ({"numeric", "boolean"}, set(DATE_KINDS))
        if found is None or not (fits or any({found, kind} <= kinds for kinds in alike)):
            where = f"{self.path}, column {name!r}"
            raise table_error(where, EXPECTED[kind], str(column.type), "convert it")
        return column


def infer_kinds(
    path: str | Path, overrides: Mapping[str, str] | None = None, **options: Any
) -> dict[str, str]:
    """Decide the kind of every column from the whole file; ``overrides`` win.

    A CSV column is of the first of ``KINDS`` which all its fields can be read as, except that true
    and false are no numbers here. The kind of a Parquet column follows from its type, as that of
    the DataFrame which pandas reads from the file.

    Parameters
    ----------
    path : path
    overrides : mapping of column name to kind, or None
        "id" and "dropped" columns are not modelled, and may be of any type.
    **options
        Of ``TableReader``.

    Returns
    -------
    dict of str to str
        Column name to kind.

    Raises
    ------
    TableError
        If the file can't be read, a type has no kind, or an override no known column or kind.
    """
    overrides = overrides or {}
    with TableReader(path, **options) as reader:
        check_columns(path, reader.names, overrides, ignore=reader.names)
        left = {name: _possible_kinds(reader, name, overrides) for name in reader.names}
        for chunk in () if reader.is_parquet else reader.chunks({}):
            for name, kinds in left.items():
                if len(kinds) > 1:
                    # All that are left, not only the first, for each must hold everywhere.
                    column = chunk.raw[name]
                    left[name] = [k for k in kinds if converts(column, k, words=k != "numeric")]
    return {name: kinds[0] for name, kinds in left.items()}


def _possible_kinds(reader: TableReader, name: str, overrides: Mapping[str, str]) -> list[str]:
    type_name = str(reader.schema.field(name).type)
    if name in overrides:
        kinds = [overrides[name]]
    elif reader.is_parquet:
        kinds = [kind_of_type(type_name) or type_name]
    else:
        kinds = [kind for kind in KINDS if kind != "timestamp"]
    if kinds[0] not in KINDS + UNMODELLED_KINDS:
        where, expected = f"{reader.path}, column {name!r}", f"one of {', '.join(KINDS)}"
        raise table_error(where, expected, kinds[0], "convert it or choose a kind")
    return kinds


def read_arrays(
    path: str | Path, kinds: Mapping[str, str], **options: Any
) -> dict[str, np.ndarray]:
    """Read the columns in ``kinds`` of a whole file as named arrays.

    Parameters
    ----------
    path : path
    kinds : mapping of column name to kind
        As ``infer_kinds`` decides them.
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
    with TableReader(path, **options) as reader:
        parts = [chunk.arrays for chunk in reader.chunks(kinds)]
    return {name: np.concatenate([arrays[name] for arrays in parts]) for name in kinds}


def read_frame(path: str | Path, kinds: Mapping[str, str], **options: Any) -> pd.DataFrame:
    """Do what ``read_arrays`` does, and return a DataFrame; see ``columns.arrays_frame``."""
    return arrays_frame(read_arrays(path, kinds, **options), kinds)


def check_columns(
    path: str | Path, header: Sequence[str], expected: Collection[str], ignore: Iterable[str] = ()
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


def _bad_cell(piece: Piece, index: int, name: str, kind: str) -> BadRow:
    value = cell_text(piece.table[name], index) or ""
    received = repr(value if len(value) <= 60 else value[:60] + "...")
    reason = f"expected {EXPECTED[kind]}, received {received}; {_CELL_FIX}"
    return BadRow(piece.line(index, name), name, reason, piece.text(index))


def _check_is_file(path: str | Path) -> None:
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        fix = "a pipe can be read as -, standard input"
        raise table_error(path, "a file", "something else", fix)


def _check_names(path: object, names: Sequence[str]) -> None:
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
