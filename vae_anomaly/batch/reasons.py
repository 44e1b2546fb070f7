"""Columns of reasons in scored tables: for the rows that somebody will look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vae_anomaly.batch.chunks import ScoredChunk
    from vae_anomaly.report.content import Reason
    from vae_anomaly.scoring.tables import TableScorer


def reason_names(most: int) -> list[str]:
    """Return the names of the columns for as many reasons.

    Examples
    --------
    >>> reason_names(1)
    ['reason_1', 'reason_1_gain', 'reason_1_expected']
    """
    return [
        f"reason_{rank}{end}" for rank in range(1, most + 1) for end in ("", "_gain", "_expected")
    ]


class ReasonColumns:
    """Fills in the columns of reasons, which cost a scoring for each column of the table.

    Parameters
    ----------
    scorer : TableScorer
    most : int
        Reasons for each row.
    """

    def __init__(self, scorer: TableScorer, most: int) -> None:
        from vae_anomaly.detectors.reasons import Reasons  # with TensorFlow

        self._reasons = Reasons(scorer)
        self._most = most

    def blank(self, n_rows: int) -> dict[str, np.ndarray]:
        """Return the columns of rows without reasons, by name."""
        return {
            name: np.full(n_rows, np.nan) if name.endswith("_gain") else _texts(n_rows)
            for name in reason_names(self._most)
        }

    def add(self, scored: ScoredChunk, rows: np.ndarray) -> None:
        """Write the reasons of some rows into a chunk's columns."""
        if not len(rows):
            return
        arrays = {name: array[rows] for name, array in scored.arrays.items()}
        for row, reasons in zip(rows, self._reasons.of(arrays, self._most), strict=True):
            for rank, reason in enumerate(reasons, 1):
                scored.outputs[f"reason_{rank}"][row] = reason.column
                scored.outputs[f"reason_{rank}_gain"][row] = reason.gain
                scored.outputs[f"reason_{rank}_expected"][row] = _expected(reason)


def _texts(n_rows):
    texts = np.empty(n_rows, dtype=object)
    texts[:] = ""
    return texts


def _expected(reason: Reason) -> str:
    """What was expected, with its range; what reads like the value seen is left out."""
    expected = reason.expected if reason.expected != reason.seen else ""
    between = reason.between if reason.between and len(set(reason.between)) > 1 else None
    span = " to ".join(between) if between else ""
    if expected and span:
        return f"{expected} ({span})"
    return expected or span
