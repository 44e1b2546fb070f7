"""What the benchmarks share: ADBench's protocol, other detectors, measures and processes."""

import argparse
import ast
import importlib
import multiprocessing
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "adbench"
ODDBENCH = DATA.parent / "oddbench"
SETTINGS = ("one-class", "unsupervised")
_MAX_ROWS = 10_000
_MIN_ANOMALIES = 10
# Which class of scikit-learn's own tables is the anomaly, and one anomaly for how many normal rows.
_SKLEARN_TABLES = {
    "breast_cancer": (datasets.load_breast_cancer, 0),  # malignant
    "wine": (datasets.load_wine, 0),  # the cultivar that ADBench's wine table has as the anomaly
    "digits": (datasets.load_digits, 0),  # the digit 0
}
_NORMAL_ROWS_PER_ANOMALY = 10


def table_paths(folder: pathlib.Path, names: Sequence[str] | None = None) -> list[pathlib.Path]:
    """Find the tables of a folder; ``names`` may be parts of their names, such as "wine".

    Ends the program with a clear message if there are none.
    """
    paths = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_size)
    if not paths:
        sys.exit(f"skipped: no .npz tables in {folder}; name another folder with --data")
    chosen = [path for path in paths if names is None or any(n in path.stem for n in names)]
    if not chosen:
        sys.exit(f"no table matches {names}; there are {[path.stem for path in paths]}")
    return chosen


def write_sklearn_tables(folder: pathlib.Path) -> pathlib.Path:
    """Write scikit-learn's own tables to a folder as files like ADBench's; return the folder.

    One class is the anomaly, thinned out at random, always in the same way; the rest is normal.
    """
    for name, (load, anomaly) in _SKLEARN_TABLES.items():
        X, target = load(return_X_y=True)
        y = (target == anomaly).astype(int)
        normal, anomalies = np.flatnonzero(y == 0), np.flatnonzero(y)
        n_anomalies = round(len(normal) / _NORMAL_ROWS_PER_ANOMALY)
        anomalies = np.random.default_rng(0).permutation(anomalies)[:n_anomalies]
        kept = np.sort(np.concatenate([normal, anomalies]))
        np.savez(folder / f"sklearn_{name}.npz", X=X[kept], y=y[kept])
    return folder


def load_split(
    path: pathlib.Path, setting: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training rows, test rows and the test rows' labels (1 = anomaly).

    More than 10,000 rows: 10,000 of them, with the anomaly rate kept (at least 10 anomalies).
    "one-class": a random half of the normal rows trains; the others and all anomalies test.
    "unsupervised": all rows do both, and training and test rows are the **same** array.
    Tables of OddBench have a split of their own, which is one-class, and of each part 10,000 rows
    at most are kept, always the same.
    """
    with np.load(path) as table:
        if "train" in table:
            return _own_split(table)
        X, y = table["X"].astype(np.float64), table["y"].astype(int).ravel()
    if set(y) != {0, 1}:
        raise ValueError(f"Expected y of 0 (normal) and 1 (anomaly). Received: {np.unique(y)}")
    rng = np.random.default_rng(seed)
    if len(X) > _MAX_ROWS:
        anomalies, normal = (rng.permutation(np.flatnonzero(y == label)) for label in (1, 0))
        anomalies = anomalies[: max(_MIN_ANOMALIES, round(_MAX_ROWS * y.mean()))]
        kept = np.sort(np.concatenate([anomalies, normal[: _MAX_ROWS - len(anomalies)]]))
        X, y = X[kept], y[kept]
    if setting == "unsupervised":
        return X, X, y
    normal = rng.permutation(np.flatnonzero(y == 0))
    train = np.sort(normal[: len(normal) // 2])
    test = np.setdiff1d(np.arange(len(X)), train)
    return X[train], X[test], y[test]


def _own_split(table):
    rng = np.random.default_rng(0)
    train, test = (table[name].astype(np.float64) for name in ("train", "test"))
    kept, scored = (np.sort(rng.permutation(len(X))[:_MAX_ROWS]) for X in (train, test))
    return train[kept], test[scored], table["test_labels"].astype(int).ravel()[scored]


def measures(y: np.ndarray, anomaly_score: np.ndarray) -> dict[str, float]:
    """Return AUROC and average precision; a higher score must mean more anomalous."""
    return {
        "auroc": float(roc_auc_score(y, anomaly_score)),
        "average_precision": float(average_precision_score(y, anomaly_score)),
    }


def standardised(X_train: np.ndarray, X_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale columns to mean 0 and sd 1 on the training rows; the same array stays the same.

    Missing cells count as 0, as other detectors take none.
    """
    scaler = StandardScaler().fit(np.nan_to_num(X_train))
    train = scaler.transform(np.nan_to_num(X_train))
    return train, (train if X_test is X_train else scaler.transform(np.nan_to_num(X_test)))


Scores = Callable[[np.ndarray], np.ndarray]


def isolation_forest(X_train: np.ndarray, seed: int) -> Scores:
    forest = IsolationForest(random_state=seed).fit(X_train)
    return lambda X: -forest.score_samples(X)


def local_outlier_factor(X_train: np.ndarray, seed: int) -> Scores:
    detector = LocalOutlierFactor(novelty=True).fit(X_train)

    def scores(X: np.ndarray) -> np.ndarray:
        if X is X_train:  # a row is not its own neighbour
            return -detector.negative_outlier_factor_
        return -detector.score_samples(X)

    return scores


def nearest_neighbours(X_train: np.ndarray, seed: int) -> Scores:
    """Score by the distance to the fifth nearest training row, other than the row itself."""
    index = NearestNeighbors(n_neighbors=5).fit(X_train)
    return lambda X: index.kneighbors(None if X is X_train else X)[0][:, -1]


def pyod(module: str, name: str) -> Callable[[np.ndarray, int], Scores]:
    """Return a detector of PyOD's, with its defaults."""

    def fitted(X_train: np.ndarray, seed: int) -> Scores:
        detector = getattr(importlib.import_module(module), name)
        return detector(random_state=seed).fit(X_train).decision_function

    return fitted


#: PyOD's detectors: module and class.
PYOD = {
    "PyOD VAE": ("pyod.models.vae", "VAE"),
    "PyOD AutoEncoder": ("pyod.models.auto_encoder", "AutoEncoder"),
    "PyOD MCD": ("pyod.models.mcd", "MCD"),
    "PyOD INNE": ("pyod.models.inne", "INNE"),
    "PyOD CBLOF": ("pyod.models.cblof", "CBLOF"),
}

# Each fits standardised training rows with a seed and returns a function that scores standardised
# rows, given the same array if these are the training rows; higher scores are more anomalous.
OTHERS: dict[str, Callable[[np.ndarray, int], Scores]] = {
    "IsolationForest": isolation_forest,
    "LOF": local_outlier_factor,
    "KNN": nearest_neighbours,
    **{name: pyod(*where) for name, where in PYOD.items()},
}


def table_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what programs that fit ``VAEDetector`` to tables have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="default: %(default)s")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="parts of names; default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--param",
        type=parameter,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="of VAEDetector, for example max_steps=3000",
    )
    return parser


def parameter(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE of the command line."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value  # a word, such as score_type=elbo


def results_of(function: Callable, tasks: Sequence, n_jobs: int) -> Iterator:
    """Yield ``function(task)`` of each task as it is done, in ``n_jobs`` processes if over 1.

    Not joblib's, which starts a process anew when its memory has grown, as TensorFlow makes it
    grow: in ``images.py`` that was for about every second fit, and each imports it again.
    """
    if n_jobs == 1:
        yield from map(function, tasks)
        return
    pool = ProcessPoolExecutor(n_jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        for done in as_completed([pool.submit(function, task) for task in tasks]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)
