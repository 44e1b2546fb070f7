"""Writes a fitted detector for a server, and has it checked in another process.

``folder/<version>/`` is, by format,

================== =============================================================================
``savedmodel``     a SavedModel that TensorFlow Serving loads; see ``saved_model``
``onnx``           ``model.onnx``, which ONNX Runtime loads; see ``onnx_model``
================== =============================================================================

Scores are those of Python but for the last digits: a server takes any number of rows at a time, and
matrix products of other sizes add up in another order. ``check.TOLERANCE`` bounds the difference.
"""

import contextlib
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from vae_anomaly import atomic
from vae_anomaly.serving import onnx_model, saved_model
from vae_anomaly.serving.check import largest_difference
from vae_anomaly.serving.served import Served

#: What writes an export, and the program that has it answer, by format.
FORMATS = {"savedmodel": saved_model, "onnx": onnx_model}

_LARGEST_VERSION = 2**63 - 1


class Exported(NamedTuple):
    """What ``export`` wrote and how it was checked.

    Attributes
    ----------
    folder : pathlib.Path
        The version's folder.
    n_rows : int
        Rows, or images, of the sample request.
    largest_difference : float
        Between their served scores and Python's.
    """

    folder: pathlib.Path
    n_rows: int
    largest_difference: float


def export(
    served: Served,
    folder: str | os.PathLike[str],
    version: int | None = None,
    format: str = "savedmodel",
) -> Exported:
    """Write a fitted detector for a server, and check it in another process.

    Waits while another process exports to the same folder. What a killed export has left there,
    in ``.export.part``, is removed, with a warning.

    Parameters
    ----------
    served : vae_anomaly.serving.served.Served
        A fitted detector.
    folder : path
        The model's folder; its name is the model's name. Created.
    version : int >= 0 or None
        None: 1, or the largest version there plus 1.
    format : {"savedmodel", "onnx"}
        What to write.

    Returns
    -------
    Exported

    Raises
    ------
    FileExistsError
        The version exists already, or the folder is a file.
    ValueError
        ``version`` is no version; ``format`` is unknown, or needs packages that are not there; the
        threshold is not finite; the path has a * ? or [; a version is of another format.
    ExportError
        The export did not load, or its answers are not Python's. Nothing is left of it.
    """
    folder = pathlib.Path(folder)
    _check_arguments(served, folder, version, format)
    writer = FORMATS[format]
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_alike(folder, format)
        _check_free(folder, version)
        # A name that is no number: TensorFlow Serving does not look into it.
        with atomic.work_folder(folder / ".export.part") as work:
            part = work / "export"
            expected = writer.write(served, part, folder.resolve().name)
            difference = largest_difference(part, expected, served, writer.PROGRAM)
            final = _place(part, folder, version)
    except BaseException:
        for path in created:
            with contextlib.suppress(OSError):  # not empty: another export has begun there
                path.rmdir()
        raise
    return Exported(final, len(expected["score"]), difference)


def _check_arguments(served, folder, version, format):
    if format not in FORMATS:
        raise ValueError(
            f"Expected `format` to be one of {tuple(FORMATS)}. Received: format={format!r}"
        )
    if version is not None and not (
        isinstance(version, (int, np.integer)) and not isinstance(version, bool) and version >= 0
    ):
        raise ValueError(f"Expected `version` to be an int >= 0. Received: version={version!r}")
    if re.search(r"[*?\[]", str(folder.resolve())):
        raise ValueError(
            f"Expected a folder without *, ? and [ in its path, which TensorFlow takes for a "
            f"pattern. Received: {folder.resolve()}. Choose another."
        )
    threshold = served.scorer.offset.numpy()
    if not np.isfinite(threshold):
        raise ValueError(
            f"Expected a finite threshold. Received: offset_={threshold}. Assign to `offset_`."
        )


def _check_alike(folder, format):
    """Check that all versions are of one format: a server takes the newest, and its own alone."""
    for version in _versions(folder):
        for name, writer in FORMATS.items():
            if name != format and (folder / str(version) / writer.FILE).exists():
                raise ValueError(
                    f"Expected a folder of no other format than {format!r}, for a server loads the "
                    f"newest version. Received: {folder / str(version) / writer.FILE}. Choose "
                    "another folder."
                )


def _check_free(folder, version):
    if version is not None and version in _versions(folder):
        raise FileExistsError(
            f"Expected a version that does not exist. Received: {folder / str(version)}. "
            "Choose another, or none for the next one."
        )


def _versions(folder):
    return [int(path.name) for path in folder.iterdir() if re.fullmatch("[0-9]+", path.name)]


def _place(part, folder, version):
    """Give the finished export its name: nothing can be there, also if others export too."""
    while True:
        _check_free(folder, version)
        number = max(_versions(folder), default=0) + 1 if version is None else version
        if number > _LARGEST_VERSION:
            raise ValueError(
                f"Expected a version of {_LARGEST_VERSION} at most, as TensorFlow Serving has it. "
                f"Received: {number}. Choose `version`, or another folder."
            )
        final = folder / str(number)
        with contextlib.suppress(FileExistsError):  # taken by another export: the next one
            atomic.place(part, final)
            return final
