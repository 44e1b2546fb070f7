"""The model of a table, and that of images: networks and likelihood put together.

Arguments are plain numbers and names, so that a saved detector can be built again from JSON.
"""

import json

import keras
import numpy as np

from vae_anomaly.vae.layers import EncoderInput
from vae_anomaly.vae.likelihoods import Bernoulli, Categorical, Gaussian, Mixed
from vae_anomaly.vae.models import VAE, Autoencoder
from vae_anomaly.vae.networks import (
    check_image_shape,
    conv_decoder,
    conv_encoder,
    dense_decoder,
    dense_encoder,
    flat_maps,
)
from vae_anomaly.vae.pixel_likelihoods import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    RoughnessGaussian,
)

# Floors of the log-variance of standardised columns: of continuous ones, and of the coarsest.
MIN_LOG_VAR_RANGE = (-6.0, 2.0)
# Log-variance from which learned variances of pixels start: a standard deviation of 0.14.
PIXEL_LOG_VAR = -4.0
_LAYERS_WITH_CODE = ("Lambda", "TFSMLayer")
PIXEL_LIKELIHOODS = (
    "roughness_gaussian",
    "gaussian",
    "bernoulli",
    "continuous_bernoulli",
    "discretized_logistic",
)


def build_table_model(
    column_widths,
    n_numeric,
    n_boolean,
    *,
    resolution,
    variational,
    hidden_units,
    latent_dim,
    encoder=None,
    decoder=None,
    activation="relu",
    variance="row",
    seed=None,
    **training,
):
    """Build the VAE or Autoencoder of a preprocessed table.

    Parameters
    ----------
    column_widths : sequence of int
        Features of x that each column takes, ``TablePreprocessor.column_widths``: first the
        numeric columns, then the boolean ones, then the categorical ones.
    n_numeric, n_boolean : int
        How many columns are numeric, and boolean.
    resolution : sequence of floats
        ``TablePreprocessor.resolution``: of each feature of the numeric columns. A learned variance
        stays above resolution^2 / 12, what rounding to such steps makes (Sheppard 1898): columns of
        few values would otherwise be reproduced exactly, and their variance would collapse. Noise
        of one step, and a categorical likelihood, were tried instead and found worse:
        ``benchmarks/LOG.md``.
    variational : bool
        VAE or Autoencoder.
    hidden_units, latent_dim, activation
        As in ``networks.dense_encoder``.
    encoder, decoder : str or None
        Networks to take instead, as JSON of ``keras.Model.to_json``. The encoder takes what
        ``layers.EncoderInput`` gives, (n, features + columns), or its (n, features) alone.
    variance
        As in ``likelihoods.Gaussian``.
    seed : int or None
        Seed of the weights and of everything drawn in training.
    **training
        ``n_draws``, ``beta`` and ``kl_warmup_steps`` of ``VAE``.

    Returns
    -------
    VAE or Autoencoder
        Takes (x, observed).
    """
    seeds = [int(s) for s in np.random.default_rng(seed).integers(2**31, size=3)]
    parts = []
    if n_numeric:
        rounding = np.log(np.maximum(np.square(resolution) / 12, 1e-30))
        floor = np.clip(rounding, *MIN_LOG_VAR_RANGE)
        parts.append(
            Gaussian(
                len(floor),
                variance if variational else 1.0,
                min_log_var=floor,
                column_widths=column_widths[:n_numeric],
            )
        )
    if n_boolean:
        parts.append(Bernoulli(n_boolean))
    parts += [Categorical(width) for width in column_widths[n_numeric + n_boolean :]]
    likelihood = parts[0] if len(parts) == 1 else Mixed(parts)
    if encoder is not None:
        shapes = [(latent_dim,)] * (2 if variational else 1)
        encoder = _table_encoder(encoder, column_widths, seeds[0], shapes)
    else:
        encoder = dense_encoder(
            sum(column_widths),
            hidden_units,
            latent_dim,
            activation=activation,
            variational=variational,
            column_widths=column_widths,
            seed=seeds[0],
            dtype="float32",
        )
    if decoder is not None:
        decoder = _own_network(decoder, "decoder", [(latent_dim,)], (likelihood.n_outputs,))
    else:
        decoder = dense_decoder(
            latent_dim,
            hidden_units,
            likelihood.n_outputs,
            activation=activation,
            seed=seeds[1],
            dtype="float32",
        )
    if not variational:
        return Autoencoder(encoder, decoder, likelihood)
    return VAE(encoder, decoder, likelihood, seed=seeds[2], **training)


def build_image_model(
    image_shape,
    *,
    variational,
    filters,
    hidden_units,
    latent_dim,
    encoder=None,
    decoder=None,
    activation="relu",
    pixel_likelihood=None,
    variance="shared",
    seed=None,
    **training,
):
    """Build the VAE or Autoencoder of preprocessed images.

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width, channels.
    variational : bool
        VAE or Autoencoder.
    filters, hidden_units, latent_dim, activation
        As in ``networks.conv_encoder``.
    encoder, decoder : str or None
        Networks to take instead, as JSON of ``keras.Model.to_json``: images -> [z_mean, z_log_var]
        (z, for an Autoencoder), and z -> (n, height, width, n_maps * channels), where n_maps is
        the number of the likelihood's parameters, 1 or 2.
    pixel_likelihood : str or None
        One of ``PIXEL_LIKELIHOODS``; for a VAE only.
    variance
        As in ``likelihoods.Gaussian``; for "gaussian" only.
    seed : int or None
        Seed of the weights and of everything drawn in training.
    **training
        ``n_draws``, ``beta`` and ``kl_warmup_steps`` of ``VAE``.

    Returns
    -------
    VAE or Autoencoder
        Takes images (n, height, width, channels) with values in [0, 1].

    Raises
    ------
    ValueError
        The networks given do not fit the images, each other or the likelihood.
    """
    seeds = [int(s) for s in np.random.default_rng(seed).integers(2**31, size=3)]
    image_shape = check_image_shape(image_shape)
    n_features = int(np.prod(image_shape))
    likelihood = Gaussian(n_features, variance=1.0)
    if variational:
        likelihood = {
            "roughness_gaussian": lambda: RoughnessGaussian(image_shape),
            "gaussian": lambda: Gaussian(n_features, variance),
            "bernoulli": lambda: Bernoulli(n_features),
            "continuous_bernoulli": lambda: ContinuousBernoulli(n_features),
            "discretized_logistic": lambda: DiscretizedLogistic(n_features),
        }[pixel_likelihood]()
    if pixel_likelihood == "gaussian" and isinstance(variance, str):
        # Near the variance of pixels: the weight moves slowly.
        likelihood.raw_log_var.assign(np.full(likelihood.raw_log_var.shape, PIXEL_LOG_VAR))
    if encoder is not None:
        shapes = [(latent_dim,)] * (2 if variational else 1)
        encoder = _own_network(encoder, "encoder", [image_shape], *shapes)
    else:
        encoder = conv_encoder(
            image_shape,
            filters,
            hidden_units,
            latent_dim,
            activation=activation,
            variational=variational,
            seed=seeds[0],
            dtype="float32",
        )
    if decoder is not None:
        n_maps = likelihood.n_outputs // n_features
        maps = (*image_shape[:2], n_maps * image_shape[2])
        decoder = _own_network(decoder, "decoder", [(latent_dim,)], maps)
        outputs = flat_maps(decoder.outputs[0], image_shape)
        decoder = keras.Model(decoder.inputs, outputs, name="decoder")
    else:
        decoder = conv_decoder(
            latent_dim,
            hidden_units,
            image_shape,
            likelihood.n_outputs // n_features,
            filters=filters,
            activation=activation,
            seed=seeds[1],
            dtype="float32",
        )
    if not variational:
        return Autoencoder(encoder, decoder, likelihood)
    return VAE(encoder, decoder, likelihood, seed=seeds[2], **training)


def _table_encoder(text, column_widths, seed, output_shapes):
    """Put ``EncoderInput`` before an encoder that was given."""
    n_features, n_columns = sum(column_widths), len(column_widths)
    width = n_features
    if network_from_json(text).input_shape == (None, n_features + n_columns):
        width += n_columns
    network = _own_network(text, "encoder", [(width,)], *output_shapes)
    inputs = [
        keras.Input((n_features,), name="x"),
        keras.Input((n_columns,), name="observed"),
    ]
    visible = EncoderInput(column_widths, seed=seed, name="encoder_input")(inputs)
    return keras.Model(inputs, network(visible[:, :width]), name="encoder")


def network_from_json(text):
    """Build a network from its Keras configuration, without running code that came with it.

    Parameters
    ----------
    text : str
        As ``keras.Model.to_json`` makes it.

    Raises
    ------
    ValueError
        It has layers that hold code, or that are neither Keras' nor registered with it.
    """
    _check_known(json.loads(text))
    return keras.models.model_from_json(text)


def _check_known(config):
    if isinstance(config, list):
        for part in config:
            _check_known(part)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), config.get("module") or "keras"
    if isinstance(name, str):
        registered = keras.saving.get_registered_object(config.get("registered_name") or name)
        is_known = module.split(".")[0] in ("keras", "builtins") or registered is not None
        if name in _LAYERS_WITH_CODE or not is_known:
            raise ValueError(
                "Expected networks of Keras' layers, or of layers registered with "
                "keras.saving.register_keras_serializable, and none of "
                f"{', '.join(_LAYERS_WITH_CODE)}. Received: {module}.{name}"
            )
    for part in config.values():
        _check_known(part)


def _own_network(text, name, input_shapes, *output_shapes):
    """Build a network that was given, and check what goes in and out."""
    network = network_from_json(text)
    received = [
        [tuple(tensor.shape[1:]) for tensor in tensors]
        for tensors in (network.inputs, network.outputs)
    ]
    if received != [list(input_shapes), list(output_shapes)]:
        raise ValueError(
            f"Expected `{name}` to take {list(input_shapes)} and to give {list(output_shapes)}, "
            f"beside the axis of rows. Received: inputs {received[0]}, outputs {received[1]}"
        )
    return network
