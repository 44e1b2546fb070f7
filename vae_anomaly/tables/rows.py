"""Rows of a table as a reader made them, all or a part: named arrays, and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vae_anomaly.tables.pieces import BadRow
from vae_anomaly.tables.schema import Schema

if TYPE_CHECKING:
    from vae_anomaly.tables.all_rows import AllRows


class Part(NamedTuple):
    """Consecutive rows of a table that is read in parts."""

    arrays: dict[str, np.ndarray]  #: the modelled columns of those that are good
    bad: Sequence[BadRow]
    where: object  #: the file, or what else they are from


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows that a detector can be fitted on.

    Attributes
    ----------
    schema : Schema
    arrays : dict of str to numpy.ndarray, each (n,)
        The modelled columns, as ``reader.read_arrays`` and ``columns.frame_arrays`` make them.
    all_rows : AllRows or None
        What all rows show, where these are a sample of them.
    dtypes : dict of str to str
        The types of whole numbers that columns of DataFrames had, see ``columns.whole_dtypes``.
    """

    schema: Schema
    arrays: dict[str, np.ndarray]
    all_rows: AllRows | None = None
    dtypes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))
