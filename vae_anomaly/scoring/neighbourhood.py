"""The view of a row's neighbourhood: how far it is from the nearest of the reference rows."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vae_anomaly.scoring.views import EncodedRows, Terms, View

# k. With fewer, a small cluster of anomalies among the training rows is its own neighbourhood.
_N_NEAREST = 10
# Distances are blurred by this part of a usual one, so that duplicates are near, not infinitely so.
_BLUR = 0.1
# Rows held out by which the usual distance is learned.
_N_MEASURED = 480
# Reference rows that are looked at together.
_BLOCK = 16
# Where reference rows would be that there are not: farther than any row is.
_NOWHERE = 1e6


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Neighbourhood(View):
    r"""Log-density of a row, but for a constant, by its distance to the nearest reference rows.

    .. math:: -\frac D2 \log(r^2 + b^2), \quad r^2 = \frac1k \sum_{i \in N_k(x)} \|x - x_i\|^2

    N_k(x) are the k = 10 nearest reference rows (a row that is one itself finds itself among them)
    and D is the number of columns: the density of k points in a ball of radius r goes with r^-D
    (Loftsgaarden & Quesenberry 1965, "A nonparametric estimate of a multivariate density
    function"). b is a tenth of a usual distance, so that duplicates do not make the density
    infinite.

    How much farther a row is than usual is shared among the columns as r^2 is. How much nearer it
    is than usual is shared equally: no column makes a row near. A row that lacks cells is compared
    in the others, with D of them; cells that a reference row lacks are those that the model
    reconstructs.

    Parameters
    ----------
    column_widths : sequence of int
        Features of x that each column takes.
    n_reference : int
        Training rows to keep, >= 1. More than there are: all.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Attributes
    ----------
    references : keras.Variable, (n_reference, features)
        Preprocessed training rows, none of them held out.
    blur, usual : keras.Variable, ()
        b^2, and the median of log(r^2 + b^2) over rows held out.

    Examples
    --------
    >>> import numpy as np
    >>> view = Neighbourhood([1, 1], n_reference=100)
    >>> x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    >>> view.learn(None, (x, np.ones_like(x)), np.arange(200) < 20, seed=0)
    >>> near, far = view(np.array([[0, 0], [0, 9]], "float32"), np.ones((2, 2), "float32")).numpy()
    >>> bool(near.sum() > far.sum() and far[1] < far[0])
    True
    """

    needs_posterior = False

    def __init__(self, column_widths: Sequence[int], n_reference: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.column_widths = [int(width) for width in column_widths]
        self.n_reference = int(n_reference)
        self._n_nearest = min(_N_NEAREST, self.n_reference)
        self._column_of_feature = np.repeat(np.arange(len(column_widths)), self.column_widths)
        self.references = self._constant(
            "references", (self.n_reference, len(self._column_of_feature))
        )
        self.blur = self._constant("blur", ())
        self.usual = self._constant("usual", ())

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        weights = {"references": self.references, "blur": self.blur, "usual": self.usual}
        return {f"neighbourhood_{name}": weight for name, weight in weights.items()}

    @property
    def reference_rows(self) -> np.ndarray:
        """The reference rows that there are, (at most n_reference, features)."""
        references = self.references.numpy()
        return references[references[:, 0] < _NOWHERE]

    def learn(
        self, model: keras.Model, inputs: Any, is_held_out: np.ndarray, seed: int | None
    ) -> None:
        x, observed = inputs
        rng = np.random.default_rng(seed)
        trained, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        rows = rng.permutation(trained if len(trained) else held_out)[: self.n_reference]
        rows = np.resize(rows, max(len(rows), self._n_nearest))
        self._keep(model, x[rows], observed[rows])
        measured = rng.permutation(held_out)[:_N_MEASURED]
        squares = np.sum(self._squares(x[measured], observed[measured]), axis=1)
        apart = squares[squares > 0]
        self.blur.assign(_BLUR**2 * np.median(apart) if len(apart) else 1.0)
        self.usual.assign(np.median(np.log(squares + self.blur.numpy())))

    def _keep(self, model, x, observed):
        if not observed.all():
            is_missing = (observed == 0)[:, self._column_of_feature]
            x = np.where(is_missing, model.reconstruct((x, observed)), x)
        missing = self.n_reference - len(x)  # while cross-fitting there are fewer rows
        self.references.assign(np.pad(x, ((0, missing), (0, 0)), constant_values=_NOWHERE))

    def terms(self, rows: EncodedRows) -> Terms:
        columns = self(*rows.inputs)
        return columns, tf.zeros_like(columns[:, 0])

    def call(self, x: tf.Tensor, observed: tf.Tensor) -> tf.Tensor:
        """Return what each column adds, in nats, (n, columns).

        Parameters
        ----------
        x : tensor, (n, features)
            Preprocessed, 0 where missing.
        observed : tensor, (n, columns)
        """
        squares = self._squares(x, observed)
        square = ops.sum(squares, axis=1, keepdims=True)
        farther = ops.log(square + self.blur) - self.usual
        n_observed = ops.sum(observed, axis=1, keepdims=True)
        share = tf.math.divide_no_nan(squares, square)
        share = ops.where(farther > 0, share, tf.math.divide_no_nan(observed, n_observed))
        return -0.5 * (n_observed * farther * share + self.usual * observed)

    def _squares(self, x, observed):
        """Mean squares of the columns' distances, as of whole rows: they sum to r^2."""
        of_features = ops.take(observed, self._column_of_feature, axis=1)
        references = ops.convert_to_tensor(self.references)
        nearest = ops.take(references, self._nearest(references, x, observed), axis=0)
        # From the rows themselves: differences of large products have few digits.
        difference = (nearest - x[:, None, :]) * of_features[:, None, :]
        squares = self._by_column(ops.mean(ops.square(difference), axis=1))
        n_observed = ops.sum(observed, axis=1, keepdims=True)
        return squares * len(self.column_widths) / ops.maximum(n_observed, 1)

    def _nearest(self, references, x, observed):
        """Indices of the nearest reference rows, (n, k)."""
        # |x - reference|^2 in the observed columns, but for x^2, which all have in common.
        squares = self._by_column(ops.square(references))
        squared = ops.matmul(x, ops.transpose(-2 * references)) + ops.sum(squares, axis=1)
        missing = 1 - observed
        # Half of the work is left out where no row lacks cells; to whole ones it adds nothing.
        squared = tf.cond(
            tf.reduce_any(missing > 0),
            lambda: squared - ops.matmul(missing, ops.transpose(squares)),
            lambda: squared,
        )
        return _places_of_least(squared, self._n_nearest)

    def _by_column(self, features):
        """Add up the features, (n, features), of each column."""
        if set(self.column_widths) == {1}:
            return features
        columns = ops.segment_sum(ops.transpose(features), self._column_of_feature, sorted=True)
        return ops.transpose(columns)

    def get_config(self):
        return {
            **super().get_config(),
            "column_widths": self.column_widths,
            "n_reference": self.n_reference,
        }


def _places_of_least(values, n_least):
    """Indices of the least values of each row, (n, n_least), in no order.

    They are in the blocks whose least values are the least, so that few are to be sorted.
    """
    n_blocks = -(-values.shape[1] // _BLOCK)
    if n_blocks <= n_least:
        return tf.math.top_k(-values, n_least, sorted=False).indices
    missing = n_blocks * _BLOCK - values.shape[1]
    padded = tf.pad(values, ((0, 0), (0, missing)), constant_values=values.dtype.max)
    blocks = tf.reshape(padded, (-1, n_blocks, _BLOCK))
    least = tf.reduce_min(blocks, axis=2)
    # In each of n_least groups is a block at or below the greatest of the groups' minima.
    per_group = n_blocks // n_least
    groups = tf.reshape(least[:, : per_group * n_least], (-1, per_group, n_least))
    first = _least_within(least, n_least, tf.reduce_max(tf.reduce_min(groups, axis=1), axis=1))
    # In each of the chosen blocks is a value at or below the greatest of their minima.
    candidates = tf.reshape(tf.gather(blocks, first.indices, batch_dims=1), (-1, n_least * _BLOCK))
    place = _least_within(candidates, n_least, -tf.reduce_min(first.values, axis=1)).indices
    return tf.gather(first.indices, place // _BLOCK, batch_dims=1) * _BLOCK + place % _BLOCK


def _least_within(values, n_least, bounds):
    """Return ``top_k`` of the negative values; n_least of each row are at or below its bound.

    ``top_k`` spends time on each value that is among the least so far, so the values above the
    bound, which cannot be chosen, are all made the same.
    """
    near = tf.where(values > bounds[:, None], values.dtype.max, values)
    return tf.math.top_k(-near, n_least, sorted=False)
