"""Outlier detectors with the interface of scikit-learn."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from vae_anomaly import artifact
from vae_anomaly.columns import (
    UNMODELLED_KINDS,
    arrays_frame,
    frame_arrays,
    frame_kinds,
    n_infinite_rows,
)
from vae_anomaly.models import build_table_model
from vae_anomaly.preprocessing import TablePreprocessor
from vae_anomaly.scoring import SCORE_TYPES, AnomalyScorer
from vae_anomaly.thresholds import offset_from_contamination
from vae_anomaly.training import train

_LARGEST_AUTO_LATENT_DIM = 16


class _TableDetector(
    OutlierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """What both detectors share; they differ in their model and in how it is scored."""

    _parameter_constraints: dict = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "hidden_units": ["array-like"],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [str, callable],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "max_levels": [Interval(Integral, 1, None, closed="left")],
        "kinds": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn what normal rows look like.

        Parameters
        ----------
        X : array-like (n, d) of numbers, or pandas.DataFrame of any mix of columns
            Training rows, mostly normal. NaN (None, NaT, pd.NA, "") is a missing cell.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Infinite values, no rows or no columns, duplicate column names, a wrong parameter.
        """
        kinds, arrays = self._start(X)
        preprocessor = TablePreprocessor(kinds, max_levels=self.max_levels)
        preprocessor.adapt(arrays)

        random = check_random_state(self.random_state)
        seeds = [int(seed) for seed in random.randint(2**31 - 1, size=4)]
        n_rows = len(next(iter(arrays.values())))
        is_validation = self._validation_rows(n_rows, np.random.default_rng(seeds[0]))
        n_validation = int(is_validation.sum())
        is_calibration = is_validation if n_validation else np.ones(n_rows, dtype=bool)

        widths = preprocessor.column_widths
        model_args = {
            "column_widths": [int(width) for width in widths],
            "n_numeric": preprocessor.n_numeric,
            "n_boolean": preprocessor.n_boolean,
            "resolution": preprocessor.resolution.tolist(),
            "hidden_units": [int(units) for units in self.hidden_units],
            "latent_dim": int(self.latent_dim or self._auto_latent_dim(sum(widths))),
            "activation": self.activation,
            **self._own_model_args(),
        }
        model = build_table_model(**model_args, seed=seeds[1])
        scorer = AnomalyScorer(
            preprocessor,
            model,
            **self._scorer_args(),
            n_calibration=int(is_calibration.sum()),
            seed=seeds[2],
        )
        x, observed = scorer.preprocess(arrays)
        history = train(
            model,
            x,
            observed,
            is_validation,
            max_steps=int(self.max_steps),
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate),
            patience=int(self.patience),
            seed=seeds[3],
            verbose=self.verbose,
        )
        scores = scorer.calibrate(arrays, is_calibration)
        # All at once: a fit that fails leaves the detector as it was.
        self._model_args, self.scorer_, self.history_ = model_args, scorer, history
        self.offset_ = offset_from_contamination(self.contamination, scores, scores[is_calibration])
        return self

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
            Booleans as the probability of True, categories as the most probable level.
        """
        check_is_fitted(self, "scorer_")
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
        """Validate rows to be scored; return their columns."""
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

    def _was_fitted_on_a_frame(self):
        names = list(self.scorer_.preprocessor.kinds)
        named = set(getattr(self, "feature_names_in_", ()))
        return names != _array_names(len(names)) or named.issuperset(names)

    def _unmodelled(self):
        return [str(name) for name, kind in (self.kinds or {}).items() if kind in UNMODELLED_KINDS]

    def _validation_rows(self, n_rows, rng):
        size = int(np.ceil(self.validation_fraction * n_rows))
        is_validation = np.zeros(n_rows, dtype=bool)
        is_validation[rng.permutation(n_rows)[: min(size, n_rows - 1)]] = True
        return is_validation

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


class VAEDetector(_TableDetector):
    """Outlier detector that scores rows with a variational autoencoder.

    Trains until the held-out loss stops falling, within a budget of gradient steps.

    Parameters
    ----------
    score_type : str, default "reconstruction_probability"
        "reconstruction_probability" (An & Cho 2015), "importance_weighted" (an estimate of
        log p(x), Burda et al. 2016), "elbo" or "reconstruction_error"; see
        ``scoring.AnomalyScorer``. Measured in the preprocessed (standardised) space.
    contamination : "auto" or float in (0, 0.5], default "auto"
        A share: this share of the training rows is flagged. "auto": about 1% of new normal
        rows is, judged by the held-out rows.
    hidden_units : sequence of int, default (128, 128)
        Encoder layers; the decoder mirrors them.
    latent_dim : int or None, default None
        Size of z. None: 16, or the number of features if smaller.
    activation : str, default "relu"
    variance : {"row", "column", "shared"} or float, default "row"
        Who decides the Gaussian's variance; see ``likelihoods.Gaussian``.
    beta : float, default 1.0
        Weight of the KL term.
    kl_warmup_steps : int, default 0
        Steps over which this weight grows to ``beta``.
    n_draws : int, default 8
        Fixed draws of z per row in scoring.
    n_train_draws : int, default 1
        Fresh draws of z per row and step in training.
    max_steps : int, default 6000
        Gradient steps, whatever the number of rows.
    batch_size : int, default 256
    learning_rate : float, default 1.5e-3
        Of Adam; decays to 0 over ``max_steps`` along a cosine.
    validation_fraction : float in [0, 1), default 0.1
        Rows held out to stop early and to calibrate "auto" and p-values. 0: all rows do both.
    patience : int, default 3000
        Steps without improvement on the held-out rows before stopping.
    max_levels : int, default 50
        Most frequent levels kept of a categorical column; others count as unknown.
    kinds : dict or None, default None
        Column name to "numeric", "boolean", "datetime" or "categorical", where the dtype of a
        DataFrame's column does not tell; to "id" or "dropped", where it is not to be modelled.
    random_state : int, RandomState or None, default None
        Equal ints give equal detectors on one machine.
    verbose : int, default 0
        1: a progress bar.

    Attributes
    ----------
    offset_ : float
        Threshold; can be assigned to.
    history_ : dict of str to list
        Losses by training step.
    scorer_ : vae_anomaly.scoring.AnomalyScorer
        The model with its preprocessing and calibration.
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X was a DataFrame with string column names.

    References
    ----------
    Kingma & Welling (2014), "Auto-Encoding Variational Bayes". An & Cho (2015), "Variational
    Autoencoder based Anomaly Detection using Reconstruction Probability".

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly import VAEDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 4))
    >>> detector = VAEDetector(max_steps=200, random_state=0).fit(X)
    >>> detector.predict([[0, 0, 0, 0], [9, 9, 9, 9]])
    array([ 1, -1])
    """

    _parameter_constraints: dict = {
        **_TableDetector._parameter_constraints,
        "score_type": [StrOptions(set(SCORE_TYPES))],
        "variance": [
            StrOptions({"row", "column", "shared"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup_steps": [Interval(Integral, 0, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "n_train_draws": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        score_type="reconstruction_probability",
        contamination="auto",
        hidden_units=(128, 128),
        latent_dim=None,
        activation="relu",
        variance="row",
        beta=1.0,
        kl_warmup_steps=0,
        n_draws=8,
        n_train_draws=1,
        max_steps=6000,
        batch_size=256,
        learning_rate=1.5e-3,
        validation_fraction=0.1,
        patience=3000,
        max_levels=50,
        kinds=None,
        random_state=None,
        verbose=0,
    ):
        self.score_type = score_type
        self.contamination = contamination
        self.hidden_units = hidden_units
        self.latent_dim = latent_dim
        self.activation = activation
        self.variance = variance
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.n_draws = n_draws
        self.n_train_draws = n_train_draws
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.max_levels = max_levels
        self.kinds = kinds
        self.random_state = random_state
        self.verbose = verbose

    def sample(self, n_rows, random_state=None):
        """Draw new rows from the model: z from the prior, then x from p(x|z).

        Parameters
        ----------
        n_rows : int
        random_state : int, RandomState or None

        Returns
        -------
        array (n_rows, d), or DataFrame if the detector was fitted on one
            In the units of X.
        """
        check_is_fitted(self, "scorer_")
        if not isinstance(n_rows, Integral) or n_rows < 1:
            raise ValueError(f"Expected `n_rows` to be an int >= 1. Received: n_rows={n_rows!r}")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        x = self.scorer_.model.sample(int(n_rows), seed=seed)
        arrays = self.scorer_.preprocessor.inverse(x)
        if self._was_fitted_on_a_frame():
            return arrays_frame(arrays, self.scorer_.preprocessor.kinds)
        return self._like_input(arrays, None)

    def _auto_latent_dim(self, n_features):
        return min(_LARGEST_AUTO_LATENT_DIM, n_features)

    def _own_model_args(self):
        return {
            "variational": True,
            "variance": self.variance if isinstance(self.variance, str) else float(self.variance),
            "beta": float(self.beta),
            "kl_warmup_steps": int(self.kl_warmup_steps),
            "n_draws": int(self.n_train_draws),
        }

    def _scorer_args(self):
        return {"score_type": self.score_type, "n_draws": int(self.n_draws)}


class AutoencoderDetector(_TableDetector):
    """Outlier detector that scores rows by the squared error of a plain autoencoder.

    The baseline to compare ``VAEDetector`` with: same data path, networks, training and
    threshold; no distribution over z, no likelihood. Scores are minus squared standard
    deviations, not nats.

    Parameters
    ----------
    contamination, hidden_units, latent_dim, activation, max_steps, batch_size, learning_rate, \
validation_fraction, patience, max_levels, kinds, random_state, verbose
        As in ``VAEDetector``, but ``latent_dim=None`` is at most half the number of features:
        as many as those would let the identity pass.

    Attributes
    ----------
    offset_, history_, scorer_, n_features_in_, feature_names_in_
        As in ``VAEDetector``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly import AutoencoderDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 4))
    >>> detector = AutoencoderDetector(max_steps=200, random_state=0).fit(X)
    >>> detector.predict([[0, 0, 0, 0], [99, 99, 99, 99]])
    array([ 1, -1])
    """

    def __init__(
        self,
        *,
        contamination="auto",
        hidden_units=(128, 128),
        latent_dim=None,
        activation="relu",
        max_steps=6000,
        batch_size=256,
        learning_rate=1.5e-3,
        validation_fraction=0.1,
        patience=3000,
        max_levels=50,
        kinds=None,
        random_state=None,
        verbose=0,
    ):
        self.contamination = contamination
        self.hidden_units = hidden_units
        self.latent_dim = latent_dim
        self.activation = activation
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.max_levels = max_levels
        self.kinds = kinds
        self.random_state = random_state
        self.verbose = verbose

    def _auto_latent_dim(self, n_features):
        return min(_LARGEST_AUTO_LATENT_DIM, max(1, n_features // 2))

    def _own_model_args(self):
        return {"variational": False}

    def _scorer_args(self):
        return {"score_type": "reconstruction_error", "n_draws": 1}


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
