"""The scorer of images: as that of tables, but for where its parts come from."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vae_anomaly.scoring.scorer import OUTPUTS, AnomalyScorer
from vae_anomaly.vae.likelihoods import Bernoulli
from vae_anomaly.vae.pixel_likelihoods import DiscretizedLogistic, sharpness

# Values decoded at once, and most images in a call of the graph: always exactly so many, as
# results differ in their last bits with the number of rows.
_CHUNK_VALUES = 2**19
_MOST_CHUNK_IMAGES = 48
# Training images from which statistics are learned, and values of images held at once.
_STATISTICS_IMAGES = 2000
_VALUES_AT_ONCE = 2**25
_SMALLEST_DEVIATION = 1e-3
# Steps between the lowest and the highest value, for bits per dimension: those of eight bits.
_N_STEPS = 255


def n_images_at_once(n_values):
    """Return how many images of so many values may be held in memory as floats."""
    return max(1, _VALUES_AT_ONCE // n_values)


def preprocessed(preprocessor, images, rows):
    """Return x of some images, float32 (n, *image_shape): a bounded number of raw ones at a time.

    Parameters
    ----------
    preprocessor : vae_anomaly.images.preprocessing.ImagePreprocessor
    images : array (n, height, width, channels) or vae_anomaly.images.files.ImageFolder
    rows : int array
    """
    step = n_images_at_once(int(np.prod(images.shape[1:])))
    parts = [
        preprocessor(np.asarray(images[rows[start : start + step]], preprocessor.image_dtype))
        for start in range(0, max(len(rows), 1), step)
    ]
    return np.concatenate(parts)


def some_images(n_images, n_values, seed):
    """Draw the numbers of the training images from which statistics are learned, sorted."""
    n_some = min(_STATISTICS_IMAGES, n_images_at_once(n_values))
    return np.sort(np.random.default_rng(seed).permutation(n_images)[:n_some])


@keras.saving.register_keras_serializable(package="vae_anomaly")
class ImageScorer(AnomalyScorer):
    r"""Score raw images with a trained model, always with the same draws of z.

    Score types are those of ``AnomalyScorer``, but for the composite one:

    .. math:: \frac1K \sum_{k,d} \big(\log p(x_d|z_k) - E_{x' \sim p(\cdot|z_k)} \log p(x'_d|z_k)\big)
        - \frac{\sigma}{3} \max(0, t(x)^2 - t_{99}^2), \quad t = (h(x) - \mu_h) / \sigma_h

    First, how much less probable the image is than those that the model itself would draw for the
    same z: simple images do not gain from being simple. Then how far its ``sharpness`` h is out of
    the usual, by mean, standard deviation and 99% quantile of the training images; sigma is
    the standard deviation of the first term there, so that three deviations in one count about as
    much as three in the other.

    Parameters
    ----------
    preprocessor : vae_anomaly.images.preprocessing.ImagePreprocessor
    model, score_type, n_draws, n_calibration, seed, **kwargs
        As in ``AnomalyScorer``.
    """  # noqa: E501

    def _add_own_weights(self):
        self.feature_mean = self._constant(
            "feature_mean", (int(np.prod(self.preprocessor.image_shape)),)
        )
        # Of the sharpness: mean, standard deviation, square of the largest usual deviation from
        # the mean (in standard deviations), and the weight of what is beyond that.
        self.usual_sharpness = self._constant("usual_sharpness", (4,))
        self.usual_sharpness.assign([0.0, 1.0, 0.0, 0.0])

    @property
    def own_weights(self):
        own = (self.noise, self.feature_mean, self.latent_mean, self.offset)
        return [*own, self.usual_sharpness, self.calibration_scores]

    @property
    def chunk_rows(self):
        """Images in a call of the graph."""
        n_values = int(np.prod(self.preprocessor.image_shape))
        return max(1, min(_MOST_CHUNK_IMAGES, _CHUNK_VALUES // n_values))

    def call(self, images):
        """Score raw images.

        Parameters
        ----------
        images : tensor (n, height, width, channels)
            As ``ImagePreprocessor.call`` takes them.

        Returns
        -------
        dict of tensors
            As of ``AnomalyScorer.call``, but ``feature_log_prob`` is (n, height, width): what each
            pixel adds to the score relative to its mean over the training images.
        """
        return self._scored(self.preprocessor(images))

    def _scored(self, x):
        features, latent = self._terms(x)
        outputs = self._outputs(features - self.feature_mean, latent - self.latent_mean)
        values = tf.reshape(outputs["feature_log_prob"], (-1, *self.preprocessor.image_shape))
        return {**outputs, "feature_log_prob": tf.reduce_sum(values, axis=-1)}

    def _composite_terms(self, inputs, z, *_):
        features = tf.cast(ops.mean(self.model.excess_log_prob(inputs, z), axis=1), tf.float64)
        return features, self._sharpness_term(tf.cast(sharpness(inputs), tf.float64))

    def _sharpness_term(self, sharp):
        mean, deviation, usual, weight = tf.unstack(self.usual_sharpness.value)
        return -weight * tf.nn.relu(tf.square((sharp - mean) / deviation) - usual)

    def calibrate(self, images, is_calibration):
        """Learn the usual sharpness, the pixels' means, and the calibration scores.

        Parameters
        ----------
        images : array-like (n, height, width, channels), read a chunk at a time
            All training images; means and usual values are those of at most 2,000 of them.
        is_calibration : bool array, (n,)
            The ``n_calibration`` images that the model was not trained on.

        Returns
        -------
        (n,) float64 array
            Scores of all images.
        """
        self.feature_mean.assign(np.zeros(self.feature_mean.shape))
        self.latent_mean.assign(0.0)
        self.usual_sharpness.assign([0.0, 1.0, 0.0, 0.0])

        def statistics(x):
            features, latent = self._terms(x)
            sharp = tf.cast(sharpness(x), tf.float64)
            return [features, latent, tf.reduce_sum(features, axis=1), sharp]

        n_values = int(np.prod(self.preprocessor.image_shape))
        chosen = some_images(len(is_calibration), n_values, self.seed)
        x = preprocessed(self.preprocessor, images, chosen)
        features, latent, total, sharp = super()._chunked(
            "statistics", statistics, (len(x), x.__getitem__), range(4)
        )
        self.feature_mean.assign(features.mean(axis=0))
        if self.score_type == "composite":
            deviation = max(sharp.std(), _SMALLEST_DEVIATION)
            squared = np.square((sharp - sharp.mean()) / deviation)
            usual, weight = np.quantile(squared, 0.99), total.std() / 3
            self.usual_sharpness.assign([sharp.mean(), deviation, usual, weight])
            latent = self._sharpness_term(sharp).numpy()
        self.latent_mean.assign(latent.mean())
        scores = self.run(images, ("score",))["score"]
        self.calibration_scores.assign(np.sort(scores[is_calibration]))
        return scores

    def bits_per_dimension(self, images):
        """Return -log2 p(x) per value of x, from the importance-weighted estimate, float64 (n,)."""
        likelihood = self.model.likelihood
        n_values = likelihood.n_features
        # A density becomes a probability by the width of a step.
        is_mass = isinstance(likelihood, (Bernoulli, DiscretizedLogistic))
        width = 0.0 if is_mass else n_values * np.log(_N_STEPS)

        def function(x):
            z, *posterior = self._draws(x)
            log_prob = self.model.feature_log_prob(x, z)
            features, rest = self._importance_weighted_terms(log_prob, z, *posterior)
            log_p = tf.reduce_sum(features, axis=1) + rest
            return [(width - log_p) / (n_values * np.log(2))]

        return self._chunked("bits", function, images, (0,))[0]

    def preprocess(self, images):
        """Return x of images, float32 (n, *image_shape), with values from 0 to 1."""
        return preprocessed(self.preprocessor, images, np.arange(len(images)))

    def run(self, images, names=OUTPUTS):
        """Compute the named outputs of ``call`` for raw images, a chunk of them at a time."""
        return dict(zip(names, self._chunked("outputs", self._scored, images, names), strict=True))

    def _apply(self, key, method, images):
        return self._chunked(key, lambda x: [method(x)], images, (0,))[0]

    def _chunked(self, key, function, images, names):
        def x_of(rows):
            return preprocessed(self.preprocessor, images, np.arange(rows.start, rows.stop))

        return super()._chunked(key, function, (len(images), x_of), names)

    def _n_rows(self, data):
        return data[0]

    def _block(self, data, rows):
        x = data[1](rows)
        padding = self.chunk_rows - len(x)
        return (tf.constant(np.pad(x, [(0, padding), (0, 0), (0, 0), (0, 0)])),)

    def _compiled(self, function, _):
        spec = tf.TensorSpec([None, *self.preprocessor.image_shape], tf.float32)
        return tf.function(
            function, input_signature=[spec], autograph=False
        ).get_concrete_function()
