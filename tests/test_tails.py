"""The generalised Pareto tail of calibration scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, genpareto

from vae_anomaly.scoring import tails
from vae_anomaly.scoring.tails import (
    TailFit,
    fit_tail,
    has_far_tail,
    offset_from_tail,
    tail_ratio,
)

SHAPES = st.floats(-0.39, 1.0, allow_subnormal=False)


def tail(shape=0.1, **others):
    given = {"start": -5.0, "n_tail": 100, "n_calibration": 999, "scale": 2.0, "fit_p_value": 0.5}
    return TailFit(shape=shape, **{**given, **others})


@given(SHAPES, st.floats(1e-5, 0.1))
def test_offset_and_rate_are_inverse_to_each_other(shape, rate):
    assert tail(shape).rate(tail(shape).offset(rate)) == pytest.approx(rate, rel=1e-6)


@given(SHAPES, st.floats(1e-5, 0.09), st.floats(0.5, 0.99))
def test_the_interval_holds_the_rate_and_grows_with_its_level(shape, rate, level):
    low, high = tail(shape).interval(rate, level)
    wider = tail(shape).interval(rate, level + 0.005)
    assert 0 <= wider[0] <= low < rate < high <= wider[1] <= 1


@given(st.floats(1e-4, 0.05))
def test_the_interval_is_continuous_where_the_shape_is_zero(rate):
    exact, near = (tail(shape).interval(rate) for shape in (0.0, 1e-4))
    np.testing.assert_allclose(near, exact, rtol=5e-3)


def test_the_interval_holds_for_tails_of_real_distributions():
    rng = np.random.default_rng(0)
    inside, splits = 0, 60
    for _ in range(splits):
        scores = np.sort(-chi2(8).rvs(2000, random_state=rng))
        excesses = scores[200] - scores[:200]
        shape, _, scale = genpareto.fit(excesses, floc=0)
        fit = tail(shape, start=scores[200], n_tail=200, n_calibration=2000, scale=scale)
        low, high = fit.interval(1e-4)
        inside += low < chi2(8).sf(-offset_from_tail(1e-4, fit)) < high
    assert binom.cdf(inside, splits, 0.9) > 1e-3


def test_a_rate_beyond_the_calibration_rows_is_found():
    scores = -chi2(8).rvs(3000, random_state=0)
    fit = fit_tail(scores)
    assert fit.n_tail == 300
    assert 1e-5 < chi2(8).sf(-offset_from_tail(1e-4, fit)) < 1e-3


@pytest.mark.slow
def test_a_tail_that_is_none_is_refused_with_what_was_tried(monkeypatch):
    monkeypatch.setattr(tails, "_FIT_SAMPLES", 29)
    # Two clumps below the others: nothing a generalised Pareto distribution could be.
    rng = np.random.default_rng(0)
    clumps = np.repeat([-50.0, -90.0], 60) + rng.normal(0, 0.1, size=120)
    with pytest.raises(ValueError, match=r"(?s)tail is generalised Pareto.*120 lowest.*60 lowest"):
        fit_tail(np.concatenate([clumps, rng.normal(size=1080)]))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.arange(499.0), "at least 500 calibration rows.*Received: 499"),
        (np.zeros(600), "differ"),
    ],
)
def test_scores_that_tell_no_tail_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        fit_tail(scores)


@pytest.mark.parametrize("rate", [0.2, 9e-6, 0, np.nan])
def test_rates_that_are_too_fine_or_too_coarse_are_refused(rate):
    with pytest.raises(ValueError, match=r"Expected a rate from 1e-05.*to 0\.1 "):
        offset_from_tail(rate, tail())


def test_the_tail_says_what_it_is():
    assert str(tail()) == (
        "generalised Pareto tail of the 100 lowest of 999 calibration scores, shape 0.1, "
        "scale 2 nats, goodness of fit p = 0.5"
    )


CLEAN = {
    "normal": lambda rng, m: rng.normal(size=m),
    "exponential": lambda rng, m: -rng.exponential(size=m),
    "chi2(1)": lambda rng, m: -rng.chisquare(1, size=m),
    "t(3)": lambda rng, m: rng.standard_t(3, size=m),
}


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("m", [50, 200, 1000])
def test_scores_of_clean_rows_hardly_ever_have_a_far_tail(name, m):
    rng = np.random.default_rng(0)
    alarms = sum(has_far_tail(CLEAN[name](rng, m)) for _ in range(500))
    assert binom.sf(alarms - 1, 500, 0.01) > 1e-3


@pytest.mark.parametrize("name", CLEAN)
def test_a_few_rows_far_from_all_others_are_a_far_tail(name):
    rng = np.random.default_rng(0)
    scores = CLEAN[name](rng, 200)
    far = np.median(scores) - 200 * np.std(scores) * rng.uniform(1, 3, size=5)
    assert has_far_tail(np.concatenate([scores, far]))


@given(st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_the_ratio_of_a_tail_has_no_unit(scale, shift):
    scores = np.random.default_rng(0).normal(size=100)
    assert tail_ratio(scale * scores + shift) == pytest.approx(tail_ratio(scores), rel=1e-6)


def test_few_scores_and_equal_scores_have_no_far_tail():
    assert not has_far_tail([-1e9, *np.arange(48.0)])
    assert not has_far_tail(np.zeros(100))
    assert has_far_tail(np.concatenate([[-1.0], np.zeros(100)]))
