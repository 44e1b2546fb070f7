"""Draw the picture of the README: the scores of the demo, and why its worst row is an anomaly.

    python docs/make_pictures.py

writes ``docs/_static/explained.png``. It runs ``vae-anomaly demo``, so it takes half a minute.
"""

import pathlib
import subprocess
import sys
import tempfile

import pandas as pd
from matplotlib.figure import Figure

from vae_anomaly import ScoreDistributionDisplay, load_detector

TARGET = pathlib.Path(__file__).parent / "_static" / "explained.png"
N_REASONS = 6


def draw(demo):
    """Return the figure, given the folder that the demo wrote."""
    detector = load_detector(demo / "model")
    scored = pd.read_csv(demo / "scored.csv")
    worst = scored.loc[[scored["score"].idxmin()]]
    columns = list(detector.feature_names_in_)
    table = detector.explain(worst[columns]).iloc[0].unstack(level=0).loc[columns]
    reasons = table.astype(float).nsmallest(N_REASONS, "contribution")[::-1]

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    ScoreDistributionDisplay.from_scores(
        scored["score"], offset=detector.offset_, labels=scored["diagnosis"], ax=left
    )
    left.set_title("331 tumours the model has not seen")
    bars = right.barh(reasons.index, reasons["contribution"], color="tab:red", alpha=0.7)
    labels = [
        f"{value:.4g}, expected {expected:.4g}"
        for value, expected in zip(reasons["value"], reasons["expected"], strict=True)
    ]
    right.bar_label(bars, labels, label_type="center", fontsize="small")
    right.set_xlabel("contribution to the score (nats)")
    right.set_title(f"why row {worst['row'].item()} scores {worst['score'].item():.0f}")
    right.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        demo = pathlib.Path(folder) / "demo"
        subprocess.run([sys.executable, "-m", "vae_anomaly", "demo", "--output", demo], check=True)
        draw(demo).savefig(TARGET, dpi=110)
