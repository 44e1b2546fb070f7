"""How far the scores of an export are from Python's, by type of score and rows per request.

    python benchmarks/export_parity.py [--format onnx]

3000 rows of 30 columns train; 1000 are scored: most are typical, 50 are far away, 10 are infinite,
40 lack a third of their cells. Relative is the difference as a share of 1 + the largest absolute
value among the row's score and contributions (bound: ``vae_anomaly.serving.check.TOLERANCE``).
"""

import argparse
import pathlib
import tempfile
import warnings

import numpy as np
import tensorflow as tf

from vae_anomaly import VAEDetector
from vae_anomaly.scoring.tables import SCORE_TYPES

BATCH_SIZES = (1, 2, 7, 32, 100, 256, 1000)


def tables():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(3000, 30)) @ rng.normal(size=(30, 30)) + 1000 * rng.normal(size=30)
    test = train[:1000].copy()
    test[:50] += 30 * train.std(axis=0)
    test[50:60] = np.inf
    test[60:100] = np.where(rng.random((40, 30)) < 0.3, np.nan, test[60:100])
    return train, test


def served_scores(folder, format):
    """A function of rows to scores, of an export."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        return lambda rows: session.run(["score"], {"rows": rows})[0]
    model = tf.saved_model.load(str(folder))
    # Held by the function, which holds its variables weakly.
    return lambda rows: model.signatures["matrix"](rows=tf.constant(rows))["score"].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=["savedmodel", "onnx"], default="savedmodel")
    args = parser.parse_args()
    train, test = tables()
    print("score type                  rows  typical rows  any row  relative")
    for score_type in SCORE_TYPES:
        detector = VAEDetector(score_type=score_type, max_steps=500, random_state=0).fit(train)
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # infinite cells
            explanation = detector.explain(test)["contribution"].drop(columns="baseline")
            scores = detector.score_samples(test)
            exported = detector.export(pathlib.Path(folder) / "m", format=args.format).folder
            answer = served_scores(exported, args.format)
            size = 1 + np.maximum(np.abs(scores), np.abs(explanation.to_numpy()).max(axis=1))
            for n_rows in BATCH_SIZES:
                served = [
                    answer(test[start : start + n_rows]) for start in range(0, len(test), n_rows)
                ]
                difference = np.abs(np.concatenate(served) - scores)
                print(
                    f"{score_type:26} {n_rows:5}  {difference[100:].max():12.1e}  "
                    f"{difference.max():7.1e}  {(difference / size).max():8.1e}"
                )


if __name__ == "__main__":
    main()
