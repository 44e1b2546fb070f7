"""Cells of a column of numbers as numbers, in the format that the column has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.tables.cells import clean, without_missing
from vae_anomaly.tables.formats import SCALES, NumberFormat, digits_pattern, in_one_piece

if TYPE_CHECKING:
    import pyarrow as pa


def convert_numbers(
    text: pa.Array, found: NumberFormat, missing: Iterable[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the cells of a column into numbers.

    Parameters
    ----------
    text : pyarrow.Array of strings, (n,)
    found : NumberFormat
    missing : iterable of str
        Markers of missing cells besides the usual ones.

    Returns
    -------
    values : numpy.ndarray, (n,), float64
        NaN where a cell is missing or bad.
    bad : numpy.ndarray, (n,), bool
        Where a cell is neither missing nor a number in this format.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from vae_anomaly.tables.formats import NumberFormat
    >>> cells = pa.array(["1.053,91 €", "(0,5)", "?", "12.5"])
    >>> values, bad = convert_numbers(cells, NumberFormat(",", ".", suffix="€"))
    >>> values.tolist(), bad.tolist()
    ([1053.91, -0.5, nan, nan], [False, False, False, True])
    """
    missing = tuple(missing)
    values = plain_numbers(text, found, missing)
    if values is not None:
        return values, np.zeros(len(text), bool)
    return spelled_numbers(text, found, missing)


def spelled_numbers(
    text: pa.Array, found: NumberFormat, missing: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Do what ``convert_numbers`` does, for cells that ``plain_numbers`` does not take."""
    import pyarrow.compute as pc

    text = in_one_piece(without_missing(clean(text), missing, values=True))
    fits = pc.or_(pc.match_substring_regex(text, _pattern(found)), is_infinite(text))
    bad = _mask(pc.invert(fits))
    text = pc.if_else(fits, text, None)
    for old, new in _replacements(found):
        text = pc.replace_substring(text, old, new)
    negative = pc.ends_with(text, "-")
    text = pc.if_else(negative, pc.binary_join_element_wise("-", text, ""), text)
    text = pc.replace_substring(pc.utf8_rtrim(text, "-"), "--", "")  # (-5) is 5
    return _float64(text.cast("float64")), bad


def plain_numbers(
    text: pa.Array, found: NumberFormat, missing: tuple[str, ...]
) -> np.ndarray | None:
    """Do what ``convert_numbers`` does where no cell is bad, many times faster, or return None.

    Cells are numbers as programs write them, nearly always.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from vae_anomaly.tables.formats import NumberFormat
    >>> plain_numbers(pa.array(["1.5", "", None, "nan"]), NumberFormat(), ()).tolist()
    [1.5, nan, nan, nan]
    """
    import pyarrow as pa

    if not found.is_plain or missing:  # a marker may be a number
        return None
    try:
        values = _float64(text.cast("float64"))
    except pa.ArrowInvalid:
        try:
            text = without_missing(text, values=True)
            values = _float64(text.cast("float64"))
        except pa.ArrowInvalid:
            return None
    is_nan = np.isnan(values)
    if is_nan.any():
        none = text.filter(pa.array(is_nan)).drop_null().unique()
        # Arrow reads nan(1) too.
        if len(without_missing(clean(none), values=True).drop_null()):
            return None
    return values


def is_infinite(text: pa.Array) -> pa.Array:
    """Tell which cells are an infinite number."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(text, r"^[+-]?inf(?:inity)?$", ignore_case=True)


def _pattern(found: NumberFormat) -> str:
    prefix, suffix = re.escape(found.prefix), re.escape(found.suffix)
    number = digits_pattern(found.decimal, found.thousands).replace("[1-9]", r"\d")
    signed = rf"[-+]?(?:{prefix})? ?[-+]? ?{number}(?:[eE][+-]?\d+)?"
    scale = rf" ?[{''.join(SCALES)}]?" if found.scaled else ""
    after = rf"{scale} ?(?:{suffix})?{'[+]?' if found.plus else ''}"
    return rf"^(?:{signed}{after}-?|\({signed}{after}\))$"


def _replacements(found: NumberFormat) -> list[tuple[str, str]]:
    """Return what to replace, in this order, so that a number is as programs write it."""
    around = [(text, "") for text in (found.prefix, found.suffix, found.thousands) if text]
    scales = list(SCALES.items()) if found.scaled else []
    decimal = [(found.decimal, ".")] if found.decimal != "." else []
    return [*around, (" ", ""), *decimal, *scales, ("+", ""), ("(", "-"), (")", "")]


def _float64(numbers: pa.Array) -> np.ndarray:
    values = numbers.to_numpy(zero_copy_only=False)
    return values.astype(np.float64, copy=True)


def _mask(flags: pa.Array) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.fill_null(flags, False).to_numpy(zero_copy_only=False)
