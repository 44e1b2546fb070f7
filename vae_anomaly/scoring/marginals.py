"""The view of columns by themselves: how common each value is, without the rest of the row."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vae_anomaly.scoring.views import EncodedRows, Terms, View, noise_bank
from vae_anomaly.vae.layers import sum_of_columns
from vae_anomaly.vae.likelihoods import Likelihood, Mixed

# Densities of numbers are tabulated at these standardised values: denser near the centre, and out
# to the farthest that ``TablePreprocessor`` makes of an infinity.
_FARTHEST = 710.0
_DENSE = 3.0
_N_KNOTS = 4001
_KNOTS = _DENSE * np.sinh(np.linspace(-1, 1, _N_KNOTS) * np.arcsinh(_FARTHEST / _DENSE))
# Training rows whose reconstructions make up the marginals.
_N_ROWS = 512
# Log-probabilities held at once while tabulating, so that wide tables need no more memory.
_BLOCK = 2**20
_SMALLEST_SHARE = 1e-7


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Marginals(View):
    r"""Marginal log-probability of each column of x under a trained model.

    .. math:: \log p(x_d) = \log \frac1M \sum_m p(x_d|z_m), \quad z_m \sim q(z|x_m)

    over M training rows: the marginal of the aggregated posterior (Hoffman & Johnson 2016,
    "ELBO surgery"), for numbers a kernel density whose kernels the model has learned. It is
    tabulated, 0.01 standard deviations apart near 0 and 0.03 apart at 10: narrower kernels than
    that are not seen whole. No part of this view belongs to the row as a whole.

    Parameters
    ----------
    column_widths : sequence of int
        Features of x that each column takes: numeric columns, then boolean, then categorical. The
        log-probabilities of a numeric column's features are added.
    n_numeric, n_boolean : int
        How many columns are numeric, and boolean.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Attributes
    ----------
    farthest : float
        Largest distance from 0 that is tabulated: any, unless rows to score have been looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.likelihoods import Gaussian
    >>> marginals = Marginals([1], n_numeric=1, n_boolean=0)
    >>> marginals.tabulate(Gaussian(1, variance=1.0), np.array([[0.0]], dtype="float32"))
    >>> marginals(np.array([[0.0]], dtype="float32")).numpy().round(4)
    array([[-0.9189]], dtype=float32)
    """

    def __init__(
        self, column_widths: Sequence[int], n_numeric: int, n_boolean: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.column_widths = [int(width) for width in column_widths]
        self.n_numeric = int(n_numeric)
        self.n_boolean = int(n_boolean)
        rest = self.column_widths[self.n_numeric :]
        self._n_numbers = sum(self.column_widths[: self.n_numeric])
        self._column_of_feature = np.repeat(np.arange(len(rest)), rest)
        self._functions: dict[int, Callable] = {}
        self.farthest = _FARTHEST
        self.table = self._constant("table", (_N_KNOTS, self._n_numbers))
        self.intercept = self._constant("intercept", (sum(rest),))
        self.slope = self._constant("slope", (sum(rest),))

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        weights = {"table": self.table, "intercept": self.intercept, "slope": self.slope}
        return {f"marginals_{name}": weight for name, weight in weights.items()}

    def learn(
        self, model: keras.Model, inputs: Any, is_held_out: np.ndarray, seed: int | None
    ) -> None:
        x, observed = inputs
        rows = np.random.default_rng(seed).permutation(len(x))[:_N_ROWS]
        z_mean, z_log_var = model.encode((x[rows], observed[rows]))
        z = z_mean + ops.exp(z_log_var / 2) * noise_bank(len(rows), model.latent_dim, seed)
        self.tabulate(model.likelihood, model.decoder(z))

    def tabulate_for(self, x: np.ndarray, scored: np.ndarray | None) -> None:
        """Leave out of the next tables what these rows, (n, features), do not need.

        Parameters
        ----------
        x : training rows
        scored : the other rows to score; None: any
        """
        self.farthest = _FARTHEST
        if scored is not None:
            numbers = (rows[:, : self._n_numbers] for rows in (x, scored))
            self.farthest = max(float(np.abs(part).max(initial=0)) for part in numbers)

    def tabulate(self, likelihood: Likelihood, outputs: tf.Tensor) -> None:
        """Tabulate the marginals of a mixture of distributions.

        Parameters
        ----------
        likelihood : vae_anomaly.vae.likelihoods.Likelihood
        outputs : tensor, (M, likelihood.n_outputs)
            The decoder's outputs for M draws of z.
        """
        outputs = ops.convert_to_tensor(outputs, "float32")
        if self.n_numeric:
            numbers = likelihood.parts[0] if isinstance(likelihood, Mixed) else likelihood
            ends = np.searchsorted(_KNOTS, [-self.farthest, self.farthest])
            # A knot more on both sides, for what lies between two.
            ends = tf.constant(np.clip(np.add(ends, [-2, 2]), 0, _N_KNOTS - 1), tf.int32)
            self.table.assign(self._tabulated(numbers)(outputs[:, : numbers.n_outputs], ends))
        share = np.mean(likelihood.mean(outputs), axis=0)[self._n_numbers :]
        share = np.clip(share, _SMALLEST_SHARE, 1 - _SMALLEST_SHARE)
        boolean = np.arange(len(share)) < self.n_boolean
        self.intercept.assign(np.where(boolean, np.log1p(-share), 0.0))
        self.slope.assign(np.log(share) - self.intercept.numpy())

    def _tabulated(self, numbers):
        """Return a function that gives the table; traced once.

        It takes outputs (M, outputs), and the first and the last knot that are needed.
        """
        if id(numbers) not in self._functions:  # which hold the likelihoods
            specs = tf.TensorSpec([None, numbers.n_outputs]), tf.TensorSpec([2], tf.int32)
            function = tf.function(functools.partial(self._densities, numbers), autograph=False)
            self._functions[id(numbers)] = function.get_concrete_function(*specs)
        return self._functions[id(numbers)]

    def _densities(self, numbers, outputs, ends):
        n_rows = tf.shape(outputs)[0]
        size = tf.clip_by_value(_BLOCK // (n_rows * self._n_numbers), 1, _N_KNOTS)
        n_blocks = -(-_N_KNOTS // size)
        knots = tf.pad(tf.constant(_KNOTS, tf.float32), [[0, n_blocks * size - _N_KNOTS]])

        def of_block(block):
            x = tf.tile(block[None, :, None], [1, 1, self._n_numbers])
            log_prob = numbers.log_prob_by_feature(x, outputs[:, None, :])
            return ops.logsumexp(log_prob, axis=0)  # sums over the first axis are the fastest

        # Whole blocks, so that a density does not depend on which others are needed.
        first, after = ends[0] // size, ends[1] // size + 1
        needed = tf.reshape(knots, [n_blocks, size])[first:after]
        blocks = tf.map_fn(of_block, needed, parallel_iterations=1)
        blocks = tf.pad(blocks, [[first, n_blocks - after], [0, 0], [0, 0]])
        table = tf.reshape(blocks, [-1, self._n_numbers])[:_N_KNOTS]
        return table - tf.math.log(tf.cast(n_rows, tf.float32))

    def terms(self, rows: EncodedRows) -> Terms:
        columns = self(rows.inputs[0])
        return columns, tf.zeros_like(columns[:, 0])

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return log p(x_d) in nats, (n, columns), for x of shape (n, features)."""
        numeric, rest = x[:, : self._n_numbers], x[:, self._n_numbers :]
        spread = _arcsinh(numeric / _DENSE) / np.arcsinh(_FARTHEST / _DENSE)
        below = ops.cast(ops.floor((spread + 1) * ((_N_KNOTS - 1) / 2)), "int32")
        below = ops.clip(below, 0, _N_KNOTS - 2)
        knots = ops.convert_to_tensor(_KNOTS, "float32")
        start, end = ops.take(knots, below), ops.take(knots, below + 1)
        index = below * self._n_numbers + ops.arange(self._n_numbers, dtype="int32")
        table = ops.reshape(self.table, (-1,))
        low, high = ops.take(table, index), ops.take(table, index + self._n_numbers)
        log_prob = low + (numeric - start) / (end - start) * (high - low)
        if self.n_numeric:
            log_prob = sum_of_columns(log_prob, self.column_widths[: self.n_numeric])
        if not len(self._column_of_feature):
            return log_prob
        features = ops.transpose(rest * self.slope + self.intercept)
        columns = ops.segment_sum(features, self._column_of_feature, sorted=True)
        return ops.concatenate([log_prob, ops.transpose(columns)], axis=1)

    def get_config(self):
        return {
            **super().get_config(),
            "column_widths": self.column_widths,
            "n_numeric": self.n_numeric,
            "n_boolean": self.n_boolean,
        }


def _arcsinh(x):
    """Return arcsinh(x), |x| < 1e19, to 1e-6: near enough to find a knot.

    ``ops.arcsinh`` takes three times as long on a CPU.
    """
    size = ops.abs(x)
    return ops.sign(x) * ops.log(size + ops.sqrt(size * size + 1.0))
