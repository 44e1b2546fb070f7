"""What both models share: a loss that is a mean over rows of terms that the model computes."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vae_anomaly.vae.layers import Tensor
from vae_anomaly.vae.likelihoods import Likelihood
from vae_anomaly.vae.schedules import PacedCosineDecay
from vae_anomaly.vae.strategies import check_one_process, share_of_replica

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Expected Keras to run on TensorFlow. Received: backend="
        f"{keras.backend.backend()!r}. Set the environment variable KERAS_BACKEND=tensorflow."
    )


class RowLossModel(keras.Model):
    """A model whose loss is a mean over rows of terms that the model itself computes.

    Subclasses implement ``_row_terms(inputs, training)``: a dict of (n,) tensors, one of
    them named "loss". Each term is a metric under its own name.
    """

    _term_names: tuple[str, ...]

    def __init__(
        self, encoder: keras.Model, decoder: keras.Model, likelihood: Likelihood, **kwargs: Any
    ) -> None:
        if decoder.output_shape[-1] != likelihood.n_outputs:
            raise ValueError(
                f"Expected the decoder to have likelihood.n_outputs={likelihood.n_outputs} "
                f"outputs. Received: {decoder.output_shape[-1]} outputs."
            )
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent_dim = decoder.input_shape[-1]
        self._trackers = {name: keras.metrics.Mean(name, "float32") for name in self._term_names}
        # Both networks are built already.
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._trackers.values())

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Configure training, as in Keras, but without ``loss`` and ``metrics``.

        Parameters
        ----------
        optimizer : str or keras.optimizers.Optimizer
        **kwargs
            Other arguments of ``keras.Model.compile``. XLA (``jit_compile``) is off by default,
            because it slows small dense models down on CPU.

        Raises
        ------
        ValueError
            If a loss or metrics are given: the model has its own.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(self).__name__} computes its own loss and metrics. "
                    f"Received: {name}={kwargs[name]!r}. Remove it from compile()."
                )
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Keras skips this on loading for models that override compile().
        schedules = {PacedCosineDecay.__name__: PacedCosineDecay}
        self.compile(**keras.saving.deserialize_keras_object(config, schedules))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train, as in Keras; ``y`` is ignored.

        Raises
        ------
        NotImplementedError
            Under ``tf.distribute.MultiWorkerMirroredStrategy`` with several workers.
        """
        check_one_process(self.distribute_strategy)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)) and len(validation) == 3:
            x_val, y_val, weight = validation
            kwargs["validation_data"] = (x_val, _target(y_val, weight), weight)
        return super().fit(x, _target(y, kwargs.get("sample_weight")), *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Compute loss and metrics, as in Keras; ``y`` is ignored."""
        check_one_process(self.distribute_strategy)
        return super().evaluate(x, _target(y, kwargs.get("sample_weight")), *args, **kwargs)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Export as in Keras, whether it was called or not: ``serve`` is ``reconstruct``.

        Parameters
        ----------
        filepath, format, verbose, **kwargs
            As in ``keras.Model.export``.
        input_signature : structure of keras.InputSpec or None
            None: what the encoder takes.
        """
        if input_signature is None:
            specs = [keras.InputSpec(x.dtype, x.shape, name=x.name) for x in self.encoder.inputs]
            input_signature = specs if len(specs) == 1 else [specs]
        super().export(filepath, format, verbose, input_signature, **kwargs)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return ``reconstruct(inputs)``, so that ``predict`` draws no random numbers."""
        return self.reconstruct(inputs, training)

    def latent_mean(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return the latent representation, (n, latent_dim): z_mean, or z of an autoencoder."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x|z), shaped as x, for z of shape (n, latent_dim)."""
        return self._like_x(self.likelihood.mean(self.decoder(z)))

    def reconstruct(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return ``decode(latent_mean(inputs))``, shaped as x; deterministic."""
        return self.decode(self.latent_mean(inputs, training))

    def _like_x(self, features: Tensor) -> Tensor:
        shape = self.encoder.inputs[0].shape[1:]
        return features if len(shape) == 1 else ops.reshape(features, (-1, *shape))

    def squared_error(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return (x - reconstruction)^2 per column, (n, n_columns); 0 for missing cells."""
        x, observed = x_and_observed(inputs)
        outputs = self.decoder(self.latent_mean(inputs, training), training=training)
        return masked(self.likelihood.squared_error(x, outputs), observed)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        inputs, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            terms = self._row_terms(inputs, training=True)
            penalty = sum(self.losses)
            loss = self._reduce(terms["loss"], sample_weight) + penalty
            scaled_loss = self.optimizer.scale_loss(loss * share_of_replica())
        weights = self.trainable_weights
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled_loss, weights), weights, strict=True)
        )
        return self._track(terms, penalty, sample_weight)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        inputs, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        terms = self._row_terms(inputs, training=False)
        return self._track(terms, sum(self.losses), sample_weight)

    def _reduce(self, row_loss, sample_weight):
        """Return the mean of weight times loss over rows, Keras' "sum_over_batch_size"."""
        if sample_weight is not None:
            row_loss = row_loss * ops.reshape(ops.cast(sample_weight, row_loss.dtype), (-1,))
        return ops.mean(row_loss)

    def _track(self, terms, penalty, sample_weight):
        terms = {**terms, "loss": terms["loss"] + penalty}
        for name, tracker in self._trackers.items():
            tracker.update_state(terms[name], sample_weight=sample_weight)
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        parts = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
            if name in ("encoder", "decoder", "likelihood")
        }
        return cls(**{**config, **parts})


def _target(y: Any, sample_weight: Any) -> Any:
    # Keras drops the weights of rows that have no target. The model ignores this target.
    return sample_weight if y is None else y


def x_and_observed(inputs: Any) -> tuple[Tensor, Tensor | None]:
    """Split inputs into x, flattened to (n, features), and the mask of observed cells."""
    if isinstance(inputs, (tuple, list)):
        x, observed = inputs
        return x, observed
    if len(inputs.shape) > 2:
        inputs = ops.reshape(inputs, (-1, int(np.prod(inputs.shape[1:]))))
    return inputs, None


def masked(values: Tensor, observed: Tensor | None) -> Tensor:
    """Return values, (n, columns) or (n, draws, columns), with 0 for missing cells."""
    if observed is None:
        return values
    observed = ops.cast(observed, values.dtype)
    return values * (observed[:, None, :] if len(values.shape) == 3 else observed)
