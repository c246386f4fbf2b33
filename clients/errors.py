# ruff: noqa: N818  (the errors have the names of gRPC's codes)
"""Errors of the client. All are `LadleError`s with one readable sentence, the same over gRPC and REST.

Each names the gRPC code and the HTTP statuses that it stands for. The client itself raises some of them, before it
sends a request or when no answer comes.
"""

from __future__ import annotations

import re


class LadleError(Exception):
    """Any failure of a call. gRPC: UNKNOWN, when raised itself. HTTP: never.

    code  the canonical gRPC code of the error's class
    """

    code = "UNKNOWN"


class InvalidArgument(LadleError):
    """The request is wrong as it stands. gRPC: INVALID_ARGUMENT. HTTP: 400.

    The server raises it for inputs that do not fit the signature; so does the client, before it sends them, and for
    addresses, files and options that it cannot use. TensorFlow Serving's REST API answers 400 for FailedPrecondition
    and OUT_OF_RANGE too.
    """

    code = "INVALID_ARGUMENT"


class FailedPrecondition(LadleError):
    """The server is not in the state that the request needs. gRPC: FAILED_PRECONDITION. HTTP: 400, as InvalidArgument.

    The server raises it, for example, for a signature with the wrong method.
    """

    code = "FAILED_PRECONDITION"


class NotFound(LadleError):
    """The model, its version or its label is not served. gRPC: NOT_FOUND. HTTP: 404. The server raises it."""

    code = "NOT_FOUND"


class AlreadyExists(LadleError):
    """What the request would create exists. gRPC: ALREADY_EXISTS. HTTP: none.

    A server in front of the model server may raise it.
    """

    code = "ALREADY_EXISTS"


class Aborted(LadleError):
    """The server gave the request up because of a conflict. gRPC: ABORTED. HTTP: 409. The server raises it."""

    code = "ABORTED"


class Cancelled(LadleError):
    """The call was cancelled. gRPC: CANCELLED. HTTP: 499.

    The client raises it when it has been closed, the server when it drops a request.
    """

    code = "CANCELLED"


class PermissionDenied(LadleError):
    """The API key or certificate does not allow the request. gRPC: PERMISSION_DENIED. HTTP: 403.

    The server, or a proxy in front of it, raises it.
    """

    code = "PERMISSION_DENIED"


class Unauthenticated(LadleError):
    """The API key is missing or unknown. gRPC: UNAUTHENTICATED. HTTP: 401 and 407.

    The server, or a proxy in front of it, raises it.
    """

    code = "UNAUTHENTICATED"


class ResourceExhausted(LadleError):
    """A limit was reached. gRPC: RESOURCE_EXHAUSTED. HTTP: 413 and 429.

    The server raises it for requests that are too large or too many; the client, for a request or an answer larger than
    `max_message_bytes`.
    """

    code = "RESOURCE_EXHAUSTED"


class Unimplemented(LadleError):
    """The server lacks the method. gRPC: UNIMPLEMENTED. HTTP: 501.

    The server raises it; so does the client, when a server cannot list its models.
    """

    code = "UNIMPLEMENTED"


class Unavailable(LadleError):
    """No answer can be had now. gRPC: UNAVAILABLE. HTTP: 502 and 503.

    The client raises it when nothing listens at the address, TLS fails or the connection breaks; the server, when its
    queue is full or it is stopping.
    """

    code = "UNAVAILABLE"


class DeadlineExceeded(LadleError):
    """No answer came within `timeout_s`. gRPC: DEADLINE_EXCEEDED. HTTP: 408 and 504.

    The client raises it, or the server when it notices first.
    """

    code = "DEADLINE_EXCEEDED"


class Internal(LadleError):
    """The server failed, or its answer makes no sense. gRPC: INTERNAL. HTTP: 500 and any status without a class.

    The server raises it; the client, for an answer that it cannot read, e.g. from something that is no model server.
    """

    code = "INTERNAL"


class DataLoss(LadleError):
    """Data on the server is damaged. gRPC: DATA_LOSS. HTTP: none. The server raises it."""

    code = "DATA_LOSS"


_BY_CODE: dict[str, type[LadleError]] = {kind.code: kind for kind in LadleError.__subclasses__()}

# Over REST both are status 400, so callers could not tell them apart there.
_BY_CODE["OUT_OF_RANGE"] = InvalidArgument

_BY_STATUS: dict[int, type[LadleError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    407: Unauthenticated,
    408: DeadlineExceeded,
    409: Aborted,
    413: ResourceExhausted,
    429: ResourceExhausted,
    499: Cancelled,
    501: Unimplemented,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}

_NOT_SERVED = re.compile(
    r"Servable not found for request: (?:Latest\((?P<latest>.*)\)|Specific\((?P<specific>.*), (?P<version>\d+)\))"
    r"|Could not find (?:any versions of model (?P<model>.*)|version (?P<status_version>\d+) of model (?P<of>.*))"
)
_COUNTED = re.compile(
    r"input size does not match signature: \d+!=\d+ len\(\{(?P<sent>[^}]*)\}\) != len\(\{(?P<expected>[^}]*)\}\)\..*",
    re.IGNORECASE,
)


def from_code(code: str, message: str) -> LadleError:
    """The error that a gRPC code stands for; `message` is the server's."""
    return _BY_CODE.get(code, LadleError)(_in_plain_words(message))


def from_status(status: int, message: str) -> LadleError:
    """The error that an HTTP status stands for; `message` is the server's."""
    return _BY_STATUS.get(status, Internal)(_in_plain_words(message))


def _in_plain_words(message: str) -> str:
    """TensorFlow Serving says `Latest(resnet)` and `0!=1 len({})`; callers should not have to know why."""
    counted = _COUNTED.fullmatch(message)
    if counted is not None:
        sent, expected = (", ".join(filter(None, counted[part].split(","))) for part in ("sent", "expected"))
        return f"got {f'the inputs {sent}' if sent else 'no inputs'}; expected {expected or 'none'}"
    found = _NOT_SERVED.fullmatch(message)
    if found is None:
        return message
    name = found["latest"] or found["specific"] or found["model"] or found["of"]
    version = found["version"] or found["status_version"]
    if version:
        return f"{name}: version {version} is not served"
    if found["latest"]:  # the server says the same of a model that it is still loading
        return f"{name}: not served: the server lacks this model or has not loaded it yet"
    return f"{name}: no such model is served"
