"""Images by the feature maps of a frozen network, as the input of a detector."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors.backbones import backbone_of, check_backbone
from vae_anomaly.detectors.defaults import is_default
from vae_anomaly.detectors.image_input import ImageInput
from vae_anomaly.image_windows import BACKBONE_SIDE, seen_shape, tile_grid
from vae_anomaly.images.augmentation import N_COPIES, AugmentedImages
from vae_anomaly.images.features import FeaturePreprocessor
from vae_anomaly.report.content import Column
from vae_anomaly.scoring.features import FeatureMaps, FeatureScorer
from vae_anomaly.scoring.images import preprocessed
from vae_anomaly.serving.features import ServedFeatures

if TYPE_CHECKING:
    from vae_anomaly.images.files import ImageFolder

# Values of feature maps held in memory while a detector is fitted: 512 MB.
_MOST_VALUES = 2**27
# Images, and positions at most, from which the components of the maps are learned.
_COMPONENT_IMAGES, _COMPONENT_POSITIONS = 100, 100 * 32 * 32
_STEPS = 500


class FeatureInput(ImageInput):
    """Images whose feature maps are modelled; an ``inputs.Input``. ``data`` are these maps."""

    name = "features"
    title = "images with a backbone"
    parameters = frozenset(
        {"backbone", "filters", "image_shape", "tiles", "augmentation", "value_range"}
    )
    subset: Any = staticmethod(lambda data, rows: FeatureMaps(data.x[rows]))

    @staticmethod
    def takes(detector: Any, X: Any) -> bool:
        has_backbone = getattr(detector, "backbone", None) is not None
        return has_backbone and ImageInput.takes(detector, X)

    @classmethod
    def restored(cls, config: dict[str, Any], described: dict[str, Any]) -> FeatureInput:
        check_backbone(config["backbone"])
        return cls(FeaturePreprocessor.from_config(config))

    def described(self) -> dict[str, Any]:
        try:
            check_backbone(self.preprocessor.backbone.to_json())
        except ValueError as error:
            raise ValueError(f"This backbone cannot be saved. {error}") from error
        return {}

    @property
    def given_networks(self) -> dict[str, Any]:
        return {"backbone": self.preprocessor.backbone}

    def learn(
        self, detector: Any, X: Any, seed: int, sample_weight: Any
    ) -> tuple[FeatureMaps, np.ndarray | None]:
        if not is_default(detector, "variance"):
            raise ValueError(
                "Expected `variance` for pixels and tables only. Received: "
                f"variance={detector.variance!r} for {self.title}. Leave it out."
            )
        images, weights = self._learn_form(detector, X, sample_weight)
        form = self.preprocessor
        seen = seen_shape(form.image_shape, tile_grid(detector.tiles, form.image_shape))
        self.preprocessor = FeaturePreprocessor(
            form.image_shape,
            form.value_range,
            form.image_dtype,
            form.resize,
            backbone=backbone_of(detector.backbone, seen),
            tiles=detector.tiles,
        )
        order = np.random.default_rng(seed).permutation(len(images))
        height, width, _ = self.preprocessor.x_shape
        n_some = min(_COMPONENT_IMAGES, _COMPONENT_POSITIONS // (height * width))
        some = preprocessed(form, images, np.sort(order[:n_some]))
        self.preprocessor.adapt(some)
        n_seen = 1 if detector.augmentation is None else 1 + N_COPIES
        most = max(2, _MOST_VALUES // (n_seen * self.n_features))
        if len(images) > most:
            warnings.warn(
                f"{len(images)} images are more than can be held as feature maps: {most} of them, "
                "drawn at random, train and calibrate.",
                DataWarning,
                stacklevel=5,
            )
            weights = None if weights is None else weights / weights[order[:most]].mean()
        rows = np.sort(order[:most])
        data = FeatureMaps(self._maps(form, images, rows))
        if (names := detector.augmentation) is not None:
            copied = AugmentedImages(images, rows, names, form.value_range, seed=seed)
            copies = self._maps(form, copied, np.arange(len(images), len(copied)))
            data = FeatureMaps(data.x, copies.reshape(len(rows), N_COPIES, *data.x.shape[1:]))
        return data, None if weights is None else weights[rows]

    def _maps(self, form, images, rows):
        """Return the feature maps of some images, a bounded number at a time."""
        at_once = self.preprocessor.images_at_once
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        maps = [self.preprocessor.extract(preprocessed(form, images, part)) for part in parts]
        return np.concatenate(maps)

    def augmented(
        self, detector: Any, data: FeatureMaps, rows: np.ndarray, seed: int
    ) -> tuple[FeatureMaps, np.ndarray]:
        every = np.arange(len(data))
        if data.copies is None:
            return data, every
        copies = data.copies[rows].reshape(-1, *data.x.shape[1:])
        sources = np.concatenate([every, np.repeat(rows, N_COPIES)])
        return FeatureMaps(np.concatenate([data.x, copies])), sources

    def _sized(self, detector: Any, images: ImageFolder) -> ImageFolder:
        if detector.image_shape is None and detector.tiles is None and images.has_default_shape:
            return images.with_shape((BACKBONE_SIDE, BACKBONE_SIDE, images.shape[3]))
        return super()._sized(detector, images)

    def likelihood_args(self, detector: Any) -> dict[str, Any]:
        return {"pixel_likelihood": "gaussian", "variance": "column"}

    def build_scorer(self, model: Any, **kwargs: Any) -> FeatureScorer:
        return FeatureScorer(self.preprocessor, model, **kwargs)

    def training_defaults(self, n_rows: int) -> dict[str, Any]:
        return {**super().training_defaults(n_rows), "max_steps": _STEPS, "patience": _STEPS}

    def batches(self, scorer: FeatureScorer, data: FeatureMaps) -> Callable[[tf.Tensor], tf.Tensor]:
        held = tf.constant(data.x)
        return lambda indices: tf.gather(held, indices)

    @contextmanager
    def reading(self, data: Any) -> Iterator[None]:
        yield  # all has been read

    def doubts(self, scorer: Any, data: Any, is_held_out: np.ndarray) -> list[str]:
        return []  # the Gaussians of the positions tell most, whatever the model expects of them

    def reconstruct(self, detector: Any, X: Any) -> np.ndarray:
        return detector.scorer_.reconstruct(self.check(detector, X))

    def sample(self, detector: Any, n_rows: int, seed: int) -> np.ndarray:
        raise ValueError(
            "Expected a detector without a backbone. Received: one that models feature maps, of "
            "which no images can be made. Fit one on pixels to sample."
        )

    def bits_per_dimension(self, detector: Any, X: Any) -> np.ndarray:
        raise ValueError(
            "Expected a detector without a backbone. Received: one that models feature maps, whose "
            "likelihood is none of pixels. Fit one on pixels for bits per dimension."
        )

    def report_sections(self, detector: Any, batch: Any) -> dict[str, Any]:
        sections = super().report_sections(detector, batch)
        height, width, components = detector._model_args["image_shape"]
        name = self.preprocessor.backbone.name
        about = f"of the network {name!r}: {height} x {width} positions, {components} components"
        maps = Column("feature maps", "float32", about)
        return {**sections, "columns": [*sections["columns"], maps]}

    def served(self, detector: Any) -> ServedFeatures:
        return ServedFeatures(detector)
