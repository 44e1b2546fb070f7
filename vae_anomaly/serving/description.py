"""What formats of exports share: the schema and samples beside a model, as JSON; quiet writing."""

import base64
import contextlib
import importlib.metadata
import json
import logging
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vae_anomaly.serving.check import TOLERANCE
from vae_anomaly.serving.served import SERVED_OUTPUTS, Arrays, Served

_MEANINGS = {
    "score": "score_samples: higher is more normal",
    "decision": "score - threshold",
    "is_anomaly": "decision < 0",
    "p_value": "share of calibration scores at or below this one",
    "baseline": "mean training score: feature_log_prob, latent and baseline add up to score",
    "z_mean": "latent means",
}


def write_schema(
    part: pathlib.Path,
    served: Served,
    inputs: Mapping[str, Any],
    signatures: Mapping[str, Mapping[str, Any]],
    packages: Sequence[str],
) -> None:
    """Write ``schema.json``.

    Parameters
    ----------
    part : pathlib.Path
        Folder of the export.
    served : Served
    inputs : mapping
        What tells the inputs: ``served.schema()``, or ``served.array_schema()``.
    signatures : mapping of signature to ``signature_of`` it
    packages : sequence of str
        Whose versions wrote the export.
    """
    outputs = {name for signature in signatures.values() for name in signature["outputs"]}
    meanings = {**_MEANINGS, **served.meanings}
    schema = {
        "format": "vae_anomaly export",
        "format_version": 1,
        "score_type": served.scorer.score_type,
        "threshold": float(served.scorer.offset.numpy()),
        "tolerance": TOLERANCE,
        **inputs,
        "signatures": signatures,
        "meanings": {
            name: meaning
            for name, meaning in meanings.items()
            if any(output.endswith(name.removeprefix("<input>")) for output in outputs)
        },
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    write_json(part / "schema.json", schema, indent=1)


def write_response(part: pathlib.Path, served: Served, expected: Arrays) -> None:
    """Write ``sample_response.json``: Python's answers to the sample request, by row."""
    outputs = {name: expected[name].tolist() for name in SERVED_OUTPUTS}
    write_json(part / "sample_response.json", {"predictions": rows_of(outputs)}, served.indent)


def signature_of(inputs: Iterable[Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types and shapes of a function's inputs and outputs by name, as plain data.

    Parameters
    ----------
    inputs : iterable of tf.TensorSpec
        With names.
    outputs : mapping of name to tensor
    """
    tensors = {"inputs": {spec.name: spec for spec in inputs}, "outputs": outputs}
    return {
        which: {
            name: {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
            for name, tensor in named.items()
        }
        for which, named in tensors.items()
    }


def listed(array: np.ndarray) -> list:
    """Return numbers, text and bytes as a request has them; float32 in as few digits as tell it."""
    if array.dtype == np.float32:
        array = array.astype(str).astype(np.float64)
    return [
        {"b64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell
        for cell in array.tolist()
    ]


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return rows, by name of the column, of columns of equal length."""
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def write_json(path: pathlib.Path, content: Any, indent: int | None) -> None:
    """Write JSON without NaN, readable."""
    text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Keep what a library logs below a level to itself."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)
