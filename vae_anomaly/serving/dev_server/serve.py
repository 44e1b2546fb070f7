"""A development server that speaks TensorFlow Serving's REST API, where there is no Docker.

It loads any SavedModel laid out as TensorFlow Serving wants it, ``served/NAME/<integer>``, and
knows nothing else of this package. This module owns its start: the folder is checked, the socket
opened, the models loaded, and the server run until a signal says to stop.
"""

import logging
import os
import pathlib
import socket

import uvicorn

from vae_anomaly.serving.dev_server.app import create_app
from vae_anomaly.serving.dev_server.folder import ServedFolder, list_models

# Requests under way get so long after Ctrl-C.
SHUTDOWN_SECONDS = 30


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
    folder = pathlib.Path(folder)
    if folder.is_dir() and list_models(folder):
        return
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
