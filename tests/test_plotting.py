"""Pictures of scores and of images: what is drawn of which numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from vae_anomaly.displays import ImageExplanationDisplay, ScoreDistributionDisplay

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


def explained(shape=(2, 9, 8), **changes):
    rng = np.random.default_rng(0)
    arguments = {
        "images": rng.uniform(0, 16, shape),
        "expected": rng.uniform(-0.1, 16.1, shape),
        "contributions": rng.normal(0, 0.5, shape[:3]),
        "scores": np.linspace(-100.0, 3.0, shape[0]),
        "offset": -10.0,
        "value_range": (0, 16),
    }
    return ImageExplanationDisplay(**{**arguments, **changes})


def colours(display, values):
    return display.axes_[0, 2].images[0].to_rgba(np.array(values, dtype=float))[:, :3]


def test_an_image_has_a_row_of_image_expected_image_and_map():
    display = explained().plot()
    drawn = [[ax.images[0].get_array() for ax in row] for row in display.axes_]
    assert np.shape(drawn) == (2, 3, 9, 8)
    assert np.allclose(drawn[1][0], display.images[1] / 16)
    assert np.allclose(drawn[1][1], display.expected[1] / 16, atol=0.01)
    assert np.allclose(drawn[1][2], display.contributions[1])


def test_the_titles_tell_score_and_decision():
    titles = [ax.get_title() for ax in explained().plot().axes_[:, 0]]
    assert titles == ["score -100: anomaly", "score 3: normal"]


def test_zero_is_neutral_less_is_red_more_is_blue():
    zero, less, more = colours(explained().plot(), [0.0, -1.0, 1.0])
    assert np.ptp(zero) < 0.01 and zero.min() > 0.9
    assert less[0] > less[2] + 0.2
    assert more[2] > more[0] + 0.2


def test_all_maps_share_one_scale():
    display = explained().plot()
    limits = {ax.images[0].get_clim() for ax in display.axes_[:, 2]}
    largest = np.abs(display.contributions).max()
    assert limits == {(-largest, largest)}


@pytest.mark.parametrize("outlier", [-500.0, -1e7])
def test_one_pixel_far_off_does_not_hide_the_others(outlier):
    contributions = np.zeros((1, 8, 8))
    contributions[0, 0, 0] = outlier
    display = explained((1, 8, 8), contributions=contributions).plot()
    zero, usual, unusual = colours(display, [0.0, -0.1, -5.0])
    assert np.abs(usual - zero).max() < 0.05
    assert np.abs(unusual - zero).max() > 0.3


def test_the_bar_has_its_unit_and_an_arrow_where_values_lie_beyond_it():
    contributions = np.zeros((1, 8, 8))
    contributions[0, 0, 0] = -500.0
    for display, arrow in (
        (explained(), "neither"),
        (explained((1, 8, 8), contributions=contributions), "min"),
        (explained((1, 8, 8), contributions=-contributions), "max"),
    ):
        bar = display.plot().axes_[-1, 2].images[0].colorbar
        assert bar.ax.get_ylabel() == "contribution (nats)"
        assert bar.extend == arrow


def test_maps_of_nothing_are_white():
    display = explained(contributions=np.zeros((2, 9, 8))).plot()
    assert np.ptp(colours(display, [0.0])) < 0.01
    display.figure_.draw_without_rendering()


@pytest.mark.parametrize(("channels", "drawn"), [((), (9, 8)), ((1,), (9, 8)), ((3,), (9, 8, 3))])
def test_images_are_grey_or_coloured(channels, drawn):
    display = explained((2, 9, 8, *channels)).plot()
    for ax in display.axes_[0, :2]:
        assert ax.images[0].get_array().shape == drawn
    display.figure_.draw_without_rendering()


def test_maps_are_drawn_into_the_axes_given():
    from matplotlib.figure import Figure

    axes = Figure().subplots(2, 3)
    display = explained().plot(axes)
    assert display.axes_ is axes and display.figure_ is axes[0, 0].figure


def test_drawing_leaves_pyplot_alone():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    explained().plot()
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((9, 8))}, r"Expected `images` .* Received: \(9, 8\)"),
        ({"images": np.zeros((0, 9, 8))}, r"Expected `images` .* Received: \(0, 9, 8\)"),
        ({"images": np.zeros((2, 9, 8, 2))}, r"Expected `images` .* Received: \(2, 9, 8, 2\)"),
        ({"expected": np.zeros((2, 8, 9))}, r"`expected` of shape \(2, 9, 8\). .*\(2, 8, 9\)"),
        ({"contributions": np.zeros((2, 9))}, r"`contributions` of shape .* Received: \(2, 9\)"),
        ({"scores": [1.0]}, r"Expected `scores` of shape \(2,\). Received: \(1,\)"),
        ({"value_range": (1, 1)}, r"Expected `value_range` .* Received: value_range=\(1, 1\)"),
        ({"value_range": (0, 1, 2)}, r"Expected `value_range` .* Received: .*\(0, 1, 2\)"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        explained(**changes)


def test_axes_of_another_shape_are_refused():
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match=r"Expected `axes` of shape \(2, 3\).*Received: \(3,\)"):
        explained().plot(Figure().subplots(1, 3))


def detector_of(display, unit, explanation):
    return SimpleNamespace(
        explain=lambda images: explanation,
        score_samples=lambda images: display.scores,
        offset_=display.offset,
        scorer_=SimpleNamespace(unit=unit, preprocessor=SimpleNamespace(value_range=(0.0, 16.0))),
    )


@pytest.mark.parametrize("unit", ["nats", "squared error"])
def test_a_detector_gives_images_maps_scores_and_unit(unit):
    wanted = explained()
    explanation = {
        "value": wanted.images,
        "expected": wanted.expected,
        "contribution": wanted.contributions,
    }
    display = ImageExplanationDisplay.from_estimator(
        detector_of(wanted, unit, explanation), wanted.images
    )
    assert (display.images == wanted.images).all()
    assert (display.contributions == wanted.contributions).all()
    assert display.axes_[0, 0].get_title() == "score -100: anomaly"
    assert display.unit == unit


def test_a_detector_of_tables_is_refused():
    detector = detector_of(explained(), "nats", explanation=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="fitted to images. Received: .* fitted to a table"):
        ImageExplanationDisplay.from_estimator(detector, np.zeros((2, 3)))
