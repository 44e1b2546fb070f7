"""How a text file spells a table, and its lines as cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

SPACES = " "  #: as delimiter: any run of spaces or tabs, not where a line begins or ends
# Cells that are a value rather than a name: numbers, amounts, dates, times, and marks of no value.
_VALUE = re.compile(
    r"[-+(~<>]*\s*(?:[$€£¥]|[A-Z]{3} )?\s*[-+]?[.,]?\d[\d\s.,:/'T+-]*(?:[eE][-+]?\d+)?"
    r"\s*(?:[%€$£¥]|[A-Za-z°µ]{1,3})?\+?\)?-?|true|false|nan|null|\?",
    re.IGNORECASE,
)
NO_VALUE = re.compile(r"(?i)(?:nan?|n/a|null|none|\?|-+|\.)?")


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
    spaced : bool
        Whether spaces after a delimiter are no part of the cell: ``1, "a, b"``.
    row_names : bool
        Whether each row begins with a name of its own, above which there is no name of a column.

    Examples
    --------
    >>> Dialect(delimiter=";").differences(Dialect())
    {'delimiter': (';', ',')}
    """

    delimiter: str = ","
    quotechar: str = '"'
    encoding: str = "utf-8"
    header: str = "row"
    skip_lines: int = 0
    comment: str = ""
    units_row: bool = False
    trailing_delimiter: bool = False
    spaced: bool = False
    row_names: bool = False

    def differences(self, other: Dialect) -> dict[str, tuple[Any, Any]]:
        """Return what differs, by name: here, and in the other dialect."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @property
    def csv_options(self) -> dict[str, Any]:
        """Return the options that ``csv.reader`` takes, where the delimiter is no run of spaces."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quotechar,
            "skipinitialspace": self.spaced,
        }

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def column_names(header: Sequence[str]) -> list[str]:
    """Return the names of columns; those without one are called as pandas calls them."""
    return [name if name.strip() else f"Unnamed: {i}" for i, name in enumerate(header)]


def comment_names(lines: Sequence[str], dialect: Dialect) -> list[str]:
    """Return the names that the last comment above the rows holds."""
    return cells_of(last_comment(lines, dialect.comment), dialect)


def split_at_spaces(line: str, quotechar: str) -> list[str]:
    r"""Return the cells of a line between which are spaces or tabs; spaces in quotes are text.

    Examples
    --------
    >>> split_at_spaces('  "New York"  5.2\t7\n', '"'), split_at_spaces("5' 7", '"')
    (['New York', '5.2', '7'], ["5'", '7'])
    """
    if quotechar not in line:
        return line.split()
    text = re.sub(r"\s", " ", line.strip())
    try:
        return next(csv.reader([text], delimiter=" ", quotechar=quotechar, skipinitialspace=True))
    except csv.Error:  # a cell of more than csv.field_size_limit
        return line.split()


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
    return all(are_none) and not all(NO_VALUE.fullmatch(cell) for cell, _ in pairs)


def is_row_above(line: str, dialect: Dialect, width: int) -> bool:
    """Whether a line above a table without names is like its rows: as many cells, some values."""
    cells = [] if is_comment(line, dialect.comment) else cells_of(line, dialect)
    cells = cells[:-1] if dialect.trailing_delimiter else cells
    return len(cells) == width and any(map(is_value, cells))


def is_comment(line: str, comment: str) -> bool:
    """Whether a line is one, by the mark that comments start with; empty: none is."""
    return bool(comment) and line.lstrip().startswith(comment)


def last_comment(lines: Sequence[str], comment: str) -> str:
    """Return the last of the comments above the first row, without its mark."""
    last = ""
    for line in lines:
        if is_comment(line, comment):
            last = line
        elif line.strip():
            break
    return last.strip().lstrip(comment).strip()


def cells_of(line: str, dialect: Dialect) -> list[str]:
    """Return the cells of a line, which may be a comment."""
    return next((row for _, row in rows_of([line], replace(dialect, comment=""))), [])


def rows_of(lines: Sequence[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are neither blank nor comments, and the index of their first line."""
    kept = [index for index, line in enumerate(lines) if not is_comment(line, dialect.comment)]
    if dialect.delimiter == SPACES:
        for index in kept:
            if cells := split_at_spaces(lines[index], dialect.quotechar):
                yield index, cells
        return
    reader = csv.reader(
        [lines[index] for index in kept],
        **dialect.csv_options,
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
