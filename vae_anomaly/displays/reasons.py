"""Pictures of one row of a table: which cells make its score, and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.displays.axes import new_axes
from vae_anomaly.displays.texts import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


class ExplanationDisplay:
    """Bars of what one row would gain if a cell were unknown, the largest on top.

    Beside each bar stands the value seen, what the rest of the row suggests instead, and the range
    of that.

    Parameters
    ----------
    columns : sequence of k str
    gain : (k,) array
        What the row would gain if the cell of the column were unknown.
    value, expected : sequences of k values
        What was seen, and what was expected; None or NaN: missing.
    low, high : sequences of k values
        Range of what was expected; None or NaN: none.
    score, offset : float
        Of the row, and the threshold.
    unit : str
        Unit of the gain.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Set by ``plot``.
    figure_ : matplotlib Figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        No columns, or arguments of several lengths.

    Examples
    --------
    >>> from vae_anomaly import ExplanationDisplay
    >>> display = ExplanationDisplay(
    ...     ["amount", "city"],
    ...     gain=[41.0, 2.0],
    ...     value=[900.0, "Oslo"],
    ...     expected=[12.5, "Bergen"],
    ...     low=[3.0, None],
    ...     high=[40.0, None],
    ...     score=-38.0,
    ...     offset=-5.0,
    ... ).plot()
    >>> display.ax_.get_title()
    'score -38: anomaly'
    >>> display.sentences[0]
    '900, expected 12.5 (3 to 40)'
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        gain: ArrayLike,
        value: Sequence[Any],
        expected: Sequence[Any],
        low: Sequence[Any],
        high: Sequence[Any],
        score: float,
        offset: float,
        unit: str = "nats",
    ) -> None:
        self.columns = [str(column) for column in columns]
        self.gain = np.asarray(gain, dtype=np.float64)
        self.value, self.expected = list(value), list(expected)
        self.low, self.high = list(low), list(high)
        self.score, self.offset, self.unit = float(score), float(offset), unit
        if not self.columns:
            raise ValueError("Expected one column or more. Received: none.")
        for name in ("gain", "value", "expected", "low", "high"):
            if len(getattr(self, name)) != len(self.columns):
                raise ValueError(
                    f"Expected `{name}` of {len(self.columns)} columns. "
                    f"Received: {len(getattr(self, name))}."
                )

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        *,
        row: int = 0,
        n_columns: int = 8,
        ax: Axes | None = None,
    ) -> ExplanationDisplay:
        """Explain a row with a fitted detector, and plot.

        Parameters
        ----------
        detector : VAEDetector or AutoencoderDetector
            Detector that was fitted to a table.
        X : as in ``detector.explain``
        row : int
            Position of the row in X.
        n_columns : int
            Columns to show at most: those with the largest gain.
        ax : matplotlib Axes or None
            As in ``plot``.

        Returns
        -------
        ExplanationDisplay

        Raises
        ------
        ValueError
            The detector was fitted to images: see ``ImageExplanationDisplay``.
        """
        one = _one_row(X, row)
        explanation = detector.explain(one)
        if isinstance(explanation, dict):
            raise ValueError(
                "Expected a detector that was fitted to a table. Received: "
                f"{type(detector).__name__} fitted to images. Use ImageExplanationDisplay."
            )
        groups = {name: explanation[name].iloc[0] for name in ("gain", "value", "expected")}
        largest = groups["gain"].astype(float).nlargest(n_columns).index
        for name in ("low", "high"):  # of numbers and dates only
            groups[name] = explanation[name].iloc[0] if name in explanation else {}
        display = cls(
            list(largest),
            **{name: [group.get(column) for column in largest] for name, group in groups.items()},
            score=detector.score_samples(one)[0],
            offset=detector.offset_,
            unit=detector.scorer_.unit,
        )
        return display.plot(ax=ax)

    @property
    def sentences(self) -> list[str]:
        """What was seen and expected in each column, as text."""
        sentences = []
        for value, expected, low, high in zip(
            self.value, self.expected, self.low, self.high, strict=True
        ):
            text = _text(value)
            if _text(expected) == text:  # no reason, whatever it cost
                sentences.append(text)
                continue
            text += f", expected {_text(expected)}"
            if not (_is_missing(low) or _is_missing(high) or _text(low) == _text(high)):
                text += f" ({_text(low)} to {_text(high)})"
            sentences.append(text)
        return sentences

    def plot(self, ax: Axes | None = None) -> ExplanationDisplay:
        """Draw into ``ax``.

        Parameters
        ----------
        ax : matplotlib Axes or None
            ``None``: the Axes of a new figure.

        Returns
        -------
        self
        """
        ax = new_axes(8, 1 + 0.4 * len(self.columns)) if ax is None else ax
        # The largest on top. Column names are not mathematics, whatever signs are in them.
        order = np.argsort(self.gain, kind="stable")
        place = np.arange(len(order))
        gain = self.gain[order]
        ax.barh(place, gain, color=np.where(gain > 0, "tab:red", "tab:gray"), alpha=0.7)
        ax.set_yticks(place, [self.columns[i] for i in order], parse_math=False)
        span = max(gain.max(), 0) - min(gain.min(), 0) or 1.0
        for y, i in enumerate(order):
            x = max(self.gain[i], 0.0) + 0.01 * span
            ax.text(x, y, self.sentences[i], va="center", fontsize="small", parse_math=False)
        # Room for the text right of the longest bar.
        ax.set_xlim(min(gain.min(), 0), max(gain.max(), 0) + 0.9 * span)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(f"what the row would gain if the cell were unknown ({self.unit})")
        decision = "anomaly" if self.score < self.offset else "normal"
        ax.set_title(f"score {self.score:.4g}: {decision}")
        self.ax_ = ax
        self.figure_: Any = ax.figure
        return self


def _one_row(X: Any, row: int) -> Any:
    """Return one row of a table, with the names of its columns where it has any."""
    if hasattr(X, "iloc"):
        return X.iloc[[row]]
    if hasattr(X, "slice"):  # of polars or pyarrow
        return X.slice(row, 1)
    return np.asarray(X)[[row]]


def _is_missing(value: Any) -> bool:
    """Whether a cell is None, NaN, NaT or pandas.NA, none of which equals itself for sure."""
    return value is None or type(value).__name__ == "NAType" or value != value


def _text(value: Any) -> str:
    if _is_missing(value):
        return "missing"
    if isinstance(value, (float, np.floating)):
        return number_text(float(value), digits=4)
    return str(value)
