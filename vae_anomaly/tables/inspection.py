"""What each column of a table is, decided from all of its cells; notes on probable mistakes."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from vae_anomaly.tables.counted_times import counted_times, n_times
from vae_anomaly.tables.dates import (
    DIGITS_ALONE,
    DateFormat,
    DateGuess,
    count_dates,
)
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.formats import MIN_SHARE, PLAIN, NumberGuess
from vae_anomaly.tables.names import names_rows
from vae_anomaly.tables.rules import DATE_KINDS
from vae_anomaly.tables.schema import ColumnSchema, Note, Schema
from vae_anomaly.tables.spellings import find_spellings
from vae_anomaly.tables.tallies import ColumnTally

MIN_CELLS = 20  #: fewer cells say nothing about what is distinct by nature
NEAR_UNIQUE = 0.95  #: share of distinct values from which a column may name its rows
MOSTLY_DISTINCT = 0.5  #: share of distinct values from which text has no levels
# Dates that often stand for none: as seconds since 1970, or as digits.
_NO_DATES = {253_402_214_400.0: "9999-12-31", -2_208_988_800.0: "1900-01-01"}
_NO_DATES |= {-62_135_596_800.0: "0001-01-01"}
_NO_DATES |= {99_991_231.0: "99991231", 19_000_101.0: "19000101"}
# Share of cells from which one value that is unlike the others may mean missing.
_MARKER_SHARE = 0.01


@dataclass
class _Column:
    """A column while it is decided on."""

    name: str
    tally: ColumnTally
    numbers: NumberGuess
    dates: DateGuess | None
    notes: list[Note] = field(default_factory=list)

    @property
    def n_present(self) -> int:
        return self.tally.n_cells - self.tally.n_missing

    @property
    def n_values(self) -> int:
        """How many cells there are that must be numbers if the column is numeric."""
        return self.n_present - sum(self.tally.markers.values())

    @property
    def distinct_share(self) -> float:
        return self.tally.distinct.estimate() / max(1, self.n_present)

    @property
    def example(self) -> str:
        return repr(self.tally.examples[0]) if self.tally.examples else "none"

    @property
    def option(self) -> str:
        """The name as a shell takes it."""
        return shlex.quote(self.name)

    def share(self, n: int) -> float:
        return n / max(1, self.n_values)

    def note(self, code: str, message: str) -> None:
        self.notes.append(Note(code, self.name, f"column {self.name!r}: {message}"))


def decide(
    tallies: Mapping[str, ColumnTally],
    *,
    kinds: Mapping[str, str] | None = None,
    date_formats: Mapping[str, DateFormat] | None = None,
    decimal: str | None = None,
    dialect: Dialect | None = None,
    units: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Schema:
    """Decide what the columns of a table are.

    Parameters
    ----------
    tallies : mapping of column name to ColumnTally
        What all cells show.
    kinds, date_formats : mappings by column name, or None
        Kinds and `DateFormat`s that the caller knows.
    decimal : {".", ","} or None
        The decimal mark, for cells that fit with either; None: as other columns show.
    dialect, units, missing
        Of the file: its `Dialect`, the units of its columns, and markers of missing cells besides
        the usual ones, which the tallies know already.

    Returns
    -------
    Schema

    Raises
    ------
    ValueError
        If a column is said to be dates, and no cell is one in a known format.

    Examples
    --------
    >>> import pyarrow as pa
    >>> tally = ColumnTally()
    >>> tally.add_text(pa.array(["1.250,50 €", "7,25 €", "-"]))
    >>> decide({"price": tally}).columns["price"].format_text
    '1.234,5 €'
    """
    kinds = {**dict.fromkeys(date_formats or {}, "datetime"), **(kinds or {})}
    spellings = find_spellings(tallies, decimal)
    schemas, notes = {}, _dialect_notes(dialect, tallies)
    for name, unit in zip_longest(tallies, units[: len(tallies)], fillvalue=""):
        column = _Column(name, tallies[name], *spellings[name])
        kind = kinds.get(name) or _kind(column)
        schemas[name] = _column_schema(column, kind, (date_formats or {}).get(name), unit.strip())
        notes += column.notes
    return Schema(schemas, dialect, tuple(missing), tuple(notes))


def _kind(column: _Column) -> str:
    """Decide the kind of a column, with notes on probable mistakes."""
    tally = column.tally
    if not column.n_values:
        column.note("empty", "all cells are missing; remove it, or name more of the file's rows")
        return "numeric"
    zeros_and_ones = tally.numbers.count if _within(tally, 0, 1) else 0
    if tally.n_booleans and column.share(tally.n_booleans + zeros_and_ones) >= MIN_SHARE:
        return "boolean"
    n_numbers = column.numbers.fits
    n_dates = column.dates.fits if column.dates else 0
    if column.numbers.format.clock and column.share(n_dates) >= MIN_SHARE:
        return "datetime"  # times of day
    if column.share(n_numbers) >= MIN_SHARE and n_numbers >= n_dates:
        return _kind_of_numbers(column)
    if column.share(n_dates) >= MIN_SHARE:
        return "datetime"
    return _kind_of_text(column)


def _within(tally: ColumnTally, low: float, high: float) -> bool:
    numbers = tally.numbers
    return numbers.n_whole == numbers.count > 0 and low <= numbers.low <= numbers.high <= high


def _kind_of_numbers(column: _Column) -> str:
    tally, numbers = column.tally, column.tally.numbers
    are_plain = numbers.count >= MIN_SHARE * column.n_values
    found = counted_times(column.name, numbers, column.n_values)
    if are_plain and found and numbers.low < numbers.high:
        way_out = f"if they are numbers, --numeric {column.option} (kinds in Python)"
        what = f"numbers such as {column.example} are times ({found.pattern})"
        column.note("epoch", f"{what}; {way_out}")
        return "datetime"
    leading = column.share(tally.n_leading_zeros)
    one_length = column.share(tally.n_digits) >= MIN_SHARE and len(tally.digit_lengths) == 1
    if tally.n_leading_zeros and (one_length or leading > 1 - MIN_SHARE):
        kind = _kind_of_text(column)
        if kind == "categorical":
            way_out = f"if they are numbers, --numeric {column.option} (kinds in Python)"
            column.note("leading_zeros", f"codes with leading zeros, categorical; {way_out}")
        return kind
    if not are_plain:
        return "numeric"
    if numbers.n_whole < numbers.count or column.n_values < MIN_CELLS:
        return "numeric"
    way_out = f"to model it, --numeric {column.option} (kinds in Python)"
    if numbers.are_steps():
        reason = f"running numbers, {numbers.low:.15g} to {numbers.high:.15g}, name the rows"
        column.note("id", f"{reason}; kept, not modelled; {way_out}")
        return "id"
    if column.distinct_share >= NEAR_UNIQUE:
        if names_rows(column.name):
            reason = f"by its name and its distinct values, such as {column.example}, an id"
            column.note("id", f"{reason}; kept, not modelled; {way_out}")
            return "id"
        column.note(
            "near_unique",
            f"nearly all whole numbers differ, such as {column.example}; modelled as numbers; if "
            f"they name the rows, --id {column.option} (kinds in Python)",
        )
    return "numeric"


def _kind_of_text(column: _Column) -> str:
    distinct, n_present = column.tally.distinct.estimate(), column.n_present
    way_out = f"to model it all the same, --categorical {column.option} (kinds in Python)"
    _note_mixed(column)
    if n_present < MIN_CELLS or distinct <= MOSTLY_DISTINCT * n_present:
        return "categorical"
    reason = f"{min(distinct, n_present)} of {n_present} values differ, such as {column.example}"
    if column.distinct_share < NEAR_UNIQUE or column.tally.n_spaced > n_present / 2:
        column.note("text", f"text, not modelled, for {reason}; {way_out}")
        return "text"
    column.note("id", f"an id, kept, not modelled, for {reason}; {way_out}")
    return "id"


def _note_mixed(column: _Column) -> None:
    """Note that most cells are numbers, or dates, and that these differ in their format."""
    share, first_of = column.share(column.numbers.fits), column.tally.first_of
    odd = _odd_cells(column, column.numbers.unlike)
    if share >= 0.5 and not column.tally.n_leading_zeros:
        other = f"if that means missing, --na-values {odd}; else --numeric {column.option}"
        if "" not in first_of and column.numbers.unlike:  # other cells are numbers, too
            other = "write all of them in one format"
        text = f"{share:.0%} of the cells are numbers, the others text such as {odd}; not read as "
        column.note("mixed", f"{text}numbers; {other}")
    if column.dates and column.share(count_dates(column.tally.dates)) >= MIN_SHARE:
        odd = repr(first_of[column.dates.unlike[0]])
        text = f"dates in several formats, {column.dates.format.pattern} and such as {odd}"
        column.note("mixed", f"{text}; not read as dates; write all of them in one format")


def _column_schema(
    column: _Column, kind: str, date_format: DateFormat | None, unit: str
) -> ColumnSchema:
    tally, number_format = column.tally, column.numbers.format
    n_good = column.n_values
    if kind == "numeric":
        n_good = column.numbers.fits + tally.n_booleans
        n_good += tally.numbers.count * number_format.clock  # which may be seconds alone
        if column.numbers.ambiguous:
            other = "," if number_format.decimal == "." else "."
            column.note(
                "number_format",
                f"{column.example} could be spelled with the decimal mark {other!r} too; read as "
                f"{number_format.example()}; if wrong, --decimal {other!r}",
            )
        _note_marker(column)
        if tally.numbers.n_infinite:
            column.note(
                "infinite",
                f"{tally.numbers.n_infinite} cells are infinite, which fit refuses; if that means "
                "missing, --na-values=inf (in Python replace it by NaN)",
            )
    elif kind in DATE_KINDS:
        date_format = date_format or _date_format(column)
        _note_no_dates(column)
        n_good = _n_dates(column, date_format)
    elif kind == "boolean":
        n_good = tally.n_booleans + tally.numbers.n_bits
    is_value = kind in ("numeric", "boolean", *DATE_KINDS)
    n_bad = column.n_values - n_good if is_value else 0
    if n_bad > 0:
        unlike = column.numbers.unlike if kind == "numeric" else ()
        if kind in DATE_KINDS and column.dates:
            unlike = column.dates.unlike
        odd = _odd_cells(column, unlike)
        column.note("bad_cells", f"{n_bad} cells are not {kind}, such as {odd}; left out")
    markers = tally.markers if is_value else Counter()
    n_missing = tally.n_missing + sum(markers.values())
    if date_format and date_format.pattern in DIGITS_ALONE:
        n_missing += tally.numbers.n_low * (tally.numbers.low == 0)  # 0 is no date
    return ColumnSchema(
        kind,
        number_format if kind == "numeric" else PLAIN,
        date_format,
        unit if unit not in ("", "-") else "",
        tuple(example for example in tally.examples if example not in markers),
        tally.distinct.estimate() - len(markers),
        n_missing / max(1, tally.n_cells),
        n_bad,
    )


def _n_dates(column: _Column, found: DateFormat | None) -> int:
    """Return how many cells fit a format of dates; all, if it is none that is looked for."""
    n_dates = column.dates.fits if column.dates and column.dates.format == found else 0
    if found and (n_counted := n_times(column.tally.numbers, found)):
        return n_dates + n_counted
    return n_dates or (0 if column.dates else column.tally.numbers.count) or column.n_values


def _note_marker(column: _Column) -> None:
    """Note a number that may mean missing: the only negative one, or nines alone, often."""
    numbers, least = column.tally.numbers, _MARKER_SHARE * max(1, column.n_values)
    if column.tally.distinct.estimate() < MIN_CELLS:
        return
    for value, n in ((numbers.low, numbers.n_low), (numbers.high, numbers.n_high)):
        is_only = value < 0 and numbers.n_negative == n
        is_nines = re.fullmatch(r"9{3,}(\.9+)?", f"{value:.15g}") is not None
        if n > max(1, least) and (is_only or is_nines):
            what = "the only negative value" if is_only else "the largest value"
            column.note(
                "marker",
                f"{value:.15g}, in {column.share(n):.1%} of the cells, is {what}; if it means "
                f"missing, --na-values={value:.15g} (in Python replace it by NaN)",
            )


def _note_no_dates(column: _Column) -> None:
    """Note a date that may mean missing, in text, or by type: 9999-12-31, often."""
    numbers, counts = column.tally.numbers, Counter(column.tally.no_dates)
    for value, n in ((numbers.high, numbers.n_high), (numbers.low, numbers.n_low)):
        if value in _NO_DATES:
            counts[_NO_DATES[value]] += n
    for date, n in counts.items():
        if n > max(1, _MARKER_SHARE * column.n_values):
            column.note(
                "marker",
                f"{date}, in {column.share(n):.1%} of the cells, is often no date; if it means "
                f"missing, --na-values={shlex.quote(date)} (in Python replace it by NaT)",
            )


def _date_format(column: _Column) -> DateFormat | None:
    tally, numbers = column.tally, column.tally.numbers
    if column.dates and column.dates.fits >= numbers.count:
        if column.dates.ambiguous:
            column.note(
                "date_format",
                f"{column.example} could be spelled {' or '.join(column.dates.others)} too; read "
                f"as {column.dates.format.pattern}; if wrong, --datetime {column.option}=FORMAT",
            )
        return column.dates.format
    if numbers.count and (found := counted_times(column.name, tally.numbers, column.n_values)):
        return found
    if column.n_values:
        raise ValueError(
            f"Column {column.name!r}: expected dates in a usual format. Received: "
            f"{column.example}. Say the format: --datetime {column.option}=%d.%m.%Y, or the like."
        )
    return None


def _odd_cells(column: _Column, shapes: Sequence[str]) -> str:
    """Return a cell that does not fit, in quotes."""
    first_of = column.tally.first_of
    cells = [first_of[shape] for shape in ("", *shapes) if shape in first_of]
    return repr(cells[0]) if cells else "others"


def _dialect_notes(dialect: Dialect | None, tallies: Mapping[str, ColumnTally]) -> list[Note]:
    notes = []
    if dialect and dialect.header == "none":
        message = (
            "the first row holds numbers, so it is no header: the columns are column_1, column_2, "
            "...; --no-header says so"
        )
        notes.append(Note("header", None, message))
    if dialect and dialect.row_names:
        message = "rows have one cell more than there are names: the first is the name of the row"
        notes.append(Note("header", None, message))
    if dialect and len(tallies) == 1:
        ((name, tally),) = tallies.items()
        cells = [name, *tally.examples] if dialect.header != "none" else tally.examples
        marks = [mark for mark in ",;|\t:^~ " if cells and all(mark in cell for cell in cells)]
        if marks:
            message = f"one column, for the delimiter is {dialect.delimiter!r}; if {marks[0]!r} is "
            message += f"between cells, --delimiter {shlex.quote(marks[0])}"
            notes.append(Note("one_column", name, message))
    return notes
