"""Fit a detector to files: what their kind is, its options, and fits to a table."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

import vae_anomaly
from vae_anomaly.batch.progress import ReadingProgress
from vae_anomaly.cli.fit_images import fit_images
from vae_anomaly.detectors import artifact
from vae_anomaly.images.files import files_in
from vae_anomaly.tables.dates import DateFormat
from vae_anomaly.tables.files import is_table
from vae_anomaly.tables.names import listed
from vae_anomaly.tables.sampling import default_max_rows
from vae_anomaly.tables.schema import Schema
from vae_anomaly.tables.schema_text import print_schema
from vae_anomaly.tables.table_files import TableFiles
from vae_anomaly.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector

#: Options that say how a table is written and what its columns are.
SCHEMA_OPTIONS = (
    "schema",
    "numeric",
    "categorical",
    "ids",
    "drop",
    "datetimes",
    "delimiter",
    "encoding",
    "decimal",
    "thousands",
    "na_values",
    "no_header",
    "skip_lines",
    "comment",
)
#: Options that only a table, or only a folder of images, takes.
FIT_OPTIONS = {
    "table": (
        *(*SCHEMA_OPTIONS, "on_bad_row", "max_bad_rows", "quarantine"),
        *("training", "n_reference", "max_rows", "earlier"),
    ),
    "images": ("image_size", "tiles", "augmentation", "color", "resize", "backbone"),
}
#: Options beside which --from can be given; the model has decided on the others.
GO_ON_OPTIONS = (
    *("inputs", "model", "earlier", "contamination", "max_steps", "random_state", "max_rows"),
    *("on_bad_row", "max_bad_rows", "quarantine", "quiet"),
)


def fit_params(quiet: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the detector that do not depend on the kind of input."""
    params = {name: options[name] for name in ("score_type", "latent_dim", "max_steps")}
    contamination, units = options["contamination"], options["hidden_units"].split(",")
    if contamination != "auto":
        contamination = _number(contamination, "--contamination", float)
    return {
        **params,
        "contamination": contamination,
        "hidden_units": [_number(text, "--hidden-units", int) for text in units if text],
        "random_state": options["random_state"],
        "verbose": int(not quiet),
    }


def input_kind(inputs: Sequence[str]) -> str:
    """Return what inputs are of: "table", or "images" for a folder with images, or without tables.

    Raises
    ------
    ValueError
        There is a folder with images among several inputs.
    """
    folders = [name for name in inputs if os.path.isdir(name)]
    of_images = [name for name in folders if files_in(name) or not _has_tables(name)]
    if of_images and len(inputs) > 1:
        raise ValueError(
            "Expected one folder of images, or tables alone: files, folders, patterns. Received: "
            f"{len(inputs)} inputs, and {of_images[0]} has images in it, or no tables."
        )
    return "images" if of_images else "table"


def _has_tables(folder: str) -> bool:
    return any(is_table(name) for name in os.listdir(folder))


def table_schema(
    files: TableFiles,
    *,
    schema: pathlib.Path | None,
    numeric: Sequence[str],
    categorical: Sequence[str],
    ids: Sequence[str],
    drop: Sequence[str],
    datetimes: Sequence[str],
    delimiter: str | None,
    encoding: str | None,
    decimal: str | None,
    thousands: str | None,
    na_values: Sequence[str],
    no_header: bool,
    skip_lines: int | None,
    comment: str | None,
) -> Schema:
    """Return what the columns of table files are: as a schema file says, or as all cells show.

    Parameters
    ----------
    files : TableFiles
    schema : path or None
        Of a schema, as ``inspect`` writes it; the other options must not be given then.
    numeric, categorical, ids, drop, datetimes : sequence of str
        Columns whose kind is known; ``COLUMN=FORMAT`` of dates.
    delimiter, encoding, skip_lines, comment, no_header
        Of the dialect; None: as found.
    decimal, thousands : str or None
        The mark of numbers that could be read in two ways.
    na_values : sequence of str
        Markers of missing cells besides the usual ones.

    Raises
    ------
    ValueError
        A column is unknown, named twice or not of the kind given; a file is no table.
    """
    dialect = {
        "delimiter": delimiter,
        "encoding": encoding,
        "skip_lines": skip_lines,
        "comment": comment,
        "header": "none" if no_header else None,
    }
    dialect = {name: value for name, value in dialect.items() if value is not None}
    kinds, formats = _chosen_kinds(numeric, categorical, ids, drop, datetimes)
    if schema is not None:
        if dialect or kinds or formats or decimal or thousands or na_values:
            raise ValueError(
                "Expected --schema or other options that say what the table is. Received both. "
                f"Edit {schema}."
            )
        return Schema.from_file(schema)
    return files.inspect(
        kinds=kinds,
        date_formats=formats,
        decimal=_decimal(decimal, thousands),
        missing=na_values,
        dialect=dialect,
    )


def fit_table(
    inputs: Sequence[str],
    params: Mapping[str, Any],
    *,
    on_bad_row: str,
    max_bad_rows: int | None,
    quarantine: pathlib.Path,
    training: str,
    n_reference: int,
    max_rows: int | None,
    earlier: pathlib.Path | None,
    **options: Any,
) -> tuple[BaseDetector, str]:
    """Return a detector fitted to table files, and what these were.

    Parameters
    ----------
    inputs : sequence of path
    params : dict
        Of ``VAEDetector``.
    on_bad_row : {"quarantine", "fail"}
        What to do with a row that can't be read.
    max_bad_rows : int or None
        More are an error. None: half of all rows.
    quarantine : path
        CSV file for the rows that can't be read.
    training, n_reference, max_rows
        Of ``VAEDetector``.
    earlier : path or None
        Of a saved detector to go on from; ``params`` are those that it gets then.
    **options
        Of ``table_schema``.

    Raises
    ------
    ValueError
        As of ``table_schema``; there are too many bad rows.
    """
    own = {"training": training, "n_reference": n_reference, "max_rows": max_rows}
    most_bad = 0 if on_bad_row == "fail" else max_bad_rows
    with ReadingProgress(quiet=not params["verbose"]) as progress:
        files = TableFiles(inputs, quarantine=quarantine, max_bad_rows=most_bad, progress=progress)
        try:
            if earlier is None:
                detector, what = _new_detector(files, {**own, **params}, options)
            else:
                detector, what = _earlier_detector(earlier, params, max_rows)
            known = _levels(detector)
            with warnings.catch_warnings():  # said below
                warnings.filterwarnings("ignore", message=r"\d+ of \d+ rows train")
                detector.fit(files)
        except KeyboardInterrupt:
            click.echo(f"stopped {progress.so_far}; a new fit starts anew", err=True)
            raise
    detector.set_params(warm_start=False)
    _tell_of_bad_rows(files, quarantine)
    _tell_of_new_levels(known, _levels(detector))
    return detector, f"{_counted(files, detector)}, {what}"


def _earlier_detector(
    earlier: pathlib.Path, params: Mapping[str, Any], max_rows: int | None
) -> tuple[BaseDetector, str]:
    """Return a saved detector that goes on when it is fitted; and how it is fitted."""
    artifact.read(earlier)
    import_tensorflow()
    detector = vae_anomaly.load_detector(earlier)
    # The steps of the earlier fit were those of a fit that begins.
    detector.set_params(**{"max_steps": None, **params}, warm_start=True)
    if max_rows is not None:
        detector.set_params(max_rows=max_rows)
    return detector, f"going on from {earlier}"


def _new_detector(
    files: TableFiles, params: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[BaseDetector, str]:
    """Return a detector to fit, by what all cells show, which is printed; and what rows are."""
    schema = table_schema(files, **options)
    if params["verbose"]:
        print_schema(schema, Console(stderr=True, width=max(Console().width, 100)))
    import_tensorflow()
    what = {"as_is": "as they come", "clean": "all taken for normal"}[params["training"]]
    return vae_anomaly.VAEDetector(schema=schema, **params), what


def _levels(detector: BaseDetector) -> dict[str, list[str]]:
    """Return the levels that a fitted detector knows, by column; none of a new one."""
    return detector.scorer_.preprocessor.levels if hasattr(detector, "scorer_") else {}


def _tell_of_new_levels(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> None:
    for name, levels in before.items():
        if new := [level for level in after[name] if level not in levels]:
            click.echo(f"new levels of {name!r}: {listed(new)}", err=True)


def _tell_of_bad_rows(files: TableFiles, quarantine: pathlib.Path) -> None:
    if files.bad.n_rows:
        click.echo(
            f"left out {files.bad.n_rows} rows, now in {quarantine}; the first: {files.bad.first}",
            err=True,
        )


def _counted(files: TableFiles, detector: BaseDetector) -> str:
    """Return how many rows and columns trained; where it was a sample, say what else is by it."""
    n_rows, n_columns = files.n_rows - files.bad.n_rows, detector.n_features_in_
    most = detector.max_rows or default_max_rows(n_columns)
    if n_rows <= most:
        return f"{n_rows} rows of {n_columns} columns"
    click.echo(_SAMPLED, err=True)
    return f"{most} of {n_rows} rows of {n_columns} columns"


#: What is known of all rows, where a sample of them trains.
_SAMPLED = (
    "by all rows: kinds, formats, levels, missing shares and ranges, exactly; scales and normal "
    "scores, within 0.1% of the ranks. By a uniform sample of them (--max-rows): the model, its "
    "calibration, the steps of numbers, and what batches are compared with"
)


def _number(text, option, kind):
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{option}: expected a number. Received: {text!r}.") from None


def _chosen_kinds(numeric, categorical, ids, drop, datetimes):
    """Return the kinds and the formats of dates that the options give."""
    formats = dict(text.split("=", 1) for text in datetimes if "=" in text)
    named = [
        *((name, "numeric") for name in numeric),
        *((name, "categorical") for name in categorical),
        *((name, "id") for name in ids),
        *((name, "dropped") for name in drop),
        *((text.split("=", 1)[0], "datetime") for text in datetimes),
    ]
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Expected one option for a column. Received several: {twice}.")
    kinds = {name: kind for name, kind in named if name not in formats}
    return kinds, {name: DateFormat(pattern) for name, pattern in formats.items()}


def _decimal(decimal, thousands):
    """Return the decimal mark that two options say."""
    if decimal and decimal == thousands:
        raise ValueError(f"Expected --decimal unlike --thousands. Received: {decimal!r} for both.")
    return decimal or {",": ".", ".": ","}.get(thousands)


#: What fits a detector to each kind of input.
FIT: dict[str, Callable[..., tuple[BaseDetector, str]]] = {
    "table": fit_table,
    "images": fit_images,
}
