"""The models: a variational autoencoder, and a plain autoencoder to compare it with.

Both are ordinary Keras models: compile with an optimizer, ``fit`` with validation data and
callbacks, save as ``.keras``. They compute their own loss, so ``y`` is ignored.

``inputs`` is a tensor x of shape (n, d), or a pair (x, observed) of such tensors where
``observed`` is 0 for cells that have no value: these neither train nor score. Images are tensors
(n, height, width, channels) with d = height * width * channels features; decoders and likelihoods
have them as rows of (n, d), reconstructions and samples are images again.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vae_anomaly.vae.layers import Sampling, kl_divergence
from vae_anomaly.vae.likelihoods import Gaussian

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Expected Keras to run on TensorFlow. Received: backend="
        f"{keras.backend.backend()!r}. Set the environment variable KERAS_BACKEND=tensorflow."
    )


class _RowLossModel(keras.Model):
    """A model whose loss is a mean over rows of terms that the model itself computes.

    Subclasses implement ``_row_terms(inputs, training)``: a dict of (n,) tensors, one of
    them named "loss". Each term is a metric under its own name.
    """

    _term_names: tuple[str, ...]

    def __init__(self, encoder, decoder, likelihood, **kwargs):
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
        self._trackers = {name: keras.metrics.Mean(name=name) for name in self._term_names}
        # Both networks are built, so there is nothing left to build.
        self.built = True

    @property
    def metrics(self):
        return list(self._trackers.values())

    def compile(self, optimizer="adam", **kwargs):
        """Configure training; as in Keras, but without ``loss`` and ``metrics``.

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
        # XLA slows small dense models down on CPU, so it is on only where it is asked for.
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **kwargs)

    def compile_from_config(self, config):
        # What Keras does on loading, but not for models with a compile() of their own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train; as in Keras."""
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)) and len(validation) == 3:
            x_val, y_val, weight = validation
            kwargs["validation_data"] = (x_val, _target(y_val, weight), weight)
        return super().fit(x, _target(y, kwargs.get("sample_weight")), *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Compute loss and metrics; as in Keras."""
        return super().evaluate(x, _target(y, kwargs.get("sample_weight")), *args, **kwargs)

    def call(self, inputs, training=False):
        """Reconstruct: same as ``reconstruct``, so that ``predict`` draws no random numbers."""
        return self.reconstruct(inputs, training)

    def latent_mean(self, inputs, training=False):
        """Return the latent representation, (n, latent_dim): z_mean, or z of an autoencoder."""
        raise NotImplementedError

    def decode(self, z):
        """Return the mean of p(x|z), shaped as x, for z of shape (n, latent_dim)."""
        return self._like_x(self.likelihood.mean(self.decoder(z)))

    def reconstruct(self, inputs, training=False):
        """Return ``decode(latent_mean(inputs))``: deterministic, shaped as x."""
        return self.decode(self.latent_mean(inputs, training))

    def _like_x(self, features):
        shape = self.encoder.inputs[0].shape[1:]
        return features if len(shape) == 1 else ops.reshape(features, (-1, *shape))

    def squared_error(self, inputs, training=False):
        """Return (x - reconstruction)^2 per column, (n, n_columns); 0 where not observed."""
        x, observed = _x_and_observed(inputs)
        outputs = self.decoder(self.latent_mean(inputs, training), training=training)
        return _masked(self.likelihood.squared_error(x, outputs), observed)

    def train_step(self, data):
        inputs, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            terms = self._row_terms(inputs, training=True)
            penalty = sum(self.losses)
            loss = self._reduce(terms["loss"], sample_weight) + penalty
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled_loss, weights), weights, strict=True)
        )
        return self._track(terms, penalty, sample_weight)

    def test_step(self, data):
        inputs, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        terms = self._row_terms(inputs, training=False)
        return self._track(terms, sum(self.losses), sample_weight)

    def _reduce(self, row_loss, sample_weight):
        """Mean over rows, each times its weight: Keras' "sum_over_batch_size"."""
        if sample_weight is not None:
            row_loss = row_loss * ops.reshape(ops.cast(sample_weight, row_loss.dtype), (-1,))
        return ops.mean(row_loss)

    def _track(self, terms, penalty, sample_weight):
        terms = {**terms, "loss": terms["loss"] + penalty}
        for name, tracker in self._trackers.items():
            tracker.update_state(terms[name], sample_weight=sample_weight)
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "likelihood": keras.saving.serialize_keras_object(self.likelihood),
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
            if name in ("encoder", "decoder", "likelihood")
        }
        return cls(**{**config, **parts})


@keras.saving.register_keras_serializable(package="vae_anomaly")
class VAE(_RowLossModel):
    r"""Variational autoencoder (Kingma & Welling 2014) with a likelihood of its own choosing.

    Training maximises the evidence lower bound, in nats per row,

    .. math:: ELBO = E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, N(0, I))

    Parameters
    ----------
    encoder : keras.Model
        x, or [x, observed] -> [z_mean, z_log_var], each (n, latent_dim).
    decoder : keras.Model
        (n, latent_dim) -> (n, likelihood.n_outputs).
    likelihood : vae_anomaly.vae.likelihoods.Likelihood
    n_draws : int
        Monte Carlo draws of z per row in training, >= 1.
    beta : float
        Weight of the KL term, >= 0. 1 is the VAE; others, the beta-VAE (Higgins et al. 2017).
    kl_warmup_steps : int
        Gradient steps over which the weight of the KL term grows linearly to ``beta``.
    seed : int or None
        Seed of the draws of z in training, and of ``sample``.
    **kwargs
        ``name`` and ``dtype`` of ``keras.Model``. ``dtype="mixed_float16"`` scales the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.likelihoods import Gaussian
    >>> from vae_anomaly.vae.networks import dense_decoder, dense_encoder
    >>> likelihood = Gaussian(6)
    >>> vae = VAE(
    ...     dense_encoder(6, (5, 5, 4), 2), dense_decoder(2, (5, 5, 4), likelihood.n_outputs),
    ...     likelihood, seed=0)
    >>> vae.compile("adam")
    >>> x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    >>> history = vae.fit(x, validation_data=(x,), epochs=1, verbose=0)
    >>> sorted(history.history)
    ['kl', 'log_prob', 'loss', 'val_kl', 'val_log_prob', 'val_loss']
    >>> tuple(vae.elbo(x)["elbo"].shape)
    (64,)
    """

    _term_names = ("loss", "log_prob", "kl")

    def __init__(
        self,
        encoder,
        decoder,
        likelihood,
        *,
        n_draws=1,
        beta=1.0,
        kl_warmup_steps=0,
        seed=None,
        **kwargs,
    ):
        if not isinstance(n_draws, int) or n_draws < 1:
            raise ValueError(f"Expected `n_draws` to be an int >= 1. Received: n_draws={n_draws!r}")
        if not beta >= 0:
            raise ValueError(f"Expected `beta` >= 0. Received: beta={beta!r}")
        if not kl_warmup_steps >= 0:
            raise ValueError(
                f"Expected `kl_warmup_steps` >= 0. Received: kl_warmup_steps={kl_warmup_steps!r}"
            )
        super().__init__(encoder, decoder, likelihood, **kwargs)
        self.n_draws = n_draws
        self.beta = float(beta)
        self.kl_warmup_steps = int(kl_warmup_steps)
        self.seed = seed
        self.sampling = Sampling(seed=seed, dtype="float32", name="sampling")

    def encode(self, inputs, training=False):
        """Return ``(z_mean, z_log_var)`` of q(z|x), each (n, latent_dim)."""
        z_mean, z_log_var = self.encoder(inputs, training=training)
        return ops.cast(z_mean, "float32"), ops.cast(z_log_var, "float32")

    def latent_mean(self, inputs, training=False):
        return self.encode(inputs, training)[0]

    def sample(self, n_rows, seed=None):
        """Draw new rows: z from N(0, I), then x from p(x|z).

        Parameters
        ----------
        n_rows : int
        seed : int, keras.random.SeedGenerator or None
            None: the model's own generator, which advances at each call.

        Returns
        -------
        tensor, (n_rows, n_features), or images
        """
        if seed is None:
            seed = self.sampling.seed_generator
        elif isinstance(seed, int):
            # A generator, not the int: z and x must not share their random numbers.
            seed = keras.random.SeedGenerator(seed)
        z = keras.random.normal((n_rows, self.latent_dim), dtype="float32", seed=seed)
        return self._like_x(self.likelihood.sample(self.decoder(z), seed))

    def feature_log_prob(self, inputs, z):
        """Log p(x_d|z), in nats, for several draws of z per row.

        Parameters
        ----------
        inputs : x (n, d), or (x, observed)
        z : tensor, (n, n_draws, latent_dim)

        Returns
        -------
        tensor, (n, n_draws, n_columns)
            0 for cells that are not observed.
        """
        return self._per_draw(self.likelihood.log_prob, inputs, z)

    def excess_log_prob(self, inputs, z):
        """As ``feature_log_prob``, less its average over x drawn from p(x|z)."""
        return self._per_draw(self.likelihood.excess_log_prob, inputs, z)

    def _per_draw(self, function, inputs, z, training=False):
        x, observed = _x_and_observed(inputs)
        n_draws = z.shape[1]
        outputs = self.decoder(ops.reshape(z, (-1, self.latent_dim)), training=training)
        outputs = ops.reshape(outputs, (-1, n_draws, self.likelihood.n_outputs))
        return _masked(function(x[:, None, :], outputs), observed)

    def elbo(self, inputs, training=False):
        """Evidence lower bound of each row and its terms, from ``n_draws`` fresh draws.

        Parameters
        ----------
        inputs : x (n, d), or (x, observed)
        training : bool
            Whether layers that differ in training (dropout) do so.

        Returns
        -------
        dict of tensors, each (n,), in nats
            ``log_prob`` (reconstruction term), ``kl`` (KL(q(z|x) || N(0, I))) and
            ``elbo`` = log_prob - beta * kl.
        """
        z_mean, z_log_var = self.encode(inputs, training)
        z = self.sampling(
            [ops.repeat(t[:, None, :], self.n_draws, axis=1) for t in (z_mean, z_log_var)]
        )
        log_prob = self._per_draw(self.likelihood.log_prob, inputs, z, training)
        log_prob = ops.sum(log_prob, axis=-1)
        log_prob = ops.mean(log_prob, axis=1)
        kl = ops.sum(kl_divergence(z_mean, z_log_var), axis=-1)
        return {"elbo": log_prob - self.beta * kl, "log_prob": log_prob, "kl": kl}

    def _row_terms(self, inputs, training):
        terms = self.elbo(inputs, training)
        loss = -terms["elbo"]
        if training and self.kl_warmup_steps:
            step = ops.cast(self.optimizer.iterations + 1, "float32")
            share = ops.minimum(1.0, step / self.kl_warmup_steps)
            loss = loss - (1.0 - share) * self.beta * terms["kl"]
        return {"loss": loss, **terms}

    def get_config(self):
        return {
            **super().get_config(),
            "n_draws": self.n_draws,
            "beta": self.beta,
            "kl_warmup_steps": self.kl_warmup_steps,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Autoencoder(_RowLossModel):
    """Plain autoencoder that minimises the squared reconstruction error; no Sampling, no KL.

    Parameters
    ----------
    encoder : keras.Model
        x, or [x, observed] -> z (n, latent_dim).
    decoder : keras.Model
        (n, latent_dim) -> (n, likelihood.n_outputs).
    likelihood : vae_anomaly.vae.likelihoods.Likelihood or None
        Its mean is the reconstruction. None: the decoder's outputs are.
    **kwargs
        ``name`` and ``dtype`` of ``keras.Model``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae.networks import dense_decoder, dense_encoder
    >>> model = Autoencoder(
    ...     dense_encoder(6, (5, 5, 4), 2, variational=False), dense_decoder(2, (5, 5, 4), 6))
    >>> model.compile("adam")
    >>> x = np.zeros((8, 6), "float32")
    >>> list(model.fit(x, verbose=0).history)
    ['loss']
    """

    _term_names = ("loss",)

    def __init__(self, encoder, decoder, likelihood=None, **kwargs):
        if likelihood is None:
            likelihood = Gaussian(decoder.output_shape[-1], variance=1.0)
        super().__init__(encoder, decoder, likelihood, **kwargs)

    def encode(self, inputs, training=False):
        """Return z, (n, latent_dim)."""
        return ops.cast(self.encoder(inputs, training=training), "float32")

    def latent_mean(self, inputs, training=False):
        return self.encode(inputs, training)

    def _row_terms(self, inputs, training):
        return {"loss": ops.sum(self.squared_error(inputs, training), axis=-1)}


def _target(y, sample_weight):
    # Keras drops the weights of rows that have no target; this one is ignored.
    return sample_weight if y is None else y


def _x_and_observed(inputs):
    """Split inputs into x, as rows of features, and which of its cells have a value."""
    if isinstance(inputs, (tuple, list)):
        return inputs
    if len(inputs.shape) > 2:
        inputs = ops.reshape(inputs, (-1, int(np.prod(inputs.shape[1:]))))
    return inputs, None


def _masked(values, observed):
    if observed is None:
        return values
    observed = ops.cast(observed, values.dtype)
    return values * (observed[:, None, :] if len(values.shape) == 3 else observed)
