"""Detection quality on the ADBench tables, against scikit-learn's detectors.

See README.md for the protocol and for what each line of the output is.
"""

import argparse
import ast
import csv
import logging
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import DATA, OTHERS, SETTINGS, load_split, measures, standardised, table_paths
from sklearn.utils.parallel import Parallel, delayed

DETECTORS = ("VAEDetector", "AutoencoderDetector", *OTHERS)
FIELDS = ["dataset", "setting", "seed", "detector", "auroc", "average_precision"]
FIELDS += ["fit_s", "score_s", "steps", "n_train", "n_test", "n_features"]


def timed(function, *args) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(*args), time.perf_counter() - start


def own_scores(name, X_train, X_test, seed, params) -> Iterator[tuple[str, np.ndarray, dict]]:
    """Fit one of our detectors once; yield the name, anomaly scores and cost of each score type."""
    import keras

    import vae_anomaly
    from vae_anomaly.scoring import SCORE_TYPES, AnomalyScorer

    # One trace per detector is no reason for TensorFlow to warn.
    logging.getLogger("tensorflow").setLevel("ERROR")
    keras.backend.clear_session()
    detector = getattr(vae_anomaly, name)(random_state=seed)
    known = detector.get_params()
    detector.set_params(**{key: value for key, value in params.items() if key in known})
    _, fit_s = timed(detector.fit, X_train)
    cost = {"fit_s": fit_s, "steps": detector.history_["step"][-1]}
    fitted = detector.scorer_
    if name == "AutoencoderDetector":
        scores, score_s = timed(detector.score_samples, X_test)
        yield name, -scores, {**cost, "score_s": score_s}
        return
    arrays = dict(zip(fitted.preprocessor.kinds, X_test.T, strict=True))
    for score_type in SCORE_TYPES:
        scorer = AnomalyScorer(
            fitted.preprocessor, fitted.model, score_type=score_type, n_draws=fitted.n_draws
        )
        scorer.noise.assign(fitted.noise)
        scores, score_s = timed(scorer.run, arrays, ("score",))
        yield f"VAE {score_type}", -scores["score"], {**cost, "score_s": score_s}


def run(path, setting, seed, detectors, params) -> list[dict[str, Any]]:
    """Measure the detectors on one split of one table; return a row per score."""
    X_train, X_test, y_test = load_split(path, setting, seed)
    rows = []

    def add(name: str, scores: np.ndarray, cost: dict) -> None:
        split = {"dataset": path.stem, "setting": setting, "seed": seed, "detector": name}
        shape = {"n_train": len(X_train), "n_test": len(X_test), "n_features": X_train.shape[1]}
        rows.append({**split, **measures(y_test, scores), **cost, **shape})

    for name in detectors:
        if name in OTHERS:
            scores, seconds = timed(OTHERS[name], *standardised(X_train, X_test), seed)
            add(name, scores, {"fit_s": seconds})  # fit and score together
        else:
            for scored in own_scores(name, X_train, X_test, seed, params):
                add(*scored)
    return rows


def parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value  # a word, such as score_type=elbo


def print_means(results: pd.DataFrame, verbose: bool) -> None:
    """Print the means over tables, then over seeds; with ``verbose``, per table as well."""
    order = list(dict.fromkeys(results["detector"]))
    for setting, part in results.groupby("setting", sort=False):
        n_tables, seeds = part["dataset"].nunique(), sorted(part["seed"].unique())
        print(f"\n{setting}: {n_tables} tables, seeds {', '.join(map(str, seeds))}")
        values = ["auroc", "average_precision", "fit_s"]
        by_seed = part.groupby(["detector", "seed"])[values].mean()
        means = by_seed.groupby("detector").mean().loc[order]
        means.insert(1, "auroc_sd_of_seeds", by_seed["auroc"].groupby("detector").std())
        print(means.to_string(float_format="%.4f", index_names=False))
        if verbose:
            table = part.pivot_table("auroc", "dataset", "detector", sort=False)[order]
            table.columns = [name.replace("VAE ", "")[:16] for name in order]
            print(f"\nAUROC\n{table.to_string(float_format='%.3f', index_names=False)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="default: %(default)s")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="parts of names; default all")
    parser.add_argument("--jobs", type=int, default=1, help="processes; see README on threads")
    parser.add_argument("--output", default="results.csv", help="default: %(default)s")
    parser.add_argument(
        "--param",
        type=parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of our detectors, for example max_steps=3000; can be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="AUROC per table as well")
    args = parser.parse_args()
    paths, params = table_paths(args.data, args.datasets), dict(args.param)
    own = [name for name in args.detectors if name not in OTHERS]
    if params and own:
        check_names(params, own)

    tasks = [(path, s, seed) for seed in args.seeds for s in args.settings for path in paths]
    parallel = Parallel(n_jobs=args.jobs, return_as="generator_unordered")
    results = []
    with open(args.output, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        done = parallel(delayed(run)(*t, args.detectors, params) for t in tasks)
        for count, rows in enumerate(done, start=1):
            writer.writerows(rows)
            file.flush()
            results += rows
            best = max(rows, key=lambda row: row["auroc"])
            print(
                f"[{count}/{len(tasks)}] {best['setting']} {best['dataset']} seed {best['seed']}: "
                f"best {best['detector']} {best['auroc']:.3f}",
                flush=True,
            )
    frame = pd.DataFrame(results)
    frame["detector"] = frame["detector"].astype(
        pd.CategoricalDtype(list(dict.fromkeys(frame["detector"])))
    )
    print_means(frame.sort_values(["setting", "dataset", "detector"]), args.verbose)
    print(f"\nall figures: {args.output}")


def check_names(params: dict[str, Any], detectors: list[str]) -> None:
    import vae_anomaly

    known = set().union(*(getattr(vae_anomaly, name)().get_params() for name in detectors))
    if unknown := sorted(set(params) - known):
        raise SystemExit(f"unknown parameters {unknown}; there are {sorted(known)}")


if __name__ == "__main__":
    main()
