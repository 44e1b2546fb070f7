"""Detection quality under the ADBench protocol, against scikit-learn's and PyOD's detectors.

Results are added to a CSV file as they come, and what the file has is not computed again.
See README.md for the protocol and for what each column of the output is.
"""

import argparse
import csv
import importlib
import logging
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import (
    DATA,
    ODDBENCH,
    OTHERS,
    PYOD,
    SETTINGS,
    load_split,
    measures,
    parameter,
    results_of,
    standardised,
    table_paths,
    write_sklearn_tables,
)
from scipy.stats import wilcoxon

OWN = ("VAEDetector", "AutoencoderDetector")
CLEAN = "VAE composite, clean"
KEY = ["dataset", "setting", "seed", "detector", "params"]
VALUES = ["auroc", "average_precision", "fit_s", "score_s"]
FIELDS = [*KEY, *VALUES, "steps", "n_train", "n_test", "n_features"]


class Contender(NamedTuple):
    """A detector to fit, its parameters, and the names its results have: one per score type."""

    name: str
    params: dict[str, Any]
    results: list[str]

    @property
    def params_text(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in sorted(self.params.items()))


class Task(NamedTuple):
    """One fit."""

    path: pathlib.Path
    setting: str
    seed: int
    contender: Contender

    def result_keys(self) -> list[tuple]:
        """Return what identifies its results in the file."""
        split = (self.path.stem, self.setting, self.seed)
        return [(*split, name, self.contender.params_text) for name in self.contender.results]


def contenders(names: list[str], params: dict[str, Any]) -> tuple[list[Contender], str | None]:
    """Return the detectors that can be run, and the name of the default score type's results."""
    found, known, default = [], set(), None
    for name in names:
        if name in OTHERS:
            if name not in PYOD or has_pyod(name):
                found.append(Contender(name, {}, [name]))
            continue
        import vae_anomaly
        from vae_anomaly.scoring.tables import SCORE_TYPES

        own = getattr(vae_anomaly, name)().get_params()
        known |= set(own)
        results = [name]
        if name == "VAEDetector":
            results = [*(f"VAE {score_type}" for score_type in SCORE_TYPES), CLEAN]
            default = f"VAE {params.get('score_type', own['score_type'])}"
        taken = {key: value for key, value in params.items() if key in own}
        found.append(Contender(name, taken, results))
    if known and not known.issuperset(params):
        sys.exit(f"unknown parameters {sorted(set(params) - known)}; there are {sorted(known)}")
    if not found:
        sys.exit("no detector to run")
    return found, default


def has_pyod(name: str) -> bool:
    try:
        importlib.import_module(PYOD[name][0])
    except ImportError as error:
        print(f"{name}: skipped: {error}")
        return False
    return True


def timed(function, *args) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(*args), time.perf_counter() - start


def own_scores(contender, X_train, X_test, seed) -> Iterator[tuple[str, np.ndarray, dict]]:
    """Fit one of our detectors once; yield name, anomaly scores and cost of each score type."""
    import keras

    import vae_anomaly
    from vae_anomaly.scoring.tables import TableScorer

    # One trace per detector is no reason for TensorFlow to warn.
    logging.getLogger("tensorflow").setLevel("ERROR")
    keras.backend.clear_session()
    detector = getattr(vae_anomaly, contender.name)(random_state=seed)
    detector.set_params(**contender.params)
    _, fit_s = timed(detector.fit, X_train)
    cost = {"fit_s": fit_s, "steps": detector.history_["step"][-1]}
    fitted = detector.scorer_
    for name in contender.results:
        score_type, _, training = name.removeprefix("VAE ").partition(", ")
        if name == contender.name or (score_type == fitted.score_type and not training):
            scores, score_s = timed(detector.score_samples, X_test)
        else:
            n_reference = min(getattr(detector, "n_reference", 0), len(X_train))
            options = {"n_reference": n_reference, "n_known": n_reference}
            options["training"] = training or "as_is"
            scorer = TableScorer(
                fitted.preprocessor,
                fitted.model,
                score_type=score_type,
                score_options=options if score_type == "composite" else None,
                n_draws=fitted.n_draws,
                n_calibration=len(X_train),
                seed=seed,
            )
            scorer.noise.assign(fitted.noise)
            train, test = (
                dict(zip(fitted.preprocessor.kinds, X.T, strict=True)) for X in (X_train, X_test)
            )
            scorer.calibrate(train, np.ones(len(X_train), dtype=bool))
            outputs, score_s = timed(scorer.run, test, ("score",))
            scores = outputs["score"]
        yield name, -scores, {**cost, "score_s": score_s}


def other_scores(contender, X_train, X_test, seed) -> Iterator[tuple[str, np.ndarray, dict]]:
    """Fit another detector; yield its name, anomaly scores and cost."""
    train, test = standardised(X_train, X_test)
    score, fit_s = timed(OTHERS[contender.name], train, seed)
    scores, score_s = timed(score, test)
    yield contender.name, scores, {"fit_s": fit_s, "score_s": score_s}


def run(task: Task) -> tuple[Task, list[dict[str, Any]], str]:
    """Do one fit; return the task, a row per result, and why there are none if it failed."""
    path, setting, seed, contender = task
    rows = []
    try:
        X_train, X_test, y_test = load_split(path, setting, seed)
        scored = own_scores if contender.name in OWN else other_scores
        for name, scores, cost in scored(contender, X_train, X_test, seed):
            key = (path.stem, setting, seed, name, contender.params_text)
            shape = {"n_train": len(X_train), "n_test": len(X_test), "n_features": X_train.shape[1]}
            rows.append({**dict(zip(KEY, key, strict=True)), **measures(y_test, scores)})
            rows[-1] |= cost | shape
    # Whatever a detector or a table does, the others' results are wanted.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return task, [], f"failed: {type(error).__name__}: {reason}"
    return task, rows, ""


def mend(output: pathlib.Path) -> None:
    """Make the file of results ready for more rows.

    Writes the header of a new file. Cuts off a last line without its end, which a run that was
    killed in writing leaves. Ends the program if the file is not one of this program's.
    """
    header = (",".join(FIELDS) + "\n").encode()
    content = output.read_bytes() if output.exists() else b""
    if not content.startswith(header) and not header.startswith(content):
        sys.exit(f"{output} has other columns than {FIELDS}; name another file with --output")
    if content.startswith(header):
        os.truncate(output, content.rfind(b"\n") + 1)
    else:
        output.write_bytes(header)


def read(output: pathlib.Path) -> pd.DataFrame:
    with open(output, newline="") as file:
        results = pd.DataFrame(list(csv.DictReader(file)), columns=FIELDS)
    return results.astype({"seed": int} | dict.fromkeys(VALUES, float)).drop_duplicates(KEY)


def print_means(results: pd.DataFrame, default: str | None, verbose: bool) -> None:
    """Print what the detectors reached in one setting; with ``verbose``, per table as well.

    All means are over the same splits: those where no detector failed.
    """
    order = list(dict.fromkeys(results["detector"]))
    tables = {
        value: results.pivot_table(value, ["dataset", "seed"], "detector") for value in VALUES
    }
    complete = tables["auroc"].reindex(columns=order).dropna()
    n_tables = complete.index.get_level_values("dataset").nunique()
    seeds = ", ".join(map(str, sorted(results["seed"].unique())))
    print(f"\n{results['setting'].iloc[0]}: {n_tables} tables, seeds {seeds}")
    if len(complete) < len(tables["auroc"]):
        n_left = len(tables["auroc"]) - len(complete)
        print(f"left out: {n_left} splits where a detector has no result")
    if complete.empty:
        return
    by_seed = {
        name: t.loc[complete.index, order].groupby("seed").mean() for name, t in tables.items()
    }
    # Ranks of one model's score types would crowd out the others.
    ranked = [name for name in order if name == default or not name.startswith("VAE ")]
    means = pd.DataFrame({"AUROC": by_seed["auroc"].mean(), "sd of seeds": by_seed["auroc"].std()})
    means["mean rank"] = complete[ranked].rank(axis=1, ascending=False).mean()
    if default is not None and default in order:
        add_differences(means, complete, default, "")
    means["AP"] = by_seed["average_precision"].mean()
    if default is not None and default in order:
        precision = tables["average_precision"].loc[complete.index, order]
        add_differences(means, precision, default, "AP ")
    means["fit s"], means["score s"] = by_seed["fit_s"].mean(), by_seed["score_s"].mean()
    print(means.to_string(float_format="%.4f", na_rep="", index_names=False))
    if default in order:
        print(f"default: {default}")
    if verbose:
        per_table = complete.groupby("dataset").mean()
        per_table.columns = pd.Index([name.removeprefix("VAE ")[:16] for name in order])
        print(f"\nAUROC\n{per_table.to_string(float_format='%.3f', index_names=False)}")


def add_differences(means: pd.DataFrame, values: pd.DataFrame, default: str, prefix: str) -> None:
    """Add what each detector has more than the default, its standard error, and a paired test.

    The test is Wilcoxon's signed-rank test over the tables' differences, means over the seeds.
    """
    more = values.sub(values[default], axis=0).drop(columns=default).groupby("dataset").mean()
    means[f"{prefix}vs default"], means[f"{prefix}std. error"] = more.mean(), more.sem()
    if len(more) > 1:
        means[f"{prefix}p"] = pd.Series(
            {name: wilcoxon(column).pvalue for name, column in more.items() if column.any()}
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=pathlib.Path, default=DATA, help="default: %(default)s")
    source.add_argument("--oddbench", action="store_true", help="the tables of OddBench instead")
    source.add_argument("--sklearn", action="store_true", help="scikit-learn's own tables instead")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    names = [*OWN, *OTHERS]
    parser.add_argument(
        "--detectors",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"default: {', '.join(names)}",
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="parts of names; default all")
    parser.add_argument("--jobs", type=int, default=1, help="processes; see README on threads")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("results.csv"),
        help="results that it has are not computed again; default: %(default)s",
    )
    parser.add_argument(
        "--param",
        type=parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of our detectors, for example max_steps=3000; can be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="AUROC per table as well")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    scratch = tempfile.TemporaryDirectory()
    data = write_sklearn_tables(pathlib.Path(scratch.name)) if args.sklearn else args.data
    if args.oddbench:  # one split each, of normal rows and others
        data, args.settings, args.seeds = ODDBENCH, ["one-class"], args.seeds[:1]
    paths = table_paths(data, args.datasets)
    detectors, default = contenders(args.detectors, dict(args.param))
    asked = [
        Task(path, setting, seed, detector)
        for seed in args.seeds
        for setting in args.settings
        for path in paths
        for detector in detectors
    ]
    mend(args.output)
    there = set(read(args.output)[KEY].itertuples(index=False, name=None))
    tasks = [task for task in asked if not there.issuperset(task.result_keys())]
    if len(tasks) < len(asked):
        n_there = len(asked) - len(tasks)
        print(f"{n_there} of {len(asked)} fits are taken from {args.output}, whatever code made it")

    n_failed = 0
    done = results_of(run, tasks, args.jobs)
    for count, (task, rows, failure) in enumerate(done, start=1):
        # A fit that was there in part was repeated for the rest.
        rows = [row for row in rows if tuple(row[name] for name in KEY) not in there]
        with open(args.output, "a", newline="") as file:
            csv.DictWriter(file, FIELDS, lineterminator="\n").writerows(rows)
        n_failed += bool(failure)
        what = f"{task.setting} {task.path.stem} seed {task.seed} {task.contender.name}"
        auroc = ", ".join(f"{row['auroc']:.3f}" for row in rows)
        print(f"[{count}/{len(tasks)}] {what}: {failure or 'AUROC ' + auroc}", flush=True)

    wanted = pd.DataFrame([key for task in asked for key in task.result_keys()], columns=KEY)
    results = wanted.merge(read(args.output))  # in the order of what was asked for
    for setting in args.settings:
        part = results[results["setting"] == setting]
        if len(part):
            print_means(part, default, args.verbose)
    print(f"\nall figures: {args.output}")
    if n_failed:
        sys.exit(f"{n_failed} fits failed; their results are missing above")


if __name__ == "__main__":
    main()
