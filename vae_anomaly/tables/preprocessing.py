"""From raw named columns to the tensors the model sees, inside the graph.

Everything learned from data lives in the layer, so that the notebook, the batch job and the
server preprocess alike.
"""

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.tables.rules import KINDS
from vae_anomaly.tables.scales import N_KNOTS, SMALLEST_SCALE, learn_scale

# Beyond this many standard deviations a value is squeezed logarithmically.
SOFT_CLIP = 15.0
# An infinity counts as this many standard deviations before it is squeezed (to about 700).
_LARGEST = 1e300
# Larger steps (in scales) count as this.
_LARGEST_STEP = 1e6


@keras.saving.register_keras_serializable(package="vae_anomaly")
class TablePreprocessor(keras.layers.Layer):
    """Standardise numbers, encode categories, and tell which cells were observed.

    ========================= ===========================================================
    numeric, datetime         (value - center) / scale in float64, squeezed smoothly beyond
                              15 standard deviations, then float32; an infinity counts as
                              the farthest value there is
    boolean                   0 or 1
    categorical               one-hot over the ``max_levels`` most frequent levels, after a
                              slot for every other value
    missing cell              zeros, and observed = 0
    constant or empty column  scale 1: a later deviation is measured in the column's units
    ========================= ===========================================================

    A numeric column (not dates) with more than 20 values and a skewness beyond 2 or -2 in the
    training rows, outliers included, takes two features: the value, standardised, and its normal
    score, the normal quantile of its rank among the training rows (van der Waerden 1952),
    standardised too. The first keeps how far out a value is, the second tells the many small ones
    apart. Beyond the training rows normal scores go on with slope 1 per scale, by 1 at most. A
    Gaussian likelihood of such features needs the ``column_widths``.

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
        Filled in by ``adapt``.
    max_levels : int
        Most frequent levels kept of a categorical column.
    normal_scores : bool
        False: each numeric column takes one feature.
    skewed : sequence of column names
        Numeric columns that take two features; found by ``adapt``.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Attributes
    ----------
    column_names : list of str
        The columns in the order of the outputs: numeric and datetime, boolean, categorical.
    column_widths : list of int
        How many features of x each of them takes.

    Examples
    --------
    >>> import numpy as np
    >>> layer = TablePreprocessor({"size": "numeric"})
    >>> layer.adapt({"size": np.array([1.0, 3.0, np.nan])})
    >>> x, observed = layer({"size": np.array([2.0, np.nan])})
    >>> x.numpy().tolist(), observed.numpy().tolist()
    ([[0.0], [0.0]], [[1.0], [0.0]])
    """

    def __init__(self, kinds, levels=None, max_levels=50, normal_scores=True, skewed=(), **kwargs):
        unknown = sorted(set(kinds.values()) - set(KINDS))
        if unknown or not kinds:
            raise ValueError(f"Expected columns of the kinds {KINDS}. Received: kinds={kinds!r}")
        if max_levels < 1:
            raise ValueError(f"Expected `max_levels` >= 1. Received: max_levels={max_levels!r}")
        # Neither the float64 columns nor the integers may be cast before they are centred.
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.kinds = dict(kinds)
        self.levels: dict[str, list[str]] = {}
        self.max_levels = int(max_levels)
        self.normal_scores = bool(normal_scores)
        numeric = [name for name, kind in kinds.items() if kind in ("numeric", "datetime")]
        boolean = [name for name, kind in kinds.items() if kind == "boolean"]
        self._number_names = numeric + boolean
        self._category_names = [name for name, kind in kinds.items() if kind == "categorical"]
        self.column_names = self._number_names + self._category_names
        self.n_numeric, self.n_boolean = len(numeric), len(boolean)
        self.center = self._weight("center", (len(self._number_names),), "zeros")
        self.scale = self._weight("scale", (len(self._number_names),), "ones")
        self.step = self._weight("step", (len(self._number_names),), "zeros")
        # Normal scores per numeric column, where it is skewed: the values (in scales from the
        # center) at the knots; the lowest and the highest score; the step of the scores.
        self.knots = self._weight("knots", (len(numeric), N_KNOTS), "zeros")
        self.score_range = self._weight("score_range", (len(numeric), 2), "zeros")
        self.score_step = self._weight("score_step", (len(numeric),), "zeros")
        self.skewed = list(skewed)
        self.missing_share = self._weight("missing_share", (len(self.column_names),), "zeros")
        if levels or not self._category_names:
            self._set_levels(levels or {})
        self.built = True

    def _weight(self, name, shape, initializer):
        return self.add_weight(
            shape=shape, dtype="float64", initializer=initializer, trainable=False, name=name
        )

    def _set_levels(self, levels):
        self.levels = {name: list(levels[name]) for name in self._category_names}
        # StringLookup refuses an empty vocabulary, and levels that equal its token for unknown
        # values; "" is missing, so it never reaches the table.
        self._lookups = [
            keras.layers.StringLookup(
                vocabulary=self.levels[name] or [""],
                oov_token="" if self.levels[name] else "[UNK]",
                name=f"lookup_{index}",
            )
            for index, name in enumerate(self._category_names)
        ]

    @property
    def column_widths(self):
        if set(self._category_names) != set(self.levels):
            raise ValueError("Expected `adapt` (or levels) before the layer is used.")
        skewed = set(self.skewed)
        numbers = [1 + (name in skewed) for name in self._number_names]
        return numbers + [1 + max(1, len(self.levels[name])) for name in self._category_names]

    @property
    def resolution(self):
        """Step between neighbouring values of each numeric feature, in scales: 0 if continuous."""
        steps = np.minimum((self.step / self.scale).numpy()[: self.n_numeric], _LARGEST_STEP)
        both = np.column_stack([steps, self.score_step.numpy()])
        widths = np.array(self.column_widths[: self.n_numeric], dtype=int)
        return both[widths[:, None] > [0, 1]]

    def adapt(self, arrays):
        """Learn center, scale, step and levels from training columns.

        Parameters
        ----------
        arrays : dict of column name to array (n,)
            As made by ``vae_anomaly.tables.columns.frame_arrays``.

        Raises
        ------
        ValueError
            A column contains an infinity.
        """
        numbers = {name: self._finite(name, arrays[name]) for name in self._number_names}
        texts = {name: np.asarray(arrays[name], dtype=object) for name in self._category_names}
        self._adapt_numbers({name: values[~np.isnan(values)] for name, values in numbers.items()})
        missing = [np.isnan(values).mean() for values in numbers.values()]
        missing += [np.mean(text == "") for text in texts.values()]
        self.missing_share.assign(missing)
        self._set_levels({name: self._most_frequent(text) for name, text in texts.items()})

    def _finite(self, name, values):
        values = np.asarray(values, dtype=np.float64)
        if np.isinf(values).any():
            raise ValueError(
                f"Column {name!r}: expected finite numbers. Received: infinity in row "
                f"{np.flatnonzero(np.isinf(values))[0]}. Replace it or mark it as missing."
            )
        return values

    def _adapt_numbers(self, present):
        """Learn from the cells of each column that are not missing."""
        center, scale, step = np.zeros((3, len(self._number_names)))
        scale += 1.0
        knots, score_range = np.zeros(self.knots.shape), np.zeros(self.score_range.shape)
        score_step = np.zeros(self.score_step.shape)
        self.skewed = []
        for index, (name, values) in enumerate(present.items()):
            kind = self.kinds[name]
            if kind == "boolean" or not values.size:
                continue
            learned = learn_scale(values, normal_scores=self.normal_scores and kind == "numeric")
            center[index], scale[index], step[index], scores = learned
            if scores is not None:
                self.skewed.append(name)
                knots[index], score_range[index], score_step[index] = scores
        self.center.assign(center)
        self.scale.assign(scale)
        self.step.assign(step)
        self.knots.assign(knots)
        self.score_range.assign(score_range)
        self.score_step.assign(score_step)

    def _most_frequent(self, texts):
        found, counts = np.unique(texts[texts != ""], return_counts=True)
        kept = np.argsort(-counts, kind="stable")[: self.max_levels]
        return sorted(str(level) for level in found[kept])

    def call(self, inputs):
        """Preprocess raw columns.

        Parameters
        ----------
        inputs : dict of column name to tensor (n,)
            float64, int64 or bool for numbers; string for categories.

        Returns
        -------
        x : float32 tensor, (n, sum(column_widths))
        observed : float32 tensor, (n, number of columns)
            1 where the cell had a value; columns in the order of ``column_names``.
        """
        widths = self.column_widths[len(self._number_names) :]
        x, observed = [], []
        if self._number_names:
            raw = tf.stack([tf.cast(inputs[name], tf.float64) for name in self._number_names], 1)
            present = tf.logical_not(tf.math.is_nan(raw))
            # A Bernoulli likelihood has no bound outside of [0, 1].
            boolean = tf.clip_by_value(raw[:, self.n_numeric :], 0.0, 1.0)
            raw = tf.concat([raw[:, : self.n_numeric], boolean], axis=1)
            values = tf.clip_by_value((raw - self.center) / self.scale, -_LARGEST, _LARGEST)
            values = tf.where(present, values, tf.zeros_like(values))
            is_known = present
            if self.skewed:
                n_numbers = len(self._number_names)
                number_widths = self.column_widths[:n_numbers]
                column_of_feature = np.repeat(np.arange(n_numbers), number_widths)
                is_known = tf.gather(present, column_of_feature, axis=1)
                columns = self._skewed_columns
                values = tf.concat([values, self._scores(values, columns)], axis=1)
                # Behind the value of its column comes each score.
                order = column_of_feature.copy()
                order[np.cumsum(number_widths)[columns] - 1] = n_numbers + np.arange(len(columns))
                values = tf.gather(values, order, axis=1)
            excess = tf.math.log1p(tf.nn.relu(tf.abs(values) - SOFT_CLIP))
            values = tf.clip_by_value(values, -SOFT_CLIP, SOFT_CLIP) + tf.sign(values) * excess
            x.append(tf.where(is_known, values, tf.zeros_like(values)))
            observed.append(present)
        for name, lookup, width in zip(self._category_names, self._lookups, widths, strict=True):
            text = inputs[name]
            present = tf.not_equal(text, "")[:, None]
            one_hot = tf.one_hot(lookup(text), width, dtype=tf.float64)
            x.append(tf.where(present, one_hot, tf.zeros_like(one_hot)))
            observed.append(present)
        return (
            tf.cast(tf.concat(x, axis=1), tf.float32),
            tf.cast(tf.concat(observed, axis=1), tf.float32),
        )

    @property
    def _skewed_columns(self):
        return [self._number_names.index(name) for name in self.skewed]

    def _scores(self, values, columns):
        """Normal scores of some of these columns, (n, len(columns)), of (n, all columns)."""
        values = tf.transpose(tf.gather(values, columns, axis=1))
        knots, score_range = tf.gather(self.knots, columns), tf.gather(self.score_range, columns)
        below = tf.searchsorted(knots, values, side="right") - 1
        below = tf.clip_by_value(below, 0, N_KNOTS - 2)
        start, end = (tf.gather(knots, below + k, batch_dims=1) for k in (0, 1))
        width = tf.maximum(end - start, SMALLEST_SCALE)
        share = tf.clip_by_value((values - start) / width, 0.0, 1.0)
        low, high = score_range[:, :1], score_range[:, 1:]
        scores = low + (tf.cast(below, tf.float64) + share) * ((high - low) / (N_KNOTS - 1))
        scores -= tf.clip_by_value(knots[:, :1] - values, 0.0, 1.0)
        scores += tf.clip_by_value(values - knots[:, -1:], 0.0, 1.0)
        return tf.transpose(scores)

    def _values_of_scores(self, scores, columns):
        """Undo ``_scores``: values in scales from the center, (n, len(columns))."""
        knots, score_range = tf.gather(self.knots, columns), tf.gather(self.score_range, columns)
        low, high = score_range[:, :1], score_range[:, 1:]
        place = tf.clip_by_value((tf.transpose(scores) - low) / (high - low), 0.0, 1.0)
        place *= N_KNOTS - 1
        below = tf.clip_by_value(tf.cast(place, tf.int32), 0, N_KNOTS - 2)
        start, end = (tf.gather(knots, below + k, batch_dims=1) for k in (0, 1))
        return tf.transpose(start + (place - tf.cast(below, tf.float64)) * (end - start))

    def inverse(self, x):
        """Turn model means back into columns in the units of the input.

        Parameters
        ----------
        x : array, (n, sum(column_widths))

        Returns
        -------
        dict of column name to array (n,), in input order
            Numbers as float64 (a boolean column: the probability of 1), of very skewed columns
            by their normal scores, so within the range of the training rows; categories as the
            most probable level, "" for the slot of unknown values.
        """
        arrays = {}
        for name, tensor in self._inverse(np.asarray(x)).items():
            array = tensor.numpy()
            is_text = self.kinds[name] == "categorical"
            arrays[name] = (
                np.array(self._texts(name), dtype=np.object_)[array] if is_text else array
            )
        return arrays

    def inverse_tensors(self, x):
        """Do what ``inverse`` does in the graph; x and the columns are tensors, text is UTF-8."""
        return {
            name: tf.gather(tf.constant(self._texts(name)), tensor)
            if self.kinds[name] == "categorical"
            else tensor
            for name, tensor in self._inverse(x).items()
        }

    def _inverse(self, x):
        """Columns as tensors, in input order: numbers, and of categories the slot in x."""
        x = tf.cast(x, tf.float64)
        n_numbers = len(self._number_names)
        tensors: dict[str, tf.Tensor] = {}
        widths = self.column_widths
        if n_numbers:
            first = np.cumsum(widths[:n_numbers]) - widths[:n_numbers]
            numbers = x[:, : sum(widths[:n_numbers])]
            excess = tf.math.expm1(tf.nn.relu(tf.abs(numbers) - SOFT_CLIP))
            numbers = tf.clip_by_value(numbers, -SOFT_CLIP, SOFT_CLIP) + tf.sign(numbers) * excess
            values = tf.gather(numbers, first, axis=1)
            if self.skewed:
                skewed = self._skewed_columns
                scores = tf.gather(numbers, first[skewed] + 1, axis=1)
                of_scores = self._values_of_scores(scores, skewed)
                order = np.arange(n_numbers)
                order[skewed] = n_numbers + np.arange(len(skewed))
                values = tf.gather(tf.concat([values, of_scores], axis=1), order, axis=1)
            columns = tf.unstack(values * self.scale + self.center, num=n_numbers, axis=1)
            tensors.update(zip(self._number_names, columns, strict=True))
        start = sum(widths[:n_numbers])
        for name, width in zip(self._category_names, widths[n_numbers:], strict=True):
            tensors[name] = tf.argmax(x[:, start : start + width], axis=1)
            start += width
        return {name: tensors[name] for name in self.kinds}

    def _texts(self, name):
        return ["", *(self.levels[name] or [""])]

    @property
    def lookup_tables(self):
        """The TensorFlow tables of the categorical columns: what an export has to track."""
        return [lookup.lookup_table for lookup in self._lookups]

    def schema(self):
        """Describe each column, for people: kind, units, levels, share missing, and treatment.

        Returns
        -------
        list of dict
            In input order, made of plain numbers and text.
        """
        missing = dict(zip(self.column_names, np.asarray(self.missing_share), strict=True))
        center = dict(zip(self._number_names, np.asarray(self.center), strict=True))
        scale = dict(zip(self._number_names, np.asarray(self.scale), strict=True))
        step = dict(zip(self._number_names, np.asarray(self.step), strict=True))
        columns = []
        for name, kind in self.kinds.items():
            column = {"name": name, "kind": kind, "missing_share": float(missing[name])}
            if kind == "categorical":
                column["levels"] = self.levels[name]
                column["treatment"] = "categorical likelihood over the levels and 'any other'"
            elif kind == "boolean":
                column["treatment"] = "Bernoulli likelihood"
            else:
                column["center"], column["scale"] = float(center[name]), float(scale[name])
                column["step"] = float(step[name])
                column["units"] = (
                    "seconds since 1970-01-01 UTC" if kind == "datetime" else "as given"
                )
                column["treatment"] = "Gaussian likelihood of (value - center) / scale"
                if name in self.skewed:
                    column["treatment"] += ", and of its normal score"
            columns.append(column)
        return columns

    def get_config(self):
        return {
            "name": self.name,
            "kinds": dict(self.kinds),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "skewed": list(self.skewed),
            "max_levels": self.max_levels,
            "normal_scores": self.normal_scores,
        }
