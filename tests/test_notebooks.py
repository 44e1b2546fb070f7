"""The notebooks run, and their answers are those that their text tells."""

import pathlib
import re

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_says_what_its_text_says(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    answers = [
        output["data"]["text/plain"]
        for cell in code
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    claims = [answer for answer in answers if re.fullmatch(r"(np\.)?(True|False)_?", answer)]
    assert claims
    assert not any("False" in claim for claim in claims)
