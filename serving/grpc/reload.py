"""HandleReloadConfigRequest: replaces the models of a running server, if its flags allow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.dataplane.core import Core
from ladle.serving.errors import InvalidArgument, PermissionDenied
from ladle.serving.grpc.calls import Answer, CallContext


class ReloadApi:
    """The method.

    allowed   the server was started with --allow_config_reload
    counters  the server's counters by name; a request may ask by how much some of them rose
    """

    def __init__(self, core: Core, allowed: bool, counters: Callable[[], Mapping[str, float]] = dict) -> None:
        self._core = core
        self._allowed = allowed
        self._counters = counters

    async def reload(self, request: Any, context: CallContext) -> Answer:
        """PermissionDenied when reloads are off, InvalidArgument for other configurations; see `Core.reload`."""
        if not self._allowed:
            raise PermissionDenied(
                "HandleReloadConfigRequest is off; start the server with --allow_config_reload and --config_root=DIR."
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        before = self._counters() if request.metric_names else {}
        await self._core.reload(request.config)
        after = self._counters() if request.metric_names else {}
        response = pb.ReloadConfigResponse()
        response.status.SetInParent()
        for name in request.metric_names:
            increase = after.get(name, 0) - before.get(name, 0)
            response.metric.add(name=name, int64_value_increase=int(increase))
        return Answer(response.SerializeToString())
