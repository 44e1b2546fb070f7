"""The demo: tables of benign and malignant tumours, and what the scores say about them."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click
import numpy as np

from vae_anomaly.datasets import load_breast_cancer

if TYPE_CHECKING:
    import pandas as pd

    from vae_anomaly.detectors.base import BaseDetector


def write_tables(train: pathlib.Path, test: pathlib.Path) -> None:
    """Write the Breast Cancer Wisconsin table as two CSV files.

    Parameters
    ----------
    train : path
        Gets two thirds of the benign rows.
    test : path
        Gets the other benign rows and all malignant ones.
    """
    frame = load_breast_cancer()
    frame.insert(0, "row", np.arange(len(frame)))
    benign = np.flatnonzero(frame["diagnosis"] == "benign")
    chosen = np.sort(np.random.default_rng(0).permutation(benign)[: 2 * len(benign) // 3])
    frame.iloc[chosen].to_csv(train, index=False)
    frame.drop(index=chosen).to_csv(test, index=False)


def print_findings(scored: pd.DataFrame, detector: BaseDetector) -> None:
    """Print how well the scores tell malignant rows from benign ones, and the worst five rows.

    Parameters
    ----------
    scored : DataFrame
        The scored test table.
    detector : VAEDetector
        That scored it.
    """
    from scipy.stats import mannwhitneyu

    malignant = scored["diagnosis"] == "malignant"
    n_pairs = malignant.sum() * (~malignant).sum()
    # The AUROC is Mann and Whitney's U as a share of all pairs.
    auroc = (
        mannwhitneyu(scored["score"][~malignant], scored["score"][malignant]).statistic / n_pairs
    )
    flagged = scored["is_anomaly"]
    click.echo(
        f"\nAUROC against the diagnosis: {auroc:.3f}\n"
        f"Flagged: {(flagged & malignant).sum()} of {malignant.sum()} malignant rows, "
        f"{(flagged & ~malignant).sum()} of {(~malignant).sum()} benign ones\n"
        "\nThe five most anomalous rows, and the cells that cost them most (nats; value seen, "
        "value expected):"
    )
    worst = scored.nsmallest(5, "score")
    explanation = detector.explain(worst[list(detector.feature_names_in_)])
    for position, (_, row) in enumerate(worst.iterrows()):
        click.echo(f"  row {row['row']} ({row['diagnosis']}): score {row['score']:.1f}")
        gain = explanation["gain"].iloc[position]
        for column in gain.nlargest(3).index:
            seen, expected = (
                explanation[group][column].iloc[position] for group in ("value", "expected")
            )
            click.echo(f"    {gain[column]:10.1f}  {column} ({seen:.4g}, {expected:.4g})")


def draw_scores(scored: pd.DataFrame, offset: float, path: pathlib.Path) -> None:
    """Draw the distribution of the scores by diagnosis to a file, if matplotlib is installed."""
    from vae_anomaly.displays import ScoreDistributionDisplay

    try:
        display = ScoreDistributionDisplay.from_scores(
            scored["score"], offset=offset, labels=scored["diagnosis"]
        )
    except ImportError:
        click.echo(
            "\nNo picture: matplotlib is missing. From its folder, pip install '.[plot]'", err=True
        )
        return
    display.figure_.savefig(path, dpi=150)
    click.echo(f"\nPicture: {path}")
