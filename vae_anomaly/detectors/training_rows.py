"""Training rows of a table: read, checked, decided on, and those with bad cells left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import validate_data

from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors.warm_start import earlier_input
from vae_anomaly.tables.columns import BadCell, check_finite, frame_arrays
from vae_anomaly.tables.frames import is_frame
from vae_anomaly.tables.inspecting import frame_schema
from vae_anomaly.tables.inspection import MIN_CELLS
from vae_anomaly.tables.names import listed
from vae_anomaly.tables.row_sources import row_source
from vae_anomaly.tables.rows import RowSource, TableRows
from vae_anomaly.tables.sampling import RowSample, default_max_rows
from vae_anomaly.tables.schema import Schema

if TYPE_CHECKING:
    from vae_anomaly.tables.preprocessing import TablePreprocessor

    Arrays = dict[str, np.ndarray]


def _read_rows(detector: Any, source: RowSource, seed: int) -> TableRows:
    """Read training rows that are not in memory: all if they are few, else a sample, by a seed.

    Raises
    ------
    ValueError
        As of the source; there are no rows, or more than half of them are bad.

    Warns
    -----
    DataWarning
        Rows were left out; not all of them train, by the default of ``max_rows``.
    """
    schema = _chosen_schema(detector, lambda: source.inspect(kinds=detector.kinds))
    _check_modelled(schema)
    max_rows = detector.max_rows or default_max_rows(len(schema.kinds))
    with source.bad.reading():
        sample = source.sample(schema, max_rows, seed)
        source.bad.check(sample.n_rows)
    if not sample.n_rows:
        raise ValueError("Expected rows to fit on. Received: 0 sample(s).")
    if source.bad.n_rows and source.bad.quarantine is None:
        warnings.warn(
            f"Left out {source.bad.n_rows} rows that are not as expected, such as "
            f"{source.bad.first}.",
            DataWarning,
            stacklevel=6,
        )
    if sample.all_rows is not None and detector.max_rows is None:
        warnings.warn(
            f"{max_rows} of {sample.n_rows} rows train the model, a uniform sample; what is "
            "learned about columns is by all of them. `max_rows` says how many train.",
            DataWarning,
            stacklevel=6,
        )
    return TableRows(schema, sample.arrays(), sample.all_rows, source.dtypes)


def training_columns(detector: Any, X: Any, seed: int) -> tuple[TableRows, list[int]]:
    """Validate training rows.

    Returns
    -------
    the columns that are modelled, and the rows that were left out
    """
    if isinstance(X, TableRows):
        return _named(detector, X), []
    if (source := row_source(X)) is not None:
        return _with_names(detector, _read_rows(detector, source, seed)), []
    if not is_frame(X):
        for name in ("kinds", "schema"):
            if getattr(detector, name):
                raise ValueError(
                    f"Expected a DataFrame where `{name}` is given. "
                    f"Received: X of type {type(X).__name__}. Wrap it in a pandas.DataFrame."
                )
        X = numbers_of(detector, X, [])
        names = array_names(X.shape[1])
        arrays = dict(zip(names, X.T, strict=True))
        schema = Schema.of_kinds(dict.fromkeys(names, "numeric"))
        return _sampled(detector, schema, arrays, seed, []), []
    if 0 in X.shape:
        raise ValueError(
            f"Expected a table with rows and columns. Received: {X.shape[0]} sample(s) and "
            f"{X.shape[1]} feature(s) (shape={X.shape}) while a minimum of 1 is required."
        )
    schema = _chosen_schema(detector, lambda: frame_schema(X, kinds=detector.kinds))
    _check_modelled(schema)
    validate_data(detector, X, skip_check_array=True)
    bad: list[BadCell] = []
    arrays, left_out = _without_rows(frame_arrays(X, schema, bad=bad), bad)
    return _sampled(detector, schema, arrays, seed, left_out), left_out


def _sampled(
    detector: Any, schema: Schema, arrays: Arrays, seed: int, left_out: list[int]
) -> TableRows:
    """Return rows in memory, or a sample of them where the detector wants no more."""
    if detector.max_rows is None:
        return TableRows(schema, arrays)
    check_finite(arrays, rows_left(arrays, left_out))
    sample = RowSample(schema.kinds, detector.max_rows, seed)
    sample.add(arrays)
    return TableRows(schema, sample.arrays(), sample.all_rows)


def rows_left(arrays: Arrays, left_out: list[int]) -> np.ndarray:
    """Return the numbers of rows, (n,), of a table of which others were left out."""
    n_rows = len(next(iter(arrays.values()))) + len(left_out)
    return np.delete(np.arange(n_rows), left_out)


def _named(detector: Any, rows: TableRows) -> TableRows:
    """Return rows whose schema is decided on; the detector must not say another."""
    if detector.kinds or detector.schema not in (None, rows.schema):
        raise ValueError(
            "Expected neither `kinds` nor another `schema` than that of the rows. Received: "
            f"kinds={detector.kinds!r}, schema={detector.schema!r}."
        )
    _check_modelled(rows.schema)
    if not len(rows):
        raise ValueError("Expected rows to fit on. Received: 0 sample(s).")
    return _with_names(detector, rows)


def _with_names(detector: Any, rows: TableRows) -> TableRows:
    detector.feature_names_in_ = np.array(list(rows.arrays), dtype=object)
    detector.n_features_in_ = len(rows.arrays)
    return rows


def _check_modelled(schema: Schema) -> None:
    if not schema.kinds:
        raise ValueError(
            f"Expected at least one column to model. Received: {listed(schema.columns)}. Say "
            "of which kind a column is, by `kinds`."
        )


def numbers_of(detector: Any, X: Any, names: list[str], **options: Any) -> np.ndarray:
    """Return an array of numbers as float64; what is no number is an error that names the cell."""
    try:
        return validate_data(detector, X, dtype=np.float64, ensure_all_finite=False, **options)
    except (TypeError, ValueError) as error:
        found = _first_other_cell(X)
        if found is None:
            raise
        row, column, cell = found
        name = f" ({names[column]!r})" if column < len(names) else ""
        raise type(error)(
            "Expected numbers, or a DataFrame where other cells are to be modelled. Received: "
            f"{str(cell)!r} in row {row}, column {column}{name} of an array. Pass the DataFrame "
            "itself."
        ) from error


def _first_other_cell(X: Any) -> tuple[int, int, Any] | None:
    """Return row, column and cell of the first cell of an array (n, d) that is no number.

    None: there is none, or it is a container, which scikit-learn tells of.
    """
    cells = np.asarray(X)
    is_mixed = cells.ndim == 2 and cells.dtype.kind in "OTU"
    for row, column in np.ndindex(cells.shape) if is_mixed else ():
        cell = cells[row, column]
        try:
            float(cell)
        except (TypeError, ValueError):
            is_container = isinstance(cell, (Mapping, list, tuple, set, np.ndarray))
            return None if is_container else (row, column, cell)
    return None


def _chosen_schema(detector: Any, inspected: Callable[[], Schema]) -> Schema:
    """Return the given schema, or one found from the cells, with warnings of probable mistakes."""
    if (earlier := earlier_input(detector)) is not None:
        return earlier.schema
    given = detector.schema
    if given is None:
        schema = inspected()
        for note in schema.notes:
            # These are told of when rows are left out, or refused; empty rows are no mistake here.
            if note.code not in ("bad_cells", "bad_rows", "infinite", "empty_rows"):
                warnings.warn(note.message, DataWarning, stacklevel=6)
        return schema
    if detector.kinds:
        raise ValueError(
            f"Expected `kinds` or `schema`. Received both: kinds={detector.kinds!r}. Edit the "
            "schema."
        )
    return given if isinstance(given, Schema) else Schema.from_file(given)


def _without_rows(arrays: Arrays, bad: list[BadCell]) -> tuple[Arrays, list[int]]:
    """Leave out the rows that have bad cells, and say so."""
    rows = sorted({cell.row for cell in bad})
    if not rows:
        return arrays, rows
    first, n_rows = bad[0], len(next(iter(arrays.values())))
    if len(rows) > n_rows / 2:
        raise ValueError(
            f"Column {first.column!r}, row {first.row}: expected a cell of the column's kind. "
            f"Received: {first.value!r}, and {len(rows)} of {n_rows} rows like it. Say by `kinds` "
            "of which kind the column is."
        )
    warnings.warn(
        f"Left out {len(rows)} rows whose cells are not of their column's kind, such as row "
        f"{first.row}, column {first.column!r}: {first.value!r}. Correct them, or say by `kinds` "
        "of which kind the column is.",
        DataWarning,
        stacklevel=6,
    )
    return {name: np.delete(array, rows) for name, array in arrays.items()}, rows


def warn_of_silent_columns(preprocessor: TablePreprocessor, n_rows: int) -> None:
    """Say which columns tell the model nothing, though their cells differ."""
    missing = dict(zip(preprocessor.kinds, preprocessor.missing_share.numpy(), strict=True))
    reasons = {
        name: "dates of one day at most tell nothing of others; not modelled. Fit on more days, or "
        f"model them as numbers: kinds={{{name!r}: 'timestamp'}}."
        for name, parts in preprocessor.dates.items()
        if not any(parts) and missing[name] < 1
    }
    reasons |= {
        name: "no value is a level: each is there once, or as often as more than "
        f"max_levels={preprocessor.max_levels} others; all count as 'any other'. Fit with larger "
        f"`max_levels`, or leave it out: kinds={{{name!r}: 'text'}}."
        for name, levels in preprocessor.levels.items()
        if not levels and (1 - missing[name]) * n_rows >= MIN_CELLS
    }
    for name, reason in reasons.items():
        warnings.warn(f"column {name!r}: {reason}", DataWarning, stacklevel=6)


def array_names(n_columns: int) -> list[str]:
    """Return the names of the columns of an array."""
    return [f"x{index}" for index in range(n_columns)]
