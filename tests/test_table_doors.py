"""One table as a DataFrame, as the CSV file that pandas writes, and as Parquet."""

import datetime as dt
import math
import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import (
    error_of,
    infer_kinds,
    read_arrays,
    read_frame,
)

from vae_anomaly.tables import columns, inspecting, reader
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.rules import KINDS
from vae_anomaly.tables.schema import Schema


def frame_kinds(frame):
    return inspecting.frame_schema(frame).kinds


def frame_arrays(frame, kinds):
    return columns.frame_arrays(frame, Schema.of_kinds(kinds))


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
@settings(max_examples=settings().max_examples // 4)
@given(data=st.data())
def test_any_cells_are_the_same_categories_by_every_door(name, data):
    cells = data.draw(st.lists(st.none() | CELLS[name], min_size=1, max_size=5))
    series = pd.Series(cells, dtype=data.draw(st.sampled_from([None, object, "category"])))
    texts, from_csv, from_parquet = arrays_by_door(series, "categorical")
    assert from_csv == texts
    assert from_parquet == texts


MARKED = {
    "ints": (pd.Series([-999, 5]), "-999"),
    "nullable ints": (pd.Series([-999, 5], dtype="Int64"), "-999"),
    "floats": (pd.Series([-999.5, 5]), "-999.5"),
    "float32": (pd.Series([-999.9, 5], dtype="float32"), "-999.9"),
    "decimals": (objects(Decimal("-999.90"), Decimal("5.00")), "-999.90"),
    "pyarrow floats": (pd.Series([-999.5, 5], dtype="double[pyarrow]"), "-999.5"),
    "moments": (pd.Series(pd.to_datetime(["2100-12-31", "1970-01-01"])), "2100-12-31"),
    "dates": (objects(dt.date(9999, 12, 31), dt.date(1970, 1, 1)), "9999-12-31"),
}


@pytest.mark.parametrize(("series", "marker"), MARKED.values(), ids=MARKED)
def test_a_marker_of_a_missing_cell_is_one_by_every_door(tmp_path, series, marker):
    frame = pd.DataFrame({"c": series})
    csv, parquet = tmp_path / "t.csv", tmp_path / "t.parquet"
    frame.to_csv(csv, index=False)
    frame.to_parquet(parquet)
    missing = ("unknown", marker)
    schema = inspecting.frame_schema(frame, missing=missing)
    arrays = [columns.frame_arrays(frame, schema)]
    for path in (csv, parquet):
        found = inspecting.file_schema(path, missing=missing)
        assert found.kinds == schema.kinds
        assert found.columns["c"].missing_share == schema.columns["c"].missing_share == 0.5
        arrays.append(reader.read_arrays(path, found))
    for values in arrays:
        assert np.isnan(values["c"][0]) and values["c"][1] in (5, 0)


def test_a_number_that_is_a_marker_marks_no_boolean(tmp_path):
    frame = pd.DataFrame({"c": [True, False, True]})
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    schema = inspecting.frame_schema(frame, missing=("0",))
    assert schema.columns["c"].missing_share == 0
    for arrays in (columns.frame_arrays(frame, schema), reader.read_arrays(path, schema)):
        assert arrays["c"].tolist() == [1, 0, 1]


def test_a_moment_too_far_is_a_bad_cell_of_what_is_decided(tmp_path):
    path = tmp_path / "t.parquet"
    moments = pa.array([0, 2**63 - 1, 86400, None]).cast(pa.timestamp("ms"))
    pq.write_table(pa.table({"c": moments, "x": [1.5, 2, 2, 3]}), path)
    schema = inspecting.file_schema(path)
    column = schema.columns["c"]
    assert (column.kind, column.n_bad, column.missing_share) == ("datetime", 1, 0.25)
    (note,) = (note for note in schema.notes if note.code == "bad_cells")
    assert "1 cells are not datetime, such as '" in note.message
    bad = []
    assert len(reader.read_arrays(path, schema, bad=bad)["c"]) == 3
    assert [row.column for row in bad] == ["c"]
