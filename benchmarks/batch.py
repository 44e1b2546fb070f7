"""Speed and memory of scoring a large file, against PyOD's VAE and IsolationForest with pandas.

Every contender reads, scores and writes the same file in a process of its own, which starts with a
fitted model in memory. At last ours in one process of several threads, and in several of one.
"""

import argparse
import contextlib
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

# What each contender needs is imported in its process: it counts for its memory.

N_COLUMNS = 30
TRAINING_ROWS = 10_000


def write_table(path, n_rows):
    from correlated import frames

    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = map(pa.Table.from_pandas, frames(n_rows, N_COLUMNS))
        pq.write_table(pa.concat_tables(tables), path)
        return
    for number, frame in enumerate(frames(n_rows, N_COLUMNS)):
        frame.to_csv(path, mode="a" if number else "w", header=not number, index=False)


def fit(folder, n_draws):
    import pandas as pd

    import vae_anomaly

    detector = vae_anomaly.VAEDetector(n_draws=n_draws, max_steps=200, random_state=0)
    detector.fit(pd.read_csv(folder / "train.csv")).save(model_path(folder, n_draws))


def model_path(folder, n_draws):
    return folder / f"model-{n_draws}"


def scoring_of(folder, detector, options):
    import vae_anomaly

    (table,) = folder.glob("t.*")
    return lambda: vae_anomaly.score_files(
        table, detector, folder / f"out-{os.getpid()}{table.suffix}", **options
    )


def ours(folder, n_draws, **options):
    import vae_anomaly

    detector = vae_anomaly.load_detector(model_path(folder, n_draws))
    return scoring_of(folder, detector, options)


def the_command(folder, n_draws):
    """What ``vae-anomaly score`` does."""
    from vae_anomaly.batch.run import threads_per_operation
    from vae_anomaly.tensorflow_import import set_threads_per_operation

    set_threads_per_operation(threads_per_operation(model_path(folder, n_draws)))
    return ours(folder, n_draws)


def reading_and_writing(folder, **options):
    """All that ``score_files`` does, with scores that cost nothing."""
    import numpy as np

    import vae_anomaly

    detector = vae_anomaly.load_detector(model_path(folder, 1))
    x = np.random.default_rng(0).normal(size=(10_000, N_COLUMNS))
    ready = {"score": x.sum(axis=1), "p_value": np.exp(-(x[:, 0] ** 2)), "feature_log_prob": x}
    scorer = detector.scorer_
    # Keras models refuse other attributes.
    object.__setattr__(
        scorer,
        "run",
        lambda arrays, names: {name: ready[name][: len(arrays["c0"])] for name in names},
    )
    object.__setattr__(scorer, "reconstruct", lambda arrays: x[: len(arrays["c0"])])
    return scoring_of(folder, detector, options)


def with_pandas(folder, build):
    import pandas as pd

    detector = build().fit(pd.read_csv(folder / "train.csv").to_numpy())

    def run():
        frame = pd.read_csv(folder / "t.csv")
        frame["score"] = detector.decision_function(frame.to_numpy())
        frame.to_csv(folder / "out.csv", index=False)

    return run


def pyod_vae():
    from pyod.models.vae import VAE

    layers = {"encoder_neuron_list": [128, 128], "decoder_neuron_list": [128, 128]}
    return VAE(**layers, latent_dim=16, epoch_num=1, verbose=0)


def isolation_forest():
    from sklearn.ensemble import IsolationForest

    return IsolationForest(random_state=0)


CONTENDERS = {
    "score_files, 1 draw": lambda folder: ours(folder, 1),
    "score_files, 8 draws": lambda folder: ours(folder, 8),
    "the command score, 8 draws": lambda folder: the_command(folder, 8),
    "without scoring": reading_and_writing,
    "explain=3, 1 draw": lambda folder: ours(folder, 1, explain=3),
    "explain=3, 8 draws": lambda folder: ours(folder, 8, explain=3),
    "explain=3 without scoring": lambda folder: reading_and_writing(folder, explain=3),
    "PyOD VAE (1 draw), pandas": lambda folder: with_pandas(folder, pyod_vae),
    "IsolationForest, pandas": lambda folder: with_pandas(folder, isolation_forest),
}


OURS = "score_files, 8 draws"
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def measure(folder, name, cores):
    """Run a contender once, on so many cores; to be called in a process of its own."""
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    run = CONTENDERS[name](folder)
    print("ready", flush=True)
    sys.stdin.readline()  # all begin at once
    started, cpu_started = time.perf_counter(), time.process_time()
    run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(f"{seconds} {cpu} {peak}")


def measured(folder, name, n_processes=1, n_threads=None, cores=0):
    """Run a contender in so many processes at once; return the figures of each."""
    command = [sys.executable, __file__, "--folder", folder, "--contender", name]
    command += ["--cores", str(cores)]
    environment = {**os.environ, **(dict.fromkeys(THREADS, str(n_threads)) if n_threads else {})}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes: list[Any] = [
        subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(n_processes)
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        with contextlib.suppress(BrokenPipeError):  # it has failed
            process.stdin.write("\n")
            process.stdin.flush()
    figures = []
    for process in processes:
        output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors.strip().splitlines()[-1])
        figures.append([float(figure) for figure in output.split()[-3:]])
    return figures


def compare_processes(folder, n_rows):
    """Print the rates of one process of many threads and of many of one, on as many cores."""
    available, cores = len(os.sched_getaffinity(0)), 1
    while cores <= available:
        for n_processes in sorted({1, cores}):
            n_threads = cores // n_processes
            figures = measured(folder, OURS, n_processes, n_threads, cores)
            seconds = max(figure[0] for figure in figures)
            print(
                f"cores {cores}, processes {n_processes}, threads of each {n_threads}: "
                f"{n_processes * n_rows / seconds:10,.0f} rows/s",
                flush=True,
            )
        cores *= 2


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--contender", choices=CONTENDERS, action="append")
    parser.add_argument(
        "--format", choices=["csv", "parquet"], default="csv", help="parquet: ours alone"
    )
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder and not args.contender:
        for n_draws in (1, 8):
            fit(args.folder, n_draws)
        return
    if args.folder:
        measure(args.folder, args.contender[0], args.cores)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_table(pathlib.Path(folder) / "train.csv", TRAINING_ROWS)
        table = pathlib.Path(folder) / f"t.{args.format}"
        write_table(table, args.rows)
        subprocess.run([sys.executable, __file__, "--folder", folder], check=True)
        print(f"{args.rows:,} rows x {N_COLUMNS} columns, {table.stat().st_size / 1e6:,.0f} MB")
        for name in args.contender or CONTENDERS:
            if args.format != "csv" and "pandas" in name:
                continue
            try:
                ((seconds, cpu, peak),) = measured(folder, name)
            except RuntimeError as error:
                print(f"{name:30} failed: {error}")
                continue
            print(
                f"{name:30} {args.rows / seconds:10,.0f} rows/s {seconds:8.1f} s "
                f"{cpu:8.1f} s of CPU {peak:8,.0f} MiB at most",
                flush=True,
            )
        if not args.contender:
            compare_processes(folder, args.rows)


if __name__ == "__main__":
    main()
