"""The detector that scores with a plain autoencoder: the baseline."""

from vae_anomaly.detectors.base import BaseDetector


class AutoencoderDetector(BaseDetector):
    """Outlier detector that scores rows by the squared error of a plain autoencoder.

    The baseline to compare ``VAEDetector`` with: same data path, networks, training (cells are
    hidden from the encoder here too) and threshold; no distribution over z, no likelihood.
    Scores are minus squared standard deviations, not nats.

    Parameters
    ----------
    contamination, hidden_units, latent_dim, activation, filters, encoder, decoder, max_steps, \
batch_size, learning_rate, validation_fraction, patience, max_levels, normal_scores, max_rows, \
warm_start, \
kinds, schema, image_shape, tiles, augmentation, value_range, random_state, verbose
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
    >>> X = np.random.default_rng(0).normal(size=(1100, 4))
    >>> detector = AutoencoderDetector(max_steps=40, random_state=0).fit(X)
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
        kinds=None,
        schema=None,
        image_shape=None,
        tiles=None,
        augmentation=None,
        value_range=None,
        random_state=None,
        verbose=0,
    ):
        self.contamination = contamination
        self.hidden_units = hidden_units
        self.latent_dim = latent_dim
        self.activation = activation
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
        self.kinds = kinds
        self.schema = schema
        self.image_shape = image_shape
        self.tiles = tiles
        self.augmentation = augmentation
        self.value_range = value_range
        self.random_state = random_state
        self.verbose = verbose

    def _auto_latent_dim(self, chosen):
        return min(chosen.largest_latent_dim, max(1, chosen.n_features // 2))

    def _own_model_args(self, chosen):
        return {"variational": False}

    def _scorer_args(self, chosen, n_trained):
        return {"score_type": "reconstruction_error", "n_draws": 1}
