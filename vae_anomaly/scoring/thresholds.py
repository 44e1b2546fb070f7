"""Thresholds by intent: a rate, a number of alerts, a score, a quantile, or labels and costs.

NumPy and SciPy only; higher scores are more normal.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.data_warning import DataWarning
from vae_anomaly.scoring.calibration import (
    AUTO_FALSE_ALARM_RATE,
    LEVEL,
    ThresholdReport,
    offset_from_contamination,
    offset_from_false_alarm_rate,
    report_threshold,
)
from vae_anomaly.scoring.tails import TailFit, fit_tail, offset_from_tail

_INTENTS = ("false_alarm_rate", "alerts", "score", "quantile")
# An extrapolated rate that may be this many times more or less is worth a warning.
_LARGEST_SPREAD = 100


@dataclass(frozen=True)
class Threshold:
    """An offset, and how it was chosen.

    Attributes
    ----------
    offset : float
        Scores under it are anomalies, nats.
    intent : dict
        What was asked for, such as ``{"false_alarm_rate": 0.01}``.
    rate_asked : float or None
        The false-alarm rate that was asked for; None where something else was.
    tail : TailFit or None
        The extrapolation that the offset comes from.
    """

    offset: float
    intent: dict[str, Any]
    rate_asked: float | None = None
    tail: TailFit | None = None

    @property
    def chosen_by(self) -> str:
        """What was asked for, as text."""
        return ", ".join(
            f"{name}={value:.10g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in self.intent.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the threshold as plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Threshold:
        """Return the threshold that ``to_dict`` describes."""
        tail = data["tail"]
        return cls(**{**data, "tail": None if tail is None else TailFit(**tail)})

    def again(self, calibration_scores: ArrayLike) -> Threshold:
        """Return the threshold for the same wish by other calibration scores.

        One that was not chosen by calibration scores stays.

        Raises
        ------
        ValueError
            The rate asked for is finer than the other scores can tell.
        """
        if self.intent == {"contamination": "auto"}:
            return threshold_from_contamination("auto", [], calibration_scores)
        if {"false_alarm_rate", "alerts", "quantile"} & set(self.intent):
            return choose_threshold(calibration_scores, **self.intent)
        return self

    def report(
        self,
        calibration_scores: ArrayLike,
        *,
        calibrated_on: str = "held-out rows",
        pooled: bool = False,
        level: float = LEVEL,
    ) -> ThresholdReport:
        """Return the false-alarm rate that it gives; arguments as in ``report_threshold``."""
        report = report_threshold(
            self.offset,
            calibration_scores,
            chosen_by=self.chosen_by,
            rate_asked=self.rate_asked,
            calibrated_on=calibrated_on,
            pooled=pooled,
            level=level,
        )
        if self.tail is None or self.rate_asked is None:
            return report
        low, high = self.tail.interval(self.rate_asked, level)
        return replace(report, rate_expected=self.rate_asked, rate_low=low, rate_high=high)


def choose_threshold(
    calibration_scores: ArrayLike,
    *,
    false_alarm_rate: float | None = None,
    alerts: float | None = None,
    per: float | None = None,
    score: float | None = None,
    quantile: float | None = None,
    tail: str | None = None,
) -> Threshold:
    """Return the threshold for one of these wishes.

    Parameters
    ----------
    calibration_scores : (m,) array
    false_alarm_rate : float in (0, 1)
        Flag this share of new normal rows, at least 1 / (m + 1); finer with ``tail``.
    alerts, per : float
        Flag ``alerts`` of every ``per`` new normal rows: a false-alarm rate of ``alerts / per``.
    score : float
        Flag rows that score under it, nats.
    quantile : float in [0, 1)
        Flag this share of the calibration rows themselves, rounded down; 0 flags what scores under
        all of them.
    tail : "gpd" or None
        Extrapolate rates finer than the calibration rows can tell by a generalised Pareto
        distribution of the lowest scores; see ``tails.fit_tail``.

    Returns
    -------
    Threshold

    Raises
    ------
    ValueError
        Not exactly one wish, or one that is out of range.

    Warns
    -----
    DataWarning
        The extrapolated rate is very uncertain.

    Examples
    --------
    >>> scores = -np.arange(999.0)
    >>> threshold = choose_threshold(scores, alerts=10, per=1000)
    >>> threshold.offset, threshold.chosen_by, threshold.rate_asked
    (-989.0, 'alerts=10, per=1000', 0.01)
    >>> choose_threshold(scores, quantile=0.0).offset
    -998.0
    """
    wishes = dict(zip(_INTENTS, (false_alarm_rate, alerts, score, quantile), strict=True))
    given = {name: value for name, value in wishes.items() if value is not None}
    if len(given) != 1 or (alerts is None) != (per is None):
        received = {**given, **({} if per is None else {"per": per})}
        raise ValueError(
            "Expected one of `false_alarm_rate`, `alerts` with `per`, `score`, `quantile`. "
            f"Received: {', '.join(received) or 'none of them'}."
        )
    if tail not in (None, "gpd") or (tail and (score is not None or quantile is not None)):
        raise ValueError(
            "Expected tail='gpd', with `false_alarm_rate` or `alerts`, or no `tail`. "
            f"Received: tail={tail!r}, {next(iter(given))}."
        )
    if score is not None:
        return Threshold(_finite(score), {"score": float(score)})
    if quantile is not None:
        return Threshold(_quantile(calibration_scores, quantile), {"quantile": float(quantile)})
    intent: dict[str, Any]
    if false_alarm_rate is not None:
        rate, intent = float(false_alarm_rate), {"false_alarm_rate": float(false_alarm_rate)}
    else:
        rate, intent = _ratio(alerts, per), {"alerts": alerts, "per": per}
    if tail is None:
        return Threshold(offset_from_false_alarm_rate(rate, calibration_scores), intent, rate)
    return _extrapolated(rate, calibration_scores, {**intent, "tail": tail})


def threshold_from_contamination(
    contamination: float | str, training_scores: ArrayLike, calibration_scores: ArrayLike
) -> Threshold:
    """Return the threshold that the parameter ``contamination`` stands for.

    Arguments and errors as in ``calibration.offset_from_contamination``.
    """
    offset = offset_from_contamination(contamination, training_scores, calibration_scores)
    if contamination == "auto":
        return Threshold(offset, {"contamination": "auto"}, AUTO_FALSE_ALARM_RATE)
    return Threshold(offset, {"contamination": float(contamination)})


def _extrapolated(rate, calibration_scores, intent):
    fit = fit_tail(calibration_scores)
    threshold = Threshold(offset_from_tail(rate, fit), intent, rate, fit)
    low, high = fit.interval(rate)
    if high > _LARGEST_SPREAD * low:
        warnings.warn(
            f"the threshold for {threshold.chosen_by} is an extrapolation: the false-alarm rate "
            f"may be {low:.2g} as well as {high:.2g}. Calibrate with more normal rows.",
            DataWarning,
            stacklevel=4,
        )
    return threshold


def _finite(score):
    if not np.isfinite(score):
        raise ValueError(f"Expected a finite `score`. Received: score={score!r}.")
    return float(score)


def _quantile(calibration_scores, quantile):
    if not 0 <= quantile < 1:
        raise ValueError(f"Expected `quantile` in [0, 1). Received: quantile={quantile!r}.")
    ordered = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    # A product such as 0.29 * 100 falls short of its whole number by a few last digits.
    return float(ordered[int(quantile * len(ordered) * (1 + 1e-12))])


def _ratio(alerts, per):
    if not 0 < alerts < per:
        raise ValueError(
            f"Expected 0 < `alerts` < `per`. Received: alerts={alerts!r}, per={per!r}."
        )
    return float(alerts / per)


def threshold_from_labels(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    cost_false_alarm: float = 1.0,
    cost_miss: float = 1.0,
    anomaly_share: float | None = None,
) -> Threshold:
    """Return the threshold that costs least on labelled rows.

    Parameters
    ----------
    scores : (n,) array
    labels : (n,) array
        As ``predict`` gives them, +1 normal and -1 anomaly; or 0 and 1, or booleans, where 1 is an
        anomaly. Both kinds of rows are needed.
    cost_false_alarm, cost_miss : float > 0
        Of a normal row that is flagged, and of an anomaly that is not. Only their ratio counts.
    anomaly_share : float in (0, 1) or None
        Share of anomalies where the threshold will be used; None: as among the labels.

    Returns
    -------
    Threshold
        Halfway between two neighbouring scores. Of thresholds that cost the same, the one in the
        middle of the widest gap.

    Raises
    ------
    ValueError
        Labels of one kind only, or of other values; costs that are not positive.

    Examples
    --------
    >>> threshold_from_labels([-9.0, -5.0, 1.0, 2.0, 3.0], [1, 1, 0, 0, 0]).offset
    -2.0
    """
    scores = np.asarray(scores, dtype=np.float64)
    is_anomaly = _is_anomaly(labels, scores.shape)
    if not (cost_false_alarm > 0 and cost_miss > 0):
        raise ValueError(
            "Expected positive costs. Received: "
            f"cost_false_alarm={cost_false_alarm!r}, cost_miss={cost_miss!r}."
        )
    share = float(is_anomaly.mean()) if anomaly_share is None else anomaly_share
    if not 0 < share < 1:
        raise ValueError(
            f"Expected `anomaly_share` between 0 and 1. Received: anomaly_share={anomaly_share!r}."
        )
    values = np.unique(scores)
    # One place under all scores, one between each two neighbours, one above all.
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    flagged = [np.searchsorted(np.sort(scores[of]), edges) for of in (~is_anomaly, is_anomaly)]
    false_alarms, caught = flagged[0] / np.sum(~is_anomaly), flagged[1] / np.sum(is_anomaly)
    costs = (1 - share) * cost_false_alarm * false_alarms + share * cost_miss * (1 - caught)
    gaps = np.concatenate([[0.0], np.diff(values), [0.0]])
    cheapest = np.flatnonzero(np.isclose(costs, costs.min(), rtol=1e-12, atol=0))
    intent = {
        "labelled_rows": len(scores),
        "cost_false_alarm": float(cost_false_alarm),
        "cost_miss": float(cost_miss),
    }
    return Threshold(float(edges[cheapest[gaps[cheapest].argmax()]]), intent)


def _is_anomaly(labels, shape):
    labels = np.asarray(labels)
    found = set(np.unique(labels).tolist())
    if labels.shape != shape or found not in ({-1, 1}, {0, 1}):
        raise ValueError(
            f"Expected `labels` of shape {shape}, both +1 (normal) and -1 (anomaly), or both 0 "
            f"(normal) and 1 (anomaly). Received: shape {labels.shape}, values "
            f"{sorted(found, key=str)[:5]}."
        )
    return labels == (-1 if -1 in found else 1)
