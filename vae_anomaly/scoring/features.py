"""The scorer of images by their feature maps: a Gaussian at each position, and maps of pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.images.features import FeaturePreprocessor
from vae_anomaly.scoring.images import ImageScorer, preprocessed
from vae_anomaly.scoring.views import MODEL_SCORES, EncodedRows, ScoreType, Terms, View, float64

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


# Images whose maps are reconstructed at once.
_RECONSTRUCTED = 32


@dataclass(frozen=True)
class FeatureMaps:
    """Images whose feature maps are known already: what a fit computes once and uses often."""

    x: np.ndarray  #: float32 (n, height, width, components), as of ``FeaturePreprocessor.extract``

    def __len__(self) -> int:
        return len(self.x)


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
        parts = np.array_split(x, -(-len(x) // _RECONSTRUCTED))
        residuals = np.concatenate([part - model.reconstruct(part).numpy() for part in parts])
        residuals = residuals.reshape(len(x), -1)
        center = residuals.mean(axis=0, dtype=np.float64).astype(np.float32)
        residuals -= center
        axes = _principal_axes(residuals, seed)
        residuals -= residuals @ axes @ axes.T
        residuals = residuals.reshape(len(x), n_positions, size)
        self.center.assign(center.reshape(n_positions, size))
        self.axes.assign(np.pad(axes, ((0, 0), (0, _MOST_AXES - axes.shape[1]))))
        self.whitening.assign(_whitening(residuals))

    def terms(self, rows: EncodedRows) -> Terms:
        residual = rows.inputs - rows.model.decode(rows.posterior[0])
        n_positions, size = self.center.shape
        residual = tf.reshape(residual, (-1, n_positions * size))
        residual -= tf.reshape(self.center.value, (-1,))
        residual -= tf.matmul(residual @ self.axes.value, self.axes.value, transpose_b=True)
        residual = tf.reshape(residual, (-1, n_positions, size))
        white = tf.einsum("npc,pcd->npd", residual, self.whitening.value)
        excess = (size - tf.reduce_sum(tf.square(white), axis=-1)) / 2
        return excess, tf.zeros_like(excess[:, 0])


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
    (positions, c, c) float64 array
    """
    n, n_positions, size = residuals.shape
    scatter = np.empty((n_positions, size, size))
    for position in range(n_positions):
        x = residuals[:, position].astype(np.float64)
        scatter[position] = x.T @ x
    degrees = max(n - 1, 1)
    mean = scatter.mean(axis=0) / degrees
    covariance = (scatter + _PRIOR_IMAGES * mean) / (degrees + _PRIOR_IMAGES)
    levels = np.maximum(np.trace(covariance, axis1=1, axis2=2) / size, 1e-6)
    covariance += _RIDGE * levels[:, None, None] * np.eye(size)
    return np.linalg.inv(np.linalg.cholesky(covariance)).transpose(0, 2, 1)


class FeatureComposite(ScoreType):
    r"""What each position loses beyond what is usual, in nats.

    .. math:: -\sum_p w \log(1 + e^{(d_p - t) / w}), \quad d_p = -(\text{PositionGaussians})_p

    t is the 99.9% quantile of d over the positions of normal images, w half of the distance from
    their median to their 90% quantile: a few positions of a small defect are not lost among
    hundreds of normal ones, and each position of a large one counts.

    Parameters
    ----------
    x_shape : (int, int, int)
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, x_shape: tuple[int, int, int], **kwargs: Any) -> None:
        super().__init__([PositionGaussians(x_shape)], **kwargs)
        self.usual_loss = self._constant("usual_loss", (2,))  # t and w
        self.usual_loss.assign([0.0, 1.0])

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        return {**super().own_weights, "usual_loss": self.usual_loss}

    def learn_usual(self, measured: Iterable[tuple[list[Terms], Any]]) -> None:
        ((((excess, _),), _),) = measured
        median, high, highest = np.quantile(-np.asarray(excess, np.float64), [0.5, 0.9, _UNUSUAL])
        self.usual_loss.assign([highest, max(_WIDTH * (high - median), 1e-3)])

    def combined(self, terms: list[Terms], *observed: tf.Tensor) -> Terms:
        ((excess, rest),) = terms
        usual, width = tf.unstack(self.usual_loss.value)
        return -width * tf.nn.softplus((-float64(excess) - usual) / width), float64(rest)

    def baseline(self, features: np.ndarray) -> np.ndarray:
        # The same everywhere: most positions lose nearly nothing, and less a mean of their own they
        # would be ranked by it.
        return np.full(features.shape[1], features.mean())


@keras.saving.register_keras_serializable(package="vae_anomaly")
class FeatureScorer(ImageScorer):
    """Score raw images by feature maps of a frozen network, always with the same draws of z.

    Score types are those of ``ImageScorer``, of maps rather than of pixels, but the composite one
    is ``FeatureComposite``. What the positions of the maps add to a score is spread over the pixels
    around them.

    Parameters
    ----------
    preprocessor : vae_anomaly.images.features.FeaturePreprocessor
    model, score_type, n_draws, n_calibration, seed, **kwargs
        As in ``AnomalyScorer``.
    """

    preprocessor: FeaturePreprocessor

    score_types = {"composite": lambda pre: FeatureComposite(pre.x_shape), **MODEL_SCORES}

    @property
    def chunk_rows(self) -> int:
        return self.preprocessor.IMAGES_AT_ONCE

    @property
    def _n_columns(self):
        height, width, _ = self.preprocessor.x_shape
        return height * width

    def _put_together(self, terms):
        features, latent = self.score.combined(terms)
        features = self._by_position(features) - self.feature_mean
        outputs = self._outputs(features, latent - self.latent_mean)
        return {**outputs, "feature_log_prob": self._over_pixels(outputs["feature_log_prob"])}

    def _by_position(self, features):
        """Sum over the components of each position, where a view tells them apart."""
        n_components = features.shape[1] // self._n_columns
        parts = tf.reshape(features, (-1, self._n_columns, n_components))
        return tf.reduce_sum(parts, axis=2)

    def _over_pixels(self, features):
        """Spread values of positions, (n, positions), over (n, height, width) pixels; sums stay."""
        (rows, columns), (height, width) = (
            shape[:2] for shape in (self.preprocessor.x_shape, self.preprocessor.image_shape)
        )
        maps = tf.reshape(features, (-1, rows, columns))
        return tf.einsum("hr,nrc,wc->nhw", _spread(rows, height), maps, _spread(columns, width))

    def learn(self, data: Any, is_held_out: np.ndarray) -> np.ndarray:
        """Learn the Gaussians of the images that trained, and what is usual of those held out.

        Parameters
        ----------
        data : FeatureMaps
            Of all training images.
        is_held_out : bool array, (n,)
            Images that the model was not trained on; if all are, all do both.

        Returns
        -------
        (n,) float64 array
            Scores of all images.
        """
        for view in self.score.views:
            view.learn(self.model, (data.x,), is_held_out, self.seed)
        terms = self._measured(data.x[is_held_out])
        self.score.learn_usual([(terms, None)])
        features, latent = self.score.combined(terms)
        self.feature_mean.assign(self.score.baseline(self._by_position(features).numpy()))
        self.latent_mean.assign(latent.numpy().mean())
        return self.run(data, ("score",))["score"]

    def maps(self, images: Any) -> FeatureMaps:
        """Return what ``learn`` takes of raw images (n, height, width, channels)."""
        return FeatureMaps(self.preprocess(images))

    def preprocess(self, images: Any) -> np.ndarray:
        """Return x of images, float32 of shape (n, height, width, components)."""
        return self._chunked(lambda x: [x], *self._chunks(images))[0]

    def expected(self, images: Any) -> None:
        """Return None: maps of a network cannot be turned into images."""

    @property
    def _specs(self):
        return [tf.TensorSpec([None, *self.preprocessor.x_shape])]

    def _chunks(self, images):
        def chunk(rows):
            if isinstance(images, FeatureMaps):
                return [self._filled(images.x[rows])]
            pixels = preprocessed(self.preprocessor, images, np.arange(rows.start, rows.stop))
            return [self._filled(self.preprocessor.extract(pixels))]

        return chunk, len(images)


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
