"""Pictures of scores: how they are distributed around the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.displays.axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


class ScoreDistributionDisplay:
    """Histogram of scores, with the threshold below which they are anomalies.

    Scores have a long tail to the left, so the axis is linear around the threshold and
    logarithmic far from it.

    Parameters
    ----------
    scores : (n,) array
        Higher is more normal.
    offset : float
        The threshold.
    labels : (n,) array or None
        Groups to draw in colours of their own, for example the true classes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by ``plot``.
    figure_ : matplotlib Figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        ``scores`` is empty or not one-dimensional, or ``labels`` has another shape.

    Examples
    --------
    >>> from vae_anomaly.displays import ScoreDistributionDisplay
    >>> display = ScoreDistributionDisplay.from_scores([-40.0, -3.0, 1.0, 2.0], offset=-5.0)
    >>> display.ax_.get_ylabel()
    'rows'
    """

    def __init__(
        self, scores: ArrayLike, *, offset: float, labels: ArrayLike | None = None
    ) -> None:
        self.scores = np.asarray(scores, dtype=np.float64)
        self.offset = float(offset)
        self.labels = None if labels is None else np.asarray(labels)
        if self.scores.ndim != 1 or not self.scores.size:
            raise ValueError(
                f"Expected `scores` of shape (n,), n >= 1. Received: {self.scores.shape}"
            )
        if self.labels is not None and self.labels.shape != self.scores.shape:
            raise ValueError(
                f"Expected `labels` of shape {self.scores.shape}. Received: {self.labels.shape}"
            )

    @classmethod
    def from_scores(
        cls,
        scores: ArrayLike,
        *,
        offset: float,
        labels: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> ScoreDistributionDisplay:
        """Build the display and plot it.

        Parameters
        ----------
        scores, offset, labels
            As in the class.
        ax : matplotlib Axes or None
            As in ``plot``.

        Returns
        -------
        ScoreDistributionDisplay
        """
        return cls(scores, offset=offset, labels=labels).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        *,
        labels: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> ScoreDistributionDisplay:
        """Score rows with a fitted detector, and plot.

        Parameters
        ----------
        detector : VAEDetector or AutoencoderDetector
        X : as in ``detector.score_samples``
        labels, ax
            As in ``from_scores``.

        Returns
        -------
        ScoreDistributionDisplay
        """
        return cls.from_scores(
            detector.score_samples(X), offset=detector.offset_, labels=labels, ax=ax
        )

    def plot(self, ax: Axes | None = None) -> ScoreDistributionDisplay:
        """Draw into ``ax``.

        Parameters
        ----------
        ax : matplotlib Axes or None
            ``None``: the Axes of a new figure.

        Returns
        -------
        self
        """
        ax = new_axes() if ax is None else ax
        # Half of the scores lie in the linear part.
        linear = max(np.median(np.abs(self.scores - self.offset)), 1e-6)
        position = np.arcsinh((self.scores - self.offset) / linear)
        # Bins of equal width on the axis, with the threshold between two of them.
        width = (np.ptp(position) or 1.0) / 40
        first, last = np.floor(position.min() / width), np.ceil(position.max() / width)
        edges = self.offset + linear * np.sinh(np.arange(first, last + 1.5) * width)
        groups = [None] if self.labels is None else list(np.unique(self.labels))
        for group in groups:
            chosen = slice(None) if group is None else self.labels == group
            ax.hist(
                self.scores[chosen],
                bins=edges,
                alpha=1.0 if group is None else 0.6,
                label="scores" if group is None else str(group),
            )
        ax.axvline(self.offset, color="black", linestyle="--", label=f"threshold {self.offset:.4g}")
        ax.set_xscale(
            "function",
            functions=(
                lambda value: np.arcsinh((value - self.offset) / linear),
                lambda value: self.offset + linear * np.sinh(value),
            ),
        )
        ticks = self.offset + linear * np.sinh(np.linspace(position.min(), position.max(), 7))
        ax.set_xticks(ticks, [f"{t:,.0f}" if abs(t) >= 100 else f"{t:.3g}" for t in ticks])
        ax.set_xlim(edges[0], edges[-1])
        ax.set_xlabel("score (higher is more normal)")
        ax.set_ylabel("rows")
        ax.legend()
        self.ax_ = ax
        self.figure_: Any = ax.figure
        return self
