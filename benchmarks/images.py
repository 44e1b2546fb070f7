"""Detection quality on images: one digit is normal, one digit is the anomaly, or no digit at all.

Results are added to a CSV file as they come, and what the file has is not computed again.
See README.md for the settings and for what each column of the output is.
"""

import argparse
import csv
import gzip
import logging
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
import tiles
from adbench import has_pyod, timed
from protocol import OTHERS, parameter, results_of
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

MNIST = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
SETTINGS = ("one digit normal", "one digit held out", "no digit")
OWN = ("VAEDetector", "AutoencoderDetector")
COMPARED = ("KNN", "PCA", "IsolationForest", "PyOD AutoEncoder", "PyOD VAE")
KEY = ["data", "setting", "what", "seed", "detector", "params"]
FIELDS = [*KEY, "auroc", "fit_s", "score_s", "n_train", "n_test", "steps"]
_N_STRANGE = 500
# Images in a step of our detectors, unless --param says otherwise.
_BATCH = 32


class Task(NamedTuple):
    """One fit: ``digit`` is -1 where all are normal."""

    data: str
    setting: str
    digit: int
    seed: int
    detector: str
    params: tuple[tuple[str, Any], ...]

    @property
    def params_text(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.params)


def load(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, height, width) of uint8 and their digits (n,)."""
    if data == "digits":
        bunch = load_digits()
        return np.round(bunch.images * 255 / 16).astype(np.uint8), bunch.target
    with gzip.open(MNIST / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(MNIST / "t10k-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(), np.uint8, offset=8)


def split(task: Task) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return training images and, by what is to be found, test images with 1 for anomalies.

    "one digit normal": 80% of the digit trains, the rest and all others test. "one digit held
    out": 40% of the others train, 10% of them and 500 (at most) of the digit test. "no digit":
    40% of all images train; 500 (at most) others are told from each kind of strange images.
    """
    images, digits = load(task.data)
    rng = np.random.default_rng(task.seed)
    is_normal = np.ones(len(images), dtype=bool)
    if task.setting == SETTINGS[0]:
        is_normal = digits == task.digit
    elif task.setting == SETTINGS[1]:
        is_normal = digits != task.digit
    normal = rng.permutation(np.flatnonzero(is_normal))
    other = rng.permutation(np.flatnonzero(~is_normal))
    n_train = int((0.8 if task.setting == SETTINGS[0] else 0.4) * len(images[is_normal]))
    if task.setting != SETTINGS[0] and task.data == "mnist":
        n_train = 4000
    train, rest = images[normal[:n_train]], normal[n_train:]
    if task.setting == SETTINGS[2]:
        test = images[rest[:_N_STRANGE]]
        return train, {
            name: (np.concatenate([test, strange]), np.repeat([0, 1], len(test)))
            for name, strange in strange_images(test, rng).items()
        }
    if task.setting == SETTINGS[1]:
        rest, other = rest[: len(images) // 10], other[:500]
    test = np.concatenate([images[rest], images[other]])
    return train, {f"digit {task.digit}": (test, np.repeat([0, 1], [len(rest), len(other)]))}


def strange_images(images: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Make as many images of each kind, of the same size and type; most are made of the images."""
    n, height, _ = images.shape
    x = images / 255
    # Under 0.6 pixels nothing is blurred.
    blur = max(0.6, height / 28)
    flat = x.reshape(n, -1)
    kinds = {
        "inverted": 1 - x,
        "constant": np.broadcast_to(rng.uniform(size=(n, 1, 1)), x.shape),
        "black": np.zeros_like(x),
        "white": np.ones_like(x),
        "uniform noise": rng.uniform(size=x.shape),
        "normal noise": rng.normal(0.5, 0.2, size=x.shape),
        "sparse noise": rng.uniform(size=x.shape) < x.mean(),
        "blurred": gaussian_filter(x, (0, blur, blur)),
        "blurred twice as much": gaussian_filter(x, (0, 2 * blur, 2 * blur)),
        "pixels shuffled": rng.permuted(flat, axis=1).reshape(x.shape),
        "gradients": gradients(x.shape, rng),
        "letters": letters(x.shape, rng),
        "shapes": shapes(x.shape, rng),
    }
    return {
        name: np.round(255 * np.clip(strange, 0, 1)).astype(np.uint8)
        for name, strange in kinds.items()
    }


def gradients(shape, rng) -> np.ndarray:
    """Images that grow brighter evenly from one side to the other, in a random direction."""
    n, height, width = shape
    angle = rng.uniform(0, 2 * np.pi, size=(n, 1, 1))
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return 0.5 + (np.cos(angle) * rows + np.sin(angle) * columns) / 2 / np.sqrt(2)


def letters(shape, rng) -> np.ndarray:
    """Capital letters without those that look like digits, in the font that matplotlib brings."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    n, height, width = shape
    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(path, 3 * height)
    drawn = []
    for letter, shift in zip(
        rng.choice(list("ACDEFGHJKLMNPRTUVWXY"), size=n), rng.integers(-4, 5, (n, 2)), strict=True
    ):
        canvas = Image.new("L", (4 * width, 4 * height))
        place = (2 * width + shift[0], 2 * height + shift[1])
        ImageDraw.Draw(canvas).text(place, letter, fill=255, font=font, anchor="mm")
        drawn.append(np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS)) / 255)
    return np.stack(drawn)


def shapes(shape, rng) -> np.ndarray:
    """Filled rectangles, ellipses and triangles, and lines of four points."""
    from PIL import Image, ImageDraw

    n, height, width = shape
    drawn = []
    for kind in rng.integers(4, size=n):
        canvas = Image.new("L", (4 * width, 4 * height))
        pen = ImageDraw.Draw(canvas)
        points = rng.integers(width // 2, 4 * width - width // 2, size=(4, 2))
        corners = [*points[:2].min(axis=0), *(points[:2].max(axis=0) + width // 3)]
        if kind == 0:
            pen.rectangle([int(c) for c in corners], fill=255)
        elif kind == 1:
            pen.ellipse([int(c) for c in corners], fill=255)
        elif kind == 2:
            pen.polygon([(int(x), int(y)) for x, y in points[:3]], fill=255)
        else:
            pen.line([(int(x), int(y)) for x, y in points], fill=255, width=width // 3)
        drawn.append(np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS)) / 255)
    return np.stack(drawn)


def own_scores(task, train, tests) -> Iterator[tuple[str, str, np.ndarray, dict]]:
    """Fit one of our detectors; yield name, what is to be found, anomaly scores and cost."""
    import keras

    import vae_anomaly
    from vae_anomaly.scoring.images import ImageScorer

    # One trace per detector is no reason for TensorFlow to warn.
    logging.getLogger("tensorflow").setLevel("ERROR")
    keras.backend.clear_session()
    detector = getattr(vae_anomaly, task.detector)(random_state=task.seed)
    detector.set_params(**dict(task.params))
    _, fit_s = timed(detector.fit, train)
    cost = {"fit_s": fit_s, "steps": detector.history_["step"][-1]}
    fitted = detector.scorer_
    score_types = [fitted.score_type]
    if task.detector == "VAEDetector":
        score_types.append("reconstruction_probability")
    for score_type in dict.fromkeys(score_types):
        scorer = fitted
        if score_type != fitted.score_type:
            scorer = ImageScorer(
                fitted.preprocessor,
                fitted.model,
                score_type=score_type,
                n_draws=fitted.n_draws,
                seed=task.seed,
            )
            scorer.noise.assign(fitted.noise)
        scorer.run(next(iter(tests.values()))[0][:1, ..., None], ("score",))  # traces the graph
        name = f"VAE {score_type}" if task.detector == "VAEDetector" else task.detector
        for what, (test, _) in tests.items():
            outputs, score_s = timed(scorer.run, test[..., None], ("score",))
            yield name, what, -outputs["score"], {**cost, "score_s": score_s}


def pca(X_train: np.ndarray, seed: int):
    """Score by the squared error of a reconstruction from 40 components."""
    model = PCA(min(40, *X_train.shape), random_state=seed).fit(X_train)
    return lambda X: np.square(X - model.inverse_transform(model.transform(X))).sum(axis=1)


def other_scores(task, train, tests) -> Iterator[tuple[str, str, np.ndarray, dict]]:
    """Fit another detector on pixels / 255; yield as ``own_scores`` does."""
    fit = pca if task.detector == "PCA" else OTHERS[task.detector]
    score, fit_s = timed(fit, train.reshape(len(train), -1) / 255, task.seed)
    for what, (test, _) in tests.items():
        scores, score_s = timed(score, test.reshape(len(test), -1) / 255)
        yield task.detector, what, scores, {"fit_s": fit_s, "score_s": score_s}


def run(task: Task) -> tuple[Task, list[dict[str, Any]], str]:
    """Do one fit; return the task, a row per result, and why there are none if it failed."""
    rows = []
    try:
        train, tests = split(task)
        scored = own_scores if task.detector in OWN else other_scores
        for name, what, scores, cost in scored(task, train, tests):
            labels = tests[what][1]
            key = (task.data, task.setting, what, task.seed, name, task.params_text)
            shape = {"n_train": len(train), "n_test": len(labels)}
            auroc = float(roc_auc_score(labels, scores))
            rows.append({**dict(zip(KEY, key, strict=True)), "auroc": auroc} | cost | shape)
    # Whatever a detector does, the others' results are wanted.
    except Exception as error:
        return task, [], f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return task, rows, ""


def read(output: pathlib.Path) -> pd.DataFrame:
    if not output.exists():
        output.write_text(",".join(FIELDS) + "\n")
    with open(output, newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != FIELDS:
            sys.exit(f"{output} has other columns than {FIELDS}; name another file with --output")
        results = pd.DataFrame(list(reader), columns=FIELDS)
    numbers = ["auroc", "fit_s", "score_s", "n_train", "n_test"]
    results["steps"] = pd.to_numeric(results["steps"])
    return results.astype({"seed": int} | dict.fromkeys(numbers, float)).drop_duplicates(KEY)


def print_results(results: pd.DataFrame) -> None:
    for (data, setting), part in results.groupby(["data", "setting"], sort=False):
        order = list(dict.fromkeys(part["detector"]))
        seeds = ", ".join(map(str, sorted(part["seed"].unique())))
        print(f"\n{data}, {setting}, seeds {seeds}: AUROC")
        table = part.pivot_table("auroc", "what", "detector")[order]
        if setting == SETTINGS[2]:
            worst = part.pivot_table("auroc", "what", "detector", aggfunc="min")[order]
            print(table.to_string(float_format="%.3f", index_names=False))
            print("lowest, of all kinds and seeds:")
            print(worst.min().to_frame().T.to_string(float_format="%.3f", index=False))
            continue
        seeds_of = part.groupby(["seed", "detector"])["auroc"].mean().unstack()[order]
        means = pd.DataFrame({"mean": seeds_of.mean(), "sd of seeds": seeds_of.std()})
        means["lowest digit"] = table.min()
        cost = part.groupby("detector")[["fit_s", "score_s", "n_test", "steps"]].mean().loc[order]
        means["fit s"] = cost["fit_s"]
        means["trained per s"] = _BATCH * cost["steps"] / cost["fit_s"]
        means["scored per s"] = cost["n_test"] / cost["score_s"]
        print(means.to_string(float_format="%.3f", na_rep="", index_names=False))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    data = ("mnist", "digits", "tiles")
    parser.add_argument("--data", nargs="+", choices=data, default=["mnist"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--digits", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--splits", nargs="+", choices=tiles.SPLITS, default=tiles.SPLITS)
    parser.add_argument(
        "--tile-detectors", nargs="+", choices=tiles.DETECTORS, default=tiles.DETECTORS
    )
    parser.add_argument("--n-train", type=int, help="good tiles that train, instead of 80%%")
    names = ("VAEDetector", *COMPARED)
    parser.add_argument("--detectors", nargs="+", choices=(*OWN, *COMPARED), default=names)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("images.csv"))
    parser.add_argument(
        "--param",
        type=parameter,
        action="append",
        default=[],
        metavar="N=VALUE",
        help='of our detectors, such as "tiles=(64, 64)"; can be repeated',
    )
    args = parser.parse_args()
    if "tiles" in args.data and args.data != ["tiles"]:
        parser.error("--data tiles goes alone")
    return args


def main() -> None:
    args = arguments()
    if "mnist" in args.data and not MNIST.is_dir():
        sys.exit(f"skipped: no folder {MNIST}; --data digits needs no file")
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if "tiles" in args.data:
        for path in (tiles.FOLDER, tiles.BACKBONE):
            if not path.exists():
                sys.exit(f"skipped: no {path}")
        tiles.run(args.splits, args.seeds, args.tile_detectors, args.n_train, dict(args.param))
        return

    detectors = [name for name in args.detectors if not name.startswith("PyOD") or has_pyod(name)]
    tasks = [
        Task(data, setting, digit, seed, name, tuple(args.param) if name in OWN else ())
        for data in args.data
        for seed in args.seeds
        for setting in args.settings
        for digit in ([-1] if setting == SETTINGS[2] else args.digits)
        for name in detectors
    ]
    there = read(args.output)

    def is_there(task):
        same = (there["data"] == task.data) & (there["setting"] == task.setting)
        same &= (there["seed"] == task.seed) & (there["params"] == task.params_text)
        if task.digit >= 0:
            same &= there["what"] == f"digit {task.digit}"
        own = there["detector"].str.startswith("VAE ") & (task.detector == "VAEDetector")
        return (same & (own | (there["detector"] == task.detector))).any()

    tasks = [task for task in tasks if not is_there(task)]
    start, n_failed = time.monotonic(), 0
    done = results_of(run, tasks, args.jobs)
    for count, (task, rows, failure) in enumerate(done, start=1):
        with open(args.output, "a", newline="") as file:
            csv.DictWriter(file, FIELDS, lineterminator="\n").writerows(rows)
        n_failed += bool(failure)
        what = f"{task.data}, {task.setting} {task.digit}, seed {task.seed}, {task.detector}"
        auroc = ", ".join(f"{row['auroc']:.3f}" for row in rows)
        print(f"[{count}/{len(tasks)}] {what}: {failure or auroc}", flush=True)
    print_results(read(args.output).query("setting in @args.settings and data in @args.data"))
    print(f"\n{time.monotonic() - start:.0f} s; all figures: {args.output}")
    if n_failed:
        sys.exit(f"{n_failed} fits failed; their results are missing above")


if __name__ == "__main__":
    main()
