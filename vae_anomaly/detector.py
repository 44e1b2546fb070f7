"""Outlier detectors with the interface of scikit-learn: their parameters, and what is their own."""

from numbers import Integral, Real

from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from vae_anomaly.columns import arrays_frame
from vae_anomaly.estimator import TableDetector
from vae_anomaly.scoring import SCORE_TYPES

_LARGEST_AUTO_LATENT_DIM = 16
# A standard deviation of about three of the steps in which marginals are tabulated.
_SMALLEST_COMPOSITE_VARIANCE = 1e-3


class VAEDetector(TableDetector):
    """Outlier detector that scores rows with a variational autoencoder.

    Trains until the held-out loss stops falling, within a budget of gradient steps.

    Parameters
    ----------
    score_type : str, default "composite"
        "composite" (the mean of the reconstruction probability and of the columns' marginal
        log-probabilities), "reconstruction_probability" (An & Cho 2015), "importance_weighted" (an
        estimate of log p(x), Burda et al. 2016), "elbo" or "reconstruction_error"; see
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
        Who decides the Gaussian's variance; see ``likelihoods.Gaussian``. With "composite" a
        number must be 0.001 at least.
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
        **TableDetector._parameter_constraints,
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
        score_type="composite",
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
        tabulated = self.score_type == "composite" and not isinstance(self.variance, str)
        if tabulated and self.variance < _SMALLEST_COMPOSITE_VARIANCE:
            raise ValueError(
                f"Expected `variance` >= {_SMALLEST_COMPOSITE_VARIANCE} for "
                f"score_type='composite', whose densities are tabulated. Received: "
                f"variance={self.variance!r}. Take another score type."
            )
        return {
            "variational": True,
            "variance": self.variance if isinstance(self.variance, str) else float(self.variance),
            "beta": float(self.beta),
            "kl_warmup_steps": int(self.kl_warmup_steps),
            "n_draws": int(self.n_train_draws),
        }

    def _scorer_args(self):
        return {"score_type": self.score_type, "n_draws": int(self.n_draws)}


class AutoencoderDetector(TableDetector):
    """Outlier detector that scores rows by the squared error of a plain autoencoder.

    The baseline to compare ``VAEDetector`` with: same data path, networks, training (cells are
    hidden from the encoder here too) and threshold; no distribution over z, no likelihood.
    Scores are minus squared standard deviations, not nats.

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
