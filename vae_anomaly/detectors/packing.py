"""A fitted detector as plain data and named arrays, and back: for folders, pickles and hashes.

Weights are named by their place, such as ``encoder/hidden_0/kernel`` and ``scorer/noise``, never
by Keras' counters, which depend on what a process built before.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vae_anomaly.detectors.inputs import INPUTS
from vae_anomaly.detectors.sklearn_compat import check_params
from vae_anomaly.scoring.thresholds import Threshold
from vae_anomaly.tables.schema import Schema
from vae_anomaly.vae.network_json import network_from_json
from vae_anomaly.vae.unallocated import unallocated

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.detectors.inputs import Input
    from vae_anomaly.scoring.scorer import AnomalyScorer
    from vae_anomaly.vae.models import VAE, Autoencoder

    Arrays = dict[str, np.ndarray]
    Variables = dict[str, keras.Variable]

_MODEL_PARTS = ("encoder/", "decoder/", "likelihood/")
_TUPLES = ("hidden_units", "filters", "image_shape", "tiles", "augmentation", "value_range")


def pack(detector: BaseDetector) -> tuple[dict[str, Any], Arrays]:
    """Return a fitted detector as what JSON can hold, and its weights by name.

    Raises
    ------
    ValueError
        The activation is a function: without code, only its name can be stored.
    """
    if callable(activation := detector._model_args["activation"]):
        raise ValueError(
            "Expected a detector whose `activation` is a name, such as 'relu'. Received: "
            f"activation={activation!r}, which a folder without code cannot hold."
        )
    scorer_config, weights = pack_scorer(detector.scorer_)
    params = _plain(detector.get_params(deep=False))
    described = detector._input.described()
    if params["schema"] is not None:  # perhaps a file
        params["schema"] = described["schema"]
    content = {
        "class": type(detector).__name__,
        "input": detector._input.name,
        "params": params,
        "n_features_in": detector.n_features_in_,
        "feature_names_in": _plain(getattr(detector, "feature_names_in_", None)),
        "model": detector._model_args,
        "scorer": scorer_config,
        "offset": detector.offset_,
        "threshold": detector._threshold.to_dict(),
        "threshold_report": dataclasses.asdict(detector.threshold_report()),
        "calibrated_on": detector._calibrated_on,
        "baseline": detector.scorer_.baseline,
        "schema": detector.scorer_.preprocessor.schema(),
        "described": described,
        "history": detector.history_,
    }
    return content, weights


def unpack(detector: BaseDetector, content: dict[str, Any], weights: Arrays) -> None:
    """Make a new detector the one that was packed, by anybody.

    Raises
    ------
    ValueError
        The parts do not fit each other. Found before a network is given memory.
    """
    params: dict[str, Any] = {
        name: tuple(value) if name in _TUPLES and value is not None else value
        for name, value in content["params"].items()
    }
    if params["schema"] is not None:
        params["schema"] = Schema.from_json(params["schema"])
    detector.set_params(**params)
    check_params(detector)
    model_args, scorer_config = content["model"], dict(content["scorer"])
    described, preprocessor = content["described"], scorer_config.pop("preprocessor")
    restored = INPUTS[content["input"]].restored(preprocessor, described)
    _check_sizes(restored, model_args, weights)
    detector._input, detector._model_args = restored, model_args
    detector.scorer_ = _rebuilt(restored, model_args, scorer_config, weights)
    detector.n_features_in_ = content["n_features_in"]
    if content["feature_names_in"] is not None:
        detector.feature_names_in_ = np.array(content["feature_names_in"], dtype=object)
    detector.history_ = content["history"]
    detector._threshold = Threshold.from_dict(content["threshold"])
    detector._calibrated_on = content["calibrated_on"]
    for name in ("encoder", "decoder"):
        if model_args[name] is not None:
            network = network_from_json(model_args[name])
            network.set_weights(getattr(detector.scorer_.model, name).get_weights())
            setattr(detector, name, network)
    detector.set_params(**with_networks(detector.get_params(deep=False), restored))


def _check_sizes(restored: Input, model_args: dict[str, Any], weights: Arrays) -> None:
    """Check the model's sizes against the preprocessor and the weights, without building it."""
    for name, size in restored.sizes.items():
        if model_args[name] != size:
            raise ValueError(f"Expected {name} as in the preprocessor. Received: others.")
    with unallocated():
        model = restored.build_model(model_args)
        _check_shapes(_model_weights(model), weights, _MODEL_PARTS)


def pack_scorer(scorer: AnomalyScorer) -> tuple[dict[str, Any], Arrays]:
    """Return what rebuilds a scorer beside its model's arguments: plain data, weights by name."""
    preprocessor = scorer.preprocessor.get_config()
    del preprocessor["name"]  # one of Keras' counters
    config = {
        "preprocessor": preprocessor,
        "score_type": scorer.score_type,
        "score_options": dict(scorer.score_options),
        "n_draws": scorer.n_draws,
        "n_calibration": scorer.n_calibration,
    }
    return config, {name: np.asarray(weight) for name, weight in named_weights(scorer).items()}


def without_networks(params: dict[str, Any], given: Input) -> dict[str, None]:
    """Return those of the parameters that are networks which an input holds too, as None."""
    names = given.given_networks
    return {name: None for name in names if isinstance(params[name], keras.Model)}


def with_networks(params: dict[str, Any], given: Input) -> dict[str, keras.Model]:
    """Return what ``without_networks`` took away."""
    return {name: net for name, net in given.given_networks.items() if params[name] is None}


def unpack_scorer(
    described_input: tuple[str, dict[str, Any]],
    model_args: dict[str, Any],
    config: dict[str, Any],
    weights: Arrays,
) -> tuple[Input, AnomalyScorer]:
    """Rebuild the input, of a name and as described, and what ``pack_scorer`` took apart."""
    (input_name, described), config = described_input, dict(config)
    restored = INPUTS[input_name].restored(config.pop("preprocessor"), described)
    return restored, _rebuilt(restored, model_args, config, weights)


def _rebuilt(
    restored: Input, model_args: dict[str, Any], config: dict[str, Any], weights: Arrays
) -> AnomalyScorer:
    scorer = restored.build_scorer(restored.build_model(model_args), **config)
    variables = named_weights(scorer)
    _check_shapes(variables, weights)
    for name, variable in variables.items():
        variable.assign(weights[name])
    return scorer


def _check_shapes(variables: Variables, weights: Arrays, parts: tuple[str, ...] = ("",)) -> None:
    """Check that there are weights for all variables, and no others, in some parts."""
    expected = {name: (tuple(v.shape), np.dtype(v.dtype)) for name, v in variables.items()}
    received = {name: (w.shape, w.dtype) for name, w in weights.items() if name.startswith(parts)}
    for name in sorted({*expected, *received}):
        if expected.get(name) != received.get(name):
            raise ValueError(
                f"Expected weights {name!r} of shape and type {expected.get(name)}. Received: "
                f"{received.get(name)}."
            )


def named_weights(scorer: AnomalyScorer) -> Variables:
    """Return the scorer's own weights and its parts', not the optimizer's nor the metrics'."""
    return {
        **_layer_weights("preprocessor", scorer.preprocessor),
        **_model_weights(scorer.model),
        **{f"scorer/{name}": variable for name, variable in scorer.own_weights.items()},
    }


def _model_weights(model: VAE | Autoencoder) -> Variables:
    return {
        **_network_weights("encoder", model.encoder),
        **_network_weights("decoder", model.decoder),
        **_numbered("likelihood", model.likelihood.weights),
    }


def _layer_weights(prefix: str, layer: Any) -> Variables:
    """Return the weights of a layer, or of a network by its layers."""
    has_layers = hasattr(layer, "layers")
    return _network_weights(prefix, layer) if has_layers else _numbered(prefix, layer.weights)


def _network_weights(prefix: str, network: Any) -> Variables:
    named: Variables = {}
    for layer in network.layers:
        named |= _layer_weights(f"{prefix}/{layer.name}", layer)
    # Weights that a subclass of Model holds itself, outside of its layers.
    known = {id(variable) for variable in named.values()}
    return named | _numbered(prefix, [w for w in network.weights if id(w) not in known])


def _numbered(prefix: str, variables: list[keras.Variable]) -> Variables:
    """Name variables by their own names; of equal ones the second ends in _1, and so on."""
    named: Variables = {}
    counts: dict[str, int] = {}
    for variable in variables:
        count = counts[variable.name] = counts.get(variable.name, -1) + 1
        named[f"{prefix}/{variable.name}" + (f"_{count}" if count else "")] = variable
    return named


def _plain(value: Any) -> Any:
    """Return a parameter as JSON can hold it.

    A RandomState and networks become None: the first cannot be kept, the others are among the
    model's arguments, with the weights that training gave them.
    """
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if isinstance(value, (np.random.RandomState, keras.Model)) else value
