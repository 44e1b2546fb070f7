"""CSV and Parquet tables, read and written in chunks of rows so that memory stays bounded."""

from __future__ import annotations

import csv
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.cells import converts, kind_of, text_of
from vae_anomaly.columns import KINDS
from vae_anomaly.table_files import (
    STANDARD,
    TableError,
    compressed,
    open_raw,
    reported,
    table_error,
)
from vae_anomaly.table_files import file_format as format_of
from vae_anomaly.table_reader import CHUNK_ROWS, Chunk, TableReader, check_columns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "Chunk",
    "TableError",
    "TableReader",
    "TableWriter",
    "check_columns",
    "infer_kinds",
    "iter_chunks",
    "read_frame",
    "read_header",
]


def read_header(path: str | Path, **options: Any) -> list[str]:
    """Return the column names of a CSV or Parquet file; options as of `TableReader`.

    Raises
    ------
    TableError
        If the file can't be read, or a column name is empty or there twice.
    """
    with TableReader(path, **options) as reader:
        return reader.names


def infer_kinds(
    path: str | Path, overrides: Mapping[str, str] | None = None, **options: Any
) -> dict[str, str]:
    """Decide the kind of every column from the whole file; `overrides` win unseen.

    A CSV column is of the first of KINDS which all its fields can be read as, except that true and
    false are no numbers here. The kind of a Parquet column follows from its type, as that of the
    DataFrame which pandas reads from the file.

    Raises
    ------
    TableError
        If the file can't be read, a type has no kind, or an override no known column or kind.
    """
    with TableReader(path, **options) as reader:
        names = reader.names
        check_columns(path, names, overrides or {}, ignore=names)
        types = {name: reader.schema.field(name).type for name in names}
        left = {n: [kind_of(types[n])] if reader.is_parquet else list(KINDS) for n in names}
        left.update({name: [kind] for name, kind in (overrides or {}).items()})
        for name, (kind, *_) in left.items():
            if kind not in KINDS:
                where, expected = f"{path}, column {name!r}", f"one of {', '.join(KINDS)}"
                raise table_error(where, expected, kind, "convert it or choose a kind")
        for chunk in () if reader.is_parquet else reader.chunks({}):
            for name, kinds in left.items():
                if len(kinds) > 1:
                    # All that are left, not only the first, for each must hold everywhere.
                    column = chunk.raw[name]
                    left[name] = [k for k in kinds if converts(column, k, words=k != "numeric")]
    return {name: kinds[0] for name, kinds in left.items()}


def read_frame(path: str | Path, kinds: Mapping[str, str], **options: Any) -> pd.DataFrame:
    """Read the columns in `kinds` of a whole file, converted as by `iter_chunks`.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    import pandas as pd

    chunks = iter_chunks(path, kinds, **options)
    return pd.concat([chunk.frame for chunk in chunks], ignore_index=True)


def iter_chunks(
    path: str | Path, kinds: Mapping[str, str], *, chunk_rows: int = CHUNK_ROWS, **options: Any
) -> Iterator[Chunk]:
    """Read a file at most `chunk_rows` rows at a time, and convert the columns in `kinds`.

    Numeric and boolean columns become float64 with NaN for missing, datetime columns
    datetime64[us] in UTC with NaT, and categorical columns text with None. True and 1, false and 0
    are the same in numeric and boolean columns; durations become seconds. A file without rows
    gives one chunk without rows, so that what is written from it still has a header.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    with TableReader(path, **options) as reader:
        yield from reader.chunks(kinds, chunk_rows=chunk_rows)


def lowest_rows(parts: Sequence[Path], name: str, n: int) -> pa.Table:
    """Return the `n` rows of Parquet files with the lowest values in a column, lowest first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lowest = None
    for part in parts:
        table = pq.read_table(part)
        lowest = table if lowest is None else pa.concat_tables([lowest, table])
        lowest = lowest.take(np.argsort(lowest[name].to_numpy(), kind="stable")[:n])
    return lowest


def quarantine_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as CSV; bytes that could not be decoded come out as they were."""
    return _csv_lines([[str(cell) for cell in row] for row in rows], ",")


class TableWriter:
    """Context manager which writes a table file.

    The file appears, complete, on a clean exit after at least one write; otherwise not at all.

    Parameters
    ----------
    path : path, or "-" for standard output
    file_format : {"csv", "tsv", "parquet"} or None
        None: by the suffix.
    header : bool
        Whether a CSV file starts with the names of its columns.

    Raises
    ------
    TableError
        If the suffix is unknown, or the file can't be written.
    """

    def __init__(
        self, path: str | Path, file_format: str | None = None, *, header: bool = True
    ) -> None:
        self._path = Path(path)
        self._format = file_format or format_of(path)
        self._header = header
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.tmp")
        self._to_stdout = str(path) == STANDARD
        self._parquet: Any = None
        self._written = False

    def __enter__(self) -> TableWriter:
        with reported(self._path, "write"):
            self._raw = open_raw(STANDARD if self._to_stdout else self._temporary, "wb")
            self._file = compressed(self._raw, self._path)
        return self

    def write(self, raw: pa.Table, outputs: Mapping[str, np.ndarray]) -> None:
        """Write rows: the columns of `raw`, then the arrays in `outputs`.

        Raises
        ------
        TableError
            If `raw` has a column with the name of an output, or the file can't be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        taken = ", ".join(f"{name!r}" for name in outputs if name in raw.column_names)
        if taken:
            raise table_error(
                self._path, "no input named like an output", taken, "rename the inputs"
            )
        table = raw
        if self._format != "parquet":
            # All digits of a float64, so that numbers read back as the same float64.
            floats = map(pa.types.is_floating, raw.schema.types)
            columns = [
                text_of(column.cast("float64") if is_float else column)
                for column, is_float in zip(raw.columns, floats, strict=True)
            ]
            table = pa.table(columns, names=raw.column_names) if columns else raw
        for name, values in outputs.items():
            # Text has its type even if all of it is missing here, for it may not be in later rows.
            text = values.dtype.kind not in "biuf"
            array = pa.array(values, "string" if text else None, from_pandas=True)
            table = table.append_column(name, array)
        with reported(self._path, "write"):
            if self._format == "parquet":
                self._parquet = self._parquet or pq.ParquetWriter(self._file, table.schema)
                self._parquet.write_table(table)
            else:
                delimiter = "\t" if self._format == "tsv" else ","
                if self._header and not self._written:
                    self._file.write(_csv_lines([table.column_names], delimiter))
                self._file.write(_csv_bytes(table, delimiter))
        self._written = True

    def append(self, part: Path) -> None:
        """Write the rows of an uncompressed file of the same format and columns.

        A CSV file is copied as it is: of several, only the first may have a header.

        Raises
        ------
        TableError
            If the part can't be read, or the file can't be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with reported(self._path, "write"):
            if self._format == "parquet":
                with closing(pq.ParquetFile(part)) as file:
                    for batch in file.iter_batches(batch_size=2**16):
                        self.write(pa.Table.from_batches([batch]), {})
                    if not file.metadata.num_rows:
                        self.write(file.schema_arrow.empty_table(), {})
            else:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, self._file, 2**20)
        self._written = True

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self._to_stdout:
            with reported("standard output", "write"):
                if self._parquet:
                    self._parquet.close()
                self._raw.flush()
            return
        try:
            with reported(self._path, "write"):
                with self._raw, self._file:
                    if self._parquet:
                        self._parquet.close()
                if self._written and error_type is None:
                    with self._temporary.open("rb") as file:
                        os.fsync(file.fileno())  # whole before it has its name
                    os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def _csv_bytes(table: pa.Table, delimiter: str) -> bytes:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if table.num_columns > 1:  # an empty field alone in its row would become a blank line
        buffer = io.BytesIO()
        options = arrow_csv.WriteOptions(
            include_header=False, delimiter=delimiter, quoting_style="none"
        )
        with suppress(pa.ArrowInvalid):  # a field needs quotes
            arrow_csv.write_csv(table, buffer, options)
            return buffer.getvalue()
    columns = [column.cast("string").to_pylist() for column in table.columns]
    return _csv_lines(zip(*columns, strict=True), delimiter)


def _csv_lines(rows: Iterable[Sequence[str | None]], delimiter: str) -> bytes:
    lines: list[str] = []
    # csv quotes \r and \n because it ends rows with both; the file gets \n alone.
    sink = SimpleNamespace(write=lambda row: lines.append(row[:-2]))
    csv.writer(sink, delimiter=delimiter).writerows(rows)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
