"""Saved detectors: what is in the folder, what comes back, what is refused."""

import copy
import json
import pickle

import joblib
import numpy as np
import pytest

from vae_anomaly import VAEDetector, artifact, load_detector
from vae_anomaly.artifact import ArtifactError

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


@pytest.mark.parametrize("fixture", ["table_detector", "table_autoencoder"])
@pytest.mark.parametrize(
    "again",
    [
        lambda detector, path: (detector.save(path / "m"), load_detector(path / "m"))[1],
        lambda detector, path: pickle.loads(pickle.dumps(detector)),
        lambda detector, path: copy.deepcopy(detector),
        lambda detector, path: (
            joblib.dump(detector, path / "d.joblib"),
            joblib.load(path / "d.joblib"),
        )[1],
    ],
    ids=["load_detector", "pickle", "deepcopy", "joblib"],
)
def test_a_detector_scores_bit_for_bit_as_before(request, fixture, again, table, tmp_path):
    detector = request.getfixturevalue(fixture)
    twin = again(detector, tmp_path)
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
    twin.fit(np.random.default_rng(0).normal(size=(40, 2)))  # it can be fitted anew


def test_a_moved_threshold_survives(table_detector, table, tmp_path):
    detector = copy.deepcopy(table_detector)
    detector.offset_ = float(np.median(detector.score_samples(table)))
    detector.save(tmp_path / "m")
    assert load_detector(tmp_path / "m").offset_ == detector.offset_
    assert 0.4 < (load_detector(tmp_path / "m").predict(table) == -1).mean() < 0.6


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_one_changed_byte_is_refused(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    assert_refused(copied, f"{name} is damaged")


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


def test_a_newer_format_is_refused(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    assert_refused(copied, "99")


def test_a_damaged_folder_is_refused_before_tensorflow_is_imported(copied, fresh_python):
    (copied / "weights.npz").write_bytes(b"")
    code = (
        "import sys, vae_anomaly\n"
        "try: vae_anomaly.load_detector(sys.argv[1])\n"
        "except ValueError as error: print('damaged' in str(error), 'tensorflow' in sys.modules)"
    )
    assert fresh_python(code, copied).split() == ["True", "False"]


def test_saving_again_replaces_the_detector(copied, detector, rows):
    detector.save(copied)
    assert {path.name for path in copied.iterdir()} == FILES
    np.testing.assert_array_equal(
        load_detector(copied).score_samples(rows), detector.score_samples(rows)
    )


def test_another_folder_is_not_replaced(detector, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        detector.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(detector, tmp_path):
    (tmp_path / "m").mkdir()
    detector.save(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == FILES


def test_a_save_that_fails_leaves_what_was_there(detector, copied, table, monkeypatch):
    before = load_detector(copied).score_samples(table)

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(artifact.np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        detector.save(copied)
    monkeypatch.undo()
    assert [path.name for path in copied.parent.iterdir()] == ["m"]
    np.testing.assert_array_equal(load_detector(copied).score_samples(table), before)


def test_the_schema_can_be_read_without_tensorflow(saved):
    columns = {column["name"]: column for column in artifact.read(saved)["schema"]}
    assert columns["amount"]["kind"] == "numeric"
    assert columns["amount"]["scale"] > 0
    assert columns["city"]["levels"] == ["Bergen", "Oslo", "Tromsø"]
    assert columns["day"]["units"].startswith("seconds")
    assert 0.05 < columns["city"]["missing_share"] < 0.15
    assert all(column["treatment"] for column in columns.values())
