"""DataFrames of other libraries as those of pandas, and the labels of columns given back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw

from vae_anomaly.tables.arrow_cells import text_of
from vae_anomaly.tables.rules import kind_of_type

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def in_pandas(X: Any) -> Any:
    """Return a table with named columns as a DataFrame of pandas, and anything else as it was.

    Parameters
    ----------
    X : object
        For example a DataFrame of polars, or a table of pyarrow.

    Returns
    -------
    pandas.DataFrame or object
        Columns keep their types, as those of pyarrow, so that missing cells stay missing.

    Raises
    ------
    TypeError
        The rows are not in memory, or are columns by name that are no DataFrame.

    Examples
    --------
    >>> import pyarrow as pa
    >>> frame = in_pandas(pa.table({"rooms": [3, None]}))
    >>> frame["rooms"].dtype, frame["rooms"].isna().tolist()
    (int64[pyarrow], [False, True])
    >>> in_pandas([[3.0]])
    [[3.0]]
    """
    if is_frame(X):
        return X
    _check_is_no_other(X)
    frame = nw.from_native(X, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        raise TypeError(
            "Expected rows in memory: an array or a DataFrame. Received: "
            f"{type(X).__module__}.{type(X).__name__}. Collect it first; `fit` takes "
            "vae_anomaly.spark.SparkRows(df) of a DataFrame of Spark."
        )
    if not isinstance(frame, nw.DataFrame):
        return X
    import pandas as pd

    return _without_views(frame.to_arrow()).to_pandas(types_mapper=pd.ArrowDtype)


def _check_is_no_other(X: Any) -> None:
    """Raise TypeError of what people take for a table, and NumPy for numbers."""
    if isinstance(X, (str, os.PathLike)):
        raise TypeError(
            f"Expected rows in memory: an array or a DataFrame. Received: {os.fspath(X)!r}. If it "
            "is a path, `fit` takes vae_anomaly.TableFiles of it, and vae_anomaly.score_files "
            "scores it."
        )
    # A sparse array of SciPy's may be a mapping too, but has a shape.
    is_mapping = isinstance(X, Mapping) and not hasattr(X, "shape")
    if is_mapping or getattr(getattr(X, "dtype", None), "names", None):
        raise TypeError(
            f"Expected an array of numbers or a DataFrame. Received: {type(X).__name__} with "
            "columns by name. Pass pandas.DataFrame(X)."
        )


def _without_views(table: pa.Table) -> pa.Table:
    """Return a table without types that pandas does not have: views, repeats in one, UUIDs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_run_end_encoded(field.type):
            chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
            column = pa.chunked_array(chunks, field.type.value_type)
        if pa.types.is_string_view(column.type):
            column = column.cast(pa.large_string())
        elif pa.types.is_binary_view(column.type):
            column = column.cast(pa.large_binary())
        elif str(column.type).startswith("extension<arrow") and kind_of_type(str(column.type)):
            column = text_of(column)
        if column.type != field.type:
            table = table.set_column(index, field.name, column)
    return table


def is_frame(X: Any) -> bool:
    """Whether X is a DataFrame of pandas."""
    return hasattr(X, "iloc") and hasattr(X, "columns")


def labelled(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Return a DataFrame with the labels that another one has for columns, not their text.

    Parameters
    ----------
    table : pandas.DataFrame
        The text of a label names each column, or the last level of each, below groups.
    like : pandas.DataFrame
        Labels may be numbers, or of several levels; those that it lacks stay.

    Examples
    --------
    >>> import pandas as pd
    >>> like = pd.DataFrame([[1, 2]], columns=[["a", "a"], ["b", "c"]])
    >>> table = pd.DataFrame({"('a', 'c')": [3]})
    >>> labelled(table, like).columns.tolist()
    [('a', 'c')]
    """
    import pandas as pd

    labels = {str(label): label for label in like.columns}
    if (n_levels := like.columns.nlevels) == 1:
        return table.rename(columns=labels, level=table.columns.nlevels - 1)
    below = ("",) * (n_levels - 1)
    columns = [label if isinstance(label, tuple) else (label,) for label in table.columns]
    tuples = [(*label[:-1], *labels.get(label[-1], (label[-1], *below))) for label in columns]
    return table.set_axis(pd.MultiIndex.from_tuples(tuples), axis=1)
