"""What anomalies among the training rows do to scores and to decisions.

See README.md for what the lines are.
"""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import table_parser, table_paths
from sklearn.metrics import roc_auc_score

from vae_anomaly import DataWarning, VAEDetector
from vae_anomaly.scoring.calibration import offset_from_contamination

SHARES = (0.0, 0.05, 0.1, 0.2)


def split(X: np.ndarray, y: np.ndarray, n_train: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return normal rows to train on, anomalies to plant there, test rows and their labels."""
    rng = np.random.default_rng(seed)
    normal, anomalies = (rng.permutation(np.flatnonzero(y == label)) for label in (0, 1))
    n_train = min(n_train, len(normal) // 2)
    planted, tested = np.array_split(anomalies, 2)
    test = np.concatenate([normal[n_train:], tested])
    return X[normal[:n_train]], X[planted], X[test], y[test]


def decisions(detector: VAEDetector, share: float, train: np.ndarray) -> dict[str, float]:
    """Return the offsets of "auto", of ``contamination=0.1`` and of the share, by name."""
    scores = detector.score_samples(train)
    offsets = {"auto": detector.offset_, "0.1": offset_from_contamination(0.1, scores, [])}
    if share:
        offsets["share"] = offset_from_contamination(share, scores, [])
    return offsets


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--train-rows", type=int, default=2000, help="normal rows, at most")
    arguments = parser.parse_args()
    results = []
    for path in table_paths(arguments.data, arguments.datasets):
        with np.load(path) as table:
            X, y = table["X"].astype(float), table["y"].ravel().astype(int)
        for seed in arguments.seeds:
            clean, planted, test, labels = split(X, y, arguments.train_rows, seed)
            for share in SHARES:
                n_planted = round(share / (1 - share) * len(clean))
                if n_planted > len(planted):
                    continue
                train = np.concatenate([clean, planted[:n_planted]])
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", DataWarning)
                    detector = VAEDetector(random_state=seed, **dict(arguments.param)).fit(train)
                scores = detector.score_samples(test)
                line = {
                    "table": path.stem,
                    "planted": share,
                    "auroc": roc_auc_score(labels, -scores),
                    "warned": any("with outliers" in str(w.message) for w in caught),
                }
                for name, offset in decisions(detector, share, train).items():
                    line[f"recall, {name}"] = np.mean(scores[labels == 1] < offset)
                    line[f"false alarms, {name}"] = np.mean(scores[labels == 0] < offset)
                results.append(line)
                print({k: v if isinstance(v, str) else round(v, 3) for k, v in line.items()})
    frame = pd.DataFrame(results)
    means = frame.drop(columns="table").astype(float).groupby("planted").mean()
    print((100 * means).round(1).to_string())
    # The same, of the tables that have anomalies enough for all shares.
    complete = frame.groupby("table").filter(lambda rows: set(rows["planted"]) == set(SHARES))
    print("tables with all shares:", complete["table"].nunique())
    means = complete.drop(columns="table").astype(float).groupby("planted").mean()
    print((100 * means).round(1).to_string())


if __name__ == "__main__":
    main()
