"""How well a random forest tells sampled rows from real ones, with and without their grid.

0.5: not at all; 1: each row. A value that no real row can have, 2.37 rooms or a negative age, gives
a sample away whatever the model has learned. See README.md.
"""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import load_split, table_parser, table_paths
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict


def told_apart(real: np.ndarray, sampled: np.ndarray, seed: int) -> float:
    """Return the AUROC of a random forest that tells real rows (1) from sampled ones."""
    X = np.concatenate([real, sampled])
    y = np.repeat([1, 0], [len(real), len(sampled)])
    order = np.random.default_rng(seed).permutation(len(X))
    forest = RandomForestClassifier(min_samples_leaf=5, random_state=seed)
    shares = cross_val_predict(forest, X[order], y[order], method="predict_proba")[:, 1]
    return float(roc_auc_score(y[order], shares))


def compared(path: pathlib.Path, seed: int, params: dict) -> dict[str, float]:
    """Fit one table; return the share of columns on a grid, and AUROCs without and with it."""
    import keras

    from vae_anomaly import VAEDetector

    keras.backend.clear_session()
    train, _, _ = load_split(path, "one-class", seed)
    detector = VAEDetector(random_state=seed, **params).fit(train)
    preprocessor = detector.scorer_.preprocessor
    found = {"on_grid": float(np.mean(np.asarray(preprocessor.grid) > 0))}
    own_terms = np.asarray(detector.sample(len(train), random_state=seed))
    preprocessor.grid.assign(np.zeros(preprocessor.grid.shape))
    largest = np.finfo(np.float64).max
    preprocessor.bounds.assign(np.tile([-largest, largest], (train.shape[1], 1)))
    as_drawn = np.asarray(detector.sample(len(train), random_state=seed))
    found["without"] = told_apart(train, as_drawn, seed)
    return {**found, "with": told_apart(train, own_terms, seed)}


def main() -> None:
    arguments = table_parser(__doc__).parse_args()
    rows = []
    for path in table_paths(arguments.data, arguments.datasets):
        for seed in arguments.seeds:
            found = compared(path, seed, dict(arguments.param))
            rows.append({"table": path.stem, "seed": seed, **found})
            print(
                f"{path.stem:>28} seed {seed}: {found['on_grid']:4.0%} of the columns on a grid, "
                f"AUROC {found['without']:.3f} without, {found['with']:.3f} with",
                flush=True,
            )
    means = pd.DataFrame(rows)[["on_grid", "without", "with"]].mean()
    print(
        f"mean: {means['on_grid']:.0%}, AUROC {means['without']:.3f} without, "
        f"{means['with']:.3f} with"
    )


if __name__ == "__main__":
    main()
