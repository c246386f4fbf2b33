"""Errors of a call to a model: they begin with its name and say what is served instead."""

from __future__ import annotations

from typing import TypeVar

from ladle.clients.errors import (
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    LadleError,
    NotFound,
    ResourceExhausted,
)
from ladle.clients.near_names import near_names
from ladle.clients.transport.operation import Operation
from ladle.clients.transport.protocol import Deadline, Protocol

T = TypeVar("T")

SHOWN = 8
"""Names that an error lists."""
TIMEOUT_S = 2.0
"""What looking for them may take."""
_ABOUT_THE_MODEL = (InvalidArgument, FailedPrecondition, ResourceExhausted, Internal, DataLoss)
EXPLAINED = (NotFound, *_ABOUT_THE_MODEL)
"""Errors of one model. Others, such as Unavailable, are those of the server."""


def explained(protocol: Protocol, name: str, operation: Operation[T]) -> Operation[T]:
    """The operation on a model, with better errors."""
    try:
        return (yield from operation)
    except EXPLAINED as error:
        raise (yield from explain(protocol, name, error)) from None


def explain(protocol: Protocol, name: str, error: LadleError) -> Operation[LadleError]:
    """A better error in place of one of `EXPLAINED`. name: of the model; "" if the operation has not chosen one."""
    if isinstance(error, NotFound):
        return NotFound((yield from _not_found(protocol, name, error)))
    if not name or str(error).startswith((f"{name}:", f"{name} ")):
        return error
    return type(error)(f"{name}: {error}")


def _not_found(protocol: Protocol, name: str, error: NotFound) -> Operation[str]:
    """What the server has instead of a model or version; the error's own text if it cannot be asked."""
    said = str(error)
    if not name or not protocol.suggests_models or not said.startswith(f"{name}: "):
        return said
    try:
        served = yield from protocol.models(None, Deadline(protocol.address, TIMEOUT_S))
    except LadleError:
        return said
    if name not in served:
        return f"{name} is not served; {_instead(name, sorted(served))}"
    loaded = [str(status.version) for status in served[name] if status.state == "AVAILABLE"]
    if loaded:
        return f"{said}; expected {' or '.join(loaded)}"
    states = ", ".join(f"version {status.version} is {status.state}" for status in served[name])
    return f"{name}: no version is loaded{f': {states}' if states else ''}; see `ladle status {name}`"


def _instead(name: str, served: list[str]) -> str:
    near = near_names(name, served)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not served:
        return f"neither is any other model; train one with `ladle train {name}`"
    more = f" and {len(served) - SHOWN} more: `ladle status`" if len(served) > SHOWN else ""
    return f"the server has {', '.join(served[:SHOWN])}{more}"
