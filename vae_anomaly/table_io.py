"""CSV and Parquet tables, read and written in chunks of rows so that memory stays bounded."""

from __future__ import annotations

import bisect
import csv
import difflib
import gzip
import itertools
import os
import re
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.columns import KINDS

# pandas and pyarrow are imported inside functions: `vae-anomaly --help` needs neither.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_EXPECTED = {
    "numeric": "a number",
    "boolean": "true or false, or 1 or 0",
    "datetime": "an ISO 8601 date or date-time",
    "categorical": "text",
}
# As columns.frame_kinds for the DataFrame that pandas reads from the file.
_TYPES = re.compile(
    "(?P<numeric>u?int|halffloat|float|double|decimal|duration|null)|(?P<boolean>bool)"
    "|(?P<datetime>date|timestamp)"
    "|(?P<categorical>(large_)?string|(large_|fixed_size_)?binary|dictionary|time|extension<pandas)"
)
_DURATION = r"^-?\d+ days( \+?\d\d:\d\d:\d\d(\.\d+)?)?$"
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".pq")
_CHUNK_ROWS = 8192


class TableError(ValueError):
    """A file can't be read or written as the table that was expected; the message is one line."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a file."""

    raw: pa.Table  #: every column as read, to be written back unchanged; from CSV all are text
    frame: pd.DataFrame  #: the columns asked for, converted; its index starts at 0
    first_row: int  #: the number of the first row in the file, from 0


def read_header(path: str | Path) -> list[str]:
    """Return the column names of a CSV or Parquet file, without the index of a DataFrame.

    Raises
    ------
    TableError
        If the file can't be read, or a column name is empty or there twice.
    """
    path = Path(path)
    schema = next(_tables(path, 1)).schema
    names, index = list(schema.names), (schema.pandas_metadata or {}).get("index_columns", [])
    if not names:
        raise _error(path, "a header of column names", "none", "write one")
    if "" in names:
        fix = "name it (if pandas wrote it as its index, use index=False)"
        raise _error(path, "named columns", f"no name for column {names.index('') + 1}", fix)
    repeated = [f"{name!r}" for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise _error(path, "unique column names", ", ".join(repeated) + " twice", "rename them")
    return [name for name in names if name not in index]


def check_columns(
    path: str | Path, header: Collection[str], expected: Collection[str], ignore: Iterable[str] = ()
) -> None:
    """Check that a header has the expected columns, and no others except those to ignore.

    Raises
    ------
    TableError
        If columns are missing or unexpected; both are listed.

    Examples
    --------
    >>> check_columns("new.csv", ["id", "age"], ["age"], ignore=["id"])
    >>> check_columns("new.csv", ["Age"], ["age"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    vae_anomaly.table_io.TableError: new.csv: missing columns: 'age' (is it 'Age'?); unexpected...
    """
    present, wanted, allowed = set(header), set(expected), {*expected, *ignore}
    others = {name.lower(): name for name in header if name not in wanted}
    missing = []
    for name in [name for name in expected if name not in present]:
        near = difflib.get_close_matches(name.lower(), others, n=1)
        missing.append(f"{name!r} (is it {others[near[0]]!r}?)" if near else f"{name!r}")
    unexpected = [f"{name!r}" for name in header if name not in allowed]
    found = {"missing": missing, "unexpected": unexpected}
    problems = [f"{what} columns: {', '.join(names)}" for what, names in found.items() if names]
    if problems:
        raise TableError(f"{path}: {'; '.join(problems)}; rename, add or remove columns to match")


def infer_kinds(path: str | Path, overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """Decide the kind of every column from the whole file; `overrides` win unseen.

    A CSV column is of the first of KINDS which all its fields can be read as, except that true and
    false are no numbers here. The kind of a Parquet column follows from its type, as that of the
    DataFrame which pandas reads from the file.

    Raises
    ------
    TableError
        If the file can't be read, a type has no kind, or an override no known column or kind.
    """
    path = Path(path)
    header, parquet = read_header(path), _is_parquet(path)
    check_columns(path, header, overrides or {}, ignore=header)
    schema = next(_tables(path, 1)).schema
    left = {n: [_kind(schema.field(n).type)] if parquet else list(KINDS) for n in header}
    left.update({name: [kind] for name, kind in (overrides or {}).items()})
    for name, (kind, *_) in left.items():
        if kind not in KINDS:
            expected = f"one of {', '.join(KINDS)}"
            raise _error(f"{path}, column {name!r}", expected, kind, "convert it or choose a kind")
    for table in () if parquet else _tables(path, _CHUNK_ROWS):
        for name, kinds in left.items():
            if len(kinds) > 1:
                # All that are left, not only the first, for each must hold everywhere.
                left[name] = [k for k in kinds if _converts(table[name], k, words=k != "numeric")]
    return {name: kinds[0] for name, kinds in left.items()}


def read_frame(path: str | Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read the columns in `kinds` of a whole file, converted as by `iter_chunks`.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    import pandas as pd

    return pd.concat([chunk.frame for chunk in iter_chunks(path, kinds)], ignore_index=True)


def iter_chunks(
    path: str | Path, kinds: Mapping[str, str], *, chunk_rows: int = _CHUNK_ROWS
) -> Iterator[Chunk]:
    """Read a file `chunk_rows` rows at a time, and convert the columns in `kinds`.

    Numeric and boolean columns become float64 with NaN for missing, datetime columns
    datetime64[us] in UTC with NaT, and categorical columns text with None. True and 1, false and 0
    are the same in numeric and boolean columns; durations become seconds. A file without rows
    gives one chunk without rows, so that what is written from it still has a header.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    import pandas as pd

    path = Path(path)
    header = read_header(path)
    check_columns(path, header, kinds, ignore=header)
    first_row = 0
    for raw in _tables(path, chunk_rows):
        columns = {}
        for name, kind in kinds.items():
            values = _values(path, raw, name, kind, first_row)
            columns[name] = pd.Series(values, dtype=values.dtype)  # pandas would guess for text
        yield Chunk(raw, pd.DataFrame(columns, index=pd.RangeIndex(raw.num_rows)), first_row)
        first_row += raw.num_rows


class TableWriter:
    """Context manager which writes a CSV or Parquet file, by its suffix.

    The file appears, complete, on a clean exit after at least one write; otherwise not at all.

    Raises
    ------
    TableError
        If the suffix is unknown, or the file can't be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._parquet = _is_parquet(self._path)
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.tmp")
        self._writer: Any = None

    def __enter__(self) -> TableWriter:
        text = {} if self._parquet else {"encoding": "utf-8", "newline": ""}
        with _reported(self._path, "write"):
            self._file = _opener(self._path)(self._temporary, "wt" if text else "wb", **text)
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
            raise _error(self._path, "no input named like an output", taken, "rename the inputs")
        table = raw
        for name, values in outputs.items():
            # Text has its type even if all of it is missing here, for it may not be in later rows.
            text = values.dtype.kind not in "biuf"
            array = pa.array(values, "string" if text else None, from_pandas=text)
            table = table.append_column(name, array)
        with _reported(self._path, "write"):
            if self._parquet:
                self._writer = self._writer or pq.ParquetWriter(self._file, table.schema)
                self._writer.write_table(table)
                return
            if not self._writer:
                # csv quotes \r and \n because it ends rows with both; the file gets \n alone.
                sink = SimpleNamespace(write=lambda row: self._file.write(row[:-2] + "\n"))
                self._writer = csv.writer(sink)
                self._writer.writerow(table.column_names)
            # All digits of a float64, so that numbers read back as the same float64.
            floats = map(pa.types.is_floating, table.schema.types)
            columns = [
                _text(column.cast("float64") if is_float else column).to_pylist()
                for column, is_float in zip(table.columns, floats, strict=True)
            ]
            self._writer.writerows(zip(*columns, strict=True))

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            with _reported(self._path, "write"):
                if self._parquet and self._writer:
                    self._writer.close()
                self._file.close()
                if self._writer and error_type is None:
                    os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def _error(where: str | Path, expected: str, received: str, fix: str) -> TableError:
    return TableError(f"{where}: expected {expected}, received {received}; {fix}")


@contextmanager
def _reported(path: Path, action: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).partition("\n")[0]
        raise _error(path, f"to {action} the file", f"'{reason}'", "check the path") from error


def _is_parquet(path: Path) -> bool:
    if not path.name.lower().endswith(_SUFFIXES):
        raise _error(path, f"one of {', '.join(_SUFFIXES)}", repr(path.suffix), "convert it")
    return path.name.lower().endswith(_SUFFIXES[2:])


def _opener(path: Path) -> Any:
    return gzip.open if path.suffix.lower() == ".gz" else open


def _tables(path: Path, rows: int) -> Iterator[pa.Table]:
    """Yield tables of exactly `rows` rows; the last has fewer, or none if it is the only one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not _is_parquet(path):
        lines = _csv_rows(path)
        _, header = next(lines, (1, []))
        for start in itertools.count(step=rows):
            cells = [row for _, row in itertools.islice(lines, rows)]
            if start and not cells:
                return
            columns = zip(*cells, strict=True) if cells else [()] * len(header)
            yield pa.table([pa.array(column, "string") for column in columns], names=header)
    options = {"pre_buffer": False, "buffer_size": 2**16}  # else pyarrow holds whole row groups
    with _reported(path, "read"), pq.ParquetFile(str(path), **options) as file:
        rest = file.schema_arrow.empty_table()
        for batch in file.iter_batches(batch_size=rows):
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
            if rest.num_rows > rows:
                yield rest.slice(0, rows)
                rest = rest.slice(rows)
        yield rest


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows which aren't blank, header first, with the physical lines they start on."""
    opener = _opener(path)
    line, columns = 1, 0
    try:
        with _reported(path, "read"), opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                columns = columns or len(row)
                if row and len(row) != columns:
                    fix = "correct the row (a field with a comma needs quotes)"
                    raise _error(f"{path}, line {line}", f"{columns} fields", str(len(row)), fix)
                if row:
                    yield line, row
                line = reader.line_num + 1
    except csv.Error as error:
        raise _error(f"{path}, line {line}", "CSV", f"'{error}'", "check its quotes") from error
    except UnicodeDecodeError as error:
        with opener(path, "rt", encoding="utf-8", errors="surrogateescape") as file:
            line = next(n for n, text in enumerate(file, 1) if re.search("[\udc80-\udcff]", text))
        raise _error(f"{path}, line {line}", "UTF-8", "other bytes", "save it as UTF-8") from error


def _values(path: Path, raw: pa.Table, name: str, kind: str, first_row: int) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = raw[name]
    if not pc.any(pc.invert(pc.is_null(column, nan_is_null=True))).as_py():
        column = pa.chunked_array([pa.nulls(len(column))])  # fits any kind
    found = _kind(column.type)
    # Text can be parsed as any kind, and any kind can be written as text.
    fits = "categorical" in (found, kind) or {found, kind} <= {"numeric", "boolean"}
    if found != kind and not fits and column.type != "null":
        raise _error(f"{path}, column {name!r}", _EXPECTED[kind], str(column.type), "convert it")
    try:
        values: np.ndarray = _convert(column, kind).to_numpy()
    except ValueError as error:
        heads = range(1, len(column) + 1)
        bad = bisect.bisect(heads, 0, key=lambda size: not _converts(column[:size], kind))
        place = f"row {first_row + bad} (from 0)"
        if not _is_parquet(path):
            line, row = next(itertools.islice(_csv_rows(path), first_row + bad + 1, None))
            before = re.findall("\r\n?|\n", ",".join(row[: raw.column_names.index(name)]))
            place = f"line {line + len(before)}"
        value = _text(column)[bad].as_py()
        received = repr(value if len(value) <= 60 else value[:60] + "...")
        where, fix = f"{path}, {place}, column {name!r}", "correct it, or leave it empty if missing"
        raise _error(where, _EXPECTED[kind], received, fix) from error
    return values


def _kind(arrow_type: pa.DataType) -> str:
    """Return the kind of a type, or the type itself as text if it is of no kind."""
    match = _TYPES.match(str(arrow_type))
    return str(match.lastgroup if match else arrow_type)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text which reads back as the same values, and the same categories; NaN is missing."""
    import pyarrow as pa

    if getattr(column.type, "tz", None):
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))  # offsets can have seconds
    if pa.types.is_floating(column.type):
        values = column.to_numpy()  # not Python's floats: they would give a float32 more digits
    elif re.match(r"duration|extension<pandas|time\d|.*binary", str(column.type)):
        values = column.to_pandas()
    elif _kind(column.type) in KINDS:
        return column.cast("string")
    else:
        values = column.to_pylist()
    texts = [None if value is None or value != value else str(value) for value in values]
    return pa.chunked_array([pa.array(texts, "string")])


def _converts(column: pa.ChunkedArray, kind: str, words: bool = True) -> bool:
    try:
        _convert(column, kind, words)
    except ValueError:
        return False
    return True


def _convert(column: pa.ChunkedArray, kind: str, words: bool = True) -> pa.ChunkedArray:
    """Return a column as float64, timestamp[us] or string; ValueError if a value can't be.

    With `words`, true and false in text are the numbers 1 and 0.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind == "categorical":
        text = _text(column)
        return pc.if_else(pc.equal(text, ""), None, text)
    if _kind(column.type) == "categorical" or column.type == "null":
        text = pc.utf8_trim_whitespace(_text(column))
        missing = pc.match_substring_regex(text, "^(nan|na|null|none|n/a)?$", ignore_case=True)
        column = pc.if_else(missing, None, text)
        if kind == "datetime":
            column = pc.replace_substring_regex(column, r"(\.\d{6})\d+", r"\1")
            zoned = pc.match_substring_regex(column, r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$")
            utc = pc.if_else(zoned, column, None).cast(pa.timestamp("us", "UTC"))
            naive = pc.if_else(zoned, None, column).cast("timestamp[us]")
            column = pc.coalesce(utc.cast("timestamp[us]"), naive)
        else:
            column = _numbers(column, words)
    elif pa.types.is_decimal(column.type):
        column = column.cast("string")  # to get the same float64 as from CSV
    elif pa.types.is_duration(column.type):
        column = pa.chunked_array([column.to_pandas().dt.total_seconds()])
    elif pa.types.is_timestamp(column.type):
        # In UTC, without its zone. A cast alone would round towards 1970, unlike text.
        column = column.cast(pa.timestamp(column.type.unit))
        column = pc.floor_temporal(column, unit="microsecond")
    if kind == "datetime":
        return column.cast("timestamp[us]")
    column = column.cast("float64", safe=False)
    if kind == "boolean":
        values = column.to_numpy()
        if not np.isin(values[~np.isnan(values)], (0, 1)).all():
            raise ValueError(f"expected {_EXPECTED[kind]}")
    return column


def _numbers(text: pa.ChunkedArray, words: bool) -> pa.ChunkedArray:
    """Return text as float64: numbers, perhaps `words`, and durations as pandas writes them."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    with suppress(pa.ArrowInvalid):
        return text.cast("float64")  # nearly always, and much faster
    for word, number in (("(?i)^true$", "1"), ("(?i)^false$", "0")) if words else ():
        text = pc.replace_substring_regex(text, word, number)
    is_duration = pc.match_substring_regex(text, _DURATION)
    durations = pd.to_timedelta(pc.if_else(is_duration, text, None).to_pandas())
    seconds = pa.chunked_array([durations.dt.total_seconds()])
    return pc.if_else(is_duration, seconds, pc.if_else(is_duration, None, text).cast("float64"))
