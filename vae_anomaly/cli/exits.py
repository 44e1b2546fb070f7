"""How a command ends: errors as one line on stderr, exit codes, signals."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import NoReturn

import click

from vae_anomaly.batch.places import work_folder
from vae_anomaly.batch.run import TooManyBadRowsError

# Errors of the machine, not of the input: the same command may succeed later.
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOMEM)


@contextlib.contextmanager
def reported(output: str | None = None) -> Iterator[None]:
    """Turn warnings, errors and Ctrl-C into lines on stderr, the latter two into an exit code.

    The codes are those that ``vae-anomaly score`` explains.

    Parameters
    ----------
    output : str or None
        Output of a batch that can be resumed.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except Exception as error:
        cause = next((e for e in (error, error.__cause__) if isinstance(e, OSError)), None)
        number = cause.errno if cause else None
        work = None if output is None else work_folder(output)
        kept = work is not None and work.exists()
        if number == errno.EPIPE:  # the reader of standard output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        if isinstance(error, TooManyBadRowsError):
            _exit(3, f"error: {error}" + ("; with another limit, --resume goes on" if kept else ""))
        if kept and (number in _PASSING or isinstance(error, MemoryError)):
            _exit(4, f"error: {error or 'out of memory'}; to go on, run again with --resume")
        if not isinstance(error, (ValueError, TypeError, OSError, FloatingPointError)):
            if kept:
                click.echo(f"the work done is in {work}", err=True)
            raise
        _exit(2, f"error: {error}")
    except KeyboardInterrupt:
        if output is not None:
            _exit(4, "interrupted; to go on, run again with --resume")
        _exit(128 + signal.SIGINT, "interrupted")


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that the work is left in order."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warning(message, *args, **kwargs):
    click.echo(f"warning: {' '.join(str(message).split())}", err=True)


def _exit(code: int, message: str) -> NoReturn:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(code)
