"""Pictures of the latent space: a map of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vae_anomaly.displays.axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


class LatentMapDisplay:
    """Rows by their latent means, on the two principal components of these.

    The axes name each component's share of the variance.

    Rows that score under the threshold, or the groups given, have colours. An anomaly need not be
    far out on this map: a row that the decoder cannot write lies where its latent code says.

    Parameters
    ----------
    z_mean : (n, latent_dim) array
    is_anomaly : (n,) bool array or None
    labels : (n,) array or None
        Groups to draw in colours of their own, instead.

    Attributes
    ----------
    position_ : (n, 2) array
        Set by ``plot``. One latent dimension: against the number of the row.
    ax_ : matplotlib Axes
        Set by ``plot``.
    figure_ : matplotlib Figure
        Set by ``plot``.

    Raises
    ------
    ValueError
        ``z_mean`` is not two-dimensional or has no rows; others are of another length.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_anomaly import LatentMapDisplay
    >>> z_mean = np.random.default_rng(0).normal(size=(50, 4)) * [3.0, 2.0, 0.1, 0.1]
    >>> display = LatentMapDisplay(z_mean, labels=np.arange(50) % 2).plot()
    >>> display.position_.shape, len(display.ax_.collections)
    ((50, 2), 2)
    """

    def __init__(
        self,
        z_mean: ArrayLike,
        *,
        is_anomaly: ArrayLike | None = None,
        labels: ArrayLike | None = None,
    ) -> None:
        self.z_mean = np.asarray(z_mean, dtype=np.float64)
        self.is_anomaly = None if is_anomaly is None else np.asarray(is_anomaly, dtype=bool)
        self.labels = None if labels is None else np.asarray(labels)
        if self.z_mean.ndim != 2 or not self.z_mean.size:
            raise ValueError(
                f"Expected `z_mean` of shape (n, latent_dim). Received: {self.z_mean.shape}"
            )
        for name in ("is_anomaly", "labels"):
            values = getattr(self, name)
            if values is not None and values.shape != self.z_mean.shape[:1]:
                raise ValueError(
                    f"Expected `{name}` of shape {self.z_mean.shape[:1]}. Received: {values.shape}"
                )

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        *,
        labels: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> LatentMapDisplay:
        """Encode rows, or images, with a fitted detector, and plot.

        Parameters
        ----------
        detector : VAEDetector or AutoencoderDetector
        X : as in ``detector.transform``
        labels : (n,) array or None
            As in the class.
        ax : matplotlib Axes or None
            As in ``plot``.

        Returns
        -------
        LatentMapDisplay
        """
        is_anomaly = detector.predict(X) == -1 if labels is None else None
        return cls(detector.transform(X), is_anomaly=is_anomaly, labels=labels).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> LatentMapDisplay:
        """Draw into ``ax``.

        Parameters
        ----------
        ax : matplotlib Axes or None
            ``None``: the Axes of a new figure.

        Returns
        -------
        self
        """
        ax = new_axes(5, 4.5) if ax is None else ax
        self.position_, names = self._position()
        for label, chosen, style in self._groups():
            x, y = self.position_[chosen].T
            ax.scatter(x, y, s=12, label=label, **style)
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1])
        if ax.collections and ax.get_legend_handles_labels()[1]:
            ax.legend()
        self.ax_ = ax
        self.figure_: Any = ax.figure
        return self

    def _position(self):
        if self.z_mean.shape[1] == 1:
            rows = np.arange(len(self.z_mean))
            return np.column_stack([rows, self.z_mean[:, 0]]), ("row", "z_mean")
        centred = self.z_mean - self.z_mean.mean(axis=0)
        _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
        shares = np.zeros(2)
        shares[: len(sizes)] = sizes[:2] ** 2 / max(np.sum(sizes**2), 1e-300)
        projected = np.zeros((len(centred), 2))
        projected[:, : len(sizes)] = centred @ directions[:2].T
        which = ("first", "second")
        return projected, [
            f"{name} principal component of z_mean ({share:.0%})"
            for name, share in zip(which, shares, strict=True)
        ]

    def _groups(self):
        if self.labels is not None:
            for group in np.unique(self.labels):
                yield str(group), self.labels == group, {"alpha": 0.6}
        elif self.is_anomaly is not None:
            yield "normal", ~self.is_anomaly, {"alpha": 0.4, "color": "tab:gray"}
            yield "anomaly", self.is_anomaly, {"alpha": 0.8, "color": "tab:red"}
        else:
            yield None, slice(None), {"alpha": 0.6}
