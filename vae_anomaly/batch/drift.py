"""Which columns of a batch are distributed unlike those of the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables import profiles
from vae_anomaly.tables.date_parts import DAY, WEEK

if TYPE_CHECKING:
    from vae_anomaly.tables.preprocessing import TablePreprocessor

# A cycle is compared where the batch spans more than one: else each day's file has drifted.
_SPANS = {"time": DAY, "weekday": WEEK, "month": 366 * DAY}
_WORDS = {"time": "times of day", "weekday": "weekdays", "month": "months", "since": "differences"}


class DriftTally:
    """Counts the cells of a batch by the bins of the training rows' profiles.

    Parameters
    ----------
    preprocessor : TablePreprocessor
        Adapted.
    state : list or None
        The ``state`` of an earlier tally, to go on from.
    """

    def __init__(self, preprocessor: TablePreprocessor, state: list[Any] | None = None) -> None:
        self._profiles = preprocessor.profiles
        self._levels, self._since = preprocessor.levels, preprocessor.since
        state = state or [[[0.0] * len(p.counts) for p in self._profiles], {}]
        self._counts = [np.array(counts) for counts in state[0]]
        self._spans: dict[str, list[float]] = {name: list(span) for name, span in state[1].items()}

    def update(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Count the rows of a chunk."""
        for profile, counts in zip(self._profiles, self._counts, strict=True):
            counts += profiles.count(profile, self._levels, self._since, arrays)
        for name in self._since:
            dates = arrays[name][np.isfinite(arrays[name])]
            if dates.size:
                low, high = self._spans.get(name, [np.inf, -np.inf])
                self._spans[name] = [min(low, float(dates.min())), max(high, float(dates.max()))]

    def state(self) -> list[Any]:
        """Return all counts as plain data, for JSON."""
        return [[counts.tolist() for counts in self._counts], self._spans]

    def found(self) -> list[dict[str, Any]]:
        """Return the parts of columns that have drifted, as ``profiles.has_drifted`` tells.

        Returns
        -------
        list of dict
            ``column``; ``part``: "value", or of dates what was compared; ``index``, the population
            stability index.
        """
        found = []
        for profile, counts in zip(self._profiles, self._counts, strict=True):
            low, high = self._spans.get(profile.column, (0.0, 0.0))
            if high - low <= _SPANS.get(profile.part, -1.0):
                continue
            index = profiles.stability_index(profile.counts, counts.tolist())
            if profiles.has_drifted(index, profile.counts, counts.tolist(), len(self._profiles)):
                found.append({"column": profile.column, "part": profile.part, "index": index})
        return found


def what_drifted(found: Mapping[str, Any]) -> str:
    """Return what an item of ``DriftTally.found`` is of, with its verb."""
    if found["part"] == "value":
        return f"column {found['column']!r}: values are"
    return f"column {found['column']!r}: {_WORDS[found['part']]} are"
