"""Text about a model, for people: the kinds of its columns, and what ``info`` shows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.image_windows import tile_grid
from vae_anomaly.scoring.calibration import ThresholdReport
from vae_anomaly.tables.names import listed
from vae_anomaly.tables.rules import DATE_KINDS, UNMODELLED_KINDS
from vae_anomaly.tables.schema import ColumnSchema, Schema

if TYPE_CHECKING:
    from rich.console import Console

_RESIZES = {"stretch": "stretched", "pad": "padded", "crop": "cropped"}
_TREATMENTS = {
    "numeric": "Gaussian likelihood",
    "datetime": "times of day, weekdays and months, and times between dates",
    "timestamp": "seconds since 1970, Gaussian likelihood",
    "boolean": "Bernoulli likelihood",
    "categorical": "categorical likelihood",
    "id": "kept, not modelled",
    "text": "kept, not modelled",
    "dropped": "neither modelled nor written back",
}


def print_model(folder: str | os.PathLike[str], description: Mapping[str, Any]) -> None:
    """Show a saved detector: its columns or images, network and threshold.

    Parameters
    ----------
    folder : path
    description : dict
        As of ``artifact.read``.
    """
    from rich.console import Console

    # At least 120 columns, rather than cut: this is also read by grep.
    console = Console(width=max(Console().width, 120))
    network = description["model"]
    console.print(f"{description['class']} in {folder}", highlight=False, soft_wrap=True)
    threshold, baseline = _short(description["offset"]), _short(description["baseline"])
    facts = {
        "score": _score(description["scorer"]),
        "threshold": f"{threshold} (mean training score: {baseline})",
        "false alarms": ThresholdReport(**description["threshold_report"]).sentence,
        "network": _network(network),
        "training steps": description["history"]["step"][-1],
        "versions": ", ".join(f"{k} {v}" for k, v in description["versions"].items()),
    }
    _print_facts(console, facts)
    _PRINTED[description["input"]](console, description)


def _print_facts(console: Console, facts: Mapping[str, object]) -> None:
    for name, value in facts.items():
        console.print(f"{name:>16}: {value}", highlight=False, markup=False, soft_wrap=True)


def _score(scorer):
    options = scorer.get("score_options", {})
    training = {"clean": "all taken for normal"}.get(options.get("training"), "as they come")
    kept = f", {options.get('n_reference', 0):,} of them kept" if options.get("n_reference") else ""
    return scorer["score_type"] + (f" (training rows: {training}{kept})" if options else "")


def _network(model_args):
    own = [name for name in ("encoder", "decoder") if model_args.get(name)]
    layers = "" if len(own) == 2 else f"{model_args['hidden_units']}"
    parts = [layers, f"{' and '.join(own)} of your own" if own else ""]
    return f"{', '.join(filter(None, parts))} -> {model_args['latent_dim']} latent"


def _print_images(console: Console, description: Mapping[str, Any]) -> None:
    schema = description["schema"]
    colours = {1: "grey", 3: "red, green, blue"}.get(schema["channels"], "")
    low, high = map(_short, schema["value_range"])
    likelihood = description["model"].get("pixel_likelihood")
    facts = {
        "images": f"{schema['height']} x {schema['width']} pixels" + _windows(description),
        "other proportions": _RESIZES[schema["resize"]],
        "channels": f"{schema['channels']}" + (f" ({colours})" if colours else ""),
        "values": f"from {low} to {high}, {schema['dtype']}",
        "pixel likelihood": likelihood or "none: squared error",
    }
    _print_facts(console, facts)


def _windows(description: Mapping[str, Any]) -> str:
    """Return what ``tiles`` are, as the end of a sentence; "" if there are none."""
    schema = description["schema"]
    tiles = description["scorer"]["preprocessor"].get("tiles", description["model"].get("tiles"))
    grid = tile_grid(tiles, (schema["height"], schema["width"]))
    if grid is None:
        return ""
    height, width = grid.window
    return f", in {grid.n_windows} windows of {height} x {width}"


def _print_features(console: Console, description: Mapping[str, Any]) -> None:
    network = json.loads(description["scorer"]["preprocessor"]["backbone"])
    height, width, components = description["model"]["image_shape"]
    name = network.get("config", {}).get("name", "")
    facts = {"backbone": f"{name}: {height} x {width} positions, {components} components"}
    _print_facts(console, facts)
    _print_images(console, description)


def _print_columns(console: Console, description: Mapping[str, Any]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    found = Schema.from_json(description["described"]["schema"])
    headers = ("column", "kind", "missing", "center", "scale", "step", "levels")
    schema = Table(*(Column(header, overflow="fold") for header in headers))
    for column in description["schema"]:
        schema.add_row(
            *map(
                Text,
                (
                    column["name"],
                    column["kind"],
                    f"{column['missing_share']:.1%}",
                    _center(column),
                    _short(column.get("scale")),
                    _short(column.get("step")),
                    listed(column.get("levels", []), 5),
                ),
            )
        )
    # Of which columns each kind and treatment is.
    names_of: dict[tuple[str, str], list[str]] = {}
    for column in description["schema"]:
        units = f"; units: {column['units']}" if "units" in column else ""
        key = column["kind"], column["treatment"] + units
        names_of.setdefault(key, []).append(column["name"])
    for name in found.unmodelled:
        kind = found.columns[name].kind
        schema.add_row(Text(name), kind)
        names_of.setdefault((kind, _TREATMENTS[kind]), []).append(name)
    console.print(schema)
    kinds = [kind for kind, _ in names_of]
    for (kind, treatment), names in names_of.items():
        which = f" ({listed(names, 20)})" if kinds.count(kind) > 1 else ""
        console.print(f"{kind}{which}: {treatment}", highlight=False, markup=False)
    for name, column in found.columns.items():
        _print_found(console, name, column)


def _print_found(console: Console, name: str, column: ColumnSchema) -> None:
    """Show how a column is spelled, and how many values differ, before the cut to levels."""
    distinct = column.n_distinct and column.kind in ("categorical", *UNMODELLED_KINDS)
    facts = [
        f"{column.n_distinct:,} values differ" if distinct else "",
        f"spelled like {column.format_text}" if column.format_text else "",
    ]
    if any(facts):
        console.print(
            f"{name}: {'; '.join(filter(None, facts))}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _center(column):
    if column["kind"] in DATE_KINDS:
        return f"{np.datetime64(round(column['center']), 's')}"
    return _short(column.get("center"))


def _short(value):
    return "" if value is None else f"{value:.6g}"


# By the name of the input: what shows how it is taken.
_PRINTED = {"table": _print_columns, "images": _print_images, "features": _print_features}
