"""scikit-learn's names that it doesn't promise to keep, in one place, for the day they move."""

from collections.abc import Callable
from typing import TypeVar

from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, InvalidParameterError, StrOptions

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_params",
    "validated",
]

_Method = TypeVar("_Method", bound=Callable)


def validated(fit: _Method) -> _Method:
    """Decorate ``fit`` so that ``_parameter_constraints`` are checked first."""
    return _fit_context(prefer_skip_nested_validation=True)(fit)


def check_params(estimator: BaseEstimator) -> None:
    """Raise InvalidParameterError unless all parameters are within ``_parameter_constraints``."""
    estimator._validate_params()
