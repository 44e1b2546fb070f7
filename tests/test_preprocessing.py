"""From raw columns to what the model sees."""

import json
from collections import Counter

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vae_anomaly.tables.columns import frame_arrays
from vae_anomaly.tables.inspecting import frame_schema
from vae_anomaly.tables.learning import learn
from vae_anomaly.tables.number_features import SOFT_CLIP
from vae_anomaly.tables.preprocessing import TablePreprocessor


def adapted(values, kind="numeric", **kwargs):
    """A layer for the column c."""
    layer = TablePreprocessor({"c": kind}, **kwargs)
    layer.adapt({"c": np.asarray(values, dtype=object if kind == "categorical" else np.float64)})
    return layer


def features(layer, values):
    """Features of the column c, float32."""
    # np.asarray: of a list of floats TensorFlow makes float32.
    return layer({"c": tf.constant(np.asarray(values))})[0].numpy()


def test_numbers_are_centred_and_scaled():
    values = np.random.default_rng(0).normal(5.0, 3.0, size=10_000)
    layer = adapted(values)
    assert float(layer.numbers.center[0]) == pytest.approx(5.0, abs=0.1)
    assert float(layer.numbers.scale[0]) == pytest.approx(3.0, rel=0.02)
    x = features(layer, values)
    assert abs(x.mean()) < 0.01
    assert x.std() == pytest.approx(1.0, rel=0.02)


def test_a_few_gross_outliers_do_not_hide_the_others():
    values = np.random.default_rng(0).normal(size=1000)
    with_outliers = np.concatenate([values, [1e9, -1e9, 1e12]])
    assert float(adapted(with_outliers).numbers.scale[0]) == pytest.approx(values.std(), rel=0.1)


def test_integers_past_two_to_the_24_are_centred_exactly():
    ids = 2**50 + np.arange(101)
    x = features(adapted(ids), ids.astype(np.float64))[:, 0]
    steps = np.diff(x)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-4)
    assert x[50] == 0.0


def test_timestamps_a_second_apart_differ():
    seconds = 1.7e9 + np.arange(10.0)
    assert len(np.unique(features(adapted(seconds, "timestamp"), seconds))) == 10


@pytest.mark.parametrize("value", [0.0, 5.0, -1e6, 1 / 3, 1e15 / 3])
def test_a_deviation_from_a_constant_is_measured_in_the_units_of_the_column(value):
    layer = adapted(np.full(1000, value))
    x = features(layer, [value, value + 1.0, value - 2.0])
    np.testing.assert_allclose(x, [[0.0], [1.0], [-2.0]], atol=0.5 if value > 1e12 else 1e-6)


def test_rounding_noise_is_no_spread():
    assert float(adapted([0.3, 0.1 + 0.2] * 50).numbers.scale[0]) == 1.0


def test_values_that_are_rare_give_the_scale_where_all_others_are_equal():
    values = np.zeros(1000)
    values[0] = 1.0
    assert float(adapted(values).numbers.scale[0]) == pytest.approx(values.std())


def test_nothing_is_clipped_near_the_data():
    layer = adapted([-1.0, 1.0] * 100)
    values = np.linspace(-SOFT_CLIP, SOFT_CLIP, 61)
    np.testing.assert_allclose(features(layer, values)[:, 0], values, rtol=1e-6)


def test_far_values_are_squeezed_but_keep_their_order_up_to_infinity():
    layer = adapted([-1.0, 1.0] * 100)
    far = [14.0, 15.0, 16.0, 20.0, 1e3, 1e6, 1e30, 1e100, 1e290, np.inf]
    x = features(layer, far)[:, 0]
    assert (np.diff(x) > 0).all()
    assert x[-1] < 1000
    np.testing.assert_array_equal(features(layer, np.negative(far))[:, 0], -x)


@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308, 1.7e308],
        [1e300] * 9 + [-1e300],
        [5e-324, 0.0],
        [1e-310, 2e-310, 3e-310],
        [0.0] * 500 + [1.0] * 500 + [1e200, 2e200, 3e200],
        [1e200] * 3,
    ],
    ids=["largest", "large", "smallest", "subnormal", "large and rare", "large constant"],
)
def test_nothing_overflows(values):
    layer = adapted(values)
    x = features(layer, [*values, 0.0, 1.0, -1e308, np.inf, -np.inf])
    assert np.isfinite(x).all()
    assert np.isfinite(layer.resolution).all()
    json.dumps(layer.schema(), allow_nan=False)
    assert not np.isnan(layer.inverse(np.array([[0.0], [1000.0], [-1000.0]]))["c"]).any()


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_an_infinity_among_the_training_rows_is_refused_by_column_and_row(infinity):
    with pytest.raises(ValueError, match=r"Column 'c': .* infinity in row 2"):
        adapted([1.0, np.nan, infinity])


def test_counts_have_a_resolution_and_continuous_columns_almost_none():
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=1000)
    layer = adapted(counts)
    assert float(layer.numbers.step[0]) == 1.0
    assert layer.resolution[0] == pytest.approx(1 / layer.numbers.scale[0].numpy())
    assert adapted(rng.normal(size=1000)).resolution[0] < 0.01
    assert adapted(np.ones(10)).resolution[0] == 0.0


def skewed_values(n_rows=500):
    return np.random.default_rng(0).lognormal(sigma=1.5, size=n_rows)


def test_a_very_skewed_column_is_given_as_normal_scores_besides():
    values = skewed_values()
    layer = adapted(values)
    assert (layer.skewed, layer.column_widths) == (["c"], [2])
    x = features(layer, values)
    scores = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    np.testing.assert_allclose(x[:, 1], stats.zscore(scores), atol=0.05)
    standardised = np.asarray((values - layer.numbers.center) / layer.numbers.scale)
    near = standardised < SOFT_CLIP
    np.testing.assert_allclose(x[near, 0], standardised[near], rtol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=500),
        np.random.default_rng(0).lognormal(sigma=0.3, size=500),
        np.r_[np.zeros(490), np.arange(10)],  # skewed, but of few values
        np.r_[np.repeat(np.arange(19.0), 9), 999.0],  # 20 values
        np.quantile(np.random.default_rng(0).gamma(1.3, size=10**6), np.arange(0.5, 500) / 500),
        np.full(500, 7.0),
        np.full(5, np.nan),
    ],
)
def test_other_columns_take_one_feature(values):
    layer = adapted(values)
    assert (layer.skewed, layer.column_widths) == ([], [1])


@pytest.mark.parametrize(
    "values",
    [
        np.r_[np.repeat(np.arange(20.0), 9), 999.0],  # 21 values
        np.quantile(np.random.default_rng(0).gamma(0.8, size=10**6), np.arange(0.5, 500) / 500),
        -skewed_values(),
    ],
)
def test_columns_just_skewed_enough_take_two(values):
    assert adapted(values).skewed == ["c"]
    layer = TablePreprocessor({"c": "numeric"}, normal_scores=False)
    layer.adapt({"c": values})
    assert (layer.skewed, layer.column_widths) == ([], [1])
    assert TablePreprocessor.from_config(layer.get_config()).normal_scores is False


def test_timestamps_take_one_feature():
    assert adapted(1.7e9 - 1e6 * skewed_values(), "timestamp").skewed == []


def test_normal_scores_of_counts_have_their_own_resolution():
    values = np.floor(5 * skewed_values())
    layer = adapted(values)
    scores = np.unique(features(layer, values)[:, 1])
    np.testing.assert_allclose(layer.resolution[0], 1 / layer.numbers.scale.numpy()[0])
    np.testing.assert_allclose(layer.resolution[1], np.median(np.diff(scores)), rtol=0.1)


def test_each_column_has_its_own_features_in_their_order():
    rng = np.random.default_rng(1)
    arrays = {
        "plain": rng.normal(size=500),
        "first": skewed_values(),
        "flag": rng.integers(0, 2, 500).astype(float),
        "second": rng.permutation(-(skewed_values() ** 2)),
        "last": rng.normal(size=500),
    }
    kinds = {name: "boolean" if name == "flag" else "numeric" for name in arrays}
    layer = TablePreprocessor(kinds)
    layer.adapt(arrays)
    assert (layer.skewed, layer.column_widths) == (["first", "second"], [1, 2, 2, 1, 1])
    alone = [
        features(adapted(arrays[name], kinds[name]), arrays[name]) for name in layer.column_names
    ]
    x, observed = layer(arrays)
    np.testing.assert_array_equal(x, np.concatenate(alone, axis=1))
    assert observed.shape == (500, 5)


@pytest.mark.parametrize("sign", [1, -1])
def test_normal_scores_rise_with_the_value_and_beyond_the_training_rows_by_1_at_most(sign):
    values = sign * skewed_values()
    layer = adapted(values)
    low, high = values.min(), values.max()
    assert (np.diff(features(layer, np.linspace(low, high, 20_001))[:, 1]) > 0).all()
    scale = layer.numbers.scale.numpy()[0]
    beyond = [low - 99 * scale, low - scale / 2, low, high, high + scale / 2, high + 99 * scale]
    scores = features(layer, np.array(beyond))[:, 1]
    np.testing.assert_allclose(np.diff(scores)[[0, 1, 3, 4]], 0.5, rtol=1e-4)


def test_a_normal_score_depends_on_the_order_of_the_values_alone():
    values = skewed_values()
    scores = features(adapted(values), values)[:, 1]
    mirrored = features(adapted(7 - 3 * values), 7 - 3 * values)[:, 1]
    np.testing.assert_allclose(mirrored, -scores, atol=1e-4)
    cubes = features(adapted(values**3), values**3)[:, 1]
    np.testing.assert_allclose(cubes, scores, atol=0.1)


def test_equal_values_have_the_score_of_their_mean_rank():
    values = np.r_[np.zeros(300), skewed_values(200)]
    x = features(adapted(values), values)
    scores = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    np.testing.assert_allclose(x[:, 1], stats.zscore(scores), atol=0.05)


@pytest.mark.parametrize(
    "values",
    [
        np.r_[np.random.default_rng(0).normal(size=2000), 1e17, 1e17 + 16],
        np.r_[skewed_values(2000) * 1e-309, 0.1, 1.0],
        np.r_[np.random.default_rng(0).normal(size=2000), 1e100, 1e101],
        np.r_[np.full(1_000_000, 3.0), 3 + 1e-12 * skewed_values(25)],
        np.r_[skewed_values(), 1.7e308, -1.7e308],
        1e15 + np.floor(10 * skewed_values()),
        1e-310 * skewed_values(),
    ],
)
def test_features_are_finite_and_rise_with_the_value_at_the_limits_of_float64(values):
    layer = adapted(values)
    span = np.linspace(values.min() / 2, values.max() / 2, 1001) * 2
    x = features(layer, np.sort(np.r_[values, span, -1.7e308, 0, 1e-300, 1.7e308]))
    assert np.isfinite(x).all()
    assert (np.diff(x, axis=0) >= 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_inverse_of_a_very_skewed_column_is_that_of_its_score(sign):
    values = sign * skewed_values()
    layer = adapted(values)
    x = features(layer, values)
    x[:, 0] = 0.0
    np.testing.assert_allclose(layer.inverse(x)["c"], values, rtol=1e-4)
    far = layer.inverse(np.array([[0.0, -9.0], [0.0, 9.0]]))["c"]
    np.testing.assert_allclose(far, [values.min(), values.max()])
    few_others = sign * np.r_[np.zeros(9950), np.exp(5 + np.random.default_rng(0).normal(size=50))]
    layer = adapted(few_others)
    x = features(layer, few_others)
    assert np.abs(x[:, 1]).max() > SOFT_CLIP
    np.testing.assert_allclose(layer.inverse(x)["c"], few_others, rtol=1e-4, atol=1e-6)


def test_a_very_skewed_column_survives_config_and_weights():
    layer = TablePreprocessor({"a": "numeric", "b": "numeric", "c": "boolean"})
    layer.adapt({"a": np.arange(500.0), "b": skewed_values(), "c": np.arange(500) % 2.0})
    again = TablePreprocessor.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    assert again.column_widths == layer.column_widths == [1, 2, 1]
    columns = {
        "a": np.array([3.0, np.nan]),
        "b": np.array([np.nan, 2.0]),
        "c": np.array([1.0, 0.0]),
    }
    for ours, theirs in zip(layer(columns), again(columns), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x, observed = layer(columns)
    np.testing.assert_array_equal(observed, [[1, 0, 1], [0, 1, 1]])
    np.testing.assert_array_equal(x[0, 1:], [0, 0, 1])


def test_a_missing_cell_is_zero_and_not_observed():
    layer = TablePreprocessor({"n": "numeric", "b": "boolean", "w": "categorical"})
    columns = {
        "n": np.array([1.0, 3.0, np.nan]),
        "b": np.array([np.nan, 1.0, 1.0]),
        "w": np.array(["x", "", "y"], dtype=object),
    }
    layer.adapt({name: np.tile(column, 2) for name, column in columns.items()})
    x, observed = layer({name: tf.constant(column) for name, column in columns.items()})
    assert observed.numpy().tolist() == [[1, 0, 1], [1, 1, 0], [0, 1, 1]]
    expected = [[-1, 0, 0, 1, 0], [1, 1, 0, 0, 0], [0, 1, 0, 0, 1]]
    np.testing.assert_allclose(x, expected, rtol=0.02)


def test_the_share_of_missing_cells_is_kept():
    layer = adapted([1.0, np.nan, np.nan, 2.0])
    assert layer.schema()[0]["missing_share"] == 0.5
    assert adapted(["a", "", "", ""], "categorical").schema()[0]["missing_share"] == 0.75


def test_a_column_without_values_has_center_0_and_scale_1():
    assert features(adapted([np.nan, np.nan]), [3.0, np.nan]).tolist() == [[3.0], [0.0]]


def test_booleans_pass_as_0_and_1():
    assert features(adapted([0.0, 1.0, 1.0], "boolean"), [0.0, 1.0]).tolist() == [[0], [1]]


def test_a_category_is_one_of_its_levels_or_unknown():
    layer = adapted(["b", "a", "b", "a", "once"], "categorical")
    assert layer.levels == {"c": ["a", "b"]}
    assert features(layer, ["a", "b", "never seen"]).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_only_the_most_frequent_levels_are_kept():
    layer = adapted(["a"] + ["b"] * 3 + ["c"] * 2, "categorical", max_levels=2)
    assert layer.levels == {"c": ["b", "c"]}
    assert layer.column_widths == [3]
    assert features(layer, ["a"]).tolist() == [[1, 0, 0]]


def levels_of(cells, max_levels):
    arrays = {"c": np.array(["", *cells], dtype=object)}
    options = {"max_levels": max_levels, "normal_scores": True}
    return learn({"c": "categorical"}, arrays, **options).levels["c"]


@given(st.lists(st.sampled_from("abcdefgh")), st.integers(1, 9), st.permutations("abcdefgh"))
def test_levels_are_the_most_frequent_values_whatever_their_names(cells, max_levels, names):
    levels, counts = levels_of(cells, max_levels), Counter(cells)
    assert len(levels) <= max_levels
    assert all(counts[level] > 1 for level in levels)
    least = min((counts[level] for level in levels), default=np.inf)
    assert all(n < least for value, n in counts.items() if value not in levels and n > 1)
    renamed = dict(zip("abcdefgh", names, strict=True))
    again = levels_of([renamed[cell] for cell in cells], max_levels)
    assert again == sorted(renamed[level] for level in levels)


def test_a_category_without_levels_has_only_unknown_values():
    layer = adapted(["", ""], "categorical")
    x, observed = layer({"c": tf.constant(["a", ""])})
    assert x.numpy()[0, 0] == 1
    assert observed.numpy().tolist() == [[1], [0]]
    assert layer.inverse(x)["c"].tolist() == ["", ""]


@pytest.mark.parametrize("level", ["[UNK]", " ", "nan", "None", "0", "å", "a" * 1000, "\n"])
def test_any_text_can_be_a_level(level):
    layer = adapted([level, "A", "z"] * 2, "categorical")
    codes = features(layer, [level, "A", "z", "never seen"]).argmax(axis=1)
    assert sorted(codes) == [0, 1, 2, 3]
    assert codes[3] == 0
    assert layer.inverse(features(layer, [level]))["c"].tolist() == [level]


def test_columns_are_grouped_by_kind_and_given_back_in_their_own_order():
    kinds = {"w": "categorical", "b": "boolean", "t": "timestamp", "n": "numeric"}
    layer = TablePreprocessor(kinds, levels={"w": ["x", "y"]})
    assert layer.column_names == ["t", "n", "b", "w"]
    assert layer.column_widths == [1, 1, 1, 3]
    assert (layer.n_numeric, layer.n_boolean) == (2, 1)
    assert list(layer.inverse(np.zeros((1, 6)))) == list(kinds)


def test_the_inverse_gives_back_what_was_put_in(table):
    schema = frame_schema(table)
    kinds = schema.kinds
    arrays = frame_arrays(table, schema)
    layer = TablePreprocessor(kinds)
    layer.adapt(arrays)
    x, _ = layer({name: tf.constant(array) for name, array in arrays.items()})
    inverse = layer.inverse(x, arrays)
    for name, array in arrays.items():
        if kinds[name] == "categorical":
            seen = array != ""
            assert (inverse[name][seen] == array[seen]).all()
        else:
            seen = ~np.isnan(array)
            scale = np.std(array[seen])
            np.testing.assert_allclose(
                inverse[name][seen], array[seen], atol=1e-6 * scale, rtol=1e-6
            )


@settings(deadline=None)
@given(st.floats(-1e6, 1e6))
def test_the_inverse_undoes_the_squeezing(value):
    layer = adapted([-1.0, 1.0, -1e6 / 3, 1e6 / 3])
    x = features(layer, [value])
    found = layer.numbers.inverse(tf.constant(x, tf.float64)).numpy()
    assert found[0, 0] == pytest.approx(value, rel=1e-4, abs=1e-4 * layer.numbers.scale.numpy()[0])


def test_it_works_in_a_graph_with_named_inputs_of_any_number_type():
    layer = TablePreprocessor(
        {"n": "numeric", "i": "numeric", "b": "boolean", "w": "categorical"},
        levels={"w": ["x"]},
    )
    signature = {
        "n": tf.TensorSpec([None], tf.float64, name="n"),
        "i": tf.TensorSpec([None], tf.int64, name="i"),
        "b": tf.TensorSpec([None], tf.bool, name="b"),
        "w": tf.TensorSpec([None], tf.string, name="w"),
    }
    function = tf.function(layer.call, input_signature=[signature], autograph=False)
    x, observed = function(
        {
            "n": tf.constant([0.5], tf.float64),
            "i": tf.constant([7], tf.int64),
            "b": tf.constant([True]),
            "w": tf.constant(["x"]),
        }
    )
    assert x.numpy().tolist() == [[0.5, 7.0, 1.0, 0.0, 1.0]]
    assert observed.numpy().tolist() == [[1, 1, 1, 1]]


def test_the_layer_survives_its_config_and_weights(table):
    schema = frame_schema(table)
    kinds = schema.kinds
    arrays = frame_arrays(table, schema)
    layer = TablePreprocessor(kinds, max_levels=2, name="prepare")
    layer.adapt(arrays)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    again.set_weights(layer.get_weights())
    assert again.name == "prepare"
    assert again.schema() == layer.schema()
    inputs = {name: tf.constant(array) for name, array in arrays.items()}
    for first, second in zip(layer(inputs), again(inputs), strict=True):
        np.testing.assert_array_equal(first, second)


def test_an_unadapted_layer_survives_its_config():
    layer = TablePreprocessor.from_config(TablePreprocessor({"c": "categorical"}).get_config())
    layer.adapt({"c": np.array(["a", "a"], dtype=object)})
    assert layer.levels == {"c": ["a"]}


def test_it_must_be_adapted_before_it_is_used():
    with pytest.raises(ValueError, match="Expected `adapt`"):
        TablePreprocessor({"c": "categorical"})({"c": tf.constant(["a"])})


@pytest.mark.parametrize("kinds", [{}, {"c": "text"}, {"c": "id"}])
def test_impossible_kinds_are_refused(kinds):
    with pytest.raises(ValueError, match=r"Expected columns of the kinds .* Received: kinds="):
        TablePreprocessor(kinds)


def test_an_impossible_number_of_levels_is_refused():
    with pytest.raises(ValueError, match="`max_levels` >= 1"):
        TablePreprocessor({"c": "categorical"}, max_levels=0)


def test_the_schema_tells_people_what_each_column_is(table):
    decided = frame_schema(table)
    kinds = decided.kinds
    layer = TablePreprocessor(kinds)
    layer.adapt(frame_arrays(table, decided))
    schema = {column["name"]: column for column in layer.schema()}
    assert list(schema) == list(table.columns)
    assert {name: column["kind"] for name, column in schema.items()} == kinds
    assert schema["grade"]["levels"] == ["a", "b"]
    assert schema["count"]["step"] == 1.0
    assert schema["count"]["grid"] == 1.0
    assert schema["day"]["units"] == "seconds since 1970-01-01 UTC"
    assert pd.Timestamp(schema["day"]["center"], unit="s").year == 2024
    assert all(column["treatment"] for column in schema.values())
