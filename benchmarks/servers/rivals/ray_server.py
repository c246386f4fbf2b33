"""Ray Serve: a deployment with an async handler for the raw request, without dashboard and access log.

RAY_SERVE_THROUGHPUT_OPTIMIZED and, where there is an HAProxy, RAY_SERVE_ENABLE_HA_PROXY come from the environment.
"""

from __future__ import annotations

import signal

import ray
from graph import PORT, WORKERS, Graph
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
class Predict:
    def __init__(self) -> None:
        self.graph = Graph()

    async def __call__(self, request: Request) -> Response:
        return Response(self.graph.answer(await request.body()), media_type="application/json")


if __name__ == "__main__":
    quiet = LoggingConfig(enable_access_log=False, log_level="ERROR")
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=PORT), logging_config=quiet)
    serve.run(Predict.bind(), route_prefix="/predict", logging_config=quiet)
    signal.pause()
