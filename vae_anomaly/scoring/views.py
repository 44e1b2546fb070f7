"""What a score is: views of a row (log-probabilities by column) and how they become one score.

A *view* measures rows: a term for each column, and one that no column owns. A *score type* puts
the terms of its views together: ``SingleView`` takes those of one, ``Composite`` weighs several.
The scorers of tables and of images each have a registry of score types by name.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from scipy.stats import qmc

from vae_anomaly.scoring.missing import KNOTS, at_share
from vae_anomaly.vae.layers import kl_divergence, monte_carlo_kl

#: What a view says of n rows: a float tensor (n, columns), and one (n,) that no column owns.
Terms = tuple[tf.Tensor, tf.Tensor]


class EncodedRows:
    """Rows and what the model says of them, each computed once, when a view first asks for it.

    Parameters
    ----------
    model : vae_anomaly.vae.models.VAE or vae_anomaly.vae.models.Autoencoder
    inputs : tensor x, or (x, observed)
        Preprocessed, as the model takes them.
    noise : tensor, (n_draws, latent_dim)
        Standard normal draws, the same for all rows.
    """

    def __init__(self, model: keras.Model, inputs: Any, noise: tf.Tensor) -> None:
        self.model = model
        self.inputs = inputs
        self.noise = noise

    @cached_property
    def posterior(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and log-variance of q(z|x), each (n, latent_dim)."""
        return self.model.encode(self.inputs)

    @cached_property
    def z(self) -> tf.Tensor:
        """Draws of q(z|x), (n, n_draws, latent_dim)."""
        z_mean, z_log_var = self.posterior
        return z_mean[:, None, :] + ops.exp(z_log_var / 2)[:, None, :] * self.noise

    @cached_property
    def log_prob(self) -> tf.Tensor:
        """Log p(x_d|z_k), (n, n_draws, columns); 0 where a cell is missing."""
        return self.model.feature_log_prob(self.inputs, self.z)


class _Learned(keras.layers.Layer):
    """A layer whose weights are assigned to by a method that learns."""

    def _constant(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        return self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)


class View(_Learned):
    """A quantity measured of each row; higher is more normal.

    Subclasses define ``terms``; those that learn from training rows define ``learn`` too, and
    name in ``own_weights`` what they have learned.
    """

    #: Whether the model needs a latent distribution, as a ``VAE`` has and an ``Autoencoder`` not.
    needs_posterior = True

    #: Unit of the terms.
    unit = "nats"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.built = True

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        """The weights to save, by name."""
        return {}

    def learn(
        self, model: keras.Model, inputs: Any, is_held_out: np.ndarray, seed: int | None
    ) -> None:
        """Learn from training rows, after the model was trained.

        Parameters
        ----------
        model : vae_anomaly.vae.models.VAE
        inputs : tuple of arrays
            All training rows, preprocessed: x and, of tables, which cells were observed.
        is_held_out : bool array, (n,)
            Rows that the model was not trained on, or all.
        seed : int or None
        """

    def terms(self, rows: EncodedRows) -> Terms:
        """Return what each column adds, (n, columns), and what no column owns, (n,)."""
        raise NotImplementedError


class ReconstructionError(View):
    """-(x_d - reconstruction_d)^2, in squared units of the preprocessed columns."""

    needs_posterior = False
    unit = "squared error"

    def terms(self, rows: EncodedRows) -> Terms:
        columns = -rows.model.squared_error(rows.inputs)
        return columns, tf.zeros_like(columns[:, 0])


class ReconstructionProbability(View):
    """(1/K) sum_k log p(x_d|z_k), in nats (An & Cho 2015, algorithm 4)."""

    def terms(self, rows: EncodedRows) -> Terms:
        columns = ops.mean(rows.log_prob, axis=1)
        return columns, tf.zeros_like(columns[:, 0])


class Elbo(View):
    """The evidence lower bound: as ``ReconstructionProbability``, and -KL(q(z|x) || p(z))."""

    def terms(self, rows: EncodedRows) -> Terms:
        divergence = ops.sum(kl_divergence(*rows.posterior), axis=-1)
        return ops.mean(rows.log_prob, axis=1), -divergence


class ImportanceWeighted(View):
    """log (1/K) sum_k w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) (Burda et al. 2016, equation 8).

    Each column's term is the mean of log p(x_d|z_k) with weights w_k.
    """

    def terms(self, rows: EncodedRows) -> Terms:
        z_mean, z_log_var = rows.posterior
        kl = monte_carlo_kl(rows.z, z_mean[:, None, :], z_log_var[:, None, :])
        log_weight = float64(ops.sum(rows.log_prob, axis=-1) - ops.sum(kl, axis=-1))
        share = tf.nn.softmax(log_weight, axis=1)
        columns = tf.reduce_sum(share[:, :, None] * float64(rows.log_prob), axis=1)
        total = tf.reduce_logsumexp(log_weight, axis=1) - np.log(rows.noise.shape[0])
        return columns, total - tf.reduce_sum(columns, axis=1)


class ScoreType(_Learned):
    """What a score is made of: views, and how their terms are put together.

    Subclasses define ``combined``; those that learn what is usual define ``learn_usual`` too, and
    add what they have learned to ``own_weights``.

    Parameters
    ----------
    views : sequence of View
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, views: Sequence[View], **kwargs: Any) -> None:
        super().__init__(dtype="float64", **kwargs)
        self.views = list(views)
        self.built = True

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        """The weights to save, those of the views included, by name."""
        own = (view.own_weights for view in self.views)
        return {name: weight for weights in own for name, weight in weights.items()}

    def learn_usual(self, measured: Iterable[tuple[list[Terms], Any]]) -> None:
        """Learn what is usual, from rows that the views have measured.

        Parameters
        ----------
        measured : iterable of (terms, observed)
            Terms are NumPy arrays, one pair for each view. A table gives an item for each of
            ``missing.KNOTS``: calibration rows, first whole and then with ever more cells hidden.
            Images give a sample of the training images, pixels also those of them that the model
            has not seen, with ``observed`` None.
        """

    def combined(self, terms: list[Terms], *observed: tf.Tensor) -> Terms:
        """Put the views' terms together.

        Parameters
        ----------
        terms : list of Terms
            One pair for each view.
        *observed : tensor, (n, columns)
            Which cells of a table were observed; nothing for images.

        Returns
        -------
        float64 tensors (n, columns) and (n,)
        """
        raise NotImplementedError

    def baseline(self, features: np.ndarray) -> np.ndarray:
        """Return what each column usually is, (columns,), from terms of normal rows, (n, columns).

        Contributions are less it. It adds up to the mean of the terms' sums.
        """
        return features.mean(axis=0)


class SingleView(ScoreType):
    """The score that is one view.

    Parameters
    ----------
    view : View
    **kwargs
        ``name`` of ``keras.layers.Layer``.
    """

    def __init__(self, view: View, **kwargs: Any) -> None:
        super().__init__([view], **kwargs)

    def combined(self, terms: list[Terms], *observed: tf.Tensor) -> Terms:
        ((columns, rest),) = terms
        return float64(columns), float64(rest)


class Composite(ScoreType):
    r"""A weighted mean of several views, mostly of the one in which a row is most unusual.

    .. math:: \sum_v w_{r(v)} (s_v - m_v) + \frac1V \sum_v m_v + \sum_u s_u

    s_v is what view v says of a row, m_v its median over calibration rows that have as many
    missing cells, and r(v) the rank of s_v - m_v among the V views, the lowest first: what is
    unusual in one view need not be unusual in the others. The mean of the medians keeps the score
    in the range of its views. What views u say that have no rank is added. A score of several
    likelihoods of parts of the data, as the composite likelihoods of Varin, Reid & Firth (2011),
    "An overview of composite likelihood methods".

    Parameters
    ----------
    views : sequence of View
        The first tells how well the values of a row go together. Of equal ranks, a later view
        goes before an earlier one.
    rank_weights : sequence of float
        The weight of the view that is furthest below its median, of the next, ...; they sum to 1.
        Views after as many as there are weights have no rank.
    n_columns : int
        Columns of the table.
    **kwargs
        ``name`` of ``keras.layers.Layer``.

    Attributes
    ----------
    usual_features : keras.Variable, (V, columns)
        Each ranked view's mean term of each column over the calibration rows.
    usual_excess : keras.Variable, (V, shares)
        Each ranked view's median beyond that, at the shares of missing cells in ``missing.KNOTS``.
    """

    def __init__(
        self,
        views: Sequence[View],
        rank_weights: Sequence[float],
        n_columns: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(views, **kwargs)
        self.rank_weights = tuple(rank_weights)
        n_ranked = len(self.rank_weights)
        self.usual_features = self._constant("usual_features", (n_ranked, n_columns))
        self.usual_excess = self._constant("usual_excess", (n_ranked, len(KNOTS)))

    @property
    def own_weights(self) -> dict[str, keras.Variable]:
        usual = {"usual_features": self.usual_features, "usual_excess": self.usual_excess}
        return {**super().own_weights, **usual}

    def learn_usual(self, measured: Iterable[tuple[list[Terms], Any]]) -> None:
        usual, shares, medians = None, [], []
        for terms, observed in measured:
            terms, _ = self._by_rank(terms)
            columns = np.stack([columns for columns, _ in terms], axis=1).astype(np.float64)
            rest = np.stack([rest for _, rest in terms], axis=1)
            columns *= observed[:, None, :]
            if usual is None:  # of the whole rows
                usual = columns.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
            columns -= usual * observed[:, None, :]
            shares.append(1 - observed.mean())
            medians.append(np.median(columns.sum(axis=2) + rest, axis=0))
        self.usual_features.assign(usual)
        self.usual_excess.assign([np.interp(KNOTS, shares, view) for view in np.transpose(medians)])

    def coherence(self, terms: list[Terms], *observed: tf.Tensor) -> tf.Tensor:
        """Return how well the values of rows go together, (n,): the first view beyond its median.

        Arguments as in ``combined``.
        """
        columns, rest = self._beyond_usual(terms, *observed)
        return tf.reduce_sum(columns[:, 0], axis=1) + rest[:, 0]

    def _beyond_usual(self, terms, observed):
        """Terms beyond what is usual, of the ranked views: (n, V, columns) and (n, V)."""
        terms, _ = self._by_rank(terms)
        columns = tf.stack([float64(columns) for columns, _ in terms], axis=1)
        columns = (columns - self.usual_features) * float64(observed)[:, None, :]
        rest = tf.stack([float64(rest) for _, rest in terms], axis=1)
        usual = [at_share(knots, observed) for knots in tf.unstack(self.usual_excess.value)]
        return columns, rest - tf.stack(usual, axis=1)

    def combined(self, terms: list[Terms], *observed: tf.Tensor) -> Terms:
        columns, rest = self._beyond_usual(terms, *observed)
        weights = self._weights_by_rank(tf.reduce_sum(columns, axis=2) + rest)
        features = tf.reduce_sum(weights[:, :, None] * columns, axis=1)
        features += tf.reduce_mean(self.usual_features, axis=0)
        latent = tf.reduce_sum(weights * rest, axis=1) + tf.reduce_mean(self.usual_excess[:, 0])
        for columns, rest in self._by_rank(terms)[1]:
            features, latent = features + float64(columns), latent + float64(rest)
        return features, latent

    def _by_rank(self, terms):
        """Split what the views say: those that have a rank, and those that have none."""
        return terms[: len(self.rank_weights)], terms[len(self.rank_weights) :]

    def _weights_by_rank(self, excess: tf.Tensor) -> tf.Tensor:
        """Weights of the views, (n, views), by how far below its median each of them is."""
        excesses = tf.unstack(excess, axis=1)
        ranks = []
        for index, own in enumerate(excesses):
            before = [other < own for other in excesses[:index]]
            before += [other <= own for other in excesses[index + 1 :]]
            ranks.append(tf.add_n([tf.cast(is_before, tf.int32) for is_before in before]))
        return tf.gather(tf.constant(self.rank_weights, tf.float64), tf.stack(ranks, axis=1))


def _alone(view: type[View]) -> Callable[[Any], ScoreType]:
    return lambda _: SingleView(view())


#: Score types that any model has, by name: functions of a preprocessor, without options.
MODEL_SCORES: dict[str, Callable[[Any], ScoreType]] = {
    "reconstruction_probability": _alone(ReconstructionProbability),
    "importance_weighted": _alone(ImportanceWeighted),
    "elbo": _alone(Elbo),
    "reconstruction_error": _alone(ReconstructionError),
}


def float64(tensor: tf.Tensor) -> tf.Tensor:
    """Return the tensor as float64, in which sums and offsets are computed."""
    return tf.cast(tensor, tf.float64)


def noise_bank(n_draws: int, latent_dim: int, seed: int | None) -> np.ndarray:
    """Draw standard normal noise, float32 (n_draws, latent_dim), each draw followed by its mirror.

    Antithetic pairs of a scrambled Sobol sequence, which covers space more evenly than independent
    draws.

    Examples
    --------
    >>> noise_bank(4, 2, seed=0).sum(axis=0).tolist()
    [0.0, 0.0]
    """
    sampler = qmc.MultivariateNormalQMC(np.zeros(latent_dim), rng=np.random.default_rng(seed))
    pairs = 2 ** int(np.ceil(np.log2(max(1, (n_draws + 1) // 2))))  # Sobol sets are powers of 2
    half = sampler.random(pairs)
    return np.stack([half, -half], axis=1).reshape(-1, latent_dim)[:n_draws].astype("float32")
