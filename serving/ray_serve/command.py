"""`ladle serve --on ray`: the models of a folder as deployments of Ray Serve."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ladle.serving.errors import ServingError
from ladle.serving.ray_serve import services
from ladle.serving.ray_serve.application import Settings, check, make
from ladle.serving.workers.signals import Signals

EXAMPLE = """example:
  ladle serve --on ray model_repository --max-replicas 8 --target-requests 16
  ladle serve --on ray model_repository --address auto --models-per-replica 50 --flag enable_batching
"""


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="ladle serve --on ray",
        description="Serves the models of a folder on Ray Serve until it is stopped.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, Settings("")
    add("repository", nargs="?", metavar="FOLDER", default="model_repository", help="at the same place on every node")
    add("--on", choices=["ray"], help="what the models run on")
    add("--address", default="", help="of a Ray cluster, such as auto; without it, one is started on this machine")
    add("--host", default="127.0.0.1", help="address that Ray's proxies listen on (default: %(default)s)")
    add("--port", type=int, default=8500, help="gRPC port of the proxies (default: %(default)s)")
    add("--rest-api-port", type=int, default=8501, help="HTTP port of the proxies (default: %(default)s)")
    add("--min-replicas", type=int, default=default.min_replicas, help="of each deployment (default: %(default)s)")
    add("--max-replicas", type=int, default=default.max_replicas, help="of each deployment (default: %(default)s)")
    add(
        "--target-requests",
        type=float,
        default=default.target_requests,
        help="running and waiting requests of a replica before another is started (default: %(default)s)",
    )
    add("--cpus", type=float, default=default.cpus, help="cores that a replica counts for (default: %(default)s)")
    add(
        "--models-per-replica",
        type=int,
        default=0,
        help="0: a deployment for each model; else replicas load models when asked, and keep this many",
    )
    add("--routers", type=int, default=default.routers, help="replicas of the router (default: %(default)s)")
    add("--flag", action="append", default=[], help="flag of the server for every replica, such as enable_batching")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT. Exit codes: 1 refused, 2 misused."""
    given = build_parser().parse_args(arguments)
    settings = Settings(
        repository=str(Path(given.repository).resolve()),
        flags=tuple(f"--{flag.removeprefix('--')}" for flag in given.flag),
        min_replicas=given.min_replicas,
        max_replicas=given.max_replicas,
        target_requests=given.target_requests,
        cpus=given.cpus,
        models_per_replica=given.models_per_replica,
        routers=given.routers,
    )
    try:
        check(settings)
    except ServingError as error:
        print(f"ladle serve --on ray: {error.message}", file=sys.stderr)
        return 1
    run(settings, given.address, given.host, given.port, given.rest_api_port)
    return 0


def run(settings: Settings, address: str, host: str, port: int, rest_port: int) -> None:
    """Serves until a signal says to stop."""
    import ray
    from ray import serve

    ray.init(address=address or None, include_dashboard=False, log_to_driver=True)
    start(host, port, rest_port)
    serve.run(make(settings), name="ladle", route_prefix="/")
    signals = Signals((signal.SIGTERM, signal.SIGINT))
    print(f"serving gRPC on port {port}, REST on port {rest_port}, on Ray Serve", file=sys.stderr, flush=True)
    signals.wait()
    serve.shutdown()
    ray.shutdown()


def start(host: str, port: int, rest_port: int, location: str = "EveryNode") -> None:
    """Starts Ray Serve's proxies: on every node that has replicas, or with HeadOnly on the head alone."""
    from ray import serve

    serve.start(
        http_options={"host": host, "port": rest_port},
        grpc_options={"port": port, "grpc_servicer_functions": services.FUNCTIONS},
        proxy_location=location,
    )
