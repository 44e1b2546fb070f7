"""Pictures of calibration: the false-alarm rates that thresholds give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta

from vae_anomaly.displays.axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

_MOST_RATES = 60


class CalibrationDisplay:
    """False-alarm rates asked for, their intervals, and what share of some rows was flagged.

    Of normal rows, the line of the obtained shares lies within the band about as often as the
    level says, give or take what few rows add by chance. Rows with anomalies lie above it.

    Parameters
    ----------
    asked : (k,) array
        False-alarm rates, as shares.
    low, high : (k,) arrays
        Intervals for the rates that the thresholds give.
    obtained : (k,) array or None
        Shares of some rows that the thresholds flag.
    level : float
        Confidence of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by ``plot``.
    figure_ : matplotlib Figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        No rates, or arrays of several lengths.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly import CalibrationDisplay
    >>> rng = np.random.default_rng(0)
    >>> display = CalibrationDisplay.from_scores(rng.normal(size=500), rng.normal(size=200))
    >>> len(display.asked) <= 60, bool((display.low < display.high).all())
    (True, True)
    """

    def __init__(
        self,
        asked: ArrayLike,
        *,
        low: ArrayLike,
        high: ArrayLike,
        obtained: ArrayLike | None = None,
        level: float = 0.9,
    ) -> None:
        self.asked = np.asarray(asked, dtype=np.float64)
        self.low = np.asarray(low, dtype=np.float64)
        self.high = np.asarray(high, dtype=np.float64)
        self.obtained = None if obtained is None else np.asarray(obtained, dtype=np.float64)
        self.level = float(level)
        if self.asked.ndim != 1 or not self.asked.size:
            raise ValueError(
                f"Expected `asked` of shape (k,), k >= 1. Received: {self.asked.shape}"
            )
        for name in ("low", "high", "obtained"):
            values = getattr(self, name)
            if values is not None and values.shape != self.asked.shape:
                raise ValueError(
                    f"Expected `{name}` of shape {self.asked.shape}. Received: {values.shape}"
                )

    @classmethod
    def from_scores(
        cls,
        scores: ArrayLike,
        calibration_scores: ArrayLike,
        *,
        level: float = 0.9,
        ax: Axes | None = None,
    ) -> CalibrationDisplay:
        """Compare scores with those of rows held out, and plot.

        The rate of the k-th smallest of m independent calibration scores has the distribution
        Beta(k, m + 1 - k). Where several scores equal it, the interval is that of Clopper & Pearson
        (1934).

        Parameters
        ----------
        scores : (n,) array
            Of rows that neither trained nor calibrated; higher is more normal.
        calibration_scores : (m,) array
            Of normal rows that did not train.
        level : float in (0, 1)
            Confidence of the intervals.
        ax : matplotlib Axes or None
            As in ``plot``.

        Returns
        -------
        CalibrationDisplay
        """
        calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
        m, k = len(calibration), _ranks(len(calibration))
        offsets = calibration[k - 1]
        under = np.searchsorted(np.sort(np.asarray(scores)), offsets, side="left")
        n_under, n_up_to = (
            np.searchsorted(calibration, offsets, side=side) for side in ("left", "right")
        )
        # Rows under an offset that is several scores are under one of them, but not all.
        highest = n_under + 1
        lowest = np.where(n_up_to - n_under == 1, highest, n_under)
        tail = (1 - level) / 2
        low = beta.ppf(tail, np.maximum(lowest, 1), m + 1 - lowest)
        display = cls(
            k / (m + 1),
            low=np.where(lowest == 0, 0.0, low),
            high=beta.ppf(1 - tail, highest, m + 1 - highest),
            obtained=under / np.size(scores),
            level=level,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(
        cls, detector: Any, X: Any = None, *, level: float = 0.9, ax: Axes | None = None
    ) -> CalibrationDisplay:
        """Ask a fitted detector what its thresholds give, and plot.

        Parameters
        ----------
        detector : VAEDetector or AutoencoderDetector
        X : as in ``detector.score_samples``, or None
            Rows to see what share of them is flagged: new normal rows, or a batch.
        level, ax
            As in ``from_scores``.

        Returns
        -------
        CalibrationDisplay
        """
        m = detector.scorer_.n_calibration
        reports = [
            detector.threshold_report(level, false_alarm_rate=k / (m + 1)) for k in _ranks(m)
        ]
        obtained = None
        if X is not None:
            scores = detector.score_samples(X)
            obtained = [np.mean(scores < report.offset) for report in reports]
        display = cls(
            [report.rate_asked for report in reports],
            low=[report.rate_low for report in reports],
            high=[report.rate_high for report in reports],
            obtained=obtained,
            level=level,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> CalibrationDisplay:
        """Draw into ``ax``.

        Parameters
        ----------
        ax : matplotlib Axes or None
            ``None``: the Axes of a new figure.

        Returns
        -------
        self
        """
        ax = new_axes(5, 4) if ax is None else ax
        least = self.asked.min() / 10
        low, high = (100 * np.maximum(values, least) for values in (self.low, self.high))
        asked = 100 * self.asked
        label = f"expected, {self.level:.0%} interval"
        ax.fill_between(asked, low, high, color="tab:blue", alpha=0.2, linewidth=0, label=label)
        ax.plot(asked, asked, color="tab:blue", linewidth=1)
        if self.obtained is not None:
            obtained = 100 * np.maximum(self.obtained, least)
            ax.plot(asked, obtained, color="black", drawstyle="steps-post", label="these rows")
        ax.set_xscale("log")
        ax.set_yscale("log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xlabel("false-alarm rate asked for (%)")
        ax.set_ylabel("rows flagged (%)")
        ax.legend()
        self.ax_ = ax
        self.figure_: Any = ax.figure
        return self


def _ranks(n_calibration: int) -> np.ndarray:
    """Ranks of calibration scores, evenly apart on a logarithmic axis."""
    return np.unique(np.geomspace(1, n_calibration, _MOST_RATES).round().astype(int))
