"""Which parameters of a detector have been left at their defaults."""

import inspect
from numbers import Integral
from typing import Any


def is_default(detector: Any, name: str) -> bool:
    """Whether a parameter of a detector has the value that it has where nobody gives it.

    Examples
    --------
    >>> from vae_anomaly import VAEDetector
    >>> is_default(VAEDetector(n_draws=9), "n_draws"), is_default(VAEDetector(), "n_draws")
    (False, True)
    """
    value = getattr(detector, name)
    default = inspect.signature(type(detector)).parameters[name].default
    # Arrays and networks cannot be compared.
    return value is default or (isinstance(value, (str, Integral)) and bool(value == default))
