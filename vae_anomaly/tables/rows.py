"""Rows of a table in memory, as a reader made them: named arrays, and the schema they follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_anomaly.tables.schema import Schema


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows that a detector can be fitted on.

    Attributes
    ----------
    schema : Schema
    arrays : dict of str to numpy.ndarray, each (n,)
        The modelled columns, as ``reader.read_arrays`` and ``columns.frame_arrays`` make them.
    """

    schema: Schema
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))
