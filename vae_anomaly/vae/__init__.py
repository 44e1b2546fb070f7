"""The variational autoencoder as Keras parts: layers, likelihoods, networks, models."""

from vae_anomaly.tensorflow_import import import_tensorflow

import_tensorflow()  # before the modules below do, with its greetings

from vae_anomaly.vae.layers import Sampling, kl_divergence, monte_carlo_kl, normal_log_prob
from vae_anomaly.vae.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Mixed
from vae_anomaly.vae.models import VAE, Autoencoder
from vae_anomaly.vae.networks import (
    conv_decoder,
    conv_encoder,
    dense_decoder,
    dense_encoder,
)
from vae_anomaly.vae.pixel_likelihoods import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    RoughnessGaussian,
)

__all__ = [
    "VAE",
    "Autoencoder",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Likelihood",
    "Mixed",
    "RoughnessGaussian",
    "Sampling",
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "kl_divergence",
    "monte_carlo_kl",
    "normal_log_prob",
]
