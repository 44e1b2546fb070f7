"""Likelihoods of pixels, and the two statistics by which images are told rough from smooth.

x is an image as one row of height * width * channels values in [0, 1], as ``ImagePreprocessor``
makes them.
"""

import keras
import numpy as np
from keras import ops

from vae_anomaly.vae.layers import LOG_2PI
from vae_anomaly.vae.likelihoods import Likelihood

# Added to mean squares of differences: about 2.5 of 255 grey levels.
_SMALLEST_ROUGHNESS = 1e-4
# Adam moves every weight by about the learning rate; these two have a longer way to go.
_RATE = 10.0


def roughness(images):
    r"""Log of the mean squared difference of neighbouring pixels: what an image leaves unexplained
    when each pixel is predicted by its neighbour.

    .. math:: \log(\tfrac12 \overline{(\partial_v x)^2} + \tfrac12 \overline{(\partial_h x)^2} + 10^{-4})

    Parameters
    ----------
    images : tensor, (n, height, width, channels)
        Values in [0, 1].

    Returns
    -------
    tensor, (n,)
    """  # noqa: E501
    down = ops.mean(ops.square(images[:, 1:] - images[:, :-1]), axis=(1, 2, 3))
    across = ops.mean(ops.square(images[:, :, 1:] - images[:, :, :-1]), axis=(1, 2, 3))
    return ops.log((down + across) / 2 + _SMALLEST_ROUGHNESS)


def sharpness(images):
    """How much of its roughness an image keeps beside the mean of four neighbours, as a log-ratio.

    Blurred images have little, noise has much; what is on the image and its contrast hardly matter.

    Parameters
    ----------
    images : tensor, (n, height, width, channels)
        Values in [0, 1].

    Returns
    -------
    tensor, (n,)
    """
    edged = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    around = edged[:, 2:, 1:-1] + edged[:, :-2, 1:-1] + edged[:, 1:-1, 2:] + edged[:, 1:-1, :-2]
    finest = ops.mean(ops.square(images - around / 4), axis=(1, 2, 3))
    return ops.log(finest + _SMALLEST_ROUGHNESS / 10) - roughness(images)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class RoughnessGaussian(Likelihood):
    r"""Normal pixels whose variance grows with the roughness of the image, which is taken as known.

    .. math:: \log \sigma^2(x) = c + \gamma \min(\rho(x), \rho_{max})

    with learned c and gamma, rho the ``roughness`` and rho_max that of almost all training images.
    Rough images are reconstructed worse than smooth ones, normal or not: a variance without this
    finds few-stroked images normal and many-stroked ones unusual, whatever they show (Serrà et al.
    2020, "Input complexity and out-of-distribution detection with likelihood-based generative
    models"). The maximum keeps noise from being excused for its roughness. A density in x for a
    given roughness: p(x|z, rho).

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.pixel_likelihoods import RoughnessGaussian
    >>> likelihood = RoughnessGaussian((8, 8, 1))
    >>> likelihood.n_features, likelihood.n_outputs
    (64, 64)
    >>> x = np.zeros((1, 64), "float32")  # flat: the variance is 0.0001
    >>> likelihood.log_prob(x, x)[0, :2].numpy().round(3)
    array([3.686, 3.686], dtype=float32)
    """

    def __init__(self, image_shape, **kwargs):
        self.image_shape = tuple(int(size) for size in image_shape)
        super().__init__(int(np.prod(self.image_shape)), **kwargs)
        self.intercept = self.add_weight(shape=(), initializer="zeros", name="intercept")
        self.slope = self.add_weight(shape=(), initializer="zeros", name="slope")
        self.highest = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="highest"
        )

    def adapt(self, roughnesses):
        """Learn rho_max, the 99% quantile, from the training images' roughness, (n,)."""
        self.highest.assign(np.quantile(roughnesses, 0.99))

    def log_var(self, x):
        """Log-variance of the images, (..., 1), for x of shape (..., n_features)."""
        images = ops.reshape(ops.cast(x, "float32"), (-1, *self.image_shape))
        rough = ops.minimum(roughness(images), self.highest)
        log_var = _RATE * self.intercept + (1.0 + _RATE * self.slope) * rough
        return ops.reshape(log_var, (*ops.shape(x)[:-1], 1))

    def log_prob(self, x, outputs):
        log_var = self.log_var(x)
        error = ops.square(ops.cast(x, "float32") - self.mean(outputs))
        return -0.5 * (LOG_2PI + log_var + error * ops.exp(-log_var))

    def excess_log_prob(self, x, outputs):
        error = ops.square(ops.cast(x, "float32") - self.mean(outputs))
        return 0.5 * (1.0 - error * ops.exp(-self.log_var(x)))

    def mean(self, outputs):
        return ops.cast(outputs, "float32")

    def sample(self, outputs, seed):
        """Draw x with the variance that the mean image's own roughness gives."""
        mean = self.mean(outputs)
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=seed)
        return mean + ops.exp(self.log_var(mean) / 2) * noise

    def get_config(self):
        config = super().get_config()
        del config["n_features"]
        return {**config, "image_shape": list(self.image_shape)}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class ContinuousBernoulli(Likelihood):
    r"""Values in [0, 1] with density proportional to that of a Bernoulli of logit l.

    .. math:: \log p(x_d|z) = x_d l_d - \log(1 + e^{l_d}) + \log \frac{l_d}{\tanh(l_d / 2)}

    (Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli", equations 1 and 2, in terms of the
    logit.)

    Parameters
    ----------
    n_features : int

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.pixel_likelihoods import ContinuousBernoulli
    >>> uniform = np.zeros((1, 1), "float32")
    >>> float(ContinuousBernoulli(1).log_prob(uniform + 0.3, uniform)[0, 0].numpy().round(6))
    0.0
    """

    def log_prob(self, x, outputs):
        x, logit = ops.cast(x, "float32"), ops.cast(outputs, "float32")
        return x * logit - ops.softplus(logit) + self._log_normaliser(logit)

    def excess_log_prob(self, x, outputs):
        return (ops.cast(x, "float32") - self.mean(outputs)) * ops.cast(outputs, "float32")

    def mean(self, outputs):
        # 1 / (1 - e^-l) - 1 / l, whose parts cancel near 0.
        logit = ops.cast(outputs, "float32")
        small = ops.abs(logit) < 0.1
        safe = ops.where(small, 1.0, logit)
        near = 0.5 + logit / 12 - logit**3 / 720
        return ops.where(small, near, 1 / (1 - ops.exp(-safe)) - 1 / safe)

    def _log_normaliser(self, logit):
        small = ops.abs(logit) < 0.1
        safe = ops.where(small, 1.0, logit)
        near = np.log(2.0) + logit**2 / 12 - 7 * logit**4 / 1440
        return ops.where(small, near, ops.log(safe / ops.tanh(safe / 2)))

    def sample(self, outputs, seed):
        logit = ops.cast(outputs, "float32")
        u = keras.random.uniform(ops.shape(logit), dtype="float32", seed=seed)
        safe = ops.where(ops.abs(logit) < 1e-3, 1.0, logit)
        # The inverse of the distribution function: log(1 + u (e^l - 1)) / l, without overflow.
        size = ops.abs(safe)
        drawn = 1 + ops.log(u + (1 - u) * ops.exp(-size)) / size
        drawn = ops.where(safe > 0, drawn, 1 - drawn)
        return ops.where(ops.abs(logit) < 1e-3, u, drawn)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class DiscretizedLogistic(Likelihood):
    r"""Values on ``n_levels`` equal steps from 0 to 1: the mass of a logistic around each.

    .. math:: p(x_d|z) = F\big((x_d + w/2 - m_d)/s_d\big) - F\big((x_d - w/2 - m_d)/s_d\big)

    with F the logistic function, w the step, and the lowest and highest value taking the tails
    (Salimans et al. 2017, "PixelCNN++", equation 2, with one component). The decoder gives m and
    log s of each feature.

    Parameters
    ----------
    n_features : int
    n_levels : int
        At least 2; 256 for eight bits.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.pixel_likelihoods import DiscretizedLogistic
    >>> levels = np.linspace(0, 1, 4, dtype="float32")[:, None]
    >>> log_prob = DiscretizedLogistic(1, n_levels=4).log_prob(levels, np.zeros((4, 2), "float32"))
    >>> float(np.exp(log_prob).sum().round(5))
    1.0
    """

    def __init__(self, n_features, n_levels=256, **kwargs):
        if not n_levels >= 2:
            raise ValueError(f"Expected `n_levels` >= 2. Received: n_levels={n_levels!r}")
        super().__init__(n_features, **kwargs)
        self.n_levels = int(n_levels)
        self.n_outputs = 2 * n_features

    def _log_scale(self, outputs):
        # From a tenth of a step upwards, 0.1 where the raw output is 0.
        smallest = np.log(0.1 / (self.n_levels - 1))
        raw = ops.cast(outputs[..., self.n_features :], "float32") + np.log(0.1) - smallest
        return smallest + ops.softplus(raw)

    def log_prob(self, x, outputs):
        x, log_scale = ops.cast(x, "float32"), self._log_scale(outputs)
        half = 0.5 / (self.n_levels - 1)
        distance = x - self._location(outputs)
        above = (distance + half) * ops.exp(-log_scale)
        below = (distance - half) * ops.exp(-log_scale)
        # log(F(above) - F(below)), without cancellation: above - below is a step in scales.
        between = ops.log(-ops.expm1(-2 * half * ops.exp(-log_scale)))
        between = between - ops.softplus(-above) - ops.softplus(below)
        log_prob = ops.where(x > half, between, -ops.softplus(-above))
        return ops.where(x < 1 - half, log_prob, -ops.softplus(below))

    def excess_log_prob(self, x, outputs):
        """As in the base class, with the entropy of the logistic before it is cut into steps."""
        entropy = self._log_scale(outputs) + 2.0 + np.log(self.n_levels - 1)
        return self.log_prob(x, outputs) + ops.softplus(entropy)

    def _location(self, outputs):
        return ops.cast(outputs[..., : self.n_features], "float32")

    def mean(self, outputs):
        """The logistic's mean, or the end that is nearest to it."""
        return ops.clip(self._location(outputs), 0.0, 1.0)

    def sample(self, outputs, seed):
        mean = self._location(outputs)
        u = keras.random.uniform(
            ops.shape(mean), minval=1e-6, maxval=1 - 1e-6, dtype="float32", seed=seed
        )
        drawn = mean + ops.exp(self._log_scale(outputs)) * (ops.log(u) - ops.log1p(-u))
        top = self.n_levels - 1
        return ops.round(ops.clip(drawn, 0.0, 1.0) * top) / top

    def get_config(self):
        return {**super().get_config(), "n_levels": self.n_levels}
