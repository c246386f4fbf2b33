# ruff: noqa: N818  (errors have the names that gRPC gives them)
"""Errors of the server: canonical gRPC codes, and the one table that maps them to HTTP.

`dataplane` and the folders below it raise these. Each API turns them into an answer in one place: gRPC sends the code,
REST sends the HTTP status with `{"error": message}`.
"""

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
"""HTTP status by code; 500 for all others."""


class ServingError(Exception):
    """An error for the client. Its message names no path, stack trace or library: it leaves the machine.

    Raised itself only by `of_code`, for a code without a class. Otherwise gRPC UNKNOWN, HTTP 500.
    """

    code = "UNKNOWN"

    @property
    def message(self) -> str:
        return str(self)

    @property
    def http_status(self) -> int:
        return HTTP.get(self.code, 500)


class StartError(Exception):
    """The server cannot start. The message is `<CODE>: <text>`; the process prints it and exits with status 255."""


class Unknown(ServingError):
    """A model that a reload adds did not load. Raised by `replace_models`. gRPC UNKNOWN, HTTP 500."""

    code = "UNKNOWN"


class InvalidArgument(ServingError):
    """The request, a flag or a configuration file is wrong, and will be wrong again if it is sent again.

    Raised wherever they are read or checked, and by engines for inputs that the graph refuses. gRPC INVALID_ARGUMENT,
    HTTP 400. At start-up it becomes the reason why the server does not start.
    """

    code = "INVALID_ARGUMENT"


class NotFound(ServingError):
    """The server has no such model, version or file. Raised by the lookup of versions. gRPC NOT_FOUND, HTTP 404."""

    code = "NOT_FOUND"


class MissingOperation(NotFound):
    """A graph uses an operation that the server's TensorFlow lacks. Raised by the TensorFlow engine while it loads.

    Unlike a missing file, it will not appear while the server runs: such a load is not retried.
    """


class FailedPrecondition(ServingError):
    """The request is right, but the model does not have what it needs: a signature, a graph, outputs with rows.

    Raised by the dataplane, the scheduler, the loader, and reloads of a configuration. gRPC FAILED_PRECONDITION,
    HTTP 400.
    """

    code = "FAILED_PRECONDITION"


class Unimplemented(ServingError):
    """The request asks for what neither server does, such as JSON for a dtype that has none.

    Raised by the JSON reader, warm-up and MultiInference. gRPC UNIMPLEMENTED, HTTP 501.
    """

    code = "UNIMPLEMENTED"


class DeadlineExceeded(ServingError):
    """The request's deadline passed before it ran. Raised by the scheduler. gRPC DEADLINE_EXCEEDED, HTTP 504."""

    code = "DEADLINE_EXCEEDED"


class PermissionDenied(ServingError):
    """A path leads out of the repository or of --config_root, or reloading is off.

    Raised by the checks of paths and by the reload API. gRPC PERMISSION_DENIED, HTTP 403.
    """

    code = "PERMISSION_DENIED"


class ResourceExhausted(ServingError):
    """The request needs more than is left: queue space, memory for the run, or time in the batching queue.

    Raised by the limits of the queue, the scheduler and engines. gRPC RESOURCE_EXHAUSTED, HTTP 429 with Retry-After.
    """

    code = "RESOURCE_EXHAUSTED"


class Unavailable(ServingError):
    """The server cannot answer now; a retry may succeed.

    Raised by the limits of the queue, and by workers that stop. gRPC UNAVAILABLE, HTTP 503 with Retry-After.
    """

    code = "UNAVAILABLE"


class NotLoaded(Unavailable):
    """A model that is loaded on demand is not in memory. The APIs have it loaded and ask again.

    model    its name
    version  the version that was asked for; None: the latest
    """

    def __init__(self, model: str, version: int | None = None) -> None:
        super().__init__(f"{model} is being loaded; retry later")
        self.model = model
        self.version = version


class Cancelled(ServingError):
    """A load ended because its version is no longer configured. Raised by the manager. gRPC CANCELLED, HTTP 499."""

    code = "CANCELLED"


class DataLoss(ServingError):
    """A file of a version is damaged, or does not match its card.

    Raised by the loader, engines and warm-up; clients see it in the status of the version. gRPC DATA_LOSS, HTTP 500.
    """

    code = "DATA_LOSS"


class Internal(ServingError):
    """A bug, or a signature that contradicts itself; the log has the details. gRPC INTERNAL, HTTP 500.

    Raised by the manager, the dataplane and the workers' channel for errors of other types.
    """

    code = "INTERNAL"


class Aborted(ServingError):
    """A reload ended because another one replaced its models. Raised by `replace_models`. gRPC ABORTED, HTTP 409."""

    code = "ABORTED"


_CLASSES = {kind.code: kind for kind in ServingError.__subclasses__()}


def of_code(code: str, message: str) -> ServingError:
    """An error with this canonical code, such as a graph may raise; UNKNOWN if `code` is not canonical."""
    error = _CLASSES.get(code, ServingError)(message)
    if code in NUMBERS:
        error.code = code  # OUT_OF_RANGE, ALREADY_EXISTS and UNAUTHENTICATED have no class: nothing here raises them
    return error
