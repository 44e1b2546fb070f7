"""The unfinished part of a batch: a folder from which it can be resumed.

``job.json`` says what is done, with what; ``state.json`` how far it got. The other files grow; what
they hold beyond the lengths in the state does not count, and is written again by a run that
resumes. A run that is killed while it removes the folder, between its last two files and the
folder itself, is the only one whose work is done again.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
from typing import Any

from vae_anomaly.atomic import atomic_file

_JOB, _STATE = "job.json", "state.json"
_OURS = re.compile(r"(\.?(job|state)\.json)(\.part)?|rows-\d+(\.whole)?|quarantine-\d+")


class WorkFolder:
    """Files that grow, and how far the work got; a context manager, which gives the lock back.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    job : dict
        Plain data: what is done, with what. ``job["inputs"]`` is a list of [path, ...].
    resume : bool
        Whether to go on where an earlier run in the folder stopped; else its work is discarded.

    Attributes
    ----------
    state : dict
        What ``commit`` said: ``input`` and ``start`` (where to go on), ``lengths`` (of the files
        that were growing, by name), ``tally`` and ``done``, whether all inputs have been scored.

    Raises
    ------
    ValueError
        The work to resume is another job, another process is at it, or the folder is not ours.
    """

    def __init__(self, folder, job, *, resume):
        self._folder = pathlib.Path(folder)
        self._job = json.loads(json.dumps(job))
        self.state: dict[str, Any] = {
            "job": hashlib.sha256(json.dumps(job).encode()).hexdigest(),
            "input": 0,
            "start": [],
            "lengths": {},
            "tally": None,
            "done": False,
        }
        self._folder.mkdir(exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            self._take(resume)
        except BaseException:
            os.close(self._lock)
            raise

    def _take(self, resume):
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{self._folder}: another run is at work here. Wait for it.") from None
        strange = [name for name in os.listdir(self._folder) if not _OURS.fullmatch(name)]
        if strange:
            raise ValueError(
                f"{self._folder}: expected a folder of unfinished work. Received: {strange[0]} "
                "in it. Move it, or choose another output."
            )
        if resume and self.path(_STATE).exists():
            before = json.loads(self.path(_STATE).read_text())
            if before["job"] != self.state["job"]:
                job = self.path(_JOB).read_text() if self.path(_JOB).exists() else "{}"
                changed = _changed(json.loads(job), self._job)
                raise ValueError(
                    f"{changed} changed since the run to resume started. Start again without "
                    "--resume."
                )
            self.state = before
            return
        self._clear()
        self._write(_JOB, self._job)
        self.commit()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._lock)

    def path(self, name):
        """Return the path of a file in the folder."""
        return self._folder / name

    def is_started(self):
        """Whether there is work that a run can go on from."""
        return self.state["done"] or (self.state["input"], self.state["start"]) != (0, [])

    def commit(self, **state):
        """Record how far the work got; all that it counts must be on the disk."""
        self.state.update(state)
        self._write(_STATE, self.state)

    def remove(self):
        """Remove the folder, once all is done or nothing of it is of use."""
        self._clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _clear(self):
        # The state last: it tells a run that is killed here that all is done.
        for name in sorted(os.listdir(self._folder), key=lambda name: name == _STATE):
            self.path(name).unlink(missing_ok=True)

    def _write(self, name, content):
        with atomic_file(self.path(name)) as file:
            file.write(json.dumps(content).encode())


def _changed(before, job):
    for key, value in job.items():
        if before.get(key) != value:
            if key == "inputs" and len(before.get(key, [])) == len(value):
                pairs = zip(before[key], value, strict=True)
                return next(f"Input {new[0]}" for old, new in pairs if old != new)
            return f"The {key}"
    return "The job"
