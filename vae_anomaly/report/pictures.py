"""The report's pictures: arrays in, SVG text out, in the colours of the page.

Text stays text and colours are variables of the page's style sheet, so that pictures follow its
font and its dark mode. No text of users goes into a picture.
"""

import io
import re

import numpy as np

from vae_anomaly.report.content import ACTIVE_KL, Rate, Training

# Stand-ins for the colours of the style sheet, which matplotlib would not take.
_COLOURS = {
    "ink": "#010203",
    "muted": "#020304",
    "line": "#030405",
    "normal": "#040506",
    "batch": "#050607",
    "alarm": "#060708",
    "paper": "#070809",
}
_SIZE = (5.0, 3.2)  # 360 units wide, as a phone is, so that text keeps its size there
_N_BINS = 36
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def _svg(draw, label, size=_SIZE):
    """Return what ``draw`` puts on axes, as SVG to stand in a page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(label)):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_visible(False)
        ax = figure.add_subplot()
        ax.patch.set_visible(False)
        draw(ax)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=_NO_METADATA)
    return _at_home_in_a_page(file.getvalue(), label)


def _style(label):
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": label,
        "font.size": 11.0,
        "text.color": _COLOURS["ink"],
        "text.parse_math": False,
        "axes.labelcolor": _COLOURS["muted"],
        "axes.edgecolor": _COLOURS["line"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.use_mathtext": False,
        "xtick.color": _COLOURS["line"],
        "ytick.color": _COLOURS["line"],
        "xtick.labelcolor": _COLOURS["muted"],
        "ytick.labelcolor": _COLOURS["muted"],
        "legend.facecolor": _COLOURS["paper"],
        "legend.edgecolor": "none",
        "legend.framealpha": 0.85,
        "legend.fontsize": 10.5,
        "lines.linewidth": 1.6,
    }


def _at_home_in_a_page(svg, label):
    """Return SVG with the page's colours and font, without what it does not need there."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'(<svg [^>]*?)(?: (?:width|height)="[^"]*")+', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def score_picture(calibration_scores, batch_scores, offset: float, unit: str) -> str:
    """Draw how scores are distributed around the threshold.

    Parameters
    ----------
    calibration_scores : (m,) array
    batch_scores : (n,) array or None
    offset : float
    unit : str

    Returns
    -------
    str
        SVG.
    """
    groups = {"calibration": ("normal", np.asarray(calibration_scores, float) - offset)}
    if batch_scores is not None and np.size(batch_scores):
        groups["this batch"] = ("batch", np.asarray(batch_scores, float) - offset)
    every = np.concatenate([scores for _, scores in groups.values()])
    # Linear around the threshold, where half of the scores are, logarithmic far from it.
    linear = max(float(np.median(np.abs(every))), 1e-6)
    low, high = np.arcsinh(np.array([min(every.min(), 0), max(every.max(), 0)]) / linear)
    width = (high - low or 1.0) / _N_BINS
    # The threshold is an edge.
    first = np.floor(low / width)
    edges = linear * np.sinh(width * np.arange(first, max(np.ceil(high / width), first + 1) + 1))

    def draw(ax):
        for label, (colour, scores) in groups.items():
            shares = np.histogram(scores, edges)[0] / len(scores)
            filled = colour == "batch" or len(groups) == 1
            ax.stairs(
                100 * shares,
                edges,
                fill=filled,
                alpha=0.75 if filled else 1.0,
                color=_COLOURS[colour],
                linewidth=1.6,
                label=label,
            )
        ax.axvline(0, color=_COLOURS["alarm"], linewidth=1.2, linestyle=(0, (4, 3)))
        # Logarithmic, or the few rows that matter would not be seen.
        ax.set_yscale("log")
        ax.set_ylim(bottom=50 / max(len(scores) for _, scores in groups.values()))
        ax.yaxis.set_major_formatter(_plain)
        ax.yaxis.set_minor_formatter(_blank)
        ax.set_xscale("asinh", linear_width=linear)
        ticks = _ticks(edges[0], edges[-1], linear)
        ax.set_xticks(ticks, [_number(tick) for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlim(edges[0], edges[-1])
        ax.set_xlabel(f"score \N{MINUS SIGN} threshold ({unit})")
        ax.set_ylabel("rows (%)")
        ax.legend(loc="upper left")

    return _svg(draw, "Distribution of the scores around the threshold")


def _ticks(low, high, linear):
    """Round numbers for an axis that is linear around 0 and logarithmic beyond, some apart."""
    powers = 10.0 ** np.arange(np.floor(np.log10(linear)), np.ceil(np.log10(-low + high)) + 1)
    rounds = np.concatenate([powers, 3 * powers])
    candidates = np.array([t for t in (*-rounds, 0, *rounds) if low <= t <= high])
    candidates = candidates[np.argsort(np.abs(candidates), kind="stable")]
    place = np.arcsinh(candidates / linear)
    apart = (np.arcsinh(high / linear) - np.arcsinh(low / linear)) / 7
    kept: list[int] = []
    for index in range(len(candidates)):
        if all(abs(place[index] - place[other]) >= apart for other in kept):
            kept.append(index)
    return np.sort(candidates[kept])


def _number(value):
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def _plain(value, _):
    return f"{value:g}"


def _blank(value, _):
    return ""


def training_picture(training: Training) -> str:
    """Draw the loss over the steps of a training, and the step whose weights were kept."""

    def draw(ax):
        steps = np.asarray(training.steps)
        curves = [np.asarray(training.loss, float)]
        ax.plot(steps, curves[0], color=_COLOURS["normal"], label="training")
        if training.held_out is not None:
            curves.append(np.asarray(training.held_out, float))
            ax.plot(steps, curves[1], color=_COLOURS["batch"], label="held out")
        if training.best_step is not None:
            label = f"kept: step {training.best_step:,}"
            ax.axvline(
                training.best_step,
                color=_COLOURS["muted"],
                linewidth=1.0,
                linestyle=(0, (4, 3)),
                label=label,
            )
        # The first steps are far above all others and would flatten these.
        later = np.concatenate([curve[len(curve) // 20 :] for curve in curves])
        later = later[np.isfinite(later)]
        if later.size:
            margin = 0.06 * (np.ptp(later) or 1.0)
            ax.set_ylim(later.min() - margin, later.max() + margin)
        ax.yaxis.set_major_formatter(lambda value, _: _number(value))
        ax.set_xlabel("step")
        ax.set_ylabel(f"loss ({training.unit})")
        ax.legend(loc="upper right")

    return _svg(draw, "Loss over the steps of training")


def latent_picture(kl_per_dimension) -> str:
    """Draw the KL divergence of each latent dimension, the largest first."""
    kl = np.sort(np.asarray(kl_per_dimension, float))[::-1]

    def draw(ax):
        active = kl >= ACTIVE_KL
        place = np.arange(1, len(kl) + 1)
        ax.bar(place[active], kl[active], color=_COLOURS["normal"], width=0.8)
        ax.bar(place[~active], np.maximum(kl[~active], 0), color=_COLOURS["line"], width=0.8)
        ax.set_xlim(0.3, len(kl) + 0.7)
        ax.set_ylim(0, max(kl.max(initial=0) * 1.08, 2 * ACTIVE_KL))
        ax.axhline(ACTIVE_KL, color=_COLOURS["muted"], linewidth=0.8, linestyle=(0, (2, 2)))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("latent dimension, by size")
        ax.set_ylabel("KL divergence (nats)")

    return _svg(draw, "KL divergence of each latent dimension")


def rate_picture(rates: list[Rate], level: float) -> str:
    """Draw the false-alarm rates that thresholds give against those asked for."""

    def draw(ax):
        asked = np.array([rate.asked for rate in rates])
        low, expected, high = (
            np.maximum([getattr(rate, name) for rate in rates], asked.min() / 100)
            for name in ("low", "expected", "high")
        )
        ax.fill_between(
            100 * asked,
            100 * low,
            100 * high,
            color=_COLOURS["normal"],
            alpha=0.2,
            linewidth=0,
            label=f"{level:.0%} interval",
        )
        ax.plot(100 * asked, 100 * expected, color=_COLOURS["normal"], label="expected")
        ax.plot(100 * asked, 100 * asked, color=_COLOURS["muted"], lw=0.8, ls=(0, (2, 2)))
        flagged = [rate.flagged for rate in rates if rate.flagged is not None]
        if len(flagged) == len(rates):
            ax.plot(
                100 * asked,
                100 * np.maximum(flagged, 1e-6),
                color=_COLOURS["batch"],
                label="this batch",
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(100 * asked, [_plain(100 * rate, None) for rate in asked])
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter(_plain)
        ax.yaxis.set_minor_formatter(_blank)
        ax.set_ylim(bottom=100 * max(low.min(), asked.min() / 10))
        ax.set_xlabel("false-alarm rate asked for (%)")
        ax.set_ylabel("flagged (%)")
        ax.legend(loc="lower right")

    return _svg(draw, "False-alarm rates asked for and obtained")
