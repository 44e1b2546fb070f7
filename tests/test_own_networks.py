"""Networks that users give in place of those that the detectors build."""

import copy
import pickle

import keras
import numpy as np
import pytest
from sklearn.base import clone

from vae_anomaly import AutoencoderDetector, VAEDetector, load_detector, model_info
from vae_anomaly.detectors import artifact

# Keras copies and saves its models with an older way of making arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMALL = {"score_type": "elbo", "max_steps": 3, "n_draws": 2, "random_state": 0}


def seeded(*networks):
    """The networks, with weights that do not depend on the tests before."""
    rng = np.random.default_rng(0)
    for network in networks:
        shapes = [weight.shape for weight in network.get_weights()]
        network.set_weights([rng.normal(0, 0.1, shape) for shape in shapes])
    return networks


@pytest.fixture(scope="module")
def image_networks():
    """An encoder and a decoder of 8 x 8 images."""
    image = keras.Input((8, 8, 1))
    hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.Flatten()(image))
    encoder = keras.Model(image, [keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden)])
    z = keras.Input((3,))
    decoder = keras.Model(z, keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(z)))
    return seeded(encoder, decoder)


@pytest.fixture(scope="module")
def own_images(image_networks, digits):
    encoder, decoder = image_networks
    return VAEDetector(encoder=encoder, decoder=decoder, **SMALL).fit(digits)


@pytest.fixture(scope="module")
def own_table(rows):
    x = keras.Input((8,))
    encoder = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    z = keras.Input((2,))
    decoder = keras.Model(z, keras.layers.Dense(8)(z))
    seeded(encoder, decoder)
    return VAEDetector(encoder=encoder, decoder=decoder, **SMALL).fit(rows)


@pytest.mark.slow
def test_they_take_each_numeric_column_once(own_table, trainings, rows):
    encoder, decoder = own_table.encoder, own_table.decoder
    skewed = np.exp(rows * [3, 1, 1, 1])
    detector = VAEDetector(encoder=encoder, decoder=decoder, **SMALL).fit(skewed)
    assert detector.scorer_.preprocessor.skewed == []
    assert VAEDetector(**SMALL, hidden_units=()).fit(skewed).scorer_.preprocessor.skewed != []


@pytest.fixture(params=["own_images", pytest.param("own_table", marks=pytest.mark.slow)])
def own(request):
    data = {"own_images": "digits", "own_table": "rows"}[request.param]
    return request.getfixturevalue(request.param), request.getfixturevalue(data)


def weights_of(*networks):
    return [weight.copy() for network in networks for weight in network.get_weights()]


def test_they_train_from_the_weights_they_have_and_are_not_changed(
    image_networks, digits, trainings
):
    before = weights_of(*image_networks)
    encoder, decoder = image_networks
    detector = VAEDetector(encoder=encoder, decoder=decoder, **SMALL).fit(digits)
    model = detector.scorer_.model
    for given, started in zip(before, weights_of(model.encoder, model.decoder), strict=True):
        np.testing.assert_array_equal(started, given)
    assert model.encoder is not encoder


@pytest.mark.slow
def test_training_leaves_the_given_networks_and_changes_those_of_the_detector(
    own_images, image_networks
):
    model = own_images.scorer_.model
    given = weights_of(*image_networks)
    trained = weights_of(model.encoder, model.decoder)
    assert all(np.any(a != b) for a, b in zip(given, trained, strict=True))
    assert own_images.scorer_.model.latent_dim == 3


def test_they_score_explain_and_sample(own):
    detector, data = own
    scores = detector.score_samples(data)
    assert np.isfinite(scores).all()
    explanation = detector.explain(data)
    parts = explanation["contribution"]
    total = parts.sum(axis=1) if parts.ndim == 2 else parts.sum(axis=(1, 2))
    if isinstance(explanation, dict):
        total = total + explanation["latent"] + explanation["baseline"]
    np.testing.assert_allclose(total, scores, rtol=1e-9)
    assert detector.sample(2, random_state=0).shape == (2, *data.shape[1:])
    assert detector.reconstruct(data).shape == data.shape
    assert detector.transform(data).shape == (len(data), detector.scorer_.model.latent_dim)


@pytest.mark.parametrize(
    "again",
    [
        lambda detector, path: (detector.save(path / "m"), load_detector(path / "m"))[1],
        pytest.param(
            lambda detector, path: pickle.loads(pickle.dumps(detector)), marks=pytest.mark.slow
        ),
        pytest.param(lambda detector, path: copy.deepcopy(detector), marks=pytest.mark.slow),
    ],
    ids=["load_detector", "pickle", "deepcopy"],
)
def test_a_detector_of_them_scores_bit_for_bit_as_before(own, again, tmp_path):
    detector, data = own
    twin = again(detector, tmp_path)
    np.testing.assert_array_equal(twin.score_samples(data), detector.score_samples(data))
    assert twin.encoder.to_json() == detector.encoder.to_json()
    assert twin.decoder.to_json() == detector.decoder.to_json()


def test_a_loaded_detector_has_them_as_they_were_trained(own_images, tmp_path):
    own_images.save(tmp_path / "m")
    twin, model = load_detector(tmp_path / "m"), own_images.scorer_.model
    trained = weights_of(model.encoder, model.decoder)
    for ours, right in zip(weights_of(twin.encoder, twin.decoder), trained, strict=True):
        np.testing.assert_array_equal(ours, right)


def test_weights_are_named_by_the_layers_of_the_networks(rows, tmp_path, trainings):
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")], name="inner")
    hidden = keras.layers.BatchNormalization(name="norm")(inner(x))
    outputs = [keras.layers.Dense(2, name=name)(hidden) for name in ("mean", "log_var")]
    encoder = keras.Model(x, outputs, name="mine")
    detector = VAEDetector(encoder=encoder, **SMALL).fit(rows)
    detector.save(tmp_path / "m")
    names = set(artifact.read_weights(tmp_path / "m", artifact.read(tmp_path / "m")))
    assert {name for name in names if name.startswith("encoder/")} == {
        *(f"encoder/mine/inner/d/{part}" for part in ("kernel", "bias")),
        *(
            f"encoder/mine/{name}/{part}"
            for name in ("mean", "log_var")
            for part in ("kernel", "bias")
        ),
        *(
            f"encoder/mine/norm/{part}"
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        ),
    }
    np.testing.assert_array_equal(
        load_detector(tmp_path / "m").score_samples(rows), detector.score_samples(rows)
    )


def test_info_says_which_networks_were_given(own_images, tmp_path, capsys):
    own_images.save(tmp_path / "m")
    description = artifact.read(tmp_path / "m")
    model_info.print_model(tmp_path / "m", description)
    assert "network: encoder and decoder of your own -> 3 latent" in capsys.readouterr().out
    description["model"]["decoder"] = None
    model_info.print_model(tmp_path / "m", description)
    assert "network: [128, 128], encoder of your own -> 3 latent" in capsys.readouterr().out


def test_a_clone_has_the_same_networks_with_the_same_weights(own_images):
    twin = clone(own_images)
    assert not hasattr(twin, "scorer_")
    assert twin.encoder is not own_images.encoder
    for name in ("encoder", "decoder"):
        ours, right = weights_of(getattr(twin, name)), weights_of(getattr(own_images, name))
        for mine, theirs in zip(ours, right, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_one_of_them_is_enough(rows, digits, image_networks, trainings):
    encoder, decoder = image_networks
    assert VAEDetector(encoder=encoder, **SMALL).fit(digits).transform(digits).shape[1] == 3
    assert VAEDetector(decoder=decoder, **SMALL).fit(digits).transform(digits).shape[1] == 3
    x = keras.Input((4,))
    plain = keras.Model(x, keras.layers.Dense(2)(x))
    detector = AutoencoderDetector(encoder=plain, max_steps=3, random_state=0).fit(rows)
    assert detector.transform(rows).shape == (400, 2)


def test_networks_that_do_not_fit_are_refused(rows, digits, image_networks, trainings):
    encoder, decoder = image_networks
    with pytest.raises(ValueError, match=r"Expected `encoder` to take \[\(9, 13, 3\)\]"):
        VAEDetector(encoder=encoder).fit(np.zeros((20, 9, 13, 3), np.uint8))
    with pytest.raises(ValueError, match=r"Expected `decoder` .*give \[\(8, 8, 2\)\]"):
        VAEDetector(decoder=decoder, pixel_likelihood="discretized_logistic").fit(digits)
    with pytest.raises(ValueError, match=r"Expected `encoder` .*give \[\(2,\), \(2,\)\]"):
        VAEDetector(encoder=encoder, latent_dim=2).fit(digits)
    with pytest.raises(ValueError, match="Expected `encoder` to take"):
        VAEDetector(encoder=encoder).fit(rows)
    with pytest.raises(ValueError, match="encoder"):
        VAEDetector(encoder="dense").fit(rows)


@pytest.mark.slow
def test_both_networks_know_when_they_train(rows):
    def network(width, *outputs):
        inputs = keras.Input((width,))
        hidden = keras.layers.BatchNormalization()(inputs)
        return keras.Model(inputs, [keras.layers.Dense(size)(hidden) for size in outputs])

    encoder, decoder = network(4, 2, 2), network(2, 8)
    detector = VAEDetector(encoder=encoder, decoder=decoder, **SMALL).fit(rows)
    for part in (detector.scorer_.model.encoder, detector.scorer_.model.decoder):
        started = {"moving_mean": 0.0, "moving_variance": 1.0}
        moved = [w for w in part.weights if w.name in started]
        assert len(moved) == 2
        assert all(np.any(w.numpy() != started[w.name]) for w in moved)


def test_layers_that_hold_code_are_refused(digits):
    image = keras.Input((8, 8, 1))
    hidden = keras.layers.Lambda(lambda x: 2 * x)(keras.layers.Flatten()(image))
    encoder = keras.Model(image, [keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden)])
    with pytest.raises(
        ValueError, match=r"or hold code, such as Lambda, TFSMLayer. Received: keras\S*Lambda"
    ):
        VAEDetector(encoder=encoder, **SMALL).fit(digits)


def test_a_network_without_inputs_is_refused(digits):
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"`encoder` to be a keras.Model whose inputs are known"):
        VAEDetector(encoder=encoder, **SMALL).fit(digits)
