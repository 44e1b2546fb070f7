"""Reading and writing tables: one behaviour per test."""

import datetime as dt
import gzip
import math
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import tracemalloc
from contextlib import closing
from csv import writer as csv_writer
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly.tables import columns, inspecting, reader
from vae_anomaly.tables.arrow_cells import array_of
from vae_anomaly.tables.columns import arrays_frame
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import TableError, file_format
from vae_anomaly.tables.reader import CHUNK_ROWS, TableReader, check_columns
from vae_anomaly.tables.rules import KINDS
from vae_anomaly.tables.schema import Schema
from vae_anomaly.tables.writer import TableWriter, _rows, csv_lines, finish

ROOT = Path(__file__).parents[1]
NUMERIC = {"a": "numeric", "b": "numeric"}


@pytest.fixture
def csv(tmp_path):
    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    def write(columns, **options):
        path = tmp_path / "table.parquet"
        pq.write_table(pa.table(columns), path, **options)
        return path

    return write


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


def iter_chunks(path, kinds, dialect=MappingProxyType({}), **options):
    with TableReader(path, dialect=dialect) as rows:
        yield from rows.chunks(Schema.of_kinds(kinds), **options)


def infer_kinds(path, kinds=None, **dialect):
    schema = inspecting.file_schema(path, kinds=kinds, dialect=dialect)
    return {name: column.kind for name, column in schema.columns.items()}


def frame_kinds(frame):
    return inspecting.frame_schema(frame).kinds


def frame_arrays(frame, kinds):
    return columns.frame_arrays(frame, Schema.of_kinds(kinds))


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


# Headers


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n", "a,b\r\n1,2\r\n", "\ufeffa,b\n1,2", "a,b", "a,b\n"]
)
def test_a_header_is_read_whatever_the_line_ends_and_byte_order_mark(csv, content):
    assert read_header(csv(content)) == ["a", "b"]


def test_a_parquet_header_is_read_from_its_schema(parquet):
    assert read_header(parquet({"x": [1], "y z": ["t"]})) == ["x", "y z"]


@pytest.mark.parametrize("name", [None, "customer"])
def test_the_index_of_a_frame_is_no_column_and_is_kept(tmp_path, name):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}, index=pd.Index([7, 5], name=name))
    frame.to_parquet(path := tmp_path / "t.parquet")
    assert read_header(path) == ["a", "b"]
    kinds = infer_kinds(path)
    assert list(kinds) == ["a", "b"]
    assert list(read_frame(path, kinds)) == ["a", "b"]
    scored = pd.read_parquet(copy(path, tmp_path / "out.parquet", score=np.zeros(2)))
    pd.testing.assert_frame_equal(scored, frame.assign(score=0.0))
    again = copy(path, tmp_path / "out.csv")
    assert again.read_text() == f"a,b,{name or '__index_level_0__'}\n1.0,x,7\n2.0,y,5\n"


def test_a_header_over_two_lines_keeps_its_line_break(csv):
    assert read_header(csv('"a\nb",c\n1,2\n')) == ["a\nb", "c"]


def test_a_gzipped_csv_file_is_read_like_a_plain_one(csv):
    path = csv(gzip.compress(b"a,b\n1,2\n"), "table.csv.gz")
    assert read_frame(path, NUMERIC).to_dict("list") == {"a": [1.0], "b": [2.0]}


def test_an_unknown_suffix_is_refused_with_the_known_ones(csv):
    assert ".zst, .tsv.zst, .parquet, .pq, .txt, .dat, .data, .tab, received '.xlsx'" in error_of(
        read_header, csv("", "t.xlsx")
    )


def test_repeated_column_names_are_refused(csv):
    assert "'a'" in error_of(read_header, csv("a,b,a\n1,2,3\n"))


def test_repeated_column_names_are_refused_in_parquet_too(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), path)
    assert "'a'" in error_of(read_header, path)


def test_a_column_without_a_name_has_the_one_that_pandas_gives_it(csv):
    path = csv(",a\n1,2\n")
    assert read_header(path) == ["Unnamed: 0", "a"] == list(pd.read_csv(path))


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(csv, content):
    assert "expected a header" in error_of(read_header, csv(content))


def test_a_missing_file_is_reported_with_its_path(tmp_path):
    for name in ("no.csv", "no.csv.gz", "no.parquet"):
        message = error_of(read_header, tmp_path / name)
        assert str(tmp_path / name) in message and "No such file" in message


def test_a_folder_in_place_of_a_file_is_reported(tmp_path):
    for name in ("folder.csv", "folder.parquet"):
        (tmp_path / name).mkdir()
        assert "directory" in error_of(read_header, tmp_path / name)


@pytest.mark.parametrize("size", [0, 3, 100, -5])
def test_a_fake_or_truncated_parquet_file_is_reported(parquet, size):
    path = parquet({"a": list(range(1000))})
    path.write_bytes(path.read_bytes()[:size])
    assert str(path) in error_of(read_frame, path, {"a": "numeric"})


def test_a_parquet_file_with_damaged_pages_is_reported(parquet):
    path = parquet({"a": [str(i) for i in range(5000)]}, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    assert str(path) in error_of(read_frame, path, {"a": "categorical"})


def test_a_truncated_or_fake_gzip_file_is_reported(csv):
    packed = gzip.compress(b"a,b\n" + os.urandom(5000).hex().encode() + b",2\n")
    for content in (packed[:500], b"a,b\n1,2\n"):
        path = csv(content, "table.csv.gz")
        assert str(path) in error_of(read_header, path)


def test_a_parquet_file_that_lacks_rows_is_damaged(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"b": np.arange(100) % 7})
    options = {"store_schema": False, "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, path, row_group_size=60, **options)
    content = path.read_bytes()
    outcomes = set()
    for place in range(4, len(content) - 8):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            rows = read_arrays(path, {"b": "numeric"})
        except TableError as error:
            what = "rows in row group" if "rows in row group" in str(error) else "damaged"
            outcomes.add(what if str(error).startswith(str(path)) else "an error without a file")
        else:
            outcomes.add(len(rows["b"]))
    assert outcomes == {"rows in row group", "damaged", 100}


def test_a_wrong_checksum_of_a_page_is_reported(parquet):
    path = parquet(
        {"a": np.arange(1000.0)}, compression="none", use_dictionary=False, write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    message = error_of(read_frame, path, {"a": "numeric"})
    assert str(path) in message and "CRC" in message


def test_a_parquet_file_without_columns_is_refused(parquet, tmp_path):
    path = parquet({})
    for blank_ok in (False, True):
        message = error_of(read_header, path, blank_ok=blank_ok)
        assert message == f"{path}: expected a table with columns, received none; write them"


def test_damaged_metadata_of_pandas_is_reported(tmp_path):
    path = tmp_path / "t.parquet"
    for description in (b"{", b"[1]", b'{"index_columns": 1}', b"\xff"):
        table = pa.table({"a": [1.0]}).replace_schema_metadata({b"pandas": description})
        pq.write_table(table, path)
        assert f"{path}: expected pandas' description" in error_of(read_header, path)


def test_text_in_parquet_that_is_not_utf8_is_put_aside(tmp_path):
    path = tmp_path / "t.parquet"
    texts = pa.array([b"x", b"caf\xe9", None, b"y"], "binary").view("string")
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0, None], "b": texts}), path)
    with TableReader(path) as rows:
        (chunk,) = rows.chunks(Schema.of_kinds({"a": "numeric", "b": "categorical"}), keep_bad=True)
    np.testing.assert_equal(chunk.arrays["a"], [1.0, 3.0, math.nan])
    assert chunk.arrays["b"].tolist() == ["x", "", "y"]
    (bad,) = chunk.bad
    assert (bad.line, bad.column, bad.text) == (1, "b", "2.0,caf\udce9")
    assert bad.reason.startswith("expected UTF-8, received other bytes")
    listed = pa.ListArray.from_arrays([0, 4], texts)
    pq.write_table(pa.table({"a": [1.0], "c": listed}), path)
    assert f"{path}, column 'c'" in error_of(read_frame, path, {"a": "numeric"})


def test_long_values_that_repeat_are_read_a_few_rows_at_a_time(parquet, monkeypatch):
    monkeypatch.setattr("vae_anomaly.tables.parquet_rows._PIECE_BYTES", 10_000)
    texts = pa.array(["x" * 1000, "y", None] * 100)
    structs = pa.array([{"deep": "z" * 500}] * 300)
    kinds = {"a": "categorical"}
    for column in (texts, texts.dictionary_encode()):
        path = parquet({"a": column, "s": structs, "n": np.arange(300)}, row_group_size=100)
        sizes = [chunk.raw.num_rows for chunk in iter_chunks(path, kinds)]
        assert sum(sizes) == 300 and max(sizes) == 10_000 // 1500
        assert read_arrays(path, kinds)["a"].tolist() == ["x" * 1000, "y", ""] * 100
    path = parquet({"a": texts, "n": np.arange(300)}, use_dictionary=False)
    assert read_arrays(path, kinds)["a"].tolist() == ["x" * 1000, "y", ""] * 100


def test_a_small_file_that_stands_for_much_memory_is_refused(parquet, monkeypatch):
    monkeypatch.setattr("vae_anomaly.tables.parquet_rows._LARGEST_BYTES", 100_000)
    monkeypatch.setattr("vae_anomaly.tables.parquet_rows._LARGEST_LISTS", 100_000)
    numbers = np.zeros(500_000)
    read = {"n": "numeric"}
    assert len(read_arrays(parquet({"n": numbers}, use_dictionary=False), read)["n"]) == 500_000
    for column in (
        ["x" * 200_000],  # one cell
        [[None] * 200_000],  # a list of nothing
        [[["x" * 1000] * 200]],  # one text, often
        pa.array([[("k", "x" * 1000)] * 200], pa.map_(pa.string(), pa.string())),
    ):
        path = parquet({"n": [1.0], "a": column}, compression="zstd")
        message = error_of(read_frame, path, read)
        assert f"{path}: expected row groups of at most 0 MiB" in message


@pytest.mark.parametrize(("door", "n_cases"), [("csv", 4), ("parquet", 60)])
def test_no_row_is_lost_under_attack(tmp_path, monkeypatch, door, n_cases):
    for name in ("_FIRST_BYTES", "_BLOCK_BYTES"):  # which the attack sets
        monkeypatch.setattr(f"vae_anomaly.tables.csv_rows.{name}", 1000)
    attack = runpy.run_path(str(ROOT / "benchmarks/robustness/tables.py"))["ATTACKS"][door]
    results = [attack(np.random.default_rng([5, case]), tmp_path) for case in range(n_cases)]
    assert [result["faults"] for result in results] == [[]] * n_cases
    assert sum(result["read"] for result in results) > 100


@pytest.mark.parametrize(("suffix", "codec"), [("gz", "gzip"), ("zst", "zstd")])
@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_compressed_and_tab_separated_files_are_read_and_written(
    tmp_path, kind, delimiter, suffix, codec
):
    path, again = tmp_path / f"t.{kind}.{suffix}", tmp_path / f"again.{kind}.{suffix}"
    content = f'a{delimiter}b\n1{delimiter}"x\ny"\n2{delimiter}z\n'.encode()
    with pa.CompressedOutputStream(path, codec) as stream:
        stream.write(content)
    assert read_frame(path, {"b": "categorical"})["b"].tolist() == ["x\ny", "z"]
    copy(path, again, chunk_rows=1)
    with pa.CompressedInputStream(again, codec) as stream:
        assert stream.read() == content


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_other_encodings_and_delimiters_are_read_if_they_are_named(csv, encoding):
    path = csv('a;b\n1;café\n2;"x;y"\n'.encode(encoding))
    options = {"delimiter": ";", "encoding": encoding}
    assert read_header(path, **options) == ["a", "b"]
    assert infer_kinds(path, **options) == {"a": "numeric", "b": "categorical"}
    assert read_frame(path, {"b": "categorical"}, **options)["b"].tolist() == ["café", "x;y"]


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "klingon"},
        {"encoding": "hex"},
        *({"delimiter": text} for text in ("||", "\n", "\r", '"', "\xa7")),
    ],
)
def test_an_impossible_delimiter_or_encoding_is_reported(csv, options):
    message = error_of(read_header, csv("a,b\n1,2\n"), **options)
    assert "expected a" in message
    assert repr(*options.values()) in message


# Malformed rows


BAD = [
    (b"1,2,3", 3, None, "expected 2 fields, received 3"),
    (b"x,2", 3, "a", "expected a number, received 'x'"),
    (b"1,caf\xe9", 3, None, "expected UTF-8"),
    (b'1,"x"y', 3, None, "expected CSV"),
    (b'1,"x', 3, None, "expected CSV"),
]


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize(("text", "line", "column", "reason"), BAD)
def test_bad_rows_can_be_kept_apart_as_they_were(csv, text, line, column, reason, quoted):
    good = b'"5",z' if quoted else b"5,z"
    path = csv(b"a,b\n1,z\n" + text + b"\n3,z\n" + good)
    with TableReader(path, dialect={"encoding": "utf-8"}) as rows:
        chunks = list(rows.chunks(Schema.of_kinds({"a": "numeric"}), chunk_rows=1, keep_bad=True))
    assert [value for chunk in chunks for value in chunk.arrays["a"]] == [1, 3, 5]
    (bad,) = [bad for chunk in chunks for bad in chunk.bad]
    assert (bad.line, bad.column) == (line, column)
    assert bad.reason.startswith(reason)
    assert bad.text.encode("utf-8", "surrogateescape") == text


def test_bad_cells_of_a_parquet_file_can_be_kept_apart(parquet):
    path = parquet({"a": ["1", "x", "3", "y"], "b": [1, 2, 3, 4]})
    with TableReader(path) as rows:
        (chunk,) = rows.chunks(Schema.of_kinds({"a": "numeric"}), keep_bad=True)
    assert chunk.raw["b"].to_pylist() == [1, 3]
    assert [(bad.line, bad.column, bad.text) for bad in chunk.bad] == [
        (1, "a", "x,2"),
        (3, "a", "y,4"),
    ]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_reading_goes_on_after_any_chunk_as_if_it_had_not_stopped(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("vae_anomaly.tables.csv_rows._BLOCK_BYTES", 50)
    path, cells = tmp_path / f"t.{suffix}", [f"{i % 7}\n" if i % 5 else f"{i}" for i in range(60)]
    frame = pd.DataFrame({"a": np.arange(60.0), "b": cells})
    if suffix == "parquet":
        frame.to_parquet(path, row_group_size=7)
    else:
        lines = frame.to_csv(index=False).splitlines(keepends=True)
        lines[20:20] = ["bad\n", "\n"]
        with gzip.open(path, "wt") if "gz" in suffix else open(path, "w") as file:
            file.writelines(lines)

    def chunks(start=()):
        with TableReader(path) as rows:
            options = {"chunk_rows": 4, "keep_bad": True, "start": start}
            return [
                (chunk.raw.to_pydict(), chunk.bad, chunk.end)
                for chunk in rows.chunks(Schema.of_kinds({"a": "numeric"}), **options)
            ]

    whole = chunks()
    assert len(whole) >= 15
    assert sum(len(raw["a"]) for raw, _, _ in whole) == 60
    for index, (_, _, end) in enumerate(whole):
        assert chunks(end) == whole[index + 1 :]


pieces = st.sampled_from(
    ["1", "22", "x", ",", ",", '"', '""', ',"a"', "\n", "\r\n", "\r", "\n1,2\n", "é", "\ufeff", " "]
)


def read_chunks(path, start=(), **options):
    with TableReader(path, dialect=Dialect()) as rows:
        chunks = rows.chunks(
            Schema.of_kinds({"a": "numeric"}), keep_bad=True, start=start, **options
        )
        return [(chunk.raw.to_pydict(), chunk.bad, chunk.end) for chunk in chunks]


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=60), st.integers(1, 60), st.integers(1, 3))
def test_any_text_is_read_on_after_any_chunk_as_if_it_had_not_stopped(text, block, chunk_rows):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.tables.csv_rows._BLOCK_BYTES", block)
        patch.setattr("vae_anomaly.tables.csv_rows._FIRST_BYTES", block)
        path = Path(folder) / "t.csv"
        path.write_bytes(("a,b\n" + "".join(text)).encode())
        whole = read_chunks(path, chunk_rows=chunk_rows)
        for index, (_, _, end) in enumerate(whole):
            assert read_chunks(path, end, chunk_rows=chunk_rows) == whole[index + 1 :]


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=40))
def test_the_fast_way_to_read_text_gives_what_the_slow_one_gives(text):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "t.csv"
        path.write_bytes(("a,b\n" + "".join(text)).encode())
        fast = read_chunks(path)
        patch.setattr("vae_anomaly.tables.csv_rows.CsvRows._plain_table", lambda *_: None)
        assert read_chunks(path) == fast


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["numeric", "boolean", "datetime"]),
    st.lists(
        st.one_of(
            st.text(" +-.,0123456789einfaTZ:\xa0", max_size=6),
            st.sampled_from(
                [
                    "nan",
                    "NA",
                    "-nan",
                    "nan(1)",
                    "nan()",
                    "true",
                    "1 days",
                    "inf",
                    "-Infinity",
                    "1e400",
                ]
            ),
            st.sampled_from(["2024-01-31", " 2024-01-31T10:00", "2024-13-01", "2024-01-31x"]),
            st.sampled_from(["1.", "+1", ".5", "1e5", "0x1", "1_000", "2", "0", "1", "01", ""]),
            st.from_regex(
                r"\A[012]\d{3}-[01]\d-[0-3]\d([T ][0-2]\d(:[0-6]\d(:[0-6]\d(\.\d{1,9})?)?)?"
                r"(Z|[+-][0-2]\d(:?[0-6]\d)?)?)?\Z"
            ),
            st.sampled_from(["1900-02-29", "2000-02-29", "2023-02-29T10Z", "20T4-02-29"]),
            st.from_regex(r"\A-?\d{1,7} days( \+?[0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,9})?)?\Z"),
            st.sampled_from(["106751 days 23:47:16.854775808", "106752 days"]),
        ),
        max_size=6,
    ),
)
def test_bad_cells_are_those_that_cannot_be_converted_alone(kind, cells):
    column = pa.chunked_array([pa.array(cells, "string")])
    expected = [i for i in range(len(cells)) if bad_cells(column[i : i + 1], kind)]
    assert bad_cells(column, kind) == expected


def test_bad_cells_are_found_in_columns_that_are_no_text():
    columns = [
        (pa.array([0, 2, None, 1]), "boolean", [1]),
        (pa.array([1.0, 0.5, math.nan, math.inf]), "boolean", [1, 3]),
        (pa.array([0, 1, 10**6], pa.duration("us")), "boolean", [1]),
        (pa.array([2**62, 0, None, -(2**62)], pa.timestamp("s")), "datetime", [0, 3]),
        (pa.array([2**62, 0], pa.timestamp("ms", "UTC")), "datetime", [0]),
        (pa.array([2**31 - 1, -(2**31), 0, 106_751_991], pa.date32()), "datetime", [0, 1]),
    ]
    for array, kind, expected in columns:
        column = pa.chunked_array([array])
        alone = [i for i in range(len(array)) if bad_cells(column[i : i + 1], kind)]
        assert bad_cells(column, kind) == alone == expected


@pytest.mark.parametrize(("row", "count"), [("1", 1), ("1,2,3", 3)])
def test_a_row_with_another_number_of_fields_is_reported_with_its_line(csv, row, count):
    path = csv(f'a,b\n\n1,"x\ny"\n{row}\n3,4\n')
    message = error_of(read_frame, path, {"a": "numeric"})
    assert f"{path}, line 5: expected 2 fields, received {count};" in message


def test_a_quote_which_never_closes_is_reported_where_its_row_starts(csv):
    assert "line 3:" in error_of(read_frame, csv('a,b\n1,x\n2,"y\n3,z\n'), {"a": "numeric"})


def test_a_quote_which_never_closes_does_not_read_the_file_into_memory(csv):
    message = error_of(read_frame, csv('a,b\n1,"x\n' + "2,y\n" * 100_000), {"a": "numeric"})
    assert "line 2:" in message


def test_a_row_that_is_too_long_is_reported_where_it_starts(csv, monkeypatch):
    for name in ("_FIRST_BYTES", "_BLOCK_BYTES", "_LONGEST_ROW"):
        monkeypatch.setattr(f"vae_anomaly.tables.csv_rows.{name}", 64)
    path = csv("a,b\n1,2\n\n3," + "4" * 99)
    assert f"{path}, line 4: expected a row of at most 64 bytes" in error_of(
        read_frame, path, {"a": "numeric"}
    )


def test_blank_lines_do_not_slow_reading_down_nor_move_line_numbers(csv, monkeypatch):
    monkeypatch.delattr("vae_anomaly.tables.csv_rows.CsvRows._careful_block")
    for end in ("\n", "\r\n"):
        rows = ["a,b", "", "1,x", *[""] * 5000, '"2",y', "bad,z", ""]
        path = csv(end.join(rows))
        with TableReader(path) as rows:
            (chunk,) = rows.chunks(Schema.of_kinds({"a": "numeric"}), keep_bad=True)
        assert chunk.arrays["a"].tolist() == [1, 2]
        (bad,) = chunk.bad
        assert (bad.line, bad.text) == (5005, "bad,z")
    assert column(csv("a\n" + "\n" * 5000), "numeric") == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["row", "none"])
def test_more_blank_lines_than_a_row_may_be_long_are_skipped(csv, monkeypatch, end, header):
    for name, size in {"_FIRST_BYTES": 64, "_BLOCK_BYTES": 64, "_LONGEST_ROW": 200}.items():
        monkeypatch.setattr(f"vae_anomaly.tables.csv_rows.{name}", size)
    names = ["a,b"] if header == "row" else []
    path = csv(end.join(["", "", *[""] * 501, *names, *[""] * 301, "1,x", *[""] * 700, "bad,z"]))
    # A reader that is told to skip lines counts them from the top of the file.
    for skip in (0, 2, 503):
        dialect = Dialect(header=header, skip_lines=skip)
        with TableReader(path, dialect=dialect) as rows:
            first = rows.names[0]
            chunks = list(rows.chunks(Schema.of_kinds({first: "numeric"}), keep_bad=True))
        assert [x for chunk in chunks for x in chunk.arrays[first].tolist()] == [1]
        line = 503 + len(names) + 301 + 1 + 700 + 1
        assert [bad.line for chunk in chunks for bad in chunk.bad] == [line]


def test_text_after_a_closing_quote_is_reported(csv):
    assert "line 2:" in error_of(read_frame, csv('a,b\n1,"x"y\n'), {"a": "numeric"})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bytes_which_are_not_utf8_are_reported_with_their_line(csv, end):
    rows = [f"{i},x" for i in range(5000)] + ["1,caf\xe9", "2,y"]
    path = csv(end.join(["a,b", *rows]).encode("latin-1"))
    message = error_of(read_frame, path, {"a": "numeric"})
    assert "line 5002: expected UTF-8" in message


def test_utf16_is_read_by_its_mark_and_reported_without_one(csv):
    assert read_header(csv("a,b\n1,2\n".encode("utf-16"))) == ["a", "b"]
    assert "most likely utf-16-le" in error_of(read_header, csv("a,b\n1,2\n".encode("utf-16-le")))


# Columns


def test_the_expected_columns_in_another_order_pass():
    check_columns("f.csv", ["b", "a"], ["a", "b"])


def test_missing_and_unexpected_columns_are_listed_with_the_nearest_name():
    message = error_of(check_columns, "f.csv", ["Age", "zip", "id"], ["age", "town"], iter(["id"]))
    missing, unexpected, _ = message.split("; ")
    assert missing == "f.csv: missing columns: 'age' (did you mean 'Age'?), 'town'"
    assert unexpected == "unexpected columns: 'Age', 'zip'"


def test_an_ignored_column_passes():
    check_columns("f.csv", ["a", "id"], ["a"], ignore=["id", "absent"])


def test_reading_lists_the_columns_the_file_lacks(csv):
    message = error_of(
        read_frame, csv("a,B\n1,2\n"), {"a": "numeric", "b": "numeric", "c": "numeric"}
    )
    assert "missing columns: 'b' (did you mean 'B'?), 'c';" in message


# Kinds


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ("1 -2.5 1e5 +3", "numeric"),
        ("inf -inf Infinity 1", "numeric"),
        ("nan NA null None n/a 7", "numeric"),
        ("'' ''", "numeric"),
        ("' 1' '2 '", "numeric"),
        ("1 x", "categorical"),
        ("0x1f", "categorical"),
        ("1_000", "categorical"),
        ("true FALSE True", "boolean"),
        ("true ''", "boolean"),
        ("true 1 0 False", "boolean"),
        ("true 2", "categorical"),
        ("true 2024-01-31", "categorical"),
        ("'1 days' '-1 days +23:59:57.500000' ''", "numeric"),
        ("'1 days' 'a day'", "categorical"),
        ("yes no", "categorical"),
        ("2024-01-31", "datetime"),
        ("2024-01-31T10:00 '2024-01-31 10:00:00.123456789' 2024-01-31", "datetime"),
        ("2024-01-31T10:00:00Z 2024-01-31T10:00:00+02:00 2024-01-31T10:00-0130", "datetime"),
        ("31/01/2024", "datetime"),
        ("2024-01-31 5", "categorical"),
    ],
)
def test_the_kind_of_a_csv_column_follows_from_all_its_fields(csv, values, kind):
    rows = "".join(f'"{value}",x\n' for value in shlex.split(values))
    assert infer_kinds(csv("a,b\n" + rows)) == {"a": kind, "b": "categorical"}


def test_one_late_field_does_not_decide_the_kind(csv):
    path = csv("a,b\n" + "1,2024-01-01\n" * 20_000 + "x,5\n")
    schema = inspecting.file_schema(path)
    assert schema.kinds == {"a": "numeric", "b": "datetime"}
    assert [(note.code, note.column) for note in schema.notes] == [
        ("bad_cells", "a"),
        ("bad_cells", "b"),
    ]


def test_a_column_of_numbers_then_dates_in_another_chunk_is_categorical(csv):
    path = csv("a,b\n" + "1,\n" * 10_000 + "2024-01-01,true\n" * 10_000)
    assert infer_kinds(path) == {"a": "categorical", "b": "boolean"}


def test_the_columns_of_a_file_without_rows_are_numeric(csv):
    assert infer_kinds(csv("a,b\n")) == NUMERIC


def test_overrides_win(csv, parquet):
    overrides = {"a": "categorical"}
    assert infer_kinds(csv("a,b\n1,2\n"), overrides) == {"a": "categorical", "b": "numeric"}
    assert infer_kinds(parquet({"a": [1], "b": [2]}), overrides)["a"] == "categorical"


def test_an_override_of_an_unknown_column_is_refused(csv):
    with pytest.raises(ValueError, match="Received: 'c'"):
        infer_kinds(csv("a,b\n1,2\n"), {"c": "numeric"})


def test_an_override_by_an_unknown_kind_is_refused(csv):
    with pytest.raises(ValueError, match="Column 'a': expected a kind among .*'categorical'"):
        infer_kinds(csv("a,b\n1,2\n"), {"a": "number"})


def test_the_kind_of_a_parquet_column_follows_from_its_type(parquet):
    day = dt.date(2024, 1, 31)
    path = parquet(
        {
            "int": pa.array([1], pa.uint8()),
            "half": pa.array([1.0], pa.float16()),
            "decimal": [Decimal("1.5")],
            "null": pa.nulls(1),
            "bool": [True],
            "date": [day],
            "time": pa.array([dt.datetime(2024, 1, 31)], pa.timestamp("ns", "Europe/Paris")),
            "text": ["x"],
            "large": pa.array(["x"], pa.large_string()),
            "category": pa.array(["1"]).dictionary_encode(),
            "clock": [dt.time(1)],
            "bytes": [b"1"],
            "duration": [dt.timedelta(1)],
        }
    )
    kinds = ["numeric"] * 4 + ["boolean"] + ["datetime"] * 2 + ["categorical"] * 3
    kinds += ["datetime", "categorical", "numeric"]
    assert list(infer_kinds(path).values()) == kinds


def test_a_parquet_column_of_lists_is_refused_by_name(parquet):
    message = error_of(infer_kinds, parquet({"a": [1], "b": [[1, 2]]}))
    assert "column 'b'" in message and "list" in message


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([[1, 2]]),
        pa.array([{"x": 1}]),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_containers_are_no_categories_in_parquet_either(tmp_path, cells):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1.0], "b": cells}), path)
    message = error_of(read_frame, path, {"b": "categorical"})
    assert f"{path}, column 'b': expected text, received " in message
    assert infer_kinds(path, {"b": "id"}) == {"a": "numeric", "b": "id"}


def test_a_parquet_column_of_another_type_than_its_kind_is_refused_by_name(parquet):
    message = error_of(read_frame, parquet({"a": [True]}), {"a": "datetime"})
    assert "column 'a': expected a date or date-time, received bool;" in message


# Values


def test_numbers_become_floats_and_their_missing_words_nan(csv):
    path = csv("a,b\n" + ",x\n".join(["1", "-2.5e3", " 7 ", "inf", "-inf"]) + ",x\n")
    assert column(path, "numeric") == [1.0, -2500.0, 7.0, math.inf, -math.inf]
    path = csv("a,b\n" + ",x\n".join(["", "nan", "NA", "NULL", "None", "n/a"]) + ",x\n")
    assert np.isnan(column(path, "numeric")).all()


@pytest.mark.parametrize("kind", ["boolean", "numeric"])
@pytest.mark.parametrize("fields", ["True,false,", "1,0,", "1.0,0.0,", "TRUE, 0 ,NA"])
def test_booleans_and_their_numbers_become_one_zero_and_nan(csv, kind, fields):
    path = csv("a,b\n" + ",x\n".join(fields.split(",")) + ",x\n")
    np.testing.assert_equal(column(path, kind), [1.0, 0.0, math.nan])


def test_durations_become_seconds(csv):
    fields = ["1 days", "1 days 00:00:01.5", "-1 days +23:59:58", "0 days 00:00:00.000001", "", "7"]
    seconds = [86400.0, 86401.5, -2.0, 1e-6, math.nan, 7.0]
    np.testing.assert_equal(column(csv("a,b\n" + ",x\n".join(fields) + ",x\n"), "numeric"), seconds)


def test_dates_become_utc_without_a_zone(csv):
    values = ["2024-01-31", "2024-01-31T10:00:00+02:00", "2024-01-31 10:00:00.5Z", ""]
    frame = read_frame(csv("a,b\n" + ",x\n".join(values) + ",x\n"), {"a": "datetime"})
    expected = ["2024-01-31", "2024-01-31T08:00", "2024-01-31T10:00:00.5", "NaT"]
    assert frame["a"].dtype == "datetime64[us]"
    np.testing.assert_array_equal(frame["a"].to_numpy(), np.array(expected, "datetime64[us]"))


def test_text_is_kept_as_it_is_but_for_what_pandas_reads_as_missing(csv):
    path = csv('a,b\n" x ",1\n007,1\n?,1\nNA,1\n"",1\n,1\n')
    frame = read_frame(path, {"a": "categorical"})
    assert frame["a"].dtype == object
    assert frame["a"].tolist() == [" x ", "007", "?", None, None, None]
    assert pd.read_csv(path, dtype=str)["a"].isna().tolist() == [False] * 3 + [True] * 3


def test_a_header_alone_gives_no_rows_but_the_types(csv):
    kinds = {"b": "categorical", "a": "numeric", "c": "datetime"}
    frame = read_frame(csv("a,b,c"), kinds)
    assert [str(t) for t in frame.dtypes] == ["object", "float64", "datetime64[us]"]
    assert list(frame.columns) == ["b", "a", "c"] and len(frame) == 0


def test_blank_lines_are_skipped(csv):
    assert column(csv("\na,b\n\n1,2\r\n\r\n3,4\n\n"), "numeric") == [1.0, 3.0]


def test_parquet_values_become_what_their_csv_text_would(csv, parquet):
    stamp = dt.datetime(1969, 12, 31, 23, 59, 59, 999999)
    path = parquet(
        {
            "int": pa.array([2**63 + 1, None], pa.uint64()),
            "decimal": pa.array([Decimal("0.1000000000000000055511151231257827"), None]),
            "bool": [True, None],
            "date": [dt.date(1, 1, 1), None],
            "ns": pa.array([-1, None], pa.timestamp("ns")),
            "zone": pa.array([stamp, None], pa.timestamp("us", "Europe/Paris")),
            "category": pa.array(["x", None]).dictionary_encode(),
            "null": pa.nulls(2),
            "number": ["1.5", None],
        }
    )
    kinds = {**infer_kinds(path), "number": "numeric"}
    text = (
        "int,decimal,bool,date,ns,zone,category,null,number\n"
        "9223372036854775809,0.1000000000000000055511151231257827,true,0001-01-01,"
        "1969-12-31 23:59:59.999999999,1969-12-31T23:59:59.999999Z,x,,1.5\n,,,,,,,,\n"
    )
    pd.testing.assert_frame_equal(read_frame(path, kinds), read_frame(csv(text), kinds))


def test_parquet_values_of_other_types_can_be_read_as_text(parquet):
    path = parquet({"a": [7, None], "b": [0.1, math.nan], "c": [True, False]})
    arrays = read_arrays(path, dict.fromkeys("abc", "categorical"))
    texts = [array.tolist() for array in arrays.values()]
    assert texts == [["7", ""], ["0.1", ""], ["True", "False"]]


def test_columns_which_are_not_asked_for_are_not_converted(parquet):
    (chunk,) = iter_chunks(parquet({"a": [1], "b": [[1, 2]]}), {"a": "numeric"})
    assert list(chunk.arrays) == ["a"] and chunk.raw.column_names == ["a", "b"]


# Bad values


def test_a_word_in_a_numeric_column_is_reported_with_its_physical_line(csv):
    path = csv('a,b\n\n1,"x\ny"\r\n\n2,z\nabc,t\n')
    message = error_of(read_frame, path, {"a": "numeric"})
    assert message.startswith(f"{path}, line 7, column 'a': expected a number, received 'abc';")


def test_line_breaks_earlier_in_the_same_row_count(csv):
    assert ", line 4, column 'b'" in error_of(
        read_frame, csv('a,b\n"x\n\ny",z\n'), {"b": "numeric"}
    )


def test_a_word_in_a_late_chunk_is_reported_with_its_line(csv):
    path = csv("a,b\n" + "1,2\n" * 20_000 + "1,x\n" + "1,2\n" * 10)
    assert ", line 20002, column 'b'" in error_of(iter_chunks, path, NUMERIC, chunk_rows=700)


def test_chunks_before_the_bad_value_are_given(csv):
    chunks = iter_chunks(csv("a,b\n1,2\n3,4\nx,6\n"), NUMERIC, chunk_rows=2)
    assert next(chunks).arrays["a"].tolist() == [1, 3]
    assert "line 4" in error_of(next, chunks)


@pytest.mark.parametrize("value", ["2", "-1", "0.5", "yes", "inf", "1 days", "2024-01-31"])
def test_a_value_which_is_not_a_boolean_is_reported(csv, value):
    message = error_of(read_frame, csv(f"a,b\ntrue,1\n{value},1\n"), {"a": "boolean"})
    expected = f"line 3, column 'a': expected true or false, or 1 or 0, received '{value}';"
    assert expected in message


def test_a_number_in_parquet_which_is_not_a_boolean_is_reported_with_its_row(parquet):
    message = error_of(read_frame, parquet({"a": [0, 1, None, 2, 3]}), {"a": "boolean"})
    assert "row 3 (from 0), column 'a': expected true or false, or 1 or 0, received '2'" in message


def test_a_value_which_is_not_a_date_is_reported(csv):
    message = error_of(read_frame, csv("a,b\n2024-13-01,1\n"), {"a": "datetime"})
    assert "line 2, column 'a': expected a date or date-time like %Y-%m-%d, received" in message


def test_a_bad_text_in_parquet_is_reported_with_its_row(parquet):
    message = error_of(read_frame, parquet({"a": ["1"] * 9000 + ["x\ny"]}), {"a": "numeric"})
    assert "row 9000 (from 0), column 'a': expected a number, received 'x\\ny';" in message


def test_a_date_in_parquet_which_does_not_fit_is_reported_with_its_row(parquet):
    path = parquet({"a": pa.array([0, 2**60], pa.timestamp("ms"))})
    assert "row 1 (from 0), column 'a'" in error_of(read_frame, path, {"a": "datetime"})


def test_a_long_value_is_cut_in_the_message(csv):
    assert len(error_of(read_frame, csv("a,b\n" + "x" * 5000 + ",1\n"), {"a": "numeric"})) < 400


# Chunks


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "sizes"), [(0, [0]), (3, [3]), (4, [4]), (10, [4, 4, 2]), (8, [4, 4])]
)
def test_chunks_have_at_most_the_rows_asked_for(tmp_path, suffix, rows, sizes):
    path = tmp_path / f"t{suffix}"
    table = pd.DataFrame({"a": np.arange(rows, dtype=float), "b": ["x"] * rows})
    if suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False, row_group_size=3)
    chunks = list(iter_chunks(path, {"a": "numeric"}, chunk_rows=4))
    assert [chunk.raw.num_rows for chunk in chunks] == sizes
    assert [len(chunk.arrays["a"]) for chunk in chunks] == sizes
    assert [value for chunk in chunks for value in chunk.arrays["a"]] == list(range(rows))


def test_chunks_fill_the_blocks_of_the_scorer():
    from vae_anomaly.scoring import tables as scoring

    assert CHUNK_ROWS % scoring.CHUNK_ROWS == 0


def test_raw_csv_columns_are_text_as_it_was(csv):
    (chunk,) = iter_chunks(csv('a,b\n007,"x, y"\n1.50,\n'), {"a": "numeric"})
    assert chunk.raw.to_pydict() == {"a": ["007", "1.50"], "b": ["x, y", ""]}


# One table as a DataFrame, as the CSV file that pandas writes, and as Parquet


def objects(*cells):
    return pd.Series(cells, dtype=object)


def arrays_by_door(series, kind=None):
    """Arrays of one column from the DataFrame, from CSV, and from Parquet."""
    frame = pd.DataFrame({"c": series})
    schema = Schema.of_kinds({"c": kind}) if kind else inspecting.frame_schema(frame)
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = Path(folder) / "t.csv", Path(folder) / "t.parquet"
        frame.to_csv(csv, index=False)
        frame.to_parquet(parquet, index=False)
        files = [reader.read_arrays(p, schema, dialect=Dialect()) for p in (csv, parquet)]
        doors = [columns.frame_arrays(frame, schema), *files]
    return [arrays["c"].tolist() for arrays in doors]


NOON = pd.Timestamp("2024-01-31 12:00")
MIDNIGHTS = pd.Series([pd.Timestamp("2024-01-31"), pd.NaT])
COLUMNS = {
    "text": pd.Series(["a", "007", "1.50", "v1.10", " x ", "true", "NA", None]),
    "ints": pd.Series([1, -2]),
    "ints with a hole": pd.Series([1, None]),
    "nullable ints": pd.Series([2**53 + 1, None], dtype="Int64"),
    "floats": pd.Series([0.1, 2.0, -0.0, 1e15, 2.0**53, 1e16, 1e22, 1e-5, math.inf, None]),
    "float32": pd.Series([0.1, 2.0, 16777216.0, None], dtype="float32"),
    "nullable float32": pd.Series([0.1, None], dtype="Float32"),
    "bools": pd.Series([True, False]),
    "nullable bools": pd.Series([True, False, None], dtype="boolean"),
    "bools as objects": objects(True, False, None),
    "dates": objects(dt.date(2024, 1, 31), dt.date(1700, 1, 1), None),
    "midnights": MIDNIGHTS,
    "midnight and noon": pd.Series([NOON, MIDNIGHTS[0], None]),
    "milliseconds": pd.Series([NOON, NOON + pd.Timedelta("1500ms")]),
    "nanoseconds": pd.Series([NOON, NOON + pd.Timedelta("1ns")]),
    "seconds": MIDNIGHTS.astype("datetime64[s]"),
    "moments as objects": objects(NOON, dt.datetime(2024, 1, 31), None),
    "midnights in a zone": MIDNIGHTS.dt.tz_localize("Asia/Kolkata"),
    "moments in a zone": pd.Series([NOON, MIDNIGHTS[0]]).dt.tz_localize("America/New_York"),
    "moments in two zones": objects(NOON.tz_localize("UTC"), NOON.tz_localize("Asia/Kolkata")),
    "times of day": objects(dt.time(12, 30), dt.time(1, 2, 3, 500_000), None),
    "days": pd.Series(pd.to_timedelta([1, -2, None], unit="D")),
    "durations": pd.Series(pd.to_timedelta([86400, -2.5, 1e-6, None], unit="s")),
    "decimals": objects(Decimal("0.10"), Decimal("-2.50"), Decimal("1.00"), None),
    "whole decimals": objects(Decimal("10"), Decimal("2"), None),
    "bytes": objects(b"ab", b"\xff", None),
    "periods": pd.Series(pd.period_range("2024-01", periods=2, freq="M")),
}
CATEGORIES = {
    f"category of {name}": COLUMNS[name].astype("category")
    for name in (
        "text",
        "ints",
        "floats",
        "bools",
        "dates",
        "midnights",
        "midnights in a zone",
    )
    + ("midnight and noon", "decimals", "times of day")
}
ARROW = {
    f"pyarrow {name}": COLUMNS[name].convert_dtypes(dtype_backend="pyarrow")
    for name in ("text", "ints with a hole", "bools", "midnights", "moments in a zone", "durations")
}
DOORS = {**COLUMNS, **CATEGORIES, **ARROW}


@pytest.mark.parametrize("series", DOORS.values(), ids=DOORS)
def test_a_category_has_the_same_text_by_every_door(series):
    texts, from_csv, from_parquet = arrays_by_door(series, "categorical")
    assert from_csv == texts
    assert from_parquet == texts
    assert len(set(texts)) == len({*series.dropna()} - {"NA"}) + series.hasnans


@pytest.mark.parametrize("series", DOORS.values(), ids=DOORS)
def test_a_column_has_the_same_values_by_every_door(series):
    values, from_csv, from_parquet = arrays_by_door(series)
    np.testing.assert_array_equal(from_parquet, values)
    if series.dtype == "float32" or series.dtype == "Float32":  # CSV has its digits only
        np.testing.assert_allclose(from_csv, values, rtol=1e-7)
    else:
        np.testing.assert_array_equal(from_csv, values)


@pytest.mark.parametrize("series", DOORS.values(), ids=DOORS)
def test_a_parquet_file_and_the_frame_read_from_it_have_the_same_kind(series, tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"c": series}).to_parquet(path)
    assert infer_kinds(path) == frame_kinds(pd.read_parquet(path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("series", COLUMNS.values(), ids=COLUMNS)
def test_parquet_is_as_strict_as_a_frame(series, kind, tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"c": series})
    frame.to_parquet(path)
    try:
        expected = frame_arrays(frame, {"c": kind})["c"]
    except ValueError:
        if series is not COLUMNS["text"]:  # that of a file is read as what is asked for
            assert "column 'c'" in error_of(read_frame, path, {"c": kind})
    else:
        array = read_arrays(path, {"c": kind})["c"]
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("kind", ["numeric", "boolean"])
@pytest.mark.parametrize(
    "series",
    [
        pd.Series([True, False, None], dtype="boolean"),
        objects(True, False, None),
        pd.Series([1.0, 0.0, None]),
        pd.Series([1, 0, None], dtype="Int8"),
        objects(Decimal(1), Decimal(0), None),
    ],
)
def test_booleans_and_their_numbers_stand_for_each_other_by_every_door(series, kind):
    for array in arrays_by_door(series, kind):
        np.testing.assert_array_equal(array, [1, 0, math.nan])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("series", [objects(None, None), pd.Series([math.nan]), MIDNIGHTS[1:]])
def test_a_column_without_values_fits_any_kind_by_every_door(series, kind):
    missing = [""] * len(series) if kind == "categorical" else [math.nan] * len(series)
    for array in arrays_by_door(series, kind):
        np.testing.assert_array_equal(array, missing)


readable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))
moments = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
CELLS = {
    "text": readable,
    "text like values": st.from_regex(
        r"-?\d{1,3}(\.\d{1,2})?|[tT]rue|2024-01-[0-3]\d[T ]0\d:00(:00(\.\d0)?)?(Z|[+-]0\d:00)?",
        fullmatch=True,
    ),
    "ints": st.integers(-(2**63), 2**63 - 1),
    "floats": st.floats(allow_nan=False),
    "bools": st.booleans(),
    "dates": st.dates(),
    "moments": moments,
    "moments in UTC": moments.map(lambda moment: moment.replace(tzinfo=dt.timezone.utc)),
    "moments in a zone": moments.map(
        lambda moment: pd.Timestamp(moment, tz="UTC").tz_convert("Asia/Kolkata")
    ),
    "decimals": st.decimals(-1000, 1000, places=2),
    "times of day": st.times(),
}


@pytest.mark.parametrize("name", CELLS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_cells_are_the_same_categories_by_every_door(name, data):
    cells = data.draw(st.lists(st.none() | CELLS[name], min_size=1, max_size=5))
    series = pd.Series(cells, dtype=data.draw(st.sampled_from([None, object, "category"])))
    texts, from_csv, from_parquet = arrays_by_door(series, "categorical")
    assert from_csv == texts
    assert from_parquet == texts


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


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=60, deadline=None)
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
