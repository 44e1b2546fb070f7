"""Builders of encoder and decoder networks: plain Keras functional models.

Anything with the same inputs and outputs can take their place in ``models.VAE``.
"""

import keras
import numpy as np

from vae_anomaly.layers import EncoderInput, SoftBound

# exp(LOG_VAR_LIMIT) is far from overflow in float32, and no posterior needs more.
LOG_VAR_LIMIT = 10.0


def dense_encoder(
    n_features,
    hidden_units=(128, 128),
    latent_dim=16,
    *,
    activation="relu",
    variational=True,
    column_widths=None,
    hidden_share=0.2,
    seed=None,
    dtype=None,
):
    """Build a fully connected encoder, x -> (z_mean, z_log_var).

    Parameters
    ----------
    n_features : int
        Width of x.
    hidden_units : sequence of int
        Units of each hidden layer, from x towards z. Empty: a linear encoder.
    latent_dim : int
        Size of z; may exceed ``n_features``.
    activation : str or callable
        Of the hidden layers.
    variational : bool
        False: the encoder of a plain autoencoder, with the single output z.
    column_widths : sequence of int or None
        Given: the encoder takes (x, observed) through ``layers.EncoderInput``, where the
        column j of a table takes ``column_widths[j]`` of the ``n_features``.
    hidden_share : float
        Of ``layers.EncoderInput``; for ``column_widths`` only.
    seed : int or None
        Seed of the initial weights and of the cells hidden.
    dtype : str, keras.DTypePolicy or None
        Precision of the hidden layers; the outputs are float32.

    Returns
    -------
    keras.Model
        (n, n_features), or [(n, n_features), (n, columns)] -> [z_mean, z_log_var], each
        (n, latent_dim); or z alone.

    Examples
    --------
    >>> from vae_anomaly.networks import dense_encoder
    >>> [tuple(output.shape) for output in dense_encoder(6, (5, 5, 4), 2).outputs]
    [(None, 2), (None, 2)]
    """
    rng = np.random.default_rng(seed)
    inputs = visible = keras.Input((_positive(n_features, "n_features"),), name="x")
    if column_widths is not None:
        if sum(column_widths) != n_features:
            raise ValueError(
                f"Expected `column_widths` to add up to n_features={n_features}. "
                f"Received: column_widths={column_widths!r}"
            )
        inputs = [inputs, keras.Input((len(column_widths),), name="observed")]
        visible = EncoderInput(
            column_widths, hidden_share=hidden_share, seed=_draw_seed(rng), name="encoder_input"
        )(inputs)
    hidden = _hidden(visible, hidden_units, activation, rng, dtype)
    latent_dim = _positive(latent_dim, "latent_dim")
    z_mean = _dense(latent_dim, rng, name="z_mean" if variational else "z", dtype="float32")(hidden)
    if not variational:
        return keras.Model(inputs, z_mean, name="encoder")
    z_log_var = _dense(latent_dim, rng, name="z_log_var_raw", dtype="float32")(hidden)
    z_log_var = SoftBound(LOG_VAR_LIMIT, name="z_log_var", dtype="float32")(z_log_var)
    return keras.Model(inputs, [z_mean, z_log_var], name="encoder")


def dense_decoder(latent_dim, hidden_units, n_outputs, *, activation="relu", seed=None, dtype=None):
    """Build a fully connected decoder, z -> the parameters of p(x|z).

    Parameters
    ----------
    latent_dim : int
        Size of z.
    hidden_units : sequence of int
        Units of each hidden layer **as given to the encoder**; used in reverse.
    n_outputs : int
        Outputs, for example ``Gaussian(n_features).n_outputs``.
    activation, seed, dtype
        As in ``dense_encoder``.

    Returns
    -------
    keras.Model
        (n, latent_dim) -> (n, n_outputs).

    Examples
    --------
    >>> from vae_anomaly.networks import dense_decoder
    >>> tuple(dense_decoder(2, (5, 5, 4), 12).output_shape)
    (None, 12)
    """
    rng = np.random.default_rng(seed)
    inputs = keras.Input((_positive(latent_dim, "latent_dim"),), name="z")
    hidden = _hidden(inputs, tuple(hidden_units)[::-1], activation, rng, dtype)
    outputs = _dense(_positive(n_outputs, "n_outputs"), rng, name="outputs", dtype="float32")
    return keras.Model(inputs, outputs(hidden), name="decoder")


def _hidden(tensor, hidden_units, activation, rng, dtype):
    for index, units in enumerate(hidden_units):
        units = _positive(units, f"hidden_units[{index}]")
        tensor = _dense(units, rng, activation=activation, name=f"hidden_{index}", dtype=dtype)(
            tensor
        )
    return tensor


def _dense(units, rng, **kwargs):
    initializer = keras.initializers.GlorotUniform(seed=_draw_seed(rng))
    return keras.layers.Dense(units, kernel_initializer=initializer, **kwargs)


def _draw_seed(rng):
    return int(rng.integers(2**31))


def _positive(value, name):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Expected `{name}` to be an int >= 1. Received: {name}={value!r}")
    return int(value)
