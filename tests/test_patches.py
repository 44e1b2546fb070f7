"""What patches of 4 x 4 pixels add to the composite score of images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_anomaly import VAEDetector
from vae_anomaly.scoring.images import ImageComposite
from vae_anomaly.scoring.positions import PatchGaussians, over_pixels
from vae_anomaly.scoring.views import EncodedRows


class Brightness:
    """A model whose z is the mean of an image, and which expects this mean at each pixel."""

    def __init__(self, shape):
        self.shape = shape

    def encode(self, x):
        mean = tf.reduce_mean(x, axis=(1, 2, 3))[:, None]
        return mean, tf.zeros_like(mean)

    def decode(self, z):
        return tf.zeros((len(z), *self.shape)) + z[:, :, None, None]

    def reconstruct(self, x):
        return self.decode(self.encode(x)[0])


def learned(x, shape):
    view, model = PatchGaussians(shape), Brightness(shape)
    view.learn(model, (x,), np.arange(len(x)) % 4 == 0, 0)
    return view, view.terms(EncodedRows(model, x, np.zeros((1, 1), "float32")))[0].numpy()


@pytest.mark.parametrize("shape", [(8, 12, 1), (9, 13, 3)])
def test_a_patch_is_four_pixels_high_and_wide(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 0.1, (60, *shape)).astype("float32")
    view, usual = learned(x, shape)
    assert view.maps_shape == (-(-shape[0] // 4), -(-shape[1] // 4))
    assert usual.shape == (60, np.prod(view.maps_shape))
    for row, column, patch in ((5, 9, (1, 2)), (0, 3, (0, 0)), (0, 4, (0, 1))):
        changed = x.copy()
        changed[:, row, column] += 3
        rows = EncodedRows(Brightness(shape), changed, np.zeros((1, 1), "float32"))
        loss = (usual - view.terms(rows)[0].numpy()).mean(axis=0).reshape(view.maps_shape)
        assert np.unravel_index(loss.argmax(), loss.shape) == patch


def test_the_share_that_a_model_explains_leaves_brightness_aside():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (200, 8, 8, 1))
    bright = (noise + rng.normal(0, 5, (200, 1, 1, 1))).astype("float32")
    assert learned(bright, (8, 8, 1))[0].explained < 0.05


def test_a_model_that_expects_each_image_explains_all(monkeypatch):
    x = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype("float32")
    monkeypatch.setattr(Brightness, "reconstruct", lambda _, x: tf.constant(x))
    assert learned(x, (8, 8, 1))[0].explained == 1


def scored(losses, explained=0.0, tail=1.0):
    """Scores of images of 8 x 8 pixels whose four patches lose so much; all pixels are typical."""
    score = ImageComposite((8, 8, 1))
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(500, 64)), rng.normal(size=500)
    excess = 8 - rng.chisquare(16, size=(500, 4)) / 2
    excess[:25] -= (
        tail - 1
    ) * 160  # a twentieth of them: the mean of 16 is this many times as much
    terms = [usual, (excess, np.zeros(500))]
    score.views[1].explained = explained
    score.learn_usual([(terms, None), (terms, None)])
    n = len(losses)
    terms = [(np.zeros((n, 64)), np.zeros(n)), (-np.asarray(losses, float), np.zeros(n))]
    features, _ = score.combined(terms)
    return features.numpy().reshape(n, 8, 8)


@pytest.mark.parametrize("usual", [{"explained": 0.5}, {"explained": 0.9}, {"tail": 4.0}])
def test_patches_count_nothing_where_the_model_explains_images_or_gaussians_no_patches(usual):
    assert not scored([[0, 0, 0, 0], [0, 0, 0, 500]], **usual).any()


def test_patches_count_the_more_the_less_the_model_explains():
    none, some, most = (
        scored([[0, 0, 0, 0], [0, 0, 0, 50]], explained=explained).sum(axis=(1, 2))
        for explained in (0.0, 0.3, 0.45)
    )
    assert none[1] < some[1] < most[1] < most[0] <= 0


@pytest.mark.parametrize(("side", "share"), [(64, 0.4), (80, 0.976), (96, 1.0)])
def test_patches_of_large_images_count_whatever_the_model_explains(side, share):
    score = ImageComposite((side, side, 1))
    rng = np.random.default_rng(0)
    excess = 8 - rng.chisquare(16, size=(20, (side // 4) ** 2)) / 2
    terms = [(rng.normal(size=(20, side**2)), rng.normal(size=20)), (excess, np.zeros(20))]
    score.views[1].explained = 0.4
    score.learn_usual([(terms, None), (terms, None)])
    assert score.usual_patches.numpy()[0] == pytest.approx(share)


def test_a_flat_image_of_a_texture_is_found():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (150, 8, 8)).astype(np.uint8)
    options = {"max_steps": 2, "hidden_units": (4,), "filters": (2,), "random_state": 0}
    detector = VAEDetector(**options).fit(images[:120])
    share, _ = detector.scorer_.score.usual_patches.numpy()
    assert share > 0.5
    flat = np.full((1, 8, 8), 128, np.uint8)
    assert detector.predict(flat) == [-1]
    assert detector.score_samples(flat)[0] < detector.score_samples(images[120:]).min()


def test_what_is_usual_of_patches_is_that_of_images_that_did_not_train():
    score = ImageComposite((8, 8, 1))
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(500, 64)), rng.normal(size=500)
    seen, unseen = (8 - scale * rng.chisquare(16, size=(500, 4)) / 2 for scale in (0.1, 1.0))
    items = [([pixels, (excess, np.zeros(500))], None) for excess in (seen, unseen)]
    score.learn_usual(items)
    np.testing.assert_allclose(score.loss.usual[0], np.quantile(-unseen, 0.999), rtol=1e-6)


def test_what_the_model_explains_is_that_of_images_that_did_not_train(monkeypatch):
    x = np.random.default_rng(0).normal(size=(100, 8, 8, 1)).astype("float32")
    seen = {image.tobytes() for index, image in enumerate(x) if index % 4}

    def reconstruct(_, images):
        known = [image if image.tobytes() in seen else 0 * image for image in images]
        return tf.constant(np.array(known))

    monkeypatch.setattr(Brightness, "reconstruct", reconstruct)
    assert learned(x, (8, 8, 1))[0].explained < 0.05


def test_what_a_patch_loses_is_at_its_pixels():
    features = scored([[0, 0, 0, 50]])
    assert features[0, 5:, 5:].sum() < 0.5 * features.sum()
    assert features[0, 0, 0] > 1e-3 * features[0].min()


def test_sums_stay_over_pixels():
    values = keras.random.normal((3, 6), seed=0, dtype="float64")
    pixels = over_pixels(values, (2, 3), (7, 10))
    np.testing.assert_allclose(np.sum(pixels, axis=(1, 2)), np.sum(values, axis=1))
