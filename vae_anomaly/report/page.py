"""The report as one HTML file: no script, nothing loaded, all text escaped."""

import base64
import io
import pathlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.report import pictures
from vae_anomaly.report.content import ACTIVE_KL, UNDERSTOOD_GAIN, Content

# Tables and lists are cut, so that a table of thousands of columns makes no page of megabytes.
_LARGEST_TABLE = 80
_LARGEST_LIST = 12


def render(content: Content) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    content : Content

    Returns
    -------
    str
        A whole page. It loads nothing and runs no script, which its content security policy holds
        it to.

    Raises
    ------
    ImportError
        Jinja or matplotlib is not installed.

    Examples
    --------
    >>> from vae_anomaly.report import Rate
    >>> content = Content(
    ...     title="payments",
    ...     offset=-3.0,
    ...     rate=Rate(asked=0.01, expected=0.01, low=0.005, high=0.02),
    ...     chosen_by="false_alarm_rate=0.01",
    ...     calibrated_on="999 held-out rows",
    ...     calibration_scores=[-4.0, -1.0, 2.0],
    ... )
    >>> html = render(content)
    >>> html.startswith("<!doctype html>"), "<script" in html
    (True, False)
    """
    try:
        import jinja2
        import markupsafe
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Expected Jinja and matplotlib for a report. "
            f"Received: {error}. Run: pip install 'vae-anomaly[plot]'"
        ) from error

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vae_anomaly", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number,
        percent=_percent,
        png=_data_uri,
        words=_words,
        shown=_shown,
        breakable=_breakable,
    )
    drawn = {name: markupsafe.Markup(svg) for name, svg in _pictures(content).items()}
    return environment.get_template("page.html").render(
        report=content,
        pictures=drawn,
        active_kl=ACTIVE_KL,
        understood_gain=UNDERSTOOD_GAIN,
        fits=sorted(content.column_fits, key=lambda fit: fit.gain),
        largest_gain=max((abs(fit.gain) for fit in content.column_fits), default=1.0) or 1.0,
        largest_table=_LARGEST_TABLE,
    )


def write(content: Content, path: str | pathlib.Path) -> None:
    """Write the report to a file."""
    pathlib.Path(path).write_text(render(content), encoding="utf-8")


def _pictures(content: Content) -> dict[str, str]:
    drawn = {
        "scores": pictures.score_picture(
            content.calibration_scores, content.batch_scores, content.offset, content.unit
        )
    }
    if content.training is not None:
        drawn["training"] = pictures.training_picture(content.training)
    if content.kl_per_dimension is not None:
        drawn["latent"] = pictures.latent_picture(content.kl_per_dimension)
    if len(content.rates) > 1:
        drawn["rates"] = pictures.rate_picture(list(content.rates), content.level)
    return drawn


def _number(value: float, digits: int = 4) -> str:
    text = f"{value:,.{digits}g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if "e" in text and abs(value) >= 1:
        text = f"{value:,.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    if share == 0 or share >= 0.0995:
        return f"{share:.0%}"
    return (
        np.format_float_positional(100 * share, precision=2, unique=False, fractional=False) + "%"
    )


def _data_uri(pixels: ArrayLike) -> str:
    """Return pixels as a PNG file in a link."""
    from matplotlib.image import imsave

    values = np.clip(np.asarray(pixels, dtype=float), 0, 1)
    file = io.BytesIO()
    imsave(
        file, np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3))), format="png"
    )
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _breakable(text: str) -> str:
    """Return HTML whose lines may end after an underscore or an equals sign."""
    import markupsafe

    breaks = {ord(sign): markupsafe.Markup(f"{sign}<wbr>") for sign in "_="}
    return markupsafe.Markup("").join(breaks.get(ord(c), c) for c in text)


def _words(names: list[str]) -> str:
    """Join names for a sentence, the first few of many."""
    if len(names) > _LARGEST_LIST:
        rest = len(names) - _LARGEST_LIST + 1
        names = [*names[: _LARGEST_LIST - 1], f"{rest} more"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _shown(items: Any) -> Any:
    """Return as many items as a table shows."""
    return items[:_LARGEST_TABLE]
