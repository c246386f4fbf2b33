"""The application of Ray Serve: a router, and a deployment for each model or one for all of them.

serve deploy deploy/ray/serve.yaml        ladle serve --on ray FOLDER
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ladle.serving.errors import InvalidArgument
from ladle.serving.ray_serve.replica import Outcome, Replica
from ladle.serving.ray_serve.router import Router, models_in


@dataclass(frozen=True)
class Settings:
    """What the application is made of.

    repository           folder of the models, at the same place on every node
    models               names of those to serve; (): all that the folder holds now
    flags                flags of the server that each replica gets, such as --enable_batching
    min_replicas         of each deployment; 0 lets it go when nobody asks
    max_replicas         of each deployment; above min_replicas it grows with its queue
    target_requests      that a replica should have, running and waiting, before another is started
    max_queued_requests  of a deployment, beyond which requests are refused
    cpus                 of the node that a replica is counted with
    models_per_replica   0: a deployment for each model; else one for all, whose replicas load a model when it is
                         asked and keep this many
    routers              replicas of the router
    """

    repository: str
    models: Sequence[str] = ()
    flags: Sequence[str] = ()
    min_replicas: int = 1
    max_replicas: int = 4
    target_requests: float = 8.0
    max_queued_requests: int = 500
    cpus: float = 1.0
    models_per_replica: int = 0
    routers: int = 1


class ModelServer:
    """The deployment of one model."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._replica = Replica(arguments)
        self._is_started = False

    async def reconfigure(self, _: Any) -> None:
        """Ray calls this before the replica's first request."""
        if not self._is_started:
            await self._replica.start()
            self._is_started = True

    async def rest(self, *request: Any) -> Outcome:
        return await self._replica.rest(*request)

    async def grpc(self, *call: Any) -> Outcome:
        return await self._replica.grpc(*call)


def build(arguments: Mapping[str, Any]) -> Any:
    """The application, for Ray Serve's `import_path`; `arguments` are Settings. InvalidArgument for others."""
    names = {field.name for field in fields(Settings)}
    if unknown := set(arguments) - names:
        raise InvalidArgument(f"got {', '.join(sorted(unknown))}; expected some of {', '.join(sorted(names))}")
    return make(Settings(**arguments))


def make(settings: Settings) -> Any:
    """The application. InvalidArgument when the settings fit no model."""
    from ray import serve

    check(settings)
    options = {
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.target_requests,
        },
        "max_ongoing_requests": max(1, int(settings.target_requests * 4)),
        "max_queued_requests": settings.max_queued_requests,
        "ray_actor_options": {"num_cpus": settings.cpus},
        "graceful_shutdown_timeout_s": 30,
    }
    if settings.models_per_replica:
        many = serve.deployment(_many(settings), name="models", **options)
        handles = {"": many.bind()}
    else:
        handles = {
            name: serve.deployment(ModelServer, name=name, user_config={}, **options).bind(arguments_of(settings, name))
            for name in found_models(settings)
        }
    router = serve.deployment(
        Router,
        name="router",
        num_replicas=settings.routers,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
    )
    return router.bind(handles, settings.repository)


def check(settings: Settings) -> None:
    """InvalidArgument for settings that fit no application."""
    if not Path(settings.repository).is_dir():
        raise InvalidArgument(f"got repository {settings.repository}; expected a folder of models")
    if not 0 <= settings.min_replicas <= settings.max_replicas or settings.max_replicas < 1:
        raise InvalidArgument(
            f"got {settings.min_replicas} to {settings.max_replicas} replicas; expected 0 or more, up to 1 or more"
        )
    if settings.target_requests <= 0:
        raise InvalidArgument(f"got target_requests {settings.target_requests}; expected more than 0")
    if not settings.models_per_replica and not found_models(settings):
        raise InvalidArgument(f"{settings.repository} holds no model; train or copy one, or set models_per_replica")


def found_models(settings: Settings) -> list[str]:
    """The models to serve: those that are named, or those that the repository holds."""
    if settings.models:
        return list(settings.models)
    return models_in(Path(settings.repository))


def arguments_of(settings: Settings, name: str) -> list[str]:
    """The flags of a replica of one model."""
    return [*settings.flags, f"--model_name={name}", f"--model_base_path={Path(settings.repository) / name}"]


def _many(settings: Settings) -> type:
    """The deployment that loads models when they are asked, and keeps those asked last."""
    from ray import serve

    class Loaded(Replica):
        def __del__(self) -> None:  # Ray calls it when the model has to go
            self.stop()

    class ManyModels:
        @serve.multiplexed(max_num_models_per_replica=settings.models_per_replica)  # type: ignore[untyped-decorator]
        async def load(self, name: str) -> Replica:
            loaded = Loaded(arguments_of(settings, name))
            await loaded.start()
            return loaded

        async def _asked(self) -> Replica:
            found: Replica = await self.load(serve.get_multiplexed_model_id())
            return found

        async def rest(self, *request: Any) -> Outcome:
            return await (await self._asked()).rest(*request)

        async def grpc(self, *call: Any) -> Outcome:
            return await (await self._asked()).grpc(*call)

    return ManyModels
