"""Do reasons name the right column? Anomalies planted in known columns of real tables.

See README.md for what the lines are.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import table_parser, table_paths
from sklearn.ensemble import IsolationForest

from vae_anomaly import VAEDetector, load_detector

SHIFT = 4.0  # standard deviations
STRONG = 0.8  # least correlation of a pair that is broken

Planted = tuple[np.ndarray, list[set[int]]]


def shifted(X: np.ndarray, sd: np.ndarray, rng: np.random.Generator) -> Planted:
    """Move one cell of each row by four standard deviations."""
    rows, columns = X.copy(), rng.choice(np.flatnonzero(sd > 0), size=len(X))
    rows[np.arange(len(X)), columns] += SHIFT * sd[columns] * rng.choice([-1, 1], size=len(X))
    return rows, [{int(column)} for column in columns]


def swapped(X: np.ndarray, sd: np.ndarray, rng: np.random.Generator) -> Planted:
    """Give one cell of each row the value of another row that is a standard deviation away."""
    rows, columns = X.copy(), rng.choice(np.flatnonzero(sd > 0), size=len(X))
    kept, truth = [], []
    for row, column in enumerate(columns):
        far = np.flatnonzero(np.abs(X[:, column] - X[row, column]) > sd[column])
        if len(far):
            rows[row, column] = X[rng.choice(far), column]
            kept.append(row)
            truth.append({int(column)})
    return rows[kept], truth


def broken_pairs(X: np.ndarray, sd: np.ndarray, rng: np.random.Generator) -> Planted:
    """Swap a cell of a strongly correlated pair; either column is right, for both may be wrong."""
    varied = np.flatnonzero((sd > 0) & (X.std(axis=0) > 0))
    correlation = np.abs(np.corrcoef(X[:, varied], rowvar=False)) - np.eye(len(varied))
    first, second = np.nonzero(np.triu(correlation) > STRONG)
    if not len(first):
        return X[:0], []
    rows, kept, truth = X.copy(), [], []
    for row, pair in enumerate(rng.integers(0, len(first), size=len(X))):
        columns = varied[[first[pair], second[pair]]]
        column = rng.choice(columns)
        far = np.flatnonzero(np.abs(X[:, column] - X[row, column]) > sd[column])
        if len(far):
            rows[row, column] = X[rng.choice(far), column]
            kept.append(row)
            truth.append(set(columns.tolist()))
    return rows[kept], truth


def z_scores(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    mean, sd = train.mean(axis=0), train.std(axis=0) + 1e-9
    return lambda rows: np.abs(rows - mean) / sd


def conditional_residuals(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Residuals of each column given the others under a Gaussian, in standard deviations."""
    mean, sd = train.mean(axis=0), train.std(axis=0) + 1e-9
    z = (train - mean) / sd
    precision = np.linalg.inv(np.cov(z.T) + 0.01 * np.eye(z.shape[1]))
    scale = np.sqrt(np.diag(precision))
    return lambda rows: np.abs((rows - mean) / sd @ precision) / scale


def shapley_values(train: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray] | None:
    try:
        import shap
    except ImportError:
        return None
    explainer = shap.TreeExplainer(IsolationForest(random_state=seed).fit(train))
    return lambda rows: -np.asarray(explainer.shap_values(rows))


def fitted(
    train: np.ndarray, seed: int, params: dict[str, Any], folder: pathlib.Path | None
) -> VAEDetector:
    """Return a fitted detector: the one saved in the folder, or a new one, saved there."""
    if folder is not None and folder.exists():
        return load_detector(folder)
    detector = VAEDetector(random_state=seed, **params).fit(train)
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        detector.save(folder)
    return detector


def methods(train: np.ndarray, detector: VAEDetector, seed: int) -> dict[str, Callable]:
    """Return what gives each cell a weight, by name."""

    def group(name: str, sign: int) -> Callable[[np.ndarray], np.ndarray]:
        def weights(rows: np.ndarray) -> np.ndarray:
            return sign * detector.explain(rows)[name].to_numpy()[:, : rows.shape[1]]

        return weights

    found = {
        "gain": group("gain", 1),
        "contribution": group("contribution", -1),
        "z-score": z_scores(train),
        "conditional residual": conditional_residuals(train),
    }
    shapley = shapley_values(train, seed)
    return found if shapley is None else {**found, "SHAP, Isolation Forest": shapley}


def hits(weights: np.ndarray, truth: list[set[int]], most: int) -> float:
    """Share of rows with a right column among those of the largest weights."""
    first = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    return float(
        np.mean([bool(set(row) & right) for row, right in zip(first.tolist(), truth, strict=True)])
    )


def normal_rows(table: Any) -> np.ndarray:
    """Return the normal rows of a table of ADBench's, or of OddBench's in which all cells are."""
    if "train" not in table:
        return table["X"][table["y"].ravel() == 0].astype(float)
    tested = table["test"][table["test_labels"].ravel() == 0]
    rows = np.concatenate([table["train"], tested]).astype(float)
    return rows[np.isfinite(rows).all(axis=1)]


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--rows", type=int, default=200, help="anomalies of each kind")
    parser.add_argument(
        "--models", type=pathlib.Path, help="folder of fits: those there are not fitted again"
    )
    arguments = parser.parse_args()
    results = []
    for path in table_paths(arguments.data, arguments.datasets):
        with np.load(path) as table:
            normal = normal_rows(table)
        for seed in arguments.seeds:
            rng = np.random.default_rng(seed)
            rows = rng.permutation(normal)[:5000]
            train, fresh = rows[: len(rows) // 2], rows[len(rows) // 2 :][: arguments.rows]
            sd = train.std(axis=0)
            saved = arguments.models and arguments.models / f"{path.stem}-{seed}"
            detector = fitted(train, seed, dict(arguments.param), saved)
            found = methods(train, detector, seed)
            for plant in (shifted, swapped, broken_pairs):
                X, truth = plant(fresh, sd, rng)
                for name, weigh in found.items() if truth else ():
                    weights = weigh(X)
                    results.append(
                        (
                            path.stem,
                            plant.__name__,
                            name,
                            hits(weights, truth, 1),
                            hits(weights, truth, 3),
                        )
                    )
            print(path.stem, seed, flush=True)
    frame = pd.DataFrame(results, columns=["dataset", "anomaly", "method", "top-1", "top-3"])
    by_table = frame.groupby(["dataset", "anomaly", "method"]).mean().reset_index()
    means = by_table.drop(columns="dataset").groupby(["anomaly", "method"]).mean()
    print((100 * means).round(1).to_string())


if __name__ == "__main__":
    main()
