"""What a server takes and answers for images by feature maps: as for images, without expected ones.

The signatures are those of ``serving.images``; ``explain`` has no ``expected``, since feature maps
cannot be turned into images.
"""

import numpy as np
import tensorflow as tf

from vae_anomaly.serving.images import ServedImages
from vae_anomaly.serving.served import Arrays, Tensors


class ServedFeatures(ServedImages):
    """A detector of images with a backbone as ``export`` sees it.

    Parameters
    ----------
    detector : VAEDetector
        Fitted on images, with a backbone.
    """

    meanings = {
        "feature_log_prob": "what each pixel adds to the score relative to what is usual for it",
        "latent": "what no pixel owns of the score",
    }

    def more_explained(self, raw: tf.Tensor, outputs: Tensors) -> Tensors:
        return {}

    def explained(self, raw: np.ndarray, answers: Arrays) -> Arrays:
        return {}

    def scales(self, expected: Arrays) -> Arrays:
        return {}

    def typical(self) -> np.ndarray:
        """Return a smooth image, for the model cannot draw one: the middle of the range."""
        return np.full((1, *self.scorer.preprocessor.image_shape), 0.5, "float32")
