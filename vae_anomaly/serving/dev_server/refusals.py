"""What a refused request is told: the error that becomes an HTTP status, and how it quotes JSON."""

import json


class RequestError(Exception):
    """A request that is answered with an error.

    Parameters
    ----------
    message : str
        What was expected, what was received, what to do.
    status : int
        The HTTP status code.
    headers : dict of str to str, optional
        Of the answer.
    """

    def __init__(self, message, status=400, headers=None):
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers = headers


def shown(value):
    """A JSON value as text, cut to 80 characters."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "lists or objects nested too deep to show"
    return text if len(text) <= 80 else text[:77] + "..."
