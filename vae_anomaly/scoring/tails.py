"""The lower tail of calibration scores: extrapolation beyond it, and whether it looks clean.

NumPy and SciPy only; higher scores are more normal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import genpareto, goodness_of_fit, norm

from vae_anomaly.scoring.calibration import LEVEL

# Shares of the calibration scores that are tried as the tail, and the fewest scores in it.
_TAIL_SHARES = (0.1, 0.05, 0.025)
_LEAST_TAIL = 50
# A tail whose fit is worse than this share of simulated ones is refused; so is one that ends
# abruptly, where the variances of the estimates are not those of ``interval``.
_LEAST_FIT_P_VALUE = 0.05
_LEAST_SHAPE = -0.4
_FIT_SAMPLES = 99
# A ratio that clean rows hardly reach, and the fewest scores that tell: see ``has_far_tail``.
_FAR_TAIL = 25.0
_LEAST_SCORES = 50
# Rates are not extrapolated further than this factor below 1 / (m + 1).
_LARGEST_EXTRAPOLATION = 100


@dataclass(frozen=True)
class TailFit:
    """A generalised Pareto distribution of how far the lowest scores are below a start.

    Attributes
    ----------
    start : float
        Scores under it are the tail, nats.
    n_tail, n_calibration : int
        Calibration scores in the tail, and all.
    shape : float
        0 is an exponential tail; more is heavier; less has an end.
    scale : float
        nats.
    fit_p_value : float
        Of the Anderson-Darling test of the fit, by simulation, parameters estimated each time.

    Examples
    --------
    >>> tail = TailFit(
    ...     start=-5.0, n_tail=100, n_calibration=999, shape=0.0, scale=2.0, fit_p_value=0.5
    ... )
    >>> round(tail.offset(1e-4), 2), round(tail.rate(-18.82), 6)
    (-18.82, 0.0001)
    """

    start: float
    n_tail: int
    n_calibration: int
    shape: float
    scale: float
    fit_p_value: float

    @property
    def share(self) -> float:
        """Share of normal rows that score in the tail."""
        return self.n_tail / (self.n_calibration + 1)

    def rate(self, score: float) -> float:
        """Return the share of new normal rows that score under a score in the tail."""
        return float(self.share * genpareto.sf(self.start - score, self.shape, scale=self.scale))

    def offset(self, rate: float) -> float:
        """Return the score under which a share of new normal rows scores, at most ``share``."""
        return float(self.start - genpareto.isf(rate / self.share, self.shape, scale=self.scale))

    def interval(self, rate: float, level: float = LEVEL) -> tuple[float, float]:
        """Return an interval for the rate that ``offset(rate)`` will give.

        By the asymptotic variances of shape, scale (Smith 1987) and share, on the scale of
        log rates; checked in ``benchmarks/calibration.py``.
        """
        shape = self.shape
        x = float(genpareto.isf(rate / self.share, shape))
        # log(rate) = log(share) - g, where g = log(1 + shape x) / shape, or x where shape is 0.
        g_shape = (
            -(x**2) / 2
            if abs(shape * x) < 1e-4
            else (shape * x / (1 + shape * x) - np.log1p(shape * x)) / shape**2
        )
        gradient = np.array([-g_shape, x / (1 + shape * x)])  # by shape, by log(scale)
        covariance = (1 + shape) * np.array([[1 + shape, -1.0], [-1.0, 2.0]])
        variance = gradient @ covariance @ gradient + 1 - self.share
        reach = norm.isf((1 - level) / 2) * np.sqrt(variance / self.n_tail)
        return float(rate * np.exp(-reach)), float(min(rate * np.exp(reach), 1.0))

    def __str__(self) -> str:
        return (
            f"generalised Pareto tail of the {self.n_tail} lowest of {self.n_calibration:,} "
            f"calibration scores, shape {self.shape:.2g}, scale {self.scale:.3g} nats, "
            f"goodness of fit p = {self.fit_p_value:.2g}"
        )


def fit_tail(calibration_scores: ArrayLike, *, seed: int = 0) -> TailFit:
    """Fit the lower tail of calibration scores, to extrapolate beyond it.

    The tail is the lowest 10% of the scores; 5% or 2.5% where more does not fit. Excesses over a
    high enough threshold are generalised Pareto for nearly all distributions (Pickands 1975); how
    high is enough, the goodness of fit tells.

    Parameters
    ----------
    calibration_scores : (m,) array
    seed : int
        Of the simulation behind ``fit_p_value``.

    Returns
    -------
    TailFit

    Raises
    ------
    ValueError
        Fewer than 500 scores, or no tail that fits.

    Examples
    --------
    >>> scores = -np.random.default_rng(0).exponential(3.0, size=2000)
    >>> tail = fit_tail(scores)
    >>> tail.n_tail, bool(abs(tail.offset(1e-4) / -27.6 - 1) < 0.3)
    (200, True)
    """
    ordered = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    m = len(ordered)
    sizes = [int(share * m) for share in _TAIL_SHARES if int(share * m) >= _LEAST_TAIL]
    if not sizes:
        raise ValueError(
            f"Expected at least {int(_LEAST_TAIL / _TAIL_SHARES[0])} calibration rows for "
            f"tail='gpd'. Received: {m}. Calibrate with more normal rows."
        )
    fits = []
    for size in sizes:
        fits.append(_fitted(ordered, size, seed))
        if fits[-1].fit_p_value >= _LEAST_FIT_P_VALUE and fits[-1].shape > _LEAST_SHAPE:
            return fits[-1]
    raise ValueError(
        "Expected calibration scores whose tail is generalised Pareto. Received scores that are "
        "not, at any start tried:\n"
        + "\n".join(f"  {fit}" for fit in fits)
        + "\nChoose a false-alarm rate that the calibration rows can tell, or clean them."
    )


def _fitted(ordered, size, seed):
    start = ordered[size]
    excesses = start - ordered[:size]
    if not excesses.max() > 0:
        raise ValueError(
            "Expected calibration scores that differ. Received: the lowest "
            f"{size} of {len(ordered)} are all {start:.6g}."
        )
    test = goodness_of_fit(
        genpareto,
        excesses,
        known_params={"loc": 0.0},
        statistic="ad",
        n_mc_samples=_FIT_SAMPLES,
        rng=np.random.default_rng(seed),
    )
    shape, scale = test.fit_result.params.c, test.fit_result.params.scale
    return TailFit(
        start=float(start),
        n_tail=size,
        n_calibration=len(ordered),
        shape=float(shape),
        scale=float(scale),
        fit_p_value=float(test.pvalue),
    )


def offset_from_tail(rate: float, tail: TailFit) -> float:
    """Return the offset for a false-alarm rate, by extrapolation.

    Parameters
    ----------
    rate : float
        From a hundredth of 1 / (m + 1), m calibration rows, to the share of the tail.
    tail : TailFit

    Returns
    -------
    float, nats

    Raises
    ------
    ValueError
        ``rate`` is out of range.
    """
    least = 1 / (tail.n_calibration + 1) / _LARGEST_EXTRAPOLATION
    if not least <= rate <= tail.share:
        raise ValueError(
            f"Expected a rate from {least:.3g} ({_LARGEST_EXTRAPOLATION} times finer than 1 / "
            f"(calibration rows + 1)) to {tail.share:.3g} (the share of the tail) with tail='gpd'. "
            f"Received: {rate!r}."
        )
    return tail.offset(rate)


def tail_ratio(scores: ArrayLike) -> float:
    """Return how far the lowest scores are from the others.

    ``(median - mean of the lowest 5%) / (median - lower quartile)``: 3.1 for a Gaussian, 4.8 for
    an exponential tail. Scores of clean rows have about exponential tails, for a density p can
    give only a share ``t * volume`` of its own rows a density under t.

    Parameters
    ----------
    scores : (n,) array

    Returns
    -------
    float
        Infinite where half of the scores are equal and the lowest differ.

    Examples
    --------
    >>> round(tail_ratio(-np.arange(101.0)), 1)
    1.9
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    lowest = ordered[: max(1, int(np.ceil(0.05 * len(ordered))))].mean()
    quartile, median = np.quantile(ordered, [0.25, 0.5])
    if median > quartile:
        return float((median - lowest) / (median - quartile))
    return float("inf") if median > lowest else 0.0


def has_far_tail(calibration_scores: ArrayLike) -> bool:
    """Whether calibration rows have a tail that clean rows would not have.

    A test of ``tail_ratio`` against 25, of 50 scores or more. On the normal rows of 19 real tables
    it raises a false alarm for 1.9% of draws of 50 rows, 1.5% of 200 and 0.1% of 1000; on
    simulated scores with Gaussian to lognormal tails for 1% or less
    (``benchmarks/calibration.py``). It finds a few anomalies that are far from all other rows. A
    model takes anomalies that are many or alike for normal, and its scores do not show them.

    Parameters
    ----------
    calibration_scores : (m,) array

    Returns
    -------
    bool

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal(size=200)
    >>> has_far_tail(scores), has_far_tail(np.concatenate([scores, [-300.0, -900.0]]))
    (False, True)
    """
    return len(np.asarray(calibration_scores)) >= _LEAST_SCORES and (
        tail_ratio(calibration_scores) > _FAR_TAIL
    )
