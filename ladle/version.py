"""The version of Ladle: the one place that knows it."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version, such as `0.1.0`; "(not installed)" in a checkout that was never installed."""
    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return "(not installed)"
