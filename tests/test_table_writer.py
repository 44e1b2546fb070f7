"""Writing tables, and properties of any table that is written and read."""

import datetime as dt
import gzip
import math
import subprocess
import sys
import tempfile
import tracemalloc
from contextlib import closing
from csv import writer as csv_writer
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_files import (
    column,
    copy,
    error_of,
    finish_file,
    iter_chunks,
    read_arrays,
    read_frame,
    read_header,
    writer,
)

from vae_anomaly.tables import inspecting, reader
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.writer import _rows, csv_lines

# Writing


def test_a_csv_file_comes_out_with_the_same_text_and_the_outputs(csv, tmp_path):
    text = 'a,b\n007,"x, y"\n1.50,"say ""hi"""\n,"two\nlines"\n'
    scores = np.array([0.1, math.nan, 1e300])
    flags = np.array([True, False, True])
    notes = np.array(["n,1", None, ""], dtype=object)
    target = copy(csv(text), tmp_path / "out.csv", score=scores, flag=flags, note=notes)
    assert target.read_text() == (
        'a,b,score,flag,note\n007,"x, y",0.1,true,"n,1"\n1.50,"say ""hi""",,false,\n'
        ',"two\nlines",1e+300,true,\n'
    )


def test_a_gzipped_csv_file_can_be_written(csv, tmp_path):
    target = copy(csv("a,b\n1,2\n"), tmp_path / "out.csv.gz")
    assert gzip.decompress(target.read_bytes()) == b"a,b\n1,2\n"


def test_an_empty_field_alone_in_its_row_survives(csv, tmp_path):
    target = copy(csv('a\nx\n""\ny\n'), tmp_path / "out.csv")
    assert target.read_text() == 'a\nx\n""\ny\n'


def test_outputs_in_parquet_keep_their_types_over_chunks(csv, tmp_path):
    notes = np.array([None, None, "late"], dtype=object)
    outputs = {"score": np.arange(3.0), "flag": np.array([True] * 3), "note": notes}
    target = copy(csv("a\n1\n2\n3\n"), tmp_path / "out.parquet", chunk_rows=2, **outputs)
    table = pq.read_table(target)
    assert [str(kind) for kind in table.schema.types] == ["string", "double", "bool", "string"]
    assert table["note"].to_pylist() == [None, None, "late"]


def test_a_parquet_file_comes_out_with_the_same_columns(parquet, tmp_path):
    columns = {
        "list": [[1], None, []],
        "category": pa.array(["x", None, "y"]).dictionary_encode(),
        "time": pa.array([0, 1, None], pa.timestamp("ns", "UTC")),
    }
    path = parquet(columns)
    target = copy(path, tmp_path / "out.parquet", chunk_rows=2, score=np.zeros(3))
    assert pq.read_table(target).drop_columns("score").equals(pq.read_table(path))


def test_parquet_written_as_csv_reads_back_as_the_same_frame(parquet, tmp_path):
    path = parquet(
        {
            "float": [0.1, math.nan, None],
            "single": pa.array([0.1, -math.inf, None], pa.float32()),
            "int": [1, 2**62 + 1, None],
            "decimal": pa.array([Decimal("0.10"), Decimal("-2.50"), None]),
            "bool": [True, False, None],
            "date": [dt.date(2024, 1, 31), dt.date(1700, 1, 1), None],
            "ns": pa.array([-1, 10**18 + 1, None], pa.timestamp("ns")),
            "zone": pa.array([-1, 10**15, None], pa.timestamp("us", "Asia/Kolkata")),
            "duration": pa.array([-1, 10**12 + 1, None], pa.duration("ns")),
            "clock": pa.array([dt.time(1, 2), dt.time(1, 2, 3, 4), None]),
            "bytes": [b"ab", b"", None],
            "text": ["x", "", None],
            "category": pa.array(["NA", "x", None]).dictionary_encode(),
            "list": [[1, 2], [], None],
        }
    )
    schema = inspecting.file_schema(path, kinds={"list": "id"})
    target = copy(path, tmp_path / "out.csv")
    assert inspecting.file_schema(target, kinds={"list": "id"}).kinds == schema.kinds
    assert pd.read_csv(target)["list"].tolist()[:2] == ["[1, 2]", "[]"]
    for name, array in reader.read_arrays(path, schema).items():
        np.testing.assert_array_equal(reader.read_arrays(target, schema)[name], array)


def test_a_file_without_rows_is_written_with_its_header(csv, tmp_path):
    assert copy(csv("a,b\n"), tmp_path / "out.csv", s=np.array([])).read_text() == "a,b,s\n"
    assert pq.read_table(copy(csv("a,b\n"), tmp_path / "out.parquet")).column_names == ["a", "b"]


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.csv.zst", "out.parquet"])
def test_what_a_writer_has_committed_can_be_gone_on_from(tmp_path, name):
    rows = [pa.table({"a": [f"{i}"] * 3, "b": ["x"] * 3}) for i in range(4)]
    outputs = {"score": np.arange(3.0)}
    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("old")
    whole, stopped = (writer(tmp_path / folder / name) for folder in ("whole", "stopped"))
    for table in rows:
        whole.write(table, outputs)
    whole.close()
    finish_file(tmp_path / "whole" / name)
    stopped.write(rows[0], outputs)
    length = stopped.commit()
    stopped.write(rows[3], outputs)
    stopped.close()
    again = writer(tmp_path / "stopped" / name, length=length)
    for table in rows[1:]:
        again.write(table, outputs)
    again.close()
    assert (tmp_path / "stopped" / name).read_text() == "old"
    finish_file(tmp_path / "stopped" / name)
    contents = [(tmp_path / folder / name).read_bytes() for folder in ("whole", "stopped")]
    assert contents[0] == contents[1]
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [name]


def test_a_file_can_be_written_over_the_one_it_is_read_from(csv):
    path = csv("a,b\n1,2\n")
    assert copy(path, path, score=np.ones(1)).read_text() == "a,b,score\n1,2,1\n"


def test_a_written_file_can_be_read_by_those_the_umask_allows(csv, tmp_path):
    source = csv("a,b\n1,2\n")
    assert copy(source, tmp_path / "out.csv").stat().st_mode == source.stat().st_mode


def test_a_missing_output_folder_is_reported(tmp_path):
    assert "No such file" in error_of(writer, tmp_path / "no" / "out.csv")


def test_an_output_which_is_a_folder_is_reported(csv, tmp_path):
    source = csv("a,b\n1,2\n")
    (tmp_path / "out.csv").mkdir()
    assert "Is a directory" in error_of(copy, source, tmp_path / "out.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_full_disk_is_reported_and_the_old_file_stays(tmp_path, name):
    (tmp_path / name).write_text("old")
    (tmp_path / f"{name}.grows").symlink_to("/dev/full")
    with pytest.raises(TableError, match="No space left"), closing(writer(tmp_path / name)) as rows:
        rows.write(pa.table({"a": ["x" * 100_000]}), {})
        rows.commit()
    assert (tmp_path / name).read_text() == "old"


def test_a_large_dictionary_is_not_written_with_every_few_rows(tmp_path):
    values = pa.array([f"level {i}" for i in range(10_000)]).dictionary_encode()
    rows = writer(tmp_path / "out.parquet")
    for start in range(0, 100, 10):
        rows.write(pa.table({"a": values[start : start + 10]}), {})
    rows.close()
    assert (tmp_path / "out.parquet.grows").stat().st_size < 20_000
    finish_file(tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")["a"]
    assert found.type == values.type and found.to_pylist() == values[:100].to_pylist()


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(rows=st.lists(st.lists(st.text(',\t"\r\n ab', max_size=4), min_size=2, max_size=2)))
def test_rows_are_quoted_as_csv_does(delimiter, rows):
    columns = {name: pa.array([row[i] for row in rows], "string") for i, name in enumerate("ab")}
    expected = csv_lines(rows, delimiter)
    assert _rows(pa.table(columns), delimiter) == expected


# Properties of any table


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


cells = st.one_of(texts, st.sampled_from(["", "007", "1.50", ",", '"', "\r", "\n", "\r\n", " "]))


number_cells = st.one_of(
    st.floats().map(repr), st.integers().map(str), st.sampled_from(["", "NA", " 1", "1e5"])
)


tables = st.integers(1, 3).flatmap(
    lambda width: st.tuples(
        st.lists(texts.filter(str.strip), min_size=width, max_size=width, unique=True),
        st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8),
    )
)


@given(tables, st.integers(1, 5))
def test_any_text_survives_csv_and_parquet(table, chunk_rows):
    names, rows = table
    columns = {name: pa.array([row[i] for row in rows], "string") for i, name in enumerate(names)}
    kinds = dict.fromkeys(names, "categorical")
    with tempfile.TemporaryDirectory() as folder:
        first, second, third = (Path(folder) / name for name in ("1.parquet", "2.csv", "3.parquet"))
        pq.write_table(pa.table(columns), first)
        copy(first, second, chunk_rows=chunk_rows)
        copy(second, third, chunk_rows=chunk_rows)
        assert read_header(second, **vars(Dialect())) == names
        assert pq.read_table(third).to_pylist() == pq.read_table(first).to_pylist()
        again = read_frame(second, kinds, **vars(Dialect()))
        pd.testing.assert_frame_equal(again, read_frame(first, kinds))


@given(st.lists(st.floats(), max_size=8))
def test_any_numbers_survive_csv_and_parquet(values):
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder) / name for name in ("1.parquet", "2.csv"))
        pq.write_table(
            pa.table({"a": pa.array(values, pa.float64()), "b": ["x"] * len(values)}), first
        )
        copy(first, second)
        for path in (first, second):
            np.testing.assert_array_equal(column(path, "numeric"), values)


@given(st.lists(st.tuples(number_cells, cells), max_size=12), st.integers(1, 13))
def test_the_arrays_do_not_depend_on_the_chunk_size(rows, chunk_rows):
    kinds = {"b": "categorical", "a": "numeric"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv_writer(file).writerows([["a", "b"], *rows])
        chunks = [
            chunk.arrays for chunk in iter_chunks(path, kinds, Dialect(), chunk_rows=chunk_rows)
        ]
        for name, whole in read_arrays(path, kinds, **vars(Dialect())).items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in chunks]), whole)


@given(st.datetimes(), st.sampled_from([None, "UTC", "Asia/Kolkata"]))
def test_any_date_time_survives_csv_and_parquet(moment, zone):
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder) / name for name in ("1.parquet", "2.csv"))
        values = pa.array([moment], pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"a": values.cast(pa.timestamp("us", zone)), "b": ["x"]}), first)
        copy(first, second)
        micros = (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
        assert column(second, "datetime") == column(first, "datetime") == [micros / 1e6]


# The module


def test_importing_the_module_imports_neither_pandas_nor_pyarrow():
    code = "import sys, vae_anomaly.tables.reader; print({'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_memory_does_not_grow_with_a_csv_file(tmp_path, monkeypatch):
    monkeypatch.setattr("vae_anomaly.tables.csv_rows._BLOCK_BYTES", 2**14)
    path = tmp_path / "t.csv"
    peaks = []
    for rows in (5_000, 50_000):
        path.write_text("a,b\n" + "1.5,some text\n" * rows)
        tracemalloc.start()
        copy(path, tmp_path / "out.csv", {"a": "numeric"}, chunk_rows=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_memory_does_not_grow_with_the_row_groups_of_a_parquet_file(parquet):
    path = parquet({"a": np.random.default_rng(0).normal(size=2_000_000)})
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in iter_chunks(path, {"a": "numeric"})]
    assert max(held) < path.stat().st_size / 4
