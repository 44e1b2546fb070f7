"""The rows of CSV files, piece by piece: good ones as Arrow tables, bad ones as they were."""

from __future__ import annotations

import codecs
import csv
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.tables.dialect import (
    SPACES,
    Dialect,
    column_names,
    comment_names,
    split_at_spaces,
)
from vae_anomaly.tables.encodings import check_is_text
from vae_anomaly.tables.files import STANDARD, TableError, decompressed, open_raw, table_error
from vae_anomaly.tables.finding_dialect import find_dialect
from vae_anomaly.tables.lines import Feed, TextLines
from vae_anomaly.tables.pieces import BadRow, Piece, text_schema
from vae_anomaly.tables.plain_csv import PlainCsv
from vae_anomaly.tables.text_parts import check_format, decoded_parts

if TYPE_CHECKING:
    import pyarrow as pa

# Headers are read from the first piece; there may be many files.
_FIRST_BYTES = 2**16
_BLOCK_BYTES = 2**22
_LONGEST_ROW = 2**26
# Bytes which can't be decoded become these, so that they can be written back.
UNDECODED = re.compile("[\udc80-\udcff]")
_ENCODING_FIX = "save it as that, or name its encoding with --encoding"


@dataclass(frozen=True)
class Block:
    """Rows which follow each other, but for those which are bad."""

    table: pa.Table  #: all text
    lines: Sequence[int]  #: the line on which each row starts, from 1
    ends: Sequence[int]  #: the line after each row
    bad: list[BadRow]
    start: tuple[int, int, int]  #: how many bytes and lines are before it, and texts were read
    text: TextLines

    def row_text(self, index: int) -> str:
        """Return a row as it was, without its line end."""
        first = self.start[1] + 1
        row = self.text.decoded(self.lines[index] - first, self.ends[index] - first)
        return row.rstrip("\r\n")


class CsvRows:
    """Read delimited text.

    Parameters
    ----------
    path : path, or "-" for standard input
    dialect : Dialect, or mapping of its attributes
        How the text spells its table; attributes that a mapping lacks are found from the first
        bytes. A byte order mark is dropped.

    Attributes
    ----------
    dialect : Dialect
    header : list of str
        Names of the columns; none if the file is blank.
    units : list of str
        The row below the names, if it holds units.
    skipped : list of str
        The lines at the top that are no part of the table.
    schema : pyarrow.Schema
        The columns of the header, all text.
    index_columns : tuple
        Empty: CSV does not tell.

    Raises
    ------
    TableError
        If there is no such delimiter or encoding, or the header is malformed; from every method,
        if a row is too long or the text can't be decoded, not even with undecodable bytes left as
        they are.
    """

    index_columns: tuple[str, ...] = ()

    def __init__(self, path: str | Path, dialect: Dialect | Mapping[str, Any]) -> None:
        self._path = path
        self._file = open_raw(path, "rb")
        try:
            stream = decompressed(self._file, path)
            head = stream.read(_FIRST_BYTES)
            check_is_text(head, path)
            if not isinstance(dialect, Dialect):
                check_format(path, dialect)
                whole = len(head) < _FIRST_BYTES
                dialect = find_dialect(head, path=path, whole=whole, overrides=dialect)
            self._set_dialect(dialect)
            other = None if self._is_utf8 else dialect.encoding
            self._texts = decoded_parts(head, stream, other, _BLOCK_BYTES)
            self._text, self._final = b"", False
            self._bytes = self._line = self._n_read = 0  # before self._text; pieces of text read
            self.skipped: list[str] = []
            self.header, self.units = self._read_header()
        except BaseException:
            self.close()
            raise
        self.schema = text_schema(self.header)
        # One more where rows end with a delimiter, after which there must be nothing.
        width = len(self.header) + dialect.trailing_delimiter
        self._names = [str(index) for index in range(width)]
        self._plain = PlainCsv(dialect, self._names)

    def _set_dialect(self, dialect: Dialect) -> None:
        check_format(self._path, dialect.to_json())
        self.dialect = dialect
        self._csv: dict[str, Any] = {**dialect.csv_options, "strict": True}
        self._encoding = dialect.encoding.upper()
        # UTF-8 is kept as it is; of other encodings, UTF-8 of the decoded text.
        self._is_utf8 = codecs.lookup(dialect.encoding).name == "utf-8"
        self._errors = "surrogateescape" if self._is_utf8 else "surrogatepass"

    def _reader(self, feed: Feed) -> Iterator[list[str]]:
        if self.dialect.delimiter == SPACES:
            return (split_at_spaces(line, self.dialect.quotechar) for line in feed)
        return csv.reader(feed, **self._csv)

    def close(self) -> None:
        if self._path != STANDARD:
            self._file.close()

    def share_read(self, end: Sequence[int]) -> float:
        """Return how much of the file has been read, from 0 to 1, about."""
        if not os.path.isfile(self._path):
            return 0.0
        return float(self._file.tell() / max(1, os.path.getsize(self._path)))

    def pieces(self, rows: int, start: Sequence[int] = ()) -> Iterator[CsvPiece]:
        """Yield at most ``rows`` rows at a time, from the start or the ``end`` of a piece."""
        *place, done = start or (0,)
        for block in self._blocks(place):
            n_rows = block.table.num_rows
            table = block.table.rename_columns(self.header)
            # Of the same size, for small ones cost more per row. Bad rows alone are a piece too.
            size = max(1, -(-n_rows // max(1, -(-n_rows // rows))))
            n_pieces = max(1, -(-n_rows // size))
            for index in range(done, n_pieces):
                first, last = index * size, min((index + 1) * size, n_rows)
                # Bad rows go with the good ones before them.
                after = block.lines[first] if index else 0
                before = block.lines[last] if index + 1 < n_pieces else sys.maxsize
                yield CsvPiece(
                    table.slice(first, last - first),
                    [bad for bad in block.bad if after <= bad.line < before],
                    (*block.start, index + 1),
                    block,
                    first,
                )
            done = 0

    def _read_header(self) -> tuple[list[str], list[str]]:
        """Read what is above the rows; return the names of the columns, and their units."""
        dialect = self.dialect
        n_rows = (dialect.header == "row") + dialect.units_row
        while True:
            self._read_more()
            lines = TextLines(self._text, self._errors, dialect.comment)
            first = min(max(dialect.skip_lines - self._line, 0), len(lines))
            if not self._line:
                self.skipped = list(map(lines.decoded, range(first)))
            # One row more, which tells how many columns there are, and that the others are whole.
            rows, ends = self._first_rows(lines, first, n_rows + 1)
            if self._final or len(rows) > n_rows:
                break
            if n_rows and len(rows) == n_rows and ends[-1] < len(lines):
                break  # blank lines follow, and so it is whole
            if dialect.header != "comment":
                self._drop_blank(lines, first)
        if dialect.header == "row":
            names = rows[0] if rows else []
            # Above no cells, spreadsheets leave empty names.
            while len(rows) > n_rows and len(rows[n_rows]) < len(names) and not names[-1].strip():
                names = names[:-1]
            if dialect.row_names and not (len(rows) > n_rows and len(rows[n_rows]) == len(names)):
                names = ["", *names]
        elif dialect.header == "comment":
            names = comment_names(list(map(lines.decoded, range(first, len(lines)))), dialect)
        else:
            names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)] if rows else []
        units = rows[n_rows - 1] if dialect.units_row and len(rows) >= n_rows else []
        end = ends[min(n_rows, len(ends)) - 1] if n_rows and ends else first
        self._drop(lines.encoded(0, end), end)
        if any(map(UNDECODED.search, names)):
            raise self._error(end, self._encoding, "other bytes", _ENCODING_FIX)
        if dialect.trailing_delimiter and names and dialect.header != "comment":
            names = names[:-1] if dialect.header == "none" or not names[-1].strip() else names
        return column_names(names), units

    def _drop_blank(self, lines: TextLines, first: int) -> None:
        """Let go of blank lines above the first row, of which there may be gigabytes."""
        filled = lines.filled[lines.filled >= first]
        # The last line may go on.
        n_lines = min(int(filled[0]) if len(filled) else len(lines), max(len(lines) - 1, 0))
        self._drop(lines.encoded(0, n_lines), n_lines)

    def _first_rows(
        self, lines: TextLines, first: int, n_rows: int
    ) -> tuple[list[list[str]], list[int]]:
        """Return at most ``n_rows`` rows from line ``first`` on, and the line after each."""
        feed = Feed(lines, first)
        reader = self._reader(feed)
        rows: list[list[str]] = []
        ends: list[int] = []
        while len(rows) < n_rows and not feed.is_at_end():
            try:
                rows.append(next(reader))
            except csv.Error as error:
                if feed.position == len(lines) and not self._final:
                    break  # it goes on in what is not read yet
                if rows:  # below the header it is a bad row, for later
                    rows.append([])
                    ends.append(ends[-1])
                    break
                fix = "check its quotes"
                raise self._error(feed.position, "CSV", f"'{error}'", fix) from error
            ends.append(feed.position)
        return rows, ends

    def _error(self, line: int, expected: str, received: str, fix: str) -> TableError:
        return table_error(f"{self._path}, line {line}", expected, received, fix)

    def _blocks(self, start: Sequence[int]) -> Iterator[Block]:
        """Yield the rows after the header, or from the ``start`` of a block of an earlier reader.

        What a block holds depends on the text alone, wherever reading started.
        """
        if start:
            n_bytes, n_lines, n_read = start
            while self._n_read < n_read:
                self._drop(self._text[: n_bytes - self._bytes], 0)
                self._read_more()
            self._drop(self._text[: n_bytes - self._bytes], n_lines - self._line)
        while True:
            if text := self._whole_lines():
                block, n_lines = self._block(text)
                self._drop(block.text.encoded(0, n_lines), n_lines)
                if block.lines or block.bad:
                    yield block
            if self._final:
                return
            self._read_more()

    def _read_more(self) -> None:
        try:
            text, self._final = next(self._texts)
        except UnicodeError as error:  # of UTF-16 without a byte order mark no UnicodeDecodeError
            raise table_error(self._path, self._encoding, "other bytes", _ENCODING_FIX) from error
        self._n_read += 1
        self._text += text
        if len(self._text) > _LONGEST_ROW:
            expected, received = f"a row of at most {_LONGEST_ROW} bytes", "a longer one"
            raise self._error(self._line + 1, expected, received, "check quotes and line ends")

    def _drop(self, text: bytes, n_lines: int) -> None:
        self._text = self._text[len(text) :]
        self._bytes += len(text)
        self._line += n_lines

    def _whole_lines(self) -> bytes:
        if self._final:
            return self._text
        # A \r at the very end may be the first half of a line end.
        return self._text[: self._text.rfind(b"\n") + 1 or self._text.rfind(b"\r", 0, -1) + 1]

    def _block(self, text: bytes) -> tuple[Block, int]:
        """Return the rows of whole lines, but for one that goes on after them; how many lines."""
        start = (self._bytes, self._line, self._n_read)
        lines = TextLines(text, self._errors, self.dialect.comment)
        table = self._plain.table(text)
        if table is None:
            return self._careful_block(lines, start)
        first = self._line + 1
        starts: Sequence[int] = range(first, first + len(lines))
        ends: Sequence[int] = range(first + 1, first + len(lines) + 1)
        if table.num_rows != len(lines):
            if table.num_rows != len(lines.filled):
                return self._careful_block(lines, start)
            starts, ends = (lines.filled + first).tolist(), (lines.filled + first + 1).tolist()
        return Block(table, starts, ends, [], start, lines), len(lines)

    def _careful_block(self, lines: TextLines, start: tuple[int, int, int]) -> tuple[Block, int]:
        """Do what ``_block`` does, row by row, for lines that are not all good rows."""
        import pyarrow as pa

        feed = Feed(lines)
        first_line = start[1] + 1
        rows, starts, ends, bad = [], [], [], []
        for row, first, broken, reason in self._rows(lines, feed):
            if reason:
                raw = lines.decoded(first, feed.position).rstrip("\r\n")
                bad.append(BadRow(first_line + broken, None, reason, raw))
            else:
                rows.append(row)
                starts.append(first_line + first)
                ends.append(first_line + feed.position)
        names = self._names[: len(self.header)]
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        table = pa.table([pa.array(column, "string") for column in columns], names=names)
        return Block(table, starts, ends, bad, start, lines), feed.position

    def _rows(self, lines: TextLines, feed: Feed) -> Iterator[tuple[list[str], int, int, str]]:
        """Yield fields, first line, the line that is wrong, and what is wrong there, of each row.

        The feed is after the row then; in the end before a row that goes on in the next block.
        """
        reader = self._reader(feed)
        while not feed.is_at_end():
            first = feed.position
            try:
                row = next(reader)
            except csv.Error as error:
                if feed.is_at_end() and "end of data" in str(error) and not self._final:
                    feed.position = first
                    return
                # A quote that never closes must not take the rows after it along.
                feed.position = first + 1
                yield [], first, first, f"expected CSV, received '{error}'; check its quotes"
                continue
            if self.dialect.trailing_delimiter and len(row) == len(self._names) and not row[-1]:
                row = row[:-1]
            if UNDECODED.search(lines.decoded(first, feed.position)):
                numbers = range(first, feed.position)
                broken = next(n for n in numbers if UNDECODED.search(lines.decoded(n)))
                reason = f"expected {self._encoding}, received other bytes; {_ENCODING_FIX}"
                yield row, first, broken, reason
            elif row and len(row) != len(self.header):
                fix = "correct the row (a field with a delimiter needs quotes)"
                reason = f"expected {len(self.header)} fields, received {len(row)}; {fix}"
                yield row, first, first, reason
            elif row:
                yield row, first, first, ""


@dataclass(frozen=True, eq=False)
class CsvPiece(Piece):
    """Rows of a block."""

    block: Block
    first: int  #: the first row's place in the block

    def line(self, index: int, column: str) -> int:
        names = self.table.column_names
        before = [self.table[name][index].as_py() for name in names[: names.index(column)]]
        breaks = [re.findall("\r\n?|\n", text) for text in before]
        return self.block.lines[self.first + index] + sum(map(len, breaks))

    def text(self, index: int) -> str:
        return self.block.row_text(self.first + index)
