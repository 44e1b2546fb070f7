"""Pieces of a table file: rows as they were read, and the bad ones among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class BadRow:
    """A row which is not what was expected."""

    line: int  #: where it is, from 1; in Parquet the number of the row, from 0
    column: str | None  #: None if all of the row is in doubt
    reason: str  #: what was expected, what was received, and what to do
    text: str  #: as it was; bytes that can't be decoded as in ``surrogateescape``


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive rows of a file, before their cells are looked at; base of CSV's and Parquet's."""

    table: pa.Table  #: every column as read
    bad: Sequence[BadRow]  #: rows in between that are not in ``table``
    end: tuple[int, ...]  #: where in the file the next piece starts

    def line(self, index: int, column: str) -> int:
        """Return where the cell of a row is, as ``BadRow.line``."""
        raise NotImplementedError

    def text(self, index: int) -> str:
        """Return a row as ``BadRow.text``."""
        raise NotImplementedError


def text_schema(names: Iterable[str]) -> pa.Schema:
    """Return the schema of CSV files with these columns."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in names])
