"""The rows that calibrate: those held out, or all, each scored by a model that did not see it.

Few training rows make few held-out rows, whose scores tell little of a false-alarm rate. So the
model is trained again without a fold of the rows, which are then scored, for each of five folds.
The scores of all folds calibrate the model that was trained on all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.detectors.packing import named_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from vae_anomaly.scoring.scorer import AnomalyScorer
    from vae_anomaly.vae.training import Trainer

N_FOLDS = 5
# More training rows than this have enough rows held out; fewer than this make no folds.
_MOST_ROWS, _FEWEST_ROWS = 1000, 10
# The most steps of a training without a fold: five of them take about as long as the first one.
_MOST_STEPS = 900


def held_out(n_rows: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose rows to stop early by, and rows held out: all where none stop early; (n,) bools."""
    size = int(np.ceil(fraction * n_rows))
    is_validation = np.zeros(n_rows, dtype=bool)
    order = np.random.default_rng(seed).permutation(n_rows)
    is_validation[order[: min(size, n_rows - 1)]] = True
    return is_validation, is_validation if is_validation.any() else ~is_validation


def can_cross_fit(is_validation: np.ndarray) -> bool:
    """Whether training rows, some of which stopped it early, are to be cross-fitted."""
    return bool(is_validation.any()) and _FEWEST_ROWS <= len(is_validation) <= _MOST_ROWS


def cross_fitted_scores(
    scorer: AnomalyScorer,
    data: Any,
    subset: Callable[[Any, np.ndarray], Any],
    trainer: Trainer,
    is_held_out: np.ndarray,
    sources: np.ndarray,
    *,
    initial_weights: list[np.ndarray],
    best_step: int,
    seed: int,
) -> np.ndarray:
    """Score each training row with a model trained without it, and leave the scorer as it was.

    Parameters
    ----------
    scorer : AnomalyScorer
        Its model was trained by the trainer.
    data : all training rows, and after them changed copies of rows
    subset : callable
        (data, bool array (n,)) -> those rows.
    trainer : Trainer
    is_held_out : bool array, (n,)
        Rows that did not train, and by which the scorer learned what is usual.
    sources : int array
        The row that each row of the data is or is a copy of.
    initial_weights : list of arrays
        Of the model, before it was trained.
    best_step : int
        Whose weights training kept.
    seed : int
        Of the folds and of the order of rows.

    Returns
    -------
    (n,) float64 array
    """
    kept = [(variable, variable.numpy()) for variable in named_weights(scorer).values()]
    folds = _folds(is_held_out, seed)
    scores = np.empty(len(folds))
    for fold in range(N_FOLDS):
        is_out = folds == fold
        stays = ~is_out[sources]
        rows = np.flatnonzero(stays & ~is_held_out[sources])
        scorer.model.set_weights(initial_weights)
        trainer.retrain(
            rows, n_steps=min(best_step, _MOST_STEPS), through_step=best_step, seed=seed
        )
        left = is_held_out[sources[stays]]
        left = left if left.any() else ~left
        out = subset(data, np.flatnonzero(is_out))
        scores[is_out] = scorer.learn_to_score(subset(data, stays), left, out)
    for variable, value in kept:
        variable.assign(value)
    return scores


def _folds(is_held_out: np.ndarray, seed: int) -> np.ndarray:
    """Number the folds of rows at random; each has its share of the rows held out."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(is_held_out))
    order = order[np.argsort(~is_held_out[order], kind="stable")]
    folds = np.empty(len(order), dtype=int)
    folds[order] = np.arange(len(order)) % N_FOLDS
    return folds
