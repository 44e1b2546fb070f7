"""Score files of any size: chunks of rows -> scorer -> a file that grows -> the output.

Knows nothing of what is in the files; ``table_reader`` and ``table_writer`` do. ``image_batch``
scores folders of images by the same ``run``.
"""

import functools
import importlib.metadata
import itertools
import json
import os
import pathlib
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import numpy as np

from vae_anomaly.batch.places import (
    check_places,
    find_inputs,
    identity,
    is_folder,
    quarantine_beside,
    targets_of,
    work_folder,
)
from vae_anomaly.batch.tables import ChunkScorer
from vae_anomaly.batch.work_folder import WorkFolder
from vae_anomaly.tables.files import (
    STANDARD,
    TableError,
    open_at,
    write_whole,
)
from vae_anomaly.tables.writer import TableWriter, csv_lines, finish, grows, lowest_rows

_CHUNKS_PER_COMMIT = 8


class TooManyBadRowsError(ValueError):
    """More rows could not be read than are allowed; the work can be resumed with another limit."""


class _InputChangedError(TableError):
    """An input is not what it was; nothing of the work is of use."""


def iter_scored(inputs, detector, **options):
    """Score files, a chunk of rows at a time.

    Parameters
    ----------
    inputs : path, or sequence of path
        As for ``find_inputs``.
    detector : fitted detector, or path of a saved one
    **options
        ``columns``, ``explain``, ``threshold``, ``false_alarm_rate``, ``delimiter``, ``encoding``,
        ``chunk_rows`` and ``load`` of ``score_files``.

    Yields
    ------
    ScoredChunk

    Raises
    ------
    ValueError
        As ``score_files``.
    """
    scoring = ChunkScorer(find_inputs(inputs), detector, **options)
    for path in scoring.paths:
        with scoring.reader(path) as reader:
            for chunk, arrays in scoring.chunks(path, reader):
                yield scoring.scored(path, chunk, arrays)


def score_files(
    inputs,
    detector,
    output,
    *,
    format=None,
    only_anomalies=False,
    top=None,
    max_bad_rows=None,
    quarantine=None,
    summary=None,
    resume=False,
    progress=None,
    **options,
):
    """Score files of any size; what was written so far survives the death of the process.

    Every row of the inputs comes out, in order, with its score; but those that cannot be read go
    to the quarantine file. Until all is done, the work is in the folder ``<output>.partial``
    (``.partial`` in the folder, if the output is one); it stays there if something goes wrong.

    Parameters
    ----------
    inputs : path, or sequence of path
        CSV, TSV (both also .gz and .zst) and Parquet files, folders of them, patterns; "-" is CSV
        from standard input. A file without even a header is one without rows.
    detector : fitted detector, or path of a saved one
    output : path
        A file of any of these formats; "-" for standard output. A folder (one that exists, or a
        name that ends in "/"): a file for each input.
    format : {"csv", "tsv", "parquet"} or None
        Of the output. None: by its suffix; in a folder, that of the input.
    only_anomalies : bool
        Whether to write the anomalies alone.
    top : int or None
        Write this many rows alone to each output, those with the lowest scores, lowest first.
    max_bad_rows : int or None
        How many rows may go to the quarantine; None: any number.
    quarantine : path or None
        CSV file of the rows that could not be read, if there are any: file, line (in Parquet the
        number of the row, from 0), column, reason and text. None: ``<output>.quarantine.csv``,
        one for each file of an output folder; where the output is "-", ``quarantine.csv``, which
        must not be there yet.
    summary : path or None
        JSON file of what is returned.
    resume : bool
        Whether to go on with the work of a run that did not finish, if there is one.
    progress : callable or None
        Called with the numbers of rows and anomalies so far, and the share of the inputs read
        (None where that is not known).
    **options
        columns : sequence of str or None
            Which columns of the inputs to write. None: all but those dropped in ``fit``.
        explain : int or None
            Instead of a ``feature_log_prob`` of each column, name so many columns that lowered
            the score most, with the values expected there.
        threshold, false_alarm_rate : float or None
            Instead of the detector's own: scores under this are anomalies; this share of new
            normal rows is.
        delimiter : str or None
            Of the fields of CSV and TSV inputs. None: a comma; a tab in .tsv files.
        encoding : str, default "utf-8"
        chunk_rows : int
            Rows to score at a time.
        load : callable
            Loads a saved detector from its path, once the inputs have been checked.

    Returns
    -------
    dict
        The summary; see ``summary.Tally.report``.

    Raises
    ------
    TooManyBadRowsError
    TableError
        An input cannot be read, changed meanwhile or is another table than the model's.
    ValueError
        An option that makes no sense; a file to be written that is an input, too; the work to
        resume is another job.
    """
    to_folder = is_folder(output)
    paths = find_inputs(inputs, exclude=[p for p in (output, quarantine, summary) if p is not None])
    identities = [identity(path) for path in paths]
    targets, quarantines = places(paths, output, format, quarantine, summary)
    check_options(paths, output, resume=resume, top=top, max_bad_rows=max_bad_rows)
    scoring = ChunkScorer(paths, detector, **options)
    if not to_folder:
        scoring.check_alike(types=targets[0].format == "parquet")
    return run(
        scoring,
        identities,
        output,
        targets,
        quarantines,
        format=format,
        only_anomalies=only_anomalies,
        top=top,
        max_bad_rows=max_bad_rows,
        summary=summary,
        resume=resume,
        progress=progress,
    )


def places(paths, output, format, quarantine, summary):
    """Return the targets of inputs and the quarantine of each; checked, before any work."""
    to_folder = is_folder(output)
    targets = targets_of(paths, output, to_folder, format)
    if quarantine is None:
        quarantines = [quarantine_beside(target.path) for target in targets]
    else:
        quarantines = [pathlib.Path(quarantine)] * len(targets)
    check_places(paths, [target.path for target in targets], quarantines, summary, to_folder)
    return targets, quarantines


def check_options(paths, output, *, resume, top, max_bad_rows):
    """Raise ValueError for options of ``score_files`` that make no sense."""
    if resume and STANDARD in (str(output), *paths):
        raise ValueError("Expected files where `resume` is given. Received: '-'.")
    for name, value, least in (("top", top, 1), ("max_bad_rows", max_bad_rows, 0)):
        if value is not None and value < least:
            raise ValueError(f"Expected `{name}` >= {least}. Received: {name}={value!r}.")


def run(
    scoring,
    identities,
    output,
    targets,
    quarantines,
    *,
    format,
    only_anomalies,
    top,
    max_bad_rows,
    summary,
    resume,
    progress,
    on_top=None,
):
    """Do the work of ``score_files``, whatever the inputs are, once all has been checked.

    Parameters
    ----------
    scoring : ChunkScorer, or image_batch.ImageChunkScorer
    identities : list
        What tells for each of ``scoring.paths`` whether it has changed.
    output, format, only_anomalies, top, max_bad_rows, summary, resume, progress
        As in ``score_files``.
    targets, quarantines
        As of ``places``.
    on_top : callable or None
        Called with the rows of ``top``, a pyarrow.Table, before they are written.

    Returns
    -------
    dict
        The summary.
    """
    to_stdout = str(output) == STANDARD
    resumable = not to_stdout and STANDARD not in scoring.paths
    decisive = scoring.job()
    job = {
        "inputs": [[path, *known] for path, known in zip(scoring.paths, identities, strict=True)],
        **decisive,
        "options": [str(output), format, only_anomalies, top, decisive["options"]],
        "versions": [importlib.metadata.version(name) for name in ("vae-anomaly", "tensorflow")],
    }
    if is_folder(output):
        os.makedirs(output, exist_ok=True)
    folder = tempfile.mkdtemp() if to_stdout else work_folder(output)
    with WorkFolder(folder, job, resume=resume) as work:
        tally = scoring.tally(work.state["tally"])
        try:
            if not work.state["done"]:
                with closing(_Outputs(work, targets, quarantines, top)) as outputs:
                    selected = functools.partial(_selected, only_anomalies=only_anomalies, top=top)
                    _score_rest(
                        scoring,
                        job["inputs"],
                        work,
                        outputs,
                        tally,
                        selected,
                        max_bad_rows,
                        progress,
                    )
                work.commit(done=True)
            report = tally.report()
            # The outputs last: where they are, all is there.
            for index, path in enumerate(dict.fromkeys(quarantines)):
                rows = work.path(f"quarantine-{index}")
                _write_quarantine(path, rows, scoring.quarantine_header)
            if summary is not None:
                write_whole(summary, [json.dumps(report, indent=1).encode()])
            for index, target in enumerate(targets):
                rows = work.path(f"rows-{index}")
                if rows.exists():
                    if on_top:
                        on_top(lowest_rows(rows, top))
                    finish(rows, target.path, target.format, top=top)
        except BaseException as error:
            if not (resumable and work.is_started()) or isinstance(error, _InputChangedError):
                work.remove()
            raise
        work.remove()
    return report


class _Outputs:
    """The files that grow: the rows of the target at hand, and its quarantine."""

    def __init__(self, work, targets, quarantines, top):
        self._work, self._targets, self._top = work, targets, top
        # Each target has a quarantine of its own, unless one was named for all.
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


def _score_rest(scoring, inputs, work, outputs, tally, selected, max_bad_rows, progress):
    """Score what the work lacks, up to the end of the last input."""
    state = work.state
    chunks = _read(scoring, inputs, state["input"], state["start"])
    with closing(chunks), ThreadPoolExecutor(1) as reading, _Writing() as writing:
        _check_bad_rows(tally, max_bad_rows)
        n_chunks = 0
        for index, chunk, arrays, share in _ahead(reading, chunks):
            if chunk is None:
                writing.then(outputs.commit, input=index + 1, start=[], tally=tally.state())
                n_chunks = 0
                continue
            scored = scoring.scored(scoring.paths[index], chunk, arrays)
            tally.update(scored.arrays, scored.outputs, len(scored.bad))
            _check_bad_rows(tally, max_bad_rows, scoring, scored)
            bad = csv_lines(scoring.quarantine_row(scored, bad) for bad in scored.bad)
            writing.then(outputs.write, index, *selected(scored), bad)
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


def _read(scoring, inputs, first, start):
    """Yield (input, chunk, arrays, share of all inputs read), and nothing else after its last."""
    sizes = [known[0] if known else 0 for _, *known in inputs]
    total = sum(sizes)
    for index in range(first, len(scoring.paths)):
        path = scoring.paths[index]
        before = sum(sizes[:index])
        with scoring.reader(path) as reader:
            for chunk, arrays in scoring.chunks(path, reader, start):
                share = None
                if total and STANDARD not in scoring.paths:
                    share = (before + sizes[index] * reader.share_read(chunk)) / total
                yield index, chunk, arrays, share
        if [path, *scoring.identity(path)] != inputs[index]:
            raise _InputChangedError(
                f"{path}: expected a file that does not change, received one that did while it "
                "was read; score a copy of it"
            )
        yield index, None, None, None
        start = ()


class _Writing:
    """A thread that does one thing after the other, and tells what went wrong at the next."""

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


def _ahead(pool, iterator, depth=2):
    """Yield from an iterator that runs in another thread, some items ahead."""
    waiting = deque(pool.submit(next, iterator, None) for _ in range(depth))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, iterator, None))
        yield item


def _selected(scored, only_anomalies, top):
    """Return the rows of a chunk that may be in the output: columns to keep, columns to add."""
    rows = np.arange(len(scored.outputs["score"]))
    if only_anomalies:
        rows = rows[scored.outputs["is_anomaly"]]
    if top:
        lowest = np.argsort(scored.outputs["score"][rows], kind="stable")[:top]
        rows = rows[np.sort(lowest)]
    if len(rows) == len(scored.outputs["score"]):
        return scored.raw, scored.outputs
    return scored.raw.take(rows), {name: array[rows] for name, array in scored.outputs.items()}


def _write_quarantine(path, rows, header):
    is_done = not rows.exists()  # by a run that was killed while it tidied up
    if is_done or not (rows.stat().st_size or os.path.exists(path)):
        return
    with rows.open("rb") as file:
        pieces = iter(lambda: file.read(2**20), b"")
        write_whole(path, itertools.chain([csv_lines([header])], pieces))
