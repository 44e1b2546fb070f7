"""Rows of a DataFrame of Spark as ``fit`` takes them: workers count, a sample comes here."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vae_anomaly.extras import check_package
from vae_anomaly.spark.columns import FIRST_VERSION, arrow_name, numbered
from vae_anomaly.tables.partitions import PartitionedRows
from vae_anomaly.tensorflow_import import limit_threads

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

_ANSWER = "partition INT, n_bytes LONG, answer BINARY"


class SparkRows(PartitionedRows):
    """Rows of a DataFrame of Spark, which is what ``fit`` takes in place of one in memory.

    The workers count what all rows show, in two passes: of which kind and format columns are, their
    levels, missing shares, ranges and quantiles. A uniform sample, drawn by the seed and the
    numbers of rows, comes to the driver, which trains; see ``max_rows`` of ``VAEDetector``. So the
    driver holds the sample, what one partition shows, and what all of them show.

    Up to ``max_rows`` rows the detector is bit for bit the one of the same rows in memory, in the
    order of ``df.toArrow()``, however they are partitioned (the order after a shuffle may depend
    on which columns are read). With more the sample is that of
    ``TableFiles`` too, unless rows are bad, and all that is exact of files is exact here. Centers
    and scales depend on the partitions within the error of a sketch of quantiles, 0.1% of ranks;
    up to 16,383 values in a column not at all.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        It is computed twice, of the columns that are modelled: cache it if that takes long. Also of
        Spark Connect.
    max_bad_rows : int or None
        More rows with cells that are not of their column's kind are an error. None: half of all
        rows. Bad rows are left out, and a warning counts them.

    Attributes
    ----------
    n_rows : int
        How many rows there are, bad ones too, once they were read.
    bad : BadRows
        How many were found bad, ``bad.n_rows``.

    Raises
    ------
    ImportError
        pyspark is not installed, or older than 4.
    TypeError
        ``df`` is no DataFrame of Spark.
    ValueError
        A name of a column is empty or there twice. From ``fit``: there are no rows; a column has a
        type that is none of a table's, as an array; rows are others each time they are computed.
    """

    def __init__(self, df: DataFrame, *, max_bad_rows: int | None = None) -> None:
        check_package("pyspark", FIRST_VERSION, "spark")
        from pyspark.sql import DataFrame

        if not isinstance(df, DataFrame):
            raise TypeError(
                "Expected a DataFrame of Spark. Received: "
                f"{type(df).__module__}.{type(df).__name__}."
            )
        super().__init__(
            [(field.name, arrow_name(field.dataType)) for field in df.schema], max_bad_rows
        )
        self._df = df

    def in_partitions(
        self, read: Callable[[int, Iterator[pa.RecordBatch]], Any], columns: Sequence[str]
    ) -> Iterator[tuple[int, Any]]:
        df = numbered(self._df)
        df = df.select([df.columns[self._df.columns.index(name)] for name in columns])
        answers = df.mapInArrow(functools.partial(_answered, read, columns), _ANSWER).persist()
        try:
            answers.agg({"n_bytes": "sum"}).collect()  # by all workers at once
            for partition, _, answer in answers.toLocalIterator(prefetchPartitions=True):
                found = pickle.loads(answer)
                if isinstance(found, ValueError):
                    raise found
                yield partition, found
        finally:
            answers.unpersist()


def _answered(
    read: Callable[[int, Iterator[pa.RecordBatch]], Any],
    columns: Sequence[str],
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    """Yield what is read of a partition; what is wrong with it too, for the driver to raise."""
    import pyarrow as pa
    from pyspark import TaskContext

    task = TaskContext.get()
    assert task is not None
    limit_threads(task.cpus())
    partition = task.partitionId()
    try:
        found = read(partition, (batch.rename_columns(columns) for batch in batches))
    except ValueError as error:
        found = error
    answer = pickle.dumps(found)
    fields = [("partition", pa.int32()), ("n_bytes", pa.int64()), ("answer", pa.binary())]
    row = {"partition": partition, "n_bytes": len(answer), "answer": answer}
    yield pa.RecordBatch.from_pylist([row], schema=pa.schema(fields))
