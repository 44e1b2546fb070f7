"""What was decided of a table, once: its dialect and its columns, as JSON that people can edit."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vae_anomaly.tables.cells import clean, without_missing
from vae_anomaly.tables.date_cells import convert_dates, epoch_seconds
from vae_anomaly.tables.dates import EPOCHS, DateFormat
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.durations import clocks_as_seconds, with_seconds
from vae_anomaly.tables.formats import PLAIN, NumberFormat
from vae_anomaly.tables.number_cells import convert_numbers, plain_numbers, spelled_numbers
from vae_anomaly.tables.rules import DATE_KINDS, KINDS, UNMODELLED_KINDS
from vae_anomaly.tables.schema_text import schema_text

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
NOT_MODELLED = UNMODELLED_KINDS
_T = TypeVar("_T")


@dataclass(frozen=True)
class Note:
    """A probable mistake in a table, and what to do about it.

    Attributes
    ----------
    code : str
        A short name, for programs.
    column : str or None
        None if it is about the whole table.
    message : str
        Names the column, the reason, an example and the way out.
    """

    code: str
    column: str | None
    message: str


@dataclass(frozen=True)
class ColumnSchema:
    """What was decided of a column, and what its cells showed.

    Attributes
    ----------
    kind : {"numeric", "boolean", "datetime", "timestamp", "categorical", "id", "text", "dropped"}
        The last three are not modelled; ids and texts are written back.
    numbers : NumberFormat
        How its numbers are spelled, if it is numeric.
    dates : DateFormat or None
        How its dates are spelled, if it is datetime; None if they were no text.
    unit : str
        As the row below the names says.
    examples : tuple of str
    n_distinct : int
        How many of its values differ; from about 8000 on with a standard error of 1%.
    missing_share : float
        Of its cells.
    n_bad : int
        How many cells are neither missing nor of this kind and format.
    """

    kind: str
    numbers: NumberFormat = PLAIN
    dates: DateFormat | None = None
    unit: str = ""
    examples: tuple[str, ...] = ()
    n_distinct: int = 0
    missing_share: float = 0.0
    n_bad: int = 0

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, (*KINDS, *NOT_MODELLED))

    @property
    def format_text(self) -> str:
        """Return the format for people, by an example or a pattern; "" if it is the usual one."""
        if self.kind == "numeric" and not self.numbers.is_plain:
            return self.numbers.example()
        return self.dates.pattern if self.kind in DATE_KINDS and self.dates else ""

    def read(self, text: pa.Array, missing: Iterable[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Turn cells of a numeric, boolean or datetime column into numbers.

        Parameters
        ----------
        text : pyarrow.Array of strings, (n,)
        missing : iterable of str
            Markers of missing cells besides the usual ones.

        Returns
        -------
        values : numpy.ndarray, (n,), float64
            Booleans as 1 and 0, dates as seconds since 1970-01-01 UTC, missing and bad cells NaN.
        bad : numpy.ndarray, (n,), bool

        Examples
        --------
        >>> import pyarrow as pa
        >>> values, bad = ColumnSchema("boolean").read(pa.array(["true", "0", "no", None]))
        >>> values.tolist(), bad.tolist()
        ([1.0, 0.0, nan, nan], [False, False, True, False])
        """
        if self.kind == "boolean":
            return _read_booleans(text, missing)
        if self.kind not in DATE_KINDS:
            return _read_numbers(text, self.numbers, missing)
        pattern = self.dates or DateFormat("%Y-%m-%d")
        if pattern.pattern not in EPOCHS:
            return convert_dates(text, pattern, missing)
        values, bad = convert_numbers(text, PLAIN, missing)
        return epoch_seconds(values, pattern.pattern), bad

    def read_numbers(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn numbers that stand for dates, such as 20240131, into seconds since 1970-01-01 UTC.

        Also return where a number stands for none; it becomes NaN.
        """
        pattern = self.dates.pattern if self.dates else ""
        if pattern in EPOCHS:
            return epoch_seconds(values, pattern), np.zeros(len(values), dtype=bool)
        import pyarrow as pa

        days = [None if value != value else f"{value:.0f}" for value in values]
        return convert_dates(pa.array(days, "string"), self.dates or DateFormat("%Y%m%d"))

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold, without what is as usual."""
        found: dict[str, Any] = {"kind": self.kind}
        if self.kind == "numeric" and not self.numbers.is_plain:
            found["format"] = self.numbers.to_json()
        if self.kind in DATE_KINDS and self.dates:
            found["format"] = self.dates.pattern
        if self.unit:
            found["unit"] = self.unit
        return {
            **found,
            "examples": list(self.examples),
            "distinct": self.n_distinct,
            "missing": self.missing_share,
            "bad": self.n_bad,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> ColumnSchema:
        """Return what `to_json` gave; only the kind must be there.

        Raises
        ------
        ValueError
            Of an unknown key, kind or format.
        """
        known = ("kind", "format", "unit", "examples", "distinct", "missing", "bad")
        for key in found:
            _check_choice("key", key, known)
        spelled = found.get("format")
        is_numeric = found.get("kind") == "numeric"
        return cls(
            found.get("kind", ""),
            _built(NumberFormat, spelled) if spelled and is_numeric else PLAIN,
            DateFormat(spelled) if spelled and found["kind"] in DATE_KINDS else None,
            found.get("unit", ""),
            tuple(found.get("examples", ())),
            found.get("distinct", 0),
            found.get("missing", 0.0),
            found.get("bad", 0),
        )


@dataclass(frozen=True)
class Schema:
    """What was decided of a table.

    Attributes
    ----------
    columns : dict of str to ColumnSchema
        In the order of the table.
    dialect : Dialect or None
        Of text files; None if the table came otherwise.
    missing : tuple of str
        Markers of missing cells besides the usual ones.
    notes : tuple of Note

    Examples
    --------
    >>> schema = Schema({"age": ColumnSchema("numeric"), "name": ColumnSchema("id")})
    >>> schema.kinds
    {'age': 'numeric'}
    >>> Schema.from_json(schema.to_json()) == schema
    True
    """

    columns: dict[str, ColumnSchema]
    dialect: Dialect | None = None
    missing: tuple[str, ...] = ()
    notes: tuple[Note, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        """Return the table that ``inspect`` prints on the command line."""
        return schema_text(self)

    @property
    def kinds(self) -> dict[str, str]:
        """Return the kinds of the columns that are modelled."""
        return {name: c.kind for name, c in self.columns.items() if c.kind in KINDS}

    @property
    def unmodelled(self) -> list[str]:
        """Return the names of the columns that are not modelled."""
        return [name for name, c in self.columns.items() if c.kind not in KINDS]

    @classmethod
    def of_kinds(cls, kinds: Mapping[str, str]) -> Schema:
        """Return the schema of columns whose cells are spelled as programs do."""
        iso = dict.fromkeys(DATE_KINDS, DateFormat("%Y-%m-%d"))
        return cls({n: ColumnSchema(kind, dates=iso.get(kind)) for n, kind in kinds.items()})

    def to_json(self) -> str:
        """Return the schema as text that people can read and edit."""
        found = {
            "version": VERSION,
            "dialect": self.dialect and self.dialect.to_json(),
            "missing": list(self.missing),
            "columns": {name: column.to_json() for name, column in self.columns.items()},
            "warnings": [note.message for note in self.notes],
        }
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Return the schema that text of `to_json`, perhaps edited, stands for.

        Raises
        ------
        ValueError
            If it is no such text; the column and the key are named.
        """
        try:
            found = json.loads(text)
            version = found["version"]
            columns = found["columns"].items()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                'Expected a schema: JSON with "version" and "columns", as inspect writes it. '
                f"Received: {text[:40]!r}... ({error})."
            ) from error
        if version != VERSION:
            raise ValueError(
                f"Expected a schema of version {VERSION}. Received: version {version!r}. "
                "Write it again with inspect."
            )
        dialect = found.get("dialect")
        return cls(
            {name: _named(name, column) for name, column in columns},
            _built(Dialect, dialect) if dialect else None,
            tuple(found.get("missing", ())),
        )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Schema:
        """Return the schema that a file of `inspect` holds.

        Raises
        ------
        ValueError
            If the file can't be read, or is no schema.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: expected a schema. Received: {error}.") from error
        return cls.from_json(text)


def _named(name: str, found: Mapping[str, Any]) -> ColumnSchema:
    try:
        return ColumnSchema.from_json(found)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"Schema, column {name!r}: {error}") from error


def _built(kind: type[_T], found: Mapping[str, Any]) -> _T:
    if not isinstance(found, Mapping):
        raise ValueError(f"Expected keys and values. Received: {found!r}.")
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in found:
        _check_choice("key", key, known)
    return kind(**found)


def _check_choice(what: str, received: str, known: Iterable[str]) -> None:
    known = list(known)
    if received not in known:
        near = difflib.get_close_matches(str(received), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Expected a {what} among {known}. Received: {received!r}.{hint}")


def _read_numbers(
    text: pa.Array, spelling: NumberFormat, missing: Iterable[str]
) -> tuple[np.ndarray, np.ndarray]:
    missing = tuple(missing)
    values = plain_numbers(text, spelling, missing)
    if values is not None:
        return values, np.zeros(len(text), bool)
    seconds = with_seconds(text)
    if spelling.clock:
        seconds = clocks_as_seconds(clean(seconds))
    values, bad = spelled_numbers(seconds, spelling, missing)
    if bad.any():  # true and false are 1 and 0 wherever numbers are
        words, are_none = _read_booleans(text, missing)
        values, bad = np.where(bad & ~are_none, words, values), bad & are_none
    return values, bad


def _read_booleans(text: pa.Array, missing: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_lower(without_missing(clean(text), missing, values=True))
    words = pa.array(["false", "true", "0", "1", "0.0", "1.0"])
    index = pc.index_in(text, value_set=words)
    bad = pc.and_(pc.is_valid(text), pc.is_null(index)).to_numpy(zero_copy_only=False)
    values = index.cast("float64").to_numpy(zero_copy_only=False) % 2
    return values, bad
