"""Images in overlapping windows: where these are, laws of scores, doors, and what is refused."""

import json
import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from test_cli import run
from test_features import network

from vae_anomaly import AutoencoderDetector, ImageFolder, VAEDetector, load_detector
from vae_anomaly.detectors.description import check_description
from vae_anomaly.image_windows import cut, stitched, tile_grid, window_grid
from vae_anomaly.images.features import FeaturePreprocessor
from vae_anomaly.vae import conv_decoder, conv_encoder
from vae_anomaly.vae.tiled import StitchWindows, tiled_networks

SMALL = {"hidden_units": (8,), "latent_dim": 3, "n_draws": 2, "max_steps": 20, "random_state": 0}


# Where windows are


@given(window=st.integers(1, 60), more=st.integers(0, 400))
def test_windows_cover_a_side_and_neighbours_share_a_quarter(window, more):
    line = window_grid((window + more, 1), (window, 1)).down
    starts = np.array(line.starts)
    assert starts[0] == 0
    assert starts[-1] + window == line.size
    assert (np.diff(starts) > 0).all()
    assert (starts[:-1] + window - starts[1:] >= window // 4).all()


@given(window=st.integers(1, 60), more=st.integers(0, 400))
def test_each_pixel_belongs_to_windows_that_it_is_in(window, more):
    line = window_grid((window + more, 1), (window, 1)).down
    before, after, share = line.shares()
    assert ((share >= 0) & (share < 1)).all()
    np.testing.assert_array_equal(line.pixels[before], np.arange(line.size))
    np.testing.assert_array_equal(line.pixels[after][share > 0], np.arange(line.size)[share > 0])


def test_no_more_windows_than_needed():
    assert window_grid((64, 112), (64, 64)).n_windows == 2
    assert window_grid((64, 113), (64, 64)).n_windows == 3


@pytest.mark.parametrize("size", [(33, 50), (8, 16), (9, 17)])
def test_what_is_cut_and_put_together_is_the_same(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    grid = window_grid(size, (8, 16))
    np.testing.assert_allclose(stitched(cut(x, grid), grid), x, atol=1e-6)


def test_where_two_windows_meet_one_passes_into_the_other():
    windows = np.stack([np.zeros((1, 8, 8, 1)), np.ones((1, 8, 8, 1))])[None].swapaxes(1, 2)
    whole = np.asarray(stitched(windows.astype("float32"), window_grid((8, 12), (8, 8))))
    expected = [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]
    np.testing.assert_allclose(whole[0, 3, :, 0], expected, atol=1e-6)


def test_maps_of_windows_become_maps_of_the_image():
    images = np.random.default_rng(0).normal(size=(2, 20, 12, 6)).astype("float32")
    grid = window_grid((20, 12), (8, 8))
    # Two maps of three channels: all of the first map comes before the second.
    flat = lambda x: np.moveaxis(np.asarray(x).reshape(*x.shape[:-1], 2, 3), -2, -4)  # noqa: E731
    windows = flat(cut(images, grid)).reshape(2 * grid.n_windows, -1)
    whole = StitchWindows((20, 12, 3), (8, 8))(windows)
    np.testing.assert_allclose(whole, flat(images).reshape(2, -1), atol=1e-6)


@pytest.mark.parametrize(
    ("tiles", "reason"),
    [
        ((7, 8), "8 pixels or more"),
        ((8, 65), "no larger"),
        ((16,), "of (height, width)"),
        ((16, 16, 1), "of (height, width)"),
        ((16.7, 16), "whole numbers"),
        (("16", "16"), "whole numbers"),
        ((None, 16), "whole numbers"),
        ((16, float("nan")), "whole numbers"),
        ([[16, 16]], "of (height, width)"),
    ],
)
def test_windows_that_cannot_be_are_refused(tiles, reason):
    with pytest.raises(ValueError, match="Expected `tiles`") as error:
        tile_grid(tiles, (64, 64, 1))
    assert reason in str(error.value)


def test_a_flood_of_windows_is_refused():
    with pytest.raises(ValueError, match="which make 1849"):
        tile_grid((8, 8), (260, 260, 1))


def test_z_has_no_more_numbers_than_draws_can():
    networks = conv_encoder((8, 8, 1), latent_dim=64), conv_decoder(64, (), (8, 8, 1), n_maps=1)
    with pytest.raises(ValueError, match="64 for each of 400 windows"):
        tiled_networks(*networks, (122, 122, 1), (8, 8))


def test_tables_refuse_tiles():
    with pytest.raises(ValueError, match="Expected `tiles` for images only"):
        VAEDetector(tiles=(8, 8)).fit(np.zeros((20, 3)))


@pytest.mark.slow
def test_maps_of_a_network_that_sees_pixels_alone_are_those_of_whole_images():
    start = keras.initializers.GlorotUniform(1)
    inputs = keras.Input((None, None, 1))
    one = keras.Model(inputs, keras.layers.Conv2D(3, 1, kernel_initializer=start)(inputs))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 1), dtype=np.uint8)
    maps = []
    for tiles in ((16, 8), None):
        layer = FeaturePreprocessor((32, 24, 1), (0, 255), "uint8", backbone=one, tiles=tiles)
        layer.projection.assign(np.eye(3))
        maps.append(layer(images))
    assert maps[0].shape == (2, 32, 24, 3)
    np.testing.assert_allclose(*maps, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "tiles", "shape"),
    [
        ((64, 64), (32, 32), (64, 64)),
        ((80, 64), (32, 32), (40, 32)),
        ((300, 64), (32, 32), (57, 32)),
    ],
)
def test_maps_of_large_images_have_64_positions_on_a_side_at_most(size, tiles, shape):
    layer = FeaturePreprocessor((*size, 3), (0, 255), "uint8", backbone=network(), tiles=tiles)
    assert layer.x_shape[:2] == shape


@pytest.mark.parametrize(("side", "tile"), [(100, 16), (33, 16), (70, 24)])
def test_a_network_of_coarse_maps_sees_all_pixels(side, tile):
    inputs = keras.Input((None, None, 1))
    coarse = keras.Model(inputs, keras.layers.AveragePooling2D(8)(inputs))
    shape, tiles = (side, 16, 1), (tile, 16)
    layer = FeaturePreprocessor(shape, (0, 255), "uint8", backbone=coarse, tiles=tiles)
    layer.projection.assign([[1.0]])
    # One bright row of pixels in each image.
    images = 255 * np.eye(side, dtype=np.uint8)[:, :, None, None].repeat(16, axis=2)
    changed = np.abs(layer(images) - layer(np.zeros_like(images))).max(axis=(1, 2, 3))
    assert (changed > 0).all()
    assert layer._windows == tile_grid(tiles, shape)


def test_maps_of_one_position_cannot_be_put_together():
    inputs = keras.Input((None, None, 1))
    coarse = keras.Model(inputs, keras.layers.AveragePooling2D(8)(inputs))
    with pytest.raises(ValueError, match="2 positions or more on a side"):
        FeaturePreprocessor((64, 64, 1), (0, 255), "uint8", backbone=coarse, tiles=(8, 8))


@pytest.mark.parametrize("shape", [(40, 9000, 1), (4096, 2048, 3)])
def test_images_that_no_model_may_hold_are_refused_before_training(shape):
    images = np.broadcast_to(np.uint8(0), (3, *shape))
    with pytest.raises(ValueError, match="Take smaller ones"):
        VAEDetector(tiles=(32, 32)).fit(images)


# The laws of the score, slow since each network is traced anew


def waves(n, seed, size=40):
    """Grey images of waves whose phase varies, and noise."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    images = 120 + 40 * np.sin(np.arange(size) / 5 + phase) + rng.normal(0, 6, (n, size, size))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    return waves(40, seed=0)


@pytest.fixture(scope="module", params=["pixels", "backbone"])
def detector(request, images):
    params = {"backbone": network()} if request.param == "backbone" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VAEDetector(tiles=(16, 24), **params, **SMALL).fit(images)


@pytest.mark.slow
def test_an_image_scores_the_same_in_any_company(detector, images):
    scores = detector.score_samples(images)
    for index in (0, 7, 39):
        assert detector.score_samples(images[index : index + 1])[0] == scores[index]
    np.testing.assert_array_equal(detector.score_samples(images[::-1]), scores[::-1])


@pytest.mark.slow
def test_contributions_are_one_map_of_the_image_and_add_up(detector, images):
    explanation = detector.explain(images)
    assert explanation["contribution"].shape == images.shape
    total = explanation["contribution"].sum(axis=(1, 2)) + explanation["latent"]
    total += explanation["baseline"]
    np.testing.assert_allclose(total, detector.score_samples(images), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_p_values_and_calibration_are_of_images(detector, images):
    assert detector.p_values(images).shape == (40,)
    assert detector.scorer_.calibration_scores.shape[0] <= 40


@pytest.mark.slow
def test_a_saved_or_pickled_detector_scores_bit_for_bit(detector, images, tmp_path):
    detector.save(tmp_path / "m")
    for again in (load_detector(tmp_path / "m"), pickle.loads(pickle.dumps(detector))):
        assert tuple(again.tiles) == (16, 24)
        np.testing.assert_array_equal(again.score_samples(images), detector.score_samples(images))


@pytest.mark.slow
def test_an_export_answers_images_and_files(detector, images, tmp_path):
    exported = detector.export(tmp_path / "served")
    served = tf.saved_model.load(str(exported.folder)).signatures
    expected = detector.score_samples(images[:3])
    answers = served["serving_default"](images=tf.constant(images[:3, ..., None]))
    np.testing.assert_allclose(answers["score"], expected, rtol=1e-4, atol=1e-2)
    files = [tf.io.encode_png(image[..., None]).numpy() for image in images[:3]]
    answers = served["encoded"](image_bytes=tf.constant(files))
    np.testing.assert_allclose(answers["score"], expected, rtol=1e-4, atol=1e-2)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_detector(images):
    scores = [
        VAEDetector(tiles=(16, 16), **SMALL).fit(images).score_samples(images) for _ in range(2)
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.slow
def test_an_autoencoder_has_windows_too(images):
    detector = AutoencoderDetector(
        tiles=(16, 16), hidden_units=(8,), latent_dim=3, max_steps=20, random_state=0
    ).fit(images)
    assert detector.reconstruct(images).shape == images.shape
    assert detector.transform(images).shape == (40, 9 * 3)
    assert len(detector.get_feature_names_out()) == 9 * 3


@pytest.mark.slow
def test_networks_that_are_given_are_those_of_a_window(images):
    networks = {
        "encoder": conv_encoder((16, 16, 1), latent_dim=3),
        "decoder": keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(256), keras.layers.Reshape((16, 16, 1))]
        ),
    }
    detector = VAEDetector(tiles=(16, 16), **networks, n_draws=2, max_steps=20, random_state=0)
    detector.fit(images)
    assert detector.transform(images).shape == (40, 9 * 3)


@pytest.mark.slow
def test_a_tiny_defect_is_found_in_windows_where_shrinking_loses_it():
    train, fresh, broken = (waves(60, seed, size=96) for seed in (0, 1, 2))
    rows, columns = np.random.default_rng(3).integers(8, 86, (2, 60))
    for image, row, column in zip(broken, rows, columns, strict=True):
        image[row, column] = min(255, image[row, column] + 60)

    def share_found(**params):
        detector = VAEDetector(max_steps=200, random_state=0, **params).fit(train)
        low, high = detector.score_samples(broken), detector.score_samples(fresh)
        return np.mean(low[:, None] < high)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert share_found(tiles=(32, 32)) > 0.95
        assert share_found(image_shape=(32, 32, 1)) < 0.9


# Folders and the command line


def folder_of(images, path):
    path.mkdir()
    for index, image in enumerate(images):
        tf.io.write_file(f"{path}/{index:03}.png", tf.io.encode_png(image[..., None]))
    return path


@pytest.mark.slow
def test_files_keep_their_size_where_windows_are_asked_for(tmp_path, trainings):
    folder = ImageFolder(folder_of(waves(4, 0, size=80), tmp_path / "good"))
    assert folder.shape == (4, 64, 64, 1)
    assert folder.stored_shape == (80, 80, 1)
    VAEDetector(tiles=(48, 48)).fit(folder)
    assert trainings[0]["model"].encoder.input_shape == (None, 80, 80, 1)


@pytest.mark.slow
def test_windows_on_the_command_line(tmp_path):
    good, model = folder_of(waves(30, 0, size=80), tmp_path / "good"), tmp_path / "m"
    options = ("--max-steps", 20, "--hidden-units", 8, "--quiet")
    result = run("fit", good, "--model", model, "--tiles", "48x40", *options)
    assert result.exit_code == 0, result.output
    assert "80 x 80 pixels, 1 channel(s), in 6 windows" in result.output
    shown = run("info", model).output
    assert "80 x 80 pixels, in 6 windows of 48 x 40" in shown
    description = json.loads((model / "detector.json").read_text())
    for tiles in ([16], "x", 7, [4, 4], [[48, 40]]):
        description["params"]["tiles"] = tiles
        with pytest.raises(ValueError, match="tiles"):
            check_description(description)
    output, maps = tmp_path / "scored.csv", tmp_path / "maps"
    result = run("score", good, "--model", model, "--output", output, "--maps", maps)
    assert result.exit_code == 0, result.output
    assert len(output.read_text().splitlines()) == 31
    assert len(list(maps.glob("*.png"))) == 30


def test_the_command_line_says_what_windows_it_takes(tmp_path):
    folder_of(waves(2, 0, size=8), tmp_path / "good")
    result = run("fit", tmp_path / "good", "--model", tmp_path / "m", "--tiles", "48")
    assert result.exit_code == 2
    assert "--tiles: expected HEIGHTxWIDTH" in result.output
