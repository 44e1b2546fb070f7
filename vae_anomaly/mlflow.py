"""Detectors in MLflow: saved and logged as its models; what ``fit`` found, in its runs."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_anomaly import __version__
from vae_anomaly.batch.frames import ERROR
from vae_anomaly.batch.rows import RowScorer
from vae_anomaly.detectors.state import load_detector
from vae_anomaly.extras import check_package
from vae_anomaly.tables.columns import arrays_frame

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.models.model import ModelInfo

    from vae_anomaly.atomic import StrPath
    from vae_anomaly.detectors.autoencoder import AutoencoderDetector
    from vae_anomaly.detectors.base import BaseDetector
    from vae_anomaly.detectors.vae import VAEDetector

FLAVOR = "vae_anomaly"
_FIRST_VERSION = 3
# MLflow keeps it with a model, and runs it to load one.
_CODE = """# What a detector of vae_anomaly answers in MLflow: the columns that scoring adds.
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from vae_anomaly import FrameScorer


class Scoring(PythonModel):
    def load_context(self, context):
        self._score = FrameScorer(context.artifacts["detector"], columns=[])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        answers = self._score(model_input)
        floats = answers.select_dtypes("float64").columns
        return answers.astype(dict.fromkeys(floats, "Float64"))  # JSON has no NaN


set_model(Scoring())
"""
_N_EXAMPLES = 3
_METRICS_AT_ONCE = 1000  # as MLflow's servers allow
_LONGEST_PARAMETER = 500


def save_model(
    detector: BaseDetector,
    path: StrPath,
    *,
    mlflow_model: Model | None = None,
    **options: Any,
) -> None:
    """Save a fitted detector of tables as a model of MLflow: no pickle, code from this package.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
    path : path
        A folder that is not there yet.
    mlflow_model : mlflow.models.Model or None
        As MLflow's flavors have it.
    **options
        Of ``mlflow.pyfunc.save_model``. Some have defaults: ``pip_requirements`` this version of
        the package with its extra ``mlflow``, ``signature`` the modelled columns, ``input_example``
        typical rows, ``metadata`` the kinds of the columns.

    Raises
    ------
    ImportError
        mlflow is not installed, or older than 3.
    ValueError
        The detector is one of images.
    """
    check_package("mlflow", _FIRST_VERSION, "mlflow")
    import mlflow.pyfunc
    from mlflow.models import Model

    if detector._input.name != "table":
        raise ValueError(
            f"Expected a detector of tables. Received: one of {detector._input.title}. Log the "
            "folder of detector.save(path) by mlflow.log_artifacts."
        )
    model = mlflow_model or Model()
    model.add_flavor(FLAVOR, detector="artifacts/detector", version=__version__)
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "detector")
        detector.save(saved)
        rows = RowScorer(saved)
        defaults = {
            "pip_requirements": [f"vae-anomaly[mlflow]=={__version__}"],
            "signature": _signature(rows),
            "input_example": _example(detector),
            "metadata": {"kinds": dict(rows.kinds)},
        }
        code = Path(folder, "code.py")
        code.write_text(_CODE)
        mlflow.pyfunc.save_model(
            os.fspath(path),
            python_model=str(code),
            artifacts={"detector": saved},
            mlflow_model=model,
            **{**defaults, **options},
        )


def log_model(
    detector: BaseDetector,
    name: str = "model",
    *,
    registered_model_name: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a fitted detector of tables as a model of MLflow, in the run that is active.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
    name : str
        Of the model.
    registered_model_name : str or None
        Register it under this name, too.
    **options
        As of ``save_model``.

    Returns
    -------
    mlflow.models.model.ModelInfo
        Its ``model_uri`` is what ``load_model`` takes.

    Raises
    ------
    ImportError, ValueError
        As ``save_model``.
    """
    check_package("mlflow", _FIRST_VERSION, "mlflow")
    from mlflow.models import Model

    return Model.log(
        artifact_path=None,
        name=name,
        flavor=sys.modules[__name__],
        detector=detector,
        registered_model_name=registered_model_name,
        **options,
    )


def load_model(model_uri: str) -> VAEDetector | AutoencoderDetector:
    """Load a detector that ``log_model`` or ``save_model`` wrote, with all its methods.

    Parameters
    ----------
    model_uri : str
        Such as ``"models:/fraud/3"``, ``"runs:/<run_id>/model"`` or a path.

    Returns
    -------
    VAEDetector or AutoencoderDetector

    Raises
    ------
    ImportError
        mlflow is not installed, or older than 3.
    ValueError
        The model is another one.
    """
    check_package("mlflow", _FIRST_VERSION, "mlflow")
    import mlflow.artifacts
    from mlflow.models import Model

    folder = mlflow.artifacts.download_artifacts(artifact_uri=model_uri)
    flavors = Model.load(folder).flavors
    if FLAVOR not in flavors:
        raise ValueError(
            f"Expected a model that vae_anomaly.mlflow has written. Received: {model_uri}, of the "
            f"flavors {', '.join(flavors)}."
        )
    return load_detector(os.path.join(folder, flavors[FLAVOR]["detector"]))


def autolog(log_models: bool = True, disable: bool = False, silent: bool = False) -> None:
    """Log each ``fit`` from now on to MLflow: parameters, history, threshold, and the model.

    Goes to the active run, or to one of its own. Losses are metrics by training step; ``offset``,
    ``baseline`` and the false-alarm rate of the threshold with its interval are metrics, too.

    Parameters
    ----------
    log_models : bool
        Whether to log the detector by ``log_model``; those of images are not logged.
    disable : bool
        Whether to stop logging.
    silent : bool
        Whether to show no messages of MLflow.

    Raises
    ------
    ImportError
        mlflow is not installed, or older than 3.
    """
    check_package("mlflow", _FIRST_VERSION, "mlflow")
    from mlflow.utils.autologging_utils import autologging_integration

    autologging_integration(FLAVOR)(_patch_fit)(log_models, disable, silent)


def _patch_fit(log_models=True, disable=False, silent=False):
    """Let ``fit`` log; the parameters are those that MLflow wants of an integration."""
    from mlflow.utils.autologging_utils import safe_patch

    from vae_anomaly.detectors.base import BaseDetector

    def fit_and_log(original, detector, *args, **kwargs):
        fitted = original(detector, *args, **kwargs)
        _log_fit(fitted)
        if log_models and fitted._input.name == "table":
            log_model(fitted)
        return fitted

    safe_patch(FLAVOR, BaseDetector, "fit", fit_and_log, manage_run=True)


def _log_fit(detector: BaseDetector) -> None:
    """Log a fitted detector's parameters, history and threshold to the active run."""
    import mlflow
    from mlflow.entities import Metric

    parameters = detector.get_params(deep=False)
    mlflow.log_params({name: f"{v!s:.{_LONGEST_PARAMETER}}" for name, v in parameters.items()})
    report = detector.threshold_report()
    mlflow.log_metrics(
        {
            "offset": report.offset,
            "baseline": detector.scorer_.baseline,
            "false_alarm_rate": report.rate_expected,
            "false_alarm_rate_low": report.rate_low,
            "false_alarm_rate_high": report.rate_high,
            "n_calibration": report.n_calibration,
        }
    )
    mlflow.set_tag("threshold", str(report))
    now, steps = int(1000 * time.time()), detector.history_["step"]
    metrics = [
        Metric(name, float(value), now, int(step))
        for name, values in detector.history_.items()
        if name != "step"
        for step, value in zip(steps, values, strict=True)
    ]
    run = mlflow.active_run()
    assert run is not None
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        some = metrics[start : start + _METRICS_AT_ONCE]
        mlflow.MlflowClient().log_batch(run.info.run_id, metrics=some)


def _signature(rows: RowScorer) -> ModelSignature:
    """Return the modelled columns, and those that scoring adds with their types.

    Modelled columns are of any type: they are read as those of files are, text as numbers for
    instance, and what cannot be read is an error of its row. MLflow would refuse the whole table,
    even whole numbers where there were fractions.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    names = {float: "double", bool: "boolean", str: "string"}
    added = {**rows.output_types, ERROR: str}
    return ModelSignature(
        Schema([ColSpec(AnyType(), name) for name in rows.kinds]),
        Schema([ColSpec(names[found], name) for name, found in added.items()]),
    )


def _example(detector: BaseDetector) -> pd.DataFrame:
    """Return typical rows, made of what the model knows of its columns."""
    served = detector._input.served(detector)
    arrays = {name: array[:_N_EXAMPLES] for name, array in served.sample().items()}
    preprocessor = detector.scorer_.preprocessor
    frame = arrays_frame(arrays, preprocessor.kinds)
    kinds = preprocessor.kinds
    booleans = {name: "bool" for name, kind in kinds.items() if kind == "boolean"}
    # Of whole numbers, ids among them; typical values may be out of the range of narrow types.
    whole = {name: "int64" for name in preprocessor.dtypes if kinds.get(name) == "numeric"}
    return frame.round(dict.fromkeys(whole, 0)).astype({**booleans, **whole})
