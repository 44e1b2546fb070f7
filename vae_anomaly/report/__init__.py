"""One self-contained HTML page that tells what a model learned and what it found."""

from vae_anomaly.report.content import (
    Anomaly,
    Column,
    ColumnFit,
    Content,
    Drift,
    Picture,
    Rate,
    Reason,
    Training,
)
from vae_anomaly.report.page import render, write

__all__ = [
    "Anomaly",
    "Column",
    "ColumnFit",
    "Content",
    "Drift",
    "Picture",
    "Rate",
    "Reason",
    "Training",
    "render",
    "write",
]
