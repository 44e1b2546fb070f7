"""How many values the columns of a Parquet file have, by its footer.

pyarrow says so too, but ends the process where its description of a column is damaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

# Lengths of what ends a file: that of the footer, and a marker.
_LENGTH, _END = 4, 8
# Numbers and types of the fields on the way, from Parquet's parquet.thrift: row groups of a file,
# their columns, the metadata of each, its number of values.
_VALUES: dict[int, Any] = {5: (TType.I64, {})}
_FILE: dict[int, Any] = {4: (TType.LIST, {1: (TType.LIST, {3: (TType.STRUCT, _VALUES)})})}


class _Protocol(TCompactProtocol):
    """Thrift's compact protocol, in which text that is skipped need not be UTF-8."""

    def readString(self) -> bytes:  # noqa: N802 - Thrift's name
        return self.readBinary()


def values_of_columns(path: str | Path) -> list[list[int]]:
    """Return the number of values, missing ones counted, of each column of each row group.

    Parameters
    ----------
    path : path
        A file that pyarrow has opened, so that its footer is one.

    Raises
    ------
    LookupError, EOFError, thrift.Thrift.TException
        The footer is damaged.
    """
    with open(path, "rb") as file:
        file.seek(-_END, 2)
        length = int.from_bytes(file.read(_LENGTH), "little")
        file.seek(-_END - length, 2)
        footer = file.read(length)
    groups = _read(_Protocol(TMemoryBuffer(footer)), _FILE)[4]
    return [[column[3][5] for column in group[1]] for group in groups]


def _read(protocol: Any, wanted: dict[int, Any]) -> dict[int, Any]:
    """Read a struct; return its wanted fields by number."""
    found: dict[int, Any] = {}
    protocol.readStructBegin()
    while True:
        _, kind, number = protocol.readFieldBegin()
        if kind == TType.STOP:
            break
        expected, inner = wanted.get(number, (None, {}))
        if kind != expected:
            protocol.skip(kind)
        elif kind == TType.LIST:
            _, size = protocol.readListBegin()
            found[number] = [_read(protocol, inner) for _ in range(size)]
            protocol.readListEnd()
        else:
            found[number] = _read(protocol, inner) if inner else protocol.readI64()
        protocol.readFieldEnd()
    protocol.readStructEnd()
    return found
