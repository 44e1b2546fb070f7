"""Which table files are meant by paths, folders and patterns."""

from __future__ import annotations

import glob
import os
import pathlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TypeAlias

from vae_anomaly.tables.files import STANDARD, SUFFIXES, TEXT_SUFFIXES, TableError, is_table

Path: TypeAlias = "str | os.PathLike[str]"


def find_inputs(
    inputs: Path | Sequence[Path], exclude: Collection[Path] = (), *, why: str = ""
) -> list[str]:
    """Return the table files that paths, folders and patterns stand for; "-" is standard input.

    Parameters
    ----------
    inputs : path, or sequence of path
        A folder stands for all table files directly in it, by name, but those whose names begin
        with a dot; a pattern may have ``**``.
    exclude : collection of path
        Files not to be taken from folders and patterns; and folders, with the files in them.
    why : str
        Why tables are expected, for messages: "for ..., ".

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
            visible = (path for path in pathlib.Path(name).iterdir() if path.name[0] != ".")
            candidates = sorted(map(os.fspath, visible))
        elif not os.path.exists(name) and glob.has_magic(name):
            candidates = sorted(glob.glob(name, recursive=True))
            is_named = name.lower().endswith(TEXT_SUFFIXES)
        else:
            if name != STANDARD and not is_table(name, named=True):
                raise TableError(
                    f"{name}: expected a table ({', '.join(SUFFIXES + TEXT_SUFFIXES)}), {why}"
                    f"received {pathlib.Path(name).suffix!r}; convert it"
                )
            found.append(name)
            continue
        tables = [path for path in candidates if is_table(path, named=is_named)]
        tables = [path for path in tables if os.path.isfile(path)]
        tables = [path for path in tables if not excluded.intersection(_real_and_folder(path))]
        if not tables:
            raise TableError(
                f"{name}: expected table files ({', '.join(SUFFIXES)}) other than those to write, "
                f"{why}received none; check the path"
            )
        found.extend(tables)
    counts = Counter(map(os.path.realpath, found))
    repeated = [name for name in found if counts[os.path.realpath(name)] > 1]
    if repeated or not found:
        raise TableError(f"expected each input once, received {repeated or 'none'}; name it once")
    return found


def check_is_no_input(output: Path, files: Collection[Path]) -> None:
    """Check that a file to write is none of those that are read.

    Raises
    ------
    TableError
        It is one.
    """
    if os.path.realpath(output) in map(os.path.realpath, files):
        raise TableError(
            f"{output}: expected a file of its own to write, received an input; choose another one"
        )


def listed(inputs: Path | Sequence[Path]) -> list[str]:
    """Return a path or several as a list."""
    if isinstance(inputs, (str, os.PathLike)):
        return [os.fspath(inputs)]
    return [os.fspath(path) for path in inputs]


def _real_and_folder(path):
    real = os.path.realpath(path)
    return real, os.path.dirname(real)
