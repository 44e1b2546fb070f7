"""The path from raw input to a score, for tables and images alike.

Raw input is preprocessed, encoded, decoded from fixed draws of z, measured by the views of the
score type, and put together to the named outputs. The detectors, the command line and the exports
all call the same scorer.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.scoring.forks import check_process, note_computation
from vae_anomaly.scoring.views import EncodedRows, ScoreType, float64, noise_bank

OUTPUTS = ("score", "decision", "is_anomaly", "p_value", "feature_log_prob", "latent")


class AnomalyScorer(keras.Model):
    """Score raw rows, or images, with a trained model, always with the same draws of z.

    The base of ``TableScorer`` and ``ImageScorer``. A score is a pure function of one row: the
    noise of shape (n_draws, latent_dim) is a weight, drawn once, the same for all rows.

    Subclasses define ``score_types``, ``chunk_rows``, ``learn``, ``preprocess``, and how raw
    input becomes chunks of preprocessed tensors (``_chunk_maker``, ``_input_specs``).

    Parameters
    ----------
    preprocessor : keras.layers.Layer
        Adapted.
    model : vae_anomaly.vae.models.VAE or vae_anomaly.vae.models.Autoencoder
        Trained. An ``Autoencoder`` has "reconstruction_error" only.
    score_type : str
        A name in ``score_types``.
    score_options : dict or None
        What the score type is made with besides the preprocessor.
    n_draws : int
        Draws of z for each row, >= 1.
    n_calibration : int
        How many calibration scores will be kept for p-values, >= 1.
    seed : int or None
        Seed of the noise.
    **kwargs
        ``name`` of ``keras.Model``.

    Attributes
    ----------
    offset : keras.Variable
        Scores under it are anomalies. Assign to it to change the threshold.
    calibration_scores : keras.Variable, (n_calibration,)
        Sorted scores of rows that the model was not trained on.
    noise : keras.Variable, (n_draws, latent_dim)
    score : vae_anomaly.scoring.views.ScoreType
        The object that ``score_type`` names.

    Raises
    ------
    ValueError
        An unknown ``score_type``, one that the model does not have, or ``n_draws`` under 1.
    """

    #: Makers of score types, by name; they take the preprocessor.
    score_types: Mapping[str, Callable[..., ScoreType]] = {}

    def __init__(
        self,
        preprocessor: keras.layers.Layer,
        model: keras.Model,
        *,
        score_type: str,
        score_options: Mapping[str, Any] | None = None,
        n_draws: int = 8,
        n_calibration: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if score_type not in self.score_types:
            raise ValueError(
                f"Expected `score_type` to be one of {tuple(self.score_types)}. "
                f"Received: score_type={score_type!r}"
            )
        options = dict(score_options or {})
        score = self.score_types[score_type](preprocessor, **options)
        has_posterior = hasattr(model, "feature_log_prob")
        if not has_posterior and any(view.needs_posterior for view in score.views):
            raise ValueError(
                "Expected score_type='reconstruction_error' for a model without a latent "
                f"distribution. Received: score_type={score_type!r}"
            )
        if not n_draws >= 1:
            raise ValueError(f"Expected `n_draws` >= 1. Received: n_draws={n_draws!r}")
        check_process()
        note_computation()
        # Raw columns must not be cast before they are centred.
        super().__init__(autocast=False, **kwargs)
        self.preprocessor = preprocessor
        self.model = model
        self.score = score
        self.score_type = score_type
        self.score_options = options
        self.n_draws = int(n_draws)
        self.n_calibration = int(n_calibration)
        self.seed = seed
        self.noise = self._constant("noise", (self.n_draws, model.latent_dim), "float32")
        self.noise.assign(noise_bank(self.n_draws, model.latent_dim, seed))
        self.feature_mean = self._constant("feature_mean", (self._n_columns,))
        self.latent_mean = self._constant("latent_mean", ())
        self.offset = self._constant("offset", ())
        self.calibration_scores = self._constant("calibration_scores", (self.n_calibration,))
        self._functions: dict[str, Callable] = {}
        self.built = True

    def _constant(self, name, shape, dtype="float64"):
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        """The weights to save beside those of preprocessor and model, by name."""
        return {
            "noise": self.noise,
            "feature_mean": self.feature_mean,
            "latent_mean": self.latent_mean,
            "offset": self.offset,
            "calibration_scores": self.calibration_scores,
            **self.score.own_weights,
        }

    @property
    def unit(self) -> str:
        """Unit of scores and of all that adds up to them: "nats" or "squared error"."""
        return self.score.views[0].unit

    @property
    def baseline(self) -> float:
        """Mean score of the training rows, in ``unit``: what all rows start from."""
        return float(np.sum(self.feature_mean.numpy()) + self.latent_mean.numpy())

    @property
    def chunk_rows(self) -> int:
        """Rows in each call of the graph."""
        raise NotImplementedError

    @property
    def chunks_at_once(self) -> int:
        """Calls of the graph side by side: one computes while another is made ready."""
        return 2

    def learn(self, data: Any, is_held_out: np.ndarray) -> np.ndarray:
        """Learn what is usual of training rows; return their scores."""
        raise NotImplementedError

    def learn_to_score(self, data: Any, is_held_out: np.ndarray, scored: Any) -> np.ndarray:
        """Learn what is usual, as ``learn`` does, to score other rows; return their scores."""
        self.learn(data, is_held_out)
        return self.run(scored, ("score",))["score"]

    def calibrate(self, data: Any, is_calibration: np.ndarray) -> np.ndarray:
        """Learn what is usual of training rows, and keep the scores of those held out.

        Parameters
        ----------
        data : as in ``learn``
        is_calibration : bool array, (n,)
            The ``n_calibration`` rows that the model was not trained on.

        Returns
        -------
        (n,) float64 array
            Scores of all rows.
        """
        scores = self.learn(data, is_calibration)
        self.calibration_scores.assign(np.sort(scores[is_calibration]))
        return scores

    def recalibrated(self, scores: np.ndarray) -> "AnomalyScorer":
        """Return a scorer that differs in its calibration scores alone: it scores alike.

        Parameters
        ----------
        scores : (m,) array
            Scores of normal rows that the model was not trained on, m >= 1.
        """
        scorer = type(self)(
            self.preprocessor,
            self.model,
            score_type=self.score_type,
            score_options=self.score_options,
            n_draws=self.n_draws,
            n_calibration=len(scores),
            seed=self.seed,
        )
        for name, variable in scorer.own_weights.items():
            kept = name != "calibration_scores"
            variable.assign(self.own_weights[name] if kept else np.sort(scores))
        return scorer

    def preprocess(self, data: Any) -> Any:
        """Return raw input as the model takes it, as NumPy arrays."""
        raise NotImplementedError

    def run(self, data: Any, names: Sequence[str] = OUTPUTS) -> dict[str, np.ndarray]:
        """Compute the named outputs of ``call`` for raw NumPy input, a chunk of rows at a time.

        Parameters
        ----------
        data : dict of column name to array (n,), or images (n, height, width, channels)
        names : sequence of str
            Among ``OUTPUTS``.

        Returns
        -------
        dict of str to array
        """
        measure, put_together = self._measuring(), self._of_terms(self._put_together)

        def outputs(*inputs):
            found = put_together(measure(*inputs), *inputs[1:])
            return [found[name] for name in names]

        return dict(zip(names, self._chunked(outputs, *self._chunks(data)), strict=True))

    def latent(self, data: Any) -> np.ndarray:
        """Return the latent means of raw input, float32 (n, latent_dim)."""
        return self._chunked(self._traced(self._latent, *self._specs), *self._chunks(data))[0]

    def reconstruct(self, data: Any) -> np.ndarray:
        """Return the model's mean of preprocessed x, float32, shaped as x."""
        return self._chunked(self._traced(self._reconstruct, *self._specs), *self._chunks(data))[0]

    # The graph. Preprocessed input is x and, of tables, which cells were observed.

    @property
    def _specs(self) -> list[tf.TensorSpec]:
        """Shapes and types of preprocessed input."""
        raise NotImplementedError

    def _measure(self, *inputs):
        """What the views say of preprocessed rows: a pair of terms for each view."""
        rows = EncodedRows(self.model, _model_input(inputs), self.noise)
        return [view.terms(rows) for view in self.score.views]

    def _put_together(self, terms, *observed):
        """All outputs, given what the views say of the rows."""
        raise NotImplementedError

    def _latent(self, *inputs):
        return [self.model.latent_mean(_model_input(inputs))]

    def _reconstruct(self, *inputs):
        return [self.model.reconstruct(_model_input(inputs))]

    def _outputs(self, features, latent):
        """All outputs, given what features, (n, d), and latent, (n,), add to the baseline."""
        baseline = tf.reduce_sum(self.feature_mean) + self.latent_mean
        score = tf.reduce_sum(features, axis=1) + latent + baseline
        at_or_below = tf.searchsorted(self.calibration_scores.value, score, side="right")
        return {
            "score": score,
            "decision": score - self.offset,
            "is_anomaly": score < self.offset,
            "p_value": (1 + float64(at_or_below)) / (self.n_calibration + 1),
            "feature_log_prob": features,
            "latent": latent,
        }

    def _measuring(self):
        return self._traced(self._measure, *self._specs)

    def _of_terms(self, method):
        """Trace a method that takes what the views say of rows, and which cells were observed."""
        terms = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype),
            self._measuring().structured_outputs,
        )
        return self._traced(method, terms, *self._specs[1:])

    def _traced(self, method, *specs):
        """Trace a method once.

        Preprocessing, measuring and putting together are functions apart, so that calibration
        needs no others than scoring does.
        """
        check_process()
        name = method.__name__
        if name not in self._functions:
            # Concrete, since TensorFlow takes several detectors for one that is traced again
            # and again, and warns.
            function = tf.function(method, autograph=False)
            self._functions[name] = function.get_concrete_function(*specs)
        return self._functions[name]

    # Chunks of rows.

    def _chunks(self, data: Any) -> tuple[Callable[[slice], Sequence[tf.Tensor]], int]:
        """Return a function of rows to preprocessed input, ``chunk_rows`` long, and n."""
        raise NotImplementedError

    def _chunks_of(self, *arrays):
        """As ``_chunks``, for arrays that are preprocessed already."""
        return lambda rows: [self._filled(array[rows]) for array in arrays], len(arrays[0])

    def _filled(self, array, value=0):
        """The rows as a tensor of ``chunk_rows``."""
        missing = self.chunk_rows - len(array)
        if missing:
            widths = [(0, missing), *[(0, 0)] * (array.ndim - 1)]
            array = np.pad(array, widths, constant_values=value)
        return tf.constant(array)

    def _chunked(self, function, chunk, n_rows):
        """Call a function of tensors chunk by chunk; return its outputs, concatenated."""

        def outputs(start):
            rows = slice(start, min(start + self.chunk_rows, n_rows))
            tensors = function(*chunk(rows))
            return [tensor.numpy()[: rows.stop - rows.start] for tensor in tensors]

        # TensorFlow lets go of the interpreter.
        with ThreadPoolExecutor(self.chunks_at_once) as pool:
            chunks = list(pool.map(outputs, range(0, max(n_rows, 1), self.chunk_rows)))
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    # Steps of calibration, on preprocessed rows.

    def _measured(self, *inputs):
        """What the views say of rows: a pair of arrays for each view."""
        measure = self._measuring()
        flat = self._chunked(
            lambda *chunk: tf.nest.flatten(measure(*chunk)), *self._chunks_of(*inputs)
        )
        return _pairs(flat)

    def _scored(self, terms, *observed, names=("score",), by=None):
        """The named outputs, of ``_put_together`` or another, for rows that the views measured."""
        function, n_terms = self._of_terms(by or self._put_together), 2 * len(terms)

        def outputs(*chunk):
            found = function(_pairs(chunk[:n_terms]), *chunk[n_terms:])
            return [found[name] for name in names]

        return self._chunked(outputs, *self._chunks_of(*tf.nest.flatten(terms), *observed))

    def get_config(self):
        return {
            **super().get_config(),
            "preprocessor": keras.saving.serialize_keras_object(self.preprocessor),
            "model": keras.saving.serialize_keras_object(self.model),
            "score_type": self.score_type,
            "score_options": self.score_options,
            "n_draws": self.n_draws,
            "n_calibration": self.n_calibration,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("preprocessor", "model")
        }
        return cls(**{**config, **parts})


def _model_input(inputs):
    """Preprocessed input as a model takes it: x alone, or (x, observed)."""
    return inputs if len(inputs) > 1 else inputs[0]


def _pairs(flat):
    return list(zip(flat[::2], flat[1::2], strict=True))
