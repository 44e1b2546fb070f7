"""The layers of the VAE that have no counterpart in Keras, and the KL divergence.

Densities and divergences work on tensors of any leading shape and are **per latent
dimension**: sums are taken by the model, in one place.
"""

import math

import keras
import numpy as np
from keras import ops

LOG_2PI = math.log(2.0 * math.pi)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Sampling(keras.layers.Layer):
    r"""Draw z from q(z|x) = N(z_mean, exp(z_log_var)) by the reparameterisation trick.

    .. math:: z = z_{mean} + \exp(z_{log\_var} / 2) \, \epsilon, \quad \epsilon \sim N(0, I)

    (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", section 2.4.)

    Parameters
    ----------
    seed : int or None
        Seed of the layer's own ``keras.random.SeedGenerator``. ``None`` draws one.
        The generator's state is a variable: it advances at each call. As with all layers of
        Keras, a loaded layer starts from the seed again.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import Sampling
    >>> z = Sampling(seed=0)([np.zeros((4, 2), "float32"), np.zeros((4, 2), "float32")])
    >>> tuple(z.shape)
    (4, 2)
    """

    def __init__(self, seed=None, **kwargs):
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f"Expected `seed` to be None or an int >= 0. Received: seed={seed!r}")
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs):
        """Return one draw per row.

        Parameters
        ----------
        inputs : pair of tensors, each (..., latent_dim)
            ``z_mean`` and ``z_log_var`` (log of the variance).

        Returns
        -------
        tensor, (..., latent_dim)
        """
        z_mean, z_log_var = inputs
        epsilon = keras.random.normal(
            ops.shape(z_mean), dtype=z_mean.dtype, seed=self.seed_generator
        )
        return z_mean + ops.exp(z_log_var / 2) * epsilon

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class SoftBound(keras.layers.Layer):
    """Keep values within (-limit, limit): ``limit * tanh(x / limit)``, the identity near 0.

    Parameters
    ----------
    limit : float
        Bound, > 0. An exponential of the output can then not overflow.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.
    """

    def __init__(self, limit, **kwargs):
        if not limit > 0:
            raise ValueError(f"Expected `limit` > 0. Received: limit={limit!r}")
        super().__init__(**kwargs)
        self.limit = float(limit)
        self.built = True

    def call(self, inputs):
        return self.limit * ops.tanh(inputs / self.limit)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class EncoderInput(keras.layers.Layer):
    """What the encoder sees of a table's row: bounded values, and which cells have one.

    Beyond the bound the encoder, and so the decoder, answers the same whatever the value: a
    row that leaves the data cannot be followed by its reconstruction, and its score falls.
    In training half of the rows, drawn anew each time, lose some of their observed cells, so
    that the encoder learns to do without; the other half keeps it sharp on whole rows.

    Parameters
    ----------
    column_widths : sequence of int
        How many features of x each column takes.
    bound : float
        Largest absolute value passed on, > 0.
    hidden_share : float
        Share of the cells hidden, in training, in the rows that lose some, in [0, 1).
    seed : int or None
        Seed of the layer's generator.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.
    """

    def __init__(self, column_widths, bound=5.0, hidden_share=0.2, seed=None, **kwargs):
        if not bound > 0:
            raise ValueError(f"Expected `bound` > 0. Received: bound={bound!r}")
        if not 0 <= hidden_share < 1:
            raise ValueError(
                f"Expected `hidden_share` in [0, 1). Received: hidden_share={hidden_share!r}"
            )
        super().__init__(**kwargs)
        self.column_widths = [int(width) for width in column_widths]
        self.bound = float(bound)
        self.hidden_share = float(hidden_share)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._column_of_feature = np.repeat(np.arange(len(column_widths)), column_widths)
        self.built = True

    def call(self, inputs, training=False):
        """Return (n, features + columns): bounded x, zero where hidden or missing; the mask.

        Parameters
        ----------
        inputs : pair of tensors
            x (n, features) and observed (n, columns), 0 or 1.
        training : bool
            Whether to hide cells.
        """
        x, observed = inputs
        if training and self.hidden_share:
            observed = observed * ops.cast(self._kept(observed), observed.dtype)
        mask = observed
        if len(self._column_of_feature) != len(self.column_widths):
            mask = ops.take(observed, self._column_of_feature, axis=1)
        return ops.concatenate([ops.clip(x, -self.bound, self.bound) * mask, observed], axis=1)

    def _kept(self, observed):
        draw = {"dtype": observed.dtype, "seed": self.seed_generator}
        loses = keras.random.uniform((ops.shape(observed)[0], 1), **draw) < 0.5
        hidden = keras.random.uniform(ops.shape(observed), **draw) < self.hidden_share
        return ops.logical_not(ops.logical_and(loses, hidden))

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], input_shape[0][1] + input_shape[1][1])

    def get_config(self):
        return {
            **super().get_config(),
            "column_widths": self.column_widths,
            "bound": self.bound,
            "hidden_share": self.hidden_share,
            "seed": self.seed,
        }


def sum_of_columns(values, column_widths):
    """Add up the features of each column, (..., columns); with None, each is a column."""
    if column_widths is None or max(column_widths) == 1:
        return values
    ends = np.cumsum(column_widths)
    padded = ops.concatenate([values, ops.zeros_like(values[..., :1])], axis=-1)
    total = 0.0
    for place in range(max(column_widths)):
        index = np.where(np.less(place, column_widths), ends - column_widths + place, ends[-1])
        total = total + ops.take(padded, index, axis=-1)
    return total


def normal_log_prob(z, mean=0.0, log_var=0.0):
    """Log-density of N(mean, exp(log_var)) at z, in nats, per dimension.

    Parameters
    ----------
    z, mean, log_var : tensors or floats that broadcast together
        ``log_var`` is the log of the variance.

    Returns
    -------
    tensor, the broadcast shape
    """
    # ops.multiply: a float log_var becomes float32, whatever the precision of z.
    return -0.5 * (ops.multiply(ops.square(z - mean), ops.exp(-log_var)) + log_var + LOG_2PI)


def kl_divergence(z_mean, z_log_var):
    """KL(q(z|x) || N(0, I)) of a diagonal Gaussian q, in closed form.

    Kingma & Welling (2014), appendix B: ``(mean^2 + var - 1 - log var) / 2``.

    Parameters
    ----------
    z_mean, z_log_var : tensors, (..., latent_dim)

    Returns
    -------
    tensor, (..., latent_dim)
        Nats per latent dimension, >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import kl_divergence
    >>> kl_divergence(np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]])).numpy()
    array([[0. , 0.5]])
    """
    return 0.5 * (ops.square(z_mean) + ops.exp(z_log_var) - 1.0 - z_log_var)


def monte_carlo_kl(z, z_mean, z_log_var, prior_log_prob=normal_log_prob):
    """One-draw unbiased estimate of KL(q(z|x) || p(z)): log q(z|x) - log p(z).

    For priors that have no closed form; average over draws of z to lower the variance
    (Kingma & Welling 2014, equation 6). The same difference weights the draws of the
    importance-weighted score.

    Parameters
    ----------
    z : tensor, (..., latent_dim)
        Draws of q(z|x).
    z_mean, z_log_var : tensors that broadcast with z
    prior_log_prob : callable
        z -> log p(z) per latent dimension; the standard normal by default.

    Returns
    -------
    tensor, the shape of z
        Nats per latent dimension; a single draw can be negative.
    """
    return normal_log_prob(z, z_mean, z_log_var) - prior_log_prob(z)
