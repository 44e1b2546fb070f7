"""Tables as the input of a detector: arrays of numbers and DataFrames, to named arrays and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from vae_anomaly.detectors.defaults import is_default
from vae_anomaly.detectors.row_weights import rows_and_weights
from vae_anomaly.detectors.table_report import table_sections
from vae_anomaly.detectors.training_rows import (
    array_names,
    numbers_of,
    rows_left,
    training_columns,
    warn_of_silent_columns,
)
from vae_anomaly.detectors.warm_start import MAX_STEPS, earlier_input
from vae_anomaly.scoring.occlusion import hide_each_cell
from vae_anomaly.scoring.tables import TableScorer
from vae_anomaly.serving.tables import ServedTable
from vae_anomaly.tables.columns import (
    arrays_frame,
    check_finite,
    frame_arrays,
    n_infinite_rows,
    whole_dtypes,
)
from vae_anomaly.tables.continuing import continued
from vae_anomaly.tables.frames import in_pandas, is_frame, labelled
from vae_anomaly.tables.preprocessing import TablePreprocessor
from vae_anomaly.tables.row_sources import row_source
from vae_anomaly.tables.schema import Schema
from vae_anomaly.vae.builders import build_table_model

if TYPE_CHECKING:
    import pandas as pd

    Arrays = dict[str, np.ndarray]

# A standard deviation of about three of the steps in which marginals are tabulated.
_SMALLEST_COMPOSITE_VARIANCE = 1e-3
_FEW_ROWS = 1000

_WEIGHTS = (
    "Expected no `sample_weight` for rows that are read in parts, or of which a sample trains. "
    "Received: weights. Fit on rows in memory, without `max_rows`."
)


class TableInput:
    """Rows of a table; an ``inputs.Input``. ``data`` are named arrays, each (n,)."""

    name = "table"
    title = "tables"
    parameters = frozenset(
        {
            *("kinds", "max_levels", "max_rows", "normal_scores", "schema"),
            *("training", "n_reference", "warm_start"),
        }
    )
    largest_latent_dim = 16
    subset: Any = staticmethod(lambda data, rows: {name: a[rows] for name, a in data.items()})

    def __init__(
        self, preprocessor: TablePreprocessor | None = None, schema: Schema | None = None
    ) -> None:
        self.preprocessor: Any = preprocessor
        self.schema: Any = schema
        self._is_first = True  # no earlier fit to go on from

    @staticmethod
    def takes(detector: Any, X: Any) -> bool:
        return True  # ``learn`` refuses what is no table

    @classmethod
    def restored(cls, config: dict[str, Any], described: dict[str, Any]) -> TableInput:
        schema, preprocessor = Schema.from_json(described["schema"]), TablePreprocessor(**config)
        if schema.kinds != preprocessor.kinds:
            raise ValueError(
                f"Expected a schema of the modelled columns {preprocessor.kinds}. Received: "
                f"{schema.kinds}."
            )
        return cls(preprocessor, schema)

    def described(self) -> dict[str, Any]:
        return {"schema": self.schema.to_json()}

    def learn(
        self, detector: Any, X: Any, seed: int, sample_weight: Any
    ) -> tuple[Arrays, np.ndarray | None]:
        X = in_pandas(X)
        if sample_weight is not None and row_source(X) is not None:
            raise ValueError(_WEIGHTS)  # before all is read
        training, left_out = training_columns(detector, X, seed)
        self.schema, arrays, all_rows = training.schema, training.arrays, training.all_rows
        if sample_weight is not None and all_rows is not None:
            raise ValueError(_WEIGHTS)
        numbers = rows_left(arrays, left_out)
        rows, weights = rows_and_weights(sample_weight, len(numbers) + len(left_out), left_out)
        if rows is not None:
            arrays, numbers = self.subset(arrays, rows), numbers[rows]
        if all_rows is None:  # else they were looked at before the sample was drawn
            check_finite(arrays, numbers)
        # A network that was given knows how many features it takes.
        is_own = detector.encoder is not None or detector.decoder is not None
        if (earlier := earlier_input(detector)) is not None:
            self._go_on(earlier, arrays, weights, all_rows, detector.max_levels, not is_own)
            return arrays, weights
        self.preprocessor = TablePreprocessor(
            self.schema.kinds,
            dtypes=whole_dtypes(X) if is_frame(X) else training.dtypes,
            max_levels=detector.max_levels,
            normal_scores=detector.normal_scores and not is_own,
        )
        self.preprocessor.adapt(arrays, weights, all_rows)
        warn_of_silent_columns(self.preprocessor, self.n_rows(arrays))
        return arrays, weights

    def _go_on(self, earlier, arrays, weights, all_rows, max_levels, takes_levels):
        """Take over what an earlier input has learned, and learn of new rows what can be added."""
        if self.schema.kinds != earlier.schema.kinds:
            raise ValueError(
                f"Expected the columns of the fit to go on from, {earlier.schema.kinds}. Received: "
                f"{self.schema.kinds}."
            )
        self.schema, self._is_first = earlier.schema, False
        self.preprocessor = continued(
            earlier.preprocessor,
            arrays,
            weights,
            all_rows,
            max_levels=max_levels,
            takes_levels=takes_levels,
        )

    def augmented(
        self, detector: Any, data: Arrays, rows: np.ndarray, seed: int
    ) -> tuple[Arrays, np.ndarray]:
        return data, np.arange(self.n_rows(data))

    def check(self, detector: Any, X: Any) -> Arrays:
        X = in_pandas(X)
        if len(shape := getattr(X, "shape", ())) > 2:
            raise ValueError(
                f"Expected a table, as in fit. Received: an array of shape {tuple(shape)}."
            )
        kinds = self.preprocessor.kinds
        if is_frame(X) and self._has_names(detector):
            if len(X) == 0:
                raise ValueError("Expected rows to score. Received: 0 sample(s).")
            return _infinities_reported(frame_arrays(X, self.schema))
        X = numbers_of(detector, X, list(kinds), reset=False)
        if len(kinds) != X.shape[1] or "categorical" in kinds.values():
            raise ValueError(
                f"Expected a DataFrame, as in fit, of the columns {kinds}. "
                f"Received: an array of {X.shape[1]} columns of numbers."
            )
        return _infinities_reported(dict(zip(kinds, X.T, strict=True)))

    def n_rows(self, data: Arrays) -> int:
        return len(next(iter(data.values())))

    @property
    def n_features(self) -> int:
        return int(sum(self.preprocessor.column_widths))

    @property
    def given_networks(self) -> dict[str, Any]:
        return {}

    @property
    def sizes(self) -> dict[str, Any]:
        return {
            "column_widths": [int(width) for width in self.preprocessor.column_widths],
            "n_numeric": self.preprocessor.n_numeric,
            "n_boolean": self.preprocessor.n_boolean,
        }

    def model_args(self, detector: Any) -> dict[str, Any]:
        return {**self.sizes, "resolution": self.preprocessor.resolution.tolist()}

    def likelihood_args(self, detector: Any) -> dict[str, Any]:
        variance = detector.variance
        if isinstance(variance, str):
            return {"variance": variance}
        is_tabulated = detector.score_type == "composite" and detector.training == "as_is"
        if is_tabulated and variance < _SMALLEST_COMPOSITE_VARIANCE:
            raise ValueError(
                f"Expected `variance` >= {_SMALLEST_COMPOSITE_VARIANCE} for "
                f"score_type='composite', whose densities are tabulated. Received: "
                f"variance={variance!r}. Take another score type."
            )
        return {"variance": float(variance)}

    def score_options(self, detector: Any, n_trained: int) -> dict[str, Any]:
        if detector.score_type == "composite":
            n_reference = min(int(detector.n_reference), n_trained)
            of_rows = {"n_reference": n_reference, "n_known": n_reference}
            return {**of_rows, "training": detector.training}
        for name in ("training", "n_reference"):
            if not is_default(detector, name):
                raise ValueError(
                    f"Expected score_type='composite', for whose views `{name}` is. Received: "
                    f"{name}={getattr(detector, name)!r}, score_type={detector.score_type!r}. "
                    "Leave out one of them."
                )
        return {}

    def build_model(self, args: dict[str, Any], seed: int | None = None) -> Any:
        return build_table_model(**args, seed=seed)

    def build_scorer(self, model: Any, **kwargs: Any) -> TableScorer:
        return TableScorer(self.preprocessor, model, **kwargs)

    def training_defaults(self, n_rows: int) -> dict[str, Any]:
        return {
            "max_steps": 6000 if self._is_first else MAX_STEPS,
            "batch_size": 256,
            "learning_rate": 1.5e-3,
            # A model soon overfits few rows.
            "patience": 3000 if n_rows > _FEW_ROWS else 1000,
        }

    def batches(self, scorer: TableScorer, data: Arrays) -> Any:
        x, observed = map(tf.constant, scorer.preprocess(data))
        return lambda indices: (tf.gather(x, indices), tf.gather(observed, indices))

    def reading(self, data: Arrays) -> nullcontext[None]:
        return nullcontext()

    def doubts(self, scorer: Any, data: Any, is_held_out: np.ndarray) -> list[str]:
        return []  # columns that have nothing to do with each other are nobody's fault

    def reconstruct(self, detector: Any, X: Any) -> np.ndarray | pd.DataFrame:
        X = in_pandas(X)
        expected = self._expected(detector, self.check(detector, X))
        return self._like_input(expected, X if is_frame(X) else None)

    def explain(self, detector: Any, X: Any) -> pd.DataFrame:
        import pandas as pd

        X = in_pandas(X)
        arrays = self.check(detector, X)
        scorer, kinds = detector.scorer_, self.preprocessor.kinds
        outputs = scorer.run(arrays, ("feature_log_prob", "latent"))
        hidden = hide_each_cell(scorer, arrays)
        index = X.index if is_frame(X) else None
        columns = pd.DataFrame(outputs["feature_log_prob"], columns=list(arrays), index=index)
        # Appended by position: a column of the table may have one of these names too.
        rest = pd.DataFrame({"latent": outputs["latent"], "baseline": scorer.baseline})
        contribution = pd.concat([columns, rest.set_axis(columns.index)], axis=1)
        groups = {
            "contribution": contribution,
            "value": arrays_frame(arrays, kinds, contribution.index),
            "gain": pd.DataFrame(hidden.gain, columns=list(arrays), index=contribution.index),
        }
        for group in ("expected", "low", "high"):
            groups[group] = self._frame(getattr(hidden, group), contribution.index)
        explanation = pd.concat(
            {name: group for name, group in groups.items() if group.size}, axis=1
        )
        return labelled(explanation, X) if is_frame(X) else explanation

    def sample(self, detector: Any, n_rows: int, seed: int) -> np.ndarray | pd.DataFrame:
        x = detector.scorer_.model.sample(n_rows, seed=seed)
        arrays = self.preprocessor.inverse_samples(x, seed)
        return self._frame(arrays) if self._has_names(detector) else self._like_input(arrays, None)

    def bits_per_dimension(self, detector: Any, X: Any) -> np.ndarray:
        raise ValueError("Expected a detector of images. Received: one fitted on a table.")

    def rows(self, data: Arrays, numbers: np.ndarray) -> Arrays:
        return self.subset(data, numbers)

    def joined(self, parts: list[Arrays]) -> Arrays:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def row_names(self, X: Any) -> Callable[[int], str]:
        index = X.index if is_frame(X) else range(len(X))
        return lambda row: f"row {index[row]}"

    def report_sections(self, detector: Any, batch: Any) -> dict[str, Any]:
        return table_sections(detector, batch)

    def sampled_inputs(self, x: Any) -> Any:
        return x, np.ones((len(x), len(self.preprocessor.column_names)), np.float32)

    def served(self, detector: Any) -> ServedTable:
        return ServedTable(detector)

    def _has_names(self, detector: Any) -> bool:
        """Whether the detector was fitted on a DataFrame."""
        names = list(self.preprocessor.kinds)
        named = set(getattr(detector, "feature_names_in_", ()))
        return names != array_names(len(names)) or named.issuperset(names)

    def _expected(self, detector: Any, arrays: Arrays) -> Arrays:
        return self.preprocessor.inverse(detector.scorer_.reconstruct(arrays), arrays)

    def _like_input(self, arrays: Arrays, frame: pd.DataFrame | None) -> np.ndarray | pd.DataFrame:
        """Return named columns as a DataFrame where the input is one, else as an array."""
        if frame is not None:
            return labelled(self._frame(arrays, frame.index), frame)
        if "categorical" in self.preprocessor.kinds.values():
            return self._frame(arrays)
        return np.stack(list(arrays.values()), axis=1)

    def _frame(self, arrays: Arrays, index: Any = None) -> pd.DataFrame:
        """Return expected or drawn columns as a DataFrame, of whole numbers where fit saw such."""
        kinds = {name: self.preprocessor.kinds[name] for name in arrays}
        dtypes = {
            name: dtype
            for name, dtype in self.preprocessor.dtypes.items()
            if kinds.get(name) == "numeric"
        }
        return arrays_frame(arrays, kinds, index).astype(dtypes)


def _infinities_reported(arrays: Arrays) -> Arrays:
    if count := n_infinite_rows(arrays):
        warnings.warn(
            f"{count} rows have infinite cells; they count as the farthest value there is.",
            stacklevel=5,
        )
    return arrays
