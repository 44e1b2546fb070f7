"""Training with a budget of gradient steps, early stopping and progress a person can read."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.vae.flat_adam import FlatAdam
from vae_anomaly.vae.models import VAE, Autoencoder
from vae_anomaly.vae.schedules import PacedCosineDecay

# The validation loss is looked at this often, at most; the best weights seen are kept.
_N_EVALUATIONS = 40
# Batches in each call of the graph that looks at it.
_WATCHED_BATCHES = 16


class Trainer:
    """Trains a model by Adam on rows that a function gives; its steps are compiled once.

    ``keras.Model.fit`` does the same, in a third more processor time for networks and batches as
    small as those of tables: its data pipeline takes 0.2 to 0.4 ms a step, its ``evaluate`` 20 ms
    a look.

    Parameters
    ----------
    model : VAE or Autoencoder
    inputs_of : callable
        Row numbers, an int64 tensor (batch,) -> the model's inputs, in TensorFlow operations.
    weights : float array (n,) or None
        What each row counts in the loss, 1 on average; None: all the same.
    """

    def __init__(
        self,
        model: VAE | Autoencoder,
        inputs_of: Callable[[tf.Tensor], Any],
        weights: np.ndarray | None = None,
    ) -> None:
        self.model = model
        self.inputs_of = inputs_of
        # Captured by the graphs, not written into them, for there may be millions.
        self._weights = None if weights is None else tf.constant(weights, tf.float32)

    def train(
        self,
        is_validation: np.ndarray,
        *,
        max_steps: int,
        batch_size: int,
        learning_rate: float,
        patience: int,
        seed: int,
        validation_draws: int = 2000,
        most_validation_rows: int = 20_000,
        verbose: int = 0,
    ) -> dict[str, list[float]]:
        """Fit the model with a cosine-decayed learning rate; keep its best weights.

        Parameters
        ----------
        is_validation : bool array, (n,)
            Rows to watch and not to train on. If there are none, training runs for ``max_steps``.
        max_steps, batch_size : int
            Gradient steps, and rows in each (all rows if there are fewer). Every row is used
            equally often.
        learning_rate : float
            Learning rate of the first step.
        patience : int
            Steps without a better validation loss after which training stops.
        seed : int
            Seed of the order of rows.
        validation_draws : int
            Smallest number of draws of z in one evaluation, so that few rows give a steady loss.
        most_validation_rows : int
            Largest number of held-out rows to evaluate, which bounds the time and the memory that
            evaluation takes.
        verbose : int
            1: a progress bar on stderr.

        Returns
        -------
        dict of str to list of float
            ``step`` and, at each of these steps, the mean of each term of the model since the step
            before; names that start with ``val_`` are of the validation rows.

        Raises
        ------
        FloatingPointError
            The loss became NaN or infinite.
        """
        rows = np.flatnonzero(~is_validation)
        watched = np.flatnonzero(is_validation)[:most_validation_rows]
        at_once = max(1, max_steps // _N_EVALUATIONS)
        n_looks = max_steps // at_once
        self._compile(PacedCosineDecay(learning_rate, n_looks * at_once))
        batches = _batches(rows, n_looks * at_once, batch_size, np.random.default_rng(seed))
        self._trace(batches.shape[1], at_once)
        look = None
        if len(watched):
            repeated = np.resize(watched, len(watched) * -(-validation_draws // len(watched)))
            look = self._look_at(repeated, _WATCHED_BATCHES * batch_size)
        with _progress(len(batches)) if verbose else contextlib.nullcontext() as show:
            return self._rounds(batches, look, max(1, patience // at_once), show)

    def retrain(self, rows: np.ndarray, *, n_steps: int, through_step: int, seed: int) -> None:
        """Train the model, that ``train`` has trained, once more, from the weights it has now.

        Nothing is compiled again, so that a short training takes a short time.

        Parameters
        ----------
        rows : int array
            Rows to train on, as many in each step as in ``train``, also where they are fewer.
        n_steps : int
            Gradient steps, rounded up to a multiple of those between two looks of ``train``.
        through_step : int
            The learning rate passes through what it was in ``train`` up to this step.
        seed : int
            Seed of the order of rows.
        """
        n_rounds = max(1, -(-n_steps // self._at_once))
        n_steps = n_rounds * self._at_once
        optimizer = self.model.optimizer
        for variable in optimizer.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))
        optimizer._learning_rate.pace.assign(through_step / n_steps)
        # Other batches than in ``train`` would be another graph.
        rows = np.tile(rows, -(-self._batch_size // len(rows)))
        batches = _batches(rows, n_steps, self._batch_size, np.random.default_rng(seed))
        for part in np.split(batches, n_rounds):
            self._steps(tf.constant(part))

    def _batch_of(self, indices: tf.Tensor) -> tuple[Any, ...]:
        """Return what ``RowLossModel.train_step`` takes of rows."""
        if self._weights is None:
            return (self.inputs_of(indices),)
        weight = tf.gather(self._weights, indices)
        return self.inputs_of(indices), weight, weight  # the target in between is ignored

    def _compile(self, schedule: PacedCosineDecay) -> None:
        variables = self.model.trainable_variables
        optimizer = FlatAdam if FlatAdam.suits(variables) else keras.optimizers.Adam
        self.model.compile(optimizer(schedule))
        self.model.optimizer.build(variables)

    def _trace(self, batch_size: int, at_once: int) -> None:
        """Make ``_steps``, which takes the row numbers of some steps, (steps, batch)."""
        self._batch_size, self._at_once = batch_size, at_once

        def steps(batches):
            n_steps = tf.shape(batches)[0]

            def step(index, batch):
                # Files of the next batch are read while this one trains.
                following = self._batch_of(batches[tf.minimum(index + 1, n_steps - 1)])
                self.model.distribute_strategy.run(self.model.train_step, (batch,))
                return index + 1, following

            first = 0, self._batch_of(batches[0])
            tf.while_loop(lambda index, _: index < n_steps, step, first)

        spec = tf.TensorSpec([None, batch_size], tf.int64)
        self._steps = tf.function(steps, autograph=False).get_concrete_function(spec)

    def _look_at(self, rows: np.ndarray, at_once: int) -> Callable[[], dict[str, float]]:
        """Return a function that evaluates the terms of rows, which are kept as the model's input.

        It resets the metrics of training.
        """
        # In a graph, which decodes images one after the other.
        spec = tf.TensorSpec([None], tf.int64)
        read = tf.function(self._batch_of, autograph=False).get_concrete_function(spec)
        starts = range(0, len(rows), at_once)
        chunks = [read(tf.constant(rows[start : start + at_once])) for start in starts]
        specs = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype), chunks[0]
        )

        def evaluate(chunk):
            self.model.distribute_strategy.run(self.model.test_step, (chunk,))

        evaluate = tf.function(evaluate, autograph=False).get_concrete_function(specs)

        def look():
            self.model.reset_metrics()
            for chunk in chunks:
                evaluate(chunk)
            return self._terms()

        return look

    def _terms(self) -> dict[str, float]:
        return {metric.name: float(metric.result()) for metric in self.model.metrics}

    def _rounds(self, batches, look, patience, show):
        """Train and look in turns; return the history."""
        history: dict[str, list[float]] = {"step": []}
        best, best_weights, waited = np.inf, None, 0
        for end in range(self._at_once, len(batches) + 1, self._at_once):
            self.model.reset_metrics()
            self._steps(tf.constant(batches[end - self._at_once : end]))
            found = self._terms()
            if look:
                found |= {f"val_{name}": value for name, value in look().items()}
            _check_finite(found, end)
            for name, value in {"step": end, **found}.items():
                history.setdefault(name, []).append(value)
            if show:
                show(end, found)
            if look and found["val_loss"] < best:
                best, best_weights, waited = found["val_loss"], self.model.get_weights(), 0
            elif look:
                waited += 1
                if waited >= patience:
                    break
        if best_weights is not None:
            self.model.set_weights(best_weights)
        return history


def _check_finite(terms: dict[str, float], step: int) -> None:
    if not np.isfinite(list(terms.values())).all():
        raise FloatingPointError(
            f"Expected finite losses. Received: {terms['loss']} after {step} steps. Lower "
            "`learning_rate`."
        )


def best_step(history: dict[str, list[Any]]) -> int:
    """Return the step whose weights ``Trainer.train`` kept, given what it returned."""
    losses = history.get("val_loss", [])
    return int(history["step"][np.argmin(losses) if losses else -1])


def _batches(
    rows: np.ndarray, n_steps: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the row numbers of each step, (n_steps, batch): shuffled passes, end to end."""
    batch_size = min(batch_size, len(rows))
    n_passes = -(-n_steps * batch_size // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(n_passes)])
    return order[: n_steps * batch_size].reshape(n_steps, batch_size)


@contextlib.contextmanager
def _progress(max_steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Show a progress bar on stderr; yield a function of the step and the losses."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("training"),
        BarColumn(bar_width=8),  # the line has 80 columns
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=max_steps)
        best = np.inf, 0

        def show(step, logs):
            nonlocal best
            text = f"loss {logs['loss']:.4g}"
            if "val_loss" in logs:
                # Those weights are kept; the last loss can be far worse.
                best = min(best, (logs["val_loss"], step))
                text = f"best held-out loss {best[0]:.4g} (step {best[1]:.0f})"
            bar.update(task, completed=step, description=text)

        yield show
