"""The version of Ladle: the one place that knows it."""

from __future__ import annotations


def version() -> str:
    """The installed version, such as `0.1.0`; "(not installed)" in a checkout that was never installed."""
    # It loads a third of what a verb's help needs, among it the parsers of mail and zip files.
    from importlib import metadata

    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return "(not installed)"
