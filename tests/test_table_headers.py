"""Names of columns: where they stand, how they are spelled, which are missing."""

import gzip
import math
import os
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_files import (
    NUMERIC,
    copy,
    error_of,
    infer_kinds,
    iter_chunks,
    read_arrays,
    read_frame,
    read_header,
)

from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.reader import TableReader, check_columns
from vae_anomaly.tables.schema import Schema

ROOT = Path(__file__).parents[1]


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


def test_lists_whose_description_is_damaged_do_not_end_the_process(tmp_path):
    attack = runpy.run_path(str(ROOT / "benchmarks/robustness/tables.py"))["attack_parquet"]
    for case in (3508, 10191, 10897):  # found with --seed 60
        result = attack(np.random.default_rng([60, case, 1]), tmp_path)
        assert result["refused"] == 1 and not result["faults"]


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
