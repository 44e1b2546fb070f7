"""Which files a batch reads and writes; all is checked before any work."""

import glob
import os
import pathlib
from collections import Counter
from typing import NamedTuple

from vae_anomaly.tables.files import STANDARD, TableError, file_format, is_table, reported


def find_inputs(inputs, exclude=()):
    """Return the files that paths, folders and globs stand for; "-" is standard input.

    Parameters
    ----------
    inputs : path, or sequence of path
        Of a folder, all table files directly in it, by name; a pattern may have ``**``.
    exclude : collection of path
        Files not to be taken from folders and patterns; and folders, with the files in them.

    Returns
    -------
    list of str

    Raises
    ------
    TableError
        A folder or pattern has no table files, or a file is there twice.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    excluded = {os.path.realpath(path) for path in exclude}
    found = []
    for name in map(os.fspath, inputs):
        if os.path.isdir(name):
            candidates = sorted(map(os.fspath, pathlib.Path(name).iterdir()))
        elif not os.path.exists(name) and glob.has_magic(name):
            candidates = sorted(glob.glob(name, recursive=True))
        else:
            found.append(name)
            continue
        tables = [path for path in candidates if is_table(path) and os.path.isfile(path)]
        tables = [path for path in tables if not excluded.intersection(_real_and_folder(path))]
        if not tables:
            raise TableError(
                f"{name}: expected table files other than those to write, received none; check "
                "the path"
            )
        found.extend(tables)
    counts = Counter(map(os.path.realpath, found))
    repeated = [name for name in found if counts[os.path.realpath(name)] > 1]
    if repeated or not found:
        raise TableError(f"expected each input once, received {repeated or 'none'}; name it once")
    return found


def _real_and_folder(path):
    real = os.path.realpath(path)
    return real, os.path.dirname(real)


def work_folder(output):
    """Return the folder that has the work of ``score_files`` for an output until it is done."""
    if is_folder(output):
        return pathlib.Path(output) / ".partial"
    return pathlib.Path(f"{output}.partial")


def is_folder(output):
    """Whether an output is a folder, which gets a file for each input."""
    return os.path.isdir(output) or str(output).endswith("/")


class Target(NamedTuple):
    """A table file to write."""

    path: pathlib.Path
    format: str  #: "csv", "tsv" or "parquet"
    inputs: list[int]  #: the numbers of the inputs whose rows it gets


def targets_of(paths, output, to_folder, format):
    """Return the ``Target`` files of inputs; ``format`` None: by the suffixes."""
    if not to_folder:
        path = pathlib.Path(output)
        if format and is_table(path) and file_format(path) != format:
            raise ValueError(
                f"Expected `format` as the suffix says, or another suffix. Received: "
                f"format={format!r}, {path}."
            )
        return [Target(path, format or file_format(output), list(range(len(paths))))]
    targets = []
    for index, path in enumerate(paths):
        name = "stdin.csv" if path == STANDARD else pathlib.Path(path).name
        own = file_format(name)
        if format not in (None, own):
            name = name[: name.lower().rindex(".p" if own == "parquet" else f".{own}")]
            name += f".{format}"
        targets.append(Target(pathlib.Path(output) / name, format or own, [index]))
    return targets


def quarantine_beside(target):
    """Return where the bad rows of a target go, unless said otherwise."""
    if str(target) != STANDARD:
        return target.with_name(f"{target.name}.quarantine.csv")
    path = pathlib.Path("quarantine.csv")
    if path.exists():  # it is not known whose
        raise ValueError(f"{path}: expected no file of this name yet. Name another `quarantine`.")
    return path


def check_places(paths, targets, quarantines, summary, to_folder):
    """Check, before any work, that what is written can be, and that it is no two things at once."""
    roles = {
        "an input": paths,
        "an output": targets,
        "a quarantine": list(dict.fromkeys(quarantines)),
    }
    if summary is not None:
        roles["the summary"] = [summary]
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
            if role == "an input":
                continue
            if os.path.exists(place) and not os.path.isfile(place):
                raise ValueError(
                    f"{place}: expected a file, or no file yet, for {role}. Received: a folder or "
                    "a device."
                )
            parent = pathlib.Path(place).absolute().parent
            # The folder of the outputs is made later.
            made_later = to_folder and parent == targets[0].absolute().parent
            if not made_later and not (parent.is_dir() and os.access(parent, os.W_OK)):
                raise ValueError(f"{place}: expected a folder to write it to. Received: {parent}.")


def identity(path):
    """Return what tells whether a file has changed."""
    if path == STANDARD:
        return []
    with reported(path, "read"):
        status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
