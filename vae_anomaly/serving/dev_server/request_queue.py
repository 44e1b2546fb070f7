"""How many requests are held and answered at a time, and in which order."""

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

from vae_anomaly.serving.dev_server.refusals import RequestError

# More threads would not answer more: they wait for one interpreter and for the same cores.
_AT_ONCE = max(2, min(4, os.cpu_count() or 2))


class RequestQueue:
    """Requests are answered in the order in which their bodies were complete, a few at a time.

    A client that waits for its answer before it asks again has one request in the queue, so that
    clients take turns. All methods are for the thread of the event loop.

    Parameters
    ----------
    most_requests : int
        Requests that are read, wait or are answered; one more is refused.
    most_bytes : int
        Bytes of all their bodies.
    """

    def __init__(self, most_requests, most_bytes):
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self._n_bytes = 0
        self._pool = ThreadPoolExecutor(_AT_ONCE, "answer")
        #: Requests that are read, wait or are answered.
        self.n_requests = 0

    @contextlib.contextmanager
    def place(self):
        """Hold a request; yields a function that is told of each chunk's bytes.

        The function returns whether there is room for them.
        """
        has_place = self.n_requests < self._most_requests
        n_held = 0

        def hold(n_bytes):
            nonlocal n_held
            if not has_place or self._n_bytes + n_bytes > self._most_bytes:
                return False
            n_held += n_bytes
            self._n_bytes += n_bytes
            return True

        self.n_requests += has_place
        try:
            yield hold
        finally:
            self.n_requests -= has_place
            self._n_bytes -= n_held

    async def run(self, function, *args):
        """Call a function in a thread, when it is its turn; return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def close(self):
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def busy():
    """The refusal of a request that there is no room for."""
    return RequestError(
        "Expected fewer requests at a time. Received more than the server holds: ask again in a "
        "second.",
        503,
        {"Retry-After": "1"},
    )
