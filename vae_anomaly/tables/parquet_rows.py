"""The rows of Parquet files, piece by piece: all that the file declares, in bounded memory."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from thrift.Thrift import TException

from vae_anomaly.tables.arrow_cells import cell_text, undecodable_cells
from vae_anomaly.tables.files import TableError, table_error
from vae_anomaly.tables.parquet_footer import values_of_columns
from vae_anomaly.tables.pieces import BadRow, Piece

if TYPE_CHECKING:
    import pyarrow as pa

# How much text a piece may hold.
_PIECE_BYTES = 2**26
# A row group with text that is larger than this once decompressed, and that many times the file, is
# refused: 20 kB can stand for gigabytes.
_LARGEST_BYTES, _MOST_COMPRESSED = 2**27, 100
# Lists of text that are larger than this, in as many rows as are read at once, are refused.
_LARGEST_LISTS = 2**29
_DAMAGED = "the file is damaged: get it again"
_NOT_UTF8 = "expected UTF-8, received other bytes; write the text as that"


class ParquetRows:
    """Read a Parquet file.

    The number of rows of each row group is compared with what the file declares, and checksums of
    pages, where there are any, with the pages.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    schema : pyarrow.Schema
        Of all columns.
    index_columns : list of str
        Columns that were the index of a DataFrame.

    Raises
    ------
    TableError
        If the file has no columns, is damaged, or would take too much memory.
    pyarrow.ArrowException, OSError
        If the file can't be read; from every method.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        # With a buffer, for otherwise pyarrow holds whole row groups.
        self._options = {
            "pre_buffer": False,
            "buffer_size": 2**16,
            "page_checksum_verification": True,
        }
        self._file = _open(path, self._options)
        try:
            self._metadata = self._file.metadata
            self.schema: pa.Schema = self._file.schema_arrow
            if not self.schema.names:
                raise table_error(path, "a table with columns", "none", "write them")
            self.index_columns = index_columns(path, self.schema)
            n_groups = self._metadata.num_row_groups
            self._sizes = [self._metadata.row_group(i).num_rows for i in range(n_groups)]
            if sum(self._sizes) != self._metadata.num_rows or min(self._sizes, default=0) < 0:
                expected = f"{self._metadata.num_rows} rows in its row groups"
                raise table_error(path, expected, f"{sum(self._sizes)}", _DAMAGED)
            columns = [self._file.schema.column(i) for i in range(self._metadata.num_columns)]
            self._n_in_lists = self._values_in_lists(columns)
            # Paths of columns of text or bytes, and whether they are in lists.
            self._texts = {
                column.path: column.max_repetition_level > 0
                for column in columns
                if column.physical_type == "BYTE_ARRAY"
            }
            # Reads text as dictionaries, whose size can be told before they are unfolded.
            self._folded = _open(path, {**self._options, "read_dictionary": list(self._texts)})
        except BaseException:
            self._file.close()
            raise

    def _values_in_lists(self, columns: list[Any]) -> list[int]:
        """Return how many values the lists of each row group have."""
        in_lists = [i for i, column in enumerate(columns) if column.max_repetition_level > 0]
        if not in_lists:
            return [0] * len(self._sizes)
        try:
            counts = values_of_columns(self._path)
            return [sum(of_group[index] for index in in_lists) for of_group in counts]
        except (LookupError, EOFError, TException) as error:
            expected, received = "a footer that tells of each column", f"'{error}'"
            raise table_error(self._path, expected, received, _DAMAGED) from error

    def close(self) -> None:
        self._file.close()
        self._folded.close()

    def share_read(self, end: Sequence[int]) -> float:
        """Return how much of the file is before the end of a piece, from 0 to 1."""
        return end[0] / max(1, self._metadata.num_rows)

    def pieces(self, rows: int, start: Sequence[int] = ()) -> Iterator[ParquetPiece]:
        """Yield at most ``rows`` rows at a time, from the start or the ``end`` of a piece."""
        import pyarrow as pa

        (first_row,) = start or (0,)
        rest = self.schema.empty_table()
        for table, most in self._tables(rows, first_row):
            rest = pa.concat_tables([rest, table])
            while rest.num_rows > most:
                yield piece_of(self._path, rest.slice(0, most), first_row)
                first_row += most
                rest = rest.slice(most)
        if rest.num_rows:
            yield piece_of(self._path, rest, first_row)

    def _tables(self, rows: int, first_row: int) -> Iterator[tuple[pa.Table, int]]:
        """Yield the rows from a row on, and how many may be held at once."""
        import pyarrow as pa

        before = 0
        for group, size in enumerate(self._sizes):
            before += size
            if before <= first_row:
                continue  # whole row groups before the start are not read at all
            drop = max(0, first_row - (before - size))
            self._check_size(group)
            most = min(rows, self._rows_at_once(group))
            lists = self._list_sizes(group, most)
            n_read = 0
            for batch in self._file.iter_batches(batch_size=most, row_groups=[group]):
                if next(lists, 0) > _LARGEST_LISTS:
                    raise self._too_large(group)
                dropped = min(drop, batch.num_rows)
                drop -= dropped
                n_read += batch.num_rows
                yield pa.Table.from_batches([batch.slice(dropped)], self.schema), most
            if n_read != size:
                raise table_error(
                    self._path, f"{size} rows in row group {group}", f"{n_read}", _DAMAGED
                )

    def _check_size(self, group: int) -> None:
        """Raise TableError if a row group may take much more memory than the file."""
        size = 8 * self._n_in_lists[group]
        size += self._metadata.row_group(group).total_byte_size if self._texts else 0
        if size > max(_LARGEST_BYTES, _MOST_COMPRESSED * os.path.getsize(self._path)):
            raise self._too_large(group)

    def _rows_at_once(self, group: int) -> int:
        """Return how many rows may be read at once, given the longest text in dictionaries."""
        flat = [path for path, in_list in self._texts.items() if not in_list]
        if not flat:
            return max(1, self._sizes[group])
        batches = self._folded.iter_batches(batch_size=1, row_groups=[group], columns=flat)
        first = next(batches, None)
        longest = sum(map(_longest, first.columns)) if first else 0
        return max(1, _PIECE_BYTES // max(1, longest))

    def _list_sizes(self, group: int, rows: int) -> Iterator[int]:
        """Yield the bytes of text in lists, of as many rows at a time."""
        nested = [path for path, in_list in self._texts.items() if in_list]
        if nested:
            for batch in self._folded.iter_batches(rows, row_groups=[group], columns=nested):
                yield sum(map(_unfolded_bytes, batch.columns))

    def _too_large(self, group: int) -> TableError:
        expected = (
            f"row groups of at most {_LARGEST_BYTES >> 20} MiB once decompressed, or "
            f"{_MOST_COMPRESSED} times the file"
        )
        received = f"more in row group {group}"
        return table_error(self._path, expected, received, "write smaller row groups")


@dataclass(frozen=True, eq=False)
class ParquetPiece(Piece):
    """Rows of a Parquet file."""

    numbers: np.ndarray  #: of the rows, from 0

    def line(self, index: int, column: str) -> int:
        return int(self.numbers[index])

    def text(self, index: int) -> str:
        return _row_text(self.table, index)


def piece_of(where: object, table: pa.Table, first_row: int) -> ParquetPiece:
    """Return rows as a piece, those apart that have text which is none.

    Parameters
    ----------
    where : path or str
        Where they are from, for messages.
    table : pyarrow.Table
    first_row : int
        The number of its first row.

    Raises
    ------
    TableError
        The values of a column are damaged.
    """
    import pyarrow as pa

    numbers = np.arange(first_row, first_row + table.num_rows)
    end = (first_row + table.num_rows,)
    wrong: dict[int, str] = {}
    for name in table.column_names:
        try:
            cells = undecodable_cells(table[name])
        except pa.ArrowInvalid as error:
            raise table_error(
                f"{where}, column {name!r}", "sound values", f"'{error}'", _DAMAGED
            ) from error
        wrong = {**dict.fromkeys(cells, name), **wrong}
    bad = [
        BadRow(first_row + index, wrong[index], _NOT_UTF8, _row_text(table, index))
        for index in sorted(wrong)
    ]
    good = np.delete(np.arange(table.num_rows), list(wrong))
    return ParquetPiece(table.take(good) if bad else table, bad, end, numbers[good])


def index_columns(where: object, schema: pa.Schema) -> list[str]:
    """Return the columns that were the index of a DataFrame, as pandas wrote them down."""
    try:
        names = (schema.pandas_metadata or {}).get("index_columns", [])
        return [name for name in names if isinstance(name, str)]
    except (ValueError, AttributeError, TypeError) as error:
        expected = "pandas' description of its columns in JSON"
        raise table_error(where, expected, f"'{error}'", _DAMAGED) from error


def _open(path: str | Path, options: dict[str, Any]) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(str(path), **options)


def _row_text(table: pa.Table, index: int) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([cell_text(c, index) for c in table.columns])
    return line.getvalue()


def _longest(array: pa.Array) -> int:
    """Return the length of the longest text that a row may have, by the dictionary of an array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(array.type):
        return sum(map(_longest, array.flatten()))
    if not pa.types.is_dictionary(array.type):
        return 0
    return pc.max(pc.binary_length(array.dictionary)).as_py() or 0


def _unfolded_bytes(array: pa.Array) -> int:
    """Return how many bytes of text an array has where its dictionaries are unfolded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    if pa.types.is_map(array.type):
        return _unfolded_bytes(array.keys) + _unfolded_bytes(array.items)
    if pa.types.is_nested(array.type):
        parts = array.flatten()
        return sum(map(_unfolded_bytes, parts if isinstance(parts, list) else [parts]))
    return 0
