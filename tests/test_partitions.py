"""Law 13 for rows in partitions: however a table is cut, and merged again, it teaches the same."""

import dataclasses
import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fit_files import (
    SMALL,
    SMALLEST,
    assert_learned_alike,
    learned,
    message_of,
    orders,
)

from vae_anomaly import Schema, VAEDetector
from vae_anomaly.data_warning import DataWarning
from vae_anomaly.tables import level_counts, quantiles
from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.files import TableError
from vae_anomaly.tables.inspecting import Inspection, frame_schema
from vae_anomaly.tables.level_counts import LevelCounts
from vae_anomaly.tables.partitions import PartitionedRows
from vae_anomaly.tables.quantiles import QuantileSketch
from vae_anomaly.tables.sampling import RowSample, largest_key


class CutTable(PartitionedRows):
    """A table in memory, cut into partitions; what they are asked and say is pickled."""

    def __init__(self, frame, ends=(), max_bad_rows=None):
        self.table = pa.Table.from_pandas(frame, preserve_index=False)
        self.ends = [0, *sorted(min(end, len(frame)) for end in ends), len(frame)]
        types = [(field.name, str(field.type)) for field in self.table.schema]
        super().__init__(types, max_bad_rows)

    def in_partitions(self, read, columns):
        for number, (start, end) in enumerate(itertools.pairwise(self.ends)):
            part = self.table.select(columns).slice(start, end - start)
            there = pickle.loads(pickle.dumps(read))
            yield number, pickle.loads(pickle.dumps(there(number, iter(part.to_batches(99)))))


def merged(parts, draw):
    """Merge parts with those beside them, in a grouping that hypothesis draws."""
    parts = list(parts)
    while len(parts) > 1:
        index = draw(st.integers(0, len(parts) - 2))
        parts[index].merge(parts.pop(index + 1))
    return parts[0]


cuts = st.lists(st.integers(0, 60), max_size=5)
KINDS = {"amount": "numeric", "city": "categorical", "sent": "datetime", "seen": "datetime"}


def shown(all_rows):
    """All that ``AllRows`` says, as text."""
    since = {"sent": None, "seen": "sent"}
    numbers = [("amount", "value"), ("sent", "time"), ("seen", "time"), ("seen", "since")]
    found = [
        all_rows.n_rows,
        all_rows.date_parts(),
        *(array.tolist() for array in all_rows.level_counts("city")),
        *(all_rows.missing_share(name) for name in KINDS),
        *(all_rows.bounds(name) for name in ("amount", "sent", "seen")),
    ]
    for name, part in numbers:
        found += [(x.tolist(), w.tolist()) for x, w in all_rows.numbers(name, part, since)]
    return repr(found)


# What is merged


@given(st.data(), st.integers(0, 99), st.integers(2, 60), cuts, st.integers(1, 70))
@settings(max_examples=6)
def test_samples_of_parts_merge_into_that_of_the_table(data, seed, n_rows, ends, max_rows):
    frame = orders(n_rows, seed)
    arrays = frame_arrays(frame[list(KINDS)], Schema.of_kinds(KINDS))
    whole = RowSample(KINDS, max_rows, seed)
    whole.add(arrays)
    is_known = data.draw(st.booleans())
    largest = largest_key(n_rows, max_rows, seed) if is_known else None
    parts = []
    for start, end in itertools.pairwise([0, *sorted(min(end, n_rows) for end in ends), n_rows]):
        part = RowSample(KINDS, max_rows, seed, first_row=start, largest=largest)
        part.add({name: array[start:end] for name, array in arrays.items()})
        parts.append(part)
    found = merged(parts, data.draw)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)
    assert (found.all_rows is None) == (whole.all_rows is None) == (n_rows <= max_rows)
    if whole.all_rows:
        assert shown(found.all_rows) == shown(whole.all_rows)


@given(st.data(), st.integers(0, 99), st.integers(2, 60), cuts)
@settings(max_examples=6)
def test_inspections_of_parts_merge_into_that_of_the_table(data, seed, n_rows, ends):
    frame = orders(n_rows, seed).assign(code=[f"{n % 7:02d}" for n in range(n_rows)])
    parts = []
    for start, end in itertools.pairwise([0, *sorted(min(end, n_rows) for end in ends), n_rows]):
        parts.append(Inspection())
        parts[-1].add_frame("a part", frame[start:end])
    found, whole = merged(parts, data.draw).decide(), frame_schema(frame)
    assert found.kinds == whole.kinds
    for name, column in whole.columns.items():
        other = found.columns[name]
        assert dataclasses.replace(other, examples=column.examples) == column


@given(st.data(), st.lists(st.integers(0, 120), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=25)
def test_a_merged_sketch_keeps_the_bound_of_its_error(data, sizes, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "_BLOCK", 16)
        numbers = np.random.default_rng(seed).normal(size=sum(sizes)).round(1)
        parts = []
        for part in np.split(numbers, np.cumsum(sizes)[:-1]):
            parts.append(QuantileSketch())
            parts[-1].add(part)
        sketch = merged(parts, data.draw)
        kept, weights = sketch.weighted()
        assert weights.sum() == sketch.n == len(numbers)
        assert np.isin(kept, numbers).all()
        if not len(numbers):
            return
        assert (kept[0], kept[-1]) == (numbers.min(), numbers.max())
        for value in np.unique(numbers):
            share = np.average(kept <= value, weights=weights)
            assert abs(share - np.mean(numbers <= value)) <= sketch.error + 2 / len(numbers)
        if len(numbers) < 2 * 16:
            np.testing.assert_array_equal(np.repeat(kept, weights.astype(int)), np.sort(numbers))


def test_merged_counts_of_very_many_values_are_too_low_by_little(monkeypatch):
    monkeypatch.setattr(level_counts, "MOST_VALUES", 50)
    texts = np.array([f"v{n}" for n in np.random.default_rng(0).zipf(1.3, 5000)], dtype=object)
    counts = LevelCounts()
    for part in np.array_split(texts, 20):
        of_part = LevelCounts()
        of_part.add(part)
        counts.merge(of_part)
    exact = dict(zip(*np.unique(texts.astype(str), return_counts=True), strict=True))
    found, n_cells = counts.arrays()
    assert len(found) <= 100
    for text, n in zip(found, n_cells, strict=True):
        assert exact[text] - len(texts) / 50 <= n <= exact[text]


# What a fit learns of partitions


@pytest.fixture(scope="module")
def frame():
    return orders()


@pytest.mark.parametrize("max_rows", [pytest.param(None, marks=pytest.mark.slow), 100])
def test_a_cut_table_teaches_what_it_teaches_in_memory(frame, max_rows):
    found = learned(CutTable(frame, (0, 70, 70, 220)), max_rows=max_rows)
    assert_learned_alike(found, learned(frame, max_rows=max_rows))


@pytest.mark.slow
@given(seed=st.integers(0, 99), n_rows=st.integers(2, 60), ends=cuts, max_rows=st.integers(1, 70))
@settings(max_examples=30)
def test_any_cut_of_a_table_teaches_the_same(seed, n_rows, ends, max_rows):
    frame = orders(n_rows, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # few rows make odd columns
        found = learned(CutTable(frame, ends), max_rows=max_rows)
        assert_learned_alike(found, learned(frame, max_rows=max_rows))


@pytest.mark.slow
def test_a_known_schema_spares_what_tells_of_columns_and_rows_are_counted(frame):
    schema = frame_schema(frame, kinds=SMALL["kinds"])
    rows = CutTable(frame, (150,))
    asked = []
    in_partitions = rows.in_partitions
    rows.in_partitions = lambda read, columns: asked.append(columns) or in_partitions(read, columns)
    found = learned(rows, kinds=None, schema=schema, max_rows=100)
    assert_learned_alike(found, learned(frame, max_rows=100))
    assert asked == [[name for name in frame if name != "order"]] * 2
    assert rows.n_rows == len(frame)


def with_bad_cells(n_rows=100, bad=(41, 77)):
    frame = pd.DataFrame({"a": [str(n / 7) for n in range(n_rows)], "b": np.sin(range(n_rows))})
    frame.loc[list(bad), "a"] = "oops"
    return frame


def test_bad_cells_are_left_out_with_a_warning_and_all_others_train():
    frame = with_bad_cells()
    rows = CutTable(frame, (40, 42))
    with pytest.warns(DataWarning, match="Left out 2 rows .*the DataFrame, line 41, column 'a'"):
        found = learned(rows, kinds=None, max_rows=98)
    expected = learned(frame.drop(index=[41, 77]), kinds=None, max_rows=98)
    assert_learned_alike(found, expected)
    assert (rows.n_rows, rows.bad.n_rows) == (100, 2)


def test_too_many_bad_cells_are_an_error():
    frame = with_bad_cells()
    rows = CutTable(frame, (50,), max_bad_rows=1)
    message = message_of(lambda: VAEDetector(**SMALLEST).fit(rows))
    assert message.startswith("the DataFrame, line 41, column 'a': expected a number")
    assert message.endswith("expected at most 1 bad rows, received 2")
    schema = Schema.of_kinds({"a": "numeric", "b": "numeric"})
    mostly = CutTable(with_bad_cells(bad=range(51)), (50,))
    message = message_of(lambda: VAEDetector(**SMALLEST, schema=schema).fit(mostly))
    assert message.endswith("expected at most 49 bad rows, received 51")
    hopeless = CutTable(with_bad_cells(bad=range(100)), (50,), max_bad_rows=100)
    message = message_of(lambda: VAEDetector(**SMALLEST, schema=schema).fit(hopeless))
    assert message.startswith("Expected a row to fit on. All are bad; the first: the DataFrame")


def test_an_infinity_is_an_error_that_names_its_column():
    frame = pd.DataFrame({"a": np.arange(50.0) / 7, "b": np.sin(np.arange(50.0))})
    frame.loc[44, "b"] = np.inf
    message = message_of(lambda: VAEDetector(**SMALLEST).fit(CutTable(frame, (20,))))
    assert message.startswith("the DataFrame, column 'b': expected finite numbers")


def test_no_rows_are_an_error(frame):
    for params in (SMALL, {**SMALLEST, "schema": frame_schema(frame)}):
        message = message_of(lambda p=params: VAEDetector(**p).fit(CutTable(frame[:0], (0,))))
        assert message == "Expected rows to fit on. Received: 0 sample(s)."


@pytest.mark.slow
def test_types_without_a_kind_are_an_error_unless_the_column_is_left_out(frame):
    nested = frame.assign(tags=[["a"]] * len(frame))
    message = message_of(lambda: VAEDetector(**SMALL).fit(CutTable(nested)))
    assert "the DataFrame, column 'tags': expected one of numeric" in message
    assert "received list<" in message
    kinds = {**SMALL["kinds"], "tags": "dropped"}
    assert_learned_alike(learned(CutTable(nested, (9,)), kinds=kinds), learned(frame))
    schema = Schema.of_kinds({"count": "numeric", "tags": "numeric"})
    message = message_of(lambda: VAEDetector(**SMALLEST, schema=schema).fit(CutTable(nested)))
    assert "the DataFrame, column 'tags': expected a number, received list<" in message


def test_a_lost_column_is_an_error_that_names_it(frame):
    schema = Schema.of_kinds({"count": "numeric", "cost": "numeric"})
    with pytest.raises(TableError, match="the DataFrame: missing columns: 'cost'"):
        learned(CutTable(frame), kinds=None, schema=schema)
    message = message_of(lambda: learned(CutTable(frame), kinds={"cost": "numeric"}))
    assert "Expected a column of the table. Received: 'cost'" in message


def test_rows_that_change_between_the_passes_are_an_error(frame):
    rows = CutTable(frame[["amount", "count"]], (150,))
    schema = rows.inspect()
    for ends, error in [
        (
            [0, 90, 300],
            "partition 0: expected the same rows each time .* received 90 rows, and 150",
        ),
        ([0, 150, 200, 300], "partition 1: expected the same rows each time they are computed"),
        ([0, 150], "the DataFrame: expected the same rows .* received 150 rows, and 300 before"),
    ]:
        rows.ends = ends
        with pytest.raises(ValueError, match=error):
            rows.sample(schema, 100, 0)


def test_weights_of_rows_in_partitions_are_refused(frame):
    weights = np.ones(len(frame))
    message = message_of(lambda: VAEDetector(**SMALL).fit(CutTable(frame), sample_weight=weights))
    assert "Expected no `sample_weight`" in message
