"""How the other model servers are started: with which command, settings and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.models import ROOT
from benchmarks.processes import free_port

FOLDER = Path(__file__).with_name("rivals")
_HOST = ("--host", "127.0.0.1")
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mosec": ("/inference", ("mosec_server.py", "--port", "PORT", "--address", "127.0.0.1", "--log-level", "error")),
    "LitServe": ("/predict", ("litserve_server.py",)),
    "BentoML": ("/predict", ("-m", "bentoml", "serve", "bentoml_service:Predict", "--port", "PORT", *_HOST)),
    "Ray Serve": ("/predict", ("ray_server.py",)),
}
SCRIPTED = tuple(_COMMANDS)
"""The rivals whose handler is a script of ours; the other one, MLServer, has the V2 protocol's own."""
# No usage reports, no authentication, and Ray Serve's settings for throughput.
_QUIET = {"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0"} | {
    "RAY_AUTH_MODE": "disabled",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}


@dataclass(frozen=True)
class Launch:
    """The command, environment and working folder that start a server."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT


def path(name: str) -> str:
    """Where a scripted rival takes requests."""
    return _COMMANDS[name][0]


def scripted(name: str, python: Path, graph: Path, port: int, workers: int, env: Mapping[str, str]) -> Launch:
    """A rival of `SCRIPTED`. `env` adds to GRAPH, PORT and WORKERS: BATCH, DECODE, VOCABULARY."""
    filled = [part.replace("PORT", str(port)) for part in _COMMANDS[name][1]]
    given = {"GRAPH": str(graph), "PORT": str(port), "WORKERS": str(workers), **env}
    return Launch([str(python), *filled], {**given, **_QUIET}, FOLDER)


def mlserver(
    python: Path, graph: Path, port: int, workers: int, models: Sequence[str], grpc: bool, folder: Path
) -> Launch:
    """MLServer with the graph under each of these names; `folder` takes its settings."""
    other = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": other if grpc else port,
        "grpc_port": port if grpc else other,
        "metrics_endpoint": None,
        # 0 runs the model in the server's own process, which is faster than one separate worker.
        "parallel_workers": 0 if workers == 1 else workers,
        "gzip_enabled": False,
        "debug": False,
        "grpc_max_message_length": 2**28,
    }
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    for model in models:
        (folder / model).mkdir(exist_ok=True)
        given = {"name": model, "implementation": "mlserver_model.Model"}
        (folder / model / "model-settings.json").write_text(json.dumps(given))
    env = {"GRAPH": str(graph), "WORKERS": str(workers), "PYTHONPATH": str(FOLDER)}
    return Launch([str(python.with_name("mlserver")), "start", str(folder)], env, folder)
