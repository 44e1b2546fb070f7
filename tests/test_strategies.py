"""Training under TensorFlow's strategies of several devices: in processes with two CPU devices."""

import pytest

from vae_anomaly.vae.strategies import check_one_process

TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""

FIT = """
from vae_anomaly.vae import VAE, Autoencoder, Gaussian, dense_decoder, dense_encoder

x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")

def vae():
    return VAE(dense_encoder(6, (5,), 2, seed=0), dense_decoder(2, (5,), 12, seed=1), Gaussian(6))

def autoencoder():
    encoder = dense_encoder(6, (5,), 2, variational=False, seed=0)
    return Autoencoder(encoder, dense_decoder(2, (5,), 6, seed=1))

def fitted(build, strategy):
    with strategy.scope():
        model = build()
        model.compile(keras.optimizers.SGD(0.1))
    options = dict(batch_size=16, epochs=2, shuffle=False, verbose=0, validation_data=(x,))
    history = model.fit(x, **options).history
    losses = np.concatenate([history["loss"], history["val_loss"]])
    return losses, model.get_weights()
"""


@pytest.mark.slow
def test_two_devices_take_the_steps_of_one(fresh_python):
    """Of an autoencoder, which draws nothing: the gradient is that of the mean over all rows."""
    checks = """
losses, weights = fitted(autoencoder, tf.distribute.get_strategy())
both_losses, both_weights = fitted(autoencoder, strategy)
np.testing.assert_allclose(both_losses, losses, rtol=1e-5)
for a, b in zip(weights, both_weights):
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
"""
    fresh_python(TWO_DEVICES + FIT + checks)


@pytest.mark.slow
def test_a_vae_trains_on_two_devices(fresh_python):
    checks = """
losses, _ = fitted(vae, strategy)
assert np.isfinite(losses).all() and losses[1] < losses[0], losses
"""
    fresh_python(TWO_DEVICES + FIT + checks)


@pytest.mark.slow
def test_a_detector_says_that_it_trains_on_one_device_and_scores_in_any_scope(
    fresh_python, detector, rows, tmp_path
):
    detector.save(tmp_path / "m")
    code = """
import sys
from vae_anomaly import VAEDetector, load_detector
rows = np.array(eval(sys.argv[2]))
with strategy.scope():
    print(load_detector(sys.argv[1]).score_samples(rows).tolist())
    try:
        VAEDetector().fit(rows)
    except NotImplementedError as error:
        print(error)
"""
    said = fresh_python(TWO_DEVICES + code, tmp_path / "m", rows[:5].tolist()).splitlines()
    assert eval(said[0]) == detector.score_samples(rows[:5]).tolist()
    assert "VAEDetector.fit outside of the scope" in said[1] and "2 replicas" in said[1]


@pytest.mark.slow
def test_a_detector_fits_in_the_scope_of_a_strategy_of_one_device(fresh_python):
    code = """
import numpy as np, tensorflow as tf
from vae_anomaly import VAEDetector
rows = np.random.default_rng(0).normal(size=(60, 3))
detector = VAEDetector(max_steps=4, random_state=0)
scores = detector.fit(rows).score_samples(rows)
with tf.distribute.OneDeviceStrategy("CPU:0").scope():
    assert (detector.fit(rows).score_samples(rows) == scores).all()
"""
    fresh_python(code)


class Workers:
    """As ``tf.distribute.MultiWorkerMirroredStrategy`` of as many processes."""

    def __init__(self, count):
        self._addresses = [f"127.0.0.1:{port}" for port in range(count)]

    @property
    def cluster_resolver(self):
        return self

    def cluster_spec(self):
        return self

    def as_dict(self):
        return {"worker": self._addresses}


def test_a_strategy_of_several_processes_is_refused_with_what_to_use_instead():
    check_one_process(Workers(1))
    with pytest.raises(NotImplementedError, match=r"one of 2 workers.*Use MirroredStrategy"):
        check_one_process(Workers(2))
