"""The examples of the README and of the pages in docs run, and the files they name exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{index}")
    for page in PAGES
    if page.name != "index.md"  # begins with the README's example
    for index, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


def run_example(code):
    names = {}
    exec(compile(code, "example", "exec"), names)
    assert "detector" in names or "vae" in names


@pytest.mark.parametrize("code", BLOCKS[:1])
def test_an_example_of_the_readme_runs_without_training(code, tmp_path, monkeypatch, trainings):
    monkeypatch.chdir(tmp_path)
    run_example(code)


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS)
def test_an_example_runs_as_it_stands(code, tmp_path, monkeypatch, cross_fitting):
    monkeypatch.chdir(tmp_path)
    run_example(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_folders_that_a_page_names_exist(page):
    rooms = r"(?<!/)\b(?:benchmarks|notebooks|vae_anomaly)/[\w./]*\.(?:py|md|ipynb)"
    for name in re.findall(rooms, page.read_text()):
        assert (ROOT / name).exists(), name


def heading_ids(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in heading_ids(target), link


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
