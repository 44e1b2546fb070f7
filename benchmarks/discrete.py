"""What to do with numeric columns of few values: four ways, compared by detection quality.

Only columns whose step is coarse enough to raise the variance floor above that of continuous
columns are treated; see README.md.
"""

import os
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from protocol import SETTINGS, load_split, measures, table_parser, table_paths

WAYS = ("floor", "nothing", "dequantise", "categories")
_MAX_CATEGORIES = 50


def detector_scores(train, test, seed, params) -> dict[str, np.ndarray]:
    """Fit the detector once; return anomaly scores of two score types."""
    import keras

    from vae_anomaly import VAEDetector
    from vae_anomaly.scoring.tables import TableScorer

    keras.backend.clear_session()
    detector = VAEDetector(random_state=seed, **params).fit(train)
    scores = {detector.score_type: -detector.score_samples(test)}
    fitted = detector.scorer_
    scorer = TableScorer(
        fitted.preprocessor, fitted.model, score_type="importance_weighted", n_draws=8
    )
    scorer.noise.assign(fitted.noise)
    scores["importance_weighted"] = -scorer.run(detector._arrays(test), ("score",))["score"]
    return scores


def steps(X) -> np.ndarray:
    """Step of each column, 0 for those that count as continuous."""
    from vae_anomaly.tables.preprocessing import TablePreprocessor
    from vae_anomaly.vae.builders import MIN_LOG_VAR_RANGE

    names = [f"x{j}" for j in range(X.shape[1])]
    layer = TablePreprocessor(dict.fromkeys(names, "numeric"))
    layer.adapt(dict(zip(names, X.T, strict=True)))
    coarse = np.log(np.maximum(layer.resolution, 1e-30) ** 2 / 12) > MIN_LOG_VAR_RANGE[0]
    return np.where(coarse, np.asarray(layer.numbers.step), 0.0)


def scores_of(way, train, test, seed, params) -> dict[str, np.ndarray]:
    """Fit and score one table in one of the four ways."""
    step = steps(train)
    if way == "categories":
        few = [j for j in np.flatnonzero(step) if len(np.unique(train[:, j])) <= _MAX_CATEGORIES]
        kinds = {str(j): "category" for j in few}
        train, test = (pd.DataFrame(X).rename(columns=str).astype(kinds) for X in (train, test))
        return detector_scores(train, test, seed, params)
    if way == "floor":
        return detector_scores(train, test, seed, params)
    if way == "dequantise":
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, train.shape)
        train = train + noise * step
    from vae_anomaly.tables.preprocessing import TablePreprocessor

    zeros = mock.PropertyMock(return_value=np.zeros(train.shape[1]))
    with mock.patch.object(TablePreprocessor, "resolution", zeros):
        return detector_scores(train, test, seed, params)


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    args = parser.parse_args()
    rows = []
    for path in table_paths(args.data, args.datasets):
        for seed in args.seeds:
            for setting in args.settings:
                train, test, y = load_split(path, setting, seed)
                if not steps(train).any():
                    print(f"{path.stem}: no column of few values, left out", flush=True)
                    break
                for way in WAYS:
                    scores = scores_of(way, train, test, seed, dict(args.param))
                    for score_type, values in scores.items():
                        split = {"dataset": path.stem, "setting": setting, "way": way}
                        rows.append({**split, "score": score_type, **measures(y, values)})
                print(f"{path.stem} {setting} done", flush=True)
    frame = pd.DataFrame(rows)
    print(f"\nmeans over {frame['dataset'].nunique()} tables with such columns")
    groups = frame.groupby(["setting", "score", "way"], sort=False)
    print(groups[["auroc", "average_precision"]].mean().to_string(float_format="%.4f"))


if __name__ == "__main__":
    main()
