import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_readmes_python_runs_as_it_stands(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "detector" in names or "vae" in names


def test_files_and_folders_that_the_readme_names_exist():
    root = pathlib.Path(__file__).parents[1]
    for name in re.findall(r"\b(?:benchmarks|notebooks|vae_anomaly)/[\w./]*\w", README):
        assert (root / name).exists(), name
