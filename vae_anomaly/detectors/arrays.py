"""Named arrays in one file that ``numpy.load`` reads too, looked over before anything is read.

The file is a zip archive whose members are not compressed, each a ``.npy`` file: no byte of it
stands for more than a byte of memory.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

MAX_BYTES = 2**30  #: of the file
MAX_ARRAYS = 4_096
_MAX_NAME = 1_000
_MAX_HEADER = 10_000  # as numpy's own
_DIRECTORY_END, _ZIP64_END = 22, 20  # bytes at the end of a zip archive
_KINDS = "fiub"  # floats, integers, booleans: no objects, no text

Header = tuple[tuple[int, ...], np.dtype, int]


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file; equal arrays give equal files.

    Raises
    ------
    ValueError
        There are too many arrays, or too large ones, or of types that cannot be kept.
    """
    strange = [name for name, array in arrays.items() if array.dtype.kind not in _KINDS]
    if strange:
        raise ValueError(
            f"Expected weights of numbers that NumPy knows. Received: {strange[0]} of "
            f"{arrays[strange[0]].dtype}."
        )
    n_bytes = sum(array.nbytes + _MAX_NAME for array in arrays.values())
    if len(arrays) > MAX_ARRAYS or n_bytes > MAX_BYTES:
        raise ValueError(
            f"Expected at most {MAX_ARRAYS} weights of {MAX_BYTES} bytes. Received: {len(arrays)} "
            f"of {n_bytes} bytes."
        )
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a file that ``write_arrays`` wrote.

    Raises
    ------
    ValueError
        It is not whole, or holds something else; the message is one line.
    """
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            headers = {name: _header(archive, member) for name, member in members.items()}
            return {
                name: _array(archive, member, headers[name]) for name, member in members.items()
            }
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise ValueError(f"no archive of arrays ({error})") from error


def _check_directory(path: Path) -> None:
    """Check the size of the archive's table of contents, which is read whole."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _DIRECTORY_END - _ZIP64_END))
        before, end = file.read(_ZIP64_END), file.read()
    if len(end) != _DIRECTORY_END or before.startswith(b"PK\x06\x07"):
        raise ValueError("expected an archive that needs no 64-bit sizes")
    size = int.from_bytes(end[12:16], "little")
    if not end.startswith(b"PK\x05\x06") or size > MAX_ARRAYS * (_MAX_NAME + 100):
        raise ValueError(f"expected an archive of at most {MAX_ARRAYS} arrays")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by the names of their arrays, once all their sizes have been checked."""
    members = archive.infolist()
    if len(members) > MAX_ARRAYS:
        raise ValueError(f"expected at most {MAX_ARRAYS} arrays. Received: {len(members)}")
    for member in members:
        if not member.filename.endswith(".npy") or len(member.filename) > _MAX_NAME:
            raise ValueError(f"expected .npy files. Received: {member.filename[:100]!r}")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"expected no compression. Received: {member.filename!r}")
    by_name = {member.filename[: -len(".npy")]: member for member in members}
    if len(by_name) < len(members) or sum(member.file_size for member in members) > MAX_BYTES:
        raise ValueError(f"expected each array once, and {MAX_BYTES} bytes at most")
    return by_name


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    """Return shape, type and place of an array, once they agree with the size of its file."""
    with archive.open(member) as file:
        start = io.BytesIO(file.read(min(member.file_size, _MAX_HEADER)))
    try:
        version = np.lib.format.read_magic(start)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(start)
    except Exception as error:  # NumPy parses it as Python's literals, and lets all errors pass
        raise ValueError(f"{member.filename}: no .npy file ({type(error).__name__})") from error
    if version != (1, 0):
        raise ValueError(f"{member.filename}: expected format 1.0 of .npy. Received: {version}")
    n_bytes = math.prod(shape) * dtype.itemsize
    if is_fortran or dtype.kind not in _KINDS or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename}: expected numbers in C order. Received: {dtype}")
    if start.tell() + n_bytes != member.file_size:
        raise ValueError(
            f"{member.filename}: expected {n_bytes} bytes of numbers, as its header says. "
            f"Received: {member.file_size - start.tell()}"
        )
    return shape, dtype, start.tell()


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: Header) -> np.ndarray:
    shape, dtype, start = header
    content = archive.read(member)
    if len(content) != member.file_size:
        raise ValueError(f"{member.filename}: expected {member.file_size} bytes")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)
