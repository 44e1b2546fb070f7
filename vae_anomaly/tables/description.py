"""What is done with each column of a table, told to people and to programs as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vae_anomaly.tables.preprocessing import TablePreprocessor


def describe(layer: TablePreprocessor) -> list[dict[str, Any]]:
    """Describe each column: kind, units, levels, share missing, and treatment.

    Parameters
    ----------
    layer : TablePreprocessor
        Adapted.

    Returns
    -------
    list of dict
        In input order, made of plain numbers and text.
    """
    bounds = dict(zip(layer.measured, np.asarray(layer.bounds).tolist(), strict=True))
    grids = dict(zip(layer.measured, np.asarray(layer.grid).tolist(), strict=True))
    columns = []
    for (name, kind), missing in zip(
        layer.kinds.items(), np.asarray(layer.missing_share).tolist(), strict=True
    ):
        column: dict[str, Any] = {"name": name, "kind": kind, "missing_share": missing}
        if name in bounds:
            column["low"], column["high"] = bounds[name]
            column["grid"] = grids[name]
            dates = kind in ("datetime", "timestamp")
            column["units"] = "seconds since 1970-01-01 UTC" if dates else "as given"
        columns.append(column | _TREATMENTS[kind](layer, name))
    return columns


def _number(layer, name):
    place = layer.columns.number_of(name, "value")
    treatment = "Gaussian likelihood of (value - center) / scale"
    if name in layer.skewed:
        treatment += ", and of its normal score"
    return {
        "center": float(layer.numbers.center[place]),
        "scale": float(layer.numbers.scale[place]),
        "step": float(layer.numbers.step[place]),
        "treatment": treatment,
    }


def _date(layer, name):
    parts = layer.dates[name]
    found = [
        text
        for text, is_there in (
            ("time of day", parts.time),
            ("weekday", parts.weekday),
            ("month", parts.month),
            (f"time since {parts.since!r}", parts.since is not None),
        )
        if is_there
    ]
    low, high = np.asarray(layer.bounds)[layer.measured.index(name)].tolist()
    return {
        "center": (low + high) / 2,
        "scale": (high - low) / 2 or 1.0,
        "parts": found,
        "treatment": f"likelihoods of {', '.join(found)}"
        if found
        else "not modelled: the training rows are of one day at most",
    }


def _boolean(layer, name):
    return {"treatment": "Bernoulli likelihood"}


def _category(layer, name):
    return {
        "levels": layer.levels[name],
        "treatment": "categorical likelihood over the levels and 'any other'",
    }


_TREATMENTS = {
    "numeric": _number,
    "timestamp": _number,
    "datetime": _date,
    "boolean": _boolean,
    "categorical": _category,
}
