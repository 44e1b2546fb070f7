"""The rules about cells: kinds of column, what is missing, how a category is spelled.

Each rule is written once, here. From the tables of this module come the forms that DataFrames
(``columns``), files (``arrow_cells``) and served models (``serving.tables``) work by.
"""

from __future__ import annotations

import datetime
import functools
import re

KINDS = ("numeric", "boolean", "datetime", "timestamp", "categorical")
# Kinds whose cells are dates; a timestamp is modelled as a number, and never inferred.
DATE_KINDS = ("datetime", "timestamp")

# Columns that may be in a table and are not modelled; "dropped" ones are not written back either.
UNMODELLED_KINDS = ("id", "text", "dropped")

# Text that is missing in every column: what pandas.read_csv reads as missing.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip

# What a cell of each kind is, for messages.
EXPECTED = {
    "numeric": "a number",
    "boolean": "true or false, or 1 or 0",
    "datetime": "a date or date-time",
    "timestamp": "a date or date-time",
    "categorical": "text",
}

# Names of types as NumPy, pandas and Arrow spell them, in small letters.
_TYPES = re.compile(
    r"(?P<numeric>u?int\d|halffloat|float|double|decimal|duration|timedelta|null)"
    r"|(?P<boolean>bool)"
    r"|(?P<datetime>date|timestamp)"
    r"|(?P<categorical>str\b|(large_)?string|(large_|fixed_size_)?binary|category|dictionary|time"
    r"|extension<(pandas|arrow\.(uuid|json|bool8)))"
)

# A duration as pandas writes it, for Arrow's engine (RE2).
DURATION_TEXT = r"-?\d+ days( \+?\d\d:\d\d:\d\d(\.\d+)?)?"

# How files spell one category in several ways: what is rewritten, in this order, and as what. The
# patterns are for re and RE2 alike, except that $ is the very end of the text.
_DATE = "[0-9]{4,}-[0-9]{2}-[0-9]{2}"
_DAY = rf"({_DATE}|-?[0-9]+ days)"
_NULS = (r"\x00+$", "")  # which NumPy drops
_NO_VALUE = (rf"^(?:{'|'.join(map(re.escape, MISSING))})$", "")
_PLAIN_SPELLINGS = (
    (r"^[Tt][Rr][Uu][Ee]$", "True"),
    (r"^[Ff][Aa][Ll][Ss][Ee]$", "False"),
    (r"^-0\.0$", "0"),
    (r"^(-?[0-9]+)\.0$", r"\1"),
)
_TIME_SPELLINGS = (
    (rf"^{_DAY}[ T](\+?[0-9]{{2}}:[0-9]{{2}})(\.[0-9]+)?$", r"\1 \2:00\3"),
    (
        rf"^{_DAY}[ T](\+?[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}})(?:(\.[0-9]*[1-9])0*|\.0+)?$",
        r"\1 \2\3",
    ),
    (rf"^{_DAY} \+?00:00:00$", r"\1"),
)
# Python converts times to UTC; a graph, which can't, rewrites those that are in UTC.
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?(?:\.[0-9]+)?"
_IN_UTC = (rf"^([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_CLOCK})(Z|[+-]00:00(:00)?)$", r"\1")
GRAPH_SPELLINGS = (_NULS, _NO_VALUE, *_PLAIN_SPELLINGS, _IN_UTC, *_TIME_SPELLINGS)

_ZONED = re.compile(
    rf"({_DATE})[ T]([0-9]{{2}}:[0-9]{{2}})(:[0-9]{{2}})?(\.[0-9]+)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)"
)
_SPELLINGS = [
    (re.compile(pattern.replace("$", r"\Z")), text)
    for pattern, text in _PLAIN_SPELLINGS + _TIME_SPELLINGS
]
_ANY_SPELLING = re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in _SPELLINGS))


def kind_of_type(name: str) -> str | None:
    """Return the kind of columns of a type, by its name; None if it has none.

    Parameters
    ----------
    name : str
        The name that NumPy, pandas or pyarrow give the type.

    Returns
    -------
    str or None
        One of ``KINDS``.

    Examples
    --------
    >>> kind_of_type("Int64"), kind_of_type("timestamp[us, tz=UTC]"), kind_of_type("list<x: int8>")
    ('numeric', 'datetime', None)
    """
    match = _TYPES.match(name.lower())
    return match.lastgroup if match else None


def category_text(value: object) -> str:
    """Return the text by which a cell is a category.

    It is ``str(value)``, but one text for what files spell in several ways:

    - what is missing (``MISSING``) is the empty text;
    - a whole number is without its ``.0``, which pandas adds where another row's cell is missing;
    - booleans are ``True`` and ``False``, however they are capitalised;
    - times are ``2020-01-31 10:00:00.5`` and durations ``9 days 10:00:00.5``: in UTC, without zeros
      at the end of the fraction, and without a time of day that is midnight. pandas and Parquet
      give all cells of a column as many digits as one of them needs.

    It depends on nothing but the cell, and text is treated like the value it may stand for, since
    a CSV file does not tell them apart.

    Parameters
    ----------
    value : object
        Not missing.

    Returns
    -------
    str

    Examples
    --------
    >>> import datetime
    >>> category_text(3.0), category_text("3.0"), category_text("3.10")
    ('3', '3', '3.10')
    >>> category_text(datetime.datetime(2020, 1, 31)), category_text("2020-01-31 02:00:00+02:00")
    ('2020-01-31', '2020-01-31')
    """
    return _spelling(str(value))


@functools.lru_cache(maxsize=2**16)  # categories repeat
def _spelling(text: str) -> str:
    text = text.rstrip("\0")
    if text in MISSING:
        return ""
    if zoned := _ZONED.fullmatch(text):
        text = _in_utc(text, *zoned.groups(""))
    if _ANY_SPELLING.search(text):
        for pattern, rewrite in _SPELLINGS:
            text = pattern.sub(rewrite, text, count=1)
    # TensorFlow refuses halves of surrogate pairs.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _in_utc(text: str, day: str, minutes: str, seconds: str, fraction: str, zone: str) -> str:
    """Return a moment in UTC, without its zone; one that is in no calendar as it was."""
    clock = f"{minutes}{seconds or ':00'}"
    try:
        local = datetime.datetime.fromisoformat(f"{day} {clock}{zone.replace('Z', '+00:00')}")
        utc = local.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return text
    return f"{utc}{fraction}"
