"""From the model's means, or its samples, back to cells in a table's own terms, in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.tables.date_features import DatePeriod, ExpectedParts, expected_dates
from vae_anomaly.tables.grids import snapped
from vae_anomaly.tables.model_columns import Part

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
    numbers, one_hots = _numbers(layer, x), one_hots_of(layer, x)
    columns = {name: values[0] for (name, part), values in numbers.items() if part == "value"}
    for (name, part), probabilities in one_hots.items():
        if part == "value":
            # The slot before the levels is for what fit has not seen; no value is called that.
            columns[name] = 1 + tf.argmax(probabilities[:, 1:], axis=1)
    columns |= _dates(layer, x, (numbers, one_hots), seen, start)
    return {name: columns[name] for name in layer.kinds}


def _numbers(layer, x):
    """Lists of the numbers, (n,) each, of the model's columns, by (column, part)."""
    columns = layer.columns
    if not columns.numbers:
        return {}
    values = layer.numbers.inverse(x[:, : sum(layer.column_widths[: len(columns.numbers)])])
    # Parts of dates and booleans have neither grid nor bounds of their own.
    row = {name: index for index, name in enumerate(layer.measured)}
    place = [
        row.get(name, len(row)) if part == "value" else len(row)
        for (name, part), count in zip(columns.numbers, columns.counts, strict=True)
        for _ in range(count)
    ]
    anything = tf.constant([[-np.inf, np.inf]], tf.float64)
    bounds = tf.gather(tf.concat([layer.bounds.value, anything], axis=0), place)
    grid = tf.gather(tf.concat([layer.grid.value, tf.zeros(1, tf.float64)], axis=0), place)
    values = tf.clip_by_value(snapped(values, grid), bounds[:, 0], bounds[:, 1])
    values = tf.unstack(values, num=layer.numbers.n_numbers, axis=1)
    return {
        column: values[first : first + count]
        for column, first, count in zip(
            columns.numbers, columns.first_numbers, columns.counts, strict=True
        )
    }


def one_hots_of(layer: TablePreprocessor, x: Any) -> dict[Part, Any]:
    """Return the features of each one-hot column of the model, (n, width), of x (n, features)."""
    columns, ends = layer.columns.one_hots, np.cumsum(layer.column_widths)
    starts, skipped = ends - layer.column_widths, len(layer.columns.numbers)
    return {
        column: x[:, start:end]
        for column, start, end in zip(columns, starts[skipped:], ends[skipped:], strict=True)
    }


def _dates(layer, x, parts, seen, start):
    numbers, one_hots = parts
    missing = tf.fill(tf.shape(x)[:1], tf.constant(np.nan, tf.float64))
    periods, expected, seen_dates, starts = {}, {}, {}, {}
    scales = layer.numbers.scale
    for name in layer.dates:
        row = layer.measured.index(name)
        low, high = layer.bounds[row, 0], layer.bounds[row, 1]
        periods[name] = DatePeriod(low, high, layer.grid[row])
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
