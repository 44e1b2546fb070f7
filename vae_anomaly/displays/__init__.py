"""Pictures: arrays in, matplotlib Axes out."""

from vae_anomaly.displays.calibration import CalibrationDisplay
from vae_anomaly.displays.images import ImageExplanationDisplay
from vae_anomaly.displays.latent import LatentMapDisplay
from vae_anomaly.displays.reasons import ExplanationDisplay
from vae_anomaly.displays.reconstruction import ReconstructionDisplay
from vae_anomaly.displays.scores import ScoreDistributionDisplay

__all__ = [
    "CalibrationDisplay",
    "ExplanationDisplay",
    "ImageExplanationDisplay",
    "LatentMapDisplay",
    "ReconstructionDisplay",
    "ScoreDistributionDisplay",
]
