"""Views of images by position: a Gaussian for each position of feature maps, or each patch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.scoring.views import EncodedRows, Terms, View, float64

# Share of a covariance's mean variance that is added to its diagonal. More is worse on real parts
# (benchmarks/LOG.md): directions of little variance tell most.
_RIDGE = 1e-2
# Images that the mean covariance of all positions counts as much as, at each position: few images
# tell little about a position (benchmarks/LOG.md).
_PRIOR_IMAGES = 30
# Principal axes of whole images: what images differ in as a whole is usual at no position alone.
_IMAGES_FOR_AXIS, _MOST_AXES = 24, 32
# Images of which the axes are learned: the time grows with the cube of their number.
_AXES_IMAGES = 2000
# Nats above which a position counts as unusual: this quantile of positions of normal images. The
# transition is as wide as this share of the way from the median to the 90% quantile.
_UNUSUAL, _WIDTH = 0.999, 0.5
# Images that are reconstructed at once, and positions whose covariances are inverted.
_RECONSTRUCTED, _POSITIONS_AT_ONCE = 32, 256
# Pixels along the side of a patch.
_PATCH = 4


class PositionGaussians(View):
    r"""How much less probable the residual at a position is than those of normal images are.

    .. math:: \tfrac12 \big(c - r_p^T \Sigma_p^{-1} r_p\big),
        \quad r = (I - A A^T)(x - E[x | z = E[z|x]] - m)

    in nats, for each position p of maps of c components: log-density less its mean, of a Gaussian
    with full covariance (Defard et al. 2020, "PaDiM"), of what the model and the first principal
    axes A of whole images leave unexplained. Mean m, axes and covariances are those of the training
    images: an axis for each 24 of them, 32 at most. Of more than 2,000 images, the axes are those
    of 2,000 drawn at random. Covariances are shrunk towards their mean over positions, which counts
    as 30 images do (Friedman 1989, "Regularized discriminant analysis", eq. 11).

    Parameters
    ----------
    x_shape : (int, int, int)
        Height, width and components.
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, x_shape: tuple[int, int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        height, width, size = x_shape
        self.center = self.add_weight(
            shape=(height * width, size), initializer="zeros", trainable=False, name="center"
        )
        # Principal axes of whole images; those that few images do not give are 0.
        self.axes = self.add_weight(
            shape=(height * width * size, _MOST_AXES),
            initializer="zeros",
            trainable=False,
            name="axes",
        )
        # Inverses of the covariances' Cholesky factors, transposed.
        self.whitening = self.add_weight(
            shape=(height * width, size, size),
            initializer="zeros",
            trainable=False,
            name="whitening",
        )

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        return {
            "position_center": self.center,
            "image_axes": self.axes,
            "position_whitening": self.whitening,
        }

    def learn(
        self, model: keras.Model, inputs: Any, is_held_out: np.ndarray, seed: int | None
    ) -> None:
        (x,) = inputs
        x = x if is_held_out.all() else x[~is_held_out]
        n_positions, size = self.center.shape
        residuals = np.array(self._maps(_residuals(model, x))).reshape(len(x), -1)
        center = residuals.mean(axis=0, dtype=np.float64).astype(np.float32)
        residuals -= center
        axes = _principal_axes(residuals, seed)
        residuals -= residuals @ axes @ axes.T
        self.center.assign(center.reshape(n_positions, size))
        self.axes.assign(np.pad(axes, ((0, 0), (0, _MOST_AXES - axes.shape[1]))))
        self.whitening.assign(_whitening(residuals.reshape(len(x), n_positions, size)))

    def terms(self, rows: EncodedRows) -> Terms:
        residual = self._maps(rows.inputs - rows.model.decode(rows.posterior[0]))
        n_positions, size = self.center.shape
        residual = tf.reshape(residual, (-1, n_positions * size))
        residual -= tf.reshape(self.center.value, (-1,))
        residual -= tf.matmul(residual @ self.axes.value, self.axes.value, transpose_b=True)
        residual = tf.reshape(residual, (-1, n_positions, size))
        white = tf.einsum("npc,pcd->npd", residual, self.whitening.value)
        excess = (size - tf.reduce_sum(tf.square(white), axis=-1)) / 2
        return excess, tf.zeros_like(excess[:, 0])

    def _maps(self, residuals):
        """Return maps, (n, height, width, components), of what the model leaves of its inputs."""
        return residuals


class PatchGaussians(PositionGaussians):
    """``PositionGaussians`` of patches of 4 x 4 pixels, side by side.

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels; patches over the edge are filled up with zeros.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Attributes
    ----------
    maps_shape : (int, int)
        How many patches are below each other, and side by side.
    explained : float
        Share that the model explains, of what images that it has not seen differ in, their
        brightness as a whole aside, from 0 to 1; known once ``learn`` is over, and not saved.
    """

    def __init__(self, image_shape: tuple[int, int, int], **kwargs: Any) -> None:
        height, width, channels = image_shape
        self.maps_shape = -(-height // _PATCH), -(-width // _PATCH)
        super().__init__((*self.maps_shape, _PATCH * _PATCH * channels), **kwargs)
        self.explained = 1.0

    def learn(
        self, model: keras.Model, inputs: Any, is_held_out: np.ndarray, seed: int | None
    ) -> None:
        super().learn(model, inputs, is_held_out, seed)
        (x,) = inputs
        x = x[is_held_out] if is_held_out.any() else x
        left, whole = (
            images - images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
            for images in (_residuals(model, x), x)
        )
        variance = np.square(whole - whole.mean(axis=0)).sum()
        share = np.square(left).sum() / variance if variance > 0 else 0.0
        self.explained = max(0.0, float(1 - share))

    def tail(self, excess: np.ndarray) -> float:
        """Return the mean squared distance of patches by the median; 1 of Gaussian ones, about."""
        squared = self.center.shape[1] - 2 * np.asarray(excess, np.float64)
        return float(squared.mean() / max(np.median(squared), 1e-6))

    def _maps(self, residuals):
        (rows, columns), (_, height, width, channels) = self.maps_shape, residuals.shape
        edges = [[0, 0], [0, _PATCH * rows - height], [0, _PATCH * columns - width], [0, 0]]
        patches = tf.reshape(
            tf.pad(residuals, edges), (-1, rows, _PATCH, columns, _PATCH, channels)
        )
        patches = tf.transpose(patches, (0, 1, 3, 2, 4, 5))
        return tf.reshape(patches, (-1, rows, columns, _PATCH * _PATCH * channels))


def _residuals(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return what a model leaves unexplained of its inputs."""
    parts = np.array_split(x, -(-len(x) // _RECONSTRUCTED))
    return np.concatenate([part - model.reconstruct(part).numpy() for part in parts])


class UnusualLoss(keras.layers.Layer):
    r"""What a position loses beyond what is usual, in nats.

    .. math:: w \log(1 + e^{(d_p - t) / w}), \quad d_p = -(\text{PositionGaussians})_p

    t is the 99.9% quantile of d over the positions of normal images, w half of the distance from
    their median to their 90% quantile: a few positions of a small defect are not lost among
    hundreds of normal ones, and each position of a large one counts.

    Parameters
    ----------
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(dtype="float64", **kwargs)
        self.usual = self.add_weight(
            shape=(2,), initializer="zeros", trainable=False, name="usual_loss"
        )
        self.usual.assign([0.0, 1.0])  # t and w
        self.built = True

    def learn(self, excess: np.ndarray) -> None:
        """Learn t and w from what ``PositionGaussians`` say of normal images, (n, positions)."""
        median, high, highest = np.quantile(-np.asarray(excess, np.float64), [0.5, 0.9, _UNUSUAL])
        self.usual.assign([highest, max(_WIDTH * (high - median), 1e-3)])

    def call(self, excess: tf.Tensor) -> tf.Tensor:
        usual, width = tf.unstack(self.usual.value)
        return width * tf.nn.softplus((-float64(excess) - usual) / width)


def over_pixels(
    values: tf.Tensor, maps_shape: tuple[int, ...], image_shape: tuple[int, ...]
) -> tf.Tensor:
    """Spread values of positions, (n, positions), over (n, height, width) pixels; sums stay.

    Both shapes begin with height and width.
    """
    (rows, columns), (height, width) = maps_shape[:2], image_shape[:2]
    maps = tf.reshape(values, (-1, rows, columns))
    return tf.einsum("hr,nrc,wc->nhw", _spread(rows, height), maps, _spread(columns, width))


def _principal_axes(x: np.ndarray, seed: int | None) -> np.ndarray:
    """Return the first principal axes of centred rows (n, d), or of some, float32 (d, k)."""
    if len(x) > _AXES_IMAGES:
        rows = np.random.default_rng(seed).choice(len(x), _AXES_IMAGES, replace=False)
        x = x[np.sort(rows)]
    n_axes = min(len(x) // _IMAGES_FOR_AXIS, _MOST_AXES)
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    largest = slice(len(x) - n_axes, None)
    lengths = np.sqrt(np.maximum(values[largest], 1e-12 * max(values[-1], 1e-12)))
    return x.T @ (vectors[:, largest] / lengths).astype(np.float32)


def _whitening(residuals: np.ndarray) -> np.ndarray:
    """Return W of the regularised covariance S of each position, with W W^T = S^-1.

    Parameters
    ----------
    residuals : (n, positions, c) array
        Of mean 0.

    Returns
    -------
    (positions, c, c) float32 array
    """
    n, n_positions, size = residuals.shape
    scatter = np.empty((n_positions, size, size))
    for position in range(n_positions):
        x = residuals[:, position].astype(np.float64)
        scatter[position] = x.T @ x
    degrees = max(n - 1, 1)
    mean = scatter.mean(axis=0) / degrees
    whitening = np.empty(scatter.shape, np.float32)
    for start in range(0, n_positions, _POSITIONS_AT_ONCE):
        some = slice(start, start + _POSITIONS_AT_ONCE)
        covariance = (scatter[some] + _PRIOR_IMAGES * mean) / (degrees + _PRIOR_IMAGES)
        levels = np.maximum(np.trace(covariance, axis1=1, axis2=2) / size, 1e-6)
        covariance += _RIDGE * levels[:, None, None] * np.eye(size)
        whitening[some] = np.linalg.inv(np.linalg.cholesky(covariance)).transpose(0, 2, 1)
    return whitening


def _spread(n_positions: int, n_pixels: int) -> tf.Tensor:
    """Return how positions along a side are spread over pixels, float64 (pixels, positions).

    Linear interpolation, of which each position's weights are scaled to a sum of 1.

    Examples
    --------
    >>> _spread(2, 4).numpy().tolist()
    [[0.5, 0.0], [0.375, 0.125], [0.125, 0.375], [0.0, 0.5]]
    """
    at = (np.arange(n_pixels) + 0.5) * n_positions / n_pixels - 0.5
    at = np.clip(at, 0, n_positions - 1)[:, None]
    weights = np.maximum(0, 1 - np.abs(at - np.arange(n_positions)))
    return tf.constant(weights / weights.sum(axis=0), tf.float64)
