"""Laws that detectors of images obey, and what they refuse."""

import copy
import json
import pickle

import keras
import numpy as np
import pandas as pd
import pytest

from vae_anomaly import AutoencoderDetector, VAEDetector, load_detector
from vae_anomaly.images.preprocessing import ImagePreprocessor
from vae_anomaly.scoring.tables import SCORE_TYPES
from vae_anomaly.vae.builders import PIXEL_LIKELIHOODS
from vae_anomaly.vae.likelihoods import Bernoulli
from vae_anomaly.vae.models import VAE
from vae_anomaly.vae.networks import conv_decoder, conv_encoder
from vae_anomaly.vae.pixel_likelihoods import RoughnessGaussian

SMALL = {"hidden_units": (8,), "filters": (4,), "latent_dim": 3, "n_draws": 2, "random_state": 0}
DETECTORS = [
    "image_detector",
    "colour_image_detector",
    pytest.param("image_autoencoder", marks=pytest.mark.slow),
]
# Every likelihood, every score type; the default of both is that of ``image_detector``.
PAIRS = [
    ("gaussian", "composite"),
    ("bernoulli", "reconstruction_probability"),
    ("continuous_bernoulli", "importance_weighted"),
    ("discretized_logistic", "elbo"),
    ("roughness_gaussian", "reconstruction_error"),
]


@pytest.fixture(params=DETECTORS)
def fitted(request, digits, stripes):
    """A detector and images of its kind."""
    images = stripes if request.param == "colour_image_detector" else digits
    return request.getfixturevalue(request.param), images


@pytest.fixture(
    scope="module",
    params=[*(pytest.param(pair, marks=pytest.mark.slow) for pair in PAIRS[:3]), *PAIRS[3:]],
    ids=map("-".join, PAIRS),
)
def paired(request, digits):
    """A detector of a likelihood and a score type, not trained."""
    likelihood, score_type = request.param
    detector = VAEDetector(pixel_likelihood=likelihood, score_type=score_type, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.vae.training.Trainer.train", lambda *_, **__: {"step": []})
        return detector.fit(digits[:60])


def saved_and_loaded(detector, path):
    detector.save(path / "m")
    return load_detector(path / "m")


def assert_adds_up(detector, images):
    explanation = detector.explain(images)
    assert explanation["contribution"].shape == images.shape[:3]
    total = explanation["contribution"].sum(axis=(1, 2)) + explanation["latent"]
    total = total + explanation["baseline"]
    np.testing.assert_allclose(total, detector.score_samples(images), rtol=1e-9, atol=1e-9)
    assert explanation["value"].shape == explanation["expected"].shape == images.shape


# A score is a pure function of its image


def test_an_image_scores_the_same_in_any_company(fitted):
    detector, images = fitted
    scores = detector.score_samples(images)
    for index in (0, 7, len(images) - 1):
        assert detector.score_samples(images[index : index + 1])[0] == scores[index]
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(detector.score_samples(images[order]), scores[order])
    many = np.resize(np.arange(len(images)), 1000)
    np.testing.assert_array_equal(detector.score_samples(images[many]), scores[many])
    parts = [detector.score_samples(images[start : start + 7]) for start in range(0, 49, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), scores[:49])


@pytest.mark.parametrize(
    "again",
    [
        saved_and_loaded,
        pytest.param(
            lambda detector, path: pickle.loads(pickle.dumps(detector)), marks=pytest.mark.slow
        ),
        pytest.param(lambda detector, path: copy.deepcopy(detector), marks=pytest.mark.slow),
    ],
    ids=["load_detector", "pickle", "deepcopy"],
)
def test_a_copy_scores_bit_for_bit_the_same(fitted, again, tmp_path):
    detector, images = fitted
    twin = again(detector, tmp_path)
    np.testing.assert_array_equal(twin.score_samples(images), detector.score_samples(images))
    ours, right = twin.explain(images[:5]), detector.explain(images[:5])
    for name in right:
        np.testing.assert_array_equal(ours[name], right[name])
    assert twin.offset_ == detector.offset_
    assert twin.get_params() == detector.get_params()


def test_an_axis_for_a_single_channel_changes_nothing(image_detector, digits):
    scores = image_detector.score_samples(digits)
    np.testing.assert_array_equal(image_detector.score_samples(digits[..., None]), scores)
    assert image_detector.reconstruct(digits[..., None]).shape == (400, 8, 8, 1)
    wider = digits.astype(np.int64)
    np.testing.assert_array_equal(image_detector.score_samples(wider), scores)


# Contributions add up


def test_contributions_add_up_to_the_score(fitted):
    assert_adds_up(*fitted)


def test_contributions_add_up_for_every_likelihood_and_score_type(paired, digits):
    assert_adds_up(paired, digits[:20])


def test_a_changed_pixel_is_where_the_map_says(image_detector, digits):
    image = digits[:1].copy()
    image[0, 0, 0] = 255
    before, after = (image_detector.explain(x)["contribution"][0] for x in (digits[:1], image))
    assert np.unravel_index(np.argmin(after - before), (8, 8)) == (0, 0)


# Every option survives


def test_every_likelihood_and_every_score_type_are_among_the_pairs():
    assert {pair[0] for pair in PAIRS} == set(PIXEL_LIKELIHOODS)
    assert {pair[1] for pair in PAIRS} == set(SCORE_TYPES)


def test_every_likelihood_and_score_type_scores_saves_loads_and_samples(paired, digits, tmp_path):
    scores = paired.score_samples(digits)
    assert np.isfinite(scores).all()
    twin = saved_and_loaded(paired, tmp_path)
    np.testing.assert_array_equal(twin.score_samples(digits), scores)
    sample = paired.sample(3, random_state=0)
    assert sample.shape == (3, 8, 8)
    np.testing.assert_array_equal(twin.sample(3, random_state=0), sample)
    assert paired.transform(digits).shape == (400, 3)


@pytest.mark.parametrize(
    "layer",
    [
        ImagePreprocessor((8, 9, 3), (0, 16), "float32", name="images"),
        RoughnessGaussian((8, 9, 3), name="pixels"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_survives_a_config_round_trip(layer):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    twin = keras.saving.deserialize_keras_object(config)
    assert type(twin) is type(layer)
    assert twin.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "name", ["image_detector", pytest.param("image_autoencoder", marks=pytest.mark.slow)]
)
def test_a_scorer_survives_a_config_round_trip(request, name, digits):
    scorer = request.getfixturevalue(name).scorer_
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(scorer)))
    twin = keras.saving.deserialize_keras_object(config)
    twin.set_weights(scorer.get_weights())
    images = digits[:30, ..., None]
    ours, right = twin.run(images), scorer.run(images)
    for key in right:
        np.testing.assert_array_equal(ours[key], right[key])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saving
def test_a_vae_of_convolutions_is_saved_as_keras_does(tmp_path):
    shape = (9, 13, 3)
    likelihood = RoughnessGaussian(shape)
    likelihood.adapt(np.array([-3.0, -2.0]))
    vae = VAE(
        conv_encoder(shape, (4,), (5,), 2, seed=0),
        conv_decoder(2, (5,), shape, 1, filters=(4,), seed=1),
        likelihood,
        seed=2,
    )
    x = np.random.default_rng(0).uniform(size=(6, *shape)).astype("float32")
    vae.save(tmp_path / "vae.keras")
    twin = keras.models.load_model(tmp_path / "vae.keras")
    np.testing.assert_array_equal(twin.reconstruct(x), vae.reconstruct(x))
    assert twin.reconstruct(x).shape == x.shape
    z = np.zeros((6, 1, 2), "float32")
    np.testing.assert_array_equal(twin.feature_log_prob(x, z), vae.feature_log_prob(x, z))


def test_parameters_of_images_survive_saving(stripes, trainings, tmp_path):
    detector = VAEDetector(
        score_type="elbo", image_shape=(8, 10, 1), value_range=(0, 255), **SMALL
    ).fit(stripes)
    twin = saved_and_loaded(detector, tmp_path)
    assert twin.get_params() == detector.get_params()
    grey = stripes[..., 0]
    np.testing.assert_array_equal(twin.score_samples(grey), detector.score_samples(grey))
    assert twin.n_features_in_ == 9 * 13 * 3


# What is taken


def test_images_of_two_values_get_the_likelihood_of_coins(digits, trainings):
    detector = VAEDetector(score_type="elbo", **SMALL).fit(digits > 100)
    assert isinstance(detector.scorer_.model.likelihood, Bernoulli)
    binary = digits > 100
    np.testing.assert_array_equal(
        detector.score_samples(binary), detector.score_samples(binary.astype(float))
    )


@pytest.mark.slow
def test_images_of_two_numbers_get_the_likelihood_of_coins(digits, trainings):
    detector = VAEDetector(score_type="elbo", **SMALL).fit((digits > 100).astype(np.uint8) * 255)
    assert isinstance(detector.scorer_.model.likelihood, Bernoulli)


def test_small_images_train_for_more_steps(digits, trainings):
    AutoencoderDetector(hidden_units=()).fit(digits[:20])
    AutoencoderDetector(hidden_units=()).fit(np.kron(digits[:20], np.ones((1, 2, 2), np.uint8)))
    assert [(call["max_steps"], call["patience"]) for call in trainings] == [
        (4000, 4000),
        (1500, 1500),
    ]


@pytest.mark.slow
def test_a_range_of_values_can_be_told(digits, trainings):
    floats = digits / 255 * 16
    detector = AutoencoderDetector(value_range=(0, 16), random_state=0).fit(floats)
    np.testing.assert_allclose(detector.explain(floats[:3])["value"], floats[:3], atol=1e-5)
    plain = AutoencoderDetector(random_state=0).fit(digits / 255)
    np.testing.assert_allclose(
        detector.score_samples(floats), plain.score_samples(digits / 255), rtol=1e-4
    )
    deep = digits.astype(np.uint16) * 257
    detector = AutoencoderDetector(value_range=(0, 65535), random_state=0).fit(deep)
    assert np.isfinite(detector.score_samples(deep)).all()
    with pytest.raises(ValueError, match="Expected `value_range` for images of int32"):
        AutoencoderDetector().fit(deep.astype(np.int32))


@pytest.mark.slow
def test_images_are_resized_and_made_grey_where_a_shape_is_told(stripes, digits, trainings):
    detector = AutoencoderDetector(image_shape=(10, 8, 1), random_state=0).fit(stripes)
    assert detector.scorer_.model.encoder.input_shape == (None, 10, 8, 1)
    explanation = detector.explain(stripes[:2])
    assert explanation["contribution"].shape == (2, 10, 8)
    assert explanation["value"].shape == (2, 10, 8, 1)
    for images in (digits, stripes[..., :1], np.repeat(stripes, 2, axis=1)):
        assert np.isfinite(detector.score_samples(images)).all()
    coloured = AutoencoderDetector(image_shape=(8, 8, 3), random_state=0).fit(digits)
    assert coloured.explain(digits[:2])["contribution"].shape == (2, 8, 8)
    with pytest.raises(ValueError, match="Expected `image_shape`.*as many channels"):
        AutoencoderDetector(image_shape=(8, 8, 2)).fit(stripes)
    with pytest.raises(ValueError, match="Expected `image_shape`"):
        detector.score_samples(stripes[..., :2])


def test_an_image_that_is_resized_scores_as_if_it_had_been_stored_so(stripes, trainings):
    detector = AutoencoderDetector(image_shape=(8, 10, 3), random_state=0).fit(stripes)
    stored = detector.explain(stripes)["value"].astype(np.uint8)
    np.testing.assert_array_equal(detector.score_samples(stored), detector.score_samples(stripes))


# What is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:, :7], r"Expected images of 8 x 8 pixels or more.*Received: shape"),
        (lambda x: np.stack([x] * 3, axis=-1), "8 x 8 pixels and 1 channel"),
        (lambda x: x / 255, "Expected images of uint8.*float64"),
        (lambda x: x.astype(np.int64) + 200, "Expected pixels from 0 to 255. Received"),
        (lambda x: x[:0], r"Expected images to score. Received: 0 sample"),
        (lambda x: x.reshape(len(x), -1), "Expected images, as in fit"),
        (lambda x: pd.DataFrame(x.reshape(len(x), -1)), "Expected images.*DataFrame"),
        (lambda x: x.astype(str), "Expected images of numbers"),
        (lambda x: x.astype(object), "Expected images of numbers"),
        (lambda x: x[0], "Expected images, as in fit"),
        (lambda x: x.tolist(), "Expected images, as in fit"),
    ],
)
def test_images_unlike_those_of_fit_are_refused(image_detector, digits, change, words):
    for method in ("score_samples", "explain", "reconstruct", "transform"):
        with pytest.raises(ValueError, match=words):
            getattr(image_detector, method)(change(digits[:3]))


def test_a_detector_of_tables_refuses_images(rows, digits, trainings):
    detector = AutoencoderDetector(random_state=0).fit(rows)
    with pytest.raises(ValueError, match="Expected a table, as in fit"):
        detector.score_samples(digits)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((20, 7, 7), np.uint8), "8 x 8 pixels or more"),
        (np.zeros((1, 8, 8), np.uint8), "Expected two images or more. Received: 1 sample"),
        (np.zeros((0, 8, 8), np.uint8), "Received: 0 sample"),
        (np.full((9, 8, 8), 1.5), "Expected pixels from 0 to 1. Received: 1.5 in image 0"),
        (np.full((9, 8, 8), -0.5), "Expected pixels from 0 to 1. Received: -0.5"),
        (np.full((9, 8, 8), np.nan), "Expected pixels from 0 to 1. Received: nan"),
        (np.full((9, 8, 8), np.inf), "Received: inf"),
        (np.zeros((9, 8, 8), complex), "Expected images of numbers"),
        (np.zeros((9, 8, 8, 0), np.uint8), r"Expected images with pixels. Received: shape \(9, 8"),
        (np.zeros((9, 0, 8)), "Expected images with pixels"),
    ],
)
def test_what_cannot_be_fitted_is_refused_and_leaves_the_detector_as_it_was(images, words):
    detector = VAEDetector(max_steps=1)
    with pytest.raises(ValueError, match=words):
        detector.fit(images)
    assert not hasattr(detector, "scorer_")


@pytest.mark.parametrize("value_range", [(1, 0), (0, np.inf), (0,), (np.nan, 1)])
def test_a_range_of_values_is_two_numbers_that_rise(digits, value_range):
    with pytest.raises(ValueError, match="Expected `value_range` of two finite numbers"):
        VAEDetector(value_range=value_range).fit(digits / 255)


def test_a_detector_can_be_fitted_to_images_after_a_table_and_the_reverse(rows, digits, trainings):
    detector = AutoencoderDetector(hidden_units=(4,), random_state=0)
    detector.fit(pd.DataFrame(rows, columns=list("abcd")))
    detector.fit(digits)
    assert not hasattr(detector, "feature_names_in_")
    assert detector.score_samples(digits[:2]).shape == (2,)
    assert detector.fit(rows).score_samples(rows[:2]).shape == (2,)


def test_bytes_cannot_wrap_around(digits):
    with pytest.raises(ValueError, match="`value_range` within 0 and 255 for images of uint8"):
        VAEDetector(value_range=(0, 1023)).fit(digits)


@pytest.mark.parametrize(
    ("of_images", "params", "words"),
    [
        (True, {"kinds": {"a": "numeric"}}, "`kinds` for tables only"),
        (True, {"max_levels": 7}, "`max_levels` for tables only"),
        (True, {"normal_scores": False}, "`normal_scores` for tables only"),
        (False, {"pixel_likelihood": "gaussian"}, "`pixel_likelihood` for images only"),
        (False, {"image_shape": (8, 8, 1)}, "`image_shape` for images only"),
        (False, {"value_range": (0, 1)}, "`value_range` for images only"),
        (False, {"filters": (4,)}, "`filters` for images only"),
    ],
)
def test_a_parameter_of_the_other_kind_of_input_is_refused(rows, digits, of_images, params, words):
    with pytest.raises(ValueError, match=words):
        VAEDetector(**params).fit(digits if of_images else rows)


def test_grey_images_are_explained_in_the_colours_of_the_model(stripes, digits, trainings):
    detector = VAEDetector(image_shape=(9, 13, 3), random_state=0).fit(stripes)
    assert detector.reconstruct(digits[:2]).shape == (2, 9, 13, 3)
    assert detector.explain(digits[:2])["value"].shape == (2, 9, 13, 3)


def test_large_images_are_resized_a_few_at_a_time(digits, trainings, monkeypatch):
    detector = VAEDetector(image_shape=(8, 8, 1), random_state=0).fit(digits[:20])
    large = np.kron(digits[:5], np.ones((1, 4, 4), np.uint8))
    whole = detector.score_samples(large)
    monkeypatch.setattr("vae_anomaly.scoring.images._VALUES_AT_ONCE", 2 * 32 * 32)
    seen = []
    pixels = type(detector.scorer_.preprocessor).pixels
    monkeypatch.setattr(
        type(detector.scorer_.preprocessor),
        "pixels",
        lambda self, images: seen.append(len(images)) or pixels(self, images),
    )
    np.testing.assert_array_equal(detector.score_samples(large), whole)
    assert seen == [2, 2, 1]
