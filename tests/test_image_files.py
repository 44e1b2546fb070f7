"""Folders of images: which files are read, in which form, and what is refused."""

import os
import pickle
import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import clone

from vae_anomaly import AutoencoderDetector, ImageFolder, VAEDetector
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors import base
from vae_anomaly.detectors.state import load_detector
from vae_anomaly.images.decoding import ImageFileError, printable, read_images
from vae_anomaly.images.files import files_in, others_in
from vae_anomaly.images.form import ImageForm
from vae_anomaly.images.preprocessing import ImagePreprocessor
from vae_anomaly.scoring import images as image_scoring

SHAPES = [(8, 8, 1), (9, 13, 3), (16, 12, 1)]


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path, image):
    """Write an array as the PNG or JPEG file that the name says."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    encode = tf.io.encode_png if str(path).endswith("png") else tf.io.encode_jpeg
    with open(path, "wb") as file:
        file.write(encode(image).numpy())


@pytest.fixture(scope="module")
def images():
    """120 grey images of 10 x 8 pixels: a bright bar at some height."""
    rng = np.random.default_rng(0)
    images = rng.integers(20, 60, (120, 10, 8, 1))
    images[np.arange(120), rng.integers(2, 8, 120), 2:6] += 150
    return images.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(images):
        write(folder / f"{number // 50}" / f"{number:03d}.png", image)
    return folder


@pytest.fixture(scope="module")
def fitted(folder):
    """A detector fitted on the folder, and the folder, which counts what is decoded at once."""

    class Counting(ImageFolder):
        most = 0

        def __getitem__(self, rows):
            found = super().__getitem__(rows)
            Counting.most = max(Counting.most, len(found))
            return found

        def read(self, rows):
            Counting.most = max(Counting.most, rows.shape[0] or 0)
            return super().read(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_scoring, "_STATISTICS_IMAGES", 20)
        counting = Counting(folder)
        detector = VAEDetector(
            hidden_units=(8,), filters=(4,), max_steps=20, batch_size=16, random_state=0
        ).fit(counting)
        detector.score_samples(counting)
    return detector, Counting.most


def test_a_folder_reads_as_the_array_of_its_images(folder, images):
    found = ImageFolder(folder)
    assert found.shape == images.shape and len(found) == 120 and found.dtype == np.uint8
    np.testing.assert_array_equal(found[:], images)
    np.testing.assert_array_equal(found[3:7], images[3:7])
    np.testing.assert_array_equal(found[np.array([7, 2])], images[[7, 2]])
    rows = tf.constant([5, 90, 5], tf.int64)
    np.testing.assert_array_equal(found.read(rows), images[[5, 90, 5]])
    assert pickle.loads(pickle.dumps(found)).paths == found.paths


@pytest.mark.slow
def test_a_detector_fitted_on_files_is_that_of_their_arrays(fitted, images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_scoring, "_STATISTICS_IMAGES", 20)
        other = VAEDetector(**fitted[0].get_params()).fit(images)
    np.testing.assert_array_equal(other.score_samples(images), fitted[0].score_samples(images))


@pytest.mark.slow
def test_files_score_as_their_arrays(fitted, folder, images):
    detector, found = fitted[0], ImageFolder(folder)
    np.testing.assert_array_equal(detector.score_samples(found), detector.score_samples(images))
    explained, expected = detector.explain(found), detector.explain(images)
    for name in ("contribution", "value", "expected"):
        np.testing.assert_array_equal(explained[name], expected[name])


def test_fit_and_score_never_hold_more_than_a_few_decoded_images(fitted):
    assert 0 < fitted[1] <= 48


def test_a_folder_is_scored_at_the_size_of_the_detector(fitted, folder, tmp_path):
    detector = fitted[0]
    write(tmp_path / "large.png", pixels((31, 17, 3)))
    write(tmp_path / "largest.png", pixels((31, 17, 3), seed=1))
    mixed = ImageFolder(tmp_path)
    assert mixed.shape == (2, 31, 17, 3)
    preprocess = ImagePreprocessor((10, 8, 1), (0, 255), "uint8")
    small = np.round(preprocess(np.stack([pixels((31, 17, 3), seed) for seed in (0, 1)])) * 255)
    np.testing.assert_array_equal(
        detector.score_samples(mixed), detector.score_samples(small.astype(np.uint8))
    )


def test_image_shape_of_the_detector_is_that_to_which_files_are_brought(folder, trainings):
    detector = AutoencoderDetector(image_shape=(9, 9, 3), filters=(4,), hidden_units=(8,))
    detector.fit(ImageFolder(folder))
    assert detector.scorer_.preprocessor.image_shape == (9, 9, 3)
    assert trainings[0]["inputs_of"](tf.constant([0, 1])).shape == (2, 9, 9, 3)


@settings(max_examples=25)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.sampled_from([1, 2, 3, 4]),
    image_shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 99),
)
def test_a_file_becomes_what_the_preprocessor_makes_of_its_pixels(
    tmp_path_factory, height, width, channels, image_shape, seed
):
    image = pixels((height, width, channels), seed)
    path = tmp_path_factory.getbasetemp() / "one.png"
    write(path, image)
    decoded, errors = read_images([path], ImageForm(image_shape))
    assert errors == {}
    opaque = image[:, :, : 1 if channels < 3 else 3]  # alpha is ignored
    x = ImagePreprocessor(image_shape, (0, 255), "uint8")(opaque[None])
    np.testing.assert_array_equal(decoded.astype(np.float32) / 255, x)


@pytest.mark.parametrize(
    ("mode", "name", "channels"),
    [
        ("P", "palette.png", 3),
        ("1", "bits.png", 1),
        ("CMYK", "print.jpg", 3),
        ("L", "grey.JPEG", 1),
        ("RGBA", "alpha.PNG", 3),
    ],
)
def test_other_kinds_of_png_and_jpeg_look_as_they_should(tmp_path, mode, name, channels):
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    original = Image.fromarray(smooth)
    original.convert(mode).save(tmp_path / name)
    images = ImageFolder(tmp_path)
    assert images.shape == (1, 16, 16, channels)
    expected = np.asarray(original.convert(mode).convert("L" if channels == 1 else "RGB"))
    difference = images[:][0].astype(float) - expected.reshape(16, 16, channels)
    assert np.abs(difference).mean() < 8


def gradient(height, width, channels=3):
    """A picture without symmetry, that survives compression."""
    rows, columns = np.mgrid[0:height, 0:width]
    values = np.stack([4 * rows, 6 * columns, 3 * rows + 2 * columns], axis=2)
    return values[..., :channels].astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.bmp", {}),
        ("a.gif", {}),
        ("a.tif", {}),
        ("a.TIFF", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("b.png", {}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_gives_the_pixels_that_were_stored(tmp_path, name, options, channels):
    image = gradient(12, 10, channels)
    Image.fromarray(image[..., 0] if channels == 1 else image).save(tmp_path / name, **options)
    images = ImageFolder(tmp_path)
    if name in ("a.gif", "a.webp"):  # which know no grey, or no more than 256 colours
        assert np.abs(images[:][0].astype(int) - image).mean() < 8
    else:
        np.testing.assert_array_equal(images[:][0], image)
    np.testing.assert_array_equal(images.read(tf.constant([0])), images[:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation_is_obeyed(tmp_path, orientation, suffix):
    upright = Image.fromarray(gradient(24, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The inverse of what a reader must do, by Pillow's own transposition.
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    image = upright if turned is None else upright.transpose(Image.Transpose(turned))
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    image.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    images = ImageFolder(tmp_path)
    assert images.shape == (1, 24, 16, 3)
    assert np.abs(images[:][0].astype(int) - np.asarray(upright)).max() < 12
    np.testing.assert_array_equal(images.read(tf.constant([0])), images[:])


@pytest.mark.parametrize(
    ("image", "mode", "reason"),
    [
        (
            np.zeros((8, 8), np.float32),
            "F",
            "expected 8 or 16 bits per channel. Received: the mode",
        ),
        (np.zeros((8, 8), np.int32), "I", "expected 8 or 16 bits per channel. Received: the mode"),
    ],
)
def test_other_depths_are_unreadable(tmp_path, image, mode, reason):
    Image.fromarray(image).save(tmp_path / "a.tif")
    write(tmp_path / "b.png", pixels((8, 8, 1)))
    with pytest.warns(DataWarning, match="Left out"):
        images = ImageFolder(tmp_path)
    assert images.unreadable == {str(tmp_path / "a.tif"): f"{reason} {mode}"}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("side", [9000, 20000])
def test_an_image_of_too_many_pixels_is_unreadable(tmp_path, suffix, side):
    write(tmp_path / "a.png", pixels((8, 8, 1)))
    huge = tmp_path / f"huge.{suffix}"
    Image.new("1", (side, side)).save(huge, compression="group4" if suffix == "tif" else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*decompression bomb|Left out")
        images = ImageFolder(tmp_path)
    assert list(images.unreadable) == [str(huge)]
    assert "expected at most 67108864 pixels" in images.unreadable[str(huge)]


def deep(n_images, seed=0, bits=12):
    """Images of 12 bits that differ in the lower byte alone: a bright bar at some height."""
    rng = np.random.default_rng(seed)
    images = rng.integers(1000, 1020, (n_images, 12, 8, 1))
    images[np.arange(n_images), rng.integers(2, 10, n_images), 2:6] += 150
    return images.astype(np.uint16)


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep")
    for number, image in enumerate(deep(60)):
        if number % 2:
            write(folder / f"{number:02d}.png", image)
        else:
            Image.fromarray(image[..., 0]).save(folder / f"{number:02d}.tif")
    return folder


@pytest.fixture(scope="module")
def deep_detector(deep_folder):
    detector = VAEDetector(
        score_type="elbo", hidden_units=(16,), filters=(4,), max_steps=60, random_state=0
    )
    return detector.fit(ImageFolder(deep_folder))


def test_sixteen_bits_are_kept_whole(deep_folder):
    images = ImageFolder(deep_folder)
    assert (images.dtype, images.value_range) == (np.uint16, (deep(60).min(), deep(60).max()))
    np.testing.assert_array_equal(images[:], deep(60))
    np.testing.assert_array_equal(images.read(tf.constant([1, 4])), deep(60)[[1, 4]])


@pytest.mark.slow
def test_a_detector_of_sixteen_bits_is_the_same_from_files_and_arrays(trainings, deep_folder):
    detector = VAEDetector(hidden_units=(16,), filters=(4,), random_state=0)
    from_files = clone(detector).fit(ImageFolder(deep_folder))
    from_arrays = clone(detector).fit(deep(60))
    assert from_files.scorer_.preprocessor.value_range == (deep(60).min(), deep(60).max())
    new = deep(20, seed=1)
    np.testing.assert_array_equal(from_arrays.score_samples(new), from_files.score_samples(new))
    np.testing.assert_array_equal(
        from_files.score_samples(ImageFolder(deep_folder)), from_arrays.score_samples(deep(60))
    )


@pytest.mark.slow
def test_what_only_the_lower_byte_shows_is_found(deep_detector):
    normal, odd = deep(40, seed=2), deep(40, seed=3)
    odd[:, 2:6, 2:4] += 150  # a square instead of a bar
    assert (normal >> 8).max() - (normal >> 8).min() <= 1
    scores = deep_detector.score_samples(np.concatenate([normal, odd]))
    assert scores[:40].min() > np.median(scores[40:])


@pytest.mark.slow
def test_values_beyond_those_of_training_count_as_the_nearest(deep_detector):
    images = deep(5, seed=4)
    low, high = deep_detector.scorer_.preprocessor.value_range
    beyond = images.copy()
    beyond[:, 0, 0], beyond[:, 0, 1] = 0, 65535
    images[:, 0, 0], images[:, 0, 1] = low, high
    np.testing.assert_array_equal(
        deep_detector.score_samples(beyond), deep_detector.score_samples(images)
    )


@pytest.mark.slow
def test_samples_and_expectations_are_of_the_range_of_the_training_images(deep_detector):
    low, high = deep_detector.scorer_.preprocessor.value_range
    drawn = deep_detector.sample(5)
    assert drawn.dtype == np.uint16 and low <= drawn.min() and drawn.max() <= high
    assert np.isfinite(deep_detector.score_samples(drawn)).all()
    explained = deep_detector.explain(deep(3))
    np.testing.assert_allclose(explained["value"], deep(3), atol=0.01)


def test_eight_bits_are_not_taken_for_sixteen(deep_detector, deep_folder, tmp_path, folder):
    with pytest.raises(ValueError, match="Expected images of uint16, as in fit"):
        deep_detector.score_samples(deep(3).astype(np.uint8))
    with pytest.raises(ValueError, match="Expected images of uint16, as in fit"):
        deep_detector.score_samples(ImageFolder(folder))
    write(tmp_path / "a.png", pixels((12, 8, 1)))
    for number in range(2):
        write(tmp_path / f"deep{number}.png", deep(1)[0])
    with pytest.warns(DataWarning, match="Left out"):
        images = ImageFolder(tmp_path)
    assert images.dtype == np.uint16
    (reason,) = images.unreadable.values()
    assert reason == "expected 16 bits per channel, as most files have. Received: 8"
    _, errors = read_images([str(tmp_path / "a.png")], images.form)
    assert "expected 16 bits per channel" in errors[0].reason


def test_a_saved_detector_of_sixteen_bits_scores_alike(deep_detector, tmp_path):
    deep_detector.save(tmp_path / "m")
    scores = load_detector(tmp_path / "m").score_samples(deep(5))
    np.testing.assert_array_equal(scores, deep_detector.score_samples(deep(5)))


# Proportions


@pytest.mark.slow
@settings(max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    image_shape=st.sampled_from(SHAPES),
    resize=st.sampled_from(["stretch", "pad", "crop"]),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_a_file_is_resized_as_its_pixels_are(
    tmp_path_factory, height, width, channels, image_shape, resize, dtype
):
    top = np.iinfo(dtype).max
    image = np.random.default_rng(height).integers(0, top, (height, width, channels), dtype, True)
    path = tmp_path_factory.getbasetemp() / "resized.png"
    write(path, image)
    form = ImageForm(image_shape, dtype, resize)
    decoded, errors = read_images([path], form)
    assert errors == {} and decoded.dtype == dtype
    preprocessor = ImagePreprocessor(image_shape, (0, top), dtype, resize)
    np.testing.assert_array_equal((decoded / top).astype(np.float32), preprocessor(image[None]))


def test_padding_keeps_proportions_and_adds_the_lowest_value():
    image = np.full((1, 8, 16, 1), 7.0)
    padded = ImagePreprocessor((16, 16, 1), (-3, 7), "float32", "pad")(image)[0, :, :, 0].numpy()
    np.testing.assert_allclose(padded[4:12], 1.0, atol=1e-6)
    np.testing.assert_array_equal(padded[[0, 1, 2, 3, 12, 13, 14, 15]], 0.0)


def test_cropping_takes_the_middle():
    image = np.arange(16.0)[None, None, :, None] * np.ones((1, 8, 1, 1))
    cropped = ImagePreprocessor((8, 8, 1), (0, 1), "float32", "crop")
    assert cropped.form.resize == "crop"
    x = ImagePreprocessor((8, 8, 1), (0, 16), "float32", "crop")(image)[0, 0, :, 0] * 16
    np.testing.assert_allclose(x, np.arange(4.0, 12.0), atol=1e-4)


@settings(max_examples=20)
@given(size=st.tuples(st.integers(8, 30), st.integers(8, 30)), factor=st.sampled_from([1, 2, 3]))
def test_images_of_the_same_proportions_are_resized_in_one_way(size, factor):
    image = pixels((1, size[0] * factor, size[1] * factor, 1))
    stretched, padded, cropped = (
        ImagePreprocessor((*size, 1), (0, 255), "uint8", resize)(image)
        for resize in ("stretch", "pad", "crop")
    )
    np.testing.assert_array_equal(padded, stretched)
    np.testing.assert_array_equal(cropped, stretched)


def test_stretching_is_said_and_can_be_avoided(tmp_path):
    for name, shape in (("a", (20, 20, 1)), ("b", (20, 20, 1)), ("c", (20, 40, 1))):
        write(tmp_path / f"{name}.png", pixels(shape))
    match = (
        r"1 of 3 images have other proportions than 20 x 20 .* c\.png of 20 x 40, .* factor of 2\."
    )
    with pytest.warns(DataWarning, match=match.replace("c\\.png", r".*c\.png")):
        ImageFolder(tmp_path)
    for resize in ("pad", "crop"):
        assert ImageFolder(tmp_path, resize=resize).form.resize == resize
    with pytest.raises(ValueError, match=r"Expected `resize` among .*'fill'"):
        ImageFolder(tmp_path, resize="fill")


def test_a_detector_keeps_the_way_that_it_was_fitted_with(tmp_path, trainings):
    for number in range(3):
        write(tmp_path / f"{number}.png", pixels((20, 40, 1), number))
    detector = VAEDetector(image_shape=(12, 12, 1), filters=(4,), hidden_units=(8,))
    detector.fit(ImageFolder(tmp_path, resize="pad"))
    assert detector.scorer_.preprocessor.resize == "pad"
    x = trainings[0]["inputs_of"](tf.constant([0, 1, 2])).numpy()
    assert (x[:, :3] == 0).all() and (x[:, 3:9] > 0).any()
    seen = detector.explain(ImageFolder(tmp_path))["value"]
    assert (seen[:, :3] == 0).all()


def test_skipped_files_are_counted_and_named(tmp_path):
    for name in ("a.heic", "b.HEIC", "sub/c.txt", "d", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    write(tmp_path / "a.png", pixels((8, 8, 1)))
    match = (
        r"Skipped 4 files whose suffix .*: \.heic \(2\), no suffix \(1\), \.txt \(1\); .*a\.heic"
    )
    with pytest.warns(DataWarning, match=match):
        images = ImageFolder(tmp_path)
    assert [os.path.basename(path) for path in images.skipped] == ["a.heic", "b.HEIC", "d", "c.txt"]


def damaged(folder):
    """Write files that are no images; return the reasons by name."""
    write(folder / "whole.png", pixels((32, 32, 3)))
    write(folder / "whole.jpg", pixels((32, 32, 3)))
    png, jpeg = (folder / "whole.png").read_bytes(), (folder / "whole.jpg").read_bytes()
    (folder / "cut.png").write_bytes(png[:-100])
    (folder / "cut.jpg").write_bytes(jpeg[:-100])
    (folder / "header.png").write_bytes(png[:8])
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 255
    (folder / "flipped.png").write_bytes(flipped)
    (folder / "empty.jpeg").write_bytes(b"")
    (folder / "text.png").write_text("hello\nworld\n")
    (folder / "folder.png").mkdir()
    os.symlink(folder / "nowhere", folder / "link.png")
    cut = "the image is damaged or cut off"
    return {
        "cut.png": cut,
        "cut.jpg": cut,
        "header.png": cut,
        "flipped.png": cut,
        "empty.jpeg": "the file is empty",
        "text.png": "no image: the file begins with b'hello\\nwo'",
        "folder.png": "Is a directory",
        "link.png": "No such file or directory",
    }


def test_files_that_cannot_be_read_are_left_out_with_the_reason(tmp_path):
    reasons = damaged(tmp_path)
    with pytest.warns(UserWarning, match="Left out, as they cannot be read: 8 of 10 files"):
        images = ImageFolder(tmp_path)
    assert {os.path.basename(path): why for path, why in images.unreadable.items()} == reasons
    assert [os.path.basename(path) for path in images.paths] == ["whole.jpg", "whole.png"]
    assert images[:].shape == (2, 32, 32, 3)


def test_a_folder_without_a_readable_image_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"expected a folder with \.png, \.jpg, \.jpeg, \.bmp"):
        ImageFolder(tmp_path)
    with pytest.raises(ValueError, match=r"Expected image files\. Received: none"):
        ImageFolder([])
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match=r"can be read.*1 of 1 files.*no image.*b'hello'"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "missing")


def test_a_file_that_becomes_unreadable_is_named(folder, tmp_path):
    write(tmp_path / "a.png", pixels((8, 8, 1)))
    images = ImageFolder([tmp_path / "a.png"])
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageFileError, match=r"a\.png: the file is empty"):
        images[:]


@pytest.mark.slow
def test_a_file_that_is_gone_while_training_is_named(tmp_path, monkeypatch):
    for name in "abcd":
        write(tmp_path / f"{name}.png", pixels((8, 8, 1)))
    images = ImageFolder(tmp_path)
    detector = VAEDetector(filters=(4,), hidden_units=(8,), max_steps=2)
    train = base.Trainer.train

    def unlink_and_train(*args, **kwargs):
        (tmp_path / "b.png").unlink()
        return train(*args, **kwargs)

    monkeypatch.setattr(base.Trainer, "train", unlink_and_train)
    with pytest.raises(ImageFileError, match=r"b\.png: No such file or directory$"):
        detector.fit(images)


def test_files_are_listed_in_order_from_all_subfolders_but_hidden_ones(tmp_path):
    names = ["b.png", "a/é.JPG", "a/b/c.jpeg", "a.png", "Z.png"]
    for name in [*names, ".hidden.png", ".git/a.png", "a/notes.txt", "a/png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    expected = sorted(str(tmp_path / name) for name in names)
    assert files_in(tmp_path) == expected
    assert others_in(tmp_path) == sorted(str(tmp_path / name) for name in ("a/notes.txt", "a/png"))


def test_names_that_are_not_utf_8_are_read_and_printed(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path / "s") + b"\xf8b.png")
    write(path, pixels((8, 8, 1)))
    images = ImageFolder(tmp_path)
    np.testing.assert_array_equal(images.read(tf.constant([0]))[0], pixels((8, 8, 1)))
    assert printable(path).endswith("s\\xf8b.png")


@pytest.mark.parametrize(
    ("stored", "chosen"),
    [
        ([(10, 20, 1)], (10, 20, 1)),
        ([(128, 96, 1)], (64, 48, 1)),
        ([(300, 20, 1)], (64, 8, 1)),
        ([(5, 4, 1)], (8, 8, 1)),
        ([(9, 9, 1), (12, 10, 1), (12, 10, 1)], (12, 10, 1)),
        ([(9, 9, 1), (9, 9, 3)], (9, 9, 3)),
        ([(9, 9, 1), (9, 9, 2)], (9, 9, 1)),
    ],
)
def test_the_shape_is_the_most_frequent_size_if_not_too_large(tmp_path, stored, chosen):
    for number, shape in enumerate(stored):
        write(tmp_path / f"{number}.png", pixels(shape))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* are stretched, such as")
        assert ImageFolder(tmp_path).shape[1:] == chosen


@pytest.mark.parametrize("image_shape", [(8, 8), (8, 8, 2), (0, 8, 1)])
def test_a_wrong_shape_is_an_error(folder, image_shape):
    with pytest.raises(ValueError, match="Expected `image_shape`"):
        ImageFolder(folder).with_shape(image_shape)
