"""What is asked of a whole CSV or Parquet file: its columns, their kinds, its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.tables.arrow_cells import converts, kind_of
from vae_anomaly.tables.columns import KINDS
from vae_anomaly.tables.files import table_error
from vae_anomaly.tables.reader import CHUNK_ROWS, Chunk, TableReader, check_columns

if TYPE_CHECKING:
    import pandas as pd


def infer_kinds(
    path: str | Path, overrides: Mapping[str, str] | None = None, **options: Any
) -> dict[str, str]:
    """Decide the kind of every column from the whole file; `overrides` win unseen.

    A CSV column is of the first of KINDS which all its fields can be read as, except that true and
    false are no numbers here. The kind of a Parquet column follows from its type, as that of the
    DataFrame which pandas reads from the file.

    Raises
    ------
    TableError
        If the file can't be read, a type has no kind, or an override no known column or kind.
    """
    with TableReader(path, **options) as reader:
        names = reader.names
        check_columns(path, names, overrides or {}, ignore=names)
        types = {name: reader.schema.field(name).type for name in names}
        left = {n: [kind_of(types[n])] if reader.is_parquet else list(KINDS) for n in names}
        left.update({name: [kind] for name, kind in (overrides or {}).items()})
        for name, (kind, *_) in left.items():
            if kind not in KINDS:
                where, expected = f"{path}, column {name!r}", f"one of {', '.join(KINDS)}"
                raise table_error(where, expected, kind, "convert it or choose a kind")
        for chunk in () if reader.is_parquet else reader.chunks({}):
            for name, kinds in left.items():
                if len(kinds) > 1:
                    # All that are left, not only the first, for each must hold everywhere.
                    column = chunk.raw[name]
                    left[name] = [k for k in kinds if converts(column, k, words=k != "numeric")]
    return {name: kinds[0] for name, kinds in left.items()}


def read_frame(path: str | Path, kinds: Mapping[str, str], **options: Any) -> pd.DataFrame:
    """Read the columns in `kinds` of a whole file, converted as by `iter_chunks`.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    import pandas as pd

    chunks = iter_chunks(path, kinds, **options)
    return pd.concat([chunk.frame for chunk in chunks], ignore_index=True)


def iter_chunks(
    path: str | Path, kinds: Mapping[str, str], *, chunk_rows: int = CHUNK_ROWS, **options: Any
) -> Iterator[Chunk]:
    """Read a file at most `chunk_rows` rows at a time, and convert the columns in `kinds`.

    Numeric and boolean columns become float64 with NaN for missing, datetime columns
    datetime64[us] in UTC with NaT, and categorical columns text with None. True and 1, false and 0
    are the same in numeric and boolean columns; durations become seconds. A file without rows
    gives one chunk without rows, so that what is written from it still has a header.

    Raises
    ------
    TableError
        If the file can't be read, lacks a column, or holds a value which is not of its kind.
    """
    with TableReader(path, **options) as reader:
        yield from reader.chunks(kinds, chunk_rows=chunk_rows)
