"""Scoring files of any size: no row lost, nothing half-written, no work done twice."""

import copy
import dataclasses
import errno
import filecmp
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.batch import chunks
from vae_anomaly.batch.run import TooManyBadRowsError, iter_scored, score_files
from vae_anomaly.batch.scores import scores_of
from vae_anomaly.batch.summary import summary_text
from vae_anomaly.batch.tables import TableChunkScorer
from vae_anomaly.batch.work_folder import WorkFolder
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.paths import find_inputs
from vae_anomaly.tables.reader import CHUNK_ROWS
from vae_anomaly.tables.schema import Schema
from vae_anomaly.tables.writer import TableWriter

ROOT = pathlib.Path(__file__).parents[1]
SUFFIXES = ["csv", "tsv", "csv.gz", "csv.zst", "parquet"]


def write(frame, path):
    """Write a table in the format that the suffix says."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
        return path
    content = frame.to_csv(index=False, sep="\t" if ".tsv" in path.name else ",").encode()
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    path.write_bytes(pa.compress(content, codec, asbytes=True) if codec == "gzip" else content)
    if codec == "zstd":
        with pa.CompressedOutputStream(path, codec) as stream:
            stream.write(content)
    return path


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    sep = "\t" if ".tsv" in path.name else ","
    with pa.input_stream(path) as stream:  # decompresses by suffix
        return pd.read_csv(stream, sep=sep)


@pytest.fixture(scope="module")
def new(table):
    """Rows to score: some unlike those of fit, and a column that is not modelled."""
    frame = table.sample(frac=1, random_state=1).reset_index(drop=True)
    frame.loc[[30, 77], "amount"] = [400.0, -90.0]
    frame.loc[50, "city"] = "Atlantis"
    return frame.astype({"grade": object})


def with_kinds(detector, kinds):
    """A detector that knows more columns, which it does not model."""
    detector = copy.deepcopy(detector)
    schema = detector._input.schema
    known = {**schema.columns, **Schema.of_kinds(kinds).columns}
    detector._input.schema = dataclasses.replace(schema, columns=known)
    return detector


@pytest.fixture(scope="module")
def detector(table_detector):
    return with_kinds(table_detector, {"note": "id", "junk": "dropped"})


@pytest.fixture(scope="module")
def folder(detector, new, tmp_path_factory):
    """A folder with new.csv, the model m and the scores, out.csv, of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("batch")
    detector.save(folder / "m")
    write(new, folder / "new.csv")
    score_files(folder / "new.csv", detector, folder / "out.csv")
    return folder


@pytest.fixture
def whole(folder):
    return (folder / "out.csv").read_bytes()


# Rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_every_row_its_score_in_order(detector, new, folder, tmp_path, suffix):
    source = write(new, tmp_path / f"t.{suffix}")
    report = score_files(source, detector, tmp_path / f"out.{suffix}", chunk_rows=64)
    scored = read(tmp_path / f"out.{suffix}")
    np.testing.assert_array_equal(scored["score"], detector.score_samples(new))
    np.testing.assert_array_equal(scored["decision"], detector.decision_function(new))
    np.testing.assert_array_equal(scored["is_anomaly"], detector.predict(new) == -1)
    np.testing.assert_array_equal(scored["p_value"], detector.p_values(new))
    assert report["rows_read"] == report["rows_scored"] == len(new)


@pytest.mark.parametrize("chunk_rows", [1, 7, 4096])
def test_the_output_does_not_depend_on_the_chunk_size(
    detector, folder, whole, tmp_path, chunk_rows, monkeypatch
):
    monkeypatch.setattr("vae_anomaly.tables.csv_rows._BLOCK_BYTES", 5000)
    n_lines = 21 if chunk_rows == 1 else 101
    lines = (folder / "new.csv").read_bytes().splitlines(keepends=True)[:n_lines]
    (tmp_path / "new.csv").write_bytes(b"".join(lines))
    score_files(tmp_path / "new.csv", detector, tmp_path / "out.csv", chunk_rows=chunk_rows)
    scored = (tmp_path / "out.csv").read_bytes()
    assert scored == b"".join(whole.splitlines(keepends=True)[:n_lines])


def test_a_table_split_into_files_gives_the_output_of_the_whole(detector, new, whole, tmp_path):
    for number, rows in enumerate([slice(0, 150), slice(150, 150), slice(150, None)]):
        write(new[rows], tmp_path / f"{number}.{SUFFIXES[number]}")
    score_files(tmp_path, detector, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_a_saved_detector_is_loaded_once_the_inputs_have_been_checked(
    folder, tmp_path, whole, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(chunks.state, "load_detector", None)
        with pytest.raises(TableError, match=r"no\.csv"):
            score_files(folder / "no.csv", folder / "m", tmp_path / "out.csv")
    score_files(folder / "new.csv", folder / "m", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_scored_chunks_can_be_had_one_by_one(detector, new, folder):
    chunks = list(iter_scored(folder / "new.csv", detector, chunk_rows=150))
    assert [len(chunk.outputs["score"]) for chunk in chunks] == [134, 134, 132]
    assert chunks[1].source == str(folder / "new.csv")
    assert chunks[1].raw["count"][0].as_py() == str(new["count"][134])
    scores = np.concatenate([chunk.outputs["score"] for chunk in chunks])
    np.testing.assert_array_equal(scores, detector.score_samples(new))


def test_what_is_not_modelled_is_kept_as_it_was_and_dropped_columns_go(detector, new, tmp_path):
    note = ["=1+1", "+1", "-1", "@x", 'a "quoted", field', "two\nlines", "", " é "] * 50
    write(new.assign(note=note, junk=1), tmp_path / "t.csv")
    score_files(tmp_path / "t.csv", detector, tmp_path / "out.csv")
    scored = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert scored["note"].tolist() == note
    assert "junk" not in scored


def test_a_file_without_rows_gives_a_header(detector, folder, tmp_path):
    header = (folder / "new.csv").read_text().splitlines(keepends=True)[0]
    (tmp_path / "t.csv").write_text(header)
    report = score_files(tmp_path / "t.csv", detector, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith(header.strip() + ",score,")
    assert report["rows_read"] == 0


def test_blank_columns_carriage_returns_and_a_missing_last_line_end_are_fine(detector, tmp_path):
    text = "\ufeffamount,count,city,member,day,grade\r\n1.5,3,,,2024-01-31,a\r\n2.5,1,,,,b"
    (tmp_path / "t.csv").write_bytes(text.encode())
    score_files(tmp_path / "t.csv", detector, tmp_path / "out.csv")
    scored = pd.read_csv(tmp_path / "out.csv")
    assert scored["amount"].tolist() == [1.5, 2.5]
    assert scored["score"].notna().all()


# Inputs and outputs


def test_inputs_are_files_folders_and_patterns(tmp_path):
    for name in ("b.csv", "a.parquet", "notes.txt", "sub/c.csv", "old.quarantine.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    exclude = [tmp_path / "old.quarantine.csv"]
    names = [os.path.relpath(path, tmp_path) for path in find_inputs(tmp_path, exclude)]
    assert names == ["a.parquet", "b.csv"]
    assert find_inputs(f"{tmp_path}/**/c*") == [f"{tmp_path}/sub/c.csv"]
    for inputs in (tmp_path / "sub" / "none*", [tmp_path, tmp_path / "b.csv"], []):
        with pytest.raises(TableError, match="expected"):
            find_inputs(inputs)


def test_a_folder_gets_a_file_for_each_input(detector, new, tmp_path):
    for number, suffix in enumerate(["csv.gz", "parquet"]):
        write(new[number * 200 :][:200], tmp_path / f"{number}.{suffix}")
    inputs = sorted(tmp_path.iterdir())
    score_files(inputs, detector, f"{tmp_path}/out/")
    assert sorted(os.listdir(tmp_path / "out")) == ["0.csv.gz", "1.parquet"]
    score_files(inputs, detector, tmp_path / "out", format="tsv")
    scored = [read(tmp_path / "out" / f"{number}.tsv") for number in (0, 1)]
    np.testing.assert_array_equal(pd.concat(scored)["score"], detector.score_samples(new))
    with pytest.raises(ValueError, match="a file of its own"):
        score_files(inputs, detector, tmp_path)


def test_inputs_of_other_columns_or_types_do_not_go_into_one_file(detector, new, tmp_path):
    a = write(new.assign(note=1), tmp_path / "a.parquet")
    b = write(new.assign(note="x"), tmp_path / "b.parquet")
    c = write(new, tmp_path / "c.csv")
    with pytest.raises(TableError, match=r"b\.parquet, column 'note': expected int64"):
        score_files([a, b], detector, tmp_path / "out.parquet")
    with pytest.raises(TableError, match=r"c\.csv: missing columns: 'note'"):
        score_files([a, c], detector, tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "c.csv"]


def test_files_of_which_one_would_overwrite_another_are_refused(detector, folder, tmp_path):
    source, output = shutil.copy(folder / "new.csv", tmp_path / "i.csv"), tmp_path / "o.csv"
    (tmp_path / "link").symlink_to(tmp_path)
    for other in (
        {"quarantine": output},
        {"quarantine": tmp_path / "link" / "i.csv"},
        {"summary": source},
        {"summary": tmp_path / "q.csv", "quarantine": tmp_path / "link" / "q.csv"},
    ):
        with pytest.raises(ValueError, match="Expected a file of its own"):
            score_files(source, detector, output, **other)
    with pytest.raises(ValueError, match=r"o\.csv, which is an input"):
        score_files([source, shutil.copy(source, output)], detector, output)
    other = shutil.copy(source, tmp_path / "i.csv.quarantine.csv")
    with pytest.raises(ValueError, match="which is an output"):
        score_files([source, other], detector, f"{tmp_path}/out/")
    (tmp_path / "sub").mkdir()
    other = shutil.copy(source, tmp_path / "sub" / "i.csv")
    with pytest.raises(ValueError, match="which is an output"):
        score_files([source, other], detector, f"{tmp_path}/out/")
    assert pathlib.Path(source).read_bytes() == (folder / "new.csv").read_bytes()


@pytest.mark.parametrize("name", ["quarantine", "summary"])
def test_what_cannot_be_written_is_said_before_any_work(detector, folder, tmp_path, name):
    for place in (tmp_path / "no" / "s", tmp_path):
        with pytest.raises(ValueError, match="expected a f"):
            score_files(folder / "new.csv", detector, tmp_path / "o.csv", **{name: place})
    assert os.listdir(tmp_path) == []


def test_inputs_under_the_output_folder_are_scored(detector, folder, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    shutil.copy(folder / "new.csv", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    score_files("data", detector, "./")
    score_files("data/*.csv", detector, ".")
    assert sorted(os.listdir()) == ["data", "new.csv"]


def test_a_place_that_is_no_file_is_not_replaced(detector, folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for role in ("quarantine", "summary"):
        with pytest.raises(ValueError, match="a folder or a device"):
            score_files(
                folder / "new.csv", detector, tmp_path / "o.csv", **{role: tmp_path / "pipe"}
            )


def test_parquet_inputs_may_differ_in_what_can_be_null(detector, new, tmp_path):
    for number in range(2):
        table = pa.Table.from_pandas(new[number * 200 :][:200].assign(note=number))
        index = table.schema.get_field_index("note")
        field = pa.field("note", pa.int64(), nullable=bool(number))
        table = table.cast(table.schema.set(index, field))
        pa.parquet.write_table(table, tmp_path / f"{number}.parquet")
    inputs = sorted(tmp_path.iterdir())
    score_files(inputs, detector, tmp_path / "o.parquet")
    assert pd.read_parquet(tmp_path / "o.parquet")["note"].tolist() == [0] * 200 + [1] * 200


def test_an_input_is_scored_once_however_it_is_spelt(detector, folder, tmp_path):
    inputs = [folder / "new.csv", f"{folder}/../{folder.name}/new.csv"]
    with pytest.raises(TableError, match="each input once"):
        score_files(inputs, detector, tmp_path / "o.csv")


def test_an_input_that_is_no_file_is_refused(detector, tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(TableError, match="a pipe can be read as -"):
        score_files(tmp_path / "t.csv", detector, tmp_path / "o.csv")


def test_a_pattern_does_not_match_what_is_written(detector, new, tmp_path):
    pattern, output = f"{tmp_path}/**/*.csv", f"{tmp_path}/out/"
    for number in range(2):
        write(new[number * 200 :][:200], tmp_path / f"{number}.csv")
    with pytest.raises(KeyboardInterrupt):
        progress = stop_after(30, KeyboardInterrupt)
        score_files(pattern, detector, output, chunk_rows=10, progress=progress)
    (tmp_path / "out" / "old.csv").write_text("x")
    score_files(pattern, detector, output, chunk_rows=10, resume=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["0.csv", "1.csv", "old.csv"]
    scored = pd.concat([pd.read_csv(tmp_path / "out" / f"{number}.csv") for number in (0, 1)])
    np.testing.assert_array_equal(scored["score"], detector.score_samples(new))


@pytest.mark.parametrize("content", ["", pytest.param("\n\n", marks=pytest.mark.slow)])
def test_a_file_without_even_a_header_has_no_rows(detector, folder, whole, tmp_path, content):
    (tmp_path / "blank.csv").write_text(content)
    blank, header = tmp_path / "blank.csv", whole.splitlines(keepends=True)[0]
    report = score_files([blank, folder / "new.csv"], detector, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_bytes() == whole
    assert report["rows_read"] == 400
    score_files(blank, detector, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_bytes() == header


def test_an_input_column_named_like_an_output_is_refused(detector, new, tmp_path):
    source = write(new.assign(note=1).rename(columns={"note": "score"}), tmp_path / "t.csv")
    other = with_kinds(detector, {"score": "id"})
    with pytest.raises(TableError, match="received 'score'"):
        score_files(source, other, tmp_path / "o.csv")
    score_files(source, other, tmp_path / "o.csv", columns=["day"])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_standard_output_gets_the_same_bytes(
    detector, folder, tmp_path, capfdbinary, suffix, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    score_files(folder / "new.csv", detector, tmp_path / f"o.{suffix}", explain=1)
    score_files(folder / "new.csv", detector, "-", explain=1, format=suffix)
    assert capfdbinary.readouterr().out == (tmp_path / f"o.{suffix}").read_bytes()


# Bad rows


BAD_LINES = [b"x,1,Oslo,,,a\n", b"1,1\n", b"1,1,Troms\xf8,,,a\n", b'1,1,"O"slo,,,a\n']


@pytest.fixture
def dirty(folder, tmp_path):
    """The rows of new.csv, and four bad ones, on lines 12, 23, 34 and 45."""
    lines = (folder / "new.csv").read_bytes().splitlines(keepends=True)
    for line, bad in zip((12, 23, 34, 45), BAD_LINES, strict=True):
        lines.insert(line - 1, bad)
    (tmp_path / "dirty.csv").write_bytes(b"".join(lines))
    return tmp_path / "dirty.csv"


@pytest.mark.parametrize("chunk_rows", [5, pytest.param(8192, marks=pytest.mark.slow)])
def test_bad_rows_are_put_aside_with_place_and_reason(detector, dirty, whole, tmp_path, chunk_rows):
    report = score_files(dirty, detector, tmp_path / "out.csv", chunk_rows=chunk_rows)
    assert (tmp_path / "out.csv").read_bytes() == whole
    assert (report["rows_read"], report["rows_quarantined"]) == (404, 4)
    content = (tmp_path / "out.csv.quarantine.csv").read_bytes()
    quarantine = pd.read_csv(tmp_path / "out.csv.quarantine.csv", encoding="latin-1")
    assert quarantine["file"].tolist() == [str(dirty)] * 4
    assert quarantine["line"].tolist() == [12, 23, 34, 45]
    assert quarantine["text"].tolist() == [line.decode("latin-1").strip() for line in BAD_LINES]
    for words in (b"expected a number, received 'x'", b"expected 6 fields, received 2", b"UTF-8"):
        assert words in content


def test_too_many_bad_rows_stop_the_run_which_can_go_on_with_another_limit(
    detector, dirty, whole, tmp_path
):
    output, options = tmp_path / "out.csv", {"chunk_rows": 9, "quarantine": tmp_path / "q.csv"}
    with pytest.raises(TooManyBadRowsError, match="line 34: expected UTF-8.*at most 2"):
        score_files(dirty, detector, output, max_bad_rows=2, **options)
    assert not output.exists()
    score_files(dirty, detector, output, max_bad_rows=4, resume=True, **options)
    assert output.read_bytes() == whole
    assert len(pd.read_csv(tmp_path / "q.csv", encoding="latin-1")) == 4


def test_a_resumed_run_may_be_over_a_lower_limit_at_once(detector, dirty, tmp_path):
    interrupted(dirty, detector, tmp_path / "out.csv")
    for _ in range(2):
        with pytest.raises(TooManyBadRowsError, match="at most 1 bad rows, received 4"):
            score_files(
                dirty, detector, tmp_path / "out.csv", chunk_rows=10, max_bad_rows=1, resume=True
            )
    assert (tmp_path / "out.csv.partial").exists()


def test_a_file_of_bad_rows_alone_is_warned_of(detector, new, tmp_path):
    source = write(new.assign(amount="1,5"), tmp_path / "t.csv")
    report = score_files(source, detector, tmp_path / "out.csv")
    assert (report["rows_scored"], report["rows_quarantined"]) == (0, 400)
    (warning,) = report["warnings"]
    assert warning.startswith(f"100.0% of the rows could not be read, such as {source}, line 2")
    assert "column 'amount': expected a number, received '1,5'; " in warning
    with pytest.raises(ValueError, match=r"400 damaged, such as .* received '1,5'"):
        scores_of(source, detector)


def test_no_output_is_written_into_a_saved_detector(detector, new, tmp_path):
    source = write(new, tmp_path / "t.csv")
    detector.save(tmp_path / "model")
    for output in ("model", "model/out.csv"):
        with pytest.raises(ValueError, match=r"model, which holds a saved detector"):
            score_files(source, tmp_path / "model", tmp_path / output)
    detector.save(tmp_path / "model")


def test_each_output_has_its_own_quarantine(detector, folder, dirty, tmp_path):
    for name, source in (("s.2024-01-31.csv", dirty), ("s.2024-02-01.csv", folder / "new.csv")):
        score_files(source, detector, tmp_path / name)
    assert len((tmp_path / "s.2024-01-31.csv.quarantine.csv").read_bytes().splitlines()) == 5


def test_a_folder_has_a_quarantine_for_each_file_unless_one_is_named(
    detector, folder, dirty, tmp_path
):
    score_files(dirty, detector, f"{tmp_path}/out/")
    inputs = [folder / "new.csv", dirty]
    score_files(folder / "new.csv", detector, f"{tmp_path}/out/")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "dirty.csv",
        "dirty.csv.quarantine.csv",
        "new.csv",
    ]
    score_files(inputs, detector, f"{tmp_path}/2/", quarantine=tmp_path / "q.csv", chunk_rows=50)
    assert sorted(os.listdir(tmp_path / "2")) == ["dirty.csv", "new.csv"]
    own = (tmp_path / "out" / "dirty.csv.quarantine.csv").read_bytes()
    assert (tmp_path / "q.csv").read_bytes() == own


def test_a_quarantine_of_standard_output_overwrites_nothing(
    detector, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("quarantine.csv").write_text("mine")
    with pytest.raises(ValueError, match="Name another"):
        score_files(folder / "new.csv", detector, "-")
    assert pathlib.Path("quarantine.csv").read_text() == "mine"


def test_a_quarantine_file_of_an_earlier_run_does_not_stay(detector, folder, dirty, tmp_path):
    score_files(dirty, detector, tmp_path / "out.csv")
    score_files(folder / "new.csv", detector, tmp_path / "out.csv")
    assert (tmp_path / "out.csv.quarantine.csv").read_text() == "file,line,column,reason,text\n"
    shutil.rmtree(tmp_path / "out.csv.partial", ignore_errors=True)


# What is written


def test_columns_chooses_what_is_passed_through(detector, folder, tmp_path):
    score_files(
        folder / "new.csv", detector, tmp_path / "o.csv", columns=["day", "city"], explain=1
    )
    assert list(pd.read_csv(tmp_path / "o.csv"))[:3] == ["day", "city", "score"]
    with pytest.raises(TableError, match="missing columns: 'town'"):
        score_files(folder / "new.csv", detector, tmp_path / "o.csv", columns=["town"])


def test_only_anomalies_are_written_if_asked_for(detector, folder, tmp_path):
    options = {"only_anomalies": True, "chunk_rows": 9}
    score_files(folder / "new.csv", detector, tmp_path / "o.csv", **options)
    scored = pd.read_csv(folder / "out.csv")
    expected = scored[scored["is_anomaly"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "o.csv"), expected, check_dtype=False)


@pytest.mark.parametrize(
    ("suffix", "chunk_rows"),
    [pytest.param("csv", 20, marks=pytest.mark.slow), ("parquet", 130)],
)
def test_top_gives_the_lowest_scores_exactly(detector, folder, tmp_path, suffix, chunk_rows):
    output = tmp_path / f"o.{suffix}"
    inputs = [folder / "new.csv", shutil.copy(folder / "new.csv", tmp_path / "again.csv")]
    score_files(inputs, detector, output, top=11, chunk_rows=chunk_rows, explain=2)
    scored = pd.concat([pd.read_csv(folder / "out.csv")] * 2, ignore_index=True)
    expected = scored.sort_values("score", kind="stable")[:11]
    found = read(output)
    assert found["score"].tolist() == expected["score"].tolist()
    assert pd.to_numeric(found["amount"]).round(9).tolist()[:4] == [-90.0] * 2 + [400.0] * 2


def test_explain_names_the_columns_that_weigh_most_with_what_was_expected(
    detector, new, folder, tmp_path
):
    score_files(folder / "new.csv", detector, tmp_path / "o.parquet", explain=6)
    scored = pd.read_parquet(tmp_path / "o.parquet")
    flagged = scored["is_anomaly"]
    assert 1 < flagged.sum() < 200
    assert (scored["reason_1"][~flagged] == "").all()
    assert scored["reason_1_gain"][~flagged].isna().all()
    explained = detector.explain(new[flagged])
    np.testing.assert_array_equal(scored["reason_1"][flagged], explained["gain"].idxmax(axis=1))
    np.testing.assert_array_equal(scored["reason_1_gain"][flagged], explained["gain"].max(axis=1))
    assert scored["reason_1"][30] == "amount"
    expected, low, high = (explained[group]["amount"][30] for group in ("expected", "low", "high"))
    assert scored["reason_1_expected"][30] == f"{expected:.4g} ({low:.4g} to {high:.4g})"
    # Only what lowered the score is a reason.
    gains = scored.loc[flagged, [f"reason_{rank}_gain" for rank in range(1, 7)]]
    assert gains.min(axis=None) > 0 and gains.isna().any(axis=None)
    assert not any(name.startswith("feature_log_prob") for name in scored)


def test_listed_rows_have_reasons_whether_they_are_anomalies_or_not(detector, folder, tmp_path):
    score_files(folder / "new.csv", detector, tmp_path / "o.csv", explain=1, top=5, threshold=-1e9)
    scored = pd.read_csv(tmp_path / "o.csv")
    assert not scored["is_anomaly"].any()
    assert scored["reason_1"].notna().all()


@pytest.mark.slow
def test_chunks_have_the_reasons_of_their_anomalies(detector, folder, tmp_path):
    score_files(folder / "new.csv", detector, tmp_path / "o.parquet", explain=2)
    scored = pd.read_parquet(tmp_path / "o.parquet")
    for name in ("reason_1", "reason_2_gain", "reason_2_expected"):
        chunks = iter_scored(folder / "new.csv", detector, explain=2, chunk_rows=70)
        found = np.concatenate([chunk.outputs[name] for chunk in chunks])
        np.testing.assert_array_equal(found, scored[name])


def test_contributions_are_written_where_they_are_asked_for(detector, new, folder, tmp_path):
    score_files(folder / "new.csv", detector, tmp_path / "o.parquet", contributions=True)
    scored = pd.read_parquet(tmp_path / "o.parquet")
    contribution = detector.explain(new)["contribution"]
    for name in new:
        np.testing.assert_array_equal(scored[f"feature_log_prob:{name}"], contribution[name])


def test_the_threshold_can_be_another(detector, new, folder, tmp_path):
    scores = detector.score_samples(new)
    before = detector.offset_
    score_files(folder / "new.csv", detector, tmp_path / "o.csv", threshold=np.median(scores))
    scored = pd.read_csv(tmp_path / "o.csv")
    assert scored["is_anomaly"].sum() == 200
    np.testing.assert_array_equal(scored["decision"], scores - np.median(scores))
    report = score_files(folder / "new.csv", detector, tmp_path / "o.csv", false_alarm_rate=0.5)
    assert 0.3 < report["anomalies"] / 400 < 0.7
    assert detector.offset_ == before


@pytest.mark.slow
def test_rows_are_selected_at_a_false_discovery_rate(detector, table, new, folder, tmp_path):
    detector = copy.deepcopy(detector).calibrate(table)
    inputs = [folder / "new.csv", shutil.copy(folder / "new.csv", tmp_path / "again.csv")]
    report = score_files(inputs, detector, tmp_path / "o.csv", fdr=0.9, chunk_rows=90)
    scored = pd.read_csv(tmp_path / "o.csv")
    selected = detector.select(pd.concat([new, new]), fdr=0.9)
    np.testing.assert_array_equal(scored["is_anomaly"], selected)
    assert 0 < report["anomalies"] == selected.sum()
    assert (scored["p_value"][selected].max() <= scored["p_value"][~selected]).all()


def test_a_selection_that_few_calibration_rows_make_impossible_is_told_of(
    detector, folder, tmp_path
):
    report = score_files(folder / "new.csv", detector, tmp_path / "o.csv", fdr=0.001)
    assert report["anomalies"] == 0
    assert any("no row is selected" in warning for warning in report["warnings"])


def test_the_summary_estimates_the_share_of_anomalies(detector, new, folder, tmp_path):
    report = score_files(folder / "new.csv", detector, tmp_path / "o.csv")
    expected = detector.anomaly_share(new)
    for name, value in report["anomaly_share"].items():
        assert value == pytest.approx(getattr(expected, name), abs=0.03)
    (line,) = (text for text in summary_text(report) if "about" in text)
    assert "of these rows are anomalies" in line


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.0, "false_alarm_rate": 0.1},
        {"threshold": 1.0, "fdr": 0.1},
        {"fdr": 1.0},
        {"false_alarm_rate": 1e-9},
        {"explain": 7},
        {"explain": 0},
        {"top": 0},
        {"max_bad_rows": -1},
        {"threshold": np.nan},
        {"format": "parquet"},
        {"chunk_rows": 0},
        {"delimiter": "||"},
        {"encoding": "klingon"},
    ],
)
def test_options_that_make_no_sense_are_refused_and_leave_nothing(
    detector, folder, tmp_path, options
):
    with pytest.raises(ValueError, match=r"(?i)expected"):
        score_files(folder / "new.csv", detector, tmp_path / "out.csv", **options)
    assert list(tmp_path.iterdir()) == []


# The summary


def test_the_summary_of_rows_like_those_of_fit_has_no_warning(detector, new, folder, tmp_path):
    report = score_files(folder / "new.csv", detector, tmp_path / "out.csv", chunk_rows=99)
    scores = detector.score_samples(new)
    assert report["anomalies"] == (scores < detector.offset_).sum()
    for quantile in report["score_quantiles"]:
        exact = np.quantile(scores, quantile["share"], method="inverted_cdf")
        assert quantile["batch"] == pytest.approx(exact, rel=0.004)
    assert report["moved_columns"] == report["warnings"] == []
    assert json.loads(json.dumps(report)) == report


def test_the_summary_tells_which_columns_moved_and_that_the_batch_is_unlike(
    detector, new, tmp_path
):
    moved = new.assign(city="Atlantis", day=None, amount=new["amount"] + 50)
    moved["count"] = moved["count"].where(moved.index != 3, np.inf)
    report = score_files(write(moved, tmp_path / "t.csv"), detector, tmp_path / "out.csv")
    assert [(m["column"], m["share"]) for m in report["moved_columns"]] == [
        ("city", "missing"),
        ("city", "unseen"),
        ("day", "missing"),
    ]
    text = " ".join(report["warnings"])
    assert (
        "column 'city': 100.0% of the cells that are not missing are unseen, 0.0% in training"
        in text
    )
    assert "1 rows have infinite cells" in text
    assert "unlike the training data" in text


# All or nothing


class Stop(BaseException):
    """What no code expects."""


def stop_after(n_calls, error):
    def progress(*_):
        nonlocal n_calls
        n_calls -= 1
        if not n_calls:
            raise error

    return progress


def interrupted(inputs, detector, output, n_chunks=30, **options):
    with pytest.raises(KeyboardInterrupt):
        progress = stop_after(n_chunks, KeyboardInterrupt)
        score_files(inputs, detector, output, chunk_rows=10, progress=progress, **options)
    assert not pathlib.Path(output).exists()


def test_a_run_that_is_stopped_scores_one_chunk_ahead_at_most(
    table_detector, table, tmp_path, monkeypatch
):
    scored = []
    score = TableChunkScorer.scored
    monkeypatch.setattr(TableChunkScorer, "scored", lambda *args: scored.append(1) or score(*args))
    source = write(table[:100], tmp_path / "t.csv")
    interrupted(source, table_detector, tmp_path / "out.csv", n_chunks=3)
    assert len(scored) in (3, 4)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        pytest.param("csv.gz", {"only_anomalies": True}, marks=pytest.mark.slow),
        ("csv.zst", {"top": 9}),
        pytest.param("csv", {}, marks=pytest.mark.slow),
        pytest.param("parquet", {}, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_resumed_gives_the_same_bytes_and_does_nothing_twice(
    detector, new, dirty, tmp_path, suffix, options, monkeypatch
):
    inputs = [dirty, write(new[:100], tmp_path / "more.csv.gz")]
    output, expected = tmp_path / f"out.{suffix}", tmp_path / f"expected.{suffix}"
    report = score_files(inputs, detector, expected, chunk_rows=10, **options)
    interrupted(inputs, detector, output, n_chunks=30, **options)
    interrupted(inputs, detector, output, n_chunks=12, resume=True, **options)
    run, n_rows = detector.scorer_.run, 0

    def counted(arrays, names):
        nonlocal n_rows
        n_rows += len(arrays["amount"])
        return run(arrays, names)

    monkeypatch.setattr(detector.scorer_, "run", counted)
    again = score_files(inputs, detector, output, chunk_rows=10, resume=True, **options)
    assert n_rows < 500 - 10 * (30 + 12 - 2 * 8)
    assert again == report
    assert output.read_bytes() == expected.read_bytes()
    quarantined = [f"{path}.quarantine.csv" for path in (output, expected)]
    assert filecmp.cmp(*quarantined, shallow=False)
    assert not list(tmp_path.glob("*.partial"))


def test_without_resume_the_work_starts_again(detector, folder, whole, tmp_path):
    interrupted(folder / "new.csv", detector, tmp_path / "out.csv")
    score_files(folder / "new.csv", detector, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    ["--points --doors csv parquet", "--kills 12 --doors csv csv.gz parquet folder top"],
)
def test_killed_anywhere_and_resumed_all_files_are_those_of_an_uninterrupted_run(arguments):
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.robustness.kills", *arguments.split()],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    name, kills, *failures = process.stdout.splitlines()[-1].split()
    assert (name, failures) == ("all", ["0"] * 4)
    assert int(kills) >= 50


def change(path, content=None):
    pathlib.Path(path).write_bytes(content or pathlib.Path(path).read_bytes())
    os.utime(path, (1, 1))


def test_an_input_that_changed_is_not_resumed(detector, folder, tmp_path):
    source = shutil.copy(folder / "new.csv", tmp_path)
    interrupted(source, detector, tmp_path / "out.csv")
    change(source)
    with pytest.raises(ValueError, match=rf"Input {source} changed since the run to resume"):
        score_files(source, detector, tmp_path / "out.csv", chunk_rows=10, resume=True)
    assert not (tmp_path / "out.csv").exists()


def test_another_model_or_other_options_are_not_resumed(detector, folder, tmp_path):
    source, output = folder / "new.csv", tmp_path / "out.csv"
    interrupted(source, detector, output)
    with pytest.raises(ValueError, match="The options changed"):
        score_files(source, detector, output, chunk_rows=5, resume=True)
    other = copy.deepcopy(detector)
    other.scorer_.model.set_weights([0.9 * weight for weight in detector.scorer_.model.weights])
    with pytest.raises(ValueError, match="The model changed"):
        score_files(source, other, output, chunk_rows=10, resume=True)


@pytest.mark.parametrize(
    "content",
    [
        None,
        pytest.param(b"amount,count,city,member,day,grade\n1,1,,,,\n", marks=pytest.mark.slow),
    ],
    ids=["gone", "other rows"],
)
def test_an_input_that_changes_while_it_is_read_gives_no_output(
    detector, folder, tmp_path, content
):
    source = shutil.copy(folder / "new.csv", tmp_path)
    with pytest.raises(TableError, match="received one that did while it was read"):
        score_files(
            source,
            detector,
            tmp_path / "out.csv",
            chunk_rows=10,
            progress=lambda *_: change(source, content),
        )
    assert list(tmp_path.iterdir()) == [pathlib.Path(source)]


def work_of(folder, detector, tmp_path):
    """The folder with the work of a run that was interrupted."""
    interrupted(folder / "new.csv", detector, tmp_path / "out.csv")
    return tmp_path / "out.csv.partial"


def refused(folder, detector, tmp_path, match):
    """Resuming is refused in one sentence that says what to do; starting again works."""
    before = {path.name: path.read_bytes() for path in (tmp_path / "out.csv.partial").iterdir()}
    with pytest.raises(ValueError, match=match) as caught:
        score_files(folder / "new.csv", detector, tmp_path / "out.csv", chunk_rows=10, resume=True)
    assert "Start again without `resume`" in str(caught.value)
    assert "\n" not in str(caught.value)
    after = {path.name: path.read_bytes() for path in (tmp_path / "out.csv.partial").iterdir()}
    assert after == before
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["rows-0", pytest.param("quarantine-0", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "lost", ["one byte", *(pytest.param(lost, marks=pytest.mark.slow) for lost in ("all", "file"))]
)
def test_a_partial_file_shorter_than_recorded_is_refused(detector, dirty, tmp_path, name, lost):
    (tmp_path / "new.csv").write_bytes(dirty.read_bytes())
    work = work_of(tmp_path, detector, tmp_path)
    length = json.loads((work / "state.json").read_text())["state"]["lengths"][name]
    assert length > 0
    if lost == "file":
        (work / name).unlink()
    else:
        os.truncate(work / name, length - 1 if lost == "one byte" else 0)
    refused(tmp_path, detector, tmp_path, rf"{name}: expected {length} bytes or more")
    score_files(tmp_path / "new.csv", detector, tmp_path / "out.csv")
    assert not work.exists()


@given(
    content=st.one_of(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["state", "sha256", "job", "input", "lengths", "x"]), inner
                )
            ),
        ).map(json.dumps),
        st.binary(max_size=30),
        st.sampled_from(["", "{", "[" * 100_000, '{"state": ' + "[" * 900 + "]" * 900 + "}"]),
    )
)
def test_a_damaged_state_is_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("work")
    WorkFolder(folder, {"inputs": []}, resume=False).__exit__()
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "state.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.json: expected a whole file.*without `resume`"):
        WorkFolder(folder, {"inputs": []}, resume=True)
    assert (folder / "state.json").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"[]", b'{"inputs": 3}', b'{"inputs": [1, 2]}'])
def test_a_damaged_job_is_still_another_job(tmp_path, content):
    WorkFolder(tmp_path, {"inputs": [["a.csv", 1]]}, resume=False).__exit__()
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(ValueError, match="changed since the run to resume started"):
        WorkFolder(tmp_path, {"inputs": [["b.csv", 1]]}, resume=True)


def test_a_chunk_fills_the_blocks_of_the_scorer(detector):
    assert CHUNK_ROWS % detector.scorer_.chunk_rows == 0


def test_two_runs_do_not_write_the_same_output(detector, folder, tmp_path):
    def again(*_):
        score_files(folder / "new.csv", detector, tmp_path / "out.csv")

    with pytest.raises(ValueError, match="another run is at work"):
        score_files(folder / "new.csv", detector, tmp_path / "out.csv", progress=again)


def test_a_full_disk_leaves_nothing_half_written_and_can_be_resumed(
    detector, folder, whole, tmp_path, monkeypatch
):
    commit, n_left = TableWriter.commit, 3

    def full(writer):
        nonlocal n_left
        n_left -= 1
        if not n_left:
            writer.close()
            writer._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
            writer.write(pa.table({"a": ["1"]}), {})
        return commit(writer)

    monkeypatch.setattr(TableWriter, "commit", full)
    with pytest.raises(TableError, match="No space left") as caught:
        score_files(folder / "new.csv", detector, tmp_path / "out.csv", chunk_rows=10)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv.partial"]
    score_files(folder / "new.csv", detector, tmp_path / "out.csv", chunk_rows=10, resume=True)
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_a_folder_that_is_not_ours_is_left_alone(detector, folder, tmp_path):
    (tmp_path / "out.csv.partial").mkdir()
    (tmp_path / "out.csv.partial" / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        score_files(folder / "new.csv", detector, tmp_path / "out.csv")
    assert os.listdir(tmp_path / "out.csv.partial") == ["thesis.txt"]


@pytest.mark.slow
def test_other_columns_to_keep_are_not_resumed(detector, table, new, tmp_path):
    source = write(new.assign(note="x"), tmp_path / "t.csv")
    interrupted(source, detector, tmp_path / "out.csv")
    other = with_kinds(detector, {"note": "dropped"})
    with pytest.raises(ValueError, match="The columns changed"):
        score_files(source, other, tmp_path / "out.csv", chunk_rows=10, resume=True)


def test_an_output_that_cannot_be_written_is_an_error_at_once(detector, folder, tmp_path):
    with pytest.raises(ValueError, match="expected a folder to write it to"):
        score_files(folder / "new.csv", detector, tmp_path / "no" / "out.csv")


def test_an_unexpected_error_leaves_the_work_if_there_is_some(detector, folder, whole, tmp_path):
    source, output = folder / "new.csv", tmp_path / "o.csv"
    for n_chunks in (3, 12):
        with pytest.raises(Stop):
            progress = stop_after(n_chunks, Stop)
            score_files(source, detector, output, chunk_rows=10, progress=progress)
        assert os.listdir(tmp_path) == ([] if n_chunks == 3 else ["o.csv.partial"])
    score_files(source, detector, output, chunk_rows=10, resume=True)
    assert output.read_bytes() == whole


PEAK = """
import resource, sys
from benchmarks.robustness import kills
kills.CHUNK_ROWS, folder = 8160, kills.pathlib.Path(sys.argv[1])
kills.tables.fingerprint = lambda scorer: "a stand-in"
for number in range(2):
    with (folder / f"{number}.csv").open("w") as file:
        file.write("a,note\\n")
        file.writelines(f"{i}," + "x" * 500 + "\\n" for i in range(int(sys.argv[2])))
kills.score(folder, "csv", False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_files(tmp_path):
    peaks = []
    for n_rows in (50_000, 200_000):
        command = [sys.executable, "-c", PEAK, tmp_path, str(n_rows)]
        peaks.append(int(subprocess.check_output(command, cwd=ROOT)))
    assert peaks[1] < peaks[0] + 50  # MiB; the files are of 50 and 200
