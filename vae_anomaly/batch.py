"""Score files of any size: chunks of rows -> scorer -> parts of the output -> the output.

Knows nothing of what is in the files; ``table_io`` reads and writes them.
"""

import errno
import functools
import glob
import importlib.metadata
import os
import pathlib
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import numpy as np

from vae_anomaly.chunk_scorer import ChunkScorer
from vae_anomaly.summary import Tally
from vae_anomaly.table_files import STANDARD, TableError, file_format, is_table, write_whole
from vae_anomaly.table_io import TableWriter, lowest_rows, quarantine_lines
from vae_anomaly.work_folder import WorkFolder

_PART_CHUNKS = 8
_QUARANTINE_HEADER = ("file", "line", "column", "reason", "text")


class TooManyBadRowsError(ValueError):
    """More rows could not be read than are allowed; the work can be resumed with another limit."""


def find_inputs(inputs, exclude=()):
    """Return the files that paths, folders and globs stand for; "-" is standard input.

    Parameters
    ----------
    inputs : path, or sequence of path
        Of a folder, all table files directly in it, by name; a pattern may have ``**``.
    exclude : collection of path
        Not to be taken from folders and patterns.

    Returns
    -------
    list of str

    Raises
    ------
    TableError
        A folder or pattern has no table files, or a file is there twice.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    excluded = {os.path.abspath(path) for path in exclude}
    found = []
    for name in map(os.fspath, inputs):
        if os.path.isdir(name):
            candidates = sorted(map(os.fspath, pathlib.Path(name).iterdir()))
        elif not os.path.exists(name) and glob.has_magic(name):
            candidates = sorted(glob.glob(name, recursive=True))
        else:
            found.append(name)
            continue
        tables = [path for path in candidates if is_table(path) and os.path.isfile(path)]
        tables = [path for path in tables if os.path.abspath(path) not in excluded]
        if not tables:
            raise TableError(f"{name}: expected table files, received none; check the path")
        found.extend(tables)
    repeated = sorted({name for name in found if found.count(name) > 1})
    if repeated or not found:
        raise TableError(f"expected each input once, received {repeated or 'none'}; name it once")
    return found


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
            for chunk in scoring.chunks(reader):
                yield scoring.scored(path, chunk)


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
    resume=False,
    progress=None,
    **options,
):
    """Score files of any size; what was written so far survives the death of the process.

    Every row of the inputs comes out, in order, with its score; but those that cannot be read go
    to the quarantine file. While the work lasts, its parts are in ``<output>.partial``.

    Parameters
    ----------
    inputs : path, or sequence of path
        CSV, TSV (both also .gz and .zst) and Parquet files, folders of them, patterns; "-" is CSV
        from standard input.
    detector : fitted detector, or path of a saved one
    output : path
        A file of any of these formats; "-" for standard output. A folder (one that exists, or a
        name that ends in "/"): a file for each input.
    format : {"csv", "tsv", "parquet"} or None
        Of the output. None: by its suffix; in a folder, that of the input.
    only_anomalies : bool
        Whether to write the anomalies alone.
    top : int or None
        Write this many rows alone, those with the lowest scores, lowest first.
    max_bad_rows : int or None
        How many rows may go to the quarantine; None: any number.
    quarantine : path or None
        CSV file of the rows that could not be read, if there are any. None: beside the output,
        ``<name>.quarantine.csv``; in a folder, or where the output is "-", ``quarantine.csv``.
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
        An option that makes no sense; the work to resume is another job.
    """
    to_folder = os.path.isdir(output) or str(output).endswith("/")
    quarantine = pathlib.Path(quarantine or _quarantine_beside(output, to_folder))
    paths = find_inputs(inputs, exclude=(output, quarantine))
    targets = _targets(paths, output, to_folder, format)
    resumable = STANDARD not in (*paths, str(output))
    if resume and not resumable:
        raise ValueError("Expected files where `resume` is given. Received: '-'.")
    if top is not None and top < 1:
        raise ValueError(f"Expected `top` >= 1. Received: top={top!r}.")
    scoring = ChunkScorer(paths, detector, **options)
    if not to_folder:
        scoring.check_alike(types=top is not None or targets[0].format == "parquet")
    job = {
        "inputs": [[path, *_identity(path)] for path in paths],
        "model": scoring.fingerprint(),
        "options": [str(output), format, only_anomalies, top, *map(str, scoring.options)],
        "versions": [importlib.metadata.version(name) for name in ("vae-anomaly", "tensorflow")],
    }
    to_stdout = str(output) == STANDARD
    folder = tempfile.mkdtemp() if to_stdout else f"{str(output).rstrip('/')}.partial"
    # The lowest rows are chosen from parts that keep the types of their columns.
    formats = ["parquet" if top else target.format for target in targets for _ in target.inputs]
    headers = [to_folder or index == 0 for index in range(len(paths))]
    with WorkFolder(folder, job, formats, headers, resume=resume) as work:
        try:
            preprocessor, calibration_scores = scoring.reference()
            tally = Tally(preprocessor, calibration_scores, work.state["tally"])
            kept = functools.partial(_selected, only_anomalies=only_anomalies, top=top)
            _score_parts(scoring, work, tally, job, kept, max_bad_rows, progress)
            if to_folder:
                os.makedirs(output, exist_ok=True)
            for target in targets:
                _write_target(target, work, top, scoring.output_names)
            _write_quarantine(quarantine, work)
        except BaseException as error:
            if not (resumable and is_resumable(error)):
                work.remove()
            raise
        work.remove()
    return tally.report()


def is_resumable(error):
    """Whether a run of ``score_files`` on files that ended with the error can be resumed."""
    disk_full = getattr(error.__cause__ or error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return disk_full or isinstance(error, (KeyboardInterrupt, TooManyBadRowsError))


class _Target(NamedTuple):
    path: pathlib.Path
    format: str
    inputs: list[int]


def _targets(paths, output, to_folder, format):
    if not to_folder:
        return [_Target(output, format or file_format(output), list(range(len(paths))))]
    targets = []
    for index, path in enumerate(paths):
        name = "stdin.csv" if path == STANDARD else pathlib.Path(path).name
        own = file_format(name)
        if format not in (None, own):
            name = name[: name.lower().rindex(".p" if own == "parquet" else f".{own}")]
            name += f".{format}"
        targets.append(_Target(pathlib.Path(output) / name, format or own, [index]))
    places = [os.path.abspath(target.path) for target in targets]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1 or place in map(os.path.abspath, paths):
            raise ValueError(
                f"Expected a file of its own for each input. Received: {path}, to be written to "
                f"{place}, which is another's. Choose another folder."
            )
    return targets


def _quarantine_beside(output, to_folder):
    if str(output) == STANDARD:
        return "quarantine.csv"
    if to_folder:
        return pathlib.Path(output) / "quarantine.csv"
    stem = pathlib.Path(output).name.split(".")[0]
    return pathlib.Path(output).with_name(f"{stem}.quarantine.csv")


def _identity(path):
    """Return what tells whether a file has changed."""
    if path == STANDARD:
        return []
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def _read(scoring, job, first, start):
    """Yield (input, chunk, share of all inputs read), and (input, None, share) after its last."""
    sizes = [identity[0] if identity else 0 for _, *identity in job["inputs"]]
    total = sum(sizes)
    for index in range(first, len(scoring.paths)):
        path = scoring.paths[index]
        before = sum(sizes[:index])
        with scoring.reader(path) as reader:
            for chunk in scoring.chunks(reader, start):
                read = before + sizes[index] * reader.share_read(chunk)
                yield index, chunk, None if STANDARD in scoring.paths else read / max(1, total)
        if [path, *_identity(path)] != job["inputs"][index]:
            raise TableError(
                f"{path}: expected a file that does not change, received one that did while it "
                "was read; score a copy of it"
            )
        yield index, None, None
        start = ()


def _score_parts(scoring, work, tally, job, kept, max_bad_rows, progress):
    """Score the rest of the inputs into the work folder; reading and writing have threads."""
    chunks = _read(scoring, job, work.state["input"], work.state["start"])
    with closing(chunks), ThreadPoolExecutor(1) as reading, _Writing() as writing:
        n_chunks = 0
        for index, chunk, share in _ahead(reading, chunks):
            if chunk is None:
                writing.then(work.commit, input=index + 1, start=[], tally=tally.state())
                n_chunks = 0
                continue
            scored = scoring.scored(scoring.paths[index], chunk)
            tally.update(scored.arrays, scored.outputs, len(scored.bad))
            if max_bad_rows is not None and tally.counts["quarantined"] > max_bad_rows:
                bad = scored.bad[max_bad_rows - tally.counts["quarantined"]]
                raise TooManyBadRowsError(
                    f"{scored.source}, line {bad.line}: {bad.reason} (bad rows: "
                    f"{tally.counts['quarantined']}, at most {max_bad_rows} allowed)"
                )
            writing.then(work.write, index, *kept(scored), _quarantine_lines(scored))
            n_chunks += 1
            if n_chunks % _PART_CHUNKS == 0:
                writing.then(work.commit, input=index, start=chunk.end, tally=tally.state())
            if progress:
                progress(tally.counts["scored"], tally.counts["anomalies"], share)


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


def _quarantine_lines(scored):
    return quarantine_lines(
        (scored.source, bad.line, bad.column or "", bad.reason, bad.text) for bad in scored.bad
    )


def _write_target(target, work, top, output_names):
    parts = [part for index in target.inputs for part in work.parts(index)]
    if top is None:
        with TableWriter(target.path, target.format, header=False) as writer:
            for part in parts:
                writer.append(part)
        return
    lowest = lowest_rows(parts, "score", top)
    outputs = {name: lowest[name].to_numpy() for name in output_names}
    with TableWriter(target.path, target.format) as writer:
        writer.write(lowest.drop_columns(output_names), outputs)


def _write_quarantine(path, work):
    lines = list(work.quarantined())
    if not lines and not path.exists():
        return
    write_whole(path, b"".join([quarantine_lines([_QUARANTINE_HEADER]), *lines]))
