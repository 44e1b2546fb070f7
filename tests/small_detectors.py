"""What the tests of detectors share: parameters of small fits, and the classes."""

import pytest

from vae_anomaly import AutoencoderDetector, VAEDetector

BOTH = pytest.mark.parametrize("detector_class", [VAEDetector, AutoencoderDetector])

# For tests of what goes in and comes out; the composite score is slower to calibrate.
SMALL = {
    "score_type": "elbo",
    "hidden_units": (4,),
    "latent_dim": 2,
    "max_steps": 2,
    "random_state": 0,
}
