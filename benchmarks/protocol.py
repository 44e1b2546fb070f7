"""The ADBench protocol of the reference data: tables, splits, other detectors and measures."""

import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "adbench"
SETTINGS = ("one-class", "unsupervised")
_MAX_ROWS = 10_000
_MIN_ANOMALIES = 10


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


def load_split(
    path: pathlib.Path, setting: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training rows, test rows and the test rows' labels (1 = anomaly).

    More than 10,000 rows: 10,000 of them, with the anomaly rate kept (at least 10 anomalies).
    "one-class": a random half of the normal rows trains; the others and all anomalies test.
    "unsupervised": all rows do both, and training and test rows are the **same** array.
    """
    with np.load(path) as table:
        X, y = table["X"].astype(np.float64), table["y"].astype(int).ravel()
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


def measures(y: np.ndarray, anomaly_score: np.ndarray) -> dict[str, float]:
    """Return AUROC and average precision; a higher score must mean more anomalous."""
    return {
        "auroc": float(roc_auc_score(y, anomaly_score)),
        "average_precision": float(average_precision_score(y, anomaly_score)),
    }


def standardised(X_train: np.ndarray, X_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale columns to mean 0 and sd 1 on the training rows; the same array stays the same."""
    scaler = StandardScaler().fit(X_train)
    train = scaler.transform(X_train)
    return train, (train if X_test is X_train else scaler.transform(X_test))


def isolation_forest(X_train: np.ndarray, X_test: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(X_train).score_samples(X_test)


def local_outlier_factor(X_train: np.ndarray, X_test: np.ndarray, seed: int) -> np.ndarray:
    detector = LocalOutlierFactor(novelty=True).fit(X_train)
    if X_test is X_train:  # a row is not its own neighbour
        return -detector.negative_outlier_factor_
    return -detector.score_samples(X_test)


def nearest_neighbours(X_train: np.ndarray, X_test: np.ndarray, seed: int) -> np.ndarray:
    """Score by the distance to the fifth nearest training row, other than the row itself."""
    index = NearestNeighbors(n_neighbors=5).fit(X_train)
    return index.kneighbors(None if X_test is X_train else X_test)[0][:, -1]


# Each takes standardised training and test rows and a seed; higher scores are more anomalous.
OTHERS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "IsolationForest": isolation_forest,
    "LOF": local_outlier_factor,
    "KNN": nearest_neighbours,
}
