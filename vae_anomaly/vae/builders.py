"""The model of a table, and that of images: networks and likelihood put together.

Arguments are plain numbers and names, so that a saved detector can be built again from JSON.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from vae_anomaly.vae.layers import EncoderInput
from vae_anomaly.vae.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Mixed
from vae_anomaly.vae.models import VAE, Autoencoder
from vae_anomaly.vae.network_json import network_from_json
from vae_anomaly.vae.networks import (
    Activation,
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
from vae_anomaly.vae.tiled import tiled_networks

# Floors of the log-variance of standardised columns: of continuous ones, and of the coarsest.
MIN_LOG_VAR_RANGE = (-6.0, 2.0)
# Log-variance from which learned variances of pixels start: a standard deviation of 0.14.
PIXEL_LOG_VAR = -4.0
PIXEL_LIKELIHOODS = (
    "roughness_gaussian",
    "gaussian",
    "bernoulli",
    "continuous_bernoulli",
    "discretized_logistic",
)


def build_table_model(
    column_widths: Sequence[int],
    n_numeric: int,
    n_boolean: int,
    *,
    resolution: Sequence[float],
    variational: bool,
    hidden_units: Sequence[int],
    latent_dim: int,
    encoder: str | None = None,
    decoder: str | None = None,
    activation: Activation = "relu",
    variance: str | float = "row",
    seed: int | None = None,
    **training: Any,
) -> VAE | Autoencoder:
    """Build the VAE or Autoencoder of a preprocessed table.

    Parameters
    ----------
    column_widths : sequence of int
        Number of features of each column, ``TablePreprocessor.column_widths``: first the numeric
        columns, then the boolean ones, then the categorical ones.
    n_numeric, n_boolean : int
        Number of numeric columns, and of boolean columns.
    resolution : sequence of float
        Step of each feature of the numeric columns, ``TablePreprocessor.resolution``. A learned
        variance stays above resolution^2 / 12, the variance that rounding to such steps makes
        (Sheppard 1898): columns of few values would otherwise be reproduced exactly, and their
        variance would collapse. Noise of one step, and a categorical likelihood, were worse:
        ``benchmarks/LOG.md``.
    variational : bool
        Whether to build a VAE, or an Autoencoder.
    hidden_units, latent_dim, activation
        As in ``networks.dense_encoder``.
    encoder, decoder : str or None
        Custom networks, as JSON of ``keras.Model.to_json``. The encoder takes the output of
        ``layers.EncoderInput``, (n, features + columns), or its first (n, features).
    variance
        As in ``likelihoods.Gaussian``.
    seed : int or None
        Seed of the weights, and of everything that is drawn in training.
    **training
        ``n_draws``, ``beta`` and ``kl_warmup_steps`` of ``VAE``.

    Returns
    -------
    VAE or Autoencoder
        Takes (x, observed).

    Raises
    ------
    ValueError
        A custom network does not fit the table or the likelihood.
    """
    seeds = [int(s) for s in np.random.default_rng(seed).integers(2**31, size=3)]
    likelihood = _table_likelihood(
        column_widths, n_numeric, n_boolean, resolution, variance if variational else 1.0
    )
    if encoder is not None:
        shapes = [(latent_dim,)] * (2 if variational else 1)
        encoder_model = _table_encoder(encoder, column_widths, seeds[0], shapes)
    else:
        encoder_model = dense_encoder(
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
        decoder_model = _own_network(decoder, "decoder", [(latent_dim,)], (likelihood.n_outputs,))
    else:
        decoder_model = dense_decoder(
            latent_dim,
            hidden_units,
            likelihood.n_outputs,
            activation=activation,
            seed=seeds[1],
            dtype="float32",
        )
    if not variational:
        return Autoencoder(encoder_model, decoder_model, likelihood, dtype="float32")
    return VAE(encoder_model, decoder_model, likelihood, seed=seeds[2], dtype="float32", **training)


def build_image_model(
    image_shape: Sequence[int],
    *,
    variational: bool,
    filters: Sequence[int] | None,
    hidden_units: Sequence[int],
    latent_dim: int,
    encoder: str | None = None,
    decoder: str | None = None,
    activation: Activation = "relu",
    pixel_likelihood: str | None = None,
    variance: str | float = "shared",
    tiles: Sequence[int] | None = None,
    seed: int | None = None,
    **training: Any,
) -> VAE | Autoencoder:
    """Build the VAE or Autoencoder of preprocessed images.

    Parameters
    ----------
    image_shape : (int, int, int)
        Height, width and channels.
    variational : bool
        Whether to build a VAE, or an Autoencoder.
    filters, hidden_units, latent_dim, activation
        As in ``networks.conv_encoder``.
    encoder, decoder : str or None
        Custom networks, as JSON of ``keras.Model.to_json``: images -> [z_mean, z_log_var] (z, for
        an Autoencoder), and z -> (n, height, width, n_maps * channels), where n_maps is the number
        of the likelihood's parameters, 1 or 2.
    pixel_likelihood : str or None
        One of ``PIXEL_LIKELIHOODS``; for a VAE only.
    variance
        As in ``likelihoods.Gaussian``; for "gaussian" only.
    tiles : (int, int) or None
        Height and width of overlapping windows; see ``tiled.tiled_networks``. The networks, given
        ones too, are then those of a window, and ``latent_dim`` is of a window.
    seed : int or None
        Seed of the weights, and of everything that is drawn in training.
    **training
        ``n_draws``, ``beta`` and ``kl_warmup_steps`` of ``VAE``.

    Returns
    -------
    VAE or Autoencoder
        Takes images (n, height, width, channels) with values in [0, 1].

    Raises
    ------
    ValueError
        A custom network does not fit the images or the likelihood.
    """
    seeds = [int(s) for s in np.random.default_rng(seed).integers(2**31, size=3)]
    image_shape = check_image_shape(image_shape)
    likelihood = _pixel_likelihood(pixel_likelihood if variational else None, image_shape, variance)
    n_maps = likelihood.n_outputs // likelihood.n_features
    shape = image_shape if tiles is None else check_image_shape((*tiles, image_shape[2]))
    if encoder is not None:
        shapes = [(latent_dim,)] * (2 if variational else 1)
        encoder_model = _own_network(encoder, "encoder", [shape], *shapes)
    else:
        encoder_model = conv_encoder(
            shape,
            filters,
            hidden_units,
            latent_dim,
            activation=activation,
            variational=variational,
            seed=seeds[0],
            dtype="float32",
        )
    if decoder is not None:
        decoder_model = _own_image_decoder(decoder, latent_dim, shape, n_maps)
    else:
        decoder_model = conv_decoder(
            latent_dim,
            hidden_units,
            shape,
            n_maps,
            filters=filters,
            activation=activation,
            seed=seeds[1],
            dtype="float32",
        )
    if tiles is not None:
        networks = tiled_networks(encoder_model, decoder_model, image_shape, tiles)
        encoder_model, decoder_model = networks
    if not variational:
        return Autoencoder(encoder_model, decoder_model, likelihood, dtype="float32")
    return VAE(encoder_model, decoder_model, likelihood, seed=seeds[2], dtype="float32", **training)


def _table_likelihood(
    column_widths: Sequence[int],
    n_numeric: int,
    n_boolean: int,
    resolution: Sequence[float],
    variance: str | float,
) -> Likelihood:
    parts: list[Likelihood] = []
    if n_numeric:
        rounding = np.log(np.maximum(np.square(resolution) / 12, 1e-30))
        floor = np.clip(rounding, *MIN_LOG_VAR_RANGE)
        widths = column_widths[:n_numeric]
        parts.append(Gaussian(len(floor), variance, min_log_var=floor, column_widths=widths))
    if n_boolean:
        parts.append(Bernoulli(n_boolean))
    parts += [Categorical(width) for width in column_widths[n_numeric + n_boolean :]]
    return parts[0] if len(parts) == 1 else Mixed(parts)


def _pixel_likelihood(
    name: str | None, image_shape: tuple[int, int, int], variance: str | float
) -> Likelihood:
    """Return the likelihood of this name; that of an autoencoder for None."""
    n_features = int(np.prod(image_shape))
    if name is None:
        return Gaussian(n_features, variance=1.0)
    likelihood = {
        "roughness_gaussian": lambda: RoughnessGaussian(image_shape),
        "gaussian": lambda: Gaussian(n_features, variance),
        "bernoulli": lambda: Bernoulli(n_features),
        "continuous_bernoulli": lambda: ContinuousBernoulli(n_features),
        "discretized_logistic": lambda: DiscretizedLogistic(n_features),
    }[name]()
    if name == "gaussian" and isinstance(variance, str):
        # The weight moves slowly, so it starts near the variance of pixels.
        likelihood.raw_log_var.assign(np.full(likelihood.raw_log_var.shape, PIXEL_LOG_VAR))
    return likelihood


def _table_encoder(
    text: str, column_widths: Sequence[int], seed: int, output_shapes: Sequence[tuple[int]]
) -> keras.Model:
    """Put ``EncoderInput`` before a custom encoder."""
    n_features, n_columns = sum(column_widths), len(column_widths)
    width = n_features
    if network_from_json(text).input_shape == (None, n_features + n_columns):
        width += n_columns
    network = _own_network(text, "encoder", [(width,)], *output_shapes)
    inputs = [
        keras.Input((n_features,), name="x", dtype="float32"),
        keras.Input((n_columns,), name="observed", dtype="float32"),
    ]
    visible = EncoderInput(column_widths, seed=seed, name="encoder_input", dtype="float32")(inputs)
    return keras.Model(inputs, network(visible[:, :width]), name="encoder")


def _own_image_decoder(decoder, latent_dim, image_shape, n_maps):
    """Return a decoder from its JSON, with its maps flattened as the likelihood takes them."""
    maps = (*image_shape[:2], n_maps * image_shape[2])
    network = _own_network(decoder, "decoder", [(latent_dim,)], maps)
    outputs = flat_maps(network.outputs[0], image_shape)
    return keras.Model(network.inputs, outputs, name="decoder")


def _own_network(
    text: str, name: str, input_shapes: Sequence[Sequence[int]], *output_shapes: Sequence[int]
) -> keras.Model:
    """Build a custom network, and check the shapes of its inputs and outputs."""
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
