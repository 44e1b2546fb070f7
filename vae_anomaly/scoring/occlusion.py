"""What the score of a row would be, and what a cell would hold, if that cell were unknown.

A cell that is wrong misleads the encoder, so that its neighbours look wrong too. Hidden from the
model, it misleads nobody: the score rises most where the wrong cell is hidden, and the others tell
what should be there. A composite score may be low for several reasons, which hide each other; so
what its first view gains, the ELBO, counts too: it is about -log p(cell | the others). For numbers
a Student's t gives another estimate of that; the mean is right more often than either
(benchmarks/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from keras import ops
from scipy.stats import norm

from vae_anomaly.scoring.conditionals import ConditionalStudent
from vae_anomaly.scoring.views import noise_bank
from vae_anomaly.vae.likelihoods import Mixed

if TYPE_CHECKING:
    from vae_anomaly.scoring.tables import TableScorer
    from vae_anomaly.vae.models import VAE

    Arrays = dict[str, np.ndarray]

#: Of likely values: the share under the lower and over the upper end of a range.
TAIL = 0.1
# A Gaussian stands for as many equally likely values.
_LEVELS = norm.ppf((np.arange(5) + 0.5) / 5).astype(np.float32)
# Draws of z from the prior, from which the usual values of a column are estimated.
_PRIOR_DRAWS = 64
# Of a column that lacks a larger share of its cells, a Student's t knows too little.
_MOST_MISSING = 0.2
# A level is usual if its share is at least _USUAL_SHARE; _MOST_LEVELS of them are named.
_USUAL_SHARE, _MOST_LEVELS = 0.1, 3


@dataclass(frozen=True)
class HiddenCells:
    """What is known of each cell with that cell hidden, and the others of its row not.

    Attributes
    ----------
    gain : (n, columns) array
        What the row gains where the cell is hidden: in its score, or in how well its values go
        together (``Composite.coherence``), whichever is more; of numbers the mean of that and of
        what it gains under a Student's t of the reference rows (``ConditionalStudent``), where
        there are rows enough. 0 where the cell is missing.
    expected : dict of column name to array (n,)
        The median of the likely values; of booleans the probability of 1, of categories the
        likeliest level, of dates the nearest likely one.
    low, high : dict of column name to array (n,)
        10% and 90% quantiles of the likely values, of numbers alone; none of a model without a
        latent distribution, which has one likely value.
    """

    gain: np.ndarray
    expected: Arrays
    low: Arrays
    high: Arrays


def hide_each_cell(scorer: TableScorer, arrays: Arrays) -> HiddenCells:
    """Hide one column after the other, and score and predict without it.

    Parameters
    ----------
    scorer : TableScorer
    arrays : dict of column name to array (n,)

    Returns
    -------
    HiddenCells
        Each row's by itself, as scores are.
    """
    n_rows = len(next(iter(arrays.values())))
    student = _student_of(scorer)
    parts = [
        _hidden_in_block(
            scorer,
            student,
            {name: a[start : start + scorer.chunk_rows] for name, a in arrays.items()},
        )
        for start in range(0, max(n_rows, 1), scorer.chunk_rows)
    ]
    return HiddenCells(
        np.concatenate([part.gain for part in parts]),
        *(
            {name: np.concatenate([getattr(p, field)[name] for p in parts]) for name in of}
            for field, of in (
                ("expected", parts[0].expected),
                ("low", parts[0].low),
                ("high", parts[0].high),
            )
        ),
    )


def _student_of(scorer):
    """The Student's t of the numbers of the reference rows, if it can be told."""
    widths = scorer.preprocessor.column_widths[: scorer.preprocessor.n_numeric]
    if scorer.reference_rows is None or not widths:
        return None
    student = ConditionalStudent(scorer.reference_rows[:, : sum(widths)], widths)
    return student if student.is_sure else None


def _hidden_in_block(scorer, student, arrays):
    x, observed = scorer.preprocess(arrays)
    n_rows, names = len(x), scorer.preprocessor.column_names
    judged = scorer.judged(x, observed)
    gained, likely = np.zeros((judged.shape[1], n_rows, len(arrays))), None
    hidden = np.array([[column == name for column in names] for name in arrays])
    of_features = np.repeat(hidden, scorer.preprocessor.column_widths, axis=1)
    had_value = observed @ hidden.T > 0
    # A call of the graph takes as long for one row as for all that it has room for.
    at_once = max(1, scorer.chunk_rows // max(n_rows, 1))
    for first in range(0, len(hidden), at_once):
        some = slice(first, min(first + at_once, len(hidden)))
        rows = np.where(of_features[some, None], 0, x), np.where(hidden[some, None], 0, observed)
        without = [array.reshape(-1, array.shape[2]) for array in rows]
        each = some.stop - first, n_rows
        gained[:, :, some] = (scorer.judged(*without).reshape(*each, -1) - judged).T
        values = scorer.likely_values(*without)
        values = values.reshape(*each, *values.shape[1:])
        likely = np.zeros_like(values[0]) if likely is None else likely
        for own, value in zip(of_features[some], values, strict=True):
            likely[:, :, own] = value[:, :, own]
    gains = gained.max(axis=0)
    if student is not None:
        of_numbers = _under(student, scorer.preprocessor, x, observed, list(arrays))
        gains = np.where(np.isnan(of_numbers), gains, (gains + of_numbers) / 2)
    gains = np.where(had_value, gains, 0.0)
    return HiddenCells(gains, *_ranges(scorer.preprocessor, likely, arrays))


def _under(student, preprocessor, x, observed, names):
    """What rows gain under a Student's t where a number is hidden, by name; NaN where it is none.

    Dates, of which numbers are a part, tell of the others, but nothing is said of them.
    """
    n_numeric = preprocessor.n_numeric
    n_features = sum(preprocessor.column_widths[:n_numeric])
    # Missing cells of reference rows hold what the model makes up, which varies far less.
    missing = dict(zip(preprocessor.kinds, np.asarray(preprocessor.missing_share), strict=True))
    is_known = [missing[name] <= _MOST_MISSING for name, _ in preprocessor.columns.numeric]
    found = student.gains(x[:, :n_features], observed[:, :n_numeric] * is_known)
    gains = np.full((len(x), len(names)), np.nan)
    for (name, part), own in zip(preprocessor.columns.numeric, found.T, strict=True):
        if part == "value":
            gains[:, names.index(name)] = own
    return gains


def _ranges(preprocessor, likely, arrays=None):
    """Expected values, and both ends of ranges, by name, of likely values (n, values, features)."""
    n_rows, n_values, n_features = likely.shape
    repeated = arrays and {name: np.repeat(array, n_values) for name, array in arrays.items()}
    columns = preprocessor.inverse(likely.reshape(-1, n_features), repeated)
    expected, low, high = {}, {}, {}
    first = int(TAIL * n_values)
    for name, column in columns.items():
        values = column.reshape(n_rows, n_values)
        if preprocessor.kinds[name] in ("numeric", "timestamp") and n_values > 1:
            values = np.sort(values, axis=1)
            low[name], high[name] = values[:, first], values[:, n_values - 1 - first]
        expected[name] = values[:, n_values // 2]
    return expected, low, high


def likely_values(model: VAE, z: tf.Tensor, is_spread: np.ndarray) -> tf.Tensor:
    """Return values that stand for the distribution of x, equally likely, given draws of z.

    Parameters
    ----------
    model : vae_anomaly.vae.models.VAE
    z : tensor, (n, n_draws, latent_dim)
    is_spread : bool array, (features,)
        The features that are a number by themselves. Of the others there is the mean.

    Returns
    -------
    tensor, (n, n_draws * 5, features)
        No random number is drawn, so that each row has its own, whatever the others are.
    """
    n_draws = z.shape[1]
    outputs = model.decoder(ops.reshape(z, (-1, z.shape[2])))
    mean = ops.cast(model.likelihood.mean(outputs), "float32")
    numbers = model.likelihood.parts[0] if isinstance(model.likelihood, Mixed) else model.likelihood
    deviation = tf.zeros_like(mean)
    if is_spread.any():
        of_numbers = ops.exp(numbers.log_var(outputs[:, : numbers.n_outputs]) / 2)
        deviation = tf.concat([of_numbers, deviation[:, of_numbers.shape[1] :]], axis=1)
    mean, deviation = (tf.reshape(t, (-1, n_draws, 1, t.shape[1])) for t in (mean, deviation))
    spread = mean + deviation * _LEVELS[:, None]
    constant = tf.reduce_mean(mean, axis=1, keepdims=True) + tf.zeros_like(spread)
    values = tf.where(tf.constant(is_spread), spread, constant)
    return tf.reshape(values, (-1, n_draws * len(_LEVELS), values.shape[3]))


def usual_values(scorer: TableScorer) -> dict[str, list]:
    """Return what each column usually has, whatever the rest of the row, as the model sees it.

    Parameters
    ----------
    scorer : TableScorer
        With a latent distribution.

    Returns
    -------
    dict of column name to list
        The 10% and 90% quantiles of numbers; the most frequent levels of categories and of booleans
        (0.0, 1.0), three at most; nothing of dates.
    """
    preprocessor, model = scorer.preprocessor, scorer.model
    z = noise_bank(_PRIOR_DRAWS, model.latent_dim, seed=0)[None]
    likely = likely_values(model, tf.constant(z), scorer.is_spread).numpy()
    _, low, high = _ranges(preprocessor, likely)
    usual: dict[str, list] = {name: [] for name in preprocessor.kinds}
    usual |= {name: [low[name][0], high[name][0]] for name in low}
    share = likely.mean(axis=(0, 1))
    ends = np.cumsum(preprocessor.column_widths)
    for name, end, width in zip(
        preprocessor.column_names, ends, preprocessor.column_widths, strict=True
    ):
        kind, own = preprocessor.kinds[name], share[end - width : end]
        if kind == "boolean":
            usual[name] = [v for v, p in ((0.0, 1 - own[0]), (1.0, own[0])) if p >= _USUAL_SHARE]
        elif kind == "categorical":
            order = np.argsort(-own[1:], kind="stable")[:_MOST_LEVELS] + 1
            texts = preprocessor.texts(name)
            usual[name] = [texts[i] for i in order if own[i] >= _USUAL_SHARE]
    return usual
