"""The encoding of a text file, and the likeliest one where it is not UTF-8."""

from __future__ import annotations

import codecs
import re

from vae_anomaly.tables.files import table_error

_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16's, so it comes first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Those in which tables are still written; among all that there are, short cells are guessed wrong.
_ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "shift_jis", "gb18030", "euc_kr")
# What files of other formats begin with.
_FORMATS = {
    b"PK\x03\x04": ("an Excel workbook or another archive", "export its table as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "export its table as CSV"),
    b"PAR1\x15": ("Parquet", "name it .parquet"),
    b"\x1f\x8b": ("text that gzip has compressed", "name it .csv.gz"),
    b"\x28\xb5\x2f\xfd": ("text that zstd has compressed", "name it .csv.zst"),
    b"BZh91AY&SY": ("text that bzip2 has compressed", "decompress it"),
    b"\xfd7zXZ": ("text that xz has compressed", "decompress it"),
    b"ARROW1\0": ("Arrow or Feather", "convert it to Parquet"),
    b"SQLite format 3": ("a database of SQLite", "export its table as CSV"),
    b"%PDF-": ("a PDF", "export its table as CSV"),
    b"<!doctype html": ("a web page", "export its table as CSV"),
    b"<html": ("a web page", "export its table as CSV"),
    b"<?xml": ("XML", "convert it to CSV"),
}


def check_is_text(head: bytes, path: object) -> None:
    """Check that a file that should be a table of text is none of the other usual formats.

    Raises
    ------
    TableError
        It is one, which is named.
    """
    start = head[:99].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if re.match(rb'\{\s*"|\[\s*\{', start):
        raise table_error(path, "a table of text", "JSON", "convert it to CSV")
    for mark, (found, fix) in _FORMATS.items():
        if start.startswith(mark.lower()):
            raise table_error(path, "a table of text", found, fix)


def find_encoding(head: bytes, path: object) -> str:
    """Return the encoding of text: UTF-8, or what a byte order mark says.

    Raises
    ------
    TableError
        If it is another one; the likeliest is named.
    """
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    if b"\0" in head[:4096]:
        odd, even = head[1::2].count(0), head[::2].count(0)
        if max(odd, even) > len(head) // 8:
            raise _other_encoding(path, "utf-16-le" if odd > even else "utf-16-be")
    lines = [line for line in head.splitlines()[:-1] if not line.isascii()]
    broken = sum(not _is_utf8(line) for line in lines)
    # A few damaged lines are bad rows of a UTF-8 file.
    if broken > max(len(lines) - broken, len(head.splitlines()) // 20):
        raise _other_encoding(path, likeliest_encoding(head))
    return "utf-8"


def likeliest_encoding(text: bytes) -> str:
    """Return Python's name of the encoding that text which is not UTF-8 most likely has."""
    import charset_normalizer

    best = charset_normalizer.from_bytes(text, cp_isolation=list(_ENCODINGS)).best()
    encoding = best.encoding if best else "cp1252"
    if encoding in ("cp1250", "cp1252"):  # told apart by letters that are signs in the other
        western = text.decode("cp1252", "replace")
        encoding = (
            "cp1250" if re.search(r"[£¥¹³¿ªœ¼][a-zà-ÿ]|[a-z][£¥¹³¿ªŸ¼]", western) else "cp1252"
        )
    return encoding


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _other_encoding(path: object, encoding: str) -> ValueError:
    fix = f"name its encoding with --encoding, most likely {encoding}"
    return table_error(path, "text in UTF-8", "other bytes", fix)


def decoded(head: bytes, encoding: str, path: object) -> str:
    """Return text, with bytes that can't be decoded replaced, and without a byte order mark.

    Raises
    ------
    TableError
        If Python knows no such encoding of text, or it needs a byte order mark that is not there.
    """
    fix = "change --encoding, or leave it out"
    try:
        "".encode(encoding)  # bytes of other things, such as 'hex', are no encodings of text
        decoder = codecs.getincrementaldecoder(encoding)("replace")
    except (LookupError, ValueError) as error:
        raise table_error(path, "a known encoding", repr(encoding), fix) from error
    try:
        return decoder.decode(head).removeprefix("\ufeff")
    except UnicodeError as error:
        raise table_error(path, encoding.upper(), "other bytes", fix) from error
