"""Numbers to features of the model and back, in the graph: scaled, squeezed, with normal scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.tables.scales import N_KNOTS, SMALLEST_SCALE, NumberScale

# Beyond this many standard deviations a value is squeezed logarithmically.
SOFT_CLIP = 15.0
# An infinity counts as this many standard deviations before it is squeezed (to about 700).
_LARGEST = 1e300
# Larger steps (in scales) count as this.
_LARGEST_STEP = 1e6


@keras.saving.register_keras_serializable(package="vae_anomaly")
class NumberFeatures(keras.layers.Layer):
    """Standardise numbers; give the very skewed ones a second feature, their normal score.

    A feature is (value - center) / scale in float64, squeezed smoothly beyond 15, 0 where the value
    is missing. Beyond the training rows normal scores go on with slope 1 per scale, by 1 at most.

    Parameters
    ----------
    n_numbers : int
        How many numbers a row has.
    n_numeric : int
        The first of them, which have a scale; the others are booleans, kept within [0, 1].
    skewed : sequence of int
        Which take two features; set by ``learn``.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.tables.scales import learn_scale
    >>> numbers = NumberFeatures(n_numbers=1, n_numeric=1)
    >>> numbers.learn([learn_scale(np.array([1.0, 3.0]), normal_scores=True)])
    >>> numbers(np.array([[2.0], [3.0]]), np.array([[True], [True]])).numpy().round(2).tolist()
    [[0.0], [1.01]]
    """

    def __init__(
        self, n_numbers: int, n_numeric: int, skewed: Sequence[int] = (), **kwargs: Any
    ) -> None:
        super().__init__(dtype="float64", autocast=False, **kwargs)
        self.n_numbers = int(n_numbers)
        self.n_numeric = int(n_numeric)
        self.skewed = [int(index) for index in skewed]
        self.center = self._weight("center", (self.n_numbers,), "zeros")
        self.scale = self._weight("scale", (self.n_numbers,), "ones")
        self.step = self._weight("step", (self.n_numbers,), "zeros")
        # Normal scores per number, where it is skewed: the values (in scales from the center) at
        # the knots; the lowest and the highest score; the step of the scores.
        self.knots = self._weight("knots", (self.n_numeric, N_KNOTS), "zeros")
        self.score_range = self._weight("score_range", (self.n_numeric, 2), "zeros")
        self.score_step = self._weight("score_step", (self.n_numeric,), "zeros")
        self.built = True

    def _weight(self, name, shape, initializer):
        return self.add_weight(shape=shape, initializer=initializer, trainable=False, name=name)

    @property
    def widths(self) -> list[int]:
        """How many features each number takes."""
        skewed = set(self.skewed)
        return [1 + (index in skewed) for index in range(self.n_numbers)]

    @property
    def resolution(self) -> np.ndarray:
        """Step between neighbouring values of each numeric feature, in scales: 0 if continuous."""
        steps = np.minimum((self.step / self.scale).numpy()[: self.n_numeric], _LARGEST_STEP)
        both = np.column_stack([steps, self.score_step.numpy()])
        widths = np.array(self.widths[: self.n_numeric], dtype=int)
        return both[widths[:, None] > [0, 1]]

    def learn(self, scales: Sequence[NumberScale | None]) -> None:
        """Take over what ``learn_scale`` learned of each numeric column; None: nothing."""
        center, scale, step = np.zeros((3, self.n_numbers))
        scale += 1.0
        knots, score_range = np.zeros(self.knots.shape), np.zeros(self.score_range.shape)
        score_step = np.zeros(self.score_step.shape)
        self.skewed = []
        for index, learned in enumerate(scales):
            if learned is None:
                continue
            center[index], scale[index], step[index], scores = learned
            if scores is not None:
                self.skewed.append(index)
                knots[index], score_range[index], score_step[index] = scores
        self.center.assign(center)
        self.scale.assign(scale)
        self.step.assign(step)
        self.knots.assign(knots)
        self.score_range.assign(score_range)
        self.score_step.assign(score_step)

    def call(self, raw: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Return features, float64 (n, sum(widths)), of numbers (n, n_numbers).

        Parameters
        ----------
        raw : float64 tensor
        present : bool tensor, shaped alike
            Whether the number is there; where not, its features are 0.
        """
        # A Bernoulli likelihood has no bound outside of [0, 1].
        boolean = tf.clip_by_value(raw[:, self.n_numeric :], 0.0, 1.0)
        raw = tf.concat([raw[:, : self.n_numeric], boolean], axis=1)
        values = tf.clip_by_value((raw - self.center) / self.scale, -_LARGEST, _LARGEST)
        values = tf.where(present, values, tf.zeros_like(values))
        if self.skewed:
            number_of_feature = np.repeat(np.arange(self.n_numbers), self.widths)
            present = tf.gather(present, number_of_feature, axis=1)
            values = tf.concat([values, self._scores(values)], axis=1)
            # Behind the value of its column comes each score.
            order = number_of_feature.copy()
            scores = self.n_numbers + np.arange(len(self.skewed))
            order[np.cumsum(self.widths)[self.skewed] - 1] = scores
            values = tf.gather(values, order, axis=1)
        excess = tf.math.log1p(tf.nn.relu(tf.abs(values) - SOFT_CLIP))
        values = tf.clip_by_value(values, -SOFT_CLIP, SOFT_CLIP) + tf.sign(values) * excess
        return tf.where(present, values, tf.zeros_like(values))

    def inverse(self, features: tf.Tensor) -> tf.Tensor:
        """Return numbers, (n, n_numbers), of features; the skewed ones by their normal scores."""
        excess = tf.math.expm1(tf.nn.relu(tf.abs(features) - SOFT_CLIP))
        features = tf.clip_by_value(features, -SOFT_CLIP, SOFT_CLIP) + tf.sign(features) * excess
        first = np.cumsum(self.widths, dtype=int) - self.widths
        values = tf.gather(features, first, axis=1)
        if self.skewed:
            of_scores = self._values_of_scores(tf.gather(features, first[self.skewed] + 1, axis=1))
            order = np.arange(self.n_numbers)
            order[self.skewed] = self.n_numbers + np.arange(len(self.skewed))
            values = tf.gather(tf.concat([values, of_scores], axis=1), order, axis=1)
        return values * self.scale + self.center

    def _scores(self, values):
        """Normal scores of the skewed numbers, (n, len(skewed)), of (n, n_numbers)."""
        values = tf.transpose(tf.gather(values, self.skewed, axis=1))
        knots, score_range = self._knots()
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

    def _values_of_scores(self, scores):
        """Undo ``_scores``: values in scales from the center, (n, len(skewed))."""
        knots, score_range = self._knots()
        low, high = score_range[:, :1], score_range[:, 1:]
        place = tf.clip_by_value((tf.transpose(scores) - low) / (high - low), 0.0, 1.0)
        place *= N_KNOTS - 1
        below = tf.clip_by_value(tf.cast(place, tf.int32), 0, N_KNOTS - 2)
        start, end = (tf.gather(knots, below + k, batch_dims=1) for k in (0, 1))
        return tf.transpose(start + (place - tf.cast(below, tf.float64)) * (end - start))

    def _knots(self):
        return tf.gather(self.knots, self.skewed), tf.gather(self.score_range, self.skewed)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "n_numbers": self.n_numbers,
            "n_numeric": self.n_numeric,
            "skewed": list(self.skewed),
        }
