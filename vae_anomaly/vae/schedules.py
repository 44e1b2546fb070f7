"""Learning rates over the steps of a training."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="vae_anomaly")
class PacedCosineDecay(keras.optimizers.schedules.CosineDecay):
    """Keras' cosine decay, which a compiled training can pass through at another pace.

    Parameters
    ----------
    initial_learning_rate, decay_steps, **kwargs
        As of ``keras.optimizers.schedules.CosineDecay``.

    Attributes
    ----------
    pace : tf.Variable
        Steps of the decay in each step of training: 1.

    Examples
    --------
    >>> decay = PacedCosineDecay(1.0, 100)
    >>> _ = decay.pace.assign(10.0)
    >>> round(float(decay(5)), 3)  # as at step 50
    0.5
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pace = tf.Variable(1.0, trainable=False)

    def __call__(self, step):
        return super().__call__(tf.cast(step, tf.float32) * self.pace)
