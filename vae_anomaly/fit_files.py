"""Fit a detector to files: to a table, or to a folder of images."""

from __future__ import annotations

import pathlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

import vae_anomaly
from vae_anomaly.image_size import SMALLEST_SIDE
from vae_anomaly.images.decoding import printable
from vae_anomaly.images.files import skipped_text
from vae_anomaly.model_info import print_kinds
from vae_anomaly.tables import reader
from vae_anomaly.tables.rules import KINDS
from vae_anomaly.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector

#: Options that only a table, or only a folder of images, takes.
FIT_OPTIONS = {
    "table": ("numeric", "categorical", "ids", "drop", "delimiter", "encoding"),
    "images": ("image_size", "color", "resize"),
}


def fit_params(quiet: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the detector that do not depend on the kind of input."""
    params = {name: options[name] for name in ("score_type", "latent_dim", "max_steps")}
    contamination, units = options["contamination"], options["hidden_units"].split(",")
    if contamination != "auto":
        contamination = _number(contamination, "--contamination", float)
    return {
        **params,
        "contamination": contamination,
        "hidden_units": [_number(text, "--hidden-units", int) for text in units if text],
        "random_state": options["random_state"],
        "verbose": int(not quiet),
    }


def fit_table(
    table: pathlib.Path,
    params: Mapping[str, Any],
    *,
    delimiter: str | None,
    encoding: str,
    **columns: Sequence[str],
) -> tuple[BaseDetector, str]:
    """Return a detector fitted to a table file, and what this was.

    Parameters
    ----------
    table : path
    params : dict
        Of ``VAEDetector``.
    delimiter, encoding
        Of the file.
    **columns : sequence of str
        ``numeric``, ``categorical``, ``ids`` and ``drop``: columns whose kind is not inferred.

    Raises
    ------
    ValueError
        A column is unknown, named twice or not of the kind given; the file is no table.
    """
    text = {"delimiter": delimiter, "encoding": encoding}
    kinds = _chosen_kinds(table, **columns, **text)
    modelled = {name: kind for name, kind in kinds.items() if kind in KINDS}
    frame = reader.read_frame(table, modelled, **text)
    if params["verbose"]:
        print_kinds(kinds)
    import_tensorflow()
    detector = vae_anomaly.VAEDetector(kinds=kinds, **params).fit(frame)
    return detector, f"{len(frame)} rows of {frame.shape[1]} columns"


def fit_images(
    folder: pathlib.Path,
    params: Mapping[str, Any],
    *,
    image_size: str | None,
    color: str,
    resize: str,
) -> tuple[BaseDetector, str]:
    """Return a detector fitted to a folder of images, and what these were.

    Parameters
    ----------
    folder : path
    params : dict
        Of ``VAEDetector``.
    image_size : str or None
        HEIGHTxWIDTH to which images are resized. None: see ``ImageFolder``.
    color : {"auto", "grey", "rgb"}
    resize : {"stretch", "pad", "crop"}
        See ``ImageFolder``.

    Raises
    ------
    ValueError
        There is no image that can be read; the size is too small or is none.
    """
    size = None if image_size is None else _image_size(image_size)
    import_tensorflow()
    with warnings.catch_warnings():  # said in its own way below
        warnings.simplefilter("ignore")
        images = vae_anomaly.ImageFolder(folder, resize=resize)
    for path, reason in images.unreadable.items():
        click.echo(f"left out: {printable(path)}: {reason}", err=True)
    height, width, channels = images.shape[1:]
    height, width = size or (height, width)
    image_shape = height, width, {"auto": channels, "grey": 1, "rgb": 3}[color]
    images = images.with_shape(image_shape)
    for line in (skipped_text(images.skipped) if images.skipped else "", images.stretching()):
        if line:
            click.echo(line, err=True)
    detector = vae_anomaly.VAEDetector(image_shape=image_shape, **params).fit(images)
    how = {"stretch": "", "pad": ", padded", "crop": ", cropped"}[resize]
    what = f"{len(images)} images of {height} x {width} pixels{how}, {image_shape[2]} channel(s)"
    return detector, what


def _number(text, option, kind):
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{option}: expected a number. Received: {text!r}.") from None


def _image_size(text):
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if not match or min(map(int, match.groups())) < SMALLEST_SIDE:
        raise ValueError(
            f"--image-size: expected HEIGHTxWIDTH, such as 64x48, each {SMALLEST_SIDE} or more. "
            f"Received: {text!r}."
        )
    return tuple(map(int, match.groups()))


def _chosen_kinds(table, numeric, categorical, ids, drop, **text):
    """Kinds of all columns of a file: inferred, then overridden by the options."""
    options = {
        **dict.fromkeys(numeric, "numeric"),
        **dict.fromkeys(categorical, "categorical"),
    }
    unmodelled = {**dict.fromkeys(ids, "id"), **dict.fromkeys(drop, "dropped")}
    twice = sorted(set(options) & set(unmodelled) | set(numeric) & set(categorical))
    if twice or set(ids) & set(drop):
        raise ValueError(
            f"Expected one option for a column. Received several: {twice or sorted(ids)}."
        )
    return reader.infer_kinds(table, {**options, **unmodelled}, **text)


#: What fits a detector to each kind of input.
FIT: dict[str, Callable[..., tuple[BaseDetector, str]]] = {
    "table": fit_table,
    "images": fit_images,
}
