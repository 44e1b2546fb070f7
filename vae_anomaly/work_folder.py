"""The unfinished part of a batch: a folder beside the output, from which it can be resumed.

``job.json`` says what is done, ``state.json`` how far it got. A part that the state does not count
does not exist; a run that resumes writes it again.
"""

import fcntl
import json
import os
import pathlib
import shutil
from contextlib import suppress
from typing import Any

from vae_anomaly.table_io import TableError, TableWriter

_JOB, _STATE = "job.json", "state.json"


class WorkFolder:
    """Finished parts of the output, and how far the work got; a context manager.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    job : dict
        Plain data: what is done, with what. ``job["inputs"]`` is a list of [path, ...].
    resume : bool
        Whether to go on where an earlier run in the folder stopped; else its work is discarded.
    formats : sequence of {"csv", "tsv", "parquet"}
        Of the parts, for each input.
    headers : sequence of bool
        Whether the first CSV part of an input starts with the names of the columns.

    Attributes
    ----------
    state : dict
        What the last ``commit`` said, with ``n_parts`` of each input.

    Raises
    ------
    ValueError
        The work to resume is another job, or another process is at it.
    """

    def __init__(self, folder, job, formats, headers, *, resume):
        self._folder = pathlib.Path(folder)
        self._formats, self._headers = formats, headers
        self._writer = None
        self._bad = b""
        job = json.loads(json.dumps(job))
        self.state: dict[str, Any] = {
            "n_parts": [0] * len(job["inputs"]),
            "input": 0,
            "start": [],
            "tally": None,
        }
        self._folder.mkdir(exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            self._take(job, resume)
        except BaseException:
            self._lock.close()
            raise

    def _take(self, job, resume):
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"{self._folder}: another run is at work here. Wait for it."
            ) from error
        if resume and (self._folder / _JOB).exists():
            before = json.loads((self._folder / _JOB).read_text())
            if changed := _changed(before, job):
                raise ValueError(
                    f"{changed} changed since the run to resume started. Start again without "
                    "--resume."
                )
            if (self._folder / _STATE).exists():
                self.state = json.loads((self._folder / _STATE).read_text())
            return
        for path in self._folder.iterdir():
            if path.name != "lock":
                path.unlink()
        self._write_json(_JOB, job)

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        with self._lock, suppress(TableError):  # what went wrong first is what is told
            if self._writer is not None:
                self._writer.__exit__(error_type, error, traceback)

    def write(self, index, raw, outputs, bad):
        """Add rows to the part being written.

        Parameters
        ----------
        index : int
            Of the input that they are from.
        raw : pyarrow.Table
        outputs : dict of arrays
        bad : bytes
            Lines for the quarantine file.
        """
        if self._writer is None:
            number = self.state["n_parts"][index]
            header = self._headers[index] and number == 0
            writer = TableWriter(self._part(index, number), self._formats[index], header=header)
            self._writer = writer.__enter__()
        self._writer.write(raw, outputs)
        self._bad += bad

    def commit(self, **state):
        """Finish the part being written, if any, and record how far the work got."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.__exit__(None, None, None)
            index = self.state["input"]
            number = self.state["n_parts"][index]
            if self._bad:
                self._quarantined(index, number).write_bytes(self._bad)
                self._bad = b""
            self.state["n_parts"][index] += 1
        self.state.update(state)
        self._write_json(_STATE, self.state)

    def parts(self, index):
        """Return the finished parts of an input, in order."""
        return [self._part(index, number) for number in range(self.state["n_parts"][index])]

    def quarantined(self):
        """Return the lines for the quarantine file, a part at a time."""
        for index, n_parts in enumerate(self.state["n_parts"]):
            for number in range(n_parts):
                if (path := self._quarantined(index, number)).exists():
                    yield path.read_bytes()

    def remove(self):
        """Remove the folder, once all is done or nothing of it is of use."""
        shutil.rmtree(self._folder)

    def _part(self, index, number):
        return self._folder / f"part-{index:05d}-{number:07d}"

    def _quarantined(self, index, number):
        return self._folder / f"bad-{index:05d}-{number:07d}"

    def _write_json(self, name, content):
        temporary = self._folder / f"{name}.tmp"
        with temporary.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._folder / name)


def _changed(before, job):
    for key, value in job.items():
        if before.get(key) != value:
            if key == "inputs" and len(before[key]) == len(value):
                pairs = zip(before[key], value, strict=True)
                return next(f"Input {new[0]}" for old, new in pairs if old != new)
            return f"The {key}"
    return None
