"""Packages that only an extra brings: whether they are here, and new enough."""

import importlib


def check_package(name: str, first_version: int, extra: str) -> None:
    """Raise ImportError unless a package is installed, in this major version or a later one."""
    try:
        version = importlib.import_module(name).__version__
    except ImportError as error:
        raise ImportError(_expected(name, first_version, "none", extra)) from error
    if int(version.partition(".")[0]) < first_version:
        raise ImportError(_expected(name, first_version, f"{name} {version}", extra))


def _expected(name, first_version, received, extra):
    return (
        f"Expected {name} {first_version} or later. Received: {received}. Install it: in this "
        f"project's folder, pip install '.[{extra}]'."
    )
