"""Weights of training rows: what they do, what they don't, and which are refused."""

import numpy as np
import pandas as pd
import pytest

from vae_anomaly import AutoencoderDetector, VAEDetector
from vae_anomaly.tables.preprocessing import TablePreprocessor
from vae_anomaly.tables.scales import learn_scale

SMALL = {"max_steps": 10, "hidden_units": (4,), "random_state": 0}


def mixed(n=300):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=n),
            "b": rng.lognormal(sigma=2, size=n),
            "c": rng.choice(["x", "y"], n),
            "d": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 40, n), unit="D"),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector",
    [
        VAEDetector(**SMALL),
        pytest.param(AutoencoderDetector(**SMALL, validation_fraction=0), marks=pytest.mark.slow),
    ],
)
def test_rows_of_weight_zero_do_not_influence_anything(detector):
    table, weights = mixed(), np.random.default_rng(1).uniform(0.5, 2, size=300)
    odd = table.assign(a=1e6, b=5e5, c="z", d=pd.Timestamp("1990-01-01"))
    both = pd.concat([odd, table, odd])
    all_weights = np.concatenate([np.zeros(300), weights, np.zeros(300)])
    scores = detector.fit(table, sample_weight=weights).score_samples(both)
    threshold = detector.offset_
    np.testing.assert_array_equal(
        detector.fit(both, sample_weight=all_weights).score_samples(both), scores
    )
    assert detector.offset_ == threshold


@pytest.mark.slow
def test_equal_weights_are_no_weights():
    table = mixed()
    detector = VAEDetector(**SMALL, validation_fraction=0)
    scores = detector.fit(table).score_samples(table)
    again = detector.fit(table, sample_weight=np.full(300, 7)).score_samples(table)
    np.testing.assert_array_equal(again, scores)


@pytest.mark.slow
def test_their_mean_does_not_matter():
    table, weights = mixed(), np.arange(300.0)
    detector = VAEDetector(**SMALL, validation_fraction=0)
    scores = detector.fit(table, sample_weight=weights).score_samples(table)
    again = detector.fit(table, sample_weight=pd.Series(4 * weights)).score_samples(table)
    np.testing.assert_array_equal(again, scores)


@pytest.mark.slow
def test_a_group_of_little_weight_is_unusual():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(300, 2)), rng.normal(6, 1, size=(300, 2))])
    groups = np.repeat([0, 1], 300)
    options = {**SMALL, "hidden_units": (8,), "max_steps": 400, "score_type": "elbo"}
    equal = VAEDetector(**options).fit(X).score_samples(X)
    weighted = VAEDetector(**options).fit(X, sample_weight=np.where(groups, 0.01, 1.0))
    scores = weighted.score_samples(X)
    gap = scores[groups == 0].mean() - scores[groups == 1].mean()
    assert gap > 5 + equal[groups == 0].mean() - equal[groups == 1].mean()


@pytest.mark.slow
def test_images_have_weights_too(digits):
    options = {"max_steps": 2, "hidden_units": (8,), "filters": (4,), "random_state": 0}
    weights = np.arange(len(digits)) % 3
    scores = VAEDetector(**options).fit(digits, sample_weight=weights).score_samples(digits[:9])
    kept = weights > 0
    again = VAEDetector(**options).fit(digits[kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(again.score_samples(digits[:9]), scores)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(299), r"one number for each of the 300 rows.* \(299,\)"),
        (np.ones((300, 1)), r"shape \(300, 1\)"),
        (np.where(np.arange(300) == 7, -1.0, 1.0), r"-1.0 in row 7"),
        (np.where(np.arange(300) == 7, np.nan, 1.0), r"nan in row 7"),
        (np.zeros(300), r"zeros alone"),
    ],
)
def test_impossible_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        VAEDetector(**SMALL).fit(mixed(), sample_weight=weights)


@pytest.mark.parametrize("sigma", [0.1, 2.0])
def test_what_is_learned_of_weighted_numbers_is_what_repeated_ones_teach(sigma):
    rng = np.random.default_rng(0)
    values = rng.lognormal(sigma=sigma, size=2000)
    counts = rng.integers(1, 4, size=2000)
    weighted = learn_scale(values, normal_scores=True, weights=counts / counts.mean())
    repeated = learn_scale(np.repeat(values, counts), normal_scores=True)
    assert weighted.center == pytest.approx(repeated.center, rel=0.01)
    assert weighted.scale == pytest.approx(repeated.scale, rel=0.02)
    assert (weighted.scores is None) == (repeated.scores is None) == (sigma == 0.1)
    if weighted.scores is not None:
        np.testing.assert_allclose(
            weighted.scores.score_range, repeated.scores.score_range, atol=0.05
        )


def test_levels_and_shares_are_weighted():
    layer = TablePreprocessor({"c": "categorical"}, max_levels=1)
    texts = np.array(["a", "a", "b", "b", ""], dtype=object)
    layer.adapt({"c": texts}, np.array([0.5, 0.5, 1.0, 1.0, 1.0]))
    assert layer.levels == {"c": ["b"]}
    assert layer.schema()[0]["missing_share"] == 0.25
    assert layer.profiles[0].counts == [1.0, 2.0]
