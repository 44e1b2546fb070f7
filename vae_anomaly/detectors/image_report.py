"""What a report says of images: what was learned from, and maps of the lowest scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vae_anomaly.images.colours import map_colours
from vae_anomaly.report.content import Anomaly, Column, Picture

if TYPE_CHECKING:
    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.detectors.reporting import Batch


def image_sections(detector: BaseDetector, batch: Batch | None) -> dict[str, Any]:
    """Return the parts of ``report.Content`` that are particular to images."""
    schema = detector.scorer_.preprocessor.schema()
    low, high = schema["value_range"]
    about = (
        f"{schema['height']} x {schema['width']} pixels, {schema['channels']} channel(s), values "
        f"from {low:g} to {high:g}"
    )
    if detector.tiles is not None:
        about += ", in windows of {} x {} pixels".format(*detector.tiles)
    if detector.augmentation is not None:
        about += f", learned with copies changed by {', '.join(detector.augmentation)}"
    sections: dict[str, Any] = {
        "columns": [Column("images", schema["dtype"], about)],
        "items": "images",
    }
    if batch is None:
        return sections
    scorer = detector.scorer_
    found = scorer.run(batch.lowest, ("score", "p_value", "feature_log_prob"))
    seen, expected = scorer.seen(batch.lowest), scorer.expected(batch.lowest)
    sections["anomalies"] = [
        Anomaly(
            name,
            float(found["score"][i]),
            float(found["p_value"][i]),
            pictures=[
                Picture(_shown(seen[i]), "image"),
                *([] if expected is None else [Picture(_shown(expected[i]), "expected")]),
                Picture(map_colours(found["feature_log_prob"][i]), "red: less probable than usual"),
            ],
        )
        for i, name in enumerate(batch.names)
    ]
    return sections


def _shown(x):
    """The channels of x, (height, width, channels), that can be shown."""
    return x[..., :3] if x.shape[-1] >= 3 else x[..., :1]
