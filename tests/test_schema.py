"""What columns are is decided from all of their cells, shown, and kept as JSON."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from table_files import read_text

from vae_anomaly.tables.dates import DateFormat
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.formats import NumberFormat
from vae_anomaly.tables.inspection import MIN_CELLS, decide
from vae_anomaly.tables.names import names_rows
from vae_anomaly.tables.schema import ColumnSchema, Note, Schema
from vae_anomaly.tables.schema_text import print_schema
from vae_anomaly.tables.tallies import N_HASHES, ColumnTally, DistinctCount, NumberTally

CORPUS = sorted((Path(__file__).parent / "tables").glob("*.json"))


def tallied(cells, **options):
    tally = ColumnTally()
    tally.add_text(pa.array(cells, "string"), **options)
    return tally


def decided(cells, name="x", **options):
    schema = decide({name: tallied(cells)}, **options)
    return schema.columns[name], [note.code for note in schema.notes]


def read(answers):
    """A file of the corpus: what is expected, its dialect, units, and cells by column."""
    expected = json.loads(answers.read_text(encoding="utf-8"))
    content = answers.with_name(expected["file"]).read_bytes()
    dialect, names, units, rows = read_text(content, **expected.get("options", {}))
    return expected, dialect, units, dict(zip(names, zip(*rows, strict=True), strict=True))


@pytest.mark.parametrize("answers", CORPUS, ids=lambda path: path.stem)
def test_the_columns_of_the_corpus_are_what_its_answers_say(answers):
    expected, dialect, units, cells = read(answers)
    schema = decide(
        {name: tallied(column) for name, column in cells.items()}, dialect=dialect, units=units
    )
    assert sorted(note.code for note in schema.notes) == sorted(expected.get("warnings", []))
    for name, wanted in expected["columns"].items():
        column = schema.columns[name]
        found = column.to_json()
        assert (found["kind"], found.get("format")) == (wanted["kind"], wanted.get("format"))
        assert column.unit == wanted.get("unit", "")
        assert column.missing_share * 40 == pytest.approx(wanted.get("missing", 0))
        if column.kind in ("numeric", "boolean", "datetime"):
            values, bad = column.read(pa.array(cells[name]))
            assert [cells[name][i] for i in np.flatnonzero(bad)] == wanted.get("bad", [])
            assert bad.sum() == column.n_bad
            assert np.isnan(values).sum() == wanted.get("missing", 0) + bad.sum()


@pytest.mark.parametrize("answers", CORPUS, ids=lambda path: path.stem)
def test_a_schema_reads_back_from_its_json(answers):
    _, dialect, units, cells = read(answers)
    schema = decide(
        {name: tallied(column) for name, column in cells.items()}, dialect=dialect, units=units
    )
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    "stem", ["plain", "booleans", "dates", "epoch", "ids", "missing_markers", "units", "currency"]
)
def test_a_frame_that_pandas_reads_has_the_kinds_of_its_file(stem):
    _, _, _, cells = read(next(path for path in CORPUS if path.stem == stem))
    from_file = decide({name: tallied(column) for name, column in cells.items()}).kinds
    frame = pd.read_csv(CORPUS[0].with_name(f"{stem}.csv"), dtype={"zip": str})
    tallies = {}
    for name, series in frame.items():
        tallies[name] = ColumnTally()
        if pd.api.types.is_numeric_dtype(series.dtype) and series.dtype != bool:
            tallies[name].add_numbers(series.to_numpy(np.float64))
        else:
            tallies[name].add_text(pa.array(series.astype(str).where(series.notna(), None)))
    assert decide(tallies).kinds == from_file


def test_a_note_names_column_reason_example_and_way_out():
    schema = decide({"uid": tallied([f"u{i:x}" for i in range(1000)])})
    (note,) = schema.notes
    assert note.column == "uid"
    for part in ("'uid'", "1000 of 1000 values differ", "'u0'", "--categorical uid"):
        assert part in note.message


def test_the_example_of_a_bad_cell_is_one_that_does_not_fit():
    schema = decide({"x": tallied([*["$5"] * 600, "57.1 12"])})
    assert schema.columns["x"].n_bad == 1
    assert "57.1 12" in schema.notes[0].message


def test_numbers_with_a_word_for_missing_say_how_to_name_it():
    column, codes = decided([*["19M"] * 80, *["Varies with device"] * 20])
    assert column.kind == "categorical"
    assert codes == ["mixed"]
    tally = tallied([*["19M"] * 80, *["none yet"] * 20], missing=["none yet"])
    assert decide({"x": tally}).columns["x"].missing_share == 0.2


@pytest.mark.parametrize("share", [0.96, 0.94])
def test_nineteen_of_twenty_cells_decide(share):
    n_good = round(share * 100)
    column, _ = decided([*["5.5"] * n_good, *["x"] * (100 - n_good)])
    assert (column.kind == "numeric") == (share > 0.95)


def test_a_value_seen_once_is_no_reason_for_levels():
    assert decided([f"code {i}" for i in range(100)])[0].kind == "text"
    assert decided([f"c{i}" for i in range(100)])[0].kind == "id"
    assert decided([f"c{i % 60}" for i in range(100)])[0].kind == "text"
    assert decided([f"c{i % 10}" for i in range(100)])[0].kind == "categorical"
    assert decided([f"c{i}" for i in range(MIN_CELLS - 1)])[0].kind == "categorical"


@pytest.mark.parametrize(
    ("numbers", "name", "kind"),
    [
        (range(7, 507, 5), "x", "id"),
        (range(100, 0, -1), "x", "id"),
        (np.random.default_rng(0).permutation(100) + 3, "x", "id"),
        (np.random.default_rng(0).choice(10**6, 100, replace=False), "population", "numeric"),
        (np.random.default_rng(0).choice(10**6, 100, replace=False), "order_no", "id"),
        (np.arange(100) / 4 + 0.1, "x", "numeric"),
        ([1, 2] * 50, "x", "numeric"),
        ([*range(99), 50], "x", "numeric"),
        (range(MIN_CELLS - 1), "x", "numeric"),
    ],
)
def test_running_numbers_are_ids_and_others_only_by_their_name(numbers, name, kind):
    as_text, _ = decided([str(number) for number in numbers], name)
    tally = ColumnTally()
    tally.add_numbers(np.asarray(numbers, float))
    assert as_text.kind == decide({name: tally}).columns[name].kind == kind


@given(st.integers(-(2**40), 2**40), st.integers(1, 2**20), st.integers(2, 200), st.randoms())
def test_steps_are_seen_in_any_order_and_only_steps(start, step, n, random):
    numbers = [start + step * i for i in range(n)]
    random.shuffle(numbers)
    tally = NumberTally()
    for part in np.array_split(np.array(numbers, float), 3):
        tally.add(part)
    assert tally.are_steps()
    numbers[0] += 1 if n > 2 else 0
    changed = NumberTally()
    changed.add(np.array(numbers, float))
    assert changed.are_steps() == (n == 2)


@pytest.mark.parametrize("name", ["id", "userId", "ID", "Unnamed: 0", "ticket_number", "Serial No"])
def test_names_that_say_id(name):
    assert names_rows(name)


@pytest.mark.parametrize("name", ["humid", "number_of_rooms", "price", "no_show", "index_value"])
def test_names_that_do_not(name):
    assert not names_rows(name)


def test_codes_with_leading_zeros_are_categories_and_a_stray_zero_is_none():
    zips = ["02139", "94110", "10001", "60601"]
    assert decided(zips * 10)[0].kind == "categorical"
    assert decided([*["5", "17", "250"] * 30, "05"])[0].kind == "numeric"
    assert decided(["0.5", "0.25", "0"] * 10)[0].kind == "numeric"


def test_what_the_caller_knows_wins():
    cells = ["1,234"] * 30
    assert decided(cells, kinds={"x": "categorical"})[0].kind == "categorical"
    assert decided(cells, decimal=",")[0].numbers == NumberFormat(decimal=",")
    dates = ["10/03/2004"] * 30
    column, codes = decided(dates, date_formats={"x": DateFormat("%d/%m/%Y")})
    assert column.dates == DateFormat("%d/%m/%Y")
    assert "date_format" not in codes
    with pytest.raises(ValueError, match=r"Column 'x'.*'hello'.*--datetime"):
        decided(["hello"] * 3, kinds={"x": "datetime"})


def test_the_order_of_days_and_months_is_that_of_the_other_dates():
    schema = decide({"a": tallied(["03/04/2005"] * 5), "b": tallied(["13/04/2005"] * 5)})
    assert schema.columns["a"].dates == DateFormat("%d/%m/%Y")


def test_markers_of_missing_cells_are_no_values_where_they_are_missing():
    column, _ = decided(["?", "5", "7", "-"])
    assert (column.examples, column.n_distinct, column.missing_share) == (("5", "7"), 2, 0.5)
    column, _ = decided(["?", "yes", "no", "-"])
    assert (column.n_distinct, column.missing_share) == (4, 0)


@pytest.mark.parametrize(
    ("name", "first", "step", "pattern", "moment"),
    [
        ("t", 1.7e9, 61.0, "epoch_s", 1.7e9),
        ("time", 1.7e9 + 0.25, 61.0, "epoch_s", 1.7e9 + 0.25),
        ("t", 1.7e12, 61e3, "epoch_ms", 1.7e9),
        ("t", 1.7e15, 61e6, "epoch_us", 1.7e9),
        ("t", 1.7e18, 61e9, "epoch_ns", 1.7e9),
        ("Date", 45352.5, 0.01, "excel_days", 1709294400.0),
        ("x", 202310, 1, "%Y%m", 1696118400.0),
        ("x", 202311141030, 1, "%Y%m%d", 1699957800.0),
        ("x", 20231114103007, 1, "%Y%m%d", 1699957807.0),
    ],
)
def test_numbers_that_count_time_are_times_and_the_warning_says_so(
    name, first, step, pattern, moment
):
    values = np.array([first + step * (i % 2 + i // 40) for i in range(80)])
    tally = ColumnTally()
    tally.add_numbers(values)
    schema = decide({name: tally})
    column = schema.columns[name]
    assert (column.kind, column.dates) == ("datetime", DateFormat(pattern))
    assert [note.code for note in schema.notes] == ["epoch"]
    assert f"({pattern})" in schema.notes[0].message
    assert column.read_numbers(values)[0][0] == pytest.approx(moment, abs=1e-3)
    text = pa.array([np.format_float_positional(value, trim="-") for value in values])
    assert column.read(text)[0][0] == pytest.approx(moment, abs=1e-3)


@pytest.mark.parametrize("marker", ["-999", "-1", "9999", "999.9"])
def test_a_number_that_may_mean_missing_is_told_of(marker):
    cells = [*(str(i * i % 501) for i in range(300)), *[marker] * 5]
    schema = decide({"x": tallied(cells)})
    (note,) = [note for note in schema.notes if note.code == "marker"]
    assert f"--na-values={marker}" in note.message
    schema = decide({"x": tallied(cells, missing=[marker])}, missing=[marker])
    assert schema.notes == ()
    _, notes = decided([*map(str, range(-150, 150)), *["-200"] * 5])
    assert "marker" not in notes


def test_epochs_are_read_as_seconds():
    seconds = ColumnSchema("datetime", dates=DateFormat("epoch_ms")).read(pa.array(["1500", "x"]))
    assert seconds[0][0] == 1.5
    assert seconds[1].tolist() == [False, True]


def test_a_column_that_is_all_missing_is_said():
    column, codes = decided(["", "NA", "?"])
    assert column.kind == "numeric"
    assert codes == ["empty"]


CELLS = st.one_of(
    st.sampled_from(["", "NA", "?", "-", "5", "0.5", "1,234", "$7", "12 kg", "true", "02139"]),
    st.sampled_from(["10/03/2004", "31/12/2004 10:30", "2024-01-31", "07:30", "A-17", "two words"]),
    st.floats(allow_nan=False).map(repr),
    st.text(max_size=8),
)


@given(st.lists(CELLS, max_size=40), st.integers(0, 40))
def test_parts_that_are_merged_show_what_the_whole_shows(cells, cut):
    whole, merged, other = ColumnTally(), ColumnTally(), ColumnTally()
    whole.add_text(pa.array(cells, "string"))
    merged.add_text(pa.array(cells[:cut], "string"))
    other.add_text(pa.array(cells[cut:], "string"))
    merged.merge(other)
    assert decide({"x": merged}) == decide({"x": whole})
    for name in ("n_cells", "n_missing", "markers", "numbers", "shapes", "dates", "n_digits"):
        assert getattr(merged, name) == getattr(whole, name)


@given(st.lists(CELLS, min_size=1, max_size=40))
def test_every_cell_is_missing_bad_or_a_number_where_a_column_is_read(cells):
    column = decide({"x": tallied(cells)}).columns["x"]
    if column.kind in ("numeric", "boolean", "datetime"):
        values, bad = column.read(pa.array(cells, "string"))
        assert bad.sum() == column.n_bad
        assert np.isnan(values).sum() == round(column.missing_share * len(cells)) + bad.sum()


@given(st.lists(st.integers(0, 50)))
def test_few_distinct_values_are_counted_exactly(values):
    count = DistinctCount()
    count.add(np.array(values, float))
    assert count.estimate() == len(set(values))


def test_many_distinct_values_are_counted_within_the_stated_error():
    count, other = DistinctCount(), DistinctCount()
    n = 20 * N_HASHES
    count.add(np.arange(n / 2))
    other.add(np.arange(n / 4, n))
    count.merge(other)
    assert count.estimate() == pytest.approx(n, rel=4 * 0.011)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "Expected a schema"),
        ('{"version": 9, "columns": {}}', "version 9"),
        ('{"version": 1, "columns": {"x": {"kind": "numbers"}}}', "'x'.*'numbers'"),
        ('{"version": 1, "columns": {"x": {"kind": "id", "formt": 1}}}', "mean 'format'"),
        (
            '{"version": 1, "columns": {"x": {"kind": "numeric", "format": {"decimals": ","}}}}',
            "'x'.*mean 'decimal'",
        ),
        (
            '{"version": 1, "columns": {"x": {"kind": "datetime", "format": "dd.mm"}}}',
            "'x'.*format of dates",
        ),
    ],
)
def test_an_edited_schema_that_means_nothing_is_an_error_that_names_it(text, message):
    with pytest.raises(ValueError, match=message):
        Schema.from_json(text)


def test_a_schema_is_printed_with_dialect_columns_and_notes():
    schema = Schema(
        {
            "price": ColumnSchema("numeric", NumberFormat(prefix="$"), unit="USD", n_distinct=7),
            "[uid]": ColumnSchema("id", examples=("u1", "u2"), missing_share=0.25),
        },
        Dialect(delimiter=";", comment="#"),
        notes=(Note("id", "[uid]", "column '[uid]': an id"),),
    )
    out = io.StringIO()
    print_schema(schema, Console(file=out, width=120))
    for text in (out.getvalue(), str(schema)):
        for part in ("semicolon", "price [USD]", "$1234.5", "[uid]", "u1, u2", "25.0%", "an id"):
            assert part in text
