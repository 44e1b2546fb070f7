"""Kill what writes files at random moments, start it again, and count what is lost.

``python -m benchmarks.robustness.kills --kills 30 --seed 0`` prints a line for each door:

==========  ==================================================================================
csv         ``score_files`` to a CSV file, which grows as it is
csv.gz      to a compressed one
parquet     to one that is made of pieces at the end
folder      to a folder, a file for each input
top         to a file of the lowest-scoring rows only
save        a detector's folder that is written over and over again
export      ``vae-anomaly export``, of which each run takes seconds; a tenth of the kills
==========  ==================================================================================

After each kill the same is started again (``resume=True``); when it ends, all files must be those
of a run that was never killed. ``--points`` ends the process before every operation that the file
system can see, instead of at random moments. Scores are those of a stand-in without TensorFlow, for
this is about files.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas  # noqa: F401 - not in every child again
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from vae_anomaly.batch import pipeline, tables
from vae_anomaly.batch.places import work_folder
from vae_anomaly.batch.run import score_files
from vae_anomaly.detectors import artifact
from vae_anomaly.tables.schema import Schema

ROWS = {"points": 9, "moments": 30}
CHUNK_ROWS = 3
COMMAND = [sys.executable, "-m", "vae_anomaly"]
OPERATIONS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")
# The longest that a child may take before it counts as hanging, in seconds.
PATIENCE = 60.0

#: What ``score_files`` is given for each door: an output, and options.
BATCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("out.csv", {}),
    "csv.gz": ("out.csv.gz", {}),
    "parquet": ("out.parquet", {}),
    "folder": ("out/", {}),
    "top": ("out.csv", {"top": 7}),
}


class Found(NamedTuple):
    """What a door did under its kills."""

    kills: int
    rows_lost: int
    differences: int
    tracebacks: int
    hangs: int


class Scorer:
    """Scores by the size of a number, slowly."""

    n_calibration = 200
    calibration_scores = SimpleNamespace(numpy=lambda: np.linspace(-50, 0, 200))
    preprocessor = SimpleNamespace(
        kinds={"a": "numeric"},
        levels={},
        profiles=(),
        since={},
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


def score(folder, door, resume, seconds=0.0):
    output, options = BATCHES[door]
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    detector = SimpleNamespace(
        scorer_=Scorer(log, seconds),
        _input=SimpleNamespace(
            name="table", schema=Schema.of_kinds({"a": "numeric", "note": "id"})
        ),
        offset_=-7.5,
        is_pooled=False,
    )
    score_files(
        [folder / "0.csv", folder / "1.csv"],
        detector,
        f"{folder}/{output}",
        summary=folder / "summary.json",
        resume=resume,
        chunk_rows=CHUNK_ROWS,
        **options,
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
    """Return the exit code of a child, or None if it had to be killed for hanging."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


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


def contents(folder):
    """Return the bytes of each file but the log, with the folder's name taken out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "log")
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(bytes(folder), b"")
        for path in files
    }


def n_rows(folder, door):
    """Return how many rows came out, those in the quarantine counted."""
    output = BATCHES[door][0]
    paths = (folder / "out").glob("*") if output.endswith("/") else folder.glob("out*")
    count = 0
    for path in paths:
        if path.suffix == ".parquet":
            count += pyarrow.parquet.read_metadata(path).num_rows
        elif path.is_file():
            with pyarrow.input_stream(path) as stream:  # decompresses by suffix
                count += stream.read().count(b"\n") - 1
    return count


def check(folder, expected, door, kills):
    """Return rows lost and files that differ from those of the uninterrupted run."""
    found, wanted = contents(folder), contents(expected)
    differences = [name for name in {*found, *wanted} if found.get(name) != wanted.get(name)]
    n_scored = (folder / "log").stat().st_size
    # What was not yet committed, and what was on the way.
    most = (pipeline._CHUNKS_PER_COMMIT + 3) * CHUNK_ROWS
    if n_scored > (expected / "log").stat().st_size + kills * most:
        differences.append(f"{n_scored} rows scored")
    for name in differences:
        print(f"{door}: differs: {name}", file=sys.stderr)
    lost = max(0, n_rows(expected, door) - n_rows(folder, door)) if differences else 0
    return lost, len(differences)


def is_done(folder, door):
    """Say whether only the work folder was left to remove, and remove it."""
    work = work_folder(f"{folder}/{BATCHES[door][0]}")
    done = (folder / "summary.json").exists() and not (work / "state.json").exists()
    if done:
        shutil.rmtree(work, ignore_errors=True)
    return done


def at_every_point(folder, door, expected):
    lost = differences = tracebacks = hangs = 0
    for point in itertools.count():
        make(folder, ROWS["points"])
        code = end(in_child(die_at, point, folder, door, False))
        if code == 0:
            return Found(point, lost, differences, tracebacks, hangs)
        tracebacks, hangs = tracebacks + (code == 1), hangs + (code is None)
        n_scored = (folder / "log").stat().st_size
        is_complete = set(contents(expected)) <= set(contents(folder))
        if not is_done(folder, door):
            code = end(in_child(score, folder, door, True))
            tracebacks, hangs = tracebacks + (code == 1), hangs + (code is None)
            # Where all files are, nothing is scored again.
            differences += is_complete and (folder / "log").stat().st_size > n_scored
        more = check(folder, expected, door, 1)
        lost, differences = lost + more[0], differences + more[1]
        shutil.rmtree(folder)


def at_random_moments(folder, door, expected, most, rng):
    kills = since = lost = differences = tracebacks = hangs = 0
    make(folder, ROWS["moments"])
    while kills < most or since:
        pid = in_child(score, folder, door, since > 0, 0.002)
        if kills < most:
            time.sleep(rng.uniform(0, 0.15))
            os.kill(pid, signal.SIGKILL)
        code = end(pid)
        if code == -signal.SIGKILL:
            kills, since = kills + 1, since + 1
            if not is_done(folder, door):
                continue
        else:
            tracebacks, hangs = tracebacks + (code == 1), hangs + (code is None)
        more = check(folder, expected, door, since)
        lost, differences, since = lost + more[0], differences + more[1], 0
        shutil.rmtree(folder)
        make(folder, ROWS["moments"])
    return Found(kills, lost, differences, tracebacks, hangs)


def kill_batch(folder, door, most, rng):
    """Kill ``score_files``: ``most`` times, or before every operation if that is None."""
    when = "points" if most is None else "moments"
    expected = folder / "expected"
    make(expected, ROWS[when])
    assert end(in_child(score, expected, door, False)) == 0
    if most is None:
        return at_every_point(folder / "killed", door, expected)
    return at_random_moments(folder / "killed", door, expected, most, rng)


def fit(folder):
    """Fit a small detector in a process of its own; return its folder."""
    (folder / "t.csv").write_text("a\n" + "\n".join(str(x * x % 97) for x in range(60)))
    command = [*COMMAND, "fit", "t.csv", "--model", "m", "--max-steps", "5", "--hidden-units", "4"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "m"


def save_forever(folder, content, weights):
    for number in itertools.count():
        artifact.write(folder, {**content, "offset": float(number)}, weights)


def kill_save(folder, most, rng):
    """Kill what writes a detector's folder; at every moment it must be a whole one."""
    model, differences = fit(folder), 0
    content = artifact.read(model)
    weights = artifact.read_weights(model, content)
    del content["versions"]
    for _ in range(most):
        pid = in_child(save_forever, model, content, weights)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        try:
            artifact.read_weights(model, artifact.read(model))
        except artifact.ArtifactError as error:
            print(f"save: {error}", file=sys.stderr)
            differences += 1
    artifact.write(model, content, weights)
    differences += sorted(os.listdir(folder)) != ["m", "t.csv"]
    return Found(most, 0, differences, 0, 0)


def kill_export(folder, most, rng):
    """Kill ``vae-anomaly export``; every version must be whole, and nothing else be left."""
    command = [*COMMAND, "export", fit(folder), "--output", "served"]
    started = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    seconds, kills, tracebacks = time.monotonic() - started, 0, 0
    while kills < most:
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.2, 1.0) * seconds)
            process.kill()
            _, stderr = process.communicate()
            kills += process.returncode == -signal.SIGKILL
            tracebacks += b"Traceback" in stderr
    last = subprocess.run(command, cwd=folder, check=False, capture_output=True)
    tracebacks += last.returncode != 0
    names = os.listdir(folder / "served")
    whole = [
        n for n in names if n.isdigit() and (folder / "served" / n / "saved_model.pb").exists()
    ]
    return Found(kills, 0, len(names) - len(whole), tracebacks, 0)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    doors = [*BATCHES, "save", "export"]
    parser.add_argument("--doors", nargs="+", choices=doors, default=doors)
    parser.add_argument("--kills", type=int, default=30, help="of each door; see above for export")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", action="store_true", help="of what score_files writes")
    args = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".* was left by a process that was killed")
    tables.fingerprint = lambda scorer: "a stand-in"
    pipeline._CHUNKS_PER_COMMIT = 2
    print(f"{'door':8} {'kills':>6} {'rows lost':>10} {'differences':>12} tracebacks hangs")
    total = Found(0, 0, 0, 0, 0)
    for door in args.doors:
        rng = random.Random(f"{door} {args.seed}")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            if door == "save":
                found = kill_save(path, args.kills, rng)
            elif door == "export":
                found = kill_export(path, max(1, args.kills // 10), rng)
            else:
                found = kill_batch(path, door, None if args.points else args.kills, rng)
        show(door, found)
        total = Found(*map(sum, zip(total, found, strict=True)))
    show("all", total)
    return int(any(total[1:]))


def show(door, found):
    kills, lost, differences, tracebacks, hangs = found
    print(f"{door:8} {kills:6} {lost:10} {differences:12} {tracebacks:10} {hangs:5}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
