"""What the columns of a table are, and tables as named arrays."""

import datetime
import decimal
import fractions

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.tables import columns
from vae_anomaly.tables.columns import arrays_frame, n_infinite_rows
from vae_anomaly.tables.inspecting import frame_schema
from vae_anomaly.tables.rules import category_text
from vae_anomaly.tables.schema import Schema

NAN = float("nan")
NEW_YEAR = 1577836800.0  # 2020-01-01 00:00 UTC


def arrow(values, arrow_type):
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.array(values, type=arrow_type)))


def objects(*values):
    return pd.Series(values, dtype=object)


def frame_kinds(frame, kinds=None):
    return frame_schema(frame, kinds=kinds).kinds


def frame_arrays(frame, kinds):
    return columns.frame_arrays(frame, Schema.of_kinds(kinds))


def converted(series, kind=None):
    """Kind and values of a single column."""
    frame = pd.DataFrame({"c": series})
    schema = Schema.of_kinds({"c": kind}) if kind else frame_schema(frame)
    return schema.kinds["c"], columns.frame_arrays(frame, schema)["c"].tolist()


NUMBERS = {
    "int": pd.Series([1, 2]),
    "uint8": pd.Series([1, 2], dtype="uint8"),
    "float32": pd.Series([1, 2], dtype="float32"),
    "Int64": pd.Series([1, 2], dtype="Int64"),
    "Float64": pd.Series([1, 2], dtype="Float64"),
    "arrow int64": arrow([1, 2], pa.int64()),
    "arrow double": arrow([1, 2], pa.float64()),
    "arrow decimal": arrow([decimal.Decimal(1), decimal.Decimal(2)], pa.decimal128(5, 2)),
    "sparse": pd.Series(pd.arrays.SparseArray([1.0, 2.0])),
    "timedelta": pd.Series(pd.to_timedelta([1, 2], unit="s")),
    "arrow duration": arrow([1, 2], pa.duration("s")),
    "ints": objects(1, 2),
    "bools and floats": objects(True, 2.0),
    "decimals": objects(decimal.Decimal(1), decimal.Decimal(2)),
    "fractions": objects(fractions.Fraction(1), fractions.Fraction(2)),
    "timedeltas": objects(datetime.timedelta(seconds=1), datetime.timedelta(seconds=2)),
}


@pytest.mark.parametrize("series", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_numeric(series):
    assert converted(series) == ("numeric", [1.0, 2.0])


BOOLEANS = {
    "bool": pd.Series([True, False]),
    "boolean": pd.Series([True, False], dtype="boolean"),
    "arrow": arrow([True, False], pa.bool_()),
    "objects": objects(True, np.False_),
}


@pytest.mark.parametrize("series", BOOLEANS.values(), ids=BOOLEANS)
def test_booleans_are_boolean(series):
    assert converted(series) == ("boolean", [1.0, 0.0])


DATES = {
    "ns": pd.Series(np.array(["2020-01-01"], dtype="datetime64[ns]")),
    "s": pd.Series(np.array(["2020-01-01"], dtype="datetime64[s]")),
    "zone": pd.Series(pd.to_datetime(["2020-01-01T01:00"]).tz_localize("Europe/Berlin")),
    "arrow date": arrow([datetime.date(2020, 1, 1)], pa.date32()),
    "arrow timestamp": arrow([datetime.datetime(2020, 1, 1)], pa.timestamp("ms")),
    "arrow zone": pd.Series(
        pd.to_datetime(["2020-01-01T01:00"]).tz_localize("Europe/Berlin")
    ).astype(pd.ArrowDtype(pa.timestamp("us", tz="Europe/Berlin"))),
    "dates": objects(datetime.date(2020, 1, 1)),
    "datetimes": objects(datetime.datetime(2020, 1, 1)),
    "datetime64s": objects(np.datetime64("2020-01-01")),
    "periods": pd.Series(pd.period_range("2020-01", periods=1, freq="M")),
    "text": pd.Series(["2020-01-01"]),
    "text with the day first": pd.Series(["01.01.2020"]),
}


@pytest.mark.parametrize("series", DATES.values(), ids=DATES)
def test_dates_are_seconds_since_1970_utc(series):
    assert converted(series) == ("datetime", [NEW_YEAR])


def test_the_same_instant_in_two_zones_is_the_same_number():
    noon = pd.Timestamp("2020-06-01T12:00", tz="UTC")
    zones = [noon, noon.tz_convert("America/New_York"), noon.tz_convert("Asia/Kolkata")]
    kind, values = converted(objects(*zones))
    assert kind == "datetime"
    assert values == [noon.timestamp()] * 3


def test_fractions_of_a_second_are_kept_to_the_microsecond():
    assert converted(pd.Series(pd.to_datetime(["2020-01-01T00:00:00.123456"]))) == (
        "datetime",
        [NEW_YEAR + 0.123456],
    )


TEXTS = {
    "str": pd.Series(["a", "b"]),
    "string": pd.Series(["a", "b"], dtype="string"),
    "objects": objects("a", "b"),
    "numpy text": objects(np.str_("a"), np.str_("b")),
    "arrow": arrow(["a", "b"], pa.string()),
    "arrow dictionary": pd.Series(
        pd.arrays.ArrowExtensionArray(pa.array(["a", "b"]).dictionary_encode())
    ),
    "category": pd.Series(pd.Categorical(["a", "b"], categories=["z", "b", "a"])),
}


@pytest.mark.parametrize("series", TEXTS.values(), ids=TEXTS)
def test_text_is_categorical(series):
    assert converted(series) == ("categorical", ["a", "b"])


OTHER_CATEGORIES = {
    "category of ints": (pd.Series(pd.Categorical([1, 2])), ["1", "2"]),
    "category of floats": (pd.Series(pd.Categorical([1.5, 2.0])), ["1.5", "2"]),
    "category of bools": (pd.Series(pd.Categorical([True, False])), ["True", "False"]),
    "mixed types": (objects(1, "a", 2.5, True), ["1", "a", "2.5", "True"]),
    "numbers and dates": (objects(1, datetime.date(2020, 1, 1)), ["1", "2020-01-01"]),
    "category of dates": (pd.Series(pd.Categorical([datetime.date(2020, 1, 1)])), ["2020-01-01"]),
}


@pytest.mark.parametrize(("series", "texts"), OTHER_CATEGORIES.values(), ids=list(OTHER_CATEGORIES))
def test_other_values_are_categories_by_their_text(series, texts):
    assert converted(series) == ("categorical", texts)


MISSING = {
    "NaN": (pd.Series([1.5, NAN]), [1.5, NAN]),
    "None": (objects(1, None), [1.0, NAN]),
    "NA": (pd.Series([1, pd.NA], dtype="Int64"), [1.0, NAN]),
    "NaN and NA in arrow": (
        pd.Series(pd.arrays.ArrowExtensionArray(pa.array([1.5, NAN, None]))),
        [1.5, NAN, NAN],
    ),
    "every marker": (objects(1, None, NAN, pd.NA, pd.NaT, decimal.Decimal("NaN")), [1] + [NAN] * 5),
    "empty text among numbers": (objects(1, ""), [1.0, NAN]),
    "boolean None": (objects(True, None), [1.0, NAN]),
    "boolean NA": (pd.Series([True, pd.NA], dtype="boolean"), [1.0, NAN]),
    "empty text among booleans": (objects(True, ""), [1.0, NAN]),
    "NaT": (pd.Series(pd.to_datetime(["2020-01-01", None])), [NEW_YEAR, NAN]),
    "date None": (objects(datetime.date(2020, 1, 1), None), [NEW_YEAR, NAN]),
    "empty text among dates": (objects(datetime.date(2020, 1, 1), ""), [NEW_YEAR, NAN]),
    "duration NaT": (pd.Series(pd.to_timedelta([1, None], unit="s")), [1.0, NAN]),
    "text None": (pd.Series(["a", None]), ["a", ""]),
    "text NA": (pd.Series(["a", pd.NA], dtype="string"), ["a", ""]),
    "empty text": (pd.Series(["a", ""]), ["a", ""]),
    "category None": (pd.Series(pd.Categorical(["a", None])), ["a", ""]),
    "arrow text": (arrow(["a", None], pa.string()), ["a", ""]),
}


@pytest.mark.parametrize(("series", "values"), MISSING.values(), ids=list(MISSING))
def test_every_spelling_of_a_missing_cell_is_one(series, values):
    np.testing.assert_equal(converted(series)[1], values)


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (pd.Series([NAN, NAN]), "numeric"),
        (objects(None, None), "numeric"),
        (pd.Series([pd.NaT, pd.NaT]), "datetime"),
        (pd.Series([pd.NA, pd.NA], dtype="boolean"), "boolean"),
        (pd.Series([None, None], dtype="string"), "categorical"),
        (pd.Series(["", ""]), "numeric"),
    ],
    ids=["floats", "objects", "dates", "booleans", "text", "empty text"],
)
def test_a_column_that_is_all_missing_has_the_kind_of_its_dtype_or_is_numeric(series, kind):
    found, values = converted(series)
    assert found == kind
    missing = "" if kind == "categorical" else NAN
    np.testing.assert_equal(values, [missing, missing])


@pytest.mark.parametrize("kind", ["numeric", "boolean", "datetime"])
@pytest.mark.parametrize(
    "series", [pd.Series([NAN]), objects(None), pd.Series([pd.NaT]), pd.Series([""])]
)
def test_a_column_without_values_fits_any_kind(series, kind):
    assert np.isnan(converted(series, kind)[1]).all()


def test_integers_are_exact_up_to_two_to_the_53():
    numbers = [2**53 - 1, 2**53 - 2, -(2**53)]
    assert converted(pd.Series(numbers)) == ("numeric", numbers)


def test_a_whole_number_is_the_same_category_where_pandas_made_it_a_float():
    codes = pd.Series([10, 20])
    with_a_hole = pd.Series([10, 20, None])
    assert converted(codes, "categorical")[1] == ["10", "20"]
    assert converted(with_a_hole, "categorical")[1] == ["10", "20", ""]


UTC = datetime.timezone.utc
SPELLINGS = {
    "10": (10, 10.0, "10", "10.0", np.float32(10), np.int8(10)),
    "0": (0, -0.0, "0.0", "-0.0"),
    "-3": (-3.0, "-3.0"),
    "1000000000000000": (10**15, 1e15),
    "1e+16": (1e16, "1e+16"),
    "0.1": (0.1, "0.1", np.float32(0.1)),
    "True": (True, np.True_, "True", "true", "TRUE"),
    "False": (False, np.False_, "false"),
    "2020-01-31": (
        *(datetime.date(2020, 1, 31), datetime.datetime(2020, 1, 31), pd.Timestamp("2020-01-31")),
        *(np.datetime64("2020-01-31"), np.datetime64("2020-01-31", "ns")),
        *(datetime.datetime(2020, 1, 31, tzinfo=UTC), pd.Timestamp("2020-01-31T05:30+05:30")),
        *("2020-01-31", "2020-01-31 00:00:00", "2020-01-31T00:00:00.000Z"),
        *("2020-01-31 00:00:00+00:00", "2020-01-30 23:00:00-01:00"),
    ),
    "2020-01-31 10:00:00.5": (
        *(datetime.datetime(2020, 1, 31, 10, 0, 0, 500_000), "2020-01-31 10:00:00.500"),
        *("2020-01-31T10:00:00.500000000", "2020-01-31 15:30:00.5+05:30"),
    ),
    "2020-01-31 10:00:00": ("2020-01-31T10:00", np.datetime64("2020-01-31T10:00")),
    "9 days": (pd.Timedelta("9D"), "9 days", "9 days 00:00:00.000000"),
    "-1 days": (pd.Timedelta("-1D"), "-1 days", "-1 days +00:00:00"),
    "-1 days +23:59:59.5": (pd.Timedelta("-500ms"), "-1 days +23:59:59.500000"),
}


@pytest.mark.parametrize(("text", "values"), SPELLINGS.items())
def test_what_files_spell_in_several_ways_is_one_category(text, values):
    assert [category_text(value) for value in values] == [text] * len(values)


@pytest.mark.parametrize(
    "text",
    ["007", "1.10", "1.", ".0", "v1.0", "1.2.0", "1,0", " 1.0", "yes", "tru", "?", "na", "Oslo"]
    + ["12:30:00", "2020-01", "31/01/2020", "2020-02-30 00:00:00Z", "0001-01-01 00:00:00+01:00"],
)
def test_other_text_is_its_own_category(text):
    assert category_text(text) == text


@given(
    st.text()
    | st.from_regex(
        r"-?\d{1,3}\.0\0?|\d{4}-0\d-[012]\d[T ]\d\d:\d\d(:\d\d(\.\d*)?)?(Z|[+-]\d\d:\d\d)?",
        fullmatch=True,
    )
)
def test_the_text_of_a_category_is_its_own_text(text):
    once = category_text(text)
    assert category_text(once) == once


@pytest.mark.parametrize("text", ["NA", "nan", "N/A", "null", "NULL", "None", "<NA>"])
def test_words_that_pandas_reads_as_missing_are_no_category(text):
    assert category_text(text) == ""


def test_text_that_tensorflow_cannot_hold_is_made_harmless():
    assert converted(objects("a\0", "\ud800", "ø\0ø"), "categorical")[1] == ["a", "?", "ø\0ø"]


def test_the_caller_knows_better():
    frame = pd.DataFrame({"zip": [5003, 5004], "flag": [0, 1], "n": [1, 2]})
    assert frame_kinds(frame, {"zip": "categorical", "flag": "boolean"}) == {
        "zip": "categorical",
        "flag": "boolean",
        "n": "numeric",
    }


def test_columns_may_be_left_out_of_the_model():
    frame = pd.DataFrame({"key": ["a", "b"], "n": [1, 2]})
    kinds = frame_kinds(frame, {"key": "id", "gone": "dropped"})
    assert kinds == {"n": "numeric"}
    assert list(frame_arrays(frame, {**kinds, "key": "id"})) == ["n"]


def test_labels_that_are_no_text_are_named_by_their_text():
    assert frame_kinds(pd.DataFrame([[1, "a"]]), {1: "categorical"}) == {
        "0": "numeric",
        "1": "categorical",
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"agee": "numeric"}, r"'agee' \(did you mean 'age'\?\)"),
        ({"age": "number"}, r"Column 'age': expected a kind among .* Received: 'number'"),
    ],
)
def test_an_impossible_override_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        frame_kinds(pd.DataFrame({"age": [1.0]}), overrides)


@pytest.mark.parametrize("labels", [["a", "b", "a"], [1, "b", "1"]])
def test_repeated_column_names_are_refused_by_name(labels):
    frame = pd.DataFrame([[1, 2, 3]], columns=labels)
    with pytest.raises(ValueError, match=f"unique .* Received: '{labels[0]}' more"):
        frame_kinds(frame)
    with pytest.raises(ValueError, match=f"unique .* Received: '{labels[0]}' more"):
        frame_arrays(frame, {str(labels[0]): "numeric", "b": "numeric"})


def test_complex_numbers_are_refused_by_column():
    with pytest.raises(TypeError, match="Column 'c': expected real numbers"):
        converted(pd.Series([1j]))


@pytest.mark.parametrize("cell", [[1], {"a": 1}, {1}, (1, 2), np.zeros(2)])
def test_containers_are_refused_by_column(cell):
    with pytest.raises(TypeError, match=r"Column 'c': .* containers"):
        converted(objects(cell, None))


@pytest.mark.parametrize(
    ("series", "kind", "message"),
    [
        (pd.Series(["ten"]), "numeric", r"Column 'c', row 0: expected a number\. Received: 'ten'"),
        (pd.Series(["yes"]), "boolean", r"Column 'c', row 0: expected true or false.*'yes'"),
        (pd.Series(["2020"]), "datetime", r"Column 'c', row 0: expected a date .*'2020'"),
        (pd.Series([1.0]), "datetime", r"Column 'c', row 0: expected a date .*1\.0"),
        (pd.Series(pd.to_datetime(["2020"])), "numeric", r"Column 'c': expected numeric .* datet"),
        (pd.Series([0, 1, 7]), "boolean", r"Column 'c', row 2: expected true or false.*7"),
        (pd.Series([0.5, NAN]), "boolean", r"Column 'c', row 0: expected true or false.*0\.5"),
        (
            pd.Series(pd.to_timedelta([0, 5], unit="s")),
            "boolean",
            r"Column 'c', row 1: expected true or false.*5",
        ),
        (pd.Series([20200131]), "datetime", r"Column 'c', row 0: expected a date .*20200131"),
        (pd.Series([True]), "datetime", r"Column 'c': expected datetime .* boolean .*True"),
        (pd.Series(pd.Categorical(["x"])), "numeric", r"Column 'c', row 0: expected a number.*'x'"),
    ],
)
def test_a_column_of_another_kind_is_refused_with_an_example(series, kind, message):
    with pytest.raises(ValueError, match=message):
        converted(series, kind)


@pytest.mark.parametrize("series", [pd.Series([True, False]), pd.Series([1, 0])])
@pytest.mark.parametrize("kind", ["numeric", "boolean"])
def test_booleans_and_their_numbers_stand_for_each_other(series, kind):
    assert converted(series, kind)[1] == [1.0, 0.0]


def test_columns_come_in_the_order_of_fit_whatever_the_order_of_the_frame():
    frame = pd.DataFrame({"b": ["x"], "a": [1.0]})
    arrays = frame_arrays(frame, {"a": "numeric", "b": "categorical"})
    assert list(arrays) == ["a", "b"]


def test_missing_and_unexpected_columns_are_listed_together():
    frame = pd.DataFrame({"amuont": [1.0], "b": [1.0], "other": [1.0]})
    with pytest.raises(ValueError, match="Expected the 3 columns seen in fit") as error:
        frame_arrays(frame, {"amount": "numeric", "b": "numeric", "zip": "categorical"})
    message = str(error.value)
    assert "Missing: 'amount' (did you mean 'amuont'?), 'zip'" in message
    assert "Unexpected: 'amuont', 'other'" in message


def test_converting_leaves_the_frame_as_it_was(table):
    before = table.copy(deep=True)
    frame_arrays(table, frame_kinds(table))
    pd.testing.assert_frame_equal(table, before)


def test_arrays_become_a_frame_that_gives_the_same_arrays(table):
    kinds = frame_kinds(table)
    arrays = frame_arrays(table, kinds)
    frame = arrays_frame(arrays, kinds, table.index)
    again = frame_arrays(frame, kinds)
    for name in kinds:
        np.testing.assert_array_equal(again[name], arrays[name])


def test_a_frame_from_arrays_has_the_index_dates_and_gaps_of_the_first():
    frame = pd.DataFrame(
        {"day": pd.to_datetime(["2020-01-01T10:00:00.000001", None]), "city": ["Oslo", None]},
        index=["i", "j"],
    )
    kinds = frame_kinds(frame)
    again = arrays_frame(frame_arrays(frame, kinds), kinds, frame.index)
    assert list(again.index) == ["i", "j"]
    assert list(again["day"].isna()) == [False, True]
    assert again.loc["i", "day"] == frame.loc["i", "day"]
    assert again.loc["i", "city"] == "Oslo"
    assert again.loc["j", "city"] is None


def test_dates_beyond_the_calendar_become_its_first_and_last_years():
    arrays = {"day": np.array([-np.inf, -1e300, 1e300, np.inf, NAN])}
    years = arrays_frame(arrays, {"day": "datetime"})["day"].dt.year
    np.testing.assert_equal(years.tolist(), [1, 1, 9999, 9999, NAN])


@given(
    st.lists(
        st.tuples(
            st.floats() | st.none(),
            st.booleans() | st.none(),
            st.text() | st.none(),
            # Seconds in float64 tell microseconds apart up to 2^32 seconds from 1970.
            st.datetimes(datetime.datetime(1850, 1, 1), datetime.datetime(2100, 1, 1)) | st.none(),
            st.one_of(st.none(), st.text(), st.integers(-(10**9), 10**9), st.booleans()),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_cells_make_arrays_of_floats_or_text(cells):
    frame = pd.DataFrame(cells, columns=list("abcde")).astype(object)
    schema = frame_schema(frame)
    kinds = schema.kinds
    arrays = columns.frame_arrays(frame, schema)
    for name, kind in kinds.items():
        assert arrays[name].shape == (len(cells),)
        if kind == "categorical":
            assert all(type(text) is str for text in arrays[name])
        else:
            assert arrays[name].dtype == np.float64
    again = frame_arrays(arrays_frame(arrays, kinds), kinds)
    for name in kinds:
        np.testing.assert_array_equal(again[name], arrays[name])


def test_rows_with_an_infinity_are_counted_once():
    arrays = {
        "a": np.array([np.inf, 1.0, -np.inf, NAN]),
        "b": np.array([np.inf, 1.0, 2.0, 3.0]),
        "c": np.array(["inf", "a", "b", ""], dtype=object),
    }
    assert n_infinite_rows(arrays) == 2
    assert n_infinite_rows({"c": arrays["c"]}) == 0
