"""Find unusual rows of tables, or unusual images, with a variational autoencoder, and say why."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_anomaly.batch.frames import FrameScorer as FrameScorer
    from vae_anomaly.batch.run import iter_scored as iter_scored
    from vae_anomaly.batch.run import score_files as score_files
    from vae_anomaly.data_warning import DataWarning as DataWarning
    from vae_anomaly.detectors.artifact import ArtifactError as ArtifactError
    from vae_anomaly.detectors.autoencoder import AutoencoderDetector as AutoencoderDetector
    from vae_anomaly.detectors.state import load_detector as load_detector
    from vae_anomaly.detectors.vae import VAEDetector as VAEDetector
    from vae_anomaly.displays import CalibrationDisplay as CalibrationDisplay
    from vae_anomaly.displays import ExplanationDisplay as ExplanationDisplay
    from vae_anomaly.displays import ImageExplanationDisplay as ImageExplanationDisplay
    from vae_anomaly.displays import LatentMapDisplay as LatentMapDisplay
    from vae_anomaly.displays import ReconstructionDisplay as ReconstructionDisplay
    from vae_anomaly.displays import ScoreDistributionDisplay as ScoreDistributionDisplay
    from vae_anomaly.images.files import ImageFolder as ImageFolder
    from vae_anomaly.scoring.images import ImageScorer as ImageScorer
    from vae_anomaly.scoring.tables import TableScorer as TableScorer
    from vae_anomaly.tables.inspecting import inspect as inspect
    from vae_anomaly.tables.schema import Schema as Schema
    from vae_anomaly.tables.table_files import TableFiles as TableFiles
    from vae_anomaly.vae.layers import Sampling as Sampling
    from vae_anomaly.vae.models import VAE as VAE
    from vae_anomaly.vae.models import Autoencoder as Autoencoder

from vae_anomaly.tensorflow_import import import_tensorflow

__version__ = "0.2.0"

# Importing the package must not import TensorFlow: names are loaded when first used.
_WITHOUT_TENSORFLOW = (
    "batch",
    "data_warning",
    "detectors.artifact",
    "detectors.state",
    "displays",
    "tables",
)
_MODULE_OF = {
    "ArtifactError": "detectors.artifact",
    "Autoencoder": "vae.models",
    "AutoencoderDetector": "detectors.autoencoder",
    "CalibrationDisplay": "displays",
    "DataWarning": "data_warning",
    "ExplanationDisplay": "displays",
    "ImageExplanationDisplay": "displays",
    "FrameScorer": "batch.frames",
    "ImageFolder": "images.files",
    "ImageScorer": "scoring.images",
    "LatentMapDisplay": "displays",
    "ReconstructionDisplay": "displays",
    "Sampling": "vae.layers",
    "Schema": "tables.schema",
    "ScoreDistributionDisplay": "displays",
    "TableFiles": "tables.table_files",
    "TableScorer": "scoring.tables",
    "VAE": "vae.models",
    "VAEDetector": "detectors.vae",
    "inspect": "tables.inspecting",
    "iter_scored": "batch.run",
    "load_detector": "detectors.state",
    "score_files": "batch.run",
}
__all__ = sorted(_MODULE_OF)

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _MODULE_OF[name]
        if not module.startswith(_WITHOUT_TENSORFLOW):
            import_tensorflow()
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__():
    return [*globals(), *__all__]
