"""How a column spells its numbers, found from all of its cells.

A format belongs to a column, never to a cell: ``1,234`` is 1234 or 1.234 by what the other cells of
its column, and then the other columns of its file, show.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

MIN_SHARE = 0.95  #: of a column's cells are numbers, or dates, where the others are bad cells

DECIMALS = (".", ",")
THOUSANDS = (",", ".", " ", "'")
CURRENCIES = (
    "$", "€", "£", "¥", "₹", "₽", "₩", "₺", "₪", "฿", "₫", "₴", "R$", "US$", "A$", "C$", "Rs", "kr",
    "zł", "Kč", "Fr.", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF",
    "INR", "JPY", "KRW", "MXN", "NOK", "NZD", "PLN", "RUB", "SEK", "SGD", "TRY", "USD", "ZAR",
)  # fmt: skip
SCALES = {"k": "e3", "K": "e3", "M": "e6", "B": "e9"}
_PLAIN = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$|^(?i)[+-]?inf(?:inity)?$"
_PREFIXES = "|".join(sorted(map(re.escape, CURRENCIES), key=len, reverse=True))
# Units that end with a digit: m3, m/s2, CO2.
_UNIT_WITH_DIGIT = r"[^\d]{0,12}(?:m|ft|in|yd|mi|s|[CNS]O|[CN]H|[HNO])"
# What may be a number: digits and marks in one piece, with few other characters around it.
_NUMBER_LIKE = (
    rf"^[-+(]{{0,2}}(?:{_PREFIXES})? ?[-+(]? ?[.,]?\d[\d.,' ]*(?:[eE][+-]?\d+)?"
    rf"(?:{_UNIT_WITH_DIGIT}[234])?[^\d]{{0,16}}$"
)
_SHAPE = re.compile(
    rf"(?P<open>\()?[-+]?(?P<prefix>{_PREFIXES})? ?[-+]? ?(?P<core>[90.,' ]*9[.,]?|0[.,]?)"
    r"(?P<exponent>[eE][+-]?9+)? ?(?P<suffix>[^90()+-]*)(?P<plus>\+)?-?(?P<close>\))?"
)
# No parts of numbers: ½.
_UNIT = re.compile(r"(?:(?![¼-¾⅐-⅞])[^\W\d_]|[°%‰$€£¥₹₽₩₺₪฿₫₴\"'/²³⁴·.*^ ]){1,16}")


@dataclass(frozen=True)
class NumberFormat:
    """How a column spells its numbers.

    Attributes
    ----------
    decimal : {".", ","}
    thousands : {"", ",", ".", " ", "'"}
        Between groups of digits; a space stands for narrow and no-break ones too.
    prefix, suffix : str
        A currency or a unit, before or after the number; cells may lack it. ``28%`` is 28.
    scaled : bool
        Whether ``k``, ``M`` and ``B`` after a number stand for thousands, millions and billions.
    plus : bool
        Whether a number may be followed by ``+``, which is left out: ``10,000+`` is 10000.
    clock : bool
        Whether numbers are durations, in seconds: ``26:10:05``, ``2:41.5`` (minutes and seconds).

    Negative numbers may be ``-5``, ``(5)`` and ``5-`` in every format.

    Examples
    --------
    >>> NumberFormat(decimal=",", thousands=".", suffix="€").example()
    '1.234,5 €'
    """

    decimal: str = "."
    thousands: str = ""
    prefix: str = ""
    suffix: str = ""
    scaled: bool = False
    plus: bool = False
    clock: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether numbers are spelled as programs do."""
        return self == PLAIN

    def example(self) -> str:
        """Return a number in this format, for people."""
        if self.clock:
            return "26:10:05"
        number = f"1{self.thousands}234{self.decimal}5"
        number = f"{self.prefix}{' ' if self.prefix.isalpha() else ''}{number}"
        number += "k" if self.scaled else ""
        number += f"{' ' if self.suffix not in ('', '%') else ''}{self.suffix}"
        return f"{number}+" if self.plus else number

    def to_json(self) -> dict[str, Any]:
        """Return what differs from plain numbers."""
        return {k: v for k, v in asdict(self).items() if v != getattr(PLAIN, k)}


PLAIN = NumberFormat()


@dataclass(frozen=True)
class NumberGuess:
    """The format that fits most cells of a column."""

    format: NumberFormat
    fits: int  #: how many cells
    ambiguous: bool  #: whether a comma or point may be a decimal mark or between thousands
    unlike: tuple[str, ...]  #: shapes of the other cells


def is_plain(text: pa.Array) -> pa.Array:
    """Tell which cells are numbers as programs spell them."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, _PLAIN)


def in_one_piece(text: pa.Array) -> pa.Array:
    """Return text in which a number has one piece, with its sign around all of it.

    Units are without digits, a currency is inside brackets, and no dash stands for no cents.

    Examples
    --------
    >>> import pyarrow as pa
    >>> in_one_piece(pa.array(["12 m3", "400 ppm CO2", "9.81 m/s2", "12 A3"])).to_pylist()
    ['12 m³', '400 ppm CO²', '9.81 m/s²', '12 A3']
    >>> in_one_piece(pa.array(["$(1,234.50)", "93,-", "5.-- €", "93-"])).to_pylist()
    ['($1,234.50)', '93,', '5. €', '93-']
    """
    import pyarrow.compute as pc

    text = pc.replace_substring_regex(text, rf"^({_PREFIXES}) ?\((.*\))$", r"(\1\2")
    text = pc.replace_substring_regex(
        text, r"^(.*\d[.,])[-\x{2013}\x{2014}]{1,2}( ?[^\d]*)$", r"\1\2"
    )
    for digit, raised in zip("234", "²³⁴", strict=True):
        text = pc.replace_substring_regex(
            text, rf"^(.*\d ?{_UNIT_WITH_DIGIT}){digit}([^\d]*)$", rf"\1{raised}\2"
        )
    return text


def may_be_numbers(text: pa.Array) -> pa.Array:
    """Tell which cells may be numbers in some format."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, _NUMBER_LIKE)


def number_shapes(text: pa.Array, first_of: dict[str, str] | None = None) -> Counter[str]:
    """Count the shapes of the cells that may be numbers: digits as 9, but 0 for a 0 that begins.

    Parameters
    ----------
    text : pyarrow.Array of strings
        As `cells.clean` returns it.
    first_of : dict of str to str, or None
        The first cell of each shape is put into it, if it has none.

    Examples
    --------
    >>> import pyarrow as pa
    >>> sorted(number_shapes(pa.array(["$1,250.00", "$2,990.50", "0.5", "red"])).items())
    [('$9,999.99', 2), ('0.9', 1)]
    """
    import pyarrow.compute as pc

    text = in_one_piece(text.filter(may_be_numbers(text)))
    starts_0 = pc.match_substring_regex(text, r"^\D*0[.,]")
    counts: Counter[str] = Counter()
    for some, zero in ((text.filter(pc.invert(starts_0)), "9"), (text.filter(starts_0), "0")):
        coded = _nines(some).dictionary_encode()
        codes = coded.indices.to_numpy(zero_copy_only=False)
        _, first, n_cells = np.unique(codes, return_index=True, return_counts=True)
        for shape, index, n in zip(coded.dictionary.to_pylist(), first, n_cells, strict=True):
            shape = shape.replace("9", zero, 1)
            counts[shape] += int(n)
            if first_of is not None:
                first_of.setdefault(shape, some[int(index)].as_py())
    return counts


def _nines(text: pa.Array) -> pa.Array:
    """Return text with all digits replaced by 9."""
    import pyarrow as pa

    text = pa.concat_arrays([text])  # so that its offset is 0
    if not len(text):
        return text
    table = np.arange(256, dtype=np.uint8)
    table[ord("0") : ord("9") + 1] = ord("9")
    valid, offsets, data = text.buffers()
    shapes = pa.py_buffer(table[np.frombuffer(data or b"", np.uint8)])
    return pa.Array.from_buffers(text.type, len(text), [valid, offsets, shapes], text.null_count)


def find_number_format(shapes: Mapping[str, int], decimal: str | None = None) -> NumberGuess:
    """Find the format that fits most cells.

    Parameters
    ----------
    shapes : mapping of str to int
        How many cells have which shape, as `number_shapes` counts them.
    decimal : {".", ","} or None
        The decimal mark of the file's other columns, which decides where the cells do not. None
        takes ``1,234`` for 1234.

    Returns
    -------
    NumberGuess

    Examples
    --------
    >>> find_number_format({"9,999": 5, "0,9": 1}).format.decimal
    ','
    >>> guess = find_number_format({"9,999": 6})
    >>> guess.format.thousands, guess.ambiguous
    (',', True)
    """
    parsed = {shape: match for shape in shapes if (match := _SHAPE.fullmatch(shape))}
    parsed = {s: m for s, m in parsed.items() if (m["open"] is None) == (m["close"] is None)}
    suffixes = {shape: match["suffix"].strip() for shape, match in parsed.items()}
    units = {shape: unit for shape, unit in suffixes.items() if _UNIT.fullmatch(unit)}
    suffix = _most_frequent(units, shapes)
    scaled = suffix in SCALES
    allowed = {"", *SCALES} if scaled else {"", suffix}
    prefix = _most_frequent({s: match["prefix"] or "" for s, match in parsed.items()}, shapes)
    cores = {
        shape: match["core"].strip() + ("e" if match["exponent"] else "")
        for shape, match in parsed.items()
        if (match["prefix"] or "") in ("", prefix) and suffixes[shape] in allowed
    }
    mark, group, ambiguous = _marks(cores, shapes, decimal)
    if mark == "." and decimal is None and (prefix or suffix):
        ambiguous |= _may_be_grouped(cores, shapes)
    fitting = {shape for shape, core in cores.items() if _fits(core, mark, group)}
    plus = any(parsed[shape]["plus"] for shape in fitting)
    return NumberGuess(
        NumberFormat(mark, group, prefix, "" if scaled else suffix, scaled, plus),
        sum(shapes[shape] for shape in fitting),
        ambiguous,
        tuple(shape for shape in shapes if shape not in fitting),
    )


def _most_frequent(texts: Mapping[str, str], shapes: Mapping[str, int]) -> str:
    counts: Counter[str] = Counter()
    for shape, text in texts.items():
        counts[text] += shapes[shape] if text else 0
    return max(counts, key=lambda text: (counts[text], text), default="")


def _marks(
    cores: Mapping[str, str], shapes: Mapping[str, int], decimal: str | None
) -> tuple[str, str, bool]:
    """Return the decimal mark, that between thousands, and whether others fit as well."""
    used = {mark for core in cores.values() for mark in core if mark in THOUSANDS}
    fits = {
        (mark, group): sum(shapes[s] for s, core in cores.items() if _fits(core, mark, group))
        for mark in DECIMALS
        for group in ("", *THOUSANDS)
        if mark != group and (not group or group in used)
    }
    wanted = decimal or "."
    best = min(fits, key=lambda pair: (-fits[pair], pair[0] != wanted, len(pair[1])))
    # Whether a mark before three digits is decimal; a point alone is, unless the file says no.
    marks = {"," if decimal != "," else ".", ","} & used
    ambiguous = any(
        fits.get((mark, ""), 0) >= MIN_SHARE * fits[best]
        and max((n for (_, group), n in fits.items() if group == mark), default=0)
        >= MIN_SHARE * fits[best]
        for mark in marks
        if best[1] == mark or best[0] == mark
    )
    return *best, ambiguous


def _may_be_grouped(cores: Mapping[str, str], shapes: Mapping[str, int]) -> bool:
    """Whether points may be between thousands in nearly all cells that have one: 1.250 €."""
    with_points = {shape: core for shape, core in cores.items() if "." in core}
    n_cells = sum(shapes[shape] for shape in with_points)
    fits = sum(shapes[shape] for shape, core in with_points.items() if _fits(core, ",", "."))
    return fits >= MIN_SHARE * n_cells > 0


@lru_cache(maxsize=2**12)
def _fits(core: str, decimal: str, thousands: str) -> bool:
    """Whether the digits and marks of a shape are a number with these marks.

    One with an exponent, of which the last letter tells, has none between thousands.
    """
    pattern = digits_pattern(decimal, "" if core.endswith("e") else thousands)
    return bool(re.fullmatch(pattern, core.rstrip("e")))


def digits_pattern(decimal: str, thousands: str) -> str:
    """Return the pattern of a number without sign, exponent and what stands around it."""
    mark, group = re.escape(decimal), re.escape(thousands)
    grouped = rf"[1-9]\d{{0,2}}(?:{group}\d{{2,3}})*{group}\d{{3}}|" if thousands else ""
    return rf"(?:(?:{grouped}\d+)(?:{mark}\d*)?|{mark}\d+)"
