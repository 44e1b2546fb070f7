"""Speed and memory of scoring a large file, against PyOD's VAE and IsolationForest with pandas.

Every contender reads, scores and writes the same file in a process of its own, which starts with a
fitted model in memory.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

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
        table, detector, folder / f"out{table.suffix}", **options
    )


def ours(folder, n_draws, **options):
    import vae_anomaly

    detector = vae_anomaly.load_detector(model_path(folder, n_draws))
    return scoring_of(folder, detector, options)


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
    "without scoring": reading_and_writing,
    "explain=3, 1 draw": lambda folder: ours(folder, 1, explain=3),
    "explain=3, 8 draws": lambda folder: ours(folder, 8, explain=3),
    "explain=3 without scoring": lambda folder: reading_and_writing(folder, explain=3),
    "PyOD VAE (1 draw), pandas": lambda folder: with_pandas(folder, pyod_vae),
    "IsolationForest, pandas": lambda folder: with_pandas(folder, isolation_forest),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--contender", choices=CONTENDERS, action="append")
    parser.add_argument(
        "--format", choices=["csv", "parquet"], default="csv", help="parquet: ours alone"
    )
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder and not args.contender:
        for n_draws in (1, 8):
            fit(args.folder, n_draws)
        return
    if args.folder:  # in a process of its own
        run = CONTENDERS[args.contender[0]](args.folder)
        started, cpu_started = time.perf_counter(), time.process_time()
        run()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        print(f"{seconds} {cpu} {peak}")
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
            command = [sys.executable, __file__, "--folder", folder, "--contender", name]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                print(f"{name:30} failed: {result.stderr.strip().splitlines()[-1]}")
                continue
            seconds, cpu, peak = map(float, result.stdout.split()[-3:])
            print(
                f"{name:30} {args.rows / seconds:10,.0f} rows/s {seconds:8.1f} s "
                f"{cpu:8.1f} s of CPU {peak:8,.0f} MiB at most",
                flush=True,
            )


if __name__ == "__main__":
    main()
