"""Marginals: what they equal, and that they are probability distributions."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm

from vae_anomaly.scoring.marginals import Marginals
from vae_anomaly.vae.likelihoods import Bernoulli, Categorical, Gaussian, Mixed


def random_outputs(likelihood, n_rows=50):
    return np.random.default_rng(0).normal(size=(n_rows, likelihood.n_outputs)).astype("float32")


def adapted(likelihood, column_widths, n_numeric=0, n_boolean=0, n_rows=50):
    marginals = Marginals(column_widths, n_numeric, n_boolean)
    marginals.tabulate(likelihood, random_outputs(likelihood, n_rows))
    return marginals


def test_those_of_numbers_are_mixtures_of_the_rows_normal_distributions():
    likelihood = Gaussian(2)
    outputs = random_outputs(likelihood)
    scale = np.exp(likelihood.log_var(outputs).numpy() / 2)
    x = np.random.default_rng(1).normal(size=(200, 2), scale=3).astype("float32")
    expected = logsumexp(norm.logpdf(x[:, None], outputs[:, :2], scale), axis=1) - np.log(50)
    marginals = adapted(likelihood, [1, 1], n_numeric=2)
    np.testing.assert_allclose(marginals(x), expected, atol=2e-3)


def test_those_of_a_column_of_several_numbers_are_added():
    x = np.random.default_rng(1).normal(size=(20, 4)).astype("float32")
    likelihood = Mixed([Gaussian(3, column_widths=[1, 2]), Bernoulli(1)])
    single = Mixed([Gaussian(3), Bernoulli(1)])
    x[:, 3] = x[:, 3] > 0
    a, b, c, d = np.transpose(adapted(single, [1, 1, 1, 1], n_numeric=3, n_boolean=1)(x))
    ours = adapted(likelihood, [1, 2, 1], n_numeric=2, n_boolean=1)(x)
    np.testing.assert_allclose(ours, np.stack([a, b + c, d], axis=1), rtol=1e-6)


def test_those_of_the_narrowest_normal_distribution_are_near_its_own():
    likelihood = Gaussian(1, variance="column")
    likelihood.raw_log_var.assign([-30.0])
    marginals = Marginals([1], 1, 0)
    marginals.tabulate(likelihood, np.array([[0.3141]], dtype="float32"))
    x = np.linspace(0.1, 0.5, 500, dtype="float32")[:, None]
    expected = norm.logpdf(x, 0.3141, np.exp(-6 / 2))
    np.testing.assert_allclose(marginals(x), expected, atol=0.03)


def test_what_rows_do_not_need_is_left_out_of_the_table_and_changes_nothing(monkeypatch):
    monkeypatch.setattr("vae_anomaly.scoring.marginals._BLOCK", 50 * 2 * 100)
    likelihood = Gaussian(2)
    x = np.random.default_rng(1).normal(size=(50, 2), scale=3).astype("float32")
    part, whole = Marginals([1, 1], 2, 0), adapted(likelihood, [1, 1], n_numeric=2)
    part.tabulate_for(x[:25], x[25:])
    part.tabulate(likelihood, random_outputs(likelihood))
    np.testing.assert_array_equal(part(x), whole(x))
    assert (part.table.numpy() != whole.table.numpy()).any()
    part.tabulate_for(x, None)
    part.tabulate(likelihood, random_outputs(likelihood))
    np.testing.assert_array_equal(part.table.numpy(), whole.table.numpy())


def test_those_of_numbers_integrate_to_one():
    x = np.linspace(-19, 19, 38_001, dtype="float32")[:, None]
    density = np.exp(adapted(Gaussian(1), [1], n_numeric=1)(x).numpy().astype("float64"))
    assert np.trapezoid(density[:, 0], x[:, 0]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("center", [0, 28, -300, 700])
def test_they_fall_with_the_distance_from_all_training_rows(center):
    outputs = np.array([[0.0], [center]], dtype="float32")
    marginals = Marginals([1], 1, 0)
    marginals.tabulate(Gaussian(1, variance=1.0), outputs)
    x = np.array([5, 10, 25, 100, 400, 706], dtype="float32")
    beyond = x[x > abs(center) + 4] * (np.sign(center) or 1)
    log_prob = marginals(np.append(center, beyond).astype("float32")[:, None]).numpy()[:, 0]
    assert (np.diff(log_prob) < 0).all()
    assert log_prob[0] == pytest.approx(norm.logpdf(0) - np.log(1 + (center != 0)), abs=0.7)


def test_those_of_booleans_and_categories_are_mean_probabilities():
    likelihood = Mixed([Gaussian(1), Bernoulli(1), Categorical(3), Categorical(2)])
    outputs = random_outputs(likelihood)
    logits = outputs[:, 2:]
    p = np.mean(1 / (1 + np.exp(-logits[:, 0])))
    first = np.exp(log_softmax(logits[:, 1:4], axis=1)).mean(axis=0)
    second = np.exp(log_softmax(logits[:, 4:], axis=1)).mean(axis=0)
    x = np.array([[0, 1, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 1, 0]], dtype="float32")
    expected = np.log([[p, first[1], second[1]], [1 - p, first[0], second[0]]])
    marginals = adapted(likelihood, [1, 1, 3, 2], n_numeric=1, n_boolean=1)
    np.testing.assert_allclose(marginals(x)[:, 1:], expected, rtol=1e-5)


def test_a_level_that_no_row_expects_has_a_finite_log_probability():
    marginals = Marginals([2], 0, 0)
    marginals.tabulate(Categorical(2), np.array([[100.0, -100.0]], dtype="float32"))
    log_prob = marginals(np.array([[1, 0], [0, 1]], dtype="float32")).numpy()[:, 0]
    assert log_prob[0] == pytest.approx(0.0, abs=1e-6)
    assert -20 < log_prob[1] < -10


def test_they_survive_config_and_weights():
    marginals = adapted(Mixed([Gaussian(1), Categorical(3)]), [1, 3], n_numeric=1)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(marginals))
    again.set_weights(marginals.get_weights())
    x = np.array([[0.5, 0, 1, 0]], dtype="float32")
    np.testing.assert_array_equal(again(x), marginals(x))
