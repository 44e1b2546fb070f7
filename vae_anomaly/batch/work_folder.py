"""The unfinished part of a batch: a folder from which it can be resumed.

``job.json`` says what is done, with what; ``state.json`` how far it got, with a hash of itself. The
other files grow; what they hold beyond the lengths in the state does not count, and is written
again by a run that resumes. A run that is killed while it removes the folder, between its last two
files and the folder itself, is the only one whose work is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
from typing import Any

from vae_anomaly.atomic import atomic_file
from vae_anomaly.tables.paths import Path

_JOB, _STATE = "job.json", "state.json"
_OURS = re.compile(r"(\.?(job|state)\.json)(\.part)?|rows-\d+(\.whole)?|quarantine-\d+")


class WorkFolder:
    """Files that grow, and how far the work got; a context manager, which gives the lock back.

    Parameters
    ----------
    folder : path
        Created if it does not exist; in a folder that does.
    job : dict
        Plain data: what is done, with what. ``job["inputs"]`` is a list of [path, ...].
    resume : bool
        Whether to go on where an earlier run in the folder stopped; else its work is discarded.

    Attributes
    ----------
    state : dict
        What ``commit`` said: ``input`` and ``start`` (where to go on), ``lengths`` (of the files
        that grow, by name), ``tally`` and ``done``, whether all inputs have been scored.

    Raises
    ------
    ValueError
        The work to resume is another job or damaged, another process is at it, or the folder has
        other files in it.
    """

    def __init__(self, folder: Path, job: dict[str, Any], *, resume: bool) -> None:
        self._folder = pathlib.Path(folder)
        self._job = json.loads(json.dumps(job))
        self.state: dict[str, Any] = {
            "job": _hash(self._job),
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

    def _take(self, resume: bool) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"{self._folder}: expected no other run at work. Received: another run is at work. "
                "Wait for it."
            ) from None
        strange = [name for name in os.listdir(self._folder) if not _OURS.fullmatch(name)]
        if strange:
            raise ValueError(
                f"{self._folder}: expected a folder of unfinished work. Received: {strange[0]} "
                "in it. Move it, or choose another output."
            )
        if resume and self.path(_STATE).exists():
            self.state = self._earlier_state()
            return
        self._clear()
        self._write(_JOB, self._job)
        self.commit()

    def _earlier_state(self) -> dict[str, Any]:
        """Return the state to go on from, of the same job, whose files are all there."""
        saved = _parsed(self.path(_STATE))
        if not _is_whole(saved):
            raise self._damaged(self.path(_STATE), "a whole file", "one that is damaged")
        state = saved["state"]
        if state["job"] != self.state["job"]:
            changed = _changed(_parsed(self.path(_JOB)), self._job)
            raise ValueError(
                f"{changed} changed since the run to resume started. Start again without `resume`."
            )
        for name, length in state["lengths"].items():
            path = self.path(name)
            size = path.stat().st_size if path.exists() else 0
            # Once all inputs have been scored, the files become the outputs, one by one.
            if size < length and (path.exists() or not state["done"]):
                raise self._damaged(path, f"{length} bytes or more", f"{size} bytes")
        return state

    def _damaged(self, path: pathlib.Path, expected: str, received: str) -> ValueError:
        return ValueError(
            f"{path}: expected {expected}, to go on from. Received: {received}. Start again "
            f"without `resume`, which discards the work in {self._folder}."
        )

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def path(self, name: str) -> pathlib.Path:
        """Return the path of a file in the folder."""
        return self._folder / name

    def is_started(self) -> bool:
        """Whether there is work that a run can go on from."""
        return self.state["done"] or (self.state["input"], self.state["start"]) != (0, [])

    def commit(self, **state: Any) -> None:
        """Record how far the work got; all that it counts must be on the disk.

        Parameters
        ----------
        **state
            What changed in ``state``.
        """
        # As it will be read, for the hash: JSON has no tuples and no keys that are numbers.
        self.state = json.loads(json.dumps({**self.state, **state}))
        self._write(_STATE, {"state": self.state, "sha256": _hash(self.state)})

    def remove(self) -> None:
        """Remove the folder, once all is done or nothing of it is of use."""
        self._clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _clear(self) -> None:
        # The state last: it tells a run that is killed here that all is done.
        for name in sorted(os.listdir(self._folder), key=lambda name: name == _STATE):
            self.path(name).unlink(missing_ok=True)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with atomic_file(self.path(name)) as file:
            file.write(json.dumps(content).encode())


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _is_whole(saved: dict[str, Any]) -> bool:
    try:
        return saved["sha256"] == _hash(saved["state"])
    except (KeyError, RecursionError):
        return False


def _parsed(path: pathlib.Path) -> dict[str, Any]:
    """Return what a file of JSON holds; {} if it is missing, damaged or no object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _changed(before: dict[str, Any], job: dict[str, Any]) -> str:
    """Return what of a job is not as it was."""
    for key, value in job.items():
        if before.get(key) != value:
            old = before.get(key)
            if key == "inputs" and isinstance(old, list) and len(old) == len(value):
                pairs = zip(old, value, strict=True)
                return next(f"Input {now[0]}" for then, now in pairs if then != now)
            return f"The {key}"
    return "The job"
