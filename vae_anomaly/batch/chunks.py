"""Chunks of the inputs and what scoring makes of them, whatever the inputs are.

``ChunkScorer`` is what ``run`` asks of an input; ``tables`` and ``images`` implement it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from vae_anomaly.detectors import state
from vae_anomaly.scoring.calibration import offset_from_false_alarm_rate
from vae_anomaly.tables.paths import Path

if TYPE_CHECKING:
    import pyarrow as pa

    from vae_anomaly.batch.summary import Tally
    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.scoring.scorer import AnomalyScorer

OUTPUTS = ("score", "decision", "is_anomaly", "p_value")
#: Before the names of columns, in the names of what they add to the score.
CONTRIBUTION = "feature_log_prob:"


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredChunk:
    """Consecutive rows of an input with what the scorer says of them."""

    source: str  #: path of the input
    raw: Any  #: pyarrow.Table of the columns to keep, as they were read
    outputs: dict[str, np.ndarray]  #: the columns to add, each (n,)
    bad: Sequence[Any]  #: what could not be read in between; each has a ``reason``
    arrays: dict[str, np.ndarray]  #: the modelled columns, as the scorer took them


class Maps(Protocol):
    """Pictures that go with rows of the output."""

    def draw(self, scored: Any, rows: np.ndarray) -> None:
        """Draw rows of a scored chunk, given by number."""

    def draw_again(self, table: pa.Table) -> None:
        """Draw rows of the output, for which their files are read once more."""


class ChunkReasons(Protocol):
    """Columns that say why rows have their scores."""

    def add(self, scored: Any, rows: np.ndarray) -> None:
        """Write the reasons of rows of a scored chunk, given by number, into its outputs."""


class ChunkScorer(Protocol):
    """Reads inputs chunk by chunk and scores them; checks all it can before it loads the model."""

    #: In messages.
    title: ClassVar[str]
    #: Options of ``score_files`` that only this kind of input takes, with their defaults.
    OPTIONS: ClassVar[Mapping[str, Any]]
    #: How many threads suit an operation of the model, where a process computes nothing but chunks.
    #: None: as many as TensorFlow chooses.
    threads_per_operation: ClassVar[int | None]
    #: Columns of the quarantine file.
    quarantine_header: ClassVar[tuple[str, ...]]
    #: The inputs, to be scored one after the other.
    paths: list[str]
    #: The files that are read, none of which may be written.
    files: list[str]
    #: Probable mistakes in the inputs, for people; part of the summary.
    warnings: list[str]
    #: Once loaded: scores under it are anomalies.
    offset: float
    #: Once loaded: ascending.
    calibration_scores: np.ndarray
    #: What ``identity`` returned for each of ``paths`` before anything was read.
    identities: list[list]

    def __init__(
        self,
        inputs: Path | Sequence[Path],
        detector: BaseDetector | Path,
        *,
        exclude: Collection[Path],
        threshold: float | None,
        false_alarm_rate: float | None,
        **options: Any,
    ) -> None: ...

    @property
    def maps(self) -> Maps | None:
        """What draws a picture of each row of the output; None where none are drawn."""

    @property
    def reasons(self) -> ChunkReasons | None:
        """What says why rows are anomalies; None where nobody asked."""

    def check_output(self, output: Path, format: str | None) -> None:
        """Raise ValueError if the inputs cannot be written to such an output."""

    def load(self) -> None:
        """Load the model, without which nothing below works."""

    def identity(self, path: str) -> list:
        """Return plain data, its size first if known, that tells whether an input has changed."""

    def reader(self, path: str) -> AbstractContextManager[Any]:
        """Open an input; its ``share_read(chunk)`` is the share of it that has been read."""

    def chunks(self, path: str, reader: Any, start: Sequence[int] = ()) -> Iterator[tuple]:
        """Yield (chunk, data for ``scored``) from where an earlier chunk had its ``end``."""

    def scored(self, path: str, chunk: Any, data: Any) -> ScoredChunk:
        """Score one of the ``chunks`` of an input."""

    def row_name(self, scored: Any, row: int, number: int) -> str:
        """Return a name for people of a row of a scored chunk, which has a number in its input."""

    def tally(self, state: dict | None) -> Tally:
        """Return the counts of what is scored, which go on from a state."""

    def job(self) -> dict[str, Any]:
        """Return all that decides on the outputs, as plain data."""

    def place(self, scored: ScoredChunk, bad: Any) -> str:
        """Return where something is that could not be read, for messages."""

    def quarantine_row(self, scored: ScoredChunk, bad: Any) -> Sequence[object]:
        """Return what the quarantine says of it, by ``quarantine_header``."""


def first_bad(scoring: ChunkScorer, scored: ScoredChunk) -> str:
    """Return where the first bad row of a scored chunk is, and what is wrong; "" of none."""
    return "".join(f"{scoring.place(scored, bad)}: {bad.reason}" for bad in scored.bad[:1])


def check_threshold(threshold: float | None, false_alarm_rate: float | None) -> None:
    """Raise ValueError unless at most one of both is given, and is finite."""
    if threshold is not None and false_alarm_rate is not None:
        raise ValueError("Expected `threshold` or `false_alarm_rate`. Received both.")
    if threshold is not None and not np.isfinite(threshold):
        raise ValueError(f"Expected a finite `threshold`. Received: threshold={threshold!r}.")


def loaded(detector: BaseDetector | Path) -> BaseDetector:
    """Return a fitted detector; a path is that of a saved one."""
    if not isinstance(detector, (str, os.PathLike)):
        return detector
    return state.load_detector(detector)


def chosen_offset(
    detector: BaseDetector, threshold: float | None, false_alarm_rate: float | None
) -> float:
    """Return the threshold as chosen, or the detector's own."""
    if false_alarm_rate is not None:
        scores = detector.scorer_.calibration_scores.numpy()
        return offset_from_false_alarm_rate(false_alarm_rate, scores)
    return detector.offset_ if threshold is None else float(threshold)


def decided(found: Mapping[str, np.ndarray], offset: float) -> dict[str, np.ndarray]:
    """Return the ``OUTPUTS``, given the scorer's scores and p-values, and a threshold."""
    return {
        "score": found["score"],
        "decision": found["score"] - offset,
        "is_anomaly": found["score"] < offset,
        "p_value": found["p_value"],
    }


def fingerprint(scorer: AnomalyScorer) -> str:
    """Return a hash of all that decides on the scores."""
    from vae_anomaly.detectors.packing import pack_scorer

    config, weights = pack_scorer(scorer)
    digest = hashlib.sha256(json.dumps([config, *weights]).encode())
    for weight in weights.values():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
