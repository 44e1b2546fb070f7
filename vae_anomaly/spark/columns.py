"""Columns of Spark on their way to workers: names of types and columns that survive it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

FIRST_VERSION = 4  #: of pyspark
_NAMES = {
    **{"byte": "int8", "short": "int16", "integer": "int32", "long": "int64", "void": "null"},
    **{"char": "string", "varchar": "string", "daytimeinterval": "duration"},
}


def arrow_name(found: DataType) -> str:
    """Return Arrow's name of a type, or Spark's where tables have no such type."""
    return _NAMES.get(found.typeName(), found.simpleString())


def numbered(df: DataFrame) -> DataFrame:
    """Return a DataFrame with columns c0, c1, ...: Spark takes a point in a name for a field."""
    return df.toDF(*(f"c{place}" for place in range(len(df.columns))))
