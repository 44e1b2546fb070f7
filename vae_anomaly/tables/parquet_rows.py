"""The rows of Parquet files, piece by piece, in bounded memory."""

from __future__ import annotations

import bisect
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.tables.arrow_cells import text_of
from vae_anomaly.tables.pieces import Piece

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetRows:
    """Read a Parquet file.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    schema : pyarrow.Schema
        Of all columns.

    Raises
    ------
    pyarrow.ArrowException, OSError
        If the file can't be read; from every method.
    """

    def __init__(self, path: str | Path) -> None:
        import pyarrow.parquet as pq

        # Else pyarrow holds whole row groups.
        self._file = pq.ParquetFile(str(path), pre_buffer=False, buffer_size=2**16)
        self.schema: pa.Schema = self._file.schema_arrow

    def close(self) -> None:
        self._file.close()

    def share_read(self, end: Sequence[int]) -> float:
        """Return how much of the file is before the end of a piece, from 0 to 1."""
        return end[0] / max(1, self._file.metadata.num_rows)

    def pieces(self, rows: int, start: Sequence[int] = ()) -> Iterator[ParquetPiece]:
        """Yield at most ``rows`` rows at a time, from the start or the ``end`` of a piece."""
        import pyarrow as pa

        (first_row,) = start or (0,)
        sizes = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        # Whole row groups before the start are not read at all.
        skipped = bisect.bisect(np.cumsum(sizes).tolist(), first_row)
        drop = first_row - sum(sizes[:skipped])
        rest = self.schema.empty_table()
        for batch in self._file.iter_batches(
            batch_size=rows, row_groups=list(range(skipped, len(sizes)))
        ):
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
            dropped = min(drop, rest.num_rows)
            rest, drop = rest.slice(dropped), drop - dropped
            while rest.num_rows > rows:
                yield _piece(rest.slice(0, rows), first_row)
                first_row += rows
                rest = rest.slice(rows)
        if rest.num_rows:
            yield _piece(rest, first_row)


@dataclass(frozen=True, eq=False)
class ParquetPiece(Piece):
    """Rows of a Parquet file."""

    first_row: int  #: the number of the first one, from 0

    def line(self, index: int, column: str) -> int:
        return self.first_row + index

    def text(self, index: int) -> str:
        line = io.StringIO()
        cells = [text_of(column.slice(index, 1))[0].as_py() for column in self.table.columns]
        csv.writer(line, lineterminator="").writerow(cells)
        return line.getvalue()


def _piece(table: pa.Table, first_row: int) -> ParquetPiece:
    return ParquetPiece(table, (), (first_row + table.num_rows,), first_row)
