"""What missing cells, useless columns and renamed categories do to detection (one-class).

See README.md for what each line of the output is.
"""

import logging
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import (
    isolation_forest,
    load_split,
    measures,
    results_of,
    table_parser,
    table_paths,
)
from sklearn.impute import SimpleImputer

_N_CATEGORIES = 5


def vae(tables, seed, params) -> np.ndarray:
    """Return a VAEDetector's anomaly scores of the second table, fitted on the first."""
    import keras

    from vae_anomaly import VAEDetector

    # One trace per detector is no reason for TensorFlow to warn.
    logging.getLogger("tensorflow").setLevel("ERROR")
    keras.backend.clear_session()
    return -VAEDetector(random_state=seed, **params).fit(tables[0]).score_samples(tables[1])


def with_holes(X: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(X.shape) < share, np.nan, X)


def imputed(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill holes with the means of the training rows."""
    imputer = SimpleImputer(keep_empty_features=True).fit(train)
    return imputer.transform(train), imputer.transform(test)


def categories(train: np.ndarray, test: np.ndarray, names: np.ndarray | None = None):
    """Cut columns at the quantiles of the training rows into categories.

    ``names`` (columns, categories) permutes their names, column by column.
    """
    frames = []
    for X in (train, test):
        cells = {}
        for column in range(X.shape[1]):
            inner = np.linspace(0, 1, _N_CATEGORIES + 1)[1:-1]
            level = np.searchsorted(np.quantile(train[:, column], inner), X[:, column])
            own = np.arange(_N_CATEGORIES) if names is None else names[column]
            cells[f"column {column}"] = [f"level {number}" for number in own[level]]
        frames.append(pd.DataFrame(cells))
    return frames[0], frames[1]


def auroc_of_split(task) -> tuple[pathlib.Path, int, dict[str, float]]:
    """Return path, seed, and AUROC of each detector on each variant: "detector | variant"."""
    path, seed, args = task
    train, test, y = load_split(path, "one-class", seed)
    rng = np.random.default_rng(seed)
    params = dict(args.param)
    result: dict[str, float] = {}

    def add(name: str, scores: np.ndarray) -> None:
        result[name] = measures(y, scores)["auroc"]

    extra = args.noise_column or args.constant_column
    if args.shares or extra:
        add("VAE | 0% missing", vae((train, test), seed, params))
    if args.shares:
        add("imputed, IsolationForest | 0% missing", isolation_forest(train, seed)(test))
        # Without holes imputation changes nothing.
        result["imputed, VAE | 0% missing"] = result["VAE | 0% missing"]
    for share in args.shares:
        holes = with_holes(train, share, rng), with_holes(test, share, rng)
        filled = imputed(*holes)
        add(f"VAE | {share:.0%} missing", vae(holes, seed, params))
        add(f"imputed, VAE | {share:.0%} missing", vae(filled, seed, params))
        add(
            f"imputed, IsolationForest | {share:.0%} missing",
            isolation_forest(filled[0], seed)(filled[1]),
        )
    if extra:
        add("VAE | another seed", vae((train, test), seed + 1000, params))
    columns = {}
    if args.noise_column:
        columns["a noise column"] = [rng.normal(size=(len(X), 1)) for X in (train, test)]
    if args.constant_column:
        columns["a constant column"] = [np.ones((len(X), 1)) for X in (train, test)]
    for name, parts in columns.items():
        longer = [np.hstack([X, part]) for X, part in zip((train, test), parts, strict=True)]
        add(f"VAE | with {name}", vae(longer, seed, params))
    if args.labels:
        names = np.stack([rng.permutation(_N_CATEGORIES) for _ in range(train.shape[1])])
        plain, renamed = categories(train, test), categories(train, test, names)
        add("VAE, categories | as they are", vae(plain, seed, params))
        add("VAE, categories | names permuted", vae(renamed, seed, params))
        add("VAE, categories | another seed", vae(plain, seed + 1000, params))
    return path, seed, result


def print_means(results: pd.DataFrame, n_tables: int) -> None:
    """Print the means over tables and seeds; losses are against a detector's first line."""
    print(f"\nmean AUROC, one-class, {n_tables} tables, {len(results)} splits")
    print(f"{'detector':28}{'variant':24}{'AUROC':>8}{'change':>9}{'mean |change|':>15}")
    first: dict[str, str] = {}
    for name in sorted(results.columns, key=lambda name: name.split(" | ")[0]):
        detector, variant = name.split(" | ")
        base = results[first.setdefault(detector, name)]
        change = results[name] - base
        print(
            f"{detector:28}{variant:24}{results[name].mean():8.4f}{change.mean():+9.4f}"
            f"{change.abs().mean():15.4f}"
        )


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument(
        "--shares",
        nargs="*",
        type=float,
        default=[0.1, 0.3],
        help="shares of cells to remove; none: no missing cells",
    )
    parser.add_argument("--noise-column", action="store_true", help="add a column of pure noise")
    parser.add_argument("--constant-column", action="store_true", help="add a constant column")
    parser.add_argument("--labels", action="store_true", help="permute the names of categories")
    parser.add_argument("--jobs", type=int, default=1, help="processes; see README on threads")
    parser.add_argument("--output", default="missing.csv", help="default: %(default)s")
    args = parser.parse_args()
    paths = table_paths(args.data, args.datasets)

    tasks = [(path, seed, args) for seed in args.seeds for path in paths]
    results: dict[tuple[str, int], dict[str, float]] = {}
    for path, seed, row in results_of(auroc_of_split, tasks, args.jobs):
        results[path.stem, seed] = row
        frame = pd.DataFrame.from_dict(results, orient="index")
        frame.to_csv(args.output, index_label=["dataset", "seed"])
        print(f"[{len(results)}/{len(tasks)}] {path.stem} seed {seed}", flush=True)
    print_means(frame, len(paths))
    print(f"\nall figures: {args.output}")


if __name__ == "__main__":
    main()
