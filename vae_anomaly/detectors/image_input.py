"""What the detectors do with images: checks, the fit, and answers in the units of the input.

Images are arrays, or an ``image_files.ImageFolder``, which is read as it is needed.
"""

import numpy as np
import tensorflow as tf

from vae_anomaly.images.preprocessing import ImagePreprocessor
from vae_anomaly.scoring.images import (
    ImageScorer,
    n_images_at_once,
    preprocessed,
    some_images,
)
from vae_anomaly.vae.builders import build_image_model
from vae_anomaly.vae.networks import default_filters, is_large
from vae_anomaly.vae.pixel_likelihoods import RoughnessGaussian, roughness

# Steps where `max_steps` is None: small images cost little each, and gain by more.
_LARGE_IMAGE_STEPS = 1500
_SMALL_IMAGE_STEPS = 4000
# Most held-out images to stop early by, and draws of z in a look at them.
_VALIDATION_IMAGES = 1000
_VALIDATION_DRAWS = 400
# Pixel values looked at together while an array is checked.
_CHECKED_AT_ONCE = 2**24


def is_images(X):
    """Whether X is images rather than a table: it has more than two axes."""
    shape = getattr(X, "shape", None)
    return shape is not None and len(shape) in (3, 4)


def fit(detector, X):
    """Fit a detector to images; the body of ``BaseDetector.fit``."""
    if detector.kinds is not None:
        raise ValueError(
            "Expected `kinds` for columns of a DataFrame only. Received: "
            f"kinds={detector.kinds!r} for images. Leave it out."
        )
    images = _with_channels(X)
    if _is_streamed(images) and detector.image_shape is not None:
        images = images.with_shape(detector.image_shape)
    value_range, image_dtype = _value_range(detector, images)
    image_shape = images.shape[1:]
    if detector.image_shape is not None:
        image_shape = _image_shape(detector.image_shape, image_shape)
    preprocessor = ImagePreprocessor(image_shape, value_range, image_dtype)
    _check_values(images, preprocessor)
    if len(images) < 2:
        raise ValueError(f"Expected two images or more. Received: {len(images)} sample(s).")

    seeds = detector._seeds()
    is_validation, is_calibration = detector._held_out(len(images), seeds[0])
    n_values = int(np.prod(image_shape))
    # Of all training images: whether pixels are binary, and how rough images are.
    some = preprocessed(preprocessor, images, some_images(len(images), n_values, seeds[2]))
    filters = default_filters(image_shape) if detector.filters is None else detector.filters
    model_args = {
        "image_shape": [int(size) for size in image_shape],
        "filters": [int(n) for n in filters],
        **detector._network_args(n_values, is_image=True),
        **detector._own_image_model_args(bool(np.isin(some, (0.0, 1.0)).all())),
    }
    model = build_image_model(**model_args, seed=seeds[1])
    if isinstance(model.likelihood, RoughnessGaussian):
        model.likelihood.adapt(roughness(some))
    scorer = ImageScorer(
        preprocessor,
        model,
        **detector._scorer_args(),
        n_calibration=int(is_calibration.sum()),
        seed=seeds[2],
    )
    steps = _LARGE_IMAGE_STEPS if is_large(image_shape) else _SMALL_IMAGE_STEPS
    try:
        history = detector._train(
            model,
            _inputs_of(images, preprocessor),
            is_validation,
            seeds[3],
            most_validation_rows=min(_VALIDATION_IMAGES, n_images_at_once(n_values)),
            validation_draws=min(_VALIDATION_DRAWS, n_images_at_once(n_values)),
            max_steps=steps,
            batch_size=32,
            learning_rate=3e-3,
            patience=steps,
        )
    except tf.errors.OpError:
        if _is_streamed(images):
            images.check()
        raise
    detector.n_features_in_ = int(np.prod(images.shape[1:]))
    if hasattr(detector, "feature_names_in_"):
        del detector.feature_names_in_
    detector._finish_fit(model_args, scorer, history, images, is_calibration)


def checked(detector, X):
    """Validate images to be scored; return them with an axis of channels.

    Raises
    ------
    ValueError
        X is no images, or images of another size, type or range than in fit.
    """
    if not detector._has_images():
        raise ValueError(
            f"Expected a table, as in fit. Received: an array of shape {tuple(X.shape)}."
        )
    preprocessor = detector.scorer_.preprocessor
    if not is_images(X):
        raise ValueError(
            "Expected images, as in fit: an array (n, height, width) or (n, height, width, "
            f"channels). Received: {type(X).__name__} of shape {np.shape(X)}."
        )
    images = _with_channels(X)
    height, width, channels = preprocessor.image_shape
    if _is_streamed(images):
        # Straight from the files, as in fit: resized twice they would be other images.
        images = images.with_shape(preprocessor.image_shape)
    if detector.image_shape is None and images.shape[1:] != preprocessor.image_shape:
        raise ValueError(
            f"Expected images of {height} x {width} pixels and {channels} channel(s), as in fit. "
            f"Received: shape {tuple(X.shape)}. Resize them, or fit with `image_shape`, which "
            "resizes all images."
        )
    if detector.image_shape is not None:
        _image_shape(preprocessor.image_shape, images.shape[1:])
    if len(images) == 0:
        raise ValueError("Expected images to score. Received: 0 sample(s).")
    if preprocessor.image_dtype == "uint8" and images.dtype.kind not in "ui":
        raise ValueError(
            "Expected images of uint8, as in fit. Received: images of "
            f"{images.dtype}. Convert them: values from 0 to 255."
        )
    _check_values(images, preprocessor)
    return images


def reconstruct(detector, X):
    """Return what the model expects in place of the images, float32, of the model's size."""
    images = checked(detector, X)
    return _in_units(detector, detector.scorer_.reconstruct(images), len(X.shape))


def sample(detector, n_images, seed):
    """Draw images from the model; those of one channel without an axis for it."""
    scorer = detector.scorer_
    one_channel = scorer.preprocessor.image_shape[2] == 1
    images = _in_units(detector, scorer.model.sample(n_images, seed=seed), 3 if one_channel else 4)
    # Of the type of the input, so that they can be scored.
    dtype = scorer.preprocessor.image_dtype
    return np.round(images).astype(dtype) if dtype == "uint8" else images


def _in_units(detector, x, n_axes):
    x = np.clip(np.asarray(x, dtype=np.float32), 0.0, 1.0)
    images = detector.scorer_.preprocessor.inverse(x).astype(np.float32)
    return images[..., 0] if n_axes == 3 and images.shape[-1] == 1 else images


def explain(detector, X):
    """Return the dict of ``BaseDetector.explain``."""
    images = checked(detector, X)
    scorer = detector.scorer_
    outputs = scorer.run(images, ("feature_log_prob", "latent"))
    return {
        "contribution": outputs["feature_log_prob"],
        "latent": outputs["latent"],
        "baseline": scorer.baseline,
        "value": _in_units(detector, scorer.preprocess(images), len(X.shape)),
        "expected": _in_units(detector, scorer.reconstruct(images), len(X.shape)),
    }


def _is_streamed(X):
    """Whether X is an ``ImageFolder``, which is not to be held in memory."""
    return hasattr(X, "read")


def _with_channels(X):
    """X with an axis of channels; arrays as such, whatever else as it is."""
    if not _is_streamed(X):
        X = np.asarray(X)
    if X.dtype.kind not in "buif":
        raise ValueError(f"Expected images of numbers. Received: images of {X.dtype}.")
    if 0 in X.shape[1:]:
        raise ValueError(f"Expected images with pixels. Received: shape {tuple(X.shape)}.")
    return X[..., None] if len(X.shape) == 3 else X


def _value_range(detector, images):
    """Return the range of values, and the type that the model takes."""
    given = detector.value_range
    if images.dtype == np.uint8:
        if given is not None and not 0 <= min(given) <= max(given) <= 255:
            raise ValueError(
                "Expected `value_range` within 0 and 255 for images of uint8. Received: "
                f"value_range={given!r}"
            )
        return (0, 255) if given is None else tuple(given), "uint8"
    if given is None and images.dtype.kind not in "bf":
        raise ValueError(
            f"Expected `value_range` for images of {images.dtype}, or images of uint8. "
            "Received: value_range=None. Give (lowest, highest)."
        )
    return (0, 1) if given is None else tuple(given), "float32"


def _image_shape(wanted, received):
    wanted = tuple(int(size) for size in wanted)
    if len(wanted) != 3 or (wanted[2] != received[2] and {wanted[2], received[2]} != {1, 3}):
        raise ValueError(
            "Expected `image_shape` of (height, width, channels), with as many channels as the "
            "images have, or 1 for 3, or 3 for 1. Received: "
            f"image_shape={wanted!r} for images of shape {tuple(received)}"
        )
    return wanted


def _check_values(images, preprocessor):
    if images.dtype == np.uint8 and preprocessor.value_range == (0.0, 255.0):
        return
    low, high = preprocessor.value_range
    step = max(1, _CHECKED_AT_ONCE // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        block = images[start : start + step]
        wrong = ~((block >= low) & (block <= high))
        if wrong.any():
            index = start + int(np.argwhere(wrong)[0][0])
            value = block[wrong][0]
            raise ValueError(
                f"Expected pixels from {low:g} to {high:g}. Received: {value:g} in image {index}. "
                "Rescale the images, or fit with their `value_range`."
            )


def _inputs_of(images, preprocessor):
    """Return a function of row numbers that TensorFlow runs while it trains."""
    if _is_streamed(images):
        return lambda indices: preprocessor(images.read(indices))
    held = tf.constant(images.astype(preprocessor.image_dtype, copy=False))
    return lambda indices: preprocessor(tf.gather(held, indices))
