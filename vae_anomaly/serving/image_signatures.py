"""What a server takes and answers of images: the signatures of an export, as TensorFlow functions.

======================= ====================================================================
signature               outputs for n images
======================= ====================================================================
``serving_default``     ``score``, ``decision``, ``p_value`` float64 (n,), ``is_anomaly`` bool
                        (n,), ``feature_log_prob`` float64 (n, height, width): the map of what
                        each pixel adds to the score, as those of ``image_scoring.ImageScorer``
``explain``             these; ``latent`` and ``baseline`` (n,); ``expected``, the images that
                        the model expects, float32 (n, height, width, channels)
``latent``              ``z_mean``, float32 (n, latent_dim)
``encoded``             as ``serving_default``, but takes ``image_bytes``, text (n,): files in
                        PNG or JPEG, of any size, in colour or grey; only for models of uint8
                        images of one or three channels
======================= ====================================================================

The others take ``images``, raw as in Python: uint8 or float32, (n, height, width, channels). Models
fitted with ``image_shape`` resize images of any size, and take grey for colour and colour for grey.
"""

import tensorflow as tf

from vae_anomaly.images.files import decode
from vae_anomaly.serving.signatures import SERVED_OUTPUTS, traced


def trace_image_signatures(scorer, input_shape):
    """Trace a function for each signature.

    Parameters
    ----------
    scorer : vae_anomaly.scoring.images.ImageScorer
    input_shape : tuple of int or None
        Height, width and channels of ``images``; None is any.

    Returns
    -------
    dict of signature to tf.types.experimental.ConcreteFunction
        Each takes a dict of input name to tensor.
    """
    preprocessor, model = scorer.preprocessor, scorer.model
    image_shape = preprocessor.image_shape

    def serving_default(tensors):
        outputs = scorer.call(tensors["images"])
        return {name: outputs[name] for name in SERVED_OUTPUTS}

    def explain(tensors):
        outputs = scorer.call(tensors["images"])
        baseline = tf.reduce_sum(scorer.feature_mean) + scorer.latent_mean
        outputs["baseline"] = tf.fill(tf.shape(outputs["score"]), baseline)
        x = model.reconstruct(preprocessor.call(tensors["images"]))
        outputs["expected"] = preprocessor.inverse(tf.clip_by_value(x, 0.0, 1.0))
        return outputs

    def latent(tensors):
        return {"z_mean": model.latent_mean(preprocessor.call(tensors["images"]))}

    def encoded(tensors):
        images = tf.map_fn(
            lambda content: decode(content, image_shape),
            tensors["image_bytes"],
            fn_output_signature=tf.TensorSpec(image_shape, tf.uint8),
        )
        return serving_default({"images": images})

    images = tf.TensorSpec([None, *input_shape], preprocessor.image_dtype, name="images")
    signatures = {
        function.__name__: traced(function, {"images": images})
        for function in (serving_default, explain, latent)
    }
    if takes_files(preprocessor):
        files = tf.TensorSpec([None], tf.string, name="image_bytes")
        signatures["encoded"] = traced(encoded, {"image_bytes": files})
    return signatures


def takes_files(preprocessor):
    """Whether what is in a PNG or JPEG file can be an image of an ``ImagePreprocessor``."""
    return preprocessor.image_dtype == "uint8" and preprocessor.image_shape[2] in (1, 3)
