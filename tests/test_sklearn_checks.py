"""scikit-learn's own checks of an estimator; none is skipped or expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_anomaly import AutoencoderDetector, VAEDetector

SMALL = {"max_steps": 5, "hidden_units": (8,), "latent_dim": 2}


@parametrize_with_checks([VAEDetector(**SMALL), AutoencoderDetector(**SMALL)])
def test_scikit_learns_check(estimator, check):
    # A check that fails raises; scikit-learn itself skips those of the array API standard.
    check(estimator)
    assert not hasattr(estimator, "scorer_")
