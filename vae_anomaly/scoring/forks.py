"""Whether this process was forked from one in which TensorFlow has computed: then it would hang."""

import os


class _Process:
    has_computed = False
    is_forked_late = False


def note_computation() -> None:
    """Remember that TensorFlow has computed here: forks from now on lose its threads."""
    _Process.has_computed = True


def check_process() -> None:
    """Refuse to compute in a forked process that has lost TensorFlow's threads.

    Raises
    ------
    RuntimeError
        With what to start processes by instead.
    """
    if _Process.is_forked_late:
        raise RuntimeError(
            "Expected a process of its own, or a thread. Received a fork of a process in which "
            "TensorFlow has computed: threads are lost in a fork, so scoring would wait for ever. "
            "Start processes with multiprocessing.get_context('spawn') or joblib's 'loky', or use "
            "threads, which TensorFlow lets compute at the same time."
        )


def _note_fork() -> None:
    _Process.is_forked_late = _Process.has_computed


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_note_fork)
