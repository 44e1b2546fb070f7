"""Training with a budget of gradient steps, early stopping and progress a person can read."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vae_anomaly.vae.models import VAE, Autoencoder
from vae_anomaly.vae.schedules import PacedCosineDecay

# The validation loss is looked at this often, at most; the best weights seen are kept.
_N_EVALUATIONS = 40


def train(
    model: VAE | Autoencoder,
    inputs_of: Callable[[tf.Tensor], Any],
    is_validation: np.ndarray,
    *,
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    patience: int,
    seed: int,
    validation_draws: int = 2000,
    most_validation_rows: int = 20_000,
    weights: np.ndarray | None = None,
    verbose: int = 0,
) -> dict[str, list[float]]:
    """Fit a model by Adam with a cosine-decayed learning rate; keep its best weights.

    Parameters
    ----------
    model : VAE or Autoencoder
    inputs_of : callable
        Row numbers, an int64 tensor (batch,) -> the model's inputs, in TensorFlow operations.
    is_validation : bool array, (n,)
        Rows to watch and not to train on. If there are none, training runs for ``max_steps``.
    max_steps, batch_size : int
        Gradient steps, and rows in each (all rows if there are fewer). Every row is used equally
        often.
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
    weights : float array (n,) or None
        What each row counts in the loss, 1 on average; None: all the same.
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
    steps_per_epoch = max(1, max_steps // _N_EVALUATIONS)
    epochs = max_steps // steps_per_epoch
    max_steps = epochs * steps_per_epoch
    batches = _batches(rows, max_steps, batch_size, np.random.default_rng(seed))
    batch_of = _batch_of(inputs_of, weights)
    data = _dataset(batch_of, batches)
    callbacks: list[keras.callbacks.Callback] = []
    validation = None
    if len(watched):
        repeated = np.resize(watched, len(watched) * -(-validation_draws // len(watched)))
        validation = tf.data.Dataset.from_tensor_slices(repeated).batch(16 * batch_size)
        validation = validation.map(batch_of).cache()
        callbacks.append(_early_stopping(max(1, patience // steps_per_epoch)))
    schedule = PacedCosineDecay(learning_rate, max_steps)
    model.compile(keras.optimizers.Adam(schedule), steps_per_execution=steps_per_epoch)
    # Built in the first trace, its variables would make Keras trace the step twice.
    model.optimizer.build(model.trainable_variables)
    with _progress(max_steps) if verbose else contextlib.nullcontext() as show:
        if show:
            callbacks.append(
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: show((epoch + 1) * steps_per_epoch, logs)
                )
            )
        passes = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "shuffle": False}
        history = model.fit(
            data, validation_data=validation, callbacks=callbacks, verbose=0, **passes
        ).history
    return _by_step(history, steps_per_epoch)


def _early_stopping(epochs: int) -> keras.callbacks.Callback:
    return keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)


def _by_step(history: dict[str, list[Any]], steps_per_epoch: int) -> dict[str, list[Any]]:
    """Return the history with the step of each entry, or raise FloatingPointError."""
    if not np.isfinite(list(history.values())).all():
        raise FloatingPointError(
            "Expected finite losses. Received: "
            f"{history['loss'][-1]} after {len(history['loss']) * steps_per_epoch} steps. "
            "Lower `learning_rate`."
        )
    steps = [(index + 1) * steps_per_epoch for index in range(len(history["loss"]))]
    return {"step": steps, **{name: [float(v) for v in values] for name, values in history.items()}}


def best_step(history: dict[str, list[Any]]) -> int:
    """Return the step whose weights ``train`` kept, given what it returned."""
    losses = history.get("val_loss", [])
    return int(history["step"][np.argmin(losses) if losses else -1])


def retrain(
    model: keras.Model,
    inputs_of: Callable[[tf.Tensor], Any],
    rows: np.ndarray,
    *,
    n_steps: int,
    through_step: int,
    batch_size: int,
    seed: int,
    weights: np.ndarray | None = None,
) -> None:
    """Train a model that ``train`` has trained once more, from the weights that it has now.

    Nothing is compiled again, so that a short training takes a short time.

    Parameters
    ----------
    model : vae_anomaly.vae.models.VAE or vae_anomaly.vae.models.Autoencoder
    inputs_of : callable
        As in ``train``.
    rows : int array
        Rows to train on.
    n_steps : int
        Gradient steps, rounded up to a multiple of those between two looks of ``train``.
    through_step : int
        The learning rate passes through what it was in ``train`` up to this step.
    batch_size : int
        Rows in each step: those of ``train``, also where ``rows`` are fewer.
    seed : int
        Seed of the order of rows.
    weights : float array (n,) or None
        As in ``train``.
    """
    at_once = model.steps_per_execution
    epochs = max(1, -(-n_steps // at_once))
    for variable in model.optimizer.variables:
        variable.assign(tf.zeros(variable.shape, variable.dtype))
    model.optimizer._learning_rate.pace.assign(through_step / (epochs * at_once))
    # Other batches than in ``train`` would be another graph.
    rows = np.tile(rows, -(-batch_size // len(rows)))
    batches = _batches(rows, epochs * at_once, batch_size, np.random.default_rng(seed))
    batch_of = _batch_of(inputs_of, weights)
    data = _dataset(batch_of, batches)
    model.fit(data, epochs=epochs, steps_per_epoch=at_once, shuffle=False, verbose=0)


def _batch_of(
    inputs_of: Callable[[tf.Tensor], Any], weights: np.ndarray | None
) -> Callable[[tf.Tensor], tuple[Any, ...]]:
    """Return a function of row numbers that gives what ``RowLossModel.fit`` takes of these rows."""
    if weights is None:
        return lambda indices: (inputs_of(indices),)
    held = tf.constant(weights, tf.float32)

    def weighted(indices):
        weight = tf.gather(held, indices)
        return inputs_of(indices), weight, weight  # the target in between is ignored

    return weighted


def _dataset(
    batch_of: Callable[[tf.Tensor], tuple[Any, ...]], batches: np.ndarray
) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices(batches)
    return data.map(batch_of).prefetch(2)


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
