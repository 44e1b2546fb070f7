"""From scores to decisions: thresholds, calibration and selection, as methods of a detector."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from vae_anomaly.data_warning import DataWarning
from vae_anomaly.scoring.calibration import LEVEL, ThresholdReport, effective_rows
from vae_anomaly.scoring.discoveries import (
    AnomalyShare,
    estimate_anomaly_share,
    p_value_cutoff,
    why_none_selected,
)
from vae_anomaly.scoring.tails import has_far_tail
from vae_anomaly.scoring.thresholds import Threshold, choose_threshold, threshold_from_labels

if TYPE_CHECKING:
    import numpy.typing as npt

    from vae_anomaly.detectors.inputs import Rows
    from vae_anomaly.scoring.scorer import AnomalyScorer

_Self = TypeVar("_Self", bound="DecisionMixin")

#: What calibrates: the kinds of rows whose scores are compared with.
HELD_OUT, CROSS_FITTED = "held-out rows", "cross-fitted training rows"
TRAINING, GIVEN = "training rows, which the model knows", "rows given to calibrate"
# Fewer calibration rows than this leave the false-alarm rate too uncertain.
_FEW_ROWS = 100


class DecisionMixin:
    """Decide on rows by their scores. The threshold moves without another training.

    The class has ``scorer_``, ``score_samples`` and ``p_values``.
    """

    scorer_: AnomalyScorer
    _threshold: Threshold
    _calibrated_on: str

    @property
    def offset_(self) -> float:
        """Scores under it are anomalies. Assign to it to move the threshold without refitting."""
        if "scorer_" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted yet: no offset_.")
        return float(self.scorer_.offset.numpy())

    @offset_.setter
    def offset_(self, value: float) -> None:
        self._set(choose_threshold([], score=value))

    def calibrate(self: _Self, X: Rows) -> _Self:
        """Take normal rows to calibrate by, in the place of those of ``fit``; no training.

        p-values are then against the scores of these rows. A threshold that was chosen by a
        false-alarm rate, also by ``contamination="auto"``, or by a quantile is chosen again; others
        stay. Scores do not change.

        Parameters
        ----------
        X : as in ``score_samples``
            Normal rows that the detector was not fitted on: the more, the finer the rates.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            The rate that was asked for is finer than so few rows can tell.

        Warns
        -----
        DataWarning
            Fewer than 100 rows, or a few of them score far lower than all others.
        """
        check_is_fitted(self, "scorer_")
        self._calibrate_by(self.score_samples(X), stacklevel=3)  # type: ignore[attr-defined]
        return self

    def calibrate_by(self: _Self, scores: npt.ArrayLike) -> _Self:
        """Calibrate as ``calibrate`` does, by scores that normal rows were given already.

        Parameters
        ----------
        scores : (m,) array
            Of normal rows that the detector was not fitted on, by this detector.

        Returns
        -------
        self
        """
        check_is_fitted(self, "scorer_")
        self._calibrate_by(np.asarray(scores, dtype=np.float64), stacklevel=3)
        return self

    def _calibrate_by(self, scores, stacklevel):
        threshold = self._threshold.again(scores)
        self.scorer_ = self.scorer_.recalibrated(scores)
        self._calibrated_on = GIVEN
        self._set(threshold)
        self._warn_of_calibration(stacklevel)

    def set_threshold(
        self: _Self,
        X: Rows | None = None,
        *,
        false_alarm_rate: float | None = None,
        alerts: float | None = None,
        per: float | None = None,
        score: float | None = None,
        quantile: float | None = None,
        tail: str | None = None,
        labels: npt.ArrayLike | None = None,
        cost_false_alarm: float = 1.0,
        cost_miss: float = 1.0,
        anomaly_share: float | None = None,
    ) -> _Self:
        """Choose the threshold by what it is to do; no training, and no score changes.

        Parameters
        ----------
        X, labels : as in ``score_samples``, and (n,) array
            Labelled examples, +1 normal and -1 anomaly, or 0 normal and 1 anomaly: the threshold
            that costs least on them.
        cost_false_alarm, cost_miss : float > 0
            Of a normal row that is flagged, and of an anomaly that is not.
        anomaly_share : float or None
            Share of anomalies where the threshold will be used; None: as among the labels.
        false_alarm_rate : float
            Flag this share of new normal rows. At least 1 / (calibration rows + 1), or finer with
            ``tail="gpd"``.
        alerts, per : float
            Flag ``alerts`` of every ``per`` new normal rows.
        score : float
            Flag rows that score under it.
        quantile : float
            Flag this share of the calibration rows.
        tail : "gpd" or None
            Extrapolate a finer rate by a generalised Pareto distribution; ``threshold_report``
            has its diagnostics.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Not exactly one wish, or one that cannot be met.

        Examples
        --------
        >>> import numpy as np
        >>> from vae_anomaly import AutoencoderDetector
        >>> X = np.random.default_rng(0).normal(size=(1100, 3))
        >>> detector = AutoencoderDetector(max_steps=20, random_state=0).fit(X)
        >>> detector.set_threshold(alerts=20, per=1000).threshold_report().rate_asked
        0.02
        """
        check_is_fitted(self, "scorer_")
        wishes: dict[str, Any] = {
            "false_alarm_rate": false_alarm_rate,
            "alerts": alerts,
            "per": per,
            "score": score,
            "quantile": quantile,
            "tail": tail,
        }
        if X is None and labels is None:
            self._set(choose_threshold(self._calibration_scores(), **wishes))
            return self
        given = [name for name, value in wishes.items() if value is not None]
        if X is None or labels is None or given:
            received = [
                *given,
                *(["X"] if X is not None else []),
                *(["labels"] * (labels is not None)),
            ]
            raise ValueError(
                "Expected X with `labels` and costs, or another wish without them. "
                f"Received: {', '.join(received)}."
            )
        scores = self.score_samples(X)  # type: ignore[attr-defined]
        self._set(
            threshold_from_labels(
                scores,
                labels,
                cost_false_alarm=cost_false_alarm,
                cost_miss=cost_miss,
                anomaly_share=anomaly_share,
            )
        )
        return self

    def threshold_report(
        self, level: float = LEVEL, *, false_alarm_rate: float | None = None
    ) -> ThresholdReport:
        """Return the false-alarm rate that the threshold gives, and how sure that is.

        Parameters
        ----------
        level : float in (0, 1)
            Confidence of the interval.
        false_alarm_rate : float or None
            Report on the threshold for this rate instead, without choosing it.

        Returns
        -------
        vae_anomaly.scoring.calibration.ThresholdReport
            ``str`` of it is a sentence.

        Raises
        ------
        ValueError
            The rate is finer than the calibration rows can tell.
        """
        check_is_fitted(self, "scorer_")
        scores, threshold = self._calibration_scores(), self._threshold
        if false_alarm_rate is not None:
            threshold = choose_threshold(scores, false_alarm_rate=false_alarm_rate)
        return threshold.report(
            scores,
            calibrated_on=self._calibrated_on,
            pooled=self.is_pooled,
            level=level,
        )

    def select(self, X: Rows, *, fdr: float) -> npt.NDArray[np.bool_]:
        """Select anomalies of a batch so that few of the selected rows are normal.

        By the procedure of Benjamini & Hochberg (1995) on conformal p-values (Bates et al. 2023).
        Other than the threshold, what is selected depends on the batch.

        Parameters
        ----------
        X : as in ``score_samples``
        fdr : float in (0, 1)
            False-discovery rate: the share of normal rows among the selected, at most, expected.

        Returns
        -------
        (n,) bool array

        Warns
        -----
        DataWarning
            No row can be selected, for there are too few calibration rows.
        """
        values = self.p_values(X)  # type: ignore[attr-defined]
        selected = values <= p_value_cutoff(values, fdr)
        why = why_none_selected(len(values), fdr, self.scorer_.n_calibration)
        if why and not selected.any():
            warnings.warn(why, DataWarning, stacklevel=2)
        return selected

    def anomaly_share(self, X: Rows, level: float = LEVEL) -> AnomalyShare:
        """Estimate the share of anomalies in a batch, without labels or a threshold.

        Parameters
        ----------
        X : as in ``score_samples``
            A batch whose normal rows are like the calibration rows.
        level : float in (0, 1)
            Confidence of the interval.

        Returns
        -------
        vae_anomaly.scoring.discoveries.AnomalyShare
            ``str`` of it is a sentence. See ``discoveries.estimate_anomaly_share``.
        """
        return self._share_of(self.score_samples(X), level)  # type: ignore[attr-defined]

    def _share_of(self, scores, level):
        calibration = self._calibration_scores()
        at_or_below = np.searchsorted(calibration, scores, side="right")
        counts = np.bincount(at_or_below, minlength=len(calibration) + 1)
        effective = effective_rows(len(calibration), self.is_pooled)
        return estimate_anomaly_share(counts, level=level, n_effective=effective)

    @property
    def is_pooled(self) -> bool:
        """Whether the calibration scores are those of several folds, each by another model."""
        return self._calibrated_on == CROSS_FITTED

    def _calibration_scores(self):
        return self.scorer_.calibration_scores.numpy()

    def _set(self, threshold):
        self._threshold = threshold
        self.scorer_.offset.assign(threshold.offset)

    def calibration_warnings(self) -> list[str]:
        """Return what is to be said against the calibration rows, a sentence each."""
        scores, said = self._calibration_scores(), []
        if len(scores) < _FEW_ROWS:
            said.append(
                f"few calibration rows: {len(scores)}. The {self.threshold_report()}. "
                "Give more normal rows to `fit` or to `calibrate`."
            )
        if has_far_tail(scores):
            said.append(
                "calibration rows with outliers: a few score far lower than all others, down to "
                f"{scores[0]:.4g} where the median is {np.median(scores):.4g}. If these are "
                "anomalies, remove them, or give their share as `contamination`."
            )
        return said

    def _warn_of_calibration(self, stacklevel):
        for message in self.calibration_warnings():
            warnings.warn(message, DataWarning, stacklevel=stacklevel + 1)
