"""Keras' settings that hold for a whole process: scores are the same under all of them."""

import contextlib

import keras
import numpy as np
import pytest

from vae_anomaly import AutoencoderDetector, VAEDetector
from vae_anomaly.vae import VAE, Gaussian
from vae_anomaly.vae.networks import conv_decoder, conv_encoder, dense_decoder, dense_encoder

SETTINGS = [
    {"floatx": "float64"},
    {"floatx": "float16"},
    {"policy": "mixed_float16"},
    {"image_data_format": "channels_first"},
]
SMALL = {"hidden_units": (4,), "latent_dim": 2, "max_steps": 2, "random_state": 0}


@contextlib.contextmanager
def keras_settings(floatx="float32", policy=None, image_data_format="channels_last"):
    """Set what all of Keras' layers look at; set back what was."""
    config = keras.config
    before = config.floatx(), config.dtype_policy(), config.image_data_format()
    try:
        config.set_floatx(floatx)
        config.set_dtype_policy(policy or floatx)
        config.set_image_data_format(image_data_format)
        yield
    finally:
        config.set_floatx(before[0])
        config.set_dtype_policy(before[1])
        config.set_image_data_format(before[2])


def assert_equal_scores(detector, X, settings):
    expected = detector.fit(X).score_samples(X)
    with keras_settings(**settings):
        np.testing.assert_array_equal(detector.fit(X).score_samples(X), expected)


@pytest.mark.slow
def test_a_table_has_the_same_scores_with_floats_of_64_bits(table):
    assert_equal_scores(VAEDetector(**SMALL, validation_fraction=0), table[:60], SETTINGS[0])


@pytest.mark.slow
def test_images_have_the_same_scores_with_channels_first():
    # Sides that the convolutions do not divide, and channels.
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 11, 3)).astype(np.uint8)
    assert_equal_scores(VAEDetector(**SMALL, filters=(2, 3)), images, SETTINGS[3])


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", [VAEDetector, AutoencoderDetector])
@pytest.mark.parametrize("has_images", [False, True])
def test_all_detectors_have_the_same_scores_under_any_setting(table, settings, kind, has_images):
    images = np.random.default_rng(0).random((20, 17, 12, 3))
    assert_equal_scores(kind(**SMALL), images if has_images else table[:80], settings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("score_type", ["importance_weighted", "elbo", "reconstruction_error"])
def test_all_scores_are_the_same_under_any_setting(table, settings, score_type):
    assert_equal_scores(VAEDetector(**SMALL, score_type=score_type), table[:60], settings)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, marks=[] if "policy" in settings else [pytest.mark.slow])
        for settings in SETTINGS
    ],
    ids=str,
)
def test_a_saved_detector_scores_alike_under_any_setting(table_detector, table, tmp_path, settings):
    from vae_anomaly import load_detector

    table_detector.save(tmp_path / "m")
    with keras_settings(**settings):
        scores = load_detector(tmp_path / "m").score_samples(table)
    np.testing.assert_array_equal(scores, table_detector.score_samples(table))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_networks_of_images_have_channels_last_and_float32_outputs_under_any_setting(settings):
    with keras_settings(**settings):
        encoder = conv_encoder((9, 11, 3), (2, 3), (4,), 2)
        decoder = conv_decoder(2, (4,), (9, 11, 3), n_maps=2, filters=(2, 3))
    assert encoder.input_shape == (None, 9, 11, 3)
    assert decoder.output_shape == (None, 2 * 9 * 11 * 3)
    assert {output.dtype for output in [*encoder.outputs, *decoder.outputs]} == {"float32"}


@pytest.mark.slow
def test_a_model_under_mixed_precision_measures_and_keeps_weights_in_float32():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    x[0] = 1e4  # its square is beyond the numbers of 16 bits
    with keras_settings(policy="mixed_float16"):
        vae = VAE(
            dense_encoder(3, (4,), 2, seed=0),
            dense_decoder(2, (4,), 6, seed=1),
            Gaussian(3),
            seed=2,
        )
        vae.compile("adam")
        vae.fit(x / 1e4, verbose=0)
        z_mean, z_log_var = vae.encode(x)
        log_prob = vae.feature_log_prob(x, z_mean[:, None, :])
        elbo = vae.elbo(x)["elbo"]
    assert vae.encoder.get_layer("hidden_0").compute_dtype == "float16"
    assert isinstance(vae.optimizer, keras.optimizers.LossScaleOptimizer)
    assert {str(t.dtype.name) for t in (z_mean, z_log_var, log_prob, elbo)} == {"float32"}
    assert np.isfinite(log_prob).all()
    assert np.max(log_prob[0]) < -1e6
    assert {weight.dtype for weight in vae.weights} == {"float32"}
