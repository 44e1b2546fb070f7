"""DataFrames as they come: kinds, missing cells, dtypes, values never seen."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_detectors import SMALL

from vae_anomaly import DataWarning, VAEDetector


def test_fit_decides_the_kind_of_each_column(table_detector, table):
    assert table_detector.scorer_.preprocessor.kinds == {
        "amount": "numeric",
        "count": "numeric",
        "city": "categorical",
        "member": "boolean",
        "day": "datetime",
        "grade": "categorical",
    }
    assert table_detector.n_features_in_ == 6
    assert list(table_detector.feature_names_in_) == list(table.columns)


def test_missing_cells_contribute_exactly_nothing(table_detector, table):
    contribution = table_detector.explain(table)["contribution"]
    missing = table.isna().to_numpy()
    assert missing.any()
    assert (contribution[table.columns].to_numpy()[missing] == 0.0).all()
    assert (contribution[table.columns].to_numpy()[~missing] != 0.0).all()


def test_the_score_of_an_incomplete_row_is_its_observed_cells_and_what_holes_cost(
    table_detector, table
):
    contribution = table_detector.explain(table)["contribution"]
    observed = contribution[table.columns].where(table.notna(), 0.0).sum(axis=1)
    np.testing.assert_allclose(
        table_detector.score_samples(table),
        observed + contribution["latent"] + contribution["baseline"],
        rtol=1e-9,
    )


def test_rows_that_lack_as_many_cells_are_made_up_to_alike(trainings, table):
    detector = VAEDetector(
        **{**SMALL, "score_type": "reconstruction_probability", "hidden_units": (16,)}
    ).fit(table)
    made_up = detector.explain(table)["contribution"]["latent"]
    assert made_up.groupby(table.isna().sum(axis=1)).nunique().max() == 1


def test_rows_are_neither_flagged_nor_excused_for_what_they_lack(table_detector, table):
    rng = np.random.default_rng(0)
    whole = table.dropna()
    scores = table_detector.score_samples(whole)
    for share in (0.25, 0.5, 0.75):
        lacking = table_detector.score_samples(whole.mask(rng.random(whole.shape) < share))
        assert lacking.mean() == pytest.approx(scores.mean(), abs=0.5)
        assert np.mean(lacking < table_detector.offset_) < 0.05


def test_a_row_without_any_cell_is_an_ordinary_row(table_detector, table):
    empty = table.iloc[:1].astype(object)
    empty[:] = None
    score = table_detector.score_samples(empty)[0]
    held_out = table_detector.scorer_.calibration_scores.numpy()
    # What missing cells cost is measured on the rows that early stopping held out.
    error = held_out.std() / np.sqrt(table_detector.validation_fraction * len(table))
    assert score == pytest.approx(table_detector.scorer_.baseline, abs=3 * error)
    assert table_detector.predict(empty)[0] == 1


@pytest.mark.parametrize("marker", [None, np.nan, pd.NA, pd.NaT, ""])
def test_every_marker_of_a_missing_cell_scores_the_same(table_detector, table, marker):
    frame = table.iloc[:20].astype(object)
    frame = frame.where(frame.notna(), None)
    expected = table_detector.score_samples(frame)
    for name in frame:
        frame[name] = [marker if pd.isna(cell) else cell for cell in frame[name]]
    np.testing.assert_array_equal(table_detector.score_samples(frame.astype(object)), expected)


@pytest.mark.parametrize("name", ["amount", "count"])
@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_an_infinity_scores_worse_than_any_number(table_detector, table, name, infinity):
    row = table.dropna().iloc[[0]].astype({"count": "float64"})
    values = [table[name].median(), *(np.sign(infinity) * 10.0 ** np.arange(0, 200, 20)), infinity]
    frame = pd.concat([row.assign(**{name: value}) for value in values])
    with pytest.warns(UserWarning, match="1 rows have infinite cells"):
        scores = table_detector.score_samples(frame)
    assert np.isfinite(scores).all()
    assert scores.argmin() == len(values) - 1
    assert scores[-1] < table_detector.offset_


def test_an_infinity_in_an_array_is_scored(detector, rows):
    X = rows[:3].copy()
    X[0, 0], X[1, 1] = np.inf, -np.inf
    with pytest.warns(UserWarning, match="2 rows have infinite cells"):
        scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    assert scores[:2].max() < detector.score_samples(rows).min()
    with pytest.warns(UserWarning, match="2 rows have infinite cells"):
        explanation = detector.explain(X)
    assert np.isfinite(explanation["contribution"]).all(axis=None)


def test_a_value_never_seen_is_scored_and_less_normal_than_common_ones(table_detector, table):
    row = table.dropna().iloc[[0]]
    frame = pd.concat([row.assign(city=city) for city in ("Oslo", "Bergen", "Atlantis")])
    gain = table_detector.explain(frame)["gain"]["city"].to_numpy()
    assert gain.argmax() == 2
    assert table_detector.score_samples(frame).argmin() == 2


@pytest.mark.filterwarnings("ignore:column 'nothing'. all cells are missing")
def test_a_column_that_is_all_missing_is_carried_along(trainings, table):
    frame = table[["amount"]].assign(
        nothing=np.nan, no_text=pd.Series([None] * 400, dtype="string")
    )
    detector = VAEDetector(**SMALL).fit(frame)
    contribution = detector.explain(frame)["contribution"]
    assert (contribution[["nothing", "no_text"]] == 0.0).all(axis=None)
    later = frame.iloc[:3].assign(nothing=[1.0, -1e9, np.nan], no_text=["a", None, "b"])
    assert np.isfinite(detector.score_samples(later)).all()


def test_a_value_seen_once_is_no_level(trainings, table):
    frame = table[["amount"]].assign(rare=["once"] + ["often"] * 397 + ["twice"] * 2)
    detector = VAEDetector(**SMALL).fit(frame)
    assert detector.scorer_.preprocessor.levels["rare"] == ["often", "twice"]
    new = frame.head(1).assign(rare="never")
    np.testing.assert_array_equal(detector.score_samples(new), detector.score_samples(frame[:1]))


def test_values_none_of_which_is_a_level_are_told_of(trainings, table):
    frame = table[["amount"]].assign(city=[f"city {index % 80}" for index in range(400)])
    with pytest.warns(DataWarning, match="'city': no value is a level.*max_levels=50.*'text'"):
        detector = VAEDetector(**SMALL).fit(frame)
    assert detector.scorer_.preprocessor.levels["city"] == []


def test_unused_levels_of_a_categorical_are_not_modelled(table_detector):
    assert table_detector.scorer_.preprocessor.levels["grade"] == ["a", "b"]


def test_text_and_categories_of_the_same_values_score_the_same(table_detector, table):
    scores = table_detector.score_samples(table)
    for city in (
        table["city"].astype("category"),
        table["city"].astype("string"),
        table["city"].astype(object),
        table["city"].astype(pd.ArrowDtype(pa.string())),
    ):
        np.testing.assert_array_equal(table_detector.score_samples(table.assign(city=city)), scores)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("count", "Int64"),
        ("count", "float32"),
        ("count", pd.ArrowDtype(pa.int32())),
        ("amount", "Float64"),
        ("amount", pd.ArrowDtype(pa.float64())),
        ("member", object),
        ("member", "Int64"),
        ("member", "float32"),
        ("member", pd.ArrowDtype(pa.bool_())),
        ("day", "datetime64[ns]"),
        ("day", "datetime64[ns, UTC]"),
        ("day", pd.ArrowDtype(pa.timestamp("us"))),
        ("day", object),
        ("grade", object),
    ],
    ids=str,
)
def test_other_dtypes_of_the_same_values_score_the_same(table_detector, table, name, dtype):
    column = table[name]
    if dtype == "datetime64[ns, UTC]":
        column = column.dt.tz_localize("UTC")
    frame = table.assign(**{name: column.astype(dtype)})
    np.testing.assert_array_equal(
        table_detector.score_samples(frame), table_detector.score_samples(table)
    )


@pytest.mark.slow
def test_fit_takes_nullable_and_arrow_tables(trainings, table):
    expected = VAEDetector(**SMALL).fit(table).score_samples(table)
    for backend in ("numpy_nullable", "pyarrow"):
        frame = table.convert_dtypes(dtype_backend=backend)
        scores = VAEDetector(**SMALL).fit(frame).score_samples(frame)
        np.testing.assert_array_equal(scores, expected)


def test_the_same_instant_in_two_zones_scores_the_same(table_detector, table):
    utc = table["day"].dt.tz_localize("UTC")
    scores = [
        table_detector.score_samples(table.assign(day=day))
        for day in (table["day"], utc, utc.dt.tz_convert("Asia/Kolkata"))
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_seconds_and_large_integers_are_told_apart(trainings):
    frame = pd.DataFrame(
        {
            "when": pd.Timestamp("2024-05-05") + pd.to_timedelta(np.arange(60), unit="s"),
            "key": 2**52 + np.arange(60),
        }
    )
    kinds = {"when": "timestamp", "key": "numeric"}
    scores = VAEDetector(**SMALL, kinds=kinds).fit(frame).score_samples(frame)
    assert len(np.unique(scores)) == 60


def test_columns_in_another_order_score_the_same(table_detector, table):
    np.testing.assert_array_equal(
        table_detector.score_samples(table[table.columns[::-1]]),
        table_detector.score_samples(table),
    )


def test_missing_and_unexpected_columns_are_listed(table_detector, table):
    frame = table.rename(columns={"amount": "amounts"}).assign(extra=1)
    with pytest.raises(ValueError, match="Missing: 'amount'.*Unexpected: 'amounts', 'extra'"):
        table_detector.predict(frame)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("amount", "many"),
        ("amount", pd.Timestamp("2024-01-01")),
        ("member", "yes"),
        ("member", 7),
        ("day", 3.0),
        ("day", "soon"),
    ],
)
def test_a_column_of_another_kind_is_refused_by_name(table_detector, table, name, column):
    with pytest.raises(ValueError, match=f"Column '{name}'(, row 0)?: expected"):
        table_detector.predict(table.assign(**{name: column}))


def test_repeated_column_names_are_refused(table_detector, table):
    frame = pd.concat([table, table[["city"]]], axis=1)
    with pytest.raises(ValueError, match="unique column names"):
        VAEDetector().fit(frame)
    with pytest.raises(ValueError, match="unique column names"):
        table_detector.predict(frame)


def test_columns_of_mixed_types_are_categories(trainings, table):
    frame = table[["amount"]].assign(mixed=[1, "a", 2.5, None] * 100)
    with pytest.warns(DataWarning, match="67% of the cells are numbers, the others text"):
        detector = VAEDetector(**SMALL).fit(frame)
    assert detector.scorer_.preprocessor.levels["mixed"] == ["1", "2.5", "a"]


def test_a_category_of_numbers_is_their_text(trainings, table):
    codes = pd.Series(np.arange(400) % 3)
    detector = VAEDetector(**SMALL).fit(table[["amount"]].assign(code=codes.astype("category")))
    assert detector.scorer_.preprocessor.kinds["code"] == "categorical"
    assert detector.scorer_.preprocessor.levels["code"] == ["0", "1", "2"]
    scores = detector.score_samples(table[["amount"]].assign(code=codes))
    for dtype in ("category", "float64", "Int64", "str", pd.ArrowDtype(pa.int8())):
        frame = table[["amount"]].assign(code=codes.astype(dtype))
        np.testing.assert_array_equal(detector.score_samples(frame), scores)


def test_durations_are_numbers_of_seconds(trainings, table):
    seconds = pd.Series(np.arange(400.0)).where(table["amount"].notna())
    durations = pd.to_timedelta(seconds, unit="s")
    detector = VAEDetector(**SMALL).fit(table[["amount"]].assign(lag=durations))
    assert detector.scorer_.preprocessor.kinds["lag"] == "numeric"
    scores = detector.score_samples(table[["amount"]].assign(lag=seconds))
    for lag in (durations, durations.astype("timedelta64[ms]"), durations.astype(object)):
        np.testing.assert_array_equal(
            detector.score_samples(table[["amount"]].assign(lag=lag)), scores
        )


def test_booleans_score_as_the_numbers_that_fit_saw(trainings, table):
    flags = pd.Series(np.arange(400) % 2)
    detector = VAEDetector(**SMALL).fit(table[["amount"]].assign(flag=flags))
    assert detector.scorer_.preprocessor.kinds["flag"] == "numeric"
    scores = detector.score_samples(table[["amount"]].assign(flag=flags))
    for dtype in (bool, "boolean", object):
        frame = table[["amount"]].assign(flag=flags.astype(bool).astype(dtype))
        np.testing.assert_array_equal(detector.score_samples(frame), scores)


def test_a_category_of_numbers_does_not_depend_on_holes_in_other_rows(trainings, table):
    codes = np.arange(400) % 3
    detector = VAEDetector(**SMALL, kinds={"code": "categorical"}).fit(
        table[["amount"]].assign(code=codes)
    )
    scores = detector.score_samples(table[["amount"]].assign(code=codes))
    with_a_hole = table[["amount"]].assign(code=np.where(np.arange(400) == 7, np.nan, codes))
    others = np.arange(400) != 7
    np.testing.assert_array_equal(detector.score_samples(with_a_hole)[others], scores[others])


CELLS = {
    "amount": st.floats() | st.none() | st.just(pd.NA),
    "count": st.integers(-(2**63), 2**63 - 1) | st.floats() | st.none(),
    "city": st.text() | st.none() | st.sampled_from(["Oslo", "", "[UNK]"]),
    "member": st.booleans() | st.none(),
    "day": st.datetimes(pd.Timestamp(1700, 1, 1), pd.Timestamp(2200, 1, 1)) | st.none(),
    "grade": st.sampled_from(["a", "b", "c"]) | st.none() | st.integers() | st.text(),
}


HYPOTHESIS = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.mark.filterwarnings("ignore:.*infinite cells")
@settings(max_examples=10, **HYPOTHESIS)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=12))
def test_any_cells_are_scored(table_detector, cells):
    frame = pd.DataFrame(cells, dtype=object)
    scores = table_detector.score_samples(frame)
    assert np.isfinite(scores).all()
    contribution = table_detector.explain(frame)["contribution"]
    np.testing.assert_allclose(contribution.sum(axis=1), scores, rtol=1e-9)
    assert table_detector.reconstruct(frame).shape == frame.shape


FINITE = {
    **CELLS,
    "amount": st.floats(allow_infinity=False) | st.none(),
    "count": st.integers(-(2**63), 2**63 - 1) | st.none(),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vae_anomaly.DataWarning")
@settings(max_examples=4, **HYPOTHESIS)
@given(st.lists(st.fixed_dictionaries(FINITE), min_size=1, max_size=12))
def test_any_table_is_fitted(trainings, cells):
    frame = pd.DataFrame(cells, dtype=object)
    detector = VAEDetector(**SMALL).fit(frame)
    assert np.isfinite(detector.score_samples(frame)).all()
    assert np.isfinite(detector.offset_)
    pickle.loads(pickle.dumps(detector))
