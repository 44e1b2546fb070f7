"""Dates: what is modelled of them, that absolute time is not, and that dates come back."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly import DataWarning, VAEDetector, load_detector
from vae_anomaly.tables import moments
from vae_anomaly.tables.date_parts import DateParts, learn_parts
from vae_anomaly.tables.preprocessing import TablePreprocessor

DAY, WEEK = 86400.0, 604800.0
NEW_YEAR = 1704067200.0  # 2024-01-01, a Monday
EPOCH = dt.datetime(1970, 1, 1)
MOMENTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59))
SMALL = {"max_steps": 400, "hidden_units": (32,), "random_state": 0}


def seconds_of(moment):
    return (moment.replace(microsecond=0) - EPOCH).total_seconds()


def date_of(seconds):
    return EPOCH + dt.timedelta(seconds=float(seconds))


def adapted(**dates):
    layer = TablePreprocessor(dict.fromkeys(dates, "datetime"))
    layer.adapt({name: np.asarray(seconds, dtype=np.float64) for name, seconds in dates.items()})
    return layer


@settings(deadline=None)
@given(MOMENTS)
def test_the_calendar_is_that_of_python(moment):
    seconds = tf.constant([seconds_of(moment)], tf.float64)
    assert moments.weekday(seconds).numpy()[0] == moment.weekday()
    assert moments.month(seconds).numpy()[0] == moment.month - 1
    clock = moment.hour * 3600 + moment.minute * 60 + moment.second
    assert moments.time_of_day(seconds).numpy()[0] == clock
    first = moments.first_of_month(seconds, tf.constant([moment.month - 1]))
    assert first.numpy()[0] == seconds_of(dt.datetime(moment.year, moment.month, 1))


@pytest.mark.slow
@settings(deadline=None)
@given(
    MOMENTS.filter(lambda moment: 2 < moment.year < 9998),
    st.integers(0, 6),
    st.floats(0, 86399).map(round),
    st.integers(1, 12) | st.none(),
)
def test_the_nearest_moment_has_the_weekday_the_time_and_the_month(moment, day, clock, month):
    anchor = tf.constant([seconds_of(moment)], tf.float64)
    found = moments.nearest(
        anchor,
        time=tf.constant([clock], tf.float64),
        day=tf.constant([day]),
        months=None if month is None else tf.constant([month - 1]),
        low=anchor[0],
        high=anchor[0],
        bounded=tf.constant([False]),
    )
    date = date_of(found[0])
    assert date.weekday() == day
    assert date.time() == (EPOCH + dt.timedelta(seconds=clock)).time()
    if month is None:
        assert abs(date - moment) <= dt.timedelta(days=3.5, seconds=1)
    else:
        assert date.month == month
        assert abs(date - moment) <= dt.timedelta(days=183 + 7)


def hours(n, step=1.0, start=NEW_YEAR):
    return start + 3600.0 * step * np.arange(n)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (hours(24), DateParts()),
        (hours(26), DateParts(time=True)),
        (hours(24 * 9), DateParts(time=True, weekday=True)),
        (hours(10, 24.0), DateParts(weekday=True)),
        (hours(400, 24.0), DateParts(weekday=True, month=True)),
        (hours(1), DateParts()),
        (np.full(5, NEW_YEAR), DateParts()),
        (np.full(5, np.nan), DateParts()),
        ([seconds_of(dt.datetime(2000 + k // 12, k % 12 + 1, 1)) for k in range(40)], None),
    ],
    ids=["a day", "more", "weeks", "days", "a year", "a row", "constant", "missing", "months"],
)
def test_a_cycle_is_modelled_where_the_rows_span_more_than_one(seconds, expected):
    expected = expected or DateParts(month=True)
    assert learn_parts({"c": np.asarray(seconds)}) == {"c": expected}


def test_differences_are_those_to_the_date_before_three_at_most_and_of_no_constant():
    rng = np.random.default_rng(0)
    dates = {name: NEW_YEAR + rng.uniform(0, WEEK, 50) for name in "abcdefg"}
    since = [parts.since for parts in learn_parts(dates).values()]
    assert since == [None, "a", "b", "c", None, None, None]
    dates["b"] = np.full(50, NEW_YEAR)
    dates["c"][:] = np.nan
    since = [parts.since for parts in learn_parts(dates).values()]
    assert since == [None, None, None, None, "d", "e", "f"]


def two_dates():
    rng = np.random.default_rng(0)
    start = NEW_YEAR + np.floor(rng.uniform(0, 60 * DAY, 300))
    return adapted(start=start, end=start + np.floor(rng.lognormal(7, 1, 300)))


def test_a_date_is_several_columns_of_the_model():
    layer = two_dates()
    assert layer.columns.all == [
        ("start", "time"),
        ("end", "time"),
        ("end", "since"),
        ("start", "weekday"),
        ("end", "weekday"),
    ]
    assert layer.column_widths == [2, 2, 2, 8, 8]
    assert layer.skewed == ["end"]
    config = json.loads(json.dumps(layer.get_config()))
    again = TablePreprocessor.from_config(config)
    again.set_weights(layer.get_weights())
    arrays = {"start": hours(9, 31.0), "end": hours(9, 32.0)}
    for ours, theirs in zip(layer(arrays), again(arrays), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_difference_is_observed_where_both_dates_are():
    layer = two_dates()
    missing = np.nan
    arrays = {
        "start": np.array([NEW_YEAR, missing, NEW_YEAR, missing]),
        "end": np.array([NEW_YEAR, NEW_YEAR, missing, missing]),
    }
    x, observed = layer(arrays)
    assert observed.numpy().tolist() == [
        [1, 1, 1, 1, 1],
        [0, 1, 0, 0, 1],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    assert (x.numpy()[3] == 0).all()


FAR = [seconds_of(dt.datetime(1, 1, 1)), seconds_of(dt.datetime(9999, 12, 31)), 1e300, np.inf]


@pytest.mark.parametrize(
    "start",
    [FAR[0], np.inf, NEW_YEAR]
    + [pytest.param(start, marks=pytest.mark.slow) for start in (*FAR[1:3], -np.inf)],
)
@pytest.mark.parametrize("end", [*FAR, -1e300, -np.inf])
def test_features_and_expected_dates_are_finite_however_far_a_date_is(start, end):
    layer = two_dates()
    arrays = {"start": np.array([start]), "end": np.array([end])}
    x, observed = layer(arrays)
    assert np.isfinite(x).all() and (observed.numpy() == 1).all()
    for column in layer.inverse(x, arrays).values():
        assert moments.is_date(tf.constant(column)).numpy().all()


@pytest.mark.parametrize("weeks", [1, 52, -300, 100_000])
def test_features_do_not_change_by_whole_weeks(weeks):
    layer = two_dates()
    rng = np.random.default_rng(1)
    start = NEW_YEAR + np.floor(rng.uniform(0, 60 * DAY, 100))
    arrays = {"start": start, "end": start + np.floor(rng.uniform(0, DAY, 100))}
    shifted = {name: seconds + weeks * WEEK for name, seconds in arrays.items()}
    np.testing.assert_array_equal(layer(arrays)[0], layer(shifted)[0])


def test_dates_alone_of_one_day_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"dates alone, 'c'.* kinds=\{name: \"timestamp\"\}"):
        adapted(c=hours(3))


def test_a_timestamp_is_modelled_as_a_number():
    layer = TablePreprocessor({"c": "timestamp"})
    layer.adapt({"c": hours(100)})
    assert (layer.column_names, layer.column_widths) == (["c"], [1])
    far = layer({"c": hours(1, start=NEW_YEAR + 300 * DAY)})[0]
    assert far.numpy()[0, 0] > 15


def test_a_date_comes_back_in_all_its_parts_and_a_missing_one_within_the_training_period():
    dates = hours(3000, 7.0)
    layer = adapted(c=dates)
    x, _ = layer({"c": dates})
    np.testing.assert_array_equal(layer.inverse(x, {"c": dates})["c"], dates)
    later = dates + 20_871 * WEEK  # 400 years: the same weekdays and months
    np.testing.assert_array_equal(layer.inverse(x, {"c": later})["c"], later)
    missing = layer.inverse(x, {"c": np.full(3000, np.nan)})["c"]
    assert (missing >= dates.min()).all() and (missing <= dates.max()).all()
    for part in (moments.weekday, moments.time_of_day, moments.month):
        np.testing.assert_array_equal(part(tf.constant(missing)), part(tf.constant(dates)))


def test_an_expected_date_follows_the_date_before_it_and_precedes_the_one_behind():
    layer = two_dates()
    arrays = {"start": np.array([NEW_YEAR + 9 * DAY])}
    arrays["end"] = arrays["start"] + 1000
    x, _ = layer(arrays)
    wrong = {"start": arrays["start"], "end": arrays["end"] - WEEK}
    np.testing.assert_allclose(layer.inverse(x, wrong)["end"], arrays["end"], atol=30)
    without_end = {"start": arrays["start"], "end": np.array([np.nan])}
    np.testing.assert_allclose(layer.inverse(x, without_end)["end"], arrays["end"], atol=30)
    without_start = {"start": np.array([np.nan]), "end": arrays["end"]}
    np.testing.assert_allclose(layer.inverse(x, without_start)["start"], arrays["start"], atol=30)


@pytest.fixture(scope="module")
def events():
    """The rows of a month, one every 20 minutes, and numbers that know nothing of it."""
    rng = np.random.default_rng(0)
    when = pd.date_range("2024-01-01", periods=2000, freq="20min")
    return pd.DataFrame({"when": when, "v": rng.normal(50, 5, 2000)})


@pytest.fixture(scope="module")
def of_events(events):
    return VAEDetector(**SMALL).fit(events)


@pytest.mark.slow
@pytest.mark.parametrize("days", [28, 366, -1000])
def test_the_same_rows_at_another_time_are_no_anomalies(events, of_events, days):
    later = events.assign(when=events["when"] + pd.Timedelta(days=days))
    assert np.mean(of_events.predict(events) < 0) < 0.03
    assert np.mean(of_events.predict(later) < 0) < 0.03
    if days % 7 == 0:
        scores = of_events.score_samples(later)
        np.testing.assert_array_equal(scores, of_events.score_samples(events))


@pytest.mark.slow
def test_absolute_time_is_scored_where_the_caller_says_so(events):
    detector = VAEDetector(kinds={"when": "timestamp"}, **{**SMALL, "max_steps": 100}).fit(events)
    later = events.assign(when=events["when"] + pd.Timedelta(days=366))
    assert np.mean(detector.predict(later) < 0) > 0.9
    assert detector.sample(2, random_state=0)["when"].dtype == "datetime64[us]"


def rides(n=1500):
    rng = np.random.default_rng(0)
    minutes = 18 * 60 + rng.normal(0, 60, n)
    pickup = pd.Timestamp("2024-03-04") + pd.to_timedelta(rng.integers(0, 60, n), unit="D")
    pickup += pd.to_timedelta(np.floor(60 * minutes), unit="s")
    ride = np.floor(rng.lognormal(6.5, 0.6, n))
    return pd.DataFrame(
        {
            "pickup": pickup,
            "dropoff": pickup + pd.to_timedelta(ride, unit="s"),
            "fare": (3 + ride / 200 + rng.normal(0, 0.5, n)).round(2),
        }
    )


@pytest.fixture(
    scope="module",
    params=[pytest.param(True, id="scores"), pytest.param(False, id="no", marks=pytest.mark.slow)],
)
def of_rides(request):
    return VAEDetector(normal_scores=request.param, **SMALL).fit(rides())


@pytest.mark.slow
def test_a_dropoff_a_week_before_its_pickup_is_found_and_explained(of_rides):
    table = rides()
    truth = table["dropoff"][7]
    table.loc[7, "dropoff"] -= pd.Timedelta(days=7)
    assert np.argmin(of_rides.score_samples(table)) == 7
    explanation = of_rides.explain(table.iloc[[7]])
    assert explanation["contribution"].iloc[0].idxmin() == "dropoff"
    expected = explanation["expected", "dropoff"].iloc[0]
    assert abs(expected - truth) < pd.Timedelta(hours=1)


@pytest.mark.slow
def test_an_unusual_time_of_day_is_found_and_explained(of_rides):
    table = rides()
    table.loc[7, ["pickup", "dropoff"]] += pd.Timedelta(hours=12)
    assert np.argsort(of_rides.score_samples(table))[0] == 7
    explanation = of_rides.explain(table.iloc[[7]])
    assert explanation["contribution"].iloc[0].idxmin() in ("pickup", "dropoff")
    assert 15 <= explanation["expected", "pickup"].iloc[0].hour <= 21


@pytest.mark.slow
def test_contributions_of_dates_add_up_missing_ones_too(of_rides):
    table = rides(200)
    table.loc[::3, "pickup"] = None
    table.loc[::5, "dropoff"] = None
    table.loc[::2, "fare"] = None
    explanation = of_rides.explain(table)
    np.testing.assert_allclose(
        explanation["contribution"].sum(axis=1), of_rides.score_samples(table), rtol=1e-9
    )
    assert (explanation["contribution"]["dropoff"][::5] == 0).all()
    assert explanation["expected"].notna().all(axis=None)


@pytest.mark.slow
def test_samples_are_of_the_training_period(of_rides):
    table = rides()
    samples = of_rides.sample(300, random_state=0)
    for name in ("pickup", "dropoff"):
        assert samples[name].between(table[name].min(), table[name].max()).all()
    assert samples["pickup"].dt.normalize().nunique() > 20
    ride = (samples["dropoff"] - samples["pickup"]).dt.total_seconds()
    assert ride.between(0, 20_000).mean() > 0.9
    assert samples["pickup"].dt.hour.between(13, 23).mean() > 0.9


@pytest.mark.slow
def test_a_detector_of_dates_survives_a_folder(of_rides, tmp_path):
    of_rides.save(tmp_path / "model")
    again = load_detector(tmp_path / "model")
    np.testing.assert_array_equal(again.score_samples(rides()), of_rides.score_samples(rides()))


@pytest.mark.slow
def test_a_detector_of_dates_is_exported(of_rides, tmp_path):
    assert of_rides.export(tmp_path / "served").n_rows


@pytest.mark.filterwarnings("ignore:column 'when'. dates of one day")
@pytest.mark.filterwarnings("ignore:column 'when'. .*, in 50.0% of the cells, is often no date")
@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    [
        pytest.param([None] * 30, id="missing"),
        pytest.param(["2024-01-01"] * 30, id="constant"),
        pytest.param(["0001-01-01", "9999-12-31"] * 15, id="far"),
    ],
)
def test_odd_columns_of_dates_pass(when):
    table = pd.DataFrame({"when": np.array(when, "datetime64[us]"), "v": np.arange(30.0) % 7})
    detector = VAEDetector(max_steps=2, random_state=0).fit(table)
    assert np.isfinite(detector.score_samples(table)).all()
    assert len(detector.sample(3, random_state=0)) == 3


@pytest.mark.slow
def test_a_row_with_a_date_is_enough():
    table = pd.DataFrame({"when": pd.to_datetime(["2024-01-01"]), "v": [1.0]})
    with pytest.warns(DataWarning, match="'when': dates of one day .* not modelled.*'timestamp'"):
        detector = VAEDetector(max_steps=2).fit(table)
    assert np.isfinite(detector.score_samples(table)).all()
