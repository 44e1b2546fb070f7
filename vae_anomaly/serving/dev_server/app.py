"""The REST API over HTTP: paths, status codes, limits on requests, and metrics.

Paths, status codes and the words of common errors are those of ``http_rest_api_handler.cc``,
``http_rest_api_util.cc``, ``http_server.cc`` and ``get_model_status_impl.cc`` of
tensorflow/serving.
"""

import contextlib
import json
import re
import threading

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from vae_anomaly.serving.dev_server import rest
from vae_anomaly.serving.dev_server.answers import to_body
from vae_anomaly.serving.dev_server.arrays import to_arrays
from vae_anomaly.serving.dev_server.folder import LARGEST_VERSION
from vae_anomaly.serving.dev_server.refusals import RequestError

POLL_SECONDS = 1.0
MAX_REQUEST_BYTES = 16 * 2**20
_VERSION = r"(?:/versions/([0-9]+)|/labels/([^/:?]+))?"
_METHOD_PATH = re.compile(
    rf"/v1/models/([^/:?]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE
)
_STATUS_PATH = re.compile(rf"/v1/models(?:/([^/:?]+))?{_VERSION}(/metadata)?", re.IGNORECASE)
_DEFAULT_SIGNATURE = "serving_default"


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


def _poll(models, seconds, stop):
    said = None
    while not stop.wait(seconds):
        try:
            models.poll()
        except Exception as error:  # the next look may do better
            line = f"{models.folder}: cannot be looked through: {error}"
            if line != said:
                models.report(line)
            said = line


def _predicted(models, body, name, version, label, method):
    # In the order of the original: a body that is not JSON is 400 for a model there is not.
    document = rest.parse(body)
    if method.lower() != "predict":
        raise RequestError(f"{method} is not part of this server: only predict is", 501)
    model = models.find(name, _version(version, label))
    signature = rest.signature_name(document) or _DEFAULT_SIGNATURE
    arrays, key = to_arrays(document, model.inputs(signature))
    return to_body(model.run(signature, arrays), key)


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
    if len(digits) > len(str(LARGEST_VERSION)) or int(digits) > LARGEST_VERSION:
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
