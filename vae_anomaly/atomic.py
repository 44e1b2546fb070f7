"""Files and folders that appear whole: written aside, brought to the disk, then renamed.

At every moment, also after a kill, a name stands for the old content or for the new one. What is
unfinished is called ``.NAME.part``, beside the NAME that it will have; the process that writes it
holds a lock on it, and another that wants to write the same waits. What a killed process has left
there is reused or removed by the next one that writes the same. A symbolic link keeps pointing to
what it points to, which is replaced.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

StrPath = str | os.PathLike[str]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# File systems that cannot exchange names, or lock.
_NOT_ABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextmanager
def atomic_file(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a file to write to, which appears when the block ends, or not at all.

    Parameters
    ----------
    path : path
        A file there is replaced, and its permissions are kept.

    Yields
    ------
    binary file
        May be closed within the block.

    Raises
    ------
    FileExistsError
        There is something else than a file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(f"{folder}/a.txt") as file:
    ...         _ = file.write(b"whole")
    ...     pathlib.Path(folder, "a.txt").read_bytes()
    b'whole'
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileExistsError(
            f"Expected a file, or no file yet. Received: {path}, which is something else. Choose "
            "another name."
        )
    part = _part(target)
    with _locked(part) as descriptor:
        try:
            with part.open("wb") as file:
                yield file
            _keep_mode(target, part)
            os.fsync(descriptor)
            move(part, target)
        except BaseException:
            if _is_at(descriptor, part):
                part.unlink()
            raise


def move(path: StrPath, target: StrPath) -> None:
    """Give a file, which is on the disk, another name there, in place of what has that name."""
    os.replace(path, target)
    _sync(Path(target).parent)


@contextmanager
def atomic_folder(path: StrPath, files: Collection[str]) -> Iterator[Path]:
    """Make a folder to write files to, which takes its name when the block ends, or never.

    A folder of that name is exchanged for it in one step, where the system can; otherwise it is
    renamed first, and ``restore`` puts it back after a kill in that moment.

    Parameters
    ----------
    path : path
        In a folder that exists.
    files : collection of str
        Names of the files that the folder will hold. Nothing else is ever removed.

    Yields
    ------
    pathlib.Path
        The folder to write to, empty.

    Raises
    ------
    FileExistsError
        ``path`` is not a folder of these files alone, before or after the block.
    """
    target = Path(os.path.realpath(path))
    check_replaceable(target, files)
    work = _part(target)
    with _locked(work, is_folder=True):
        if _entries(work):
            _put_back(target, work, files)
            _warn_of(work)
        new = work / "new"
        try:
            new.mkdir()
            yield new
            _keep_mode(target, new)
            _sync_all(new)
            check_replaceable(target, files)
            _exchange(new, target, work / "old")
            _sync(target.parent)
        finally:
            _put_back(target, work, files)
            with suppress(OSError):
                work.rmdir()


def check_replaceable(path: StrPath, files: Collection[str]) -> None:
    """Raise FileExistsError unless the path is free, or a folder of these files alone."""
    strange = _entries(Path(path)) - set(files) if os.path.isdir(path) else set()
    if strange or (os.path.lexists(path) and not os.path.isdir(path)):
        what = f"which has {min(strange)} in it" if strange else "which is no folder"
        raise FileExistsError(
            f"Expected a new folder, or one with nothing but {', '.join(files)}. Received: {path}, "
            f"{what}. Choose another name."
        )


def check_can_be_made(path: StrPath) -> None:
    """Check that a path can be written, by making what is unfinished of it, and removing that.

    Raises
    ------
    OSError
        The system's: no permission, a file system that takes no folders, too long a name.
    """
    target = Path(os.path.realpath(path))
    parent = next(folder for folder in target.parents if folder.exists())
    missing = target.relative_to(parent).parts
    work = _part(parent / missing[0])
    with _locked(work, is_folder=True), suppress(OSError):  # not empty: of a killed process
        work.rmdir()
    for name in missing:
        if len(os.fsencode(_part(Path(name)))) > os.pathconf(parent, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)


def restore(path: StrPath, files: Collection[str]) -> None:
    """Put back the folder that ``atomic_folder`` was replacing when its process was killed."""
    target = Path(os.path.realpath(path))
    work = _part(target)
    if target.exists() or not (work / "old").is_dir():
        return
    with _locked(work, is_folder=True):
        if _entries(work):
            _put_back(target, work, files)
            _warn_of(work)
        with suppress(OSError):
            work.rmdir()


@contextmanager
def work_folder(path: StrPath) -> Iterator[Path]:
    """Make an empty folder to work in, which is removed at the end with all that is in it.

    For what ``place`` is to give its name. Waits while another process works there.

    Parameters
    ----------
    path : path
        The folder; what a killed process left in it is removed.
    """
    work = Path(path)
    with _locked(work, is_folder=True):
        if _entries(work):
            _empty(work)
            _warn_of(work)
        try:
            yield work
        finally:
            _empty(work)
            with suppress(OSError):
                work.rmdir()


def place(folder: StrPath, target: StrPath) -> None:
    """Give a folder, once all of it is on the disk, a name that nothing has yet.

    Raises
    ------
    FileExistsError
        Something has that name.
    """
    _sync_all(Path(folder))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "Expected a name that nothing has", str(target))
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, error.strerror, str(target)) from error
        raise
    _sync(Path(target).parent)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


@contextmanager
def _locked(path: Path, *, is_folder: bool = False) -> Iterator[int]:
    """Make a file or folder and hold the lock on it; wait for the process that has it."""
    flags = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR | os.O_CREAT
    while True:
        if is_folder:  # mkdir(exist_ok=True) fails where the folder is removed at that moment
            with suppress(FileExistsError):
                path.mkdir()
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            if is_folder:  # removed by the process that had it
                continue
            raise
        except NotADirectoryError as error:
            raise FileExistsError(
                errno.EEXIST, "Expected a folder to work in, or nothing", str(path)
            ) from error
        try:
            _lock(descriptor)
            if _is_at(descriptor, path):  # else it was renamed or removed meanwhile
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NOT_ABLE:
            raise


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Give a folder the name of another, which gets that of the first, or ``old``."""
    if not target.exists():
        os.rename(new, target)
        return
    try:
        _rename_exchange(new, target)
    except OSError as error:
        if error.errno not in _NOT_ABLE:
            raise
        os.rename(target, old)
        os.rename(new, target)


def _rename_exchange(first: Path, second: Path) -> None:
    """Exchange two names in one step, as renameat2(2) does."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = os.fsencode(first), os.fsencode(second)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(first), None, str(second))


def _put_back(target: Path, work: Path, files: Collection[str]) -> None:
    """Remove what is unfinished or replaced; put the old folder back where no new one is."""
    new, old = work / "new", work / "old"
    if old.is_dir():
        if not target.exists():
            os.rename(old, target)
            _sync(target.parent)
        elif not new.exists():
            _remove(old, files)
    _remove(new, files)


def _remove(folder: Path, files: Collection[str]) -> None:
    for name in files:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    with suppress(OSError):  # not empty: what is in it is not ours
        folder.rmdir()


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry)
        else:
            os.unlink(entry)


def _entries(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def _keep_mode(target: Path, part: Path) -> None:
    with suppress(FileNotFoundError):
        part.chmod(stat.S_IMODE(target.stat().st_mode))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(folder: Path) -> None:
    """Bring to the disk all that is in a folder, and its names."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _warn_of(work: Path) -> None:
    warnings.warn(
        f"{work} was left by a process that was killed; it has been tidied up.", stacklevel=4
    )
