"""Speed and memory of the detectors, against PyOD, scikit-learn and bare matrix products.

Every contender runs in processes of its own, so that import time and peak memory are its own.
See README.md for what each line of the output is.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bare import compare_with_bare, seconds

# Neither NumPy nor TensorFlow is imported up here: their import is part of what is measured.

N_COLUMNS = 30
STARTUP_ROWS = 256


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


def correlated_table(n_rows):
    """Draw (n_rows, 30) of correlated normal columns, in place: no peak beside the table."""
    import numpy as np

    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(8, N_COLUMNS))
    X = np.empty((n_rows, N_COLUMNS))
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


def measure_time(name, n_rows, n_steps, repeats):
    """Measure import, start-up, training, scoring and peak memory of fit."""
    cls, import_s = load(name)
    contender = CONTENDERS[name]
    X = correlated_table(n_rows)
    result = {"import_s": import_s}

    def fit(X, budget):
        return build(name, cls, budget).fit(X)

    result["startup_s"] = seconds(lambda: fit(X[:STARTUP_ROWS], 1))
    if contender.budget:
        defaults = vars(cls(**contender.params))
        if contender.module == "vae_anomaly":
            from vae_anomaly.detectors.table_input import TableInput

            defaults = {**defaults, **TableInput().training_defaults(n_rows)}
        batch_size = min(defaults["batch_size"], n_rows)
        # PyOD drops the last, smaller batch of an epoch.
        is_epochs = contender.budget == "epoch_num"
        unit = n_rows // batch_size if is_epochs else 1
        # Ours in multiples of 40 steps, what training.py rounds to.
        budgets = (1, 1 + -(-n_steps // unit)) if is_epochs else (n_steps // 5, n_steps // 5 * 6)
        short, long = (seconds(lambda b=b: fit(X, b), repeats) for b in budgets)
        step_s = (long - short) / ((budgets[1] - budgets[0]) * unit)
        default_steps = defaults[contender.budget] * unit
        result["batch_size"] = batch_size
        result["s_per_1000_steps"] = 1000 * step_s
        result["train_rows_per_s"] = batch_size / step_s
        result["default_steps"] = default_steps
        result["default_fit_s"] = short + (default_steps - budgets[0] * unit) * step_s
    else:
        result["default_fit_s"] = seconds(lambda: fit(X, 0), repeats)
        result["train_rows_per_s"] = n_rows / result["default_fit_s"]
    detector = fit(X, 1)
    score = scoring_function(detector)
    score(X)
    result["score_rows_per_s"] = n_rows / seconds(lambda: score(X), repeats, at_least=2.0)
    if contender.module == "vae_anomaly":
        result |= compare_with_bare(detector, result)
    return result


def measure_fit_memory(name, n_rows):
    """Measure the peak memory of one short fit."""
    cls, _ = load(name)
    X = correlated_table(n_rows)
    before = peak_mib()
    build(name, cls, 1).fit(X)
    return {"fit_peak_mib": peak_mib(), "fit_over_import_mib": peak_mib() - before}


def measure_score_memory(name, n_rows):
    """Measure by how much more memory scoring 10 times the rows takes, arrays apart."""
    cls, _ = load(name)
    X = correlated_table(10 * n_rows)
    score = scoring_function(build(name, cls, 1).fit(X[:STARTUP_ROWS]))
    score(X[:n_rows])
    before = peak_mib()
    scores = score(X)
    return {"score_growth_mib": peak_mib() - before - 0.9 * scores.nbytes / 2**20}


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "time": measure_time,
    "fit-memory": measure_fit_memory,
    "score-memory": measure_score_memory,
}


def run_child(arguments):
    """Run this script in a new process; return what it measured, or why it could not."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        print(f"{arguments[1]}: failed: {lines[-1]}", file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def print_table(results):
    """Print one line per measurement and one column per contender."""
    width = max(map(len, results)) + 2
    print(" " * 34 + "".join(f"{name:>{width}}" for name in results))
    for key, label, form in LINES:
        cells = [f"{r[key]:{form}}" if key in r else "-" for r in results.values()]
        print(f"{label:34}" + "".join(f"{cell:>{width}}" for cell in cells))
    ours, theirs = results.get("VAEDetector"), results.get("PyOD VAE")
    if ours and theirs:
        for key, label in (("train_rows_per_s", "training"), ("score_rows_per_s", "scoring")):
            print(f"VAEDetector / PyOD VAE, {label} rows per second: {ours[key] / theirs[key]:.1f}")


def main():
    if sys.argv[1:2] == ["--child"]:
        kind, name, *numbers = sys.argv[2:]
        print(json.dumps(MEASURES[kind](name, *map(int, numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="a trial run: figures mean little")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    n_steps, repeats = (400, 2) if args.quick else (2000, 2)
    if args.quick:
        args.rows = [2000]

    command = [sys.executable, "-m", "vae_anomaly", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    help_s = seconds(lambda: subprocess.run(command, capture_output=True, check=True), 3)
    print(f"{os.cpu_count()} CPUs. vae-anomaly --help: {help_s:.2f} s")
    figures: dict[str, Any] = {"help_s": help_s, "cpus": os.cpu_count(), "rows": {}}
    for n_rows in args.rows:
        results = {}
        for name in args.contenders:
            if importlib.util.find_spec(CONTENDERS[name].module.split(".")[0]) is None:
                print(f"{name}: skipped: not installed", file=sys.stderr)
                continue
            timed = run_child(["time", name, n_rows, n_steps, repeats])
            if timed:
                memory = [
                    run_child([kind, name, n_rows]) for kind in ("fit-memory", "score-memory")
                ]
                results[name] = timed | memory[0] | memory[1]
        figures["rows"][n_rows] = results
        print(f"\n{n_rows:,} rows x {N_COLUMNS} columns")
        if results:
            print_table(results)
    print("\n* from these rows to 10 times as many, beyond the table and the scores themselves")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
