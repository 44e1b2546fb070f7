"""A fitted detector's folder: JSON and plain arrays, verified before anything is built of it.

==================  ==================================================================
``manifest.json``   format version, library versions, SHA-256 of the other files
``detector.json``   class, input, parameters, schema, network, calibration
``weights.npz``     the weights by name, as plain arrays
==================  ==================================================================

No pickle and no code: networks are built by this package from numbers and names, networks that
were given from their Keras configuration, whose layers are Keras' or registered with it. A folder
may come from anybody: what it says is checked against the limits in ``description`` and ``arrays``
and against the sizes of what is there first. Only its weights and levels can be wrong without
being found, and then its scores are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly.atomic import StrPath, atomic_folder, check_can_be_made, check_replaceable, restore
from vae_anomaly.detectors.arrays import MAX_BYTES, read_arrays, write_arrays
from vae_anomaly.detectors.description import check_description, check_weights

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 5
MAX_JSON_BYTES = 16 * 2**20  #: of each of the two
_FORMAT = "vae_anomaly detector"
_DETECTOR, _WEIGHTS, _MANIFEST = "detector.json", "weights.npz", "manifest.json"
FILES = (_DETECTOR, _WEIGHTS, _MANIFEST)
_BLOCK_BYTES = 2**20


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
    ValueError
        The detector is beyond the limits of what can be loaded.
    """
    folder = Path(folder)
    check_target(folder)
    text = json.dumps(content, indent=1, allow_nan=False).encode()
    try:
        _check_size(len(text), MAX_JSON_BYTES)
        check_description(json.loads(text))
    except ValueError as error:
        raise ValueError(f"Expected a detector that can be saved: {error}.") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, FILES) as part:
        (part / _DETECTOR).write_bytes(text)
        write_arrays(part / _WEIGHTS, weights)
        manifest = {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("vae-anomaly", "tensorflow", "keras", "numpy", "scikit-learn")
            },
            "sha256": {name: _sha256(part / name, MAX_BYTES) for name in (_DETECTOR, _WEIGHTS)},
        }
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")


def check_target(folder: StrPath) -> None:
    """Check that ``write`` can write to a folder; nothing is there that was not before.

    Raises
    ------
    FileExistsError
        There is something else than a saved detector, or a file that does not belong to one.
    PermissionError
        It cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    check_replaceable(folder, FILES)
    if folder.is_dir() and any(folder.iterdir()) and not is_detector(folder):
        raise FileExistsError(
            f"Expected a new folder or a saved detector to replace. Received: {folder}, which "
            "is something else. Choose another name."
        )
    try:
        check_can_be_made(folder)
    except FileExistsError:
        raise
    except OSError as error:
        raise PermissionError(
            f"Expected a folder that can be written. Received: {folder}: "
            f"{os.strerror(error.errno or 0)}. Choose another name."
        ) from error


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
        The folder is missing, foreign, incomplete, damaged, of another format or beyond the limits.
    """
    folder = Path(folder)
    with _reported(folder):
        restore(folder, FILES)
    _check_is_detector(folder)
    manifest = _read_manifest(folder)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: expected format version {FORMAT_VERSION}. Received: "
            f"{manifest.get('format_version')!r:.100}. Load it with the version of vae_anomaly "
            "that wrote it."
        )
    for name, most in ((_DETECTOR, MAX_JSON_BYTES), (_WEIGHTS, MAX_BYTES)):
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder} is incomplete: {name} is missing. Save it again.")
        with _reported(folder / name):
            if _sha256(folder / name, most) != _text_members(manifest, "sha256").get(name):
                raise ValueError("its content is not what was saved")
    with _reported(folder / _DETECTOR):
        content = _read_json(folder / _DETECTOR)
        check_description(content)
    return {**content, "versions": _text_members(manifest, "versions")}


def read_weights(folder: StrPath, content: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights of a saved detector by name.

    Parameters
    ----------
    folder : path
    content : dict
        As of ``read``.

    Raises
    ------
    ArtifactError
        The file cannot be read, or is not of the sizes that the description tells.
    """
    path = Path(folder) / _WEIGHTS
    with _reported(path):
        arrays = read_arrays(path)
        check_weights(content, {name: array.shape for name, array in arrays.items()})
    return arrays


def digest(folder: StrPath) -> str:
    """Return a hash by which a saved detector differs from every other one.

    Raises
    ------
    ArtifactError
        The folder is missing or foreign.
    """
    folder = Path(folder)
    _check_is_detector(folder)
    with _reported(folder / _MANIFEST):
        return _sha256(folder / _MANIFEST, MAX_JSON_BYTES)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into an ArtifactError that names it."""
    try:
        yield
    except (ValueError, OSError, RecursionError, OverflowError, MemoryError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).partition("\n")[0]
        raise ArtifactError(f"{path} is damaged: {reason}. Save or copy it again.") from error


def _check_is_detector(folder: Path) -> None:
    if not (folder / _MANIFEST).is_file():
        what = "has no manifest.json" if folder.is_dir() else "is not a folder"
        raise ArtifactError(
            f"Expected a folder written by VAEDetector.save or 'vae-anomaly fit'. Received: "
            f"{folder}, which {what}."
        )


def is_detector(folder: Path) -> bool:
    """Whether a folder says that it holds a saved detector."""
    try:
        return bool(_read_manifest(folder))
    except ArtifactError:
        return False


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    with _reported(path):
        manifest = _read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ArtifactError(f"{path}: expected a vae_anomaly detector's manifest.")
    return manifest


def _text_members(manifest: dict[str, Any], name: str) -> dict[str, str]:
    """Return those members of a member that are text."""
    members = manifest.get(name)
    members = members if isinstance(members, dict) else {}
    return {key: value for key, value in members.items() if isinstance(value, str)}


def _read_json(path: Path) -> Any:
    with path.open("rb") as file:
        text = file.read(MAX_JSON_BYTES + 1)
    _check_size(len(text), MAX_JSON_BYTES)
    try:
        return json.loads(text.decode(), parse_constant=_finite, parse_float=_finite)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("JSON of too many levels") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"expected at most {most} bytes")


def _sha256(path: Path, most: int) -> str:
    """Hash a file, or no more than ``most`` bytes of it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        _check_size(os.fstat(file.fileno()).st_size, most)
        for _ in range(-(-most // _BLOCK_BYTES)):
            digest.update(block := file.read(_BLOCK_BYTES))
            if not block:
                break
    return digest.hexdigest()
