"""How the columns of a table spell numbers and dates, by what each of them and all of them show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from vae_anomaly.tables.dates import DateGuess, find_date_format
from vae_anomaly.tables.formats import MIN_SHARE, NumberFormat, NumberGuess, find_number_format
from vae_anomaly.tables.tallies import ColumnTally

_AMONG_POINTS = {"9", "9.999"}  # shapes: whole numbers, and points before three digits
# Share of whole numbers from which points among them may be between thousands.
_WHOLE_SHARE = 0.05


def find_spellings(
    tallies: Mapping[str, ColumnTally], decimal: str | None = None
) -> dict[str, tuple[NumberGuess, DateGuess | None]]:
    """Return how each column spells its numbers, and its dates, if any cell may be one.

    Parameters
    ----------
    tallies : mapping of column name to ColumnTally
    decimal : {".", ","} or None
        The decimal mark, for cells that fit with either; None: as other columns show.

    Examples
    --------
    >>> import pyarrow as pa
    >>> tally = ColumnTally()
    >>> tally.add_text(pa.array(["5", "89", "1.250", "17.300"]))
    >>> find_spellings({"price": tally})["price"][0].format.example()
    '1.234,5'
    """
    numbers = {name: find_number_format(tally.shapes) for name, tally in tallies.items()}
    decimal = decimal or _decimal_mark(tallies, numbers)
    day_first = _day_first(tallies, decimal)
    return {
        name: (_number_guess(tally, decimal), find_date_format(tally.dates, day_first=day_first))
        for name, tally in tallies.items()
    }


def _decimal_mark(
    tallies: Mapping[str, ColumnTally], numbers: Mapping[str, NumberGuess]
) -> str | None:
    """Return the decimal mark of the columns that show one; None if they differ."""
    marks: Counter[str] = Counter()
    for name, guess in numbers.items():
        n_values = tallies[name].n_cells - tallies[name].n_missing
        used = {mark for shape in tallies[name].shapes for mark in shape if mark in ".,"}
        if guess.fits >= MIN_SHARE * n_values > 0 and not guess.ambiguous and used:
            # 1.234 everywhere may be 1234.
            says = guess.format.thousands in (",", ".") or guess.format.decimal in used
            if says and set(tallies[name].shapes) - _AMONG_POINTS:
                marks[guess.format.decimal] += 1
    return next(iter(marks)) if len(marks) == 1 else None


def _number_guess(tally: ColumnTally, decimal: str | None) -> NumberGuess:
    may_be_thousands = not decimal and _may_be_between_thousands(tally)
    are_thousands = may_be_thousands and _are_between_thousands(tally)
    guess = find_number_format(tally.shapes, "," if are_thousands else decimal)
    if tally.n_clocks > guess.fits:
        return NumberGuess(NumberFormat(clock=True), tally.n_clocks, False, tuple(tally.shapes))
    return replace(guess, ambiguous=guess.ambiguous or may_be_thousands)


def _may_be_between_thousands(tally: ColumnTally) -> bool:
    """Whether points are before three digits in each cell that has one, and some have none."""
    numbers = tally.numbers
    are_small = -1000 < numbers.low <= numbers.high < 1000
    return set(tally.shapes) == _AMONG_POINTS and are_small and _n_whole(tally) > 0


def _are_between_thousands(tally: ColumnTally) -> bool:
    """Whether such points can be no decimal marks: 5, 89, 1.250, 17.300.

    Who writes 5 and not 5.000 does not write 1.250 for 1.25. The least and the greatest number
    do not tell, for if they are whole they may mean missing: -999.
    """
    numbers = tally.numbers
    ends = {numbers.low: numbers.n_low, numbers.high: numbers.n_high}
    n_inner = _n_whole(tally) - sum(n for end, n in ends.items() if end and end % 1 == 0)
    return tally.n_zero_ends > 0 and n_inner >= max(1, _WHOLE_SHARE * numbers.count)


def _n_whole(tally: ColumnTally) -> int:
    """Return how many cells are whole numbers without a point, other than 0."""
    return tally.shapes["9"] - tally.numbers.n_low * (tally.numbers.low == 0)


def _day_first(tallies: Mapping[str, ColumnTally], decimal: str | None) -> bool | None:
    guesses = [find_date_format(tally.dates) for tally in tallies.values()]
    orders = {guess.format.day_first for guess in guesses if guess and not guess.ambiguous}
    orders -= {None}
    if len(orders) == 1:
        return orders.pop()
    return True if decimal == "," else None
