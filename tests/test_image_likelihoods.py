"""Likelihoods of pixels against SciPy and against their own definition."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats

from vae_anomaly.vae.pixel_likelihoods import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    RoughnessGaussian,
    roughness,
    sharpness,
)

LOGITS = np.array([-30.0, -3.0, -0.5, -0.09, -1e-4, 0.0, 1e-4, 0.11, 2.0, 30.0], "float32")


def roughness_gaussian():
    likelihood = RoughnessGaussian((4, 5, 2))
    likelihood.adapt(np.linspace(-6, -2, 100))
    likelihood.intercept.assign(0.05)
    likelihood.slope.assign(-0.02)
    return likelihood


def images(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, 40)).astype("float32")


# RoughnessGaussian


def test_the_gaussian_equals_scipys_with_the_variance_of_the_roughness():
    likelihood, x, mean = roughness_gaussian(), images(6), images(6, seed=1)
    rough = np.minimum(
        roughness(x.reshape(-1, 4, 5, 2)), np.quantile(np.linspace(-6, -2, 100), 0.99)
    )
    scale = np.exp((0.5 + 0.8 * rough) / 2)[:, None]
    expected = stats.norm.logpdf(x, mean, scale)
    np.testing.assert_allclose(likelihood.log_prob(x, mean), expected, rtol=1e-5, atol=1e-5)
    # Minus the entropy is the average over x of that roughness.
    excess = expected + stats.norm.entropy(mean, scale)
    np.testing.assert_allclose(likelihood.excess_log_prob(x, mean), excess, rtol=1e-4, atol=1e-5)


def test_the_gaussian_takes_several_draws_for_an_image():
    likelihood, x, mean = roughness_gaussian(), images(3)[:, None], images(6).reshape(3, 2, 40)
    log_prob = likelihood.log_prob(x, mean)
    assert log_prob.shape == (3, 2, 40)
    for draw in range(2):
        alone = likelihood.log_prob(x[:, 0], mean[:, draw])
        np.testing.assert_allclose(log_prob[:, draw], alone, rtol=1e-6)


def test_the_gaussians_samples_have_its_mean_and_the_variance_of_the_means_roughness():
    likelihood, mean = roughness_gaussian(), images(1)
    x = likelihood.sample(np.repeat(mean, 4000, axis=0), seed=0).numpy()
    scale = np.exp(likelihood.log_var(mean).numpy() / 2)[0, 0]
    np.testing.assert_allclose(x.mean(axis=0), mean[0], atol=5 * scale / np.sqrt(4000))
    np.testing.assert_allclose(x.std(axis=0), scale, rtol=0.06)
    assert np.abs(stats.norm.logpdf(x, mean, scale).mean() + stats.norm.entropy(0, scale)) < 0.02


def test_rough_images_have_more_variance_up_to_the_roughness_of_almost_all():
    likelihood = RoughnessGaussian((4, 5, 2))
    likelihood.adapt(np.full(10, -4.0))
    flat, noise = np.full((1, 40), 0.5, "float32"), images(1)
    assert likelihood.log_var(flat).numpy().item() == pytest.approx(np.log(1e-4))
    assert likelihood.log_var(noise).numpy().item() == pytest.approx(-4.0)


# ContinuousBernoulli


def continuous_bernoulli_density(x, logit):
    """In float64: as the paper has it, with the mean of the Bernoulli for a parameter."""
    p = 1 / (1 + np.exp(-logit))
    constant = 2.0 if logit == 0 else 2 * np.arctanh(1 - 2 * p) / (1 - 2 * p)
    return constant * p**x * (1 - p) ** (1 - x)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_is_the_density_of_the_paper_and_integrates_to_one(logit):
    x = np.linspace(0, 1, 20_001, dtype="float32")[:, None]
    log_prob = ContinuousBernoulli(1).log_prob(x, np.full_like(x, logit)).numpy()[:, 0]
    assert integrate.trapezoid(np.exp(log_prob), x[:, 0]) == pytest.approx(1.0, abs=1e-4)
    if 1e-3 < abs(logit) < 30:
        expected = np.log(continuous_bernoulli_density(x[:, 0].astype(float), float(logit)))
        np.testing.assert_allclose(log_prob, expected, atol=1e-5)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_has_its_mean_and_no_excess_on_average(logit):
    likelihood = ContinuousBernoulli(1)
    x = np.linspace(0, 1, 20_001, dtype="float32")[:, None]
    outputs = np.full_like(x, logit)
    density = np.exp(likelihood.log_prob(x, outputs).numpy()[:, 0])
    mean = integrate.trapezoid(density * x[:, 0], x[:, 0])
    assert likelihood.mean(outputs[:1]).numpy().item() == pytest.approx(mean, abs=1e-4)
    excess = likelihood.excess_log_prob(x, outputs).numpy()[:, 0]
    assert integrate.trapezoid(density * excess, x[:, 0]) == pytest.approx(0.0, abs=2e-3)
    log_prob = np.log(density)
    entropy = -integrate.trapezoid(density * log_prob, x[:, 0])
    np.testing.assert_allclose(excess, log_prob + entropy, atol=3e-3)


@pytest.mark.parametrize("logit", LOGITS)
def test_samples_of_the_continuous_bernoulli_have_its_mean(logit):
    likelihood, outputs = ContinuousBernoulli(1), np.full((20_000, 1), logit, "float32")
    x = likelihood.sample(outputs, seed=0).numpy()
    assert x.min() >= 0 and x.max() <= 1
    error = x.std() / np.sqrt(len(x))
    assert x.mean() == pytest.approx(likelihood.mean(outputs).numpy()[0, 0], abs=4.5 * error + 1e-6)


# DiscretizedLogistic


def outputs_of(mean, raw):
    return np.array([[mean, raw]], "float32")


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.4, 0.99, 1.5])
@pytest.mark.parametrize("raw", [-30.0, -2.0, 0.0, 3.0])
def test_the_discretized_logistic_equals_scipys_and_sums_to_one(mean, raw):
    likelihood, outputs = DiscretizedLogistic(1, n_levels=16), outputs_of(mean, raw)
    levels = np.linspace(0, 1, 16, dtype="float32")
    log_prob = likelihood.log_prob(levels[:, None], np.repeat(outputs, 16, axis=0)).numpy()[:, 0]
    assert np.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-5)
    scale = np.exp(float(likelihood._log_scale(outputs)[0, 0]))
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    far = edges > mean  # of the two tails the one without cancellation
    cdf, sf = (f(edges.astype(float), mean, scale) for f in (stats.logistic.cdf, stats.logistic.sf))
    mass = np.where(far[:-1], sf[:-1] - sf[1:], cdf[1:] - cdf[:-1])
    np.testing.assert_allclose(log_prob, np.log(mass), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("n_levels", [2, 16, 256])
def test_the_discretized_logistic_has_little_excess_on_average(n_levels):
    likelihood = DiscretizedLogistic(1, n_levels=n_levels)
    levels = np.linspace(0, 1, n_levels, dtype="float32")[:, None]
    for raw in (-20.0, -1.0, 0.0):
        outputs = np.repeat(outputs_of(0.5, raw), n_levels, axis=0)
        mass = np.exp(likelihood.log_prob(levels, outputs).numpy())
        excess = likelihood.excess_log_prob(levels, outputs).numpy()
        # The entropy is that of the logistic, uncut: right to a few tenths of a nat.
        assert abs(np.sum(mass * excess)) < 0.75


def test_samples_of_the_discretized_logistic_are_levels_with_its_masses():
    likelihood = DiscretizedLogistic(1, n_levels=8)
    outputs = np.repeat(outputs_of(0.45, 0.0), 20_000, axis=0)
    x = likelihood.sample(outputs, seed=0).numpy()[:, 0]
    levels = np.linspace(0, 1, 8, dtype="float32")
    assert set(np.rint(x * 7).astype(int)) <= set(range(8))
    mass = np.exp(likelihood.log_prob(levels[:, None], outputs[:8]).numpy()[:, 0])
    shares = np.bincount(np.rint(x * 7).astype(int), minlength=8) / len(x)
    np.testing.assert_allclose(shares, mass, atol=0.02)


def test_a_discretized_logistic_needs_two_levels():
    with pytest.raises(ValueError, match="Expected `n_levels` >= 2"):
        DiscretizedLogistic(1, n_levels=1)


# All


@pytest.mark.parametrize(
    "likelihood",
    [roughness_gaussian(), ContinuousBernoulli(3), DiscretizedLogistic(3, n_levels=7)],
    ids=lambda likelihood: type(likelihood).__name__,
)
def test_a_likelihood_survives_a_config_round_trip(likelihood):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(likelihood)))
    twin = keras.saving.deserialize_keras_object(config)
    twin.set_weights(likelihood.get_weights())
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, likelihood.n_features)).astype("float32")
    outputs = rng.normal(size=(2, likelihood.n_outputs)).astype("float32")
    np.testing.assert_array_equal(twin.log_prob(x, outputs), likelihood.log_prob(x, outputs))


@pytest.mark.parametrize(
    "likelihood",
    [roughness_gaussian(), ContinuousBernoulli(3), DiscretizedLogistic(3)],
    ids=lambda likelihood: type(likelihood).__name__,
)
def test_a_likelihood_trains_decoder_and_own_weights(likelihood):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, likelihood.n_features)).astype("float32")
    x[0, :2] = 0, 1
    outputs = tf.constant(rng.normal(size=(2, likelihood.n_outputs)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        total = tf.reduce_sum(likelihood.log_prob(x, outputs))
    for gradient in tape.gradient(total, [outputs, *likelihood.trainable_weights]):
        assert np.isfinite(gradient).all()
        assert np.any(gradient != 0)


def test_a_wide_discretized_logistic_keeps_its_digits():
    # The two ends of a step are nearly equal in units of a scale of half the range.
    likelihood = DiscretizedLogistic(1)
    outputs = outputs_of(-3.0, np.log(0.5 / 0.1))
    scale = np.exp(likelihood._log_scale(outputs).numpy().astype(float).item())
    x = np.arange(100, 110, dtype="float32")[:, None] / 255
    received = likelihood.log_prob(x, np.repeat(outputs, 10, axis=0)).numpy()
    edges = [x.astype(float) + step for step in (-0.5 / 255, 0.5 / 255)]
    low, high = (stats.logistic.sf(edge, -3.0, scale) for edge in edges)
    np.testing.assert_allclose(received, np.log(low - high), rtol=2e-6)


# Statistics of images


def test_roughness_is_low_of_flat_images_and_high_of_noise():
    rng = np.random.default_rng(0)
    flat, noise = np.full((1, 9, 9, 1), 0.3, "float32"), rng.uniform(size=(1, 9, 9, 1))
    ramp = np.tile(np.linspace(0, 1, 9)[:, None, None], (1, 1, 9, 1))
    values = [float(roughness(image.astype("float32"))[0]) for image in (flat, ramp, noise)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(np.log(1e-4))


def test_sharpness_hardly_depends_on_contrast_and_falls_with_blur():
    noise = np.random.default_rng(0).uniform(size=(1, 12, 12, 1)).astype("float32")
    blurred = (noise[:, 1:] + noise[:, :-1]) / 2
    sharp = float(sharpness(noise)[0])
    assert float(sharpness(noise / 2 + 0.2)[0]) == pytest.approx(sharp, abs=0.02)
    assert float(sharpness(blurred)[0]) < sharp - 0.1
