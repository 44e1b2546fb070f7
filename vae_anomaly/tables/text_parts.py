"""A stream of text in any encoding as parts in UTF-8; whether it can be read so."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vae_anomaly.tables.files import table_error

_BOM = codecs.BOM_UTF8


def check_format(path: str | Path, dialect: Mapping[str, Any]) -> None:
    """Check that text in a dialect can be read.

    Raises
    ------
    TableError
        The delimiter can be none, or there is no such encoding.
    """
    delimiter, encoding = dialect.get("delimiter"), dialect.get("encoding")
    if delimiter is not None and (not re.fullmatch("[\t -~]", delimiter) or delimiter == '"'):
        expected = "a delimiter that is one ASCII character or a tab, and no quote"
        raise table_error(path, expected, repr(delimiter), "change it")
    try:
        "".encode(encoding or "utf-8")
    except LookupError as error:
        raise table_error(path, "a known encoding", repr(encoding), "change --encoding") from error


def decoded_parts(
    head: bytes, stream: Any, encoding: str | None, size: int
) -> Iterator[tuple[bytes, bool]]:
    """Yield text as UTF-8, from which ``encoding`` differs if given, and whether it is the last.

    ``head`` are the bytes before those of the stream, which is read ``size`` bytes at a time.
    """
    decoder = encoding and codecs.getincrementaldecoder(encoding)("surrogateescape")
    first, data = True, head
    while True:
        text = data
        if decoder:
            text = decoder.decode(data, final=not data).encode("utf-8", "surrogatepass")
        yield text.removeprefix(_BOM) if first else text, not data
        if not data:
            return
        first = first and not text
        data = stream.read(size)
