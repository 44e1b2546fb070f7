"""Fitting and scoring on a cluster of Spark: two workers, where Java and pyspark are there."""

import functools
import importlib.util
import os
import pathlib
import pickle
import shutil
import signal
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_detectors import SMALL
from test_fit_files import assert_learned_alike, learned, message_of

from vae_anomaly import DataWarning, TableFiles, VAEDetector, score_files, spark
from vae_anomaly.tables.files import TableError

needs_pyspark = pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None, reason="needs the extra [spark]"
)
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")
N_ROWS = 20_000


@pytest.fixture(scope="module")
def folder(small_table_detector, tmp_path_factory):
    """A folder with the model m of ``table``, and rows.parquet of 20,000 rows, some bad."""
    folder = tmp_path_factory.mktemp("spark")
    small_table_detector.save(folder / "m")
    return folder


@pytest.fixture(scope="module")
def rows(table):
    frame = table.sample(N_ROWS, replace=True, random_state=1).reset_index(drop=True)
    frame["count"] = frame["count"].astype(str)
    frame.loc[::4999, "count"] = "many"
    frame["day"] = frame["day"].dt.tz_localize("UTC")  # moments, for Spark
    frame["note"] = pd.array(range(2**60, 2**60 + N_ROWS), "Int64")
    frame.loc[7, "note"] = None
    return frame.astype({"grade": object})


@pytest.fixture(scope="module")
def session():
    """Two workers on this machine; a task may fail three times."""
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("needs the extra [spark]")
    if shutil.which("java") is None:
        pytest.skip("needs Java, as Debian's default-jre-headless")
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            patch.delenv(name, raising=False)
        builder = SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", False)
        builder = builder.config("spark.sql.session.timeZone", "Asia/Tokyo")
        builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 3000)
        builder = builder.config("spark.sql.files.maxPartitionBytes", 2**17)
        session = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture(scope="module")
def df(session, rows, folder):
    rows.to_parquet(folder / "rows.parquet", row_group_size=5000)
    return session.read.parquet(f"{folder}/rows.parquet")


@pytest.fixture(scope="module")
def expected(df, folder):
    """What ``score_files`` writes of the rows, by their note."""
    score_files(folder / "rows.parquet", folder / "m", folder / "out.parquet")
    return pq.read_table(folder / "out.parquet").to_pandas().set_index("note")


# Without Spark


@pytest.mark.slow
def test_the_function_for_spark_pickles_and_works_without_it(folder, rows):
    scorer = pickle.loads(pickle.dumps(spark.scorer(folder / "m", columns=["note"])))
    frames = list(scorer(iter([rows[:50], rows[50:80]])))
    assert [len(frame) for frame in frames] == [50, 30]
    whole = next(scorer(iter([rows[:80]])))
    pd.testing.assert_frame_equal(pd.concat(frames), whole)


@pytest.mark.parametrize("version", [None, "3.5.1"])
def test_pyspark_that_is_not_there_or_too_old_is_told_of(folder, monkeypatch, version):
    import types

    module = None if version is None else types.SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "pyspark", module)
    received = f"pyspark {version}" if version else "none"
    with pytest.raises(ImportError, match=f"Expected pyspark 4 or later. Received: {received}"):
        spark.output_schema(folder / "m", None)
    with pytest.raises(ImportError, match=f"Expected pyspark 4 or later. Received: {received}"):
        spark.SparkRows(None)


@needs_pyspark
def test_rows_of_something_else_than_spark_are_an_error():
    with pytest.raises(TypeError, match="Expected a DataFrame of Spark. Received: pandas.*Data"):
        spark.SparkRows(pd.DataFrame({"a": [1.0]}))


# The schema


def struct(**types):
    """The schema of columns of types of Spark, or of their names in JSON."""
    from pyspark.sql.types import StructType

    schema = StructType()
    for name, found in types.items():
        schema = schema.add(name, found)
    return schema


@needs_pyspark
def test_the_schema_of_the_output_is_that_of_the_input_and_what_scoring_adds(folder):
    given = struct(
        note="long", amount="double", count="string", city="string", member="boolean",
        day="timestamp", grade="string",
    )  # fmt: skip
    schema = spark.output_schema(folder / "m", given, explain=1)
    assert schema.fields[:7] == given.fields
    assert [(f.name, f.dataType.simpleString()) for f in schema.fields[7:]] == [
        *(("score", "double"), ("decision", "double"), ("is_anomaly", "boolean")),
        *(("p_value", "double"), ("reason_1", "string"), ("reason_1_gain", "double")),
        *(("reason_1_expected", "string"), ("error", "string")),
    ]


@needs_pyspark
def test_a_lost_column_and_a_wrong_type_are_found_before_the_job_starts(folder):
    from pyspark.sql.types import ArrayType, LongType, YearMonthIntervalType

    with pytest.raises(TableError, match="missing columns: 'amount' .did you mean 'Amount'"):
        spark.output_schema(folder / "m", struct(Amount="double", city="string"))
    others = ["count", "city", "member", "day", "grade"]
    for found, received in [
        (ArrayType(LongType()), "array<bigint>"),
        ("timestamp", "timestamp.*"),
        (YearMonthIntervalType(), "interval year to month"),
    ]:
        error = f"the DataFrame, column 'amount': expected a number, received {received}; convert"
        with pytest.raises(TableError, match=error):
            spark.output_schema(folder / "m", struct(amount=found), allow_missing=others)
    with pytest.raises(TableError, match="no column named like an output, received 'score'"):
        given = struct(amount="double", score="double")
        spark.output_schema(folder / "m", given, allow_missing=others)


@needs_pyspark
def test_a_rate_that_calibration_cannot_tell_is_found_before_the_job_starts(folder):
    given = struct(amount="double")
    error = "Expected a false-alarm rate from .* Received: 1e-09. Calibrate with more normal rows"
    with pytest.raises(ValueError, match=error):
        spark.output_schema(folder / "m", given, false_alarm_rate=1e-9)


@needs_pyspark
def test_columns_that_are_passed_over_are_told_of(folder):
    names = ["amount", "extra", "count", "city", "member", "day"]
    given = struct(**dict.fromkeys(names, "string"))
    with pytest.warns(DataWarning) as told:
        spark.output_schema(folder / "m", given, allow_missing=["grade"])
    assert [str(warning.message) for warning in told] == [
        "the DataFrame: columns that the model does not know are passed through: extra",
        "the DataFrame: no column grade; counted as missing cells",
    ]
    assert {warning.filename for warning in told} == {__file__}


# On workers


@pytest.mark.slow
def test_rows_get_the_scores_of_files_to_the_last_bit(df, expected, folder, rows):
    assert df.rdd.getNumPartitions() >= 2
    scored = spark.score(df, f"{folder}/m")
    assert scored.columns == [*rows.columns, "score", "decision", "is_anomaly", "p_value", "error"]
    table = scored.toArrow()
    assert table["note"].equals(pq.read_table(folder / "rows.parquet")["note"])
    found = table.to_pandas().set_index("note")
    is_bad = found["error"].notna().to_numpy()
    assert is_bad.tolist() == (rows["count"] == "many").tolist()
    assert found.loc[is_bad, ["score", "p_value", "is_anomaly"]].isna().all(axis=None)
    for name in ("score", "decision", "is_anomaly", "p_value"):
        np.testing.assert_array_equal(found[name][~is_bad], expected[name])


@pytest.mark.slow
def test_plain_map_in_pandas_takes_the_function_too(df, expected, folder, session):
    scorer, schema = spark.scorer(folder / "m"), spark.output_schema(folder / "m", df.schema)
    session.conf.set("spark.sql.session.timeZone", "UTC")
    found = df.mapInPandas(scorer, schema).select("score", "error").toArrow().to_pandas()
    session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    np.testing.assert_array_equal(found["score"][found["error"].isna()], expected["score"])


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_row(df, expected, folder):
    scorer, schema = spark.scorer(folder / "m"), spark.output_schema(folder / "m", df.schema)
    marks = folder / "killed"
    marks.mkdir()

    def killed_once(batches):
        from pyspark import TaskContext

        task = TaskContext.get()
        for number, batch in enumerate(scorer(batches)):
            if task.partitionId() == 1 and task.attemptNumber() == 0 and number == 1:
                (marks / "1").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    found = df.mapInArrow(killed_once, schema).select("score").toArrow()["score"].drop_null()
    assert (marks / "1").exists()
    np.testing.assert_array_equal(found, expected["score"])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["addFile", "addArchive"])
def test_a_model_is_found_among_the_files_of_the_context(
    df, expected, folder, session, tmp_path, way
):
    shutil.copytree(folder / "m", folder / way)  # Spark reads it again and again
    if way == "addFile":
        session.sparkContext.addFile(f"{folder}/{way}", recursive=True)
    else:
        archive = shutil.make_archive(f"{folder}/{way}", "zip", folder / way)
        session.sparkContext.addArchive(f"{archive}#{way}")
    shutil.copytree(folder / "m", tmp_path / way)
    scored = spark.score(df.limit(10), tmp_path / way)
    shutil.rmtree(tmp_path / way)
    found = scored.select("score").toArrow()["score"].drop_null()
    np.testing.assert_array_equal(found, expected["score"][:9])


@pytest.mark.slow
def test_a_model_that_a_worker_does_not_find_or_finds_changed_ends_the_job(df, folder, tmp_path):
    from pyspark.errors import PythonException

    for name in ("lost", "changed"):
        shutil.copytree(folder / "m", tmp_path / name)
    lost, changed = (spark.score(df.limit(5), tmp_path / name) for name in ("lost", "changed"))
    shutil.rmtree(tmp_path / "lost")
    with pytest.raises(PythonException, match="lost: expected a saved detector that this worker"):
        lost.collect()
    manifest = tmp_path / "changed" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(PythonException, match="expected the model that was there when its scorer"):
        changed.collect()


@pytest.mark.slow
def test_a_column_that_is_lost_on_the_way_to_the_workers_ends_the_job(df, folder):
    from pyspark.errors import PythonException

    schema = spark.output_schema(folder / "m", df.schema)
    scored = df.limit(5).drop("city").mapInPandas(spark.scorer(folder / "m"), schema)
    with pytest.raises(PythonException, match="the table: missing columns: 'city'"):
        scored.collect()


@pytest.mark.slow
def test_odd_names_of_columns_pass_through(df, expected, folder):
    with pytest.warns(DataWarning, match="does not know are passed through: a.` b"):
        scored = spark.score(df.withColumnRenamed("note", "a.` b").limit(10), folder / "m")
    assert "a.` b" in scored.columns
    found = scored.toArrow()
    assert found["a.` b"].to_pylist() == df.limit(10).toArrow()["note"].to_pylist()
    np.testing.assert_array_equal(found["score"].drop_null(), expected["score"][:9])


@pytest.mark.slow
def test_a_folder_that_spark_writes_is_one_table_to_fit(df, folder):
    df.drop("count").write.parquet(f"{folder}/written")
    files = TableFiles(folder / "written")
    detector = VAEDetector(**SMALL, kinds={"note": "id"}, max_rows=500).fit(files)
    assert files.n_rows == N_ROWS
    assert list(detector.scorer_.preprocessor.kinds) == ["amount", "city", "member", "day", "grade"]


@pytest.mark.slow
def test_a_task_computes_with_the_threads_that_it_has(df, folder, session):
    scorer = spark.scorer(folder / "m")

    def threads(batches):
        import pyarrow as pa

        for _ in scorer(batches):
            pass
        tasks = pathlib.Path("/proc/self/task").iterdir()
        names = [(task / "comm").read_text() for task in tasks]
        yield pa.RecordBatch.from_pydict({"n": [sum("tf_Compute" in name for name in names)]})

    found = df.mapInArrow(threads, "n BIGINT").toArrow()["n"].to_pylist()
    assert set(found) == {1}


# Fitting


@pytest.fixture(scope="module")
def training(session, rows, folder):
    """Rows in partitions, of every kind and of types that Spark has, and their Parquet file."""
    frame = rows[rows["count"] != "many"][:12_000]
    cents = [None if pd.isna(x) else Decimal(f"{x:.2f}") for x in frame["amount"]]
    frame = frame.assign(cents=cents, tags=[["a"]] * len(frame))
    frame.to_parquet(folder / "training.parquet", row_group_size=3000, index=False)
    df = session.read.parquet(f"{folder}/training.parquet")
    assert df.rdd.getNumPartitions() >= 2
    return df


KINDS = {"note": "id", "tags": "dropped"}


@pytest.mark.slow
@pytest.mark.parametrize("max_rows", [None, 1000])
def test_workers_teach_what_the_same_rows_teach_from_files_and_memory(training, folder, max_rows):
    rows = spark.SparkRows(training)
    found = learned(rows, kinds=KINDS, max_rows=max_rows)
    assert rows.n_rows == 12_000
    assert list(found[0].schema.kinds)[-1] == "cents"
    for other in (TableFiles(folder / "training.parquet"), [training.toArrow()]):
        assert_learned_alike(found, learned(other, kinds=KINDS, max_rows=max_rows))
    in_one = spark.SparkRows(training.coalesce(1))
    assert_learned_alike(found, learned(in_one, kinds=KINDS, max_rows=max_rows))


@pytest.mark.slow
def test_a_fit_on_spark_is_the_fit_on_files_and_goes_on_with_a_known_schema(training, folder):
    detector = VAEDetector(**SMALL, kinds=KINDS).fit(spark.SparkRows(training))
    expected = VAEDetector(**SMALL, kinds=KINDS).fit(TableFiles(folder / "training.parquet"))
    new = pd.read_parquet(folder / "training.parquet")[:500]
    np.testing.assert_array_equal(detector.score_samples(new), expected.score_samples(new))
    np.testing.assert_array_equal(detector.offset_, expected.offset_)
    schema = detector.scorer_ and detector._input.schema
    again = VAEDetector(**SMALL, schema=schema).fit(spark.SparkRows(training))
    np.testing.assert_array_equal(again.score_samples(new), expected.score_samples(new))


@pytest.mark.slow
def test_a_worker_that_is_killed_in_a_fit_costs_no_row(training, folder):
    rows, marks = spark.SparkRows(training), folder / "killed in a fit"
    marks.mkdir()
    in_partitions = rows.in_partitions

    def killed_once(read, partition, batches):
        batches = list(batches)
        mark = marks / f"{partition} {read.func.__name__}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(partition, iter(batches))

    def in_partitions_with_deaths(read, columns):
        return in_partitions(functools.partial(killed_once, read), columns)

    rows.in_partitions = in_partitions_with_deaths
    found = learned(rows, kinds=KINDS, max_rows=1000)
    n_partitions = training.rdd.getNumPartitions()
    assert len(list(marks.iterdir())) == 2 * n_partitions
    assert_learned_alike(found, learned([training.toArrow()], kinds=KINDS, max_rows=1000))


@pytest.mark.slow
def test_bad_cells_on_workers_are_counted_and_left_out(df, folder):
    rows = spark.SparkRows(df)
    with pytest.warns(DataWarning, match="Left out 5 rows .*the DataFrame, line 0, column 'count'"):
        found = learned(rows, kinds={"note": "id"}, max_rows=None)
    assert (rows.n_rows, rows.bad.n_rows) == (N_ROWS, 5)
    with pytest.warns(DataWarning, match="Left out 5 rows"):
        files = learned(TableFiles(folder / "rows.parquet"), kinds={"note": "id"}, max_rows=None)
    assert_learned_alike(found, files)
    message = message_of(lambda: learned(spark.SparkRows(df, max_bad_rows=2), kinds={"note": "id"}))
    assert "expected at most 2 bad rows, received" in message


@pytest.mark.slow
def test_what_cannot_be_fitted_on_spark_is_told_of_in_a_sentence(training, session):
    message = message_of(lambda: learned(spark.SparkRows(training), kinds={}))
    assert "the DataFrame, column 'tags': expected one of numeric" in message
    assert "received array<string>; convert it or choose a kind" in message
    message = message_of(lambda: learned(spark.SparkRows(training.limit(0)), kinds=KINDS))
    assert message == "Expected rows to fit on. Received: 0 sample(s)."
    message = message_of(lambda: VAEDetector(**SMALL).fit(training))
    assert "pyspark.sql" in message and "spark.SparkRows" in message
    endless = training.selectExpr("if(note % 5000 = 7, double('infinity'), amount) amount", "day")
    message = message_of(lambda: learned(spark.SparkRows(endless), kinds=None))
    assert "the DataFrame, column 'amount': expected finite numbers" in message
    twice = training.select("amount", "amount")
    assert "expected unique column names" in message_of(lambda: spark.SparkRows(twice))


@pytest.mark.slow
def test_odd_names_of_columns_are_taken_as_they_are(training, folder):
    odd = training.selectExpr("amount as `a.b`", "city as ``` c`", "note as `No`")
    found = learned(spark.SparkRows(odd), kinds={"No": "id"})
    assert list(found[1]) == ["a.b", "` c"]
