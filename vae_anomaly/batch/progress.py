"""How far a batch, or a fit, got on stderr: a bar on a terminal, now and then a line elsewhere."""

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
    rate = _Rate()
    with _shown() as show:
        yield lambda n_rows, n_anomalies, share: show(
            f"{rate(n_rows)}, {n_anomalies} anomalies", share
        )


class ReadingProgress:
    """Shows what it is told, as ``TableFiles`` calls its ``progress``; a context manager.

    Parameters
    ----------
    quiet : bool
        Whether to show nothing, only to remember.

    Attributes
    ----------
    so_far : str
        How far reading got.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.so_far = "before any row was read"
        self._quiet = quiet
        self._stack = contextlib.ExitStack()
        self._pass = ""
        self._show: Callable[[str, float | None], None] | None = None

    def __enter__(self) -> ReadingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, name: str, n_rows: int, share: float) -> None:
        self.so_far = f"while {name}: {n_rows} rows, {share:.0%} of the files"
        if share >= 1:
            self.so_far = f"after {name}: {n_rows} rows"
        if self._quiet:
            return
        if name != self._pass:
            self._stack.close()
            self._pass, self._rate = name, _Rate()
            self._show = self._stack.enter_context(_shown())
        if self._show is not None:
            self._show(f"{name}: {self._rate(n_rows)}", share)
        if share >= 1:  # training shows a bar of its own
            self._stack.close()
            self._show = None


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[str, float | None], None]]:
    """Yield a function that shows a text, and a share done."""
    if not sys.stderr.isatty():
        yield _logged()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = None

        def show(text, share):
            nonlocal task
            if task is None:  # only now, or the share done before would count for the time left
                task = bar.add_task("", total=None if share is None else 1, completed=share or 0)
            bar.update(task, description=text, completed=share or 0)

        yield show


def _logged():
    last = time.monotonic()

    def log(text, share):
        nonlocal last
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            click.echo(text + ("" if share is None else f", {share:.0%} read"), err=True)

    return log


class _Rate:
    """Rows, and their rate once it is known."""

    def __init__(self):
        self._first = None  # (rows, moment) of the first call: an earlier run may have done some

    def __call__(self, n_rows):
        now = time.monotonic()
        if self._first is None:
            self._first = n_rows, now
        rows, moment = self._first
        rate = f", {(n_rows - rows) / (now - moment):.0f} rows/s" if n_rows > rows else ""
        return f"{n_rows} rows{rate}"
