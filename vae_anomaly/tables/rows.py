"""Rows of a table, all or a part, as named arrays; and what those are read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vae_anomaly.tables.all_rows import AllRows
from vae_anomaly.tables.bad_rows import BadRows
from vae_anomaly.tables.pieces import BadRow
from vae_anomaly.tables.sampling import RowSample
from vae_anomaly.tables.schema import Schema


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


class RowSource(ABC):
    """Rows of a table that are not in memory, as ``fit`` takes them.

    Attributes
    ----------
    bad : BadRows
        Where those go that are not as expected.
    dtypes : dict of str to str
        Once all rows were read, as of ``TableRows``.
    """

    bad: BadRows
    dtypes: dict[str, str]

    @abstractmethod
    def inspect(self, *, kinds: Mapping[str, str] | None = None) -> Schema:
        """Read all rows, and decide what the columns are."""

    @abstractmethod
    def sample(self, schema: Schema, max_rows: int, seed: int) -> RowSample:
        """Read all rows, count the bad ones in ``bad``, and keep a sample of the others."""


class RowParts(RowSource):
    """A source of rows that are read in parts, one after the other, in this process."""

    @abstractmethod
    def parts(self, schema: Schema) -> Iterator[Part]:
        """Read all rows."""

    def sample(self, schema: Schema, max_rows: int, seed: int) -> RowSample:
        sample = RowSample(schema.kinds, max_rows, seed)
        for part in self.parts(schema):
            add_part(sample, part, self.bad)
        return sample


def add_part(sample: RowSample, part: Part, bad: BadRows) -> None:
    """Add the rows of a part to a sample, and its bad rows to the others.

    Raises
    ------
    ValueError
        A column contains an infinity; there are too many bad rows.
    """
    bad.add(part.where, part.bad)
    for name, array in part.arrays.items():
        if array.dtype.kind == "f" and np.isinf(array).any():
            raise ValueError(
                f"{part.where}, column {name!r}: expected finite numbers. Received: infinity. "
                "Replace it or mark it as missing."
            )
    sample.add(part.arrays)
