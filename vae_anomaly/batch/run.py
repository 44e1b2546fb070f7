"""Score files of any size: chunks of rows -> scorer -> a file that grows -> the output.

The kind of input that a model takes is looked up here, once; what reads and scores it is in
``tables`` and ``images``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vae_anomaly.batch.chunks import ChunkScorer, ScoredChunk
from vae_anomaly.batch.digits import check_digits
from vae_anomaly.batch.images import ImageChunkScorer
from vae_anomaly.batch.job import Plan, run_job
from vae_anomaly.batch.pipeline import TooManyBadRowsError
from vae_anomaly.batch.places import (
    check_places,
    is_folder,
    quarantines_of,
    targets_of,
)
from vae_anomaly.batch.selection import check_fdr, offset_of_fdr
from vae_anomaly.batch.tables import TableChunkScorer
from vae_anomaly.detectors import artifact
from vae_anomaly.tables.files import STANDARD
from vae_anomaly.tables.paths import Path
from vae_anomaly.tables.reader import CHUNK_ROWS

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector

    Detector: TypeAlias = BaseDetector | str | os.PathLike[str]

__all__ = ["TooManyBadRowsError", "iter_scored", "score_files"]

_CHUNK_SCORERS: dict[str, type[ChunkScorer]] = {
    "table": TableChunkScorer,
    "images": ImageChunkScorer,
    "features": ImageChunkScorer,
}


def iter_scored(
    inputs: Path | Sequence[Path],
    detector: Detector,
    *,
    columns: Sequence[str] | None = None,
    explain: int | None = None,
    contributions: bool = False,
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    strict: bool = False,
    allow_missing: Sequence[str] | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[ScoredChunk]:
    r"""Score files, a chunk of rows at a time.

    Parameters
    ----------
    inputs, detector, columns, explain, contributions, threshold, false_alarm_rate
        As of ``score_files``.
    delimiter, encoding, strict, allow_missing, chunk_rows
        As of ``score_files``.

    Yields
    ------
    ScoredChunk
        Rows in the order of the inputs, with the outputs of each.

    Raises
    ------
    ValueError
        As ``score_files``.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from vae_anomaly import AutoencoderDetector, iter_scored
    >>> X = np.random.default_rng(0).normal(size=(1100, 2))
    >>> detector = AutoencoderDetector(max_steps=20, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "new.csv"
    ...     _ = path.write_text("x0,x1\n1,2\n3,oops\n90,80\n")
    ...     for chunk in iter_scored(path, detector):
    ...         chunk.outputs["is_anomaly"].tolist(), [bad.line for bad in chunk.bad]
    ([False, True], [3])
    """
    scoring = loaded_scoring(
        inputs,
        detector,
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        columns=columns,
        explain=explain,
        contributions=contributions,
        delimiter=delimiter,
        encoding=encoding,
        strict=strict,
        allow_missing=allow_missing,
        chunk_rows=chunk_rows,
    )
    for path in scoring.paths:
        with scoring.reader(path) as reader:
            for chunk, data in scoring.chunks(path, reader):
                scored = scoring.scored(path, chunk, data)
                if scoring.reasons:
                    scoring.reasons.add(scored, np.flatnonzero(scored.outputs["is_anomaly"]))
                yield scored


def loaded_scoring(
    inputs: Path | Sequence[Path],
    detector: Detector,
    *,
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    **options: Any,
) -> ChunkScorer:
    """Return what scores the inputs, ready to; arguments and errors as of ``iter_scored``."""
    scoring = _chunk_scorer(inputs, detector, (), threshold, false_alarm_rate, options)
    scoring.load()
    return scoring


def score_files(
    inputs: Path | Sequence[Path],
    detector: Detector,
    output: Path,
    *,
    format: str | None = None,
    only_anomalies: bool = False,
    top: int | None = None,
    digits: int | None = None,
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    fdr: float | None = None,
    max_bad_rows: int | None = None,
    quarantine: Path | None = None,
    summary: Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, float | None], object] | None = None,
    columns: Sequence[str] | None = None,
    explain: int | None = None,
    contributions: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    strict: bool = False,
    allow_missing: Sequence[str] | None = None,
    chunk_rows: int = CHUNK_ROWS,
    maps: Path | None = None,
) -> dict[str, Any]:
    """Score files of any size; what was written so far survives the death of the process.

    Every row of the inputs comes out, in order, with its score; but those that cannot be read go
    to the quarantine file. Until all is done, the work is in the folder ``<output>.partial``
    (``.partial`` in the folder, if the output is one); it stays there if something goes wrong.

    Parameters
    ----------
    inputs : path, or sequence of path
        For a model of tables CSV, TSV (both also .gz and .zst) and Parquet files, folders of them,
        patterns; "-" is CSV from standard input. A file without even a header has no rows. For a
        model of images of uint8 or uint16: image files, folders with images in them and in their
        sub-folders, patterns; an image is a row.
    detector : fitted detector, or path of a saved one
    output : path
        A file of any of these table formats; "-" for standard output. A folder (one that exists,
        or a name that ends in "/") gets a file for each table. The columns are those of the input
        (path, for images), then ``score``, ``decision``, ``is_anomaly`` and ``p_value``.
    format : {"csv", "tsv", "parquet"} or None
        Of the output. None: by its suffix; in a folder, that of the input.
    only_anomalies : bool
        Whether to write only the anomalies.
    top : int or None
        Write only this number of lowest-scoring rows of each output, lowest first.
    digits : int or None
        Significant digits, 1 to 15, of the numbers that scoring adds to CSV and TSV. None: all; of
        contributions those of a float32.
    fdr : float or None
        Flag anomalies of all inputs together so that this share of them is normal, expected, at
        most (Benjamini & Hochberg 1995). The inputs are read and scored twice.
    threshold, false_alarm_rate : float or None
        Instead of the detector's own: scores under this are anomalies; this share of new normal
        rows is.
    max_bad_rows : int or None
        How many rows may go to the quarantine; None: any number.
    quarantine : path or None
        CSV file of the rows that could not be read, if there are any: file, line (in Parquet the
        number of the row, from 0), column, reason and text; of images file and reason. None:
        ``<output>.quarantine.csv``, one for each file of an output folder; where the output is
        "-", ``quarantine.csv``, which must not be there yet.
    summary : path or None
        JSON file of what is returned.
    resume : bool
        Whether to go on with the work of a run that did not finish, if there is one.
    progress : callable or None
        Called with the numbers of rows and anomalies so far, and the share of the inputs read
        (None where that is not known).
    columns : sequence of str or None
        Tables: which columns of the inputs to write. None: all but those dropped in ``fit``.
    explain : int or None
        Tables: name this number of columns that lowered the score most, by how much the row would
        gain if the cell were unknown, with what is expected there given the rest of the row. For
        anomalies, and for the rows that ``top`` lists: it costs a scoring for each column.
    contributions : bool
        Tables: write what each column adds to the score, as ``feature_log_prob:<column>``.
    delimiter, encoding : str or None
        Tables: of CSV and TSV inputs. None: as in the training file, if the columns are found so;
        else as found, with a warning.
    strict : bool
        Tables: whether columns that the model does not know are an error; else they are a warning.
    allow_missing : sequence of str or None
        Tables: modelled columns that inputs may lack; their cells count as missing.
    chunk_rows : int
        Tables: rows to score at a time.
    maps : path or None
        Images: folder, empty unless an earlier run wrote maps to it, which are overwritten. It
        gets a PNG file for each row written, named as its image with ".png" added, under the
        sub-folders of the inputs: side by side the image as the model sees it, what it expects
        instead, and what each pixel adds to the score. White is usual; red is less probable than
        usual, blue is more, in full colour from ``colours.FULL_COLOUR`` nats.

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
        An option that makes no sense or is for the other kind of input; a file to be written that
        is an input, too; the work to resume is another job.
    """
    options = {
        "columns": columns,
        "explain": explain,
        "contributions": contributions,
        "delimiter": delimiter,
        "encoding": encoding,
        "strict": strict,
        "allow_missing": allow_missing,
        "chunk_rows": chunk_rows,
        "maps": maps,
    }
    written = [path for path in (output, quarantine, summary) if path is not None]
    scoring = _chunk_scorer(inputs, detector, written, threshold, false_alarm_rate, options)
    check_fdr(fdr, {"threshold": threshold, "false_alarm_rate": false_alarm_rate}, scoring.paths)
    scoring.check_output(output, format)
    targets = targets_of(scoring.paths, output, format)
    check_digits(digits, targets)
    quarantines = quarantines_of(targets, quarantine)
    check_places(scoring.files, targets, quarantines, summary, to_folder=is_folder(output))
    if resume and STANDARD in (str(output), *scoring.paths):
        raise ValueError("Expected files where `resume` is given. Received: '-'.")
    for name, value, least in (("top", top, 1), ("max_bad_rows", max_bad_rows, 0)):
        if value is not None and value < least:
            raise ValueError(f"Expected `{name}` >= {least}. Received: {name}={value!r}.")
    scoring.load()
    if fdr is not None:
        scoring.offset = offset_of_fdr(scoring, fdr)
    plan = Plan(
        output, format, only_anomalies, top, digits, fdr, max_bad_rows, summary, resume, progress
    )
    return run_job(scoring, plan, targets, quarantines)


def threads_per_operation(model: Path) -> int | None:
    """Return how many threads suit an operation of a saved model; None: TensorFlow's choice.

    Raises
    ------
    ArtifactError
        No model can be read there.
    """
    return _CHUNK_SCORERS[_input_name(model)].threads_per_operation


def _chunk_scorer(
    inputs: Path | Sequence[Path],
    detector: Detector,
    exclude: Sequence[Path],
    threshold: float | None,
    false_alarm_rate: float | None,
    options: Mapping[str, Any],
) -> ChunkScorer:
    """Return what scores the inputs; this is the one place that asks what they are."""
    chosen = _CHUNK_SCORERS[_input_name(detector)]
    own = chosen.OPTIONS
    for kind in _CHUNK_SCORERS.values():
        for option, default in kind.OPTIONS.items():
            value = options.get(option, default)
            if option not in own and value != default:
                raise ValueError(
                    f"Expected `{option}` for {kind.title} only. Received: {option}={value!r} for "
                    f"{chosen.title}. Leave it out."
                )
    return chosen(
        inputs,
        detector,
        exclude=exclude,
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        **{option: options.get(option, default) for option, default in own.items()},
    )


def _input_name(detector: Detector) -> str:
    """Return which of ``_CHUNK_SCORERS`` a model needs."""
    if isinstance(detector, (str, os.PathLike)):
        return artifact.read(detector)["input"]
    return detector._input.name
