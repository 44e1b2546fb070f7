"""A development server that speaks TensorFlow Serving's REST API, where there is no Docker.

It loads any SavedModel laid out as TensorFlow Serving wants it, ``served/NAME/<integer>``, and
knows nothing else of this package. Paths, status codes and the words of common errors are those
of ``http_rest_api_handler.cc``, ``http_rest_api_util.cc``, ``http_server.cc`` and
``get_model_status_impl.cc`` of tensorflow/serving; see ``rest`` for the bodies.
"""

import contextlib
import json
import logging
import os
import pathlib
import re
import socket
import threading

import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from vae_anomaly.serving.dev_server import rest
from vae_anomaly.serving.dev_server.rest import RequestError

POLL_SECONDS = 1.0
MAX_REQUEST_BYTES = 64 * 2**20
# Requests under way get so long after Ctrl-C.
SHUTDOWN_SECONDS = 30

_VERSION = r"(?:/versions/([0-9]+)|/labels/([^/:?]+))?"
_METHOD_PATH = re.compile(
    rf"/v1/models/([^/:?]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE
)
_STATUS_PATH = re.compile(rf"/v1/models(?:/([^/:?]+))?{_VERSION}(/metadata)?", re.IGNORECASE)
_DEFAULT_SIGNATURE = "serving_default"
_LARGEST_VERSION = 2**63 - 1
# Of http_server.cc; what is not here is 500.
_STATUS_CODES = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


class ServedModel:
    """One version of a model, loaded.

    Parameters
    ----------
    name : str
    version : int
    folder : path
        With ``saved_model.pb``. The meta graph with the tag 'serve' is loaded.

    Raises
    ------
    Exception
        Of any kind, if the folder is damaged.
    """

    def __init__(self, name, version, folder):
        import tensorflow as tf
        from tensorflow.core.framework import types_pb2
        from tensorflow.core.protobuf import saved_model_pb2

        self.name = name
        self.version = version
        saved = saved_model_pb2.SavedModel.FromString(
            (pathlib.Path(folder) / "saved_model.pb").read_bytes()
        )
        tags = [list(graph.meta_info_def.tags) for graph in saved.meta_graphs]
        if ["serve"] not in tags:
            raise ValueError(f"Expected a meta graph with the tag 'serve'. Received: {tags}.")
        self._signatures = dict(saved.meta_graphs[tags.index(["serve"])].signature_def)
        # The signatures' variables live as long as this does.
        self._loaded = tf.saved_model.load(str(folder), tags=["serve"])
        self._constant = tf.constant
        self._error = tf.errors.OpError
        self._inputs = {
            signature: {
                key: (
                    types_pb2.DataType.Name(info.dtype),
                    None
                    if info.tensor_shape.unknown_rank
                    else tuple(dim.size for dim in info.tensor_shape.dim),
                )
                for key, info in sorted(definition.inputs.items())
            }
            for signature, definition in self._signatures.items()
        }

    def inputs(self, signature):
        """Dtype and shape by name, as ``rest.to_arrays`` takes them.

        Parameters
        ----------
        signature : str

        Returns
        -------
        dict

        Raises
        ------
        RequestError
            400 if there is no such signature, or it takes nothing.
        """
        if signature not in self._inputs:
            raise RequestError(f'Serving signature name: "{signature}" not found in signature def')
        if not self._inputs[signature]:
            raise RequestError(f"Failed to get input map for signature: {signature}")
        return self._inputs[signature]

    def run(self, signature, arrays):
        """Run the graph.

        Parameters
        ----------
        signature : str
        arrays : dict of str to ndarray

        Returns
        -------
        dict of str to ndarray

        Raises
        ------
        RequestError
            With TensorFlow's own words, and TensorFlow Serving's status code for them.
        """
        dtypes = {name: dtype for name, (dtype, _) in self._inputs[signature].items()}
        try:
            outputs = self._loaded.signatures[signature](
                **{
                    # Without a dtype, no strings would become numbers.
                    name: self._constant(array, dtypes[name].removeprefix("DT_").lower())
                    for name, array in arrays.items()
                }
            )
            return {name: outputs[name].numpy() for name in sorted(outputs)}
        except self._error as error:
            raise RequestError(error.message, _STATUS_CODES.get(_code(error), 500)) from None

    def metadata(self):
        """What ``GET .../metadata`` answers, as a dict."""
        signatures = {
            name: json_format.MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in sorted(self._signatures.items())
        }
        return {
            "model_spec": {
                "name": self.name,
                "signature_name": "",
                "version": str(self.version),
            },
            "metadata": {"signature_def": {"signature_def": signatures}},
        }


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
                if files is None:
                    continue
                is_written = is_first or self._seen.get(folder) == files
                self._seen[folder] = files
                if not is_written or self._failed.get(folder) == files:
                    continue
                if self._replace(name, version, folder):
                    break
                self._failed[folder] = files

    def _replace(self, name, version, folder):
        self._set_states(name, {version: ("LOADING", "OK", "")})
        try:
            model = self._load(name, version, folder)
        except Exception as error:  # whatever a damaged folder makes TensorFlow raise
            message = " ".join(f"{type(error).__name__}: {error}".split())
            self._set_states(name, {version: ("END", _code(error), message)})
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
        By name, by version, the newest first.
    """
    models: dict[str, dict[int, pathlib.Path]] = {}
    for path in pathlib.Path(folder).glob("*/*/saved_model.pb"):
        name, version = path.parent.parent.name, path.parent.name
        if name.startswith("."):
            continue
        if version.isascii() and version.isdecimal() and int(version) <= _LARGEST_VERSION:
            models.setdefault(name, {})[int(version)] = path.parent
    return {name: dict(sorted(models[name].items(), reverse=True)) for name in sorted(models)}


def check_folder(folder):
    """Refuse a folder that has nothing to serve.

    Parameters
    ----------
    folder : path

    Raises
    ------
    ValueError
        With what to name instead, where that is plain.
    """
    if list_models(folder):
        return
    folder = pathlib.Path(folder)
    advice = "Write one with 'vae-anomaly export'."
    if any(folder.glob("*/saved_model.pb")):
        advice = f"This is a model itself: name the folder that it is in, {folder.resolve().parent}"
    elif not folder.is_dir():
        advice = "There is no such folder."
    raise ValueError(
        f"Expected a folder with NAME/<integer>/saved_model.pb. Received: {folder}. {advice}"
    )


def listen(host, port):
    """A socket to serve at.

    Parameters
    ----------
    host : str
    port : int
        0 is any free one.

    Returns
    -------
    socket.socket

    Raises
    ------
    ValueError
        If the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where TCP is named does asyncio send small packets at once: 40 ms per answer otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Ports of connections that have just ended are free, except on Windows, where taken ones
        # would be too.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"Expected a free port at an address of this machine. Received: --host {host} --port "
            f"{port}: {error.strerror or error}. Name another port, or end what listens there."
        ) from error
    return listener


def create_app(models, *, max_request_bytes=MAX_REQUEST_BYTES, poll_seconds=POLL_SECONDS):
    """The REST API as an ASGI application.

    Parameters
    ----------
    models : ServedFolder
        Polled as long as the application lives.
    max_request_bytes : int
        A longer request is answered with 413.
    poll_seconds : float

    Returns
    -------
    starlette.applications.Starlette
    """

    async def answer(request):
        try:
            path = _path(request)
            if request.method == "GET" and (match := _STATUS_PATH.fullmatch(path)):
                return _json(_described(models, *match.groups()))
            if request.method == "POST" and (match := _METHOD_PATH.fullmatch(path)):
                body = await _body(request, max_request_bytes)
                # Not in the event loop, which goes on taking requests meanwhile.
                content = await run_in_threadpool(_predicted, models, body, *match.groups())
                return Response(content, media_type="application/json")
            if not path.lower().startswith("/v1/"):
                raise RequestError(f"Not Found: {path}", 404)
            raise RequestError(f"Malformed request: {request.method} {path}")
        except RequestError as error:
            return _json({"error": error.message}, error.status)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    def on_bug(request, error):
        return _json({"error": f"{type(error).__name__}: {error}"}, 500)

    def on_refused(request, error):  # by Starlette: a method or a path of no kind that it knows
        return _json({"error": error.detail}, error.status_code)

    @contextlib.asynccontextmanager
    async def polling(app):
        stop = threading.Event()
        thread = threading.Thread(target=_poll, args=(models, poll_seconds, stop), daemon=True)
        thread.start()
        yield
        stop.set()

    methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
    return Starlette(
        routes=[Route("/{path:path}", answer, methods=methods)],
        exception_handlers={Exception: on_bug, HTTPException: on_refused},
        lifespan=polling,
    )


def serve(folder, listener, *, report=print, **options):
    """Serve the models of a folder until a signal says to stop.

    Parameters
    ----------
    folder : path
    listener : socket.socket
        As ``listen`` makes it.
    report : callable, optional
        Called with a line whenever there is something to say.
    **options
        See ``create_app``.

    Raises
    ------
    ValueError
        If no model could be loaded.
    KeyboardInterrupt
        After a Ctrl-C, when the requests under way have been answered; after a second, at once.
    """
    models = ServedFolder(folder, report=report)
    models.poll(is_first=True)
    if not models.names:
        raise ValueError(f"Expected a model that loads. Received none in {folder}.")
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            for name in models.names:  # only now, when signals are heard
                report(f"http://{address}/v1/models/{name}:predict")

        def handle_exit(self, sig, frame):
            super().handle_exit(sig, frame)
            if self.force_exit:  # what a second Ctrl-C cuts off needs no traceback
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    config = uvicorn.Config(
        create_app(models, **options),
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    Server(config).run(sockets=[listener])


def _poll(models, seconds, stop):
    while not stop.wait(seconds):
        try:
            models.poll()
        except Exception as error:  # the next look may do better
            models.report(f"{models.folder}: cannot be looked through: {error}")


def _predicted(models, body, name, version, label, method):
    # In the order of the original: a body that is not JSON is 400 for a model there is not.
    document = rest.parse(body)
    if method.lower() != "predict":
        raise RequestError(f"{method} is not part of this server: only predict is", 501)
    model = models.find(name, _version(version, label))
    signature = rest.signature_name(document) or _DEFAULT_SIGNATURE
    arrays, key = rest.to_arrays(document, model.inputs(signature))
    return rest.to_body(model.run(signature, arrays), key)


def _described(models, name, version, label, metadata):
    if name is None:
        raise RequestError("Missing model name in request.")
    version = _version(version, label)
    return models.find(name, version).metadata() if metadata else models.status(name, version)


def _version(version, label):
    if label is not None:
        raise RequestError(f"Unrecognized servable version label: {label}")
    if version is None:
        return None
    digits = version.lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION:
        raise RequestError(f"Failed to convert version: {version[:40]} to numeric.")
    return int(digits)


def _json(content, status=200):
    # Starlette's own cannot write half a surrogate pair, which an error may quote.
    return Response(json.dumps(content), status, media_type="application/json")


def _path(request):
    """Path and query, for the original matches both, with names decoded."""
    query = request.url.query
    return request.scope["path"] + (f"?{query}" if query else "")


async def _body(request, most):
    too_long = RequestError(
        f"Expected a request of {most} bytes at most. Received a longer one: send fewer rows at a "
        "time, or start the server with a larger --max-request-mib.",
        413,
    )
    length = request.headers.get("content-length", "")
    if "expect" in request.headers and length.isdecimal() and int(length) > most:
        raise too_long
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            body += chunk
    # Only now: who is still sending does not read an answer.
    if size > most:
        raise too_long
    return bytes(body)


def _files(folder):
    """Name, size and time of every file of a folder."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            (str(path), stat.st_size, stat.st_mtime_ns)
            for path in folder.rglob("*")
            for stat in [path.stat()]
        )
    return None  # a file went while we looked


def _code(error):
    """The name of TensorFlow's code for an error."""
    import tensorflow as tf

    codes = {value: key for key, value in vars(tf.errors).items() if isinstance(value, int)}
    return codes.get(getattr(error, "error_code", tf.errors.UNKNOWN), "UNKNOWN")
