"""How many digits scores get in text files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vae_anomaly.batch.chunks import CONTRIBUTION
from vae_anomaly.batch.places import Target

if TYPE_CHECKING:
    import pyarrow as pa

#: The most decimal digits that a float64 always keeps.
MOST_DIGITS = 15


def check_digits(digits: int | None, targets: Sequence[Target]) -> None:
    """Raise ValueError unless numbers can be written in so many digits, where any are given."""
    if digits is None:
        return
    if not 1 <= digits <= MOST_DIGITS:
        raise ValueError(f"Expected `digits` from 1 to {MOST_DIGITS}. Received: digits={digits!r}.")
    for target in targets:
        if target.format == "parquet":
            raise ValueError(
                f"Expected CSV or TSV to write where `digits` is given. Received: {target.path}. "
                "Leave `digits` out, for Parquet keeps numbers whole."
            )


def in_digits(outputs: Mapping[str, np.ndarray], digits: int | None) -> dict[str, np.ndarray]:
    """Return outputs whose text has that many significant digits.

    Parameters
    ----------
    outputs : mapping of name to array (n,)
    digits : int or None
        Of all floats. None: contributions are float32, since they are sums of few such numbers,
        and others stay as they are; their text is the shortest that tells them.

    Examples
    --------
    >>> in_digits({"score": np.array([-12.3456789, np.nan])}, 3)
    {'score': array([-12.3,   nan])}
    """
    return {name: _shortened(name, values, digits) for name, values in outputs.items()}


def table_in_digits(table: pa.Table, digits: int | None) -> pa.Table:
    """Return a table as ``in_digits`` makes its outputs, which begin with ``score``."""
    import pyarrow as pa

    for index in range(table.column_names.index("score"), table.num_columns):
        name, column = table.column_names[index], table.column(index)
        if pa.types.is_floating(column.type):
            shortened = _shortened(name, column.to_numpy(), digits)
            table = table.set_column(index, name, pa.array(shortened, from_pandas=True))
    return table


def _shortened(name, values, digits):
    if values.dtype.kind != "f":
        return values
    if digits is not None:
        return rounded(values, digits)
    return values.astype(np.float32) if name.startswith(CONTRIBUTION) else values


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Return values rounded to significant digits, as the float64 nearest to such a decimal.

    Parameters
    ----------
    values : float array
    digits : int
        From 1 to 15.

    Examples
    --------
    >>> rounded(np.array([123456.7, 0.00012345, -0.0, np.inf]), 2).tolist()
    [120000.0, 0.00012, -0.0, inf]
    """
    values = np.asarray(values, np.float64)
    usual = np.isfinite(values) & (values != 0)
    size = np.abs(np.where(usual, values, 1.0))
    decimals = digits - 1 - np.floor(np.log10(size)).astype(int)
    # Powers of 10 up to 22 are exact, and so the quotient is the float64 nearest to the decimal.
    exact = usual & (np.abs(decimals) <= 22)
    power = 10.0 ** np.where(exact, np.abs(decimals), 0)
    up = decimals > 0
    whole = np.rint(np.where(up, values * power, values / power))
    shortened = np.where(exact, np.where(up, whole / power, whole * power), values)
    for index in np.flatnonzero(usual & ~exact):  # far from 1: few
        value = float(f"{values[index]:.{digits}g}")
        shortened[index] = value if np.isfinite(value) else values[index]
    return shortened
