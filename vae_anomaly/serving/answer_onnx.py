"""Answers the sample request of an ONNX export, as a server would; run in another process.

    python answer_onnx.py EXPORT OUTPUT

loads ``model.onnx`` of the folder EXPORT, with ONNX Runtime and NumPy alone, and writes to the file
OUTPUT a JSON object of signature to output name to values.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime

_DTYPES = {
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}


def answers(folder: pathlib.Path) -> dict[str, dict[str, list]]:
    """Return what a model answers to its sample request."""
    request = json.loads((folder / "sample_request.json").read_text("utf-8"))
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    feeds = {
        given.name: np.array(request[given.name], _DTYPES[given.type])
        for given in session.get_inputs()
    }
    names = [output.name for output in session.get_outputs()]
    arrays = session.run(names, feeds)
    return {"model.onnx": dict(zip(names, (array.tolist() for array in arrays), strict=True))}


if __name__ == "__main__":
    # A server has neither: nothing of them may be imported from here on.
    sys.modules["vae_anomaly"] = sys.modules["tensorflow"] = None  # type: ignore[assignment]
    export, output = map(pathlib.Path, sys.argv[1:])
    output.write_text(json.dumps(answers(export)))
