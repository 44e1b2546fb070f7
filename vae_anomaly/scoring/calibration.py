"""From scores to decisions: p-values, offsets, and how sure a false-alarm rate is.

NumPy and SciPy only; higher scores are more normal.

**The rule.** With m calibration scores, a score has the p-value
``(1 + #{calibration <= score}) / (m + 1)``. The offset for a rate is the k-th smallest calibration
score, without interpolation, where k is the largest whole number with ``k / (m + 1) <= rate``, and
at least 1. A row is flagged if its score is *under* the offset. Ties fall on the normal side on
both counts, so a row is flagged if and only if its p-value is at most ``max(rate, 1 / (m + 1))``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

AUTO_FALSE_ALARM_RATE = 0.01
LEVEL = 0.9
# Scores of folds share a model within a fold, and no fold has the final model, so they tell less
# than as many scores of one model. This share of them makes intervals that hold (by simulation:
# ``benchmarks/calibration.py``).
_POOLED_SHARE = 0.6


def p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> np.ndarray:
    """Return how rare so low a score is among normal rows.

    ``(1 + #{calibration <= score}) / (m + 1)`` (Bates et al. 2023, "Testing for outliers with
    conformal p-values", equation 2).

    Parameters
    ----------
    scores : (n,) array
    calibration_scores : (m,) array, m >= 1
        Scores of normal rows that the model was not trained on.

    Returns
    -------
    (n,) float64 array in [1 / (m + 1), 1]

    Examples
    --------
    >>> p_values([0.5, 9.0], [1.0, 2.0, 3.0]).tolist()
    [0.25, 1.0]
    """
    calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    at_or_below = np.searchsorted(calibration, np.asarray(scores, np.float64), side="right")
    return (1.0 + at_or_below) / (len(calibration) + 1.0)


def rank_of_rate(rate: float, n_calibration: int) -> int:
    """Return k: the offset for a rate is the k-th smallest calibration score.

    Parameters
    ----------
    rate : float in (0, 1)
    n_calibration : int >= 1

    Returns
    -------
    int from 1 to ``n_calibration``
        The largest k with ``k / (n_calibration + 1) <= rate``, as floating-point numbers, which
        p-values are too; 1 if there is none.

    Examples
    --------
    >>> rank_of_rate(0.29, 99)  # though 0.29 * 100 is 28.999999999999996
    29
    """
    k = int(rate * (n_calibration + 1))
    k += (k + 1) / (n_calibration + 1) <= rate
    k -= k / (n_calibration + 1) > rate
    return min(max(k, 1), n_calibration)


def offset_from_contamination(
    contamination: float | str, training_scores: ArrayLike, calibration_scores: ArrayLike
) -> float:
    """Return the offset under which a score is an anomaly.

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5]
        A share: this share of the training rows is flagged, as in scikit-learn. Of new normal
        rows it may flag more, for a model knows its training rows better.
        "auto": the offset for a false-alarm rate of 1%, or of 1 / (m + 1) where that is more.
    training_scores : (n,) array
    calibration_scores : (m,) array

    Returns
    -------
    float, nats

    Raises
    ------
    ValueError
        ``contamination`` is neither.

    Examples
    --------
    >>> offset_from_contamination(0.25, [1.0, 2.0, 3.0, 4.0, 5.0], [0.0])
    2.0
    >>> offset_from_contamination("auto", [0.0], [3.0, 1.0, 2.0])
    1.0
    """
    if isinstance(contamination, str) and contamination == "auto":
        calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
        return float(calibration[rank_of_rate(AUTO_FALSE_ALARM_RATE, len(calibration)) - 1])
    if isinstance(contamination, str) or not 0 < contamination <= 0.5:
        raise ValueError(
            "Expected `contamination` to be 'auto' or a number in (0, 0.5]. "
            f"Received: contamination={contamination!r}"
        )
    return float(np.quantile(np.asarray(training_scores, np.float64), contamination))


def offset_from_false_alarm_rate(rate: float, calibration_scores: ArrayLike) -> float:
    """Return the offset under which this share of new normal rows scores, on average.

    Parameters
    ----------
    rate : float in (0, 1)
        At least 1 / (m + 1): fewer calibration rows cannot tell.
    calibration_scores : (m,) array

    Returns
    -------
    float, nats
        The k-th smallest calibration score; see ``rank_of_rate``.

    Raises
    ------
    ValueError
        ``rate`` is out of range.

    Examples
    --------
    >>> offset_from_false_alarm_rate(0.34, [5.0, 2.0, 3.0, 4.0, 1.0])
    2.0
    """
    calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    check_rate(rate, len(calibration))
    return float(calibration[rank_of_rate(rate, len(calibration)) - 1])


def check_rate(rate: float, n_calibration: int) -> None:
    """Raise ValueError unless a false-alarm rate is one that calibration rows can tell."""
    least = 1 / (n_calibration + 1)
    if not least <= rate < 1:
        raise ValueError(
            f"Expected a false-alarm rate from {least:.3g} (1 / (calibration rows + 1)) to 1. "
            f"Received: {rate!r}. Calibrate with more normal rows, or extrapolate with tail='gpd'."
        )


@dataclass(frozen=True)
class ThresholdReport:
    """The false-alarm rate that a threshold will give, and how sure that is.

    Attributes
    ----------
    offset : float
        The threshold, nats: rows that score under it are flagged.
    chosen_by : str
        How it was chosen, such as "false_alarm_rate=0.01".
    rate_asked : float or None
        The false-alarm rate that was asked for; None where something else was.
    rate_expected : float
        Share of new normal rows that will be flagged, expected.
    rate_low, rate_high : float
        Interval for that share.
    level : float
        Confidence of the interval.
    rank : int
        k: flagged rows have p-values of at most ``k / (n_calibration + 1)``.
    n_calibration : int
    calibrated_on : str
        What kind of rows calibrated, such as "held-out rows".
    """

    offset: float
    chosen_by: str
    rate_asked: float | None
    rate_expected: float
    rate_low: float
    rate_high: float
    level: float
    rank: int
    n_calibration: int
    calibrated_on: str

    @property
    def sentence(self) -> str:
        """What the threshold gives, in words."""
        return (
            f"{self.chosen_by} flags {percent(self.rate_expected)} of new normal rows, between "
            f"{percent(self.rate_low)} and {percent(self.rate_high)} with {self.level:.0%} "
            f"confidence, by {self.n_calibration:,} {self.calibrated_on}"
        )

    def __str__(self) -> str:
        return f"threshold {self.offset:.6g}: {self.sentence}"


def report_threshold(
    offset: float,
    calibration_scores: ArrayLike,
    *,
    chosen_by: str,
    rate_asked: float | None = None,
    calibrated_on: str = "held-out rows",
    pooled: bool = False,
    level: float = LEVEL,
) -> ThresholdReport:
    """Return the false-alarm rate that an offset gives on new normal rows, with its interval.

    The share of new rows under the k-th smallest of m independent scores has the distribution
    Beta(k, m + 1 - k), whatever that of the scores, if it is continuous. For an offset between two
    calibration scores, or equal to several, the interval is that of Clopper & Pearson (1934).

    Parameters
    ----------
    offset : float
    calibration_scores : (m,) array
    chosen_by : str
    rate_asked : float or None
    calibrated_on : str
    pooled : bool
        The scores are those of several folds, each by a model that did not see the row, and not by
        the model that scores new rows. The interval is then that of 60% as many independent scores,
        which held in simulation.
    level : float in (0, 1)

    Returns
    -------
    ThresholdReport

    Examples
    --------
    >>> report = report_threshold(1.0, [3.0, 1.0, 2.0, 4.0], chosen_by="contamination='auto'")
    >>> report.rate_expected, round(report.rate_low, 3), round(report.rate_high, 3)
    (0.2, 0.013, 0.527)
    """
    calibration = np.asarray(calibration_scores, dtype=np.float64)
    m = len(calibration)
    n_under, n_equal = int(np.sum(calibration < offset)), int(np.sum(calibration == offset))
    rank = n_under + 1
    # Under the offset are as many new scores as under the k-th smallest of m, of which k is known
    # where the offset is one calibration score, and else is one of two.
    lowest = rank if n_equal == 1 else n_under
    share = effective_rows(m, pooled) / m
    tail = (1 - level) / 2
    return ThresholdReport(
        offset=float(offset),
        chosen_by=chosen_by,
        rate_asked=rate_asked,
        rate_expected=(lowest + rank) / 2 / (m + 1),
        rate_low=_beta_quantile(tail, lowest * share, (m + 1 - lowest) * share),
        rate_high=_beta_quantile(1 - tail, rank * share, (m + 1 - rank) * share),
        level=float(level),
        rank=rank,
        n_calibration=m,
        calibrated_on=calibrated_on,
    )


def effective_rows(n_calibration: int, pooled: bool) -> float:
    """Return as how many independent scores of one model calibration scores count.

    Parameters
    ----------
    n_calibration : int
    pooled : bool
        The scores are those of several folds, as in ``report_threshold``.
    """
    return n_calibration * (_POOLED_SHARE if pooled else 1.0)


def _beta_quantile(probability, a, b):
    if a == 0 or b == 0:
        return float(a > 0)
    return float(beta.ppf(probability, a, b))


def percent(share: float) -> str:
    """Return a share as text, with two significant digits under 10%.

    Examples
    --------
    >>> percent(0.5), percent(0.01234), percent(0.00012), percent(0)
    ('50%', '1.2%', '0.012%', '0%')
    """
    if share == 0 or share >= 0.0995:
        return f"{share:.0%}"
    return (
        np.format_float_positional(100 * share, precision=2, unique=False, fractional=False) + "%"
    )
