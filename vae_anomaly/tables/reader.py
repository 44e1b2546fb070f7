"""A table file as chunks of rows: as they are, and converted to the kinds a model knows."""

from __future__ import annotations

import bisect
import csv
import difflib
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vae_anomaly.tables.arrow_cells import EXPECTED, bad_cells, convert, kind_of, text_of
from vae_anomaly.tables.csv_rows import UNDECODED, BadRow, Block, CsvRows
from vae_anomaly.tables.files import (
    STANDARD,
    TableError,
    decompressed,
    file_format,
    open_raw,
    reported,
    table_error,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNK_ROWS = 8160
_ENCODING = "save it as that, or name its encoding"
_MOST_LISTED = 10
_CELL = "correct it, or leave it empty if missing"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a file."""

    raw: pa.Table  #: every column as read, to be written back unchanged; from CSV all are text
    frame: pd.DataFrame  #: the columns asked for, converted; its index starts at 0
    bad: Sequence[BadRow]  #: rows in between that are not in `raw`
    end: tuple[int, ...]  #: where in the file the next chunk starts, for `TableReader.chunks`


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
        self._format = file_format(path)
        self.is_parquet = self._format == "parquet"
        with self._reported():
            self._open(delimiter or {"tsv": "\t"}.get(self._format, ","), encoding)
        names = list(self.schema.names)
        try:
            if names or not blank_ok:
                _check_names(path, names)
        except TableError:
            self.close()
            raise
        index = (self.schema.pandas_metadata or {}).get("index_columns", [])
        self.names = [name for name in names if name not in index]

    def _open(self, delimiter: str, encoding: str) -> None:
        import pyarrow.parquet as pq

        if os.path.exists(self.path) and not (
            os.path.isfile(self.path) or os.path.isdir(self.path)
        ):
            fix = "a pipe can be read as -, standard input"
            raise table_error(self.path, "a file", "something else", fix)
        if self.is_parquet:
            # Else pyarrow holds whole row groups.
            self._file = pq.ParquetFile(str(self.path), pre_buffer=False, buffer_size=2**16)
            self.schema = self._file.schema_arrow
            return
        if not re.fullmatch("[\t -~]", delimiter) or delimiter == '"':
            expected = "a delimiter that is one ASCII character or a tab, and no quote"
            raise table_error(self.path, expected, repr(delimiter), "change it")
        try:
            "".encode(encoding)
        except LookupError as error:
            raise table_error(self.path, "a known encoding", repr(encoding), "change it") from error
        self._file = open_raw(self.path, "rb")
        try:
            stream = decompressed(self._file, self.path)
            self._rows = CsvRows(stream, delimiter=delimiter, encoding=encoding)
            if any(map(UNDECODED.search, self._rows.header)):
                where = f"{self.path}, line 1"
                raise table_error(where, encoding.upper(), "other bytes", _ENCODING)
        except BaseException:
            self.close()
            raise
        self.schema = text_schema(self._rows.header)

    def __enter__(self) -> TableReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.path != STANDARD:
            self._file.close()

    def share_read(self, chunk: Chunk) -> float:
        """Return how much of the file has been read with a chunk, from 0 to 1, about."""
        if self.is_parquet:
            return chunk.end[0] / max(1, self._file.metadata.num_rows)
        if not os.path.isfile(self.path):
            return 0.0
        return float(self._file.tell() / max(1, os.path.getsize(self.path)))

    def chunks(
        self,
        kinds: Mapping[str, str],
        *,
        chunk_rows: int = CHUNK_ROWS,
        start: tuple[int, ...] = (),
        keep_bad: bool = False,
    ) -> Iterator[Chunk]:
        """Read at most `chunk_rows` rows at a time, and convert the columns in `kinds`; once.

        Values are as `iter_chunks` gives them.

        Parameters
        ----------
        kinds : mapping of column name to kind
        chunk_rows : int
        start : tuple of int
            The `end` of a chunk: go on after it, as if it had been read before.
        keep_bad : bool
            Whether rows that are not as expected are put into `Chunk.bad`, not raised.

        Raises
        ------
        TableError
            If the file can't be read, lacks a column, or its columns have types that do not fit;
            unless `keep_bad`, if a row has another number of fields, or a cell which is not of
            its kind.
        """
        check_columns(self.path, self.names, kinds, ignore=self.names)
        with self._reported():
            for piece in self._pieces(chunk_rows, start):
                if piece.bad and not keep_bad:
                    raise self._bad_row_error(piece.bad[0])
                yield self._chunk(piece, kinds, keep_bad)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            with reported(self.path, "read"):
                yield
        except csv.Error as error:
            raise table_error(
                f"{self.path}, line 1", "CSV", f"'{error}'", "check its quotes"
            ) from (error)
        except UnicodeDecodeError as error:
            raise table_error(self.path, error.encoding, "other bytes", _ENCODING) from error

    def _bad_row_error(self, bad: BadRow) -> TableError:
        place = f"row {bad.line} (from 0)" if self.is_parquet else f"line {bad.line}"
        column = "" if bad.column is None else f", column {bad.column!r}"
        return TableError(f"{self.path}, {place}{column}: {bad.reason}")

    def _pieces(self, rows: int, start: tuple[int, ...]) -> Iterator[_Piece]:
        pieces = self._parquet_pieces if self.is_parquet else self._csv_pieces
        empty = not start
        for piece in pieces(rows, start):
            empty = False
            yield piece
        if empty:
            yield _Piece(self.schema.empty_table(), (), [], (0,), str)

    def _csv_pieces(self, rows: int, start: tuple[int, ...]) -> Iterator[_Piece]:
        *place, done = start or (0,)
        for block in self._rows.blocks(place):
            table = block.table.rename_columns(self._rows.header)
            # Of the same size, for small ones cost more per row. Bad rows alone are a piece too.
            size = max(1, -(-table.num_rows // max(1, -(-table.num_rows // rows))))
            n_pieces = max(1, -(-table.num_rows // size))
            for index in range(done, n_pieces):
                first, last = index * size, min((index + 1) * size, table.num_rows)
                # Bad rows go with the good ones before them.
                after = block.lines[first] if index else 0
                before = block.lines[last] if index + 1 < n_pieces else sys.maxsize
                yield _Piece(
                    table.slice(first, last - first),
                    block.lines[first:last],
                    [bad for bad in block.bad if after <= bad.line < before],
                    (*block.start, index + 1),
                    partial(_row_text, block, first),
                )
            done = 0

    def _parquet_pieces(self, rows: int, start: tuple[int, ...]) -> Iterator[_Piece]:
        import pyarrow as pa

        (first_row,) = start or (0,)
        sizes = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        # Whole row groups before the start are not read at all.
        skipped = bisect.bisect(np.cumsum(sizes).tolist(), first_row)
        drop = first_row - sum(sizes[:skipped])
        rest = self.schema.empty_table()
        for batch in self._file.iter_batches(
            batch_size=rows, row_groups=list(range(skipped, len(sizes)))
        ):
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
            dropped = min(drop, rest.num_rows)
            rest, drop = rest.slice(dropped), drop - dropped
            while rest.num_rows > rows:
                yield _parquet_piece(rest.slice(0, rows), first_row)
                first_row += rows
                rest = rest.slice(rows)
        if rest.num_rows:
            yield _parquet_piece(rest, first_row)

    def _chunk(self, piece: _Piece, kinds: Mapping[str, str], keep_bad: bool) -> Chunk:
        import pandas as pd

        table = piece.table
        columns: dict[str, Any] = {}
        wrong: dict[int, BadRow] = {}
        for name, kind in kinds.items():
            columns[name], indices = self._values(table, name, kind)
            for index in indices:
                if index not in wrong:
                    wrong[index] = self._bad_cell(piece, index, name, kind)
                if not keep_bad:
                    raise self._bad_row_error(wrong[index])
        if wrong:
            table = table.take(np.setdiff1d(np.arange(table.num_rows), list(wrong)))
            columns = {name: self._values(table, name, kind)[0] for name, kind in kinds.items()}
        # pandas would guess for text
        series = {name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()}
        frame = pd.DataFrame(series, index=pd.RangeIndex(table.num_rows))
        bad = sorted([*piece.bad, *wrong.values()], key=lambda row: row.line)
        return Chunk(table, frame, bad, piece.end)

    def _values(self, table: pa.Table, name: str, kind: str) -> tuple[Any, list[int]]:
        """Return a converted column, and the rows that prevent it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = table[name]
        if not pc.any(pc.invert(pc.is_null(column, nan_is_null=True))).as_py():
            column = pa.chunked_array([pa.nulls(len(column))])  # fits any kind
        found = kind_of(column.type)
        # Text can be parsed as any kind, and any kind can be written as text.
        fits = "categorical" in (found, kind) or {found, kind} <= {"numeric", "boolean"}
        if found != kind and not fits and column.type != "null":
            where = f"{self.path}, column {name!r}"
            raise table_error(where, EXPECTED[kind], str(column.type), "convert it")
        try:
            return convert(column, kind).to_numpy(), []
        except ValueError:
            return None, bad_cells(column, kind)

    def _bad_cell(self, piece: _Piece, index: int, name: str, kind: str) -> BadRow:
        line = piece.lines[index]
        if not self.is_parquet:
            before = self._rows.header[: self._rows.header.index(name)]
            breaks = [re.findall("\r\n?|\n", piece.table[n][index].as_py()) for n in before]
            line += sum(map(len, breaks))
        value = text_of(piece.table[name].slice(index, 1))[0].as_py()
        received = repr(value if len(value) <= 60 else value[:60] + "...")
        reason = f"expected {EXPECTED[kind]}, received {received}; {_CELL}"
        return BadRow(line, name, reason, piece.text(index))


def text_schema(names: Iterable[str]) -> pa.Schema:
    """Return the schema of CSV files with these columns."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in names])


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


def check_columns(
    path: str | Path, header: Collection[str], expected: Collection[str], ignore: Iterable[str] = ()
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
    vae_anomaly.tables.files.TableError: new.csv: missing columns: 'age' (is it 'Age'?)...
    """
    present, wanted, allowed = set(header), set(expected), {*expected, *ignore}
    others = {name.lower(): name for name in header if name not in wanted}
    missing = []
    for name in [name for name in expected if name not in present]:
        near = difflib.get_close_matches(name.lower(), others, n=1)
        missing.append(f"{name!r} (is it {others[near[0]]!r}?)" if near else f"{name!r}")
    unexpected = [f"{name!r}" for name in header if name not in allowed]
    found = {"missing": missing, "unexpected": unexpected}
    problems = [f"{what} columns: {_listed(names)}" for what, names in found.items() if names]
    if problems:
        raise TableError(f"{path}: {'; '.join(problems)}; rename, add or remove columns to match")


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


class _Piece(NamedTuple):
    table: pa.Table
    lines: Sequence[int]  # or in Parquet the numbers of the rows, for `BadRow`
    bad: Sequence[BadRow]
    end: tuple[int, ...]
    text: Callable[[int], str]


def _row_text(block: Block, first: int, index: int) -> str:
    return block.row_text(first + index)


def _parquet_piece(table: pa.Table, first_row: int) -> _Piece:
    def text(index: int) -> str:
        line = io.StringIO()
        cells = [text_of(column.slice(index, 1))[0].as_py() for column in table.columns]
        csv.writer(line, lineterminator="").writerow(cells)
        return line.getvalue()

    numbers = range(first_row, first_row + table.num_rows)
    return _Piece(table, numbers, [], (numbers.stop,), text)
