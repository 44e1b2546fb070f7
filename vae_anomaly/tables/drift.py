"""Which columns of a batch are unlike those of the training rows: shares and distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables import profiles
from vae_anomaly.tables.date_parts import DAY, WEEK

if TYPE_CHECKING:
    from vae_anomaly.tables.preprocessing import TablePreprocessor

# A cycle is compared where the batch spans more than one: else each day's file has drifted.
_SPANS = {"time": DAY, "weekday": WEEK, "month": 366 * DAY}
_WORDS = {"time": "times of day", "weekday": "weekdays", "month": "months", "since": "differences"}
# A share has moved by more than chance, in standard errors, and by more than this.
_ERRORS, _LEAST_MOVE = 5, 0.01


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

    def compared(self) -> Iterator[tuple[profiles.Profile, float, bool]]:
        """Yield what is compared, its stability index, and whether ``has_drifted`` tells.

        Parts of dates are left out where the batch spans no more than one of their cycles.
        """
        for profile, counts in zip(self._profiles, self._counts, strict=True):
            low, high = self._spans.get(profile.column, (0.0, 0.0))
            if high - low <= _SPANS.get(profile.part, -1.0):
                continue
            batch = counts.tolist()
            index = profiles.stability_index(profile.counts, batch)
            yield (
                profile,
                index,
                profiles.has_drifted(index, profile.counts, batch, len(self._profiles)),
            )

    def found(self) -> list[dict[str, Any]]:
        """Return the parts of columns that have drifted.

        Returns
        -------
        list of dict
            ``column``; ``part``: "value", or of dates what was compared; ``index``, the population
            stability index.
        """
        return [
            {"column": profile.column, "part": profile.part, "index": index}
            for profile, index, has_drifted in self.compared()
            if has_drifted
        ]


def part_in_words(part: str) -> str:
    """Return what a part of a column is: "values", "weekdays" and the like."""
    return _WORDS.get(part, "values")


def what_drifted(found: Mapping[str, Any]) -> str:
    """Return what an item of ``DriftTally.found`` is of, with its verb."""
    return f"column {found['column']!r}: {part_in_words(found['part'])} are"


def n_trained(preprocessor: TablePreprocessor) -> float:
    """Return how many rows trained, by the cells counted and the shares that were missing."""
    missing = {column["name"]: column["missing_share"] for column in preprocessor.schema()}
    return max(
        (
            sum(profile.counts) / (1 - missing[profile.column])
            for profile in preprocessor.profiles
            if missing[profile.column] < 1
        ),
        default=1.0,
    )


def rare_shares(preprocessor: TablePreprocessor) -> dict[str, float]:
    """Return the shares of the training rows' cells that are none of the levels, by column."""
    return {
        profile.column: profile.counts[0] / max(1.0, sum(profile.counts))
        for profile in preprocessor.profiles
        if profile.column in preprocessor.levels
    }


def has_moved(share: float, expected: float, n: float, m: float) -> bool:
    """Whether a share of n cells of a batch is unlike that of m cells of the training rows.

    It must be by more than a hundredth, and by more than five standard errors.
    """
    pooled = (share * n + expected * m) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return bool(abs(share - expected) > max(_LEAST_MOVE, _ERRORS * error))
