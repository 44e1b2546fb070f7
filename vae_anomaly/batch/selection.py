"""Thresholds that depend on the whole batch: a first pass over the inputs."""

from __future__ import annotations

import numpy as np

from vae_anomaly.batch.chunks import ChunkScorer
from vae_anomaly.scoring.discoveries import p_value_cutoff, why_none_selected
from vae_anomaly.tables.files import STANDARD


def check_fdr(fdr: float | None, others: dict[str, float | None], paths: list[str]) -> None:
    """Raise ValueError if a false-discovery rate is given that cannot be used."""
    given = [name for name, value in others.items() if value is not None]
    if fdr is None:
        return
    if given:
        raise ValueError(f"Expected `fdr` or `{given[0]}`. Received both.")
    if not 0 < fdr < 1:
        raise ValueError(f"Expected `fdr` between 0 and 1. Received: fdr={fdr!r}")
    if STANDARD in paths:
        raise ValueError("Expected files where `fdr` is given, to read them twice. Received: '-'.")


def offset_of_fdr(scoring: ChunkScorer, fdr: float) -> float:
    """Return the offset that selects the rows of all inputs by Benjamini and Hochberg.

    Parameters
    ----------
    scoring : ChunkScorer
        Loaded.
    fdr : float in (0, 1)

    Returns
    -------
    float
        Under all scores if no row is selected; a warning tells where that is for want of
        calibration rows.
    """
    calibration = scoring.calibration_scores
    counts, lowest = np.zeros(len(calibration) + 1, dtype=np.int64), calibration[0]
    for path in scoring.paths:
        with scoring.reader(path) as reader:
            for chunk, data in scoring.chunks(path, reader):
                scores = scoring.scored(path, chunk, data).outputs["score"]
                at_or_below = np.searchsorted(calibration, scores, side="right")
                counts += np.bincount(at_or_below, minlength=len(counts))
                lowest = min(lowest, scores.min(initial=lowest))
    values = np.arange(1, len(counts) + 1) / len(counts)
    rank = round(p_value_cutoff(values, fdr, counts) * len(counts))
    why = why_none_selected(int(counts.sum()), fdr, len(calibration))
    if why and not rank:
        scoring.warnings.append(why)
    return float(calibration[rank - 1] if rank else lowest)
