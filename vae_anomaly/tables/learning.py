"""What a preprocessor learns from training columns: scales, levels, parts of dates, profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vae_anomaly.tables.date_features import numbers_of
from vae_anomaly.tables.date_parts import DateParts, learn_parts
from vae_anomaly.tables.grids import DATE_STEPS, DECIMAL_STEPS, find_grid
from vae_anomaly.tables.model_columns import ModelColumns
from vae_anomaly.tables.profiles import Profile, learn_profiles
from vae_anomaly.tables.rules import DATE_KINDS
from vae_anomaly.tables.scales import NumberScale, learn_scale

Arrays = Mapping[str, np.ndarray]


class Learned(NamedTuple):
    """What ``learn`` finds in training columns."""

    columns: ModelColumns
    levels: dict[str, list[str]]
    dates: dict[str, DateParts]
    missing_shares: list[float]  #: by column of the table
    bounds: np.ndarray  #: (columns with a unit, 2), lowest and highest value
    grid: np.ndarray  #: (columns with a unit,)
    scales: list[NumberScale | None]  #: by number of the model; None: booleans, empty columns
    profiles: list[Profile]


def learn(
    kinds: Mapping[str, str],
    arrays: Arrays,
    *,
    max_levels: int,
    normal_scores: bool,
    weights: np.ndarray | None = None,
) -> Learned:
    """Learn all that there is to learn from training columns.

    Parameters
    ----------
    kinds : mapping of column name to kind
    arrays : mapping of column name to array (n,)
    max_levels, normal_scores
        As of ``TablePreprocessor``.
    weights : (n,) float64 array or None
        Positive. They count in shares, frequencies of levels, centers, scales and normal scores;
        which parts of dates are modelled, ranges, grids and steps are those of all rows.

    Raises
    ------
    ValueError
        A column contains an infinity; there are dates alone, and too few to tell anything.
    """
    columns = {
        name: np.asarray(arrays[name], dtype=object)
        if kind == "categorical"
        else _finite(name, arrays[name])
        for name, kind in kinds.items()
    }
    levels = {
        name: _most_frequent(columns[name], max_levels, weights)
        for name, kind in kinds.items()
        if kind == "categorical"
    }
    dates = learn_parts({name: columns[name] for name, kind in kinds.items() if kind == "datetime"})
    of_model = ModelColumns.of(kinds, dates)
    bounds, grid = _limits(kinds, columns)
    since = {name: parts.since for name, parts in dates.items()}
    return Learned(
        of_model,
        levels,
        dates,
        [
            float(np.average(array == "" if name in levels else np.isnan(array), weights=weights))
            for name, array in columns.items()
        ],
        bounds,
        grid,
        _scales(kinds, of_model, since, columns, normal_scores, weights),
        learn_profiles(of_model, levels, since, columns, weights),
    )


def _finite(name, values):
    values = np.asarray(values, dtype=np.float64)
    if np.isinf(values).any():
        raise ValueError(
            f"Column {name!r}: expected finite numbers. Received: infinity in row "
            f"{np.flatnonzero(np.isinf(values))[0]}. Replace it or mark it as missing."
        )
    return values


def _most_frequent(texts, max_levels, weights):
    present = texts != ""
    found, place, n_cells = np.unique(texts[present], return_inverse=True, return_counts=True)
    counts = n_cells
    if weights is not None:
        counts = np.bincount(place, weights[present], minlength=len(found))
    kept = n_cells > 1
    if np.sum(kept) > max_levels:
        # Of equally frequent values all are levels, or none: the alphabet does not choose.
        kept &= counts > np.sort(counts[kept])[-max_levels - 1]
    return sorted(str(level) for level in found[kept])


def _limits(kinds, columns):
    bounds, grid = [], []
    for name, kind in kinds.items():
        if kind not in ("numeric", *DATE_KINDS):
            continue
        values = columns[name][~np.isnan(columns[name])]
        bounds.append([values.min(), values.max()] if values.size else [0.0, 0.0])
        grid.append(find_grid(values, DATE_STEPS if kind in DATE_KINDS else DECIMAL_STEPS))
    return np.reshape(bounds, (-1, 2)), np.array(grid)


def _scales(kinds, of_model, since, columns, normal_scores, weights):
    scales = []
    for name, part in of_model.numbers:
        takes_scores = part == "since" or kinds[name] == "numeric"
        for values in map(np.asarray, numbers_of(name, part, since, columns)):
            present = ~np.isnan(values)
            learned = None
            if present.any() and kinds[name] != "boolean":
                learned = learn_scale(
                    values[present],
                    normal_scores=normal_scores and takes_scores,
                    weights=None if weights is None else weights[present],
                )
            scales.append(learned)
    return scales
