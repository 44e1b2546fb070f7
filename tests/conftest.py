"""Fitted detectors that the tests share, each fitted once, when first asked for."""

import os

# Read once, when TensorFlow is imported; handed on to the processes that tests start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gc
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

# Machines are shared: how long an example takes says nothing.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=50, **UNTIMED)
settings.register_profile("thorough", max_examples=100, **UNTIMED)  # for .ci/run
settings.load_profile("quick")


# Files whose tests share the detectors below: run in one process, each is fitted once.
SHARE_DETECTORS = {
    f"tests/test_{name}.py"
    for name in (
        *("artifact", "batch", "detector", "detector_options", "detector_tables", "digits"),
        *("displays", "export", "forks", "frame_scorer", "frames", "image_export", "image_laws"),
        *("keras_settings", "neighbourhood", "occlusion", "reporting", "scoring", "spark"),
    )
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files, and one of them all files that share detectors."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByDetectors(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "shared detectors" if file in SHARE_DETECTORS else file

    return ByDetectors(config, log)


def pytest_collection_finish():
    """Leave what has been imported, much of it TensorFlow, out of each garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def can_cross_fit():
    """The function that says whether a fit is cross-fitted; here it is not, for that takes long.

    Tests that are about cross-fitting, or about all defaults, use ``cross_fitting``.
    """
    from vae_anomaly.detectors import base

    with pytest.MonkeyPatch.context() as patch:
        original = base.can_cross_fit
        patch.setattr(base, "can_cross_fit", lambda is_validation: False)
        yield original


@pytest.fixture(scope="module")
def cross_fitting(can_cross_fit):
    """Cross-fit in this module, from when this is first asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.detectors.base.can_cross_fit", can_cross_fit)
        yield


@pytest.fixture(scope="module")
def loaded_once():
    """Load each saved detector once in this module, whatever loads it; traces are kept with it."""
    from vae_anomaly.detectors import state

    load, loaded = state.load_detector, {}

    def load_detector(folder):
        files = sorted(pathlib.Path(folder).glob("*"))
        key = tuple((path.resolve(), path.stat().st_mtime_ns) for path in files)
        if key not in loaded:
            loaded[key] = load(folder)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "load_detector", load_detector)
        yield


@pytest.fixture(scope="session")
def rows():
    """400 rows of a correlated Gaussian; the columns have units of their own."""
    rng = np.random.default_rng(7)
    mixing = np.array([[1, 0, 0, 0], [0.8, 0.6, 0, 0], [0.5, 0.5, 0.7, 0], [-0.6, 0.2, 0.3, 0.7]])
    return rng.normal(size=(400, 4)) @ mixing.T * [1, 10, 0.1, 5] + [0, 100, 0, -3]


@pytest.fixture(scope="session")
def detector(rows):
    from vae_anomaly import VAEDetector

    return VAEDetector(hidden_units=(16,), max_steps=300, patience=300, random_state=0).fit(rows)


@pytest.fixture(scope="session")
def detectors(rows, detector):
    """A detector fitted on ``rows`` for each type of score; all have the same weights."""
    from sklearn.base import clone

    from vae_anomaly.scoring.tables import SCORE_TYPES

    def train(trainer, *args, **kwargs):
        trainer.model.set_weights(detector.scorer_.model.get_weights())
        return detector.history_

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_anomaly.vae.training.Trainer.train", train)
        others = {
            score_type: clone(detector).set_params(score_type=score_type).fit(rows)
            for score_type in SCORE_TYPES
            if score_type != detector.score_type
        }
    return {detector.score_type: detector, **others}


@pytest.fixture(scope="session")
def table():
    """400 rows of every kind of column, with missing cells; the columns depend on each other."""
    rng = np.random.default_rng(8)
    n = 400
    city = rng.choice(["Bergen", "Oslo", "Tromsø"], size=n, p=[0.2, 0.7, 0.1])
    frame = pd.DataFrame(
        {
            "amount": rng.lognormal(1.0, 0.8, size=n) * np.where(city == "Oslo", 2.0, 1.0),
            "count": rng.poisson(3, size=n),
            "city": city,
            "member": pd.array(rng.random(n) < 0.3, dtype="boolean"),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 365, n), unit="D"),
            "grade": pd.Categorical(rng.choice(["a", "b"], size=n), categories=["a", "b", "c"]),
        }
    )
    for name in ("amount", "city", "member", "day", "grade"):
        frame.loc[rng.random(n) < 0.1, name] = None
    return frame


@pytest.fixture(scope="session")
def table_detector(table):
    from vae_anomaly import VAEDetector

    return VAEDetector(hidden_units=(16,), max_steps=200, random_state=0).fit(table)


@pytest.fixture(scope="session")
def small_table_detector(table):
    """A detector that is soon loaded, of ``table`` with a column to keep and one to drop."""
    from small_detectors import SMALL

    from vae_anomaly import VAEDetector

    kinds = {"note": "id", "junk": "dropped"}
    return VAEDetector(**SMALL, kinds=kinds).fit(table.assign(note=range(len(table)), junk=1))


@pytest.fixture(scope="session")
def table_autoencoder(table):
    from vae_anomaly import AutoencoderDetector

    return AutoencoderDetector(hidden_units=(16,), max_steps=40, random_state=0).fit(table)


@pytest.fixture(scope="session")
def digits():
    """400 handwritten digits, uint8 (n, 8, 8)."""
    from sklearn.datasets import load_digits

    return (load_digits().images[:400] * 15.9).astype(np.uint8)


@pytest.fixture(scope="session")
def stripes():
    """60 images of coloured stripes, uint8 (n, 9, 13, 3): odd sizes, not square."""
    rng = np.random.default_rng(9)
    images = rng.integers(0, 40, size=(60, 9, 13, 3))
    first, colour = rng.integers(0, 3, size=60), rng.integers(80, 215, size=(60, 3))
    for image, start, rgb in zip(images, first, colour, strict=True):
        image[:, start::3] += rgb
    return images.astype(np.uint8)


@pytest.fixture(scope="session")
def image_detector(digits):
    from vae_anomaly import VAEDetector

    return VAEDetector(hidden_units=(16,), max_steps=30, random_state=0).fit(digits)


@pytest.fixture(scope="session")
def colour_image_detector(stripes):
    from vae_anomaly import VAEDetector

    return VAEDetector(hidden_units=(16,), max_steps=30, random_state=0).fit(stripes)


@pytest.fixture(scope="session")
def image_autoencoder(digits):
    from vae_anomaly import AutoencoderDetector

    return AutoencoderDetector(hidden_units=(16,), max_steps=30, random_state=0).fit(digits)


@pytest.fixture(scope="session")
def leave_out_training():
    """Return a function that patches ``fit`` not to train; it returns what will be asked for."""

    def leave_out(patch):
        calls = []

        def train(trainer, is_validation, **kwargs):
            calls.append({**vars(trainer), "is_validation": is_validation, **kwargs})
            return {"step": [0]}

        patch.setattr("vae_anomaly.vae.training.Trainer.train", train)
        return calls

    return leave_out


@pytest.fixture
def trainings(monkeypatch, leave_out_training):
    """Skip training; the arguments it was called with, one dict per fit.

    For tests of what ``fit`` makes of its input, whatever the weights.
    """
    return leave_out_training(monkeypatch)


@pytest.fixture(scope="session")
def fresh_python():
    """Run code in a new interpreter; return what it prints."""

    def run(code, *args):
        process = subprocess.run(
            [
                *(sys.executable, "-W", "error::UserWarning", "-W", "ignore:few calibration rows"),
                *("-W", "ignore:expected images that hardly differ"),
                *("-c", code, *map(str, args)),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


@pytest.fixture
def csv(tmp_path):
    """A function that writes text, or bytes, as a CSV file, and returns its path."""

    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def parquet(tmp_path):
    """A function that writes columns as a Parquet file, and returns its path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(columns, **options):
        path = tmp_path / "table.parquet"
        pq.write_table(pa.table(columns), path, **options)
        return path

    return write
