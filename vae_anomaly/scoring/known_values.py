"""The view of values by themselves: whether a column whose values repeat had this one before."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.scoring.views import EncodedRows, Terms, View

# Columns in which more of the values are new tell nothing by a new one.
_LARGEST_SHARE = 0.1
# Known values on each side of a new one by which it is judged how many are new there.
_NEARBY = 5
# Features this near to each other, relative to their size, are one value: float32 has 7 digits.
_TOLERANCE = 1e-6
# Where known values would be that there are not: farther than any value is.
_NOWHERE = 1e6


@keras.saving.register_keras_serializable(package="vae_anomaly")
class KnownValues(View):
    r"""Log-probability of each number to be new in its column, or not.

    .. math:: \log p_d(x) \text{ where } x_d \text{ is new, else } \log(1 - p_d), \quad
        p = \frac{m + 1}{n + 2}

    of n training values, m of which occur once: the share of values to come that no training row
    has (Good 1953, "The population frequencies of species and the estimation of population
    parameters"). p_d is of all values of the column, p_d(x) of the five known values below x and
    the five above, for there may be more new ones in a thin tail than among frequent values. In
    columns whose values repeat, codes and counts and prices from a list, p is small, and a value
    between those there are is unusual though its density is not. Where p_d is over 0.1 the term is
    0, and so are those of columns that are no numbers: likelihoods of categories have a level for
    what is new. Numbers that go on where the known ones end, by a usual step (the median distance
    of neighbouring values) at most, count as known: the next year, or one item more, is no reason
    for an alarm, and how far out it is the other views tell.

    Parameters
    ----------
    column_widths : sequence of int
        Features of x that each column takes, the numeric columns first. The first of them is the
        value.
    n_numeric : int
        How many columns are numeric.
    n_known : int
        Most values to keep of a column, the most frequent ones, >= 1. Others count as new.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Attributes
    ----------
    values : keras.Variable, (n_numeric, n_known)
        Known features, ascending.
    log_new : keras.Variable, (n_numeric, n_known + 1)
        log p_d(x) below the first known feature, between the first and the second, ...
    log_known : keras.Variable, (n_numeric, 1)
        log(1 - p_d).
    ends : keras.Variable, (n_numeric, 4)
        A step below the least value, the least, the greatest, and a step above it.

    Examples
    --------
    >>> import numpy as np
    >>> view = KnownValues([1], n_numeric=1, n_known=5)
    >>> x = np.arange(98, dtype="float32")[:, None] % 4
    >>> view.learn(None, (x, np.ones_like(x)), np.zeros(98, bool), seed=0)
    >>> view(np.array([[1], [1.5]], "float32"), np.ones((2, 1), "float32")).numpy().round(2)
    array([[-0.01],
           [-4.61]], dtype=float32)
    """

    needs_posterior = False

    def __init__(
        self, column_widths: Sequence[int], n_numeric: int, n_known: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.column_widths = [int(width) for width in column_widths]
        self.n_numeric = int(n_numeric)
        self.n_known = int(n_known)
        ends = np.cumsum(self.column_widths[: self.n_numeric], dtype=int)
        self._features = (ends - self.column_widths[: self.n_numeric]).tolist()
        self.values = self._constant("values", (self.n_numeric, self.n_known))
        self.log_new = self._constant("log_new", (self.n_numeric, self.n_known + 1))
        self.log_known = self._constant("log_known", (self.n_numeric, 1))
        self.ends = self._constant("ends", (self.n_numeric, 4))

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        return {
            "known_values": self.values,
            "known_values_log_new": self.log_new,
            "known_values_log_known": self.log_known,
            "known_values_ends": self.ends,
        }

    def learn(
        self, model: keras.Model, inputs: Any, is_held_out: np.ndarray, seed: int | None
    ) -> None:
        x, observed = inputs
        trained = np.ones_like(is_held_out) if is_held_out.all() else ~is_held_out
        values = np.full(self.values.shape, _NOWHERE, np.float32)
        log_new, log_known, ends = (
            np.zeros(weight.shape) for weight in (self.log_new, self.log_known, self.ends)
        )
        for column, feature in enumerate(self._features):
            of_column = x[trained & (observed[:, column] > 0), feature]
            distinct, counts = np.unique(of_column, return_counts=True)
            if _share(np.count_nonzero(counts < 2), len(of_column)) > _LARGEST_SHARE:
                continue  # before the rest, which takes long for a number in each row
            kept = np.sort(np.argsort(-counts, kind="stable")[: self.n_known])
            share, nearby = _shares_of_new(counts, kept)
            if share > _LARGEST_SHARE:
                continue
            values[column, : len(kept)] = distinct[kept]
            log_new[column] = np.log(nearby[-1])
            log_new[column, : len(nearby)] = np.log(nearby)
            log_known[column] = np.log1p(-share)
            step = np.median(np.diff(distinct)) if len(distinct) > 1 else 0.0
            least, greatest = distinct[[0, -1]]
            ends[column] = least - step, least, greatest, greatest + step
        self.values.assign(values)
        self.log_new.assign(log_new)
        self.log_known.assign(log_known)
        self.ends.assign(ends)

    def terms(self, rows: EncodedRows) -> Terms:
        columns = self(*rows.inputs)
        return columns, tf.zeros_like(columns[:, 0])

    def call(self, x: tf.Tensor, observed: tf.Tensor) -> tf.Tensor:
        """Return what each column adds, in nats, (n, columns); 0 where a cell is missing.

        Parameters
        ----------
        x : tensor, (n, features)
            Preprocessed.
        observed : tensor, (n, columns)
        """
        # Variables are read here, since a branch that reads them is not stateless.
        known, log_new, log_known, ends = (
            tf.convert_to_tensor(weight)
            for weight in (self.values, self.log_new, self.log_known, self.ends)
        )
        # A table of measurements has no column whose values repeat.
        of_numbers = tf.cond(
            tf.reduce_any(log_known < 0),
            lambda: self._of_numbers(x, known, log_new, log_known, ends),
            lambda: tf.zeros_like(observed[:, : self.n_numeric]),
        )
        of_numbers = of_numbers * observed[:, : self.n_numeric]
        return tf.concat([of_numbers, tf.zeros_like(observed[:, self.n_numeric :])], axis=1)

    def _of_numbers(self, x, known, log_new, log_known, ends):
        """Return what numbers add, (n, n_numeric), as if none were missing."""
        numbers = tf.transpose(tf.gather(x, self._features, axis=1))
        above = tf.searchsorted(known, numbers, side="right")
        places = [tf.clip_by_value(above - k, 0, self.n_known - 1) for k in (0, 1)]
        away = [tf.abs(tf.gather(known, place, batch_dims=1) - numbers) for place in places]
        tolerance = _TOLERANCE * tf.maximum(tf.abs(numbers), 1.0)
        lowest, least, greatest, highest = tf.split(ends, 4, axis=1)
        goes_on = (numbers > lowest - tolerance) & (numbers < least)
        goes_on |= (numbers > greatest) & (numbers < highest + tolerance)
        is_new = (tf.minimum(*away) > tolerance) & ~goes_on
        new = tf.gather(log_new, above, batch_dims=1)
        return tf.transpose(tf.where(is_new, new, log_known))

    def get_config(self):
        return {
            **super().get_config(),
            "column_widths": self.column_widths,
            "n_numeric": self.n_numeric,
            "n_known": self.n_known,
        }


def _shares_of_new(counts, kept):
    """Return the share of values to come that are new: of all, and (len(kept) + 1,) by place.

    ``counts`` of distinct values, ascending, of which those numbered ``kept`` are known.
    """
    is_new = np.ones(len(counts), dtype=bool)
    is_new[kept] = counts[kept] < 2
    n_rows = np.concatenate([[0], np.cumsum(counts)])
    n_new = np.concatenate([[0], np.cumsum(np.where(is_new, counts, 0))])
    share = _share(n_new[-1], n_rows[-1])
    places = np.arange(len(kept) + 1)
    first, end = np.maximum(places - _NEARBY, 0), np.minimum(places + _NEARBY, len(kept))
    # What is not kept beyond the outermost known values is nearby too.
    starts = np.concatenate([[0], kept[1:], [len(counts)]])[first]
    ends = np.concatenate([[0], kept[:-1] + 1, [len(counts)]])[end]
    return share, _share(n_new[ends] - n_new[starts], n_rows[ends] - n_rows[starts])


def _share(n_new, n_rows):
    """Return p, see ``KnownValues``."""
    return (n_new + 1) / (n_rows + 2)
