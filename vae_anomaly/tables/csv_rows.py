"""The rows of CSV files, piece by piece: good ones as Arrow tables, bad ones as they were."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.tables.files import STANDARD, TableError, decompressed, open_raw, table_error
from vae_anomaly.tables.lines import Feed, TextLines
from vae_anomaly.tables.pieces import BadRow, Piece

if TYPE_CHECKING:
    import pyarrow as pa

# Headers are read from the first piece; there may be many files.
_FIRST_BYTES = 2**16
_BLOCK_BYTES = 2**22
_LONGEST_ROW = 2**26
# Arrow reads text of this size at a time, which fits into the processor's cache.
_ARROW_BYTES = 2**20
_BOM = codecs.BOM_UTF8
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
    delimiter : str
        One character.
    encoding : str
        Of Python's codecs. A byte order mark is dropped.

    Attributes
    ----------
    header : list of str
        Fields of the first row which is not blank; none if there is none.
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

    def __init__(self, path: str | Path, *, delimiter: str = ",", encoding: str = "utf-8") -> None:
        _check_format(path, delimiter, encoding)
        self._path = path
        self._dialect: dict[str, Any] = {"delimiter": delimiter, "strict": True}
        mark = re.escape(delimiter.encode())
        # A field in quotes, on one line, with a delimiter or a line end on either side.
        self._quoted = re.compile(
            rb'(?<![^%s\n])"[^"\r\n]*(?:""[^"\r\n]*)*"(?![^%s\r\n])' % (mark, mark)
        )
        self._encoding = encoding.upper()
        # UTF-8 is kept as it is; of other encodings, UTF-8 of the decoded text.
        is_utf8 = codecs.lookup(encoding).name == "utf-8"
        self._errors = "surrogateescape" if is_utf8 else "surrogatepass"
        self._file = open_raw(path, "rb")
        try:
            stream = decompressed(self._file, path)
            self._texts = _texts(stream, None if is_utf8 else encoding)
            self._text, self._final = b"", False
            self._bytes = self._line = self._n_read = 0  # before self._text; pieces of text read
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise
        self.schema = text_schema(self.header)
        self._names = [str(index) for index in range(len(self.header))]

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

    def _read_header(self) -> list[str]:
        header: list[str] = []
        while not header and not self._final:
            self._read_more()
            lines = _lines(self._text, self._errors)
            reader = csv.reader(lines, **self._dialect)
            try:
                header = next(filter(None, reader), [])
            except csv.Error as error:
                raise self._error(reader.line_num, "CSV", f"'{error}'", "check its quotes") from (
                    error
                )
            if header and (reader.line_num < len(lines) or self._final):
                self._drop(self._encoded(lines[: reader.line_num]), reader.line_num)
            elif not self._final:
                header = []
        if any(map(UNDECODED.search, header)):
            raise self._error(reader.line_num, self._encoding, "other bytes", _ENCODING_FIX)
        return header

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

    def _encoded(self, lines: list[str]) -> bytes:
        return "".join(lines).encode("utf-8", self._errors)

    def _block(self, text: bytes) -> tuple[Block, int]:
        """Return the rows of whole lines, but for one that goes on after them; how many lines."""
        start = (self._bytes, self._line, self._n_read)
        lines = TextLines(text, self._errors)
        table = self._plain_table(text)
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

    def _plain_table(self, text: bytes) -> pa.Table | None:
        """Read lines that are blank or a good row each, many times faster; None for others."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv as arrow_csv

        has_quotes = b'"' in text
        if (has_quotes and b'"' in self._quoted.sub(b"", text)) or text.startswith(_BOM):
            return None
        if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
            return None
        if not text.strip(b"\r\n"):
            return text_schema(self._names).empty_table()
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(text),
                arrow_csv.ReadOptions(
                    column_names=self._names, use_threads=False, block_size=_ARROW_BYTES
                ),
                arrow_csv.ParseOptions(
                    delimiter=self._dialect["delimiter"], quote_char='"' if has_quotes else False
                ),
                arrow_csv.ConvertOptions(column_types=dict.fromkeys(self._names, pa.string())),
            )
        except pa.ArrowInvalid:
            return None
        longest = max((pc.max(pc.binary_length(column)).as_py() or 0) for column in table.columns)
        return table if longest <= csv.field_size_limit() else None

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
        columns = zip(*rows, strict=True) if rows else [()] * len(self._names)
        table = pa.table([pa.array(column, "string") for column in columns], names=self._names)
        return Block(table, starts, ends, bad, start, lines), feed.position

    def _rows(self, lines: TextLines, feed: Feed) -> Iterator[tuple[list[str], int, int, str]]:
        """Yield fields, first line, the line that is wrong, and what is wrong there, of each row.

        The feed is after the row then; in the end before a row that goes on in the next block.
        """
        reader = csv.reader(feed, **self._dialect)
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


def _lines(text: bytes, errors: str) -> list[str]:
    return io.StringIO(text.decode("utf-8", errors), newline="").readlines()


def text_schema(names: Iterable[str]) -> pa.Schema:
    """Return the schema of CSV files with these columns."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in names])


def _check_format(path: str | Path, delimiter: str, encoding: str) -> None:
    if not re.fullmatch("[\t -~]", delimiter) or delimiter == '"':
        expected = "a delimiter that is one ASCII character or a tab, and no quote"
        raise table_error(path, expected, repr(delimiter), "change it")
    try:
        "".encode(encoding)
    except LookupError as error:
        raise table_error(path, "a known encoding", repr(encoding), "change --encoding") from error


def _texts(stream: Any, encoding: str | None) -> Iterator[tuple[bytes, bool]]:
    """Yield text as UTF-8, from which ``encoding`` differs if given, and whether it is the last."""
    decoder = encoding and codecs.getincrementaldecoder(encoding)("surrogateescape")
    first, size = True, _FIRST_BYTES
    while True:
        text = data = stream.read(size)
        if decoder:
            text = decoder.decode(data, final=not data).encode("utf-8", "surrogatepass")
        yield text.removeprefix(_BOM) if first else text, not data
        if not data:
            return
        first = first and not text
        size = _BLOCK_BYTES
