"""Going on from an earlier fit to a table: what is kept of it, and networks that grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.tables.schema import Schema

if TYPE_CHECKING:
    from vae_anomaly.tables.preprocessing import TablePreprocessor
    from vae_anomaly.vae.models import VAE, Autoencoder

#: Steps of a training that goes on, where ``max_steps`` is None.
MAX_STEPS = 1500
# The parameters that networks and likelihoods are built by.
_BUILT_BY = ("hidden_units", "latent_dim", "activation", "variance")


def earlier_input(detector: Any) -> Any:
    """Return the ``TableInput`` of the fit to go on from, or None if there is none.

    Raises
    ------
    ValueError
        The earlier fit was not to a table; the detector says other kinds now.
    """
    if not (detector.warm_start and hasattr(detector, "scorer_")):
        return None
    earlier = detector._input
    if earlier.name != "table":
        raise ValueError(
            "Expected a detector that was fitted to a table, where `warm_start` is true. Received: "
            "one that was fitted to images. Fit a new one."
        )
    given = detector.schema
    if given is not None:
        given = (given if isinstance(given, Schema) else Schema.from_file(given)).kinds
    known = {name: column.kind for name, column in earlier.schema.columns.items()}
    for name, kind in {**(given or {}), **(detector.kinds or {})}.items():
        if known.get(str(name)) != kind:
            raise ValueError(
                f"Expected columns of the kinds of the fit to go on from. Received: {name!r} as "
                f"{kind!r}, which was {known.get(str(name), 'not there')!r}. Fit anew, without "
                "`warm_start`."
            )
    return earlier


def kept_args(detector: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``build_model``, with the size of z of the earlier fit.

    Raises
    ------
    ValueError
        A parameter differs by which the earlier networks were built.
    """
    earlier = detector._model_args
    if detector.latent_dim is None:
        args = {**args, "latent_dim": earlier["latent_dim"]}
    for name in ("encoder", "decoder"):
        if args.get(name) != earlier.get(name):
            raise ValueError(
                f"Expected the `{name}` of the fit to go on from. Received: another one. Fit anew, "
                "without `warm_start`."
            )
    before, is_own = detector.scorer_.preprocessor, bool(args.get("encoder") or args.get("decoder"))
    if before.normal_scores != (detector.normal_scores and not is_own):
        raise ValueError(
            f"Expected `normal_scores` as in the fit to go on from, {before.normal_scores}. "
            f"Received: normal_scores={detector.normal_scores}. Fit anew, without `warm_start`."
        )
    for name in _BUILT_BY:
        if name in args and args[name] != earlier[name]:
            raise ValueError(
                f"Expected `{name}` as in the fit to go on from, {earlier[name]!r}. Received: "
                f"{name}={args[name]!r}. Fit anew, without `warm_start`."
            )
    return args


def start_from_earlier(
    detector: Any, model: VAE | Autoencoder, preprocessor: TablePreprocessor
) -> None:
    """Give a new model the weights of the earlier one; a new level starts as any unknown one."""
    before, after = detector.scorer_.preprocessor, preprocessor
    earlier = detector.scorer_.model
    features = _sources(before.column_widths, after.column_widths)
    n_observed = len(before.column_widths)
    n_features = sum(before.column_widths)
    first = before.n_numeric + before.n_boolean
    levels = _sources(before.column_widths[first:], after.column_widths[first:])
    n_others = earlier.likelihood.n_outputs - sum(before.column_widths[first:])
    sources = {
        "encoder": np.append(features, n_features + np.arange(n_observed)),
        "decoder": np.append(np.arange(n_others), n_others + levels),
        "likelihood": np.empty(0, dtype=int),  # it has weights of numbers alone
    }
    for name, source in sources.items():
        part, weights = getattr(model, name), getattr(earlier, name).get_weights()
        part.set_weights(
            [
                _grown(weight, tuple(own.shape), source)
                for weight, own in zip(weights, part.weights, strict=True)
            ]
        )


def _sources(before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """Return which of the earlier features each feature starts as, given widths of columns."""
    starts = np.cumsum([0, *before])
    return np.array(
        [
            start + (place if place < width else 0)
            for start, width, new in zip(starts, before, after, strict=False)
            for place in range(new)
        ],
        dtype=int,
    )


def _grown(weight: np.ndarray, shape: tuple[int, ...], source: np.ndarray) -> np.ndarray:
    """Return a weight, taken from its sources along the axis that has grown."""
    for axis, size in enumerate(shape):
        if weight.shape[axis] != size:
            return np.take(weight, source, axis=axis)
    return weight
