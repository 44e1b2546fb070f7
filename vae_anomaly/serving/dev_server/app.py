"""The REST API over HTTP: paths, status codes, limits on requests, and metrics.

Paths, status codes and the words of common errors are those of ``http_rest_api_handler.cc``,
``http_rest_api_util.cc``, ``http_server.cc`` and ``get_model_status_impl.cc`` of
tensorflow/serving.
"""

import asyncio
import contextlib
import json
import re
import threading
import time

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from vae_anomaly.serving.dev_server import rest
from vae_anomaly.serving.dev_server.answers import to_body
from vae_anomaly.serving.dev_server.arrays import to_arrays
from vae_anomaly.serving.dev_server.folder import LARGEST_VERSION
from vae_anomaly.serving.dev_server.metrics import CONTENT_TYPE, Metrics
from vae_anomaly.serving.dev_server.refusals import RequestError
from vae_anomaly.serving.dev_server.request_queue import RequestQueue, busy

POLL_SECONDS = 1.0
MAX_REQUEST_BYTES = 16 * 2**20
# A value takes 100 bytes or so once it is parsed.
MAX_REQUEST_VALUES = 2_000_000
MAX_REQUESTS = 256
READ_SECONDS = 60.0
# Bodies that are held at a time, in multiples of the largest one.
_LARGEST_BODIES = 8
_VERSION = r"(?:/versions/([0-9]+)|/labels/([^/:?]+))?"
_METHOD_PATH = re.compile(
    rf"/v1/models/([^/:?]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE
)
_STATUS_PATH = re.compile(rf"/v1/models(?:/([^/:?]+))?{_VERSION}(/metadata)?", re.IGNORECASE)
_DEFAULT_SIGNATURE = "serving_default"
_HTTP_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]


def create_app(
    models,
    *,
    max_request_bytes=MAX_REQUEST_BYTES,
    max_request_values=MAX_REQUEST_VALUES,
    max_requests=MAX_REQUESTS,
    read_seconds=READ_SECONDS,
    poll_seconds=POLL_SECONDS,
):
    """The REST API as an ASGI application.

    Parameters
    ----------
    models : ServedFolder
        Polled as long as the application lives.
    max_request_bytes : int
        A longer request is answered with 413. All requests together may hold eight times as many.
    max_request_values : int
        A request with more commas, brackets and braces is answered with 413.
    max_requests : int
        More at a time are answered with 503 and ``Retry-After``.
    read_seconds : float
        A body that takes longer to arrive is answered with 408.
    poll_seconds : float

    Returns
    -------
    starlette.applications.Starlette
    """
    queue = RequestQueue(max_requests, _LARGEST_BODIES * max_request_bytes)
    metrics = Metrics(models, queue)

    async def predict(request, names):
        with queue.place() as hold:
            body = await _body(request, max_request_bytes, read_seconds, hold)
            content = await queue.run(_predicted, models, metrics, body, max_request_values, names)
        return Response(content, media_type="application/json")

    async def answer(request):
        path = _path(request)
        match = request.method == "POST" and _METHOD_PATH.fullmatch(path)
        if match:
            return await _counted(metrics, match[1], predict(request, match.groups()))
        return await _refusable(_asked(request, path, models, metrics))

    return Starlette(
        routes=[Route("/{path:path}", answer, methods=_HTTP_METHODS)],
        exception_handlers={Exception: _on_bug, HTTPException: _on_refused},
        lifespan=_lifespan(models, poll_seconds, queue),
    )


def _lifespan(models, poll_seconds, queue):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        stop = threading.Event()
        thread = threading.Thread(target=_poll, args=(models, poll_seconds, stop), daemon=True)
        thread.start()
        yield
        stop.set()
        queue.close()

    return lifespan


def _on_bug(request, error):
    return _json({"error": f"{type(error).__name__}: {error}"}, 500)


def _on_refused(request, error):  # by Starlette: a method or a path of no kind that it knows
    return _json({"error": error.detail}, error.status_code)


async def _refusable(answering):
    """The answer, or the refusal."""
    try:
        return await answering
    except RequestError as error:
        return _json({"error": error.message}, error.status, error.headers)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it


async def _counted(metrics, name, answering):
    """The answer to a predict request, or the refusal, counted; a bug counts as 500."""
    started, status = time.perf_counter(), 500
    try:
        response = await _refusable(answering)
        status = response.status_code
        return response
    finally:
        metrics.count_request(name, status, time.perf_counter() - started)


async def _asked(request, path, models, metrics):
    """The answer to whatever does not run a model."""
    if request.method == "GET" and path == "/metrics":
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})
    if request.method == "GET" and (match := _STATUS_PATH.fullmatch(path)):
        return _json(_described(models, *match.groups()))
    if not path.lower().startswith("/v1/"):
        raise RequestError(f"Not Found: {path}", 404)
    raise RequestError(f"Malformed request: {request.method} {path}")


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


def _predicted(models, metrics, body, most_values, names):
    name, version, label, method = names
    # In the order of the original: a body that is not JSON is 400 for a model there is not.
    document = rest.parse(body, most_values=most_values)
    if method.lower() != "predict":
        raise RequestError(f"{method} is not part of this server: only predict is", 501)
    model = models.find(name, _version(version, label))
    signature = rest.signature_name(document) or _DEFAULT_SIGNATURE
    arrays, key = to_arrays(document, model.inputs(signature))
    outputs = model.run(signature, arrays)
    content = to_body(outputs, key)
    metrics.count_rows(name, outputs)
    return content


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


def _json(content, status=200, headers=None):
    # Starlette's own cannot write half a surrogate pair, which an error may quote.
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _path(request):
    """Path and query, for the original matches both, with names decoded."""
    query = request.url.query
    return request.scope["path"] + (f"?{query}" if query else "")


async def _body(request, most, seconds, hold):
    too_long = RequestError(
        f"Expected a request of {most} bytes at most. Received a longer one: send fewer rows at a "
        "time, or start the server with a larger --max-request-mib.",
        413,
    )
    length = request.headers.get("content-length", "")
    if "expect" in request.headers and length.isdecimal() and int(length) > most:
        raise too_long
    try:
        body, size = await asyncio.wait_for(_read(request, most, hold), seconds)
    except asyncio.TimeoutError:
        raise RequestError(
            f"Expected the whole request within {seconds:g} seconds. Received a part of it.",
            408,
            {"Connection": "close"},
        ) from None
    # Only now: who is still sending does not read an answer.
    if size > most:
        raise too_long
    if body is None:
        raise busy()
    return body


async def _read(request, most, hold):
    """The body, or None where there is no room for it, and its size."""
    body: bytearray | None = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if body is None or size > most or not hold(len(chunk)):
            body = None
        else:
            body += chunk
    return body, size
