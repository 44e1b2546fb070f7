"""Frames of rows, as engines hand them over, get the scores of files."""

import pickle
import shutil
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vae_anomaly import ArtifactError, FrameScorer, score_files
from vae_anomaly.batch import frames

OUTPUTS = ["score", "decision", "is_anomaly", "p_value"]


@pytest.fixture(scope="module")
def detector(small_table_detector):
    return small_table_detector


@pytest.fixture(scope="module")
def new(table):
    """Rows to score: far ones, unknown levels, a column that is kept, one that is not."""
    frame = table.sample(100, random_state=1).reset_index(drop=True)
    frame.loc[[30, 77], "amount"] = [400.0, -90.0]
    frame.loc[50, "city"] = "Atlantis"
    return frame.astype({"grade": object}).assign(note=range(2**62, 2**62 + 100), junk=1)


@pytest.fixture(scope="module")
def model(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames") / "m"
    detector.save(folder)
    return folder


def scored_file(frame, model, folder, **options):
    frame.to_parquet(folder / "new.parquet")
    score_files(folder / "new.parquet", model, folder / "out.parquet", **options)
    return pq.read_table(folder / "out.parquet").replace_schema_metadata()


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(
            {"explain": 2, "contributions": True, "threshold": -9.0}, marks=pytest.mark.slow
        ),
    ],
)
def test_arrow_tables_and_batches_get_what_a_parquet_file_gets(model, new, tmp_path, options):
    expected = scored_file(new, model, tmp_path, **options)
    table = pq.read_table(tmp_path / "new.parquet")
    scorer = FrameScorer(model, **options)
    scored = scorer(table).replace_schema_metadata()
    assert scored.column_names == [*expected.column_names, "error"]
    assert scored["error"].null_count == len(new)
    without_error = scored.drop_columns("error").to_pandas()
    pd.testing.assert_frame_equal(without_error, expected.to_pandas(), check_exact=True)
    (batch,) = table.combine_chunks().to_batches()
    scored_batch = pa.Table.from_batches([scorer(batch)]).to_pandas()
    pd.testing.assert_frame_equal(scored_batch, scorer(table).to_pandas(), check_exact=True)


def test_frames_of_pandas_get_the_same_scores(model, detector, new):
    shuffled = new.sample(frac=1, random_state=0)
    scored = FrameScorer(model)(shuffled)
    assert scored.index.equals(shuffled.index)
    pd.testing.assert_frame_equal(scored[shuffled.columns[:-1]], shuffled.drop(columns="junk"))
    np.testing.assert_array_equal(scored["score"], detector.score_samples(shuffled))
    np.testing.assert_array_equal(scored["is_anomaly"], detector.predict(shuffled) == -1)


def test_a_row_with_a_bad_cell_has_an_error_and_no_score_and_others_keep_theirs(model, new):
    frame = new.astype({"amount": object, "count": object, "member": object})
    frame.loc[3, "amount"] = "oops"
    frame.loc[[3, 60], "count"] = ["twelve", "1,5,2"]
    frame.loc[99, "member"] = "perhaps"
    text = frame.astype({name: "str" for name in ("amount", "count", "member")})
    for given in (frame, pa.Table.from_pandas(text)):
        scored = FrameScorer(model)(given)
        scored = scored if given is frame else scored.to_pandas()
        bad = [3, 60, 99]
        assert np.flatnonzero(scored["error"].notna()).tolist() == bad
        assert scored.loc[bad, OUTPUTS].isna().all(axis=None)
        assert scored["error"][3].startswith("column 'amount': expected a number, received 'oops'")
        assert scored["error"][60].startswith("column 'count': ")
        assert "expected true or false" in scored["error"][99]
        whole = FrameScorer(model)(new)["score"].drop(bad)
        np.testing.assert_array_equal(scored["score"].drop(bad), whole)


@pytest.mark.parametrize("n_rows", [0, 1])
def test_frames_without_a_row_to_score_have_the_columns_and_types_of_others(model, new, n_rows):
    few = new[:n_rows].astype({"amount": object})
    few["amount"] = "oops"
    scorer = FrameScorer(model, explain=1)
    scored, usual = scorer(few), scorer(new)
    assert len(scored) == n_rows
    assert scored.drop(columns="amount").dtypes.equals(usual.drop(columns="amount").dtypes)
    table = pa.Table.from_pandas(few)
    assert scorer(table).schema.names == usual.columns.tolist()
    assert scorer(table).schema.field("reason_1").type == "string"
    batch = pa.RecordBatch.from_pandas(few)
    assert scorer(batch).schema.equals(scorer(table).schema)
    assert len(scorer(batch)) == n_rows


def test_columns_to_keep_and_columns_that_may_lack_are_options(model, new):
    scored = FrameScorer(model, columns=["note"], allow_missing=["city"])(new.drop(columns="city"))
    assert scored.columns.tolist() == ["note", *OUTPUTS, "error"]
    without = FrameScorer(model)(new.assign(city=None))
    np.testing.assert_array_equal(scored["score"], without["score"])


@pytest.mark.slow
def test_it_pickles_as_a_path_and_the_model_is_loaded_once_in_a_process(model, new, monkeypatch):
    loads, load = [], frames.loaded
    monkeypatch.setattr(frames, "loaded", lambda folder: loads.append(folder) or load(folder))
    frames._loaded_once.cache_clear()
    pickled = pickle.dumps(FrameScorer(model))
    assert len(pickled) < 1000
    copies = [pickle.loads(pickled) for _ in range(4)]
    results = []
    threads = [
        threading.Thread(target=lambda copy=copy: results.append(copy(new))) for copy in copies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [str(model)]
    for result in results:
        pd.testing.assert_frame_equal(result, results[0])


def test_another_model_in_its_place_is_refused(detector, model, new, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    scorer = pickle.loads(pickle.dumps(FrameScorer(tmp_path / "m")))
    other = pickle.loads(pickle.dumps(detector)).set_threshold(score=0.0)
    other.save(tmp_path / "m")
    with pytest.raises(ArtifactError, match="expected the model that was there .* another one"):
        scorer(new)
    assert FrameScorer(tmp_path / "m")(new)["is_anomaly"].all()


def test_a_model_that_is_not_there_or_is_of_images_is_refused(detector, new, tmp_path, monkeypatch):
    scorer = FrameScorer(tmp_path / "m")
    with pytest.raises(ArtifactError, match=r"m, which is not a folder"):
        scorer(new)
    monkeypatch.setattr(frames.artifact, "read", lambda folder: {"input": "images"})
    with pytest.raises(ValueError, match=r"m: expected a model of tables. Received: one of images"):
        scorer.check(["path"])
    with pytest.raises(TypeError, match=r"type VAEDetector. Save it, detector.save\(path\)"):
        FrameScorer(detector)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            lambda f: f.rename(columns={"amount": "Amount"}),
            {},
            "missing columns: 'amount' .did you",
        ),
        (lambda f: f.assign(score=1), {}, "expected no column named like an output, rec.* 'score'"),
        (lambda f: f.assign(error=1), {}, "received 'error'; rename it, or choose others"),
        (lambda f: f, {"columns": ["nobody"]}, "missing columns: 'nobody'"),
        (lambda f: f, {"allow_missing": ["nobody"]}, "missing columns: 'nobody'"),
        (lambda f: f, {"explain": 9}, "`explain` from 1"),
        (lambda f: pd.concat([f, f["amount"]], axis=1), {}, "'amount' twice"),
        (lambda f: f.assign(amount=pd.Timestamp(0)), {}, "expected (numeric|a number)"),
    ],
)
@pytest.mark.parametrize("door", ["pandas", "arrow"])
def test_tables_that_do_not_fit_and_wrong_options_are_refused(
    model, new, change, options, message, door
):
    frame = change(new)
    if door == "arrow":
        columns = [pa.array(frame.iloc[:, i]) for i in range(frame.shape[1])]
        frame = pa.Table.from_arrays(columns, names=frame.columns.tolist())
    with pytest.raises(ValueError, match=message):
        FrameScorer(model, **options)(frame)


def test_what_is_no_frame_is_refused(model):
    with pytest.raises(TypeError, match="Received: builtins.list"):
        FrameScorer(model)([1, 2])


def test_dask_scores_the_partitions_of_a_dataframe(model, detector, new):
    dask_frames = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    frame = new.astype({"amount": object})
    frame.loc[3, "amount"] = "oops"
    scorer = FrameScorer(model)
    parts = dask_frames.from_pandas(frame, npartitions=3)
    lazy = parts.map_partitions(scorer, meta=scorer(parts._meta))
    assert lazy.columns.tolist() == [*frame.columns.drop("junk"), *OUTPUTS, "error"]
    scored = lazy.compute(scheduler="threads")
    assert scored["error"].notna().sum() == 1
    others = scored["score"].drop(3)
    np.testing.assert_array_equal(others, detector.score_samples(new.drop(3)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # in Ray itself
def test_ray_scores_the_batches_of_a_dataset(model, detector, new):
    ray = pytest.importorskip("ray", reason="ray is not installed")
    data = pytest.importorskip("ray.data", reason="ray.data is not installed")
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        rows = data.from_arrow(pa.Table.from_pandas(new, preserve_index=False))
        scored = rows.map_batches(FrameScorer(model), batch_format="pyarrow").to_pandas()
    finally:
        ray.shutdown()
    expected = np.sort(detector.score_samples(new))
    np.testing.assert_array_equal(np.sort(scored["score"]), expected)
