"""Markers of missing cells in columns that are numbers or dates by their type."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vae_anomaly.tables.date_cells import convert_dates
from vae_anomaly.tables.dates import DateFormat
from vae_anomaly.tables.formats import PLAIN
from vae_anomaly.tables.number_cells import convert_numbers


def without_markers(values: np.ndarray, missing: Iterable[str], *, dates: bool) -> np.ndarray:
    """Return values that are NaN where they equal a marker; ``cells.without_missing`` is for text.

    Parameters
    ----------
    values : numpy.ndarray, (n,), float64
    missing : iterable of str
        Markers; those that are no numbers, or no dates, mark nothing.
    dates : bool
        Whether values are seconds since 1970-01-01 UTC, and markers such as ``9999-12-31``.

    Examples
    --------
    >>> without_markers(np.array([-999.0, 5.0]), ["-999", "unknown"], dates=False).tolist()
    [nan, 5.0]
    """
    import pyarrow as pa

    if not (texts := pa.array(missing, "string")):
        return values
    pattern = DateFormat("%Y-%m-%d")
    marked, _ = convert_dates(texts, pattern) if dates else convert_numbers(texts, PLAIN)
    # A float32 of the same digits is another number.
    with np.errstate(over="ignore"):
        short = marked.astype(np.float32)
    marked = np.concatenate([marked, short[np.isfinite(short)]])
    return np.where(np.isin(values, marked), np.nan, values)
