"""The calendar in the graph: seconds since 1970 to weekday, time of day and month, and back.

Functions of float64 tensors of any shape, in seconds since 1970-01-01 UTC; Monday is weekday 0,
January month 0. Months are computed as by H. Hinnant, "chrono-Compatible Low-Level Date
Algorithms" (https://howardhinnant.github.io/date_algorithms.html).
"""

from __future__ import annotations

import tensorflow as tf

from vae_anomaly.tables.date_parts import DAY, FIRST_SECOND, LAST_SECOND, WEEK

# 1970-01-01 was a Thursday.
_MONDAY = -3 * DAY
TWO_PI = 6.283185307179586
# Days from 0000-03-01 to 1970-01-01, and days of 400 years.
_EPOCH, _ERA = 719_468, 146_097
# More seconds than there are in 10 000 years: a cost that no distance outweighs.
_NEVER = 1e12


def is_date(seconds: tf.Tensor) -> tf.Tensor:
    """Tell what lies within the years 1 to 9999; NaN and infinities do not."""
    return (seconds >= FIRST_SECOND) & (seconds < LAST_SECOND + 1)


def weekday(seconds: tf.Tensor) -> tf.Tensor:
    """Return weekdays as int32, Monday 0.

    Examples
    --------
    >>> weekday(tf.constant([0.0, 3.5 * DAY, -DAY], tf.float64)).numpy().tolist()
    [3, 6, 2]
    """
    days = tf.math.floordiv(seconds - _MONDAY, DAY)
    return tf.cast(tf.math.floormod(days, 7.0), tf.int32)


def time_of_day(seconds: tf.Tensor) -> tf.Tensor:
    """Return the seconds since midnight, in [0, 86400)."""
    return tf.math.floormod(seconds, DAY)


def angle(seconds: tf.Tensor) -> tf.Tensor:
    """Return the times of day as angles in [0, 2 pi)."""
    return time_of_day(seconds) * (TWO_PI / DAY)


def time_of_angle(sine: tf.Tensor, cosine: tf.Tensor) -> tf.Tensor:
    """Return the times of day, in seconds, whose angles have a direction of any length."""
    return tf.math.floormod(tf.atan2(sine, cosine) * (DAY / TWO_PI), DAY)


def month(seconds: tf.Tensor) -> tf.Tensor:
    """Return months as int32, January 0.

    Examples
    --------
    >>> month(tf.constant([0.0, -1.0, 59 * DAY], tf.float64)).numpy().tolist()
    [0, 11, 2]
    """
    return tf.cast(_year_and_month(seconds)[1], tf.int32)


def first_of_month(seconds: tf.Tensor, months: tf.Tensor, years_later: int = 0) -> tf.Tensor:
    """Return the first second of a month (0 to 11) in the year of a moment, or years later."""
    year, _ = _year_and_month(seconds)
    return _first_second(year + years_later, tf.cast(months, tf.int64))


def nearest(
    anchor: tf.Tensor,
    *,
    time: tf.Tensor | None,
    day: tf.Tensor | None,
    months: tf.Tensor | None,
    low: tf.Tensor,
    high: tf.Tensor,
    bounded: tf.Tensor,
) -> tf.Tensor:
    """Return the moments nearest to others that have a given weekday, time of day and month.

    Parameters
    ----------
    anchor : float64 tensor, (n,)
        Within the years 1 to 9999.
    time : float64 tensor (n,), seconds since midnight, or None: that of the anchor
    day : int32 tensor (n,), weekday, or None: any; with months then the first of the month
    months : int32 tensor (n,), or None: any
    low, high : float64 scalar tensors
        Period to stay within where possible,
    bounded : bool tensor, (n,)
        if this is True.

    Returns
    -------
    float64 tensor, (n,)

    Examples
    --------
    >>> thursday, bounds = tf.zeros(1, tf.float64), tf.constant([-1e9, 1e9], tf.float64)
    >>> monday = nearest(
    ...     thursday, time=tf.constant([3600.0], tf.float64), day=tf.constant([0]), months=None,
    ...     low=bounds[0], high=bounds[1], bounded=tf.constant([False]))
    >>> monday.numpy().tolist()
    [-255600.0]
    """
    if months is not None and day is None:
        firsts = [first_of_month(anchor, months, later) for later in (-1, 0, 1)]
        return _cheapest(firsts, anchor, low, high, bounded)
    if months is not None:
        anchor = _into_month(anchor, months)
    if time is None and day is None:
        return anchor
    start = time_of_day(anchor) if time is None else time
    if day is not None:
        start += _MONDAY + tf.cast(day, tf.float64) * DAY
    cycle = DAY if day is None else WEEK
    found = start + tf.round((anchor - start) / cycle) * cycle
    return _cheapest([found + k * cycle for k in (0, -1, 1)], anchor, low, high, bounded, months)


def _cheapest(candidates, anchor, low, high, bounded, months=None):
    """The candidate nearest to the anchor, in its month if one is, in the period if bounded."""
    moments = tf.stack(candidates, axis=1)
    cost = tf.abs(moments - anchor[:, None])
    outside = ((moments < low) | (moments > high)) & bounded[:, None]
    cost += _NEVER * tf.cast(outside, tf.float64)
    if months is not None:
        cost += 2 * _NEVER * tf.cast(month(moments) != months[:, None], tf.float64)
    return tf.gather(moments, tf.argmin(cost, axis=1), batch_dims=1)


def _into_month(anchor, months):
    """The moment nearest to the anchor that is in a given month, of whatever year."""
    within = []
    for later in (-1, 0, 1):
        first = first_of_month(anchor, months, later)
        year, _ = _year_and_month(first)
        months64 = tf.cast(months, tf.int64)
        after = _first_second(year + (months64 + 1) // 12, (months64 + 1) % 12)
        within.append(tf.clip_by_value(anchor, first, after - 1.0))
    moments = tf.stack(within, axis=1)
    return tf.gather(moments, tf.argmin(tf.abs(moments - anchor[:, None]), 1), batch_dims=1)


def _year_and_month(seconds):
    """Years and months (0 to 11) as int64."""
    days = tf.cast(tf.math.floordiv(seconds, DAY), tf.int64) + _EPOCH
    era = tf.math.floordiv(days, _ERA)
    day_of_era = days - era * _ERA
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    since_march = (5 * day_of_year + 2) // 153
    return year_of_era + era * 400 + since_march // 10, (since_march + 2) % 12


def _first_second(year, months):
    """The first second of months (0 to 11) of years, int64, as float64."""
    year = year - tf.cast(months < 2, tf.int64)
    era = tf.math.floordiv(year, 400)
    year_of_era = year - era * 400
    day_of_year = (153 * ((months + 10) % 12) + 2) // 5
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return tf.cast(era * _ERA + day_of_era - _EPOCH, tf.float64) * DAY
