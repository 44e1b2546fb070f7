"""Samples, reconstructions and expected values are in each column's own terms."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly import VAEDetector
from vae_anomaly.tables.grids import DATE_STEPS, find_grid, snapped
from vae_anomaly.tables.preprocessing import TablePreprocessor

STEPS = st.sampled_from([1000.0, 50.0, 1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 0.0001])


@settings(deadline=None)
@given(STEPS, st.lists(st.integers(-(10**6), 10**6), min_size=1), st.sampled_from("df"))
def test_the_grid_of_multiples_is_at_least_their_step_and_holds_them_all(step, whole, dtype):
    values = np.array(whole) * step if step >= 1 else np.array(whole) / round(1 / step)
    values = values.astype(dtype).astype(np.float64)
    grid = find_grid(values)
    if (values == 0).all():
        assert grid == 0
        return
    # A float32 of seven digits may be near finer multiples as well.
    assert grid >= step or dtype == "f"
    again = snapped(tf.constant(values), tf.constant(grid, tf.float64)).numpy()
    np.testing.assert_allclose(again, values, rtol=2**-22, atol=step * 1e-3)


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ([1.0, 2.0, 3.0], 1.0),
        ([100.0, 300.0], 100.0),
        ([1.5, 2.0], 0.5),
        ([0.1, 0.2, 0.7], 0.1),
        ([51.28, 3.14], 0.02),
        ([51.28, 3.15], 0.01),
        ([np.pi, np.e], 0.0),
        ([0.0], 0.0),
        ([], 0.0),
        ([*range(1, 300), 0.3333], 1.0),
        ([*range(1, 50), 0.3333], 0.0001),
        ([1e300, 3.0], 1.0),
        ([1e300, 3.5], 0.0),
    ],
)
def test_the_grid_is_the_largest_usual_step(values, grid):
    assert find_grid(np.array(values, dtype=np.float64)) == grid


def test_continuous_numbers_have_no_grid():
    rng = np.random.default_rng(0)
    assert find_grid(rng.normal(size=500)) == find_grid(1e6 * rng.lognormal(size=500)) == 0.0


@pytest.mark.parametrize(
    ("step", "grid"), [(86400, 86400), (1200, 1200), (60, 60), (1, 1), (0.001, 0)]
)
def test_the_grid_of_dates_is_a_unit_of_time(step, grid):
    assert find_grid(1.7e9 // step * step + np.arange(1, 1000) * step, DATE_STEPS) == grid


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9), STEPS)
def test_a_multiple_is_spelled_as_people_write_it(whole, step):
    exact = whole * step if step >= 1 else whole / round(1 / step)
    near = tf.constant(exact * (1 + 1e-15), tf.float64)
    found = float(snapped(near, tf.constant(step, tf.float64)))
    assert found == exact and len(repr(found)) <= 16


def table(n=600):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "rooms": rng.poisson(3, n),
            "small": rng.integers(0, 100, n).astype("int8"),
            "nullable": pd.array(rng.integers(1, 5, n) * 10, dtype="Int64"),
            "price": rng.lognormal(3, 1, n).round(2),
            "half": rng.integers(-4, 5, n) / 2,
            "real": rng.normal(size=n),
            "code": rng.choice([f"level {k}" for k in range(30)], n),
            "ok": rng.random(n) < 0.5,
        }
    )
    frame.loc[::9, "nullable"] = None
    return frame


@pytest.fixture(scope="module")
def detector():
    return VAEDetector(max_steps=20, hidden_units=(16,), max_levels=10, random_state=0).fit(table())


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sample", "reconstruct", "explain"])
def test_cells_are_on_the_grid_in_the_range_and_of_the_type(detector, what):
    frame = table()
    if what == "sample":
        found = detector.sample(500, random_state=0)
    elif what == "reconstruct":
        found = detector.reconstruct(frame)
    else:
        found = detector.explain(frame)["expected"]
    for name in ("rooms", "small", "nullable"):
        assert found[name].dtype == frame[name].dtype
    for name, step in {"nullable": 10, "price": 0.01, "half": 0.5}.items():
        values = found[name].to_numpy(dtype=np.float64)
        np.testing.assert_allclose(np.round(values / step) * step, values, rtol=1e-12)
    for name in frame.columns.drop("code"):
        assert found[name].between(frame[name].min(), frame[name].max()).all()
    assert found["code"].notna().all()
    assert set(found["code"]) <= set(detector.scorer_.preprocessor.levels["code"])


def test_samples_of_values_out_of_the_levels_are_levels_as_often_as_those_are():
    layer = TablePreprocessor({"c": "categorical"}, max_levels=2)
    layer.adapt({"c": np.array(["a"] * 300 + ["b"] * 100 + ["rare"], dtype=object)})
    others = np.tile([1.0, 0.0, 0.0], (4000, 1))
    drawn = layer.inverse_samples(others, seed=0)["c"]
    assert np.mean(drawn == "a") == pytest.approx(0.75, abs=0.03)
    assert set(drawn) == {"a", "b"}
    levels = np.tile([0.0, 0.0, 1.0], (9, 1))
    assert set(layer.inverse_samples(levels, seed=0)["c"]) == {"b"}


@pytest.mark.slow
def test_arrays_are_snapped_too():
    X = np.random.default_rng(0).poisson(3, size=(300, 3)).astype(float)
    detector = VAEDetector(max_steps=20, hidden_units=(8,), random_state=0).fit(X)
    for values in (detector.sample(100, random_state=0), detector.reconstruct(X)):
        np.testing.assert_array_equal(values, values.round())
        assert (values >= 0).all()
