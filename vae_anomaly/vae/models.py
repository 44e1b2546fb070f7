"""The models: a variational autoencoder, and a plain autoencoder to compare it with.

Both are ordinary Keras models: compile with an optimizer, ``fit`` with validation data and
callbacks, save as ``.keras``. They compute their own loss, so ``y`` is ignored.

``inputs`` is a tensor x of shape (n, d), or a pair (x, observed) of such tensors, where
``observed`` is 0 for missing cells: these neither train nor score. Images are tensors
(n, height, width, channels) with d = height * width * channels features. Decoders and likelihoods
take them flattened to (n, d); reconstructions and samples have the shape of images.
"""

from typing import Any

import keras
from keras import ops

from vae_anomaly.vae.layers import Sampling, Tensor, kl_divergence
from vae_anomaly.vae.likelihoods import Gaussian, Likelihood
from vae_anomaly.vae.row_loss import RowLossModel, masked, x_and_observed


@keras.saving.register_keras_serializable(package="vae_anomaly")
class VAE(RowLossModel):
    r"""Variational autoencoder (Kingma & Welling 2014) with a likelihood chosen by the user.

    Training maximises the evidence lower bound, in nats per row,

    .. math:: ELBO = E_{q(z|x)}[\log p(x|z)] - \beta \, KL(q(z|x) \,\|\, N(0, I))

    Parameters
    ----------
    encoder : keras.Model
        x, or [x, observed] -> [z_mean, z_log_var], each (n, latent_dim).
    decoder : keras.Model
        (n, latent_dim) -> (n, likelihood.n_outputs).
    likelihood : vae_anomaly.vae.Likelihood
        The distribution p(x|z).
    n_draws : int
        Monte Carlo draws of z per row in training, >= 1.
    beta : float
        Weight of the KL term, >= 0. 1 is the VAE; other values, the beta-VAE (Higgins et al. 2017).
    kl_warmup_steps : int
        Gradient steps over which the weight of the KL term grows linearly to ``beta``.
    seed : int or None
        Seed of the draws of z in training, and of ``sample``.
    **kwargs
        ``name`` and ``dtype`` of ``keras.Model``. ``dtype="mixed_float16"`` scales the loss.

    Raises
    ------
    ValueError
        A number is out of range, or the decoder does not have ``likelihood.n_outputs`` outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import VAE, Gaussian, dense_decoder, dense_encoder
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
        encoder: keras.Model,
        decoder: keras.Model,
        likelihood: Likelihood,
        *,
        n_draws: int = 1,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
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

    def encode(self, inputs: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        """Return ``(z_mean, z_log_var)`` of q(z|x), each (n, latent_dim)."""
        z_mean, z_log_var = self.encoder(inputs, training=training)
        return ops.cast(z_mean, "float32"), ops.cast(z_log_var, "float32")

    def latent_mean(self, inputs: Tensor, training: bool = False) -> Tensor:
        return self.encode(inputs, training)[0]

    def sample(self, n_rows: int, seed: int | keras.random.SeedGenerator | None = None) -> Tensor:
        """Draw new rows: z from N(0, I), then x from p(x|z).

        Parameters
        ----------
        n_rows : int
            Number of rows, or of images.
        seed : int, keras.random.SeedGenerator or None
            ``None``: the model's own generator, which advances at each call.

        Returns
        -------
        tensor, (n_rows, n_features) or (n_rows, height, width, channels)
        """
        if seed is None:
            seed = self.sampling.seed_generator
        elif isinstance(seed, int):
            # A generator, not the int: z and x must not share their random numbers.
            seed = keras.random.SeedGenerator(seed)
        z = keras.random.normal((n_rows, self.latent_dim), dtype="float32", seed=seed)
        return self._like_x(self.likelihood.sample(self.decoder(z), seed))

    def feature_log_prob(self, inputs: Tensor, z: Tensor) -> Tensor:
        """Return log p(x_d|z), in nats, for several draws of z per row.

        Parameters
        ----------
        inputs : x (n, d), or (x, observed)
        z : tensor, (n, n_draws, latent_dim)

        Returns
        -------
        tensor, (n, n_draws, n_columns)
            0 for missing cells.
        """
        return self._per_draw(self.likelihood.log_prob, inputs, z)

    def excess_log_prob(self, inputs: Tensor, z: Tensor) -> Tensor:
        """Return ``feature_log_prob(inputs, z)`` minus its mean over x drawn from p(x|z)."""
        return self._per_draw(self.likelihood.excess_log_prob, inputs, z)

    def _per_draw(self, function, inputs, z, training=False):
        x, observed = x_and_observed(inputs)
        n_draws = z.shape[1]
        outputs = self.decoder(ops.reshape(z, (-1, self.latent_dim)), training=training)
        outputs = ops.reshape(outputs, (-1, n_draws, self.likelihood.n_outputs))
        return masked(function(x[:, None, :], outputs), observed)

    def elbo(self, inputs: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Return the evidence lower bound of each row and its terms, from ``n_draws`` new draws.

        Parameters
        ----------
        inputs : x (n, d), or (x, observed)
        training : bool
            Whether layers such as dropout behave as in training.

        Returns
        -------
        dict of tensors, each (n,), in nats
            ``log_prob`` (reconstruction term), ``kl`` (KL(q(z|x) || N(0, I))) and
            ``elbo`` = log_prob - beta * kl.
        """
        z_mean, z_log_var = self.encode(inputs, training)
        z = self.sampling(
            [ops.repeat(ops.expand_dims(t, 1), self.n_draws, axis=1) for t in (z_mean, z_log_var)]
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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_draws": self.n_draws,
            "beta": self.beta,
            "kl_warmup_steps": self.kl_warmup_steps,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Autoencoder(RowLossModel):
    """Plain autoencoder that minimises the squared reconstruction error; no Sampling, no KL.

    Parameters
    ----------
    encoder : keras.Model
        x, or [x, observed] -> z (n, latent_dim).
    decoder : keras.Model
        (n, latent_dim) -> (n, likelihood.n_outputs).
    likelihood : vae_anomaly.vae.Likelihood or None
        Its mean is the reconstruction. ``None``: the decoder's outputs are the reconstruction.
    **kwargs
        ``name`` and ``dtype`` of ``keras.Model``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import Autoencoder, dense_decoder, dense_encoder
    >>> model = Autoencoder(
    ...     dense_encoder(6, (5, 5, 4), 2, variational=False), dense_decoder(2, (5, 5, 4), 6))
    >>> model.compile("adam")
    >>> x = np.zeros((8, 6), "float32")
    >>> tuple(model.squared_error(x).shape)
    (8, 6)
    """

    _term_names = ("loss",)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        likelihood: Likelihood | None = None,
        **kwargs: Any,
    ) -> None:
        if likelihood is None:
            likelihood = Gaussian(decoder.output_shape[-1], variance=1.0)
        super().__init__(encoder, decoder, likelihood, **kwargs)

    def encode(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return z, (n, latent_dim)."""
        return ops.cast(self.encoder(inputs, training=training), "float32")

    def latent_mean(self, inputs: Tensor, training: bool = False) -> Tensor:
        return self.encode(inputs, training)

    def _row_terms(self, inputs, training):
        return {"loss": ops.sum(self.squared_error(inputs, training), axis=-1)}
