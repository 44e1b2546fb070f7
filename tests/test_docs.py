"""Everything that a user can type, import or receive is documented."""

import importlib.metadata
import inspect
import pathlib
import re

import click
import pytest

import vae_anomaly
from vae_anomaly import cli

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path: path.read_text()
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]
    if "_build" not in path.parts
}
TEXT = "\n".join(PAGES.values())
API = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
COMMANDS = cli.main.commands


def options(command):
    return [option for option in command.params if isinstance(option, click.Option)]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_shown_in_use(name):
    assert re.search(rf"vae-anomaly {name}\b", TEXT)


@pytest.mark.parametrize(
    ("command", "option"),
    [(name, option.opts[-1]) for name in COMMANDS for option in options(COMMANDS[name])],
)
def test_an_option_has_a_help_text(command, option):
    (found,) = (o for o in options(COMMANDS[command]) if option in o.opts)
    assert found.help
    assert found.help[0].isupper()


@pytest.mark.parametrize("option", sorted({o.opts[-1] for o in options(COMMANDS["score"])}))
def test_an_option_of_score_is_in_the_guide(option):
    guide = PAGES[DOCS / "scoring-files.md"] + PAGES[DOCS / "images.md"]
    assert option in guide


@pytest.mark.parametrize("name", vae_anomaly.__all__)
def test_a_public_name_is_in_the_reference(name):
    assert re.search(rf"::.*\b{name}\b", API)


def test_the_keras_parts_are_in_the_reference():
    from vae_anomaly import vae

    missing = [name for name in vae.__all__ if not re.search(rf"::.*\b{name}\b", API)]
    assert not missing


@pytest.mark.parametrize("name", ["VAEDetector", "AutoencoderDetector"])
def test_a_parameter_of_a_detector_is_in_its_docstring(name):
    detector = getattr(vae_anomaly, name)
    parameters = detector.__doc__.split("Parameters")[1].split("Attributes")[0]
    for parameter in inspect.signature(detector).parameters:
        assert re.search(rf"\b{parameter}\b", parameters), parameter


def test_a_column_that_scoring_adds_is_explained():
    from vae_anomaly.batch.chunks import OUTPUTS

    page = PAGES[DOCS / "scoring-files.md"]
    for name in [*OUTPUTS, "feature_log_prob:<column>", "reason_1_gain"]:
        assert f"`{name}`" in page, name


def test_an_exit_code_is_explained():
    stated = re.search(r"Exit codes: (.*?)\.", " ".join(cli.main.commands["score"].help.split()))
    for code in re.findall(r"(\d+) ", stated.group(1)):
        assert f"| {code} |" in PAGES[DOCS / "scoring-files.md"], code


def test_an_extra_is_explained():
    for name in importlib.metadata.metadata("vae-anomaly").get_all("Provides-Extra"):
        assert f"| `{name}` |" in PAGES[DOCS / "install.md"], name


def test_a_page_is_in_a_table_of_contents():
    entries = set()
    for path, text in PAGES.items():
        for block in re.findall(r"```\{toctree\}(.*?)```", text, re.DOTALL):
            lines = [line for line in block.split() if not line.startswith(":")]
            entries.update((path.parent / line).with_suffix(".md").resolve() for line in lines)
    pages = {path for path in PAGES if path.is_relative_to(DOCS)} - {DOCS / "index.md"}
    assert pages <= entries


def test_the_version_is_the_same_everywhere():
    version = vae_anomaly.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1) == version


def test_a_change_that_a_page_shows_fits_the_code():
    (change,) = re.findall(r"```diff\n(.*?)```", PAGES[DOCS / "extending.md"], re.DOTALL)
    for part in change.split("--- ")[1:]:
        name, *lines = part.splitlines()
        code = (ROOT / name).read_text().splitlines()
        for line in lines:
            assert line[0] == "+" or line[1:] in code, (name, line)
