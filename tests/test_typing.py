"""What a type checker sees of the public API, through the lazy names of the package."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import vae_anomaly

PROGRAM = """
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from typing_extensions import assert_type

import vae_anomaly
from vae_anomaly import AutoencoderDetector, ImageFolder, VAEDetector, load_detector, score_files

X = np.zeros((10, 2))
detector = VAEDetector(max_steps=1).fit(pd.DataFrame(X))
assert_type(detector, VAEDetector)
assert_type(AutoencoderDetector().fit([[1.0, 2.0]]), AutoencoderDetector)
assert_type(detector.score_samples(X), npt.NDArray[np.float64])
assert_type(detector.predict(X), npt.NDArray[np.int64])
assert_type(detector.p_values(X), npt.NDArray[np.float64])
assert_type(detector.score(X), float)
assert_type(detector.transform(X), npt.NDArray[np.float64])
assert_type(detector.sample(3), npt.NDArray[Any] | pd.DataFrame)
assert_type(detector.reconstruct(X), npt.NDArray[Any])
assert_type(detector.reconstruct(pd.DataFrame(X)), pd.DataFrame)
assert_type(detector.explain(X), pd.DataFrame | dict[str, Any])
assert_type(detector.explain(pd.DataFrame(X)), pd.DataFrame)
assert_type(detector.explain(ImageFolder("images")), dict[str, Any])
assert_type(detector.offset_, float)
assert_type(detector.export("served").folder, Path)
assert_type(load_detector("m"), VAEDetector | AutoencoderDetector)
assert_type(score_files("new.csv", "m", "scored.csv", explain=3), dict[str, Any])
assert_type(vae_anomaly.ImageFolder("images"), ImageFolder)
detector.save(3)  # wrong: [arg-type]
score_files("new.csv", "m", "scored.csv", explaim=3)  # wrong: [call-arg]
load_detector(None)  # wrong: [arg-type]
vae_anomaly.VAEDetectr  # wrong: [attr-defined]
"""


@pytest.mark.slow
def test_a_type_checker_knows_the_public_names(tmp_path):
    pytest.importorskip("mypy", reason="needs the extra [dev]")
    (tmp_path / "program.py").write_text(PROGRAM)
    root = pathlib.Path(vae_anomaly.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file", root / "pyproject.toml"]
    process = subprocess.run(
        [*command, "--cache-dir", tmp_path / "cache", tmp_path / "program.py"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    found = re.findall(r"program\.py:(\d+): error: .*(\[[\w-]+\])\n", process.stdout)
    wrong = [
        (str(number), line.rpartition(" ")[2])
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# wrong" in line
    ]
    assert found == wrong, process.stdout + process.stderr


def test_the_names_for_type_checkers_are_those_that_load():
    tree = ast.parse(pathlib.Path(vae_anomaly.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    named = {node.names[0].name: node.module for node in block.body}
    assert sorted(named) == vae_anomaly.__all__
    for name, module in named.items():
        assert getattr(importlib.import_module(module), name) is getattr(vae_anomaly, name)


def test_the_package_says_that_it_is_typed():
    assert (pathlib.Path(vae_anomaly.__file__).parent / "py.typed").exists()
