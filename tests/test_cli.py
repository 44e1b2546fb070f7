"""The command line: what each command writes, says and refuses, and its exit codes."""

import contextlib
import decimal
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from vae_anomaly import VAEDetector, cli
from vae_anomaly.batch import progress
from vae_anomaly.detectors import artifact
from vae_anomaly.detectors.state import load_detector
from vae_anomaly.scoring.tables import SCORE_TYPES

pytestmark = pytest.mark.usefixtures("loaded_once")
ROOT = pathlib.Path(__file__).parents[1]
PAGES = "".join(path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
SMALL = ("--max-steps", "20", "--hidden-units", "8", "--quiet")
# For what happens before the training and after the calibration.
SMALLER = ("--score-type", "elbo", *SMALL)


def run_process(*arguments, cwd=None):
    """Run the command line as a process of its own, as a user does: without the tests' settings."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore,default::UserWarning"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", "vae_anomaly", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=environment,
        check=False,
    )


def run(*arguments):
    """Run the command line in this process, where TensorFlow is already loaded."""
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def mixed_table(n_rows=120, seed=0):
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 10, n_rows)
    frame = pd.DataFrame(
        {
            "customer": [f"c{index:04d}" for index in range(n_rows)],
            "size": size,
            "count": rng.poisson(3, n_rows).astype(float),
            "city": rng.choice(["Oslo", "Bergen, west", 'the "old" town'], n_rows),
            "paid": rng.choice(["true", "false"], n_rows),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, n_rows), "D"),
        }
    )
    frame.loc[::7, "size"] = np.nan
    frame.loc[3::11, "city"] = None
    return frame


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with train.csv, new.csv, a model, what its fit said, and scored.csv."""
    folder = tmp_path_factory.mktemp("cli")
    mixed_table().to_csv(folder / "train.csv", index=False)
    mixed_table(60, seed=1).to_csv(folder / "new.csv", index=False)
    train, model = folder / "train.csv", folder / "m"
    fitted = run("fit", train, "--model", model, "--id", "customer", *SMALLER)
    assert fitted.exit_code == 0, fitted.output
    (folder / "said.txt").write_text(fitted.stderr)
    scored = run(
        "score", folder / "new.csv", "--model", folder / "m", "--output", folder / "scored.csv"
    )
    assert scored.exit_code == 0, scored.output
    return folder


def assert_one_line_error(result, *words):
    """Exit code 2 and a single line on stderr that has these words."""
    stderr = result.stderr.strip()
    code = result.exit_code if hasattr(result, "exit_code") else result.returncode
    assert code == 2, stderr
    assert stderr.count("\n") == 0, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert word in stderr


@pytest.mark.slow
def test_the_demo_finds_malignant_rows_and_writes_its_files(tmp_path):
    result = run_process("demo", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"train.csv", "test.csv", "model", "scored.csv", "scores.png"}
    assert "Traceback" not in result.stderr
    assert "cuda" not in result.stderr.lower()
    auroc = float(result.stdout.split("AUROC against the diagnosis: ")[1].split()[0])
    assert auroc > 0.9
    assert result.stdout.count("(malignant): score") + result.stdout.count("(benign): score") == 5
    scored = pd.read_csv(tmp_path / "demo" / "scored.csv")
    malignant = scored["diagnosis"] == "malignant"
    assert scored["is_anomaly"][malignant].mean() > scored["is_anomaly"][~malignant].mean() + 0.3


def test_scored_csv_has_the_input_columns_then_the_outputs(workspace):
    scored = pd.read_csv(workspace / "scored.csv", dtype=str, keep_default_na=False)
    new = pd.read_csv(workspace / "new.csv", dtype=str, keep_default_na=False)
    added = ["score", "decision", "is_anomaly", "p_value"]
    assert list(scored.columns) == [*new.columns, *added]
    pd.testing.assert_frame_equal(scored[list(new.columns)], new)
    assert set(scored["is_anomaly"]) <= {"true", "false"}


def test_the_command_line_scores_as_the_detector_does(workspace):
    detector = load_detector(workspace / "m")
    frame = mixed_table(60, seed=1)
    frame["paid"] = frame["paid"] == "true"
    scored = pd.read_csv(workspace / "scored.csv")
    np.testing.assert_array_equal(scored["score"], detector.score_samples(frame))
    np.testing.assert_array_equal(scored["decision"], detector.decision_function(frame))
    np.testing.assert_array_equal(scored["p_value"], detector.p_values(frame))


def test_contributions_and_reasons_are_written_on_request(workspace, tmp_path):
    output = tmp_path / "o.csv"
    result = run(
        *("score", workspace / "new.csv", "--model", workspace / "m", "--output", output),
        *("--contributions", "--explain", 1, "--top", 3),
    )
    assert result.exit_code == 0, result.output
    scored = pd.read_csv(output)
    modelled = ["size", "count", "city", "paid", "day"]
    assert list(scored)[-8:] == [
        *("reason_1", "reason_1_gain", "reason_1_expected"),
        *(f"feature_log_prob:{name}" for name in modelled),
    ]
    assert scored["reason_1"].isin(modelled).all()


def test_parquet_scores_as_csv_does(workspace, tmp_path):
    pd.read_csv(workspace / "new.csv", dtype=str, keep_default_na=False).to_parquet(
        tmp_path / "new.parquet"
    )
    output = tmp_path / "scored.parquet"
    result = run("score", tmp_path / "new.parquet", "--model", workspace / "m", "--output", output)
    assert result.exit_code == 0, result.output
    scored, expected = pd.read_parquet(output), pd.read_csv(workspace / "scored.csv")
    np.testing.assert_array_equal(scored["score"], expected["score"])


def every_column(n_rows=60):
    """A table with all that a DataFrame may have and both kinds of file can keep."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, n_rows)
    moments = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9**7, n_rows), "s")
    days = moments.normalize()
    frame = pd.DataFrame(
        {
            "size": rng.normal(50, 10, n_rows),
            "code": pd.Categorical(codes),
            "flag": rng.random(n_rows) < 0.5,
            "flag category": pd.Categorical(codes > 0),
            "day category": pd.Categorical(days),
            "zone category": pd.Categorical(days.tz_localize("Asia/Kolkata")),
            "date": days.date,
            "moment": moments.tz_localize("Asia/Kolkata"),
            "lag": pd.to_timedelta(rng.integers(0, 9**7, n_rows), "s"),
            "price": [decimal.Decimal(int(cents)).scaleb(-2) for cents in codes * 110],
            "mixed": np.where(codes > 1, "1.0", "x"),
            "nullable": pd.array(codes, dtype="Int64"),
        }
    )
    frame.loc[::7, frame.columns.drop(["mixed", "flag"])] = None
    return frame


@pytest.mark.parametrize("suffix", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_a_model_of_a_frame_scores_its_files_alike(trainings, tmp_path, suffix):
    frame = every_column()
    detector = VAEDetector(
        score_type="elbo",
        kinds={"price": "categorical", "nullable": "categorical"},
        hidden_units=(8,),
        max_steps=2,
        random_state=0,
    ).fit(frame)
    detector.save(tmp_path / "m")
    table, output = tmp_path / f"t.{suffix}", tmp_path / "scored.parquet"
    frame.to_csv(table, index=False) if suffix == "csv" else frame.to_parquet(table)
    result = run("score", table, "--model", tmp_path / "m", "--output", output)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(pd.read_parquet(output)["score"], detector.score_samples(frame))


def test_a_fit_says_what_its_threshold_gives_and_info_repeats_it(workspace):
    model = workspace / "m"
    said = str(load_detector(model).threshold_report())
    assert (workspace / "said.txt").read_text().splitlines()[-1] == (
        f"{model}: fitted on 120 rows of 5 columns, as they come; {said}"
    )
    assert said.split(": ")[1] in run("info", model).output


@pytest.fixture
def calibrated(workspace, tmp_path):
    shutil.copytree(workspace / "m", tmp_path / "m")
    return tmp_path / "m"


def test_a_model_is_calibrated_by_new_rows_without_training(calibrated, workspace):
    before = load_detector(calibrated)
    damaged = calibrated.parent / "damaged.csv"
    text = (workspace / "new.csv").read_text()
    damaged.write_text(text.replace("\n", "\nc,oops,1,Oslo,true,\n", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("calibrate", calibrated, damaged, workspace / "new.csv")
    assert result.exit_code == 0, result.output
    assert "warning: rows that could not be read and are left out: 1" in result.stderr
    after = load_detector(calibrated)
    assert after.scorer_.n_calibration == 120
    assert f"{after.threshold_report()}" in result.stderr
    frame = pd.read_csv(workspace / "new.csv", parse_dates=["day"])
    np.testing.assert_array_equal(after.score_samples(frame), before.score_samples(frame))


def test_a_threshold_is_moved_by_a_wish(calibrated):
    result = run("calibrate", calibrated, "--alerts", 2, "--per", 13)
    assert result.exit_code == 0, result.output
    report = load_detector(calibrated).threshold_report()
    assert report.rate_asked == 2 / 13
    assert "alerts=2, per=13 flags 15% of new normal rows" in result.stderr
    run("calibrate", calibrated, "--threshold", -3.5)
    assert load_detector(calibrated).offset_ == -3.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Expected INPUT, or an option"),
        (("--alerts", 10), "Received: alerts"),
        (("--false-alarm-rate", 1e-6), "tail='gpd'"),
        (("none.csv",), "none.csv"),
    ],
)
def test_what_cannot_be_calibrated_leaves_the_model(calibrated, arguments, message):
    before = (calibrated / "detector.json").read_bytes()
    result = run("calibrate", calibrated, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert (calibrated / "detector.json").read_bytes() == before


@pytest.mark.slow
def test_warnings_are_lines_on_stderr(workspace, calibrated):
    result = run_process("calibrate", calibrated, workspace / "new.csv")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("warning: few calibration rows: 60. ")


def test_info_shows_the_schema_and_the_threshold(workspace):
    result = run("info", workspace / "m")
    assert result.exit_code == 0, result.stderr
    for word in (
        "VAEDetector",
        "threshold",
        "size",
        "numeric",
        "city",
        "categorical",
        "id: kept, not modelled",
    ):
        assert word in result.stdout


def test_info_says_how_each_kind_is_modelled_and_in_what_units(workspace):
    lines = run("info", workspace / "m").stdout.splitlines()
    assert "numeric: Gaussian likelihood of (value - center) / scale; units: as given" in lines, (
        lines
    )
    assert "boolean: Bernoulli likelihood" in lines
    assert any(
        line.startswith("datetime:") and line.endswith("units: seconds since 1970-01-01 UTC")
        for line in lines
    )
    assert any(line.startswith("categorical: categorical likelihood") for line in lines)


def test_info_says_which_columns_are_modelled_twice(trainings, tmp_path, table):
    VAEDetector(score_type="elbo", hidden_units=(4,), max_steps=1).fit(table).save(tmp_path / "m")
    lines = run("info", tmp_path / "m").stdout.splitlines()
    said = "Gaussian likelihood of (value - center) / scale"
    assert f"numeric (amount): {said}, and of its normal score; units: as given" in lines
    assert f"numeric (count): {said}; units: as given" in lines


def test_info_fits_120_columns_and_cuts_nothing(workspace, monkeypatch):
    description = artifact.read(workspace / "m")
    by_name = {column["name"]: column for column in description["schema"]}
    by_name["size"].update(name="n" * 50, center=-1.23456e-100, scale=1.23456e100, step=1.23456e99)
    by_name["city"].update(name="c" * 50, levels=["l" * 100, "short"])
    schema = json.loads(description["described"]["schema"])
    names = {"size": "n" * 50, "city": "c" * 50}
    schema["columns"] = {names.get(n, n): column for n, column in schema["columns"].items()}
    description["described"]["schema"] = json.dumps(schema)
    monkeypatch.setattr(cli.showing.artifact, "read", lambda model: description)
    table = [line for line in run("info", "m").stdout.splitlines() if line[0] in "┏┃┡│└"]
    assert max(map(len, table)) <= 120
    text = "".join(table)
    assert "…" not in text
    assert [text.count(letter) for letter in "nl"] >= [50, 100]
    assert "-1.23456e-100" in text


@pytest.mark.slow
def test_info_does_not_import_tensorflow(workspace, fresh_python):
    code = (
        "import sys; from click.testing import CliRunner; from vae_anomaly import cli; "
        "result = CliRunner().invoke(cli.main, ['info', sys.argv[1]]); "
        "print(result.exit_code, 'tensorflow' in sys.modules)"
    )
    assert fresh_python(code, workspace / "m").split() == ["0", "False"]


@pytest.mark.slow
def test_column_options_override_what_is_inferred(trainings, workspace, tmp_path):
    train, model = tmp_path / "train.csv", tmp_path / "m"
    mixed_table().assign(code=np.arange(120) % 3, note="x").to_csv(train, index=False)
    result = run(
        *("fit", train, "--model", model, "--categorical", "code", "--numeric", "count"),
        *("--drop", "note", "--drop", "customer", *SMALLER),
    )
    assert result.exit_code == 0, result.output
    kinds = {column["name"]: column["kind"] for column in artifact.read(model)["schema"]}
    assert kinds["code"] == "categorical"
    assert "note" not in kinds
    output = tmp_path / "scored.csv"
    assert run("score", train, "--model", model, "--output", output).exit_code == 0
    assert "note" not in pd.read_csv(output).columns


@pytest.mark.slow
def test_fit_shows_the_kinds_before_it_trains(trainings, workspace, tmp_path):
    train = mixed_table().assign(note="x", **{f"n{index}": 1.0 for index in range(20)})
    train.to_csv(tmp_path / "train.csv", index=False)
    result = run(
        *("fit", tmp_path / "train.csv", "--model", tmp_path / "m", "--id", "customer"),
        *("--drop", "note", *SMALLER[:-1]),
    )
    assert result.exit_code == 0, result.output
    shown = [line.split()[:2] for line in result.stderr.splitlines()]
    for name, kind in {
        "size": "numeric",
        "day": "datetime",
        "paid": "boolean",
        "city": "categorical",
        "customer": "id",
        "note": "dropped",
    }.items():
        assert [name, kind] in shown
    assert result.stdout == ""


def test_quiet_fit_says_only_what_it_wrote(trainings, workspace, tmp_path):
    result = run("fit", workspace / "train.csv", "--model", tmp_path / "m", *SMALLER)
    assert result.stderr.count("\n") == 1
    assert "fitted on 120 rows" in result.stderr


def test_the_score_types_are_those_of_the_scorer():
    assert tuple(cli.fitting._SCORE_TYPES) == tuple(SCORE_TYPES)


@pytest.mark.slow
def test_every_fit_option_reaches_the_detector(tmp_path):
    mixed_table().to_csv(tmp_path / "train.csv", index=False)
    result = run(
        *("fit", tmp_path / "train.csv", "--model", tmp_path / "m", "--contamination", "0.2"),
        *("--score-type", "elbo", "--hidden-units", "7,5", "--latent-dim", "3"),
        *("--max-steps", "30", "--random-state", "9"),
    )
    assert result.exit_code == 0, result.output
    assert "steps" in result.stderr
    params = artifact.read(tmp_path / "m")["params"]
    assert params["contamination"] == 0.2
    assert params["score_type"] == "elbo"
    assert params["hidden_units"] == [7, 5]
    assert params["latent_dim"] == 3
    assert params["max_steps"] == 30
    assert params["random_state"] == 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "what", "score"),
    [
        ((), "as they come", "composite (training rows: as they come, 108 of them kept)"),
        (
            ("--training", "clean", "--n-reference", "50"),
            "all taken for normal",
            "composite (training rows: all taken for normal, 50 of them kept)",
        ),
        (("--n-reference", "0"), "as they come", "composite (training rows: as they come)"),
    ],
)
def test_fit_and_info_say_what_the_training_rows_are(
    trainings, workspace, tmp_path, options, what, score
):
    result = run("fit", workspace / "train.csv", "--model", tmp_path / "m", *SMALL, *options)
    assert f"fitted on 120 rows of 5 columns, {what};" in result.stderr
    assert score in run("info", tmp_path / "m").stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.drop(columns="size"), ("bad.csv", "size", "--allow-missing")),
        (lambda frame: frame.rename(columns={"size": "sise"}), ("bad.csv", "did you mean 'sise'")),
    ],
    ids=["missing", "renamed"],
)
def test_a_bad_csv_is_one_line_on_stderr_and_leaves_no_output(workspace, tmp_path, change, words):
    bad, output = tmp_path / "bad.csv", tmp_path / "scored.csv"
    change(mixed_table(60, seed=1)).to_csv(bad, index=False)
    result = run("score", bad, "--model", workspace / "m", "--output", output, "--quiet")
    assert_one_line_error(result, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@pytest.mark.slow
def test_a_process_says_one_line_of_a_bad_csv(workspace, tmp_path):
    mixed_table(60, seed=1).drop(columns="size").to_csv(tmp_path / "bad.csv", index=False)
    result = run_process(
        *("score", "bad.csv", "--model", workspace / "m", "--output", "scored.csv", "--quiet"),
        cwd=tmp_path,
    )
    assert_one_line_error(result, "bad.csv", "size", "--allow-missing")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@pytest.mark.slow
def test_a_damaged_model_is_one_line_on_stderr(workspace, tmp_path):
    (tmp_path / "m").mkdir()
    for path in (workspace / "m").iterdir():
        (tmp_path / "m" / path.name).write_bytes(path.read_bytes()[:-5])
    assert_one_line_error(run_process("info", tmp_path / "m"), "damaged")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--contamination", "lots"), "--contamination"),
        (("--contamination", "0.9"), "contamination"),
        (("--hidden-units", "8,x"), "--hidden-units"),
        (("--id", "nobody"), "nobody"),
        (("--id", "size", "--drop", "size"), "size"),
        (("--numeric", "size", "--categorical", "size"), "size"),
        (("--numeric", "city"), "city"),
    ],
)
def test_impossible_options_are_one_line_on_stderr(workspace, tmp_path, arguments, word):
    result = run(
        *("fit", workspace / "train.csv", "--model", tmp_path / "m", "--quiet", *arguments)
    )
    assert_one_line_error(result, word)
    assert not (tmp_path / "m").exists()


def test_a_file_without_rows(workspace, tmp_path):
    header = (workspace / "new.csv").read_text().splitlines()[0]
    (tmp_path / "empty.csv").write_text(header + "\n")
    output = tmp_path / "scored.csv"
    result = run("score", tmp_path / "empty.csv", "--model", workspace / "m", "--output", output)
    assert result.exit_code == 0, result.output
    assert output.read_text().startswith(header + ",score,")
    fitted = run("fit", tmp_path / "empty.csv", "--model", tmp_path / "m", "--quiet")
    assert_one_line_error(fitted, "0 sample")


def test_rows_with_infinities_are_scored_and_reported(workspace, tmp_path):
    frame = mixed_table(60, seed=1)
    frame.loc[5, "size"] = np.inf
    frame.to_csv(tmp_path / "new.csv", index=False)
    output = tmp_path / "scored.csv"
    result = run("score", tmp_path / "new.csv", "--model", workspace / "m", "--output", output)
    assert "1 rows have infinite cells" in result.stderr
    assert pd.read_csv(output)["score"].idxmin() == 5


def score_new(workspace, *arguments):
    return run("score", workspace / "new.csv", "--model", workspace / "m", *arguments)


@pytest.mark.slow
def test_the_options_of_score_reach_the_output(workspace, tmp_path):
    output = tmp_path / "scored"
    result = score_new(
        workspace,
        *("--output", output, "--format", "parquet", "--columns", "size", "--columns", "city"),
        *("--only-anomalies", "--top", 5, "--explain", 1, "--false-alarm-rate", 0.5),
        *("--chunk-rows", 7),
    )
    assert result.exit_code == 0, result.output
    scored = pd.read_parquet(output)
    assert list(scored)[:3] == ["size", "city", "score"]
    assert list(scored)[-1] == "reason_1_expected"
    expected = pd.read_csv(workspace / "scored.csv")["score"].nsmallest(5)
    assert scored["score"].tolist() == expected.tolist()
    assert scored["is_anomaly"].all()
    result = score_new(workspace, "--output", tmp_path / "o.csv", "--threshold", 1e9)
    assert pd.read_csv(tmp_path / "o.csv")["is_anomaly"].all()


@pytest.mark.slow
def test_other_delimiters_and_encodings_can_be_fitted_and_scored(trainings, workspace, tmp_path):
    mixed_table().replace("Oslo", "Tromsø").to_csv(
        tmp_path / "t.csv", sep=";", encoding="utf-16", index=False
    )
    text = ("--delimiter", ";", "--encoding", "utf-16")
    model = tmp_path / "m"
    result = run("fit", tmp_path / "t.csv", "--model", model, "--id", "customer", *text, *SMALLER)
    assert result.exit_code == 0, result.output
    assert "Tromsø" in artifact.read(model)["schema"][2]["levels"]
    output = tmp_path / "o.csv"
    result = run("score", tmp_path / "t.csv", "--model", model, "--output", output, *text)
    assert result.exit_code == 0, result.output
    assert (pd.read_csv(output)["city"] == "Tromsø").any()


def test_score_reads_standard_input_and_writes_standard_output(workspace, monkeypatch):
    arguments = ["score", "-", "--model", str(workspace / "m"), "--output", "-", "--quiet"]
    result = CliRunner().invoke(cli.main, arguments, input=(workspace / "new.csv").read_bytes())
    assert result.exit_code == 0, result.output
    assert result.stdout == (workspace / "scored.csv").read_text()
    assert result.stderr == ""
    assert_one_line_error(CliRunner().invoke(cli.main, [*arguments, "--resume"]), "'-'")


def test_score_ends_with_a_summary_in_words_and_in_json(workspace, tmp_path):
    result = score_new(workspace, "--output", tmp_path / "o.csv", "--summary", tmp_path / "s.json")
    assert result.stderr.startswith("60 rows read, 60 scored, 0 quarantined; ")
    assert "score quantiles: batch (calibration)" in result.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["rows_scored"] == 60


@pytest.mark.slow
def test_progress_without_a_terminal_is_lines_and_quiet_is_silent(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0)
    result = score_new(workspace, "--output", tmp_path / "o.csv", "--chunk-rows", 30)
    lines = result.stderr.splitlines()
    assert re.fullmatch(r"30 rows, \d+ anomalies, \d+% read", lines[0])
    assert re.fullmatch(r"60 rows, [1-9]\d* rows/s, \d+ anomalies, 100% read", lines[1])
    assert "\x1b[" not in result.stderr
    assert score_new(workspace, "--output", tmp_path / "o.csv", "--quiet").stderr == ""


def test_progress_on_a_terminal_is_a_bar(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    result = score_new(workspace, "--output", tmp_path / "o.csv", "--chunk-rows", 30)
    assert "rows/s" in result.stderr and "\x1b[" in result.stderr


@pytest.fixture
def bad_file(workspace, tmp_path):
    text = (workspace / "new.csv").read_text().replace(",Oslo,", ",Oslo,,", 2)
    (tmp_path / "bad.csv").write_text(text)
    return tmp_path / "bad.csv"


def test_bad_rows_are_quarantined_counted_or_end_in_exit_code_3(workspace, tmp_path, bad_file):
    score_bad = ("score", bad_file, "--model", workspace / "m", "--output", tmp_path / "o.csv")
    result = run(*score_bad, "--quarantine", tmp_path / "q.csv", "--max-bad-rows", 2)
    assert result.exit_code == 0, result.output
    assert "60 rows read, 58 scored, 2 quarantined" in result.stderr
    assert len(pd.read_csv(tmp_path / "q.csv")) == 2
    (tmp_path / "o.csv").unlink()
    for option in (("--on-bad-row", "fail"), ("--max-bad-rows", 1)):
        result = run(*score_bad, *option)
        assert result.exit_code == 3
        assert "expected 6 fields, received 7" in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "o.csv").exists()


@pytest.mark.slow
def test_a_terminated_run_ends_in_exit_code_4_and_is_resumed(workspace, tmp_path, monkeypatch):
    output = tmp_path / "o.csv"
    arguments = ("--output", output, "--chunk-rows", 2)

    @contextlib.contextmanager
    def terminating():
        yield lambda n_rows, *_: os.kill(os.getpid(), signal.SIGTERM) if n_rows == 40 else None

    with monkeypatch.context() as patch:
        patch.setattr(cli.scoring, "shown_progress", terminating)
        result = score_new(workspace, *arguments)
    assert result.exit_code == 4
    assert result.stderr == "interrupted; to go on, run again with --resume\n"
    assert not output.exists()
    result = score_new(workspace, *arguments, "--resume")
    assert result.exit_code == 0, result.output
    assert output.read_bytes() == (workspace / "scored.csv").read_bytes()


def test_every_option_of_score_is_documented():
    options = {option for param in cli.score.params for option in param.opts if "--" in option}
    assert {option for option in options if option not in PAGES} == set()


def test_every_command_and_option_has_help_and_every_command_is_documented():
    for name, command in cli.main.commands.items():
        assert command.help, name
        assert f"vae-anomaly {name}" in PAGES, name
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.help, parameter.name
