"""What a preprocessor learns from training columns: scales, levels, parts of dates, profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vae_anomaly.tables.all_rows import AllRows
from vae_anomaly.tables.columns import check_finite
from vae_anomaly.tables.date_features import numbers_of
from vae_anomaly.tables.date_parts import DateParts, learn_parts
from vae_anomaly.tables.grids import DATE_STEPS, DECIMAL_STEPS, find_grid
from vae_anomaly.tables.model_columns import ModelColumns
from vae_anomaly.tables.profiles import Profile, learn_profiles
from vae_anomaly.tables.rules import DATE_KINDS
from vae_anomaly.tables.scales import NumberScale, learn_scale

Arrays = Mapping[str, np.ndarray]


class Known(NamedTuple):
    """What an earlier ``learn`` has found, and stays."""

    levels: Mapping[str, Sequence[str]]
    dates: Mapping[str, DateParts]
    takes_levels: bool  #: whether new levels come behind those known


class Learned(NamedTuple):
    """What ``learn`` finds in training columns."""

    columns: ModelColumns
    levels: dict[str, list[str]]
    dates: dict[str, DateParts]
    missing_shares: list[float]  #: by column of the table
    bounds: np.ndarray  #: (columns with a unit, 2), lowest and highest value
    grid: np.ndarray  #: (columns with a unit,)
    #: By number of the model; None: booleans, empty columns. Empty where they are ``Known``.
    scales: list[NumberScale | None]
    profiles: list[Profile]


def learn(
    kinds: Mapping[str, str],
    arrays: Arrays,
    *,
    max_levels: int,
    normal_scores: bool,
    weights: np.ndarray | None = None,
    all_rows: AllRows | None = None,
    known: Known | None = None,
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
    all_rows : AllRows or None
        What all rows show, where ``arrays`` are a sample of them: levels, shares, ranges, parts of
        dates, centers, scales and normal scores are by all rows; grids and profiles by the sample.
    known : Known or None
        From an earlier call: levels and parts of dates stay, and no scales are learned, for
        networks were trained on numbers in those of before.

    Raises
    ------
    ValueError
        A column contains an infinity; there are dates alone, and too few to tell anything.
    """
    columns = {
        name: np.asarray(arrays[name], dtype=object)
        if kind == "categorical"
        else np.asarray(arrays[name], dtype=np.float64)
        for name, kind in kinds.items()
    }
    check_finite(columns)
    seen: Any = all_rows or _Cells(kinds, columns, weights)
    levels = {
        name: _most_frequent(seen.level_counts(name), max_levels)
        for name, kind in kinds.items()
        if kind == "categorical"
    }
    dates = seen.date_parts() if known is None else dict(known.dates)
    for name, kept in (known.levels if known else {}).items():
        new = [level for level in levels[name] if level not in kept]
        levels[name] = [*kept, *(new if known and known.takes_levels else [])]
    of_model = ModelColumns.of(kinds, dates)
    measured = [name for name, kind in kinds.items() if kind in ("numeric", *DATE_KINDS)]
    since = {name: parts.since for name, parts in dates.items()}
    return Learned(
        of_model,
        levels,
        dates,
        [seen.missing_share(name) for name in kinds],
        np.reshape([seen.bounds(name) for name in measured], (-1, 2)),
        np.array([_grid(kinds[name], columns[name]) for name in measured]),
        _scales(kinds, of_model, since, seen, normal_scores) if known is None else [],
        learn_profiles(of_model, levels, since, columns, weights),
    )


class _Cells:
    """What training rows in memory show; ``AllRows`` says the same of rows that are read once."""

    def __init__(self, kinds, columns, weights):
        self._kinds, self._columns, self._weights = kinds, columns, weights

    def level_counts(self, name):
        texts = self._columns[name]
        present = texts != ""
        found, place, n_cells = np.unique(texts[present], return_inverse=True, return_counts=True)
        if self._weights is None:
            return found, n_cells, n_cells
        return found, n_cells, np.bincount(place, self._weights[present], minlength=len(found))

    def date_parts(self):
        kinds, columns = self._kinds, self._columns
        return learn_parts({n: columns[n] for n, kind in kinds.items() if kind == "datetime"})

    def missing_share(self, name):
        cells = self._columns[name]
        missing = cells == "" if self._kinds[name] == "categorical" else np.isnan(cells)
        return float(np.average(missing, weights=self._weights))

    def bounds(self, name):
        values = self._columns[name][~np.isnan(self._columns[name])]
        return [values.min(), values.max()] if values.size else [0.0, 0.0]

    def numbers(self, name, part, since):
        for values in map(np.asarray, numbers_of(name, part, since, self._columns)):
            present = ~np.isnan(values)
            yield values[present], None if self._weights is None else self._weights[present]


def _most_frequent(level_counts, max_levels):
    found, n_cells, counts = level_counts
    kept = n_cells > 1
    if np.sum(kept) > max_levels:
        # Of equally frequent values all are levels, or none: the alphabet does not choose.
        kept &= counts > np.sort(counts[kept])[-max_levels - 1]
    return sorted(str(level) for level in found[kept])


def _grid(kind, values):
    values = values[~np.isnan(values)]
    return find_grid(values, DATE_STEPS if kind in DATE_KINDS else DECIMAL_STEPS)


def _scales(kinds, of_model, since, seen, normal_scores):
    scales = []
    for name, part in of_model.numbers:
        takes_scores = part == "since" or kinds[name] == "numeric"
        for values, weights in seen.numbers(name, part, since):
            learned = None
            if len(values) and kinds[name] != "boolean":
                learned = learn_scale(
                    values, normal_scores=normal_scores and takes_scores, weights=weights
                )
            scales.append(learned)
    return scales
