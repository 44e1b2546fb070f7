"""How the cells of a column are distributed over a few bins, to tell whether a batch differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from vae_anomaly.tables.date_parts import DAY, FIRST_SECOND, LAST_SECOND
from vae_anomaly.tables.model_columns import ModelColumns

#: A column has drifted beyond this index, if that is also more than chance gives.
LARGEST_INDEX = 0.25
#: Share of batches like the training rows in which some column is said to have drifted, about.
FALSE_ALARM_RATE = 0.001
_DECILES = np.arange(1, 10) / 10
# Three hours each.
_N_TIMES = 8


class Profile(NamedTuple):
    """The training rows' cells of a part of a column, counted by bins."""

    column: str
    part: str  #: as in ``ModelColumns``
    edges: list[float]  #: of numbers: ascending upper ends of all bins but the last
    counts: list[float]


def learn_profiles(
    columns: ModelColumns,
    levels: Mapping[str, Sequence[str]],
    since: Mapping[str, str | None],
    arrays: Mapping[str, np.ndarray],
    weights: np.ndarray | None = None,
) -> list[Profile]:
    """Count the training rows' cells.

    Parameters
    ----------
    columns : ModelColumns
    levels : mapping of categorical column name to sequence of str
    since : mapping of datetime column name to that of the date before it, or None
    arrays : mapping of column name to array (n,)
    weights : (n,) array or None
        Of the rows.

    Returns
    -------
    list of Profile
    """
    profiles = []
    for column, part in columns.all:
        edges: list[float] = []
        if column not in levels and part in ("value", "since"):
            values = _numbers(column, part, since, arrays)
            edges = _edges(values[np.isfinite(values)])
        empty = Profile(column, part, edges, [])
        counts = count(empty, levels, since, arrays, weights)
        profiles.append(empty._replace(counts=counts.tolist()))
    return profiles


def _edges(values):
    """Deciles; and ends of the range, so that what is beyond has bins of its own."""
    if not values.size:
        return []
    deciles = np.quantile(values, _DECILES, method="inverted_cdf")
    below = np.nextafter(values.min(), -np.finfo(np.float64).max)
    return np.unique([below, *deciles, values.max()]).tolist()


def count(
    profile: Profile,
    levels: Mapping[str, Sequence[str]],
    since: Mapping[str, str | None],
    arrays: Mapping[str, np.ndarray],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count cells by the bins of a profile; missing cells are left out.

    Parameters
    ----------
    profile : Profile
    levels, since, arrays, weights
        As of ``learn_profiles``.

    Returns
    -------
    (bins,) float64 array
    """
    column, part = profile.column, profile.part
    array = arrays[column]
    if column in levels:
        return _count_levels(array, levels[column], weights)
    values = _numbers(column, part, since, arrays)
    present = ~np.isnan(values)
    weights = None if weights is None else weights[present]
    values = values[present]
    if part in ("value", "since") and weights is None:  # of few edges faster than a search
        above = [np.count_nonzero(values > edge) for edge in profile.edges]
        return -np.diff([len(values), *above, 0]).astype(np.float64)
    if part in ("value", "since"):
        n_bins, places = len(profile.edges) + 1, np.searchsorted(profile.edges, values)
    else:
        n_bins, places = _cycle(values, part)
    return np.bincount(places, weights, minlength=n_bins).astype(np.float64)


def _count_levels(texts, levels, weights):
    """Cells of each level, behind those of all other values."""
    place = {level: index for index, level in enumerate(levels, 1)}
    counts = np.zeros(len(levels) + 1)
    if weights is None:
        for text, n in Counter(texts.tolist()).items():
            counts[place.get(text, 0)] += n if text else 0
        return counts
    np.add.at(counts, [place.get(text, 0) for text in texts], weights * (texts != ""))
    return counts


def _numbers(column, part, since, arrays):
    values = np.asarray(arrays[column], dtype=np.float64)
    if part != "since":
        return values
    with np.errstate(invalid="ignore"):
        return values - np.asarray(arrays[since[column]], dtype=np.float64)


def _cycle(seconds, part):
    """The bins of moments within a cycle; what is no date goes into one of its own."""
    valid = (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND)
    safe = np.where(valid, seconds, 0.0)
    if part == "month":
        n_bins, places = 12, safe.astype("datetime64[s]").astype("datetime64[M]").astype(int) % 12
    elif part == "weekday":
        n_bins, places = 7, (safe // DAY).astype(int) % 7
    else:
        n_bins, places = _N_TIMES, (safe % DAY * (_N_TIMES / DAY)).astype(int)
    return n_bins + 1, np.where(valid, places, n_bins)


def stability_index(training: Sequence[float], batch: Sequence[float]) -> float:
    r"""Return the population stability index of two counts by bins.

    .. math:: \sum_i (b_i - t_i) \log(b_i / t_i)

    with shares t of the training rows, half a row more in each bin, and b of the batch, a row more
    for each bin, distributed as the training rows, so that empty bins cost little.

    Parameters
    ----------
    training, batch : sequences of float, (bins,)

    Examples
    --------
    >>> round(stability_index([500, 500], [90, 10]), 2), stability_index([500, 500], [50, 50])
    (0.83, 0.0)
    """
    t = np.asarray(training, dtype=np.float64) + 0.5
    t /= t.sum()
    b = np.asarray(batch, dtype=np.float64) + len(t) * t
    b /= b.sum()
    return float(np.sum((b - t) * np.log(b / t)))


def has_drifted(
    index: float, training: Sequence[float], batch: Sequence[float], n_compared: int
) -> bool:
    r"""Whether a stability index says that a batch is unlike the training rows.

    It must be beyond ``LARGEST_INDEX``, and beyond what chance gives: of n and m rows like each
    other it is about :math:`(1/n + 1/m) \chi^2` with as many degrees of freedom as bins, less one
    (Yurdakul & Naranjo 2020, "Statistical properties of the population stability index").

    Parameters
    ----------
    index : float
    training, batch : sequences of float, (bins,)
    n_compared : int
        How many indices are looked at: all of them together raise ``FALSE_ALARM_RATE``.
    """
    n, m = float(np.sum(batch)), float(np.sum(training))
    if not n or not m:
        return False
    quantile = chi2.isf(FALSE_ALARM_RATE / n_compared, max(1, len(training) - 1))
    return index > max(LARGEST_INDEX, (1 / n + 1 / m) * float(quantile))
