"""Bad rows of a table that is read in parts: counted, and put aside in a file as they come."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

from vae_anomaly.atomic import atomic_file
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.paths import Path
from vae_anomaly.tables.pieces import BadRow
from vae_anomaly.tables.writer import csv_lines

HEADER = ("file", "line", "column", "reason", "text")


class BadRows:
    """Rows that are not as expected.

    Parameters
    ----------
    quarantine : path or None
        CSV file that they are written to, if there are any.
    most : int or None
        More are an error. None: half of all rows.

    Attributes
    ----------
    quarantine : path or None
    n_rows : int
    first : str
        Where the first of them is, and what is wrong with it.

    Raises
    ------
    ValueError
        ``most`` is no whole number from 0 on.
    """

    def __init__(self, quarantine: Path | None = None, most: int | None = None) -> None:
        if most is not None and not (isinstance(most, numbers.Integral) and most >= 0):
            raise ValueError(
                f"Expected `max_bad_rows` to be a whole number >= 0, or None. Received: {most!r}."
            )
        self.n_rows, self.first = 0, ""
        self.quarantine, self._most = quarantine, most
        self._file: IO[bytes] | None = None
        self._stack = ExitStack()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read all rows within this context; the file appears when it ends, or not at all."""
        self.n_rows, self.first, self._file = 0, "", None
        with self._stack:
            yield

    def add(self, where: object, rows: Sequence[BadRow]) -> None:
        """Count rows, and write them to the file.

        Raises
        ------
        TableError
            There are too many.
        """
        if not rows:
            return
        if not self.n_rows:
            column = f", column {rows[0].column!r}" if rows[0].column else ""
            self.first = f"{where}, line {rows[0].line}{column}: {rows[0].reason}"
        self.n_rows += len(rows)
        self._check_most()
        if self.quarantine is None:
            return
        if self._file is None:
            self._file = self._stack.enter_context(atomic_file(self.quarantine))
            self._file.write(csv_lines([HEADER]))
        lines = [(str(where), row.line, row.column or "", row.reason, row.text) for row in rows]
        self._file.write(csv_lines(lines))

    def merge(self, other: BadRows) -> None:
        """Count the rows of another one, that come after; they are not there to be written.

        Raises
        ------
        TableError
            There are too many.
        """
        self.first = self.first or other.first
        self.n_rows += other.n_rows
        self._check_most()

    def check(self, n_good: int) -> None:
        """Check that at most half of all rows are bad, once all have been read.

        Raises
        ------
        TableError
            They are more, and no other limit was given.
        """
        if self._most is None and self.n_rows > n_good:
            self._refuse(n_good)

    def _check_most(self) -> None:
        if self._most is not None and self.n_rows > self._most:
            self._refuse(self._most)

    def _refuse(self, most: int) -> None:
        raise TableError(f"{self.first}; expected at most {most} bad rows, received {self.n_rows}")
