"""The rows of delimited text, block by block: good ones as Arrow tables, bad ones as they were."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# Headers are read from the first piece; there may be many files.
_FIRST_BYTES = 2**16
_BLOCK_BYTES = 2**22
_LONGEST_LINE = 2**26
# Arrow reads text of this size at a time, which fits into the processor's cache.
_ARROW_BYTES = 2**20
_BOM = codecs.BOM_UTF8
# Bytes which can't be decoded become these, so that they can be written back.
UNDECODED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class BadRow:
    """A row which is not what was expected."""

    line: int  #: where it is, from 1; in Parquet the number of the row, from 0
    column: str | None  #: None if all of the row is in doubt
    reason: str  #: what was expected, what was received, and what to do
    text: str  #: as it was; bytes that can't be decoded as in `surrogateescape`


@dataclass(frozen=True)
class Block:
    """Rows which follow each other, but for those which are bad."""

    table: pa.Table  #: all text
    lines: Sequence[int]  #: the line on which each row starts, from 1
    ends: Sequence[int]  #: the line after each row
    bad: list[BadRow]
    start: tuple[int, int, int]  #: how many bytes and lines are before it, and pieces were read
    text: bytes
    errors: str  #: how what could not be decoded is decoded in `text`

    @cached_property
    def _text_lines(self) -> list[str]:
        return _lines(self.text, self.errors)

    def row_text(self, index: int) -> str:
        """Return a row as it was, without its line end."""
        first = self.start[1] + 1
        rows = self._text_lines[self.lines[index] - first : self.ends[index] - first]
        return "".join(rows).rstrip("\r\n")


class CsvRows:
    """Read delimited text.

    Parameters
    ----------
    stream : binary file
    delimiter : str
        One character.
    encoding : str
        Of Python's codecs. A byte order mark is dropped.

    Attributes
    ----------
    header : list of str
        Fields of the first row which is not blank; none if there is none.

    Raises
    ------
    csv.Error
        If the header is malformed.
    UnicodeError
        If the text can't be decoded, not even with undecodable bytes left as they are.
    """

    def __init__(self, stream: Any, *, delimiter: str = ",", encoding: str = "utf-8") -> None:
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
        self._pieces = _pieces(stream, None if is_utf8 else encoding)
        self._text, self._final = b"", False
        self._bytes = self._line = self._n_pieces = 0  # before self._text; read
        self.header: list[str] = []
        while not self.header and not self._final:
            self._read_more()
            lines = _lines(self._text, self._errors)
            reader = csv.reader(lines, **self._dialect)
            self.header = next(filter(None, reader), [])
            if self.header and (reader.line_num < len(lines) or self._final):
                self._drop(self._encoded(lines[: reader.line_num]), reader.line_num)
            elif not self._final:
                self.header = []
        self._names = [str(index) for index in range(len(self.header))]

    def blocks(self, start: Sequence[int] = ()) -> Iterator[Block]:
        """Yield the rows after the header, or from the `start` of a block of an earlier reader.

        What a block holds depends on the text alone, wherever reading started.
        """
        if start:
            n_bytes, n_lines, n_pieces = start
            while self._n_pieces < n_pieces:
                self._drop(self._text[: n_bytes - self._bytes], 0)
                self._read_more()
            self._drop(self._text[: n_bytes - self._bytes], n_lines - self._line)
        while True:
            if text := self._whole_lines():
                block, n_lines = self._block(text)
                self._drop(block.text, n_lines)
                if block.lines or block.bad:
                    yield block
            if self._final:
                return
            self._read_more()

    def _read_more(self) -> None:
        text, self._final = next(self._pieces)
        self._n_pieces += 1
        self._text += text
        if len(self._text) > _LONGEST_LINE:
            raise csv.Error(f"a line of more than {_LONGEST_LINE} bytes")

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
        import pyarrow as pa

        start = (self._bytes, self._line, self._n_pieces)
        table = self._plain_table(text)
        if table is not None:
            numbers = range(self._line + 1, self._line + table.num_rows + 2)
            block = Block(table, numbers[:-1], numbers[1:], [], start, text, self._errors)
            return block, table.num_rows
        lines = _lines(text, self._errors)
        feed = _Feed(lines)
        reader = csv.reader(feed, **self._dialect)
        rows, starts, ends, bad = [], [], [], []
        while feed.position < len(lines):
            first = feed.position
            try:
                row = next(reader)
            except csv.Error as error:
                if feed.position == len(lines) and "end of data" in str(error) and not self._final:
                    feed.position = first  # the row goes on in the next block
                    break
                # A quote that never closes must not take the rows after it along.
                feed.position = first + 1
                reason = f"expected CSV, received '{error}'; check its quotes"
                bad.append(BadRow(start[1] + first + 1, None, reason, lines[first].rstrip("\r\n")))
                continue
            raw = lines[first : feed.position]
            reason, broken = "", first
            if any(map(UNDECODED.search, raw)):
                broken = next(n for n, line in enumerate(raw, first) if UNDECODED.search(line))
                fix = "save it as that, or name its encoding"
                reason = f"expected {self._encoding}, received other bytes; {fix}"
            elif row and len(row) != len(self.header):
                fix = "correct the row (a field with a delimiter needs quotes)"
                reason = f"expected {len(self.header)} fields, received {len(row)}; {fix}"
            if reason:
                text_of_row = "".join(raw).rstrip("\r\n")
                bad.append(BadRow(start[1] + broken + 1, None, reason, text_of_row))
            elif row:
                rows.append(row)
                starts.append(start[1] + first + 1)
                ends.append(start[1] + feed.position + 1)
        columns = zip(*rows, strict=True) if rows else [()] * len(self._names)
        table = pa.table([pa.array(column, "string") for column in columns], names=self._names)
        text = self._encoded(lines[: feed.position])
        return Block(table, starts, ends, bad, start, text, self._errors), feed.position

    def _plain_table(self, text: bytes) -> pa.Table | None:
        """Read lines that are a good row each, many times faster; None for others."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv as arrow_csv

        has_quotes = b'"' in text
        if (has_quotes and b'"' in self._quoted.sub(b"", text)) or text.startswith(_BOM):
            return None
        if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
            return None
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
        # Blank lines are no rows.
        n_lines = text.count(b"\n") + (not text.endswith(b"\n"))
        longest = max((pc.max(pc.binary_length(column)).as_py() or 0) for column in table.columns)
        is_plain = table.num_rows == n_lines and longest <= csv.field_size_limit()
        return table if is_plain else None


class _Feed:
    """Lines for ``csv.reader``, with a position that can be set back."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.position = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.position == len(self._lines):
            raise StopIteration
        self.position += 1
        return self._lines[self.position - 1]


def _lines(text: bytes, errors: str) -> list[str]:
    return io.StringIO(text.decode("utf-8", errors), newline="").readlines()


def _pieces(stream: Any, encoding: str | None) -> Iterator[tuple[bytes, bool]]:
    """Yield text as UTF-8, from which `encoding` differs if given, and whether it is the last."""
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
