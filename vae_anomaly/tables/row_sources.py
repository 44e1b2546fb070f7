"""Sources of rows that are read in parts: data sets of Arrow and iterables of DataFrames."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables.bad_rows import BadRows
from vae_anomaly.tables.columns import BadCell, frame_arrays, whole_dtypes
from vae_anomaly.tables.frames import in_pandas, is_frame
from vae_anomaly.tables.inspecting import Inspection
from vae_anomaly.tables.parquet_rows import index_columns, piece_of
from vae_anomaly.tables.pieces import BadRow
from vae_anomaly.tables.reader import check_columns, check_names, chunk_of, wrong_cell
from vae_anomaly.tables.rows import Part, RowParts, RowSource
from vae_anomaly.tables.schema import Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_BATCH_ROWS = 2**15
_DATA_SET = "the data set"  # its name in messages


def row_source(X: Any) -> RowSource | None:
    """Return what reads the rows of X; None if they are in memory, or no rows at all.

    Parameters
    ----------
    X : object
        A ``RowSource``, a ``pyarrow.dataset.Dataset``, or an iterable of DataFrames.
    """
    if isinstance(X, RowSource):
        return X
    arrow = sys.modules.get("pyarrow.dataset")
    if arrow is not None and isinstance(X, arrow.Dataset):
        return DatasetRows(X)
    if isinstance(X, (list, tuple)):
        return FrameRows(X) if X and is_frame(in_pandas(X[0])) else None
    is_plain = isinstance(X, (str, bytes, Mapping)) or hasattr(X, "__array__")
    if is_plain or hasattr(X, "shape") or not hasattr(X, "__iter__"):
        return None
    return FrameRows(X)


class DatasetRows(RowParts):
    """The rows of a data set."""

    def __init__(self, dataset: Any) -> None:
        self.bad = BadRows()
        self.dtypes: dict[str, str] = {}
        self._dataset = dataset
        index = index_columns(_DATA_SET, dataset.schema)
        self._names = [name for name in dataset.schema.names if name not in index]
        check_names(_DATA_SET, self._names)

    def inspect(self, *, kinds: Mapping[str, str] | None = None) -> Schema:
        inspection = Inspection(kinds=kinds)
        inspection.add_table(_DATA_SET, self._names, self._dataset.schema)
        for table in self._tables(self._names):
            inspection.add_rows(_DATA_SET, table)
        return inspection.decide()

    def parts(self, schema: Schema) -> Iterator[Part]:
        check_columns(_DATA_SET, self._names, schema.kinds, ignore=self._names)
        first_row = 0
        for table in self._tables(list(schema.kinds)):
            chunk = chunk_of(
                _DATA_SET, piece_of(_DATA_SET, table, first_row), schema, keep_bad=True
            )
            yield Part(chunk.arrays, chunk.bad, _DATA_SET)
            first_row += table.num_rows

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        # Few are read ahead, for they are in memory.
        batches = self._dataset.to_batches(
            columns=columns, batch_size=_BATCH_ROWS, batch_readahead=1, fragment_readahead=1
        )
        for batch in batches:
            yield pa.Table.from_batches([batch])


class FrameRows(RowParts):
    """The rows of DataFrames that come one after the other."""

    def __init__(self, frames: Iterable[Any]) -> None:
        self.bad = BadRows()
        self.dtypes: dict[str, str] = {}
        self._frames = frames

    def inspect(self, *, kinds: Mapping[str, str] | None = None) -> Schema:
        if iter(self._frames) is self._frames:
            raise ValueError(
                "Expected `schema`, or DataFrames that can be read twice, such as a list: what "
                "columns are is known only once all cells have been seen. Received: "
                f"{type(self._frames).__name__}, which can be read only once."
            )
        inspection = Inspection(kinds=kinds)
        for number, frame in self._numbered():
            inspection.add_frame(f"DataFrame {number}", frame)
        return inspection.decide()

    def parts(self, schema: Schema) -> Iterator[Part]:
        is_first = True
        for number, frame in self._numbered():
            if len(frame):
                found = whole_dtypes(frame)
                known = found if is_first else self.dtypes
                self.dtypes = {name: t for name, t in known.items() if found.get(name) == t}
                is_first = False
            bad: list[BadCell] = []
            arrays = frame_arrays(frame, schema, bad=bad)
            first_of = {cell.row: cell for cell in reversed(bad)}
            if first_of:
                arrays = {n: np.delete(array, sorted(first_of)) for n, array in arrays.items()}
            rows = [_bad_row(cell, schema) for _, cell in sorted(first_of.items())]
            yield Part(arrays, rows, f"DataFrame {number}")

    def _numbered(self) -> Iterator[tuple[int, pd.DataFrame]]:
        for number, frame in enumerate(self._frames, 1):
            table = in_pandas(frame)
            if not is_frame(table):
                raise TypeError(
                    "Expected an iterable of DataFrames. Received: "
                    f"{type(frame).__name__} as number {number}."
                )
            yield number, table


def _bad_row(cell: BadCell, schema: Schema) -> BadRow:
    text = str(cell.value)
    return BadRow(cell.row, cell.column, wrong_cell(schema.columns[cell.column], text), text)
