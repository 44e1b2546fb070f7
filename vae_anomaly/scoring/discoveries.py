"""Decisions about a whole batch of rows: selection at a false-discovery rate, share of anomalies.

NumPy only. Both need p-values that are valid, that is, calibration rows that are normal and like
the normal rows of the batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.scoring.calibration import LEVEL, percent

# The p-value beyond which all rows count as normal. Storey's choice of it by bootstrap was worse
# in simulation: all p-values share the calibration rows, and it takes their luck for anomalies.
_LAMBDA = 0.2
_BOOTSTRAP_SAMPLES = 2000
#: Calibration rows without which no p-value is beyond that.
FEWEST_ROWS = round(1 / _LAMBDA) - 1


def p_value_cutoff(p_values: ArrayLike, fdr: float, counts: ArrayLike | None = None) -> float:
    """Return the largest p-value selected at a false-discovery rate (Benjamini & Hochberg 1995).

    Rows whose p-values are at most this are selected. The expected share of normal rows among
    them is at most ``fdr``: conformal p-values against the same calibration rows depend on each
    other in a way that the procedure allows (Bates et al. 2023, theorem 2).

    Parameters
    ----------
    p_values : (n,) array
    fdr : float in (0, 1)
    counts : (n,) array of int or None
        How many rows have each p-value; None: one.

    Returns
    -------
    float
        0.0 if no row is selected.

    Raises
    ------
    ValueError
        ``fdr`` is out of range.

    Examples
    --------
    >>> p_value_cutoff([0.001, 0.01, 0.03, 0.5], fdr=0.05)
    0.03
    >>> p_value_cutoff([0.04, 0.5], fdr=0.05)
    0.0
    """
    if not 0 < fdr < 1:
        raise ValueError(f"Expected `fdr` between 0 and 1. Received: fdr={fdr!r}")
    values, inverse = np.unique(np.asarray(p_values, dtype=np.float64), return_inverse=True)
    at_or_below = np.cumsum(np.bincount(inverse, weights=counts, minlength=len(values)))
    passed = values * at_or_below[-1:] <= fdr * at_or_below
    return float(values[passed].max()) if passed.any() else 0.0


def fewest_selected(n_rows: int, fdr: float, n_calibration: int) -> int:
    """Return how many rows must have the least p-value there is before any row is selected.

    Parameters
    ----------
    n_rows : int
        Of the batch.
    fdr : float in (0, 1)
    n_calibration : int

    Returns
    -------
    int >= 1

    Examples
    --------
    >>> fewest_selected(1000, 0.1, n_calibration=99)
    100
    """
    return max(1, int(np.ceil(n_rows / (fdr * (n_calibration + 1)) - 1e-9)))


def why_none_selected(n_rows: int, fdr: float, n_calibration: int) -> str | None:
    """Return a sentence if too few calibration rows may be why no row was selected; else None.

    Arguments as in ``fewest_selected``.
    """
    fewest = fewest_selected(n_rows, fdr, n_calibration)
    if fewest <= max(1, 0.01 * n_rows):
        return None
    return (
        f"no row is selected, and with {n_calibration} calibration rows none could be unless "
        f"{fewest} of the {n_rows} score under all of these. Calibrate with more normal rows, or "
        "raise `fdr`."
    )


@dataclass(frozen=True)
class AnomalyShare:
    """The share of anomalies in a batch, estimated without labels.

    Attributes
    ----------
    share : float in [0, 1]
        Anomalies that score as normal rows do are not counted, so it is rather too low.
    low, high : float
        Interval.
    level : float
        Confidence of the interval.
    n_rows, n_calibration : int
    """

    share: float
    low: float
    high: float
    level: float
    n_rows: int
    n_calibration: int

    def __str__(self) -> str:
        return (
            f"about {percent(self.share)} of the {self.n_rows:,} rows are anomalies, "
            f"{percent(self.low)} to {percent(self.high)} with {self.level:.0%} confidence"
        )


def estimate_anomaly_share(
    counts: ArrayLike, *, level: float = LEVEL, n_effective: float | None = None, seed: int = 0
) -> AnomalyShare:
    """Estimate the share of anomalies in a batch from its p-values (Storey 2002).

    p-values of normal rows are uniform, so about ``(1 - lambda) * n_normal`` rows have one over
    lambda = 0.2, and hardly any anomaly does. The interval is by bootstrap of the rows of the batch
    and of the calibration rows: with few of the latter, p-values are uniform on average only, and
    that uncertainty outweighs all others.

    Parameters
    ----------
    counts : (m + 1,) array of int
        How many rows of the batch have 0, 1, ... m of the m calibration scores at or below
        theirs; their p-values are ``(1 + that) / (m + 1)``.
    level : float in (0, 1)
    n_effective : float or None
        As how many independent calibration scores the m count; None: m.
    seed : int
        Of the bootstrap.

    Returns
    -------
    AnomalyShare

    Raises
    ------
    ValueError
        No rows, or fewer than four calibration rows.

    Examples
    --------
    >>> counts = np.full(1000, 10)  # p-values 0.001, 0.002, ... 1, of 10,000 normal rows
    >>> counts[0] += 500
    >>> share = estimate_anomaly_share(counts)
    >>> round(share.share, 2), share.low < 0.05 < share.high
    (0.05, True)
    """
    counts = np.asarray(counts, dtype=np.int64)
    m, n_rows = len(counts) - 1, int(counts.sum())
    # A p-value is over lambda if this many calibration scores or more are at or below.
    first = int(np.floor(_LAMBDA * (m + 1) + 1e-9))
    if n_rows == 0 or first == 0:
        raise ValueError(
            "Expected rows to estimate their share of anomalies, and at least "
            f"{FEWEST_ROWS} calibration rows. Received: {n_rows} and {m}."
        )
    with_at_least = np.cumsum(counts[::-1])[::-1]  # 0, 1, ... m calibration scores below
    normal_over = 1 - first / (m + 1)
    share = 1 - with_at_least[first] / n_rows / normal_over
    # The first-th smallest of calibration scores drawn with replacement is the one with this rank.
    rng = np.random.default_rng(seed)
    weight = (m if n_effective is None else n_effective) / m
    uniform = rng.beta(weight * first, weight * (m + 1 - first), size=_BOOTSTRAP_SAMPLES)
    over = with_at_least[np.ceil(m * uniform).astype(int)]
    drawn = 1 - rng.binomial(n_rows, over / n_rows) / n_rows / normal_over
    tail = (1 - level) / 2
    share, low, high = np.clip([share, *np.quantile(drawn, [tail, 1 - tail])], 0.0, 1.0)
    return AnomalyShare(float(share), float(low), float(high), float(level), n_rows, m)
