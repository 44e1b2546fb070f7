"""The scorer of tables: score types of tables, missing cells, and columns in blocks."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.scoring.known_values import KnownValues
from vae_anomaly.scoring.marginals import Marginals
from vae_anomaly.scoring.missing import KNOTS, at_share, with_hidden_cells
from vae_anomaly.scoring.neighbourhood import Neighbourhood
from vae_anomaly.scoring.occlusion import likely_values
from vae_anomaly.scoring.scorer import OUTPUTS, AnomalyScorer
from vae_anomaly.scoring.views import MODEL_SCORES, Composite, Elbo, EncodedRows, SingleView
from vae_anomaly.tensorflow_import import operations_at_once
from vae_anomaly.vae.layers import sum_of_columns

# Rows in each call of the graph, always the same number: a matrix product takes another way, with
# other last bits, for another number of rows, and for the rows that do not fill its blocks. A
# block is 24 rows with AVX2 and 48 with AVX-512, so a multiple of both leaves no such rows. Large
# enough to keep the processor busy, small enough for its caches, and for one row to be quick.
CHUNK_ROWS = 480
# More are computed faster than files can be read.
_MOST_CHUNKS_AT_ONCE = 8
# The fewest rows on which the cost of missing cells is measured, at each share of them.
_SHORTFALL_ROWS = 512


# The weights of a composite's views, the most unusual view of a row first, by what the training
# rows are. Views that are not there go without theirs.
_RANK_WEIGHTS = {"as_is": (0.75, 0.25, 0.0), "clean": (0.5, 0.5)}


def _composite(preprocessor, n_reference=0, training="as_is", n_known=0):
    """How well a row goes together, how common its values are, how near others are, what is new."""
    widths, sizes = preprocessor.column_widths, (preprocessor.n_numeric, preprocessor.n_boolean)
    views = [Elbo()]
    if training == "as_is":
        views.append(Marginals(widths, *sizes))
    if n_reference:
        views.append(Neighbourhood(widths, n_reference))
    n_known *= bool(preprocessor.n_numeric)
    if len(views) == 1 and not n_known:
        return SingleView(*views)
    weights = _RANK_WEIGHTS[training][: len(views)]
    if n_known:
        views.append(KnownValues(widths, preprocessor.n_numeric, n_known))
    return Composite(
        views, np.divide(weights, sum(weights)).tolist(), len(preprocessor.column_names)
    )


SCORE_TYPES = {"composite": _composite, **MODEL_SCORES}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class TableScorer(AnomalyScorer):
    """Score raw rows of a table with a trained model, always with the same draws of z.

    Score types, in nats ("reconstruction_error": squared standard deviations), measured in the
    preprocessed space:

    ============================== ==========================================================
    ``composite``                  ``views.Composite`` of the views ``views.Elbo`` (how well
                                   the row goes together), ``marginals.Marginals`` (how common
                                   its values are by themselves) and
                                   ``neighbourhood.Neighbourhood`` (how near training rows
                                   are): 3/4 of the one that is furthest below its median, 1/4
                                   of the next. With training="clean" the mean of the first
                                   and the last. Either way ``known_values.KnownValues`` is
                                   added: whether values are new where they repeat
    ``reconstruction_probability`` ``views.ReconstructionProbability``
    ``importance_weighted``        ``views.ImportanceWeighted``, an estimate of log p(x) where
                                   each column takes part once
    ``elbo``                       ``views.Elbo``
    ``reconstruction_error``       ``views.ReconstructionError``
    ============================== ==========================================================

    Parameters
    ----------
    preprocessor : vae_anomaly.tables.preprocessing.TablePreprocessor
    model, score_type, n_draws, n_calibration, seed, **kwargs
        As in ``AnomalyScorer``. ``score_options`` of a composite: ``n_reference``, how many
        training rows to keep, 0 by default, which leaves the view of them out; ``training``,
        "as_is" by default; and ``n_known``, how many values of a column to keep, 0 by default,
        which leaves ``known_values.KnownValues`` out.

    Attributes
    ----------
    missing_shortfall : keras.Variable, (knots,)
        Mean score of calibration rows with a share of cells hidden, less that of whole ones, at
        the shares in ``missing.KNOTS``.
    """

    score_types = SCORE_TYPES

    def __init__(self, preprocessor: keras.layers.Layer, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(preprocessor, model, **kwargs)
        self.missing_shortfall = self._constant("missing_shortfall", (len(KNOTS),))
        # Outputs are in the order of the columns of the input; a date is several of the model's.
        kinds, columns = list(preprocessor.kinds), preprocessor.column_names
        places = [kinds.index(name) for name in columns]
        self._output_order = np.argsort(places, kind="stable").tolist()
        self._n_parts = [columns.count(name) for name in kinds]
        self._texts = [n for n, kind in preprocessor.kinds.items() if kind == "categorical"]
        self._numbers = [name for name in preprocessor.kinds if name not in self._texts]

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        return {**super().own_weights, "missing_shortfall": self.missing_shortfall}

    @property
    def chunk_rows(self) -> int:
        return CHUNK_ROWS

    @property
    def chunks_at_once(self) -> int:
        # The operations of a chunk are too small to be shared among threads.
        return max(super().chunks_at_once, min(_MOST_CHUNKS_AT_ONCE, operations_at_once()))

    @property
    def _n_columns(self):
        return len(self.preprocessor.column_names)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Score raw columns.

        Parameters
        ----------
        inputs : dict of column name to tensor (n,)
            As ``TablePreprocessor.call`` takes them.

        Returns
        -------
        dict of tensors
            ``score``, ``decision`` (score - offset) and ``p_value``, float64 (n,);
            ``is_anomaly``, bool (n,); ``feature_log_prob``, float64 (n, columns): what each
            column adds to the score relative to its mean over the training rows, 0 where
            missing; ``latent``, float64 (n,): what no column owns, relative to its mean, and
            for rows with missing cells the mean shortfall of rows that lack as many.
            score = sum of feature_log_prob + latent + baseline.
        """
        x, observed = self.preprocessor(inputs)
        found = self._put_together(self._measure(x, observed), observed)
        return {name: found[name] for name in OUTPUTS}

    def _put_together(self, terms, observed):
        features, latent = self.score.combined(terms, observed)
        features = (features - self.feature_mean) * tf.cast(observed, tf.float64)
        latent = latent - at_share(self.missing_shortfall, observed) - self.latent_mean
        ordered = features  # a table of numbers is in order
        if self._output_order != sorted(self._output_order):
            ordered = tf.gather(features, self._output_order, axis=1)
        columns = sum_of_columns(ordered, self._n_parts)
        return {
            **self._outputs(features, latent),
            "feature_log_prob": columns,
            "part_log_prob": ordered,
        }

    def learn(self, arrays: Mapping[str, np.ndarray], is_held_out: np.ndarray) -> np.ndarray:
        """Learn the views, usual values, and the cost of missing cells.

        Missing cells alone make a row's reconstruction worse, or its prior term smaller. What
        this costs is measured by hiding cells of rows held out, and added back: rows with missing
        cells are then neither flagged nor excused for it.

        Parameters
        ----------
        arrays : dict of column name to array (n,)
            All training rows.
        is_held_out : bool array, (n,)
            Rows that the model was not trained on, one at least.

        Returns
        -------
        (n,) float64 array
            Scores of all rows.
        """
        return self._learn(arrays, is_held_out, KNOTS)

    def learn_to_score(
        self,
        data: Mapping[str, np.ndarray],
        is_held_out: np.ndarray,
        scored: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        # Measuring what missing cells cost takes most of the time, and whole rows don't ask for it.
        x, observed = self.preprocess(scored)
        self._learn(data, is_held_out, KNOTS[:1] if observed.all() else KNOTS, scored=x)
        return self.run(scored, ("score",))["score"]

    def _learn(self, arrays, is_held_out, knots, scored=None):
        """As ``learn``, with shares of hidden cells, and the rows to score if no others will be."""
        x, observed = self.preprocess(arrays)
        for weight in (self.feature_mean, self.latent_mean, self.missing_shortfall):
            weight.assign(np.zeros(weight.shape))
        for view in self.score.views:
            if isinstance(view, Marginals):
                view.tabulate_for(x, scored)
            view.learn(self.model, (x, observed), is_held_out, self.seed)
        hidden, left = self._measured_with_hidden_cells(x, observed, is_held_out, knots)
        self.score.learn_usual(_by_knot(hidden, left, len(knots)))

        terms = self._measured(x, observed)
        features, latent = self._scored(terms, observed, names=("part_log_prob", "latent"))
        features = features[:, np.argsort(self._output_order)]
        self.feature_mean.assign(features.sum(axis=0) / np.maximum(observed.sum(axis=0), 1))
        self.latent_mean.assign(latent.mean())
        self.missing_shortfall.assign(self._measured_shortfall(hidden, left, len(knots)))
        if not observed.all():
            (latent,) = self._scored(terms, observed, names=("latent",))
            self.latent_mean.assign_add(latent.mean())
        (scores,) = self._scored(terms, observed)
        return scores

    def _measured_with_hidden_cells(self, x, observed, is_held_out, knots):
        """What the views say of rows held out with cells hidden, and which are left: by knot."""
        rng = np.random.default_rng(self.seed)
        rows = rng.permutation(np.flatnonzero(is_held_out))[:_SHORTFALL_ROWS]
        # Few rows are hidden in many ways, many rows in one.
        rows = np.tile(rows, -(-_SHORTFALL_ROWS // len(rows)))
        widths = self.preprocessor.column_widths
        order = self._output_order
        x, observed = with_hidden_cells(x[rows], observed[rows], widths, order, rng, knots)
        return self._measured(x, observed), observed

    def _measured_shortfall(self, terms, observed, n_knots):
        """Mean score of rows held out, less the mean with a share of cells hidden, by knot."""
        (scores,) = self._scored(terms, observed)
        shares = [1 - part.mean() for part in np.split(observed, n_knots)]
        means = [part.mean() for part in np.split(scores, n_knots)]
        return np.interp(KNOTS, shares, np.subtract(means, means[0]))

    def judged(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Return what tells whether preprocessed rows are usual, float64 (n, 1 or 2).

        The score; and of a composite how well the cells go together, see ``Composite.coherence``.
        """
        terms = self._measured(x, observed)
        judged = self._scored(terms, observed)
        if isinstance(self.score, Composite):
            judged += self._scored(terms, observed, names=("coherence",), by=self._coherence)
        return np.stack(judged, axis=1)

    def _coherence(self, terms, observed):
        return {"coherence": self.score.coherence(terms, observed)}

    @property
    def reference_rows(self) -> np.ndarray | None:
        """Preprocessed training rows that the score compares with, (m, features), if it does."""
        views = (view for view in self.score.views if isinstance(view, Neighbourhood))
        return next((view.reference_rows for view in views), None)

    def likely_values(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Return likely values of preprocessed rows, (n, values, features), see ``occlusion``.

        Of a model without a latent distribution its reconstruction, as the one likely value.
        """
        chunks = self._chunks_of(x, observed)
        if not hasattr(self.model, "feature_log_prob"):
            return self._chunked(self._traced(self._reconstruct, *self._specs), *chunks)[0][:, None]
        return self._chunked(self._traced(self._likely_values, *self._specs), *chunks)[0]

    @property
    def is_spread(self) -> np.ndarray:
        """Which features of x are a number by themselves, bool (features,)."""
        numeric = self.preprocessor.columns.numeric
        is_value = [part == "value" for _, part in numeric]
        widths = self.preprocessor.column_widths
        spread = np.repeat(is_value, widths[: len(numeric)]).astype(bool)
        return np.pad(spread, (0, sum(widths) - len(spread)))

    def _likely_values(self, x, observed):
        rows = EncodedRows(self.model, (x, observed), self.noise)
        return [likely_values(self.model, rows.z, self.is_spread)]

    def preprocess(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(x, observed)`` of NumPy columns, float32 (n, features) and (n, columns)."""
        x, observed = self._chunked(lambda *inputs: inputs, *self._chunks(arrays))
        return x, observed

    @property
    def _specs(self):
        n_features = sum(self.preprocessor.column_widths)
        return [tf.TensorSpec([None, size]) for size in (n_features, self._n_columns)]

    def _chunks(self, arrays):
        specs = (
            tf.TensorSpec([None, len(self._numbers)], tf.float64),
            [tf.TensorSpec([None], tf.string)] * len(self._texts),
        )
        prepare = self._traced(self._prepare, *specs)

        def chunk(rows):
            block = np.zeros((rows.stop - rows.start, len(self._numbers)))
            for index, name in enumerate(self._numbers):
                block[:, index] = arrays[name][rows]
            texts = [self._filled(arrays[name][rows], value="") for name in self._texts]
            return prepare(self._filled(block), texts)

        return chunk, len(next(iter(arrays.values())))

    def _prepare(self, numbers, texts):
        """Preprocess columns; the numbers come as one block, to save calls."""
        columns = dict(zip(self._numbers, tf.unstack(numbers, axis=1), strict=True))
        return self.preprocessor({**columns, **dict(zip(self._texts, texts, strict=True))})


def _by_knot(terms, observed, n_knots):
    """Split what ``with_hidden_cells`` has put together: terms and observed cells, by knot."""
    n_rows = len(observed) // n_knots
    for start in range(0, len(observed), n_rows):
        knot = slice(start, start + n_rows)
        yield [(columns[knot], rest[knot]) for columns, rest in terms], observed[knot]
