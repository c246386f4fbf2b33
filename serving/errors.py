# ruff: noqa: N818  (errors bear the names that gRPC gives them)
"""What the server answers when it cannot: canonical gRPC codes, and the one table to HTTP."""

from __future__ import annotations

NUMBERS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
CODES = {number: code for code, number in NUMBERS.items()}

HTTP = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP status by code; 500 for the rest."""


class ServingError(Exception):
    """An error for the client: a canonical code and a message without paths, traces or library names."""

    code = "UNKNOWN"

    @property
    def message(self) -> str:
        return str(self)

    @property
    def http_status(self) -> int:
        return HTTP.get(self.code, 500)


class Unknown(ServingError):
    code = "UNKNOWN"


class InvalidArgument(ServingError):
    code = "INVALID_ARGUMENT"


class NotFound(ServingError):
    code = "NOT_FOUND"


class FailedPrecondition(ServingError):
    code = "FAILED_PRECONDITION"


class Unimplemented(ServingError):
    code = "UNIMPLEMENTED"


class DeadlineExceeded(ServingError):
    code = "DEADLINE_EXCEEDED"


class PermissionDenied(ServingError):
    code = "PERMISSION_DENIED"


class ResourceExhausted(ServingError):
    code = "RESOURCE_EXHAUSTED"


class Unavailable(ServingError):
    code = "UNAVAILABLE"


class Cancelled(ServingError):
    code = "CANCELLED"


class DataLoss(ServingError):
    code = "DATA_LOSS"


class Internal(ServingError):
    code = "INTERNAL"


class OutOfRange(ServingError):
    code = "OUT_OF_RANGE"


class Aborted(ServingError):
    code = "ABORTED"


_CLASSES = {kind.code: kind for kind in ServingError.__subclasses__()}


def of_code(code: str, message: str) -> ServingError:
    """The error of a canonical code; ServingError (UNKNOWN) for one without a class."""
    return _CLASSES.get(code, ServingError)(message)
