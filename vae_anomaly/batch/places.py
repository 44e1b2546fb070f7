"""Which files a batch reads and writes; all is checked before any work."""

from __future__ import annotations

import glob
import os
import pathlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

from vae_anomaly.tables.files import (
    STANDARD,
    SUFFIXES,
    TEXT_SUFFIXES,
    TableError,
    file_format,
    is_table,
    reported,
    without_suffix,
)

Path: TypeAlias = "str | os.PathLike[str]"


def find_inputs(inputs: Path | Sequence[Path], exclude: Collection[Path] = ()) -> list[str]:
    """Return the table files that paths, folders and patterns stand for; "-" is standard input.

    Parameters
    ----------
    inputs : path, or sequence of path
        A folder stands for all table files directly in it, by name; a pattern may have ``**``.
    exclude : collection of path
        Files not to be taken from folders and patterns; and folders, with the files in them.

    Returns
    -------
    list of str

    Raises
    ------
    TableError
        A folder or pattern has no table files, a file is none, or is there twice.
    """
    excluded = {os.path.realpath(path) for path in exclude}
    found = []
    for name in listed(inputs):
        is_named = False
        if os.path.isdir(name):
            candidates = sorted(map(os.fspath, pathlib.Path(name).iterdir()))
        elif not os.path.exists(name) and glob.has_magic(name):
            candidates = sorted(glob.glob(name, recursive=True))
            is_named = name.lower().endswith(TEXT_SUFFIXES)
        else:
            if name != STANDARD and not is_table(name, named=True):
                raise TableError(
                    f"{name}: expected a table ({', '.join(SUFFIXES + TEXT_SUFFIXES)}), for the "
                    f"model is one of tables, received {pathlib.Path(name).suffix!r}; convert it"
                )
            found.append(name)
            continue
        tables = [path for path in candidates if is_table(path, named=is_named)]
        tables = [path for path in tables if os.path.isfile(path)]
        tables = [path for path in tables if not excluded.intersection(_real_and_folder(path))]
        if not tables:
            raise TableError(
                f"{name}: expected table files ({', '.join(SUFFIXES)}) other than those to write, "
                "for the model is one of tables, received none; check the path"
            )
        found.extend(tables)
    counts = Counter(map(os.path.realpath, found))
    repeated = [name for name in found if counts[os.path.realpath(name)] > 1]
    if repeated or not found:
        raise TableError(f"expected each input once, received {repeated or 'none'}; name it once")
    return found


def listed(inputs: Path | Sequence[Path]) -> list[str]:
    """Return a path or several as a list."""
    if isinstance(inputs, (str, os.PathLike)):
        return [os.fspath(inputs)]
    return [os.fspath(path) for path in inputs]


def _real_and_folder(path):
    real = os.path.realpath(path)
    return real, os.path.dirname(real)


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
    if parent != made_later and not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ValueError(f"{place}: expected a folder to write it to. Received: {parent}.")


def identity(path: str) -> list[int]:
    """Return size and time of change, which tell whether a file has changed."""
    if path == STANDARD:
        return []
    with reported(path, "read"):
        status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
