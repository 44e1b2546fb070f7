"""What is learned from a column of numbers: center, scale, step and normal scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, skew

# A spread below this counts as none: TensorFlow takes numbers not far from it for zeros.
SMALLEST_SCALE = 1e-300
# Knots of the function from values to normal scores, equally far apart in scores.
N_KNOTS = 257
# Columns of a larger skewness, and of more values, take normal scores.
_LARGEST_SKEWNESS = 2.0
_FEW_VALUES = 20
# Training values farther out (in scales) count as this, so that no cube of them overflows.
_FARTHEST = 1e90


class NormalScores(NamedTuple):
    """Normal scores of a column: a function of its values, linear between knots."""

    knots: np.ndarray  #: (N_KNOTS,) values, in scales from the center, ascending
    score_range: np.ndarray  #: (2,) the lowest and the highest score
    step: float  #: median difference of neighbouring scores


class NumberScale(NamedTuple):
    """What is learned from a column of numbers."""

    center: float
    scale: float
    step: float  #: median difference of neighbouring distinct values; 0 if there is one
    scores: NormalScores | None  #: of a very skewed column


def learn_scale(
    values: np.ndarray, *, normal_scores: bool, weights: np.ndarray | None = None
) -> NumberScale:
    """Learn what there is to learn from a column of numbers.

    Center and scale are mean and standard deviation after values beyond 10 interquartile ranges
    from the median, and the lowest and highest 0.5%, are pulled in; of all values where no spread
    is left; scale 1 where there is none.

    Parameters
    ----------
    values : (n,) float64 array
        Finite, n >= 1.
    normal_scores : bool
        Whether a column with more than 20 values and a skewness beyond 2 or -2 gets normal scores:
        the normal quantile of each value's rank [1]_, standardised.
    weights : (n,) float64 array or None
        Of the values, positive: whole numbers count a value as often.

    Returns
    -------
    NumberScale

    References
    ----------
    .. [1] B. L. van der Waerden, "Order tests for the two-sample problem and their power", 1952.

    Examples
    --------
    >>> learn_scale(np.array([5.0, 5.0, 5.0]), normal_scores=True)
    NumberScale(center=5.0, scale=1.0, step=0.0, scores=None)
    """
    distinct = np.unique(values)
    center, scale = _center_and_scale(values, weights)
    scores = None
    if normal_scores and len(distinct) > _FEW_VALUES:
        with np.errstate(over="ignore"):
            standardised = (values - center) / scale
        standardised = np.clip(standardised, -_FARTHEST, _FARTHEST)
        if _is_very_skewed(standardised, weights):
            scores = _normal_scores(standardised, weights)
    return NumberScale(center, scale, _step(distinct), scores)


def _quantile(values: np.ndarray, q: Sequence[float], weights: np.ndarray | None) -> np.ndarray:
    if weights is None:
        return np.quantile(values, q)
    return np.quantile(values, q, weights=weights, method="inverted_cdf")


def _center_and_scale(values: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    # Within [-1, 1], by a power of 2 so that nothing is rounded: no square overflows there.
    exponent = np.frexp(np.abs(values).max())[1]
    values = np.ldexp(values, -exponent)
    near = values
    quartiles = _quantile(values, [0.25, 0.5, 0.75], weights)
    if (spread := quartiles[2] - quartiles[0]) > 0:
        near = np.clip(values, quartiles[1] - 10 * spread, quartiles[1] + 10 * spread)
    for candidate in (np.clip(near, *_quantile(near, [0.005, 0.995], weights)), values):
        center, scale = _mean_and_deviation(candidate, weights)
        # Rounding alone gives a constant column of large numbers a tiny spread.
        if scale > 1e-14 * abs(center) and np.ldexp(scale, exponent) > SMALLEST_SCALE:
            return float(np.ldexp(center, exponent)), float(np.ldexp(scale, exponent))
    return float(np.ldexp(_mean_and_deviation(values, weights)[0], exponent)), 1.0


def _mean_and_deviation(
    values: np.ndarray, weights: np.ndarray | None
) -> tuple[np.floating, np.floating]:
    if weights is None:
        return values.mean(), values.std()
    mean = np.average(values, weights=weights)
    return mean, np.sqrt(np.average(np.square(values - mean), weights=weights))


def _is_very_skewed(values: np.ndarray, weights: np.ndarray | None) -> bool:
    if weights is not None:
        mean, deviation = _mean_and_deviation(values, weights)
        cubes = ((values - mean) / max(deviation, SMALLEST_SCALE)) ** 3
        return bool(abs(np.average(cubes, weights=weights)) > _LARGEST_SKEWNESS)
    # SciPy divides by the mean, which may be next to nothing.
    with np.errstate(over="ignore"):
        return bool(abs(skew(values)) > _LARGEST_SKEWNESS)


def _normal_scores(values: np.ndarray, weights: np.ndarray | None) -> NormalScores:
    distinct, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
    if weights is not None:
        counts = np.bincount(rank, weights)
    scores = norm.ppf((np.cumsum(counts) - counts / 2) / counts.sum())
    center, scale = _center_and_scale(scores[rank], weights)
    scores = (scores - center) / scale
    knots = np.interp(np.linspace(scores[0], scores[-1], N_KNOTS), scores, distinct)
    return NormalScores(knots, scores[[0, -1]], _step(scores))


def _step(distinct: np.ndarray) -> float:
    if distinct.size < 2:
        return 0.0
    with np.errstate(over="ignore"):
        return float(min(np.median(np.diff(distinct)), np.finfo(np.float64).max))
