"""Laws that the whole model obeys, against closed forms of the linear-Gaussian case.

There p(x|z) = N(W z + mu, s^2 I) with z ~ N(0, I), which is probabilistic PCA (Tipping & Bishop
1999): p(x), the posterior of z and all scores are known.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import integrate, stats

from vae_anomaly.scoring.tables import TableScorer
from vae_anomaly.tables.preprocessing import TablePreprocessor
from vae_anomaly.vae.layers import Sampling, kl_divergence, monte_carlo_kl, normal_log_prob
from vae_anomaly.vae.likelihoods import Gaussian
from vae_anomaly.vae.models import VAE
from vae_anomaly.vae.networks import LOG_VAR_LIMIT, dense_decoder, dense_encoder

# Float32 sums of a few terms of up to some tens of nats.
EXACT = {"rtol": 0, "atol": 1e-4}


@dataclass
class LinearGaussian:
    """x = W z + mean + noise; W (n_features, latent_dim) is such that posteriors are diagonal."""

    loadings: np.ndarray
    mean: np.ndarray
    variance: float

    def draw(self, n_rows, seed):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(n_rows, self.loadings.shape[1]))
        x = z @ self.loadings.T + self.mean
        return x + np.sqrt(self.variance) * rng.normal(size=x.shape)

    def log_prob(self, row):
        """Log p of the observed cells of a row: a marginal of a multivariate normal is one."""
        seen = ~np.isnan(row)
        if not seen.any():
            return 0.0
        W = self.loadings[seen]
        covariance = W @ W.T + self.variance * np.eye(seen.sum())
        return stats.multivariate_normal.logpdf(row[seen], self.mean[seen], covariance)

    def posterior(self, row):
        """Mean and variances of p(z|observed cells)."""
        seen = ~np.isnan(row)
        W = self.loadings[seen]
        precision = np.eye(W.shape[1]) + W.T @ W / self.variance
        np.testing.assert_allclose(precision, np.diag(np.diag(precision)), atol=1e-12)
        variances = 1 / np.diag(precision)
        return variances * (W.T @ (row[seen] - self.mean[seen])) / self.variance, variances

    def expected_log_prob(self, row, z_mean, z_variances):
        """E_q[log p(x|z)] over q = N(z_mean, z_variances), and the variance of one draw of it."""
        seen = ~np.isnan(row)
        W = self.loadings[seen]
        residual = row[seen] - self.mean[seen] - W @ z_mean
        spread = W @ np.diag(z_variances) @ W.T
        expectation = -0.5 * (
            seen.sum() * np.log(2 * np.pi * self.variance)
            + (residual @ residual + np.trace(spread)) / self.variance
        )
        # Variance of a quadratic form in normal variables.
        variance = residual @ spread @ residual + 0.5 * np.trace(spread @ spread)
        return expectation, variance / self.variance**2


def divergence(mean, variances):
    return 0.5 * np.sum(mean**2 + variances - 1 - np.log(variances))


def ppca():
    """Six columns, two factors with orthogonal loadings."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))
    return LinearGaussian(basis * [1.5, 0.8], np.linspace(-0.5, 0.5, 6), variance=0.3)


def blocks():
    """Six columns, the two factors own three each: orthogonal whatever cells are missing."""
    loadings = np.zeros((6, 2))
    loadings[:3, 0], loadings[3:, 1] = [1.0, -0.5, 0.8], [0.6, 1.2, -0.9]
    return LinearGaussian(loadings, np.linspace(-0.5, 0.5, 6), variance=0.4)


def linear_decoder(truth):
    decoder = dense_decoder(truth.loadings.shape[1], (), len(truth.mean))
    decoder.set_weights([truth.loadings.T, truth.mean])
    return decoder


def linear_vae(truth, encoder, *, shared=False, **options):
    if not shared:
        likelihood = Gaussian(len(truth.mean), variance=truth.variance)
    else:
        likelihood = Gaussian(len(truth.mean), variance="shared", min_log_var=-20.0)
        likelihood.raw_log_var.assign([np.log(truth.variance)])
    return VAE(encoder, linear_decoder(truth), likelihood, seed=0, **options)


def linear_encoder(truth, *, shift=0.0, widening=1.0):
    """The posterior of complete rows; ``shift`` and ``widening`` make it wrong on purpose."""
    n_features, latent_dim = truth.loadings.shape
    encoder = dense_encoder(
        n_features, (), latent_dim, column_widths=[1] * n_features, hidden_share=0.0
    )
    _, variances = truth.posterior(truth.mean)
    kernel = np.zeros((2 * n_features, latent_dim))  # The lower half takes the mask.
    kernel[:n_features] = truth.loadings * variances / truth.variance
    bias = shift - truth.mean @ kernel[:n_features]
    encoder.get_layer("z_mean").set_weights([kernel, bias])
    raw = LOG_VAR_LIMIT * np.arctanh(np.log(variances * widening) / LOG_VAR_LIMIT)
    encoder.get_layer("z_log_var_raw").set_weights([np.zeros_like(kernel), raw])
    return encoder


def masked_encoder(truth):
    """The posterior given the observed cells, for ``blocks``."""
    x, observed = (keras.Input((len(truth.mean),)) for _ in range(2))
    precision = 1 + ops.matmul(observed, truth.loadings.astype("float32") ** 2 / truth.variance)
    centred = (x - truth.mean.astype("float32")) * observed
    projected = ops.matmul(centred, truth.loadings.astype("float32") / truth.variance)
    return keras.Model([x, observed], [projected / precision, -ops.log(precision)])


def scorer(vae, score_type, n_draws, seed=0):
    columns = {f"x{index}": "numeric" for index in range(vae.likelihood.n_features)}
    return TableScorer(
        TablePreprocessor(columns), vae, score_type=score_type, n_draws=n_draws, seed=seed
    )


def scores(scorer, x):
    return scorer({f"x{index}": column for index, column in enumerate(x.T)})["score"].numpy()


def within(draws, expected, n_errors=4.5):
    """Whether the mean of independent draws is a few standard errors from what is expected."""
    draws = np.asarray(draws, dtype="float64")
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    return bool(np.all(np.abs(draws.mean(axis=0) - expected) < n_errors * error + 1e-6))


# Probabilistic PCA


@pytest.mark.parametrize("shared", [False, True], ids=["fixed variance", "shared variance"])
@pytest.mark.parametrize("n_draws", [1, 7])
def test_with_the_exact_posterior_any_draws_give_log_p_of_x(n_draws, shared):
    truth = ppca()
    x = truth.draw(30, seed=1)
    vae = linear_vae(truth, linear_encoder(truth), shared=shared)
    expected = [truth.log_prob(row) for row in x]
    np.testing.assert_allclose(
        scores(scorer(vae, "importance_weighted", n_draws), x), expected, **EXACT
    )


def test_the_reconstruction_probability_has_its_closed_form():
    truth = ppca()
    x = truth.draw(30, seed=1)
    vae = linear_vae(truth, linear_encoder(truth))
    expected = [truth.expected_log_prob(row, *truth.posterior(row))[0] for row in x]
    ours = scores(scorer(vae, "reconstruction_probability", 4096), x)
    np.testing.assert_allclose(ours, expected, atol=0.01)


def test_the_bound_of_the_exact_posterior_is_log_p_of_x():
    truth = ppca()
    x = truth.draw(30, seed=1)
    vae = linear_vae(truth, linear_encoder(truth))
    ours = scores(scorer(vae, "elbo", 4096), x)
    np.testing.assert_allclose(ours, [truth.log_prob(row) for row in x], atol=0.01)


def test_the_bound_of_another_posterior_lacks_the_divergence_from_the_exact_one():
    truth = ppca()
    x = truth.draw(30, seed=1)
    vae = linear_vae(truth, linear_encoder(truth, shift=0.3, widening=2.0))
    _, variances = truth.posterior(x[0])
    # KL between N(m + 0.3, 2 v) and N(m, v), the same for every row.
    gap = 0.5 * np.sum(0.3**2 / variances + 2.0 - 1 - np.log(2.0))
    expected = np.array([truth.log_prob(row) for row in x]) - gap
    np.testing.assert_allclose(scores(scorer(vae, "elbo", 4096), x), expected, atol=0.03)


@pytest.mark.parametrize("n_draws", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_the_marginals_of_the_exact_posterior_are_those_of_the_model(n_draws):
    truth = ppca()
    vae = linear_vae(truth, linear_encoder(truth))
    ours = scorer(vae, "composite", n_draws)
    x = truth.draw(2000, seed=1)
    ours.calibrate({f"x{i}": column for i, column in enumerate(x.T)}, np.arange(2000) == 0)
    scale = np.sqrt(np.sum(truth.loadings**2, axis=1) + truth.variance)
    expected = stats.norm.logpdf(x, truth.mean, scale)
    # They are made from a sample of 512 rows.
    near = np.abs(x - truth.mean) < 2 * scale
    assert np.abs(ours.score.views[1](x.astype("float32")) - expected)[near].max() < 0.25


def test_the_bound_of_training_has_its_closed_form():
    truth, n_draws = ppca(), 4_000
    x = truth.draw(10, seed=1)
    vae = linear_vae(truth, linear_encoder(truth), n_draws=n_draws)
    terms = vae.elbo((x.astype("float32"), np.ones_like(x, "float32")))
    for index, row in enumerate(x):
        expectation, variance = truth.expected_log_prob(row, *truth.posterior(row))
        kl = divergence(*truth.posterior(row))
        error = np.sqrt(variance / n_draws)
        assert float(terms["kl"][index]) == pytest.approx(kl, abs=1e-4)
        assert float(terms["log_prob"][index]) == pytest.approx(expectation, abs=4.5 * error)
        assert float(terms["elbo"][index]) == pytest.approx(truth.log_prob(row), abs=4.5 * error)


def test_a_trained_linear_vae_comes_close_to_probabilistic_pca():
    n_rows, n_columns, n_factors = 1000, 5, 2
    rng = np.random.default_rng(3)
    loadings = rng.normal(size=(n_columns, n_factors))
    x = rng.normal(size=(n_rows, n_factors)) @ loadings.T
    x += 0.6 * rng.normal(size=x.shape)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")

    # The maximum of the likelihood, from the eigenvalues of the covariance (Tipping & Bishop).
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    variance = values[:-n_factors].mean()
    W = vectors[:, -n_factors:] * np.sqrt(values[-n_factors:] - variance)
    covariance = W @ W.T + variance * np.eye(n_columns)
    best = stats.multivariate_normal.logpdf(x, x.mean(axis=0), covariance).mean()

    networks = [
        dense_encoder(n_columns, (), n_factors, seed=0),
        dense_decoder(n_factors, (), n_columns, seed=1),
        Gaussian(n_columns, variance="shared"),
    ]
    vae = VAE(*networks, seed=2)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 400)
    vae.compile(keras.optimizers.Adam(schedule), steps_per_execution=50)
    vae.fit(np.tile(x, (40, 1)), batch_size=100, shuffle=False, verbose=0)
    bound = float(ops.mean(VAE(*networks, n_draws=100, seed=3).elbo(x)["elbo"]))
    assert best - 0.02 * n_columns < bound < best + 0.01


# Kullback-Leibler divergence


def test_the_closed_form_of_the_divergence_equals_monte_carlo():
    mean = np.array([0.0, 1.5, -2.0], "float32")
    log_var = np.array([0.0, -2.0, 1.0], "float32")
    inputs = [np.tile(mean, (20_000, 1)), np.tile(log_var, (20_000, 1))]
    estimates = monte_carlo_kl(Sampling(seed=0)(inputs), mean, log_var)
    assert within(estimates, kl_divergence(mean, log_var))


def test_the_divergence_from_a_prior_without_closed_form_equals_quadrature():
    q = stats.norm(0.8, 0.7)
    prior = [stats.norm(-1.0, 0.6), stats.norm(2.0, 1.1)]

    def integrand(z):
        log_prior = np.log(0.3 * prior[0].pdf(z) + 0.7 * prior[1].pdf(z))
        return q.pdf(z) * (q.logpdf(z) - log_prior)

    def prior_log_prob(z):
        return ops.logaddexp(
            math.log(0.3) + normal_log_prob(z, -1.0, 2 * math.log(0.6)),
            math.log(0.7) + normal_log_prob(z, 2.0, 2 * math.log(1.1)),
        )

    shape, log_var = (20_000, 1), np.float32(2 * np.log(0.7))
    mean = np.float32(0.8)
    z = Sampling(seed=0)([np.full(shape, mean), np.full(shape, log_var)])
    expected, _ = integrate.quad(integrand, -8, 8)
    assert within(monte_carlo_kl(z, mean, log_var, prior_log_prob), expected)


def default_vae(**options):
    likelihood = Gaussian(6)
    decoder = dense_decoder(16, (128, 128), likelihood.n_outputs, seed=1)
    return VAE(dense_encoder(6, seed=0), decoder, likelihood, seed=2, **options)


def gradients(vae, function):
    with tf.GradientTape() as tape:
        value = ops.mean(function())
    return [ops.convert_to_numpy(g) for g in tape.gradient(value, vae.encoder.trainable_weights)]


def test_the_divergence_trains_every_weight_of_the_encoder_at_the_defaults():
    vae, x = default_vae(), np.random.default_rng(0).normal(size=(32, 6))
    assert all(np.any(g != 0) for g in gradients(vae, lambda: vae.elbo(x)["kl"]))


def test_the_divergence_is_part_of_the_gradient_of_the_bound():
    x = np.random.default_rng(0).normal(size=(32, 6))
    # Equal seeds, so equal weights and draws.
    vae, other, without = default_vae(), default_vae(), default_vae(beta=0.0)
    full = gradients(vae, lambda: vae.elbo(x)["elbo"])
    kl = gradients(other, lambda: other.elbo(x)["kl"])
    reconstruction = gradients(without, lambda: without.elbo(x)["elbo"])
    for a, b, c in zip(full, reconstruction, kl, strict=True):
        np.testing.assert_allclose(a, b - c, rtol=1e-3, atol=1e-5)


def test_the_reparameterised_gradient_agrees_with_the_score_function():
    n_draws, latent_dim = 20_000, 2
    likelihood = Gaussian(3)
    decoder = dense_decoder(latent_dim, (8,), likelihood.n_outputs, activation="tanh", seed=0)
    vae = VAE(dense_encoder(3, (), latent_dim), decoder, likelihood, seed=0)
    x = np.array([[0.5, -1.0, 0.2]], "float32")
    mean, log_var = np.array([0.4, -0.3], "float32"), np.array([-0.5, 0.3], "float32")
    inputs = [tf.constant(np.tile(part, (1, n_draws, 1))) for part in (mean, log_var)]

    def log_prob(z):
        return ops.sum(vae.feature_log_prob(x, z), axis=-1)

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = log_prob(Sampling(seed=1)(inputs))
    reparameterised = np.concatenate([g.numpy()[0] for g in tape.gradient(value, inputs)], axis=1)

    # d/d theta E_q[f] = E_q[f d/d theta log q]; a constant taken from f lowers the variance.
    z = Sampling(seed=2)(inputs)
    f = np.array(log_prob(z))[0] - float(log_prob(mean[None, None])[0, 0])
    distance = (np.array(z)[0] - mean) / np.exp(log_var / 2)
    score = np.concatenate([distance / np.exp(log_var / 2), (distance**2 - 1) / 2], axis=1)
    assert within(reparameterised - f[:, None] * score, 0.0)
    # And neither is so noisy that anything would agree.
    assert np.all(np.abs(reparameterised.mean(axis=0)) > 0.05)


# The importance-weighted bound


def test_the_importance_weighted_bound_grows_with_the_number_of_draws():
    # Exactly so (Jensen) for a set of draws against the mean over its parts.
    truth = ppca()
    x = truth.draw(30, seed=1)
    vae = linear_vae(truth, linear_encoder(truth, shift=0.3, widening=2.0))
    noise, bounds = np.random.default_rng(5).normal(size=(16, 2)), []
    for n_draws in (1, 2, 4, 8, 16):
        own, parts = scorer(vae, "importance_weighted", n_draws), []
        for part in noise.reshape(-1, n_draws, 2):
            own.noise.assign(part)
            parts.append(scores(own, x))
        bounds.append(np.mean(parts, axis=0))
    growth = np.diff(bounds, axis=0)
    assert np.all(growth > -1e-5)
    assert np.all(growth.mean(axis=1) > 0.01)


def test_with_many_draws_the_importance_weighted_bound_is_log_p_of_x():
    truth = ppca()
    x = truth.draw(30, seed=1)
    vae = linear_vae(truth, linear_encoder(truth, shift=0.3, widening=2.0))
    ours = scores(scorer(vae, "importance_weighted", 4096), x)
    np.testing.assert_allclose(ours, [truth.log_prob(row) for row in x], atol=0.02)


def test_the_importance_weighted_bound_is_never_under_the_evidence_bound():
    encoder = dense_encoder(6, (8,), 3, column_widths=[1] * 6, seed=0)
    likelihood = Gaussian(6)
    decoder = dense_decoder(3, (8,), likelihood.n_outputs, seed=1)
    vae = VAE(encoder, decoder, likelihood)
    x = np.random.default_rng(0).normal(size=(50, 6))
    weighted, evidence = (scorer(vae, name, 8) for name in ("importance_weighted", "elbo"))
    differences = []
    for seed in range(12):
        for bound in (weighted, evidence):
            bound.noise.assign(scorer(vae, "elbo", 8, seed).noise)
        differences.append(scores(weighted, x) - scores(evidence, x))
    assert np.all(np.mean(differences, axis=0) > 0)


# Missing cells


def rows_with_missing_cells(truth):
    """One row per number of missing cells, from none to all of them."""
    x = truth.draw(7, seed=1)
    rng = np.random.default_rng(2)
    for n_missing, row in enumerate(x):
        row[rng.permutation(6)[:n_missing]] = np.nan
    return x


@pytest.mark.parametrize("n_draws", [1, 7])
def test_the_likelihood_of_incomplete_rows_is_the_marginal_of_their_cells(n_draws):
    truth = blocks()
    x = rows_with_missing_cells(truth)
    vae = linear_vae(truth, masked_encoder(truth))
    expected = [truth.log_prob(row) for row in x]
    np.testing.assert_allclose(
        scores(scorer(vae, "importance_weighted", n_draws), x), expected, **EXACT
    )


def test_the_bound_of_incomplete_rows_is_the_marginal_of_their_cells():
    truth = blocks()
    x = rows_with_missing_cells(truth)
    vae = linear_vae(truth, masked_encoder(truth))
    expected = [truth.log_prob(row) for row in x]
    np.testing.assert_allclose(scores(scorer(vae, "elbo", 4096), x), expected, atol=0.01)


def test_the_reconstruction_probability_of_incomplete_rows_is_that_of_their_cells():
    truth = blocks()
    x = rows_with_missing_cells(truth)
    vae = linear_vae(truth, masked_encoder(truth))
    expected = [truth.expected_log_prob(row, *truth.posterior(row))[0] for row in x]
    ours = scores(scorer(vae, "reconstruction_probability", 4096), x)
    np.testing.assert_allclose(ours, expected, atol=0.01)
