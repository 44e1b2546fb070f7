"""What stands above the rows of a text file: names, units, titles, comments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vae_anomaly.tables.dialect import (
    NO_VALUE,
    SPACES,
    Dialect,
    cells_of,
    is_comment,
    is_value,
    last_comment,
    rows_of,
)

_FEW = 20  # rows
_MOST_FACTS = 10  # rows with one cell less above rows without names: more are rows of the table
# Lines above the rows of ARFF.
_ARFF = re.compile(r"(?i)@(?:(?:relation|attribute|inputs?|outputs?)\s+\S|data\s*$)")
_UNIT = re.compile(
    r"[\[(].+[\])]|.*[/%°µ²³^].*|[mckMG]?(?:m|g|s|V|A|W|Hz|Pa|N|J|L|l|mol|Wh|bar|eV)|h|min|d|K|C|F"
    r"|in|ft|mi|lb|mph|rpm|deg|rad|ppm|pct|percent|dB|[A-Z]{3}"
)
_PER = re.compile(r"1 ?/ ?[^\W\d]+\d?")  # 1/min, which may be taken for a number with its unit


def may_be_names(row: Sequence[str], width: int, *, ended: bool = False) -> bool:
    """Whether a row has as many cells as others, or one less; ``ended``: their last is empty."""
    return len(row) == width or len(row) == width - 1 > (not ended)


def with_layout(
    dialect: Dialect, lines: Sequence[str], known: Mapping[str, Any], *, cut: bool
) -> Dialect:
    """Find what stands above the rows, and whether rows end with a delimiter."""
    rows, width = _sample(lines, dialect, cut)
    if dialect.comment and "comment" not in known:
        marked = [line for line in lines if is_comment(line, dialect.comment)]
        if len(marked) == 1 and width > 1 and len(cells_of(marked[0], dialect)) == width:
            dialect = replace(dialect, comment="")  # it is the name of the first column
            rows, width = _sample(lines, dialect, cut)
    if not rows:
        return dialect
    is_arff = False
    if "skip_lines" not in known:
        skipped = _n_above(rows, width)
        is_arff = any(_ARFF.match(row[0]) for _, row in rows[:skipped])
        # Comments are skipped as such, for other files may have more or fewer of them.
        above = lines[: rows[skipped][0]] if skipped else []
        n_lines = len(above) if any(not is_comment(line, dialect.comment) for line in above) else 0
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
            header = "row" if _are_names(first, others) and not is_arff else "none"
        dialect = replace(dialect, header=header)
    if "row_names" not in known and dialect.header == "row" and not dialect.trailing_delimiter:
        row_names = [row[0] for row in body]
        is_short = [len(row) for _, row in rows[:2]] == [width - 1, width]
        are_distinct = len(set(row_names)) == len(row_names)
        dialect = replace(dialect, row_names=is_short and are_distinct)
    if dialect.header != "none" and "units_row" not in known:
        below = body[1:] if dialect.header == "row" and len(rows[0][1]) >= width else body
        dialect = replace(dialect, units_row=bool(below) and _are_units(below[0], below[1:]))
    return dialect


def _sample(
    lines: Sequence[str], dialect: Dialect, cut: bool
) -> tuple[list[tuple[int, list[str]]], int]:
    """Return the rows that are whole, and how many cells most have."""
    rows = list(rows_of(lines, dialect))
    if cut and len(rows) > 1:
        rows.pop()
    return rows, width_of([row for _, row in rows])


def width_of(rows: Sequence[Sequence[str]]) -> int:
    """Return how many cells most rows have; of a few rows, which may be bad, the most cells."""
    if len(rows) > _FEW:
        rows = rows[len(rows) // 2 :]
        return Counter(map(len, rows)).most_common(1)[0][0]
    counts = Counter(map(len, rows))
    return max(counts, key=lambda width: width * counts[width], default=0)


def _n_above(rows: Sequence[tuple[int, list[str]]], width: int) -> int:
    """Return how many rows at the top are a title or the like."""
    ended = all(not row[-1].strip() for _, row in rows if len(row) == width)
    n_above, shorter = 0, []
    while n_above < len(rows) - 1:
        row, below = rows[n_above][1], rows[n_above + 1][1]
        n_cells = sum(bool(cell.strip()) for cell in row)
        is_padded_title = width > 2 and n_cells < 2 < sum(map(bool, below))
        are_names = may_be_names(row, width, ended=ended) and n_cells > (width > 2)
        if are_names and len(row) < width and not ended:  # of columns behind names of rows
            are_names = len(below) == width and any(map(is_value, below))
            shorter += [n_above] * (not are_names)
        if len(row) > width:  # names that are empty, above no cells
            are_names = len(_without_ends(row)) == width
        if are_names and not is_padded_title and not _ARFF.match(row[0]):
            break
        n_above += 1
    first = rows[n_above][1]
    are_rows = len(first) < width or len(shorter) > _MOST_FACTS  # to which a column was added
    return shorter[0] if shorter and are_rows and any(map(is_value, first)) else n_above


def _without_ends(row: Sequence[str]) -> list[str]:
    """Return a row without the empty cells at its end."""
    n_cells = max((index for index, cell in enumerate(row, 1) if cell.strip()), default=0)
    return list(row[:n_cells])


def _comment_header(lines: Sequence[str], dialect: Dialect, width: int) -> str:
    """Return "comment" if the last comment above the rows holds the names, else nothing."""
    cells = cells_of(last_comment(lines, dialect.comment), dialect)
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
    present = [cell for cell in cells if not NO_VALUE.fullmatch(cell.strip())]
    return bool(present) and sum(map(is_value, present)) >= 0.9 * len(present)


def _are_units(row: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a row holds no number above columns of numbers, but units."""
    width = len(row)
    rows = [other for other in rows if len(other) == width]
    if len(rows) < 2 or any(is_value(cell) and not _PER.fullmatch(cell.strip()) for cell in row):
        return False
    numeric = [i for i in range(width) if _is_numeric([other[i] for other in rows])]
    above = [row[i].strip() for i in numeric if not NO_VALUE.fullmatch(row[i].strip())]
    return any(map(_UNIT.fullmatch, above)) and all(len(unit) <= 16 for unit in above)
