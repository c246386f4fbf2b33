"""The networks as their files describe them, without TensorFlow: names, options, presets, sentences.

TensorFlow takes seconds to import, and a list of networks or the help of `ladle train` needs none of it. So the family
files are run here with a stand-in for TensorFlow and Keras. Classes and functions come out hollow, but the table
NETWORKS at the end of each file is the real one. Nothing is cached in a file, so nothing can be out of date.
"""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import importlib.machinery
import sys
import types
from importlib.abc import InspectLoader
from typing import Any, NoReturn

from ladle.models._network import Network

PACKAGE = "ladle.models"
ABSENT = ("tensorflow", "keras")
SHARED = ("_network",)
"""Modules that need no TensorFlow. They are imported as they are, so that their classes are the registry's."""


class _StandIn:
    """Anything of TensorFlow or Keras: a module, a decorator, a base class, a constant."""

    def __getattr__(self, name: str) -> _StandIn:
        if name.startswith("__"):  # Python asks for these to learn what an object can do
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> _StandIn:
        return self

    def __getitem__(self, key: Any) -> _StandIn:
        return self

    def __or__(self, other: Any) -> _StandIn:
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()


def tables(modules: list[str]) -> dict[str, list[Network]]:
    """The table of each family file. Its networks cannot be built: `build`, `signatures` and `example` raise."""
    return {name: [_hollow(network) for network in _module(name).NETWORKS] for name in modules}


def _hollow(network: Network) -> Network:
    def refuse(*arguments: Any) -> NoReturn:
        raise RuntimeError(f"{network.name} is only described here; expected a network of `ladle.models.get`")

    tables = {task: _hollow(other) for task, other in network.tables.items()}
    return dataclasses.replace(network, build=refuse, signatures=refuse, example=refuse, tables=tables)


def _module(name: str) -> Any:
    """A module of this package, run with the stand-in."""
    full = f"{__name__}.{name}"
    if full not in sys.modules:
        # The real module's own loader reads and writes its bytecode, so it is compiled once for both.
        spec = importlib.machinery.PathFinder.find_spec(f"{PACKAGE}.{name}", sys.modules[PACKAGE].__path__)
        assert spec is not None
        assert isinstance(spec.loader, InspectLoader)
        code = spec.loader.get_code(spec.name)
        assert code is not None
        module = types.ModuleType(full)
        module.__file__ = spec.origin
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        # Dataclasses look their module up by name.
        sys.modules[full] = module
        try:
            exec(code, module.__dict__)  # noqa: S102  (the package's own files)
        except BaseException:
            del sys.modules[full]
            raise
    return sys.modules[full]


def _import(
    name: str,
    globals: Any = None,
    locals: Any = None,
    fromlist: tuple[str, ...] | None = (),
    level: int = 0,
) -> Any:
    """`import` as the family files see it."""
    if name.partition(".")[0] in ABSENT:
        return _StandIn()
    if name == PACKAGE:
        return types.SimpleNamespace(**{part: _module(part) for part in fromlist or ()})
    inner = name.removeprefix(f"{PACKAGE}.")
    if inner != name and inner not in SHARED:
        return _module(inner)
    return importlib.__import__(name, globals, locals, fromlist or (), level)
