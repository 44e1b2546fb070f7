"""Law 13: the same rows give the same detector from memory and from files, in parts or whole."""

import itertools
import re
import types
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_detectors import SMALL as SMALLEST
from test_cli import assert_one_line_error, run

from vae_anomaly import AutoencoderDetector, Schema, TableFiles, VAEDetector
from vae_anomaly.batch import progress
from vae_anomaly.cli.fit_files import input_kind
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.detectors import artifact
from vae_anomaly.detectors.packing import named_weights
from vae_anomaly.detectors.table_input import TableInput
from vae_anomaly.tables import table_files
from vae_anomaly.tables.all_rows import AllRows
from vae_anomaly.tables.inspecting import Inspection, frame_schema
from vae_anomaly.tables.level_counts import LevelCounts
from vae_anomaly.tables.quantiles import QuantileSketch
from vae_anomaly.tables.sampling import RowSample

SMALL = {**SMALLEST, "kinds": {"order": "id"}}


def orders(n_rows=300, seed=0):
    """A table of every kind of column, with missing cells."""
    rng = np.random.default_rng(seed)
    city = rng.choice(["Bergen", "Oslo", "Tromsø"], n_rows, p=[0.2, 0.7, 0.1])
    sent = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9**8, n_rows), "s")
    frame = pd.DataFrame(
        {
            "amount": rng.lognormal(1, 1, n_rows).round(2),
            "count": rng.poisson(3, n_rows),
            "city": city,
            "paid": rng.random(n_rows) < 0.3,
            "sent": sent,
            "seen": sent + pd.to_timedelta(rng.integers(60, 9**5, n_rows), "s"),
            "order": [f"o{index:05d}" for index in range(n_rows)],
        }
    )
    frame.loc[::7, ["amount", "city"]] = None
    return frame


@pytest.fixture(scope="module")
def frame():
    return orders()


def write(frame, folder, suffix, ends=(120, 250)):
    """Write rows as several files, whose names are in the rows' order."""
    folder.mkdir(exist_ok=True)
    starts, ends = (0, *ends), (*ends, len(frame))
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        path, part = folder / f"part-{number}.{suffix}", frame[start:end]
        part.to_csv(path, index=False) if suffix == "csv" else part.to_parquet(path, index=False)
    return folder


def parts_of(frame, n_rows=100):
    return [frame[start : start + n_rows] for start in range(0, len(frame), n_rows)]


DOORS = {
    "csv files": lambda frame, folder: TableFiles(write(frame, folder, "csv")),
    "parquet files": lambda frame, folder: TableFiles(write(frame, folder, "parquet")),
    "one parquet file": lambda frame, folder: TableFiles(write(frame, folder, "parquet", ends=())),
    "data set": lambda frame, folder: pa.dataset.dataset(write(frame, folder, "parquet")),
    "list of DataFrames": lambda frame, _: parts_of(frame),
    "list of Arrow tables": lambda frame, _: [
        pa.Table.from_pandas(part, preserve_index=False) for part in parts_of(frame)
    ],
}


def weights_of(detector):
    return {name: np.asarray(w) for name, w in named_weights(detector.scorer_).items()}


def learned(X, **params):
    """What ``fit`` goes on with: training rows, and the input that learned from them."""
    detector = VAEDetector(**{**SMALL, **params})
    chosen = TableInput()
    arrays, _ = chosen.learn(detector, X, 5, None)
    return chosen, arrays


def assert_learned_alike(one, other):
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, other[1][name])
    preprocessors = one[0].preprocessor, other[0].preprocessor
    for name in ("kinds", "levels", "dates", "profiles"):
        assert getattr(preprocessors[0], name) == getattr(preprocessors[1], name)
    for weights in zip(*(layer.weights for layer in preprocessors), strict=True):
        np.testing.assert_array_equal(*weights)


@pytest.fixture(scope="module")
def in_memory(frame):
    return learned(frame)


@pytest.mark.parametrize("door", DOORS)
def test_rows_in_parts_teach_what_they_teach_in_memory(frame, in_memory, door, tmp_path):
    found = learned(DOORS[door](frame, tmp_path))
    assert len(found[1]["count"]) == len(frame)
    assert_learned_alike(found, in_memory)


@pytest.mark.parametrize(
    ("detector_class", "door"),
    [
        (AutoencoderDetector, "csv files"),
        *(pytest.param(VAEDetector, door, marks=pytest.mark.slow) for door in DOORS),
    ],
)
def test_rows_in_parts_give_the_detector_that_they_give_in_memory(
    frame, detector_class, door, tmp_path
):
    known = detector_class().get_params()
    params = {name: value for name, value in SMALL.items() if name in known}
    detector = detector_class(**params).fit(DOORS[door](frame, tmp_path))
    expected = detector_class(**params).fit(frame)
    weights, others = weights_of(detector), weights_of(expected)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, others[name], err_msg=name)
    np.testing.assert_array_equal(detector.score_samples(frame), expected.score_samples(frame))


@pytest.fixture(scope="module")
def sampled(frame):
    found = learned(frame, max_rows=100)
    assert len(found[1]["count"]) == 100
    return found


@pytest.mark.parametrize("door", DOORS)
def test_a_sample_of_rows_is_the_same_by_every_door(frame, sampled, door, tmp_path):
    assert_learned_alike(learned(DOORS[door](frame, tmp_path), max_rows=100), sampled)


@pytest.mark.parametrize("chunk_rows", [7, 64])
def test_how_files_are_cut_into_parts_changes_nothing(
    frame, sampled, tmp_path, monkeypatch, chunk_rows
):
    monkeypatch.setattr(table_files, "_CHUNK_ROWS", chunk_rows)
    files = TableFiles(write(frame, tmp_path, "parquet"))
    assert_learned_alike(learned(files, max_rows=100), sampled)


@given(
    seed=st.integers(0, 99),
    n_rows=st.integers(2, 60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    max_rows=st.integers(1, 70),
)
@settings(max_examples=15)
def test_any_cut_of_a_table_teaches_the_same(seed, n_rows, cuts, max_rows):
    frame = orders(n_rows, seed)
    ends = [0, *sorted(min(cut, n_rows) for cut in cuts), n_rows]
    parts = [frame[start:end] for start, end in itertools.pairwise(ends)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # few rows make odd columns
        assert_learned_alike(learned(parts, max_rows=max_rows), learned(frame, max_rows=max_rows))


def test_the_order_in_which_files_are_given_changes_nothing(frame, sampled, tmp_path):
    folder = write(frame, tmp_path, "csv")
    files = TableFiles([folder / "part-2.csv", f"{folder}/part-[01].csv"])
    assert_learned_alike(learned(files, max_rows=100), sampled)


def test_what_is_learned_about_columns_is_by_all_rows(frame):
    rare = frame.assign(amount=1.0, city="Oslo")
    rare.loc[[17, 219], ["amount", "city"]] = [1000.0, "Alta"]
    preprocessor = learned(parts_of(rare), max_rows=20)[0].preprocessor
    assert preprocessor.levels["city"] == ["Alta", "Oslo"]
    whole = learned(rare)[0].preprocessor
    np.testing.assert_array_equal(preprocessor.bounds, whole.bounds)
    np.testing.assert_array_equal(preprocessor.missing_share, whole.missing_share)
    assert preprocessor.dates == whole.dates


def test_whole_numbers_keep_their_type_where_all_dataframes_have_it(frame, in_memory):
    parts = parts_of(frame)
    assert learned(parts)[0].preprocessor.dtypes == in_memory[0].preprocessor.dtypes
    parts[1] = parts[1].assign(count=parts[1]["count"].astype(float))
    assert learned(parts)[0].preprocessor.dtypes == {}


def test_a_sample_is_told_of_unless_it_was_asked_for(frame, monkeypatch):
    monkeypatch.setattr("vae_anomaly.detectors.training_rows.default_max_rows", lambda n: 50)
    with pytest.warns(DataWarning, match="50 of 300 rows train"):
        learned(parts_of(frame))
    learned(parts_of(frame), max_rows=50)


# The sample


def sample_of(keys, max_rows, part_rows, seed=3):
    sample = RowSample({"key": "numeric"}, max_rows, seed)
    for start in range(0, len(keys), part_rows):
        sample.add({"key": keys[start : start + part_rows]})
    return sample.arrays()["key"]


@given(
    n_rows=st.integers(1, 400),
    max_rows=st.integers(1, 100),
    part_rows=st.tuples(st.integers(1, 50), st.integers(1, 500)),
)
@settings(max_examples=40)
def test_a_sample_does_not_depend_on_parts(n_rows, max_rows, part_rows):
    rows = np.arange(float(n_rows))
    one, other = (sample_of(rows, max_rows, size) for size in part_rows)
    np.testing.assert_array_equal(one, other)
    assert len(one) == min(n_rows, max_rows)
    assert (np.diff(one) > 0).all()


def test_each_row_is_as_likely_in_the_sample():
    rows = np.arange(100.0)
    counts = np.zeros(100)
    for seed in range(400):
        counts[sample_of(rows, 25, 10, seed).astype(int)] += 1
    # Binomial: 100 on average, with a standard deviation of 8.7.
    assert counts.sum() == 400 * 25
    assert 60 < counts.min() < counts.max() < 140
    assert abs(counts[:50].sum() / counts.sum() - 0.5) < 0.03


# What all rows show


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    repeats=st.integers(1, 3000),
    part=st.integers(1, 9000),
)
@settings(max_examples=25)
def test_ranks_are_within_the_error_of_the_sketch(values, repeats, part):
    numbers = np.repeat(np.array(values), repeats) + np.tile(np.arange(repeats) % 7, len(values))
    sketch = QuantileSketch()
    for start in range(0, len(numbers), part):
        sketch.add(numbers[start : start + part])
    kept, weights = sketch.weighted()
    assert weights.sum() == sketch.n == len(numbers)
    assert np.isin(kept, numbers).all()
    assert (kept[0], kept[-1]) == (numbers.min(), numbers.max())
    for value in np.quantile(numbers, [0, 0.1, 0.5, 0.99, 1]):
        share = np.average(kept <= value, weights=weights)
        assert abs(share - np.mean(numbers <= value)) <= sketch.error + 2 / len(numbers)


def test_a_sorted_stream_has_no_larger_error():
    sketch = QuantileSketch()
    n = 2_000_000
    sketch.add(np.arange(float(n)))
    kept, weights = sketch.weighted()
    ranks = np.cumsum(weights) - weights / 2
    assert len(kept) < 80_000
    assert np.abs(ranks - kept).max() / n <= sketch.error < 0.0005


def test_counts_of_very_many_values_are_too_low_by_little(monkeypatch):
    monkeypatch.setattr("vae_anomaly.tables.level_counts.MOST_VALUES", 50)
    rng = np.random.default_rng(0)
    texts = np.array([f"v{n}" for n in rng.zipf(1.3, 20_000)], dtype=object)
    counts = LevelCounts()
    for part in np.array_split(texts, 100):
        counts.add(part)
    found, n_cells = counts.arrays()
    exact = dict(zip(*np.unique(texts.astype(str), return_counts=True), strict=True))
    assert len(found) <= 100
    for text, n in zip(found, n_cells, strict=True):
        assert exact[text] - len(texts) / 50 <= n <= exact[text]
    most = sorted(exact, key=exact.get)[-5:]
    assert set(most) <= set(found)


def test_scales_of_a_stream_are_those_of_its_rows_within_the_error():
    rng = np.random.default_rng(1)
    columns = {"even": rng.normal(40, 3, 100_000), "skewed": rng.lognormal(0, 1.5, 100_000)}
    from vae_anomaly.tables.scales import learn_scale

    all_rows = AllRows(dict.fromkeys(columns, "numeric"))
    for part in range(0, 100_000, 9_000):
        all_rows.add({name: values[part : part + 9_000] for name, values in columns.items()})
    for name, values in columns.items():
        ((kept, weights),) = all_rows.numbers(name, "value", {})
        exact = learn_scale(values, normal_scores=True)
        found = learn_scale(kept, normal_scores=True, weights=weights)
        np.testing.assert_allclose(found[:2], exact[:2], rtol=2e-3)
        assert (found.scores is None) == (exact.scores is None) == (name == "even")
        if exact.scores:
            near = slice(52, 205)  # scores between -2.6 and 2.6, about
            np.testing.assert_allclose(
                found.scores.knots[near], exact.scores.knots[near], rtol=0.03, atol=0.03
            )


# Wrong inputs


def message_of(function):
    with pytest.raises((ValueError, TypeError)) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_files_of_other_columns_are_an_error_that_names_them(frame, tmp_path):
    folder = write(frame, tmp_path, "csv")
    frame.rename(columns={"city": "town"}).to_csv(folder / "part-9.csv", index=False)
    message = message_of(lambda: VAEDetector(**SMALL).fit(TableFiles(folder)))
    for word in ("part-9.csv", "missing columns: 'city'", "unexpected columns: 'town'"):
        assert word in message


def test_files_beside_others_need_not_be_written_as_the_schema_says(tmp_path):
    rows = [f"{n / 7};{n % 3}\n" for n in range(60)]
    (tmp_path / "a.csv").write_text("My measurements\na;b\nkg;m\n" + "".join(rows[:30]))
    schema = TableFiles(tmp_path).inspect()
    assert schema.dialect.units_row and schema.dialect.skip_lines == 1
    (tmp_path / "b.csv").write_text("a;b\n" + "".join(rows[30:]))
    found = learned(TableFiles(tmp_path), kinds=None, schema=schema)
    np.testing.assert_array_equal(found[1]["a"], [float(row.split(";")[0]) for row in rows])


def test_a_schema_says_in_which_encoding_several_files_are(tmp_path):
    rows = [f"{n / 7},{'blå' if n % 2 else 'grå'}\n" for n in range(60)]
    for index, part in enumerate((rows[:30], rows[30:])):
        path = tmp_path / f"{index}.csv"
        path.write_bytes(("a,farge\n" + "".join(part)).encode("cp1252"))
    schema = TableFiles(tmp_path).inspect(dialect={"encoding": "cp1252"})
    found = learned(TableFiles(tmp_path), kinds=None, schema=schema)
    assert set(found[1]["farge"]) == {"blå", "grå"}


def test_columns_may_come_in_any_order(frame, in_memory, tmp_path):
    folder = write(frame, tmp_path, "csv")
    last = pd.read_csv(folder / "part-2.csv", dtype=str, keep_default_na=False)
    last[last.columns[::-1]].to_csv(folder / "part-2.csv", index=False)
    assert_learned_alike(learned(TableFiles(folder)), in_memory)


def test_no_rows_are_an_error(frame, tmp_path):
    frame[:0].to_csv(tmp_path / "none.csv", index=False)
    (tmp_path / "blank.csv").touch()
    kinds = dict.fromkeys(frame.columns, "numeric")
    none = TableFiles(tmp_path / "none.csv")
    assert "0 sample(s)" in message_of(lambda: VAEDetector(**SMALLEST, kinds=kinds).fit(none))
    blank = TableFiles(tmp_path / "blank.csv")
    assert "a header of column names" in message_of(lambda: VAEDetector(**SMALL).fit(blank))
    assert "expected table files" in message_of(lambda: TableFiles(tmp_path / "no*.parquet"))
    assert "standard input" in message_of(lambda: TableFiles("-"))


def test_what_can_be_read_only_once_needs_a_schema(frame, in_memory):
    parts = parts_of(frame)
    message = message_of(lambda: VAEDetector(**SMALL).fit(iter(parts)))
    assert "Expected `schema`" in message and "only once" in message
    found = learned(iter(parts), kinds=None, schema=in_memory[0].schema)
    assert_learned_alike(found, in_memory)


def test_an_iterable_of_something_else_is_an_error():
    message = message_of(lambda: VAEDetector(**SMALLEST).fit(n for n in (1, 2)))
    assert "Expected `schema`" in message
    schema = Schema.of_kinds({"a": "numeric"})
    message = message_of(lambda: VAEDetector(**SMALLEST, schema=schema).fit(n for n in (1, 2)))
    assert "Expected an iterable of DataFrames. Received: int as number 1" in message


@pytest.mark.parametrize("pattern", ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S"])
def test_types_may_differ_between_files_and_cells_tell(frame, tmp_path, pattern):
    half = len(frame) // 2
    frame[:half].to_parquet(tmp_path / "a.parquet", index=False)
    frame[half:].to_csv(tmp_path / "b.csv", index=False, date_format=pattern)
    files = TableFiles(tmp_path)
    schema = files.inspect(kinds=SMALL["kinds"])
    expected = frame_schema(frame, kinds=SMALL["kinds"])
    assert schema.kinds == expected.kinds
    for name, column in schema.columns.items():
        assert column.missing_share == expected.columns[name].missing_share
        assert column.n_bad == 0
    for name, array in learned(files)[1].items():
        np.testing.assert_array_equal(array, learned(frame)[1][name])


def test_dates_in_no_known_format_beside_a_type_of_dates_are_an_error(frame, tmp_path):
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    frame.assign(sent="soon").to_csv(tmp_path / "b.csv", index=False)
    message = message_of(TableFiles(tmp_path).inspect)
    assert "Column 'sent': expected dates in a usual format. Received: 'soon'" in message


def test_weights_of_rows_that_come_in_parts_are_refused(frame):
    message = message_of(
        lambda: VAEDetector(**SMALL).fit(parts_of(frame), sample_weight=np.ones(len(frame)))
    )
    assert "Expected no `sample_weight`" in message


def test_an_infinity_is_an_error_beyond_the_sample_too():
    frame = pd.DataFrame({"a": np.arange(50.0) / 7, "b": np.sin(np.arange(50.0))})
    frame.loc[44, "b"] = np.inf
    message = message_of(lambda: VAEDetector(**SMALLEST, max_rows=10).fit(parts_of(frame, 20)))
    assert message.startswith("DataFrame 3, column 'b': expected finite numbers")


@pytest.mark.parametrize("max_rows", [None, 10])
@pytest.mark.filterwarnings("ignore:Left out 2 rows")
def test_an_infinity_in_memory_is_named_by_its_row_whatever_was_left_out(max_rows):
    frame = pd.DataFrame({"a": np.arange(50.0) / 7, "b": np.arange(50.0).astype(object)})
    frame.loc[[3, 8], "b"] = "oops"
    frame.loc[44, "a"] = np.inf
    weights = None if max_rows else np.arange(50.0)
    detector = VAEDetector(**SMALLEST, max_rows=max_rows, kinds={"b": "numeric"})
    message = message_of(lambda: detector.fit(frame, sample_weight=weights))
    assert message.startswith("Column 'a': expected finite numbers. Received: infinity in row 44.")


def test_a_data_set_without_a_column_is_an_error_that_names_it(frame, tmp_path):
    data = pa.dataset.dataset(write(frame, tmp_path, "parquet"))
    schema = Schema.of_kinds({"size": "numeric", "cost": "numeric"})
    message = message_of(lambda: VAEDetector(**SMALLEST, schema=schema).fit(data))
    assert message.startswith("the data set: missing columns: 'size'")


# Bad rows


@pytest.fixture
def with_bad_rows(frame, tmp_path):
    folder = write(frame, tmp_path, "csv")
    path = folder / "part-1.csv"
    path.write_text(path.read_text().replace("\n", "\nx,1,Oslo,True,2024-01-01,2024-01-02,o\n", 1))
    with path.open("a") as file:
        file.write("1,2\n")
    return folder


def test_bad_rows_are_told_of_or_put_aside_and_do_not_train(
    frame, in_memory, with_bad_rows, tmp_path
):
    with pytest.warns(DataWarning, match=r"Left out 2 rows .*part-1.csv, line 2, column 'amount'"):
        assert_learned_alike(learned(TableFiles(with_bad_rows)), in_memory)
    files = TableFiles(with_bad_rows, quarantine=tmp_path / "bad.csv")
    assert_learned_alike(learned(files), in_memory)
    bad = pd.read_csv(tmp_path / "bad.csv")
    assert bad["line"].tolist() == [2, 133]
    assert bad["column"].tolist()[0] == "amount"
    assert files.n_rows - files.bad.n_rows == len(frame)


@pytest.mark.parametrize("most", [-1, 1.5, "2"])
def test_a_number_of_bad_rows_that_cannot_be_is_refused(tmp_path, most):
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    with pytest.raises(ValueError, match="Expected `max_bad_rows` to be a whole number"):
        TableFiles(tmp_path / "a.csv", max_bad_rows=most)


def test_no_training_file_is_overwritten_by_bad_rows(with_bad_rows):
    path = with_bad_rows / "part-1.csv"
    assert "a file of its own" in message_of(lambda: TableFiles(path, quarantine=path))


def test_too_many_bad_rows_leave_no_quarantine(with_bad_rows, tmp_path):
    files = TableFiles(with_bad_rows, quarantine=tmp_path / "bad.csv", max_bad_rows=1)
    message = message_of(lambda: VAEDetector(**SMALL).fit(files))
    assert "expected at most 1 bad rows, received 2" in message
    assert not (tmp_path / "bad.csv").exists()


def test_bad_cells_of_dataframes_are_left_out_with_a_warning():
    frame = pd.DataFrame({"a": [str(n / 7) for n in range(100)], "b": np.sin(np.arange(100.0))})
    frame.loc[41, "a"] = "oops"
    with pytest.warns(DataWarning, match="Left out 1 rows .*DataFrame 3, line 1, column 'a'"):
        found = learned(parts_of(frame, 20), kinds=None)
    assert_learned_alike(found, learned(frame.drop(index=41), kinds=None))


# The command line


def fit(*arguments):
    small = ("--score-type", "elbo", "--hidden-units", "4", "--max-steps", "2", "--id", "order")
    return run("fit", *arguments, *small)


def test_fit_takes_files_folders_and_patterns_and_says_what_a_sample_is_for(
    frame, trainings, tmp_path, monkeypatch
):
    folder = write(frame, tmp_path / "in", "parquet")
    frame[:40].to_csv(tmp_path / "more.csv", index=False)
    moments = iter(range(0, 10**6, 31))
    # Not of the module ``time``, by which the threads of other tests wait.
    clock = types.SimpleNamespace(monotonic=lambda: next(moments))
    monkeypatch.setattr(progress, "time", clock)
    model = tmp_path / "m"
    result = fit(f"{folder}/*.parquet", folder, "--model", model)
    assert_one_line_error(result, "expected each input once")
    inputs = (f"{folder}/part-[01].parquet", folder / "part-2.parquet", tmp_path / "more.csv")
    result = fit(*inputs, "--model", model, "--max-rows", 50)
    assert result.exit_code == 0, result.output
    *_, exact, last, _ = result.stderr.splitlines()
    assert exact.startswith(
        "by all rows: kinds, formats, levels, missing shares and ranges, exactly"
    )
    assert f"{model}: fitted on 50 of 340 rows of 6 columns, as they come;" in last
    lines = [line for line in result.stderr.splitlines() if line.endswith("% read")]
    assert re.fullmatch(r"inspecting: 120 rows, \d+% read", lines[0])
    assert re.fullmatch(r"reading: 340 rows, \d+ rows/s, 100% read", lines[-1])
    assert artifact.read(model)["params"]["max_rows"] == 50


def test_inspect_looks_at_several_files(frame, tmp_path):
    folder = write(frame, tmp_path / "in", "csv")
    result = run("inspect", folder, "--output", tmp_path / "schema.json")
    assert result.exit_code == 0, result.output
    schema = Schema.from_file(tmp_path / "schema.json")
    assert schema.kinds == TableFiles(folder).inspect().kinds
    assert abs(schema.columns["city"].missing_share - frame["city"].isna().mean()) < 1e-9


@pytest.mark.slow
def test_what_an_earlier_fit_put_aside_is_no_input(frame, trainings, tmp_path):
    folder = write(frame, tmp_path / "in", "csv")
    (folder / "m.quarantine.csv").write_text("file,line,column,reason,text\na,1,b,c,d\n")
    for options in (("--dry-run",), ("--quiet",)):
        result = fit(folder, "--model", folder / "m", *options)
        assert result.exit_code == 0, result.output


def test_a_folder_of_images_stands_alone(frame, tmp_path):
    write(frame, tmp_path / "in", "csv")
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "sub" / "a.png").touch()
    assert input_kind([str(tmp_path / "in")]) == "images"
    assert input_kind([str(tmp_path)]) == "images"  # no tables
    assert input_kind([str(tmp_path / "in" / "part-0.csv")]) == "table"
    result = fit(tmp_path / "in", tmp_path / "in" / "part-0.csv", "--model", tmp_path / "m")
    assert_one_line_error(result, "Expected one folder of images", "2 inputs")
    result = run("fit", tmp_path / "in", "--model", tmp_path / "m", "--dry-run")
    assert_one_line_error(result, "Expected --dry-run for a table only")


def test_an_interrupted_fit_says_how_far_it_was_and_leaves_nothing(frame, tmp_path, monkeypatch):
    folder = write(frame, tmp_path / "in", "csv")

    def interrupt(self, where, rows, bad=()):
        if "part-1" in where:
            raise KeyboardInterrupt
        self.n_rows += rows.num_rows

    monkeypatch.setattr(Inspection, "add_rows", interrupt)
    result = fit(folder, "--model", tmp_path / "m", "--quiet")
    assert result.exit_code == 130
    assert re.search(
        r"stopped while inspecting: 120 rows, \d+% of the files; a new fit starts anew",
        result.stderr,
    )
    assert not (tmp_path / "m").exists()


def test_a_schema_is_not_written_over_its_table(frame, tmp_path):
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    content = path.read_bytes()
    for inputs in (path, tmp_path):
        result = run("inspect", inputs, "--output", path)
        assert result.exit_code == 2
        assert "expected a file of its own to write, received an input" in result.stderr
    assert path.read_bytes() == content


def test_hidden_files_of_a_folder_are_no_tables(frame, tmp_path):
    for name in ("a.csv", "._a.csv", ".b.parquet"):
        (tmp_path / name).touch()
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert TableFiles(tmp_path).paths == [str(tmp_path / "a.csv")]
    assert TableFiles(tmp_path / "._a.csv").paths == [str(tmp_path / "._a.csv")]
