"""What the types of Spark are in Arrow, which passes rows to workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import DataType

FIRST_VERSION = 4  #: of pyspark
_NAMES = {
    **{"byte": "int8", "short": "int16", "integer": "int32", "long": "int64", "void": "null"},
    **{"char": "string", "varchar": "string", "daytimeinterval": "duration"},
}


def arrow_name(found: DataType) -> str:
    """Return Arrow's name of a type, or Spark's where tables have no such type."""
    return _NAMES.get(found.typeName(), found.simpleString())
