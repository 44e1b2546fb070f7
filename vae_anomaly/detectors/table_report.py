"""What a report says of tables: kinds, fit of each column, reasons of rows, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.detectors.reasons import Reasons, cell_text
from vae_anomaly.report.content import Anomaly, Column, ColumnFit, Drift
from vae_anomaly.scoring.views import EncodedRows, noise_bank
from vae_anomaly.tables.drift import (
    DriftTally,
    has_moved,
    n_trained,
    part_in_words,
    rare_shares,
)

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.detectors.reporting import Batch

# Reasons of a row, and the least gain of one as a share of that of the first.
_REASONS, _LEAST_SHARE = 3, 0.05
_SHOWN_LEVELS = 6
# Rows on which the fit of the columns is judged, and draws of the prior to compare with.
_FIT_ROWS, _PRIOR_DRAWS = 200, 64


def table_sections(detector: BaseDetector, batch: Batch | None) -> dict[str, Any]:
    """Return the parts of ``report.Content`` that are particular to tables."""
    preprocessor = detector.scorer_.preprocessor
    sections: dict[str, Any] = {"columns": _columns(detector)}
    if batch is None:
        return sections
    outputs = detector.scorer_.run(batch.lowest, ("score", "p_value"))
    reasons = Reasons(detector.scorer_).of(batch.lowest, _REASONS)
    sections["anomalies"] = [
        Anomaly(
            name,
            float(score),
            float(p_value),
            [reason for reason in of_row if reason.gain >= _LEAST_SHARE * of_row[0].gain],
        )
        for name, score, p_value, of_row in zip(
            batch.names, outputs["score"], outputs["p_value"], reasons, strict=True
        )
    ]
    sections["drift"] = _drift(preprocessor, batch.sample)
    if hasattr(detector.scorer_.model, "feature_log_prob"):
        sections["column_fits"] = _column_fits(detector.scorer_, batch.sample)
    return sections


def _columns(detector):
    found, columns = detector._input.schema, []
    for column in detector.scorer_.preprocessor.schema():
        said = []
        if "low" in column:
            ends = (cell_text(column[end], column["kind"]) for end in ("low", "high"))
            said.append(" to ".join(ends))
        if "levels" in column:
            levels = column["levels"]
            shown = ", ".join(levels[:_SHOWN_LEVELS])
            said.append(
                f"{len(levels)} levels: {shown}{', …' if len(levels) > _SHOWN_LEVELS else ''}"
            )
        if column["missing_share"]:
            said.append(f"{column['missing_share']:.1%} missing")
        columns.append(Column(column["name"], column["kind"], "; ".join(said)))
    return [
        *columns,
        *(Column(name, found.columns[name].kind, "not modelled") for name in found.unmodelled),
    ]


def _column_fits(scorer, arrays):
    """How much better the rest of a row tells each column than its own distribution, in nats."""
    arrays = {name: array[:_FIT_ROWS] for name, array in arrays.items()}
    x, observed = scorer.preprocess(arrays)
    model, names = scorer.model, scorer.preprocessor.column_names
    widths = scorer.preprocessor.column_widths
    prior = np.tile(noise_bank(_PRIOR_DRAWS, model.latent_dim, seed=0), (len(x), 1, 1))
    alone = _mixture(model, x, observed, prior)
    fits = []
    for name in arrays:
        is_hidden = np.array([column == name for column in names])
        without = np.where(np.repeat(is_hidden, widths), 0, x), np.where(is_hidden, 0, observed)
        rows = EncodedRows(model, without, scorer.noise)
        together = _mixture(model, x, observed, rows.z)
        gain = (together - alone)[:, is_hidden].sum(axis=1)[observed[:, is_hidden].any(axis=1)]
        # Of a typical row: anomalies would outweigh all others in a mean.
        fits.append(ColumnFit(name, float(np.median(gain)) if gain.size else 0.0))
    return fits


def _mixture(model, x, observed, z):
    """Log-density of each column of each row under the mixture over draws of z, (n, columns)."""
    log_prob = model.feature_log_prob((x, observed), tf.constant(z, tf.float32))
    return (tf.reduce_logsumexp(log_prob, axis=1) - np.log(z.shape[1])).numpy()


def _drift(preprocessor, arrays):
    rare, n_rows, changes = rare_shares(preprocessor), n_trained(preprocessor), []
    for column in preprocessor.schema():
        name, array, lacking = column["name"], arrays[column["name"]], column["missing_share"]
        is_text = column["kind"] == "categorical"
        missing = array == "" if is_text else np.isnan(array)
        # Shares of the batch and of the training rows, and of how many rows they are.
        measures = {"missing cells": (missing.mean(), lacking, len(array), n_rows)}
        values, m = array[~missing], n_rows * (1 - lacking)
        if is_text and values.size and m:
            known = set(column["levels"])
            unseen = np.mean([text not in known for text in values])
            measures["rare or unknown levels"] = (unseen, rare[name], len(values), m)
        elif "low" in column and values.size and m:
            outside = np.mean((values < column["low"]) | (values > column["high"]))
            measures["values beyond those of training"] = (outside, 0.0, len(values), m)
        for measure, (share, expected, n, m) in measures.items():
            if share or expected:
                moved = has_moved(share, expected, n, m)
                changes.append(Drift(name, measure, f"{expected:.1%}", f"{share:.1%}", moved))
    return [*changes, *_distributions(preprocessor, arrays)]


def _distributions(preprocessor, arrays):
    tally = DriftTally(preprocessor)
    tally.update(arrays)
    return [
        Drift(
            profile.column,
            f"stability index of {part_in_words(profile.part)}",
            "0",
            f"{index:.2f}",
            moved,
        )
        for profile, index, moved in tally.compared()
    ]
