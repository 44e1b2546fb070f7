"""Chunks of tables to scored chunks: which columns are kept, which are added."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vae_anomaly.batch.chunks import ScoredChunk, fingerprint, loaded
from vae_anomaly.batch.places import identity, is_folder
from vae_anomaly.batch.reasons import ReasonColumns
from vae_anomaly.batch.rows import RowScorer
from vae_anomaly.batch.summary import Tally
from vae_anomaly.tables.dialect import Dialect
from vae_anomaly.tables.files import STANDARD, TableError, file_format
from vae_anomaly.tables.fitting_dialect import fitting_dialect
from vae_anomaly.tables.names import differences, listed
from vae_anomaly.tables.paths import find_inputs
from vae_anomaly.tables.pieces import text_schema
from vae_anomaly.tables.reader import CHUNK_ROWS, Chunk, TableReader, check_columns


class TableChunkScorer:
    """Scores tables chunk by chunk; implements ``chunks.ChunkScorer``.

    Parameters
    ----------
    inputs, detector, columns, explain, contributions, threshold, false_alarm_rate, delimiter, \
encoding, chunk_rows
        As of ``run.score_files``.
    exclude : collection of path
        As of ``paths.find_inputs``.

    Attributes
    ----------
    kinds : dict of str to str
        The modelled columns and their kinds.

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
        "encoding": None,
        "strict": False,
        "allow_missing": None,
        "chunk_rows": CHUNK_ROWS,
    }
    # An operation on a chunk of rows is too small to be shared; chunks compute side by side.
    threads_per_operation: ClassVar[int | None] = 1
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
        strict,
        allow_missing,
        chunk_rows,
    ):
        self.paths = self.files = find_inputs(
            inputs, exclude, why="for the model is one of tables, "
        )
        self.warnings: list[str] = []
        self.identities = [identity(path) for path in self.paths]
        if chunk_rows < 1:
            raise ValueError(f"Expected `chunk_rows` >= 1. Received: chunk_rows={chunk_rows!r}.")
        self._detector = detector
        self._rows = RowScorer(
            detector,
            explain=explain,
            contributions=contributions,
            threshold=threshold,
            false_alarm_rate=false_alarm_rate,
            allow_missing=allow_missing,
        )
        self._schema, self.kinds = self._rows.schema, self._rows.kinds
        columns = list(dict.fromkeys(columns or ()))
        self.options = {
            "columns": columns,
            "explain": explain,
            "contributions": contributions,
            "threshold": threshold,
            "false_alarm_rate": false_alarm_rate,
            "delimiter": delimiter,
            "encoding": encoding,
            "strict": strict,
            "allow_missing": self._rows.allow_missing,
            "chunk_rows": chunk_rows,
        }
        self._chunk_rows = chunk_rows
        self._dialect = self._training_dialect()
        self._dialects: dict[Any, Dialect | dict[str, Any]] = {}
        self._stdin = self._opened(STANDARD) if STANDARD in self.paths else None
        self._read_schemas(columns)
        self.kept = {
            path: columns or self._rows.written(schema.names)
            for path, schema in self._schemas.items()
        }

    def _training_dialect(self):
        """Return the dialect of the training file, as far as the options say no other."""
        given = {name: self.options[name] for name in ("delimiter", "encoding")}
        given = {name: value for name, value in given.items() if value is not None}
        trained = self._schema.dialect
        return replace(trained, **given) if trained else given

    def _opened(self, path):
        """Open an input by the dialect of the training file, or, if its columns do not fit, anew.

        Warns once of each input in another dialect, with the differences.
        """
        if path not in self._dialects:
            self._dialects[path] = self._dialect
            if file_format(path) != "parquet" and isinstance(self._dialect, Dialect):
                self._dialects[path] = self._fitting_dialect(path)
        return TableReader(path, dialect=self._dialects[path], blank_ok=True)

    def _fitting_dialect(self, path):
        given = {name: self.options[name] for name in ("delimiter", "encoding")}
        if path == STANDARD:  # it can be read once only
            return given
        dialect = fitting_dialect(path, self._schema, self._dialect, self.kinds, given)
        if differing := dialect.differences(self._dialect):
            said = ", ".join(f"{name} {new!r} for {o!r}" for name, (new, o) in differing.items())
            self.warnings.append(f"{path}: written in another way than the training file: {said}")
        return dialect

    def _read_schemas(self, columns):
        """Read the header of each input, and check that it has the columns asked for."""
        schemas = {}
        allowed = self.options["allow_missing"]
        check_columns("--allow-missing", list(self.kinds), allowed, ignore=self.kinds)
        for path in self.paths:
            with self.reader(path) as reader:
                if reader.schema.names:
                    schemas[path] = reader.schema
                    self._check_input(path, reader.names)
                    check_columns(path, reader.schema.names, columns, ignore=reader.schema.names)
        self._blank = set(self.paths) - set(schemas)
        # A file without even a header is a table like the first one, without rows.
        first = next(iter(schemas.values()), None) or text_schema(columns or self.kinds)
        self._schemas = {path: schemas.get(path, first) for path in self.paths}

    def _check_input(self, path, names):
        """Check that the modelled columns are there; others are ignored, or refused if strict."""
        expected, extra = self._rows.needed(names), self._rows.unknown(names)
        found = differences(names, expected, names)
        if found or (extra and self.options["strict"]):
            found = differences(names, expected, [*self._schema.columns])
            problems = "; ".join(f"{what} columns: {names}" for what, names in found.items())
            fix = "rename, add or remove columns to match"
            if "missing" in found:
                fix += ", or count a column's cells as missing with --allow-missing COLUMN"
            raise TableError(f"{path}: {problems}; {fix}")
        if extra:
            self.warnings.append(
                f"{path}: columns that the model does not know are ignored: {listed(extra)}; "
                "--strict refuses them"
            )
        if absent := self._rows.absent(names):
            self.warnings.append(f"{path}: no column {listed(absent)}; counted as missing cells")

    def _check_names(self):
        for path, names in self.kept.items():
            if taken := self._rows.taken(names):
                raise TableError(
                    f"{path}: expected no column named like an output, received "
                    f"{', '.join(map(repr, taken))}; rename it, or choose others with `columns`"
                )

    def load(self):
        """Load the model; nothing below ``check_output`` works without."""
        self._rows.load(loaded(self._detector))
        self.reasons, self.offset = self._rows.reasons, self._rows.offset
        self.calibration_scores = self._rows.scorer.calibration_scores.numpy()

    def check_output(self, output, format):
        """Check names, and that the inputs fit into one file, unless each gets its own."""
        self._check_names()
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
        return self._stdin if path == STANDARD and self._stdin else self._opened(path)

    def chunks(self, path, reader, start=()):
        """Yield the chunks of an open input, bad rows apart, with what the scorer takes of each."""
        if path in self._blank:
            arrays = self._rows.filled({}, 0)
            yield Chunk(self._schemas[path].empty_table(), arrays, [], ()), arrays
            return
        for chunk in reader.chunks(
            self._rows.present(reader.names),
            chunk_rows=self._chunk_rows,
            start=tuple(start),
            keep_bad=True,
        ):
            yield chunk, self._rows.filled(chunk.arrays, chunk.raw.num_rows)

    def identity(self, path):
        """Return what tells whether an input has changed."""
        return identity(path)

    def row_name(self, scored, row, number):
        """Return the file and which of the rows that could be read it is, the first is 1."""
        return f"{scored.source}, row {number + 1:,}"

    def tally(self, state):
        """Return a ``Tally`` of what is scored, which goes on from a state."""
        return Tally(
            self._rows.scorer.preprocessor,
            self.calibration_scores,
            state,
            pooled=self._rows.is_pooled,
        )

    def job(self):
        """Return all that decides on the outputs, as plain data."""
        return {
            "model": fingerprint(self._rows.scorer),
            "columns": sorted(map(list, set(map(tuple, self.kept.values())))),
            "options": self.options,
        }

    def place(self, scored, bad):
        """Return where a bad row of a chunk is, for messages."""
        column = f", column {bad.column!r}" if bad.column else ""
        return f"{scored.source}, line {bad.line}{column}"

    def quarantine_row(self, scored, bad):
        """Return what the quarantine says of a bad row, by ``quarantine_header``."""
        return scored.source, bad.line, bad.column or "", bad.reason, bad.text

    def scored(self, path, chunk, arrays):
        """Score one of the ``chunks`` of an input."""
        raw = chunk.raw.select(self.kept[path])
        return ScoredChunk(path, raw, self._rows.outputs(arrays, self.offset), chunk.bad, arrays)
