"""What the export of an image detector has of its own: sizes, a sample of images, their answers."""

import numpy as np
import tensorflow as tf

from vae_anomaly.serving.image_signatures import takes_files, trace_image_signatures


class ServedImages:
    """A detector of images as ``export`` sees it; ``table_export.ServedTable`` is its like.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted on images.
    """

    # A line for each number would be several times as long.
    indent = None
    lookup_tables = ()
    meanings = {
        "feature_log_prob": "what each pixel adds to the score relative to what is usual for it",
        "latent": "what no pixel owns of the score",
        "expected": "the images that the model expects, in the units of the input",
    }

    def __init__(self, detector):
        self.scorer = detector.scorer_
        self._preprocessor = self.scorer.preprocessor
        self._is_any_size = detector.image_shape is not None

    def functions(self):
        """Trace the signatures."""
        input_shape = self._preprocessor.image_shape
        if self._is_any_size:
            channels = input_shape[2]
            input_shape = (None, None, None if channels in (1, 3) else channels)
        return trace_image_signatures(self.scorer, input_shape)

    def sample(self):
        """Make images of the model alone: a typical one, with noise, inverted, and a blank one.

        They need resizing, where the model resizes.
        """
        model, preprocessor = self.scorer.model, self._preprocessor
        typical = np.clip(model.decode(np.zeros((1, model.latent_dim), "float32")), 0, 1)
        noise = np.random.default_rng(0).normal(0, 0.2, size=typical.shape)
        x = np.concatenate([typical, np.clip(typical + noise, 0, 1), 1 - typical, 0 * typical])
        if self._is_any_size:
            height, width, _ = preprocessor.image_shape
            x = tf.image.resize(x, (height + 1, width + 1)).numpy()
        images = preprocessor.inverse(x)
        if preprocessor.image_dtype == "uint8":
            return np.rint(images).astype(np.uint8)
        return images.astype(np.float32)

    def explained(self, images, _):
        """Return what only ``explain`` answers, beside ``latent`` and ``baseline``."""
        x = np.clip(self.scorer.reconstruct(images), 0, 1)
        expected = self._preprocessor.inverse(x)
        return {"expected": np.asarray(expected, dtype=np.float32)}

    def requests(self, images):
        """Return the inputs of each signature, by name, for the images of ``sample``."""
        raw = {key: {"images": images} for key in ("serving_default", "explain", "latent")}
        if not takes_files(self._preprocessor):
            return raw
        files = [tf.io.encode_png(image).numpy() for image in images]
        return {**raw, "encoded": {"image_bytes": np.array(files, dtype=object)}}

    def schema(self):
        """Return the part of ``schema.json`` that tells the inputs."""
        sizes = "any: images are resized, and grey and colour are made of each other"
        return {
            "images": {
                "input": "images",
                **self._preprocessor.schema(),
                "sizes": sizes if self._is_any_size else "height, width and channels as here",
                "values": "cut off at the ends of value_range; NaN is the lowest",
            }
        }

    def scales(self, _):
        """Return the size of one unit of each output of ``explained``."""
        low, high = self._preprocessor.value_range
        return {"expected": high - low}
