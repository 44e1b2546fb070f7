"""Table files: which format a name stands for, how it is opened, what is said if it can't be."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst", ".parquet", ".pq")
# Text that may be a table: it is one where it is named, and passed over in a folder.
TEXT_SUFFIXES = (".txt", ".dat", ".data", ".tab")
_SUFFIX = re.compile(
    r"\.(?:(?:csv|tsv|txt|dat|data|tab)(?:\.gz|\.zst)?|parquet|pq)$", re.IGNORECASE
)
_FORMATS = {"tab": "tsv", "txt": "csv", "dat": "csv", "data": "csv", "pq": "parquet"}
STANDARD = "-"  #: stands for standard input or output; its format is CSV


class TableError(ValueError):
    """A file can't be read or written as the table that was expected; the message is one line."""


def table_error(where: object, expected: str, received: str, fix: str) -> TableError:
    """Return an error in the form that all have."""
    return TableError(f"{where}: expected {expected}, received {received}; {fix}")


@contextmanager
def reported(path: object, action: str) -> Iterator[None]:
    """Turn what goes wrong with a file into a TableError that names it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).partition("\n")[0]
        raise table_error(path, f"to {action} the file", f"'{reason}'", "check the path") from error


def is_table(path: str | Path, *, named: bool = False) -> bool:
    """Whether the name is that of a table file; ``named``: by a caller who means it."""
    return bool(_SUFFIX.search(str(path))) if named else str(path).lower().endswith(SUFFIXES)


def file_format(path: str | Path) -> str:
    """Return "csv", "tsv" or "parquet", by the suffix.

    Raises
    ------
    TableError
        If the suffix is another one.
    """
    if str(path) == STANDARD:
        return "csv"
    match = _SUFFIX.search(str(path))
    if not match:
        expected = f"one of {', '.join((*SUFFIXES, *TEXT_SUFFIXES))}"
        raise table_error(path, expected, repr(Path(path).suffix), "convert it")
    found = match[0].lower().split(".")[1]
    return _FORMATS.get(found, found)


def without_suffix(name: str) -> str:
    """Return the name of a table file without what says its format.

    Examples
    --------
    >>> without_suffix("a.b.csv.gz")
    'a.b'
    """
    return _SUFFIX.sub("", name)


def open_raw(path: str | Path, mode: str) -> Any:
    """Open a file of bytes, "rb" or "wb"; "-" is standard input or output."""
    if str(path) == STANDARD:
        return sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
    return open(path, mode)


def open_at(path: str | Path, length: int) -> Any:
    """Open a file of bytes to write on after ``length``; what was beyond is cut off."""
    file = open_raw(path, "r+b" if length else "wb")
    if length:
        file.truncate(length)
        file.seek(length)
    return file


def decompressed(raw: Any, name: str | Path) -> Any:
    """Return what an open file of that name holds, decompressed if the suffix says so."""
    import pyarrow as pa

    codec = _codec(name)
    return pa.CompressedInputStream(raw, codec) if codec else raw


def compressed(raw: Any, name: str | Path) -> Any:
    """Return the stream to write to, for an open file of that name; closing it closes both."""
    import pyarrow as pa

    codec = _codec(name)
    return pa.CompressedOutputStream(raw, codec) if codec else raw


def _codec(name: str | Path) -> str | None:
    return {".gz": "gzip", ".zst": "zstd"}.get(Path(name).suffix.lower())
