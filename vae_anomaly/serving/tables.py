"""What the export of a detector of tables has of its own: columns, sample rows, their answers."""

import numpy as np

from vae_anomaly.serving.signatures import (
    MISSING_BELOW,
    MISSING_NUMBER,
    input_names,
    served_dtype,
    trace_signatures,
)

_N_TYPICAL_ROWS = 3


class ServedTable:
    """A detector of tables as ``export`` sees it; ``image_export.ServedImages`` is its like.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted on a table.

    Raises
    ------
    ValueError
        A column has values that a server takes for missing.
    """

    # Of the sample's JSON.
    indent = 1
    meanings = {
        "feature_log_prob": "what each column adds to the score relative to what is usual for it; "
        "columns in the order of this file",
        "latent": "what no column owns of the score",
        "<input>_contribution": "the column's part of feature_log_prob",
        "<input>_expected": "what the model expects in place of the cell, in its units "
        "(a boolean: the probability of 1; a category: the most probable, '' for any other)",
    }

    def __init__(self, detector):
        self.scorer = detector.scorer_
        self._preprocessor = self.scorer.preprocessor
        self._columns = self._preprocessor.schema()
        self._inputs = input_names([column["name"] for column in self._columns])
        self.lookup_tables = self._preprocessor.lookup_tables
        for column in self._columns:
            if column.get("center", 0.0) - 100 * column.get("scale", 0.0) < MISSING_BELOW:
                raise ValueError(
                    f"Column {column['name']!r}: expected numbers far above {MISSING_BELOW}, under "
                    f"which a served number is missing. Received: a column around "
                    f"{column['center']:g}. Rescale it and fit again."
                )

    def functions(self):
        """Trace the signatures."""
        return trace_signatures(self.scorer, self._inputs)

    def sample(self):
        """Make rows of the schema alone: typical ones, one that is all missing, a far one."""
        rng = np.random.default_rng(0)
        arrays = {}
        for column in self._columns:
            name = column["name"]
            if column["kind"] == "categorical":
                cells = [*rng.choice(column["levels"] or [""], size=_N_TYPICAL_ROWS)]
                cells = [str(cell) for cell in [*cells, "", "never seen"]]
                arrays[name] = np.array(cells, dtype=object)
                continue
            if column["kind"] == "boolean":
                cells = [*rng.integers(0, 2, size=_N_TYPICAL_ROWS), np.nan, 1]
            else:
                center, scale = column["center"], column["scale"]
                near = center + scale * rng.uniform(-1, 1, size=_N_TYPICAL_ROWS)
                cells = [*near, np.nan, min(center + 50 * scale, np.finfo(np.float64).max)]
            exact = np.array(cells, dtype=np.float64)
            # Digits that people can read, where they are enough.
            rounded = np.array([float(f"{cell:.6g}") for cell in exact])
            step = 1e-3 * column.get("scale", 1.0)
            arrays[name] = np.where(np.abs(rounded - exact) < step, rounded, exact)
        return arrays

    def explained(self, arrays, answers):
        """Return what only ``explain`` answers of columns, beside ``latent`` and ``baseline``."""
        expected = self._preprocessor.inverse(self.scorer.reconstruct(arrays))
        explained = {}
        for index, (name, key) in enumerate(self._inputs.items()):
            explained[f"{key}_contribution"] = answers["feature_log_prob"][:, index]
            explained[f"{key}_expected"] = expected[name]
        return explained

    def requests(self, arrays):
        """Return the inputs of each signature, by name, for the rows of ``sample``."""
        columns = {
            self._inputs[name]: array
            if array.dtype == object
            else np.where(np.isnan(array), MISSING_NUMBER, array)
            for name, array in arrays.items()
        }
        matrix = {"rows": np.stack(list(columns.values()), axis=1)}
        by_column = dict.fromkeys(("serving_default", "explain", "latent"), columns)
        return {**by_column, "matrix": matrix}

    def schema(self):
        """Return the part of ``schema.json`` that tells the inputs."""
        columns = []
        for column in self._columns:
            is_text = column["kind"] == "categorical"
            served = {
                "input": self._inputs[column["name"]],
                "dtype": served_dtype(column["kind"]).name,
                "missing": [""] if is_text else ["NaN", MISSING_NUMBER],
            }
            if column["kind"] == "boolean":
                served["units"] = "0 or 1"
            columns.append({"name": column["name"], **served, **column})
        return {"columns": columns}

    def scales(self, expected):
        """Return the size of one unit of each output of ``explained`` that is a number in units."""
        scales = {}
        for column in self._columns:
            name = f"{self._inputs[column['name']]}_expected"
            if column["kind"] == "boolean":
                scales[name] = 1.0
            elif column["kind"] != "categorical":
                scales[name] = column["scale"] + np.abs(expected[name] - column["center"])
        return scales
