"""Which files a batch reads and writes; all is checked before any work."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from vae_anomaly.detectors import artifact
from vae_anomaly.tables.files import STANDARD, file_format, is_table, reported, without_suffix
from vae_anomaly.tables.paths import Path


def work_folder(output: Path) -> pathlib.Path:
    """Return the folder that has the work of ``score_files`` for an output until it is done."""
    if is_folder(output):
        return pathlib.Path(output) / ".partial"
    return pathlib.Path(f"{output}.partial")


def is_folder(output: Path) -> bool:
    """Whether an output is a folder, which gets a file for each input."""
    return os.path.isdir(output) or str(output).endswith("/")


class Target(NamedTuple):
    """A table file to write."""

    path: pathlib.Path
    format: str  #: "csv", "tsv" or "parquet"
    inputs: list[int]  #: the numbers of the inputs whose rows it gets


def targets_of(paths: Sequence[str], output: Path, format: str | None) -> list[Target]:
    """Return the files to write for inputs.

    Parameters
    ----------
    paths : sequence of str
    output : path
        A file for all, or a folder that gets a file for each.
    format : {"csv", "tsv", "parquet"} or None
        None: by the suffixes.

    Raises
    ------
    ValueError
        The suffix of the output says another format.
    """
    if not is_folder(output):
        path = pathlib.Path(output)
        if format and is_table(path, named=True) and file_format(path) != format:
            raise ValueError(
                f"Expected `format` as the suffix says, or another suffix. Received: "
                f"format={format!r}, {path}."
            )
        return [Target(path, format or file_format(path), list(range(len(paths))))]
    targets = []
    for index, name in enumerate(paths):
        name = "stdin.csv" if name == STANDARD else pathlib.Path(name).name
        own = file_format(name)
        if format not in (None, own):
            name = f"{without_suffix(name)}.{format}"
        targets.append(Target(pathlib.Path(output) / name, format or own, [index]))
    return targets


def quarantines_of(targets: Sequence[Target], quarantine: Path | None) -> list[pathlib.Path]:
    """Return where the bad rows of each target go: to one file, or to one beside each target."""
    if quarantine is not None:
        return [pathlib.Path(quarantine)] * len(targets)
    return [_quarantine_beside(target.path) for target in targets]


def _quarantine_beside(target):
    if str(target) != STANDARD:
        return target.with_name(f"{target.name}.quarantine.csv")
    path = pathlib.Path("quarantine.csv")
    if path.exists():  # it is not known whose
        raise ValueError(f"{path}: expected no file of this name yet. Name another `quarantine`.")
    return path


def check_places(
    files: Sequence[str],
    targets: Sequence[Target],
    quarantines: Sequence[pathlib.Path],
    summary: Path | None,
    *,
    to_folder: bool,
) -> None:
    """Raise ValueError if a file to write cannot be written, or is an input or another output."""
    outputs = [target.path for target in targets]
    # The folder of the outputs is made later.
    made_later = outputs[0].absolute().parent if to_folder else None
    roles: dict[str, Sequence[Path]] = {
        "an input": files,
        "an output": outputs,
        "a quarantine": list(dict.fromkeys(quarantines)),
        "the summary": [] if summary is None else [summary],
    }
    taken: dict[str, str] = {}
    for role, places in roles.items():
        for place in places:
            if str(place) == STANDARD:
                continue
            real = os.path.realpath(place)
            if real in taken:
                raise ValueError(
                    f"Expected a file of its own for {role}. Received: {place}, which is "
                    f"{taken[real]}, too. Choose another one."
                )
            taken[real] = role
            if role != "an input":
                _check_place(pathlib.Path(place), role, made_later)


def _check_place(place, role, made_later):
    if place.exists() and not place.is_file():
        raise ValueError(
            f"{place}: expected a file, or no file yet, for {role}. Received: a folder or a device."
        )
    parent = place.absolute().parent
    if artifact.is_detector(parent):
        raise ValueError(
            f"Expected another folder for {role}. Received: {parent}, which holds a saved "
            "detector. Choose another one."
        )
    if parent != made_later and not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ValueError(f"{place}: expected a folder to write it to. Received: {parent}.")


def identity(path: str) -> list[int]:
    """Return size and time of change, which tell whether a file has changed."""
    if path == STANDARD:
        return []
    with reported(path, "read"):
        status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
