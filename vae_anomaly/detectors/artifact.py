"""A fitted detector's folder: JSON and plain arrays, verified before anything is built of it.

==================  ==================================================================
``manifest.json``   format version, library versions, SHA-256 of the other files
``detector.json``   class, input, parameters, schema, network, calibration
``weights.npz``     the weights by name, as plain arrays
==================  ==================================================================

No pickle and no code: networks are built by this package from numbers and names, networks that
were given from their Keras configuration, whose layers are Keras' or registered with it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vae_anomaly.atomic import StrPath, atomic_folder, check_replaceable, restore

FORMAT_VERSION = 4
_FORMAT = "vae_anomaly detector"
_DETECTOR, _WEIGHTS, _MANIFEST = "detector.json", "weights.npz", "manifest.json"
FILES = (_DETECTOR, _WEIGHTS, _MANIFEST)
_CLASSES = ("VAEDetector", "AutoencoderDetector")


class ArtifactError(ValueError):
    """A folder is not a whole, undamaged detector; ``str(error)`` is one sentence."""


def write(folder: StrPath, content: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    """Write a folder, which appears only when complete, at once in place of an earlier one.

    Parameters
    ----------
    folder : path
    content : dict
        Plain data, of ``detector.json``.
    weights : dict of str to array

    Raises
    ------
    FileExistsError
        There is something else than a saved detector, or a file that does not belong to one.
    """
    folder = Path(folder)
    check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, FILES) as part:
        (part / _DETECTOR).write_text(json.dumps(content, indent=1, allow_nan=False), "utf-8")
        _write_arrays(part / _WEIGHTS, weights)
        manifest = {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("vae-anomaly", "tensorflow", "keras", "numpy", "scikit-learn")
            },
            "sha256": {name: _sha256(part / name) for name in (_DETECTOR, _WEIGHTS)},
        }
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")


def check_target(folder: StrPath) -> None:
    """Check that ``write`` can write to a folder.

    Raises
    ------
    FileExistsError
        There is something else than a saved detector, or a file that does not belong to one.
    PermissionError
        It may not be written.
    """
    folder = Path(os.path.realpath(folder))
    check_replaceable(folder, FILES)
    if folder.is_dir() and any(folder.iterdir()) and not _is_detector(folder):
        raise FileExistsError(
            f"Expected a new folder or a saved detector to replace. Received: {folder}, which "
            "is something else. Choose another name."
        )
    parent = next(path for path in folder.parents if path.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise PermissionError(
            f"Expected a folder that can be written to. Received: {parent}, to make {folder} in. "
            "Choose another name."
        )


def read(folder: StrPath) -> dict[str, Any]:
    """Verify a saved detector and return its description; does not import TensorFlow.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        The content of ``detector.json``, with the library versions under "versions".

    Raises
    ------
    ArtifactError
        The folder is missing, foreign, incomplete, damaged or of a newer format.
    """
    folder = Path(folder)
    restore(folder, FILES)
    if not (folder / _MANIFEST).is_file():
        what = "has no manifest.json" if folder.is_dir() else "is not a folder"
        raise ArtifactError(
            f"Expected a folder written by VAEDetector.save or 'vae-anomaly fit'. Received: "
            f"{folder}, which {what}."
        )
    manifest = _read_json(folder, _MANIFEST)
    if manifest.get("format") != _FORMAT:
        raise ArtifactError(f"{folder / _MANIFEST}: expected a vae_anomaly detector's manifest.")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: expected format version {FORMAT_VERSION}. Received: "
            f"{manifest.get('format_version')!r}. Load it with the version of vae_anomaly that "
            "wrote it."
        )
    for name in (_DETECTOR, _WEIGHTS):
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{folder} is incomplete: {name} is missing. Save it again.")
        if _sha256(path) != manifest.get("sha256", {}).get(name):
            raise ArtifactError(
                f"{path} is damaged: its content is not what was saved. Save or copy it again."
            )
    content = _read_json(folder, _DETECTOR)
    if content.get("class") not in _CLASSES:
        raise ArtifactError(
            f"{folder / _DETECTOR}: expected a class among {_CLASSES}. "
            f"Received: {content.get('class')!r}."
        )
    return {**content, "versions": manifest.get("versions", {})}


def read_weights(folder: StrPath) -> dict[str, np.ndarray]:
    """Return the weights of a saved detector by name.

    Raises
    ------
    ArtifactError
        The file cannot be read.
    """
    try:
        with np.load(Path(folder) / _WEIGHTS, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder}: {_WEIGHTS} cannot be read ({error}).") from error


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write what ``numpy.load`` reads; equal arrays give equal files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _is_detector(folder):
    try:
        return _read_json(folder, _MANIFEST).get("format") == _FORMAT
    except (OSError, ArtifactError):
        return False


def _read_json(folder, name):
    try:
        content = json.loads((folder / name).read_text())
    except ValueError as error:
        raise ArtifactError(f"{folder / name} is damaged: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{folder / name} is damaged: expected a JSON object.")
    return content


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
