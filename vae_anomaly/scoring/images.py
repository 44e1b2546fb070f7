"""The scorer of images: score types of images, and images a bounded number at a time."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vae_anomaly.scoring.positions import PatchGaussians, UnusualLoss, over_pixels
from vae_anomaly.scoring.scorer import AnomalyScorer
from vae_anomaly.scoring.views import (
    MODEL_SCORES,
    EncodedRows,
    ImportanceWeighted,
    ScoreType,
    Terms,
    View,
    float64,
)
from vae_anomaly.vae.likelihoods import Bernoulli
from vae_anomaly.vae.pixel_likelihoods import DiscretizedLogistic, sharpness

# Values decoded at once, and most images in a call of the graph: always the same number, since
# results differ in their last bits with the number of images.
_CHUNK_VALUES = 2**19
_MOST_CHUNK_IMAGES = 48
# Training images from which statistics are learned, and values of images held at once.
_STATISTICS_IMAGES = 2000
_VALUES_AT_ONCE = 2**25
_SMALLEST_DEVIATION = 1e-3
# Pixels beyond which a sum over them hides more and more of a small defect (benchmarks/LOG.md).
_SMALL_IMAGE = 64 * 64
# Steps between the lowest and the highest value, for bits per dimension: those of eight bits.
_N_STEPS = 255


def n_images_at_once(n_values):
    """Return how many images, of this many values each, may be held in memory as floats."""
    return max(1, _VALUES_AT_ONCE // n_values)


def preprocessed(preprocessor, images, rows):
    """Return pixels of some images, float32 (n, *image_shape); of raw ones holds a bounded number.

    Parameters
    ----------
    preprocessor : vae_anomaly.images.preprocessing.ImagePreprocessor
    images : array (n, height, width, channels) or vae_anomaly.images.files.ImageFolder
    rows : int array
    """
    step = n_images_at_once(int(np.prod(images.shape[1:])))
    parts = [
        preprocessor.pixels(
            np.asarray(images[rows[start : start + step]], preprocessor.image_dtype)
        )
        for start in range(0, max(len(rows), 1), step)
    ]
    return np.concatenate(parts)


def some_images(n_images, n_values, seed):
    """Draw the numbers of the training images from which statistics are learned, sorted."""
    n_some = min(_STATISTICS_IMAGES, n_images_at_once(n_values))
    return np.sort(np.random.default_rng(seed).permutation(n_images)[:n_some])


class TypicalPixels(View):
    r"""How much less probable pixels are than those that the model itself would draw.

    .. math:: \frac1K \sum_k \big(\log p(x_d|z_k) - E_{x' \sim p(\cdot|z_k)} \log p(x'_d|z_k)\big)

    in nats: simple images do not gain from being simple (the entropy is that of the typicality
    test of Nalisnick et al. 2019). What no pixel owns is the image's ``sharpness``, a log-ratio.
    """

    def terms(self, rows: EncodedRows) -> Terms:
        excess = rows.model.excess_log_prob(rows.inputs, rows.z)
        return ops.mean(excess, axis=1), sharpness(rows.inputs)


class ImageComposite(ScoreType):
    r"""The sum of typical pixels, less penalties for an unusual sharpness and unusual patches.

    .. math:: (1 - a) s(x) - a \frac{\sigma}{\sigma_u} \sum_p u_p(x)
        - \frac{\sigma}{3} \max(0, t(x)^2 - t_{99}^2),
        \quad t(x) = (h(x) - \mu_h) / \sigma_h,
        \quad a = [2 - 4 R^2]_0^1 \, [3 - \rho]_0^1

    s is the sum over ``TypicalPixels``, sigma its standard deviation, h the sharpness with mean
    mu_h, standard deviation sigma_h and the 99% quantile of t^2, all of the training images: three
    deviations in one count about as much as three in the other. u_p is the ``UnusualLoss`` of a
    patch, sigma_u the standard deviation of its sum over images held out, R^2 the share that the
    model explains, n the number of pixels, and rho the ``tail`` of patches (``PatchGaussians``);
    [v] is v between 0 and 1. Patches take the place of pixels where the model explains less than
    half, or images are large, and Gaussians describe them (not where most are blank and a few are
    not): they find small defects of parts that are in one place, which a sum over many pixels
    hides, and miss what is unusual as a whole. Nothing is lost by a patch with less in it than
    usual, so a flat image is found by its sharpness.

    Parameters
    ----------
    image_shape : (int, int, int)
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, image_shape: tuple[int, int, int], **kwargs: Any) -> None:
        super().__init__([TypicalPixels(), PatchGaussians(image_shape)], **kwargs)
        self._image_shape = image_shape
        # Mean and standard deviation of the sharpness, the square of its largest usual deviation
        # from the mean (in standard deviations), and the weight of what is beyond that.
        self.usual_sharpness = self._constant("usual_sharpness", (4,))
        self.usual_sharpness.assign([0.0, 1.0, 0.0, 0.0])
        self.loss = UnusualLoss()
        # Their share, and by what to multiply their losses.
        self.usual_patches = self._constant("usual_patches", (2,))

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        return {
            **super().own_weights,
            "usual_sharpness": self.usual_sharpness,
            "usual_loss": self.loss.usual,
            "usual_patches": self.usual_patches,
        }

    def learn_usual(self, measured: Iterable[tuple[list[Terms], Any]]) -> None:
        (((columns, sharp), _), _), ((_, (excess, _)), _) = measured
        total = tf.reduce_sum(float64(columns), axis=1).numpy()
        sharp = np.asarray(sharp, np.float64)
        deviation = max(sharp.std(), _SMALLEST_DEVIATION)
        squared = np.square((sharp - sharp.mean()) / deviation)
        usual, weight = np.quantile(squared, 0.99), total.std() / 3
        self.usual_sharpness.assign([sharp.mean(), deviation, usual, weight])
        self.loss.learn(excess)
        losses = self.loss(excess).numpy().sum(axis=1)
        patches = self.views[1]
        height, width, _ = self._image_shape
        explained = patches.explained * min(1.0, _SMALL_IMAGE / (height * width))
        share = np.clip(2 - 4 * explained, 0, 1) * np.clip(3 - patches.tail(excess), 0, 1)
        scale = total.std() / max(losses.std(), _SMALLEST_DEVIATION)
        self.usual_patches.assign([share, share * scale])

    def combined(self, terms: list[Terms], *observed: tf.Tensor) -> Terms:
        (columns, sharp), (excess, _) = terms
        mean, deviation, usual, weight = tf.unstack(self.usual_sharpness.value)
        penalty = weight * tf.nn.relu(tf.square((float64(sharp) - mean) / deviation) - usual)
        share, scale = tf.unstack(self.usual_patches.value)
        height, width, channels = self._image_shape
        losses = over_pixels(self.loss(excess), self.views[1].maps_shape, (height, width))
        losses = tf.repeat(losses[..., None] / channels, channels, axis=3)
        losses = tf.reshape(losses, (-1, height * width * channels))
        features = (1 - share) * float64(columns) - scale * losses
        return features, -penalty


SCORE_TYPES = {"composite": lambda pre: ImageComposite(pre.image_shape), **MODEL_SCORES}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class ImageScorer(AnomalyScorer):
    """Score raw images with a trained model, always with the same draws of z.

    Score types are those of ``TableScorer``, with pixel values for columns, but the composite one
    is ``ImageComposite``.

    Parameters
    ----------
    preprocessor : vae_anomaly.images.preprocessing.ImagePreprocessor
    model, score_type, n_draws, n_calibration, seed, **kwargs
        As in ``AnomalyScorer``.
    """

    score_types = SCORE_TYPES

    @property
    def chunk_rows(self) -> int:
        return max(1, min(_MOST_CHUNK_IMAGES, _CHUNK_VALUES // self._n_columns))

    @property
    def _n_columns(self):
        return int(np.prod(self.preprocessor.image_shape))

    def call(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Score raw images.

        Parameters
        ----------
        images : tensor (n, height, width, channels)
            As ``ImagePreprocessor.call`` takes them.

        Returns
        -------
        dict of tensors
            As of ``TableScorer.call``, but ``feature_log_prob`` is (n, height, width): what each
            pixel adds to the score relative to its mean over the training images.
        """
        return self._put_together(self._measure(self.preprocessor(images)))

    def _put_together(self, terms):
        features, latent = self.score.combined(terms)
        outputs = self._outputs(features - self.feature_mean, latent - self.latent_mean)
        values = tf.reshape(outputs["feature_log_prob"], (-1, *self.preprocessor.image_shape))
        return {**outputs, "feature_log_prob": tf.reduce_sum(values, axis=-1)}

    def learn(self, images: Any, is_held_out: np.ndarray) -> np.ndarray:
        """Learn usual values and the pixels' means.

        Parameters
        ----------
        images : array-like (n, height, width, channels), read a chunk at a time
            All training images; means and usual values are those of at most 2,000 of them.
        is_held_out : bool array, (n,)
            Images that the model was not trained on: nothing is learned of them in particular.

        Returns
        -------
        (n,) float64 array
            Scores of all images.
        """
        chosen = some_images(len(is_held_out), self._n_columns, self.seed)
        x = preprocessed(self.preprocessor, images, chosen)
        held_out = is_held_out[chosen]
        for view in self.score.views:
            view.learn(self.model, (x,), held_out, self.seed)
        terms = self._measured(x)
        unseen = held_out if held_out.any() else slice(None)
        of_unseen = [tuple(term[unseen] for term in pair) for pair in terms]
        self.score.learn_usual([(terms, None), (of_unseen, None)])
        features, latent = self.score.combined(terms)
        self.feature_mean.assign(self.score.baseline(features.numpy()))
        self.latent_mean.assign(latent.numpy().mean())
        return self.run(images, ("score",))["score"]

    def bits_per_dimension(self, images: Any) -> np.ndarray:
        """Return -log2 p(x) per value of x, from the importance-weighted estimate, float64 (n,)."""
        return self._chunked(self._traced(self._bits, *self._specs), *self._chunks(images))[0]

    def _bits(self, x):
        likelihood = self.model.likelihood
        n_values = likelihood.n_features
        # A density becomes a probability by the width of a step.
        is_mass = isinstance(likelihood, (Bernoulli, DiscretizedLogistic))
        width = 0.0 if is_mass else n_values * np.log(_N_STEPS)
        features, rest = ImportanceWeighted().terms(EncodedRows(self.model, x, self.noise))
        log_p = tf.reduce_sum(features, axis=1) + rest
        return [(width - log_p) / (n_values * np.log(2))]

    def preprocess(self, images: Any) -> np.ndarray:
        """Return x of images, float32 of shape (n, height, width, channels), from 0 to 1."""
        return self.seen(images)

    def expected(self, images: Any) -> np.ndarray | None:
        """Return the images that the model expects, as ``seen``; None if it expects no images."""
        return np.clip(self.reconstruct(images), 0.0, 1.0)

    def seen(self, images: Any) -> np.ndarray:
        """Return images as they are looked at, float32 (n, *image_shape), from 0 to 1."""
        return preprocessed(self.preprocessor, images, np.arange(len(images)))

    @property
    def _specs(self):
        return [tf.TensorSpec([None, *self.preprocessor.image_shape])]

    def _chunks(self, images):
        def chunk(rows):
            x = preprocessed(self.preprocessor, images, np.arange(rows.start, rows.stop))
            return [self._filled(x)]

        return chunk, len(images)
