"""The JSON of a request's body: read, limited and checked. No HTTP, no TensorFlow, no NumPy.

After ``tensorflow_serving/util/json_tensor.cc``. What the two do not agree on is refused here, so
that a request that is answered here is answered there: NaN (there a number), names that the
signature does not have in 'inputs' (there ignored), a key twice in one object, integers that do
not fit the column, columns of unequal length, bytes that are not UTF-8.
"""

import json
import math
from collections import Counter

from vae_anomaly.serving.dev_server.refusals import RequestError, shown


def parse(body, *, most_values):
    """The JSON object that a request's body is.

    Parameters
    ----------
    body : bytes
        UTF-8.
    most_values : int
        Of values, which are not counted but bounded before anything is parsed: there are at most
        as many as the bytes ``,``, ``[`` and ``{`` plus one. Those inside of strings count too.

    Returns
    -------
    dict

    Raises
    ------
    RequestError
        If it is not JSON, or not an object, or holds NaN, a number too big for a float64 or a key
        twice; 413 if it has too many values. The literals Infinity and -Infinity are numbers, as
        in TensorFlow Serving.
    """
    if not body:
        raise RequestError("JSON Parse error: The document is empty")
    n_values = sum(map(body.count, (b",", b"[", b"{")))
    if n_values > most_values:
        raise RequestError(
            f"Expected a request with {most_values} commas, brackets and braces at most. Received "
            f"{n_values}: send fewer rows at a time, or start the server with a larger "
            "--max-request-values.",
            413,
        )
    try:
        document = json.loads(
            str(body, "utf-8-sig"),
            parse_float=_finite,
            parse_constant=_infinite,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise RequestError("JSON Parse error: nested too deeply") from None
    except ValueError as error:
        raise RequestError(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise RequestError(f"JSON Value: {shown(document)} Is not object")
    return document


def signature_name(document):
    """The signature that a request asks for; '' is the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(
            f"JSON Value: {shown(document)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return name


def _finite(literal):
    number = float(literal)
    if math.isinf(number):
        raise ValueError(f"Number too big to be stored in double: {literal[:40]}")
    return number


def _infinite(literal):
    if literal == "NaN":
        raise RequestError(
            "Expected numbers that JSON has. Received: NaN. Send the spelling of a missing value "
            "that the model documents for the column."
        )
    return float(literal)


def _unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} appears more than once in an object")
    return members
