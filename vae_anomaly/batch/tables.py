"""Chunks of tables to scored chunks: which columns are kept, which are added."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vae_anomaly.batch.places import identity
from vae_anomaly.batch.summary import Tally
from vae_anomaly.detectors import artifact
from vae_anomaly.scoring.calibration import offset_from_false_alarm_rate
from vae_anomaly.tables.columns import arrays_frame
from vae_anomaly.tables.csv_rows import text_schema
from vae_anomaly.tables.files import STANDARD, TableError
from vae_anomaly.tables.reader import CHUNK_ROWS, Chunk, TableReader, check_columns
from vae_anomaly.tables.rules import KINDS

OUTPUTS = ("score", "decision", "is_anomaly", "p_value")


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredChunk:
    """Consecutive rows of an input with what the scorer says of them."""

    source: str  #: path of the input
    raw: Any  #: pyarrow.Table of the columns to keep, as they were read
    outputs: dict[str, np.ndarray]  #: the columns to add, each (n,)
    bad: Sequence[Any]  #: ``pieces.BadRow``: rows in between that could not be read
    arrays: dict[str, np.ndarray]  #: the modelled columns, as the scorer took them


class ChunkScorer:
    """What is done to each chunk of the inputs; all is checked before TensorFlow is imported.

    Parameters
    ----------
    paths : sequence of path
    detector : fitted detector, or path of a saved one
    columns, explain, threshold, false_alarm_rate, delimiter, encoding, chunk_rows, load
        As of ``batch.score_files``.

    Attributes
    ----------
    output_names : list of str
        The columns that scoring adds.

    Raises
    ------
    ValueError
        An option that makes no sense, an input that is not a table like the model's.
    """

    quarantine_header = ("file", "line", "column", "reason", "text")

    def __init__(
        self,
        paths,
        detector,
        *,
        columns=None,
        explain=None,
        threshold=None,
        false_alarm_rate=None,
        delimiter=None,
        encoding="utf-8",
        chunk_rows=CHUNK_ROWS,
        load=artifact.load_detector,
    ):
        is_path = isinstance(detector, (str, os.PathLike))
        if is_path:
            description = artifact.read(detector)
            self.kinds = description["scorer"]["preprocessor"].get("kinds")
            overrides = description["params"].get("kinds") or {}
        else:
            self.kinds = getattr(detector.scorer_.preprocessor, "kinds", None)
            overrides = detector.kinds or {}
        if self.kinds is None:
            raise ValueError(
                "Expected a model of tables. Received: a model of images. Score image files with "
                "image_batch.score_image_files."
            )
        if explain is not None and not 1 <= explain <= len(self.kinds):
            raise ValueError(
                f"Expected `explain` from 1 to the number of modelled columns, {len(self.kinds)}. "
                f"Received: explain={explain!r}."
            )
        check_threshold(threshold, false_alarm_rate)
        if chunk_rows < 1:
            raise ValueError(f"Expected `chunk_rows` >= 1. Received: chunk_rows={chunk_rows!r}.")
        columns = list(dict.fromkeys(columns or ()))
        self.paths = paths
        self.options = {
            "columns": columns,
            "explain": explain,
            "threshold": threshold,
            "false_alarm_rate": false_alarm_rate,
            "delimiter": delimiter,
            "encoding": encoding,
            "chunk_rows": chunk_rows,
        }
        if explain is None:
            self.output_names = [*OUTPUTS, *(f"feature_log_prob:{name}" for name in self.kinds)]
        else:
            reasons = [_reason_names(rank) for rank in range(1, explain + 1)]
            self.output_names = [*OUTPUTS, *(name for names in reasons for name in names)]
        self._explain, self._chunk_rows = explain, chunk_rows
        self._format = {"delimiter": delimiter, "encoding": encoding, "blank_ok": True}
        self._stdin = TableReader(STANDARD, **self._format) if STANDARD in paths else None
        self._schemas = {}
        self._blank = set()
        ignored = [name for name, kind in overrides.items() if kind not in KINDS]
        for path in paths:
            with self.reader(path) as reader:
                if not reader.schema.names:
                    self._blank.add(path)
                    continue
                self._schemas[path] = reader.schema
                check_columns(path, reader.names, list(self.kinds), ignored)
                check_columns(path, reader.schema.names, columns, ignore=reader.schema.names)
        # A file without even a header is a table like the first one, without rows.
        first = next(iter(self._schemas.values()), None) or text_schema(columns or self.kinds)
        self._schemas = {path: self._schemas.get(path, first) for path in paths}
        self.kept = {
            path: columns or [name for name in schema.names if overrides.get(name) != "dropped"]
            for path, schema in self._schemas.items()
        }
        for path, names in self.kept.items():
            taken = [f"{name!r}" for name in names if name in self.output_names]
            if taken:
                raise TableError(
                    f"{path}: expected no column named like an output, received "
                    f"{', '.join(taken)}; rename it, or choose others with `columns`"
                )
        fitted = load(detector) if is_path else detector
        self._scorer = fitted.scorer_
        if dict(self._scorer.preprocessor.kinds) != dict(self.kinds):
            raise ValueError(f"{detector}: the model was replaced while it was read. Run again.")
        self._offset = chosen_offset(fitted, threshold, false_alarm_rate)

    def check_alike(self, *, types):
        """Check that the columns to keep are the same in all inputs, perhaps with their types."""
        first = self.paths[0]
        for path in self.paths[1:]:
            check_columns(path, self.kept[path], self.kept[first])
            self.kept[path] = self.kept[first]
            for name in self.kept[first] if types else ():
                expected, found = (self._schemas[p].field(name).type for p in (first, path))
                if found != expected:
                    raise TableError(
                        f"{path}, column {name!r}: expected {expected} as in {first}, received "
                        f"{found}; write CSV, or to a folder"
                    )

    def reader(self, path):
        """Open an input."""
        return self._stdin if path == STANDARD else TableReader(path, **self._format)

    def chunks(self, path, reader, start=()):
        """Yield the chunks of an open input, bad rows apart, with what the scorer takes of each."""
        if path in self._blank:
            dtypes = {"categorical": object}
            arrays = {name: np.zeros(0, dtypes.get(k, "f8")) for name, k in self.kinds.items()}
            yield Chunk(self._schemas[path].empty_table(), arrays, [], ()), arrays
            return
        for chunk in reader.chunks(
            self.kinds, chunk_rows=self._chunk_rows, start=tuple(start), keep_bad=True
        ):
            yield chunk, chunk.arrays

    def identity(self, path):
        """Return what tells whether an input has changed."""
        return identity(path)

    def tally(self, state):
        """Return a ``Tally`` of what is scored, which goes on from a state."""
        return Tally(self._scorer.preprocessor, self._scorer.calibration_scores.numpy(), state)

    def job(self):
        """Return all that decides on the outputs, as plain data."""
        return {
            "model": fingerprint(self._scorer),
            "columns": sorted(map(list, set(map(tuple, self.kept.values())))),
            "options": self.options,
        }

    def place(self, scored, bad):
        """Return where a bad row of a chunk is, for messages."""
        return f"{scored.source}, line {bad.line}"

    def quarantine_row(self, scored, bad):
        """Return what the quarantine says of a bad row, by ``quarantine_header``."""
        return scored.source, bad.line, bad.column or "", bad.reason, bad.text

    def scored(self, path, chunk, arrays):
        """Score one of the ``chunks`` of an input."""
        found = self._scorer.run(arrays, ("score", "p_value", "feature_log_prob"))
        outputs = decided(found, self._offset)
        contributions = np.asfortranarray(found["feature_log_prob"])  # taken by columns
        if self._explain is None:
            for index, name in enumerate(self.kinds):
                outputs[f"feature_log_prob:{name}"] = contributions[:, index]
        else:
            outputs.update(self._reasons(arrays, contributions))
        raw = chunk.raw.select(self.kept[path])
        return ScoredChunk(path, raw, outputs, chunk.bad, arrays)

    def _reasons(self, arrays, contributions):
        """Name the columns that lowered each score most, with the values expected there."""
        expected = self._scorer.preprocessor.inverse(self._scorer.reconstruct(arrays))
        order = np.argsort(contributions, axis=1, kind="stable")[:, : self._explain]
        reasons = {}
        for rank, columns in enumerate(order.T, 1):
            column, contribution, expectation = _reason_names(rank)
            texts = np.empty(len(columns), dtype=object)
            for index, (name, kind) in enumerate(self.kinds.items()):
                rows = columns == index
                texts[rows] = _texts(expected[name][rows], kind)
            reasons[column] = np.array(list(self.kinds), dtype=object)[columns]
            reasons[contribution] = np.take_along_axis(contributions, columns[:, None], 1)[:, 0]
            reasons[expectation] = texts
        return reasons


def check_threshold(threshold, false_alarm_rate):
    """Raise ValueError unless a threshold is given in one way, or not."""
    if threshold is not None and false_alarm_rate is not None:
        raise ValueError("Expected `threshold` or `false_alarm_rate`. Received both.")
    if threshold is not None and not np.isfinite(threshold):
        raise ValueError(f"Expected a finite `threshold`. Received: threshold={threshold!r}.")


def chosen_offset(detector, threshold, false_alarm_rate):
    """Return the threshold as chosen, or the detector's own."""
    if false_alarm_rate is not None:
        scores = detector.scorer_.calibration_scores.numpy()
        return offset_from_false_alarm_rate(false_alarm_rate, scores)
    return detector.offset_ if threshold is None else float(threshold)


def decided(found, offset):
    """Return the ``OUTPUTS``, given the scorer's scores and p-values, and a threshold."""
    return {
        "score": found["score"],
        "decision": found["score"] - offset,
        "is_anomaly": found["score"] < offset,
        "p_value": found["p_value"],
    }


def fingerprint(scorer):
    """Return a hash of all that decides on the scores."""
    config, weights = artifact.pack_scorer(scorer)
    digest = hashlib.sha256(json.dumps(config).encode())
    for weight in weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _reason_names(rank):
    return f"reason_{rank}", f"reason_{rank}_contribution", f"reason_{rank}_expected"


def _texts(values, kind):
    if kind == "categorical":
        return [text or "(any other)" for text in values]
    if kind == "datetime":
        moments = arrays_frame({"": values}, {"": kind})[""].to_numpy()
        return np.datetime_as_string(moments, unit="s").tolist()
    return [f"{value:.6g}" for value in values]
