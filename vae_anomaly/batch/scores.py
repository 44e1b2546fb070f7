"""The scores of files alone, to calibrate by."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.batch.run import iter_scored
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.tables.paths import Path

if TYPE_CHECKING:
    from vae_anomaly.batch.run import Detector


def scores_of(
    inputs: Path | Sequence[Path],
    detector: Detector,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> np.ndarray:
    """Return the scores of all rows of files, (n,) float64; arguments as of ``score_files``.

    Raises
    ------
    ValueError
        As ``score_files``; no row can be read.

    Warns
    -----
    DataWarning
        Some rows cannot be read.
    """
    scores, n_bad, first = [], 0, ""
    for chunk in iter_scored(inputs, detector, delimiter=delimiter, encoding=encoding):
        scores.append(chunk.outputs["score"])
        n_bad += len(chunk.bad)
        first = first or "".join(f", such as {chunk.source}: {bad.reason}" for bad in chunk.bad[:1])
    found = np.concatenate(scores) if scores else np.zeros(0)
    if not found.size:
        raise ValueError(
            f"Expected rows to score. Received: none in {inputs}, {n_bad} damaged{first}."
        )
    if n_bad:
        warnings.warn(
            f"rows that could not be read and are left out: {n_bad}{first}",
            DataWarning,
            stacklevel=2,
        )
    return found
