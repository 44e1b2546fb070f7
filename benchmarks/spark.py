"""Speed of a local Spark of 1 and 2 workers, beside one process without it, on a Parquet file.

Each contender runs in a process of its own, with a thread of TensorFlow for each task. Scored rows
are written to Parquet again, and scores compared. Of a fit all is measured but training.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import warnings

# What each contender needs is imported in its process.

N_COLUMNS = 30
TRAINING_ROWS = 10_000


def write_rows(path, n_rows):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from correlated import frames

    schema = pa.schema([(f"c{index}", pa.float64()) for index in range(N_COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for frame in frames(n_rows, N_COLUMNS, seed=1):
            writer.write_table(pa.Table.from_pandas(frame, schema))


def fit(folder):
    from correlated import frames

    import vae_anomaly

    (frame,) = frames(TRAINING_ROWS, N_COLUMNS)
    detector = vae_anomaly.VAEDetector(max_steps=200, random_state=0)
    detector.fit(frame).save(folder / "model")


def single(folder):
    from vae_anomaly.tensorflow_import import limit_threads

    limit_threads(1)
    import vae_anomaly

    started = time.perf_counter()
    vae_anomaly.score_files(folder / "rows.parquet", folder / "model", folder / "single.parquet")
    return time.perf_counter() - started


def read_for_fit(folder):
    from vae_anomaly import TableFiles

    return learned(TableFiles(folder / "rows.parquet"))


def learned(rows):
    """Return the seconds of all of a fit but training, which any number of rows takes alike."""
    from vae_anomaly import VAEDetector
    from vae_anomaly.detectors.table_input import TableInput

    warnings.simplefilter("ignore")  # that a sample trains
    started = time.perf_counter()
    TableInput().learn(VAEDetector(), rows, 0, None)
    return time.perf_counter() - started


@contextlib.contextmanager
def local_spark(n_workers):
    os.environ["PYSPARK_PYTHON"] = sys.executable
    warnings.filterwarnings("ignore", category=FutureWarning)  # of pandas 3, by pyspark
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master(f"local[{n_workers}]")
        .config("spark.ui.enabled", False)
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.files.maxPartitionBytes", 8 * 2**20)
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def on_spark(folder, n_workers):
    from vae_anomaly import spark

    with local_spark(n_workers) as session:
        started = time.perf_counter()
        df = session.read.parquet(f"{folder}/rows.parquet")
        spark.score(df, folder / "model").write.parquet(f"{folder}/spark-{n_workers}")
        return time.perf_counter() - started


def read_for_fit_on_spark(folder, n_workers):
    from vae_anomaly import spark

    with local_spark(n_workers) as session:
        return learned(spark.SparkRows(session.read.parquet(f"{folder}/rows.parquet")))


CONTENDERS = {
    "score_files": single,
    "score, 1 worker": lambda folder: on_spark(folder, 1),
    "score, 2 workers": lambda folder: on_spark(folder, 2),
    "fit, TableFiles": read_for_fit,
    "fit, 1 worker": lambda folder: read_for_fit_on_spark(folder, 1),
    "fit, 2 workers": lambda folder: read_for_fit_on_spark(folder, 2),
}


def same_scores(paths):
    """Whether all wrote the same scores, in whatever order."""
    import numpy as np
    import pyarrow.parquet as pq

    scores = [np.sort(pq.read_table(path, columns=["score"])["score"]) for path in paths]
    return all(np.array_equal(scores[0], other) for other in scores[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:  # in a process of its own
        print(CONTENDERS[args.contender[0]](args.folder) if args.contender else fit(args.folder))
        return
    if shutil.which("java") is None:
        sys.exit("Expected Java, such as Debian's default-jre-headless. Received: none.")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_rows(folder / "rows.parquet", args.rows)
        command = [sys.executable, __file__, "--folder", name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for contender in args.contender or CONTENDERS:
            result = subprocess.run(
                [*command, "--contender", contender], stdout=subprocess.PIPE, text=True, check=True
            )
            seconds = float(result.stdout.split()[-1])
            print(
                f"{contender:20} {args.rows / seconds:10,.0f} rows/s {seconds:8.1f} s", flush=True
            )
        if len(scored := [*folder.glob("single.parquet"), *folder.glob("spark-*")]) > 1:
            print("scores alike:", same_scores(scored))


if __name__ == "__main__":
    main()
