"""A batch that is killed again and again, and resumed: a program, run by test_batch.py.

``python -m tests.kills FOLDER SUFFIX points`` ends the process before every operation that
the file system can see; with ``moments`` it is killed at random moments. The detector is one
without TensorFlow, for this is about files.
"""

import itertools
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import traceback
from types import SimpleNamespace

import numpy as np
import pandas  # noqa: F401 - not in every child again
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet  # noqa: F401

from vae_anomaly.batch import pipeline, tables
from vae_anomaly.batch import run as batch

ROWS = {"points": 9, "moments": 30}
CHUNK_ROWS = 3
OPERATIONS = ("replace", "fsync", "unlink", "rmdir", "mkdir")


class Scorer:
    """Scores by the size of a number, slowly."""

    calibration_scores = SimpleNamespace(numpy=lambda: np.linspace(-50, 0, 200))
    preprocessor = SimpleNamespace(
        kinds={"a": "numeric"},
        levels={},
        max_levels=0,
        schema=lambda: [{"name": "a", "kind": "numeric", "missing_share": 0.0}],
    )

    def __init__(self, log, seconds):
        self._log, self._seconds = log, seconds

    def run(self, arrays, names):
        time.sleep(self._seconds)
        os.write(self._log, b"x" * len(arrays["a"]))
        score = -np.abs(arrays["a"])
        outputs = {"score": score, "p_value": np.exp(score), "feature_log_prob": score[:, None]}
        return {name: outputs[name] for name in names}


def make(folder, n_rows):
    """Write two inputs, each with bad rows at both ends and in between."""
    folder.mkdir()
    for number in range(2):
        rows = [f"{i},note {number}" + (",too many" if i % 8 == 0 else "") for i in range(n_rows)]
        (folder / f"{number}.csv").write_text("\n".join(["a,note", *rows]))


def score(folder, suffix, resume, seconds=0.0):
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    detector = SimpleNamespace(scorer_=Scorer(log, seconds), kinds={"note": "id"}, offset_=-7.5)
    batch.score_files(
        [folder / "0.csv", folder / "1.csv"],
        detector,
        folder / f"out.{suffix}",
        summary=folder / "summary.json",
        resume=resume,
        chunk_rows=CHUNK_ROWS,
    )
    os.close(log)


def in_child(function, *args):
    """Start a child that does something and ends; return its process number."""
    pid = os.fork()
    if pid == 0:
        try:
            function(*args)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(point, *args):
    """Score, but end the process before an operation, counted from 0."""
    left = itertools.count(point, -1)

    def wrapped(operation):
        def run(*args, **kwargs):
            if next(left) == 0:
                os._exit(9)
            return operation(*args, **kwargs)

        return run

    for name in OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))
    score(*args)


def check(folder, expected, kills):
    """Check that all files are those of the uninterrupted run, and that little was done twice."""
    for path in folder.iterdir():
        if path.name != "log":
            content, whole = (f.read_bytes() for f in (path, expected / path.name))
            assert content.replace(bytes(folder), bytes(expected)) == whole, path
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}
    n_scored = (folder / "log").stat().st_size
    # What was not yet committed, and what was on the way.
    most = (pipeline._CHUNKS_PER_COMMIT + 3) * CHUNK_ROWS
    assert n_scored <= (expected / "log").stat().st_size + kills * most, n_scored


def at_every_point(folder, suffix, expected):
    for point in itertools.count():
        make(folder, ROWS["points"])
        code = end(in_child(die_at, point, folder, suffix, False))
        if code == 0:
            return point
        assert code == 9, code
        complete = (folder / f"out.{suffix}").exists()
        n_scored = (folder / "log").stat().st_size
        state = folder / f"out.{suffix}.partial" / "state.json"
        if complete and not state.exists():
            # All was done but for the folder; and so there is nothing to resume.
            shutil.rmtree(folder)
            continue
        assert end(in_child(score, folder, suffix, True)) == 0, point
        if complete:
            assert (folder / "log").stat().st_size == n_scored, point
        check(folder, expected, 1)
        shutil.rmtree(folder)


def at_random_moments(folder, suffix, expected):
    rng, kills, since = random.Random(0), 0, 0
    make(folder, ROWS["moments"])
    while kills < 25:
        pid = in_child(score, folder, suffix, since > 0, 0.002)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(pid, signal.SIGKILL)
        code = end(pid)
        if code == -signal.SIGKILL:
            kills, since = kills + 1, since + 1
            continue
        assert code == 0, code
        check(folder, expected, since)
        shutil.rmtree(folder)
        make(folder, ROWS["moments"])
        since = 0
    assert end(in_child(score, folder, suffix, True)) == 0
    check(folder, expected, since)
    return kills


def main(folder, suffix, when):
    tables.fingerprint = lambda scorer: ""
    pipeline._CHUNKS_PER_COMMIT = 2
    folder = pathlib.Path(folder)
    expected = folder / "expected"
    make(expected, ROWS[when])
    assert end(in_child(score, expected, suffix, False)) == 0
    how = {"points": at_every_point, "moments": at_random_moments}[when]
    print(how(folder / "killed", suffix, expected))


if __name__ == "__main__":
    main(*sys.argv[1:])
