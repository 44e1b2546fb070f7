"""A report on files of any size: one pass over them, of which a few rows are kept."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.atomic import atomic_file
from vae_anomaly.batch.chunks import first_bad
from vae_anomaly.batch.run import loaded_scoring
from vae_anomaly.detectors import artifact
from vae_anomaly.report import render
from vae_anomaly.tables.paths import Path, check_is_no_input

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector

# Scores that stand for those of all rows in the picture.
_SCORES = 20_000


def report_files(
    inputs: Path | Sequence[Path],
    detector: BaseDetector,
    output: Path,
    *,
    title: str = "Anomaly report",
    **options: Any,
) -> None:
    """Write the report on a detector and the rows of files.

    Parameters
    ----------
    inputs : path, or sequence of path
        As of ``score_files``, or tables that it wrote; none: the detector alone.
    detector : fitted detector
    output : path
        HTML file to write.
    title : str
    **options
        Of reading, as of ``score_files``: ``delimiter``, ``encoding``, ``strict``,
        ``allow_missing``.

    Raises
    ------
    ValueError
        As ``score_files``.
    ImportError
        Jinja or matplotlib is not installed.
    """
    from vae_anomaly.detectors.reporting import report_content  # with TensorFlow

    if artifact.is_detector(pathlib.Path(output).absolute().parent):
        raise ValueError(
            f"Expected another folder for the report. Received: {output}, beside a saved detector. "
            "Choose another one."
        )
    batch = None
    if inputs:
        scoring = loaded_scoring(inputs, detector, **options)
        check_is_no_input(output, scoring.files)
        batch = _batch_of_files(inputs, scoring, detector)
    page = render(report_content(detector, batch, title))
    with atomic_file(output) as file:
        file.write(page.encode())


def _batch_of_files(inputs, scoring, detector):
    from vae_anomaly.detectors.reporting import LISTED_ROWS, Batch, sample_size

    kind, tally = detector._input, scoring.tally(None)
    sample, lowest = _Kept(kind), _Kept(kind)
    most, step, n_seen = sample_size(detector), 1, 0
    for path in scoring.paths:
        number = 0
        with scoring.reader(path) as reader:
            for chunk, data in scoring.chunks(path, reader):
                scored = scoring.scored(path, chunk, data)
                tally.update(
                    scored.arrays, scored.outputs, len(scored.bad), first_bad(scoring, scored)
                )
                scores = scored.outputs["score"]
                few = np.argsort(scores, kind="stable")[:LISTED_ROWS]
                names = [scoring.row_name(scored, row, number + row) for row in few.tolist()]
                lowest.add(data, few, scores[few], names)
                lowest.keep(np.argsort(lowest.scores, kind="stable")[:LISTED_ROWS])
                # Every step-th row; the step doubles when there are too many.
                taken = np.arange(-n_seen % step, len(scores), step)
                sample.add(data, taken, scores[taken], [""] * len(taken))
                while len(sample.scores) > most:
                    sample.keep(np.arange(0, len(sample.scores), 2))
                    step *= 2
                n_seen += len(scores)
                number += len(scores)
    if not n_seen:
        bad = f" that can be read: {tally.first_bad}" if tally.first_bad else ""
        raise ValueError(f"Expected rows to report on. Received: none in {inputs}{bad}.")
    summary = tally.report()
    share = summary["anomaly_share"]
    return Batch(
        n_rows=summary["rows_scored"],
        n_flagged=summary["anomalies"],
        scores=tally.score_sample(_SCORES),
        anomaly_share=share and (share["share"], share["low"], share["high"]),
        sample=sample.data,
        lowest=lowest.data,
        names=lowest.names,
        warnings=[*scoring.warnings, *summary["warnings"]],
    )


class _Kept:
    """Rows kept of many, with scores and names."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.data: Any = None
        self.scores = np.zeros(0)
        self.names: list[str] = []

    def add(self, data, rows, scores, names):
        some = self._kind.rows(data, rows)
        self.data = some if self.data is None else self._kind.joined([self.data, some])
        self.scores = np.concatenate([self.scores, scores])
        self.names += names

    def keep(self, rows):
        self.data = self._kind.rows(self.data, rows)
        self.scores = self.scores[rows]
        self.names = [self.names[row] for row in rows]
