"""The parts of dates in the graph: features of them, and dates put together of what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from vae_anomaly.tables import moments
from vae_anomaly.tables.date_parts import DateParts
from vae_anomaly.tables.grids import snapped
from vae_anomaly.tables.moments import DAY

# A weekday or month that was seen is expected if it is this probable, relative to the likeliest.
_PROBABLE = 0.1


def time_numbers(seconds: tf.Tensor) -> list[tf.Tensor]:
    """Return sine and cosine of times of day; NaN where missing, infinite where it is no date."""
    valid, safe = _safe(seconds)
    no_time = tf.where(tf.math.is_nan(seconds), seconds, tf.constant(np.inf, tf.float64))
    return [tf.where(valid, f(moments.angle(safe)), no_time) for f in (tf.sin, tf.cos)]


def numbers_of(
    name: str, part: str, since: Mapping[str, str | None], columns: Mapping[str, Any]
) -> list[tf.Tensor]:
    """Return the numbers of a part of a column, float64 (n,) each; NaN where missing.

    Parameters
    ----------
    name, part : str
        As in ``model_columns``, of a numeric or boolean one.
    since : mapping of datetime column name to that of the date before it, or None
    columns : mapping of column name to tensor or array (n,)
    """
    values = tf.cast(columns[name], tf.float64)
    if part == "time":
        return time_numbers(values)
    if part == "since" and (earlier := since[name]):
        return [difference(values, tf.cast(columns[earlier], tf.float64))]
    return [values]


def difference(later: tf.Tensor, earlier: tf.Tensor) -> tf.Tensor:
    """Return the seconds between dates; NaN where one is missing."""
    missing = tf.math.is_nan(later) | tf.math.is_nan(earlier)
    seconds = later - earlier
    # Of two infinities it is the farthest there is.
    is_lost = tf.math.is_nan(seconds) & ~missing
    return tf.where(is_lost, tf.constant(np.inf, tf.float64), seconds)


def weekday_slots(seconds: tf.Tensor) -> tf.Tensor:
    """Return the places of weekdays among their features: 0 for what is no date, Monday 1."""
    valid, safe = _safe(seconds)
    return tf.where(valid, moments.weekday(safe) + 1, 0)


def month_slots(seconds: tf.Tensor) -> tf.Tensor:
    """Return the places of months among their features: 0 for what is no date, January 1."""
    valid, safe = _safe(seconds)
    return tf.where(valid, moments.month(safe) + 1, 0)


def _safe(seconds):
    valid = moments.is_date(seconds)
    return valid, tf.where(valid, seconds, tf.zeros_like(seconds))


class DatePeriod(NamedTuple):
    """The training rows' dates of a column, as float64 scalars, in seconds."""

    low: Any
    high: Any
    grid: Any  #: the step between dates; 0 if there is none


class ExpectedParts(NamedTuple):
    """What a model says of the parts of a column of dates; None: not modelled."""

    time: Sequence[tf.Tensor] | None = None  #: sine and cosine of the time of day, (n,)
    weekday: tf.Tensor | None = None  #: (n, N_WEEKDAY) probabilities
    month: tf.Tensor | None = None  #: (n, N_MONTH) probabilities
    since: tf.Tensor | None = None  #: (n,) seconds since the date before
    tolerance: Any = 0.0  #: how far those seconds vary, a float64 scalar


def expected_dates(
    expected: Mapping[str, ExpectedParts],
    parts: Mapping[str, DateParts],
    periods: Mapping[str, DatePeriod],
    seen: Mapping[str, tf.Tensor],
    start: Mapping[str, tf.Tensor],
) -> dict[str, tf.Tensor]:
    """Put dates together of what is expected of their parts.

    That is the nearest moment with the weekday, time of day and month expected: nearest to the
    date seen; where it is missing, to ``start``, and within the training period. Of a column whose
    time since another date is modelled, it is the one nearest to that date plus the time expected,
    and no farther from it than that time varies; where that other date is missing, it is found
    from this one in the same way.

    What was seen of weekday, time of day and month is kept if it is probable too: a tenth as
    probable as the likeliest, or within a circular standard deviation of the time of day expected
    (Mardia & Jupp 2000, "Directional Statistics", 2.3.3).

    Parameters
    ----------
    expected, parts, periods : mappings by column name
        In the table's order.
    seen, start : mappings of column name to float64 tensor (n,)
        The row's dates, NaN where missing; moments within the training period.

    Returns
    -------
    dict of column name to float64 tensor (n,)
    """
    found: dict[str, tf.Tensor] = {}
    followers = {parts[name].since: name for name in expected}
    for name, of_column in expected.items():
        present, date = _safe(seen[name])
        anchor = start[name]
        if (later := followers.get(name)) is not None:
            is_there, later_date = _safe(seen[later])
            anchor = tf.where(is_there, later_date - expected[later].since, anchor)
        anchor = tf.where(present, date, anchor)
        follows = tf.zeros_like(present)
        if (other := parts[name].since) is not None:
            is_there, other_date = _safe(seen[other])
            # A date whose other one is missing is its own best witness.
            follows = is_there | ~present
            after = tf.where(is_there, other_date, found[other]) + of_column.since
            anchor = tf.where(follows, after, anchor)
        anchor = tf.clip_by_value(anchor, moments.FIRST_SECOND, moments.LAST_SECOND)
        low, high, grid = periods[name]
        moment = moments.nearest(
            anchor,
            time=_likely_time(of_column.time, date, present),
            day=_likely(of_column.weekday, moments.weekday(date), present),
            months=_likely(of_column.month, moments.month(date), present),
            low=low,
            high=high,
            bounded=~present,
        )
        is_far = tf.abs(moment - anchor) > of_column.tolerance
        moment = snapped(tf.where(follows & is_far, anchor, moment), grid)
        found[name] = tf.where(present, moment, tf.clip_by_value(moment, low, high))
    return found


def _likely_time(direction, seen, present):
    """The time of day of a mean direction, or the one seen if it is probable."""
    if direction is None:
        return None
    sine, cosine = direction
    time = moments.time_of_angle(sine, cosine)
    length = tf.clip_by_value(tf.sqrt(tf.square(sine) + tf.square(cosine)), 1e-9, 1.0)
    deviation = tf.sqrt(-2 * tf.math.log(length)) * (DAY / moments.TWO_PI)
    of_seen = moments.time_of_day(seen)
    apart = tf.abs(of_seen - time)
    keep = present & (tf.minimum(apart, DAY - apart) <= deviation)
    return tf.where(keep, of_seen, time)


def _likely(probabilities, seen, present):
    """The likeliest level, or the one seen if it is probable; None if there are none."""
    if probabilities is None:
        return None
    levels = probabilities[:, 1:]
    of_seen = tf.gather(levels, seen, batch_dims=1)
    keep = present & (of_seen >= _PROBABLE * tf.reduce_max(levels, axis=1))
    return tf.where(keep, seen, tf.argmax(levels, axis=1, output_type=tf.int32))
