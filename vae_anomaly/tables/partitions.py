"""Rows of a table in partitions, each read where it is: what each shows is merged into a whole."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vae_anomaly.tables.bad_rows import BadRows
from vae_anomaly.tables.inspecting import Inspection
from vae_anomaly.tables.parquet_rows import ParquetPiece, piece_of
from vae_anomaly.tables.reader import check_columns, check_names, check_type, chunk_of
from vae_anomaly.tables.rows import Part, RowSource, add_part
from vae_anomaly.tables.sampling import RowSample, largest_key
from vae_anomaly.tables.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

    Batches = Iterator[pa.RecordBatch]

_WHERE = "the DataFrame"
_CHANGED = (
    "{}: expected the same rows each time they are computed, received {} rows, and {} before; "
    "write them to files, or cache them, and fit on that"
)


class PartitionedRows(RowSource):
    """Rows in partitions that workers read; what they show and a sample of them come here.

    All partitions are read twice: first they tell what columns are, or just how many rows they
    have where a schema is known, then what ``AllRows`` asks. So each knows the numbers of its rows
    in the table, by which a sample is drawn. At most twice as many rows as the sample has come
    here, for some may be bad.

    Parameters
    ----------
    types : sequence of (str, str)
        The columns, and Arrow's names of their types.
    max_bad_rows : int or None
        More are an error. None: half of all rows.

    Attributes
    ----------
    n_rows : int
        How many rows there are, bad ones too, once they were read.
    """

    def __init__(self, types: Sequence[tuple[str, str]], max_bad_rows: int | None) -> None:
        check_names(_WHERE, [name for name, _ in types])
        self.bad = BadRows(None, max_bad_rows)
        self.dtypes: dict[str, str] = {}
        self.n_rows = 0
        self._types = dict(types)
        self._sizes: dict[int, int] = {}

    @abstractmethod
    def in_partitions(
        self, read: Callable[[int, Batches], Any], columns: Sequence[str]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the number of each partition, ascending, and what a function returns for it.

        Parameters
        ----------
        read : callable
            It pickles, takes the number of a partition and its rows, and may raise ValueError.
        columns : sequence of str
            Those that it needs.
        """

    def inspect(self, *, kinds: Mapping[str, str] | None = None) -> Schema:
        inspection = Inspection(kinds=kinds)
        inspection.add_types(_WHERE, self._types)
        counted = [name for name in self._types if inspection.is_counted(name)]
        read = functools.partial(_inspected, dict(kinds or {}), list(self._types))
        self._sizes = {}
        for partition, found in self.in_partitions(read, counted):
            self._sizes[partition] = found.n_rows
            inspection.merge(found)
        self._check_rows()
        return inspection.decide()

    def sample(self, schema: Schema, max_rows: int, seed: int) -> RowSample:
        check_columns(_WHERE, list(self._types), schema.kinds, ignore=self._types)
        for name, kind in schema.kinds.items():
            check_type(self._types[name], kind, f"{_WHERE}, column {name!r}")
        columns = list(schema.kinds)
        if not self._sizes:
            self._sizes = dict(self.in_partitions(_counted, columns))
            self._check_rows()
        first_rows, first_row = {}, 0
        for partition, size in self._sizes.items():
            first_rows[partition] = first_row
            first_row += size
        largest = largest_key(self.n_rows, 2 * max_rows, seed)
        plan = _Plan(schema, 2 * max_rows, seed, largest, first_rows, self._sizes)
        sample = RowSample(schema.kinds, max_rows, seed)
        for _, (of_partition, bad) in self.in_partitions(
            functools.partial(_sampled, plan), columns
        ):
            self.bad.merge(bad)
            sample.merge(of_partition)
        if (n_rows := sample.n_rows + self.bad.n_rows) != self.n_rows:
            raise ValueError(_CHANGED.format(_WHERE, n_rows, self.n_rows))
        if not sample.n_rows:
            raise ValueError(f"Expected a row to fit on. All are bad; the first: {self.bad.first}")
        return sample

    def _check_rows(self) -> None:
        self.n_rows = sum(self._sizes.values())
        if not self.n_rows:
            raise ValueError("Expected rows to fit on. Received: 0 sample(s).")


class _Plan(NamedTuple):
    """What workers have to know to draw a sample."""

    schema: Schema
    max_rows: int
    seed: int
    largest: int | None  #: as of ``RowSample``
    first_rows: dict[int, int]  #: the number of the first row of each partition
    sizes: dict[int, int]


def _inspected(
    kinds: Mapping[str, str], names: Sequence[str], _: int, batches: Batches
) -> Inspection:
    inspection = Inspection(kinds=kinds)
    inspection.add_columns(_WHERE, names)
    for piece in _pieces(batches, 0):
        inspection.add_rows(_WHERE, piece.table, piece.bad)
    return inspection


def _counted(_: int, batches: Batches) -> int:
    return sum(batch.num_rows for batch in batches)


def _sampled(plan: _Plan, partition: int, batches: Batches) -> tuple[RowSample, BadRows]:
    first_row, size = plan.first_rows.get(partition, 0), plan.sizes.get(partition, 0)
    sample = RowSample(
        plan.schema.kinds, plan.max_rows, plan.seed, first_row=first_row, largest=plan.largest
    )
    bad = BadRows()
    for piece in _pieces(batches, first_row):
        chunk = chunk_of(_WHERE, piece, plan.schema, keep_bad=True)
        add_part(sample, Part(chunk.arrays, chunk.bad, _WHERE), bad)
    if (n_rows := sample.n_rows + bad.n_rows) != size:
        raise ValueError(_CHANGED.format(f"{_WHERE}, partition {partition}", n_rows, size))
    return sample, bad


def _pieces(batches: Batches, first_row: int) -> Iterator[ParquetPiece]:
    import pyarrow as pa

    for batch in batches:
        yield piece_of(_WHERE, pa.Table.from_batches([batch]), first_row)
        first_row += batch.num_rows
