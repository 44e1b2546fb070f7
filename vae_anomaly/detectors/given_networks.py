"""The networks of a model: what the detector's parameters say, and those that a caller gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_anomaly.vae.models import VAE, Autoencoder


def network_args(detector: Any, auto_latent_dim: Callable[[], int]) -> dict[str, Any]:
    """Return the arguments of ``build_model`` that the networks follow from.

    Parameters
    ----------
    detector : BaseDetector
    auto_latent_dim : callable
        Gives the size of z where neither ``latent_dim`` nor a network says it.

    Raises
    ------
    ValueError
        A given network is not built.
    """
    for name, network in (("encoder", detector.encoder), ("decoder", detector.decoder)):
        if network is not None and not (network.built and hasattr(network, "input_shape")):
            raise ValueError(
                f"Expected `{name}` to be a keras.Model whose inputs are known. Received: one "
                "that is not built. Give it a keras.Input."
            )
    networks = {
        name: None if network is None else network.to_json()
        for name, network in (("encoder", detector.encoder), ("decoder", detector.decoder))
    }
    latent_dim = detector.latent_dim
    if latent_dim is None and detector.decoder is not None:
        latent_dim = detector.decoder.inputs[0].shape[-1]
    elif latent_dim is None and detector.encoder is not None:
        latent_dim = detector.encoder.outputs[0].shape[-1]
    elif latent_dim is None:
        latent_dim = auto_latent_dim()
    return {
        "hidden_units": [int(units) for units in detector.hidden_units],
        "latent_dim": int(latent_dim),
        "activation": detector.activation,
        **networks,
    }


def start_from_given(detector: Any, model: VAE | Autoencoder) -> None:
    """Give a new model the weights of the networks that a caller gave."""
    for network, given in ((model.encoder, detector.encoder), (model.decoder, detector.decoder)):
        if given is not None:
            network.set_weights(given.get_weights())
