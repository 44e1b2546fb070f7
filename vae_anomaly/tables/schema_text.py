"""A schema as a table for people to read in a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from vae_anomaly.tables.dialect import Dialect

if TYPE_CHECKING:
    from rich.console import Console

    from vae_anomaly.tables.schema import ColumnSchema, Schema

_USE = {
    "numeric": "modelled as numbers",
    "boolean": "modelled as true or false",
    "datetime": "modelled as dates",
    "timestamp": "modelled as moments",
    "categorical": "modelled as levels",
    "id": "kept, not modelled",
    "text": "kept, not modelled",
    "dropped": "left out",
}
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "spaces"}
_LONGEST = 40


def dialect_text(dialect: Dialect) -> str:
    r"""Return a dialect in words.

    Examples
    --------
    >>> dialect_text(Dialect(delimiter=";", units_row=True))
    'delimiter: semicolon; encoding: utf-8; names: first row; units: row below the names'
    """
    header = {"row": "first row", "comment": "last comment above the rows", "none": "none"}
    parts = {
        "delimiter": _NAMES.get(dialect.delimiter, dialect.delimiter),
        "quote": dialect.quotechar if dialect.quotechar != '"' else "",
        "encoding": dialect.encoding,
        "names": header[dialect.header],
        "lines skipped": str(dialect.skip_lines or ""),
        "comments": dialect.comment,
        "units": "row below the names" if dialect.units_row else "",
        "rows end with": "the delimiter" if dialect.trailing_delimiter else "",
        "spaces after delimiters": "left out" if dialect.spaced else "",
        "rows begin with": "names of their own" if dialect.row_names else "",
    }
    return "; ".join(f"{name}: {text}" for name, text in parts.items() if text)


def schema_text(schema: Schema) -> str:
    """Return as text, 100 characters wide, what ``print_schema`` prints."""
    from rich.console import Console

    text = io.StringIO()
    # In a notebook, too, it is text.
    console = Console(file=text, width=100, color_system=None, force_jupyter=False)
    print_schema(schema, console)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def print_schema(schema: Schema, console: Console) -> None:
    """Print what was decided about a table: its dialect, its columns, and notes on them.

    Parameters
    ----------
    schema : Schema
    console : rich.console.Console
    """
    from rich.text import Text

    if schema.dialect:
        console.print(Text(dialect_text(schema.dialect)))
    console.print(_columns(schema))
    for note in schema.notes:
        console.print(Text(note.message), soft_wrap=True)


def _columns(schema: Schema) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, pad_edge=False)
    for title in ("column", "kind", "format", "examples", "distinct", "missing", "use"):
        table.add_column(title, justify="right" if title in ("distinct", "missing") else "left")
    for name, column in schema.columns.items():
        cells = (
            f"{name} [{column.unit}]" if column.unit else name,
            column.kind,
            column.format_text,
            _examples(column),
            f"{column.n_distinct:,}",
            f"{column.missing_share:.1%}" if column.missing_share else "",
            _USE[column.kind],
        )
        table.add_row(*map(Text, cells))
    return table


def _examples(column: ColumnSchema) -> str:
    text = ", ".join(column.examples)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
