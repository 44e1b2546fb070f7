"""What sizes of images cost without a backbone, and how wide a defect must be to be found.

Made images of waves of any phase, with noise of 8 grey levels; a defect is a square that is darker
by some grey levels, at any place. Each size has a process of its own, of one thread, so that the
peak of its memory is its own; seconds are those of the processor.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from sklearn.metrics import roc_auc_score

WIDTHS = (1, 2, 3, 4, 8)
_NOISE = 8


def made(n: int, size: int, seed: int) -> np.ndarray:
    """Return images of waves, uint8 (n, size, size)."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:size, :size]
    phases = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    images = 110 + 40 * np.sin(across / 5 + phases[0]) + 25 * np.sin(down / 7 + phases[1])
    return np.clip(images + rng.normal(0, _NOISE, images.shape), 0, 255).astype(np.uint8)


def with_defects(images: np.ndarray, width: int, darker: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    changed = images.astype(int)
    for image, (row, column) in zip(
        changed, rng.integers(0, images.shape[1] - width, (len(images), 2)), strict=True
    ):
        image[row : row + width, column : column + width] -= darker
    return np.clip(changed, 0, 255).astype(np.uint8)


def measure(args: argparse.Namespace) -> None:
    """Fit one size, and print what it costs and finds."""
    from vae_anomaly import VAEDetector

    warnings.simplefilter("ignore")
    (size,), tiles = args.sizes, args.tiles and (args.tiles, args.tiles)
    train, fresh, others = (made(n, size, seed) for seed, n in enumerate((args.n_train, 100, 100)))
    start = _processor_s()
    detector = VAEDetector(tiles=tiles, max_steps=args.max_steps, random_state=0).fit(train)
    fit_s, fit_mb = _processor_s() - start, _peak_mb()
    start = _processor_s()
    usual = detector.score_samples(fresh)
    score_s = (_processor_s() - start) / len(fresh)
    with tempfile.TemporaryDirectory() as folder:
        detector.save(f"{folder}/m")
        saved_mb = sum(path.stat().st_size for path in pathlib.Path(folder, "m").iterdir()) / 1e6
    found = [
        roc_auc_score(
            np.repeat([1, 0], 100),
            np.r_[usual, detector.score_samples(with_defects(others, width, args.darker, 9))],
        )
        for width in WIDTHS
    ]
    cells = [detector.history_["step"][-1], fit_s, fit_mb, saved_mb, 1 / score_s, _peak_mb()]
    print(f"{size:5}" + "".join(f"{x:9.0f}" if x >= 10 else f"{x:9.1f}" for x in cells), end="")
    print("  " + "".join(f"{auroc:7.3f}" for auroc in found), flush=True)
    print(f"      {detector.threshold_report()}", flush=True)


def _processor_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--tiles", type=int, help="side of windows")
    parser.add_argument("--n-train", type=int, default=100)
    parser.add_argument("--max-steps", type=int, help="of the fit, instead of the default")
    parser.add_argument("--darker", type=int, default=30, help="grey levels of a defect")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args)
        return
    columns = ("steps", "fit s", "peak MB", "saved MB", "images/s", "peak MB")
    print(f"{'size':>5}" + "".join(f"{column:>9}" for column in columns))
    print(f"AUROC of defects {WIDTHS} pixels wide, {args.darker} grey levels darker", flush=True)
    threads = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    own = {"TF_CPP_MIN_LOG_LEVEL": "3", **dict.fromkeys(threads, "1")}
    options = [f"--n-train={args.n_train}", f"--darker={args.darker}"]
    options += [f"--tiles={args.tiles}"] if args.tiles else []
    options += [f"--max-steps={args.max_steps}"] if args.max_steps else []
    for size in args.sizes:
        command = [sys.executable, __file__, "--one", "--sizes", str(size), *options]
        subprocess.run(command, check=True, env={**os.environ, **own})


if __name__ == "__main__":
    main()
