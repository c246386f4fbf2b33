"""The protocol's extension for model repositories: clients load and unload models, if the server's flags allow it."""

from __future__ import annotations

from collections.abc import Collection

from ladle.serving.dataplane.core import Core
from ladle.serving.errors import InvalidArgument, PermissionDenied


class ModelControl:
    """The two methods. allowed: the server was started with --allow_model_control."""

    def __init__(self, core: Core, allowed: bool = False) -> None:
        self._core = core
        self._allowed = allowed

    async def load(
        self, name: str, repository: str = "", parameters: Collection[str] = (), deadline: float | None = None
    ) -> None:
        """Load what the repository has of a model; return when it answers. Errors as `Core.load_model`.

        PermissionDenied: not allowed. InvalidArgument: a repository's name, or a parameter, all of which would replace
        the model's files or configuration.
        """
        self._check(repository)
        if parameters:
            raise InvalidArgument(
                f"got the parameter {sorted(parameters)[0]:.60}; this server loads what its repository holds, and "
                "takes no files or configuration from a request; send no parameters"
            )
        await self._core.load_model(name, deadline)

    async def unload(self, name: str, repository: str = "") -> None:
        """Unload all versions of a model; return when no new request reaches them. Errors as `Core.unload_model`."""
        self._check(repository)
        await self._core.unload_model(name)

    def _check(self, repository: str) -> None:
        if not self._allowed:
            raise PermissionDenied(
                "Loading and unloading models by request is off; start the server with --allow_model_control."
            )
        if repository:
            raise InvalidArgument(f"got the repository {repository!r:.60}; this server has one; leave the name out")
