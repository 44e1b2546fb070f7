"""DataFrames of other libraries are taken as pandas' are; labels of columns come back as given."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vae_anomaly
from vae_anomaly import AutoencoderDetector, VAEDetector
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.frames import in_pandas
from vae_anomaly.tables.inspecting import file_schema, frame_schema
from vae_anomaly.tables.reader import read_arrays

pl = pytest.importorskip("polars")

SMALL = {"max_steps": 2, "hidden_units": (4,), "random_state": 0, "validation_fraction": 0}
DOORS = {
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}
every_door = pytest.mark.parametrize("door", DOORS)


@every_door
def test_kinds_and_missing_cells_are_those_of_pandas(table, door):
    table = table.assign(wait=pd.to_timedelta(np.arange(400), unit="min"), at=table["day"].dt.time)
    found, expected = vae_anomaly.inspect(DOORS[door](table)), vae_anomaly.inspect(table)
    assert found.kinds == expected.kinds
    for name, column in expected.columns.items():
        assert found.columns[name].missing_share == column.missing_share
        assert found.columns[name].n_distinct == column.n_distinct


@every_door
def test_they_score_as_pandas_frames_do(table_detector, table, door):
    other = DOORS[door](table)
    np.testing.assert_array_equal(
        table_detector.score_samples(other), table_detector.score_samples(table)
    )
    some = other[:5]
    for found, expected in (
        (table_detector.explain(some), table_detector.explain(table[:5])),
        (table_detector.reconstruct(some), table_detector.reconstruct(table[:5])),
    ):
        assert found.columns.equals(expected.columns)
        np.testing.assert_array_equal(
            found["expected" if "expected" in found else "amount"],
            expected["expected" if "expected" in expected else "amount"],
        )


@pytest.mark.slow
@every_door
def test_they_can_be_fitted_on(trainings, table, door):
    detector = VAEDetector(**SMALL).fit(DOORS[door](table))
    of_pandas = VAEDetector(**SMALL).fit(table)
    assert detector.feature_names_in_.tolist() == list(table.columns)
    np.testing.assert_array_equal(detector.score_samples(table), of_pandas.score_samples(table))
    assert detector.sample(3, random_state=0)["count"].dtype == "int64[pyarrow]"


ODD_TYPES = {
    "views": pa.array(["a", "b"] * 30).cast(pa.string_view()),
    "views of bytes": pa.array([b"a", b"b"] * 30).cast(pa.binary_view()),
    "numbers as views": pa.array(["1.5", "2.5"] * 30).cast(pa.string_view()),
    "UUIDs": pa.array([bytes([i % 7] * 16) for i in range(60)], pa.uuid()),
    "JSON": pa.array(['{"a": 1}', "[]"] * 30, pa.json_()),
    "runs": pa.RunEndEncodedArray.from_arrays([20, 60], ["a", "b"]),
}


@pytest.mark.parametrize("name", ODD_TYPES)
def test_types_that_pandas_lacks_are_read_as_their_csv_is(name, tmp_path):
    table = pa.table({"a": ODD_TYPES[name], "x": [1.5, 2.5, 3.5] * 20})
    cells = [cell for cell in table["a"].to_pylist()]
    pd.DataFrame({"a": cells, "x": table["x"]}).to_csv(tmp_path / "t.csv", index=False)
    schema = file_schema(tmp_path / "t.csv")
    doors = {"CSV": read_arrays(tmp_path / "t.csv", schema)}
    assert vae_anomaly.inspect(table).kinds == schema.kinds
    doors["frame"] = frame_arrays(in_pandas(table), schema)
    if name != "runs":  # which Parquet does not have
        pq.write_table(table, tmp_path / "t.parquet")
        assert file_schema(tmp_path / "t.parquet").kinds == schema.kinds
        doors["Parquet"] = read_arrays(tmp_path / "t.parquet", schema)
    for arrays in doors.values():
        np.testing.assert_array_equal(arrays["a"], doors["CSV"]["a"])


@pytest.mark.parametrize("X", ["t.csv", Path("t.csv"), {"a": [1.5]}, np.zeros(3, [("a", float)])])
def test_what_is_no_table_is_refused_with_what_to_pass_instead(table_detector, X):
    doors = [table_detector.score_samples, VAEDetector().fit]
    doors += [vae_anomaly.inspect] if not isinstance(X, (str, Path)) else []
    for door in doors:
        with pytest.raises(TypeError, match=r"TableFiles|Pass pandas\.DataFrame\(X\)"):
            door(X)


@pytest.mark.parametrize("X", [[[1.5]], np.zeros((3, 2)), pd.Series([1.5])])
def test_what_has_no_names_is_not_inspected(X):
    with pytest.raises(TypeError, match=r"DataFrame.* Received: (list|ndarray|Series)"):
        vae_anomaly.inspect(X)


def test_infinite_cells_are_told_of_and_may_be_missing():
    frame = pd.DataFrame({"a": ["inf", "1.5", "2.5"], "b": [10**400, 1, 2], "c": [np.inf, 1, 2]})
    schema = vae_anomaly.inspect(frame)
    assert schema.kinds == dict.fromkeys("abc", "numeric")
    assert [note.code for note in schema.notes] == ["infinite"] * 3
    assert [
        column.missing_share for column in frame_schema(frame, missing=["inf"]).columns.values()
    ] == [1 / 3] * 3


def test_rows_that_are_not_in_memory_are_refused(table_detector, table):
    with pytest.raises(TypeError, match=r"rows in memory.*polars.*LazyFrame\. Collect it"):
        table_detector.score_samples(pl.from_pandas(table).lazy())


def test_labels_of_several_levels_come_back(trainings):
    labels = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")])
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=labels)
    detector = AutoencoderDetector(hidden_units=()).fit(frame)
    explanation = detector.explain(frame[labels[::-1]])
    np.testing.assert_array_equal(explanation["value"][labels], frame)
    contribution = explanation["contribution"]
    assert list(contribution) == [*labels, ("latent", ""), ("baseline", "")]
    np.testing.assert_allclose(contribution.sum(axis=1), detector.score_samples(frame))
    assert detector.reconstruct(frame).columns.equals(labels)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(
    "columns", [["amount", "city"], pytest.param(["count", "day"], marks=pytest.mark.slow)]
)
def test_an_array_of_mixed_cells_is_an_error_that_names_column_and_cell(trainings, table, columns):
    frame = table[columns].dropna()
    cell = repr(str(frame[columns[1]].iloc[0]))
    with pytest.raises((TypeError, ValueError)) as raised:
        VAEDetector(**SMALL).fit(frame.to_numpy())
    assert f"{cell} in row 0, column 1 of an array. Pass the DataFrame" in str(raised.value)
    detector = VAEDetector(**SMALL).fit(table[["amount", "count"]])
    with pytest.raises((TypeError, ValueError)) as raised:
        detector.score_samples(frame.to_numpy())
    assert f"{cell} in row 0, column 1 ('count') of an array" in str(raised.value)


@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30, 9)])
def test_windows_of_a_series_are_no_images_and_the_error_says_what_to_do(shape):
    X = np.random.default_rng(0).normal(size=shape)
    with pytest.raises(ValueError, match=r"three axes means images.*X\.reshape\(len\(X\), -1\)"):
        VAEDetector(**SMALL).fit(X)
