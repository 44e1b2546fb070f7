"""The formats of numbers and dates are found from all cells of a column."""

import datetime
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vae_anomaly.tables.cells import MISSING_VALUES, clean, without_missing
from vae_anomaly.tables.date_cells import convert_dates
from vae_anomaly.tables.dates import DateFormat, date_shapes, find_date_format
from vae_anomaly.tables.formats import (
    CURRENCIES,
    PLAIN,
    SCALES,
    NumberFormat,
    find_number_format,
    number_shapes,
)
from vae_anomaly.tables.number_cells import convert_numbers, plain_numbers, spelled_numbers
from vae_anomaly.tables.rules import MISSING

EPOCH = datetime.date(1970, 1, 1)


def guessed(cells, **known):
    return find_number_format(number_shapes(clean(pa.array(cells, "string"))), **known)


def converted(cells, number_format):
    values, bad = convert_numbers(pa.array(cells, "string"), number_format)
    return values.tolist(), bad.tolist()


FORMATS = [
    (["51,28", "3,5"], {"decimal": ","}, [51.28, 3.5]),
    (["25,632", "7"], {"thousands": ","}, [25632, 7]),
    (["1.053,91", "-2,5"], {"decimal": ",", "thousands": "."}, [1053.91, -2.5]),
    (["$1,234.50", "$5"], {"thousands": ",", "prefix": "$"}, [1234.5, 5]),
    (["1 234,5 €", "5,1 €"], {"decimal": ",", "thousands": " ", "suffix": "€"}, [1234.5, 5.1]),
    (["1\u202f234,5\u00a0€"], {"decimal": ",", "thousands": " ", "suffix": "€"}, [1234.5]),
    (["1\u2019234.50", "12.25"], {"thousands": "'"}, [1234.5, 12.25]),
    (["12,34,567.5", "1.0"], {"thousands": ","}, [1234567.5, 1]),
    (["USD 1,000.5", "USD 7.1"], {"thousands": ",", "prefix": "USD"}, [1000.5, 7.1]),
    (["28%", "5 %"], {"suffix": "%"}, [28, 5]),
    (["19M", "1.5k", "2B", "12"], {"scaled": True}, [19e6, 1500, 2e9, 12]),
    (["10,000,000+", "5+"], {"thousands": ",", "plus": True}, [1e7, 5]),
    (["12 kg", "13.5kg", "14"], {"suffix": "kg"}, [12, 13.5, 14]),
    (["4.5 m/s²", "3 m/s²"], {"suffix": "m/s²"}, [4.5, 3]),
    (["1,250 m3", "7 m3"], {"thousands": ",", "suffix": "m³"}, [1250, 7]),
    (["9.81 m/s2", "3.2m/s²"], {"suffix": "m/s²"}, [9.81, 3.2]),
    (["400 ppm CO2", "1e3 ppm CO2"], {"suffix": "ppm CO²"}, [400, 1000]),
    (["(1,234.5)", "7.5"], {"thousands": ","}, [-1234.5, 7.5]),
    (["$(1,234.5)", "$ (2.5)", "$7.5"], {"thousands": ",", "prefix": "$"}, [-1234.5, -2.5, 7.5]),
    (["5-", "6"], {}, [-5, 6]),
    (["93,-", "4,50", "7,-- "], {"decimal": ","}, [93, 4.5, 7]),
    (["Fr. 93.\u2013", "Fr. 4.50"], {"prefix": "Fr."}, [93, 4.5]),
    (["93,- €", "-4,50 €"], {"decimal": ",", "suffix": "€"}, [93, -4.5]),
    (["\u22125", "6"], {}, [-5, 6]),
    (["-$5.5", "$-3", "$2"], {"prefix": "$"}, [-5.5, -3, 2]),
    (["1,5e3", "2e-1"], {"decimal": ","}, [1500, 0.2]),
    (["3,625e+01", "9,538e+00"], {"decimal": ","}, [36.25, 9.538]),
    (["0,123", "4,567"], {"decimal": ","}, [0.123, 4.567]),
    (["inf", "-Infinity", "5"], {}, [math.inf, -math.inf, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "differs", "values"), FORMATS)
def test_a_usual_spelling_is_found_and_read(cells, differs, values):
    guess = guessed(cells)
    assert guess.format == NumberFormat(**differs)
    assert converted(cells, guess.format) == (values, [False] * len(cells))


@pytest.mark.parametrize("cells", [["1,234", "5,678"], ["$1,234", "$987"], ["10,000+", "500+"]])
def test_a_mark_before_three_digits_is_shown_and_decided_by_the_file(cells):
    assert guessed(cells).ambiguous
    assert guessed(cells).format.thousands == ","
    assert guessed(cells, decimal=",").format.decimal == ","
    assert guessed(cells, decimal=".").format.thousands == ","


def test_a_point_alone_is_decimal_unless_the_file_has_decimal_commas():
    cells = ["1.234", "5.678"]
    assert guessed(cells).format == NumberFormat()
    assert not guessed(cells).ambiguous
    assert guessed(cells, decimal=",").format == NumberFormat(",", ".")
    assert guessed(cells, decimal=",").ambiguous


def test_a_single_cell_decides_what_the_others_leave_open():
    cells = ["1,234"] * 99
    assert guessed([*cells, "1,5"]).format == NumberFormat(decimal=",")
    assert guessed([*cells, "1,234,567"]).format == NumberFormat(thousands=",")
    assert guessed([*cells, "1,5"]).ambiguous  # it may as well be a bad cell


@pytest.mark.parametrize(
    "cell", ["57.1 12", "A12", "2024-01-31", "12.03.2004", "1,23,4", "5 6", "x", "9½", "9 3/4"]
)
def test_what_is_no_number_does_not_fit(cell):
    guess = guessed([cell] + ["5.5"] * 9)
    assert guess.format == NumberFormat()
    assert guess.fits == 9
    assert converted([cell], guess.format)[1] == [True]


@pytest.mark.parametrize("unit", [*CURRENCIES, "лв", "円", "Mio. €", "tons", "mol"])
def test_any_currency_may_stand_after_its_numbers(unit):
    assert guessed([f"{n},5 {unit}" for n in range(20)]).format == NumberFormat(",", suffix=unit)


def test_units_that_differ_do_not_fit_together():
    assert guessed(["5 kg", "7 kg", "3 lb"]).fits == 2
    assert guessed(["$5", "$7", "€3"]).fits == 2


def test_thousands_have_three_digits_in_the_last_group():
    _, bad = converted(["1,23", "12,3456", "1,234", ",5", "0,123"], NumberFormat(thousands=","))
    assert bad == [True, True, False, True, False]


@pytest.mark.parametrize("marker", [*MISSING, *MISSING_VALUES])
def test_markers_of_missing_numbers_are_missing(marker):
    values, bad = converted([marker, "$5", None, f" {marker} "], NumberFormat(prefix="$"))
    assert np.isnan([values[0], values[2], values[3]]).all()
    assert not any(bad)


@pytest.mark.parametrize("spelling", [NumberFormat(suffix="m"), NumberFormat()])
def test_more_markers_may_be_named(spelling):
    cells = pa.array(["-999", "5"])
    values, bad = convert_numbers(cells, spelling, missing=iter(["-999"]))
    assert np.isnan(values[0]) and values[1] == 5
    assert not bad.any()


@pytest.mark.parametrize("pattern", ["%Y-%m-%d", "%d.%m.%Y"])
def test_a_date_may_be_a_marker(pattern):
    cells = [date.strftime(pattern) for date in (datetime.date(9999, 12, 31), EPOCH)]
    seconds, bad = convert_dates(pa.array(cells), DateFormat(pattern), missing=iter(cells[:1]))
    assert np.isnan(seconds[0]) and seconds[1] == 0
    assert not bad.any()


def test_only_markers_are_missing():
    cells = pa.array(["NA", "na", "n/a", "Nancy", "", None])
    assert without_missing(cells, values=True).to_pylist() == [None] * 3 + ["Nancy", None, None]
    assert without_missing(cells, values=False).to_pylist() == [
        None,
        "na",
        None,
        "Nancy",
        None,
        None,
    ]


def spelled(value, n_digits, number_format, negative):
    """Write a number in a format."""
    mark = number_format.thousands
    text = f"{abs(value):{',' if mark else ''}.{n_digits}f}"
    text = text.translate({ord(","): mark, ord("."): number_format.decimal})
    text = f"{number_format.prefix}{text}{number_format.suffix}"
    if number_format.scaled:
        text += "M"
    text += "+" * number_format.plus
    if value >= 0:
        return text
    return {"-": f"-{text}", "()": f"({text})", "trailing": f"{text}-"}[negative]


@st.composite
def formats(draw):
    decimal = draw(st.sampled_from(".,"))
    thousands = draw(st.sampled_from(["", ",", ".", " ", "'"]))
    assume(decimal != thousands)
    around = draw(st.sampled_from(["prefix", "suffix", "unit", "scaled", "plus", "none"]))
    return NumberFormat(
        decimal,
        thousands,
        prefix=draw(st.sampled_from(CURRENCIES)) if around == "prefix" else "",
        suffix={
            "suffix": draw(st.sampled_from(CURRENCIES)),
            "unit": draw(st.sampled_from([" kg", "%", " °C", " km/h"])),
        }.get(around, ""),
        scaled=around == "scaled",
        plus=around == "plus",
    )


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=30),
    st.integers(1, 4),
    formats(),
    st.sampled_from(["-", "()", "trailing"]),
)
def test_a_column_made_from_a_format_gives_the_format_back(numbers, n_digits, made, negative):
    numbers = [*numbers, 1234567, 10**6 + 5]  # what shows a format must be there to be found
    values = [number / 10**n_digits for number in numbers]
    n_digits = n_digits if n_digits != 3 or made.thousands else 4
    cells = [spelled(value, n_digits, made, negative) for value in values]
    guess = guessed(cells)
    expected = NumberFormat(
        made.decimal,
        made.thousands if any(abs(value) >= 1000 for value in values) else "",
        made.prefix,
        made.suffix.strip(),
        made.scaled,
        made.plus,
    )
    assert guess.format == expected
    assert guess.fits == len(cells)
    read, bad = converted(cells, guess.format)
    assert not any(bad)
    exact = [float(f"{value:.{n_digits}f}{'e6' if made.scaled else ''}") for value in values]
    assert read == exact


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_as_programs_write_them_are_read_exactly(values):
    cells = list(map(repr, values))
    assert guessed(cells).format == NumberFormat()
    assert converted(cells, NumberFormat()) == (values, [False] * len(values))
    assert converted([*cells, "?"], NumberFormat())[0][:-1] == values


@given(st.lists(st.sampled_from([cell for cells, _, _ in FORMATS for cell in cells]), max_size=30))
def test_shapes_are_counted_alike_in_parts_and_at_once(cells):
    text = clean(pa.array(cells, "string"))
    half = len(cells) // 2
    assert number_shapes(text) == number_shapes(text[:half]) + number_shapes(text[half:])


def test_scales_are_read_exactly():
    for scale, exponent in SCALES.items():
        assert converted([f"4.1{scale}"], NumberFormat(scaled=True))[0] == [float(f"4.1{exponent}")]


DATES = [
    (["10/03/2004", "13/03/2004"], "%d/%m/%Y", "2004-03-10"),
    (["10/03/2004", "10/13/2004"], "%m/%d/%Y", "2004-10-03"),
    (["2017/12/22"], "%Y/%m/%d", "2017-12-22"),
    (["07-Jan-18"], "%d-%b-%y", "2018-01-07"),
    (["12/24/2009 23:10"], "%m/%d/%Y", "2009-12-24T23:10"),
    (["Sun Dec 04 04:47:44 2005"], "%a %b %d %Y", "2005-12-04T04:47:44"),
    (["2010-01"], "%Y-%m", "2010-01-01"),
    (["2024-01-31 10:00 CET"], "%Y-%m-%d", "2024-01-31T09:00"),
    (["1/31/2024 10:00 PM PDT"], "%m/%d/%Y", "2024-02-01T05:00"),
    (["Wed Jan 31 10:00:00 EST 2024"], "%a %b %d %Y", "2024-01-31T15:00"),
    (["20240131T1000Z", "20240131 100030"], "%Y%m%d", "2024-01-31T10:00"),
    (["2024-01-31T10:00:00Z"], "%Y-%m-%d", "2024-01-31T10:00"),
    (["2024-01-31 10:00:00.123456789+02:00"], "%Y-%m-%d", "2024-01-31T08:00:00.123456"),
    (["1/31/2024 1:05:09 PM"], "%m/%d/%Y", "2024-01-31T13:05:09"),
    (["1/31/2024 12:05 am"], "%m/%d/%Y", "2024-01-31T00:05"),
    (["10/Oct/2000:13:55:36 -0730"], "%d/%b/%Y", "2000-10-10T21:25:36"),
    (["December 3, 2020", "Mar 1, 2021"], "%b %d, %Y", "2020-12-03"),
    (["Sun, 06 Nov 1994 08:49:37 GMT"], "%a, %d %b %Y", "1994-11-06T08:49:37"),
    (["01JAN2004"], "%d%b%Y", "2004-01-01"),
    (["20240131 10:00"], "%Y%m%d", "2024-01-31T10:00"),
    (["31.12.99"], "%d.%m.%y", "1999-12-31"),
    (["5.13.2020"], "%m.%d.%Y", "2020-05-13"),
    (["07:30", "23:59:59"], "%H:%M", "1970-01-01T07:30"),
]


def guessed_dates(cells, **known):
    return find_date_format(date_shapes(clean(pa.array(cells, "string"))), **known)


def moments(cells, pattern):
    seconds, bad = convert_dates(pa.array(cells, "string"), DateFormat(pattern))
    assert np.isnan(seconds[bad]).all()
    return seconds.tolist(), bad.tolist()


@pytest.mark.parametrize(("cells", "pattern", "first"), DATES)
def test_a_usual_spelling_of_dates_is_found_and_read(cells, pattern, first):
    guess = guessed_dates(cells)
    assert (guess.format.pattern, guess.fits) == (pattern, len(cells))
    seconds, bad = moments([*cells, "?", None], pattern)
    assert seconds[0] == np.datetime64(first, "us").astype(int) / 1e6
    assert np.isnan(seconds[-2:]).all()
    assert not any(bad)


def test_the_order_of_day_and_month_is_decided_by_the_column_then_by_the_file():
    slashes, points = ["10/03/2004"] * 9, ["10.03.2004"] * 9
    assert guessed_dates([*slashes, "13/03/2004"]).format.pattern == "%d/%m/%Y"
    assert not guessed_dates([*slashes, "13/03/2004"]).ambiguous
    assert guessed_dates(slashes).ambiguous
    assert guessed_dates(slashes).format.pattern == "%m/%d/%Y"
    assert guessed_dates(points).format.pattern == "%d.%m.%Y"
    assert guessed_dates(slashes, day_first=True).format.pattern == "%d/%m/%Y"
    assert guessed_dates(points, day_first=False).format.pattern == "%m.%d.%Y"


@pytest.mark.parametrize("cell", ["hello", "May", "57.1", "12 kg", "A-17", "1,234", "5/7", "a:b"])
def test_what_is_no_date_has_no_format(cell):
    assert guessed_dates([cell]) is None


def test_dates_that_no_calendar_has_are_bad():
    cells = ["30/02/2024", "29/02/2024", "29/02/2023", "01/13/2024", "01/01/2024 24:30", "x"]
    assert moments(cells, "%d/%m/%Y")[1] == [True, False, True, True, True, True]
    assert moments(["2024-02-30", "2024-02-29"], "%Y-%m-%d")[1] == [True, False]


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y"),
        ("%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%d"),
        ("%a %b %d %H:%M:%S %Y", "%a %b %d %Y"),
        ("%m/%d/%Y %I:%M %p", "%m/%d/%Y"),
        ("%d %B %Y", "%d %b %Y"),
        ("%H:%M:%S", "%H:%M"),
        ("epoch_ms", "epoch_ms"),
    ],
)
def test_a_format_says_how_the_date_is_spelled_and_not_the_time(given, pattern):
    assert DateFormat(given).pattern == pattern


@pytest.mark.parametrize("given", ["", "dd.mm.yyyy", "%q", "%d.%m.%Y %"])
def test_a_format_without_dates_is_an_error(given):
    with pytest.raises(ValueError, match=r"Expected a format of dates.*%d\.%m\.%Y"):
        DateFormat(given)


PATTERNS = [
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y", "%d%b%Y",
    "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%a %b %d %H:%M:%S %Y",
    "%Y-%m-%dT%H:%M:%S.%f", "%d/%b/%Y:%H:%M:%S +0000", "%Y-%m-%d %H:%M:%SZ", "%y-%m-%d",
]  # fmt: skip


@given(
    st.lists(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2068, 12, 31))),
    st.sampled_from(PATTERNS),
)
def test_dates_made_from_a_format_give_the_format_back(times, pattern):
    # What decides the order of day, month and year must be there to be found.
    times = [*times, datetime.datetime(1999, 12, 31, 23, 59, 58)]
    cells = [time.strftime(pattern) for time in times]
    guess = guessed_dates(cells)
    assert guess.format == DateFormat(pattern)
    assert (guess.fits, guess.ambiguous) == (len(cells), False)
    again = [datetime.datetime.strptime(cell, pattern) for cell in cells]
    expected = [(time - datetime.datetime(1970, 1, 1)).total_seconds() for time in again]
    assert moments(cells, guess.format.pattern) == (expected, [False] * len(cells))


PLAIN_CELLS = st.one_of(
    st.sampled_from(
        ["", "nan", "NA", "?", "-", "inf", "-Infinity", "+5", "1.", ".5", "1e5", "0x1"]
    ),
    st.sampled_from(["nan(1)", " 5", "5 ", "1_0", "1,5", "1 days 00:00:00", "-0", "1e999", "٣"]),
    st.floats(allow_nan=False).map(repr),
    st.integers(-(10**18), 10**18).map(str),
)


@given(st.lists(st.none() | PLAIN_CELLS, max_size=6))
def test_the_fast_way_reads_cells_as_the_careful_one(cells):
    text = pa.array(cells, "string")
    found = plain_numbers(text, PLAIN, ())
    values, bad = spelled_numbers(text, PLAIN, ())
    if found is not None:
        assert not bad.any()
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(values))


def test_missing_cells_are_read_the_fast_way():
    found = plain_numbers(pa.array(["", "1.5", None, "NA"]), PLAIN, ())
    np.testing.assert_array_equal(found, [np.nan, 1.5, np.nan, np.nan])
    assert plain_numbers(pa.array(["", "1,5"]), PLAIN, ()) is None
