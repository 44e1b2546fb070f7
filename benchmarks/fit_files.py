"""Rows per second and peak memory of reading Parquet files of many rows for a fit, in two passes.

Each number of rows is read in a process of its own; training, which does not depend on the number
of rows, is left out. With --compare: what a model of a sample finds, and one of all rows in memory.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

# What reads is imported in its process: it counts for its memory.

FILE_ROWS = 1_000_000


def write_files(folder: pathlib.Path, n_rows: int, seed: int = 0) -> None:
    """Write files of 22 columns of numbers, 2 of booleans, 4 of categories and 2 of moments."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from correlated import BLOCK, correlated

    rng = np.random.default_rng(seed)
    for start in range(0, n_rows, FILE_ROWS):
        writer = None
        for block in range(start, min(start + FILE_ROWS, n_rows), BLOCK):
            n = min(BLOCK, n_rows - block)
            x = correlated(n, 20, rng)
            x[rng.random(x.shape) < 0.01] = np.nan
            columns: dict[str, Any] = {f"n{index}": x[:, index] for index in range(20)}
            columns["amount"] = rng.lognormal(1, 1.5, n).round(2)
            columns["count"] = rng.poisson(3, n)
            for index, size in enumerate((3, 20, 300, 20_000)):
                codes = (size * rng.random(n) ** 3).astype(int)
                levels = pa.array([f"level {code}" for code in range(size)])
                columns[f"c{index}"] = pa.DictionaryArray.from_arrays(codes, levels).cast("string")
            columns |= {f"b{index}": rng.random(n) < 0.3 for index in range(2)}
            sent = 1_700_000_000 + rng.integers(0, 10**7, n)
            columns["sent"] = pa.array(sent * 10**6, pa.timestamp("us"))
            columns["seen"] = pa.array(
                (sent + rng.integers(1, 10**5, n)) * 10**6, pa.timestamp("us")
            )
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(folder / f"{start:012d}.parquet", table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(folder: pathlib.Path, max_rows: int | None) -> str:
    """Read the files as ``fit`` does; return a line of the table."""
    from vae_anomaly import TableFiles, VAEDetector
    from vae_anomaly.detectors.table_input import TableInput

    ends: dict[str, float] = {}

    def note(name: str, n_rows: int, share: float) -> None:
        ends[name] = time.perf_counter()

    before, start = peak_mib(), time.perf_counter()
    files = TableFiles(folder, progress=note)
    chosen = TableInput()
    chosen.learn(VAEDetector(max_rows=max_rows), files, 0, None)
    learned = time.perf_counter()
    seconds = {
        "first pass": ends["inspecting"] - start,
        "second pass": ends["reading"] - ends["inspecting"],
        "both, and learning": learned - start,
    }
    rates = "".join(f"{files.n_rows / value:>20,.0f}" for value in seconds.values())
    return f"{files.n_rows:>12,}{rates}{before:>14,.0f}{peak_mib():>12,.0f}"


def compared(n_rows: int, max_rows: int | None, max_steps: int, seed: int) -> dict[str, list]:
    """Return AUROC, mean score of fresh rows and seconds, by all rows and by a sample.

    The AUROC is of rows that have the n0, n1 and n2 of other rows, among fresh rows.
    """
    import keras
    import numpy as np
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    from vae_anomaly import TableFiles, VAEDetector

    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for part, size, part_seed in (("train", n_rows, 2 * seed), ("test", 5000, 2 * seed + 1)):
            (folder / part).mkdir()
            write_files(folder / part, size, part_seed)
        train, test = (pd.read_parquet(folder / part) for part in ("train", "test"))
        swapped = test.copy()
        for column in ("n0", "n1", "n2"):
            swapped[column] = np.roll(test[column], 1)
        fits = {"all rows": (train, None), "a sample": (TableFiles(folder / "train"), max_rows)}
        for what, (rows, most) in fits.items():
            keras.backend.clear_session()
            start = time.perf_counter()
            detector = VAEDetector(max_rows=most, max_steps=max_steps, random_state=seed).fit(rows)
            seconds = time.perf_counter() - start
            scores = [detector.score_samples(part) for part in (test, swapped)]
            auroc = roc_auc_score(np.repeat([1, 0], len(test)), np.concatenate(scores))
            found[what] = [auroc, scores[0].mean(), seconds]
    return found


def compare(n_rows: int, max_rows: int | None, max_steps: int, seeds: list[int]) -> None:
    """Print what ``compared`` finds for each seed, of data and fit alike, and the mean of all."""
    import numpy as np

    found = []
    for seed in seeds:
        of_seed = compared(n_rows, max_rows, max_steps, seed)
        found.append(list(of_seed.values()))
        for what, (auroc, score, seconds) in of_seed.items():
            print(
                f"seed {seed}, {what}: AUROC {auroc:.4f}, mean score of fresh rows {score:.2f}, "
                f"{seconds:.0f} s",
                flush=True,
            )
    # The two fits of a seed have the same data, so the error of their difference is the smaller.
    of_all, of_sample = np.array(found)[:, :, :2].swapaxes(0, 1)
    lines = {"all rows": of_all, "a sample": of_sample, "sample - all": of_sample - of_all}
    for what, of_seeds in lines.items():
        auroc, score = of_seeds.mean(axis=0)
        errors = of_seeds.std(axis=0, ddof=1) / np.sqrt(len(seeds))
        print(
            f"{what}: AUROC {auroc:.4f}, standard error {errors[0]:.4f}; "
            f"mean score {score:.2f}, standard error {errors[1]:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--max-rows", type=int, help="of the sample; by default that of fit")
    parser.add_argument("--compare", type=int, metavar="ROWS", help="compare fits to so many rows")
    parser.add_argument("--max-steps", type=int, default=6000, help="of --compare")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="of --compare, at least 2"
    )
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        print(read(args.folder, args.max_rows))
        return
    if args.compare:
        compare(args.compare, args.max_rows, args.max_steps, args.seeds)
        return
    print("rows/s; MiB at most, before reading and in all")
    heads = ("first pass", "second pass", "both, and learning")
    print(f"{'rows':>12}{''.join(f'{head:>20}' for head in heads)}{'before':>14}{'in all':>12}")
    for n_rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            write_files(pathlib.Path(folder), n_rows)
            limit = [] if args.max_rows is None else ["--max-rows", str(args.max_rows)]
            command = [sys.executable, "-W", "ignore", __file__, "--folder", folder, *limit]
            print(subprocess.check_output(command, text=True), end="", flush=True)


if __name__ == "__main__":
    main()
