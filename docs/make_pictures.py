"""Draw the pictures of the README and of the docs: what the demo found, in all displays.

    python docs/make_pictures.py

writes ``explained.png``, ``displays.png`` and ``report.png`` to ``docs/_static``. It runs
``vae-anomaly demo`` and the quickstart notebook, so it takes a minute. The last picture needs
Chromium.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from vae_anomaly import (
    CalibrationDisplay,
    ExplanationDisplay,
    LatentMapDisplay,
    ReconstructionDisplay,
    ScoreDistributionDisplay,
    load_detector,
)

FOLDER = pathlib.Path(__file__).parent / "_static"
NOTEBOOK = pathlib.Path(__file__).parents[1] / "notebooks" / "01_quickstart.ipynb"
N_REASONS = 6
N_ROWS = 3


def explained(detector, scored):
    """Return the README's figure: scores of the demo, and why its worst row is an anomaly."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    ScoreDistributionDisplay.from_scores(
        scored["score"], offset=detector.offset_, labels=scored["diagnosis"], ax=left
    )
    left.set_title("331 tumours the model has not seen")
    worst = scored.loc[[scored["score"].idxmin()]]
    ExplanationDisplay.from_estimator(
        detector, table_of(detector, worst), n_columns=N_REASONS, ax=right
    )
    right.set_title(f"why row {worst['row'].item()} scores {worst['score'].item():.0f}")
    right.set_xlabel("what the row would gain without the cell (nats)")
    return figure


def displays(detector, scored):
    """Return the docs' figure: the other displays of tables."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    X = table_of(detector, scored)
    benign = X[scored["diagnosis"] == "benign"]
    ax = figure.add_subplot(grid[0, :2])
    CalibrationDisplay.from_estimator(detector, benign, ax=ax)
    ax.set_title("CalibrationDisplay: benign rows")
    ax = figure.add_subplot(grid[0, 2:])
    LatentMapDisplay.from_estimator(detector, X, labels=scored["diagnosis"], ax=ax)
    ax.set_title("LatentMapDisplay")
    axes = [figure.add_subplot(grid[1, column]) for column in range(4)]
    columns = ["mean_radius", "mean_texture", "mean_smoothness", "mean_concavity"]
    ReconstructionDisplay.from_estimator(detector, X, columns=columns, axes=axes)
    return figure


def table_of(detector, scored):
    """Return the columns that the detector takes."""
    return scored[list(detector.feature_names_in_)]


def report(folder):
    """Return a photograph of the lowest rows in the report that the quickstart notebook writes."""
    matplotlib.use("agg")
    names = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    head, page = names["page"].split("</head>")
    rows = re.search(r'<ol class="anomalies">.*?</ol>', page, re.DOTALL).group()
    style = f"<style>ol.anomalies > li:nth-child(n+{N_ROWS + 1}) {{ display: none }}</style>"
    html, shot = folder / "rows.html", folder / "rows.png"
    html.write_text(f"{head}{style}</head><body><main>{rows}</main></body></html>")
    browser = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars"]
    size = ["--window-size=820,900", "--force-device-scale-factor=1.3"]
    subprocess.run([*browser, *size, f"--screenshot={shot}", html.as_uri()], check=True)
    picture = Image.open(shot).convert("RGB")
    paper = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    return picture.crop(ImageChops.difference(picture, paper).getbbox()).quantize(48)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        report(pathlib.Path(folder)).save(FOLDER / "report.png", optimize=True)
        demo = pathlib.Path(folder) / "demo"
        subprocess.run([sys.executable, "-m", "vae_anomaly", "demo", "--output", demo], check=True)
        detector, scored = load_detector(demo / "model"), pd.read_csv(demo / "scored.csv")
        for draw in (explained, displays):
            draw(detector, scored).savefig(FOLDER / f"{draw.__name__}.png", dpi=110)
