"""Digits of the numbers that scoring writes as text."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly import cli, score_files
from vae_anomaly.batch.digits import in_digits, rounded

FLOATS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15)


@pytest.fixture(scope="module")
def new(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "new.csv"
    table.head(40).to_csv(path, index=False)
    return path


def cells(path):
    """The cells of a CSV file as they are written."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def n_significant(text):
    """How many digits a number in text has, without zeros at its ends."""
    return len(text.split("e")[0].replace(".", "").strip("-0"))


@given(st.lists(FLOATS, min_size=1), st.integers(1, 15))
def test_a_rounded_number_is_the_one_that_python_writes_with_these_digits(values, digits):
    values = np.array([value for value in values if value == 0 or abs(value) > 1e-280] or [0.0])
    expected = np.array([float(f"{value:.{digits}g}") for value in values])
    found = rounded(values, digits)
    # Of two decimals as near as each other either may be taken.
    step = 10.0 ** (np.floor(np.log10(np.abs(np.where(values, values, 1)))) - digits + 1)
    assert (np.abs(found - expected) <= 1.001 * step).all()
    # What is as near as can be may be half a step away, and half of what floats differ by.
    assert (np.abs(found - values) <= 0.5001 * step + np.spacing(np.abs(values))).all()
    assert all(n_significant(np.format_float_scientific(value)) <= digits for value in found)


@given(st.lists(st.floats(width=64)), st.integers(1, 15))
def test_any_float_is_rounded_or_left_as_it_is(values, digits):
    values = np.array(values, dtype=np.float64)
    found = rounded(values, digits)
    np.testing.assert_allclose(found, values, rtol=10.0 ** (1 - digits))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(values))


def test_whole_numbers_booleans_and_text_have_no_digits():
    outputs = {"n": np.arange(3), "b": np.array([True]), "t": np.array(["1.2345"], object)}
    assert all(in_digits(outputs, 2)[name] is array for name, array in outputs.items())


def test_contributions_are_written_as_float32_and_scores_whole(table_detector, new, tmp_path):
    score_files(new, table_detector, tmp_path / "o.csv", contributions=True)
    score_files(new, table_detector, tmp_path / "o.parquet", contributions=True)
    text, whole = cells(tmp_path / "o.csv"), pd.read_parquet(tmp_path / "o.parquet")
    for name in ("score", "decision", "p_value"):
        np.testing.assert_array_equal(text[name].astype(float), whole[name])
    for name in table_detector.feature_names_in_:
        column = f"feature_log_prob:{name}"
        contributions = text[column].astype(np.float32)
        np.testing.assert_array_equal(contributions, whole[column].astype(np.float32))
        assert text[column].map(n_significant).max() <= 9


@pytest.mark.parametrize("top", [(), pytest.param(("--top", "5"), marks=pytest.mark.slow)])
def test_numbers_have_the_digits_asked_for(table_detector, new, tmp_path, top):
    table_detector.save(tmp_path / "m")
    arguments = ["score", str(new), "--model", str(tmp_path / "m"), "--contributions", "--quiet"]
    arguments += ["--explain", "1", "--digits", "3", *top, "--output"]
    result = CliRunner().invoke(cli.main, [*arguments, str(tmp_path / "o.csv")])
    assert result.exit_code == 0, result.output
    found, before = cells(tmp_path / "o.csv"), cells(new)
    numbers = ["score", "decision", "p_value", "reason_1_gain"]
    numbers += [name for name in found if name.startswith("feature_log_prob:")]
    assert found[numbers].map(n_significant).max(axis=None) == 3
    assert set(found["amount"]) <= set(before["amount"])


def test_rows_are_chosen_by_whole_scores(table_detector, new, tmp_path):
    options = {"top": 5, "chunk_rows": 2}
    score_files(new, table_detector, tmp_path / "whole.csv", **options)
    score_files(new, table_detector, tmp_path / "short.csv", digits=1, **options)
    whole, short = pd.read_csv(tmp_path / "whole.csv"), pd.read_csv(tmp_path / "short.csv")
    kept = list(pd.read_csv(new).columns)
    pd.testing.assert_frame_equal(short[kept], whole[kept])
    assert short["score"].nunique() < 5
    np.testing.assert_allclose(short["score"], whole["score"], rtol=0.5)


def test_parquet_and_impossible_digits_are_refused(table_detector, new, tmp_path):
    with pytest.raises(ValueError, match=r"Expected CSV or TSV .* `digits`.*o.parquet"):
        score_files(new, table_detector, tmp_path / "o.parquet", digits=3)
    with pytest.raises(ValueError, match=r"`digits` from 1 to 15\. Received: digits=16"):
        score_files(new, table_detector, tmp_path / "o.csv", digits=16)
    assert list(tmp_path.iterdir()) == []


def test_work_with_other_digits_is_not_resumed(table_detector, new, tmp_path):
    def stop(n_rows, *_):
        if n_rows > 30:
            raise KeyboardInterrupt

    options = {"digits": 3, "chunk_rows": 2}
    with pytest.raises(KeyboardInterrupt):
        score_files(new, table_detector, tmp_path / "o.csv", **options, progress=stop)
    options["digits"] = 4
    with pytest.raises(ValueError, match="options changed since the run to resume"):
        score_files(new, table_detector, tmp_path / "o.csv", **options, resume=True)
