"""How a column spells dates and times, found from all of its cells.

A time of day may stand anywhere in a cell and is read alike in all formats: ``7:30``, ``7:30 pm``,
``07:30:15.5``, each perhaps with a zone (``Z``, ``CET``, ``+02:00``). A format says how dates are
spelled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

TIME_ONLY = "%H:%M"
_ISO_SHAPE = "Y-m-m"
#: Numbers that count time: how many seconds is one, and which is 1970-01-01 UTC.
EPOCHS = {
    "epoch_s": (1.0, 0.0),
    "epoch_ms": (1e-3, 0.0),
    "epoch_us": (1e-6, 0.0),
    "epoch_ns": (1e-9, 0.0),
    "excel_days": (86400.0, 25569.0),
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
FULL_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
DAYS = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
#: Hours that zones are ahead of UTC; those of America as in RFC 822.
ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3,
    "MSK": 3, "JST": 9, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7,
}  # fmt: skip
_TIME = (
    r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
    rf"(?: ?(?:{'|'.join(sorted(ZONES, key=len, reverse=True))}|[+-]\d\d(?::?\d\d)?))?"
)
_WITH_TIME = rf"^(?P<before>|.*?[T :]) *(?P<time>{_TIME})(?: (?P<after>.*))?$"
# Cells that may be a date or a time, apart from the time of day that may be around a date.
_MONTH = rf"(?:{'|'.join(MONTHS)})[a-z]*"
_DATE_LIKE = (
    rf"(?i)^(?:{DAYS},? )?(?:\d{{1,4}}[-/. ]\d{{1,2}}(?:[-/. ]\d{{1,4}})?"
    r"|\d{8}[T ]\d\d(?:\d\d){0,2}Z?"
    rf"|\d{{1,4}}[-/. ]{{0,2}}{_MONTH}(?:[-/., ]{{0,2}}\d{{1,4}})?"
    rf"|{_MONTH}[-/., ]{{1,2}}\d{{1,4}}(?:,? \d{{4}})?|\d{{1,2}}:\d\d)(?:,?[T :].{{1,40}}|:.*)?$"
)
_SECONDS = r"(?::(?:[0-5]\d|60)(?:[.,]\d+)?)?"
_ISO = (
    r"^[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    rf"(?:[T ](?:[01]\d|2[0-3]):[0-5]\d{_SECONDS})?$"
)
# Times of day there are, and the end of the day; none where a date is alone.
_IN_DAY = (
    rf"(?i)^(?:(?:[01]?\d|2[0-3]):[0-5]\d{_SECONDS}|(?:0?\d|1[0-2]):[0-5]\d{_SECONDS} ?[ap]\.?m\.?"
    r"|24:00(?::00(?:[.,]0+)?)?|)(?:$|[^\d:.,].*$)"
)
_COMPACT = r"^([12]\d{{7}})[T ]?([01]\d|2[0-3])([0-5]\d){}((?:Z|[+-]\d\d:?\d\d)?)$"
# Dates that often stand for none.
_NO_DATE = (
    r"^(?:(?:9999-12-31|1900-01-01|1970-01-01|0001-01-01)|(?:31[./]12|12/31)[./]9999|0?1[./]0?1[./]19[07]0)"
    r"(?:[T ](?:00:00|23:59)[:\d.]*)?$"
)
DIGITS_ALONE = ("%Y%m%d", "%Y%m", "%y%m%d")
_TOKEN = re.compile(r"\d+|[A-Za-z]+(?:\.(?= ))?|[^A-Za-z\d]+")
# What a token of a shape (see `date_shapes`) can be read as.
_READS = {"%Y": "Y", "%y": "[mdy]", "%m": "m", "%d": "[md]", "%b": "b", "%a": "a"}


def _patterns() -> list[str]:
    """Return the formats of dates that are looked for, of equals the first."""
    separated = [
        pattern.replace("-", mark)
        for mark in "-/. "
        for pattern in (
            "%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%b-%d-%Y", "%Y-%b-%d",
            "%d-%m-%y", "%m-%d-%y", "%d-%b-%y", "%y-%m-%d",
            "%Y-%m", "%m-%Y", "%b-%Y", "%Y-%b",
        )
    ]  # fmt: skip
    texts = ["%b %d, %Y", "%d. %b %Y", "%d %b, %Y", "%d%b%Y", "%d%b%y"]
    with_days = [f"%a{comma} {text}" for comma in ("", ",") for text in (*texts, "%d %b %Y")]
    return [*separated, "%Y%m%d", *texts, *with_days, "%a %b %d %Y", TIME_ONLY]


@dataclass(frozen=True)
class DateFormat:
    """How a column spells dates.

    Attributes
    ----------
    pattern : str
        Directives of ``strftime``: ``%Y``, ``%y``, ``%m``, ``%d``, ``%b`` (a month's English name,
        short or long) and ``%a`` (a weekday's). A time of day may be anywhere. Or ``"%H:%M"``, a
        time of day alone, or one of ``EPOCHS``.

    Raises
    ------
    ValueError
        Of another directive, or none.

    Examples
    --------
    >>> DateFormat("%d.%m.%Y %H:%M:%S").pattern
    '%d.%m.%Y'
    """

    pattern: str

    def __post_init__(self) -> None:
        pattern = self.pattern.replace("%B", "%b").replace("%A", "%a").replace("%T", "%H:%M:%S")
        if "%H" in pattern or "%I" in pattern:
            pattern = re.sub(
                r"[T :]*%[HI]:%M(:%S([.,]%f)?)?( ?%p)?( ?(%z|%Z|Z|UTC|GMT|[+-]\d{4}))?",
                " ",
                pattern,
            )
            pattern = re.sub(" +", " ", pattern.strip()) or TIME_ONLY
        known = pattern in (TIME_ONLY, *EPOCHS) or (
            re.search("%[YymdbB]", pattern) and not re.search("%[^YymdbaB]|%$", pattern)
        )
        if not known:
            raise ValueError(
                "Expected a format of dates, such as '%d.%m.%Y' (with %Y, %y, %m, %d, %b or %a, "
                f"and perhaps %H:%M:%S), or one of {', '.join(EPOCHS)}. Received: {self.pattern!r}."
            )
        object.__setattr__(self, "pattern", pattern)

    @property
    def directives(self) -> list[str]:
        """Return what stands for years, months and days, in its order."""
        return re.findall("%[Yymdb]", self.pattern)

    @property
    def day_first(self) -> bool | None:
        """Whether the day is before the month; None where the month has a name or comes first."""
        order = self.directives
        if {"%d", "%m"} <= set(order) and order[0] not in ("%Y", "%y"):
            return order.index("%d") < order.index("%m")
        return None


@dataclass(frozen=True)
class DateGuess:
    """The format of dates that fits most cells of a column."""

    format: DateFormat
    fits: int  #: how many cells
    others: tuple[str, ...] = ()  #: patterns that fit as many, and read other dates
    unlike: tuple[str, ...] = ()  #: shapes of the other cells

    @property
    def ambiguous(self) -> bool:
        """Whether days, months and years may be exchanged."""
        return bool(self.others)


def are_no_dates(text: pa.Array) -> pa.Array:
    """Tell which cells are dates that often stand for none, such as 9999-12-31."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, _NO_DATE)


def may_be_dates(text: pa.Array) -> pa.Array:
    """Tell which cells may be dates or times of day."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, _DATE_LIKE)


def date_shapes(text: pa.Array, first_of: dict[str, str] | None = None) -> Counter[str]:
    """Count the shapes of the dates in cells, from which times of day are left out.

    Numbers are ``m`` if they can be a month, ``d`` if only a day, ``y`` if only a year of two
    digits, ``Y`` if a year of four; ``b`` and ``a`` stand for names of months and weekdays.

    Parameters
    ----------
    text : pyarrow.Array of strings
        As `formats.clean` returns it.
    first_of : dict of str to str, or None
        The first date of each shape is put into it, if it has none.

    Examples
    --------
    >>> import pyarrow as pa
    >>> cells = pa.array(["31/12/2004 10:30", "1/2/2004", "07-Jan-18"])
    >>> sorted(date_shapes(cells))
    ['d/m/Y', 'm-b-d', 'm/m/Y']
    """
    import pyarrow.compute as pc

    text = with_colons(text.filter(may_be_dates(text)))
    iso = pc.match_substring_regex(text, _ISO)  # counted at once, for they are the most frequent
    n_iso = pc.sum(iso).as_py() or 0
    counts: Counter[str] = Counter({_ISO_SHAPE: n_iso} if n_iso else {})
    if n_iso and first_of is not None:
        first_of.setdefault(_ISO_SHAPE, text.filter(iso)[0].as_py())
    text = text.filter(pc.invert(iso))
    dates, times = split_times(text)
    dates = pc.if_else(pc.match_substring_regex(times, _IN_DAY), dates, text)
    for pair in pc.value_counts(dates).to_pylist():
        shape = _shape(pair["values"])
        counts[shape] += pair["counts"]
        if first_of is not None:
            first_of.setdefault(shape, pair["values"])
    return counts


def with_colons(text: pa.Array) -> pa.Array:
    """Return text with single spaces, and colons in a time of day that digits alone spell.

    Examples
    --------
    >>> import pyarrow as pa
    >>> with_colons(pa.array(["20240131T1000Z", "20240131100005", "20240131"])).to_pylist()
    ['20240131 10:00Z', '20240131 10:00:05', '20240131']
    """
    import pyarrow.compute as pc

    text = pc.replace_substring_regex(text, "  +", " ")  # before a day of one digit
    text = pc.replace_substring_regex(text, _COMPACT.format(r"(\d\d)"), r"\1 \2:\3:\4\5")
    return pc.replace_substring_regex(text, _COMPACT.format("()"), r"\1 \2:\3\5")


def split_times(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the dates of cells, `TIME_ONLY` where there is a time alone; and the times, or ""."""
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(text, ":")).as_py():
        return text, pc.if_else(True, "", text)
    parts = pc.extract_regex(text, _WITH_TIME)
    before, time, after = (pc.struct_field(parts, name) for name in ("before", "time", "after"))
    before = pc.utf8_rtrim(before, " T:,")
    between = pc.if_else(pc.or_(pc.equal(before, ""), pc.equal(after, "")), "", " ")
    dates = pc.binary_join_element_wise(before, after, between)
    dates = pc.if_else(pc.equal(dates, ""), TIME_ONLY, dates)
    return pc.coalesce(dates, text), pc.fill_null(time, "")


@lru_cache(maxsize=2**14)
def _shape(date: str) -> str:
    return date if date == TIME_ONLY else "".join(map(_token_shape, _TOKEN.findall(date)))


def _token_shape(token: str) -> str:
    if token.isdecimal() and token.isascii():
        number = int(token[:8])
        if len(token) <= 2:
            return "m" if 1 <= number <= 12 else "d" if 1 <= number <= 31 else "y"
        if len(token) == 8:
            return "".join(_token_shape(part) for part in (token[:4], token[4:6], token[6:]))
        return "Y" if len(token) == 4 and (1000 <= number < 3000 or number in (1, 9999)) else "9"
    token = token.rstrip(".") or token  # a short name of a month may end with one
    if token.lower() in (*MONTHS, *FULL_MONTHS, "sept"):
        return "b"
    return "a" if re.fullmatch(DAYS, token, re.IGNORECASE) else token


def find_date_format(
    shapes: Mapping[str, int], *, day_first: bool | None = None
) -> DateGuess | None:
    """Find the format of dates that fits most cells; None if none fits any.

    Parameters
    ----------
    shapes : mapping of str to int
        How many cells have which shape, as `date_shapes` counts them.
    day_first : bool or None
        What the file's other columns show, for where no day is above 12. None: the month comes
        first where slashes are between, else the day.

    Examples
    --------
    >>> find_date_format({"m/m/Y": 8, "d/m/Y": 1}).format
    DateFormat(pattern='%d/%m/%Y')
    >>> find_date_format({"m/m/Y": 9}).others
    ('%d/%m/%Y',)
    """
    fits = {
        pattern: sum(n for shape, n in shapes.items() if reads.fullmatch(shape))
        for pattern, reads in _shape_patterns().items()
    }
    most = max(fits.values(), default=0)
    if not most:
        return None
    best = [DateFormat(pattern) for pattern, n in fits.items() if n == most]
    ordered = [found for found in best if found.day_first is not None]
    chosen = best[0]
    if len({found.day_first for found in ordered}) > 1:
        wanted = day_first if day_first is not None else "/" not in ordered[0].pattern
        chosen = next(found for found in ordered if found.day_first == wanted)
    others = [f.pattern for f in best if f.directives != chosen.directives]
    reads = _shape_patterns()[chosen.pattern]
    unlike = tuple(shape for shape in shapes if not reads.fullmatch(shape))
    return DateGuess(chosen, most, tuple(others), unlike)


def count_dates(shapes: Mapping[str, int]) -> int:
    """Return how many cells are dates in any of the formats that are looked for.

    Examples
    --------
    >>> count_dates({"d/m/Y": 8, "Y-m-d": 1, "y/y": 3})
    9
    """
    patterns = _shape_patterns().values()
    return sum(n for shape, n in shapes.items() if any(map(lambda p: p.fullmatch(shape), patterns)))


@lru_cache(maxsize=1)
def _shape_patterns() -> dict[str, re.Pattern[str]]:
    return {pattern: re.compile(filled(pattern, _READS)) for pattern in _patterns()}


def filled(pattern: str, meanings: Mapping[str, str]) -> str:
    """Return the regular expression of a pattern, whose directives have these meanings."""
    if pattern == TIME_ONLY:
        return re.escape(pattern)
    parts = re.split("(%.)", pattern)
    return "".join(meanings.get(part) or re.escape(part) for part in parts)
