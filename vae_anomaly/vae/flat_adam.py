"""Adam whose moments are one vector, so that a step is a few operations for any network."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


@keras.saving.register_keras_serializable(package="vae_anomaly")
class FlatAdam(keras.optimizers.Optimizer):
    """``keras.optimizers.Adam`` with its defaults, to the last bit, in far fewer operations.

    Keras' Adam runs 27 operations for each variable. For networks as small as those of tables,
    starting an operation takes as long as computing it.

    Parameters
    ----------
    learning_rate : float or keras.optimizers.schedules.LearningRateSchedule
    name : str

    Examples
    --------
    >>> import keras
    >>> weights = [keras.Variable([1.0, 2.0]), keras.Variable(3.0)]
    >>> adam = FlatAdam(0.5)
    >>> adam.apply([[1.0, -1.0], 0.0], weights)
    >>> [weight.numpy().round(3).tolist() for weight in weights]
    [[0.5, 2.5], 3.0]
    """

    def __init__(self, learning_rate: Any = 0.001, name: str = "flat_adam") -> None:
        super().__init__(learning_rate, name=name)

    @staticmethod
    def suits(variables: Sequence[keras.Variable]) -> bool:
        """Whether Keras' Adam would do the same to variables: float32, without constraints.

        Not where several replicas train, whose gradients it would have to add up.
        """
        is_plain = all(v.dtype == "float32" and v.constraint is None for v in variables)
        return is_plain and tf.distribute.get_strategy().num_replicas_in_sync == 1

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._sizes = [math.prod(variable.shape) for variable in variables]
        flat: dict[str, Any] = {"shape": (sum(self._sizes),), "dtype": "float32"}
        self._momentum = self.add_variable(**flat, name="momentum")
        self._velocity = self.add_variable(**flat, name="velocity")

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update variables, those that the optimizer was built with, in their order.

        Parameters
        ----------
        grads : sequence of tensors
            None: the variable stays.
        trainable_variables : sequence of keras.Variable or None
        """
        variables = list(trainable_variables or self._trainable_variables)
        self.build(variables)
        step = ops.cast(self.iterations + 1, "float32")
        rate = ops.cast(self.learning_rate, "float32")
        rate = rate * ops.sqrt(1 - ops.power(_BETA_2, step)) / (1 - ops.power(_BETA_1, step))
        gradient = ops.concatenate(
            [_flat(gradient, variable) for gradient, variable in zip(grads, variables, strict=True)]
        )
        momentum, velocity = self._momentum, self._velocity
        self.assign_add(momentum, (gradient - momentum) * (1 - _BETA_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1 - _BETA_2))
        change = momentum * rate / (ops.sqrt(velocity) + _EPSILON)
        for variable, part in zip(variables, tf.split(change, self._sizes), strict=True):
            self.assign_sub(variable, ops.reshape(part, variable.shape))
        self.iterations.assign_add(1)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: config[name] for name in ("name", "learning_rate")}


def _flat(gradient, variable):
    if gradient is None:
        gradient = ops.zeros(variable.shape, "float32")
    return ops.reshape(gradient, (-1,))
