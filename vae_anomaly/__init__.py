"""Find unusual rows of tables, or unusual images, with a variational autoencoder, and say why."""

import importlib

from vae_anomaly.tensorflow_import import import_tensorflow

__version__ = "0.1.0"

# Importing the package must not import TensorFlow: names are loaded when first used.
_WITHOUT_TENSORFLOW = ("batch", "data_warning", "displays")
_MODULE_OF = {
    "Autoencoder": "vae.models",
    "AutoencoderDetector": "detectors.vae",
    "DataWarning": "data_warning",
    "ImageExplanationDisplay": "displays",
    "ImageFolder": "images.files",
    "ImageScorer": "scoring.images",
    "Sampling": "vae.layers",
    "ScoreDistributionDisplay": "displays",
    "TableScorer": "scoring.tables",
    "VAE": "vae.models",
    "VAEDetector": "detectors.vae",
    "iter_scored": "batch.run",
    "load_detector": "detectors.artifact",
    "score_files": "batch.run",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULE_OF[name]
    if not module.startswith(_WITHOUT_TENSORFLOW):
        import_tensorflow()
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__():
    return [*globals(), *__all__]
