"""Likelihoods against SciPy and against their own definition: one behaviour per test."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from vae_anomaly.vae.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Mixed

VARIANCES = ["row", "column", "shared", 0.7]
ANY_FLOAT = st.floats(-1e30, 1e30)


def gaussian(variance, n_features=3, seed=0, **options):
    """A Gaussian whose weights, if any, are random."""
    likelihood = Gaussian(n_features, variance=variance, **options)
    rng = np.random.default_rng(seed)
    likelihood.set_weights([rng.normal(size=weight.shape) for weight in likelihood.weights])
    return likelihood


def mixed():
    return Mixed([gaussian("row", 2), Bernoulli(1), Categorical(3), gaussian("column", 1)])


def random_outputs(likelihood, *shape, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape, likelihood.n_outputs)).astype("float32")


def standard_deviation(likelihood, outputs):
    return np.exp(np.array(likelihood.log_var(outputs)) / 2)


# Gaussian


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_gaussian_equals_scipys(variance):
    likelihood = gaussian(variance)
    outputs = random_outputs(likelihood, 20)
    x = np.random.default_rng(2).normal(size=(20, 3)).astype("float32")
    expected = stats.norm.logpdf(x, outputs[:, :3], standard_deviation(likelihood, outputs))
    np.testing.assert_allclose(likelihood.log_prob(x, outputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_gaussian_integrates_to_one(variance):
    likelihood = gaussian(variance)
    x = np.linspace(-25, 25, 20_001)
    log_prob = likelihood.log_prob(np.tile(x[:, None], 3), random_outputs(likelihood, 1))
    np.testing.assert_allclose(integrate.trapezoid(np.exp(log_prob), x, axis=0), 1.0, rtol=1e-5)


def test_a_fixed_variance_is_the_one_given():
    assert float(Gaussian(1, variance=0.25).log_var(None)) == pytest.approx(np.log(0.25))


def test_a_fixed_variance_has_no_weights():
    assert Gaussian(4, variance=1).weights == []


def test_a_shared_variance_is_one_weight_for_all_features():
    likelihood = gaussian("shared", 4)
    assert likelihood.raw_log_var.shape == (1,)
    assert likelihood.n_outputs == 4


def test_a_column_variance_is_one_weight_per_feature():
    likelihood = gaussian("column", 4)
    assert likelihood.raw_log_var.shape == (4,)
    assert likelihood.n_outputs == 4


def test_far_above_the_floor_the_weight_is_the_log_variance():
    likelihood = Gaussian(2, variance="column", min_log_var=-20.0)
    likelihood.raw_log_var.assign([-1.0, 2.0])
    np.testing.assert_allclose(likelihood.log_var(None), [-1.0, 2.0], atol=1e-6)


def test_a_row_variance_takes_two_outputs_per_feature():
    assert Gaussian(4, variance="row").n_outputs == 8


def test_a_row_of_zero_raw_outputs_has_its_columns_variance():
    row, column = (
        Gaussian(2, variance=variance, min_log_var=floor)
        for variance, floor in (("row", -6.0), ("column", -4.5))
    )
    for likelihood in (row, column):
        likelihood.raw_log_var.assign([-3.0, 0.5])
    np.testing.assert_allclose(
        row.log_var(np.zeros((1, 4)))[0], column.log_var(np.zeros((1, 2))), rtol=1e-6
    )


@given(st.tuples(ANY_FLOAT, ANY_FLOAT), st.floats(0.1, 5.0))
@settings(deadline=None, max_examples=50)
def test_a_rows_log_variance_stays_within_row_bound_of_its_columns(raw, bound):
    likelihood = gaussian("row", 2, row_bound=bound)
    columns = likelihood.log_var(np.zeros((1, 4), "float32"))
    of_row = likelihood.log_var(np.array([[0.0, 0.0, *raw]], dtype="float32"))
    assert np.all(np.abs(of_row - columns) <= bound + 1e-5)


@pytest.mark.parametrize("variance", ["row", "column", "shared"])
@given(weight=ANY_FLOAT, output=ANY_FLOAT)
@settings(deadline=None, max_examples=50)
def test_the_variance_never_falls_under_its_floor(variance, weight, output):
    likelihood = Gaussian(2, variance=variance, min_log_var=-4.0)
    likelihood.raw_log_var.assign(np.full(likelihood.raw_log_var.shape, weight))
    log_var = np.array(likelihood.log_var(np.full((1, likelihood.n_outputs), output, "float32")))
    assert np.isfinite(log_var).all()
    assert np.all(log_var >= -4.0 - 1e-5)


def test_each_feature_can_have_a_floor_of_its_own():
    likelihood = Gaussian(2, variance="column", min_log_var=[-4.0, 1.0])
    likelihood.raw_log_var.assign([-1e6, -1e6])
    np.testing.assert_allclose(likelihood.log_var(None), [-4.0, 1.0])


def test_a_shared_variance_takes_the_lowest_floor():
    likelihood = Gaussian(2, variance="shared", min_log_var=[-4.0, 1.0])
    likelihood.raw_log_var.assign([-1e6])
    np.testing.assert_allclose(likelihood.log_var(None), [-4.0])


@pytest.mark.parametrize("variance", VARIANCES)
def test_gaussian_draws_have_the_mean_and_the_variance_claimed(variance):
    n, likelihood = 20_000, gaussian(variance)
    outputs = random_outputs(likelihood, 1)
    draws = np.array(likelihood.sample(np.repeat(outputs, n, axis=0), seed=0))
    deviation = np.broadcast_to(standard_deviation(likelihood, outputs), (1, 3))[0]
    mean = np.array(likelihood.mean(outputs))[0]
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4 * deviation / np.sqrt(n))
    assert np.all(np.abs(draws.var(axis=0) / deviation**2 - 1) < 4 * np.sqrt(2 / n))


@pytest.mark.parametrize("variance", VARIANCES)
def test_a_column_of_several_features_has_the_sum_of_their_log_probabilities(variance):
    likelihood = gaussian(variance, 4, column_widths=[1, 2, 1])
    plain = gaussian(variance, 4)
    outputs, x = random_outputs(likelihood, 5), np.random.default_rng(2).normal(size=(5, 4))
    for method in ("log_prob", "excess_log_prob", "squared_error"):
        a, b, c, d = np.transpose(getattr(plain, method)(x, outputs))
        ours = getattr(likelihood, method)(x, outputs)
        np.testing.assert_allclose(ours, np.stack([a, b + c, d], axis=1), rtol=1e-6)
    np.testing.assert_array_equal(
        likelihood.log_prob_by_feature(x, outputs), plain.log_prob(x, outputs)
    )


@pytest.mark.parametrize("widths", [[1, 1], [4], [3, 0]])
def test_column_widths_must_add_up_to_the_features(widths):
    with pytest.raises(ValueError, match="Expected `column_widths` >= 1 that add up to"):
        Gaussian(3, column_widths=widths)


@pytest.mark.parametrize("variance", [0, -1.0, "rows", None, True, float("nan")])
def test_an_unknown_variance_is_refused(variance):
    with pytest.raises(ValueError, match=r"Expected `variance` .* Received: variance="):
        Gaussian(2, variance=variance)


@pytest.mark.parametrize("row_bound", [0, -1.0])
def test_a_row_bound_that_is_not_positive_is_refused(row_bound):
    with pytest.raises(ValueError, match=r"Expected `row_bound` > 0. Received: row_bound="):
        Gaussian(2, row_bound=row_bound)


# Bernoulli


def test_the_bernoulli_equals_scipys():
    logits = np.linspace(-8, 8, 33, dtype="float32")[:, None]
    for x in (0.0, 1.0):
        np.testing.assert_allclose(
            Bernoulli(1).log_prob(np.full_like(logits, x), logits),
            stats.bernoulli.logpmf(x, special.expit(logits.astype("float64"))),
            rtol=1e-5,
            atol=1e-6,
        )


@given(st.floats(-50, 50, width=32))
@settings(deadline=None, max_examples=50)
def test_the_bernoulli_sums_to_one(logit):
    log_prob = Bernoulli(1).log_prob(np.array([[0.0], [1.0]]), np.full((1, 1), logit))
    assert float(np.exp(log_prob).sum()) == pytest.approx(1.0, rel=1e-5)


def test_the_bernoulli_is_finite_for_extreme_logits():
    log_prob = Bernoulli(1).log_prob(np.array([[0.0], [1.0]]), np.array([[1e4], [-1e4]]))
    np.testing.assert_allclose(log_prob, -1e4)


def test_bernoulli_draws_are_ones_as_often_as_claimed():
    n, outputs = 20_000, np.array([[-2.0, 0.0, 1.0]])
    draws = np.array(Bernoulli(3).sample(np.repeat(outputs, n, axis=0), seed=0))
    mean = special.expit(outputs[0])
    assert set(np.unique(draws)) == {0.0, 1.0}
    np.testing.assert_allclose(Bernoulli(3).mean(outputs)[0], mean, rtol=1e-6)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4 * np.sqrt(mean * (1 - mean) / n))


# Categorical


def test_the_categorical_equals_scipys():
    outputs = random_outputs(Categorical(4), 8)
    probabilities = special.softmax(outputs.astype("float64"), axis=1)
    x = np.eye(4)[np.arange(8) % 4]
    np.testing.assert_allclose(
        np.array(Categorical(4).log_prob(x, outputs))[:, 0],
        stats.multinomial.logpmf(x, 1, probabilities),
        rtol=1e-5,
    )


@given(st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=6))
@settings(deadline=None, max_examples=50)
def test_the_categorical_sums_to_one(logits):
    likelihood = Categorical(len(logits))
    log_prob = likelihood.log_prob(np.eye(len(logits)), np.array([logits]))
    assert log_prob.shape == (len(logits), 1)
    assert float(np.exp(log_prob).sum()) == pytest.approx(1.0, rel=1e-4)


def test_categorical_draws_take_each_level_as_often_as_claimed():
    n, outputs = 20_000, np.array([[-2.0, 0.0, 1.0]])
    draws = np.array(Categorical(3).sample(np.repeat(outputs, n, axis=0), seed=0))
    mean = special.softmax(outputs[0])
    assert np.all(draws.sum(axis=1) == 1)
    np.testing.assert_allclose(Categorical(3).mean(outputs)[0], mean, rtol=1e-6)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4 * np.sqrt(mean * (1 - mean) / n))


def test_a_categorical_column_has_one_squared_error():
    error = Categorical(2).squared_error(np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    np.testing.assert_allclose(error, [[0.5]])


# Mixed


def test_mixed_concatenates_its_parts_in_order():
    likelihood = mixed()
    x = np.array([[0.3, -1.0, 1.0, 0, 1, 0, 2.0]], dtype="float32")
    outputs = random_outputs(likelihood, 1)
    x_parts = np.split(x, [2, 3, 6], axis=1)
    own_outputs = np.split(outputs, [4, 5, 8], axis=1)
    parts = list(zip(likelihood.parts, x_parts, own_outputs, strict=True))
    for ours, theirs in (
        (likelihood.log_prob(x, outputs), [p.log_prob(a, b) for p, a, b in parts]),
        (likelihood.mean(outputs), [p.mean(b) for p, _, b in parts]),
        (likelihood.squared_error(x, outputs), [p.squared_error(a, b) for p, a, b in parts]),
    ):
        np.testing.assert_array_equal(ours, np.concatenate(theirs, axis=1))


def test_mixed_has_one_log_probability_per_column():
    likelihood = mixed()
    assert (likelihood.n_features, likelihood.n_outputs) == (7, 9)
    outputs = random_outputs(likelihood, 5, 4)
    assert likelihood.log_prob(np.zeros((5, 1, 7)), outputs).shape == (5, 4, 5)


def test_mixed_sums_and_integrates_to_one():
    likelihood = Mixed([Bernoulli(1), gaussian("row", 1), Categorical(3)])
    grid = np.linspace(-12, 12, 2_001)
    outputs, total = random_outputs(likelihood, 1), 0.0
    for flag in (0.0, 1.0):
        for level in np.eye(3):
            x = np.column_stack([np.full_like(grid, flag), grid, np.tile(level, (2_001, 1))])
            total += integrate.trapezoid(
                np.exp(np.sum(likelihood.log_prob(x, outputs), axis=1)), grid
            )
    assert total == pytest.approx(1.0, rel=1e-5)


def test_mixed_draws_have_the_mean_claimed():
    n, likelihood = 20_000, mixed()
    outputs = random_outputs(likelihood, 1)
    draws = np.array(likelihood.sample(np.repeat(outputs, n, axis=0), seed=0))
    error = draws.std(axis=0) / np.sqrt(n)
    assert np.all(np.abs(draws.mean(axis=0) - np.array(likelihood.mean(outputs))[0]) < 4 * error)


def test_the_parts_of_mixed_do_not_share_their_random_numbers():
    likelihood = Mixed([Gaussian(1, variance=1.0), Gaussian(1, variance=1.0), Bernoulli(1)])
    draws = np.array(likelihood.sample(np.zeros((5_000, 3)), seed=0))
    correlation = np.corrcoef(draws.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < 4 / np.sqrt(5_000))


def test_mixed_trains_the_weights_of_its_parts():
    assert len(mixed().trainable_weights) == 2


def test_mixed_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"Expected at least one likelihood. Received: parts="):
        Mixed([])


# All of them

ALL = [*(gaussian(variance) for variance in VARIANCES), Bernoulli(3), Categorical(3), mixed()]
IDS = [*(f"Gaussian-{variance}" for variance in VARIANCES), "Bernoulli", "Categorical", "Mixed"]


@pytest.mark.parametrize("likelihood", ALL, ids=IDS)
def test_a_likelihood_survives_a_config_round_trip(likelihood):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(likelihood)))
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(likelihood.get_weights())
    assert type(copy) is type(likelihood)
    assert copy.get_config() == likelihood.get_config()
    outputs, x = random_outputs(likelihood, 4), np.ones((4, likelihood.n_features))
    np.testing.assert_array_equal(likelihood(x, outputs), copy(x, outputs))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("likelihood", ALL, ids=IDS)
def test_inputs_of_any_precision_are_computed_in_float32(likelihood, dtype):
    # Multiples of 1/4, so that float16 is exact.
    outputs = np.round(random_outputs(likelihood, 4) * 4) / 4
    x = np.ones((4, likelihood.n_features), "float32")
    log_prob = likelihood.log_prob(x.astype(dtype), outputs.astype(dtype))
    assert keras.backend.standardize_dtype(log_prob.dtype) == "float32"
    np.testing.assert_array_equal(log_prob, likelihood.log_prob(x, outputs))


@pytest.mark.parametrize("likelihood", ALL, ids=IDS)
def test_calling_a_likelihood_gives_the_log_probability(likelihood):
    outputs, x = random_outputs(likelihood, 4), np.ones((4, likelihood.n_features), "float32")
    np.testing.assert_array_equal(likelihood(x, outputs), likelihood.log_prob(x, outputs))


@pytest.mark.parametrize("likelihood", ALL, ids=IDS)
def test_the_same_seed_draws_the_same_rows(likelihood):
    outputs = random_outputs(likelihood, 50)
    first, second, other = (np.array(likelihood.sample(outputs, seed=s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert np.any(first != other)


@pytest.mark.parametrize("likelihood", ALL, ids=IDS)
def test_a_seed_generator_draws_anew_at_each_call(likelihood):
    outputs, generator = random_outputs(likelihood, 50), keras.random.SeedGenerator(1)
    first, second = (np.array(likelihood.sample(outputs, seed=generator)) for _ in range(2))
    assert np.any(first != second)


@pytest.mark.parametrize("kind", [Gaussian, Bernoulli, Categorical])
@pytest.mark.parametrize("n_features", [0, -1, 2.0, None])
def test_an_impossible_number_of_features_is_refused(kind, n_features):
    with pytest.raises(ValueError, match=r"Expected `n_features` >= 1. Received: n_features="):
        kind(n_features)


@pytest.mark.parametrize("method", ["log_prob", "mean", "sample"])
def test_a_new_likelihood_must_say_what_it_computes(method):
    arguments = {"log_prob": (0.0, 0.0), "mean": (0.0,), "sample": (0.0, 1)}[method]
    with pytest.raises(NotImplementedError):
        getattr(Likelihood(1), method)(*arguments)
