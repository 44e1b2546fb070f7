"""What all cells of a column show, counted: in parts that can be merged, of tables of any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.tables.cells import clean, without_missing
from vae_anomaly.tables.dates import are_no_dates, date_shapes, may_be_dates
from vae_anomaly.tables.durations import are_clocks, with_seconds
from vae_anomaly.tables.formats import is_plain, may_be_numbers, number_shapes

if TYPE_CHECKING:
    import pyarrow as pa

N_HASHES = 2**13  #: counts of distinct values are exact below, and have a standard error of 1.1%
_N_EXAMPLES = 4
_LONGEST_EXAMPLE = 60
_MOST_SHAPES = 20_000


class DistinctCount:
    """How many distinct values there are: the smallest hashes are kept.

    Source: Bar-Yossef, Jayram, Kumar, Sivakumar and Trevisan, Counting distinct elements in a data
    stream, 2002.

    Examples
    --------
    >>> count = DistinctCount()
    >>> count.add(np.array([1.0, 2.0, 2.0, np.nan]))
    >>> count.estimate()
    2
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)

    def add(self, values: np.ndarray) -> None:
        """Count values: float64, NaN being none, or objects that are text."""
        if values.dtype == object:
            import pandas as pd

            self._keep(pd.util.hash_array(values, categorize=False))
        else:
            bits = (values[~np.isnan(values)] + 0.0).view(np.uint64)  # -0.0 is 0.0
            self._keep(_mixed(bits))

    def merge(self, other: DistinctCount) -> None:
        """Count what the other has counted too."""
        self._keep(other._hashes)

    def estimate(self) -> int:
        """Return how many values differ."""
        if len(self._hashes) < N_HASHES:
            return len(self._hashes)
        return round((N_HASHES - 1) / (float(self._hashes[-1]) / 2**64))

    def _keep(self, hashes: np.ndarray) -> None:
        if len(self._hashes) == N_HASHES:
            hashes = hashes[hashes < self._hashes[-1]]
        self._hashes = np.union1d(self._hashes, hashes)[:N_HASHES]


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Return hashes of 64 bits (the finaliser of splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))


@dataclass
class NumberTally:
    """What the numbers of a column show that are spelled as programs do."""

    count: int = 0
    n_infinite: int = 0
    n_whole: int = 0  #: by value: 3.0 is whole
    n_bits: int = 0  #: 0 or 1
    n_days: int = 0  #: of the forms 20240131, 202401312359 and 20240131235959
    n_months: int = 0  #: of the form 202401
    n_short_days: int = 0  #: of the form 240131, perhaps without zeros that begin
    n_negative: int = 0
    low: float = np.inf  #: of finite ones, as are the others
    high: float = -np.inf
    n_low: int = 0  #: how many are the lowest
    n_high: int = 0
    power_sums: tuple[int, int, int] = (0, 0, 0)  #: of whole numbers, modulo 2^64

    def add(self, values: np.ndarray) -> None:
        """Count numbers; NaN is none."""
        values = values[~np.isnan(values)]
        finite = values[np.isfinite(values)]
        self.count += len(values)
        self.n_infinite += len(values) - len(finite)
        if not len(finite):
            return
        low, high = float(finite.min()), float(finite.max())
        self._add_ends(low, int((finite == low).sum()), high, int((finite == high).sum()))
        self.n_negative += int((finite < 0).sum())
        whole = finite[np.floor(finite) == finite]
        self.n_whole += len(whole)
        self.n_bits += int(((whole == 0) | (whole == 1)).sum())
        self.n_days += int(_are_days(whole).sum())
        self.n_months += int(_are_months(whole).sum())
        self.n_short_days += int(_are_dates(whole + 20_000_000)[whole < 1e6].sum())
        whole = whole[np.abs(whole) < 2**53]
        residues = whole.astype(np.int64).astype(np.uint64)
        sums = [int((residues**power).sum()) for power in (1, 2, 3)]
        self._add_sums(sums)

    def merge(self, other: NumberTally) -> None:
        """Count what the other has counted too."""
        self._add_ends(other.low, other.n_low, other.high, other.n_high)
        for name in (
            "count",
            "n_infinite",
            "n_whole",
            "n_bits",
            "n_days",
            "n_months",
            "n_short_days",
            "n_negative",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self._add_sums(other.power_sums)

    def are_steps(self) -> bool:
        """Whether the numbers, sorted, are whole and have constant steps: 5, 15, 25, ...

        Sums of powers tell, for no other numbers between the same bounds have the same ones, but by
        a chance of 2^-64 or so; they need neither order nor memory.
        """
        n, low, high = self.count, self.low, self.high
        if n < 2 or self.n_whole < n or high == low or (high - low) % (n - 1):
            return False
        start, step = int(low), int(high - low) // (n - 1)
        # Sums of i^k for i < n.
        s1, s2 = n * (n - 1) // 2, n * (n - 1) * (2 * n - 1) // 6
        s3 = s1**2
        sums = (
            n * start + step * s1,
            n * start**2 + 2 * start * step * s1 + step**2 * s2,
            n * start**3 + 3 * start**2 * step * s1 + 3 * start * step**2 * s2 + step**3 * s3,
        )
        return tuple(total % 2**64 for total in sums) == self.power_sums

    def _add_ends(self, low: float, n_low: int, high: float, n_high: int) -> None:
        self.n_low = self.n_low * (self.low <= low) + n_low * (low <= self.low)
        self.n_high = self.n_high * (self.high >= high) + n_high * (high >= self.high)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def _add_sums(self, sums: Iterable[int]) -> None:
        one, two, three = ((a + b) % 2**64 for a, b in zip(self.power_sums, sums, strict=True))
        self.power_sums = (one, two, three)


def _are_days(whole: np.ndarray) -> np.ndarray:
    found = _are_dates(whole) | (whole == 99991231)  # no end
    for time in (10**4, 10**6):  # of 4 or 6 digits behind the date
        minutes = whole % time // (time // 10**4)
        is_time = (minutes // 100 < 24) & (minutes % 100 < 60) & (whole % (time // 10**4) < 60)
        found |= _are_dates(whole // time) & is_time
    return found


def _are_dates(whole: np.ndarray) -> np.ndarray:
    day = whole % 100
    return _are_months(whole // 100) & (day >= 1) & (day <= 31)


def _are_months(whole: np.ndarray) -> np.ndarray:
    month = whole % 100
    return (whole >= 190001) & (whole <= 210012) & (month >= 1) & (month <= 12)


@dataclass
class ColumnTally:
    """What all cells of a column show.

    All cells are added, in parts, by `add_text` or `add_numbers`, or with what others have counted,
    by `merge`. The order of parts changes nothing but the examples.

    Examples
    --------
    >>> import pyarrow as pa
    >>> tally = ColumnTally()
    >>> tally.add_text(pa.array(["$5", "", "$7", "?"]))
    >>> tally.n_cells, tally.n_missing, dict(tally.markers), dict(tally.shapes)
    (4, 1, {'?': 1}, {'$9': 2})
    """

    n_cells: int = 0
    n_missing: int = 0  #: missing in every column
    markers: Counter[str] = field(default_factory=Counter)  #: missing in columns of values alone
    numbers: NumberTally = field(default_factory=NumberTally)  #: as programs spell them
    n_booleans: int = 0  #: true or false
    shapes: Counter[str] = field(default_factory=Counter)  #: of what may be numbers, plain ones too
    n_zero_ends: int = 0  #: of the shape 9.999, those that end with 0
    dates: Counter[str] = field(default_factory=Counter)  #: of what may be dates
    n_clocks: int = 0  #: durations such as 26:10:05, or times of day
    no_dates: Counter[str] = field(default_factory=Counter)  #: such as 9999-12-31
    n_digits: int = 0  #: digits alone
    n_leading_zeros: int = 0  #: of these, several digits, the first a 0
    digit_lengths: set[int] = field(default_factory=set)
    n_spaced: int = 0  #: neither numbers nor dates, with a space inside
    distinct: DistinctCount = field(default_factory=DistinctCount)
    examples: list[str] = field(default_factory=list)  #: the first that differ
    first_of: dict[str, str] = field(default_factory=dict)  #: the first of a shape; "" is text

    def add_numbers(self, values: np.ndarray) -> None:
        """Count cells that are float64; NaN is missing."""
        self.n_cells += len(values)
        present = values[~np.isnan(values)]
        self.n_missing += len(values) - len(present)
        self._add_examples([f"{value:.15g}" for value in present[:100]])
        n_whole = int((np.floor(present) == present).sum())
        self._add_shapes({"9": n_whole, "0.9": len(present) - n_whole})
        self.numbers.add(present)
        self.distinct.add(present)

    def add_bad(self, n: int, first: str) -> None:
        """Count cells that are no values, and keep the first of them as an example."""
        self.n_cells += n
        self.first_of.setdefault("", first[:_LONGEST_EXAMPLE])

    def add_text(self, text: pa.Array, missing: Iterable[str] = ()) -> None:
        """Count cells that are text; `missing` are markers of missing cells besides the usual."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.n_cells += len(text)
        n_cells = len(text)
        text = without_missing(clean(with_seconds(text)), missing, values=False).drop_null()
        self.n_missing += n_cells - len(text)
        self._add_examples(text[:100].to_pylist())
        try:  # nearly always, and much faster
            self._add_plain(text, text.cast("float64"))
            return
        except pa.ArrowInvalid:
            pass
        values = without_missing(text, values=True)
        self._add_markers(text.filter(pc.is_null(values)))
        values = values.drop_null()
        plain = is_plain(values)
        numbers = values.filter(plain)
        self._add_plain(numbers, numbers.cast("float64"))
        self._add_others(values.filter(pc.invert(plain)))

    def merge(self, other: ColumnTally) -> None:
        """Count what the other has counted too."""
        for name in (
            "n_cells",
            "n_missing",
            "n_booleans",
            "n_zero_ends",
            "n_clocks",
            "n_digits",
            "n_leading_zeros",
            "n_spaced",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("markers", "shapes", "dates", "no_dates"):
            getattr(self, name).update(getattr(other, name))
        self.numbers.merge(other.numbers)
        self.digit_lengths |= other.digit_lengths
        self.distinct.merge(other.distinct)
        self._add_examples(other.examples)
        self.first_of = {**other.first_of, **self.first_of}
        self._drop_rare()

    def _add_plain(self, text: pa.Array, numbers: pa.Array) -> None:
        import pyarrow.compute as pc

        values = numbers.to_numpy(zero_copy_only=False)
        self.numbers.add(values)
        self.distinct.add(values)
        # What they say of decimal marks, as shapes: 1.234 may be 1234, where 0.5 and 12.5 are not.
        points = pc.match_substring(text, ".")
        n_points = pc.sum(points).as_py() or 0
        if n_points:
            pointed = text.filter(points)
            grouped = pc.match_substring_regex(pointed, r"^[+-]?[1-9]\d{0,2}[.]\d{3}$")
            n_grouped = pc.sum(grouped).as_py()
            zero_ends = pc.and_(grouped, pc.ends_with(pointed, "0"))
            self.n_zero_ends += pc.sum(zero_ends).as_py()
            self._add_shapes({"9.999": n_grouped, "0.9": n_points - n_grouped})
        if n_points < len(text):
            self._add_shapes({"9": len(text) - n_points})
            digits = text.filter(pc.match_substring_regex(text, r"^\d+$"))
            lengths = pc.binary_length(digits)
            self.n_digits += len(digits)
            self.digit_lengths.update(lengths.unique().to_pylist())
            zeros = pc.and_(pc.starts_with(digits, "0"), pc.greater(lengths, 1))
            self.n_leading_zeros += pc.sum(zeros).as_py() or 0

    def _add_shapes(self, counts: Mapping[str, int]) -> None:
        self.shapes.update({shape: n for shape, n in counts.items() if n})

    def _add_markers(self, text: pa.Array) -> None:
        import pyarrow.compute as pc

        for pair in pc.value_counts(text).to_pylist():
            self.markers[pair["values"]] += pair["counts"]
        self.distinct.add(_objects(text.unique()))

    def _add_others(self, text: pa.Array) -> None:
        import pyarrow.compute as pc

        self.distinct.add(_objects(text.unique()))
        boolean = pc.match_substring_regex(text, "^(?i)(?:true|false)$")
        self.n_booleans += pc.sum(boolean).as_py() or 0
        text = text.filter(pc.invert(boolean))
        self.n_clocks += pc.sum(are_clocks(text)).as_py() or 0
        self.shapes.update(number_shapes(text, self.first_of))
        self.dates.update(date_shapes(text, self.first_of))
        for pair in pc.value_counts(text.filter(are_no_dates(text))).to_pylist():
            self.no_dates[pair["values"]] += pair["counts"]
        text = text.filter(pc.invert(pc.or_(may_be_numbers(text), may_be_dates(text))))
        self.n_spaced += pc.sum(pc.match_substring(text, " ")).as_py() or 0
        if len(text):
            self.first_of.setdefault("", text[0].as_py()[:_LONGEST_EXAMPLE])
        self._drop_rare()

    def _drop_rare(self) -> None:
        """Forget the rarest shapes where there are very many, as of addresses: no format fits."""
        for shapes in (self.shapes, self.dates):
            if len(shapes) > _MOST_SHAPES:
                for shape, _ in shapes.most_common()[_MOST_SHAPES // 2 :]:
                    del shapes[shape]
                    self.first_of.pop(shape, None)

    def _add_examples(self, texts: Iterable[str]) -> None:
        for text in texts:
            if len(self.examples) == _N_EXAMPLES:
                return
            if text[:_LONGEST_EXAMPLE] not in self.examples:
                self.examples.append(text[:_LONGEST_EXAMPLE])


def _objects(text: pa.Array) -> np.ndarray:
    values: np.ndarray = text.to_numpy(zero_copy_only=False)
    return values.astype(object)
