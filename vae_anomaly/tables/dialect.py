"""How a text file spells a table: delimiter, quotes, encoding, and what stands above the rows."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from vae_anomaly.tables.encodings import decoded, find_encoding

_FEW = 20  # rows
DELIMITERS = (",", ";", "\t", "|")
SPACES = " "  #: as delimiter: any run of spaces or tabs, not where a line begins or ends
_COMMENTS = ("#", "%")
# Cells that are a value rather than a name: numbers, amounts, dates, times, and marks of no value.
_VALUE = re.compile(
    r"[-+(~<>]*\s*(?:[$€£¥]|[A-Z]{3} )?\s*[-+]?[.,]?\d[\d\s.,:/'T+-]*(?:[eE][-+]?\d+)?"
    r"\s*(?:[%€$£¥]|[A-Za-z°µ]{1,3})?\+?\)?-?|true|false|nan|null|\?",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(r"(?i)(?:nan?|n/a|null|none|\?|-+|\.)?")
_UNIT = re.compile(
    r"[\[(].+[\])]|.*[/%°µ²³^].*|[mckMG]?(?:m|g|s|V|A|W|Hz|Pa|N|J|L|l|mol|Wh|bar|eV)|h|min|d|K|C|F"
    r"|in|ft|mi|lb|mph|rpm|deg|rad|ppm|pct|percent|dB|[A-Z]{3}"
)
_PER = re.compile(r"1 ?/ ?[^\W\d]+\d?")  # 1/min, which may be taken for a number with its unit
_SINGLE_QUOTED = re.compile(r"(?:^|[,;\t|])\s*'[^'\n]*'\s*(?:[,;\t|]|$)")


@dataclass(frozen=True)
class Dialect:
    r"""How a text file spells a table.

    Attributes
    ----------
    delimiter : str
        One character; a space stands for any run of spaces and tabs.
    quotechar : str
        What is around cells that hold delimiters or line ends.
    encoding : str
        Of Python's codecs.
    header : {"row", "comment", "none"}
        Whether the names are the first row, or in the last comment above the first row, or none:
        the columns are ``column_1``, ``column_2``, ... then.
    skip_lines : int
        Lines at the top that are no part of the table.
    comment : str
        Lines that start with it are no rows; empty if there are none such.
    units_row : bool
        Whether the row below the names holds units.
    trailing_delimiter : bool
        Whether each row ends with a delimiter, after which there is no cell.

    Examples
    --------
    >>> find_dialect(b"speed;slope\n1,5;0,1\n2,5;0,3\n").delimiter
    ';'
    """

    delimiter: str = ","
    quotechar: str = '"'
    encoding: str = "utf-8"
    header: str = "row"
    skip_lines: int = 0
    comment: str = ""
    units_row: bool = False
    trailing_delimiter: bool = False

    def differences(self, other: Dialect) -> dict[str, tuple[Any, Any]]:
        """Return what differs, by name: here, and in the other dialect."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def find_dialect(
    head: bytes,
    *,
    path: object = "the file",
    whole: bool = True,
    overrides: Mapping[str, Any] | None = None,
) -> Dialect:
    """Find the dialect of a file from its first bytes.

    The delimiter is the one that cuts nearly all lines into the same number of cells, names
    included, and leaves the most cells that are numbers or dates (the idea of van den Burg, Nazábal
    and Sutton, Wrangling messy CSV files by detecting row and type patterns, 2019).

    Parameters
    ----------
    head : bytes
        The first 64 KiB are enough.
    path : object
        Names the file in errors.
    whole : bool
        Whether ``head`` is the whole file; else its last line is cut off.
    overrides : mapping, or None
        Attributes of the dialect that the caller knows.

    Returns
    -------
    Dialect

    Raises
    ------
    TableError
        If the bytes are not text in the encoding; the likeliest one is named.
    """
    known = {name: value for name, value in (overrides or {}).items() if value is not None}
    encoding = known.get("encoding") or find_encoding(head, path)
    text = decoded(head, encoding, path)
    if not whole:
        text = text[: text.rfind("\n") + 1] or text
    dialect = replace(Dialect(encoding=encoding), **known)
    lines = io.StringIO(text, newline="").readlines()[dialect.skip_lines :]
    if "comment" not in known:
        dialect = replace(dialect, comment=_comment(lines))
    bare = [line for line in lines if not _is_comment(line, dialect.comment)]
    if "quotechar" not in known:
        dialect = replace(dialect, quotechar=_quotechar(bare))
    if "delimiter" not in known:
        dialect = replace(dialect, delimiter=_delimiter(bare, dialect.quotechar))
    return _with_layout(dialect, lines, known, cut=not whole)


def column_names(header: Sequence[str]) -> list[str]:
    """Return the names of columns; those without one are called as pandas calls them."""
    return [name if name.strip() else f"Unnamed: {i}" for i, name in enumerate(header)]


def comment_names(lines: Sequence[str], dialect: Dialect) -> list[str]:
    """Return the names that the last comment above the rows holds."""
    return _cells(_last_comment(lines, dialect.comment), dialect)


def is_value(cell: str) -> bool:
    """Whether a cell looks like a number, an amount, a date or a time, and so like no name."""
    return bool(_VALUE.fullmatch(cell.strip()))


def may_be_units(cells: Sequence[str], known: Sequence[str]) -> bool:
    """Whether a row may hold the units of columns of numbers, no values; of some they are known.

    Examples
    --------
    >>> may_be_units(["km", "1/min"], ["m", "1/min"]), may_be_units(["5", "1/min"], ["m", "1/min"])
    (True, False)
    """
    pairs = [(cell.strip(), unit) for cell, unit in zip(cells, known, strict=True)]
    are_none = [not cell or cell == unit or not is_value(cell) for cell, unit in pairs]
    return all(are_none) and not all(_NO_VALUE.fullmatch(cell) for cell, _ in pairs)


def is_row_above(line: str, dialect: Dialect, width: int) -> bool:
    """Whether a line above a table without names is like its rows: as many cells, some values."""
    cells = [] if _is_comment(line, dialect.comment) else _cells(line, dialect)
    cells = cells[:-1] if dialect.trailing_delimiter else cells
    return len(cells) == width and any(map(is_value, cells))


def _is_comment(line: str, comment: str) -> bool:
    return bool(comment) and line.lstrip().startswith(comment)


def _comment(lines: Sequence[str]) -> str:
    first = next((line.strip() for line in lines if line.strip()), "")
    return next((mark for mark in _COMMENTS if first.startswith(mark)), "")


def _last_comment(lines: Sequence[str], comment: str) -> str:
    """Return the last of the comments above the first row, without its mark."""
    last = ""
    for line in lines:
        if _is_comment(line, comment):
            last = line
        elif line.strip():
            break
    return last.strip().lstrip(comment).strip()


def _quotechar(lines: Sequence[str]) -> str:
    some = lines[:200]
    single = sum(bool(_SINGLE_QUOTED.search(line.rstrip("\r\n"))) for line in some)
    return "'" if single > len(some) / 2 and not any('"' in line for line in some) else '"'


def _cells(line: str, dialect: Dialect) -> list[str]:
    return next((row for _, row in _rows([line], replace(dialect, comment=""))), [])


def _rows(lines: Sequence[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are neither blank nor comments, and the index of their first line."""
    kept = [index for index, line in enumerate(lines) if not _is_comment(line, dialect.comment)]
    if dialect.delimiter == SPACES:
        for index in kept:
            if cells := lines[index].split():
                yield index, cells
        return
    reader = csv.reader(
        [lines[index] for index in kept],
        delimiter=dialect.delimiter,
        quotechar=dialect.quotechar,
    )
    while True:
        first = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:  # such as a cell of more than csv.field_size_limit
            continue
        if any(map(str.strip, row)) or len(row) > 1:
            yield kept[first], row


def _delimiter(lines: Sequence[str], quotechar: str) -> str:
    some = lines[:1000]
    scores = {d: _split_score(some, Dialect(delimiter=d, quotechar=quotechar)) for d in DELIMITERS}
    best = max(scores, key=lambda d: scores[d])  # the first of equal ones
    if scores[best]:
        return best
    if (found := _delimiter_of_few(some, quotechar)) is not None:
        return found
    if _split_score(some, Dialect(delimiter=SPACES)) > 0.6:  # not columns of two words
        return SPACES
    # One column. It may hold decimal commas, so its delimiter is another.
    return ";" if any("," in line for line in some) else ","


def _delimiter_of_few(lines: Sequence[str], quotechar: str) -> str | None:
    """Return the delimiter that gives the first row as many cells as most of a few rows."""
    for delimiter in DELIMITERS:
        rows = [row for _, row in _rows(lines, Dialect(delimiter=delimiter, quotechar=quotechar))]
        if rows and 1 < len(rows[0]) == _width(rows):
            return delimiter
    return None


def _split_score(lines: Sequence[str], dialect: Dialect) -> float:
    """Return from 0 to 1 how much a delimiter makes a table of lines."""
    rows = [row for _, row in _rows(lines, dialect)]
    body = rows[len(rows) // 2 :]
    if not body:
        return 0.0
    width, count = Counter(map(len, body)).most_common(1)[0]
    is_decimal_comma = dialect.delimiter == "," and width == 2 and len(rows[0]) == 1
    if width < 2 or count < 0.7 * len(body):
        return 0.0
    if is_decimal_comma and all(row[0].strip("-+").isdigit() for row in body):
        return 0.0
    cells = [cell.strip() for row in body if len(row) == width for cell in row if cell.strip()]
    typed = sum(map(is_value, cells)) / max(1, len(cells))
    # Names hold fewer marks by chance than text does; lines above them may be of any width.
    names_fit = 1.0 if _may_be_names(rows[0], width) else 0.6
    return (count / len(body)) ** 2 * (0.3 + 0.7 * typed) * names_fit


def _may_be_names(row: Sequence[str], width: int, *, ended: bool = False) -> bool:
    """Whether a row has as many cells as others, or one less; ``ended``: their last is empty."""
    return len(row) == width or len(row) == width - 1 > (not ended)


def _with_layout(
    dialect: Dialect, lines: Sequence[str], known: Mapping[str, Any], *, cut: bool
) -> Dialect:
    """Find what stands above the rows, and whether rows end with a delimiter."""
    rows, width = _sample(lines, dialect, cut)
    if dialect.comment and "comment" not in known:
        marked = [line for line in lines if _is_comment(line, dialect.comment)]
        if len(marked) == 1 and width > 1 and len(_cells(marked[0], dialect)) == width:
            dialect = replace(dialect, comment="")  # it is the name of the first column
            rows, width = _sample(lines, dialect, cut)
    if not rows:
        return dialect
    if "skip_lines" not in known:
        skipped = _n_above(rows, width)
        # Comments are skipped as such, for other files may have more or fewer of them.
        above = lines[: rows[skipped][0]] if skipped else []
        n_lines = len(above) if any(not _is_comment(line, dialect.comment) for line in above) else 0
        dialect, rows = replace(dialect, skip_lines=n_lines), rows[skipped:]
    body = [row for _, row in rows if len(row) == width]
    if "trailing_delimiter" not in known:
        ends = (
            width > 1 and dialect.delimiter != SPACES and all(not row[-1].strip() for row in body)
        )
        dialect = replace(dialect, trailing_delimiter=ends)
    if dialect.trailing_delimiter:
        body = [row[:-1] for row in body]
        width -= 1
    first = rows[0][1][:width]
    if "header" not in known:
        header = _comment_header(lines, dialect, width) if dialect.comment else ""
        if not header:
            others = [row for _, row in rows[1:] if len(row) >= width]
            header = "row" if _are_names(first, others) else "none"
        dialect = replace(dialect, header=header)
    if dialect.header != "none" and "units_row" not in known:
        below = body[1:] if dialect.header == "row" and len(rows[0][1]) >= width else body
        dialect = replace(dialect, units_row=bool(below) and _are_units(below[0], below[1:]))
    return dialect


def _sample(
    lines: Sequence[str], dialect: Dialect, cut: bool
) -> tuple[list[tuple[int, list[str]]], int]:
    """Return the rows that are whole, and how many cells most have."""
    rows = list(_rows(lines, dialect))
    if cut and len(rows) > 1:
        rows.pop()
    return rows, _width([row for _, row in rows])


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many cells most rows have; of a few rows, which may be bad, the most cells."""
    if len(rows) > _FEW:
        rows = rows[len(rows) // 2 :]
        return Counter(map(len, rows)).most_common(1)[0][0]
    counts = Counter(map(len, rows))
    return max(counts, key=lambda width: width * counts[width], default=0)


def _n_above(rows: Sequence[tuple[int, list[str]]], width: int) -> int:
    """Return how many rows at the top are a title or the like."""
    ended = all(not row[-1].strip() for _, row in rows if len(row) == width)
    n_above = 0
    while n_above < len(rows) - 1:
        row, below = rows[n_above][1], rows[n_above + 1][1]
        n_cells = sum(bool(cell.strip()) for cell in row)
        is_padded_title = width > 2 and n_cells < 2 < sum(map(bool, below))
        are_names = _may_be_names(row, width, ended=ended) and n_cells > (width > 2)
        if are_names and not is_padded_title:
            break
        n_above += 1
    return n_above


def _comment_header(lines: Sequence[str], dialect: Dialect, width: int) -> str:
    """Return "comment" if the last comment above the rows holds the names, else nothing."""
    cells = _cells(_last_comment(lines, dialect.comment), dialect)
    are_names = len(cells) == width > 1 and not any(map(is_value, cells))
    return "comment" if are_names else ""


def _are_names(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a row holds names: no numbers above numbers, unless they count the columns."""
    cells = [cell.strip() for cell in first if cell.strip()]
    counting = [cell for cell in cells if cell.isdecimal()]
    if _count_columns(counting) and not (rows and _count_columns(list(map(str.strip, rows[0])))):
        cells = [cell for cell in cells if cell not in counting]
        return not any(map(is_value, cells))
    if not rows or not any(map(is_value, cells)):
        return not all(map(is_value, cells))
    columns = range(min(len(first), *map(len, rows)))
    numeric = [i for i in columns if _is_numeric([row[i] for row in rows])]
    return sum(is_value(first[i]) for i in numeric) * 2 <= len(numeric)


def _count_columns(cells: Sequence[str]) -> bool:
    """Whether numbers are names: years in order, 0, 1, ... or 1, 2, 3, ..."""
    if len(cells) < 2 or not all(map(str.isdecimal, cells)):
        return False
    numbers = list(map(int, cells))
    if numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1))):
        return len(numbers) > numbers[0] + 1
    return numbers == sorted(set(numbers)) and all(1900 <= number < 2100 for number in numbers)


def _is_numeric(cells: Sequence[str]) -> bool:
    present = [cell for cell in cells if not _NO_VALUE.fullmatch(cell.strip())]
    return bool(present) and sum(map(is_value, present)) >= 0.9 * len(present)


def _are_units(row: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a row holds no number above columns of numbers, but units."""
    width = len(row)
    rows = [other for other in rows if len(other) == width]
    if len(rows) < 2 or any(is_value(cell) and not _PER.fullmatch(cell.strip()) for cell in row):
        return False
    numeric = [i for i in range(width) if _is_numeric([other[i] for other in rows])]
    above = [row[i].strip() for i in numeric if not _NO_VALUE.fullmatch(row[i].strip())]
    return any(map(_UNIT.fullmatch, above)) and all(len(unit) <= 16 for unit in above)
