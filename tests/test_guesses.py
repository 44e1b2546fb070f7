"""Whatever a column was meant to be: it is read so, or a note says what it was taken for."""

import datetime
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.batch.places import targets_of
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.inspecting import file_schema, frame_schema
from vae_anomaly.tables.inspection import decide
from vae_anomaly.tables.paths import find_inputs
from vae_anomaly.tables.reader import read_arrays
from vae_anomaly.tables.schema import Schema
from vae_anomaly.tables.tallies import ColumnTally

EUROPEAN, SWISS = str.maketrans(",.", ".,"), str.maketrans(",", "'")
NUMBERS = {
    "plain": "{}".format,
    "commas": "{:,}".format,
    "european": lambda x: f"{x:,}".translate(EUROPEAN),
    "decimal comma": lambda x: f"{x}".replace(".", ","),
    "spaces": lambda x: f"{x:,}".replace(",", " "),
    "apostrophes": lambda x: f"{x:,}".translate(SWISS),
    "dollars": "${:,}".format,
    "euros": lambda x: f"{x:,} €".translate(EUROPEAN),
    "francs": lambda x: f"CHF {x:,}".translate(SWISS),
    "percent": "{}%".format,
    "kilograms": "{} kg".format,
    "cubic metres": "{:,} m3".format,
    "carbon dioxide": "{} ppm CO2".format,
    "whole euros": lambda x: f"{x:,}".translate(EUROPEAN) if x % 1 else f"{x:.0f},-",
    "accounts in dollars": lambda x: f"$({-x:,})" if x < 0 else f"${x:,}",
    "decimal comma and exponent": lambda x: f"{x:.12e}".replace(".", ","),
    "accounts": lambda x: f"({-x:,})" if x < 0 else f"{x:,}",
    "at least": "{:,}+".format,
    "scientific": lambda x: f"{x:.12e}",
}
DATES = [
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%d-%b-%Y", "%B %d, %Y", "%d%b%Y", "%Y%m%d",
    "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%a %b %d %H:%M:%S %Y", "%y-%m-%d", "%m-%d-%y",
    "%Y-%m-%dT%H:%M:%SZ", "%d/%b/%Y:%H:%M:%S +0000", "%d.%m.%Y, %H:%M:%S", "%d %b. %Y",
    "%m/%d/%Y, %I:%M:%S %p", "%a %b  %d %H:%M:%S %Y", "%Y%m%d.0", "%Y%m%d%H%M%S.0",
]  # fmt: skip
EPOCH = datetime.datetime(1970, 1, 1)


@st.composite
def numbers(draw):
    digits = draw(st.sampled_from([0, 0, 1, 2, 3]))
    whole = draw(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=60))
    values = [x / 10**digits for x in whole] if digits else whole
    spelling = draw(st.sampled_from(sorted(NUMBERS)))
    return [NUMBERS[spelling](x) for x in values], "numeric", values


@st.composite
def dates(draw):
    moments = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2068, 12, 31))
    pattern = draw(st.sampled_from(DATES))
    some = [datetime.datetime(2001, 2, 3), datetime.datetime(2002, 1, 4)]  # they do not tell
    cells = [m.strftime(pattern) for m in [*some, *draw(st.lists(moments, max_size=60))]]
    times = [datetime.datetime.strptime(cell, pattern) for cell in cells]
    return cells, "datetime", [(time - EPOCH).total_seconds() for time in times]


@st.composite
def words(draw):
    texts = st.sampled_from(["red", "two words", "May", "A12", "true", "0", "7.5", "x;y", "é"])
    return ["Nord", *draw(st.lists(texts, max_size=60))], "categorical", None


@st.composite
def codes(draw):
    length = draw(st.integers(2, 6))
    some = st.integers(0, 10**length - 1).map(lambda number: f"{number:0{length}d}")
    return ["0" * length, *draw(st.lists(some, max_size=60))], "categorical", None


def is_read_as_meant(column, cells, kind, values):
    if column.kind != kind:
        return False
    if values is None:
        return True
    found, bad = column.read(pa.array(cells, "string"))
    # 1.234 may be 1234: where all cells are such, nothing is lost but a factor, as examples show.
    factors = (1, 1000) if column.numbers.is_plain else (1,)
    equal = [np.allclose(found * factor, values, rtol=1e-12, atol=0) for factor in factors]
    return not bad.any() and any(equal)


@given(st.one_of(numbers(), dates(), words(), codes()), st.sampled_from(["x", "when", "order_no"]))
def test_a_column_is_read_as_it_was_meant_or_a_note_says_what_it_is_taken_for(meant, name):
    cells, kind, values = meant
    tally = ColumnTally()
    tally.add_text(pa.array(cells, "string"))
    schema = decide({name: tally})
    if not is_read_as_meant(schema.columns[name], cells, kind, values):
        assert [note.column for note in schema.notes] == [name]
        assert repr(name) in schema.notes[0].message


def through(door, frame, folder):
    """Schema and named arrays of a frame of text, as it comes through a door."""
    if door == "frame":
        schema = frame_schema(frame)
        return schema, frame_arrays(frame, schema)
    path = folder / f"table.{door}"
    if door == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    schema = file_schema(path)
    return schema, read_arrays(path, schema, dialect=schema.dialect or {})


@pytest.mark.parametrize("spelling", [*NUMBERS, *DATES])
def test_every_spelling_is_read_alike_through_every_door(spelling, tmp_path):
    rng = np.random.default_rng(0)
    if spelling in NUMBERS:
        values = rng.integers(-(10**8), 10**8, 80) / 100
        cells = [NUMBERS[spelling](float(x)) for x in values]
    else:
        days = EPOCH + pd.to_timedelta(rng.integers(10**9, 2 * 10**9, 80), unit="s")
        cells = [day.strftime(spelling) for day in days]
    frame = pd.DataFrame({"x": cells, "g": rng.choice(["a", "b"], 80)})
    schemas, arrays = zip(
        *(through(door, frame, tmp_path) for door in ("frame", "csv", "parquet")), strict=True
    )
    kind = "numeric" if spelling in NUMBERS else "datetime"
    assert [schema.kinds for schema in schemas] == [{"x": kind, "g": "categorical"}] * 3
    for other in arrays:
        np.testing.assert_array_equal(other["x"], arrays[0]["x"])
    if spelling in NUMBERS:
        np.testing.assert_allclose(arrays[0]["x"], values, rtol=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("{0:02d}.03.2024", "2024-03-{0:02d}", "dates"),
        ("{0}/3/2024", "3/{0}/2024", "dates"),
        ("{0}.53", "{0},53", "numbers"),
        ("${0}.53", "€{0}.53", "numbers"),
    ],
)
def test_cells_in_two_formats_are_told_of(one, other, kind):
    cells = [(other if i % 2 else one).format(i % 28 + 1) for i in range(60)]
    notes = frame_schema(pd.DataFrame({"x": cells})).notes
    (note,) = (note.message for note in notes if note.code == "mixed")
    assert kind in note
    assert note.endswith("write all of them in one format")
    assert any(repr(cell) in note for cell in cells)


def test_other_numbers_among_durations_are_told_of():
    notes = frame_schema(pd.DataFrame({"x": ["62:30", "70:45", "5 km"] * 20})).notes
    (note,) = (note.message for note in notes if note.code == "mixed")
    assert "'5 km'" in note
    assert note.endswith("write all of them in one format")


def clock(seconds):
    hours, rest = divmod(abs(seconds), 3600)
    shown = f"{hours:.0f}:{rest // 60:02.0f}:{rest % 60:05.2f}"
    return f"-{shown}" if seconds < 0 else shown


DURATIONS = {
    "clock": clock,
    "minutes": lambda x: f"{x // 60:.0f}:{x % 60:04.1f}" if x >= 0 else clock(x),
    "Python": lambda x: str(datetime.timedelta(seconds=x)),
    "pandas": lambda x: str(pd.Timedelta(seconds=x)),
}


@pytest.mark.parametrize("spelling", DURATIONS)
def test_durations_are_seconds_through_every_door(spelling, tmp_path):
    seconds = np.random.default_rng(0).integers(-(10**6), 10**6, 60) / 2
    frame = pd.DataFrame({"x": [DURATIONS[spelling](float(x)) for x in seconds], "y": 0.5})
    for door in ("frame", "csv", "parquet"):
        schema, arrays = through(door, frame, tmp_path)
        assert (schema.columns["x"].kind, schema.columns["x"].n_bad) == ("numeric", 0)
        np.testing.assert_allclose(arrays["x"], seconds, rtol=1e-12)
        assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize("n_digits", [10, 400, 5000])
@pytest.mark.parametrize("rest", [":30", ":00:00", " days, 0:00:00"])
def test_more_hours_than_any_clock_counts_are_a_bad_cell(n_digits, rest):
    frame, bad = pd.DataFrame({"x": ["26:10:05"] * 40 + ["9" * n_digits + rest]}), []
    schema = frame_schema(frame)
    frame_arrays(frame, schema, bad=bad)
    assert schema.columns["x"].n_bad == len(bad) == 1


@pytest.mark.parametrize(
    ("day", "times"), [("", ["26:10", "61:00:00", "24:00:01"]), ("2024-01-31 ", ["24:01", "7:60"])]
)
def test_times_of_no_day_are_bad_cells_that_are_counted(day, times):
    cells = [f"{day}{time}" for time in times]
    frame = pd.DataFrame({"x": [f"{day}07:30"] * 80 + cells + [f"{day}24:00"]})
    schema, bad = frame_schema(frame), []
    frame_arrays(frame, schema, bad=bad)
    assert schema.kinds == {"x": "datetime"}
    assert [cell.value for cell in bad] == cells
    (note,) = (note for note in schema.notes if note.code == "bad_cells")
    assert f"{len(cells)} cells are not datetime, such as {cells[0]!r}" in note.message


@pytest.mark.parametrize("none", [0, 99991231])
def test_digits_that_are_no_date_do_not_make_dates_numbers(none, tmp_path):
    days = [20240101 + i % 28 + i % 12 * 100 for i in range(80)]
    frame = pd.DataFrame({"x": [none if i % 5 == 0 else day for i, day in enumerate(days)]})
    for door in ("frame", "csv", "parquet"):
        schema, arrays = through(door, frame, tmp_path)
        assert schema.columns["x"].dates.pattern == "%Y%m%d"
        assert np.isnan(arrays["x"]).mean() == schema.columns["x"].missing_share
        assert (schema.columns["x"].missing_share == 0.2) == (none == 0)
        assert ("99991231, in 20.0%" in str(schema)) == (none > 0)


USUAL = {
    "truth": ["true", "False", "TRUE"],
    "numbers": ["5", "7.5", "12"],
    "whole euros": ["0,-", "7,-", "4,50"],
    "percent": ["0%", "7.5%", "12%"],
    "clock": ["26:10:05", "0:07:30", "86:41"],
    "days": ["2024-01-31", "2024-02-01", "2024-03-30"],
    "digits": ["20240131", "20240201", "20240330"],
    "short digits": ["240131", "240201", "50330"],
    "decimals of digits": ["20240131.0", "20240201.0", "20240330.0"],
}
UNUSUAL = [
    "0",
    "45",
    "3.78",
    "0,-",
    "-",
    "x",
    "true",
    "12:30 pm",
    "1:05",
    "31.12.2024",
    "20240131T10",
]


@pytest.mark.parametrize("usual", USUAL)
def test_cells_that_are_told_of_as_bad_are_those_that_are_left_out(usual):
    for unusual in UNUSUAL:
        frame = pd.DataFrame({"date": [*USUAL[usual] * 20, unusual, unusual]})
        schema, bad = frame_schema(frame), []
        frame_arrays(frame, schema, bad=bad)
        assert schema.columns["date"].kind in ("numeric", "boolean", "datetime")
        assert schema.columns["date"].n_bad == len(bad), unusual


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        (["89", "1.250", "17.300", "5"] * 20, 1250),
        ([f"{index}.125" for index in range(1, 90)] + ["-999"] * 3, 1.125),
        ([f"{index}.125" for index in range(1, 90)] + ["12"], 1.125),
        (["1.375", *map(str, range(9))] * 9, 1.375),
        ([f"{index}.500" for index in range(1, 90)] + ["999"] * 5, 1.5),
    ],
)
def test_points_before_three_digits_are_decimal_unless_many_whole_numbers_are_among_them(
    cells, value
):
    frame = pd.DataFrame({"x": cells})
    schema = frame_schema(frame)
    assert "number_format" in {note.code for note in schema.notes}
    assert value in frame_arrays(frame, schema)["x"]


def test_short_years_in_digits_are_dates_where_the_name_says_so():
    cells = [f"{year:02d}{month:02d}{day:02d}" for year, month, day in [(99, 12, 31), (5, 1, 2)]]
    frame = pd.DataFrame({"birth_date": cells * 20, "code": cells * 20})
    schema = frame_schema(frame)
    assert schema.kinds == {"birth_date": "datetime", "code": "categorical"}
    expected = [datetime.datetime(1999, 12, 31), datetime.datetime(2005, 1, 2)]
    for door in (frame, frame.astype({"birth_date": int})):
        seconds = frame_arrays(door, frame_schema(door))["birth_date"][:2]
        assert seconds.tolist() == [(day - EPOCH).total_seconds() for day in expected]


@pytest.mark.parametrize("cell", ["9999-12-31", "31.12.9999", "1900-01-01 00:00:00", "0001-01-01"])
def test_dates_that_often_stand_for_none_are_told_of(cell):
    pattern = "%d.%m.%Y" if cell.startswith("31.") else "%Y-%m-%d"
    days = [f"{datetime.date(2024, 1, 1 + i % 28):{pattern}}" for i in range(60)]
    frame = pd.DataFrame({"end": [cell if i % 4 == 0 else day for i, day in enumerate(days)]})
    schema = frame_schema(frame)
    assert schema.kinds == {"end": "datetime"}
    (note,) = (note for note in schema.notes if note.code == "marker")
    assert f"{cell}, in 25.0% of the cells" in note.message
    schema = frame_schema(frame, missing=[cell])
    assert schema.columns["end"].missing_share == 0.25


def test_rows_that_cannot_be_read_are_told_of(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "1.5,x\n" * 30 + "2.5,y,z\n")
    note = file_schema(path).notes[0]
    assert (note.code, note.column) == ("bad_rows", None)
    assert "left out: 1; line 32: expected 2 fields, received 3" in note.message


@pytest.mark.parametrize("door", ["frame", "csv", "parquet"])
def test_rows_without_any_value_are_told_of(door, tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5] * 20, "b": ["x", "y"] * 20, "id": range(40)})
    frame.loc[[3, 9, 39], ["a", "b"]] = None
    schema, _ = through(door, frame.drop(columns="id"), tmp_path)
    (note,) = (note for note in schema.notes if note.code == "empty_rows")
    assert note.message.startswith("rows without any value: 3 of 40;")
    frame.loc[[3, 9], "b"] = "x"
    schema, _ = through(door, frame.drop(columns="id"), tmp_path)
    assert "empty_rows" not in {note.code for note in schema.notes}


def test_text_files_are_tables_where_they_are_named(tmp_path):
    for name in ("a.txt", "b.dat.gz", "notes.txt", "t.csv"):
        (tmp_path / name).touch()

    def found(name):
        return [os.path.basename(path) for path in find_inputs(tmp_path / name)]

    assert found("") == ["t.csv"]
    assert found("a.txt") == ["a.txt"]
    assert found("*.txt") == ["a.txt", "notes.txt"]
    (target,) = targets_of(["b.dat.gz"], f"{tmp_path}/", "parquet")
    assert (target.path.name, target.format) == ("b.parquet", "parquet")
    (target,) = targets_of(["b.dat.gz"], f"{tmp_path}/", None)
    assert (target.path.name, target.format) == ("b.dat.gz", "csv")
