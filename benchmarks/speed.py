"""Speed and memory of the detectors, against PyOD, scikit-learn and bare matrix products.

Every contender runs in processes of its own, so that import time and peak memory are its own, and
each peer gets so many seconds: what it has not measured by then is left out. See README.md for what
each line of the output is.
"""

import argparse
import importlib
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bare import compare_with_bare, seconds

# Neither NumPy nor TensorFlow is imported up here: their import is part of what is measured.

STARTUP_ROWS = 256
# Rates and growth do not depend on the number of rows beyond these.
TRAINED_ROWS, SCORED_ROWS = 20_000, 50_000


class Contender(NamedTuple):
    """How to import and build a detector, and which parameter says how long it trains."""

    module: str
    class_name: str
    params: dict[str, Any]
    budget: str = ""  # "max_steps" (gradient steps), "epoch_num" (epochs), "" (neither)


_PYOD_VAE = {
    "encoder_neuron_list": [128, 128],
    "decoder_neuron_list": [128, 128],
    "latent_dim": 16,
    "verbose": 0,
}
_PYOD_VAE_256 = {**_PYOD_VAE, "batch_size": 256}
_PYOD_AE = {"hidden_neuron_list": [128, 128, 16], "verbose": 0}
_OURS = {"validation_fraction": 0, "random_state": 0}  # no held-out rows: no early stopping
CONTENDERS = {
    "VAEDetector": Contender("vae_anomaly", "VAEDetector", _OURS, "max_steps"),
    "AutoencoderDetector": Contender("vae_anomaly", "AutoencoderDetector", _OURS, "max_steps"),
    "PyOD VAE": Contender("pyod.models.vae", "VAE", _PYOD_VAE, "epoch_num"),
    "PyOD VAE/256": Contender("pyod.models.vae", "VAE", _PYOD_VAE_256, "epoch_num"),
    "PyOD AutoEncoder": Contender("pyod.models.auto_encoder", "AutoEncoder", _PYOD_AE, "epoch_num"),
    "IsolationForest": Contender("sklearn.ensemble", "IsolationForest", {"random_state": 0}),
}
# Key of a measurement, its label, its format.
LINES = [
    ("import_s", "import, s", ".2f"),
    ("startup_s", f"first fit ({STARTUP_ROWS} rows, 1 step), s", ".2f"),
    ("batch_size", "batch size", ".0f"),
    ("s_per_1000_steps", "fit, s per 1,000 steps", ".2f"),
    ("train_rows_per_s", "training, rows/s", ",.0f"),
    ("default_steps", "steps of a default fit, at most", ",.0f"),
    ("default_fit_s", "default fit, s (extrapolated)", ",.1f"),
    ("score_rows_per_s", "scoring, rows/s", ",.0f"),
    ("fit_peak_mib", "peak memory in fit, MiB", ",.0f"),
    ("fit_over_import_mib", "  of it, since import and data", ",.0f"),
    ("score_growth_mib", "scoring 10x the rows, more MiB*", ",.1f"),
    ("train_bare_rows_per_s", "bare products, training, rows/s", ",.0f"),
    ("train_ratio", "  training / bare", ".2f"),
    ("score_bare_rows_per_s", "bare products, scoring, rows/s", ",.0f"),
    ("score_ratio", "  scoring / bare", ".2f"),
    ("train_gflops", "training, GFLOP/s in products", ",.0f"),
    ("score_gflops", "scoring, GFLOP/s in products", ",.0f"),
    ("square_gflops", "2048^3 product, GFLOP/s", ",.0f"),
]


def correlated_table(n_rows, n_columns):
    """Draw correlated normal columns, in place: no peak beside the table."""
    import numpy as np

    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(8, n_columns))
    X = np.empty((n_rows, n_columns))
    for start in range(0, n_rows, 10_000):
        block = X[start : start + 10_000]
        block[:] = rng.normal(size=(len(block), 8)) @ loadings / 3 + rng.normal(size=block.shape)
    return X


def peak_mib():
    """Return the largest memory this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def load(name):
    """Import a contender; return its class and the seconds that took."""
    contender = CONTENDERS[name]
    start = time.perf_counter()
    cls = getattr(importlib.import_module(contender.module), contender.class_name)
    return cls, time.perf_counter() - start


def build(name, cls, budget):
    """Make a detector that trains for so many steps or epochs."""
    contender = CONTENDERS[name]
    return cls(**contender.params, **({contender.budget: budget} if contender.budget else {}))


def scoring_function(detector):
    return getattr(detector, "score_samples", None) or detector.decision_function


def measure_time(name, n_rows, n_columns, n_steps, repeats):
    """Measure import, start-up, training and scoring; yield figures as they come."""
    cls, import_s = load(name)
    contender = CONTENDERS[name]
    X = correlated_table(min(n_rows, SCORED_ROWS), n_columns)
    yield {"import_s": import_s}

    def fit(X, budget):
        return build(name, cls, budget).fit(X)

    yield {"startup_s": seconds(lambda: fit(X[:STARTUP_ROWS], 1))}
    result: dict[str, float] = {}
    some = X[:TRAINED_ROWS]
    if contender.budget:
        batch_size, _, _ = training_of(contender, cls, n_rows)
        # PyOD counts in epochs; ours in multiples of 40 steps, what training.py rounds to.
        if contender.budget == "epoch_num":
            some = X[: batch_size * max(1, n_steps // 4)]
            n_own = len(some) // batch_size
            budgets, steps = (1, 1 + -(-n_steps // n_own)), n_own
        else:
            budgets, steps = (n_steps // 5, n_steps // 5 * 6), 1
        short, long = (seconds(lambda b=b: fit(some, b), repeats) for b in budgets)
        step_s = (long - short) / ((budgets[1] - budgets[0]) * steps)
        result = {
            "batch_size": batch_size,
            "s_per_1000_steps": 1000 * step_s,
            "train_rows_per_s": batch_size / step_s,
        }
        yield result
    detector = fit(some, 1)
    score = scoring_function(detector)
    score(X)
    result["score_rows_per_s"] = len(X) / seconds(lambda: score(X), repeats, at_least=2.0)
    yield result
    if contender.module == "vae_anomaly":
        yield compare_with_bare(detector, result)


def training_of(contender, cls, n_rows):
    """Rows in a step, steps in one unit of the budget, and steps of a default fit of the rows."""
    defaults = vars(cls(**contender.params))
    if contender.module == "vae_anomaly":
        from vae_anomaly.detectors.table_input import TableInput

        defaults = {**defaults, **TableInput().training_defaults(n_rows)}
    batch_size = min(defaults["batch_size"], n_rows)
    # PyOD drops the last, smaller batch of an epoch.
    unit = n_rows // batch_size if contender.budget == "epoch_num" else 1
    return batch_size, unit, defaults[contender.budget] * unit


def measure_whole_fit(name, n_rows, n_columns):
    """Measure seconds and peak memory of one short fit of all rows."""
    cls, _ = load(name)
    X = correlated_table(n_rows, n_columns)
    before = peak_mib()
    fit_s = seconds(lambda: build(name, cls, 1).fit(X))
    peak = peak_mib()
    yield {"whole_fit_s": fit_s, "fit_peak_mib": peak, "fit_over_import_mib": peak - before}
    contender = CONTENDERS[name]
    if contender.budget:
        _, unit, default_steps = training_of(contender, cls, n_rows)
        yield {"default_steps": default_steps, "steps_of_whole_fit": unit}


def measure_score_memory(name, n_rows, n_columns):
    """Measure by how much more memory scoring 10 times the rows takes, arrays apart."""
    cls, _ = load(name)
    n_rows = min(n_rows, TRAINED_ROWS)
    X = correlated_table(10 * n_rows, n_columns)
    score = scoring_function(build(name, cls, 1).fit(X[:STARTUP_ROWS]))
    score(X[:n_rows])
    before = peak_mib()
    scores = score(X)
    yield {"score_growth_mib": peak_mib() - before - 0.9 * scores.nbytes / 2**20}


MEASURES: dict[str, Callable[..., Iterator[dict[str, float]]]] = {
    "time": measure_time,
    "score-memory": measure_score_memory,
    "whole-fit": measure_whole_fit,
}


def measured(name, args, limit):
    """All figures of a contender by number of rows, within a time limit.

    Rates and growth are measured once, with the most rows.
    """
    end = time.perf_counter() + limit

    def child(kind, n_rows, *numbers):
        arguments = [kind, name, n_rows, args.columns, *numbers]
        return run_child(arguments, max(0.0, end - time.perf_counter()))

    most = max(args.rows)
    rates = child("time", most, 400 if args.quick else 1000, 2) | child("score-memory", most)
    return {n_rows: completed(rates | child("whole-fit", n_rows), n_rows) for n_rows in args.rows}


def completed(found, n_rows):
    """Add what follows from a whole fit and the rates."""
    if "whole_fit_s" in found:
        # The training of the whole fit is a part of a default one's.
        rest = found.get("default_steps", 0) - found.pop("steps_of_whole_fit", 0)
        found["default_fit_s"] = (
            found["whole_fit_s"] + rest * found.get("s_per_1000_steps", 0) / 1000
        )
        if "default_steps" not in found:
            found["train_rows_per_s"] = n_rows / found["whole_fit_s"]
    return found


def run_child(arguments, limit):
    """Run this script in a new process; return what it measured, and say why not all."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            output, errors = child.communicate(timeout=None if math.isinf(limit) else limit)
            if child.returncode:
                lines = errors.strip().splitlines() or ["no message"]
                print(f"{arguments[1]}, {arguments[0]}: failed: {lines[-1]}", file=sys.stderr)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            print(f"{arguments[1]}, {arguments[0]}: out of time", file=sys.stderr)
    found: dict[str, float] = {}
    for line in output.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found


def print_table(results):
    """Print one line per measurement and one column per contender."""
    width = max(map(len, results)) + 2
    print(" " * 34 + "".join(f"{name:>{width}}" for name in results))
    for key, label, form in LINES:
        cells = [f"{r[key]:{form}}" if key in r else "-" for r in results.values()]
        print(f"{label:34}" + "".join(f"{cell:>{width}}" for cell in cells))
    ours, theirs = results.get("VAEDetector"), results.get("PyOD VAE")
    for key, label in (("train_rows_per_s", "training"), ("score_rows_per_s", "scoring")):
        if ours and theirs and key in ours and key in theirs:
            print(f"VAEDetector / PyOD VAE, {label} rows per second: {ours[key] / theirs[key]:.1f}")


def main():
    if sys.argv[1:2] == ["--child"]:
        kind, name, *numbers = sys.argv[2:]
        for found in MEASURES[kind](name, *map(int, numbers)):
            print(json.dumps(found), flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--limit", type=float, default=40.0, help="seconds of each peer")
    parser.add_argument("--quick", action="store_true", help="a trial run: figures mean little")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    if args.quick:
        args.rows = [2000]

    command = [sys.executable, "-m", "vae_anomaly", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    help_s = seconds(lambda: subprocess.run(command, capture_output=True, check=True), 3)
    print(f"{os.cpu_count()} CPUs. vae-anomaly --help: {help_s:.2f} s")
    figures: dict[str, Any] = {"help_s": help_s, "cpus": os.cpu_count(), "rows": {}}
    results: dict[str, dict[int, Any]] = {}
    for name in args.contenders:
        if importlib.util.find_spec(CONTENDERS[name].module.split(".")[0]) is None:
            print(f"{name}: skipped: not installed", file=sys.stderr)
            continue
        is_ours = CONTENDERS[name].module == "vae_anomaly"
        start = time.perf_counter()
        results[name] = measured(name, args, math.inf if is_ours else args.limit)
        print(f"{name}: measured in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for n_rows in args.rows:
        figures["rows"][n_rows] = {name: found[n_rows] for name, found in results.items()}
        print(f"\n{n_rows:,} rows x {args.columns} columns")
        if results:
            print_table(figures["rows"][n_rows])
    print("\n* from these rows, or 20,000, to 10 times as many, beyond the table and the scores")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
