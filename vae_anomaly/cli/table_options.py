"""The options of the command line that say how a table is written and what its columns are."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--schema",
        type=click.Path(dir_okay=False, path_type=pathlib.Path),
        help="JSON file of 'inspect --output', perhaps edited, instead of looking at the cells.",
    ),
    click.option("--numeric", multiple=True, metavar="COLUMN", help="Model it as numbers."),
    click.option("--categorical", multiple=True, metavar="COLUMN", help="Model it as categories."),
    click.option(
        "--datetime",
        "datetimes",
        multiple=True,
        metavar="COLUMN[=FORMAT]",
        help="Model it as dates, such as ordered=%d.%m.%Y.",
    ),
    click.option(
        "--id", "ids", multiple=True, metavar="COLUMN", help="Keep it, but do not model it."
    ),
    click.option(
        "--drop", multiple=True, metavar="COLUMN", help="Neither model it nor write it back."
    ),
    click.option(
        "--na-values",
        multiple=True,
        metavar="TEXT",
        help="Cells that are missing, besides empty ones, NA, N/A, null, None and the like.",
    ),
    click.option("--delimiter", help="Separator of CSV.  [default: as found]"),
    click.option("--encoding", help="Encoding of CSV.  [default: UTF-8, or by its mark]"),
    click.option(
        "--decimal", type=click.Choice([".", ","]), help="Decimal mark, where cells do not tell."
    ),
    click.option(
        "--thousands",
        type=click.Choice([",", ".", " ", "'"]),
        help="Mark between thousands, where cells do not tell.",
    ),
    click.option("--no-header", is_flag=True, help="The first row of CSV holds no names."),
    click.option(
        "--skip-lines", type=click.IntRange(0), help="Lines of CSV above the table to skip."
    ),
    click.option("--comment", help="Lines of CSV that start with this are no rows."),
)


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; see ``fit_files.table_schema``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
