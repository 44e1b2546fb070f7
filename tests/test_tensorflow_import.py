"""TensorFlow is imported without its greetings, unless they are asked for."""

import os
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest

from vae_anomaly import VAEDetector

THREADS = "TF_NUM_INTRAOP_THREADS"
IMPORT = "from vae_anomaly.tensorflow_import import import_tensorflow; import_tensorflow()"


def stderr_of(code, level=None, path=()):
    """What a fresh interpreter writes to stderr, given TensorFlow's log level."""
    environment = {name: value for name, value in os.environ.items() if "CPP_MIN" not in name}
    environment |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), *sys.path])
    command = [sys.executable, "-W", "ignore", "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return process.stderr


@pytest.fixture
def stand_in(tmp_path):
    """A folder with a module ``tensorflow`` that greets, as TensorFlow does, and says more."""
    greeting = r"b'I0000 00:00:17.5  17 port.cc:153] oneDNN is on\nours\n'"
    (tmp_path / "tensorflow.py").write_text(f"import os; os.write(2, {greeting})")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from vae_anomaly import VAEDetector; VAEDetector(max_steps=1).fit([[1.0], [2.0], [3.5]])\n"
        "import os; assert 'TF_CPP_MIN_LOG_LEVEL' not in os.environ",
        "from vae_anomaly.vae import VAE",
    ],
)
def test_nothing_is_written_to_stderr(code):
    assert stderr_of(code) == ""


@pytest.mark.parametrize(("level", "greets"), [(None, False), ("0", True), ("1", False)])
def test_what_the_user_asked_to_see_is_shown_and_what_is_no_greeting_too(stand_in, level, greets):
    said = stderr_of(IMPORT, level, [stand_in])
    assert ("oneDNN" in said) == greets
    assert said.endswith("ours\n")


def test_an_import_that_fails_says_why(stand_in):
    (stand_in / "tensorflow.py").write_text("import nowhere")
    code = f"try:\n    {IMPORT}\nexcept ImportError as error:\n    import os; os.write(2, b'why')"
    assert stderr_of(code, path=[stand_in]) == "why"


COMMAND = """
import os, sys
from click.testing import CliRunner
from vae_anomaly import cli
model, table = sys.argv[1:]
for arguments in (
    ["score", table, "--model", model, "--output", table + ".out.csv"],
    ["calibrate", model, table],
    ["report", model, table, "--output", table + ".html"],
):
    assert CliRunner().invoke(cli.main, arguments).exit_code == 0, arguments
    print(os.environ.pop("TF_NUM_INTRAOP_THREADS", None))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "used"), [(None, "1"), ("3", "3")])
def test_a_command_that_scores_a_table_has_one_thread_per_operation_unless_the_user_chose(
    detector, rows, fresh_python, monkeypatch, tmp_path, chosen, used
):
    monkeypatch.delenv(THREADS, raising=False)
    if chosen:
        monkeypatch.setenv(THREADS, chosen)
    detector.save(tmp_path / "model")
    pd.DataFrame(rows, columns=detector.scorer_.preprocessor.column_names).to_csv(
        tmp_path / "rows.csv", index=False
    )
    # Once TensorFlow is imported, its threads are not chosen again.
    said = fresh_python(COMMAND, tmp_path / "model", tmp_path / "rows.csv").split()
    assert said == [used, "None", "None"]


@pytest.mark.parametrize(
    ("threads", "n_chunks"), [("1", 2), ("3", 3), ("64", 8), ("", None), ("0", None)]
)
def test_as_many_chunks_are_scored_at_once_as_there_are_threads_between_operations(
    detector, monkeypatch, threads, n_chunks
):
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", threads)
    of_processors = max(2, min(8, joblib.cpu_count()))
    assert detector.scorer_.chunks_at_once == (n_chunks or of_processors)


@pytest.mark.slow
@pytest.mark.parametrize(("n_columns", "hidden_units"), [(4, (128, 128)), (320, (512,))])
def test_scores_do_not_depend_on_the_number_of_threads(
    fresh_python, monkeypatch, tmp_path, n_columns, hidden_units
):
    # Products over few and over many values, which a library may share out in other ways.
    X = np.random.default_rng(0).normal(size=(500, n_columns))
    np.save(tmp_path / "X.npy", X)
    detector = VAEDetector(max_steps=5, hidden_units=hidden_units, random_state=0)
    detector.fit(X).save(tmp_path / "model")
    code = (
        "import sys, numpy as np; from vae_anomaly import load_detector; "
        "detector = load_detector(sys.argv[1] + '/model'); "
        "print(detector.score_samples(np.load(sys.argv[1] + '/X.npy')).tobytes().hex())"
    )
    found = set()
    for count in ("1", "4"):
        monkeypatch.setenv(THREADS, count)
        found.add(fresh_python(code, tmp_path))
    assert len(found) == 1
