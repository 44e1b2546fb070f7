"""The lines of a piece of text: found all at once, decoded one by one."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

import numpy as np

_LF, _CR = b"\n\r"


class TextLines:
    r"""Lines of text, with their ends, which are ``\n``, ``\r`` or ``\r\n``.

    Parameters
    ----------
    text : bytes
        UTF-8.
    errors : str
        How what is not UTF-8 is decoded, as of ``bytes.decode``.
    comment : str
        Lines that start with it hold nothing, like blank ones. Empty: none do.

    Examples
    --------
    >>> lines = TextLines(b"a\n\r\nb", "strict")
    >>> len(lines), lines.decoded(0), lines.decoded(0, 3), lines.filled.tolist()
    (3, 'a\n', 'a\n\r\nb', [0, 2])
    """

    def __init__(self, text: bytes, errors: str, comment: str = "") -> None:
        self._text, self._errors, self._comment = text, errors, comment
        data = np.frombuffer(text, np.uint8)
        is_end = data == _LF
        if b"\r" in text:
            is_lone = data == _CR
            is_lone[:-1] &= data[1:] != _LF
            is_end |= is_lone
        self._starts = np.append(0, np.flatnonzero(is_end) + 1)
        if self._starts[-1] != len(text):
            self._starts = np.append(self._starts, len(text))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def encoded(self, first: int, end: int) -> bytes:
        """Return lines as they are, from the first one up to an end."""
        return self._text[self._starts[first] : self._starts[end]]

    def decoded(self, first: int, end: int | None = None) -> str:
        """Return lines as text, from the first one up to an end, which may be left out for one."""
        end = first + 1 if end is None else end
        return self.encoded(first, end).decode("utf-8", self._errors)

    @cached_property
    def filled(self) -> np.ndarray:
        """Numbers of the lines that are neither blank nor comments, from 0."""
        data = np.frombuffer(self._text, np.uint8)
        starts, lengths = self._starts[:-1], np.diff(self._starts)
        is_blank = (lengths == 1) & np.isin(data[starts], (_LF, _CR))
        two = np.flatnonzero(lengths == 2)
        is_blank[two] = (data[starts[two]] == _CR) & (data[starts[two] + 1] == _LF)
        for line in np.flatnonzero(~is_blank).tolist() if self._comment else ():
            is_blank[line] = self.decoded(line).lstrip(" \t").startswith(self._comment)
        return np.flatnonzero(~is_blank)


class Feed:
    """Lines for ``csv.reader``, with a position that can be set back."""

    def __init__(self, lines: TextLines, position: int = 0) -> None:
        self._lines, self._n_lines = lines, len(lines)
        self._filled = lines.filled.tolist()
        self.position = position

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> str:
        if self.position == self._n_lines:
            raise StopIteration
        self.position += 1
        return self._lines.decoded(self.position - 1)

    def is_at_end(self) -> bool:
        """Whether no row is left; skips lines that hold nothing, so ask between rows."""
        index = bisect_left(self._filled, self.position)
        self.position = self._filled[index] if index < len(self._filled) else self._n_lines
        return self.position == self._n_lines
