"""From raw named columns to the tensors the model sees, inside the graph, and back.

Everything learned from data lives in the layer, so that the notebook, the batch job and the
server preprocess alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.tables import date_features
from vae_anomaly.tables.all_rows import AllRows
from vae_anomaly.tables.date_features import numbers_of
from vae_anomaly.tables.date_parts import DateParts
from vae_anomaly.tables.description import describe
from vae_anomaly.tables.inverse import columns_of, one_hots_of
from vae_anomaly.tables.learning import learn
from vae_anomaly.tables.model_columns import ModelColumns
from vae_anomaly.tables.number_features import NumberFeatures
from vae_anomaly.tables.profiles import Profile
from vae_anomaly.tables.rules import KINDS

Tensors = dict[str, tf.Tensor]


@keras.saving.register_keras_serializable(package="vae_anomaly")
class TablePreprocessor(keras.layers.Layer):
    """Standardise numbers, take dates apart, encode categories, and tell what was observed.

    ========================= ===========================================================
    numeric, timestamp        (value - center) / scale in float64, squeezed smoothly beyond
                              15 standard deviations, then float32; an infinity counts as
                              the farthest value there is
    datetime                  up to four *parts*, each a column of the model: sine and cosine of
                              the time of day; weekday; month; the seconds since the date column
                              before it, as a number. Which, see ``date_parts.learn_parts``
    boolean                   0 or 1
    categorical               one-hot over the ``max_levels`` most frequent values (of those that
                              are equally frequent all or none, and none that is there once),
                              after a slot for every other value; weekdays and months too
    missing cell              zeros, and observed = 0; of a difference, where either is missing
    constant or empty column  scale 1: a later deviation is measured in the column's units
    ========================= ===========================================================

    A numeric column (or a difference of dates) with more than 20 values and a skewness beyond 2 or
    -2 in the training rows, outliers included, takes two features: the value, standardised, and its
    normal score, the normal quantile of its rank among the training rows (van der Waerden 1952),
    standardised too. The first keeps how far out a value is, the second tells the many small ones
    apart. A Gaussian likelihood of such features needs the ``column_widths``.

    Center and scale are mean and standard deviation of the column after values beyond 10
    interquartile ranges from the median, and its lowest and highest 0.5%, are pulled in, so that
    a few gross outliers among the training rows do not hide the others. The step is the median
    difference of neighbouring distinct values: a column of few values, counts for example, tells
    nothing finer than that.

    Parameters
    ----------
    kinds : mapping of column name to kind
        In input order; kinds as in ``vae_anomaly.tables.columns``.
    levels : mapping of categorical column name to list of str, or None
        Filled in by ``adapt``, as are the next three.
    dates : mapping of datetime column name to the fields of ``DateParts``, or None
    skewed : sequence of int
        Which of the model's numbers take two features.
    profiles : sequence of the fields of ``Profile``
        How the training rows' cells are distributed, for comparing batches.
    dtypes : mapping of column name to str, or None
        The types, as pandas names them, that columns of whole numbers have in DataFrames.
    max_levels : int
        Most levels of a categorical column.
    normal_scores : bool
        False: each numeric column takes one feature.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> layer = TablePreprocessor({"size": "numeric"})
    >>> layer.adapt({"size": np.array([1.0, 3.0, np.nan])})
    >>> x, observed = layer({"size": np.array([2.0, np.nan])})
    >>> x.numpy().tolist(), observed.numpy().tolist()
    ([[0.0], [0.0]], [[1.0], [0.0]])
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        levels: Mapping[str, Sequence[str]] | None = None,
        dates: Mapping[str, Sequence[Any]] | None = None,
        skewed: Sequence[int] = (),
        profiles: Sequence[Sequence[Any]] = (),
        dtypes: Mapping[str, str] | None = None,
        max_levels: int = 50,
        normal_scores: bool = True,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kinds.values()) - set(KINDS))
        if unknown or not kinds:
            raise ValueError(f"Expected columns of the kinds {KINDS}. Received: kinds={kinds!r}")
        if max_levels < 1:
            raise ValueError(f"Expected `max_levels` >= 1. Received: max_levels={max_levels!r}")
        # Neither the float64 columns nor the integers may be cast before they are centred.
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.kinds = dict(kinds)
        self.levels: dict[str, list[str]] = {}
        self.dates: dict[str, DateParts] = {}
        self.profiles = [Profile(*profile) for profile in profiles]
        self.dtypes = dict(dtypes or {})
        self.max_levels = int(max_levels)
        self.normal_scores = bool(normal_scores)
        self._dates = self._of_kinds("datetime")
        self._categories = self._of_kinds("categorical")
        # What has a range in units: low, high, and the grid.
        self.measured = self._of_kinds("numeric", "timestamp", "datetime")
        self.bounds = self._weight("bounds", (len(self.measured), 2))
        self.grid = self._weight("grid", (len(self.measured),))
        self.missing_share = self._weight("missing_share", (len(self.kinds),))
        if set(levels or ()) == set(self._categories) and set(dates or ()) == set(self._dates):
            self._set_columns(levels or {}, dates or {}, skewed)
        self.built = True

    def _of_kinds(self, *kinds):
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def _weight(self, name, shape):
        return self.add_weight(
            shape=shape, dtype="float64", initializer="zeros", trainable=False, name=name
        )

    def _set_columns(self, levels, dates, skewed=()):
        """Decide which columns the model has."""
        self.levels = {name: list(levels[name]) for name in self._categories}
        self.dates = {name: DateParts(*dates[name]) for name in self._dates}
        if not set(self.since.values()) <= {None, *self._dates}:
            raise ValueError(f"Expected `dates` since each other. Received: dates={dates!r}")
        self.columns = ModelColumns.of(self.kinds, self.dates)
        sizes = self.columns.n_numbers, self.columns.n_numeric_numbers
        if not hasattr(self, "numbers"):
            self.numbers = NumberFeatures(*sizes, skewed, name="numbers")
        elif sizes != (self.numbers.n_numbers, self.numbers.n_numeric):
            raise ValueError(
                "Expected a new TablePreprocessor for dates of which other parts are modelled. "
                f"Received: {self.dates}, after another `adapt`."
            )
        # StringLookup refuses an empty vocabulary, and levels that equal its token for unknown
        # values; "" is missing, so it never reaches the table.
        self._lookups = {
            name: keras.layers.StringLookup(
                vocabulary=self.levels[name] or [""],
                oov_token="" if self.levels[name] else "[UNK]",
                name=f"lookup_{index}",
            )
            for index, name in enumerate(self._categories)
        }

    def _adapted(self):
        if not hasattr(self, "columns"):
            raise ValueError("Expected `adapt` (or levels) before the layer is used.")
        return self.columns

    @property
    def since(self) -> dict[str, str | None]:
        """Of each column of dates, the one before it whose difference is modelled."""
        return {name: parts.since for name, parts in self.dates.items()}

    @property
    def column_names(self) -> list[str]:
        """The column of the table that each column of the model is made of.

        Numbers (numeric columns, times of day and differences), booleans, categories, weekdays and
        months. Only dates may be there several times, or not at all.
        """
        return [name for name, _ in self._adapted().all]

    @property
    def column_widths(self) -> list[int]:
        """How many features of x each column of the model takes."""
        return self._adapted().widths(self.numbers.widths, self.levels)

    @property
    def n_numeric(self) -> int:
        """How many columns of the model are numbers."""
        return len(self._adapted().numeric)

    @property
    def n_boolean(self) -> int:
        """How many are booleans."""
        return len(self._adapted().boolean)

    @property
    def skewed(self) -> list[str]:
        """The columns of the table that have a number with two features."""
        columns = self._adapted()
        return [
            name
            for (name, _), first in zip(columns.numbers, columns.first_numbers, strict=True)
            if first in self.numbers.skewed
        ]

    @property
    def resolution(self) -> np.ndarray:
        """Step between neighbouring values of each numeric feature, in scales: 0 if continuous."""
        self._adapted()
        return self.numbers.resolution

    def adapt(
        self,
        arrays: Mapping[str, np.ndarray],
        weights: np.ndarray | None = None,
        all_rows: AllRows | None = None,
    ) -> None:
        """Learn scales, levels, parts of dates and profiles from training columns.

        Parameters
        ----------
        arrays : mapping of column name to array (n,)
            As made by ``vae_anomaly.tables.columns.frame_arrays``.
        weights : (n,) float64 array or None
            Of the rows, positive; see ``learning.learn``.
        all_rows : AllRows or None
            What all rows show, where these are a sample of them.

        Raises
        ------
        ValueError
            A column contains an infinity; there are dates alone, and too few to tell anything.
        """
        learned = learn(
            self.kinds,
            arrays,
            max_levels=self.max_levels,
            normal_scores=self.normal_scores,
            weights=weights,
            all_rows=all_rows,
        )
        self._set_columns(learned.levels, learned.dates)
        self.missing_share.assign(learned.missing_shares)
        self.bounds.assign(learned.bounds)
        self.grid.assign(learned.grid)
        self.numbers.learn(learned.scales)
        self.profiles = learned.profiles

    def call(self, inputs: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """Preprocess raw columns.

        Parameters
        ----------
        inputs : dict of column name to tensor (n,)
            float64, int64 or bool for numbers; string for categories, or int64: the place among
            ``levels``, from 1, 0 for any other value and -1 where it is missing.

        Returns
        -------
        x : float32 tensor, (n, sum(column_widths))
        observed : float32 tensor, (n, columns of the model)
            1 where the cell had a value.
        """
        columns = self._adapted()
        x, observed = [], []
        if columns.numbers:
            parts = [numbers_of(name, part, self.since, inputs) for name, part in columns.numbers]
            raw = tf.stack([values for numbers in parts for values in numbers], 1)
            present = tf.logical_not(tf.math.is_nan(raw))
            x.append(self.numbers(raw, present))
            observed.append(tf.gather(present, columns.first_numbers, axis=1))
        widths = self.column_widths[len(columns.numbers) :]
        for (name, part), width in zip(columns.one_hots, widths, strict=True):
            place, present = self._place(inputs[name], name, part)
            one_hot = tf.one_hot(place, width, dtype=tf.float64)
            x.append(tf.where(present[:, None], one_hot, tf.zeros_like(one_hot)))
            observed.append(present[:, None])
        return (
            tf.cast(tf.concat(x, axis=1), tf.float32),
            tf.cast(tf.concat(observed, axis=1), tf.float32),
        )

    def _place(self, column, name, part):
        """Which feature of a one-hot is 1, (n,) int, and whether the cell is there."""
        if part == "value" and column.dtype == tf.string:
            return self._lookups[name](column), tf.not_equal(column, "")
        if part == "value":
            is_level = column <= len(self.levels[name])
            return tf.where(is_level, column, tf.zeros_like(column)), column >= 0
        seconds = tf.cast(column, tf.float64)
        slots = {"weekday": date_features.weekday_slots, "month": date_features.month_slots}
        return slots[part](seconds), tf.logical_not(tf.math.is_nan(seconds))

    def inverse(
        self, x: np.ndarray, arrays: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Turn model means back into columns in the units of the input.

        Parameters
        ----------
        x : array, (n, sum(column_widths))
        arrays : mapping of column name to array (n,), or None
            The rows that these are the means of: dates are given as those nearest to theirs.

        Returns
        -------
        dict of column name to array (n,), in input order
            Numbers as float64 (a boolean column: the probability of 1), on the column's grid and
            within the range of the training rows; dates as ``date_features.expected_dates``;
            categories as the most probable level, "" if there is none.
        """
        return self._as_arrays(columns_of(self, _float64(x), self._seen(arrays), {}))

    def inverse_tensors(self, x: tf.Tensor, inputs: Tensors) -> Tensors:
        """Do what ``inverse`` does in the graph; x and the columns are tensors, text is UTF-8."""
        tensors = columns_of(self, tf.cast(x, tf.float64), self._seen(inputs), {})
        for name in self._categories:
            tensors[name] = tf.gather(tf.constant(self.texts(name)), tensors[name])
        return tensors

    def inverse_samples(self, x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Turn samples of the model into columns in the units of the input.

        As ``inverse``, but dates are from all of the training period, and what was drawn as a value
        that ``adapt`` has not seen becomes one of the levels, each as often as among training rows.

        Parameters
        ----------
        x : array, (n, sum(column_widths))
        seed : int
        """
        rng = np.random.default_rng(seed)
        bounds = dict(zip(self.measured, np.asarray(self.bounds).tolist(), strict=True))
        start = {}
        for name in self._dates:
            low, high = bounds[name]
            start[name] = tf.constant(rng.uniform(low, high, len(x)))
        tensors = columns_of(self, _float64(x), {}, start)
        one_hots = one_hots_of(self, np.asarray(x))
        for profile in self.profiles:
            counts = np.array(profile.counts[1:])
            if profile.column in self._categories and counts.sum():
                levels = 1 + rng.choice(len(counts), len(x), p=counts / counts.sum())
                is_level = one_hots[profile.column, "value"][:, 0] < 1
                tensors[profile.column] = np.where(is_level, tensors[profile.column], levels)
        return self._as_arrays(tensors)

    def _seen(self, arrays):
        return {name: arrays[name] for name in self._dates} if arrays else {}

    def _as_arrays(self, tensors):
        return {
            name: np.array(self.texts(name), dtype=np.object_)[np.asarray(tensor)]
            if self.kinds[name] == "categorical"
            else np.asarray(tensor)
            for name, tensor in tensors.items()
        }

    def texts(self, name: str) -> list[str]:
        """Return what the features of a categorical column stand for; "" for any other value."""
        return ["", *(self.levels[name] or [""])]

    @property
    def lookup_tables(self) -> list[Any]:
        """The TensorFlow tables of the categorical columns: what an export has to track."""
        return [lookup.lookup_table for lookup in self._lookups.values()]

    def schema(self) -> list[dict[str, Any]]:
        """Describe each column; see ``description.describe``."""
        return describe(self)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kinds": dict(self.kinds),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "dates": {name: list(parts) for name, parts in self.dates.items()},
            "skewed": list(self.numbers.skewed) if hasattr(self, "numbers") else [],
            "dtypes": dict(self.dtypes),
            # Keras puts lists of its own in the place of attributes' lists.
            "profiles": [
                [column, part, list(edges), list(counts)]
                for column, part, edges, counts in self.profiles
            ],
            "max_levels": self.max_levels,
            "normal_scores": self.normal_scores,
        }


def _float64(x):
    return tf.constant(np.asarray(x, dtype=np.float64))
