"""The registry of networks. Each family file in this package lists its networks in a table named NETWORKS.

`names` and `described` answer without TensorFlow; `get` imports it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import pkgutil
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ladle.models._network import TASKS, Assets, Config, Network, Task

if TYPE_CHECKING:
    from ladle.models._signatures import Core, Signature

__all__ = ["TASKS", "Assets", "Config", "Core", "Network", "Signature", "Task", "described", "get", "names", "register"]


# TensorFlow uses oneDNN by default only on processors with AVX-512. On one with AVX2 alone, its other kernels take up
# to six times as long for the gradients of a convolution. TensorFlow reads the variable at its import.
if platform.machine().lower() in ("x86_64", "amd64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

NEAR = 0.75
"""How alike two names are, from 0 to 1, for one to be suggested instead of the other."""


def __getattr__(name: str) -> Any:
    if name in ("Core", "Signature"):  # they import TensorFlow
        return getattr(importlib.import_module(f"{__name__}._signatures"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> list[str]:
    """The names of all networks, sorted."""
    return sorted(_descriptions())


def get(name: str) -> Network:
    """Look up a network by name. KeyError for an unknown name, with near names if there are any."""
    described(name)
    return _registry()[name]


def described(name: str) -> Network:
    """A network that cannot be built: its config, presets and sentences, without TensorFlow. KeyError as `get`."""
    try:
        return _descriptions()[name]
    except KeyError:
        near = difflib.get_close_matches(name, names(), n=3, cutoff=NEAR)
        hint = f"did you mean {' or '.join(near)}?" if near else "`ladle networks` lists them"
        raise KeyError(f"unknown network {name!r}; {hint}") from None


def register() -> None:
    """Import every family, so that Keras knows their layers and losses when it loads a saved model."""
    _registry()


# Filled at the first lookup: families import modules of this package, so importing them here would be circular.
@functools.cache
def _registry() -> dict[str, Network]:
    return _by_name({name: importlib.import_module(f"{__name__}.{name}").NETWORKS for name in _families()})


@functools.cache
def _descriptions() -> dict[str, Network]:
    from ladle.models import _described

    return _by_name(_described.tables(_families()))


def _families() -> list[str]:
    """Family files; modules with an underscore are shared by families."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def _by_name(tables: Mapping[str, Sequence[Network]]) -> dict[str, Network]:
    found: dict[str, Network] = {}
    home: dict[str, str] = {}
    for module, networks in tables.items():
        for network in networks:
            if network.name in found:
                raise ValueError(
                    f"{network.name} is defined in both {home[network.name]}.py and {module}.py; rename one"
                )
            found[network.name], home[network.name] = network, module
    return found
