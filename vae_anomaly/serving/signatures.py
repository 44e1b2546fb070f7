"""What a server takes and answers: the signatures of an export, as TensorFlow functions.

======================= ====================================================================
signature               outputs for n rows
======================= ====================================================================
``serving_default``     ``score``, ``decision``, ``p_value`` float64 (n,), ``is_anomaly`` bool
                        (n,), ``feature_log_prob`` float64 (n, columns), as those of
                        ``scoring.AnomalyScorer``
``explain``             these; ``latent`` and ``baseline`` (n,); of each column
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

import numpy as np
import tensorflow as tf

from vae_anomaly.tables.rules import GRAPH_SPELLINGS

# All finite numbers under MISSING_BELOW are missing, not one alone: parsers of JSON differ in the
# last digit.
MISSING_NUMBER = -1e308
MISSING_BELOW = -9e307
SERVED_OUTPUTS = ("score", "decision", "is_anomaly", "p_value", "feature_log_prob")


def input_names(columns):
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


def trace_signatures(scorer, inputs):
    """Trace a function for each signature.

    Parameters
    ----------
    scorer : vae_anomaly.scoring.scorer.AnomalyScorer
    inputs : dict of column to name of its input
        As ``input_names`` makes it.

    Returns
    -------
    dict of signature to tf.types.experimental.ConcreteFunction
        Each takes a dict of input name to tensor.
    """
    preprocessor = scorer.preprocessor
    kinds = preprocessor.kinds
    dtypes = {name: served_dtype(kind) for name, kind in kinds.items()}

    def serving_default(arrays):
        outputs = scorer.call(arrays)
        return {name: outputs[name] for name in SERVED_OUTPUTS}

    def explain(arrays):
        outputs = scorer.call(arrays)
        contributions = tf.unstack(outputs["feature_log_prob"], num=len(kinds), axis=1)
        expected = preprocessor.inverse_tensors(scorer.model.reconstruct(preprocessor.call(arrays)))
        baseline = tf.reduce_sum(scorer.feature_mean) + scorer.latent_mean
        outputs["baseline"] = tf.fill(tf.shape(outputs["score"]), baseline)
        for name, contribution in zip(kinds, contributions, strict=True):
            outputs[f"{inputs[name]}_contribution"] = contribution
            outputs[f"{inputs[name]}_expected"] = _finite(expected[name])
        return outputs

    def latent(arrays):
        return {"z_mean": scorer.model.latent_mean(preprocessor.call(arrays))}

    columns = {
        inputs[name]: tf.TensorSpec([None], dtype, name=inputs[name])
        for name, dtype in dtypes.items()
    }

    def of_columns(function):
        def served(tensors):
            return function(raw_columns({name: tensors[inputs[name]] for name in kinds}, kinds))

        return traced(served, columns)

    signatures = {
        "serving_default": of_columns(serving_default),
        "explain": of_columns(explain),
        "latent": of_columns(latent),
    }
    if len(set(dtypes.values())) == 1:

        def matrix(tensors):
            arrays = tf.unstack(tensors["rows"], num=len(kinds), axis=1)
            return serving_default(raw_columns(dict(zip(kinds, arrays, strict=True)), kinds))

        dtype = next(iter(dtypes.values()))
        spec = tf.TensorSpec([None, len(kinds)], dtype, name="rows")
        signatures["matrix"] = traced(matrix, {"rows": spec})
    return signatures


def traced(function, specs):
    """Trace a function of a dict of tensors, given a dict of their ``tf.TensorSpec``."""
    return tf.function(function, input_signature=[specs], autograph=False).get_concrete_function()


def served_dtype(kind):
    """Return the type in which columns of a kind are served."""
    return tf.string if kind == "categorical" else tf.float64


def raw_columns(tensors, kinds):
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
