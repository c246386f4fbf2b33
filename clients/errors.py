# ruff: noqa: N818  (errors bear the names that gRPC gives them)
"""What can go wrong when a model server is asked. Every error is a `LadleError` with one readable sentence."""

from __future__ import annotations


class LadleError(Exception):
    """The root. `code` is the canonical gRPC code, the same over gRPC and REST."""

    code = "UNKNOWN"


class InvalidArgument(LadleError):
    """The request cannot be answered as it is. Over REST also FAILED_PRECONDITION and OUT_OF_RANGE."""

    code = "INVALID_ARGUMENT"


class FailedPrecondition(LadleError):
    """The server is not in the state that the request needs, or the signature does not exist."""

    code = "FAILED_PRECONDITION"


class OutOfRange(LadleError):
    code = "OUT_OF_RANGE"


class NotFound(LadleError):
    """No such model or version is served."""

    code = "NOT_FOUND"


class AlreadyExists(LadleError):
    code = "ALREADY_EXISTS"


class Aborted(LadleError):
    code = "ABORTED"


class Cancelled(LadleError):
    """The request was given up, or the client is closed."""

    code = "CANCELLED"


class PermissionDenied(LadleError):
    code = "PERMISSION_DENIED"


class Unauthenticated(LadleError):
    code = "UNAUTHENTICATED"


class ResourceExhausted(LadleError):
    code = "RESOURCE_EXHAUSTED"


class Unimplemented(LadleError):
    """The server does not know the method, or REST cannot carry the dtype."""

    code = "UNIMPLEMENTED"


class Unavailable(LadleError):
    """Nothing answers at the address, the connection broke, or the server's queue is full."""

    code = "UNAVAILABLE"


class DeadlineExceeded(LadleError):
    """No answer within `timeout_s`."""

    code = "DEADLINE_EXCEEDED"


class Internal(LadleError):
    """The server, or what stands at its address, answered what it should not."""

    code = "INTERNAL"


class DataLoss(LadleError):
    code = "DATA_LOSS"


_BY_CODE: dict[str, type[LadleError]] = {kind.code: kind for kind in LadleError.__subclasses__()}

_BY_STATUS: dict[int, type[LadleError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
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


def from_code(code: str, message: str) -> LadleError:
    """The error of a canonical gRPC code."""
    return _BY_CODE.get(code, LadleError)(message)


def from_status(status: int, message: str) -> LadleError:
    """The error of an HTTP status; TensorFlow Serving's table read backwards."""
    return _BY_STATUS.get(status, Internal)(message)
