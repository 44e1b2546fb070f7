"""Cells of a table file: kinds of columns, values, bad values."""

import datetime as dt
import math
import shlex
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_files import (
    NUMERIC,
    column,
    error_of,
    infer_kinds,
    iter_chunks,
    read_arrays,
    read_frame,
)

from vae_anomaly.tables import inspecting
from vae_anomaly.tables.parquet_footer import values_of_columns

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


@given(
    st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3), min_size=1),
    st.integers(1, 9),
)
def test_the_footer_tells_how_many_values_lists_have(tmp_path_factory, cells, size):
    path = tmp_path_factory.mktemp("footer") / "t.parquet"
    column = pa.array(cells, pa.list_(pa.int64()))
    pq.write_table(pa.table({"a": range(len(cells)), "l": column}), path, row_group_size=size)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    expected = [[group.column(index).num_values for index in range(2)] for group in groups]
    assert values_of_columns(path) == expected


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
