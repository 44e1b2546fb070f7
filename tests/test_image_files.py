import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly import ImageFolder, VAEDetector
from vae_anomaly.images import files as image_files
from vae_anomaly.images.files import ImageFileError, files_in, read_images
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


def test_a_detector_fitted_on_files_is_that_of_their_arrays(fitted, images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_scoring, "_STATISTICS_IMAGES", 20)
        other = VAEDetector(**fitted[0].get_params()).fit(images)
    np.testing.assert_array_equal(other.score_samples(images), fitted[0].score_samples(images))


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
    detector = VAEDetector(image_shape=(9, 9, 3), filters=(4,), hidden_units=(8,))
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
    decoded, errors = read_images([path], image_shape)
    assert errors == {}
    opaque = image[:, :, : 1 if channels < 3 else 3]  # alpha is ignored
    x = ImagePreprocessor(image_shape, (0, 255), "uint8")(opaque[None])
    np.testing.assert_array_equal(decoded.astype(np.float32) / 255, x)


def test_sixteen_bits_are_read_by_their_upper_eight(tmp_path):
    image = np.random.default_rng(0).integers(0, 2**16, (8, 8, 1), dtype=np.uint16)
    write(tmp_path / "deep.png", image)
    np.testing.assert_array_equal(ImageFolder(tmp_path)[:][0], image >> 8)


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
    pil = pytest.importorskip("PIL.Image")
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    original = pil.fromarray(smooth)
    original.convert(mode).save(tmp_path / name)
    images = ImageFolder(tmp_path)
    assert images.shape == (1, 16, 16, channels)
    expected = np.asarray(original.convert(mode).convert("L" if channels == 1 else "RGB"))
    difference = images[:][0].astype(float) - expected.reshape(16, 16, channels)
    assert np.abs(difference).mean() < 8


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
    with pytest.raises(ValueError, match=r"expected a folder with \.png, \.jpg, \.jpeg files"):
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


def test_a_file_that_is_gone_while_training_is_named(tmp_path):
    for name in "abcd":
        write(tmp_path / f"{name}.png", pixels((8, 8, 1)))
    images = ImageFolder(tmp_path)
    detector = VAEDetector(filters=(4,), hidden_units=(8,), max_steps=2)
    train = detector._train

    def unlink_and_train(*args, **kwargs):
        (tmp_path / "b.png").unlink()
        return train(*args, **kwargs)

    detector._train = unlink_and_train
    with pytest.raises(ImageFileError, match=r"b\.png: No such file or directory$"):
        detector.fit(images)


def test_files_are_listed_in_order_from_all_subfolders_but_hidden_ones(tmp_path):
    names = ["b.png", "a/é.JPG", "a/b/c.jpeg", "a.png", "Z.png"]
    for name in [*names, ".hidden.png", ".git/a.png", "a/notes.txt", "a/png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    expected = sorted(str(tmp_path / name) for name in names)
    assert files_in(tmp_path) == expected


def test_names_that_are_not_utf_8_are_read_and_printed(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path / "s") + b"\xf8b.png")
    write(path, pixels((8, 8, 1)))
    images = ImageFolder(tmp_path)
    np.testing.assert_array_equal(images.read(tf.constant([0]))[0], pixels((8, 8, 1)))
    assert image_files.printable(path).endswith("s\\xf8b.png")


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
    assert ImageFolder(tmp_path).shape[1:] == chosen


@pytest.mark.parametrize("image_shape", [(8, 8), (8, 8, 2), (0, 8, 1)])
def test_a_wrong_shape_is_an_error(folder, image_shape):
    with pytest.raises(ValueError, match="Expected `image_shape`"):
        ImageFolder(folder).with_shape(image_shape)
