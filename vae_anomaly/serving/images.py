"""What a server takes and answers for images: signatures, and a sample of images.

======================= ====================================================================
signature               outputs for n images
======================= ====================================================================
``serving_default``     ``score``, ``decision``, ``p_value`` float64 (n,), ``is_anomaly`` bool
                        (n,), ``feature_log_prob`` float64 (n, height, width): the map of what
                        each pixel adds to the score; as those of ``scoring.images.ImageScorer``
``explain``             these; ``latent`` and ``baseline`` (n,); ``expected``, the images that
                        the model expects, float32 (n, height, width, channels)
``latent``              ``z_mean``, float32 (n, latent_dim)
``encoded``             as ``serving_default``, but takes ``image_bytes``, text (n,): files in
                        PNG or JPEG, of any size, in colour or grey; only for models of uint8
                        images of one or three channels. Unlike in Python, EXIF orientation is
                        ignored, TIFF and WebP are errors, and 16 bits are cut to the upper 8
======================= ====================================================================

The others take ``images``, raw as in Python: uint8, int32 for uint16, or float32, of the shape
(n, height, width, channels). Models fitted with ``image_shape`` resize images of any size, and take
grey for colour and colour for grey.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.images.decoding import decode
from vae_anomaly.serving.served import Arrays, Served, Tensors, traced

if TYPE_CHECKING:
    from tensorflow.types.experimental import ConcreteFunction


class ServedImages(Served):
    """A detector of images as ``export`` sees it.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted on images.
    """

    # A line for each number would be several times as long.
    indent = None
    meanings = {
        "feature_log_prob": "what each pixel adds to the score relative to what is usual for it",
        "latent": "what no pixel owns of the score",
        "expected": "the images that the model expects, in the units of the input",
    }

    def __init__(self, detector: Any) -> None:
        super().__init__(detector.scorer_)
        self._preprocessor = self.scorer.preprocessor
        self._is_any_size = detector.image_shape is not None
        # Whether what is in a PNG or JPEG file can be an image of this model.
        self._takes_files = (
            self._preprocessor.image_dtype == "uint8"
            and self._preprocessor.image_shape[2] in (1, 3)
        )

    def specs(self) -> dict[str, tf.TensorSpec]:
        spec = self.array_spec()
        if self._is_any_size:
            channels = spec.shape[3]
            shape = [None, None, None, None if channels in (1, 3) else channels]
            spec = tf.TensorSpec(shape, spec.dtype, name=spec.name)
        return {"images": spec}

    def raw(self, tensors: Tensors) -> tf.Tensor:
        return tensors["images"]

    def more_signatures(self) -> "dict[str, ConcreteFunction]":
        if not self._takes_files:
            return {}
        form = self._preprocessor.form

        def encoded(tensors):
            images = tf.map_fn(
                lambda content: decode(content, form),
                tensors["image_bytes"],
                fn_output_signature=tf.TensorSpec(form.shape, form.dtype),
            )
            return self.scored(images)

        spec = tf.TensorSpec([None], tf.string, name="image_bytes")
        return {"encoded": traced(encoded, {"image_bytes": spec})}

    def more_explained(self, raw: tf.Tensor, outputs: Tensors) -> Tensors:
        x = self.scorer.model.reconstruct(self._preprocessor.call(raw))
        return {"expected": self._preprocessor.inverse(tf.clip_by_value(x, 0.0, 1.0))}

    def sample(self) -> np.ndarray:
        """Make images from the model alone: a typical one, with noise, inverted, and a blank one.

        They need resizing, where the model resizes.
        """
        x = self._sample_x()
        if self._is_any_size:
            height, width, _ = self._preprocessor.image_shape
            x = tf.image.resize(x, (height + 1, width + 1)).numpy()
        return self._in_units(x)

    def array_sample(self) -> np.ndarray:
        return self._in_units(self._sample_x())

    def _sample_x(self):
        typical = self.typical()
        noise = np.random.default_rng(0).normal(0, 0.2, size=typical.shape)
        return np.concatenate([typical, np.clip(typical + noise, 0, 1), 1 - typical, 0 * typical])

    def _in_units(self, x):
        images, dtype = self._preprocessor.inverse(x), self._preprocessor.image_dtype
        return (images if dtype == "float32" else np.rint(images)).astype(dtype)

    def typical(self) -> np.ndarray:
        """Return the image that the model expects of the middle of its latent space, (1, ...)."""
        model = self.scorer.model
        return np.clip(model.decode(np.zeros((1, model.latent_dim), "float32")), 0, 1)

    def explained(self, raw: np.ndarray, answers: Arrays) -> Arrays:
        x = np.clip(self.scorer.reconstruct(raw), 0, 1)
        expected = self._preprocessor.inverse(x)
        return {"expected": np.asarray(expected, dtype=np.float32)}

    def requests(self, raw: np.ndarray) -> dict[str, Arrays]:
        requests = {key: {"images": raw} for key in ("serving_default", "explain", "latent")}
        if self._takes_files:
            files = [tf.io.encode_png(image).numpy() for image in raw]
            requests["encoded"] = {"image_bytes": np.array(files, dtype=object)}
        return requests

    def schema(self) -> dict[str, Any]:
        sizes = "any: images are resized, and grey and colour are made of each other"
        return {
            "images": {
                "input": "images",
                **self._preprocessor.schema(),
                "sizes": sizes if self._is_any_size else "height, width and channels as here",
                "values": "cut off at the ends of value_range; NaN is the lowest",
            }
        }

    def array_spec(self) -> tf.TensorSpec:
        dtype = self._preprocessor.image_dtype
        # TensorFlow Serving's JSON has no uint16.
        served = "int32" if dtype == "uint16" else dtype
        return tf.TensorSpec([None, *self._preprocessor.image_shape], served, name="images")

    def raw_of_array(self, array: tf.Tensor) -> tf.Tensor:
        return array

    def array_of(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def array_schema(self) -> dict[str, Any]:
        images = self.schema()["images"]
        return {"images": {**images, "sizes": "height, width and channels as here"}}

    def scales(self, expected: Arrays) -> Arrays:
        low, high = self._preprocessor.value_range
        return {"expected": high - low}
