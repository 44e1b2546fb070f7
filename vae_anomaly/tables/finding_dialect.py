"""The dialect of a text file, found from its first bytes."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vae_anomaly.tables.dialect import SPACES, Dialect, is_comment, is_value, rows_of
from vae_anomaly.tables.encodings import decoded, find_encoding
from vae_anomaly.tables.layout import may_be_names, width_of, with_layout

DELIMITERS = (",", ";", "\t", "|")
_COMMENTS = ("#", "%")
_SINGLE_QUOTED = re.compile(r"(?:^|[,;\t|])\s*'[^'\n]*'\s*(?:[,;\t|]|$)")


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
    bare = [line for line in lines if not is_comment(line, dialect.comment)]
    if "quotechar" not in known:
        dialect = replace(dialect, quotechar=_quotechar(bare))
    if "spaced" not in known:
        dialect = replace(dialect, spaced=_are_spaced(bare, dialect.quotechar))
    if "delimiter" not in known:
        dialect = replace(dialect, delimiter=_delimiter(bare, dialect))
    if dialect.delimiter == SPACES:
        dialect = replace(dialect, spaced=False)
    return with_layout(dialect, lines, known, cut=not whole)


def _delimiter(lines: Sequence[str], dialect: Dialect) -> str:
    some = lines[:1000]
    dialects = {d: replace(dialect, delimiter=d, comment="") for d in DELIMITERS}
    scores = {d: _split_score(some, dialects[d]) for d in DELIMITERS}
    best = max(scores, key=lambda d: scores[d])  # the first of equal ones
    if scores[best]:
        return best
    if (found := _delimiter_of_few(some, dialects)) is not None:
        return found
    at_spaces = replace(dialect, delimiter=SPACES, comment="")
    # Columns of two words are not two, unless quotes say so.
    are_quoted = all(line.startswith(dialect.quotechar) for line in some)
    if _split_score(some, at_spaces) > (0.1 if are_quoted else 0.6):
        return SPACES
    # One column. It may hold decimal commas, so its delimiter is another.
    return ";" if any("," in line for line in some) else ","


def _delimiter_of_few(lines: Sequence[str], dialects: Mapping[str, Dialect]) -> str | None:
    """Return the delimiter that gives the first row as many cells as most of a few rows."""
    for delimiter, dialect in dialects.items():
        rows = [row for _, row in rows_of(lines, dialect)]
        if rows and 1 < len(rows[0]) == width_of(rows):
            return delimiter
    return None


def _split_score(lines: Sequence[str], dialect: Dialect) -> float:
    """Return from 0 to 1 how much a delimiter makes a table of lines."""
    rows = [row for _, row in rows_of(lines, dialect)]
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
    names_fit = 1.0 if may_be_names(rows[0], width) else 0.6
    return (count / len(body)) ** 2 * (0.3 + 0.7 * typed) * names_fit


def _comment(lines: Sequence[str]) -> str:
    first = next((line.strip() for line in lines if line.strip()), "")
    return next((mark for mark in _COMMENTS if first.startswith(mark)), "")


def _quotechar(lines: Sequence[str]) -> str:
    some = lines[:200]
    single = sum(bool(_SINGLE_QUOTED.search(line.rstrip("\r\n"))) for line in some)
    return "'" if single > len(some) / 2 and not any('"' in line for line in some) else '"'


def _are_spaced(lines: Sequence[str], quotechar: str) -> bool:
    """Whether spaces stand between delimiters and quotes, in most lines that have both."""
    # Two quotes are one in a cell: "Smith, ""Bob""".
    quote = re.escape(quotechar)
    spaced, direct = (re.compile(f"[,;|]{gap}{quote}(?!{quote})") for gap in (" +", ""))
    some = lines[:200]
    return sum(map(bool, map(spaced.search, some))) > sum(map(bool, map(direct.search, some)))
