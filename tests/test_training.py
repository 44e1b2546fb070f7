"""Training: a budget of steps, early stopping, the best weights, and what is reported."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_anomaly.vae import training
from vae_anomaly.vae.builders import build_table_model
from vae_anomaly.vae.flat_adam import FlatAdam
from vae_anomaly.vae.training import Trainer, _batches, best_step


def tiny_model(variational=False, seed=0):
    return build_table_model(
        [1, 1],
        2,
        0,
        resolution=[0.0, 0.0],
        variational=variational,
        hidden_units=(4,),
        latent_dim=1,
        activation="tanh",
        seed=seed,
    )


def fitted(model, *, n_rows=64, n_validation=16, x=None, **kwargs):
    """Train a model on a line in two dimensions; return the history."""
    if x is None:
        t = np.random.default_rng(0).normal(size=(n_rows, 1))
        x = (t * [1.0, -1.0]).astype("float32")
    is_validation = np.arange(len(x)) < n_validation
    arguments = {
        "max_steps": 8,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "patience": 1000,
        "seed": 0,
    }

    def inputs_of(indices):
        return tf.gather(x, indices), tf.ones_like(tf.gather(x, indices))

    return Trainer(model, inputs_of).train(is_validation, **{**arguments, **kwargs})


def test_every_row_is_used_equally_often():
    rows = np.arange(100, 150)
    batches = _batches(rows, 30, 20, np.random.default_rng(0))
    assert batches.shape == (30, 20)
    assert np.array_equal(np.unique(batches, return_counts=True), [rows, np.full(50, 12)])


def test_each_pass_over_the_rows_has_an_order_of_its_own():
    batches = _batches(np.arange(50), 2, 50, np.random.default_rng(0))
    assert sorted(batches[0]) == sorted(batches[1]) == list(range(50))
    assert (batches[0] != batches[1]).any()


def test_a_batch_has_all_the_rows_where_they_are_fewer():
    batches = _batches(np.array([3, 5]), 4, 256, np.random.default_rng(0))
    assert batches.shape == (4, 2)
    assert set(batches.ravel()) == {3, 5}


def test_the_history_has_a_figure_for_each_look_at_the_loss(monkeypatch):
    monkeypatch.setattr(training, "_N_EVALUATIONS", 4)
    history = fitted(tiny_model(), max_steps=9)
    assert set(history) == {"step", "loss", "val_loss"}
    # Whole rounds of two steps, within the budget.
    assert history["step"] == [2, 4, 6, 8]
    assert len(history["loss"]) == len(history["val_loss"]) == 4
    assert all(type(value) is float for value in history["loss"] + history["val_loss"])


@pytest.fixture(scope="module")
def impatient():
    """The history of a VAE that learns at too small a rate to improve but by chance."""
    model = tiny_model(variational=True)
    return fitted(model, max_steps=40, patience=3, learning_rate=1e-9)


def test_a_vae_reports_its_terms(impatient):
    assert set(impatient) == {
        "step",
        *("loss", "log_prob", "kl"),
        *("val_loss", "val_log_prob", "val_kl"),
    }


def test_training_lowers_the_loss():
    history = fitted(tiny_model(), max_steps=40, learning_rate=0.05)
    assert history["val_loss"][-1] < 0.3 * history["val_loss"][0]


def test_without_rows_to_watch_it_runs_to_the_end_of_the_budget():
    history = fitted(tiny_model(), n_validation=0, max_steps=20, patience=1)
    assert set(history) == {"step", "loss"}
    assert history["step"][-1] == 20


@pytest.mark.slow
def test_rows_to_watch_do_not_train():
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    other = x.copy()
    other[:16] *= 100
    histories = [fitted(tiny_model(), x=rows, max_steps=5) for rows in (x, other)]
    assert histories[0]["loss"] == histories[1]["loss"]
    assert histories[0]["val_loss"] != histories[1]["val_loss"]


def test_it_stops_when_patience_is_over(impatient):
    assert 3 < impatient["step"][-1] < 40


def test_the_best_weights_are_kept():
    # Too large a rate: the loss goes up and down.
    model = tiny_model()
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    history = fitted(model, x=x, max_steps=30, learning_rate=0.3)
    assert history["val_loss"][-1] > min(history["val_loss"])
    watched = x[:16]
    loss = model.evaluate((watched, np.ones_like(watched)), verbose=0)
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-4)


@pytest.mark.slow
def test_the_seed_decides_the_order_of_rows():
    histories = [fitted(tiny_model(), seed=seed)["loss"] for seed in (0, 0, 1)]
    assert histories[0] == histories[1] != histories[2]


@pytest.mark.slow
def test_the_learning_rate_is_that_of_the_first_step_and_decays_to_zero():
    model = tiny_model()
    fitted(model, max_steps=20, learning_rate=0.02)
    schedule = model.optimizer._learning_rate
    assert float(schedule(0)) == pytest.approx(0.02)
    assert float(schedule(10)) == pytest.approx(0.01)
    assert float(schedule(20)) == pytest.approx(0.0, abs=1e-9)


def test_flat_adam_takes_the_steps_of_keras_adam_to_the_last_bit():
    rng = np.random.default_rng(0)
    theirs, ours = (
        [keras.Variable(np.full(shape, 0.5, "float32")) for shape in ((3, 4), (4,), (), (2,))]
        for _ in "ab"
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 5)
    adam, flat = keras.optimizers.Adam(schedule), FlatAdam(schedule)
    for _ in range(3):
        gradients = [rng.normal(size=variable.shape).astype("float32") for variable in ours[:3]]
        adam.apply(gradients, theirs[:3])
        flat.apply([*gradients, None], ours)  # what has no gradient stays
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(other.numpy(), one.numpy())


def test_flat_adam_is_not_for_variables_that_keras_treats_in_another_way():
    layers = [keras.layers.Dense(1), keras.layers.Dense(1, kernel_constraint="non_neg")]
    layers.append(keras.layers.Dense(1, dtype="float64"))
    for layer in layers:
        layer.build((None, 2))
    assert [FlatAdam.suits(layer.trainable_variables) for layer in layers] == [True, False, False]


@pytest.mark.slow
def test_constraints_of_given_networks_hold():
    model = tiny_model()
    layer = next(layer for layer in model.encoder.layers if hasattr(layer, "kernel"))
    layer.kernel.constraint = keras.constraints.NonNeg()
    fitted(model)
    assert (layer.kernel.numpy() >= 0).all()


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_cure():
    with pytest.raises(FloatingPointError, match=r"Received: .* Lower `learning_rate`"):
        fitted(tiny_model(), learning_rate=1e30)


@pytest.mark.slow
def test_progress_goes_to_stderr_and_only_where_it_is_asked_for(capsys):
    fitted(tiny_model())
    assert capsys.readouterr() == ("", "")
    history = fitted(tiny_model(), verbose=1, learning_rate=3.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "8/8 steps" in err
    kept = best_step(history)
    assert kept < history["step"][-1]
    assert f"best held-out loss {min(history['val_loss']):.4g} (step {kept})" in err
