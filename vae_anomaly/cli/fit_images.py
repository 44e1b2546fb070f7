"""Fit a detector to a folder of images."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

import vae_anomaly
from vae_anomaly.image_windows import BACKBONE_SIDE, SMALLEST_SIDE, tile_grid
from vae_anomaly.images.augmentation import N_COPIES
from vae_anomaly.images.decoding import printable
from vae_anomaly.images.files import skipped_text
from vae_anomaly.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector


def fit_images(
    inputs: Sequence[str],
    params: Mapping[str, Any],
    *,
    image_size: str | None,
    tiles: str | None,
    augmentation: Sequence[str],
    color: str,
    resize: str,
    backbone: str | None,
) -> tuple[BaseDetector, str]:
    """Return a detector fitted to a folder of images, and what these were.

    Parameters
    ----------
    inputs : sequence of path
        A folder.
    params : dict
        Of ``VAEDetector``.
    image_size : str or None
        HEIGHTxWIDTH to which images are resized. None: see ``ImageFolder``.
    tiles : str or None
        HEIGHTxWIDTH of windows; ``tiles`` of ``VAEDetector``.
    augmentation : sequence of str
        Of ``VAEDetector``; none: no copies.
    color : {"auto", "grey", "rgb"}
    resize : {"stretch", "pad", "crop"}
        See ``ImageFolder``.
    backbone : str or None
        Of ``VAEDetector``.

    Raises
    ------
    ValueError
        There is no image that can be read; the size is too small or is none.
    """
    size = None if image_size is None else _size(image_size, "--image-size")
    window = None if tiles is None else _size(tiles, "--tiles")
    import_tensorflow()
    with warnings.catch_warnings():  # said in its own way below
        warnings.simplefilter("ignore")
        images = vae_anomaly.ImageFolder(inputs[0], resize=resize)
    for path, reason in images.unreadable.items():
        click.echo(f"left out: {printable(path)}: {reason}", err=True)
    height, width, channels = images.shape[1:] if window is None else images.stored_shape
    if backbone is not None and window is None:
        height = width = BACKBONE_SIDE
    height, width = size or (height, width)
    image_shape = height, width, {"auto": channels, "grey": 1, "rgb": 3}[color]
    images = images.with_shape(image_shape)
    for line in (skipped_text(images.skipped) if images.skipped else "", images.stretching()):
        if line:
            click.echo(line, err=True)
    params = {**params, "tiles": window, "augmentation": augmentation or None}
    detector = vae_anomaly.VAEDetector(**params, image_shape=image_shape, backbone=backbone).fit(
        images
    )
    how = {"stretch": "", "pad": ", padded", "crop": ", cropped"}[resize]
    what = f"{len(images)} images of {height} x {width} pixels{how}, {image_shape[2]} channel(s)"
    if grid := tile_grid(window, image_shape):
        what += f", in {grid.n_windows} windows"
    if augmentation:
        what += f", and {N_COPIES} copies of each that trains, by {', '.join(augmentation)}"
    return detector, what


def _size(text, option):
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if not match or min(map(int, match.groups())) < SMALLEST_SIDE:
        raise ValueError(
            f"{option}: expected HEIGHTxWIDTH, such as 64x48, each {SMALLEST_SIDE} or more. "
            f"Received: {text!r}."
        )
    return tuple(map(int, match.groups()))
