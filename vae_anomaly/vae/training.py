"""Training with a budget of gradient steps, early stopping and progress a person can read."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

# The validation loss is looked at this often, at most; the best weights seen are kept.
_N_EVALUATIONS = 40


def train(
    model,
    inputs_of,
    is_validation,
    *,
    max_steps,
    batch_size,
    learning_rate,
    patience,
    seed,
    validation_draws=2000,
    most_validation_rows=20_000,
    verbose=0,
):
    """Fit a model by Adam with a cosine-decayed learning rate; keep its best weights.

    Parameters
    ----------
    model : vae_anomaly.vae.models.VAE or vae_anomaly.vae.models.Autoencoder
    inputs_of : callable
        Row numbers, an int64 tensor (batch,) -> the model's inputs, in TensorFlow operations.
    is_validation : bool array, (n,)
        Rows to watch and not to train on. None: training runs for ``max_steps``.
    max_steps, batch_size : int
        Gradient steps, and rows in each (all of them if there are fewer). Every row is used
        equally often.
    learning_rate : float
        Of the first step.
    patience : int
        Steps without a better validation loss after which training stops.
    seed : int
        Seed of the order of rows.
    validation_draws : int
        One evaluation draws z at least so many times, so that few rows give a steady figure.
    most_validation_rows : int
        More held-out rows than this are not looked at, so that large data do not pay for them;
        their inputs are kept in memory.
    verbose : int
        1: a progress bar on stderr.

    Returns
    -------
    dict of str to list of float
        ``step`` and, at each of these steps, the mean of each of the model's terms since the
        last one; ``val_`` for the validation rows.

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

    def batch(indices):
        return (inputs_of(indices),)

    data = tf.data.Dataset.from_tensor_slices(batches).map(batch).prefetch(2)
    callbacks, validation = [], None
    if len(watched):
        repeated = np.resize(watched, len(watched) * -(-validation_draws // len(watched)))
        validation = tf.data.Dataset.from_tensor_slices(repeated)
        validation = validation.batch(16 * batch_size).map(batch).cache()
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_loss",
                patience=max(1, patience // steps_per_epoch),
                restore_best_weights=True,
            )
        )
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, max_steps)),
        steps_per_execution=steps_per_epoch,
    )
    # Otherwise its variables appear during the first trace, and the step is traced twice.
    model.optimizer.build(model.trainable_variables)
    with _progress(max_steps) if verbose else contextlib.nullcontext() as show:
        if show:
            callbacks.append(
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: show((epoch + 1) * steps_per_epoch, logs)
                )
            )
        history = model.fit(
            data,
            validation_data=validation,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        ).history
    if not np.isfinite(list(history.values())).all():
        raise FloatingPointError(
            "Expected finite losses. Received: "
            f"{history['loss'][-1]} after {len(history['loss']) * steps_per_epoch} steps. "
            "Lower `learning_rate`."
        )
    steps = [(index + 1) * steps_per_epoch for index in range(len(history["loss"]))]
    return {"step": steps, **{name: list(map(float, v)) for name, v in history.items()}}


def _batches(rows, n_steps, batch_size, rng):
    """Row numbers of each step, (n_steps, batch): shuffled passes over the rows, end to end."""
    batch_size = min(batch_size, len(rows))
    n_passes = -(-n_steps * batch_size // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(n_passes)])
    return order[: n_steps * batch_size].reshape(n_steps, batch_size)


@contextlib.contextmanager
def _progress(max_steps):
    """Show a progress bar on stderr; yield a function of the step and the losses."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=max_steps)

        def show(step, logs):
            text = f"loss {logs['loss']:.3f}"
            if "val_loss" in logs:
                text += f", on held-out rows {logs['val_loss']:.3f}"
            bar.update(task, completed=step, description=text)

        yield show
