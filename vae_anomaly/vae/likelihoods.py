"""Likelihoods p(x|z) of table columns: decoder outputs to log-probabilities, means and samples.

Each likelihood is a Keras layer because some have weights (a learned variance). ``n_outputs`` says
how many outputs the decoder must have.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from vae_anomaly.vae.layers import Tensor, checked_widths, normal_log_prob, sum_of_columns

_VARIANCES = ("row", "column", "shared")


class Likelihood(keras.layers.Layer):
    """Base class: a distribution over x of ``n_features`` features, given decoder outputs.

    Subclasses set ``n_outputs`` and implement ``log_prob``, ``mean`` and ``sample``. All
    arithmetic is float32 under every precision policy, because log-probabilities are summed.

    Parameters
    ----------
    n_features : int
        Number of features of x, >= 1.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Attributes
    ----------
    n_outputs : int
        Number of decoder outputs that the likelihood takes.

    Examples
    --------
    A custom likelihood, the Laplace distribution of scale 1:

    >>> import numpy as np
    >>> from keras import ops
    >>> from vae_anomaly.vae import Likelihood
    >>> class Laplace(Likelihood):
    ...     def log_prob(self, x, outputs):
    ...         return -ops.abs(x - outputs) - np.log(2.0)
    ...     def mean(self, outputs):
    ...         return outputs
    >>> Laplace(1).log_prob(np.zeros((1, 1), "float32"), np.zeros((1, 1), "float32")).numpy()
    array([[-0.6931472]], dtype=float32)
    """

    def __init__(self, n_features: int, **kwargs: Any) -> None:
        if not isinstance(n_features, int) or n_features < 1:
            raise ValueError(f"Expected `n_features` >= 1. Received: n_features={n_features!r}")
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.n_features = n_features
        self.n_outputs = n_features
        self.built = True

    def call(self, x: Tensor, outputs: Tensor) -> Tensor:
        return self.log_prob(x, outputs)

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Return the log-density (or log-mass) of x, in nats, per column.

        A column has one feature unless the subclass says otherwise.

        Parameters
        ----------
        x : tensor, (..., n_features)
        outputs : tensor, (..., n_outputs)
            Decoder outputs; leading dimensions broadcast with those of x.

        Returns
        -------
        tensor, (..., columns)
        """
        raise NotImplementedError

    def log_prob_by_feature(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Return the log-density per feature, (..., n_features), before columns are summed."""
        return self.log_prob(x, outputs)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean of x, (..., n_features), given decoder outputs (..., n_outputs)."""
        raise NotImplementedError

    def excess_log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Return log p(x|z) minus its mean over x drawn from p(x|z), shaped as ``log_prob``.

        That mean is minus the entropy. The difference tells whether x is typical for its own
        distribution, narrow or wide (Nalisnick et al. 2019, "Detecting out-of-distribution inputs
        to deep generative models using typicality").
        """
        raise NotImplementedError

    def squared_error(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Return (x - mean)^2, shaped as ``log_prob``."""
        return ops.square(ops.cast(x, "float32") - self.mean(outputs))

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        """Draw x, (..., n_features), given decoder outputs (..., n_outputs)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n_features": self.n_features}


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Gaussian(Likelihood):
    r"""Independent normal distributions, one per feature.

    .. math:: \log p(x_d|z) = -\tfrac12 \left(\log 2\pi + s_d + (x_d - m_d)^2 e^{-s_d}\right)

    with mean m and log-variance s. For ``variance="row"`` the decoder gives both, and

    .. math:: s_d = c_d + b \tanh(r_d / b)

    where r is the raw decoder output, c a learned log-variance per feature and b ``row_bound``.
    The bound keeps a row from being excused by a large variance of its own.

    Parameters
    ----------
    n_features : int
        Number of features of x, >= 1.
    variance : {"row", "column", "shared"} or float
        Where the variance comes from: the decoder, per row and feature (``"row"``); a weight per
        feature (``"column"``); one weight (``"shared"``); or a fixed number > 0.
    min_log_var : float or sequence of n_features floats
        Soft floor of the learned log-variances, which would collapse on constant columns.
        ``"shared"`` takes the lowest of several.
    row_bound : float
        Largest distance, > 0, of a row's log-variance from that of its column; for ``"row"`` only.
    column_widths : sequence of int or None
        Number of features of each column. A very skewed column has two, its standardised values
        and their normal scores. The sum over the features of a column is its log-probability, a
        composite one (Varin, Reid & Firth 2011). ``None``: each feature is a column.
    **kwargs
        ``name``, ``dtype``, ... of ``keras.layers.Layer``.

    Raises
    ------
    ValueError
        An argument is out of range, or the widths do not add up to ``n_features``.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import Gaussian
    >>> Gaussian(2, variance=1.0).log_prob(np.zeros((1, 2)), np.zeros((1, 2))).numpy().round(4)
    array([[-0.9189, -0.9189]], dtype=float32)
    """

    def __init__(
        self,
        n_features: int,
        variance: str | float = "row",
        min_log_var: ArrayLike = -6.0,
        row_bound: float = 1.5,
        column_widths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        is_number = isinstance(variance, (int, float)) and not isinstance(variance, bool)
        if not (variance in _VARIANCES or (is_number and float(variance) > 0)):
            raise ValueError(
                f"Expected `variance` to be one of {_VARIANCES} or a number > 0. "
                f"Received: variance={variance!r}"
            )
        if not row_bound > 0:
            raise ValueError(f"Expected `row_bound` > 0. Received: row_bound={row_bound!r}")
        super().__init__(n_features, **kwargs)
        self.variance = variance
        self.min_log_var = np.broadcast_to(
            np.asarray(min_log_var, dtype="float32"), (n_features,)
        ).tolist()
        self.row_bound = float(row_bound)
        self.column_widths = checked_widths(column_widths, n_features)
        self.n_outputs = 2 * n_features if variance == "row" else n_features
        if not is_number:
            self.raw_log_var = self.add_weight(
                shape=(1 if variance == "shared" else n_features,),
                initializer="zeros",
                name="raw_log_var",
            )

    def log_var(self, outputs: Tensor) -> Tensor:
        """Return the log-variance, broadcastable to (..., n_features), given decoder outputs."""
        if self.variance not in _VARIANCES:
            return ops.log(ops.cast(self.variance, "float32"))
        if self.variance != "row":
            return self._log_var()
        return self._log_var(ops.cast(outputs[..., self.n_features :], "float32"))

    def _log_var(self, raw=None):
        # The floor bends the weight, not the rows: rows then stay within row_bound of it.
        floor = np.array(self.min_log_var, dtype="float32")
        if self.variance == "row":
            floor = floor + self.row_bound
        elif self.variance == "shared":
            floor = floor.min(keepdims=True)
        log_var = floor + ops.softplus(self.raw_log_var - floor)
        if self.variance == "row":
            log_var = log_var + self.row_bound * ops.tanh(raw / self.row_bound)
        return log_var

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return sum_of_columns(self.log_prob_by_feature(x, outputs), self.column_widths)

    def log_prob_by_feature(self, x: Tensor, outputs: Tensor) -> Tensor:
        x, outputs = ops.cast(x, "float32"), ops.cast(outputs, "float32")
        if self.variance == "row":
            # Of slices, gradients take many times as long.
            mean, raw = ops.split(outputs, 2, axis=-1)
            return normal_log_prob(x, mean, self._log_var(raw))
        return normal_log_prob(x, self.mean(outputs), self.log_var(outputs))

    def excess_log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        outputs = ops.cast(outputs, "float32")
        scaled = super().squared_error(x, outputs) * ops.exp(-self.log_var(outputs))
        return sum_of_columns(0.5 * (1.0 - scaled), self.column_widths)

    def squared_error(self, x: Tensor, outputs: Tensor) -> Tensor:
        return sum_of_columns(super().squared_error(x, outputs), self.column_widths)

    def mean(self, outputs: Tensor) -> Tensor:
        return ops.cast(outputs[..., : self.n_features], "float32")

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        outputs = ops.cast(outputs, "float32")
        mean = self.mean(outputs)
        noise = keras.random.normal(ops.shape(mean), dtype="float32", seed=seed)
        return mean + ops.exp(self.log_var(outputs) / 2) * noise

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "variance": self.variance,
            "min_log_var": list(self.min_log_var),
            "row_bound": self.row_bound,
            "column_widths": self.column_widths,
        }


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Bernoulli(Likelihood):
    r"""Independent binary features; the decoder gives the logit l of each.

    .. math:: \log p(x_d|z) = x_d l_d - \log(1 + e^{l_d})

    Parameters
    ----------
    n_features : int
        Number of features of x, >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import Bernoulli
    >>> Bernoulli(1).log_prob(np.ones((1, 1)), np.zeros((1, 1))).numpy().round(4)
    array([[-0.6931]], dtype=float32)
    """

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        x, logits = ops.cast(x, "float32"), ops.cast(outputs, "float32")
        return x * logits - ops.softplus(logits)

    def excess_log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return (ops.cast(x, "float32") - self.mean(outputs)) * ops.cast(outputs, "float32")

    def mean(self, outputs: Tensor) -> Tensor:
        return ops.sigmoid(ops.cast(outputs, "float32"))

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        mean = self.mean(outputs)
        uniform = keras.random.uniform(ops.shape(mean), dtype="float32", seed=seed)
        return ops.cast(uniform < mean, "float32")


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Categorical(Likelihood):
    r"""One categorical column, one-hot over ``n_features`` levels; the decoder gives logits.

    .. math:: \log p(x|z) = \sum_l x_l \log \mathrm{softmax}(o)_l

    All features together have **one** log-probability.

    Parameters
    ----------
    n_features : int
        Number of levels, including the level for unknown values.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.vae import Categorical
    >>> Categorical(4).log_prob(np.eye(4)[:1], np.zeros((1, 4))).numpy().round(4)
    array([[-1.3863]], dtype=float32)
    """

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        x, logits = ops.cast(x, "float32"), ops.cast(outputs, "float32")
        return ops.sum(x * ops.log_softmax(logits, axis=-1), axis=-1, keepdims=True)

    def mean(self, outputs: Tensor) -> Tensor:
        return ops.softmax(ops.cast(outputs, "float32"), axis=-1)

    def squared_error(self, x: Tensor, outputs: Tensor) -> Tensor:
        return ops.sum(super().squared_error(x, outputs), axis=-1, keepdims=True)

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        # Gumbel-max: keras.random.categorical takes only two dimensions.
        logits = ops.cast(outputs, "float32")
        uniform = keras.random.uniform(ops.shape(logits), minval=1e-20, dtype="float32", seed=seed)
        level = ops.argmax(logits - ops.log(-ops.log(uniform)), axis=-1)
        return ops.one_hot(level, self.n_features, dtype="float32")


@keras.saving.register_keras_serializable(package="vae_anomaly")
class Mixed(Likelihood):
    """Columns of several kinds: route features and decoder outputs to one likelihood per kind.

    Parameters
    ----------
    parts : sequence of Likelihood
        Features, decoder outputs and log-probabilities are those of the parts, concatenated in
        this order.

    Examples
    --------
    >>> from vae_anomaly.vae import Bernoulli, Categorical, Gaussian, Mixed
    >>> mixed = Mixed([Gaussian(3), Bernoulli(1), Categorical(4)])
    >>> mixed.n_features, mixed.n_outputs
    (8, 11)
    """

    def __init__(self, parts: Sequence[Likelihood], **kwargs: Any) -> None:
        if not parts:
            raise ValueError(f"Expected at least one likelihood. Received: parts={parts!r}")
        super().__init__(sum(part.n_features for part in parts), **kwargs)
        self.parts = list(parts)
        self.n_outputs = sum(part.n_outputs for part in parts)

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return self._joined(
            part.log_prob(x_part, outputs_part)
            for part, x_part, outputs_part in self._routed(x, outputs)
        )

    def mean(self, outputs: Tensor) -> Tensor:
        return self._joined(part.mean(own) for part, _, own in self._routed(outputs, outputs))

    def squared_error(self, x: Tensor, outputs: Tensor) -> Tensor:
        return self._joined(
            part.squared_error(x_part, outputs_part)
            for part, x_part, outputs_part in self._routed(x, outputs)
        )

    def sample(self, outputs: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
        if isinstance(seed, int):
            # A generator, not the int: the parts must not share their random numbers.
            seed = keras.random.SeedGenerator(seed)
        return self._joined(
            part.sample(own, seed) for part, _, own in self._routed(outputs, outputs)
        )

    def _joined(self, tensors: Iterable[Tensor]) -> Tensor:
        return ops.concatenate(list(tensors), axis=-1)

    def _routed(self, x: Tensor, outputs: Tensor) -> Iterator[tuple[Likelihood, Tensor, Tensor]]:
        feature = output = 0
        for part in self.parts:
            yield (
                part,
                x[..., feature : feature + part.n_features],
                outputs[..., output : output + part.n_outputs],
            )
            feature, output = feature + part.n_features, output + part.n_outputs

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["n_features"]
        return {
            **config,
            "parts": [keras.saving.serialize_keras_object(part) for part in self.parts],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        parts = [keras.saving.deserialize_keras_object(part) for part in config["parts"]]
        return cls(**{**config, "parts": parts})
