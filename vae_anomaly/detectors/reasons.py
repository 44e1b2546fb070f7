"""Reasons of a table's rows as text: cells that lowered the score, what was expected there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.displays.texts import number_text
from vae_anomaly.report.content import Reason
from vae_anomaly.scoring.occlusion import hide_each_cell, usual_values
from vae_anomaly.tables.rules import DATE_KINDS

if TYPE_CHECKING:
    from vae_anomaly.scoring.tables import TableScorer

# Significant digits of what is expected, which is known roughly.
_DIGITS = 4


class Reasons:
    """Tells for rows of a table which cells lowered their scores most.

    Parameters
    ----------
    scorer : TableScorer
    """

    def __init__(self, scorer: TableScorer) -> None:
        self._scorer = scorer
        self._kinds = scorer.preprocessor.kinds
        self._usual = {}
        if hasattr(scorer.model, "feature_log_prob"):
            for name, values in usual_values(scorer).items():
                texts = [cell_text(value, self._kinds[name], _DIGITS) for value in values]
                joint = ", " if self._kinds[name] in ("boolean", "categorical") else " to "
                self._usual[name] = joint.join(dict.fromkeys(texts))

    def of(self, arrays: dict[str, np.ndarray], most: int) -> list[list[Reason]]:
        """Return the reasons of each row, the heaviest first.

        Parameters
        ----------
        arrays : dict of column name to array (n,)
        most : int
            Reasons for each row; fewer where fewer cells lowered its score.

        Returns
        -------
        list of list of Reason
        """
        hidden = hide_each_cell(self._scorer, arrays)
        names = list(arrays)
        order = np.argsort(-hidden.gain, axis=1, kind="stable")[:, :most]
        return [
            [
                self._reason(hidden, arrays, names[column], row, column)
                for column in columns
                if hidden.gain[row, column] > 0
            ]
            for row, columns in enumerate(order)
        ]

    def _reason(self, hidden, arrays, name, row, column):
        kind = self._kinds[name]
        between = None
        if name in hidden.low:
            low, high = hidden.low[name][row], hidden.high[name][row]
            between = cell_text(low, kind, _DIGITS), cell_text(high, kind, _DIGITS)
        return Reason(
            column=name,
            seen=cell_text(arrays[name][row], kind),
            gain=float(hidden.gain[row, column]),
            expected=cell_text(hidden.expected[name][row], kind, _DIGITS) or None,
            between=between,
            usual=self._usual.get(name) or None,
        )


def cell_text(value: Any, kind: str, digits: int = 6) -> str:
    """Return a cell of a column of this kind as text; "" where it is missing.

    Numbers have this number of significant digits, and all digits before the point.

    Examples
    --------
    >>> cell_text(0.1 + 0.2, "numeric"), cell_text(0.7, "boolean"), cell_text(86400.0, "datetime")
    ('0.3', 'true', '1970-01-02 00:00:00')
    """
    if kind == "categorical":
        return str(value)
    if np.isnan(value):
        return ""
    if kind == "boolean":
        return "true" if value >= 0.5 else "false"
    if kind in DATE_KINDS:
        return str(np.datetime64(round(float(value)), "s")).replace("T", " ")
    return number_text(value, digits)
