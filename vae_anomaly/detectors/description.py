"""What ``detector.json`` may say: types, limits, and numbers that must agree.

All is checked before anything is built, so that a folder that somebody crafted costs bounded memory
and time. The limits are far above what training on one machine gives; ``save`` keeps to them too.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from typing import Any

import jsonschema

from vae_anomaly.image_windows import (
    MAX_IMAGE_SIDE,
    SMALLEST_SIDE,
    check_image_size,
    tile_grid,
)
from vae_anomaly.images.augmentation import AUGMENTATIONS
from vae_anomaly.images.form import RESIZES

MAX_COLUMNS = 10_000
MAX_CATEGORICAL_COLUMNS = 1_000  #: each has a lookup table
MAX_LEVELS = 250_000  #: of all columns together
MAX_LAYERS = 64  #: hidden, of a network that this package builds; also blocks of convolutions
MAX_UNITS = 65_536  #: of a layer
MAX_LATENT_DIM = 4_096
MAX_DRAWS = 4_096  #: of z per row
MAX_REFERENCES = 1_000_000  #: training rows that a model keeps
MAX_CALIBRATION_SCORES = 100_000_000
MAX_NETWORK_TEXT = 4 * 2**20  #: characters of the configuration of a network that was given
MAX_SCHEMA_TEXT = 64 * 2**20  #: characters of what the columns of the training table were
MAX_HISTORY = 100_000  #: evaluations

ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu"),
    *("hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish"),
    *("relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign"),
    *("sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh", "tanh_shrink", "threshold"),
)

_FINITE = {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max}
_TEXT = {"type": "string"}


def _int(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _list(items: Mapping[str, Any], least: int, most: int) -> dict[str, Any]:
    # The length first: the items of a list that is too long are not looked at.
    return {"type": "array", "minItems": least, "maxItems": most, "items": items}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict:
    """Return the schema of an object with no other members than these."""
    return {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": {**required, **(optional or {})},
    }


_NULL = {"type": "null"}
_NETWORK = {"type": ["string", "null"], "maxLength": MAX_NETWORK_TEXT}
_VARIANCE = {"anyOf": [{"enum": ["row", "column", "shared"]}, {**_FINITE, "exclusiveMinimum": 0}]}
_VAE = {
    "beta": {**_FINITE, "minimum": 0},
    "kl_warmup_steps": _int(0, 2**53),
    "n_draws": _int(1, MAX_DRAWS),
    "variance": _VARIANCE,
}
_NETWORKS = {
    "variational": {"type": "boolean"},
    "hidden_units": _list(_int(1, MAX_UNITS), 0, MAX_LAYERS),
    "latent_dim": _int(1, MAX_LATENT_DIM),
    # Else one that is registered with Keras under its package's name.
    "activation": {"anyOf": [{"enum": list(ACTIVATIONS)}, {"type": "string", "pattern": ".>."}]},
    "encoder": _NETWORK,
    "decoder": _NETWORK,
}
_COLUMN = {
    "type": "object",
    "required": ["name", "kind", "missing_share", "treatment"],
    "properties": {
        **dict.fromkeys(("name", "kind", "treatment", "units"), _TEXT),
        **dict.fromkeys(("missing_share", "center", "scale", "step"), _FINITE),
        **dict.fromkeys(("low", "high", "grid"), _FINITE),
        "levels": _list(_TEXT, 0, MAX_LEVELS),
    },
}
_SHAPE = {
    **_list(_int(1, MAX_IMAGE_SIDE), 3, 3),
    "prefixItems": [_int(1, MAX_IMAGE_SIDE)] * 3,
}
_TILES = _list(_int(SMALLEST_SIDE, MAX_IMAGE_SIDE), 2, 2)
_RANGE = _list(_FINITE, 2, 2)
_AUGMENTATION = {"type": "array", "items": {"enum": list(AUGMENTATIONS)}, "minItems": 1}

_SCORE_OPTIONS = _object(
    {},
    {
        **dict.fromkeys(("n_reference", "n_known"), _int(0, MAX_REFERENCES)),
        "training": {"enum": ["as_is", "clean"]},
    },
)
_RATE_OR_NULL = {"anyOf": [_NULL, {**_FINITE, "exclusiveMinimum": 0, "exclusiveMaximum": 1}]}
_TAIL = _object(
    {
        **dict.fromkeys(("start", "shape", "fit_p_value"), _FINITE),
        **dict.fromkeys(("n_tail", "n_calibration"), _int(1, MAX_CALIBRATION_SCORES)),
        "scale": {**_FINITE, "exclusiveMinimum": 0},
    }
)

_IMAGE_MODEL = _object(
    {
        **_NETWORKS,
        "image_shape": _SHAPE,
        "filters": _list(_int(1, MAX_UNITS), 0, MAX_LAYERS),
    },
    {**_VAE, "pixel_likelihood": {"type": ["string", "null"]}, "tiles": _TILES},
)
_IMAGE_PREPROCESSOR = {
    "image_shape": _SHAPE,
    "value_range": _RANGE,
    "image_dtype": _TEXT,
    "resize": {"enum": list(RESIZES)},
}
_IMAGE_SCHEMA = {
    "type": "object",
    "required": ["height", "width", "channels", "value_range", "dtype", "resize"],
    "properties": {
        **dict.fromkeys(("height", "width", "channels"), _int(1, MAX_IMAGE_SIDE)),
        "value_range": _RANGE,
        "dtype": _TEXT,
        "resize": {"enum": list(RESIZES)},
    },
}

# By the name of the input: the parts that differ.
_PARTS = {
    "table": {
        "model": _object(
            {
                **_NETWORKS,
                "column_widths": _list(_int(1, MAX_LEVELS + 2), 1, MAX_COLUMNS),
                "n_numeric": _int(0, MAX_COLUMNS),
                "n_boolean": _int(0, MAX_COLUMNS),
                "resolution": _list(_FINITE, 0, 2 * MAX_COLUMNS),
            },
            _VAE,
        ),
        "preprocessor": {
            "type": "object",
            "required": ["kinds", "levels"],
            "properties": {
                "kinds": {
                    "type": "object",
                    "maxProperties": MAX_COLUMNS,
                    "additionalProperties": _TEXT,
                },
                "levels": {
                    "type": "object",
                    "maxProperties": MAX_CATEGORICAL_COLUMNS,
                    "additionalProperties": _list(_TEXT, 0, MAX_LEVELS),
                },
                "dates": {
                    "type": "object",
                    "maxProperties": MAX_COLUMNS,
                    "additionalProperties": {
                        "type": "array",
                        "minItems": 4,
                        "prefixItems": [{"type": "boolean"}] * 3 + [{"type": ["string", "null"]}],
                        "items": False,
                    },
                },
                "dtypes": {
                    "type": "object",
                    "maxProperties": MAX_COLUMNS,
                    "additionalProperties": {"type": "string", "maxLength": 100},
                },
                "profiles": _list(
                    {
                        "type": "array",
                        "minItems": 4,
                        "prefixItems": [
                            _TEXT,
                            {"enum": ["value", "time", "weekday", "month", "since"]},
                            _list(_FINITE, 0, 20),
                            _list(_FINITE, 1, MAX_LEVELS + 1),
                        ],
                        "items": False,
                    },
                    0,
                    4 * MAX_COLUMNS,
                ),
                "skewed": _list(_int(0, 3 * MAX_COLUMNS), 0, MAX_COLUMNS),
            },
        },
        "schema": _list(_COLUMN, 1, MAX_COLUMNS),
        "described": _object({"schema": {**_TEXT, "maxLength": MAX_SCHEMA_TEXT}}),
    },
    "images": {
        "model": _IMAGE_MODEL,
        "preprocessor": _object(_IMAGE_PREPROCESSOR),
        "schema": _IMAGE_SCHEMA,
        "described": _object({}),
    },
    "features": {
        "model": _IMAGE_MODEL,
        "preprocessor": _object(
            {**_IMAGE_PREPROCESSOR, "backbone": {**_TEXT, "maxLength": MAX_NETWORK_TEXT}},
            {"tiles": {"anyOf": [_NULL, _TILES]}},
        ),
        "schema": _IMAGE_SCHEMA,
        "described": _object({}),
    },
}
_CONTENT = _object(
    {
        "class": {"enum": ["VAEDetector", "AutoencoderDetector"]},
        "input": {"enum": list(_PARTS)},
        "params": {
            "type": "object",
            "properties": {
                "kinds": {"type": ["object", "null"], "additionalProperties": _TEXT},
                "schema": {"type": ["string", "null"]},
                "tiles": {"anyOf": [_NULL, _TILES]},
                "augmentation": {"anyOf": [_NULL, _AUGMENTATION]},
            },
        },
        "n_features_in": _int(1, 2**53),
        "feature_names_in": {"anyOf": [_NULL, _list(_TEXT, 1, 2 * MAX_COLUMNS)]},
        "model": {"type": "object"},
        "scorer": _object(
            {
                "preprocessor": {"type": "object"},
                "score_type": _TEXT,
                "n_draws": _int(1, MAX_DRAWS),
                "n_calibration": _int(1, MAX_CALIBRATION_SCORES),
            },
            # Without, a composite has the two views that all have had.
            {"score_options": _SCORE_OPTIONS},
        ),
        "offset": _FINITE,
        "threshold": _object(
            {
                "offset": _FINITE,
                "intent": {
                    "type": "object",
                    "maxProperties": 10,
                    "additionalProperties": {"anyOf": [_FINITE, _TEXT]},
                },
                "rate_asked": _RATE_OR_NULL,
                "tail": {"anyOf": [_NULL, _TAIL]},
            }
        ),
        "threshold_report": _object(
            {
                **dict.fromkeys(("chosen_by", "calibrated_on"), _TEXT),
                **dict.fromkeys(("rate_expected", "rate_low", "rate_high", "level"), _FINITE),
                **dict.fromkeys(("rank", "n_calibration"), _int(0, MAX_CALIBRATION_SCORES)),
                "offset": _FINITE,
                "rate_asked": _RATE_OR_NULL,
            }
        ),
        "calibrated_on": _TEXT,
        "baseline": _FINITE,
        "schema": {},
        "described": {"type": "object"},
        "history": {
            "type": "object",
            "required": ["step"],
            "properties": {"step": {"maxItems": MAX_HISTORY}},
            "maxProperties": 20,
            "additionalProperties": _list(_FINITE, 0, MAX_HISTORY),
        },
    }
)


def check_description(content: Any) -> None:
    """Check what ``detector.json`` says.

    Raises
    ------
    ValueError
        Something is missing, of another type, or beyond a limit; the message is one line.
    """
    _check(content, _CONTENT, "")
    parts = _PARTS[content["input"]]
    preprocessor = content["scorer"]["preprocessor"]
    _check(content["model"], parts["model"], "model")
    _check(preprocessor, parts["preprocessor"], "scorer.preprocessor")
    _check(content["schema"], parts["schema"], "schema")
    _check(content["described"], parts["described"], "described")
    n_levels = sum(len(levels) for levels in preprocessor.get("levels", {}).values())
    if n_levels > MAX_LEVELS:
        raise ValueError(f"expected at most {MAX_LEVELS} levels. Received: {n_levels}")
    for part in (content["model"], preprocessor):
        height, width, channels = part.get("image_shape", (1, 1, 1))
        check_image_size((height, width, channels))
        tile_grid(part.get("tiles"), (height, width))


def check_weights(content: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the sizes that ``detector.json`` names are those of the weights.

    Raises
    ------
    ValueError
    """
    scorer, model = content["scorer"], content["model"]
    grid = tile_grid(model.get("tiles"), model.get("image_shape", ()))
    n_parts = 1 if grid is None else grid.n_windows
    declared = {
        "scorer/noise": (scorer["n_draws"], n_parts * model["latent_dim"]),
        "scorer/calibration_scores": (scorer["n_calibration"],),
    }
    options = scorer.get("score_options", {})
    if n_reference := options.get("n_reference"):
        n_features = sum(model.get("column_widths", ()))
        declared["scorer/neighbourhood_references"] = (n_reference, n_features)
    if (n_known := options.get("n_known")) and model["n_numeric"]:
        declared["scorer/known_values"] = (model["n_numeric"], n_known)
    for name, shape in declared.items():
        if shapes.get(name) != shape:
            raise ValueError(
                f"expected weights {name!r} of shape {shape}. Received: {shapes.get(name)}"
            )


def _check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(value):
        path = ".".join([*filter(None, [where]), *map(str, error.absolute_path)])
        rule, received = error.validator, reprlib.repr(error.instance)
        expected = f"{rule} {error.validator_value!r:.100}"
        if rule in ("required", "additionalProperties"):
            expected = f"{rule} ({error.message:.100})"
        raise ValueError(f"{path or 'the content'}: expected {expected}. Received: {received}")
