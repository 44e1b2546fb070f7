"""Images as the input of a detector: checks, sizes and values, and answers in their units.

Images are arrays, or an ``images.files.ImageFolder``, which is read when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.detectors.image_report import image_sections
from vae_anomaly.detectors.row_weights import rows_and_weights
from vae_anomaly.image_windows import (
    SMALLEST_SIDE,
    WindowGrid,
    check_image_size,
    seen_shape,
    tile_grid,
)
from vae_anomaly.images.augmentation import AugmentedImages, check_augmentation
from vae_anomaly.images.decoding import printable
from vae_anomaly.images.preprocessing import ImagePreprocessor
from vae_anomaly.scoring.calibration import percent
from vae_anomaly.scoring.images import (
    ImageScorer,
    n_images_at_once,
    preprocessed,
    some_images,
)
from vae_anomaly.serving.images import ServedImages
from vae_anomaly.vae.builders import build_image_model
from vae_anomaly.vae.networks import default_filters, is_large
from vae_anomaly.vae.pixel_likelihoods import RoughnessGaussian, roughness

if TYPE_CHECKING:
    from vae_anomaly.images.files import ImageFolder

# Steps where `max_steps` is None: small images cost little each, and gain by more.
_LARGE_IMAGE_STEPS = 1500
_SMALL_IMAGE_STEPS = 4000
# Images in a step; windows, which are of few images and so more alike (benchmarks/LOG.md).
_BATCH, _WINDOWS = 32, 128
# Most held-out images to stop early by, and draws of z in a look at them.
_VALIDATION_IMAGES = 1000
_VALIDATION_DRAWS = 400
# Images by which to judge whether anything was learned, and how much of their variance the
# expected images have at least where something was.
_JUDGED_IMAGES, _LEAST_VARIANCE = 100, 0.02
# Pixel values looked at together while an array is checked.
_CHECKED_AT_ONCE = 2**24
_NO_IMAGES = (
    "An array of three axes means images; windows of a series are rows of a table: pass "
    "X.reshape(len(X), -1)."
)


class ImageInput:
    """Images; an ``inputs.Input``. ``data`` are images with a channel axis."""

    name = "images"
    title = "images"
    parameters = frozenset(
        {"pixel_likelihood", "filters", "image_shape", "tiles", "augmentation", "value_range"}
    )
    largest_latent_dim = 32
    subset: Any = None  # networks of images take too long to be trained again for each fold

    def __init__(self, preprocessor: ImagePreprocessor | None = None) -> None:
        self.preprocessor: Any = preprocessor
        # Of training images: how they are cut into what the networks see, None: not; whether all
        # pixels have the lowest or highest value; roughness.
        self._grid: WindowGrid | None = None
        self._is_binary = False
        self._roughness: Any = None

    @staticmethod
    def takes(detector: Any, X: Any) -> bool:
        shape = getattr(X, "shape", None)
        return shape is not None and len(shape) in (3, 4)

    @classmethod
    def restored(cls, config: dict[str, Any], described: dict[str, Any]) -> ImageInput:
        return cls(ImagePreprocessor(**config))

    def described(self) -> dict[str, Any]:
        return {}

    def learn(
        self, detector: Any, X: Any, seed: int, sample_weight: Any
    ) -> tuple[Any, np.ndarray | None]:
        images, weights = self._learn_form(detector, X, sample_weight)
        self._grid = tile_grid(detector.tiles, self.preprocessor.image_shape)
        some = some_images(len(images), self.n_features, seed)
        x = preprocessed(self.preprocessor, images, some)
        self._is_binary = bool(np.isin(x, (0.0, 1.0)).all())
        self._roughness = roughness(x)
        return images, weights

    def _learn_form(self, detector, X, sample_weight):
        """Validate training images and weights; learn shape and range, the ``preprocessor``."""
        check_augmentation(detector.augmentation)
        images = _with_channels(X)
        rows, weights = rows_and_weights(sample_weight, len(images))
        if rows is not None:
            images = images.with_rows(rows) if is_streamed(images) else images[rows]
        if is_streamed(images):
            images = self._sized(detector, images)
        value_range, image_dtype = _value_range(detector.value_range, images)
        image_shape = images.shape[1:]
        if detector.image_shape is not None:
            image_shape = _image_shape(detector.image_shape, image_shape)
        check_image_size(image_shape)
        resize = images.form.resize if is_streamed(images) else "stretch"
        self.preprocessor = ImagePreprocessor(image_shape, value_range, image_dtype, resize)
        _check_values(images, self.preprocessor)
        if len(images) < 2:
            raise ValueError(f"Expected two images or more. Received: {len(images)} sample(s).")
        detector.n_features_in_ = int(np.prod(images.shape[1:]))
        if hasattr(detector, "feature_names_in_"):
            del detector.feature_names_in_
        return images, weights

    def _sized(self, detector: Any, images: ImageFolder) -> ImageFolder:
        """Return a folder's images at the size that they are modelled at."""
        if detector.image_shape is not None:
            return images.with_shape(detector.image_shape)
        if detector.tiles is not None and images.has_default_shape:
            return images.with_shape(images.stored_shape)
        return images

    def augmented(
        self, detector: Any, data: Any, rows: np.ndarray, seed: int
    ) -> tuple[Any, np.ndarray]:
        if (names := detector.augmentation) is None:
            return data, np.arange(self.n_rows(data))
        data = AugmentedImages(data, rows, names, self.preprocessor.value_range, seed=seed)
        return data, data.sources

    def check(self, detector: Any, X: Any) -> Any:
        if not self.takes(detector, X):
            raise ValueError(
                "Expected images, as in fit: an array (n, height, width) or (n, height, width, "
                f"channels). Received: {type(X).__name__} of shape {np.shape(X)}."
            )
        images = _with_channels(X)
        self._check_type(images)
        if is_streamed(images):
            # Straight from the files, as in fit: resized twice they would be other images.
            images = images.with_form(self.preprocessor.form)
        height, width, channels = self.preprocessor.image_shape
        if detector.image_shape is not None:
            _image_shape(self.preprocessor.image_shape, images.shape[1:])
        elif images.shape[1:] != self.preprocessor.image_shape:
            raise ValueError(
                f"Expected images of {height} x {width} pixels and {channels} channel(s), as in "
                f"fit. Received: shape {tuple(X.shape)}. Resize them, or fit with `image_shape`, "
                "which resizes all images."
            )
        if len(images) == 0:
            raise ValueError("Expected images to score. Received: 0 sample(s).")
        # What is beyond a range that was learned counts as its nearest end.
        if self.preprocessor.image_dtype != "uint16" or detector.value_range is not None:
            _check_values(images, self.preprocessor)
        return images

    def _check_type(self, images: Any) -> None:
        expected = self.preprocessor.image_dtype
        if is_streamed(images):
            is_wrong = images.dtype != expected
        else:  # whole numbers of another type may be such values, but eight bits are not sixteen
            is_whole = images.dtype.kind in "ui"
            is_wrong = expected != "float32" and not is_whole
            is_wrong |= expected == "uint16" and images.dtype == np.uint8
        if is_wrong:
            low, high = self.preprocessor.value_range
            raise ValueError(
                f"Expected images of {expected}, as in fit. Received: images of {images.dtype}. "
                f"Convert them: values from {low:g} to {high:g}."
            )

    def n_rows(self, data: Any) -> int:
        return len(data)

    @property
    def n_features(self) -> int:
        return int(np.prod(self.preprocessor.x_shape))

    @property
    def given_networks(self) -> dict[str, Any]:
        return {}

    @property
    def sizes(self) -> dict[str, Any]:
        return {"image_shape": [int(size) for size in self.preprocessor.x_shape]}

    def model_args(self, detector: Any) -> dict[str, Any]:
        filters = detector.filters
        if filters is None:
            filters = default_filters(seen_shape(self.preprocessor.x_shape, self._grid))
        args = {**self.sizes, "filters": [int(count) for count in filters]}
        return args if self._grid is None else {**args, "tiles": list(self._grid.window)}

    def likelihood_args(self, detector: Any) -> dict[str, Any]:
        likelihood, variance = detector.pixel_likelihood, detector.variance
        if likelihood == "auto":
            likelihood = "bernoulli" if self._is_binary else "roughness_gaussian"
        return {
            "pixel_likelihood": likelihood,
            "variance": variance if isinstance(variance, str) else float(variance),
        }

    def score_options(self, detector: Any, n_trained: int) -> dict[str, Any]:
        return {}

    def build_model(self, args: dict[str, Any], seed: int | None = None) -> Any:
        model = build_image_model(**args, seed=seed)
        if isinstance(model.likelihood, RoughnessGaussian) and self._roughness is not None:
            model.likelihood.adapt(self._roughness)
        return model

    def build_scorer(self, model: Any, **kwargs: Any) -> ImageScorer:
        return ImageScorer(self.preprocessor, model, **kwargs)

    def training_defaults(self, n_rows: int) -> dict[str, Any]:
        is_large_image = is_large(seen_shape(self.preprocessor.x_shape, self._grid))
        steps = _LARGE_IMAGE_STEPS if is_large_image else _SMALL_IMAGE_STEPS
        at_once = n_images_at_once(self.n_features)
        n_parts = 1 if self._grid is None else self._grid.n_windows
        return {
            "max_steps": steps,
            "batch_size": _BATCH if self._grid is None else max(1, _WINDOWS // n_parts),
            "learning_rate": 3e-3,
            "patience": steps,
            "most_validation_rows": min(_VALIDATION_IMAGES, at_once),
            "validation_draws": min(max(1, _VALIDATION_DRAWS // n_parts), at_once),
        }

    def batches(self, scorer: ImageScorer, data: Any) -> Callable[[tf.Tensor], tf.Tensor]:
        preprocessor = self.preprocessor
        if is_streamed(data):
            return lambda indices: preprocessor(data.read(indices))
        held = tf.constant(data.astype(preprocessor.image_dtype, copy=False))
        return lambda indices: preprocessor(tf.gather(held, indices))

    @contextmanager
    def reading(self, data: Any) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError:
            if is_streamed(data):
                data.check()
            raise

    def doubts(self, scorer: ImageScorer, data: Any, is_held_out: np.ndarray) -> list[str]:
        n_most = min(_JUDGED_IMAGES, n_images_at_once(self.n_features))
        x = preprocessed(self.preprocessor, data, np.flatnonzero(is_held_out)[:n_most])
        expected = np.asarray(scorer.model.reconstruct(x))
        variance, of_expected = x.var(axis=0).sum(), expected.var(axis=0).sum()
        if of_expected >= _LEAST_VARIANCE * variance:
            return []
        return [
            "expected images that hardly differ: the model expects nearly the same of every image "
            f"({percent(of_expected / variance)} of the variance of the images), so scores tell "
            "how far each pixel is from its mean, and little else. Train longer (`max_steps`), or "
            "give more images, or smaller ones (`image_shape`)."
        ]

    def reconstruct(self, detector: Any, X: Any) -> np.ndarray:
        images = self.check(detector, X)
        return self._in_units(detector.scorer_.reconstruct(images), len(X.shape))

    def explain(self, detector: Any, X: Any) -> dict[str, Any]:
        images, scorer = self.check(detector, X), detector.scorer_
        outputs = scorer.run(images, ("feature_log_prob", "latent"))
        pictures = {"value": scorer.seen(images), "expected": scorer.expected(images)}
        return {
            "contribution": outputs["feature_log_prob"],
            "latent": outputs["latent"],
            "baseline": scorer.baseline,
            **{
                name: self._in_units(x, len(X.shape))
                for name, x in pictures.items()
                if x is not None
            },
        }

    def sample(self, detector: Any, n_rows: int, seed: int) -> np.ndarray:
        one_channel = self.preprocessor.image_shape[2] == 1
        x = detector.scorer_.model.sample(n_rows, seed=seed)
        images = self._in_units(x, 3 if one_channel else 4)
        # Of the type of the input, so that they can be scored.
        dtype = self.preprocessor.image_dtype
        return images if dtype == "float32" else np.round(images).astype(dtype)

    def bits_per_dimension(self, detector: Any, X: Any) -> np.ndarray:
        return detector.scorer_.bits_per_dimension(self.check(detector, X))

    def rows(self, data: Any, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(data[numbers])

    def joined(self, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)

    def row_names(self, X: Any) -> Callable[[int], str]:
        if is_streamed(X):
            return lambda row: printable(X.paths[row])
        return lambda row: f"image {row}"

    def report_sections(self, detector: Any, batch: Any) -> dict[str, Any]:
        return image_sections(detector, batch)

    def sampled_inputs(self, x: Any) -> Any:
        return x

    def served(self, detector: Any) -> ServedImages:
        return ServedImages(detector)

    def _in_units(self, x: Any, n_axes: int) -> np.ndarray:
        """Return x as float32 images in the units of the input, of as many axes as it has."""
        x = np.clip(np.asarray(x, dtype=np.float32), 0.0, 1.0)
        images = self.preprocessor.inverse(x).astype(np.float32)
        return images[..., 0] if n_axes == 3 and images.shape[-1] == 1 else images


def is_streamed(X):
    """Whether X is an ``ImageFolder``, which is not to be held in memory."""
    return hasattr(X, "read")


def _with_channels(X):
    """Return X with a channel axis."""
    if not is_streamed(X):
        X = np.asarray(X)
    if X.dtype.kind not in "buif":
        raise ValueError(f"Expected images of numbers. Received: images of {X.dtype}.")
    if 0 in X.shape[1:]:
        raise ValueError(f"Expected images with pixels. Received: shape {tuple(X.shape)}.")
    if len(X.shape) == 3 and min(X.shape[1:]) < SMALLEST_SIDE:
        raise ValueError(
            f"Expected images of {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels or more. Received: shape "
            f"{tuple(X.shape)}. {_NO_IMAGES}"
        )
    return X[..., None] if len(X.shape) == 3 else X


def _value_range(given, images):
    """Return the range of values, and the type that the model takes."""
    if images.dtype == np.uint8:
        if given is not None and not 0 <= min(given) <= max(given) <= 255:
            raise ValueError(
                "Expected `value_range` within 0 and 255 for images of uint8. Received: "
                f"value_range={given!r}"
            )
        return (0, 255) if given is None else tuple(given), "uint8"
    if images.dtype == np.uint16:
        return _lowest_and_highest(images) if given is None else tuple(given), "uint16"
    if given is None and images.dtype.kind not in "bf":
        raise ValueError(
            f"Expected `value_range` for images of {images.dtype}, or images of uint8 or uint16. "
            "Received: value_range=None. Give (lowest, highest)."
        )
    return (0, 1) if given is None else tuple(given), "float32"


def _lowest_and_highest(images):
    """Return the range of images of 16 bits, which may be of 10 or 12 in truth."""
    low, high = images.value_range if is_streamed(images) else (images.min(), images.max())
    return int(low), max(int(high), int(low) + 1)


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
                f"Rescale the images, or fit with their `value_range`. {_NO_IMAGES}"
            )
