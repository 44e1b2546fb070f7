"""Writing table files row by row, such that it can be stopped at any moment and go on."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.atomic import move
from vae_anomaly.tables.arrow_cells import text_of
from vae_anomaly.tables.files import STANDARD, compressed, open_at, open_raw, reported

if TYPE_CHECKING:
    import pyarrow as pa

_DELIMITERS = {"csv": ",", "tsv": "\t"}
# 6, gzip's own default, takes three times as long for 5% less.
_GZIP_LEVEL = 1
_ROW_GROUP = 2**16


class TableWriter:
    """A table file to be: its rows are added to another file, which can go on from its length.

    Plain and gzip-compressed CSV grow row by row. Parquet, zstd and outputs with ``top`` cannot:
    their rows are kept as Arrow streams, one per write. ``finish`` makes the table file.

    Parameters
    ----------
    path : path
        The file that grows; "-", standard output, if it ``grows`` to be the table file itself.
    target : path, or "-" for standard output
        The table file, in the end; its suffix says how it is compressed.
    table_format : {"csv", "tsv", "parquet"}
    top : int or None
        The table file gets this many rows alone, those lowest in the column "score".
    length : int
        Writing goes on after this many bytes; the rest of the file is cut off.

    Raises
    ------
    TableError
        From every method, if the file can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        target: str | Path,
        table_format: str,
        *,
        top: int | None = None,
        length: int = 0,
    ) -> None:
        self._path, self._target, self._format = path, target, table_format
        self._grows = grows(target, table_format, top)
        self._length = length
        with self._reported():
            self._file = open_at(path, length)

    def write(self, raw: pa.Table, outputs: Mapping[str, np.ndarray]) -> None:
        """Add rows, perhaps none: the columns of ``raw``, then the arrays in ``outputs``."""
        import pyarrow as pa

        table = raw if self._format == "parquet" else _as_text(raw)
        for name, values in outputs.items():
            # Text has its type even if all of it is missing here, for it may not be in later rows.
            arrow_type = None if values.dtype.kind in "biuf" else "string"
            array = pa.array(values, arrow_type, from_pandas=True)  # NaN is missing
            table = table.append_column(name, array)
        with self._reported():
            if self._grows:
                content = _csv(table, self._format, header=not self._length)
                if Path(self._target).suffix.lower() == ".gz":
                    content = gzip.compress(content, _GZIP_LEVEL, mtime=0)
            else:
                content = _stream(table)
            self._file.write(content)
        self._length += len(content)

    def commit(self) -> int:
        """See to it that all rows are on the disk; return the length of the file."""
        with self._reported():
            self._file.flush()
            if self._path != STANDARD:
                os.fsync(self._file.fileno())
        return self._length

    def close(self) -> None:
        """Close the file that grows; what counts of it has been committed."""
        if self._path != STANDARD:
            with suppress(OSError):
                self._file.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        with reported(self._target, "write"):
            yield


def finish(
    path: str | Path,
    target: str | Path,
    table_format: str,
    *,
    top: int | None = None,
    written: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> None:
    """Make the table file, which appears whole, and remove the file that grew.

    Parameters
    ----------
    path, target, table_format, top
        Those of the ``TableWriter``, which must be closed.
    written : callable
        What is written of the rows that ``top`` has chosen.

    Raises
    ------
    TableError
        If the file can't be written.
    """
    path = whole = Path(path)
    with reported(target, "write"):
        if not grows(target, table_format, top):
            whole = path.with_name(f"{path.name}.whole")
            tables = _streams(path) if top is None else iter([written(lowest_rows(path, top))])
            _write_whole(tables, whole, target, table_format)
        if str(target) == STANDARD:
            with whole.open("rb") as file:
                shutil.copyfileobj(file, open_raw(STANDARD, "wb"))
        else:
            move(whole, target)
        path.unlink(missing_ok=True)


def _write_whole(
    tables: Iterator[pa.Table], whole: Path, target: str | Path, table_format: str
) -> None:
    import pyarrow.parquet as pq

    first = next(tables)
    tables = itertools.chain([first], tables)
    with whole.open("wb") as raw:
        if table_format == "parquet":
            with pq.ParquetWriter(raw, first.schema) as writer:
                for table in _regrouped(tables):
                    writer.write_table(table)
        else:
            with compressed(raw, target) as file:
                for index, table in enumerate(tables):
                    file.write(_csv(table, table_format, header=not index))
    with whole.open("rb") as raw:
        os.fsync(raw.fileno())


def grows(target: str | Path, table_format: str, top: int | None) -> bool:
    """Whether the table file itself can grow, without a ``finish`` that reads all of it again."""
    # Readers go on after a member of gzip, but may stop after a frame of zstd.
    return table_format != "parquet" and top is None and Path(target).suffix.lower() != ".zst"


def lowest_rows(path: str | Path, top: int) -> pa.Table:
    """Return the rows that ``finish`` takes, of a file that grew with this ``top``."""
    return _lowest(_streams(Path(path)), top)


def text_column(name: str, values: Sequence[str]) -> pa.Table:
    """Return a table of one column of text."""
    import pyarrow as pa

    return pa.table({name: pa.array(values, "string")})


def csv_lines(rows: Iterable[Sequence[object]], delimiter: str = ",") -> bytes:
    """Return rows as CSV; bytes that could not be decoded come out as they were."""
    lines: list[str] = []
    # csv quotes \r and \n because it ends rows with both; the file gets \n alone.
    sink = SimpleNamespace(write=lambda row: lines.append(row[:-2]))
    csv.writer(sink, delimiter=delimiter).writerows(rows)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _csv(table: pa.Table, table_format: str, *, header: bool) -> bytes:
    delimiter = _DELIMITERS[table_format]
    rows = _rows(table, delimiter)
    return csv_lines([table.column_names], delimiter) + rows if header else rows


def _as_text(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    # All digits of a float64, so that numbers read back as the same float64.
    floats = map(pa.types.is_floating, table.schema.types)
    columns = [
        text_of(column.cast("float64") if is_float else column)
        for column, is_float in zip(table.columns, floats, strict=True)
    ]
    return pa.table(columns, names=table.column_names) if columns else table


def _rows(table: pa.Table, delimiter: str) -> bytes:
    """Return rows as delimited text: as csv writes them, many times faster."""
    import pyarrow.compute as pc

    if not table.num_rows:
        return b""
    special = [mark.encode() for mark in ('"', "\r", "\n", delimiter)]
    columns = []
    for column in table.columns:
        text = column.cast("string").combine_chunks()
        if column.type == "string" and _has_any(text, special):
            needs_quotes = pc.match_substring_regex(text, f'["\r\n{delimiter}]')
            doubled = pc.replace_substring(text, '"', '""')
            quoted = pc.binary_join_element_wise('"', doubled, '"', "")
            text = pc.if_else(needs_quotes, quoted, text)
        columns.append(text)
    lines = pc.binary_join_element_wise(
        *columns, delimiter, null_handling="replace", null_replacement=""
    )
    if len(columns) == 1:  # an empty field alone in its row would be a blank line
        lines = pc.if_else(pc.equal(lines, ""), '""', lines)
    lines = pc.binary_join_element_wise(lines, "", "\n")
    return _data(lines)


def _data(text: pa.StringArray) -> bytes:
    """Return the text of all rows, which is one piece of memory."""
    ends = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    return text.buffers()[2][ends[0] : ends[-1]].to_pybytes()


def _has_any(text: pa.StringArray, marks: Sequence[bytes]) -> bool:
    data = _data(text)
    return any(mark in data for mark in marks)


def _stream(table: pa.Table) -> bytes:
    import pyarrow as pa

    columns = list(map(_with_small_dictionary, table.columns))
    # Inputs may differ in what can be null.
    fields = [pa.field(field.name, field.type) for field in table.schema]
    table = pa.table(columns, schema=pa.schema(fields, table.schema.metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _with_small_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Drop unused values of a dictionary that is larger than the column."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type) or column.type.ordered:
        return column
    if all(len(chunk.dictionary) <= len(chunk) for chunk in column.chunks):
        return column
    return column.cast(column.type.value_type).dictionary_encode().cast(column.type)


def _streams(path: Path) -> Iterator[pa.Table]:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        while file.tell() < file.size():
            yield pa.ipc.open_stream(file).read_all()


def _lowest(tables: Iterator[pa.Table], n: int) -> pa.Table:
    """Return the rows with the lowest scores, lowest first; of equal ones the first."""
    import pyarrow as pa

    lowest = next(tables)
    for table in itertools.chain([lowest.slice(0, 0)], tables):
        lowest = pa.concat_tables([lowest, table])
        lowest = lowest.take(np.argsort(lowest["score"].to_numpy(), kind="stable")[:n])
    return lowest


def _regrouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables of the same rows, all but the last of the size of a row group."""
    import pyarrow as pa

    rest = next(tables)
    for table in tables:
        rest = pa.concat_tables([rest, table])
        while rest.num_rows > _ROW_GROUP:
            yield rest.slice(0, _ROW_GROUP)
            rest = rest.slice(_ROW_GROUP)
    yield rest
