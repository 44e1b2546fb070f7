"""A fitted detector as plain data and named arrays, and back: for folders, pickles and hashes.

Weights are named by their place, such as ``encoder/hidden_0/kernel`` and ``scorer/noise``, never
by Keras' counters, which depend on what a process built before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.detectors.artifact import ArtifactError
from vae_anomaly.detectors.inputs import INPUTS
from vae_anomaly.vae.builders import network_from_json

if TYPE_CHECKING:
    import keras

    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.detectors.inputs import Input
    from vae_anomaly.scoring.scorer import AnomalyScorer

    Arrays = dict[str, np.ndarray]
    Variables = dict[str, keras.Variable]

_TUPLES = ("hidden_units", "filters", "image_shape", "value_range")


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
    content = {
        "class": type(detector).__name__,
        "input": detector._input.name,
        "params": _plain(detector.get_params(deep=False)),
        "n_features_in": detector.n_features_in_,
        "feature_names_in": _plain(getattr(detector, "feature_names_in_", None)),
        "model": detector._model_args,
        "scorer": scorer_config,
        "offset": detector.offset_,
        "baseline": detector.scorer_.baseline,
        "schema": detector.scorer_.preprocessor.schema(),
        "history": detector.history_,
    }
    return content, weights


def unpack(detector: BaseDetector, content: dict[str, Any], weights: Arrays) -> None:
    """Make a new detector the one that was packed.

    Raises
    ------
    ArtifactError
        The weights are not those of the model.
    """
    params = dict(content["params"])
    for name in _TUPLES:
        if params.get(name) is not None:
            params[name] = tuple(params[name])
    detector.set_params(**params)
    detector.n_features_in_ = content["n_features_in"]
    if content["feature_names_in"] is not None:
        detector.feature_names_in_ = np.array(content["feature_names_in"], dtype=object)
    detector.history_ = content["history"]
    detector._model_args = content["model"]
    detector._input, detector.scorer_ = unpack_scorer(
        content["input"], content["model"], content["scorer"], weights
    )
    for name in ("encoder", "decoder"):
        if params.get(name) is not None:
            network = network_from_json(params[name])
            network.set_weights(getattr(detector.scorer_.model, name).get_weights())
            setattr(detector, name, network)


def pack_scorer(scorer: AnomalyScorer) -> tuple[dict[str, Any], Arrays]:
    """Return what rebuilds a scorer beside its model's arguments: plain data, weights by name."""
    preprocessor = scorer.preprocessor.get_config()
    del preprocessor["name"]  # one of Keras' counters
    config = {
        "preprocessor": preprocessor,
        "score_type": scorer.score_type,
        "n_draws": scorer.n_draws,
        "n_calibration": scorer.n_calibration,
    }
    return config, {name: np.asarray(weight) for name, weight in named_weights(scorer).items()}


def unpack_scorer(
    input_name: str, model_args: dict[str, Any], config: dict[str, Any], weights: Arrays
) -> tuple[Input, AnomalyScorer]:
    """Rebuild the input and the scorer that ``pack_scorer`` took apart.

    Raises
    ------
    ArtifactError
        The weights are not those of the model.
    """
    config = dict(config)
    restored = INPUTS[input_name].restored(config.pop("preprocessor"))
    scorer = restored.build_scorer(restored.build_model(model_args), **config)
    variables = named_weights(scorer)
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    received = {name: weight.shape for name, weight in weights.items()}
    if expected != received:
        name = min(
            name for name in {*expected, *received} if expected.get(name) != received.get(name)
        )
        raise ArtifactError(
            f"Expected weights {name!r} of shape {expected.get(name, 'none')}. Received: "
            f"{received.get(name, 'none')}. Save it again."
        )
    for name, variable in variables.items():
        variable.assign(weights[name])
    return restored, scorer


def named_weights(scorer: AnomalyScorer) -> Variables:
    """Return the scorer's own weights and its parts', not the optimizer's nor the metrics'."""
    model = scorer.model
    return {
        **_numbered("preprocessor", scorer.preprocessor.weights),
        **_network_weights("encoder", model.encoder),
        **_network_weights("decoder", model.decoder),
        **_numbered("likelihood", model.likelihood.weights),
        **{f"scorer/{name}": variable for name, variable in scorer.own_weights.items()},
    }


def _network_weights(prefix: str, network: keras.Model) -> Variables:
    named: Variables = {}
    for layer in network.layers:
        of_layer = _network_weights if hasattr(layer, "layers") else _numbered_layer
        named |= of_layer(f"{prefix}/{layer.name}", layer)
    # What a model of one's own class holds by itself.
    known = {id(variable) for variable in named.values()}
    return named | _numbered(prefix, [w for w in network.weights if id(w) not in known])


def _numbered_layer(prefix: str, layer: keras.Layer) -> Variables:
    return _numbered(prefix, layer.weights)


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

    A RandomState cannot be kept and becomes None; a network becomes its configuration, for the
    weights are stored as they are after training.
    """
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if isinstance(value, np.random.RandomState) else value
