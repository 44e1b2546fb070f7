"""Rows that are no rows, and files in chunks: what is read, what is put aside."""

import gzip
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import bad_cells, column, error_of, iter_chunks, read_frame, read_header

from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.reader import CHUNK_ROWS, TableReader
from vae_anomaly.tables.schema import Schema

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


@settings(max_examples=2 * settings().max_examples)
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


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(pieces, max_size=40))
def test_the_fast_way_to_read_text_gives_what_the_slow_one_gives(text):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "t.csv"
        path.write_bytes(("a,b\n" + "".join(text)).encode())
        fast = read_chunks(path)
        patch.setattr("vae_anomaly.tables.plain_csv.PlainCsv.table", lambda *_: None)
        assert read_chunks(path) == fast


@settings(max_examples=2 * settings().max_examples)
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
