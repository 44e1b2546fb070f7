"""What a report says of a fitted detector, and of rows that it scored."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

import vae_anomaly
from vae_anomaly.atomic import atomic_file
from vae_anomaly.report import render
from vae_anomaly.report.content import Content, Rate, Training
from vae_anomaly.scoring.calibration import LEVEL
from vae_anomaly.scoring.discoveries import FEWEST_ROWS
from vae_anomaly.vae.layers import kl_divergence
from vae_anomaly.vae.training import best_step

if TYPE_CHECKING:
    from vae_anomaly.detectors.inputs import Rows

# Rows that are looked at for anything but their score, and those that are listed.
SAMPLE_ROWS, LISTED_ROWS = 1000, 10
# Of large images fewer are looked at: not more numbers than this, unless by so few images.
_SAMPLE_VALUES = 2**22
_RATES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass
class Batch:
    """Scored rows, as far as a report tells of them.

    Attributes
    ----------
    n_rows, n_flagged : int
    scores : (k,) array
        Of all rows, or scores that stand for them.
    anomaly_share : (float, float, float) or None
        Estimated share of anomalies and its interval.
    sample : data
        Some rows, ``sample_size`` at most, as the scorer takes them.
    lowest : data
        The rows with the lowest scores, lowest first, ``LISTED_ROWS`` at most.
    names : list of str
        Of the lowest rows.
    warnings : list of str
    """

    n_rows: int
    n_flagged: int
    scores: np.ndarray
    anomaly_share: tuple[float, float, float] | None
    sample: Any
    lowest: Any
    names: list[str]
    warnings: list[str] = field(default_factory=list)


class ReportMixin:
    """Write a report on a detector; mixed into the detectors."""

    scorer_: Any
    _input: Any

    def report(
        self,
        X: Rows | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        title: str = "Anomaly report",
    ) -> str:
        """Write a report for people: one HTML page without scripts, that loads nothing.

        It has what the data were taken for, the curves of training, the latent dimensions, the
        false-alarm rates with intervals; of X the scores, the lowest rows with reasons in words,
        what moved, and how well each column is understood.

        Parameters
        ----------
        X : as in ``score_samples``, or None
            Rows to report on. None: the detector alone.
        output : path or None
            File to write the page to.
        title : str

        Returns
        -------
        str
            The page. In a notebook, ``IPython.display.HTML`` shows it.

        Raises
        ------
        ImportError
            Jinja or matplotlib is not installed: ``pip install "vae-anomaly[plot]"``.
        """
        check_is_fitted(self, "scorer_")
        batch = None
        if X is not None:
            data = self._input.check(self, X)
            batch = batch_of(self, data, self._input.rows, self._input.row_names(X))
        page = render(report_content(self, batch, title))
        if output is not None:
            with atomic_file(output) as file:
                file.write(page.encode())
        return page


def sample_size(detector: Any) -> int:
    """Return how many rows or images are looked at for anything but their score, at most."""
    affordable = _SAMPLE_VALUES // detector._input.n_features
    return min(SAMPLE_ROWS, max(LISTED_ROWS, affordable))


def batch_of(detector: Any, data: Any, subset: Any, names: Any) -> Batch:
    """Score data in memory for a report.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
    data : as the scorer takes it
    subset : callable
        (data, int array) -> those rows.
    names : callable
        Row number -> name of the row.
    """
    outputs = detector.scorer_.run(data, ("score", "is_anomaly"))
    scores = outputs["score"]
    lowest = np.argsort(scores, kind="stable")[:LISTED_ROWS]
    step = max(1, -(-len(scores) // sample_size(detector)))
    share = None
    if detector.scorer_.n_calibration >= FEWEST_ROWS:
        found = detector._share_of(scores, LEVEL)
        share = found.share, found.low, found.high
    return Batch(
        n_rows=len(scores),
        n_flagged=int(outputs["is_anomaly"].sum()),
        scores=scores,
        anomaly_share=share,
        sample=subset(data, np.arange(0, len(scores), step)),
        lowest=subset(data, lowest),
        names=[names(int(row)) for row in lowest],
    )


def report_content(detector: Any, batch: Batch | None, title: str) -> Content:
    """Return the content of a report.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted.
    batch : Batch or None
        None: the detector alone.
    title : str
    """
    report = detector.threshold_report(LEVEL)
    said = detector.calibration_warnings()
    if batch:
        every = np.ones(detector._input.n_rows(batch.sample), dtype=bool)
        said += [*detector._input.doubts(detector.scorer_, batch.sample, every), *batch.warnings]
    calibration = detector.scorer_.calibration_scores.numpy()
    sections = detector._input.report_sections(detector, batch)
    history = detector.history_
    return Content(
        title=title,
        offset=detector.offset_,
        rate=Rate(report.rate_asked, report.rate_expected, report.rate_low, report.rate_high),
        chosen_by=report.chosen_by,
        calibrated_on=f"{report.n_calibration:,} {report.calibrated_on}",
        calibration_scores=calibration,
        level=LEVEL,
        facts=_facts(detector),
        warnings=said,
        training=Training(
            history["step"],
            history["loss"],
            history.get("val_loss"),
            best_step(history) if "val_loss" in history else None,
            "nats" if _is_variational(detector) else detector.scorer_.unit,
        ),
        kl_per_dimension=_kl_per_dimension(detector, batch),
        rates=_rates(detector, batch),
        n_rows=batch.n_rows if batch else None,
        n_flagged=batch.n_flagged if batch else None,
        batch_scores=batch.scores if batch else None,
        anomaly_share=batch.anomaly_share if batch else None,
        unit=detector.scorer_.unit,
        **sections,
    )


def _facts(detector):
    args, scorer = detector._model_args, detector.scorer_
    units = "-".join(map(str, args["hidden_units"])) or "none"
    return [
        ("detector", type(detector).__name__),
        ("score", scorer.score_type),
        ("hidden layers", units),
        ("latent dimensions", str(args["latent_dim"])),
        ("draws of z", str(scorer.n_draws)),
        ("training steps", f"{detector.history_['step'][-1]:,}"),
        ("mean score of the training rows", f"{scorer.baseline:.4g}"),
        ("vae-anomaly", vae_anomaly.__version__),
    ]


def _is_variational(detector):
    return hasattr(detector.scorer_.model, "feature_log_prob")


def _kl_per_dimension(detector, batch):
    """Mean KL divergence of each latent dimension, over rows or else the model's own samples."""
    if not _is_variational(detector):
        return None
    model = detector.scorer_.model
    if batch:
        inputs = detector.scorer_.preprocess(batch.sample)
    else:
        x = model.sample(sample_size(detector), seed=0).numpy()
        inputs = detector._input.sampled_inputs(x)
    return np.mean(kl_divergence(*model.encode(inputs)), axis=0)


def _rates(detector, batch):
    rates = []
    for asked in _RATES:
        if asked * (detector.scorer_.n_calibration + 1) < 1:
            continue
        found = detector.threshold_report(LEVEL, false_alarm_rate=asked)
        flagged = float(np.mean(batch.scores < found.offset)) if batch else None
        rates.append(Rate(asked, found.rate_expected, found.rate_low, found.rate_high, flagged))
    return rates
