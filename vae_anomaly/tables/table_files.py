"""Table files as if they were one table, which is read in parts, twice at most."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from vae_anomaly.tables.bad_rows import BadRows
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import STANDARD, TableError, file_format, reported
from vae_anomaly.tables.fitting_dialect import fitting_dialect
from vae_anomaly.tables.inspecting import Inspection
from vae_anomaly.tables.paths import Path, find_inputs
from vae_anomaly.tables.reader import Chunk, TableReader
from vae_anomaly.tables.rows import Part, RowParts
from vae_anomaly.tables.schema import Schema

# More rows at a time than in scoring: nothing is computed but what their columns show.
_CHUNK_ROWS = 2**15


class TableFiles(RowParts):
    """Table files of any size as if they were one table, of which a part is in memory at a time.

    What ``fit`` takes in place of a DataFrame. The first pass decides what the columns are
    (with ``schema`` there is none), the second one takes the rows; see ``VAEDetector`` for which
    of them train. Rows are in the order of the files' paths, whatever order these are given in.

    Parameters
    ----------
    inputs : path, or sequence of path
        CSV, TSV (both also .gz and .zst) and Parquet files, folders of them, patterns. All have
        the same columns, in any order; each is in the dialect that its first rows show, a single
        one in that of the ``schema``, if there is one.
    quarantine : path or None
        CSV file for the rows that cannot be read, if there are any. None: a warning counts them.
    max_bad_rows : int or None
        More are an error. None: half of all rows.
    progress : callable or None
        Called with "inspecting" in the first pass and "reading" in the second, the number of rows
        so far in this pass, and the share of the files read, from 0 to 1.
    exclude : collection of path
        Files not to be taken from folders and patterns.

    Attributes
    ----------
    paths : list of str
        The files.
    n_rows : int
        How many rows the last pass has read, bad ones too.
    bad : BadRows
        What was found bad in the second pass.

    Raises
    ------
    TableError
        A folder or pattern has no table files, a file is none, or is there twice.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, pandas as pd
    >>> from vae_anomaly import AutoencoderDetector, TableFiles
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for month in ("january", "february"):
    ...         frame = pd.DataFrame(rng.normal(size=(600, 2)), columns=["a", "b"])
    ...         frame.to_parquet(pathlib.Path(folder, f"{month}.parquet"))
    ...     detector = AutoencoderDetector(max_steps=20, random_state=0).fit(TableFiles(folder))
    >>> detector.predict(pd.DataFrame({"a": [0.0, 9.0], "b": [0.0, -9.0]}))
    array([ 1, -1])
    """

    def __init__(
        self,
        inputs: Path | Sequence[Path],
        *,
        quarantine: Path | None = None,
        max_bad_rows: int | None = None,
        progress: Callable[[str, int, float], object] | None = None,
        exclude: Collection[Path] = (),
    ) -> None:
        written = [*exclude, *([] if quarantine is None else [quarantine])]
        self.paths = sorted(find_inputs(inputs, written), key=os.path.abspath)
        if STANDARD in self.paths:
            raise TableError(
                "expected files, received '-': standard input can be read only once; save it first"
            )
        if quarantine is not None and os.path.realpath(quarantine) in map(
            os.path.realpath, self.paths
        ):
            raise TableError(f"{quarantine}: expected a file of its own to put bad rows aside")
        self.bad = BadRows(quarantine, max_bad_rows)
        self.dtypes: dict[str, str] = {}  # files do not tell
        self._keep_bad = max_bad_rows != 0
        self.n_rows = 0
        self._progress = progress
        self._sizes = list(map(_size, self.paths))
        self._dialects: dict[str, Dialect | None] = {}

    def inspect(
        self, *, dialect: Mapping[str, Any] = MappingProxyType({}), **options: Any
    ) -> Schema:
        """Decide what the columns are, by all cells of all files.

        Parameters
        ----------
        dialect : mapping
            Of ``TableReader``; the rest is found for each file.
        **options
            Of ``inspecting.Inspection``.

        Raises
        ------
        TableError
            A file can't be read, or has other columns than the first one.
        ValueError
            ``kinds`` has an unknown column or kind; types differ beyond what cells can tell.
        """
        inspection, units = Inspection(**options), None
        self.n_rows = 0
        for index, path in enumerate(self.paths):
            with TableReader(path, dialect=dialect) as reader:
                inspection.add_table(path, reader.names, reader.schema)
                units = reader.units if units is None else units
                self._dialects[path] = reader.dialect
                for chunk in reader.chunks(Schema({}), chunk_rows=_CHUNK_ROWS, keep_bad=True):
                    inspection.add_rows(path, chunk.raw, chunk.bad)
                    self._count("inspecting", index, reader, chunk)
        self._show("inspecting", 1.0)
        found = (dialect for dialect in self._dialects.values() if dialect is not None)
        return inspection.decide(next(found, None), units or [])

    def parts(self, schema: Schema) -> Iterator[Part]:
        """Yield the rows of all files, in parts.

        Raises
        ------
        TableError
            A file can't be read, lacks a column, or its columns have types that do not fit.
        """
        self.n_rows = 0
        for index, path in enumerate(self.paths):
            with TableReader(path, dialect=self._dialect(path, schema)) as reader:
                for chunk in reader.chunks(schema, chunk_rows=_CHUNK_ROWS, keep_bad=self._keep_bad):
                    yield Part(chunk.arrays, chunk.bad, path)
                    self._count("reading", index, reader, chunk)
        self._show("reading", 1.0)

    def _dialect(self, path: str, schema: Schema) -> Dialect | Mapping[str, Any]:
        """Return the dialect of the first pass, or of the schema if it fits, or {} to find it."""
        if (found := self._dialects.get(path)) is not None:
            return found
        if schema.dialect is None or file_format(path) == "parquet":
            return {}
        return fitting_dialect(path, schema, schema.dialect, schema.kinds)

    def _count(self, name: str, index: int, reader: TableReader, chunk: Chunk) -> None:
        self.n_rows += chunk.raw.num_rows + len(chunk.bad)
        read = sum(self._sizes[:index]) + self._sizes[index] * reader.share_read(chunk)
        self._show(name, min(read / max(1, sum(self._sizes)), 0.999))

    def _show(self, name: str, share: float) -> None:
        if self._progress is not None:
            self._progress(name, self.n_rows, share)


def _size(path: str) -> int:
    with reported(path, "read"):
        return os.path.getsize(path)
