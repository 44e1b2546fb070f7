"""The first import of TensorFlow: without what its libraries write to stderr, and its threads."""

import importlib
import os
import re
import sys
import tempfile

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# What the libraries log while they are loaded: "I0000 00:00:17 port.cc:153] oneDNN ...".
_GREETING = re.compile(
    rb"[IWEF]?\d{4,}|\d{4}-\d\d-\d\d |WARNING: All log messages before absl|To ena"
)


def import_tensorflow() -> None:
    """Import TensorFlow, if it is not yet, and keep its greetings from stderr.

    What the user set in the environment variable ``TF_CPP_MIN_LOG_LEVEL`` stays; 0 shows all. If
    it is not set, TensorFlow logs nothing below fatal errors: what matters it raises as well.
    Whatever else is written to stderr meanwhile appears after the import.
    """
    if "tensorflow" in sys.modules:
        return
    chosen = os.environ.get(_LOG_LEVEL)
    if chosen == "0" or sys.stderr is None:
        importlib.import_module("tensorflow")
        return
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        os.environ.setdefault(_LOG_LEVEL, "3")
        try:
            importlib.import_module("tensorflow")
        finally:
            if chosen is None:
                del os.environ[_LOG_LEVEL]
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if not _GREETING.match(line):
                    os.write(2, line)


def limit_threads(count: int) -> None:
    """Let TensorFlow compute with this number of threads, if it has not computed yet.

    Environment variables that the user has set stay.
    """
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, str(count))


def operations_at_once() -> int:
    """Return how many operations TensorFlow computes side by side.

    As many as the environment variable ``TF_NUM_INTEROP_THREADS`` says, or else as there are
    processors for this process.
    """
    from joblib import cpu_count

    chosen = os.environ.get("TF_NUM_INTEROP_THREADS", "")
    return (int(chosen) if chosen.isdecimal() else 0) or cpu_count()


def set_threads_per_operation(count: int | None) -> None:
    """Let TensorFlow compute each operation in this number of threads, if it is not imported yet.

    For commands, whose process is theirs. None: as many as TensorFlow chooses. What the user has
    set in the environment stays.
    """
    if count is not None and "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(count))
