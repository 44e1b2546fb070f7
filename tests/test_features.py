"""Images by the feature maps of a frozen network: laws, doors, and what is refused."""

import json
import pickle
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.stats import multivariate_normal
from test_cli import run

from vae_anomaly import AutoencoderDetector, ImageFolder, VAEDetector, load_detector
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors import backbones, feature_input
from vae_anomaly.detectors.artifact import ArtifactError
from vae_anomaly.displays import ImageExplanationDisplay
from vae_anomaly.images.features import FeaturePreprocessor
from vae_anomaly.scoring import positions
from vae_anomaly.scoring.features import FeatureComposite, FeatureScorer
from vae_anomaly.scoring.images import SCORE_TYPES
from vae_anomaly.scoring.positions import PositionGaussians
from vae_anomaly.scoring.views import EncodedRows
from vae_anomaly.vae.builders import build_image_model

SMALL = {"hidden_units": (8,), "latent_dim": 3, "n_draws": 2, "max_steps": 20, "random_state": 0}


def network(channels=3, size=None, **kwargs):
    """Two maps, of stride 1 and 2, from weights that are always the same."""
    inputs = keras.Input((size, size, channels))
    make = {"padding": "same", "activation": "relu"}
    start = keras.initializers.GlorotUniform
    first = keras.layers.Conv2D(5, 3, kernel_initializer=start(1), name="one", **make)(inputs)
    second = keras.layers.Conv2D(7, 3, strides=2, kernel_initializer=start(2), name="two", **make)(
        first
    )
    return keras.Model(inputs, [first, second], name="tiny", **kwargs)


def save(model, path):
    with warnings.catch_warnings():
        # Keras' own: it copies arrays in a way that NumPy 2 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save(path)


def squares(n, seed, size=16):
    """Grey images of a square at one place, whose brightness varies, and noise."""
    rng = np.random.default_rng(seed)
    images = rng.normal(60, 4, (n, size, size))
    images[:, 4:10, 4:10] += rng.uniform(60, 90, (n, 1, 1))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    return squares(60, seed=0)


@pytest.fixture(scope="module")
def detector(images):
    return VAEDetector(backbone=network(), **SMALL).fit(images)


@pytest.fixture(scope="module")
def preprocessor(images):
    layer = FeaturePreprocessor((16, 16, 1), (0, 255), "uint8", backbone=network())
    layer.adapt(layer.pixels(images[..., None]))
    return layer


# The law of the score


def test_an_image_scores_the_same_in_any_company(detector, images):
    scores = detector.score_samples(images)
    for index in (0, 7, 59):
        assert detector.score_samples(images[index : index + 1])[0] == scores[index]
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(detector.score_samples(images[order]), scores[order])


def test_contributions_are_a_map_of_the_image_and_add_up(detector, images):
    explanation = detector.explain(images)
    assert set(explanation) == {"contribution", "latent", "baseline", "value"}
    assert explanation["contribution"].shape == images.shape
    np.testing.assert_array_equal(explanation["value"], images)
    total = explanation["contribution"].sum(axis=(1, 2)) + explanation["latent"]
    total += explanation["baseline"]
    np.testing.assert_allclose(total, detector.score_samples(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "score_type",
    [
        pytest.param(name, marks=[] if name == "composite" else [pytest.mark.slow])
        for name in SCORE_TYPES
    ],
)
def test_contributions_add_up_for_every_score_type(preprocessor, images, score_type):
    model = build_image_model(
        preprocessor.x_shape,
        variational=True,
        filters=(4,),
        hidden_units=(),
        latent_dim=2,
        pixel_likelihood="gaussian",
        variance="column",
        seed=0,
    )
    kwargs = {"score_type": score_type, "n_draws": 2, "n_calibration": 60, "seed": 0}
    scorer = FeatureScorer(preprocessor, model, **kwargs)
    learned = scorer.calibrate(scorer.maps(images[..., None]), np.ones(60, bool))
    found = scorer.run(images[..., None])
    np.testing.assert_array_equal(found["score"], learned)
    total = found["feature_log_prob"].sum(axis=(1, 2)) + found["latent"] + scorer.baseline
    np.testing.assert_allclose(total, learned, rtol=1e-9, atol=1e-9)
    assert np.isclose(learned.mean(), scorer.baseline)


def test_a_part_that_is_missing_is_found_where_it_was(detector):
    broken = squares(20, seed=1)
    broken[:, 4:10, 4:10] = broken[:, 10:16, 10:16]
    assert (detector.predict(broken) == -1).all()
    worst = detector.explain(broken)["contribution"].mean(axis=0)
    rows, columns = np.unravel_index(np.argsort(worst, axis=None)[:20], worst.shape)
    assert rows.min() >= 2 and rows.max() <= 11
    assert columns.min() >= 2 and columns.max() <= 11


def test_normal_images_that_did_not_train_are_normal(detector):
    assert (detector.predict(squares(40, seed=2)) == 1).mean() > 0.8


class Nothing(keras.Model):
    """A model that expects 0."""

    def __init__(self, x_shape):
        super().__init__()
        self.x_shape = x_shape

    def reconstruct(self, x):
        return tf.zeros_like(x)

    def encode(self, x):
        return tf.zeros((len(x), 1)), tf.zeros((len(x), 1))

    def decode(self, z):
        return tf.zeros((len(z), *self.x_shape))


def excess_of(view, x):
    model = Nothing(x.shape[1:])
    view.learn(model, (x.copy(),), np.ones(len(x), bool), None)
    excess, rest = view.terms(EncodedRows(model, x, np.zeros((1, 1), "float32")))
    assert not np.any(rest)
    return excess.numpy()


def test_a_gaussian_of_each_position_is_that_of_scipy():
    x = np.random.default_rng(0).normal(size=(20, 8, 2, 3)).astype("float32")
    excess = excess_of(PositionGaussians((8, 2, 3)), x)
    at = x.reshape(20, 16, 3).astype(np.float64)
    covariances = np.array([np.cov(at[:, position].T) for position in range(16)])
    for position in (0, 13):
        covariance = (19 * covariances[position] + 30 * covariances.mean(axis=0)) / 49
        covariance += np.eye(3) * 1e-2 * np.trace(covariance) / 3
        gaussian = multivariate_normal(at[:, position].mean(axis=0), covariance)
        expected = gaussian.logpdf(at[:, position]) + gaussian.entropy()
        np.testing.assert_allclose(excess[:, position], expected, rtol=1e-3, atol=1e-3)


def test_positions_that_lose_alike_contribute_alike_whatever_they_usually_lose():
    score = FeatureComposite((1, 2, 3))
    score.loss.usual.assign([5.0, 1.0])
    losses = np.array([[0.0, 4.0], [0.0, 9.0], [7.0, 7.0]])
    features, _ = score.combined([(-losses, np.zeros(3))])
    contributions = features.numpy() - score.baseline(features.numpy())
    assert contributions[2, 0] == contributions[2, 1] < 0 < contributions[0, 1]
    np.testing.assert_allclose(contributions.sum(), 0, atol=1e-12)


def test_what_images_differ_in_as_a_whole_is_no_loss_at_a_position():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (60, 8, 8, 3)).astype("float32")
    common = rng.normal(size=(60, 1, 1, 1)).astype("float32")
    loss = -excess_of(PositionGaussians((8, 8, 3)), noise + common).sum(axis=1)
    assert np.corrcoef(loss, np.square(common.ravel()))[0, 1] < 0.3


def test_axes_of_many_images_are_learned_from_some_always_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (300, 24)).astype("float32")
    x += rng.normal(0, 3, (300, 1)).astype("float32")
    x -= x.mean(axis=0)
    every = positions._principal_axes(x, seed=0)
    sizes, eigh = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda gram: sizes.append(len(gram)) or eigh(gram))
    monkeypatch.setattr(positions, "_AXES_IMAGES", 100)
    some = positions._principal_axes(x, seed=0)
    np.testing.assert_array_equal(positions._principal_axes(x, seed=0), some)
    assert sizes == [100, 100]
    assert abs(every[:, -1] @ some[:, -1]) > 0.99


def test_components_are_uncorrelated_and_of_variance_one(preprocessor, images):
    x = preprocessor.extract(preprocessor.pixels(images[..., None]).numpy())
    flat = x.reshape(-1, x.shape[-1])
    np.testing.assert_allclose(np.cov(flat.T), np.eye(flat.shape[1]), atol=0.02)


# Few images


@pytest.mark.slow
@pytest.mark.usefixtures("cross_fitting")
def test_few_images_calibrate_each_without_having_trained(images):
    with pytest.warns(DataWarning, match="few calibration rows: 20"):
        few = VAEDetector(backbone=network(), **SMALL).fit(images[:20])
    report = few.threshold_report()
    assert (report.n_calibration, report.calibrated_on) == (20, "cross-fitted training rows")
    assert np.median(few.p_values(images[20:])) > 0.1


# What is kept


@pytest.mark.slow
def test_saved_and_pickled_it_scores_bit_for_bit_the_same(detector, images, tmp_path):
    detector.save(tmp_path / "m")
    for twin in (load_detector(tmp_path / "m"), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(twin.score_samples(images), detector.score_samples(images))
        assert [w.shape for w in twin.backbone.get_weights()] == [
            w.shape for w in detector.backbone.get_weights()
        ]
    names = np.load(tmp_path / "m" / "weights.npz").files
    assert {"preprocessor/tiny/one/kernel", "preprocessor/tiny/two/bias"} <= set(names)


def test_the_backbone_that_was_given_is_not_changed(detector):
    for ours, given in zip(network().get_weights(), detector.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, given)


@pytest.mark.slow
def test_a_backbone_with_code_in_it_is_not_saved(images, tmp_path):
    inputs = keras.Input((None, None, 1))
    outputs = keras.layers.Lambda(lambda x: x[:, ::2, ::2])(inputs)
    odd = VAEDetector(backbone=keras.Model(inputs, outputs), **SMALL, validation_fraction=0)
    odd.fit(images)
    with pytest.raises(ValueError, match=r"backbone cannot be saved.*Lambda"):
        odd.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_crafted_backbone_is_refused_before_it_is_given_memory(detector, tmp_path):
    from vae_anomaly.detectors import artifact

    detector.save(tmp_path / "m")
    content = json.loads((tmp_path / "m" / "detector.json").read_text())
    weights = artifact.read_weights(tmp_path / "m", content)
    config = content["scorer"]["preprocessor"]
    config["backbone"] = config["backbone"].replace('"filters": 7', '"filters": 70000000')
    artifact.write(tmp_path / "m", content, weights)
    with pytest.raises(ArtifactError, match="backbone of at most"):
        load_detector(tmp_path / "m")


def test_a_model_that_knows_no_images_says_so(detector, images):
    with pytest.raises(ValueError, match="detector without a backbone"):
        detector.sample(3)
    with pytest.raises(ValueError, match="detector without a backbone"):
        detector.bits_per_dimension(images)


def test_what_is_reconstructed_are_maps(detector, images):
    assert detector.reconstruct(images[:3]).shape == (3, 16, 16, 12)
    assert detector.transform(images[:3]).shape == (3, 3)


# Which network


def test_networks_that_do_not_scale_get_values_around_zero_and_others_get_pixels():
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, x):
            seen.append((float(tf.reduce_min(x)), float(tf.reduce_max(x))))
            return x

        def compute_output_shape(self, shape):
            return shape

    black_and_white = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))]).astype("float32")
    for layers in ([], [keras.layers.Rescaling(1 / 255)]):
        inputs = keras.Input((8, 8, 3))
        x = inputs
        for layer in layers:
            x = layer(x)
        layer = FeaturePreprocessor(
            (8, 8, 1), (0, 1), "float32", backbone=keras.Model(inputs, Watch()(x))
        )
        seen.clear()
        layer.features(black_and_white)
        assert seen == [(-1.0, 1.0) if not layers else (0.0, 1.0)]


def test_a_keras_file_is_taken_as_the_network_in_it(images, tmp_path, detector):
    save(network(), tmp_path / "tiny.keras")
    found = backbones.backbone_of(tmp_path / "tiny.keras", (16, 16, 1))
    for ours, right in zip(found.get_weights(), network().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, right)


def test_a_keras_file_with_code_or_none_is_refused(tmp_path):
    inputs = keras.Input((8, 8, 1))
    code = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    save(code, tmp_path / "code.keras")
    (tmp_path / "text.keras").write_text("hello")
    for name in ("code", "text", "none"):
        with pytest.raises(ValueError, match=rf"{name}.keras: expected a network"):
            backbones.backbone_of(str(tmp_path / f"{name}.keras"), (8, 8, 1))


@pytest.mark.parametrize(
    ("name", "factory", "has_layer"),
    [
        ("mobilenetv2", "MobileNetV2", False),
        ("VGG16", "VGG16", True),
        ("resnet50", "ResNet50", True),
        ("densenet121", "DenseNet121", True),
        ("efficientnetv2-b0", "EfficientNetV2B0", True),
    ],
)
@pytest.mark.slow
def test_networks_of_keras_applications_give_maps_of_three_strides(
    monkeypatch, name, factory, has_layer
):
    make = getattr(keras.applications, factory)
    monkeypatch.setattr(keras.applications, factory, lambda **kwargs: make(weights=None, **kwargs))
    found = backbones.backbone_of(name, (64, 64, 3))
    assert [shape[1] for shape in found.compute_output_shape((1, 64, 64, 3))] == [16, 8, 4]
    backbones.check_backbone(found.to_json())
    layer = FeaturePreprocessor((64, 64, 3), (0, 255), "uint8", backbone=found)
    assert (layer._highest == 255.0) == has_layer


@pytest.mark.parametrize(
    ("backbone", "what"),
    [
        (network(size=32), "to take images of 16 x 16 pixels"),
        (network(channels=2), "to take images of 16 x 16 pixels and 1 channel"),
        (keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten()]), "outputs are maps"),
        ("resnet9000", "a network of keras.applications"),
    ],
)
def test_networks_that_do_not_fit_are_refused(images, backbone, what):
    with pytest.raises(ValueError, match=what):
        VAEDetector(backbone=backbone, **SMALL).fit(images)


def test_a_backbone_is_for_images(table):
    with pytest.raises(ValueError, match="`backbone` for images with a backbone only"):
        VAEDetector(backbone=network(), **SMALL).fit(table)
    assert "backbone" not in AutoencoderDetector().get_params()


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images in train/ and new/."""
    folder = tmp_path_factory.mktemp("features")
    for name, seed in (("train", 0), ("new", 3)):
        (folder / name).mkdir()
        for number, image in enumerate(squares(12, seed)):
            png = tf.io.encode_png(image[..., None]).numpy()
            (folder / name / f"{number:02d}.png").write_bytes(png)
    return folder


@pytest.fixture(scope="module")
def workspace(folder):
    save(network(), folder / "tiny.keras")
    fitted = run(
        *("fit", folder / "train", "--model", folder / "m", "--backbone", folder / "tiny.keras"),
        *("--image-size", "16x16", "--max-steps", "10", "--hidden-units", "8", "--quiet"),
    )
    assert fitted.exit_code == 0, fitted.output
    return folder


@pytest.mark.slow
def test_a_folder_is_fitted_scored_and_drawn(workspace):
    scored = run(
        *("score", workspace / "new", "--model", workspace / "m"),
        *("--output", workspace / "scored.csv", "--maps", workspace / "maps"),
    )
    assert scored.exit_code == 0, scored.output
    detector = load_detector(workspace / "m")
    assert detector.backbone == str(workspace / "tiny.keras")
    scores = detector.score_samples(squares(12, 3))
    np.testing.assert_array_equal(pd.read_csv(workspace / "scored.csv")["score"], scores)
    shown = tf.io.decode_png((workspace / "maps" / "00.png.png").read_bytes()).numpy()
    assert shown.shape == (128, 2 * 128, 3)  # the image, and what it adds to the score
    np.testing.assert_array_equal(shown[::8, :128:8, 0], squares(12, 3)[0])


@pytest.mark.slow
def test_info_names_the_backbone(workspace):
    shown = run("info", workspace / "m")
    assert "backbone: tiny: 16 x 16 positions, 12 components" in shown.output


def test_a_folder_whose_size_nobody_chose_is_shown_to_the_network_at_224(folder, monkeypatch):
    shapes, sized = [], feature_input.FeatureInput._sized

    def stop(self, detector, X):
        shapes.append(sized(self, detector, X).shape)
        raise InterruptedError

    monkeypatch.setattr(feature_input.FeatureInput, "_sized", stop)
    images = ImageFolder(folder / "train")
    for X in (images, images.with_shape((32, 24, 1))):
        with pytest.raises(InterruptedError):
            VAEDetector(backbone=network(), **SMALL).fit(X)
    assert shapes == [(12, 224, 224, 1), (12, 32, 24, 1)]


@pytest.mark.slow
@pytest.mark.usefixtures("cross_fitting")
def test_more_images_than_memory_are_sampled_and_it_is_said(images, monkeypatch):
    monkeypatch.setattr(feature_input, "_MOST_VALUES", 25 * 16 * 16 * 12)
    with pytest.warns(DataWarning, match="60 images are more than can be held") as caught:
        detector = VAEDetector(backbone=network(), **SMALL).fit(images)
    assert caught[0].filename == __file__
    assert detector.threshold_report().n_calibration == 25


@pytest.mark.parametrize("n_held", [25, 60])
def test_weights_of_the_images_that_train_average_one(images, monkeypatch, n_held):
    monkeypatch.setattr(feature_input, "_MOST_VALUES", n_held * 16 * 16 * 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        detector = VAEDetector(backbone=network(), **SMALL)
        data, weights = feature_input.FeatureInput().learn(detector, images, 0, np.arange(1.0, 61))
    assert len(data) == len(weights) == n_held
    assert np.isclose(weights.mean(), 1)


def test_a_variance_that_a_backbone_would_not_heed_is_refused(images):
    with pytest.raises(ValueError, match="`variance` for pixels and tables only. Received: var"):
        VAEDetector(backbone=network(), variance="shared", **SMALL).fit(images)


@pytest.mark.slow
def test_an_export_answers_as_python_does(detector, images, tmp_path):
    exported = detector.export(tmp_path / "served")
    module = tf.saved_model.load(str(exported.folder))
    files = [tf.io.encode_png(image[..., None]).numpy() for image in images[:4]]
    answer = module.signatures["encoded"](image_bytes=tf.constant(files))
    np.testing.assert_allclose(answer["score"], detector.score_samples(images[:4]), rtol=1e-3)
    assert "expected" not in module.signatures["explain"].structured_outputs


# Pictures


def test_an_explanation_is_drawn_without_an_expected_image(detector, images):
    display = ImageExplanationDisplay.from_estimator(detector, images[:2])
    assert display.axes_.shape == (2, 2)
    assert [ax.get_title() for ax in display.axes_[0]][1:] == ["contribution"]


def test_a_report_shows_images_and_maps(detector, images):
    page = detector.report(images)
    assert page.count("red: less probable than usual") >= 1
