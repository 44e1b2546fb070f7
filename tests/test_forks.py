"""What scoring says in a forked process, where TensorFlow would wait for ever."""

import os
import select
import signal
import warnings

import pytest

from vae_anomaly.scoring import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def in_a_fork(function):
    """What a function returns in a forked process, or None if that takes longer than a minute."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Of Python 3.12: a fork of a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, function().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        is_ready, _, _ = select.select([answer], [], [], 60)
        said = answer.read().decode() if is_ready else None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said


def error_of(function, *args):
    try:
        function(*args)
    except RuntimeError as error:
        return str(error)
    return "no error"


METHODS = ["score_samples", "predict", "transform", "reconstruct", "explain", "fit"]


@pytest.mark.parametrize("method", METHODS)
def test_a_fork_of_a_process_that_has_computed_is_told_what_to_use_instead(detector, rows, method):
    said = in_a_fork(lambda: error_of(getattr(detector, method), rows[:5]))
    assert said is not None, "it hangs"
    for word in ("fork", "spawn", "loky", "threads"):
        assert word in said


def test_a_fork_of_a_process_that_has_not_computed_is_let_through(monkeypatch):
    monkeypatch.setattr(forks._Process, "has_computed", False)
    assert in_a_fork(lambda: error_of(forks.check_process)) == "no error"


@pytest.mark.slow
def test_a_fork_of_a_process_that_has_not_computed_may_compute(fresh_python):
    code = """
import os
import numpy as np
from vae_anomaly import VAEDetector
if os.fork() == 0:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    print(VAEDetector(max_steps=2).fit(rows).score_samples(rows).shape)
else:
    os.wait()
"""
    assert "(60,)" in fresh_python(code)
