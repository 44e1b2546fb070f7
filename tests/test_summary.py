"""What a summary says of a batch beside the training rows."""

import functools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.batch.summary import Tally, summary_text
from vae_anomaly.tables.model_columns import ModelColumns
from vae_anomaly.tables.preprocessing import TablePreprocessor
from vae_anomaly.tables.profiles import Profile, count, has_drifted, learn_profiles, stability_index

DAY = 86400.0
NEW_YEAR = 1704067200.0
CALIBRATION = np.linspace(-1, 1, 200)


def tally_of(kinds, training, state=None):
    preprocessor = TablePreprocessor(kinds)
    preprocessor.adapt(training)
    return Tally(preprocessor, CALIBRATION, state)


def outputs(n):
    return {"score": np.linspace(-1, 1, n), "is_anomaly": np.zeros(n, bool)}


@pytest.mark.parametrize("days", [0, 40])
def test_a_batch_outside_of_the_training_period_is_a_line(days):
    dates = NEW_YEAR + DAY * np.arange(31)
    tally = tally_of({"when": "datetime"}, {"when": dates})
    tally.update({"when": dates + days * DAY}, outputs(31), 0)
    state = json.loads(json.dumps(tally.state()))
    again = tally_of({"when": "datetime"}, {"when": dates}, state)
    assert again.report() == tally.report()
    (period,) = tally.report()["training_periods"]
    assert period == {
        "column": "when",
        "first": "2024-01-01",
        "last": "2024-01-31",
        "outside": float(days > 0),
    }
    lines = [line for line in summary_text(tally.report()) if line.startswith("warning")]
    expected = (
        "warning: column 'when': 100.0% of the dates are outside of the training period, "
        "2024-01-01 to 2024-01-31; that alone is not scored"
    )
    assert lines == [expected] * (days > 0)


KINDS = {
    "size": "numeric",
    "count": "numeric",
    "paid": "boolean",
    "city": "categorical",
    "when": "datetime",
    "end": "datetime",
}


def shop(n, seed, *, shift=0.0, share=0.3, start=NEW_YEAR, hour=12.0, city=(0.2, 0.7, 0.1)):
    rng = np.random.default_rng(seed)
    days = rng.integers(0, 40, n)
    when = start + DAY * days + 3600 * (hour + rng.normal(size=n)).clip(0, 23.9)
    return {
        "size": rng.normal(shift, 1, n),
        "count": rng.poisson(1 + shift, n).astype(float),
        "paid": (rng.random(n) < share).astype(float),
        "city": rng.choice(np.array(["a", "b", "c"], dtype=object), n, p=city),
        "when": when,
        "end": when + rng.lognormal(5 + shift, 1, n),
    }


@functools.cache
def adapted(seed):
    preprocessor = TablePreprocessor(KINDS)
    preprocessor.adapt(shop(1000, seed))
    return preprocessor


def drifted(preprocessor, batch):
    tally = Tally(preprocessor, CALIBRATION)
    n = len(batch["size"])
    for rows in np.array_split(np.arange(n), 3 if n > 30 else 1):
        tally.update({name: array[rows] for name, array in batch.items()}, outputs(len(rows)), 0)
    return {(d["column"], d["part"]) for d in tally.report()["drifted_columns"]}


@pytest.mark.parametrize(
    "n",
    [
        1,
        pytest.param(5, marks=pytest.mark.slow),
        30,
        pytest.param(200, marks=pytest.mark.slow),
        2000,
    ],
)
def test_batches_like_the_training_rows_have_no_drifted_columns(n):
    # 1 in 1000 such batches has one: more than one of 24 would be a wonder.
    found = [drifted(adapted(seed % 4), shop(n, 1000 + seed)) for seed in range(24)]
    assert sum(map(bool, found)) <= 1


@pytest.mark.parametrize("n_training", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_share_of_false_alarms_of_a_column_is_what_was_asked_for(n_training):
    rng = np.random.default_rng(0)
    alarms = 0
    columns = ModelColumns.of({"size": "numeric"}, {})
    for _ in range(40):
        training = {"size": rng.lognormal(size=n_training)}
        (profile,) = learn_profiles(columns, {}, {}, training)
        for n in (3, 20, 100, 1000):
            for _ in range(25):
                counts = count(profile, {}, {}, {"size": rng.lognormal(size=n)})
                index = stability_index(profile.counts, counts)
                alarms += has_drifted(index, profile.counts, counts, 1)
    # Of 4000 batches about 4 are expected.
    assert alarms <= 16


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"share": 0.8}, {("paid", "value")}),
        ({"city": (0.7, 0.2, 0.1)}, {("city", "value")}),
        ({"hour": 20.0}, {("when", "time"), ("end", "time")}),
        ({"start": NEW_YEAR + 70 * DAY}, set()),
        ({"shift": 1.5}, {("size", "value"), ("count", "value"), ("end", "since")}),
    ],
    ids=["booleans", "levels", "hours", "later", "numbers"],
)
def test_columns_that_changed_are_named(change, expected):
    assert drifted(adapted(0), shop(300, 1, **change)) == expected


def test_a_column_that_was_constant_and_is_not_any_more_has_drifted():
    tally = tally_of({"c": "numeric"}, {"c": np.full(500, 5.0)})
    tally.update({"c": np.full(50, 4.0)}, outputs(50), 0)
    assert [d["column"] for d in tally.report()["drifted_columns"]] == ["c"]


def test_where_many_columns_drifted_those_that_moved_most_are_warned_of():
    names = [f"x{i}" for i in range(6)]
    x = np.random.default_rng(0).normal(size=500)
    tally = tally_of(dict.fromkeys(names, "numeric"), dict.fromkeys(names, x))
    tally.update({name: x[:100] + 1 + i for i, name in enumerate(names)}, outputs(100), 0)
    report = tally.report()
    assert len(report["drifted_columns"]) == 6
    named = [line for line in report["warnings"] if "distributed unlike" in line]
    assert ["'x5'" in named[0], "3 more columns" in named[3], len(named)] == [True, True, 4]


def test_the_file_of_one_day_has_not_drifted_by_its_weekday():
    training = shop(1000, 0)
    day = {name: array[training["when"] < NEW_YEAR + DAY] for name, array in training.items()}
    assert drifted(adapted(0), day) == set()


def test_a_batch_unlike_the_training_rows_names_the_columns():
    preprocessor = adapted(0)
    tally = Tally(preprocessor, CALIBRATION)
    low = {"score": np.full(300, -9.0), "is_anomaly": np.ones(300, bool)}
    tally.update(shop(300, 1, share=0.9), low, 0)
    again = Tally(preprocessor, CALIBRATION, json.loads(json.dumps(tally.state())))
    warnings = again.report()["warnings"]
    assert any("'paid': values are distributed unlike in training" in text for text in warnings)
    assert any("unlike the training data" in t and "look at 'paid'" in t for t in warnings)


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_unseen_levels_are_counted_among_the_cells_that_are_not_missing(share):
    def cells(seen, rare):
        present = [
            *["a"] * round(100 * (1 - rare)),
            *(f"{seen}{i}" for i in range(round(100 * rare))),
        ]
        return {"c": np.array([*present, *[""] * 100], dtype=object)}

    tally = tally_of({"c": "categorical"}, cells("once", 0.6))
    tally.update(cells("new", share), outputs(200), 0)
    report = tally.report()
    expected = [{"column": "c", "share": "unseen", "batch": 1.0, "training": 0.6}]
    assert report["moved_columns"] == (expected if share == 1 else [])
    told = "column 'c': 100.0% of the cells that are not missing are unseen, 60.0% in training"
    assert (told in report["warnings"]) == (share == 1)


@given(st.lists(st.floats(), max_size=40), st.lists(st.floats(allow_nan=False), max_size=9))
def test_cells_are_counted_between_the_edges_as_rows_of_weight_one_are(values, edges):
    profile = Profile("x", "value", sorted(edges), [])
    arrays = {"x": np.array(values, dtype=np.float64)}
    weights = np.ones(len(values))
    expected = count(profile, {}, {}, arrays, weights)
    np.testing.assert_array_equal(count(profile, {}, {}, arrays), expected)
    assert expected.sum() == np.sum(~np.isnan(arrays["x"]))
