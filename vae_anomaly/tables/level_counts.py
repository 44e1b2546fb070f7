"""How often each text is there, in bounded memory: exact unless very many texts differ."""

from __future__ import annotations

from collections import Counter

import numpy as np

#: Counts are exact as long as a column has at most twice as many values.
MOST_VALUES = 100_000


class LevelCounts:
    """Counts of the texts of a column, added part by part.

    Beyond ``2 * MOST_VALUES`` distinct texts the rare ones are forgotten, and all counts are too
    low, by at most one in ``MOST_VALUES`` of the texts that were counted (Misra & Gries 1982,
    "Finding repeated elements"; pruned as in Agarwal et al. 2012, "Mergeable summaries").

    Examples
    --------
    >>> counts = LevelCounts()
    >>> counts.add(np.array(["a", "b", "a"], dtype=object))
    >>> counts.arrays()
    (array(['a', 'b'], dtype=object), array([2, 1]))
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, texts: np.ndarray) -> None:
        """Count texts, (n,) objects."""
        self._counts.update(texts.tolist())
        self._drop_rare()

    def merge(self, other: LevelCounts) -> None:
        """Count what the other has counted too."""
        self._counts.update(other._counts)
        self._drop_rare()

    def _drop_rare(self) -> None:
        if len(self._counts) > 2 * MOST_VALUES:
            counts = np.fromiter(self._counts.values(), dtype=np.int64)
            least = int(np.partition(counts, -MOST_VALUES - 1)[-MOST_VALUES - 1])
            kept = {text: n - least for text, n in self._counts.items() if n > least}
            self._counts = Counter(kept)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts, sorted, (m,) objects, and how often each is there, (m,) int."""
        found = sorted(self._counts)
        counts = np.array([self._counts[text] for text in found], dtype=np.int64)
        return np.array(found, dtype=object), counts
