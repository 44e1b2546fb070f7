"""The command line on folders of images: fit, score, maps, and what is refused."""

import json
import os
import pathlib
import signal

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from test_cli import PAGES, assert_one_line_error, run, run_process

from vae_anomaly import ImageFolder, VAEDetector, cli
from vae_anomaly.batch import images as image_batch
from vae_anomaly.batch import pipeline
from vae_anomaly.batch.images import ImageChunkScorer
from vae_anomaly.batch.places import work_folder
from vae_anomaly.batch.run import score_files
from vae_anomaly.cli.fit_files import FIT_OPTIONS
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors import artifact
from vae_anomaly.detectors.state import load_detector

pytestmark = pytest.mark.usefixtures("loaded_once")
SMALL = ("--max-steps", "20", "--hidden-units", "8", "--quiet")
COLUMNS = ["path", "score", "decision", "is_anomaly", "p_value"]


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(image).numpy())


def bars(n_images, seed):
    """Grey images of 12 x 8 pixels with a bright bar at some height."""
    rng = np.random.default_rng(seed)
    images = rng.integers(20, 60, (n_images, 12, 8, 1))
    images[np.arange(n_images), rng.integers(2, 10, n_images), 2:6] += 150
    return images.astype(np.uint8)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with train/, new/, a model of each kind, and new/ scored."""
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(bars(40, seed=0)):
        write(folder / "train" / f"{number:02d}.png", image)
    for number, image in enumerate(bars(20, seed=1)):
        write(folder / "new" / "sør" / f"{number:02d}.png", image)
    write(folder / "new" / "large.jpg", np.full((24, 30, 3), [200, 30, 90], np.uint8))
    write(folder / "new" / "odd.png", 255 - bars(1, seed=2)[0])
    (folder / "new" / "text.png").write_text("hello")
    (folder / "new" / "zero.jpeg").write_bytes(b"")
    elbo = ("--score-type", "elbo")
    fitted = run("fit", folder / "train", "--model", folder / "m", *elbo, *SMALL)
    assert fitted.exit_code == 0, fitted.output
    pd.DataFrame({"a": np.sqrt(np.arange(20.0))}).to_csv(folder / "t.csv", index=False)
    assert run("fit", folder / "t.csv", "--model", folder / "t", *elbo, *SMALL).exit_code == 0
    scored = score_new(folder, "--output", folder / "scored.csv", "--maps", folder / "maps")
    assert scored.exit_code == 0, scored.output
    return folder


def score_new(folder, *arguments):
    return run("score", folder / "new", "--model", folder / "m", *arguments)


@pytest.fixture
def few_at_once(monkeypatch):
    """Score 5 images at a time, and commit after each 5."""
    monkeypatch.setattr(image_batch, "_MOST_CHUNK_IMAGES", 5)
    monkeypatch.setattr(pipeline, "_CHUNKS_PER_COMMIT", 1)


def without_unreadable(folder):
    with pytest.warns(DataWarning) as caught:
        images = ImageFolder(folder)
    assert [str(warning.message).split()[0] for warning in caught] == ["Left", "1"]
    return images


def test_each_image_is_a_row_with_the_score_that_the_detector_gives_it(workspace):
    scored = pd.read_csv(workspace / "scored.csv")
    images = without_unreadable(workspace / "new")
    detector = load_detector(workspace / "m")
    assert list(scored.columns) == COLUMNS
    assert list(scored["path"]) == images.paths
    np.testing.assert_array_equal(scored["score"], detector.score_samples(images))
    np.testing.assert_array_equal(scored["decision"], detector.decision_function(images))
    np.testing.assert_array_equal(scored["is_anomaly"], detector.predict(images) < 0)
    np.testing.assert_array_equal(scored["p_value"], detector.p_values(images))


def test_files_that_cannot_be_read_are_in_the_quarantine_with_the_reason(workspace):
    quarantine = pd.read_csv(workspace / "scored.csv.quarantine.csv")
    assert quarantine.to_dict("records") == [
        {
            "file": str(workspace / "new" / "text.png"),
            "reason": "no image: the file begins with b'hello'",
        },
        {"file": str(workspace / "new" / "zero.jpeg"), "reason": "the file is empty"},
    ]


def test_the_images_are_shown_beside_what_is_expected_and_what_is_unusual(workspace):
    maps = workspace / "maps"
    names = {str(path.relative_to(maps)) for path in maps.rglob("*.png")}
    assert names == {f"sør/{n:02d}.png.png" for n in range(20)} | {"large.jpg.png", "odd.png.png"}
    shown = tf.io.decode_png((maps / "odd.png.png").read_bytes()).numpy()[5::10, 5::10]
    assert shown.shape == (12, 3 * 8, 3)
    original = 255 - bars(1, seed=2)[0]
    np.testing.assert_array_equal(shown[:, :8], np.repeat(original, 3, axis=2))
    explained = load_detector(workspace / "m").explain(original[None])
    expected = np.round(explained["expected"][0])
    np.testing.assert_array_equal(shown[:, 8:16], np.repeat(expected, 3, axis=2))
    red, green, blue = np.moveaxis(shown[:, 16:].astype(int), 2, 0)
    contribution = explained["contribution"][0]
    assert (red[contribution < 0] == 255).all() and (blue[contribution > 0] == 255).all()
    assert (green[np.abs(contribution) > 10] == 0).all()
    np.testing.assert_allclose(green, 255 * (1 - np.minimum(np.abs(contribution) / 10, 1)), atol=1)


@pytest.mark.slow
def test_maps_are_of_the_rows_written(workspace, tmp_path, few_at_once):
    for option in (("--only-anomalies",), ("--top", 3), ("--top", 1, "--only-anomalies")):
        output, maps = tmp_path / f"{len(option)}.csv", tmp_path / f"maps {option}"
        result = score_new(workspace, "--output", output, "--maps", maps, *option, "--quiet")
        assert result.exit_code == 0, result.output
        rows = pd.read_csv(output)["path"]
        assert len(rows) > 0
        expected = {f"{name}.png" for name in rows}
        found = {str(workspace / "new" / path.relative_to(maps)) for path in maps.rglob("*.png")}
        assert found == expected
        one = next(maps.rglob("*.png"))
        assert one.read_bytes() == (workspace / "maps" / one.relative_to(maps)).read_bytes()


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_other_formats_have_the_same_rows(workspace, tmp_path, suffix, few_at_once):
    output = tmp_path / f"o.{suffix}"
    assert score_new(workspace, "--output", output).exit_code == 0
    expected = pd.read_csv(workspace / "scored.csv")
    if suffix == "parquet":
        found = pd.read_parquet(output)
    else:
        found = pd.read_csv(output, sep="\t" if suffix == "tsv" else ",")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_images_go_to_standard_output_too(workspace, tmp_path):
    result = score_new(
        *(workspace, "--output", "-", "--format", "tsv", "--quiet"),
        *("--quarantine", tmp_path / "q.csv"),
    )
    assert result.stdout.splitlines()[0] == "\t".join(COLUMNS)
    assert len(result.stdout.splitlines()) == 23
    assert len(pd.read_csv(tmp_path / "q.csv")) == 2


@pytest.mark.slow
def test_the_summary_counts_images_and_other_thresholds_apply(workspace, tmp_path):
    summary, output = tmp_path / "s.json", tmp_path / "o.csv"
    result = score_new(workspace, "--output", output, "--summary", summary, "--threshold", 1e9)
    assert result.exit_code == 0, result.output
    assert "24 rows read, 22 scored, 2 quarantined; 22 anomalies (100.00%)" in result.stderr
    report = json.loads(summary.read_text())
    assert (report["rows_read"], report["anomalies"], report["moved_columns"]) == (24, 22, [])
    assert pd.read_csv(output)["is_anomaly"].all()
    result = score_new(workspace, "--output", output, "--false-alarm-rate", "0.4")
    assert result.exit_code == 0, result.output
    assert pd.read_csv(output)["is_anomaly"].any()


@pytest.mark.slow
def test_files_patterns_and_folders_can_be_inputs_together(workspace, tmp_path):
    new = workspace / "new"
    result = run(
        *("score", new / "odd.png", new / "sør" / "0*.png", workspace / "train"),
        *("--model", workspace / "m", "--output", tmp_path / "o.csv", "--maps", tmp_path / "maps"),
    )
    assert result.exit_code == 0, result.output
    paths = pd.read_csv(tmp_path / "o.csv")["path"]
    assert len(paths) == 1 + 10 + 40 and paths[0] == str(new / "odd.png")
    assert (tmp_path / "maps" / "new" / "sør" / "03.png.png").exists()
    assert (tmp_path / "maps" / "train" / "00.png.png").exists()


@pytest.mark.slow
def test_more_unreadable_files_than_allowed_end_in_exit_code_3(workspace, tmp_path):
    output = tmp_path / "o.csv"
    assert score_new(workspace, "--output", output, "--max-bad-rows", 2).exit_code == 0
    output.unlink()
    for option in (("--on-bad-row", "fail"), ("--max-bad-rows", 1)):
        result = score_new(workspace, "--output", output, *option)
        assert result.exit_code == 3
        assert "expected at most" in result.stderr and result.stderr.count("\n") == 1
        assert not output.exists()


def test_a_folder_of_which_nothing_can_be_read_has_no_rows(workspace, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("hello")
    output = tmp_path / "o.csv"
    result = run("score", tmp_path / "in", "--model", workspace / "m", "--output", output)
    assert result.exit_code == 0, result.output
    assert list(pd.read_csv(output).columns) == COLUMNS and len(pd.read_csv(output)) == 0


@pytest.fixture
def scored_ends(monkeypatch, few_at_once):
    """Record where the chunks end that are scored; the third ends the first run."""
    scored, ends, running = ImageChunkScorer.scored, [], ["first"]

    def recording(self, source, chunk, images):
        ends.append(chunk.end)
        if chunk.end == (15,) and running:
            running.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        return scored(self, source, chunk, images)

    monkeypatch.setattr(ImageChunkScorer, "scored", recording)
    return ends


@pytest.mark.slow
def test_a_terminated_run_is_resumed_and_gives_the_same_bytes(workspace, tmp_path, scored_ends):
    output = tmp_path / "o.csv"
    result = score_new(workspace, "--output", output)
    assert result.exit_code == 4, result.output
    assert not output.exists() and work_folder(output).is_dir()
    assert scored_ends == [(5,), (10,), (15,)]
    scored_ends.clear()
    result = score_new(workspace, "--output", output, "--resume")
    assert result.exit_code == 0, result.output
    assert (5,) not in scored_ends and scored_ends[-2:] == [(20,), (24,)]
    assert output.read_bytes() == (workspace / "scored.csv").read_bytes()
    assert not work_folder(output).exists()


@pytest.mark.slow
def test_a_run_is_resumed_only_with_its_own_maps(workspace, tmp_path, monkeypatch, scored_ends):
    monkeypatch.chdir(tmp_path)
    assert score_new(workspace, "--output", "o.csv", "--maps", "maps").exit_code == 4
    scored_ends.clear()
    for option in ((), ("--maps", "others")):
        result = score_new(workspace, "--output", "o.csv", "--resume", *option)
        assert_one_line_error(result, "The options changed", "without `resume`")
    assert scored_ends == []
    result = score_new(workspace, "--output", "o.csv", "--resume", "--maps", tmp_path / "maps")
    assert result.exit_code == 0, result.output
    assert (5,) not in scored_ends
    expected = {path.relative_to(workspace) for path in (workspace / "maps").rglob("*.png")}
    assert len(expected) == 22
    assert set(pathlib.Path("maps").rglob("*.png")) == expected


def test_no_more_than_a_few_images_are_decoded_at_once(
    workspace, tmp_path, monkeypatch, few_at_once
):
    sizes, read_images = [], image_batch.read_images

    def counting(paths, image_shape):
        sizes.append(len(paths))
        return read_images(paths, image_shape)

    monkeypatch.setattr(image_batch, "read_images", counting)
    assert score_new(workspace, "--output", tmp_path / "o.csv").exit_code == 0
    assert sizes == [5, 5, 5, 5, 4]
    assert (tmp_path / "o.csv").read_bytes() == (workspace / "scored.csv").read_bytes()


@pytest.mark.slow
def test_fit_takes_size_and_colour_and_names_what_it_leaves_out(workspace, tmp_path, trainings):
    result = run(
        *("fit", workspace / "new", "--model", tmp_path / "m", "--image-size", "10x9"),
        *("--color", "grey", *SMALL),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[:2] == [
        f"left out: {workspace}/new/text.png: no image: the file begins with b'hello'",
        f"left out: {workspace}/new/zero.jpeg: the file is empty",
    ]
    assert "fitted on 22 images of 10 x 9 pixels, 1 channel(s)" in result.stderr
    assert artifact.read(tmp_path / "m")["params"]["image_shape"] == [10, 9, 1]
    assert artifact.read(workspace / "m")["params"]["image_shape"] == [12, 8, 1]


@pytest.mark.slow
def test_proportions_are_kept_where_asked_for_and_stretching_is_said(
    workspace, tmp_path, trainings
):
    for number in range(3):
        write(tmp_path / "in" / f"{number}.png", np.full((20, 40, 1), 200, np.uint8))
    arguments = ("fit", tmp_path / "in", "--model", tmp_path / "m", "--image-size", "12x12", *SMALL)
    said = run(*arguments).stderr.splitlines()
    assert said[0].startswith("3 of 3 images have other proportions than 12 x 12 pixels")
    for resize, how in (("pad", "padded"), ("crop", "cropped")):
        result = run(*arguments, "--resize", resize)
        assert f"fitted on 3 images of 12 x 12 pixels, {how}, 1 channel(s)" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert artifact.read(tmp_path / "m")["schema"]["resize"] == resize


@pytest.mark.slow
def test_sixteen_bits_other_formats_and_skipped_files(workspace, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        image = rng.integers(1000, 1100, (9, 9), dtype=np.uint16)
        (tmp_path / "in").mkdir(exist_ok=True)
        if number % 2:
            Image.fromarray(image).save(tmp_path / "in" / f"{number:02d}.tif")
        else:
            write(tmp_path / "in" / f"{number:02d}.png", image[..., None])
    write(tmp_path / "in" / "zz.png", np.zeros((9, 9, 1), np.uint8))
    (tmp_path / "in" / "a.heic").write_text("x")
    result = run("fit", tmp_path / "in", "--model", tmp_path / "m", "--resize", "crop", *SMALL)
    assert result.exit_code == 0, result.output
    assert "zz.png: expected 16 bits per channel, as most files have. Received: 8" in result.stderr
    assert "Skipped 1 files" in result.stderr and "a.heic" in result.stderr
    info = run("info", tmp_path / "m").stdout
    assert "uint16" in info and "other proportions: cropped" in info
    output, maps = tmp_path / "o.csv", tmp_path / "maps"
    result = run(
        *("score", tmp_path / "in", "--model", tmp_path / "m", "--output", output),
        *("--maps", maps),
    )
    assert result.exit_code == 0, result.output
    assert "warning: Skipped 1 files" in result.stderr
    scored = pd.read_csv(output)
    images = [np.asarray(Image.open(path)).astype(np.uint16) for path in scored["path"]]
    detector = load_detector(tmp_path / "m")
    np.testing.assert_array_equal(scored["score"], detector.score_samples(np.stack(images)))
    assert len(pd.read_csv(f"{output}.quarantine.csv")) == 1
    shown = tf.io.decode_png((maps / "00.png.png").read_bytes()).numpy()
    low, high = images[0].min(), images[0].max()
    assert shown[:, : 9 * 14].max() > 200 > 50 > shown[:, : 9 * 14].min()
    assert high - low < 256


def test_grey_files_can_be_modelled_in_colour(workspace, tmp_path, trainings):
    result = run("fit", workspace / "train", "--model", tmp_path / "m", "--color", "rgb", *SMALL)
    assert result.exit_code == 0, result.output
    assert artifact.read(tmp_path / "m")["params"]["image_shape"] == [12, 8, 3]


def test_info_shows_size_channels_range_and_likelihood(workspace):
    lines = run("info", workspace / "m").stdout.splitlines()
    for line in (
        "images: 12 x 8 pixels",
        "channels: 1 (grey)",
        "values: from 0 to 255, uint8",
        "other proportions: stretched",
        "pixel likelihood: roughness_gaussian",
    ):
        assert line in map(str.strip, lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "t.csv", "--model", "m", "--output", "o.csv"), ("one of images", "t.csv")),
        (("score", "-", "--model", "m", "--output", "o.csv"), ("one of images",)),
        (("score", "new", "--model", "t", "--output", "o.csv"), ("one of tables", "new")),
        (("score", "new/odd.png", "--model", "t", "--output", "o.csv"), ("one of tables",)),
        (
            ("score", "none.png", "--model", "m", "--output", "o.csv"),
            ("none.png", "Check the path"),
        ),
        (("score", "m", "--model", "m", "--output", "o.csv"), ("m: expected .png",)),
        (("score", "new/x*", "--model", "m", "--output", "o.csv"), ("expected .png",)),
        (("score", "new", "new", "--model", "m", "--output", "o.csv"), ("each image once",)),
        (("score", "new", "--model", "m", "--output", "folder/"), ("a file for the output",)),
        (
            ("score", "new", "--model", "m", "--output", "o.csv", "--maps", "new"),
            ("a place of its own", "new"),
        ),
        (("score", "new", "--model", "m", "--output", "-", "--resume"), ("resume",)),
        (("fit", "m", "--model", "m2"), ("expected a folder with .png",)),
        (("fit", "train", "--model", "m2", "--image-size", "12"), ("--image-size", "12")),
        (("fit", "train", "--model", "m2", "--image-size", "4x40"), ("--image-size", "4x40")),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(workspace, monkeypatch, arguments, words):
    monkeypatch.chdir(workspace)
    assert_one_line_error(run(*arguments), *words)
    assert not pathlib.Path("o.csv").exists() and not pathlib.Path("m2").exists()


@pytest.mark.parametrize(
    ("command", "source", "option"),
    [
        ("fit", "train", ("--numeric", "a")),
        ("fit", "train", ("--categorical", "a")),
        ("fit", "train", ("--id", "a")),
        ("fit", "train", ("--drop", "a")),
        ("fit", "train", ("--delimiter", ";")),
        ("fit", "train", ("--encoding", "utf-8")),
        ("fit", "t.csv", ("--image-size", "8x8")),
        ("fit", "t.csv", ("--color", "grey")),
        ("score", "new", ("--columns", "a")),
        ("score", "new", ("--explain", "1")),
        ("score", "new", ("--delimiter", ";")),
        ("score", "new", ("--encoding", "latin-1")),
        ("score", "new", ("--chunk-rows", "10")),
        ("score", "t.csv", ("--maps", "maps2")),
    ],
)
def test_options_of_tables_and_of_images_are_refused_by_name(
    workspace, monkeypatch, command, source, option
):
    monkeypatch.chdir(workspace)
    if command == "fit":
        target = ("--model", "m2")
    else:
        target = ("--model", "t" if source == "t.csv" else "m", "--output", "o.csv")
    name = option[0] if command == "fit" else option[0][2:].replace("-", "_")
    assert_one_line_error(run(command, source, *target, *option), name, "Leave it out")


@pytest.mark.slow
def test_an_earlier_runs_maps_are_no_images_to_score(workspace, tmp_path):
    write(tmp_path / "in" / "a.png", bars(1, seed=3)[0])
    for _ in range(2):
        result = run(
            *("score", tmp_path / "in", "--model", workspace / "m"),
            *("--output", tmp_path / "o.csv", "--maps", tmp_path / "in" / "maps"),
        )
        assert result.exit_code == 0, result.output
        assert len(pd.read_csv(tmp_path / "o.csv")) == 1


@pytest.mark.parametrize("name", ["maps/00.png", "maps/notes.txt"])
def test_maps_never_overwrite_files_that_are_none(workspace, tmp_path, name):
    (tmp_path / "maps").mkdir()
    (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    result = run(
        *("score", workspace / "train", "--model", workspace / "m"),
        *("--output", tmp_path / "o.csv", "--maps", tmp_path / "maps"),
    )
    words = ("Expected a new or empty folder for the maps", str(tmp_path / "maps"), "Name another")
    assert_one_line_error(result, *words)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_maps_go_to_an_empty_folder_and_there_again(workspace, tmp_path):
    (tmp_path / "maps").mkdir()
    for source in (workspace / "new" / "odd.png", workspace / "train"):
        result = run(
            *("score", source, "--model", workspace / "m"),
            *("--output", tmp_path / "o.csv", "--maps", tmp_path / "maps"),
        )
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "maps").glob("*.png"))) == 1 + 40


def test_two_images_never_share_a_map(workspace, tmp_path):
    for name in ("a.jpg", "a.jpg.png", "a.png"):
        write(tmp_path / "in" / name, bars(1, seed=3)[0])
    result = run(
        *("score", tmp_path / "in", "--model", workspace / "m"),
        *("--output", tmp_path / "o.csv", "--maps", tmp_path / "maps"),
    )
    assert result.exit_code == 0, result.output
    maps = sorted(path.name for path in (tmp_path / "maps").glob("*.png"))
    assert maps == ["a.jpg.png", "a.jpg.png.png", "a.png.png"]


def test_a_model_of_the_other_kind_is_refused_in_python_too(workspace):
    table_detector = load_detector(workspace / "t")
    with pytest.raises(ValueError, match="the model is one of tables"):
        score_files(workspace / "new", table_detector, workspace / "o.csv")
    image_detector = load_detector(workspace / "m")
    with pytest.raises(ValueError, match="the model is one of images"):
        score_files(workspace / "t.csv", image_detector, workspace / "o.csv")


def test_a_model_of_images_of_another_range_cannot_score_files(workspace, trainings):
    detector = VAEDetector(hidden_units=(8,), filters=(4,), max_steps=2).fit(
        np.full((4, 8, 8), 0.5)
    )
    with pytest.raises(ValueError, match="images of uint8 or uint16, as image files are.*float32"):
        score_files(workspace / "new", detector, workspace / "o.csv")


@pytest.mark.slow
def test_a_process_says_no_more_than_it_should(workspace, tmp_path):
    result = run_process(
        *("score", workspace / "new", "--model", workspace / "m", "--output", tmp_path / "o.csv"),
        "--quiet",
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "o.csv").read_bytes() == (workspace / "scored.csv").read_bytes()


def test_every_option_of_fit_for_images_is_documented():
    options = [param.opts[0] for param in cli.fit.params if param.name in FIT_OPTIONS["images"]]
    assert options == [
        "--image-size",
        "--tiles",
        "--augmentation",
        "--backbone",
        "--color",
        "--resize",
    ]
    assert [option for option in options if option not in PAGES] == []
