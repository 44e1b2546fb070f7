"""False-discovery rates and the share of anomalies of whole batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control

from vae_anomaly.scoring.calibration import p_values
from vae_anomaly.scoring.discoveries import (
    estimate_anomaly_share,
    fewest_selected,
    p_value_cutoff,
)

N_SPLITS = 200
P_VALUES = st.lists(st.integers(1, 50).map(lambda rank: rank / 50), min_size=1, max_size=60)


def batch(rng, m, n, share, shift=6.0):
    """Calibration scores, and scores of a batch with a planted share, anomalies first."""
    n_anomalies = round(share * n)
    return rng.normal(size=m), rng.normal(size=n) - shift * (np.arange(n) < n_anomalies)


def counts_of(calibration, scores):
    at_or_below = np.searchsorted(np.sort(calibration), scores, side="right")
    return np.bincount(at_or_below, minlength=len(calibration) + 1)


@given(P_VALUES, st.sampled_from([0.05, 0.1, 0.3]))
def test_selected_rows_are_those_of_scipy(values, fdr):
    values = np.array(values)
    expected = false_discovery_control(values) <= fdr * (1 + 1e-12)
    np.testing.assert_array_equal(values <= p_value_cutoff(values, fdr * (1 + 1e-12)), expected)


@given(P_VALUES, st.sampled_from([0.05, 0.1, 0.3]))
def test_counted_p_values_give_the_same_cutoff(values, fdr):
    distinct, counts = np.unique(values, return_counts=True)
    assert p_value_cutoff(distinct, fdr, counts) == p_value_cutoff(values, fdr)


def test_of_no_rows_none_is_selected():
    assert p_value_cutoff([], 0.1) == 0.0


@pytest.mark.parametrize("fdr", [0, 1, -0.1, np.nan])
def test_an_impossible_rate_is_refused(fdr):
    with pytest.raises(ValueError, match=f"fdr={fdr}"):
        p_value_cutoff([0.5], fdr)


@pytest.mark.parametrize("m", [50, 200, 5000])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_the_false_discovery_rate_is_kept(m, share):
    rng = np.random.default_rng(m)
    false, found = [], []
    for _ in range(N_SPLITS):
        calibration, scores = batch(rng, m, 300, share)
        values = p_values(scores, calibration)
        selected = values <= p_value_cutoff(values, 0.1)
        is_anomaly = np.arange(300) < round(share * 300)
        false.append(np.sum(selected & ~is_anomaly) / max(selected.sum(), 1))
        found.append(selected[is_anomaly].mean() if share else 0.0)
    assert np.mean(false) <= 0.1 + 4 * np.std(false) / np.sqrt(N_SPLITS)
    if m == 5000 and share:
        assert np.mean(found) > 0.95


@given(st.integers(1, 500), st.sampled_from([0.05, 0.1, 0.3]), st.integers(1, 200))
def test_fewer_rows_than_the_fewest_at_the_least_p_value_select_nothing(n, fdr, m):
    fewest = fewest_selected(n, fdr, m)
    for n_least in {min(n, fewest - 1), min(n, fewest)}:
        values = np.where(np.arange(n) < n_least, 1 / (m + 1), 1.0)
        selected = bool(p_value_cutoff(values, fdr * (1 + 1e-12)))
        assert selected == (n_least >= fewest)


@pytest.mark.parametrize("m", [50, pytest.param(200, marks=pytest.mark.slow), 5000])
@pytest.mark.parametrize("share", [0.0, pytest.param(0.01, marks=pytest.mark.slow), 0.05, 0.2])
def test_a_planted_share_is_found_within_its_interval(m, share):
    rng = np.random.default_rng(m)
    splits = 200
    estimates = [
        estimate_anomaly_share(counts_of(*batch(rng, m, 2000, share)), seed=seed)
        for seed in range(splits)
    ]
    inside = sum(estimate.low <= share <= estimate.high for estimate in estimates)
    # Clipped at 0, and by bootstrap: stated as 90%, held to 80%.
    assert binom.cdf(inside, splits, 0.8) > 1e-4
    error = np.std([estimate.share for estimate in estimates]) + 1e-3
    assert abs(np.mean([estimate.share for estimate in estimates]) - share) < error


def test_anomalies_that_score_like_normal_rows_make_the_share_too_low_not_too_high():
    rng = np.random.default_rng(0)
    counts = counts_of(*batch(rng, 5000, 20_000, share=0.2, shift=1.0))
    estimate = estimate_anomaly_share(counts)
    assert 0.05 < estimate.share < 0.2


def test_fewer_effective_calibration_rows_make_the_interval_wider():
    counts = counts_of(*batch(np.random.default_rng(0), 500, 5000, share=0.1))
    narrow, wide = (estimate_anomaly_share(counts, n_effective=n) for n in (None, 100))
    assert narrow.share == wide.share
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_no_rows_have_no_share():
    with pytest.raises(ValueError, match="Received: 0 and 9"):
        estimate_anomaly_share(np.zeros(10, dtype=int))


def test_the_share_is_a_sentence():
    counts = np.full(1000, 10)
    counts[0] += 1000
    text = str(estimate_anomaly_share(counts))
    assert text.startswith("about 9.1% of the 11,000 rows are anomalies, ")
    assert text.endswith("% with 90% confidence")
