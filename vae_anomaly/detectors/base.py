"""What the detectors share: the scikit-learn interface over a trained, scored model."""

import warnings
from numbers import Integral, Real

import numpy as np
import tensorflow as tf
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_anomaly.detectors import artifact
from vae_anomaly.detectors import image_input as image_estimator
from vae_anomaly.scoring.calibration import offset_from_contamination
from vae_anomaly.scoring.images import ImageScorer
from vae_anomaly.scoring.tables import TableScorer
from vae_anomaly.serving import export
from vae_anomaly.tables.columns import (
    arrays_frame,
    frame_arrays,
    frame_kinds,
    n_infinite_rows,
)
from vae_anomaly.tables.preprocessing import TablePreprocessor
from vae_anomaly.tables.rules import UNMODELLED_KINDS
from vae_anomaly.vae.builders import build_table_model
from vae_anomaly.vae.training import train

# What fit takes where a parameter is None.
TABLE_DEFAULTS = {
    "max_steps": 6000,
    "batch_size": 256,
    "learning_rate": 1.5e-3,
    "patience": 3000,
}


class BaseDetector(OutlierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the detectors, which differ in their model and in how it is scored.

    They give ``_auto_latent_dim``, ``_own_model_args``, ``_own_image_model_args`` and
    ``_scorer_args``. What is particular to images is in ``image_estimator``.
    """

    _parameter_constraints: dict = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "hidden_units": ["array-like"],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [str, callable],
        "filters": ["array-like", None],
        "encoder": [HasMethods(["to_json", "get_weights"]), None],
        "decoder": [HasMethods(["to_json", "get_weights"]), None],
        "max_steps": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "max_levels": [Interval(Integral, 1, None, closed="left")],
        "normal_scores": ["boolean"],
        "kinds": [dict, None],
        "image_shape": ["array-like", None],
        "value_range": ["array-like", None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn what normal rows, or images, look like.

        Parameters
        ----------
        X : array-like (n, d) of numbers, or pandas.DataFrame of any mix of columns
            Training rows, mostly normal. NaN (None, NaT, pd.NA, "") is a missing cell.
            Or images: an array (n, height, width) or (n, height, width, channels), 8 x 8 pixels or
            more, of uint8, or of other numbers within ``value_range``; or an ``ImageFolder``.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Infinite values, no rows or no columns, duplicate column names, a wrong parameter;
            pixels that are NaN or out of range.
        """
        before = dict(vars(self))
        try:
            self._fit(X)
        except BaseException:
            # A fit that fails leaves the detector as it was.
            self.__dict__ = before
            raise
        return self

    def _fit(self, X):
        if image_estimator.is_images(X):
            image_estimator.fit(self, X)
            return
        for name in ("image_shape", "value_range", "filters"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"Expected `{name}` for images only. Received: {name}="
                    f"{getattr(self, name)!r} for a table. Leave it out."
                )
        kinds, arrays = self._start(X)
        preprocessor = TablePreprocessor(
            kinds,
            max_levels=self.max_levels,
            # A network of one's own knows how many features it takes.
            normal_scores=self.normal_scores and self.encoder is None and self.decoder is None,
        )
        preprocessor.adapt(arrays)

        seeds = self._seeds()
        n_rows = len(next(iter(arrays.values())))
        is_validation, is_calibration = self._held_out(n_rows, seeds[0])
        widths = preprocessor.column_widths
        model_args = {
            "column_widths": [int(width) for width in widths],
            "n_numeric": preprocessor.n_numeric,
            "n_boolean": preprocessor.n_boolean,
            "resolution": preprocessor.resolution.tolist(),
            **self._network_args(sum(widths)),
            **self._own_model_args(),
        }
        model = build_table_model(**model_args, seed=seeds[1])
        scorer = TableScorer(
            preprocessor,
            model,
            **self._scorer_args(),
            n_calibration=int(is_calibration.sum()),
            seed=seeds[2],
        )
        x, observed = map(tf.constant, scorer.preprocess(arrays))

        def inputs_of(indices):
            return tf.gather(x, indices), tf.gather(observed, indices)

        history = self._train(model, inputs_of, is_validation, seeds[3], **TABLE_DEFAULTS)
        self._finish_fit(model_args, scorer, history, arrays, is_calibration)

    def _seeds(self):
        random = check_random_state(self.random_state)
        return [int(seed) for seed in random.randint(2**31 - 1, size=4)]

    def _held_out(self, n_rows, seed):
        """Rows to stop early by, and rows to calibrate by: all where none are held out."""
        size = int(np.ceil(self.validation_fraction * n_rows))
        is_validation = np.zeros(n_rows, dtype=bool)
        order = np.random.default_rng(seed).permutation(n_rows)
        is_validation[order[: min(size, n_rows - 1)]] = True
        return is_validation, is_validation if is_validation.any() else ~is_validation

    def _network_args(self, n_features, *, is_image=False):
        for name, network in (("encoder", self.encoder), ("decoder", self.decoder)):
            if network is not None and not (network.built and hasattr(network, "input_shape")):
                raise ValueError(
                    f"Expected `{name}` to be a keras.Model whose inputs are known. Received: one "
                    "that is not built. Give it a keras.Input."
                )
        networks = {
            name: None if network is None else network.to_json()
            for name, network in (("encoder", self.encoder), ("decoder", self.decoder))
        }
        latent_dim = self.latent_dim
        if latent_dim is None and self.decoder is not None:
            latent_dim = self.decoder.inputs[0].shape[-1]
        elif latent_dim is None and self.encoder is not None:
            latent_dim = self.encoder.outputs[0].shape[-1]
        elif latent_dim is None:
            latent_dim = self._auto_latent_dim(n_features, is_image)
        return {
            "hidden_units": [int(units) for units in self.hidden_units],
            "latent_dim": int(latent_dim),
            "activation": self.activation,
            **networks,
        }

    def _train(self, model, inputs_of, is_validation, seed, **defaults):
        """Train by the parameters of the detector, or by defaults where they are None."""
        for network, given in ((model.encoder, self.encoder), (model.decoder, self.decoder)):
            if given is not None:
                network.set_weights(given.get_weights())
        for name in TABLE_DEFAULTS:
            given = getattr(self, name)
            if given is not None:  # may be a number of NumPy's, which JSON cannot hold
                defaults[name] = type(defaults[name])(given)
        return train(model, inputs_of, is_validation, seed=seed, verbose=self.verbose, **defaults)

    def _finish_fit(self, model_args, scorer, history, data, is_calibration):
        scores = scorer.calibrate(data, is_calibration)
        self._model_args, self.scorer_, self.history_ = model_args, scorer, history
        self.offset_ = offset_from_contamination(self.contamination, scores, scores[is_calibration])

    def score_samples(self, X):
        """Score rows; higher is more normal.

        Parameters
        ----------
        X : as in ``fit``
            Columns of a DataFrame may come in any order. An infinity is not an error here:
            it counts as the farthest value there is.

        Returns
        -------
        (n,) float64 array
        """
        return self._run(X, "score")

    def decision_function(self, X):
        """Return ``score_samples(X) - offset_``: negative for anomalies, (n,) float64."""
        return self._run(X, "decision")

    def predict(self, X):
        """Return +1 for normal rows and -1 for anomalies, (n,) int."""
        return np.where(self._run(X, "is_anomaly"), -1, 1)

    def p_values(self, X):
        """Return how rare so low a score is among normal rows, (n,) float64 in (0, 1].

        Conformal p-values against the held-out rows of ``fit``; see ``thresholds.p_values``.
        """
        return self._run(X, "p_value")

    def score(self, X, y=None):
        """Return the mean of ``score_samples(X)``, for model selection; ``y`` is ignored."""
        return float(self.score_samples(X).mean())

    def transform(self, X):
        """Return the latent means of rows, (n, latent_dim) float64."""
        check_is_fitted(self, "scorer_")
        return self.scorer_.latent(self._arrays(X)).astype(np.float64)

    def reconstruct(self, X):
        """Return what the model expects in place of each cell, in the units of X.

        Parameters
        ----------
        X : as in ``score_samples``

        Returns
        -------
        array (n, d), or DataFrame if X is one
            Booleans as the probability of True, categories as the most probable level. Of
            images a float32 array of the model's size.
        """
        check_is_fitted(self, "scorer_")
        if self._has_images():
            return image_estimator.reconstruct(self, X)
        expected = self._expected(self._arrays(X))
        return self._like_input(expected, X if _is_frame(X) else None)

    def explain(self, X):
        """Tell which columns made the scores what they are.

        Parameters
        ----------
        X : as in ``score_samples``

        Returns
        -------
        pandas.DataFrame, n rows, columns in three groups
            ``contribution``: one per column of X, in the score's unit: 0 is usual, very
            negative is the reason; then ``latent`` (what no column owns) and ``baseline``
            (the mean training score). They add up to ``score_samples(X)``.
            ``value``: the cells of X. ``expected``: ``reconstruct(X)``.
            Of images a dict of arrays with the keys ``contribution`` (n, height, width),
            ``latent`` (n,), ``baseline`` (a float), ``value`` and ``expected``.

        Examples
        --------
        >>> import numpy as np
        >>> from vae_anomaly import VAEDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = VAEDetector(max_steps=40, random_state=0).fit(X)
        >>> contributions = detector.explain(X)["contribution"]
        >>> np.allclose(contributions.sum(axis=1), detector.score_samples(X))
        True
        """
        import pandas as pd

        check_is_fitted(self, "scorer_")
        if self._has_images():
            return image_estimator.explain(self, X)
        arrays = self._arrays(X)
        names = list(arrays)
        outputs = self.scorer_.run(arrays, ("feature_log_prob", "latent"))
        index = X.index if _is_frame(X) else None
        contribution = pd.DataFrame(outputs["feature_log_prob"], columns=names, index=index)
        # Appended by position: a column of the table may have one of these names too.
        rest = pd.DataFrame({"latent": outputs["latent"], "baseline": self.scorer_.baseline})
        contribution = pd.concat([contribution, rest.set_axis(contribution.index)], axis=1)
        kinds = self.scorer_.preprocessor.kinds
        explanation = pd.concat(
            {
                "contribution": contribution,
                "value": arrays_frame(arrays, kinds, contribution.index),
                "expected": arrays_frame(self._expected(arrays), kinds, contribution.index),
            },
            axis=1,
        )
        return explanation.rename(columns=_labels(X), level=1) if _is_frame(X) else explanation

    def save(self, folder):
        """Write the fitted detector to a folder of JSON and weights; see ``artifact.save``."""
        check_is_fitted(self, "scorer_")
        artifact.save(self, folder)

    def export(self, folder, version=None):
        """Write a SavedModel for TensorFlow Serving to ``folder/<version>/``, and check it.

        Parameters
        ----------
        folder : path
            Of the model; created.
        version : int >= 0 or None
            None: the next one.

        Returns
        -------
        vae_anomaly.serving.export.Exported
            The version's folder and the largest difference of its scores; see ``export.export``
            for signatures and errors.
        """
        check_is_fitted(self, "scorer_")
        return export.export(self, folder, version)

    @property
    def offset_(self):
        """Scores under it are anomalies. Assign to it to move the threshold without refitting."""
        if "scorer_" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted yet: no offset_.")
        return float(self.scorer_.offset.numpy())

    @offset_.setter
    def offset_(self, value):
        self.scorer_.offset.assign(value)

    @property
    def _n_features_out(self):
        return self._model_args["latent_dim"]

    def _run(self, X, name):
        check_is_fitted(self, "scorer_")
        return self.scorer_.run(self._arrays(X), (name,))[name]

    def _start(self, X):
        """Validate training rows; return the kinds of their columns and the columns."""
        if not _is_frame(X):
            if self.kinds:
                raise ValueError(
                    "Expected a DataFrame where `kinds` is given. "
                    f"Received: X of type {type(X).__name__}. Wrap it in a pandas.DataFrame."
                )
            X = validate_data(self, X, dtype=np.float64, ensure_all_finite=False)
            names = _array_names(X.shape[1])
            return dict.fromkeys(names, "numeric"), dict(zip(names, X.T, strict=True))
        if 0 in X.shape:
            raise ValueError(
                f"Expected a table with rows and columns. Received: {X.shape[0]} sample(s) and "
                f"{X.shape[1]} feature(s) (shape={X.shape}) while a minimum of 1 is required."
            )
        kinds = frame_kinds(X, self.kinds)
        validate_data(self, X, skip_check_array=True)
        return kinds, frame_arrays(X, kinds, self._unmodelled())

    def _arrays(self, X):
        """Validate rows to be scored; return their columns, or images."""
        if self._has_images() or image_estimator.is_images(X):
            return image_estimator.checked(self, X)
        kinds = self.scorer_.preprocessor.kinds
        if _is_frame(X) and self._was_fitted_on_a_frame():
            if len(X) == 0:
                raise ValueError("Expected rows to score. Received: 0 sample(s).")
            return _infinities_reported(frame_arrays(X, kinds, self._unmodelled()))
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite=False, reset=False)
        if len(kinds) != X.shape[1] or "categorical" in kinds.values():
            raise ValueError(
                f"Expected a DataFrame, as in fit, of the columns {kinds}. "
                f"Received: an array of {X.shape[1]} columns of numbers."
            )
        return _infinities_reported(dict(zip(kinds, X.T, strict=True)))

    def _has_images(self):
        return isinstance(self.scorer_, ImageScorer)

    def _was_fitted_on_a_frame(self):
        names = list(self.scorer_.preprocessor.kinds)
        named = set(getattr(self, "feature_names_in_", ()))
        return names != _array_names(len(names)) or named.issuperset(names)

    def _unmodelled(self):
        return [str(name) for name, kind in (self.kinds or {}).items() if kind in UNMODELLED_KINDS]

    def _expected(self, arrays):
        return self.scorer_.preprocessor.inverse(self.scorer_.reconstruct(arrays))

    def _like_input(self, arrays, frame):
        """Named columns as a DataFrame where the input is one, else as an array."""
        kinds = self.scorer_.preprocessor.kinds
        if frame is None and "categorical" not in kinds.values():
            return np.stack(list(arrays.values()), axis=1)
        if frame is None:
            return arrays_frame(arrays, kinds)
        return arrays_frame(arrays, kinds, frame.index).rename(columns=_labels(frame))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "scorer_" in state:
            state["scorer_"] = artifact.pack_scorer(self.scorer_)
        return state

    def __setstate__(self, state):
        state = dict(state)
        if "scorer_" in state:
            state["scorer_"] = artifact.unpack_scorer(state["_model_args"], *state["scorer_"])
        super().__setstate__(state)


def _infinities_reported(arrays):
    if count := n_infinite_rows(arrays):
        warnings.warn(
            f"{count} rows have infinite cells; they count as the farthest value there is.",
            stacklevel=4,
        )
    return arrays


def _is_frame(X):
    return hasattr(X, "iloc") and hasattr(X, "columns")


def _labels(frame):
    """Column labels by their names, for frames whose labels are no text."""
    return {str(label): label for label in frame.columns}


def _array_names(n_columns):
    return [f"x{index}" for index in range(n_columns)]
