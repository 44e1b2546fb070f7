"""The detector that scores with a variational autoencoder: its parameters and its samples."""

from __future__ import annotations

from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from vae_anomaly.detectors.base import BaseDetector
from vae_anomaly.detectors.sklearn_compat import HasMethods, Interval, StrOptions
from vae_anomaly.scoring.tables import SCORE_TYPES
from vae_anomaly.vae.builders import PIXEL_LIKELIHOODS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from vae_anomaly.detectors.inputs import Rows


class VAEDetector(BaseDetector):
    """Outlier detector that scores rows of tables, or images, with a variational autoencoder.

    Trains until the held-out loss stops falling, within a budget of gradient steps.

    Parameters
    ----------
    score_type : str, default "composite"
        "composite" (several views of a row, the elbo among them, see ``training``),
        "reconstruction_probability" (An & Cho 2015),
        "importance_weighted" (an estimate of log p(x), Burda et al. 2016; but see
        ``normal_scores``), "elbo" or "reconstruction_error"; see
        ``scoring.tables.TableScorer``.
        Measured in the preprocessed (standardised) space.
    contamination : "auto" or float in (0, 0.5], default "auto"
        A share: this share of the training rows is flagged. "auto": about 1% of new normal
        rows is, judged by the held-out rows.
    hidden_units : sequence of int, default (128, 128)
        Encoder layers; the decoder mirrors them. For images, those between the convolutions
        and z.
    latent_dim : int or None, default None
        Size of z. None: 16 (images: 32), or the number of features if smaller.
    activation : str, default "relu"
    variance : {"row", "column", "shared"} or float, default "row"
        Who decides the Gaussian's variance; see ``likelihoods.Gaussian``. With "composite" a
        number must be 0.001 at least. Not with a ``backbone``.
    pixel_likelihood : str, default "auto"
        For images only: "roughness_gaussian", "gaussian" (with ``variance``), "bernoulli",
        "continuous_bernoulli" or "discretized_logistic" (for 256 levels); see
        ``vae.pixel_likelihoods``. "auto": "bernoulli" where all pixels have the lowest or the
        highest value, else "roughness_gaussian".
    beta : float, default 1.0
        Weight of the KL term.
    kl_warmup_steps : int, default 0
        Steps over which this weight grows to ``beta``.
    training : {"as_is", "clean"}, default "as_is"
        For tables and "composite" only: what the training rows are. "as_is": as they come,
        anomalies may be among them; the score is mostly the one of three views (elbo, marginal
        log-probabilities of the columns, nearest training rows) in which a row is most unusual.
        "clean": all normal; the score is the mean of the elbo and the nearest training rows. The
        model is the same, and values that are new where values repeat lower either score.
    n_reference : int, default 2000
        For tables and "composite" only: training rows that the model keeps, and saves, to compare
        others with, all if there are no more; and values that it keeps of each numeric column,
        to tell what is new. 0: none; the views of the nearest training rows and of known values
        are left out.
    n_draws : int, default 8
        Fixed draws of z per row in scoring.
    n_train_draws : int, default 1
        Fresh draws of z per row and step in training.
    filters : sequence of int or None, default None
        For images only: filters of the convolutions, as in ``networks.conv_encoder``. None:
        ``networks.default_filters``.
    encoder, decoder : keras.Model or None, default None
        Networks to train instead, from the weights they have; they are not changed. For images
        from (n, height, width, channels) to [z_mean, z_log_var], and from z to (n, height, width,
        channels), twice the channels where the likelihood has two parameters. For tables see
        ``builders.build_table_model``.
    max_steps : int or None, default None
        Gradient steps, whatever the number of rows. None: 6000, or 1500 for images; 4000 for
        those whose shorter side is under 16 pixels; 500 with a ``backbone``.
    batch_size : int or None, default None
        None: 256, or 32 for images.
    learning_rate : float or None, default None
        Of Adam; decays to 0 over ``max_steps`` along a cosine. None: 0.0015, or 0.003 for images.
    validation_fraction : float in [0, 1), default 0.1
        Rows held out to stop early and to calibrate "auto" and p-values. 0: all rows do both.
    patience : int or None, default None
        Steps without improvement on the held-out rows before stopping. None: 3000, or for
        images the default of ``max_steps``.
    max_levels : int, default 50
        For tables only: most levels of a categorical column, its most frequent values. Others, and
        those there once, count as one that ``fit`` has not seen.
    normal_scores : bool, default True
        For tables only: whether very skewed numeric columns are modelled twice, as values and as
        normal scores of their ranks; see ``preprocessing.TablePreprocessor``. Their two
        log-probabilities are added, so even "importance_weighted" estimates no density of the row
        then. Expected values and samples of such columns are within the range of the training
        rows. Custom networks take each numeric column once.
    max_rows : int or None, default None
        For tables only: most rows that train, calibrate and are kept for reference, a uniform
        sample by ``random_state`` where there are more. What is learned about columns (kinds,
        formats, levels, shares, ranges, scales, normal scores) is by all rows. None: all rows that
        are in memory; of rows that are read in parts (``TableFiles``, data sets, iterables of
        DataFrames, ``SparkRows``) 2,000,000 cells, and not under 10,000 rows.
    warm_start : bool, default False
        For tables only: whether ``fit`` goes on from the fit before it, or from the loaded model,
        with new rows. Its schema, networks, centers, scales and normal scores are kept, and levels
        of the new rows added; thresholds, p-values and reference rows are those of the new rows,
        some of which are held out for it. ``max_steps=None`` means 1500 then.
    backbone : keras.Model, str, path or None, default None
        For images only: a network that gives feature maps, which are modelled in place of pixels;
        see ``images.features.FeaturePreprocessor``. A model, a ``.keras`` file, or the name of a
        network in ``keras.applications``, such as "efficientnetv2-b0", whose weights Keras
        downloads. It is not trained. None: pixels.
    kinds : dict or None, default None
        Column name to "numeric", "boolean", "datetime", "timestamp" or "categorical", where the
        cells of a DataFrame's column do not tell; to "id", "text" or "dropped", where it is not to
        be modelled.
    schema : Schema, path or None, default None
        What the command ``inspect`` found, perhaps edited: the kinds and formats of all columns
        of a DataFrame. None: what their cells show.
    image_shape : (int, int, int) or None, default None
        For images only: height, width and channels to which all images are brought, in fit and
        afterwards. None: those of the training images; images of others are refused.
    tiles : (int, int) or None, default None
        For images only: height and width of overlapping windows that the networks see, in place of
        whole images, which they would have to shrink or learn more slowly; ``latent_dim`` is of
        each. Neighbours share a quarter of their side or more; there an image gets a weighted mean
        of what they say. Scores, maps and thresholds are of whole images. None: no windows.
    augmentation : sequence of str or None, default None
        For images only: what copies of the training images differ in, some
        of "flip_horizontal" (left and right), "flip_vertical", "shift" (up to 1/32 of a side) and
        "brightness" (5%). Seven copies of each train beside it; images that are held out have none.
        For few images, of what looks alike so. None: no copies.
    value_range : (float, float) or None, default None
        For images only: lowest and highest value of a pixel. None: (0, 255) for uint8, (0, 1) for
        floats; for uint16 those of the training images, and what is beyond counts as the nearest
        of them.
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
    scorer_ : vae_anomaly.scoring.tables.TableScorer or vae_anomaly.scoring.images.ImageScorer
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
    >>> X = np.random.default_rng(0).normal(size=(1100, 4))
    >>> detector = VAEDetector(max_steps=40, random_state=0).fit(X)
    >>> detector.predict([[0, 0, 0, 0], [9, 9, 9, 9]])
    array([ 1, -1])
    """

    _parameter_constraints: dict = {
        **BaseDetector._parameter_constraints,
        "score_type": [StrOptions(set(SCORE_TYPES))],
        "variance": [
            StrOptions({"row", "column", "shared"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "pixel_likelihood": [StrOptions({"auto", *PIXEL_LIKELIHOODS})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup_steps": [Interval(Integral, 0, None, closed="left")],
        "backbone": [HasMethods(["to_json", "get_weights"]), str, PathLike, None],
        "training": [StrOptions({"as_is", "clean"})],
        "n_reference": [Interval(Integral, 0, None, closed="left")],
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
        pixel_likelihood="auto",
        beta=1.0,
        kl_warmup_steps=0,
        training="as_is",
        n_reference=2000,
        n_draws=8,
        n_train_draws=1,
        filters=None,
        encoder=None,
        decoder=None,
        max_steps=None,
        batch_size=None,
        learning_rate=None,
        validation_fraction=0.1,
        patience=None,
        max_levels=50,
        normal_scores=True,
        max_rows=None,
        warm_start=False,
        backbone=None,
        kinds=None,
        schema=None,
        image_shape=None,
        tiles=None,
        augmentation=None,
        value_range=None,
        random_state=None,
        verbose=0,
    ):
        self.score_type = score_type
        self.contamination = contamination
        self.hidden_units = hidden_units
        self.latent_dim = latent_dim
        self.activation = activation
        self.variance = variance
        self.pixel_likelihood = pixel_likelihood
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.training = training
        self.n_reference = n_reference
        self.n_draws = n_draws
        self.n_train_draws = n_train_draws
        self.filters = filters
        self.encoder = encoder
        self.decoder = decoder
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.max_levels = max_levels
        self.normal_scores = normal_scores
        self.max_rows = max_rows
        self.warm_start = warm_start
        self.backbone = backbone
        self.kinds = kinds
        self.schema = schema
        self.image_shape = image_shape
        self.tiles = tiles
        self.augmentation = augmentation
        self.value_range = value_range
        self.random_state = random_state
        self.verbose = verbose

    def sample(
        self, n_rows: int, random_state: int | np.random.RandomState | None = None
    ) -> npt.NDArray[Any] | pd.DataFrame:
        """Draw new rows from the model: z from the prior, then x from p(x|z).

        Parameters
        ----------
        n_rows : int
        random_state : int, RandomState or None

        Returns
        -------
        array (n_rows, d), or DataFrame if the detector was fitted on one
            In the units of X. Images are (n_rows, height, width), or (n_rows, height, width,
            channels) if there are several; uint8 if the training images were, and within their
            range.
        """
        check_is_fitted(self, "scorer_")
        if not isinstance(n_rows, Integral) or n_rows < 1:
            raise ValueError(f"Expected `n_rows` to be an int >= 1. Received: n_rows={n_rows!r}")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return self._input.sample(self, int(n_rows), seed)

    def bits_per_dimension(self, X: Rows) -> npt.NDArray[np.float64]:
        """Return how many bits a pixel value of each image takes: -log2 p(x) / number of values.

        From the importance-weighted estimate of log p(x), whatever ``score_type``; a density counts
        as the probability of a step of 1/255 of the range of values. With "roughness_gaussian" for
        the image's given roughness.

        Parameters
        ----------
        X : images, as in ``fit``

        Returns
        -------
        (n,) float64 array

        Raises
        ------
        ValueError
            The detector was not fitted on images.
        """
        check_is_fitted(self, "scorer_")
        return self._input.bits_per_dimension(self, X)

    def _auto_latent_dim(self, chosen):
        return min(chosen.largest_latent_dim, chosen.n_features)

    def _own_model_args(self, chosen):
        return {
            "variational": True,
            "beta": float(self.beta),
            "kl_warmup_steps": int(self.kl_warmup_steps),
            "n_draws": int(self.n_train_draws),
            **chosen.likelihood_args(self),
        }

    def _scorer_args(self, chosen, n_trained):
        return {
            "score_type": self.score_type,
            "score_options": chosen.score_options(self, n_trained),
            "n_draws": int(self.n_draws),
        }
