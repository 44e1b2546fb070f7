"""Pictures of reconstruction: what the model expects in place of each cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.displays.axes import new_figure

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_PER_LINE = 3


class ReconstructionDisplay:
    """Cells of columns of numbers against what the model expects in their place.

    A column that the model understands lies along the diagonal; one whose expected values hardly
    vary is a column about which the latent code says nothing.

    Parameters
    ----------
    value, expected : (n, k) arrays
        Cells, and what is expected; NaN: missing.
    columns : sequence of k str
    is_anomaly : (n,) bool array or None
        Rows to draw in red.

    Attributes
    ----------
    axes_ : (k,) array of matplotlib Axes
        Set by ``plot``.
    figure_ : matplotlib Figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        Shapes that do not belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly import ReconstructionDisplay
    >>> value = np.random.default_rng(0).normal(size=(50, 2))
    >>> display = ReconstructionDisplay(value, 0.9 * value, columns=["height", "weight"]).plot()
    >>> [ax.get_title() for ax in display.axes_]
    ['height', 'weight']
    """

    def __init__(
        self,
        value: ArrayLike,
        expected: ArrayLike,
        *,
        columns: Sequence[str],
        is_anomaly: ArrayLike | None = None,
    ) -> None:
        self.value = np.asarray(value, dtype=np.float64)
        self.expected = np.asarray(expected, dtype=np.float64)
        self.columns = [str(column) for column in columns]
        n_rows = len(self.value)
        self.is_anomaly = np.zeros(n_rows, bool) if is_anomaly is None else np.asarray(is_anomaly)
        if self.value.ndim != 2 or not self.value.size:
            raise ValueError(f"Expected `value` of shape (n, k). Received: {self.value.shape}")
        for name, found, wanted in (
            ("expected", self.expected.shape, self.value.shape),
            ("columns", (len(self.columns),), self.value.shape[1:]),
            ("is_anomaly", self.is_anomaly.shape, (n_rows,)),
        ):
            if found != wanted:
                raise ValueError(f"Expected `{name}` of shape {wanted}. Received: {found}")

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        *,
        columns: Sequence[Any] | None = None,
        axes: ArrayLike | None = None,
    ) -> ReconstructionDisplay:
        """Reconstruct rows with a fitted detector, and plot.

        Parameters
        ----------
        detector : VAEDetector or AutoencoderDetector
            Detector that was fitted to a table.
        X : as in ``detector.reconstruct``
        columns : sequence of names, of positions if X is an array, or None
            Columns of numbers to draw. None: the first six.
        axes : array of matplotlib Axes or None
            As in ``plot``.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        ValueError
            X has no such columns, or is images: see ``ImageExplanationDisplay``.
        """
        if not hasattr(X, "columns"):
            X = np.asarray(X)
            if X.ndim != 2:
                raise ValueError(
                    f"Expected rows of a table. Received: shape {X.shape}. For images use "
                    "ImageExplanationDisplay."
                )
        reconstructed = detector.reconstruct(X)
        expected = _numbers(reconstructed, getattr(reconstructed, "columns", ()))
        numbers = _numbers(X, expected)
        chosen = list(numbers)[:6] if columns is None else list(columns)
        unknown = [column for column in chosen if column not in numbers]
        if unknown or not chosen:
            raise ValueError(
                f"Expected columns of numbers: of {list(numbers)}. Received: {unknown or 'none'}."
            )
        display = cls(
            np.column_stack([numbers[column] for column in chosen]),
            np.column_stack([expected[column] for column in chosen]),
            columns=chosen,
            is_anomaly=detector.predict(X) == -1,
        )
        return display.plot(axes=axes)

    def plot(self, axes: ArrayLike | None = None) -> ReconstructionDisplay:
        """Draw into ``axes``.

        Parameters
        ----------
        axes : array of k matplotlib Axes of one figure, or None
            ``None``: the Axes of a new figure.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            ``axes`` are not as many as the columns.
        """
        k = len(self.columns)
        self.axes_ = self._new_axes(k) if axes is None else np.asarray(axes).ravel()
        if len(self.axes_) != k:
            raise ValueError(f"Expected {k} axes, one for each column. Received: {len(self.axes_)}")
        for ax, name, value, expected in zip(
            self.axes_, self.columns, self.value.T, self.expected.T, strict=True
        ):
            for chosen, colour in ((~self.is_anomaly, "tab:gray"), (self.is_anomaly, "tab:red")):
                ax.scatter(value[chosen], expected[chosen], s=8, alpha=0.5, color=colour)
            ax.axline((np.nanmean(value),) * 2, slope=1, color="black", linewidth=0.8)
            ax.set_title(name, fontsize="medium", parse_math=False)
            ax.set_xlabel("seen")
            ax.set_ylabel("expected")
        self.figure_: Any = self.axes_[0].figure
        return self

    def _new_axes(self, k):
        columns, lines = min(k, _PER_LINE), -(-k // _PER_LINE)
        figure = new_figure(2.7 * columns, 2.6 * lines)
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax in grid[k:]:
            ax.remove()
        return grid[:k]


def _numbers(X: Any, names: Iterable[Any]) -> dict[Any, np.ndarray]:
    """Return those named columns that are of numbers, as floats; all of an array, by position."""
    if not hasattr(X, "columns"):
        return dict(enumerate(np.asarray(X, dtype=np.float64).T))
    columns = {name: _in_pandas(X[name]) for name in names}
    return {
        name: column.to_numpy(dtype=np.float64, na_value=np.nan)
        for name, column in columns.items()
        if column.dtype.kind in "iuf"
    }


def _in_pandas(column: Any) -> Any:
    """Return a column of pandas, or one of polars or pyarrow as such."""
    return column.to_pandas() if hasattr(column, "to_pandas") else column
