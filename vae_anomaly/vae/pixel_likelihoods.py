"""Likelihoods of pixels, and the roughness and sharpness of images.

In the likelihoods, x is an image flattened to height * width * channels values in [0, 1].
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from vae_anomaly.vae.layers import LOG_2PI, Tensor
from vae_anomaly.vae.likelihoods import Likelihood

# Added to mean squares of differences: about 2.5 of 255 grey levels.
_SMALLEST_ROUGHNESS = 1e-4
# Adam moves every weight by about the learning rate; these two have a longer way to go.
_RATE = 10.0


def roughness(images: Tensor) -> Tensor:
    r"""Return the log of the mean squared difference of neighbouring pixels.

    .. math:: \log(\tfrac12 (\overline{(\Delta_v x)^2} + \overline{(\Delta_h x)^2}) + 10^{-4})

    with the differences of vertical and of horizontal neighbours: the error that remains when each
    pixel is predicted by its neighbour.

    Parameters
    ----------
    images : tensor, (n, height, width, channels)
        Values in [0, 1].

    Returns
    -------
    tensor, (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.pixel_likelihoods import roughness
    >>> stripes = np.tile([0.0, 1.0], (1, 8, 4))[..., np.newaxis]
    >>> roughness(np.concatenate([stripes, np.zeros_like(stripes)])).numpy().round(2)
    array([-0.69, -9.21])
    """
    down = ops.mean(ops.square(images[:, 1:] - images[:, :-1]), axis=(1, 2, 3))
    across = ops.mean(ops.square(images[:, :, 1:] - images[:, :, :-1]), axis=(1, 2, 3))
    return ops.log((down + across) / 2 + _SMALLEST_ROUGHNESS)


def sharpness(images: Tensor) -> Tensor:
    """Return the log of the finest detail of an image, relative to its roughness.

    The finest detail is the mean squared difference of a pixel from the mean of its four
    neighbours. Blurred images have little of it, noise has much; content and contrast hardly
    matter.

    Parameters
    ----------
    images : tensor, (n, height, width, channels)
        Values in [0, 1].

    Returns
    -------
    tensor, (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.pixel_likelihoods import sharpness
    >>> ramp = np.tile(np.linspace(0, 1, 8), (1, 8, 1))[..., np.newaxis]
    >>> noise = np.random.default_rng(0).uniform(size=(1, 8, 8, 1))
    >>> bool(sharpness(ramp)[0] < sharpness(noise)[0])
    True
    """
    edged = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    around = edged[:, 2:, 1:-1] + edged[:, :-2, 1:-1] + edged[:, 1:-1, 2:] + edged[:, 1:-1, :-2]
    finest = ops.mean(ops.square(images - around / 4), axis=(1, 2, 3))
    return ops.log(finest + _SMALLEST_ROUGHNESS / 10) - roughness(images)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class RoughnessGaussian(Likelihood):
    r"""Normal pixels whose variance grows with the roughness of the image.

    .. math:: \log \sigma^2(x) = c + \gamma \min(\rho(x), \rho_{max})

    with learned c and gamma, the ``roughness`` rho, and rho_max, the roughness that 99% of the
    training images do not exceed. Rough images are reconstructed worse than smooth ones, normal or
    not. With one variance for all, images of few strokes would look normal and images of many
    strokes unusual, whatever they show (Serrà et al. 2020, "Input complexity and
    out-of-distribution detection with likelihood-based generative models"). The maximum keeps
    noise from being excused for its roughness. The density is one of x given its roughness,
    p(x|z, rho).

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import RoughnessGaussian
    >>> likelihood = RoughnessGaussian((8, 8, 1))
    >>> likelihood.n_features, likelihood.n_outputs
    (64, 64)
    >>> x = np.zeros((1, 64), "float32")  # flat: the variance is 0.0001
    >>> likelihood.log_prob(x, x)[0, :2].numpy().round(3)
    array([3.686, 3.686], dtype=float32)
    """

    def __init__(self, image_shape: Sequence[int], **kwargs: Any) -> None:
        self.image_shape = tuple(int(size) for size in image_shape)
        super().__init__(int(np.prod(self.image_shape)), **kwargs)
        self.intercept = self.add_weight(shape=(), initializer="zeros", name="intercept")
        self.slope = self.add_weight(shape=(), initializer="zeros", name="slope")
        self.highest = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="highest"
        )

    def adapt(self, roughnesses: Tensor) -> None:
        """Set rho_max to the 99% quantile of the training images' roughness, (n,)."""
        self.highest.assign(np.quantile(roughnesses, 0.99))

    def log_var(self, x: Tensor) -> Tensor:
        """Return the log-variance of images, (..., 1), for x of shape (..., n_features)."""
        images = ops.reshape(ops.cast(x, "float32"), (-1, *self.image_shape))
        rough = ops.minimum(roughness(images), self.highest)
        log_var = _RATE * self.intercept + (1.0 + _RATE * self.slope) * rough
        return ops.reshape(log_var, (*ops.shape(x)[:-1], 1))

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        log_var = self.log_var(x)
        error = ops.square(ops.cast(x, "float32") - self.mean(outputs))
        return -0.5 * (LOG_2PI + log_var + error * ops.exp(-log_var))

    def excess_log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        error = ops.square(ops.cast(x, "float32") - self.mean(outputs))
        return 0.5 * (1.0 - error * ops.exp(-self.log_var(x)))

    def mean(self, outputs: Tensor) -> Tensor:
        return ops.cast(outputs, "float32")

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        """Draw x with the variance that the roughness of the mean image gives."""
        mean = self.mean(outputs)
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=seed)
        return mean + ops.exp(self.log_var(mean) / 2) * noise

    def get_config(self) -> dict[str, Any]:
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
        Number of values per image, >= 1.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import ContinuousBernoulli
    >>> uniform = np.zeros((1, 1), "float32")
    >>> float(ContinuousBernoulli(1).log_prob(uniform + 0.3, uniform)[0, 0].numpy().round(6))
    0.0
    """

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        x, logit = ops.cast(x, "float32"), ops.cast(outputs, "float32")
        return x * logit - ops.softplus(logit) + self._log_normaliser(logit)

    def excess_log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return (ops.cast(x, "float32") - self.mean(outputs)) * ops.cast(outputs, "float32")

    def mean(self, outputs: Tensor) -> Tensor:
        # 1 / (1 - e^-l) - 1 / l, whose parts cancel near 0.
        logit = ops.cast(outputs, "float32")
        small = ops.abs(logit) < 0.1
        safe = ops.where(small, 1.0, logit)
        near = 0.5 + logit / 12 - logit**3 / 720
        return ops.where(small, near, 1 / (1 - ops.exp(-safe)) - 1 / safe)

    def _log_normaliser(self, logit: Tensor) -> Tensor:
        small = ops.abs(logit) < 0.1
        safe = ops.where(small, 1.0, logit)
        near = np.log(2.0) + logit**2 / 12 - 7 * logit**4 / 1440
        return ops.where(small, near, ops.log(safe / ops.tanh(safe / 2)))

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
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
    r"""Values on ``n_levels`` equal steps from 0 to 1: the mass of a logistic around each value.

    .. math:: p(x_d|z) = F\big((x_d + w/2 - m_d)/s_d\big) - F\big((x_d - w/2 - m_d)/s_d\big)

    with the logistic function F and the step w; the lowest and the highest value take the tails
    (Salimans et al. 2017, "PixelCNN++", equation 2, with one component). The decoder gives m and
    log s of each feature.

    Parameters
    ----------
    n_features : int
        Number of values per image, >= 1.
    n_levels : int
        Number of values that a pixel can have, >= 2; 256 for eight bits.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Raises
    ------
    ValueError
        ``n_levels`` is less than 2.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import DiscretizedLogistic
    >>> levels = np.linspace(0, 1, 4, dtype="float32")[:, None]
    >>> log_prob = DiscretizedLogistic(1, n_levels=4).log_prob(levels, np.zeros((4, 2), "float32"))
    >>> float(np.exp(log_prob).sum().round(5))
    1.0
    """

    def __init__(self, n_features: int, n_levels: int = 256, **kwargs: Any) -> None:
        if not n_levels >= 2:
            raise ValueError(f"Expected `n_levels` >= 2. Received: n_levels={n_levels!r}")
        super().__init__(n_features, **kwargs)
        self.n_levels = int(n_levels)
        self.n_outputs = 2 * n_features

    def _log_scale(self, outputs: Tensor) -> Tensor:
        # From a tenth of a step upwards, 0.1 where the raw output is 0.
        smallest = np.log(0.1 / (self.n_levels - 1))
        raw = ops.cast(outputs[..., self.n_features :], "float32") + np.log(0.1) - smallest
        return smallest + ops.softplus(raw)

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
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

    def excess_log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Return log p(x|z) plus the entropy of the continuous logistic, shaped as ``log_prob``."""
        entropy = self._log_scale(outputs) + 2.0 + np.log(self.n_levels - 1)
        return self.log_prob(x, outputs) + ops.softplus(entropy)

    def _location(self, outputs: Tensor) -> Tensor:
        return ops.cast(outputs[..., : self.n_features], "float32")

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean of the logistic, clipped to [0, 1]."""
        return ops.clip(self._location(outputs), 0.0, 1.0)

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        mean = self._location(outputs)
        u = keras.random.uniform(
            ops.shape(mean), minval=1e-6, maxval=1 - 1e-6, dtype="float32", seed=seed
        )
        drawn = mean + ops.exp(self._log_scale(outputs)) * (ops.log(u) - ops.log1p(-u))
        top = self.n_levels - 1
        return ops.round(ops.clip(drawn, 0.0, 1.0) * top) / top

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n_levels": self.n_levels}
