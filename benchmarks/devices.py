"""Training and scoring on a GPU and on the processor, and how far their scores are apart.

Each measurement runs in a process of its own. See README.md for what each line is.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from bare import seconds
from correlated import correlated

# Shape of the data, and steps of the short fit; the long one has six times as many.
CASES: dict[str, tuple[tuple[int, ...], int]] = {
    "30 columns": ((20_000, 30), 400),
    "500 columns": ((4000, 500), 160),
    "images of 64 x 64": ((400, 64, 64), 80),
}
BACKBONE = "backbone, 224 x 224"
CASES_WITH_BACKBONE = CASES | {BACKBONE: ((60, 224, 224), 40)}
# Rows that both devices score by one saved detector.
_SCORED_BY_BOTH = 100


def made_data(case: str) -> np.ndarray:
    """Correlated normal columns, or images of smooth noise."""
    shape, _ = CASES_WITH_BACKBONE[case]
    rng = np.random.default_rng(0)
    if len(shape) == 2:
        return correlated(*shape, rng)
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=shape), sigma=(0, 3, 3), mode="wrap")
    return np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)


def parameters(case: str, backbone: str | None) -> dict[str, Any]:
    own: dict[str, Any] = {"validation_fraction": 0, "random_state": 0}
    return own | {"backbone": backbone} if case == BACKBONE else own


def measure_case(case: str, folder: str, backbone: str | None) -> dict[str, Any]:
    """Time training and scoring in this process; score rows by a detector kept in ``folder``."""
    import tensorflow as tf

    from vae_anomaly import VAEDetector, load_detector

    X = made_data(case)
    short = CASES_WITH_BACKBONE[case][1]
    detector = VAEDetector(**parameters(case, backbone))

    def fit(steps: int) -> float:
        return seconds(lambda: detector.set_params(max_steps=steps).fit(X))

    first_s, short_s, long_s = fit(short), fit(short), fit(6 * short)
    detector.score_samples(X)
    score_s = seconds(lambda: detector.score_samples(X), at_least=2.0)
    kept = pathlib.Path(folder) / case.replace(" ", "_")
    if not kept.exists():
        detector.save(kept)
    scores = load_detector(kept).score_samples(X[:_SCORED_BY_BOTH])
    step_s = (long_s - short_s) / (5 * short)
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus]
    return {
        "device": ", ".join(details) or f"{len(os.sched_getaffinity(0))} cores",
        "has_gpu": bool(gpus),
        "first_fit_s": first_s,
        "ms_per_step": 1000 * step_s,
        "score_rows_per_s": len(X) / score_s,
        "scores": scores.tolist(),
    }


def run_case(case: str, folder: str, backbone: str | None, hidden: bool) -> dict[str, Any]:
    """Measure a case in a process that sees the GPU, or from which it is hidden."""
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": "-1"} if hidden else {})}
    command = [sys.executable, __file__, "--child", case, folder, *([backbone] if backbone else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case}: failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_line(case: str, result: dict[str, Any]) -> None:
    print(
        f"{case:22}{result['device']:24}{result['first_fit_s']:14.1f}{result['ms_per_step']:14.2f}"
        f"{result['score_rows_per_s']:14,.0f}",
        flush=True,
    )


def compare_devices(cases: list[str], backbone: str | None) -> None:
    """Print a line per case and device, and how far scores of one model are apart."""
    print(f"{'':22}{'device':24}{'first fit, s':>14}{'ms per step':>14}{'scored /s':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            first = run_case(case, folder, backbone, hidden=False)
            print_line(case, first)
            if first["has_gpu"]:
                second = run_case(case, folder, backbone, hidden=True)
                print_line(case, second)
                one, other = np.array(first["scores"]), np.array(second["scores"])
                apart = np.max(np.abs(one - other) / np.maximum(1, np.abs(one)))
                print(f"{'':22}scores of one model differ by {apart:.1e} of their size at most")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        case, folder, *backbone = sys.argv[2:]
        print(json.dumps(measure_case(case, folder, backbone[0] if backbone else None)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--backbone", metavar="FILE", help="a .keras file; adds the case of it")
    args = parser.parse_args()
    compare_devices([*args.cases, *([BACKBONE] if args.backbone else [])], args.backbone)


if __name__ == "__main__":
    main()
