"""DataFrames of other libraries as those of pandas, and the labels of columns given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw

if TYPE_CHECKING:
    import pandas as pd


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
        The rows are not in memory.

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

    return frame.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)


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
