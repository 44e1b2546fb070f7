"""The report: one page that shows what it is given, loads nothing and runs nothing."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="needs the extra [plot]")
pytest.importorskip("jinja2", reason="needs the extra [plot]")

from vae_anomaly.report import (
    Anomaly,
    Column,
    ColumnFit,
    Content,
    Drift,
    Picture,
    Rate,
    Reason,
    Training,
    render,
    write,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
VOID = {"meta", "link", "img", "br", "wbr"}


PIXELS = np.arange(64.0).reshape(8, 8, 1) / 64


def bare(**others):
    given = {
        "title": "payments",
        "offset": -3.0,
        "rate": Rate(asked=None, expected=0.01, low=0.005, high=0.02),
        "chosen_by": "contamination='auto'",
        "calibrated_on": "480 held-out rows",
        "calibration_scores": np.random.default_rng(0).normal(size=480),
    }
    return Content(**{**given, **others})


def full(text="amount"):
    """A report with every section; ``text`` stands wherever users' text may."""
    rng = np.random.default_rng(0)
    steps = np.arange(0, 1000, 50)
    reasons = [
        Reason(text, "18,400", 612.1, "240", ("35", "610"), "12 to 310"),
        Reason("city", text, 3.0, text, None, f"{text}, Oslo"),
        Reason("count", "", 1.0, "3", (text, text)),
    ]
    return bare(
        title=text,
        chosen_by=text,
        calibrated_on=text,
        unit="nats",
        facts=[(text, text)],
        warnings=[text],
        columns=[Column(text, text, text)],
        training=Training(steps, np.exp(-steps / 200), np.exp(-steps / 200) + 0.1, 500),
        kl_per_dimension=[2.0, 0.5, 0.001],
        rates=[Rate(rate, rate, rate / 2, 2 * rate, rate) for rate in (0.01, 0.05)],
        n_rows=902,
        n_flagged=4,
        batch_scores=np.concatenate([rng.normal(size=900), [-300.0, -20.0]]),
        anomaly_share=(0.031, 0.024, 0.039),
        column_fits=[ColumnFit(text, 1.5), ColumnFit("noise", 0.0)],
        anomalies=[
            Anomaly(text, -300.0, 0.002, reasons),
            Anomaly("image", -20.0, 0.002, (), [Picture(PIXELS, text), Picture(PIXELS, "map")]),
        ],
        drift=[Drift(text, text, text, text, True), Drift("count", "median", "3", "3", False)],
    )


class Page(html.parser.HTMLParser):
    """The elements of a page, and its text; fails where elements are not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(page)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))

    def tags(self):
        return [tag for tag, _ in self.elements if tag != "wbr"]


def test_the_page_runs_nothing_and_loads_nothing():
    page = Page(render(full()))
    assert not {"script", "iframe", "object", "embed", "form"} & set(page.tags())
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    policies = [attrs for _, attrs in page.elements if "http-equiv" in attrs]
    assert policies[0]["content"].startswith("default-src 'none'")
    assert "url(" not in re.sub(r"url\(#\w+\)", "", render(full()))


def test_every_section_is_there_and_every_id_is_unique():
    page = Page(render(full()))
    assert page.tags().count("svg") == 4
    assert page.tags().count("h2") == 7
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_sections_without_content_are_left_out():
    page = Page(render(bare()))
    assert page.tags().count("svg") == 1
    assert page.tags().count("h2") == 1
    assert "None" not in page.text


@pytest.fixture(scope="module")
def usual_tags():
    return Page(render(full("a<b"))).tags()


@pytest.mark.slow
@settings(max_examples=4)
@given(
    st.text(min_size=1, max_size=20)
    | st.sampled_from(
        ["<script>alert(1)</script>", '"><img src=x>', "{{ 7 * 7 }}", "$\\frac{1}{2}$"]
    )
)
def test_text_of_users_is_shown_as_it_is_and_changes_no_element(usual_tags, text):
    page = Page(render(full(text)))
    assert page.tags() == usual_tags
    shown = re.sub(r"\s+", " ", text.replace("\r\n", "\n")).strip()
    assert shown in page.text


def test_the_same_content_is_the_same_page():
    assert render(full()) == render(full())


def test_the_page_is_written_as_utf8(tmp_path):
    write(full("beløp"), tmp_path / "r.html")
    assert "beløp" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_thousands_of_columns_and_millions_of_rows_make_no_large_page():
    names = [f"column_{index}" for index in range(3000)]
    content = dataclasses.replace(
        full(),
        batch_scores=np.random.default_rng(0).standard_t(2, size=1_000_000),
        columns=[Column(name, "number", "0 to 1") for name in names],
        column_fits=[ColumnFit(name, 0.0) for name in names],
        drift=[Drift(name, "median", "0", "1", True) for name in names],
    )
    page = render(content)
    assert len(page) < 300_000
    assert page.count("and 2,920 more") == 3
    assert "column_10 and 2989 more" in Page(page).text


def test_a_posterior_that_has_collapsed_is_named():
    text = Page(render(bare(kl_per_dimension=[0.001, 0.0]))).text
    assert "None of the 2 latent dimensions is active" in text
    assert "collapsed" in text
    assert "1 of 2 latent dimensions is active" in Page(render(bare(kl_per_dimension=[1, 0]))).text
    assert "collapsed" not in Page(render(bare(kl_per_dimension=[1, 2]))).text


def test_columns_that_the_model_does_not_understand_are_named():
    fits = [ColumnFit("a", 0.0), ColumnFit("b", 2.0), ColumnFit("c", -0.1)]
    assert "next to nothing (under 0.02) about a and c" in Page(render(bare(column_fits=fits))).text
    assert "about every column" in Page(render(bare(column_fits=fits[1:2]))).text


WORDS = st.sampled_from(["1", "2", "Oslo", "Bergen"])


@given(
    WORDS | st.just(""),
    WORDS | st.none(),
    st.tuples(WORDS, WORDS) | st.none(),
    WORDS | st.none(),
)
def test_a_reason_never_expects_the_value_that_was_seen(seen, expected, between, usual):
    said = Reason("c", seen, 1.0, expected, between, usual).sentences
    assert said.startswith(f"is {seen}." if seen else "is missing.")
    assert f"suggests {seen or 'nothing'}" not in said
    assert f"column: {seen or 'nothing'}." not in said
    if expected and expected != seen:
        assert f"suggests {expected}" in said
    assert "None" not in said


@pytest.mark.parametrize(
    ("calibration", "batch"),
    [
        ([0.0], None),
        ([-3.0, -3.0], [-3.0]),
        ([1.0, 2.0], []),
        ([1e9, -1e9], [-1e12, 5.0]),
        ([-3.0 + 1e-9], [-3.0 - 1e-9]),
    ],
)
def test_scores_of_any_kind_can_be_drawn(calibration, batch):
    page = Page(render(bare(calibration_scores=calibration, batch_scores=batch)))
    assert page.tags().count("svg") == 1


@pytest.mark.parametrize(
    "training",
    [
        Training([0], [np.nan]),
        Training([0], [1.0], [2.0], 0),
        Training(range(3), [1e30, 5.0, 4.0], [1e30, 5.0, 4.0], 2),
    ],
)
def test_curves_of_any_kind_can_be_drawn(training):
    assert Page(render(bare(training=training))).tags().count("svg") == 2


def browsed(page, tmp_path, *options):
    """Open a page; return what stands on its console, and what it asked the network for."""
    log = tmp_path / "net.json"
    process = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars"),
            # Its own errands end here too.
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--log-net-log={log}", "--enable-logging=stderr", "--window-size=1280,3000"),
            *(options or ("--dump-dom",)),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    console = re.findall(r"CONSOLE[^\]]*\] \"(.*)\", source", process.stderr)
    requests = [
        event["params"]["url"]
        for event in json.loads(log.read_text(encoding="utf-8"))["events"]
        # What the browser does of its own accord has no origin.
        if event.get("params", {}).get("initiator", "not an origin") != "not an origin"
    ]
    return console, requests


@pytest.mark.slow
@needs_chromium
def test_in_a_browser_nothing_leaves_and_the_console_is_empty(tmp_path):
    write(full('<img src="http://127.0.0.1:9/x.png">'), tmp_path / "r.html")
    assert browsed(tmp_path / "r.html", tmp_path) == ([], [])
    # A page that does both is caught.
    (tmp_path / "bad.html").write_text(
        '<img src="http://127.0.0.1:9/x.png"><script>console.error("boo")</script>'
    )
    console, requests = browsed(tmp_path / "bad.html", tmp_path)
    assert console[0] == "boo" and requests == ["http://127.0.0.1:9/x.png"]


MEASURE = """
onload = () => {
    const page = document.querySelector("iframe").contentDocument
    const beyond = (element, pixels) => {
        const { width, height } = element.getBoundingClientRect()
        return width > pixels && height > pixels
    }
    const drawn = (svg) => [...svg.querySelectorAll("path")].some((path) => beyond(path, 20))
    console.log(JSON.stringify({
        svg: [...page.querySelectorAll("svg")].filter((e) => beyond(e, 60) && drawn(e)).length,
        img: [...page.images].filter((e) => beyond(e, 60) && e.naturalWidth === 8).length,
        too_wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    }))
}
"""


@needs_chromium
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_in_a_browser_the_pictures_are_there_and_nothing_sticks_out(tmp_path, width):
    page = html.escape(render(full("a_rather_long_name_of_a_column_without_a_blank" * 2)))
    (tmp_path / "around.html").write_text(
        f'<iframe style="width:{width}px;height:3000px;border:0" srcdoc="{page}"></iframe>'
        f"<script>{MEASURE}</script>",
        encoding="utf-8",
    )
    console, _ = browsed(tmp_path / "around.html", tmp_path)
    assert [json.loads(line.replace('\\"', '"')) for line in console] == [
        {"svg": 4, "img": 2, "too_wide": 0}
    ]


@needs_chromium
@pytest.mark.slow
def test_in_a_browser_the_page_prints(tmp_path):
    write(full(), tmp_path / "r.html")
    browsed(tmp_path / "r.html", tmp_path, f"--print-to-pdf={tmp_path / 'r.pdf'}")
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
