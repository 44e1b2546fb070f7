"""How the tests read and write table files."""

import tempfile
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from vae_anomaly.tables import inspecting, reader
from vae_anomaly.tables.arrow_cells import array_of
from vae_anomaly.tables.columns import arrays_frame
from vae_anomaly.tables.csv_rows import CsvRows
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import TableError, file_format
from vae_anomaly.tables.reader import TableReader
from vae_anomaly.tables.schema import Schema
from vae_anomaly.tables.writer import TableWriter, finish

NUMERIC = {"a": "numeric", "b": "numeric"}


def error_of(function, *args, **options):
    with pytest.raises(TableError) as caught:
        result = function(*args, **options)
        if not isinstance(result, (list, dict, pd.DataFrame)):
            list(result)
    message = str(caught.value)
    assert "\n" not in message
    return message


def read_header(path, blank_ok=False, **dialect):
    with TableReader(path, dialect=dialect, blank_ok=blank_ok) as rows:
        return rows.names


def read_text(content, **dialect):
    """Dialect, names, units and rows of the bytes of a CSV file without bad rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content)
        with closing(CsvRows(path, dialect)) as rows:
            pieces = list(rows.pieces(1000))
    assert not any(piece.bad for piece in pieces)
    cells = [list(row.values()) for piece in pieces for row in piece.table.to_pylist()]
    return rows.dialect, rows.header, rows.units, cells


def iter_chunks(path, kinds, dialect=MappingProxyType({}), **options):
    with TableReader(path, dialect=dialect) as rows:
        yield from rows.chunks(Schema.of_kinds(kinds), **options)


def infer_kinds(path, kinds=None, **dialect):
    schema = inspecting.file_schema(path, kinds=kinds, dialect=dialect)
    return {name: column.kind for name, column in schema.columns.items()}


def read_arrays(path, kinds, **dialect):
    return reader.read_arrays(path, Schema.of_kinds(kinds), dialect=dialect)


def bad_cells(column, kind):
    """The rows of a column whose cells are not of a kind."""
    schema = Schema.of_kinds({"c": kind}).columns["c"]
    return np.flatnonzero(array_of(column, schema)[1]).tolist()


def read_frame(path, kinds, **dialect):
    return arrays_frame(read_arrays(path, kinds, **dialect), kinds)


def column(path, kind, name="a"):
    return read_arrays(path, {name: kind})[name].tolist()


def writer(target, table_format=None, **options):
    table_format = table_format or file_format(target)
    return TableWriter(f"{target}.grows", target, table_format, **options)


def copy(source, target, kinds=None, chunk_rows=8192, **outputs):
    first = 0
    dialect = Dialect(delimiter="\t" if ".tsv" in Path(source).name else ",")
    with closing(writer(target)) as rows:
        for chunk in iter_chunks(source, kinds or {}, dialect, chunk_rows=chunk_rows):
            last = first + chunk.raw.num_rows
            rows.write(chunk.raw, {name: values[first:last] for name, values in outputs.items()})
            first = last
        rows.commit()
    finish_file(target)
    return target


def finish_file(target):
    finish(f"{target}.grows", target, file_format(target))
