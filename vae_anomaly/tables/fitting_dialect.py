"""In which dialect to read a file of a table that is known: the known one, or another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vae_anomaly.tables.dialect import Dialect, is_row_above, may_be_units
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.reader import TableReader
from vae_anomaly.tables.schema import Schema


def fitting_dialect(
    path: str | Path,
    schema: Schema,
    known: Dialect,
    kinds: Collection[str],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Dialect:
    """Return the known dialect if a file has all columns in it, else one that is found anew.

    Parameters
    ----------
    path : path
        A file of text.
    schema : Schema
        Of the table.
    known : Dialect
        In which the table was written.
    kinds : collection of str
        Names of the columns that must be there.
    given : mapping
        What is known of a dialect that is found anew.

    Raises
    ------
    TableError
        The file can be read in no dialect.
    """
    try:
        with TableReader(path, dialect=known, blank_ok=True) as reader:
            if _are_above(reader, schema, kinds):
                return known
    except TableError:
        pass  # such as another encoding
    with TableReader(path, dialect=given, blank_ok=True) as reader:
        found = reader.dialect
    assert found is not None  # of a text file
    return found


def _are_above(reader: TableReader, schema: Schema, kinds: Collection[str]) -> bool:
    """Whether what stands above the rows is what the known file has there, and no row."""
    dialect, skipped = reader.dialect, reader.skipped
    if not reader.names or dialect is None:
        return not any(map(str.strip, skipped))
    if not set(kinds) <= set(reader.names):
        return False
    if dialect.header == "none":
        width = len(reader.names)
        return not any(is_row_above(line, dialect, width) for line in skipped)
    units = dict(zip(reader.names, reader.units, strict=False))
    known = {
        name: column.unit
        for name, column in schema.columns.items()
        if name in units and (column.kind == "numeric" or column.unit)
    }
    return not units or may_be_units([units[name] for name in known], list(known.values()))
