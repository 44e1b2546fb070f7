"""Find unusual rows of tables, or unusual images, with a variational autoencoder, and say why."""

import importlib

__version__ = "0.1.0"

# Importing the package must not import TensorFlow: names are loaded when first used.
_MODULE_OF = {
    "AnomalyScorer": "scoring",
    "Autoencoder": "models",
    "AutoencoderDetector": "detector",
    "ImageExplanationDisplay": "plotting",
    "ImageFolder": "image_files",
    "Sampling": "layers",
    "ScoreDistributionDisplay": "plotting",
    "VAE": "models",
    "VAEDetector": "detector",
    "iter_scored": "batch",
    "load_detector": "artifact",
    "score_files": "batch",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__():
    return [*globals(), *__all__]
