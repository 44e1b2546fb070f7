"""The layers of a VAE that Keras does not have, and the KL divergence.

Densities and divergences work on tensors of any leading shape and are **per latent
dimension**: the model sums them, in one place.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

# What Keras operations take and return: a TensorFlow tensor, a symbolic tensor, or an array.
Tensor: TypeAlias = Any

LOG_2PI = math.log(2.0 * math.pi)


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Sampling(keras.layers.Layer):
    r"""Draw z from q(z|x) = N(z_mean, exp(z_log_var)) by the reparameterisation trick.

    .. math:: z = z_{mean} + \exp(z_{log\_var} / 2) \, \epsilon, \quad \epsilon \sim N(0, I)

    (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", section 2.4.)

    Parameters
    ----------
    seed : int or None
        Seed of the layer's own ``keras.random.SeedGenerator``. ``None`` draws a seed.
        The generator's state is a variable that advances at each call. A loaded layer starts
        from the seed again, like all layers of Keras.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import Sampling
    >>> z = Sampling(seed=0)([np.zeros((4, 2), "float32"), np.zeros((4, 2), "float32")])
    >>> tuple(z.shape)
    (4, 2)
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f"Expected `seed` to be None or an int >= 0. Received: seed={seed!r}")
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
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

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class SoftBound(keras.layers.Layer):
    """Keep values within (-limit, limit): ``limit * tanh(x / limit)``, the identity near 0.

    Parameters
    ----------
    limit : float
        Bound, > 0. It keeps an exponential of the output from overflowing.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import SoftBound
    >>> SoftBound(10.0)(np.array([0.1, 1000.0], "float32")).numpy().round(3)
    array([ 0.1, 10. ], dtype=float32)
    """

    def __init__(self, limit: float, **kwargs: Any) -> None:
        if not limit > 0:
            raise ValueError(f"Expected `limit` > 0. Received: limit={limit!r}")
        super().__init__(**kwargs)
        self.limit = float(limit)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return self.limit * ops.tanh(inputs / self.limit)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limit": self.limit}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class EncoderInput(keras.layers.Layer):
    """Prepare a table's row for the encoder: bounded values, and which cells are observed.

    The encoder sees no difference between values beyond the bound, and neither does the decoder.
    A reconstruction can therefore not follow a row that leaves the data, and the score falls.
    In training, a random half of the rows of each batch loses some of its observed cells, so that
    the encoder learns to work without them; the other half keeps it sharp on whole rows.

    Parameters
    ----------
    column_widths : sequence of int
        Number of features of x of each column.
    bound : float
        Largest absolute value passed on, > 0.
    hidden_share : float
        Share of the cells, in [0, 1), that is hidden in these rows in training.
    seed : int or None
        Seed of the layer's generator.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import EncoderInput
    >>> x, observed = np.array([[9.0, 1.0]], "float32"), np.array([[1.0, 0.0]], "float32")
    >>> EncoderInput([1, 1])([x, observed]).numpy()
    array([[5., 0., 1., 0.]], dtype=float32)
    """

    def __init__(
        self,
        column_widths: Sequence[int],
        bound: float = 5.0,
        hidden_share: float = 0.2,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
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

    def call(self, inputs: tuple[Tensor, Tensor], training: bool = False) -> Tensor:
        """Return bounded x, 0 where hidden or missing, followed by the mask of observed cells.

        Parameters
        ----------
        inputs : pair of tensors
            x (n, features) and observed (n, columns), 0 or 1.
        training : bool
            Whether to hide cells.

        Returns
        -------
        tensor, (n, features + columns)
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

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0][0], input_shape[0][1] + input_shape[1][1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "column_widths": self.column_widths,
            "bound": self.bound,
            "hidden_share": self.hidden_share,
            "seed": self.seed,
        }


def checked_widths(column_widths: Sequence[int] | None, n_features: int) -> list[int] | None:
    """Return the widths as ints, or raise ValueError if they do not add up to ``n_features``."""
    if column_widths is None:
        return None
    widths = [int(width) for width in column_widths]
    if sum(widths) != n_features or min(widths) < 1:
        raise ValueError(
            f"Expected `column_widths` >= 1 that add up to n_features={n_features}. "
            f"Received: column_widths={column_widths!r}"
        )
    return widths


def sum_of_columns(values: Tensor, column_widths: Sequence[int] | None) -> Tensor:
    """Add up the features of each column.

    Parameters
    ----------
    values : tensor, (..., features)
    column_widths : sequence of int or None
        Number of features of each column. ``None``: each feature is a column.

    Returns
    -------
    tensor, (..., columns)

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import sum_of_columns
    >>> sum_of_columns(np.array([[1.0, 2.0, 4.0]]), [2, 1]).numpy()
    array([[3., 4.]])
    """
    if column_widths is None or set(column_widths) == {1}:
        return values
    ends = np.cumsum(column_widths)
    padded = ops.concatenate([values, ops.zeros_like(values[..., :1])], axis=-1)
    total = 0.0
    for place in range(max(column_widths)):
        index = np.where(np.less(place, column_widths), ends - column_widths + place, ends[-1])
        total = total + ops.take(padded, index, axis=-1)
    return total


def normal_log_prob(z: Tensor, mean: Tensor = 0.0, log_var: Tensor = 0.0) -> Tensor:
    """Return the log-density of N(mean, exp(log_var)) at z, in nats, per dimension.

    Parameters
    ----------
    z, mean, log_var : tensors or floats that broadcast together
        ``log_var`` is the log of the variance.

    Returns
    -------
    tensor, the broadcast shape

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import normal_log_prob
    >>> normal_log_prob(np.array([0.0, 1.0])).numpy().round(4)
    array([-0.9189, -1.4189])
    """
    # Of a float, ops.exp would be a tensor of keras.config.floatx().
    inverse = math.exp(-log_var) if isinstance(log_var, float) else ops.exp(-log_var)
    return -0.5 * (ops.multiply(ops.square(z - mean), inverse) + log_var + LOG_2PI)


def kl_divergence(z_mean: Tensor, z_log_var: Tensor) -> Tensor:
    """Return KL(q(z|x) || N(0, I)) of a diagonal Gaussian q, in closed form.

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


def monte_carlo_kl(
    z: Tensor,
    z_mean: Tensor,
    z_log_var: Tensor,
    prior_log_prob: Callable[[Tensor], Tensor] = normal_log_prob,
) -> Tensor:
    """Return an unbiased estimate of KL(q(z|x) || p(z)) from each draw: log q(z|x) - log p(z).

    It serves priors that have no closed form; the mean over draws of z has a lower variance
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
        Nats per latent dimension; the estimate from a single draw can be negative.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.layers import monte_carlo_kl
    >>> z_mean, z_log_var = np.array([1.0, 0.0]), np.zeros(2)
    >>> z = z_mean + np.random.default_rng(0).normal(size=(10_000, 2))
    >>> monte_carlo_kl(z, z_mean, z_log_var).numpy().mean(axis=0).round(2)  # exactly: 0.5, 0
    array([0.51, 0.  ])
    """
    return normal_log_prob(z, z_mean, z_log_var) - prior_log_prob(z)
