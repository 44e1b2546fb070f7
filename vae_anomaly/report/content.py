"""What a report tells, as plain data: no model, no table, no file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# KL divergence of a latent dimension, in nats, from which on it says something of a row.
ACTIVE_KL = 0.01
# Nats by which the other columns must tell a column better than its own distribution does.
UNDERSTOOD_GAIN = 0.02


@dataclass(frozen=True)
class Column:
    """A column, and what it was taken for.

    Attributes
    ----------
    name, kind : str
    description : str
        Range, levels, share of missing cells and the like.
    """

    name: str
    kind: str
    description: str = ""


@dataclass(frozen=True)
class Training:
    """The curves of a training.

    Attributes
    ----------
    steps : (n,) array of int
    loss : (n,) array
        Of training rows.
    held_out : (n,) array or None
        Of rows held out.
    best_step : int or None
        Whose weights were kept.
    unit : str
        Of the losses.
    """

    steps: ArrayLike
    loss: ArrayLike
    held_out: ArrayLike | None = None
    best_step: int | None = None
    unit: str = "nats"


@dataclass(frozen=True)
class Rate:
    """The false-alarm rate that a threshold gives, beside the one asked for.

    Attributes
    ----------
    asked : float or None
        None where a threshold was chosen in another way.
    expected, low, high : float
        Share of new normal rows that are flagged, with its interval.
    flagged : float or None
        Share of the rows of this batch that score under the threshold.
    """

    asked: float | None
    expected: float
    low: float
    high: float
    flagged: float | None = None


@dataclass(frozen=True)
class ColumnFit:
    """How well the other columns tell a column.

    Attributes
    ----------
    column : str
    gain : float
        Mean log-probability of its cells given the rest of the row, less that by the column's own
        distribution, nats.
    """

    column: str
    gain: float

    @property
    def is_understood(self) -> bool:
        """Whether the rest of a row tells more of the column than its own distribution."""
        return self.gain >= UNDERSTOOD_GAIN


@dataclass(frozen=True)
class Reason:
    """Why a row has its score: a cell, and what would have been usual. All as text to show.

    Attributes
    ----------
    column, seen : str
        ``seen`` is "" for a missing cell.
    gain : float
        Nats that the row would gain if the cell were unknown.
    expected : str or None
        Value that the rest of the row suggests.
    between : (str, str) or None
        10% and 90% quantiles of that.
    usual : str or None
        What the column usually has, whatever the rest of the row.
    """

    column: str
    seen: str
    gain: float
    expected: str | None = None
    between: tuple[str, str] | None = None
    usual: str | None = None

    @property
    def sentences(self) -> str:
        """The reason in words; an expected value that reads like the one seen is left out.

        Examples
        --------
        >>> Reason("amount", "174.82", 9.3, "12.3", ("8.1", "19")).sentences
        'is 174.82. The rest of the row suggests 12.3, between 8.1 and 19.'
        """
        said = [f"is {self.seen}." if self.seen else "is missing."]
        between = self.between
        if between and between[0] == between[1]:
            between = None
        span = f"between {between[0]} and {between[1]}" if between else ""
        suggested = self.expected if self.expected != self.seen else None
        if suggested or span:
            said.append(
                f"The rest of the row suggests {', '.join(filter(None, (suggested, span)))}."
            )
        if self.usual and self.usual != self.seen:
            said.append(f"Usual for the column: {self.usual}.")
        return " ".join(said)


@dataclass(frozen=True)
class Picture:
    """A small picture of pixels.

    Attributes
    ----------
    pixels : (height, width, 1 or 3) array
        From 0 to 1: grey, or red, green and blue.
    caption : str
    """

    pixels: ArrayLike
    caption: str


@dataclass(frozen=True)
class Anomaly:
    """A row, or an image, with one of the lowest scores.

    Attributes
    ----------
    name : str
        Which row it is, for its reader.
    score, p_value : float
    reasons : sequence of Reason
        The heaviest first.
    pictures : sequence of Picture
        The image, what the model expects in its place, the map.
    """

    name: str
    score: float
    p_value: float
    reasons: Sequence[Reason] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Drift:
    """A column of the batch beside the training data.

    Attributes
    ----------
    column, measure : str
        ``measure`` is what was compared, such as "missing cells".
    training, batch : str
        Its values.
    moved : bool
        Beyond what chance would do.
    """

    column: str
    measure: str
    training: str
    batch: str
    moved: bool


@dataclass(frozen=True)
class Content:
    """All that a report tells. Sections without content are left out.

    Attributes
    ----------
    title : str
    facts : sequence of (str, str)
        What the model is, in names and values.
    warnings : sequence of str
    columns : sequence of Column
    training : Training or None
    kl_per_dimension : (latent_dim,) array or None
        Mean KL divergence of each latent dimension from its prior, nats.
    offset : float
        The threshold.
    rate : Rate
        What the threshold gives.
    chosen_by : str
        How the threshold was chosen, such as "contamination='auto'".
    calibrated_on : str
        Such as "480 held-out rows".
    rates : sequence of Rate
        Of other thresholds, by rising ``asked``.
    level : float
        Confidence of the intervals.
    calibration_scores : (m,) array
    n_rows, n_flagged : int or None
        Rows of the batch, and those that score under the threshold; None: no batch was scored.
    batch_scores : (k,) array or None
        Scores of these rows, or some that stand for them.
    anomaly_share : (float, float, float) or None
        Share of anomalies in the batch, estimated, and its interval.
    column_fits : sequence of ColumnFit
    anomalies : sequence of Anomaly
        Lowest score first.
    drift : sequence of Drift
    unit : str
        Of scores.
    items : str
        What is scored: "rows" or "images".
    """

    title: str
    offset: float
    rate: Rate
    chosen_by: str
    calibrated_on: str
    calibration_scores: ArrayLike
    level: float = 0.9
    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    columns: Sequence[Column] = ()
    training: Training | None = None
    kl_per_dimension: ArrayLike | None = None
    rates: Sequence[Rate] = ()
    n_rows: int | None = None
    n_flagged: int | None = None
    batch_scores: ArrayLike | None = None
    anomaly_share: tuple[float, float, float] | None = None
    column_fits: Sequence[ColumnFit] = ()
    anomalies: Sequence[Anomaly] = ()
    drift: Sequence[Drift] = ()
    unit: str = "nats"
    items: str = "rows"

    @property
    def n_active(self) -> int | None:
        """Latent dimensions that say something of a row."""
        if self.kl_per_dimension is None:
            return None
        return int(np.sum(np.asarray(self.kl_per_dimension) >= ACTIVE_KL))

    @property
    def not_understood(self) -> list[str]:
        """Columns of which the rest of a row tells nothing."""
        return [fit.column for fit in self.column_fits if not fit.is_understood]
