"""Pictures of images: what is seen, what was expected, and which pixels make the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.displays.axes import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

# The colour scale ends here. Without an end, one pixel could turn all others white.
_LIMIT_NATS = 100.0


class ImageExplanationDisplay:
    """Images, the images that the model expects instead, and where the score comes from.

    Each row shows the image with its score and decision, the expected image, and the contribution
    of each pixel. White pixels are as probable as usual, red ones less, blue ones more. All maps
    share one colour scale, which is symmetric around 0, linear up to 1 nat, logarithmic from there
    to 100, and constant beyond: a pixel of -5 nats is still seen next to one of -500.

    Parameters
    ----------
    images, expected : (n, height, width) or (n, height, width, channels) arrays
        Images of 1 (grey) or 3 (colour) channels. ``expected`` may be None, and is left out then.
    contributions : (n, height, width) array
        What each pixel adds to the score; 0 is usual.
    scores : (n,) array
        Higher is more normal.
    offset : float
        The threshold.
    value_range : (float, float)
        Values of black and white.
    unit : str
        Unit of the contributions.

    Attributes
    ----------
    axes_ : (n, 3) array of matplotlib Axes, or (n, 2) without ``expected``
        Set by ``plot``.
    figure_ : matplotlib Figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        Shapes that do not belong together, or an empty range.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly.displays import ImageExplanationDisplay
    >>> images = np.zeros((2, 8, 8))
    >>> images[1, 3, 4] = 1.0
    >>> display = ImageExplanationDisplay(
    ...     images,
    ...     np.zeros((2, 8, 8)),
    ...     -500.0 * images,
    ...     scores=[3.0, -497.0],
    ...     offset=-10.0,
    ...     value_range=(0, 1),
    ... ).plot()
    >>> [ax.get_title() for ax in display.axes_[1]]
    ['score -497: anomaly', 'expected', 'contribution']
    """

    def __init__(
        self,
        images: ArrayLike,
        expected: ArrayLike | None,
        contributions: ArrayLike,
        *,
        scores: ArrayLike,
        offset: float,
        value_range: tuple[float, float],
        unit: str = "nats",
    ) -> None:
        self.images = np.asarray(images, dtype=np.float64)
        self.expected = None if expected is None else np.asarray(expected, dtype=np.float64)
        self.contributions = np.asarray(contributions, dtype=np.float64)
        self.scores = np.asarray(scores, dtype=np.float64)
        self.offset = float(offset)
        self.value_range = tuple(float(value) for value in value_range)
        self.unit = unit
        shape = self.images.shape
        if len(shape) not in (3, 4) or not self.images.size or shape[3:] not in ((), (1,), (3,)):
            raise ValueError(
                "Expected `images` of shape (n, height, width), or (n, height, width, channels) "
                f"with 1 or 3 channels, n >= 1. Received: {shape}"
            )
        for name, wanted in (
            *([] if expected is None else [("expected", shape)]),
            ("contributions", shape[:3]),
            ("scores", shape[:1]),
        ):
            if getattr(self, name).shape != wanted:
                raise ValueError(
                    f"Expected `{name}` of shape {wanted}. Received: {getattr(self, name).shape}"
                )
        if len(self.value_range) != 2 or not self.value_range[0] < self.value_range[1]:
            raise ValueError(
                "Expected `value_range` of (lowest, highest). "
                f"Received: value_range={value_range!r}"
            )

    @classmethod
    def from_estimator(
        cls, detector: Any, images: ArrayLike, *, axes: ArrayLike | None = None
    ) -> ImageExplanationDisplay:
        """Explain images with a fitted detector, and plot.

        Parameters
        ----------
        detector : VAEDetector or AutoencoderDetector
            Detector that was fitted to images.
        images : (n, height, width) or (n, height, width, channels) array
            A few images as ``detector.explain`` takes them; each gets a row.
        axes : (n, 3) array of matplotlib Axes or None
            As in ``plot``.

        Returns
        -------
        ImageExplanationDisplay

        Raises
        ------
        ValueError
            The detector was fitted to a table.
        """
        explanation = detector.explain(images)
        if not isinstance(explanation, dict):
            raise ValueError(
                "Expected a detector that was fitted to images. Received: "
                f"{type(detector).__name__} fitted to a table."
            )
        display = cls(
            explanation["value"],
            explanation.get("expected"),
            explanation["contribution"],
            scores=detector.score_samples(images),
            offset=detector.offset_,
            value_range=detector.scorer_.preprocessor.value_range,
            unit=detector.scorer_.unit,
        )
        return display.plot(axes=axes)

    def plot(self, axes: ArrayLike | None = None) -> ImageExplanationDisplay:
        """Draw into ``axes``.

        Parameters
        ----------
        axes : (n, 3) array of matplotlib Axes of one figure, or None
            ``None``: the Axes of a new figure.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            ``axes`` has another shape.
        """
        from matplotlib.colors import AsinhNorm

        axes = self._new_axes() if axes is None else np.asarray(axes)
        pictures = [self.images] if self.expected is None else [self.images, self.expected]
        n_columns = len(pictures) + 1
        wanted = (len(self.images), n_columns)
        if axes.shape != wanted:
            raise ValueError(
                f"Expected `axes` of shape {wanted}: {n_columns} for each image. "
                f"Received: {axes.shape}"
            )
        lowest, highest = self._extremes()
        limit = min(max(-lowest, highest), _LIMIT_NATS)
        norm = AsinhNorm(linear_width=1.0, vmin=-limit, vmax=limit)
        for i in range(len(self.images)):
            for ax, picture in zip(axes[i], pictures, strict=False):
                self._draw_image(ax, picture[i])
            colours = axes[i, -1].imshow(self.contributions[i], cmap="RdBu", norm=norm)
            decision = "anomaly" if self.scores[i] < self.offset else "normal"
            middle = ["expected"] * (n_columns - 2)
            titles = [f"score {self.scores[i]:.4g}: {decision}", *middle, "contribution"]
            for ax, title in zip(axes[i], titles, strict=True):
                ax.set_title(title, fontsize="medium")
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
        self.axes_ = axes
        self.figure_ = axes[0, 0].figure
        self._draw_colour_bar(colours, lowest, highest, limit)
        return self

    def _new_axes(self) -> Any:
        n_images, height, width = self.contributions.shape
        row_height = 0.4 + np.clip(1.8 * height / width, 0.8, 4.0)
        n_columns = 2 if self.expected is None else 3
        figure = new_figure(7, row_height * n_images)
        return figure.subplots(n_images, n_columns, squeeze=False)

    def _extremes(self) -> tuple[float, float]:
        """Return the lowest and the highest contribution, 0 included; (-1, 1) if all are 0."""
        lowest = min(float(self.contributions.min()), 0.0)
        highest = max(float(self.contributions.max()), 0.0)
        return (-1.0, 1.0) if lowest == highest else (lowest, highest)

    def _draw_image(self, ax: Axes, image: np.ndarray) -> None:
        low, high = self.value_range
        # Expected values may lie a little outside of the range.
        grey_or_colour = np.clip((image - low) / (high - low), 0.0, 1.0)
        if image.shape[2:] == (1,):
            grey_or_colour = grey_or_colour[..., 0]
        ax.imshow(grey_or_colour, cmap="gray", vmin=0.0, vmax=1.0)

    def _draw_colour_bar(self, colours: Any, lowest: float, highest: float, limit: float) -> None:
        bar = self.figure_.colorbar(
            colours,
            ax=self.axes_[:, -1],
            label=f"contribution ({self.unit})",
            extend=("neither", "max", "min", "both")[2 * (lowest < -limit) + (highest > limit)],
        )
        largest = int(np.floor(np.log10(limit)))
        powers = 10.0 ** np.arange(min(0, largest), largest + 1)
        ticks = [*-powers[::-1], 0.0, *powers]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
        # The colours are symmetric; the bar shows those that occur.
        bar.ax.set_ylim(max(lowest, -limit), min(highest, limit))
