"""Changed copies of training images: what they are, who trains on them, and what is refused."""

import json

import numpy as np
import pytest
import tensorflow as tf
from test_cli import run
from test_features import network

from vae_anomaly import AutoencoderDetector, ImageFolder, VAEDetector, load_detector
from vae_anomaly.detectors.description import check_description
from vae_anomaly.images.augmentation import AUGMENTATIONS, N_COPIES, AugmentedImages
from vae_anomaly.vae.training import Trainer

SMALL = {"hidden_units": (8,), "latent_dim": 3, "n_draws": 2, "max_steps": 20, "random_state": 0}


def noise(n, size=(16, 24), dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (n, *size, 1)).astype(dtype)


def augmented(images, *names, value_range=(0, 255), seed=0):
    return AugmentedImages(images, np.arange(len(images)), names, value_range, seed=seed)


# What copies are


def test_images_come_first_and_unchanged():
    images = noise(3)
    every = augmented(images, *AUGMENTATIONS)
    assert every.shape == (3 * (1 + N_COPIES), 16, 24, 1)
    np.testing.assert_array_equal(every[np.arange(3)], images)
    np.testing.assert_array_equal(every.sources[3:], np.repeat(np.arange(3), N_COPIES))


@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", 1), ("flip_vertical", 0)])
def test_copies_are_flipped_or_the_same(name, axis):
    images = noise(8)
    every = augmented(images, name)
    copies = every[np.arange(8, len(every))]
    sources = images[every.sources[8:]]
    is_same = (copies == sources).all(axis=(1, 2, 3))
    is_flipped = (copies == np.flip(sources, axis + 1)).all(axis=(1, 2, 3))
    assert (is_same ^ is_flipped).all()
    assert 0.2 < is_flipped.mean() < 0.8


@pytest.mark.parametrize("size", [(16, 24), (64, 96)])
def test_shifts_repeat_the_margin_and_move_a_32nd_of_a_side_or_one_pixel(size):
    images = noise(20, size)
    every = augmented(images, "shift")
    moved = set()
    for copy, source in zip(every[np.arange(20, len(every))], every.sources[20:], strict=True):
        most = [max(1, side // 32) for side in size]
        padded = np.pad(images[source], [(most[0],) * 2, (most[1],) * 2, (0, 0)], mode="edge")
        found = [
            (down, right)
            for down in range(-most[0], most[0] + 1)
            for right in range(-most[1], most[1] + 1)
            if (
                copy
                == padded[
                    most[0] - down : most[0] - down + size[0],
                    most[1] - right : most[1] - right + size[1],
                ]
            ).all()
        ]
        assert len(found) == 1
        moved.add(found[0])
    assert len(moved) == (2 * most[0] + 1) * (2 * most[1] + 1)


@pytest.mark.parametrize(
    ("dtype", "value_range"), [("uint8", (0, 255)), ("uint16", (100, 900)), ("float32", (-1, 1))]
)
def test_brightness_changes_by_a_twentieth_within_the_range(dtype, value_range):
    low, high = value_range
    images = (low + (high - low) * np.random.default_rng(0).random((5, 8, 8, 1))).astype(dtype)
    every = augmented(images, "brightness", value_range=value_range)
    copies = every[np.arange(5, len(every))].astype(float)
    assert every[np.arange(40)].dtype == dtype
    assert copies.min() >= low
    assert copies.max() <= high
    sources = images[every.sources[5:]].astype(float)
    rounding = 0.51 if np.issubdtype(dtype, np.integer) else 1e-6
    assert (np.abs(copies - sources) <= 0.05 * (sources - low) + rounding).all()
    assert np.abs(copies - sources).max() > 0.02 * (high - low)


def test_a_graph_reads_the_same_images_as_an_array():
    images = noise(4)
    every = augmented(images, *AUGMENTATIONS)
    rows = np.array([0, 5, 30, 3, 11])
    read = tf.function(every.read)(tf.constant(rows))
    np.testing.assert_array_equal(read, every[rows])


def test_files_have_the_copies_that_their_array_has(tmp_path):
    images = noise(4)
    for index, image in enumerate(images):
        tf.io.write_file(f"{tmp_path}/{index}.png", tf.io.encode_png(image))
    rows = np.arange(32)
    of_files = augmented(ImageFolder(tmp_path), *AUGMENTATIONS)
    np.testing.assert_array_equal(of_files[rows], augmented(images, *AUGMENTATIONS)[rows])
    np.testing.assert_array_equal(of_files.read(tf.constant(rows)), of_files[rows])


def test_other_seeds_draw_other_copies():
    images, rows = noise(4), np.arange(32)
    first, same, other = (augmented(images, *AUGMENTATIONS, seed=seed)[rows] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


# What is refused


@pytest.mark.parametrize("names", [("turn",), (), ("shift", 3)])
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match="Expected `augmentation` of some of"):
        VAEDetector(augmentation=names, **SMALL).fit(noise(12))


def test_tables_have_no_copies():
    with pytest.raises(ValueError, match="Expected `augmentation` for images only"):
        VAEDetector(augmentation=("shift",)).fit(np.zeros((20, 3)))


# Detectors: slow since each network is traced anew


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vae_anomaly.DataWarning")
@pytest.mark.parametrize("backbone", [None, network])
def test_images_held_out_have_no_copies(backbone, trainings):
    images = noise(30, (16, 16))
    params = {**SMALL, "augmentation": ["flip_horizontal", "shift"]}
    params["backbone"] = backbone and backbone()
    detector = VAEDetector(**params).fit(images)
    trained = trainings[0]
    assert len(trained["is_validation"]) == 30 + 27 * N_COPIES
    assert not trained["is_validation"][30:].any()
    again = VAEDetector(**params).fit(images)
    np.testing.assert_array_equal(detector.score_samples(images), again.score_samples(images))
    without = VAEDetector(**{**params, "augmentation": None}).fit(images)
    assert (detector.score_samples(images) != without.score_samples(images)).any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vae_anomaly.DataWarning")
def test_copies_of_images_that_a_fold_leaves_out_are_left_out_too(monkeypatch, cross_fitting):
    folds, retrain = [], Trainer.retrain

    def spied(trainer, rows, **kwargs):
        folds.append(rows)
        retrain(trainer, rows, **kwargs)

    monkeypatch.setattr(Trainer, "retrain", spied)
    params = {**SMALL, "backbone": network(), "augmentation": ("shift",)}
    detector = VAEDetector(**params).fit(noise(30, (16, 16)))
    assert detector.scorer_.calibration_scores.shape == (30,)
    assert len(folds) == 5
    trained = np.unique(np.concatenate(folds)[np.concatenate(folds) < 30])
    sources = np.concatenate([np.arange(30), np.repeat(trained, N_COPIES)])
    for rows in folds:
        originals = rows[rows < 30]
        assert len(rows) == len(originals) * (1 + N_COPIES)
        np.testing.assert_array_equal(np.unique(sources[rows]), originals)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vae_anomaly.DataWarning")
def test_a_share_of_the_images_is_flagged_whatever_copies_there_are():
    images = noise(40, (16, 16))
    detector = AutoencoderDetector(
        contamination=0.1, augmentation=("flip_vertical",), max_steps=20, random_state=0
    ).fit(images, sample_weight=np.linspace(0.5, 1, 40))
    assert (detector.predict(images) == -1).sum() == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::vae_anomaly.DataWarning")
def test_half_of_a_pattern_is_enough_where_images_may_be_flipped():
    def bars(n, rng):
        images = rng.normal(128, 4, (n, 16, 16))
        for image, column in zip(images, rng.integers(0, 8, n), strict=True):
            image[:, column] += 60
        return images.clip(0, 255).astype(np.uint8)

    train, fresh = (bars(40, np.random.default_rng(seed)) for seed in (0, 1))

    def median(**params):
        detector = VAEDetector(max_steps=300, random_state=0, score_type="elbo", **params)
        return np.median(detector.fit(train).score_samples(fresh[:, :, ::-1]))

    assert median(augmentation=("flip_horizontal",)) > median()


@pytest.mark.slow
def test_copies_on_the_command_line(tmp_path):
    (tmp_path / "good").mkdir()
    for index, image in enumerate(noise(30)):
        tf.io.write_file(f"{tmp_path}/good/{index:02}.png", tf.io.encode_png(image))
    names = ("--augmentation", "shift", "--augmentation", "brightness")
    model = tmp_path / "m"
    result = run(
        "fit", tmp_path / "good", "--model", model, *names, "--max-steps", 20, "--hidden-units", 8
    )
    assert result.exit_code == 0, result.output
    assert "and 7 copies of each that trains, by shift, brightness" in result.output
    assert load_detector(model).augmentation == ("shift", "brightness")
    description = json.loads((model / "detector.json").read_text())
    for names in (["x"], "shift", 7, []):
        description["params"]["augmentation"] = names
        with pytest.raises(ValueError, match="augmentation"):
            check_description(description)
