"""The builders of networks: what they build, refuse and leave alone."""

import random
import shutil

import keras
import numpy as np
import pytest
from keras.src.random.seed_generator import global_seed_generator

from vae_anomaly.vae.likelihoods import Gaussian
from vae_anomaly.vae.models import VAE
from vae_anomaly.vae.networks import (
    LOG_VAR_LIMIT,
    conv_decoder,
    conv_encoder,
    default_filters,
    dense_decoder,
    dense_encoder,
)

TUTORIAL = (5, 5, 4)


def tutorial_vae():
    """Six inputs, hidden layers of 5, 5 and 4 units and two latent dimensions."""
    likelihood = Gaussian(6)
    encoder = dense_encoder(6, TUTORIAL, 2, activation="tanh", seed=0)
    decoder = dense_decoder(2, TUTORIAL, likelihood.n_outputs, activation="tanh", seed=1)
    return VAE(encoder, decoder, likelihood, seed=2)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def units(model):
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def test_the_tutorial_network_has_the_layers_of_the_tutorial():
    vae = tutorial_vae()
    assert units(vae.encoder) == [5, 5, 4, 2, 2]
    assert units(vae.decoder) == [4, 5, 5, 12]


@pytest.mark.slow
def test_the_tutorial_network_learns():
    # Six copies of one number: worth about 8.5 nats to a network that has learned nothing.
    vae, x = tutorial_vae(), np.tile(noise(64, 1), (50, 6))
    vae.compile(keras.optimizers.Adam(0.02), steps_per_execution=50)
    loss = vae.fit(x, epochs=3, batch_size=64, shuffle=False, verbose=0).history["loss"]
    assert loss[-1] < 4.0


def test_the_tutorial_network_has_a_diagram():
    vae = tutorial_vae()
    for model in (vae.encoder, vae.decoder, vae):
        dot = keras.utils.model_to_dot(model, show_shapes=True, show_layer_names=True)
        assert len(dot.get_nodes()) >= 1
    names = keras.utils.model_to_dot(vae.encoder, show_layer_names=True).to_string()
    assert all(name in names for name in ("hidden_0", "hidden_1", "hidden_2", "z_mean"))


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz: no `dot` on the PATH")
@pytest.mark.parametrize("part", ["encoder", "decoder", "vae"])
def test_the_tutorial_network_can_be_plotted(part, tmp_path):
    vae = tutorial_vae()
    model = {"encoder": vae.encoder, "decoder": vae.decoder, "vae": vae}[part]
    keras.utils.plot_model(model, tmp_path / "model.png", show_shapes=True)
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("hidden_units", [(), (3,), (8, 4), (6, 5, 4, 3, 2, 2)])
def test_networks_of_any_depth_can_be_built(hidden_units):
    z_mean, z_log_var = dense_encoder(5, hidden_units, 2, seed=0)(noise(7, 5))
    assert z_mean.shape == z_log_var.shape == (7, 2)
    assert dense_decoder(2, hidden_units, 5, seed=0)(z_mean).shape == (7, 5)


def test_without_hidden_layers_the_encoder_is_linear():
    encoder, x = dense_encoder(5, (), 2, seed=0), noise(7, 5)
    kernel, bias = encoder.get_layer("z_mean").get_weights()
    np.testing.assert_allclose(encoder(x)[0], x @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_without_hidden_layers_the_decoder_is_linear():
    decoder, z = dense_decoder(2, (), 5, seed=0), noise(7, 2)
    kernel, bias = decoder.get_weights()
    np.testing.assert_allclose(decoder(z), z @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_the_latent_space_may_be_wider_than_the_input():
    z_mean, _ = dense_encoder(3, (4,), 10, seed=0)(noise(7, 3))
    assert z_mean.shape == (7, 10)
    assert dense_decoder(10, (4,), 3, seed=0)(z_mean).shape == (7, 3)


def test_the_encoder_of_an_autoencoder_has_one_output():
    encoder = dense_encoder(5, (4,), 2, variational=False, seed=0)
    assert encoder(noise(7, 5)).shape == (7, 2)


def test_the_log_variance_is_bounded_for_extreme_inputs():
    _, z_log_var = dense_encoder(2, (), 3, seed=0)(np.array([[1e30, -1e30], [-1e30, 1e30]]))
    assert np.all(np.abs(z_log_var) <= LOG_VAR_LIMIT)


def test_an_activation_is_that_of_the_hidden_layers_only():
    encoder = dense_encoder(5, (4,), 2, activation="tanh", seed=0)
    assert encoder.get_layer("hidden_0").activation is keras.activations.tanh
    assert encoder.get_layer("z_mean").activation is keras.activations.linear


@pytest.mark.parametrize(
    "build",
    [
        lambda seed: dense_encoder(5, (4, 3), 2, seed=seed),
        lambda seed: dense_encoder(5, (4, 3), 2, variational=False, seed=seed),
        lambda seed: dense_decoder(2, (4, 3), 5, seed=seed),
    ],
    ids=["encoder", "autoencoder", "decoder"],
)
class TestSeeds:
    def test_the_same_seed_gives_the_same_weights(self, build):
        for ours, theirs in zip(build(1).get_weights(), build(1).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    @pytest.mark.parametrize("other", [2, None])
    def test_another_seed_gives_other_weights(self, build, other):
        pairs = zip(build(1).get_weights(), build(other).get_weights(), strict=True)
        assert not any(np.array_equal(*pair) for pair in pairs if pair[0].ndim == 2)

    def test_layers_of_one_network_start_differently(self, build):
        starts = [weight.ravel()[0] for weight in build(1).get_weights() if weight.ndim == 2]
        assert len(set(starts)) == len(starts)

    def test_global_random_states_are_left_alone(self, build):
        def states():
            keras_state = global_seed_generator().state.numpy().tolist()
            return str(np.random.get_state()), random.getstate(), keras_state  # noqa: NPY002

        before = states()
        build(1)
        build(None)
        assert states() == before


# Missing cells


def test_an_encoder_of_a_table_takes_the_mask_as_well():
    encoder = dense_encoder(4, (3,), 2, column_widths=[1, 3], seed=0)
    z_mean, z_log_var = encoder([noise(7, 4), np.ones((7, 2), "float32")])
    assert z_mean.shape == z_log_var.shape == (7, 2)


def test_the_value_of_a_missing_cell_does_not_reach_the_latent_space():
    encoder = dense_encoder(4, (3,), 2, column_widths=[1, 3], seed=0)
    x, observed = noise(1, 4), np.array([[1.0, 0.0]], "float32")
    other = np.concatenate([x[:, :1], noise(1, 3, seed=1)], axis=1)
    np.testing.assert_array_equal(encoder([x, observed])[0], encoder([other, observed])[0])


def test_a_missing_cell_is_not_the_same_as_a_zero():
    encoder, x = dense_encoder(2, (), 2, column_widths=[1, 1], seed=0), np.zeros((1, 2), "float32")
    observed = np.array([[1.0, 0.0]], "float32")
    assert np.all(encoder([x, np.ones((1, 2))])[0] != encoder([x, observed])[0])


def test_cells_are_hidden_from_the_encoder_in_training_only():
    encoder = dense_encoder(2, (), 2, column_widths=[1, 1], hidden_share=0.5, seed=0)
    inputs = [noise(50, 2), np.ones((50, 2), "float32")]
    still = np.array(encoder(inputs)[0])
    np.testing.assert_array_equal(encoder(inputs)[0], still)
    assert np.any(encoder(inputs, training=True)[0] != still)


# Precision


def test_the_hidden_layers_have_the_precision_asked_for():
    for model in (
        dense_encoder(5, (4,), 2, dtype="mixed_float16", seed=0),
        dense_decoder(2, (4,), 5, dtype="mixed_float16", seed=0),
    ):
        assert model.get_layer("hidden_0").compute_dtype == "float16"
        assert {weight.dtype for weight in model.weights} == {"float32"}


def test_the_outputs_are_float32_whatever_the_precision():
    encoder = dense_encoder(5, (4,), 2, dtype="mixed_float16", seed=0)
    decoder = dense_decoder(2, (4,), 5, dtype="mixed_float16", seed=0)
    outputs = [*encoder(noise(3, 5)), decoder(noise(3, 2))]
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {"float32"}


# Errors


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
@pytest.mark.parametrize("name", ["n_features", "latent_dim"])
def test_an_impossible_size_of_the_encoder_is_refused(name, value):
    sizes = {"n_features": 3, "latent_dim": 2, name: value}
    with pytest.raises(ValueError, match=rf"Expected `{name}` .* Received: {name}="):
        dense_encoder(hidden_units=(4,), **sizes)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
@pytest.mark.parametrize("name", ["latent_dim", "n_outputs"])
def test_an_impossible_size_of_the_decoder_is_refused(name, value):
    sizes = {"latent_dim": 2, "n_outputs": 3, name: value}
    with pytest.raises(ValueError, match=rf"Expected `{name}` .* Received: {name}="):
        dense_decoder(hidden_units=(4,), **sizes)


def test_an_impossible_hidden_layer_is_refused_by_its_place():
    with pytest.raises(ValueError, match=r"Expected `hidden_units\[1\]` .* Received: .*=0"):
        dense_encoder(3, (4, 0), 2)


def test_a_numpy_integer_is_a_size():
    assert dense_encoder(np.int64(3), (np.int32(4),), np.int64(2)).output_shape[0] == (None, 2)


def test_columns_that_do_not_add_up_to_the_features_are_refused():
    with pytest.raises(ValueError, match=r"Expected `column_widths` to add up to n_features=5"):
        dense_encoder(5, (4,), 2, column_widths=[1, 3])


@pytest.mark.parametrize(
    ("shape", "filters", "strides"),
    [
        ((8, 300, 1), None, (2,)),
        ((15, 17, 3), None, (2, 2)),
        ((16, 16, 1), None, (4,)),
        ((17, 40, 2), (3, 5), (4, 2)),
        ((33, 33, 1), None, (4, 2)),
        ((16, 18, 1), (3, 5, 4), (4, 2, 2)),
    ],
)
def test_convolutions_come_back_to_the_size_of_the_image(shape, filters, strides):
    filters = default_filters(shape) if filters is None else filters
    encoder = conv_encoder(shape, filters, (5,), 2)
    decoder = conv_decoder(2, (5,), shape, 2, filters=filters)
    assert tuple(encoder.get_layer(f"conv_{i}").strides[0] for i in range(len(filters))) == strides
    assert decoder(encoder(np.zeros((1, *shape), "float32"))[0]).shape == (1, 2 * np.prod(shape))


@pytest.mark.parametrize(("shape", "most"), [((8, 9, 1), 3), ((16, 16, 1), 3), ((33, 34, 1), 4)])
def test_more_convolutions_than_halve_the_image_to_a_pixel_are_refused(shape, most):
    assert conv_encoder(shape, (2,) * most).get_layer(f"conv_{most - 1}").output.shape[1] <= 2
    for count in (most + 1, 64):
        with pytest.raises(ValueError, match="leave at least a pixel"):
            conv_encoder(shape, (2,) * count)
