"""Saved detectors: what is in the folder, what comes back, what is refused."""

import copy
import errno
import json
import pathlib
import random
import runpy
from contextlib import suppress

import keras
import numpy as np
import pytest

from vae_anomaly import AutoencoderDetector, VAEDetector, atomic, load_detector
from vae_anomaly.detectors import artifact, description
from vae_anomaly.detectors.artifact import ArtifactError

ATTACK = runpy.run_path(
    str(pathlib.Path(__file__).parents[1] / "benchmarks" / "robustness" / "artifacts.py")
)
FILES = {"detector.json", "manifest.json", "weights.npz"}


@pytest.fixture(scope="module")
def saved(table_detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    table_detector.save(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of the folder to damage."""
    (tmp_path / "m").mkdir()
    for path in saved.iterdir():
        (tmp_path / "m" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "m"


def assert_refused(folder, word):
    with pytest.raises(ArtifactError, match=word) as caught:
        load_detector(folder)
    assert "\n" not in str(caught.value)


def test_the_folder_holds_json_and_plain_arrays(saved):
    assert {path.name for path in saved.iterdir()} == FILES
    for name in ("detector.json", "manifest.json"):
        assert isinstance(json.loads((saved / name).read_text()), dict)
    with np.load(saved / "weights.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind == "f" for name in archive.files)


def test_weights_are_named_by_their_place(saved, table_detector):
    with np.load(saved / "weights.npz") as archive:
        encoder = {name for name in archive.files if name.startswith("encoder/")}
        assert encoder == {
            f"encoder/{layer}/{part}"
            for layer in ("hidden_0", "z_mean", "z_log_var_raw")
            for part in ("kernel", "bias")
        }
        assert {"preprocessor/scale", "likelihood/raw_log_var", "scorer/noise"} < set(archive.files)
        np.testing.assert_array_equal(
            archive["decoder/outputs/bias"],
            table_detector.scorer_.model.decoder.get_layer("outputs").bias,
        )


def test_names_do_not_depend_on_what_a_process_built_before(trainings, digits, tmp_path):
    for name in "ab":
        AutoencoderDetector(filters=(4,), hidden_units=(4,), random_state=0).fit(digits).save(
            tmp_path / name
        )
    for file in ("detector.json", "weights.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_folder_says_which_input_it_is_for(saved, image_detector, tmp_path):
    image_detector.save(tmp_path / "m")
    assert artifact.read(saved)["input"] == "table"
    assert artifact.read(tmp_path / "m")["input"] == "images"


@pytest.mark.parametrize(
    "fixture", ["table_detector", pytest.param("table_autoencoder", marks=pytest.mark.slow)]
)
def test_a_detector_scores_bit_for_bit_as_before(request, fixture, table, tmp_path):
    detector = request.getfixturevalue(fixture)
    detector.save(tmp_path / "m")
    twin = load_detector(tmp_path / "m")
    np.testing.assert_array_equal(twin.score_samples(table), detector.score_samples(table))
    np.testing.assert_array_equal(twin.p_values(table), detector.p_values(table))
    np.testing.assert_array_equal(twin.transform(table), detector.transform(table))
    assert twin.offset_ == detector.offset_


def test_everything_that_was_learned_comes_back(saved, table_detector):
    twin = load_detector(saved)
    assert type(twin) is VAEDetector
    assert twin.get_params() == table_detector.get_params()
    assert twin.history_ == table_detector.history_
    assert twin.n_features_in_ == table_detector.n_features_in_
    assert list(twin.feature_names_in_) == list(table_detector.feature_names_in_)


def test_a_detector_that_was_loaded_can_be_fitted_anew(trainings, saved, rows):
    twin = load_detector(saved).fit(rows)
    assert twin.score_samples(rows).shape == (400,)


def test_a_moved_threshold_survives(table_detector, table, tmp_path):
    detector = copy.deepcopy(table_detector)
    detector.offset_ = float(np.median(detector.score_samples(table)))
    detector.save(tmp_path / "m")
    twin = load_detector(tmp_path / "m")
    assert twin.offset_ == detector.offset_
    assert 0.4 < (twin.predict(table) == -1).mean() < 0.6


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_changed_byte_is_refused(copied, name, place):
    content = bytearray((copied / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (copied / name).write_bytes(content)
    assert_refused(copied, f"{name} is damaged")


def test_a_changed_byte_of_the_manifest_is_refused_or_changes_no_more_than_a_version(copied):
    content = (copied / "manifest.json").read_bytes()
    expected = {**artifact.read(copied), "versions": None}
    n_refused = 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        (copied / "manifest.json").write_bytes(changed)
        try:
            assert {**artifact.read(copied), "versions": None} == expected
        except ArtifactError:
            n_refused += 1
    assert n_refused > 150  # the hashes alone are 128 bytes


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_truncated_file_is_refused(copied, name):
    (copied / name).write_bytes((copied / name).read_bytes()[:-20])
    assert_refused(copied, "damaged")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_refused(copied, name):
    (copied / name).unlink()
    assert_refused(copied, name)


def test_a_folder_of_another_program_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": "something else"}')
    assert_refused(tmp_path, "vae_anomaly")


def test_what_is_not_a_folder_is_refused(tmp_path):
    assert_refused(tmp_path / "nothing", "not a folder")


@pytest.mark.parametrize("version", [artifact.FORMAT_VERSION - 1, 99, None])
def test_another_format_is_refused(copied, version):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "format_version": version}))
    assert_refused(copied, f"Received: {version}. Load it with the version of vae_anomaly that")


def test_a_damaged_folder_is_refused_before_tensorflow_is_imported(copied, fresh_python):
    (copied / "weights.npz").write_bytes(b"")
    code = (
        "import sys, vae_anomaly\n"
        "try: vae_anomaly.load_detector(sys.argv[1])\n"
        "except ValueError as error: print('damaged' in str(error), 'tensorflow' in sys.modules)"
    )
    assert fresh_python(code, copied).split() == ["True", "False"]


@pytest.mark.slow
def test_another_process_scores_bit_for_bit_the_same(table_detector, saved, table, fresh_python):
    code = (
        "import sys, vae_anomaly\n"
        "import pandas as pd\n"
        "detector = vae_anomaly.load_detector(sys.argv[1])\n"
        "print(detector.score_samples(pd.read_pickle(sys.argv[2])).tobytes().hex())"
    )
    table.to_pickle(saved.parent / "table.pickle")
    scores = bytes.fromhex(fresh_python(code, saved, saved.parent / "table.pickle"))
    assert scores == table_detector.score_samples(table).tobytes()


def test_saving_again_replaces_the_detector(copied, detector, rows):
    detector.save(copied)
    assert {path.name for path in copied.iterdir()} == FILES
    np.testing.assert_array_equal(
        load_detector(copied).score_samples(rows), detector.score_samples(rows)
    )


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_folder_with_a_file_of_another_is_not_replaced(detector, copied, tmp_path, is_saved):
    folder = copied if is_saved else tmp_path / "papers"
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match=r"thesis\.txt"):
        detector.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_link_to_a_detector_stays_one(detector, copied, rows):
    link = copied.parent / "current"
    link.symlink_to("m")
    detector.save(link)
    assert link.is_symlink()
    for folder in (link, copied):
        np.testing.assert_array_equal(
            load_detector(folder).score_samples(rows), detector.score_samples(rows)
        )


def test_a_folder_with_another_manifest_is_not_replaced(detector, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web application"}')
    with pytest.raises(FileExistsError, match="something else"):
        detector.save(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == '{"name": "a web application"}'


def test_a_file_is_not_replaced(detector, tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(FileExistsError, match="is no folder"):
        detector.save(tmp_path / "m")
    assert (tmp_path / "m").read_text() == "mine"


def test_missing_parent_folders_are_made(detector, tmp_path):
    detector.save(tmp_path / "a" / "b" / "m")
    assert {path.name for path in (tmp_path / "a" / "b" / "m").iterdir()} == FILES


def test_numpy_numbers_among_the_parameters_can_be_saved(trainings, rows, tmp_path):
    detector = VAEDetector(
        score_type="elbo",
        hidden_units=np.array([4]),
        latent_dim=np.int64(2),
        max_steps=np.int64(3),
        learning_rate=np.float32(0.01),
        variance=np.float32(0.5),
        n_draws=np.int32(2),
        random_state=np.random.RandomState(0),
    ).fit(rows)
    detector.save(tmp_path / "m")
    twin = load_detector(tmp_path / "m")
    np.testing.assert_array_equal(twin.score_samples(rows), detector.score_samples(rows))
    assert twin.random_state is None


def test_a_function_cannot_be_saved(trainings, rows, tmp_path):
    detector = AutoencoderDetector(hidden_units=(4,), activation=lambda x: x).fit(rows)
    with pytest.raises(ValueError, match="`activation` is a name"):
        detector.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(detector, tmp_path):
    (tmp_path / "m").mkdir()
    detector.save(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == FILES


@pytest.mark.slow
def test_a_save_that_fails_leaves_what_was_there(detector, copied, table, monkeypatch):
    before = load_detector(copied).score_samples(table)

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(artifact, "write_arrays", full)
    with pytest.raises(OSError, match="disk full"):
        detector.save(copied)
    monkeypatch.undo()
    assert [path.name for path in copied.parent.iterdir()] == ["m"]
    np.testing.assert_array_equal(load_detector(copied).score_samples(table), before)


@pytest.mark.slow
def test_a_save_that_is_killed_while_it_replaces_leaves_the_old_detector(
    detector, copied, table, rows, monkeypatch
):
    before = load_detector(copied).score_samples(table)

    def unable(*_):
        raise OSError(22, "Invalid argument")

    def killed(*_):
        raise SystemExit

    # A system that cannot exchange names, and a process that ends between two renames.
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_rename_exchange", unable)
        patch.setattr(atomic, "_put_back", killed)
        rename = atomic.os.rename
        patch.setattr(atomic.os, "rename", lambda a, b: killed() if b == copied else rename(a, b))
        with pytest.raises(SystemExit):
            detector.save(copied)
    assert not copied.exists()
    with pytest.warns(UserWarning, match="left by a process that was killed"):
        again = load_detector(copied)
    np.testing.assert_array_equal(again.score_samples(table), before)
    assert [path.name for path in copied.parent.iterdir()] == ["m"]
    detector.save(copied)
    np.testing.assert_array_equal(
        load_detector(copied).score_samples(rows), detector.score_samples(rows)
    )


def test_a_target_that_cannot_be_written_is_found_and_nothing_left_there(tmp_path):
    artifact.check_target(tmp_path / "a" / "b" / "m")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PermissionError, match="file/m: Not a directory"):
        artifact.check_target(tmp_path / "file" / "m")
    for name in ("n" * 255, "a/" + "n" * 255):
        with pytest.raises(PermissionError, match="name too long"):
            artifact.check_target(tmp_path / name)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileExistsError, match="loop"):
        artifact.check_target(tmp_path / "loop")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_a_target_where_no_folder_can_be_made_is_found_whatever_its_permissions(
    tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "of a read-only file system")

    monkeypatch.setattr(atomic.Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match="can be written"):
        artifact.check_target(tmp_path / "m")


def test_the_schema_can_be_read_without_tensorflow(saved):
    columns = {column["name"]: column for column in artifact.read(saved)["schema"]}
    assert columns["amount"]["kind"] == "numeric"
    assert columns["amount"]["scale"] > 0
    assert columns["city"]["levels"] == ["Bergen", "Oslo", "Tromsø"]
    assert columns["day"]["units"].startswith("seconds")
    assert 0.05 < columns["city"]["missing_share"] < 0.15
    assert all(column["treatment"] for column in columns.values())


# Folders from anybody


@pytest.fixture(scope="module")
def folders(saved, table_autoencoder, image_detector, tmp_path_factory):
    """A folder of saved detectors, as the attack takes them."""
    folder = tmp_path_factory.mktemp("folders")
    (folder / "table").symlink_to(saved)
    table_autoencoder.save(folder / "autoencoder")
    image_detector.save(folder / "images")
    ATTACK["save_given_networks"](folder)
    return folder


# These take seconds, for what they are is allowed.
LONG = ("table_with_many_categories", "table_with_a_gibibyte_of_zeros")
# These take seconds to be made.
LARGE = ("table_with_many_small_lists", "table_with_many_members", "table_with_wide_layers")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case.__name__, marks=[pytest.mark.slow] if case.__name__ in LARGE else [])
        for case in ATTACK["CRAFTED"]
        if case.__name__ not in LONG
    ],
)
def test_a_crafted_folder_is_refused(folders, tmp_path, case):
    number = [crafted.__name__ for crafted in ATTACK["CRAFTED"]].index(case)
    ATTACK["craft"](folders, tmp_path / "m", number, random.Random(0))
    with pytest.raises(ArtifactError) as caught:
        load_detector(tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    if case.startswith("given"):
        load_detector(folders / "given")  # nothing of it is left behind


@pytest.mark.filterwarnings("ignore")  # of numbers that overflow
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_a_folder_with_changed_members_is_refused_or_loads(folders, tmp_path, seed):
    rng = random.Random(seed)
    for number in range(5):
        ATTACK["craft"](folders, tmp_path / f"{number}", 10**9, rng)
        with suppress(ArtifactError):
            load_detector(tmp_path / f"{number}")


@pytest.mark.slow
def test_what_is_saved_is_within_the_limits_of_what_loads(trainings, rows, tmp_path):
    detector = VAEDetector(hidden_units=[2] * 65).fit(rows)
    with pytest.raises(ValueError, match="can be saved: model.hidden_units: expected maxItems 64"):
        detector.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_activations_are_those_of_keras():
    functions = {name for name in dir(keras.activations) if not name.startswith("_")}
    # These need a width that is even, or give numbers that do not train.
    others = {"deserialize", "get", "serialize", "glu", "sparsemax"}
    assert functions - others == set(description.ACTIVATIONS)
