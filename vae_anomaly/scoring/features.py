"""The scorer of images by their feature maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.images.features import FeaturePreprocessor
from vae_anomaly.scoring.images import ImageScorer, preprocessed
from vae_anomaly.scoring.positions import PositionGaussians, UnusualLoss, over_pixels
from vae_anomaly.scoring.views import MODEL_SCORES, ScoreType, Terms, float64


@dataclass(frozen=True)
class FeatureMaps:
    """Images whose feature maps are known already: what a fit computes once and uses often."""

    x: np.ndarray  #: float32 (n, height, width, components), as of ``FeaturePreprocessor.extract``
    copies: np.ndarray | None = None  #: of changed copies of each, (n, copies, height, ...)

    def __len__(self) -> int:
        return len(self.x)


class FeatureComposite(ScoreType):
    """The sum over positions of the ``UnusualLoss``, negative.

    Parameters
    ----------
    x_shape : (int, int, int)
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, x_shape: tuple[int, int, int], **kwargs: Any) -> None:
        super().__init__([PositionGaussians(x_shape)], **kwargs)
        self.loss = UnusualLoss()

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        return {**super().own_weights, "usual_loss": self.loss.usual}

    def learn_usual(self, measured: Iterable[tuple[list[Terms], Any]]) -> None:
        ((((excess, _),), _),) = measured
        self.loss.learn(excess)

    def combined(self, terms: list[Terms], *observed: tf.Tensor) -> Terms:
        ((excess, rest),) = terms
        return -self.loss(excess), float64(rest)

    def baseline(self, features: np.ndarray) -> np.ndarray:
        # The same everywhere: most positions lose nearly nothing, and less a mean of their own they
        # would be ranked by it.
        return np.full(features.shape[1], features.mean())


@keras.saving.register_keras_serializable(package="vae_anomaly")
class FeatureScorer(ImageScorer):
    """Score raw images by feature maps of a frozen network, always with the same draws of z.

    Score types are those of ``ImageScorer``, of maps rather than of pixels, but the composite one
    is ``FeatureComposite``. What the positions of the maps add to a score is spread over the pixels
    around them.

    Parameters
    ----------
    preprocessor : vae_anomaly.images.features.FeaturePreprocessor
    model, score_type, n_draws, n_calibration, seed, **kwargs
        As in ``AnomalyScorer``.
    """

    preprocessor: FeaturePreprocessor

    score_types = {"composite": lambda pre: FeatureComposite(pre.x_shape), **MODEL_SCORES}

    @property
    def chunk_rows(self) -> int:
        return self.preprocessor.images_at_once

    @property
    def _n_columns(self):
        height, width, _ = self.preprocessor.x_shape
        return height * width

    def _put_together(self, terms):
        features, latent = self.score.combined(terms)
        features = self._by_position(features) - self.feature_mean
        outputs = self._outputs(features, latent - self.latent_mean)
        maps = outputs["feature_log_prob"]
        maps = over_pixels(maps, self.preprocessor.x_shape, self.preprocessor.image_shape)
        return {**outputs, "feature_log_prob": maps}

    def _by_position(self, features):
        """Sum over the components of each position, where a view tells them apart."""
        n_components = features.shape[1] // self._n_columns
        parts = tf.reshape(features, (-1, self._n_columns, n_components))
        return tf.reduce_sum(parts, axis=2)

    def learn(self, data: Any, is_held_out: np.ndarray) -> np.ndarray:
        """Learn the Gaussians of the images that trained, and what is usual of those held out.

        Parameters
        ----------
        data : FeatureMaps
            Of all training images.
        is_held_out : bool array, (n,)
            Images that the model was not trained on; if all are, all do both.

        Returns
        -------
        (n,) float64 array
            Scores of all images.
        """
        for view in self.score.views:
            view.learn(self.model, (data.x,), is_held_out, self.seed)
        terms = self._measured(data.x[is_held_out])
        self.score.learn_usual([(terms, None)])
        features, latent = self.score.combined(terms)
        self.feature_mean.assign(self.score.baseline(self._by_position(features).numpy()))
        self.latent_mean.assign(latent.numpy().mean())
        return self.run(data, ("score",))["score"]

    def maps(self, images: Any) -> FeatureMaps:
        """Return what ``learn`` takes of raw images (n, height, width, channels)."""
        return FeatureMaps(self.preprocess(images))

    def preprocess(self, images: Any) -> np.ndarray:
        """Return x of images, float32 of shape (n, height, width, components)."""
        return self._chunked(lambda x: [x], *self._chunks(images))[0]

    def expected(self, images: Any) -> None:
        """Return None: maps of a network cannot be turned into images."""

    @property
    def _specs(self):
        return [tf.TensorSpec([None, *self.preprocessor.x_shape])]

    def _chunks(self, images):
        def chunk(rows):
            if isinstance(images, FeatureMaps):
                return [self._filled(images.x[rows])]
            pixels = preprocessed(self.preprocessor, images, np.arange(rows.start, rows.stop))
            return [self._filled(self.preprocessor.extract(pixels))]

        return chunk, len(images)
