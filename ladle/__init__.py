"""Ladle: train TensorFlow networks, export them, serve them and ask them.

`from ladle import Client` imports the client only, without TensorFlow and without the server.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ladle.clients.errors import LadleError
    from ladle.clients.library.async_client import AsyncClient
    from ladle.clients.library.client import Client

    __version__: str

__all__ = ["AsyncClient", "Client", "LadleError", "__version__"]

_HOMES = {
    "AsyncClient": "ladle.clients.library.async_client",
    "Client": "ladle.clients.library.client",
    "LadleError": "ladle.clients.errors",
}
"""The module of each public name. It is imported when the name is first used."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ladle.version import version

        return version()
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ladle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
