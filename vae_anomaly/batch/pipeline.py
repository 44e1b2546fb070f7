"""The loop over chunks: a thread reads ahead, one scores, one writes and records how far it got.

The main thread counts, explains and draws.

``score_chunks`` can be stopped at any moment; what has been committed is not done again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from vae_anomaly.batch.chunks import ChunkScorer, ScoredChunk, first_bad
from vae_anomaly.batch.digits import in_digits
from vae_anomaly.batch.places import Target
from vae_anomaly.batch.summary import Tally
from vae_anomaly.batch.work_folder import WorkFolder
from vae_anomaly.tables.files import STANDARD, TableError, open_at
from vae_anomaly.tables.writer import TableWriter, csv_lines, grows

_CHUNKS_PER_COMMIT = 8


class TooManyBadRowsError(ValueError):
    """More rows could not be read than are allowed; the work can be resumed with another limit."""


class InputChangedError(TableError):
    """An input is not what it was; nothing of the work is of use."""


def score_chunks(
    scoring: ChunkScorer,
    work: WorkFolder,
    targets: Sequence[Target],
    quarantines: Sequence[Path],
    tally: Tally,
    *,
    only_anomalies: bool,
    top: int | None,
    digits: int | None,
    max_bad_rows: int | None,
    progress: Callable | None,
) -> None:
    """Score what the work lacks, up to the end of the last input.

    Parameters
    ----------
    scoring : ChunkScorer
        Loaded.
    work : WorkFolder
        Its state says where to go on; the files that grow are in it.
    targets, quarantines : sequence
        As of ``places``; a quarantine for each target.
    tally : Tally
        Gets the counts.
    only_anomalies, top, digits, max_bad_rows, progress
        As of ``run.score_files``.

    Raises
    ------
    TooManyBadRowsError, InputChangedError
    """
    chunks = _read(scoring, work.state["input"], work.state["start"])
    n_chunks = 0
    # Leaving waits for the writer first and closes its files last.
    with (
        closing(_Outputs(work, targets, quarantines, top, digits)) as outputs,
        closing(chunks),
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(1) as computing,
        _Writing() as writing,
    ):
        _check_bad_rows(tally, max_bad_rows)
        all_scored = _scored(scoring, _ahead(reading, chunks, depth=2))
        for index, chunk, scored, share in _ahead(computing, all_scored, depth=1):
            if scored is None:
                writing.then(outputs.commit, input=index + 1, start=[], tally=tally.state())
                n_chunks = 0
                continue
            tally.update(scored.arrays, scored.outputs, len(scored.bad), first_bad(scoring, scored))
            _check_bad_rows(tally, max_bad_rows, scoring, scored)
            rows = _chosen(scored, only_anomalies, top)
            if scoring.reasons:
                # Listed rows have reasons, whether they are anomalies or not.
                flagged = scored.outputs["is_anomaly"][rows]
                scoring.reasons.add(scored, rows if top else rows[flagged])
            if scoring.maps and not top:
                scoring.maps.draw(scored, rows)
            bad = csv_lines(scoring.quarantine_row(scored, bad) for bad in scored.bad)
            writing.then(outputs.write, index, *_taken(scored, rows), bad)
            n_chunks += 1
            if n_chunks % _CHUNKS_PER_COMMIT == 0:
                writing.then(outputs.commit, input=index, start=chunk.end, tally=tally.state())
            if progress:
                progress(tally.counts["scored"], tally.counts["anomalies"], share)


def _check_bad_rows(tally, most, scoring=None, scored=None):
    found = tally.counts["quarantined"]
    if most is None or found <= most:
        return
    where = ""
    if scored:
        bad = scored.bad[most - found]
        where = f"{scoring.place(scored, bad)}: {bad.reason}; "
    raise TooManyBadRowsError(f"{where}expected at most {most} bad rows, received {found} so far")


def _read(scoring: ChunkScorer, first: int, start: Sequence[int]) -> Generator[tuple, None, None]:
    """Yield (input, chunk, data, share of all inputs read), and nothing else after its last."""
    sizes = [known[0] if known else 0 for known in scoring.identities]
    total = sum(sizes)
    for index in range(first, len(scoring.paths)):
        path = scoring.paths[index]
        before = sum(sizes[:index])
        with scoring.reader(path) as reader:
            for chunk, data in scoring.chunks(path, reader, start):
                share = None
                if total and STANDARD not in scoring.paths:
                    share = (before + sizes[index] * reader.share_read(chunk)) / total
                yield index, chunk, data, share
        if scoring.identity(path) != scoring.identities[index]:
            raise InputChangedError(
                f"{path}: expected a file that does not change, received one that did while it "
                "was read; score a copy of it"
            )
        yield index, None, None, None
        start = ()


def _scored(scoring, items):
    """Yield what ``_read`` yields, with scored chunks in place of data."""
    for index, chunk, data, share in items:
        scored = None if chunk is None else scoring.scored(scoring.paths[index], chunk, data)
        yield index, chunk, scored, share


def _chosen(scored: ScoredChunk, only_anomalies: bool, top: int | None) -> np.ndarray:
    """Return the numbers of the rows of a chunk that may be in the output."""
    rows = np.arange(len(scored.outputs["score"]))
    if only_anomalies:
        rows = rows[scored.outputs["is_anomaly"]]
    if top:
        lowest = np.argsort(scored.outputs["score"][rows], kind="stable")[:top]
        rows = rows[np.sort(lowest)]
    return rows


def _taken(scored, rows):
    """Return columns to keep and columns to add, of these rows."""
    if len(rows) == len(scored.outputs["score"]):
        return scored.raw, scored.outputs
    return scored.raw.take(rows), {name: array[rows] for name, array in scored.outputs.items()}


class _Outputs:
    """The files that grow: the rows of the target at hand, and its quarantine."""

    def __init__(self, work, targets, quarantines, top, digits):
        self._work, self._targets, self._top, self._digits = work, targets, top, digits
        self._target_of = {i: t for t, target in enumerate(targets) for i in target.inputs}
        numbers = {path: number for number, path in enumerate(dict.fromkeys(quarantines))}
        self._quarantine_of = [f"quarantine-{numbers[path]}" for path in quarantines]
        self._target: int | None = None
        self._rows: Any = None
        self._quarantine: Any = None

    def write(self, index, raw, outputs, bad):
        """Add rows of an input: columns to keep, columns to add, lines of the quarantine."""
        if self._target_of[index] != self._target:
            self._go_to(self._target_of[index])
        # Rows of ``top`` are chosen by whole scores, and shortened when they are written.
        if self._targets[self._target].format != "parquet" and self._top is None:
            outputs = in_digits(outputs, self._digits)
        self._rows.write(raw, outputs)
        self._quarantine.write(bad)

    def commit(self, **state):
        """Record how far the work got; see ``WorkFolder.state``."""
        if self._target is not None:
            length = self._rows.commit()
            self._quarantine.flush()
            os.fsync(self._quarantine.fileno())
            state["lengths"] = {
                f"rows-{self._target}": length,
                self._quarantine_of[self._target]: self._quarantine.tell(),
            }
        self._work.commit(**state)

    def close(self):
        """Close the files; what counts of them has been committed."""
        if self._target is not None:
            self._rows.close()
            with suppress(OSError):
                self._quarantine.close()

    def _go_to(self, target):
        self.close()
        rows, quarantine = f"rows-{target}", self._quarantine_of[target]
        lengths = self._work.state["lengths"]
        path, table_format, _ = self._targets[target]
        is_direct = str(path) == STANDARD and grows(path, table_format, self._top)
        self._rows = TableWriter(
            STANDARD if is_direct else self._work.path(rows),
            path,
            table_format,
            top=self._top,
            length=lengths.get(rows, 0),
        )
        self._quarantine = open_at(self._work.path(quarantine), lengths.get(quarantine, 0))
        self._target = target


class _Writing:
    """A thread that does one thing after the other; an error is raised at the next."""

    def __enter__(self):
        self._pool = ThreadPoolExecutor(1)
        self._last = None
        return self

    def then(self, function, *args, **kwargs):
        if self._last:
            self._last.result()
        self._last = self._pool.submit(function, *args, **kwargs)

    def __exit__(self, error_type, *_):
        self._pool.shutdown()
        if self._last and error_type is None:
            self._last.result()


def _ahead(pool, iterator, depth):
    """Yield from an iterator that runs in another thread, some items ahead."""
    waiting = deque(pool.submit(next, iterator, None) for _ in range(depth))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, iterator, None))
        yield item
