"""Rows in memory, as engines for large data hand them over: each frame with its scores."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vae_anomaly.batch.chunks import ScoredChunk, loaded
from vae_anomaly.batch.rows import RowScorer
from vae_anomaly.detectors import artifact
from vae_anomaly.tables.columns import BadCell, frame_arrays
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.frames import is_frame
from vae_anomaly.tables.names import differences
from vae_anomaly.tables.parquet_rows import piece_of
from vae_anomaly.tables.reader import check_columns, check_names, chunk_of, wrong_cell

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.tables.paths import Path

_Frame = TypeVar("_Frame", "pd.DataFrame", "pa.Table", "pa.RecordBatch")

ERROR = "error"  #: the column that says why a row has no score
_WHERE = "the table"
_LOADING = threading.Lock()


class FrameScorer:
    """Add scores to frames of rows, in whatever process it is called.

    A function of a frame for ``dask.dataframe.DataFrame.map_partitions``,
    ``ray.data.Dataset.map_batches`` and the like; ``vae_anomaly.spark`` is built on it. It pickles
    as the path of its model and options. The model is loaded at the first call, once in a process
    for all scorers.

    Parameters
    ----------
    model : path
        Of a saved detector of tables, where the processes that score see it. If it is there
        already, they refuse another model in its place.
    columns : sequence of str or None
        Which columns of a frame to keep. None: all but those dropped in ``fit``.
    explain, contributions, threshold, false_alarm_rate, allow_missing
        As of ``score_files``.

    Raises
    ------
    TypeError
        ``model`` is no path.

    Examples
    --------
    >>> import numpy as np, pandas as pd, tempfile
    >>> from vae_anomaly import AutoencoderDetector, FrameScorer
    >>> X = np.random.default_rng(0).normal(size=(1100, 2))
    >>> detector = AutoencoderDetector(max_steps=20, random_state=0).fit(X)
    >>> frame = pd.DataFrame({"id": [7, 8, 9], "x0": ["1", "oops", "90"], "x1": [2, 4, 80]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector.save(folder + "/m")
    ...     scored = FrameScorer(folder + "/m")(frame)
    >>> scored.columns.tolist()
    ['id', 'x0', 'x1', 'score', 'decision', 'is_anomaly', 'p_value', 'error']
    >>> scored["is_anomaly"].tolist()
    [False, <NA>, True]
    >>> scored["error"][1]
    "column 'x0': expected a number, received 'oops'; correct it, or leave it empty if missing"
    """

    def __init__(
        self,
        model: Path,
        *,
        columns: Sequence[str] | None = None,
        explain: int | None = None,
        contributions: bool = False,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
        allow_missing: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(model, (str, os.PathLike)):
            raise TypeError(
                "Expected the path of a saved detector. Received: "
                f"model of type {type(model).__name__}. Save it, detector.save(path)."
            )
        self.model = os.fspath(model)
        self._columns = None if columns is None else list(dict.fromkeys(columns))
        self._options: dict[str, Any] = {
            "explain": explain,
            "contributions": contributions,
            "threshold": threshold,
            "false_alarm_rate": false_alarm_rate,
            "allow_missing": allow_missing,
        }
        self._digest: str | None = None
        if os.path.isdir(self.model):
            self.model = os.path.abspath(self.model)
            self._digest = artifact.digest(self.model)
        self._rows: RowScorer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_rows": None}

    def __call__(self, frame: _Frame) -> _Frame:
        """Return a frame with the columns that ``score_files`` adds, and ``error``.

        Parameters
        ----------
        frame : pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatch

        Returns
        -------
        as ``frame``
            The same rows in the same order. A row with a cell that is not of its column's kind has
            no score, and says which under ``error``.

        Raises
        ------
        ArtifactError
            The model is not there, or is another one than it was.
        ValueError
            The frame lacks a column, has one of a type that does not fit or that is named like an
            output; an option that makes no sense.
        """
        import pyarrow as pa

        if is_frame(frame):
            rows, kept = self._ready([str(name) for name in frame.columns])
            return _scored_pandas(frame, rows, kept)
        if isinstance(frame, (pa.Table, pa.RecordBatch)):
            rows, kept = self._ready(frame.schema.names)
            if isinstance(frame, pa.Table):
                return _scored_arrow(frame, rows, kept)
            scored = _scored_arrow(pa.Table.from_batches([frame]), rows, kept)
            columns = [column.combine_chunks() for column in scored.columns]
            return pa.RecordBatch.from_arrays(columns, schema=scored.schema)
        raise TypeError(
            "Expected a DataFrame of pandas, or a table or batch of pyarrow. Received: "
            f"{type(frame).__module__}.{type(frame).__name__}."
        )

    def check(self, names: Sequence[str]) -> tuple[RowScorer, list[str]]:
        """Check that a table with these columns can be scored; the model is not loaded.

        Returns
        -------
        rows : RowScorer
            Which columns are read and added.
        kept : list of str
            The columns to keep.
        """
        rows = RowScorer(self.model, **self._options)
        return rows, _kept(rows, names, self._columns)

    def _ready(self, names: Sequence[str]) -> tuple[RowScorer, list[str]]:
        """As ``check``, and the model is loaded: last, for it takes long."""
        if self._rows is not None:
            return self._rows, _kept(self._rows, names, self._columns)
        digest = artifact.digest(self.model)
        if self._digest not in (None, digest):
            raise artifact.ArtifactError(
                f"{self.model}: expected the model that was there when its scorer was made. "
                "Received: another one. Copy the same folder to all machines, and make the scorer "
                "anew."
            )
        rows, kept = self.check(names)
        with _LOADING:
            rows.load(_loaded_once(self.model, digest))
        self._rows = rows
        return rows, kept


def _scored_pandas(frame: pd.DataFrame, rows: RowScorer, kept: Sequence[str]) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    schema = rows.present(names)
    bad: list[BadCell] = []
    modelled = frame.loc[:, [name in schema.kinds for name in names]]
    arrays = frame_arrays(modelled, schema, bad=bad)
    errors: dict[int, str] = {}
    for cell in bad:
        what = wrong_cell(schema.columns[cell.column], str(cell.value))
        errors.setdefault(cell.row, f"column {cell.column!r}: {what}")
    is_good = ~_are_in(errors, len(frame))
    arrays = {name: array[is_good] for name, array in arrays.items()}
    # Types that hold missing cells, so that those of a column are the same in all frames.
    nullable = {pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype()}
    added = _added(rows, arrays, errors, len(frame)).to_pandas(types_mapper=nullable.get)
    passed = frame.iloc[:, [names.index(name) for name in kept]]
    return pd.concat([passed, added.set_axis(frame.index)], axis=1)


def _scored_arrow(table: pa.Table, rows: RowScorer, kept: Sequence[str]) -> pa.Table:
    piece = piece_of(_WHERE, table, 0)
    chunk = chunk_of(_WHERE, piece, rows.present(table.column_names), keep_bad=True)
    errors = {bad.line: f"column {bad.column!r}: {bad.reason}" for bad in chunk.bad}
    added = _added(rows, chunk.arrays, errors, table.num_rows)
    scored = table.select(kept)
    for name in added.column_names:
        scored = scored.append_column(name, added[name])
    return scored


def _kept(rows: RowScorer, names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Return the columns of a table to keep, which is checked to be one for the model."""
    check_names(_WHERE, names)
    allowed = rows.allow_missing
    check_columns("`allow_missing`", list(rows.kinds), allowed, ignore=rows.kinds)
    if found := differences(names, rows.needed(names), names):
        raise TableError(
            f"{_WHERE}: missing columns: {found['missing']}; rename or add columns to match, or "
            "count a column's cells as missing with `allow_missing`"
        )
    check_columns(_WHERE, names, columns or (), ignore=names)
    kept = rows.written(names) if columns is None else list(columns)
    taken = [repr(name) for name in kept if name in (*rows.output_types, ERROR)]
    if taken:
        raise TableError(
            f"{_WHERE}: expected no column named like an output, received {', '.join(taken)}; "
            "rename it, or choose others with `columns`"
        )
    return kept


def _added(
    rows: RowScorer, arrays: Mapping[str, np.ndarray], errors: Mapping[int, str], n_rows: int
) -> pa.Table:
    """Return the columns to add to rows, given the arrays of those without an error."""
    import pyarrow as pa

    is_bad = _are_in(errors, n_rows)
    arrays = rows.filled(arrays, n_rows - len(errors))
    outputs = rows.outputs(arrays, rows.offset)
    if rows.reasons:
        scored = ScoredChunk("", None, outputs, (), arrays)
        rows.reasons.add(scored, np.flatnonzero(outputs["is_anomaly"]))
    place = np.cumsum(~is_bad) - 1
    places = pa.array(place, "int64", mask=is_bad)
    added = {
        name: pa.array(values, "string" if values.dtype == object else None).take(places)
        for name, values in outputs.items()
    }
    texts = [errors.get(row) for row in range(n_rows)]
    return pa.table({**added, ERROR: pa.array(texts, "string")})


def _are_in(errors: Mapping[int, str], n_rows: int) -> np.ndarray:
    are_in = np.zeros(n_rows, dtype=bool)
    are_in[list(errors)] = True
    return are_in


@functools.lru_cache(maxsize=4)
def _loaded_once(folder: str, digest: str) -> BaseDetector:
    return loaded(folder)
