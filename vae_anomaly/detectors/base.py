"""What the detectors share: the scikit-learn interface over a trained, scored model."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors import artifact, packing
from vae_anomaly.detectors.cross_fitting import can_cross_fit, cross_fitted_scores, held_out
from vae_anomaly.detectors.decisions import CROSS_FITTED, HELD_OUT, TRAINING, DecisionMixin
from vae_anomaly.detectors.given_networks import network_args, start_from_given
from vae_anomaly.detectors.inputs import chosen_input
from vae_anomaly.detectors.reporting import ReportMixin
from vae_anomaly.detectors.sklearn_compat import HasMethods, Interval, StrOptions, validated
from vae_anomaly.detectors.warm_start import earlier_input, kept_args, start_from_earlier
from vae_anomaly.scoring.thresholds import threshold_from_contamination
from vae_anomaly.serving import export
from vae_anomaly.tables.schema import Schema
from vae_anomaly.vae.strategies import check_one_replica
from vae_anomaly.vae.training import Trainer, best_step

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from vae_anomaly.detectors.inputs import Input, Rows, TrainingRows
    from vae_anomaly.images.files import ImageFolder
    from vae_anomaly.scoring.scorer import AnomalyScorer
    from vae_anomaly.serving.export import Exported

    Floats = npt.NDArray[np.float64]

_Detector = TypeVar("_Detector", bound="BaseDetector")

# The parameters that ``Trainer.train`` takes, and that inputs have defaults for.
_TRAINING = {"max_steps": int, "batch_size": int, "learning_rate": float, "patience": int}


class BaseDetector(
    DecisionMixin,
    ReportMixin,
    OutlierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of the detectors, which differ in their model and in how it is scored.

    They give ``_auto_latent_dim``, ``_own_model_args`` and ``_scorer_args``. What differs between
    tables and images is in ``table_input`` and ``image_input``.
    """

    scorer_: AnomalyScorer
    history_: dict[str, list[float]]
    n_features_in_: int
    _input: Input
    _model_args: dict[str, Any]

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
        "max_rows": [Interval(Integral, 1, None, closed="left"), None],
        "warm_start": ["boolean"],
        "kinds": [dict, None],
        "schema": [Schema, str, PathLike, None],
        "image_shape": ["array-like", None],
        "tiles": ["array-like", None],
        "augmentation": ["array-like", None],
        "value_range": ["array-like", None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @validated
    def fit(
        self: _Detector,
        X: TrainingRows,
        y: object = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> _Detector:
        """Learn what normal rows, or images, look like.

        Parameters
        ----------
        X : array-like (n, d) of numbers, or DataFrame of any mix of columns
            Training rows, mostly normal. NaN (None, NaT, pd.NA, "") is a missing cell. DataFrames
            of polars, tables of pyarrow and others that narwhals knows are taken as pandas' are.
            Rows that are not in memory: ``TableFiles``, a ``pyarrow.dataset.Dataset``, or an
            iterable of DataFrames, read twice, in parts, or a ``spark.SparkRows``; see
            ``max_rows``.
            Or images: an array (n, height, width) or (n, height, width, channels), 8 x 8 pixels or
            more, of uint8, or of other numbers within ``value_range``; or an ``ImageFolder``.
        y : ignored
        sample_weight : array-like (n,) or None
            How much each row counts in the loss and in what is learned about columns (centers,
            scales, levels, shares), at least 0; None: all the same. Rows of weight 0 are left out.
            Thresholds, p-values and which rows are held out do not depend on weights.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Weights that are negative, not finite, all 0, or not one for each row.
            Infinite values, no rows or no columns, duplicate column names; pixels that are NaN or
            out of range; a wrong parameter, or one that means nothing for X, such as
            ``image_shape`` for a table.

        Warns
        -----
        DataWarning
            Few calibration rows, or some far below all others; expected images that hardly differ.
        """
        before = dict(vars(self))
        try:
            self._fit(X, sample_weight)
        except BaseException:
            # A fit that fails leaves the detector as it was.
            self.__dict__ = before
            raise
        return self

    def _fit(self, X, sample_weight):
        check_one_replica(f"{type(self).__name__}.fit")
        chosen = chosen_input(self, X)
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=4).tolist()
        data, weights = chosen.learn(self, X, seeds[2], sample_weight)
        n_rows = chosen.n_rows(data)
        is_validation, is_held_out = held_out(n_rows, self.validation_fraction, seeds[0])
        data, sources = chosen.augmented(self, data, np.flatnonzero(~is_validation), seeds[2])
        weights = None if weights is None else weights[sources]
        model_args, model = self._new_model(chosen, seeds[1])
        initial_weights = model.get_weights()
        crosses = chosen.subset is not None and can_cross_fit(is_validation)
        scorer = chosen.build_scorer(
            model,
            **self._scorer_args(chosen, int(np.sum(~is_held_out)) or n_rows),
            n_calibration=n_rows if crosses else int(is_held_out.sum()),
            seed=seeds[2],
        )
        training = self._training(chosen.training_defaults(n_rows))
        with chosen.reading(data):
            trainer = Trainer(model, chosen.batches(scorer, data), weights)
            history = trainer.train(is_validation[sources], seed=seeds[3], **training)
            scores = scorer.learn(data, is_held_out[sources])[:n_rows]
            calibration_scores = scores[is_held_out]
            doubts = chosen.doubts(scorer, data, is_held_out)
            if crosses:
                calibration_scores = cross_fitted_scores(
                    scorer,
                    data,
                    chosen.subset,
                    trainer,
                    is_held_out,
                    sources,
                    initial_weights=initial_weights,
                    best_step=best_step(history),
                    seed=seeds[3],
                )
        scorer.calibration_scores.assign(np.sort(calibration_scores))
        self._input, self._model_args = chosen, model_args
        self.scorer_, self.history_ = scorer, history
        of_one_model = HELD_OUT if is_validation.any() else TRAINING
        self._calibrated_on = CROSS_FITTED if crosses else of_one_model
        self._set(threshold_from_contamination(self.contamination, scores, calibration_scores))
        self._warn_of_calibration(stacklevel=4)
        for message in doubts:
            warnings.warn(message, DataWarning, stacklevel=4)

    def _new_model(self, chosen, seed):
        """Return the arguments of a model, and the model: new, or as an earlier fit left it."""
        model_args = {
            **chosen.model_args(self),
            **network_args(self, lambda: self._auto_latent_dim(chosen)),
            **self._own_model_args(chosen),
        }
        if earlier_input(self) is None:
            model = chosen.build_model(model_args, seed=seed)
            start_from_given(self, model)
            return model_args, model
        model_args = kept_args(self, model_args)
        model = chosen.build_model(model_args, seed=seed)
        start_from_earlier(self, model, chosen.preprocessor)
        return model_args, model

    def _training(self, defaults):
        """Return arguments of ``Trainer.train``: the detector's parameters where not None."""
        own = {
            name: number(getattr(self, name))
            for name, number in _TRAINING.items()
            if getattr(self, name) is not None
        }
        return {**defaults, **own, "verbose": self.verbose}

    def score_samples(self, X: Rows) -> Floats:
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

    def decision_function(self, X: Rows) -> Floats:
        """Return ``score_samples(X) - offset_``: negative for anomalies, (n,) float64."""
        return self._run(X, "decision")

    def predict(self, X: Rows) -> npt.NDArray[np.int64]:
        """Return +1 for normal rows and -1 for anomalies, (n,) int."""
        return np.where(self._run(X, "is_anomaly"), -1, 1)

    def p_values(self, X: Rows) -> Floats:
        """Return how rare so low a score is among normal rows, (n,) float64 in (0, 1].

        Conformal p-values against the calibration rows; see ``calibration.p_values``.
        """
        return self._run(X, "p_value")

    def score(self, X: Rows, y: object = None) -> float:
        """Return the mean of ``score_samples(X)``, for model selection; ``y`` is ignored."""
        return float(self.score_samples(X).mean())

    def transform(self, X: Rows) -> Floats:
        """Return the latent means of rows, (n, latent_dim) float64."""
        check_is_fitted(self, "scorer_")
        return self.scorer_.latent(self._input.check(self, X)).astype(np.float64)

    @overload
    def reconstruct(self, X: pd.DataFrame) -> pd.DataFrame: ...
    @overload
    def reconstruct(self, X: npt.ArrayLike | ImageFolder) -> npt.NDArray[Any]: ...
    def reconstruct(self, X):
        """Return what the model expects in place of each cell, in the units of X.

        Parameters
        ----------
        X : as in ``score_samples``

        Returns
        -------
        array (n, d), or DataFrame if X is one
            Booleans as the probability of True, categories as the most probable level. For
            images a float32 array of the model's size.
        """
        check_is_fitted(self, "scorer_")
        return self._input.reconstruct(self, X)

    @overload
    def explain(self, X: pd.DataFrame) -> pd.DataFrame: ...
    @overload
    def explain(self, X: ImageFolder) -> dict[str, Any]: ...
    @overload
    def explain(self, X: npt.ArrayLike) -> pd.DataFrame | dict[str, Any]: ...
    def explain(self, X):
        """Tell which columns made the scores what they are.

        Parameters
        ----------
        X : as in ``score_samples``

        Returns
        -------
        pandas.DataFrame, n rows, columns in groups
            ``contribution``: one per column of X, in the score's unit: 0 is usual, very
            negative is unusual; then ``latent`` (what no column owns) and ``baseline``
            (the mean training score). They add up to ``score_samples(X)``.
            ``value``: the cells of X. ``gain``: how much the row would gain if the cell were
            unknown, in its score or in its ELBO, whichever is more; of numbers the mean of that
            and of what it would gain under a Student's t of the reference rows. The largest names
            the reason best. ``expected``, ``low``, ``high``: what the rest of the row suggests
            for the cell, and for numbers the range from the 10% to the 90% quantile (a
            ``VAEDetector`` alone has one).
            For images a dict of arrays with the keys ``contribution`` (n, height, width),
            ``latent`` (n,), ``baseline`` (a float), ``value`` and ``expected``.

        Examples
        --------
        >>> import numpy as np
        >>> from vae_anomaly import AutoencoderDetector
        >>> X = np.random.default_rng(0).normal(size=(1100, 3))
        >>> detector = AutoencoderDetector(max_steps=20, random_state=0).fit(X)
        >>> contributions = detector.explain(X)["contribution"]
        >>> np.allclose(contributions.sum(axis=1), detector.score_samples(X))
        True
        """
        check_is_fitted(self, "scorer_")
        return self._input.explain(self, X)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the fitted detector to a folder of JSON and weights, for ``load_detector``.

        Parameters
        ----------
        folder : path
            Created; a detector there is replaced, at once and only when the new one is complete.

        Raises
        ------
        FileExistsError
            There is something else than a saved detector, or a file that does not belong to one.
        ValueError
            The activation is a function: without code, only its name can be stored.
        """
        check_is_fitted(self, "scorer_")
        artifact.write(folder, *packing.pack(self))

    def export(
        self,
        folder: str | PathLike[str],
        version: int | None = None,
        format: str = "savedmodel",
    ) -> Exported:
        """Write a model that a server runs to ``folder/<version>/``, and check it.

        Parameters
        ----------
        folder : path
            Of the model; created.
        version : int >= 0 or None
            None: the next one.
        format : {"savedmodel", "onnx"}
            A SavedModel for TensorFlow Serving, or ``model.onnx``, which needs the extra ``onnx``.

        Returns
        -------
        vae_anomaly.serving.export.Exported
            The version's folder and the largest difference of its scores; see ``export.export``
            for errors, ``serving.saved_model`` and ``serving.onnx_model`` for what is written.
        """
        check_is_fitted(self, "scorer_")
        return export.export(self._input.served(self), folder, version, format)

    @property
    def _n_features_out(self):
        return self.scorer_.model.latent_dim

    def _run(self, X, name):
        check_is_fitted(self, "scorer_")
        return self.scorer_.run(self._input.check(self, X), (name,))[name]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "scorer_" in state:
            state["_input"] = self._input.name, self._input.described()
            state |= packing.without_networks(state, self._input)
            state["scorer_"] = packing.pack_scorer(self.scorer_)
        return state

    def __setstate__(self, state):
        state = dict(state)
        if "scorer_" in state:
            state["_input"], state["scorer_"] = packing.unpack_scorer(
                state["_input"], state["_model_args"], *state["scorer_"]
            )
            state |= packing.with_networks(state, state["_input"])
        super().__setstate__(state)
