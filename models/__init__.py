"""The registry of networks. Each family file in this package lists its networks in a table named NETWORKS."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil

from ladle.models._network import TASKS, Assets, Config, Network, Task
from ladle.models._signatures import Core, Signature

__all__ = ["TASKS", "Assets", "Config", "Core", "Network", "Signature", "Task", "get", "names"]


def names() -> list[str]:
    """The names of all networks, sorted."""
    return sorted(_registry())


def get(name: str) -> Network:
    """Look up a network by name. KeyError for an unknown name, with the nearest names."""
    try:
        return _registry()[name]
    except KeyError:
        near = difflib.get_close_matches(name, names(), n=3) or names()
        raise KeyError(f"unknown network {name!r}; did you mean {' or '.join(near)}?") from None


# Filled at the first lookup: families import modules of this package, so importing them here would be circular.
@functools.cache
def _registry() -> dict[str, Network]:
    found: dict[str, Network] = {}
    home: dict[str, str] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("_"):  # shared by families, no family itself
            continue
        for network in importlib.import_module(f"{__name__}.{module.name}").NETWORKS:
            if network.name in found:
                raise ValueError(
                    f"{network.name} is defined in both {home[network.name]}.py and {module.name}.py; rename one"
                )
            found[network.name], home[network.name] = network, module.name
    return found
