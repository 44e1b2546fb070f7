"""VAE and Autoencoder as Keras models: one behaviour per test."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from vae_anomaly.vae.builders import build_table_model
from vae_anomaly.vae.likelihoods import Bernoulli, Categorical, Gaussian, Mixed
from vae_anomaly.vae.models import VAE, Autoencoder
from vae_anomaly.vae.networks import dense_decoder, dense_encoder

# Keras' own np.array(variable) while saving, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def make_vae(*, hidden_units=(4,), column_widths=None, dtype=None, encoder=None, **options):
    likelihood = Gaussian(3)
    if encoder is None:
        encoder = dense_encoder(
            3,
            hidden_units,
            2,
            activation="tanh",
            column_widths=column_widths,
            hidden_share=0.0,
            seed=0,
            dtype=dtype,
        )
    decoder = dense_decoder(2, hidden_units, 6, activation="tanh", seed=1, dtype=dtype)
    return VAE(encoder, decoder, likelihood, dtype=dtype, **{"seed": 2, **options})


def make_autoencoder(hidden_units=(4,), **options):
    encoder = dense_encoder(3, hidden_units, 2, activation="tanh", variational=False, seed=0)
    return Autoencoder(encoder, dense_decoder(2, hidden_units, 3, seed=1), **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def fit(model, x, optimizer=None, *, epochs=1, batch_size=64, run_eagerly=True, **options):
    """Train by plain gradient descent, in the order of the rows; return the history."""
    model.compile(optimizer or keras.optimizers.SGD(0.1), run_eagerly=run_eagerly)
    return model.fit(
        x, epochs=epochs, batch_size=batch_size, shuffle=False, verbose=0, **options
    ).history


def assert_equal_weights(ours, theirs, **tolerance):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-7, **tolerance})


def reload(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


# The evidence lower bound


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_terms_of_the_bound_add_up(beta):
    terms = make_vae(beta=beta).elbo(noise(7, 3))
    assert {name: tuple(term.shape) for name, term in terms.items()} == dict.fromkeys(
        ("elbo", "log_prob", "kl"), (7,)
    )
    np.testing.assert_allclose(terms["elbo"], terms["log_prob"] - beta * terms["kl"], rtol=1e-6)


def test_the_divergence_of_the_bound_is_that_of_the_encoder():
    vae, x = make_vae(), noise(7, 3)
    mean, log_var = (np.array(part, "float64") for part in vae.encode(x))
    expected = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(axis=1)
    np.testing.assert_allclose(vae.elbo(x)["kl"], expected, rtol=1e-5)


def test_the_bound_draws_anew_at_each_call():
    vae, x = make_vae(), noise(7, 3)
    assert np.all(vae.elbo(x)["log_prob"] != vae.elbo(x)["log_prob"])


def test_the_same_seed_gives_the_same_bound():
    x = noise(7, 3)
    np.testing.assert_array_equal(make_vae().elbo(x)["elbo"], make_vae().elbo(x)["elbo"])


def test_more_draws_make_the_bound_steadier():
    x = np.repeat(noise(1, 3), 500, axis=0)
    one, many = (np.array(make_vae(n_draws=k).elbo(x)["log_prob"]) for k in (1, 25))
    assert one.std() / many.std() == pytest.approx(5.0, rel=0.3)


def test_cells_not_observed_have_no_log_probability():
    vae, x = make_vae(column_widths=[1, 1, 1]), noise(4, 3)
    observed = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], "float32")
    log_prob = np.array(vae.feature_log_prob((x, observed), noise(4, 5, 2)))
    assert log_prob.shape == (4, 5, 3)
    np.testing.assert_array_equal(log_prob != 0, np.repeat(observed[:, None] == 1, 5, axis=1))


def test_a_row_without_any_cell_is_worth_nothing():
    vae = make_vae(column_widths=[1, 1, 1])
    terms = vae.elbo((np.zeros((2, 3), "float32"), np.zeros((2, 3), "float32")))
    assert not np.any(terms["log_prob"])


def test_float64_rows_give_the_same_bound():
    x = noise(7, 3)
    np.testing.assert_array_equal(
        make_vae().elbo(x.astype("float64"))["elbo"], make_vae().elbo(x)["elbo"]
    )


# Training


def test_training_and_validation_track_every_term():
    history = fit(make_vae(), noise(20, 3), validation_data=(noise(8, 3, seed=1),))
    assert set(history) == {"loss", "log_prob", "kl", "val_loss", "val_log_prob", "val_kl"}
    for prefix in ("", "val_"):
        terms = {name: history[prefix + name][0] for name in ("loss", "log_prob", "kl")}
        assert terms["loss"] == pytest.approx(terms["kl"] - terms["log_prob"], rel=1e-5)


def test_training_lowers_the_loss():
    x, adam = np.tile(noise(64, 3) * 0.1, (20, 1)), keras.optimizers.Adam(0.05)
    loss = fit(make_vae(), x, adam, epochs=2, run_eagerly=False)["loss"]
    assert loss[1] < loss[0] - 1.0


def test_training_changes_every_weight():
    vae = make_vae()
    before = [weight.numpy() for weight in vae.trainable_weights]
    fit(vae, noise(64, 3))
    assert all(np.any(a != b) for a, b in zip(before, vae.trainable_weights, strict=True))


def test_the_same_seed_trains_the_same_model():
    ours, theirs = make_vae(), make_vae()
    for vae in (ours, theirs):
        fit(vae, noise(64, 3), epochs=2, batch_size=32)
    assert_equal_weights(ours, theirs, rtol=0, atol=0)


def test_early_stopping_watches_the_validation_loss():
    stopping = keras.callbacks.EarlyStopping("val_loss", min_delta=1e6, patience=1)
    history = fit(
        make_vae(),
        noise(20, 3),
        epochs=10,
        validation_data=(noise(8, 3, seed=1),),
        callbacks=[stopping],
    )
    assert len(history["loss"]) == 2


def test_a_target_is_ignored():
    ours, theirs, x = make_vae(), make_vae(), noise(20, 3)
    fit(ours, x)
    fit(theirs, x, y=np.ones(20))
    assert_equal_weights(ours, theirs)


def test_a_dataset_trains_like_its_arrays():
    ours, theirs, x = make_vae(), make_vae(), noise(20, 3)
    fit(ours, x, batch_size=10)
    fit(theirs, tf.data.Dataset.from_tensor_slices(x).batch(10), batch_size=None)
    assert_equal_weights(ours, theirs)


def test_a_missing_cell_does_not_train():
    ours, theirs = make_vae(column_widths=[1, 1, 1]), make_vae(column_widths=[1, 1, 1])
    x, observed = noise(20, 3), np.ones((20, 3), "float32")
    observed[:10, 1] = 0
    other = np.where(observed == 1, x, 99.0).astype("float32")
    fit(ours, (x, observed))
    fit(theirs, (other, observed))
    assert_equal_weights(ours, theirs)


def test_a_vae_trains_on_several_draws():
    assert np.isfinite(fit(make_vae(n_draws=4), noise(20, 3))["loss"]).all()


def test_with_beta_zero_the_divergence_does_not_train():
    history = fit(make_vae(beta=0.0), noise(20, 3))
    assert history["loss"][0] == pytest.approx(-history["log_prob"][0])
    assert history["kl"][0] > 0


def test_a_batch_of_one_row_trains():
    assert np.isfinite(fit(make_vae(), noise(5, 3), batch_size=4)["loss"]).all()


# Warm-up of the divergence


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_the_weight_of_the_divergence_grows_to_beta_over_the_warm_up(dtype):
    vae = make_vae(kl_warmup_steps=4, beta=2.0, dtype=dtype)
    history = fit(vae, noise(32, 3), epochs=6, run_eagerly=False)
    loss, log_prob, kl = (np.array(history[name]) for name in ("loss", "log_prob", "kl"))
    expected = [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    np.testing.assert_allclose((loss + log_prob) / kl, expected, rtol=1e-3)


def test_validation_always_uses_the_whole_beta():
    vae = make_vae(kl_warmup_steps=100, beta=2.0)
    vae.compile("sgd")
    terms = vae.evaluate(noise(32, 3), verbose=0, return_dict=True)
    assert terms["loss"] == pytest.approx(2.0 * terms["kl"] - terms["log_prob"], rel=1e-5)


# Weights of rows


def test_a_row_of_weight_zero_does_not_train():
    ours, theirs, x = make_vae(), make_vae(), noise(20, 3)
    weight = np.repeat([1.0, 0.0], 10)
    fit(ours, x, sample_weight=weight)
    fit(theirs, np.where(weight[:, None] == 1, x, -x), sample_weight=weight)
    assert_equal_weights(ours, theirs)


def test_weights_of_one_change_nothing():
    ours, theirs, x = make_vae(), make_vae(), noise(20, 3)
    fit(ours, x)
    fit(theirs, x, sample_weight=np.ones(20))
    assert_equal_weights(ours, theirs)


def test_a_weight_multiplies_the_row_in_the_mean_over_the_batch():
    # Keras' "sum_over_batch_size": the divisor is the number of rows, not the sum of weights.
    ours, theirs, x = make_vae(), make_vae(), noise(20, 3)
    fit(ours, x, keras.optimizers.SGD(0.1), sample_weight=np.full(20, 0.5))
    fit(theirs, x, keras.optimizers.SGD(0.05))
    assert_equal_weights(ours, theirs)


def test_weights_in_a_column_mean_the_same():
    ours, theirs, x = make_vae(), make_vae(), noise(20, 3)
    weight = np.random.default_rng(1).uniform(size=20)
    for vae, own in ((ours, weight), (theirs, weight[:, None])):
        vae.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        vae.train_on_batch(x, sample_weight=own)
    assert_equal_weights(ours, theirs)


def test_the_rows_of_the_validation_data_can_be_weighted():
    x, weight = noise(20, 3), np.arange(20.0)
    model = make_autoencoder()
    history = fit(model, x, validation_data=(x, None, weight))
    errors = np.sum(model.squared_error(x), axis=1)
    assert history["val_loss"][0] == pytest.approx(np.average(errors, weights=weight), rel=1e-5)


def test_metrics_are_means_weighted_by_row():
    model, x, weight = make_autoencoder(), noise(20, 3), np.arange(20.0)
    model.compile("sgd")
    errors = np.sum(model.squared_error(x), axis=1)
    loss = model.evaluate(x, sample_weight=weight, batch_size=7, verbose=0, return_dict=True)
    assert loss["loss"] == pytest.approx(np.average(errors, weights=weight), rel=1e-5)


# Metrics


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_the_last_partial_batch_counts_by_its_rows(run_eagerly):
    model, x = make_autoencoder(), noise(10, 3) * np.arange(1, 11)[:, None]
    errors = np.sum(model.squared_error(x), axis=1)
    sgd = keras.optimizers.SGD(0.0)
    loss = fit(model, x, sgd, batch_size=4, run_eagerly=run_eagerly)["loss"]
    assert loss[0] == pytest.approx(errors.mean(), rel=1e-5)


def test_metrics_start_afresh_in_each_epoch():
    ours, theirs, x = make_autoencoder(), make_autoencoder(), noise(20, 3) * 5
    loss = fit(ours, x, keras.optimizers.SGD(0.01), epochs=2)["loss"]
    fit(theirs, x, keras.optimizers.SGD(0.01))
    assert loss[1] == pytest.approx(np.mean(np.sum(theirs.squared_error(x), axis=1)), rel=1e-5)
    assert loss[1] < 0.99 * loss[0]


# Penalties


def regularised_encoder(**options):
    x = keras.Input((3,))
    layers = [
        keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed=seed), **own)
        for seed, own in ((0, options), (1, {}))
    ]
    return keras.Model(x, [layer(x) for layer in layers])


def test_a_weight_penalty_is_added_to_the_gradient():
    # The gradient of 0.1 * w^2 is 0.2 * w.
    plain, penalised = (
        make_vae(encoder=regularised_encoder(kernel_regularizer=regularizer))
        for regularizer in (None, keras.regularizers.L2(0.1))
    )
    kernel = plain.encoder.get_weights()[0]
    for vae in (plain, penalised):
        fit(vae, noise(20, 3))
    difference = plain.encoder.get_weights()[0] - penalised.encoder.get_weights()[0]
    np.testing.assert_allclose(difference, 0.1 * 0.2 * kernel, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "val_"])
def test_a_weight_penalty_is_part_of_the_loss_shown(prefix):
    vae, x = make_vae(encoder=regularised_encoder(kernel_regularizer="l2")), noise(20, 3)
    penalty = 0.01 * np.sum(vae.encoder.get_weights()[0] ** 2)
    history = fit(vae, x, keras.optimizers.SGD(0.0), validation_data=(x,))
    loss, log_prob, kl = (history[prefix + name][0] for name in ("loss", "log_prob", "kl"))
    assert loss == pytest.approx(kl - log_prob + penalty, rel=1e-5)


@pytest.mark.slow
def test_an_activity_penalty_is_that_of_the_batch_alone():
    vae = make_vae(encoder=regularised_encoder(activity_regularizer=keras.regularizers.L2(1.0)))
    x = noise(20, 3)
    penalty = np.sum(np.square(vae.encode(x)[0])) / 20  # Keras averages it over the batch.
    for run_eagerly in (False, True, True):
        history = fit(vae, x, keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
        terms = {name: values[0] for name, values in history.items()}
        assert terms["loss"] == pytest.approx(terms["kl"] - terms["log_prob"] + penalty, rel=1e-4)


# Precision


def test_mixed_precision_scales_the_loss():
    vae = make_vae(dtype="mixed_float16")
    vae.compile("adam")
    assert isinstance(vae.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.slow
def test_mixed_precision_trains_and_keeps_float32_variables():
    vae = make_vae(dtype="mixed_float16")
    x, adam = np.tile(noise(64, 3) * 0.1, (20, 1)), keras.optimizers.Adam(0.05)
    loss = fit(vae, x, adam, epochs=2, run_eagerly=False)["loss"]
    assert np.isfinite(loss).all()
    assert loss[1] < loss[0] - 1.0
    assert {weight.dtype for weight in vae.weights} == {"float32"}


def test_mixed_precision_follows_full_precision():
    ours, theirs = make_vae(), make_vae(dtype="mixed_float16")
    for vae in (ours, theirs):
        fit(vae, noise(64, 3), epochs=3)
    assert_equal_weights(ours, theirs, rtol=0, atol=0.01)


def test_reconstructions_are_float32_whatever_the_precision():
    vae = make_vae(dtype="mixed_float16")
    assert vae.predict(noise(7, 3), verbose=0).dtype == np.float32


# Output


def test_encoding_and_decoding_have_the_shapes_promised():
    vae, x = make_vae(), noise(7, 3)
    assert [tuple(part.shape) for part in vae.encode(x)] == [(7, 2), (7, 2)]
    assert vae.latent_mean(x).shape == (7, 2)
    assert vae.decode(noise(5, 2)).shape == (5, 3)
    assert vae.reconstruct(x).shape == vae.squared_error(x).shape == (7, 3)


def test_a_reconstruction_decodes_the_latent_mean():
    vae, x = make_vae(), noise(7, 3)
    np.testing.assert_array_equal(vae.reconstruct(x), vae.decode(vae.encode(x)[0]))
    np.testing.assert_allclose(vae.squared_error(x), (x - vae.reconstruct(x)) ** 2, rtol=1e-5)


def test_prediction_is_the_reconstruction_and_draws_nothing():
    vae, x = make_vae(), noise(7, 3)
    state = vae.sampling.seed_generator.state.numpy()
    first, second = (vae.predict(x, verbose=0) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, vae.reconstruct(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(vae.sampling.seed_generator.state.numpy(), state)


def test_the_squared_error_of_a_missing_cell_is_zero():
    vae = make_vae(column_widths=[1, 1, 1])
    observed = np.array([[1.0, 0.0, 1.0]], "float32")
    error = np.array(vae.squared_error((noise(1, 3), observed)))
    np.testing.assert_array_equal(error > 0, observed == 1)


def test_new_rows_are_reproducible_by_their_seed():
    vae = make_vae()
    first, second, other = (np.array(vae.sample(6, seed=seed)) for seed in (1, 1, 2))
    assert first.shape == (6, 3)
    np.testing.assert_array_equal(first, second)
    assert np.all(first != other)


def test_without_a_seed_new_rows_differ_at_each_call():
    vae = make_vae()
    assert np.all(vae.sample(6) != vae.sample(6))


def test_new_rows_of_a_linear_decoder_have_its_covariance():
    # x = W z + noise of variance 0.5, so its covariance is W W' + 0.5 I: z and the noise must
    # not share their random numbers, though they have the same shape.
    n, loadings = 40_000, np.array([[1.0, -2.0], [0.5, 1.0]])
    decoder = dense_decoder(2, (), 2, seed=0)
    decoder.set_weights([loadings.T, np.array([3.0, 0.0])])
    vae = VAE(dense_encoder(2, (), 2, seed=0), decoder, Gaussian(2, variance=0.5))
    x = np.array(vae.sample(n, seed=0))
    covariance = loadings @ loadings.T + 0.5 * np.eye(2)
    largest = covariance.max()
    np.testing.assert_allclose(x.mean(axis=0), [3.0, 0.0], atol=4 * np.sqrt(largest / n))
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=4 * largest * np.sqrt(2 / n))


# Config, saving and loading


def test_every_argument_of_a_vae_survives_a_config_round_trip():
    vae = make_vae(n_draws=3, beta=0.5, kl_warmup_steps=7, seed=11, name="mine")
    config = json.loads(json.dumps(vae.get_config()))
    copy = VAE.from_config(json.loads(json.dumps(config)))  # Keras empties the one it is given.
    assert json.loads(json.dumps(copy.get_config())) == config
    assert (copy.n_draws, copy.beta, copy.kl_warmup_steps, copy.seed, copy.name) == (
        3,
        0.5,
        7,
        11,
        "mine",
    )


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_vae, id="VAE"),
        pytest.param(
            lambda: make_vae(dtype="mixed_float16"), id="VAE-mixed_float16", marks=pytest.mark.slow
        ),
        pytest.param(make_autoencoder, id="Autoencoder", marks=pytest.mark.slow),
    ],
)
class TestSaving:
    def test_a_loaded_model_reconstructs_bit_for_bit(self, make, tmp_path):
        model, x = make(), noise(7, 3)
        fit(model, x)
        loaded = reload(model, tmp_path)
        np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
        assert_equal_weights(loaded, model, rtol=0, atol=0)

    def test_a_loaded_model_has_the_same_config(self, make, tmp_path):
        model = make()
        assert json.dumps(reload(model, tmp_path).get_config()) == json.dumps(model.get_config())

    def test_a_loaded_model_goes_on_training(self, make, tmp_path):
        model, x = make(), noise(7, 3)
        fit(model, x, keras.optimizers.Adam(0.05), epochs=3)
        loaded = reload(model, tmp_path)
        assert loaded.optimizer.get_config() == model.optimizer.get_config()
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 3
        assert np.isfinite(loaded.fit(x, verbose=0).history["loss"]).all()


def test_a_loaded_vae_with_a_mask_reconstructs_bit_for_bit(tmp_path):
    vae = make_vae(column_widths=[1, 1, 1])
    inputs = (noise(7, 3), np.ones((7, 3), "float32"))
    loaded = reload(vae, tmp_path)
    np.testing.assert_array_equal(loaded.reconstruct(inputs), vae.reconstruct(inputs))


def test_a_loaded_vae_of_mixed_columns_gives_the_same_log_probabilities(tmp_path):
    likelihood = Mixed([Gaussian(2), Bernoulli(1), Categorical(3)])
    likelihood.set_weights([np.array([-0.5, 0.7])])
    decoder = dense_decoder(2, (), likelihood.n_outputs, seed=1)
    vae, x = VAE(dense_encoder(6, (), 2, seed=0), decoder, likelihood), noise(7, 6)
    loaded, z = reload(vae, tmp_path), noise(7, 4, 2)
    np.testing.assert_array_equal(loaded.feature_log_prob(x, z), vae.feature_log_prob(x, z))


# Errors


@pytest.mark.parametrize("make", [make_vae, make_autoencoder])
@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", "mse"), ("metrics", ["mae"]), ("weighted_metrics", ["mae"]), ("loss_weights", [1.0])],
)
def test_a_loss_or_metrics_of_ones_own_are_refused(make, name, value):
    with pytest.raises(ValueError, match=rf"computes its own loss and metrics. Received: {name}="):
        make().compile("adam", **{name: value})


def test_a_decoder_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"likelihood.n_outputs=6 outputs. Received: 3 outputs"):
        VAE(dense_encoder(3, (), 2), dense_decoder(2, (), 3), Gaussian(3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_draws", 0),
        ("n_draws", 1.5),
        ("beta", -1.0),
        ("beta", float("nan")),
        ("kl_warmup_steps", -1),
        ("seed", -1),
        ("seed", "a"),
    ],
)
def test_an_impossible_option_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"Expected `{name}` .* Received: {name}="):
        make_vae(**{name: value})


# Autoencoder


@pytest.mark.slow
def test_an_autoencoder_minimises_the_squared_error():
    model, x = make_autoencoder(), noise(64, 3)
    model.compile("sgd")
    expected = np.mean(np.sum((x - model.reconstruct(x)) ** 2, axis=1))
    assert model.evaluate(x, verbose=0, return_dict=True)["loss"] == pytest.approx(expected)
    adam = keras.optimizers.Adam(0.05)
    loss = fit(model, np.tile(x, (20, 1)), adam, epochs=2, run_eagerly=False)["loss"]
    assert loss[1] < 0.7 * loss[0]


@pytest.mark.slow
def test_a_linear_autoencoder_finds_the_principal_subspace():
    # Its least error per row is the variance outside the two leading principal components.
    x = noise(200, 3) * np.array([3.0, 1.0, 0.3], "float32")
    x -= x.mean(axis=0)
    model = make_autoencoder(hidden_units=())
    adam = keras.optimizers.Adam(0.02)
    fit(model, np.tile(x, (200, 1)), adam, batch_size=200, run_eagerly=False)
    error = np.mean(np.sum(model.squared_error(x), axis=1))
    assert error == pytest.approx(np.linalg.eigvalsh(np.cov(x.T, bias=True))[0], rel=0.02)


def test_an_autoencoder_tracks_its_loss_only():
    history = fit(make_autoencoder(), noise(20, 3), validation_data=(noise(8, 3),))
    assert set(history) == {"loss", "val_loss"}


def test_an_autoencoder_draws_no_random_numbers():
    model = make_autoencoder()
    x = noise(20, 3)
    np.testing.assert_array_equal(
        model.squared_error(x, training=True), model.squared_error(x, training=True)
    )
    assert not any("seed" in variable.path for variable in model.variables)


def test_an_autoencoder_encodes_to_a_single_tensor():
    model, x = make_autoencoder(), noise(7, 3)
    assert model.encode(x).shape == (7, 2)
    np.testing.assert_array_equal(model.latent_mean(x), model.encode(x))


def test_the_autoencoders_likelihood_makes_its_reconstruction():
    model = make_autoencoder(likelihood=Bernoulli(3))
    assert np.all(
        (np.array(model.reconstruct(noise(7, 3))) > 0) & (np.array(model(noise(7, 3))) < 1)
    )


# Tables


@pytest.mark.parametrize("variational", [True, False])
@pytest.mark.parametrize(
    ("widths", "n_numeric", "n_boolean", "kind"),
    [
        ([1, 1, 1], 3, 0, Gaussian),
        ([1, 1], 0, 2, Bernoulli),
        ([4], 0, 0, Categorical),
        ([1, 1, 1, 4, 3], 2, 1, Mixed),
    ],
    ids=["numeric", "boolean", "categorical", "mixed"],
)
def test_a_table_of_any_kinds_gets_a_model(widths, n_numeric, n_boolean, kind, variational):
    model = build_table_model(
        widths,
        n_numeric,
        n_boolean,
        resolution=[0.0] * n_numeric,
        variational=variational,
        hidden_units=(4,),
        latent_dim=2,
        seed=0,
    )
    assert isinstance(model, VAE if variational else Autoencoder)
    assert isinstance(model.likelihood, kind)
    x, observed = np.zeros((7, sum(widths)), "float32"), np.ones((7, len(widths)), "float32")
    assert model.squared_error((x, observed)).shape == (7, len(widths))
    assert np.isfinite(fit(model, (x, observed))["loss"]).all()


def test_a_table_model_takes_the_options_of_the_vae():
    model = build_table_model(
        [1],
        1,
        0,
        resolution=[0.0],
        variational=True,
        hidden_units=(),
        latent_dim=1,
        variance="shared",
        n_draws=3,
        beta=0.5,
        kl_warmup_steps=9,
    )
    assert (model.n_draws, model.beta, model.kl_warmup_steps) == (3, 0.5, 9)
    assert model.likelihood.variance == "shared"


def test_the_variance_of_a_rounded_column_has_the_floor_of_its_rounding():
    # Rounding to steps of h adds a variance of h^2 / 12.
    model = build_table_model(
        [1, 1],
        2,
        0,
        resolution=[0.0, 1.0],
        variational=True,
        hidden_units=(),
        latent_dim=1,
        variance="column",
    )
    model.likelihood.raw_log_var.assign([-1e6, -1e6])
    floors = np.exp(ops.convert_to_numpy(model.likelihood.log_var(None)))
    assert floors[1] == pytest.approx(1 / 12, rel=1e-5)
    assert floors[0] < floors[1] / 10


def test_equal_seeds_build_equal_table_models():
    options = {"resolution": [0.0], "variational": True, "hidden_units": (4,), "latent_dim": 2}
    ours, theirs = (build_table_model([1], 1, 0, seed=3, **options) for _ in range(2))
    assert_equal_weights(ours, theirs, rtol=0, atol=0)
    inputs = (noise(7, 1), np.ones((7, 1), "float32"))
    np.testing.assert_array_equal(ours.elbo(inputs)["elbo"], theirs.elbo(inputs)["elbo"])


@pytest.mark.parametrize("is_table", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_model_is_exported_whether_it_was_called_or_not(tmp_path, is_table):
    model = make_vae(column_widths=(1, 1, 1) if is_table else None)
    inputs = [noise(5, 3), np.ones((5, 3), "float32")] if is_table else noise(5, 3)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(inputs), model.reconstruct(inputs), atol=1e-6)
    names = served.signatures["serving_default"].structured_input_signature[1]
    assert set(names) == ({"x", "observed"} if is_table else {"x"})
