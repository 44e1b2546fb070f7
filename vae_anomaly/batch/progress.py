"""How far a batch got, on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click

# Seconds between two lines where there is no terminal.
_LOG_SECONDS = 30


@contextlib.contextmanager
def shown_progress() -> Iterator[Callable[[int, int, float | None], None]]:
    """Yield a function that shows what it is told, as ``score_files`` calls its ``progress``."""
    text = _Text()
    if not sys.stderr.isatty():
        yield _logged(text)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = None

        def show(n_rows, n_anomalies, share):
            nonlocal task
            if task is None:  # only now, or the share done before would count for the time left
                task = bar.add_task("", total=None if share is None else 1, completed=share or 0)
            bar.update(task, description=text(n_rows, n_anomalies), completed=share or 0)

        yield show


def _logged(text):
    last = time.monotonic()

    def log(n_rows, n_anomalies, share):
        nonlocal last
        line = text(n_rows, n_anomalies)
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            click.echo(line + ("" if share is None else f", {share:.0%} read"), err=True)

    return log


class _Text:
    """Rows, their rate once it is known, and anomalies."""

    def __init__(self):
        self._first = None  # (rows, moment) of the first call: an earlier run may have done some

    def __call__(self, n_rows, n_anomalies):
        now = time.monotonic()
        if self._first is None:
            self._first = n_rows, now
        rows, moment = self._first
        rate = f"{(n_rows - rows) / (now - moment):.0f} rows/s, " if n_rows > rows else ""
        return f"{n_rows} rows, {rate}{n_anomalies} anomalies"
