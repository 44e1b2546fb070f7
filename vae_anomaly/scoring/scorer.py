"""Where scores are put together: raw columns in, the named outputs out.

The detector, the command line and every export call the same ``AnomalyScorer``.
"""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from scipy.stats import qmc

from vae_anomaly.scoring.marginals import Marginals
from vae_anomaly.vae.layers import kl_divergence, monte_carlo_kl

SCORE_TYPES = (
    "composite",
    "reconstruction_probability",
    "importance_weighted",
    "elbo",
    "reconstruction_error",
)
OUTPUTS = ("score", "decision", "is_anomaly", "p_value", "feature_log_prob", "latent")

# Rows per call of the graph, always exactly so many: a matrix product takes another way, with
# other last bits, for another number of rows, and for the rows that do not fill its blocks. A
# block is 24 rows with AVX2 and 48 with AVX-512, so a multiple of both leaves no such rows. Large
# enough to keep the processor busy, small enough for its caches, and for one row to be quick.
_CHUNK_ROWS = 480
_CHUNKS_AT_ONCE = 2
# What missing cells cost is measured at shares of 0, 10%, ... 100%, on so many rows each.
_N_SHARES = 11
_SHORTFALL_ROWS = 512
# Training rows whose reconstructions make up the columns' marginals.
_MARGINAL_ROWS = 512
# What the odder view of a row counts in the composite score; the other view has the rest.
_ODDER_SHARE = 0.75


@keras.saving.register_keras_serializable(package="vae_anomaly")
class AnomalyScorer(keras.Model):
    """Score raw rows with a trained model, always with the same draws of z.

    A score is a pure function of one row: the noise bank of shape (n_draws, latent_dim) is a
    weight, drawn once (antithetic pairs of a scrambled Sobol sequence), the same for all rows.

    Parameters
    ----------
    preprocessor : vae_anomaly.tables.preprocessing.TablePreprocessor
        Adapted.
    model : vae_anomaly.vae.models.VAE or vae_anomaly.vae.models.Autoencoder
        Trained. An ``Autoencoder`` has "reconstruction_error" only.
    score_type : str
        One of ``SCORE_TYPES``: what to compute, in nats (reconstruction error: squared standard
        deviations); higher is more normal. With K draws z_k of q(z|x):

        - reconstruction probability: (1/K) sum_k log p(x|z_k)  (An & Cho 2015);
        - importance weighted: log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x)  (Burda et al. 2016,
          equation 8), an estimate of log p(x), where each column takes part once;
        - elbo: reconstruction probability - KL(q(z|x) || p(z));
        - composite: a weighted mean of two views of a row, the elbo (how well it goes together)
          and sum_d log p(x_d), the columns' marginals (``marginals.Marginals``: how common its
          values are by themselves). The view that is further below its median over held-out rows
          (with as many missing cells) has weight 3/4: what is odd in one view need not be odd in
          the other. Medians are made equal, to their mean. Made of parts, as the composite
          log-likelihoods of Varin, Reid & Firth (2011);
        - reconstruction error: -(x - reconstruction)^2, summed.
    n_draws : int
        K >= 1.
    n_calibration : int
        How many calibration scores will be kept for p-values, >= 1.
    seed : int or None
        Seed of the noise bank.
    **kwargs
        ``name`` of ``keras.Model``.

    Attributes
    ----------
    offset : keras.Variable
        Scores under it are anomalies. Assign to it to change the threshold.
    """

    def __init__(
        self, preprocessor, model, *, score_type, n_draws=8, n_calibration=1, seed=None, **kwargs
    ):
        if score_type not in SCORE_TYPES:
            raise ValueError(
                f"Expected `score_type` to be one of {SCORE_TYPES}. "
                f"Received: score_type={score_type!r}"
            )
        if score_type != "reconstruction_error" and not hasattr(model, "feature_log_prob"):
            raise ValueError(
                "Expected score_type='reconstruction_error' for a model without a latent "
                f"distribution. Received: score_type={score_type!r}"
            )
        if not n_draws >= 1:
            raise ValueError(f"Expected `n_draws` >= 1. Received: n_draws={n_draws!r}")
        # Raw columns must not be cast before they are centred.
        super().__init__(autocast=False, **kwargs)
        self.preprocessor = preprocessor
        self.model = model
        self.score_type = score_type
        self.n_draws = int(n_draws)
        self.n_calibration = int(n_calibration)
        self.seed = seed
        self.noise = self._constant("noise", (self.n_draws, model.latent_dim), "float32")
        self.noise.assign(_noise_bank(self.n_draws, model.latent_dim, seed))
        self.latent_mean = self._constant("latent_mean", ())
        self.offset = self._constant("offset", ())
        self.calibration_scores = self._constant("calibration_scores", (self.n_calibration,))
        self._functions = {}
        self._add_own_weights()
        self.built = True

    def _add_own_weights(self):
        columns = self.preprocessor.column_names
        self.feature_mean = self._constant("feature_mean", (len(columns),))
        if self.score_type == "composite":
            self.marginals = Marginals(
                self.preprocessor.column_widths,
                self.preprocessor.n_numeric,
                self.preprocessor.n_boolean,
            )
            # Of the two views: what each column usually has, and what rows usually have beyond
            # that, by share of missing cells.
            self.usual_features = self._constant("usual_features", (2, len(columns)))
            self.usual_excess = self._constant("usual_excess", (2, _N_SHARES))
        self.missing_shortfall = self._constant("missing_shortfall", (_N_SHARES,))
        # Outputs are in the order of the columns of the input.
        self._output_order = [columns.index(name) for name in self.preprocessor.kinds]

    @property
    def own_weights(self):
        """The weights to save beside those of preprocessor and model."""
        own = (self.noise, self.feature_mean, self.latent_mean, self.offset)
        composite = []
        if self.score_type == "composite":
            composite = [*self.marginals.weights, self.usual_features, self.usual_excess]
        return [*composite, *own, self.missing_shortfall, self.calibration_scores]

    def _constant(self, name, shape, dtype="float64"):
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    @property
    def chunk_rows(self):
        """Rows in a call of the graph."""
        return _CHUNK_ROWS

    @property
    def baseline(self):
        """Mean score of the training rows, in nats: what all rows start from."""
        return float(np.sum(self.feature_mean.numpy()) + self.latent_mean.numpy())

    def call(self, inputs):
        """Score raw columns.

        Parameters
        ----------
        inputs : dict of column name to tensor (n,)
            As ``TablePreprocessor.call`` takes them.

        Returns
        -------
        dict of tensors
            ``score``, ``decision`` (score - offset) and ``p_value``, float64 (n,);
            ``is_anomaly``, bool (n,); ``feature_log_prob``, float64 (n, columns): what each
            column adds to the score relative to its mean over the training rows, 0 where
            missing; ``latent``, float64 (n,): what no column owns, relative to its mean, and
            for rows with missing cells the mean shortfall of rows that lack as many.
            score = sum of feature_log_prob + latent + baseline.
        """
        x, observed = self.preprocessor(inputs)
        features, latent = self._terms((x, observed))
        features = (features - self.feature_mean) * tf.cast(observed, tf.float64)
        latent = latent - self._at_share(self.missing_shortfall, observed) - self.latent_mean
        outputs = self._outputs(features, latent)
        ordered = tf.gather(outputs["feature_log_prob"], self._output_order, axis=1)
        return {**outputs, "feature_log_prob": ordered}

    def _outputs(self, features, latent):
        """All outputs, given what features, (n, d), and latent, (n,), add to the baseline."""
        baseline = tf.reduce_sum(self.feature_mean) + self.latent_mean
        score = tf.reduce_sum(features, axis=1) + latent + baseline
        at_or_below = tf.searchsorted(self.calibration_scores.value, score, side="right")
        return {
            "score": score,
            "decision": score - self.offset,
            "is_anomaly": score < self.offset,
            "p_value": (1 + tf.cast(at_or_below, tf.float64)) / (self.n_calibration + 1),
            "feature_log_prob": features,
            "latent": latent,
        }

    def _at_share(self, knots, observed):
        """Values, (n,), at the rows' shares of missing cells: linear between knots, (n_shares,)."""
        position = (1 - tf.reduce_mean(tf.cast(observed, tf.float64), axis=1)) * (_N_SHARES - 1)
        below = tf.minimum(tf.floor(position), _N_SHARES - 2)
        index = tf.cast(below, tf.int32)
        low, high = (tf.gather(knots, index + step) for step in (0, 1))
        return low + (position - below) * (high - low)

    def _terms(self, inputs):
        """Raw score, float64, as (n, features) of what each owns and (n,) of what none owns."""
        if self.score_type == "reconstruction_error":
            features = -_float64(self.model.squared_error(inputs))
            return features, tf.zeros_like(features[:, 0])
        z, z_mean, z_log_var = self._draws(inputs)
        if self.score_type == "composite":
            return self._composite_terms(inputs, z, z_mean, z_log_var)
        log_prob = self.model.feature_log_prob(inputs, z)
        if self.score_type == "importance_weighted":
            return self._importance_weighted_terms(log_prob, z, z_mean, z_log_var)
        features = _float64(ops.mean(log_prob, axis=1))
        if self.score_type == "elbo":
            return features, -_float64(ops.sum(kl_divergence(z_mean, z_log_var), axis=-1))
        return features, tf.zeros_like(features[:, 0])

    def _draws(self, inputs):
        z_mean, z_log_var = self.model.encode(inputs)
        return (
            z_mean[:, None, :] + ops.exp(z_log_var / 2)[:, None, :] * self.noise,
            z_mean,
            z_log_var,
        )

    def _importance_weighted_terms(self, log_prob, z, z_mean, z_log_var):
        kl = monte_carlo_kl(z, z_mean[:, None, :], z_log_var[:, None, :])
        log_weight = _float64(ops.sum(log_prob, axis=-1) - ops.sum(kl, axis=-1))
        share = tf.nn.softmax(log_weight, axis=1)
        features = tf.reduce_sum(share[:, :, None] * _float64(log_prob), axis=1)
        total = tf.reduce_logsumexp(log_weight, axis=1) - np.log(self.n_draws)
        return features, total - tf.reduce_sum(features, axis=1)

    def _composite_terms(self, inputs, z, z_mean, z_log_var):
        columns, rest = self._views(inputs, z, z_mean, z_log_var)
        usual = [self._at_share(knots, inputs[1]) for knots in tf.unstack(self.usual_excess.value)]
        rest -= tf.stack(usual, axis=1)
        together, alone = tf.unstack(tf.reduce_sum(columns, axis=2) + rest, axis=1)
        odder = tf.constant(_ODDER_SHARE, tf.float64)
        share = tf.where(together < alone, odder, 1 - odder)
        shares = tf.stack([share, 1 - share], axis=1)
        features = tf.reduce_sum(shares[:, :, None] * columns, axis=1)
        features += tf.reduce_mean(self.usual_features, axis=0)
        level = tf.reduce_mean(self.usual_excess[:, 0])
        return features, tf.reduce_sum(shares * rest, axis=1) + level

    def _views(self, inputs, z, z_mean, z_log_var):
        """ELBO and marginals: (n, 2, columns) above the usual, and (n, 2) that no column owns."""
        log_prob = ops.mean(self.model.feature_log_prob(inputs, z), axis=1)
        views = _float64(tf.stack([log_prob, self.marginals(inputs[0])], axis=1))
        divergence = _float64(ops.sum(kl_divergence(z_mean, z_log_var), axis=-1))
        columns = (views - self.usual_features) * _float64(inputs[1])[:, None, :]
        return columns, tf.stack([-divergence, tf.zeros_like(divergence)], axis=1)

    def calibrate(self, arrays, is_calibration):
        """Learn the columns' marginals, usual values, cost of missing cells, calibration scores.

        A row that lacks cells is reconstructed worse, or has less of a prior term, for that
        alone. What this costs is measured by hiding cells of the calibration rows, and made up
        for: such rows are then neither flagged nor excused for it.

        Parameters
        ----------
        arrays : dict of column name to array (n,)
            All training rows.
        is_calibration : bool array, (n,)
            The ``n_calibration`` rows that the model was not trained on.

        Returns
        -------
        (n,) float64 array
            Scores of all rows.
        """
        self.feature_mean.assign(np.zeros(len(self._output_order)))
        self.latent_mean.assign(0.0)
        self.missing_shortfall.assign(np.zeros(_N_SHARES))
        if self.score_type == "composite":
            self._adapt_marginals(arrays)
            self._adapt_views(arrays, is_calibration)
        outputs = self.run(arrays, ("feature_log_prob", "latent"))
        features = outputs["feature_log_prob"][:, np.argsort(self._output_order)]
        observed = self.preprocess(arrays)[1]
        self.feature_mean.assign(features.sum(axis=0) / np.maximum(observed.sum(axis=0), 1))
        self.latent_mean.assign(outputs["latent"].mean())
        self.missing_shortfall.assign(self._measured_shortfall(arrays, is_calibration))
        if not observed.all():
            self.latent_mean.assign_add(self.run(arrays, ("latent",))["latent"].mean())
        scores = self.run(arrays, ("score",))["score"]
        self.calibration_scores.assign(np.sort(scores[is_calibration]))
        return scores

    def _adapt_marginals(self, arrays):
        rng = np.random.default_rng(self.seed)
        n_rows = len(next(iter(arrays.values())))
        rows = rng.permutation(n_rows)[:_MARGINAL_ROWS]
        inputs = self.preprocess({name: array[rows] for name, array in arrays.items()})
        z_mean, z_log_var = self.model.encode(inputs)
        z = z_mean + ops.exp(z_log_var / 2) * _noise_bank(
            len(rows), self.model.latent_dim, self.seed
        )
        self.marginals.adapt(self.model.likelihood, self.model.decoder(z))

    def _adapt_views(self, arrays, is_calibration):
        """Learn what is usual of calibration rows: means of columns, then medians of both views."""

        def views(inputs):
            x, observed = self.preprocessor(inputs)
            return [*self._views((x, observed), *self._draws((x, observed))), observed]

        self.usual_features.assign(np.zeros(self.usual_features.shape))
        shares, medians = [], []
        for index, partial in enumerate(self._with_holes(arrays, is_calibration)):
            columns, rest, observed = self._chunked("views", views, partial, range(3))
            if index == 0:
                n_observed = np.maximum(observed.sum(axis=0), 1)
                self.usual_features.assign(columns.sum(axis=0) / n_observed)
                columns -= self.usual_features.numpy() * observed[:, None, :]
            shares.append(1 - observed.mean())
            medians.append(np.median(columns.sum(axis=2) + rest, axis=0))
        knots = np.linspace(0, 1, _N_SHARES)
        self.usual_excess.assign([np.interp(knots, shares, view) for view in np.transpose(medians)])

    def _measured_shortfall(self, arrays, is_calibration):
        """Mean score of calibration rows, less the mean with a share of cells hidden, per knot."""
        shares, means = [], []
        for partial in self._with_holes(arrays, is_calibration):
            shares.append(1 - self.preprocess(partial)[1].mean())
            means.append(self.run(partial, ("score",))["score"].mean())
        knots = np.linspace(0, 1, _N_SHARES)
        return np.interp(knots, shares, np.subtract(means, means[0]))

    def _with_holes(self, arrays, is_calibration):
        """Yield calibration rows, at first as they are, then with ever more cells hidden."""
        rng = np.random.default_rng(self.seed)
        rows = rng.permutation(np.flatnonzero(is_calibration))[:_SHORTFALL_ROWS]
        # Few rows are hidden in many ways, many rows in one.
        rows = np.tile(rows, -(-_SHORTFALL_ROWS // len(rows)))
        whole = {name: array[rows] for name, array in arrays.items()}
        for share in np.linspace(0, 1, _N_SHARES):
            partial = {}
            for name, array in whole.items():
                hidden = rng.uniform(size=len(array)) < share
                missing = "" if self.preprocessor.kinds[name] == "categorical" else np.nan
                partial[name] = np.where(hidden, missing, array)
            yield partial

    def run(self, arrays, names=OUTPUTS):
        """Compute the named outputs of ``call`` for NumPy columns, a chunk of rows at a time.

        Parameters
        ----------
        arrays : dict of column name to array (n,)
        names : sequence of str

        Returns
        -------
        dict of str to array
        """
        return dict(zip(names, self._chunked("outputs", self.call, arrays, names), strict=True))

    def latent(self, arrays):
        """Return the latent means of NumPy columns, float32 (n, latent_dim)."""
        return self._apply("latent", self.model.latent_mean, arrays)

    def reconstruct(self, arrays):
        """Return the model's mean of preprocessed x, float32 (n, features)."""
        return self._apply("reconstruct", self.model.reconstruct, arrays)

    def preprocess(self, arrays):
        """Return ``(x, observed)`` of NumPy columns, float32."""
        return tuple(self._chunked("preprocess", self.preprocessor.call, arrays, (0, 1)))

    def _apply(self, key, method, arrays):
        def function(inputs):
            return [method(self.preprocessor(inputs))]

        return self._chunked(key, function, arrays, (0,))[0]

    def _chunked(self, key, function, data, names):
        """Call a function of raw input chunk by chunk; return the named outputs, concatenated."""
        if key not in self._functions:
            self._functions[key] = self._compiled(function, data)
        compiled = self._functions[key]
        n_rows = self._n_rows(data)

        def chunk(start):
            rows = slice(start, min(start + self.chunk_rows, n_rows))
            outputs = compiled(*self._block(data, rows))
            return [outputs[name].numpy()[: rows.stop - rows.start] for name in names]

        # TensorFlow lets go of the interpreter: one chunk computes while another is made ready.
        with ThreadPoolExecutor(_CHUNKS_AT_ONCE) as pool:
            chunks = list(pool.map(chunk, range(0, max(n_rows, 1), self.chunk_rows)))
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _n_rows(self, arrays):
        return len(next(iter(arrays.values())))

    def _block(self, arrays, rows):
        """The rows as ``_compiled`` takes them, filled up to ``chunk_rows``."""
        texts = [name for name, kind in self.preprocessor.kinds.items() if kind == "categorical"]
        numbers = [array for name, array in arrays.items() if name not in texts]
        n_rows = rows.stop - rows.start
        block = np.zeros((self.chunk_rows, len(numbers)))
        for index, array in enumerate(numbers):
            block[:n_rows, index] = array[rows]
        padding = (0, self.chunk_rows - n_rows)
        return tf.constant(block), {
            name: tf.constant(np.pad(arrays[name][rows], padding, constant_values=""))
            for name in texts
        }

    def _compiled(self, function, _):
        """Trace a function of named columns; it takes the numbers as one block, to save calls."""
        kinds = self.preprocessor.kinds
        texts = [name for name, kind in kinds.items() if kind == "categorical"]
        numbers = [name for name in kinds if name not in texts]

        def from_block(block, columns):
            return function(
                {**dict(zip(numbers, tf.unstack(block, axis=1), strict=True)), **columns}
            )

        signature = [
            tf.TensorSpec([None, len(numbers)], tf.float64),
            {name: tf.TensorSpec([None], tf.string) for name in texts},
        ]
        # Concrete, since TensorFlow takes several detectors for one that is traced again
        # and again, and warns.
        return tf.function(
            from_block, input_signature=signature, autograph=False
        ).get_concrete_function()

    def get_config(self):
        return {
            **super().get_config(),
            "preprocessor": keras.saving.serialize_keras_object(self.preprocessor),
            "model": keras.saving.serialize_keras_object(self.model),
            "score_type": self.score_type,
            "n_draws": self.n_draws,
            "n_calibration": self.n_calibration,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("preprocessor", "model")
        }
        return cls(**{**config, **parts})


def _float64(tensor):
    return tf.cast(tensor, tf.float64)


def _noise_bank(n_draws, latent_dim, seed):
    """Antithetic standard normal draws, (n_draws, latent_dim): each followed by its mirror."""
    sampler = qmc.MultivariateNormalQMC(np.zeros(latent_dim), rng=np.random.default_rng(seed))
    pairs = 2 ** int(np.ceil(np.log2(max(1, (n_draws + 1) // 2))))  # Sobol sets are powers of 2
    half = sampler.random(pairs)
    return np.stack([half, -half], axis=1).reshape(-1, latent_dim)[:n_draws].astype("float32")
