"""Rows of correlated numbers: mixtures of eight normal factors, and noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 100_000  #: rows of a block
_N_FACTORS = 8


def correlated(n_rows: int, n_columns: int, rng: np.random.Generator) -> np.ndarray:
    """Return rows, (n_rows, n_columns); how columns depend on each other is always the same."""
    mixing = np.random.default_rng(0).normal(size=(_N_FACTORS, n_columns))
    noise = 0.3 * rng.normal(size=(n_rows, n_columns))
    return rng.normal(size=(n_rows, _N_FACTORS)) @ mixing + noise


def frames(n_rows: int, n_columns: int, seed: int = 0) -> Iterator[pd.DataFrame]:
    """Yield rows of columns c0, c1, ..., in blocks of ``BLOCK`` at most."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    for start in range(0, n_rows, BLOCK):
        rows = correlated(min(BLOCK, n_rows - start), n_columns, rng)
        yield pd.DataFrame(rows).add_prefix("c")
