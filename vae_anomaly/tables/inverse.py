"""From the model's means, or its samples, back to cells in a table's own terms, in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from vae_anomaly.tables.date_features import DatePeriod, ExpectedParts, expected_dates
from vae_anomaly.tables.grids import snapped

if TYPE_CHECKING:
    from vae_anomaly.tables.preprocessing import TablePreprocessor

    Tensors = dict[str, tf.Tensor]


def columns_of(
    layer: TablePreprocessor,
    x: tf.Tensor,
    seen: Mapping[str, tf.Tensor],
    start: Mapping[str, tf.Tensor],
) -> Tensors:
    """Return the columns of a table that features stand for.

    Numbers are snapped to their column's grid and kept within the range of the training rows.

    Parameters
    ----------
    layer : TablePreprocessor
        Adapted.
    x : float64 tensor, (n, sum(column_widths))
    seen : mapping of datetime column name to float64 tensor (n,)
        Dates of the rows that the features are expected for; NaN, or no key, where there are none.
    start : mapping of datetime column name to float64 tensor (n,)
        Where to look for dates that are not seen; no key: in the middle of the training period.

    Returns
    -------
    dict of column name to tensor (n,), in the table's order
        Float64 (a boolean column: the probability of 1); of categories the likeliest place among
        the texts of ``layer.texts``.
    """
    bounds = dict(zip(layer.measured, tf.unstack(layer.bounds.value), strict=True))
    grids = dict(zip(layer.measured, tf.unstack(layer.grid.value), strict=True))
    numbers, one_hots = _parts(layer, x)
    columns: Tensors = {}
    for (name, part), values in numbers.items():
        if part != "value":
            continue
        columns[name] = values[0]
        if name in bounds:
            columns[name] = tf.clip_by_value(
                snapped(values[0], grids[name]), bounds[name][0], bounds[name][1]
            )
    for (name, part), probabilities in one_hots.items():
        if part == "value":
            # The slot before the levels is for what fit has not seen; no value is called that.
            columns[name] = 1 + tf.argmax(probabilities[:, 1:], axis=1)
    columns |= _dates(layer, x, (numbers, one_hots), (bounds, grids), seen, start)
    return {name: columns[name] for name in layer.kinds}


def _parts(layer, x):
    """Numbers, and one-hots, of each of the model's columns, by (column, part)."""
    columns, widths = layer.columns, layer.column_widths
    n_numbers = len(columns.numbers)
    ends = np.cumsum(widths)
    values: list[tf.Tensor] = []
    if n_numbers:
        features = layer.numbers.inverse(x[:, : sum(widths[:n_numbers])])
        values = tf.unstack(features, num=layer.numbers.n_numbers, axis=1)
    numbers = {
        column: values[first : first + count]
        for column, first, count in zip(
            columns.numbers, columns.first_numbers, columns.counts, strict=True
        )
    }
    one_hots = {
        column: x[:, end - width : end]
        for column, end, width in zip(
            columns.one_hots, ends[n_numbers:], widths[n_numbers:], strict=True
        )
    }
    return numbers, one_hots


def _dates(layer, x, parts, limits, seen, start):
    (numbers, one_hots), (bounds, grids) = parts, limits
    missing = tf.fill(tf.shape(x)[:1], tf.constant(np.nan, tf.float64))
    periods, expected, seen_dates, starts = {}, {}, {}, {}
    scales = layer.numbers.scale
    for name in layer.dates:
        low, high = bounds[name][0], bounds[name][1]
        periods[name] = DatePeriod(low, high, grids[name])
        since = numbers.get((name, "since"))
        expected[name] = ExpectedParts(
            time=numbers.get((name, "time")),
            weekday=one_hots.get((name, "weekday")),
            month=one_hots.get((name, "month")),
            since=None if since is None else since[0],
            tolerance=0.0 if since is None else scales[layer.columns.number_of(name, "since")],
        )
        seen_dates[name] = tf.cast(seen.get(name, missing), tf.float64)
        starts[name] = start.get(name, tf.zeros_like(missing) + (low + high) / 2)
    return expected_dates(expected, layer.dates, periods, seen_dates, starts)
