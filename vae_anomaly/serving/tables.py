"""What a server takes and answers for tables: signatures, sample rows, and names of inputs.

======================= ====================================================================
signature               outputs for n rows
======================= ====================================================================
``serving_default``     ``score``, ``decision``, ``p_value`` float64 (n,), ``is_anomaly`` bool
                        (n,), ``feature_log_prob`` float64 (n, columns), as those of
                        ``scoring.tables.TableScorer``
``explain``             these; ``latent`` and ``baseline`` (n,); for each column
                        ``<input>_contribution`` and ``<input>_expected`` (n,)
``latent``              ``z_mean``, float32 (n, latent_dim)
``matrix``              as ``serving_default``, but takes one input ``rows``, (n, columns);
                        only where all columns are numbers or all are categories
======================= ====================================================================

Columns are raw. Numbers, booleans (0 or 1) and datetimes (seconds since 1970-01-01 UTC) are
float64, categories are text. A missing number is NaN, or ``MISSING_NUMBER``, since strict JSON has
no NaN; missing text is "".
"""

import keyword
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.serving.served import Arrays, Served, Tensors, traced
from vae_anomaly.tables.rules import GRAPH_SPELLINGS

if TYPE_CHECKING:
    from tensorflow.types.experimental import ConcreteFunction

# All finite numbers under MISSING_BELOW are missing, not one alone: parsers of JSON differ in the
# last digit.
MISSING_NUMBER = -1e308
MISSING_BELOW = -9e307

_N_TYPICAL_ROWS = 3


class ServedTable(Served):
    """A detector of tables as ``export`` sees it.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted on a table.

    Raises
    ------
    ValueError
        A column has values that a server takes for missing.
    """

    indent = 1
    meanings = {
        "feature_log_prob": "what each column adds to the score relative to what is usual for it; "
        "columns in the order of this file",
        "latent": "what no column owns of the score",
        "<input>_contribution": "the column's part of feature_log_prob",
        "<input>_expected": "what the model expects in place of the cell, in its units "
        "(a boolean: the probability of 1; a category: the most probable, '' for any other)",
    }

    def __init__(self, detector: Any) -> None:
        super().__init__(detector.scorer_)
        self._preprocessor = self.scorer.preprocessor
        self._kinds = self._preprocessor.kinds
        self._columns = self._preprocessor.schema()
        self._inputs = input_names([column["name"] for column in self._columns])
        self.lookup_tables = self._preprocessor.lookup_tables
        for column in self._columns:
            if column.get("center", 0.0) - 100 * column.get("scale", 0.0) < MISSING_BELOW:
                raise ValueError(
                    f"Column {column['name']!r}: expected numbers far above {MISSING_BELOW}, under "
                    f"which a served number is missing. Received: a column around "
                    f"{column['center']:g}. Rescale it and fit again."
                )

    def specs(self) -> dict[str, tf.TensorSpec]:
        return {
            self._inputs[name]: tf.TensorSpec([None], served_dtype(kind), name=self._inputs[name])
            for name, kind in self._kinds.items()
        }

    def raw(self, tensors: Tensors) -> Tensors:
        columns = {name: tensors[self._inputs[name]] for name in self._kinds}
        return raw_columns(columns, self._kinds)

    def more_signatures(self) -> "dict[str, ConcreteFunction]":
        dtypes = {served_dtype(kind) for kind in self._kinds.values()}
        if len(dtypes) > 1:
            return {}

        def matrix(tensors):
            arrays = tf.unstack(tensors["rows"], num=len(self._kinds), axis=1)
            columns = dict(zip(self._kinds, arrays, strict=True))
            return self.scored(raw_columns(columns, self._kinds))

        spec = tf.TensorSpec([None, len(self._kinds)], *dtypes, name="rows")
        return {"matrix": traced(matrix, {"rows": spec})}

    def more_explained(self, raw: Tensors, outputs: Tensors) -> Tensors:
        x_and_observed = self._preprocessor.call(raw)
        reconstruction = self.scorer.model.reconstruct(x_and_observed)
        expected = self._preprocessor.inverse_tensors(reconstruction, raw)
        contributions = tf.unstack(outputs["feature_log_prob"], num=len(self._kinds), axis=1)
        explained = {}
        for name, contribution in zip(self._kinds, contributions, strict=True):
            explained[f"{self._inputs[name]}_contribution"] = contribution
            explained[f"{self._inputs[name]}_expected"] = _finite(expected[name])
        return explained

    def sample(self) -> Arrays:
        """Make rows from the schema alone: typical ones, one that is all missing, a far one."""
        rng = np.random.default_rng(0)
        arrays = {}
        for column in self._columns:
            name = column["name"]
            if column["kind"] == "categorical":
                cells = [*rng.choice(column["levels"] or [""], size=_N_TYPICAL_ROWS)]
                cells = [str(cell) for cell in [*cells, "", "never seen"]]
                arrays[name] = np.array(cells, dtype=object)
                continue
            if column["kind"] == "boolean":
                cells = [*rng.integers(0, 2, size=_N_TYPICAL_ROWS), np.nan, 1]
            else:
                center, scale = column["center"], column["scale"]
                near = center + scale * rng.uniform(-1, 1, size=_N_TYPICAL_ROWS)
                cells = [*near, np.nan, min(center + 50 * scale, np.finfo(np.float64).max)]
            exact = np.array(cells, dtype=np.float64)
            # Digits that people can read, where they are enough.
            rounded = np.array([float(f"{cell:.6g}") for cell in exact])
            step = 1e-3 * column.get("scale", 1.0)
            arrays[name] = np.where(np.abs(rounded - exact) < step, rounded, exact)
        return arrays

    def explained(self, raw: Arrays, answers: Arrays) -> Arrays:
        expected = self._preprocessor.inverse(self.scorer.reconstruct(raw), raw)
        explained = {}
        for index, (name, key) in enumerate(self._inputs.items()):
            explained[f"{key}_contribution"] = answers["feature_log_prob"][:, index]
            explained[f"{key}_expected"] = expected[name]
        return explained

    def requests(self, raw: Arrays) -> dict[str, Arrays]:
        columns = {
            self._inputs[name]: array
            if array.dtype == object
            else np.where(np.isnan(array), MISSING_NUMBER, array)
            for name, array in raw.items()
        }
        matrix = {"rows": np.stack(list(columns.values()), axis=1)}
        by_column = dict.fromkeys(("serving_default", "explain", "latent"), columns)
        return {**by_column, "matrix": matrix}

    def schema(self) -> dict[str, Any]:
        columns = []
        for column in self._columns:
            is_text = column["kind"] == "categorical"
            served = {
                "input": self._inputs[column["name"]],
                "dtype": served_dtype(column["kind"]).name,
                "missing": [""] if is_text else ["NaN", MISSING_NUMBER],
            }
            if column["kind"] == "boolean":
                served["units"] = "0 or 1"
            columns.append({"name": column["name"], **served, **column})
        return {"columns": columns}

    def array_spec(self) -> tf.TensorSpec:
        return tf.TensorSpec([None, len(self._kinds)], tf.float64, name="rows")

    def raw_of_array(self, array: tf.Tensor) -> Tensors:
        arrays = tf.unstack(array, num=len(self._kinds), axis=1)
        numbers = dict.fromkeys(self._kinds, "numeric")
        columns = raw_columns(dict(zip(self._kinds, arrays, strict=True)), numbers)
        for name, kind in self._kinds.items():
            if kind == "categorical":
                missing = tf.constant(-1.0, tf.float64)
                is_missing = tf.math.is_nan(columns[name])
                # What is no place of a level is any other value; some have no integer.
                beyond = 1.0 + len(self._preprocessor.levels[name])
                place = tf.clip_by_value(columns[name], tf.constant(0.0, tf.float64), beyond)
                columns[name] = tf.cast(tf.where(is_missing, missing, place), tf.int64)
        return columns

    def array_of(self, raw: Arrays) -> np.ndarray:
        columns = []
        for column in self._columns:
            cells = raw[column["name"]]
            if column["kind"] == "categorical":
                places = {level: 1.0 + place for place, level in enumerate(column["levels"])}
                places[""] = np.nan
                cells = np.array([places.get(cell, 0.0) for cell in cells])
            columns.append(np.where(np.isnan(cells), MISSING_NUMBER, cells))
        return np.stack(columns, axis=1)

    def array_schema(self) -> dict[str, Any]:
        columns = []
        for served in self.schema()["columns"]:
            place = {"dtype": "float64", "missing": ["NaN", MISSING_NUMBER]}
            if served["kind"] == "categorical":
                place["units"] = "place among the levels, from 1; 0: any other value"
            columns.append({**served, **place, "input": "rows"})
        return {"columns": columns}

    def scales(self, expected: Arrays) -> Arrays:
        scales: Arrays = {}
        for column in self._columns:
            name = f"{self._inputs[column['name']]}_expected"
            if column["kind"] == "boolean":
                scales[name] = np.array(1.0)
            elif column["kind"] != "categorical":
                scales[name] = column["scale"] + np.abs(expected[name] - column["center"])
        return scales


def input_names(columns: Sequence[str]) -> dict[str, str]:
    """Name the inputs of the columns of a table.

    TensorFlow takes ASCII letters, digits and underscores, a letter first, and does not tell
    capitals from small letters. A column with such a name keeps it, the first of those that differ
    only in capitals. In other names each run of other characters becomes ``_``, none is left at the
    ends, and ``column_`` is put before a digit or nothing; ``_`` is added to words that Python or
    the REST interface keep for themselves. A name that is taken gets ``_2``, ``_3``, ...

    Parameters
    ----------
    columns : sequence of str
        Different from each other.

    Returns
    -------
    dict of column to name of its input

    Examples
    --------
    >>> input_names(["petal length (cm)", "Age", "age", "class", "2nd", "petal_length_cm"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'petal length (cm)': 'petal_length_cm_2', 'Age': 'Age', 'age': 'age_2', 'class': 'class_',
     '2nd': 'column_2nd', 'petal_length_cm': 'petal_length_cm'}
    """
    keeps: dict[str, str] = {}
    for name in columns:
        if _plain_name(name) == name:
            keeps.setdefault(name.lower(), name)
    taken = set(keeps)
    names = {}
    for name in columns:
        plain = candidate = _plain_name(name)
        if keeps.get(name.lower()) != name:
            number = 1
            while candidate.lower() in taken:
                number += 1
                candidate = f"{plain}_{number}"
            taken.add(candidate.lower())
        names[name] = candidate
    return names


def _plain_name(name):
    plain = name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
        plain = plain if plain[:1].isalpha() else f"column_{plain}".rstrip("_")
    # TensorFlow makes these parameters of a Python function; "b64" means base64 in JSON.
    return f"{plain}_" if keyword.iskeyword(plain) or plain in ("self", "b64") else plain


def served_dtype(kind: str) -> tf.DType:
    """Return the type in which columns of a kind are served."""
    return tf.string if kind == "categorical" else tf.float64


def raw_columns(tensors: Tensors, kinds: Mapping[str, str]) -> Tensors:
    """Turn served columns into those that ``columns.frame_arrays`` makes.

    Parameters
    ----------
    tensors : dict of column to tensor (n,)
    kinds : mapping of column to kind

    Returns
    -------
    dict of column to tensor (n,)
    """
    arrays = dict(tensors)
    for name, kind in kinds.items():
        if kind == "categorical":
            for pattern, rewrite in GRAPH_SPELLINGS:
                arrays[name] = tf.strings.regex_replace(
                    arrays[name], pattern, rewrite, replace_global=False
                )
        else:
            missing = (arrays[name] < MISSING_BELOW) & (arrays[name] > -np.inf)
            arrays[name] = tf.where(missing, tf.constant(np.nan, tf.float64), arrays[name])
    return arrays


def _finite(tensor):
    if tensor.dtype == tf.string:
        return tensor
    largest = np.finfo(np.float64).max
    return tf.clip_by_value(tensor, -largest, largest)
