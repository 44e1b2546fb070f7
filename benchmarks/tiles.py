"""Defects on magnetic tiles: how well they are found, by kind, and where they are.

Run by ``images.py --data tiles``. Good tiles train (80% of them), the others and all defects test.
There are several photographs of most tiles: split by "files", nearly every good tile of the test
has another photograph of it in training; split by "parts", no tile of the test has, and defects of
tiles that train are left out.
"""

import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.metrics import auc, roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDER, BACKBONE = DATA / "magnetic_tile", DATA / "efficientnet_lite0" / "efficientnet_lite0.keras"
KINDS = ("blowhole", "break", "crack", "fray", "uneven")
DETECTORS = ("PCA", "KNN pixels", "KNN features", "PaDiM", "VAE pixels", "VAE backbone")
SPLITS = ("files", "parts")
SIDE = 224
# Two photographs are of one tile if their proportions are alike and their details correlate so.
_PROPORTIONS, _CORRELATION = 0.06, 0.4
# Largest share of the good pixels that PRO looks at.
_MOST_FALSE = 0.3


class Tiles(NamedTuple):
    """All photographs."""

    images: np.ndarray  #: uint8 (n, height, width)
    kinds: np.ndarray  #: "good" or one of KINDS, (n,)
    masks: np.ndarray  #: bool (n, height, width)
    parts: np.ndarray  #: number of the tile that was photographed, (n,)


class Scored(NamedTuple):
    """What a detector says of test images."""

    scores: np.ndarray  #: higher is more unusual, (m,)
    maps: np.ndarray | None  #: of pixels, float32 (m, height, width)


def load() -> Tiles:
    """Read all tiles, stretched to 224 x 224 pixels, and their masks."""
    images, kinds, masks, proportions = [], [], [], []
    for kind in ("good", *KINDS):
        for path in sorted((FOLDER / kind).iterdir()):
            image = Image.open(path).convert("L")
            images.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
            proportions.append(np.log(image.width / image.height))
            mask = np.zeros((SIDE, SIDE), bool)
            if kind != "good":
                drawn = Image.open(FOLDER / "masks" / kind / f"{path.stem}.png").convert("L")
                drawn = drawn.resize((SIDE, SIDE), Image.Resampling.NEAREST)
                mask = np.asarray(drawn) > 127
            kinds.append(kind)
            masks.append(mask)
    pixels = np.stack(images)
    return Tiles(pixels, np.array(kinds), np.stack(masks), parts_of(pixels, np.array(proportions)))


def parts_of(images: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """Number photographs of the same tile alike, as far as their details tell, (n,)."""
    x = images.astype(np.float32)
    x = ndimage.gaussian_filter(x - ndimage.gaussian_filter(x, (0, 8, 8)), (0, 1, 1))
    x = x[:, 8:-8:2, 8:-8:2].reshape(len(x), -1)
    x -= x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    alike = np.abs(proportions[:, None] - proportions) < _PROPORTIONS
    return connected_components(alike & (x @ x.T > _CORRELATION))[1]


def split(tiles: Tiles, by: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the tiles that train, and of those that test."""
    good = np.flatnonzero(tiles.kinds == "good")
    rng = np.random.default_rng(seed)
    n_train = int(0.8 * len(good))
    if by == "files":
        rng.shuffle(good)
        train = good[:n_train]
        return train, np.setdiff1d(np.arange(len(tiles.kinds)), train)
    order = rng.permutation(np.unique(tiles.parts[good]))
    sizes = np.array([np.sum(tiles.parts[good] == part) for part in order])
    trains = np.isin(tiles.parts, order[np.cumsum(sizes) <= n_train])
    return rng.permutation(good[trains[good]]), np.flatnonzero(~trains)


def features(images: np.ndarray) -> np.ndarray:
    """Maps of the network, brought to 28 x 28 positions, float32 (n, 784, 176)."""
    import keras
    import tensorflow as tf

    network = keras.models.load_model(BACKBONE, compile=False)

    @tf.function(autograph=False)
    def maps(x):
        x = (tf.repeat(tf.cast(x, tf.float32)[..., None], 3, axis=-1) - 127) / 128
        parts = [tf.image.resize(part, (28, 28), antialias=True) for part in network(x)]
        return tf.reshape(tf.concat(parts, axis=-1), (-1, 784, 176))

    return np.concatenate([maps(images[i : i + 32]).numpy() for i in range(0, len(images), 32)])


def over_pixels(maps: np.ndarray) -> np.ndarray:
    """Enlarge maps of 28 x 28 positions, (n, 784), to pixels, smoothed."""
    factors = (1, SIDE / 28, SIDE / 28)
    maps = ndimage.zoom(maps.reshape(-1, 28, 28), factors, order=1, mode="nearest", grid_mode=True)
    return ndimage.gaussian_filter(maps, (0, 4, 4)).astype(np.float32)


def pca(train: np.ndarray, test: np.ndarray) -> Scored:
    """Squared error of a reconstruction from 40 components of 64 x 64 pixels."""
    train, test = small(train), small(test)
    model = PCA(min(40, len(train)), random_state=0).fit(train)
    error = np.square(test - model.inverse_transform(model.transform(test)))
    return Scored(error.sum(axis=1), None)


def knn_pixels(train: np.ndarray, test: np.ndarray) -> Scored:
    """Distance to the 5th nearest neighbour, of 64 x 64 pixels."""
    neighbours = NearestNeighbors(n_neighbors=5).fit(small(train))
    return Scored(neighbours.kneighbors(small(test))[0][:, -1], None)


def small(images: np.ndarray) -> np.ndarray:
    sized = [Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in sized]).reshape(len(images), -1) / 255


def knn_features(train: np.ndarray, test: np.ndarray) -> Scored:
    """Distance of the features at a position to the nearest of 6,000 random ones; their mean."""
    known = features(train).reshape(-1, 176)
    known = known[np.random.default_rng(0).permutation(len(known))[:6000]]
    neighbours = NearestNeighbors(n_neighbors=1).fit(known)
    found = features(test)
    distance = neighbours.kneighbors(found.reshape(-1, 176))[0].reshape(len(test), -1)
    return Scored(distance.mean(axis=1), over_pixels(distance))


def padim(train: np.ndarray, test: np.ndarray) -> Scored:
    """Mahalanobis distance to a Gaussian per position (Defard et al. 2020), its largest."""
    known, found = features(train), features(test)
    distance = np.empty(found.shape[:2], np.float32)
    for position in range(known.shape[1]):
        x = known[:, position].astype(np.float64)
        covariance = np.cov(x.T) + 0.01 * np.eye(x.shape[1])
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, (found[:, position] - x.mean(axis=0)).T)
        distance[:, position] = np.sqrt(np.square(white).sum(axis=0))
    maps = over_pixels(distance)
    return Scored(maps.max(axis=(1, 2)), maps)


def ours(seed: int, **params) -> Callable[[np.ndarray, np.ndarray], Scored]:
    """Fit ``VAEDetector`` to images of one size."""

    def scored(train, test):
        from vae_anomaly import VAEDetector

        detector = VAEDetector(random_state=seed, **params).fit(train)
        found = detector.scorer_.run(
            detector._input.check(detector, test), ("score", "feature_log_prob")
        )
        maps = -found["feature_log_prob"].astype(np.float32)
        return Scored(-found["score"], maps if maps.shape == test.shape else None)

    return scored


def detector_of(
    name: str, seed: int, params: Mapping[str, Any]
) -> Callable[[np.ndarray, np.ndarray], Scored]:
    import keras

    logging.getLogger("tensorflow").setLevel("ERROR")
    if name == "VAE pixels":
        return ours(seed, **{"image_shape": (64, 64, 1), **params})
    if name == "VAE backbone":
        return ours(seed, backbone=keras.models.load_model(BACKBONE, compile=False), **params)
    return {"PCA": pca, "KNN pixels": knn_pixels, "KNN features": knn_features, "PaDiM": padim}[
        name
    ]


def pro(maps: np.ndarray, masks: np.ndarray) -> float:
    """Mean share of a defect that is found, over 0 to 30% of the good pixels flagged.

    The per-region overlap of Bergmann et al. (2020), "Uninformed students".
    """
    thresholds = np.quantile(maps[~masks], np.linspace(1, 1 - _MOST_FALSE, 100))
    shares = []
    for values, mask in zip(maps, masks, strict=True):
        labels, n_regions = ndimage.label(mask)
        for region in range(1, n_regions + 1):
            inside = np.sort(values[labels == region])
            shares.append(1 - np.searchsorted(inside, thresholds, side="left") / len(inside))
    rates = np.linspace(0, _MOST_FALSE, 100)
    return float(auc(rates, np.mean(shares, axis=0)) / _MOST_FALSE)


def measures(scored: Scored, tiles: Tiles, test: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield AUROC of all defects and of each kind, and what maps tell."""
    kinds = tiles.kinds[test]
    yield "all", roc_auc_score(kinds != "good", scored.scores)
    for kind in KINDS:
        chosen = np.isin(kinds, ("good", kind))
        yield kind, roc_auc_score(kinds[chosen] != "good", scored.scores[chosen])
    if scored.maps is not None:
        masks = tiles.masks[test]
        every = slice(None, None, 2)  # each second pixel: 17 million are enough
        false, true, _ = roc_curve(
            masks[:, every, every].ravel(), scored.maps[:, every, every].ravel()
        )
        yield "pixel AUROC", auc(false, true)
        yield "PRO", pro(scored.maps, masks)


def run(
    splits: tuple[str, ...],
    seeds: list[int],
    names: list[str],
    n_train: int | None,
    params: Mapping[str, Any],
) -> None:
    """Print what each detector reaches, as it comes; ``params`` are of our detectors."""
    tiles = load()
    columns = ("all", *KINDS, "pixel AUROC", "PRO")
    print(
        f"{'split':6}{'seed':>5} {'detector':13}" + "".join(f"{c:>12}" for c in columns) + "     s"
    )
    for by in splits:
        for seed in seeds:
            train, test = split(tiles, by, seed)
            train = train[:n_train]
            for name in names:
                start = time.perf_counter()
                found = detector_of(name, seed, params)(tiles.images[train], tiles.images[test])
                seconds = time.perf_counter() - start
                reached = dict(measures(found, tiles, test))
                cells = "".join(f"{reached.get(c, np.nan):12.3f}" for c in columns)
                print(f"{by:6}{seed:5} {name:13}{cells}{seconds:6.0f}", flush=True)
