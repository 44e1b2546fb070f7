"""The models of a folder: which versions there are, which load, which one is served."""

import os
import pathlib
import stat
import threading

from vae_anomaly.serving.dev_server.model import ServedModel, error_code
from vae_anomaly.serving.dev_server.refusals import RequestError

LARGEST_VERSION = 2**63 - 1


class ServedFolder:
    """The models of a folder, of each the newest version that loads.

    A request that has found its model keeps it: a version that another one replaces is let go
    when the last such request is answered.

    Parameters
    ----------
    folder : path
        With ``NAME/<integer>/saved_model.pb``. Other names, and folders without that file, are
        not looked at.
    load : callable, optional
        Makes a model of its name, version and folder.
    report : callable, optional
        Called with a line whenever a version is served or fails to load.
    """

    def __init__(self, folder, *, load=ServedModel, report=print):
        self.folder = pathlib.Path(folder)
        self._load = load
        self.report = report
        self._models = {}
        self._states = {}  # by name: by version: state, error code, message
        self._seen = {}  # by folder: its files when it was last looked at
        self._failed = {}  # the same, when it failed to load
        self._lock = threading.Lock()

    def poll(self, *, is_first=False):
        """Load new versions.

        Parameters
        ----------
        is_first : bool
            Otherwise a version is loaded only if its files are as they were at the last call, for
            it might be being written. One that failed is tried again when its files change.
        """
        for name, versions in list_models(self.folder).items():
            current = self._models.get(name)
            for version, folder in versions.items():
                if current is not None and version == current.version:
                    break
                files = _files(folder)
                is_written = is_first or self._seen.get(folder) == files
                self._seen[folder] = files
                if not is_written or self._failed.get(folder) == files:
                    continue
                if self._replace(name, version, folder, files):
                    break
                self._failed[folder] = files

    def _replace(self, name, version, folder, files):
        self._set_states(name, {version: ("LOADING", "OK", "")})
        try:
            _check_files(files)
            model = self._load(name, version, folder)
        except Exception as error:  # whatever a damaged folder makes TensorFlow raise
            message = " ".join(f"{type(error).__name__}: {error}".split())
            self._set_states(name, {version: ("END", error_code(error), message)})
            self.report(f"{folder}: not served, for it does not load: {message[:500]}")
            return False
        before = self._models.get(name)
        states = {} if before is None else {before.version: ("END", "OK", "")}
        self._set_states(name, {**states, version: ("AVAILABLE", "OK", "")}, model)
        self.report(f"serving {name} version {version}")
        return True

    def _set_states(self, name, states, model=None):
        # At once, so that a client that a version has answered finds it available.
        with self._lock:
            self._states.setdefault(name, {}).update(states)
            if model is not None:
                self._models[name] = model

    @property
    def names(self):
        """Names of the models that are served."""
        return sorted(self._models)

    def find(self, name, version=None):
        """The model that answers a request.

        Parameters
        ----------
        name : str
        version : int, optional
            By default the one that is served.

        Returns
        -------
        ServedModel

        Raises
        ------
        RequestError
            404 if it is not served.
        """
        model = self._models.get(name)
        if model is None or version not in (None, model.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(f"Servable not found for request: {wanted}", 404)
        return model

    def states(self):
        """By name and version, the state of all that have been seen, as in 'AVAILABLE'."""
        with self._lock:
            return {
                name: {version: state for version, (state, _, _) in versions.items()}
                for name, versions in self._states.items()
            }

    def status(self, name, version=None):
        """What ``GET /v1/models/NAME[/versions/V]`` answers, as a dict; the newest version first.

        Parameters
        ----------
        name : str
        version : int, optional
            By default all that have been seen.

        Returns
        -------
        dict

        Raises
        ------
        RequestError
            404 if none has been seen.
        """
        with self._lock:
            states = dict(self._states.get(name, {}))
        if version is not None and version not in states:
            raise RequestError(f"Could not find version {version} of model {name}", 404)
        if not states:
            raise RequestError(f"Could not find any versions of model {name}", 404)
        return {
            "model_version_status": [
                {
                    "version": str(number),
                    "state": state,
                    "status": {"error_code": code, "error_message": message},
                }
                for number, (state, code, message) in sorted(states.items(), reverse=True)
                if version in (None, number)
            ]
        }


def list_models(folder):
    """Folders of SavedModels.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of str to dict of int to Path
        By name, by version, the newest first. Links that lead nowhere are among them, so that
        they can be reported.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    models: dict[str, dict[int, pathlib.Path]] = {}
    for path in sorted(pathlib.Path(folder).iterdir()):
        versions = {} if path.name.startswith(".") else _versions(path)
        if versions:
            models[path.name] = versions
    return models


def _versions(folder):
    try:
        paths = list(folder.iterdir())
    except OSError:  # a file, or a folder of somebody else's
        return {}
    found = {
        int(path.name): path
        for path in paths
        if path.name.isascii() and path.name.isdecimal() and _is_meant_as_model(path)
    }
    return {n: found[n] for n in sorted(found, reverse=True) if n <= LARGEST_VERSION}


def _is_meant_as_model(path):
    is_lost = path.is_symlink() and not os.path.exists(path)
    return is_lost or os.path.lexists(path / "saved_model.pb")


def _files(folder):
    """Name, size, time and kind of a folder and of all that is in it, or why it cannot be read."""
    lost: list[OSError] = []
    paths = [
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder, onerror=lost.append)
        for name in [*folders, *files]
    ]
    found = [(str(error.filename), 0, 0, 0, error.strerror) for error in lost]
    for path in [str(folder), *paths]:
        try:
            status = os.stat(path)
        except OSError as error:
            found.append((path, 0, 0, 0, error.strerror))
        else:
            kind = stat.S_IFMT(status.st_mode)
            found.append((path, status.st_size, status.st_mtime_ns, kind, None))
    return sorted(found, key=lambda file: (file[0], file[4] or ""))


def _check_files(files):
    """Refuse what would not end or not be all there, before TensorFlow opens it."""
    for path, _, _, kind, problem in files:
        if problem is None and kind not in (stat.S_IFREG, stat.S_IFDIR):
            problem = "neither a file nor a folder"
        if problem is not None:
            raise ValueError(f"Expected files that can be read. Received: {path}: {problem}")
