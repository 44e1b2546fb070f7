"""What scoring adds to rows of a table, by a model and options, whatever the rows come from."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.batch.chunks import (
    CONTRIBUTION,
    OUTPUTS,
    check_threshold,
    chosen_offset,
    decided,
)
from vae_anomaly.batch.reasons import ReasonColumns, reason_names
from vae_anomaly.detectors import artifact
from vae_anomaly.scoring.calibration import check_rate
from vae_anomaly.tables.schema import Schema

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.scoring.scorer import AnomalyScorer
    from vae_anomaly.tables.paths import Path

# The columns of a table that was scored before.
_ADDED = re.compile("|".join([*OUTPUTS, r"reason_\d+(_gain|_expected)?", f"{CONTRIBUTION}.*"]))


class RowScorer:
    """Scores named arrays; knows which columns a table must have, and which are added.

    Parameters
    ----------
    detector : fitted detector, or path of a saved one
        Of tables; only its description is read.
    explain, contributions, threshold, false_alarm_rate, allow_missing
        As of ``run.score_files``.

    Attributes
    ----------
    schema : Schema
        Of the training table.
    kinds : dict of str to str
        The modelled columns and their kinds.
    output_types : dict of str to type
        The columns that scoring adds: of float, bool or str.
    reasons : ReasonColumns or None
        Once loaded: what says why rows are anomalies; None where nobody asked.
    scorer : TableScorer
        Once loaded.
    offset : float
        Once loaded: scores under it are anomalies.

    Raises
    ------
    ValueError
        An option that makes no sense.
    """

    reasons: ReasonColumns | None = None
    scorer: AnomalyScorer
    offset: float
    is_pooled: bool

    def __init__(
        self,
        detector: BaseDetector | Path,
        *,
        explain: int | None = None,
        contributions: bool = False,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
        allow_missing: Iterable[str] | None = None,
    ) -> None:
        self._detector = detector
        self.schema, n_calibration = _described(detector)
        self.kinds = self.schema.kinds
        self.allow_missing = sorted(allow_missing or ())
        self._explain, self._contributions = explain, contributions
        self._threshold, self._false_alarm_rate = threshold, false_alarm_rate
        if explain is not None and not 1 <= explain <= len(self.kinds):
            raise ValueError(
                f"Expected `explain` from 1 to the number of modelled columns, {len(self.kinds)}. "
                f"Received: explain={explain!r}."
            )
        check_threshold(threshold, false_alarm_rate)
        if false_alarm_rate is not None:
            check_rate(false_alarm_rate, n_calibration)
        self.output_types: dict[str, type] = {
            **dict.fromkeys(OUTPUTS, float),
            "is_anomaly": bool,
            **{n: float if n.endswith("_gain") else str for n in reason_names(explain or 0)},
        }
        if contributions:
            self.output_types |= dict.fromkeys((CONTRIBUTION + name for name in self.kinds), float)

    def load(self, fitted: BaseDetector) -> None:
        """Take the detector, loaded, without which ``outputs`` does not work."""
        self.scorer = fitted.scorer_
        self.is_pooled = fitted.is_pooled
        if dict(self.scorer.preprocessor.kinds) != dict(self.kinds):
            raise ValueError(
                f"{self._detector}: the model was replaced while it was read. Run again."
            )
        if self._explain:
            self.reasons = ReasonColumns(self.scorer, self._explain)
        self.offset = chosen_offset(fitted, self._threshold, self._false_alarm_rate)

    def written(self, names: Sequence[str]) -> list[str]:
        """Return the columns of a table but for those that the schema drops."""
        known = self.schema.columns
        return [name for name in names if name not in known or known[name].kind != "dropped"]

    def needed(self, names: Collection[str]) -> list[str]:
        """Return the modelled columns, but for those that a table lacks and may lack."""
        return [name for name in self.kinds if name in names or name not in self.allow_missing]

    def absent(self, names: Collection[str]) -> list[str]:
        """Return the modelled columns that a table lacks."""
        return [name for name in self.kinds if name not in names]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the columns of a table that the model does not know, and scoring did not add."""
        known = self.schema.columns
        return [name for name in names if name not in known and not _ADDED.fullmatch(name)]

    def taken(self, names: Iterable[str]) -> list[str]:
        """Return the columns to write that are named like an output."""
        return [name for name in names if name in self.output_types]

    def present(self, names: Collection[str]) -> Schema:
        """Return the schema of the columns that a table with these names has."""
        absent = self.absent(names)
        kept = {name: c for name, c in self.schema.columns.items() if name not in absent}
        return replace(self.schema, columns=kept)

    def filled(self, arrays: Mapping[str, np.ndarray], n_rows: int) -> dict[str, np.ndarray]:
        """Return named arrays in the model's order, with missing cells for columns not there."""
        blank = {"categorical": np.full(n_rows, "", object)}
        return {
            name: arrays[name] if name in arrays else blank.get(kind, np.full(n_rows, np.nan))
            for name, kind in self.kinds.items()
        }

    def outputs(self, arrays: Mapping[str, np.ndarray], offset: float) -> dict[str, np.ndarray]:
        """Score rows: the columns to add by name, each (n,); those of reasons are blank."""
        wanted = ("feature_log_prob",) if self._contributions else ()
        found = self.scorer.run(arrays, ("score", "p_value", *wanted))
        outputs = decided(found, offset)
        if self.reasons:
            outputs |= self.reasons.blank(len(found["score"]))
        if wanted:
            contributions = np.asfortranarray(found["feature_log_prob"])  # taken by columns
            for index, name in enumerate(self.kinds):
                outputs[CONTRIBUTION + name] = contributions[:, index]
        return outputs


def _described(detector: Any) -> tuple[Schema, int]:
    """Return what the columns of the training table were, and how many rows calibrated."""
    if not isinstance(detector, (str, os.PathLike)):
        return detector._input.schema, detector.scorer_.n_calibration
    content = artifact.read(detector)
    if content["input"] != "table":
        raise ValueError(
            f"{detector}: expected a model of tables. Received: one of {content['input']}."
        )
    schema = Schema.from_json(content["described"]["schema"])
    return schema, content["scorer"]["n_calibration"]
