"""The check of an export: asks it in another process, and compares with Python's answers."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np

from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.serving.served import Arrays, Served

#: Largest difference from Python, as a share of 1 + the largest absolute value of the row.
TOLERANCE = 1e-5


class ExportError(ValueError):
    """What was exported does not answer as the detector does; ``str(error)`` is one sentence."""


def largest_difference(
    part: pathlib.Path, expected: Arrays, served: Served, program: pathlib.Path
) -> float:
    """Ask an export its sample requests, in another process, and compare all answers.

    Parameters
    ----------
    part : pathlib.Path
        Folder of the export. A file ``answers.json`` is written beside it.
    expected : dict of output name to array
        Python's answers, as of ``served.answers``.
    served : Served
    program : pathlib.Path
        Asks: takes the folder and the file to write; see ``answer.py``.

    Returns
    -------
    float, nats
        Largest difference of the scores.

    Raises
    ------
    ExportError
        It did not load, or an answer is further from Python's than ``TOLERANCE``.
    """
    answers = _asked(part, program)
    allowed = _allowed(expected, served)
    calibration = served.scorer.calibration_scores.numpy()
    for key, outputs in answers.items():
        for name in sorted(outputs, key=lambda name: name != "score"):  # the rest follows it
            answer = np.array(outputs[name])
            if not _agrees(name, answer, expected, allowed, calibration):
                difference = ""
                if answer.dtype == np.float64 and answer.shape == expected[name].shape:
                    difference = f", up to {np.abs(answer - expected[name]).max():.3g} off"
                raise ExportError(
                    f"Expected Python's answers to a tolerance of {TOLERANCE:g}. Received: others "
                    f"of output {name!r} of signature {key!r}{difference}. Nothing was exported."
                )
    scores = [outputs["score"] for outputs in answers.values() if "score" in outputs]
    return float(np.abs(np.subtract(scores, expected["score"])).max())


def _asked(part, program):
    """The export's answers to its sample requests, by signature and output."""
    answers_file = part.parent / "answers.json"
    process = subprocess.run(
        # Its text, so that no module beside it can be taken for another one.
        [sys.executable, "-c", program.read_text("utf-8"), str(part), str(answers_file)],
        capture_output=True,
        text=True,
        check=False,
        # This process may hold all of a GPU's memory.
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        last = (errors or lines)[-1]
        raise ExportError(
            f"Expected the export to load and answer in another process. Received: {last} "
            "Nothing was exported."
        )
    return json.loads(answers_file.read_text())


def _allowed(expected, served):
    """Largest differences of the outputs that are float, as arrays that broadcast with theirs."""
    features = np.abs(expected["feature_log_prob"])
    largest = features.max(axis=tuple(range(1, features.ndim)))
    # Parts may be far larger than the score that they add up to.
    largest = np.maximum(largest, np.abs(expected["latent"]))
    of_row = TOLERANCE * (1 + np.maximum(np.abs(expected["score"]), largest))
    allowed = dict.fromkeys(expected, of_row)
    allowed["feature_log_prob"] = of_row.reshape(-1, *[1] * (features.ndim - 1))
    allowed["z_mean"] = TOLERANCE * (1 + np.abs(expected["z_mean"]).max(axis=1, keepdims=True))
    for name, scale in served.scales(expected).items():
        allowed[name] = TOLERANCE * scale
    return allowed


def _agrees(name, answer, expected, allowed, calibration):
    python = expected[name]
    if answer.shape != python.shape:
        return False
    if name == "is_anomaly":
        return np.all((answer == python) | (np.abs(expected["decision"]) <= allowed["decision"]))
    if name == "p_value":
        low, high = (
            p_values(expected["score"] + step, calibration)
            for step in (-allowed["score"], allowed["score"])
        )
        # TensorFlow multiplies by 1 / (m + 1): other last digits than a division.
        return np.all((low - TOLERANCE <= answer) & (answer <= high + TOLERANCE))
    if python.dtype == object:
        return np.all(answer == python)
    return np.all(np.abs(answer - python) <= allowed[name])
