import numpy as np
import pytest

from vae_anomaly.plotting import ScoreDistributionDisplay

SCORES = np.r_[np.random.default_rng(0).normal(-5, 2, 200), -np.geomspace(20, 1e6, 20)]


def test_every_row_is_in_the_histogram():
    display = ScoreDistributionDisplay.from_scores(SCORES, offset=-12.0)
    assert sum(patch.get_height() for patch in display.ax_.patches) == len(SCORES)


def test_rows_left_of_the_threshold_are_those_under_it():
    display = ScoreDistributionDisplay.from_scores(SCORES, offset=-12.0)
    left = [p for p in display.ax_.patches if p.get_x() + p.get_width() <= -12.0 + 1e-9]
    assert sum(patch.get_height() for patch in left) == (SCORES < -12.0).sum()


def test_labels_are_drawn_apart_and_named():
    labels = np.where(SCORES < -15, "odd", "usual")
    display = ScoreDistributionDisplay.from_scores(SCORES, offset=-12.0, labels=labels)
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["odd", "usual", "threshold -12"]


def test_draws_into_the_axes_given():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert ScoreDistributionDisplay.from_scores(SCORES, offset=0.0, ax=ax).ax_ is ax


def test_equal_scores_can_be_drawn():
    display = ScoreDistributionDisplay.from_scores([2.0, 2.0], offset=2.0)
    assert sum(patch.get_height() for patch in display.ax_.patches) == 2


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0]]])
def test_scores_of_another_shape_are_refused(scores):
    with pytest.raises(ValueError, match="Expected `scores`"):
        ScoreDistributionDisplay(scores, offset=0.0)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="Expected `labels`"):
        ScoreDistributionDisplay([1.0, 2.0], offset=0.0, labels=["a"])
