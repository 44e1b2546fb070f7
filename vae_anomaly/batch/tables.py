"""Chunks of tables to scored chunks: which columns are kept, which are added."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vae_anomaly.batch.chunks import (
    OUTPUTS,
    ScoredChunk,
    check_threshold,
    chosen_offset,
    decided,
    fingerprint,
    loaded,
)
from vae_anomaly.batch.places import find_inputs, identity, is_folder
from vae_anomaly.batch.reasons import ReasonColumns, reason_names
from vae_anomaly.batch.summary import Tally
from vae_anomaly.detectors import artifact
from vae_anomaly.tables.csv_rows import text_schema
from vae_anomaly.tables.files import STANDARD, TableError, file_format
from vae_anomaly.tables.reader import CHUNK_ROWS, Chunk, TableReader, check_columns
from vae_anomaly.tables.rules import KINDS


class TableChunkScorer:
    """Scores tables chunk by chunk; implements ``chunks.ChunkScorer``.

    Parameters
    ----------
    inputs, detector, columns, explain, contributions, threshold, false_alarm_rate, delimiter, \
encoding, chunk_rows
        As of ``run.score_files``.
    exclude : collection of path
        As of ``places.find_inputs``.

    Attributes
    ----------
    kinds : dict of str to str
        The modelled columns and their kinds.
    output_names : list of str
        The columns that scoring adds.

    Raises
    ------
    ValueError
        An option that makes no sense, an input that is not a table like the model's.
    """

    title: ClassVar[str] = "a table"
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "columns": None,
        "explain": None,
        "contributions": False,
        "delimiter": None,
        "encoding": "utf-8",
        "chunk_rows": CHUNK_ROWS,
    }
    quarantine_header: ClassVar[tuple[str, ...]] = ("file", "line", "column", "reason", "text")
    maps = None
    reasons: ReasonColumns | None = None

    def __init__(
        self,
        inputs,
        detector,
        *,
        exclude,
        columns,
        explain,
        contributions,
        threshold,
        false_alarm_rate,
        delimiter,
        encoding,
        chunk_rows,
    ):
        self.paths = self.files = find_inputs(inputs, exclude)
        self.warnings: list[str] = []
        self.identities = [identity(path) for path in self.paths]
        self._detector = detector
        self.kinds, overrides = _kinds(detector)
        columns = list(dict.fromkeys(columns or ()))
        self.options = {
            "columns": columns,
            "explain": explain,
            "contributions": contributions,
            "threshold": threshold,
            "false_alarm_rate": false_alarm_rate,
            "delimiter": delimiter,
            "encoding": encoding,
            "chunk_rows": chunk_rows,
        }
        _check_options(self.options, self.kinds)
        self._chunk_rows = chunk_rows
        self.output_names = [*OUTPUTS, *reason_names(explain or 0)]
        if contributions:
            self.output_names += [f"feature_log_prob:{name}" for name in self.kinds]
        self._format = {"delimiter": delimiter, "encoding": encoding, "blank_ok": True}
        self._stdin = TableReader(STANDARD, **self._format) if STANDARD in self.paths else None
        ignored = [name for name, kind in overrides.items() if kind not in KINDS]
        self._read_schemas(columns, ignored)
        self.kept = {
            path: columns or [name for name in schema.names if overrides.get(name) != "dropped"]
            for path, schema in self._schemas.items()
        }
        self._check_names()

    def _read_schemas(self, columns, ignored):
        """Read the header of each input, and check that it has the columns asked for."""
        schemas = {}
        for path in self.paths:
            with self.reader(path) as reader:
                if reader.schema.names:
                    schemas[path] = reader.schema
                    check_columns(path, reader.names, list(self.kinds), ignored)
                    check_columns(path, reader.schema.names, columns, ignore=reader.schema.names)
        self._blank = set(self.paths) - set(schemas)
        # A file without even a header is a table like the first one, without rows.
        first = next(iter(schemas.values()), None) or text_schema(columns or self.kinds)
        self._schemas = {path: schemas.get(path, first) for path in self.paths}

    def _check_names(self):
        for path, names in self.kept.items():
            taken = [f"{name!r}" for name in names if name in self.output_names]
            if taken:
                raise TableError(
                    f"{path}: expected no column named like an output, received "
                    f"{', '.join(taken)}; rename it, or choose others with `columns`"
                )

    def load(self):
        """Load the model; nothing below ``check_output`` works without."""
        fitted = loaded(self._detector)
        self._scorer = fitted.scorer_
        if dict(self._scorer.preprocessor.kinds) != dict(self.kinds):
            raise ValueError(
                f"{self._detector}: the model was replaced while it was read. Run again."
            )
        if self.options["explain"]:
            self.reasons = ReasonColumns(self._scorer, self.options["explain"])
        self._offset = chosen_offset(
            fitted, self.options["threshold"], self.options["false_alarm_rate"]
        )

    def check_output(self, output, format):
        """Check that the inputs fit into one file, unless each gets its own."""
        if not is_folder(output):
            self._check_alike(types=(format or file_format(output)) == "parquet")

    def _check_alike(self, *, types):
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
        wanted = ("feature_log_prob",) if self.options["contributions"] else ()
        found = self._scorer.run(arrays, ("score", "p_value", *wanted))
        outputs = decided(found, self._offset)
        if self.reasons:
            outputs |= self.reasons.blank(len(found["score"]))
        if wanted:
            contributions = np.asfortranarray(found["feature_log_prob"])  # taken by columns
            for index, name in enumerate(self.kinds):
                outputs[f"feature_log_prob:{name}"] = contributions[:, index]
        raw = chunk.raw.select(self.kept[path])
        return ScoredChunk(path, raw, outputs, chunk.bad, arrays)


def _kinds(detector):
    """Return the kinds of the modelled columns, and those that the detector was given."""
    if isinstance(detector, (str, os.PathLike)):
        description = artifact.read(detector)
        kinds = description["scorer"]["preprocessor"]["kinds"]
        return kinds, description["params"].get("kinds") or {}
    return detector.scorer_.preprocessor.kinds, detector.kinds or {}


def _check_options(options, kinds):
    explain, chunk_rows = options["explain"], options["chunk_rows"]
    if explain is not None and not 1 <= explain <= len(kinds):
        raise ValueError(
            f"Expected `explain` from 1 to the number of modelled columns, {len(kinds)}. "
            f"Received: explain={explain!r}."
        )
    check_threshold(options["threshold"], options["false_alarm_rate"])
    if chunk_rows < 1:
        raise ValueError(f"Expected `chunk_rows` >= 1. Received: chunk_rows={chunk_rows!r}.")
