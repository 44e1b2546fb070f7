"""Sampling, SoftBound, EncoderInput and the densities: one behaviour per test."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import stats

from vae_anomaly.vae.layers import (
    EncoderInput,
    Sampling,
    SoftBound,
    kl_divergence,
    monte_carlo_kl,
    normal_log_prob,
)

# Keras' own np.array(variable) while saving, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MEANS = st.floats(-20, 20, width=32)
LOG_VARS = st.floats(-8, 8, width=32)


def rows(values, n_rows):
    return np.tile(np.asarray(values, dtype="float32"), (n_rows, 1))


def zeros(*shape):
    return np.zeros(shape, dtype="float32")


# Sampling


def test_draws_have_the_mean_and_the_variance_asked_for():
    n, mean, log_var = 40_000, np.array([1.0, -3.0]), np.array([-2.0, 1.0])
    z = np.array(Sampling(seed=0)([rows(mean, n), rows(log_var, n)]))
    variance = np.exp(log_var)
    assert np.all(np.abs(z.mean(axis=0) - mean) < 4 * np.sqrt(variance / n))
    assert np.all(np.abs(z.var(axis=0) - variance) < 4 * variance * np.sqrt(2 / n))


def test_draws_are_normal_and_independent_between_dimensions():
    z = np.array(Sampling(seed=1)([zeros(5_000, 2), zeros(5_000, 2)]))
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(z.T)[0, 1]) < 4 / np.sqrt(5_000)


def test_a_draw_is_the_mean_plus_the_standard_deviation_times_the_noise():
    rng = np.random.default_rng(0)
    mean, log_var = rng.normal(size=(2, 7, 3)).astype("float32")
    noise = np.array(Sampling(seed=5)([zeros(7, 3), zeros(7, 3)]))
    z = np.array(Sampling(seed=5)([mean, log_var]))
    np.testing.assert_allclose(z, mean + np.exp(log_var / 2) * noise, rtol=1e-6)


def test_several_draws_per_row_are_different():
    z = np.array(Sampling(seed=0)([zeros(4, 8, 2), zeros(4, 8, 2)]))
    assert z.shape == (4, 8, 2)
    assert np.unique(z).size == z.size


def test_the_same_seed_gives_the_same_draws():
    inputs = [zeros(4, 2), zeros(4, 2)]
    np.testing.assert_array_equal(Sampling(seed=3)(inputs), Sampling(seed=3)(inputs))


def test_another_seed_gives_other_draws():
    inputs = [zeros(4, 2), zeros(4, 2)]
    assert not np.any(np.equal(Sampling(seed=3)(inputs), Sampling(seed=4)(inputs)))


def test_without_a_seed_two_layers_draw_differently():
    inputs = [zeros(4, 2), zeros(4, 2)]
    assert not np.any(np.equal(Sampling()(inputs), Sampling()(inputs)))


def test_each_call_draws_anew():
    layer, inputs = Sampling(seed=3), [zeros(4, 2), zeros(4, 2)]
    assert not np.any(np.equal(layer(inputs), layer(inputs)))


def test_draws_have_the_dtype_of_the_layer():
    z = Sampling(seed=0, dtype="float16")([zeros(4, 2), zeros(4, 2)])
    assert keras.backend.standardize_dtype(z.dtype) == "float16"


def test_sampling_survives_a_config_round_trip():
    layer = Sampling(seed=7, name="z")
    copy = Sampling.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    inputs = [zeros(4, 2), zeros(4, 2)]
    np.testing.assert_array_equal(layer(inputs), copy(inputs))


def test_a_loaded_model_draws_from_its_seed_again(tmp_path):
    inputs = [keras.Input((2,)), keras.Input((2,))]
    model = keras.Model(inputs, Sampling(seed=7)(inputs))
    batch = [zeros(4, 2), zeros(4, 2)]
    first = model(batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(batch), first)
    assert not np.any(np.equal(loaded(batch), first))


@pytest.mark.parametrize("seed", [-1, 1.5, "1"])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"Expected `seed` .* Received: seed="):
        Sampling(seed=seed)


# SoftBound


@given(st.floats(-1e30, 1e30))
@settings(deadline=None, max_examples=50)
def test_soft_bound_never_exceeds_its_limit(value):
    assert abs(float(SoftBound(3.0)(np.float32(value)))) <= 3.0


def test_soft_bound_is_the_identity_near_zero():
    x = np.array([-0.1, 0.0, 0.1], dtype="float32")
    np.testing.assert_allclose(SoftBound(10.0)(x), x, atol=1e-5)


def test_soft_bound_keeps_the_order_of_values():
    assert np.all(np.diff(SoftBound(2.0)(np.linspace(-6, 6, 50, dtype="float32"))) > 0)


def test_soft_bound_survives_a_config_round_trip():
    layer = SoftBound(2.5, name="bound")
    assert SoftBound.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit):
    with pytest.raises(ValueError, match=r"Expected `limit` > 0. Received: limit="):
        SoftBound(limit)


# EncoderInput


def test_the_encoder_sees_bounded_values_and_the_mask():
    layer = EncoderInput([1, 1], bound=2.0, hidden_share=0.0)
    x = np.array([[-9.0, 1.5], [0.5, 9.0]], dtype="float32")
    seen = layer([x, np.ones((2, 2), "float32")])
    np.testing.assert_array_equal(seen, [[-2.0, 1.5, 1, 1], [0.5, 2.0, 1, 1]])


def test_a_missing_cell_is_zero_and_the_mask_says_so():
    layer = EncoderInput([1, 1], hidden_share=0.0)
    seen = layer([np.array([[3.0, 4.0]]), np.array([[0.0, 1.0]])])
    np.testing.assert_array_equal(seen, [[0.0, 4.0, 0.0, 1.0]])


def test_a_column_of_several_features_is_missing_as_a_whole():
    layer = EncoderInput([1, 3, 2], hidden_share=0.0)
    seen = layer([np.array([[1.0, 2, 3, 4, 5, 5]]), np.array([[1.0, 0, 1]])])
    np.testing.assert_array_equal(seen, [[1, 0, 0, 0, 5, 5, 1, 0, 1]])


def test_half_of_the_rows_lose_the_share_of_cells_asked_for_in_training():
    n, share = 20_000, 0.5
    layer = EncoderInput([1, 1, 1, 1, 1, 1, 2], hidden_share=share, seed=0)
    seen = np.array(layer([np.ones((n, 8)), np.ones((n, 7))], training=True))
    hidden = 1 - seen[:, 8:]
    losing = 0.5 * (1 - (1 - share) ** 7)
    assert abs(hidden.any(axis=1).mean() - losing) < 4 * np.sqrt(0.25 / n)
    assert abs(hidden.mean() - share / 2) < 4 * np.sqrt(0.25 / n)
    np.testing.assert_array_equal(seen[:, :8], 1 - hidden[:, [0, 1, 2, 3, 4, 5, 6, 6]])


def test_a_missing_cell_stays_missing_in_training():
    layer = EncoderInput([1], hidden_share=0.5, seed=0)
    assert not np.any(layer([np.ones((100, 1)), np.zeros((100, 1))], training=True))


def test_nothing_is_hidden_outside_training():
    layer = EncoderInput([1], hidden_share=0.9, seed=0)
    assert np.all(np.equal(layer([np.ones((100, 1)), np.ones((100, 1))]), 1))


def test_other_cells_are_hidden_at_each_call():
    layer = EncoderInput([1], hidden_share=0.5, seed=0)
    inputs = [np.ones((100, 1)), np.ones((100, 1))]
    assert np.any(np.not_equal(layer(inputs, training=True), layer(inputs, training=True)))


def test_the_same_seed_hides_the_same_cells():
    inputs = [np.ones((100, 2)), np.ones((100, 2))]
    first, second = (EncoderInput([1, 1], hidden_share=0.5, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first(inputs, training=True), second(inputs, training=True))


def test_encoder_input_survives_a_config_round_trip():
    layer = EncoderInput([1, 3], bound=4.0, hidden_share=0.2, seed=5, name="input")
    copy = EncoderInput.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    inputs = [np.ones((50, 4)), np.ones((50, 2))]
    np.testing.assert_array_equal(layer(inputs, training=True), copy(inputs, training=True))


def test_encoder_input_tells_the_shape_of_its_output():
    layer = EncoderInput([1, 3])
    assert layer([keras.Input((4,)), keras.Input((2,))]).shape == (None, 6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bound", 0.0), ("bound", -1.0), ("hidden_share", 1.0), ("hidden_share", -1)],
)
def test_an_impossible_option_of_the_encoder_input_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"Expected `{name}` .* Received: {name}="):
        EncoderInput([1], **{name: value})


# Densities


@given(MEANS, MEANS, LOG_VARS)
@settings(deadline=None, max_examples=50)
def test_the_normal_log_density_equals_scipys(z, mean, log_var):
    ours = float(normal_log_prob(*map(np.float64, (z, mean, log_var))))
    assert ours == pytest.approx(stats.norm.logpdf(z, mean, np.exp(log_var / 2)), rel=1e-9)


def test_the_normal_log_density_is_the_standard_one_by_default():
    z = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(normal_log_prob(z), stats.norm.logpdf(z), rtol=1e-12)


@given(MEANS, LOG_VARS)
@settings(deadline=None, max_examples=50)
def test_the_divergence_is_never_negative(mean, log_var):
    assert float(kl_divergence(np.float64(mean), np.float64(log_var))) >= -1e-15


def test_the_divergence_of_the_prior_from_itself_is_zero():
    assert not np.any(kl_divergence(zeros(3, 2), zeros(3, 2)))


def test_the_divergence_is_given_per_dimension():
    # KL(N(m, v) || N(0, 1)) by hand: m^2 / 2 for v = 1; (v - 1 - log v) / 2 for m = 0.
    kl = kl_divergence(np.array([[2.0, 0.0]]), np.array([[0.0, np.log(4.0)]]))
    np.testing.assert_allclose(kl, [[2.0, (3 - np.log(4)) / 2]], rtol=1e-12)


def test_the_one_draw_estimate_is_the_difference_of_the_two_log_densities():
    z, mean, log_var = np.random.default_rng(0).normal(size=(3, 5, 2))
    expected = stats.norm.logpdf(z, mean, np.exp(log_var / 2)) - stats.norm.logpdf(z)
    np.testing.assert_allclose(monte_carlo_kl(z, mean, log_var), expected, rtol=1e-9)


def test_the_one_draw_estimate_takes_any_prior():
    z = np.random.default_rng(0).normal(size=(5, 2))
    estimate = monte_carlo_kl(z, 0.0, 0.0, prior_log_prob=lambda z: -2 * ops.abs(z))
    np.testing.assert_allclose(estimate, stats.norm.logpdf(z) + 2 * np.abs(z), rtol=1e-9)
