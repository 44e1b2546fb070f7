"""The rows of delimited text, block by block: good ones as Arrow tables, bad ones as they were."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES = 2**22
_LONGEST_LINE = 2**26
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
    bad: list[BadRow]
    start: tuple[int, int]  #: how many characters and lines are before it
    end: tuple[int, int]  #: and up to its end
    text: str
    texts: Sequence[str] | None = None  #: of each row; None if each line is one

    def row_text(self, index: int) -> str:
        """Return a row as it was, without its line end."""
        texts = self.texts or io.StringIO(self.text, newline="").readlines()
        return texts[index].rstrip("\r\n")


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
        self._encoding = encoding.upper()
        self._pieces = _pieces(stream, encoding)
        self._text, self._final = "", False
        self._chars = self._line = 0  # before self._text
        self.header: list[str] = []
        while not self.header and not self._final:
            self._read_more()
            lines = io.StringIO(self._text, newline="").readlines()
            reader = csv.reader(lines, **self._dialect)
            self.header = next(filter(None, reader), [])
            if self.header and (reader.line_num < len(lines) or self._final):
                self._drop("".join(lines[: reader.line_num]), reader.line_num)
            elif not self._final:
                self.header = []
        self._names = [str(index) for index in range(len(self.header))]

    def blocks(self, start: tuple[int, int] | None = None) -> Iterator[Block]:
        """Yield the rows after the header, or from the `start` of a block of an earlier reader."""
        if start is not None:
            while self._chars + len(self._text) < start[0] and not self._final:
                self._drop(self._text, 0)
                self._read_more()
            self._drop(self._text[: start[0] - self._chars], start[1] - self._line)
        while True:
            if text := self._whole_lines():
                block = self._block(text)
                self._drop(block.text, block.end[1] - block.start[1])
                if block.lines or block.bad:
                    yield block
            if self._final:
                return
            self._read_more()

    def _read_more(self) -> None:
        text, self._final = next(self._pieces)
        self._text += text
        if len(self._text) > _LONGEST_LINE:
            raise csv.Error(f"a line of more than {_LONGEST_LINE} characters")

    def _drop(self, text: str, n_lines: int) -> None:
        self._text = self._text[len(text) :]
        self._chars += len(text)
        self._line += n_lines

    def _whole_lines(self) -> str:
        if self._final:
            return self._text
        # A \r at the very end may be the first half of a line end.
        return self._text[: self._text.rfind("\n") + 1 or self._text.rfind("\r", 0, -1) + 1]

    def _block(self, text: str) -> Block:
        import pyarrow as pa

        start = (self._chars, self._line)
        table = self._plain_table(text)
        if table is not None:
            end = (self._chars + len(text), self._line + table.num_rows)
            return Block(table, range(start[1] + 1, end[1] + 1), [], start, end, text)
        lines = io.StringIO(text, newline="").readlines()
        feed = _Feed(lines)
        reader = csv.reader(feed, **self._dialect)
        undecoded = UNDECODED.search(text) is not None
        rows, numbers, texts, bad = [], [], [], []
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
            if undecoded and any(map(UNDECODED.search, raw)):
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
                numbers.append(start[1] + first + 1)
                texts.append("".join(raw))
        columns = zip(*rows, strict=True) if rows else [()] * len(self._names)
        table = pa.table([pa.array(column, "string") for column in columns], names=self._names)
        text = "".join(lines[: feed.position])
        end = (self._chars + len(text), self._line + feed.position)
        return Block(table, numbers, bad, start, end, text, texts)

    def _plain_table(self, text: str) -> pa.Table | None:
        """Read lines without quotes, each a good row, many times faster; None for others."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        if '"' in text or text.count("\r") != text.count("\r\n"):
            return None
        try:
            data = text.encode()
            table = arrow_csv.read_csv(
                pa.BufferReader(data),
                arrow_csv.ReadOptions(
                    column_names=self._names, use_threads=False, block_size=len(data) + 1
                ),
                arrow_csv.ParseOptions(delimiter=self._dialect["delimiter"], quote_char=False),
                arrow_csv.ConvertOptions(column_types=dict.fromkeys(self._names, pa.string())),
            )
        except (UnicodeEncodeError, pa.ArrowInvalid):
            return None
        # Blank lines are no rows.
        n_lines = text.count("\n") + (not text.endswith("\n"))
        return table if table.num_rows == n_lines else None


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


def _pieces(stream: Any, encoding: str) -> Iterator[tuple[str, bool]]:
    """Yield decoded text, and whether it is the last."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    first = True
    while True:
        data = stream.read(_BLOCK_BYTES)
        text = decoder.decode(data, final=not data)
        yield text.removeprefix("\ufeff") if first else text, not data
        if not data:
            return
        first = first and not text
