"""A fitted detector as a folder: JSON and weights, verified before anything is built.

==================  ==================================================================
``manifest.json``   format version, library versions, SHA-256 of the other files
``detector.json``   class, parameters, schema of the columns, network, calibration
``weights.npz``     the weights, in order, as plain arrays
==================  ==================================================================

No pickle and no code: networks are built by this package from numbers and names, networks of
one's own from their Keras configuration, whose layers are Keras' or registered with it.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import tempfile
import zipfile

import numpy as np

FORMAT_VERSION = 3
_FORMAT = "vae_anomaly detector"
_DETECTOR, _WEIGHTS, _MANIFEST = "detector.json", "weights.npz", "manifest.json"
_CLASSES = ("VAEDetector", "AutoencoderDetector")


class ArtifactError(ValueError):
    """A folder is not a whole, undamaged detector; ``str(error)`` is one sentence."""


def save(detector, folder):
    """Write a fitted detector to a folder, which appears only when complete.

    Parameters
    ----------
    detector : VAEDetector or AutoencoderDetector
        Fitted.
    folder : path
        Created; an earlier detector there is replaced.

    Raises
    ------
    FileExistsError
        The path exists and is something else than a saved detector.
    ValueError
        The activation is a function: without code, only its name can be stored.
    """
    folder = pathlib.Path(folder)
    check_target(folder)
    if callable(detector._model_args["activation"]):
        raise ValueError(
            "Expected a detector whose `activation` is a name, such as 'relu'. Received: "
            f"activation={detector._model_args['activation']!r}, which a folder without code "
            "cannot hold."
        )
    scorer_args, weights = pack_scorer(detector.scorer_)
    content = {
        "class": type(detector).__name__,
        "params": _plain(detector.get_params(deep=False)),
        "n_features_in": detector.n_features_in_,
        "feature_names_in": _plain(getattr(detector, "feature_names_in_", None)),
        "model": detector._model_args,
        "scorer": scorer_args,
        "offset": detector.offset_,
        "baseline": detector.scorer_.baseline,
        "schema": detector.scorer_.preprocessor.schema(),
        "history": detector.history_,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        part = pathlib.Path(temporary) / "part"
        part.mkdir()
        (part / _DETECTOR).write_text(json.dumps(content, indent=1, allow_nan=False))
        np.savez(part / _WEIGHTS, **{f"w{i:03d}": weight for i, weight in enumerate(weights)})
        manifest = {
            "format": _FORMAT,
            "format_version": FORMAT_VERSION,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("vae-anomaly", "tensorflow", "keras", "numpy", "scikit-learn")
            },
            "sha256": {name: _sha256(part / name) for name in (_DETECTOR, _WEIGHTS)},
        }
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        replaced = pathlib.Path(temporary) / "replaced"
        if folder.exists():
            folder.rename(replaced)
        try:
            part.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            raise


def check_target(folder):
    """Raise FileExistsError unless the folder is new, empty or a saved detector."""
    folder = pathlib.Path(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder) and not _is_detector(folder):
        raise FileExistsError(
            f"Expected a new folder or a saved detector to replace. Received: {folder}, which "
            "is something else. Choose another name."
        )


def read(folder):
    """Verify a saved detector and return its description; does not import TensorFlow.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        The content of ``detector.json``, with the library versions under "versions".

    Raises
    ------
    ArtifactError
        The folder is missing, foreign, incomplete, damaged or of a newer format.
    """
    folder = pathlib.Path(folder)
    if not (folder / _MANIFEST).is_file():
        what = "has no manifest.json" if folder.is_dir() else "is not a folder"
        raise ArtifactError(
            f"Expected a folder written by VAEDetector.save or 'vae-anomaly fit'. Received: "
            f"{folder}, which {what}."
        )
    manifest = _read_json(folder, _MANIFEST)
    if manifest.get("format") != _FORMAT:
        raise ArtifactError(f"{folder / _MANIFEST}: expected a vae_anomaly detector's manifest.")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: expected format version {FORMAT_VERSION}. Received: "
            f"{manifest.get('format_version')!r}. Load it with the version of vae_anomaly that "
            "wrote it."
        )
    for name in (_DETECTOR, _WEIGHTS):
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{folder} is incomplete: {name} is missing. Save it again.")
        if _sha256(path) != manifest.get("sha256", {}).get(name):
            raise ArtifactError(
                f"{path} is damaged: its content is not what was saved. Save or copy it again."
            )
    content = _read_json(folder, _DETECTOR)
    if content.get("class") not in _CLASSES:
        raise ArtifactError(
            f"{folder / _DETECTOR}: expected a class among {_CLASSES}. "
            f"Received: {content.get('class')!r}."
        )
    return {**content, "versions": manifest.get("versions", {})}


def load_detector(folder):
    """Load a detector saved by ``VAEDetector.save`` or ``vae-anomaly fit``.

    Parameters
    ----------
    folder : path

    Returns
    -------
    VAEDetector or AutoencoderDetector
        Scores bit for bit as before saving, on the same machine and library versions. ``encoder``
        and ``decoder``, where they were given, have the weights that training gave them.

    Raises
    ------
    ArtifactError
        The folder is not a whole, undamaged detector. Raised before TensorFlow is imported.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from vae_anomaly import VAEDetector, load_detector
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> detector = VAEDetector(max_steps=20, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     detector.save(folder + "/m")
    ...     again = load_detector(folder + "/m")
    >>> bool((again.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    content = read(folder)
    try:
        with np.load(pathlib.Path(folder) / _WEIGHTS, allow_pickle=False) as archive:
            weights = [archive[name] for name in sorted(archive.files, key=_number)]
    except (ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder}: {_WEIGHTS} cannot be read ({error}).") from error

    from vae_anomaly.detectors import vae as detectors

    detector = getattr(detectors, content["class"])()
    params = content["params"]
    for name in ("hidden_units", "filters", "image_shape", "value_range"):
        if params.get(name) is not None:
            params[name] = tuple(params[name])
    detector.set_params(**params)
    detector.n_features_in_ = content["n_features_in"]
    if content["feature_names_in"] is not None:
        detector.feature_names_in_ = np.array(content["feature_names_in"], dtype=object)
    detector.history_ = content["history"]
    detector._model_args = content["model"]
    detector.scorer_ = unpack_scorer(content["model"], content["scorer"], weights)
    for name in ("encoder", "decoder"):
        if params.get(name) is not None:
            setattr(detector, name, _network(params[name], getattr(detector.scorer_.model, name)))
    return detector


def _network(text, trained):
    """A network that was given to the detector, with the weights that training gave it."""
    from vae_anomaly.vae.builders import network_from_json

    network = network_from_json(text)
    network.set_weights(trained.get_weights())
    return network


def pack_scorer(scorer):
    """Return what rebuilds a scorer beside its model's arguments: plain data, and its weights."""
    config = {
        "preprocessor": scorer.preprocessor.get_config(),
        "score_type": scorer.score_type,
        "n_draws": scorer.n_draws,
        "n_calibration": scorer.n_calibration,
    }
    return config, [np.asarray(weight) for weight in _weights(scorer)]


def unpack_scorer(model_args, config, weights):
    """Rebuild the scorer that ``pack_scorer`` took apart.

    Raises
    ------
    ArtifactError
        The weights are not those of the model.
    """
    from vae_anomaly.images.preprocessing import ImagePreprocessor
    from vae_anomaly.scoring.images import ImageScorer
    from vae_anomaly.scoring.tables import TableScorer
    from vae_anomaly.tables.preprocessing import TablePreprocessor
    from vae_anomaly.vae.builders import build_image_model, build_table_model

    config = dict(config)
    preprocessor_config = config.pop("preprocessor")
    if "image_shape" in model_args:
        preprocessor = ImagePreprocessor(**preprocessor_config)
        scorer = ImageScorer(preprocessor, build_image_model(**model_args), **config)
    else:
        preprocessor = TablePreprocessor(**preprocessor_config)
        scorer = TableScorer(preprocessor, build_table_model(**model_args), **config)
    variables = _weights(scorer)
    expected = [tuple(variable.shape) for variable in variables]
    received = [weight.shape for weight in weights]
    if expected != received:
        raise ArtifactError(
            f"Expected weights of the shapes {expected}. Received: {received}. Save it again."
        )
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight)
    return scorer


def _weights(scorer):
    """The scorer's own weights and its parts', not the optimizer's nor the metrics'."""
    parts = (scorer.preprocessor, scorer.model.encoder, scorer.model.decoder)
    variables = [weight for part in parts for weight in part.weights]
    return [*variables, *scorer.model.likelihood.weights, *scorer.own_weights.values()]


def _number(name):
    """What a weight's name is sorted by: w2 comes before w10."""
    return int(name[1:]) if name[1:].isdecimal() else -1


def _plain(value):
    """Parameters as JSON can hold them; a RandomState cannot be kept and becomes None.

    Of a network what ``to_json`` tells: weights are stored apart, as they are after training.
    """
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if isinstance(value, np.random.RandomState) else value


def _is_detector(folder):
    try:
        return _read_json(folder, _MANIFEST).get("format") == _FORMAT
    except (OSError, ArtifactError):
        return False


def _read_json(folder, name):
    try:
        content = json.loads((folder / name).read_text())
    except ValueError as error:
        raise ArtifactError(f"{folder / name} is damaged: not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{folder / name} is damaged: expected a JSON object.")
    return content


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
