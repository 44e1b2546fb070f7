"""DataFrames of Apache Spark: each row with its score, computed by the workers."""

from __future__ import annotations

import copy
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from vae_anomaly.batch.frames import ERROR, FrameScorer
from vae_anomaly.batch.rows import RowScorer
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors import artifact
from vae_anomaly.extras import check_package
from vae_anomaly.spark.columns import FIRST_VERSION, arrow_name, numbered
from vae_anomaly.tables.names import listed
from vae_anomaly.tables.reader import check_type
from vae_anomaly.tensorflow_import import limit_threads

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark import TaskContext
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

    from vae_anomaly.batch.places import Path

    _Batch = TypeVar("_Batch", pd.DataFrame, pa.RecordBatch)

_WHERE = "the DataFrame"


def score(df: DataFrame, model: Path, *, threads: int | None = None, **options: Any) -> DataFrame:
    """Score the rows of a DataFrame of Spark, lazily.

    Rows go to the Python workers as Arrow batches, so that columns pass through bit by bit, and
    moments do not depend on the time zone of the session.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        Columns in any order; also of Spark Connect.
    model : path
        Of a saved detector of tables. Workers look for it under the same path, then under its name
        among the files of ``SparkContext.addFile`` and ``addArchive``.
    threads : int or None
        As of ``scorer``.
    **options
        Of ``FrameScorer``: ``columns``, ``explain``, ``contributions``, ``threshold``,
        ``false_alarm_rate``, ``allow_missing``.

    Returns
    -------
    pyspark.sql.DataFrame
        Columns as of ``output_schema``.

    Raises
    ------
    ImportError
        pyspark is not installed, or older than 4.
    ArtifactError
        There is no saved detector at ``model``.
    ValueError
        As ``output_schema``.

    Warns
    -----
    DataWarning
        Columns that the model does not know, or that ``allow_missing`` takes for missing.
    """
    schema = _scored_schema(model, df.schema, options)
    frames = FrameScorer(model, **options)
    return numbered(df).mapInArrow(_Scorer(frames, threads, df.columns), schema)


def scorer(
    model: Path, *, threads: int | None = None, **options: Any
) -> Callable[[Iterator[_Batch]], Iterator[_Batch]]:
    """Return the function that ``DataFrame.mapInPandas`` and ``mapInArrow`` take; it pickles.

    Parameters
    ----------
    model : path
        As of ``score``; it need not be there on the driver.
    threads : int or None
        Of TensorFlow, in each worker. None: the CPUs of a task (``spark.task.cpus``). Environment
        variables ``TF_NUM_INTRAOP_THREADS`` and ``TF_NUM_INTEROP_THREADS`` go before.
    **options
        As of ``score``.

    Returns
    -------
    callable
        From an iterator of frames, of pandas or Arrow batches, to an iterator of frames with their
        scores. It raises ArtifactError where a worker does not find the model, or finds another
        one than there is on the driver.

    Examples
    --------
    >>> import numpy as np, pandas as pd, tempfile
    >>> from vae_anomaly import AutoencoderDetector
    >>> X = np.random.default_rng(0).normal(size=(1100, 2))
    >>> detector = AutoencoderDetector(max_steps=20, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector.save(folder + "/m")
    ...     frames = scorer(folder + "/m")(iter([pd.DataFrame({"x0": [1.0], "x1": [2.0]})]))
    ...     next(frames)["is_anomaly"].tolist()
    [False]
    """
    return _Scorer(FrameScorer(model, **options), threads)


def output_schema(model: Path, input_schema: StructType, **options: Any) -> StructType:
    """Return the schema of a scored DataFrame, given that of its rows; the model is not loaded.

    Parameters
    ----------
    model : path
        Of a saved detector of tables, on the driver.
    input_schema : pyspark.sql.types.StructType
        ``df.schema``.
    **options
        As of ``score``.

    Returns
    -------
    pyspark.sql.types.StructType
        The columns to keep, as they are; then those that ``score_files`` writes (``score``,
        ``decision``, ``is_anomaly``, ``p_value``, ...) and ``error``. A row with a cell that is not
        of its column's kind has an error; its scores are null.

    Raises
    ------
    ImportError
        pyspark is not installed, or older than 4.
    ArtifactError
        There is no saved detector at ``model``.
    ValueError
        A column is missing, or of a type that does not fit; one is named like an output; an option
        makes no sense.

    Warns
    -----
    DataWarning
        As ``score``.
    """
    return _scored_schema(model, input_schema, options)


def _scored_schema(model: Path, input_schema: StructType, options: dict[str, Any]) -> StructType:
    check_package("pyspark", FIRST_VERSION, "spark")
    from pyspark.sql.types import BooleanType, DoubleType, StringType, StructField, StructType

    names = input_schema.names
    rows, kept = FrameScorer(model, **options).check(names)
    for name, kind in rows.present(names).kinds.items():
        check_type(arrow_name(input_schema[name].dataType), kind, f"{_WHERE}, column {name!r}")
    _warn_of_columns(rows, names)
    types: dict[type, DataType] = {bool: BooleanType(), str: StringType(), float: DoubleType()}
    added = [StructField(name, types[t]) for name, t in {**rows.output_types, ERROR: str}.items()]
    return StructType([*(input_schema[name] for name in kept), *added])


class _Scorer:
    """Scores the batches of a task; see ``scorer``."""

    def __init__(
        self, frames: FrameScorer, threads: int | None, names: Sequence[str] | None = None
    ) -> None:
        self._frames, self._threads = frames, threads
        self._names = names  # of columns that are numbered

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        frames = copy.copy(self._frames)
        if task := _task():
            limit_threads(self._threads or task.cpus())
            frames.model = _found(frames.model)
        if self._names is not None:
            batches = (batch.rename_columns(self._names) for batch in batches)
        yield from map(frames, batches)


def _task() -> TaskContext | None:
    """Return what Spark says of the task that this process computes; None where it does not."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import TaskContext

    return TaskContext.get()


def _found(model: str) -> str:
    """Return where a worker has the model."""
    from pyspark import SparkFiles

    if os.path.isdir(model):
        return model
    name = os.path.basename(os.path.normpath(model))
    added = SparkFiles.get(name)
    if os.path.isdir(added):
        return added
    raise artifact.ArtifactError(
        f"{model}: expected a saved detector that this worker can see. Received: no such folder, "
        f"and no {name!r} among the files of SparkContext. Save it where all workers see it, or "
        "sparkContext.addFile(path, recursive=True) or addArchive('model.zip#model') before."
    )


def _warn_of_columns(rows: RowScorer, names: list[str]) -> None:
    if unknown := rows.unknown(names):
        warnings.warn(
            f"{_WHERE}: columns that the model does not know are passed through: {listed(unknown)}",
            DataWarning,
            stacklevel=4,
        )
    if absent := rows.absent(names):
        warnings.warn(
            f"{_WHERE}: no column {listed(absent)}; counted as missing cells",
            DataWarning,
            stacklevel=4,
        )
