"""What the protocol says of servers and models: metadata, configuration, statistics, the index of the repository.

Everything here is plain values, in the protocol's names: REST writes them as JSON, gRPC puts them into messages.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from ladle.serving.dataplane.core import Core, ModelSpec
from ladle.serving.errors import NotFound, Unavailable
from ladle.serving.open_inference import datatypes
from ladle.serving.open_inference.inference import find
from ladle.serving.repository.versions import State
from ladle.serving.servables.saved_model import INIT_OP, TensorInfo
from ladle.serving.telemetry.metrics import Snapshot

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"]
_STATES = {"START": "LOADING", "LOADING": "LOADING", "AVAILABLE": "READY", "UNLOADING": "UNLOADING"}
_PLATFORMS = {"ONNX Runtime": "onnxruntime_onnx", "TensorFlow": "tensorflow_savedmodel"}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING", "": "TYPE_INVALID"}


def server() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "ladle", "version": _version(), "extensions": EXTENSIONS}


@functools.lru_cache(maxsize=1)
def _version() -> str:
    from importlib import metadata  # late: few clients ask, and it takes longer to import than to answer

    try:
        return metadata.version("ladle")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def is_model_ready(core: Core, spec: ModelSpec) -> bool:
    """Whether requests to a model are answered now; False while it loads. NotFound: the server does not know it."""
    try:
        core.find(spec)
    except Unavailable:
        return False
    except NotFound:
        core.status(spec.name, spec.version)  # NotFound for what nobody has seen
        return False
    return True


def index(core: Core, only_ready: bool = False) -> list[dict[str, str]]:
    """Every version: name, version, state (READY, LOADING, UNLOADING or UNAVAILABLE) and the reason for it."""
    rows = [{**row, "state": _STATES.get(row["state"], "UNAVAILABLE")} for row in core.index()]
    return [row for row in rows if row["state"] == "READY"] if only_ready else rows


def metadata(core: Core, spec: ModelSpec) -> dict[str, Any]:
    """Versions, platform, inputs and outputs of a model; the signature is the one that a request would run."""
    servable, signature = find(core, spec)
    versions = [status.version for status in core.status(servable.name) if status.state is State.AVAILABLE]
    if spec.version is not None or spec.label is not None:
        versions = [servable.version]
    return {
        "name": servable.name,
        "versions": [str(number) for number in sorted(versions)],
        "platform": _platform(servable, signature.name),
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
    }


def config(core: Core, spec: ModelSpec) -> dict[str, Any]:
    """The part of a model's configuration that clients read. Shapes hold the batch axis, so max_batch_size is 0."""
    servable, signature = find(core, spec)
    platform = _platform(servable, signature.name)
    names = sorted(name for name in servable.signatures if name != INIT_OP)
    inputs = [
        {**_field(alias, info), "optional": alias in signature.defaults} for alias, info in signature.inputs.items()
    ]
    return {
        "name": servable.name,
        "platform": platform,
        "backend": platform.partition("_")[0],
        "max_batch_size": 0,
        "input": inputs,
        "output": [_field(alias, info) for alias, info in signature.outputs.items()],
        "parameters": {
            "signature_name": {"string_value": signature.name},
            "signatures": {"string_value": ",".join(names)},
        },
    }


def statistics(core: Core, spec: ModelSpec | None, snapshots: Iterable[Snapshot]) -> list[dict[str, Any]]:
    """Counts and times of a model, or of all: those of requests over every protocol, and of all versions together.

    snapshots  the metrics of each process of the server

    NotFound when the server does not know the model.
    """
    if spec is not None:
        core.find(spec)
    answered: dict[str, list[float]] = {}  # requests, microseconds
    failed: dict[str, float] = {}
    runs: dict[str, list[float]] = {}
    rows: dict[str, float] = {}
    for snapshot in snapshots:
        for labels, count in snapshot.get("own_request_count", ()):
            if labels[2] and labels[-1] != "OK":
                failed[labels[0]] = failed.get(labels[0], 0) + count
        for metric, into in (("own_request_latency", answered), ("own_runtime_latency", runs)):
            for labels, cells in snapshot.get(metric, ()):
                if labels[2]:  # the API; empty for questions about a model
                    total = into.setdefault(labels[0], [0, 0])
                    total[0] += sum(cells[:-1])
                    total[1] += cells[-1]
        for labels, count in snapshot.get("own_rows", ()):
            rows[labels[0]] = rows.get(labels[0], 0) + count
    found = []
    for row in index(core, only_ready=True):
        name = row["name"]
        if spec is None or (name == spec.name and row["version"] == str(core.find(spec).version)):
            ran = runs.get(name, [0, 0])
            found.append(
                {
                    "name": name,
                    "version": row["version"],
                    "last_inference": 0,
                    "inference_count": int(rows.get(name, 0)),
                    "execution_count": int(ran[0]),
                    "inference_stats": {
                        "success": _duration(*answered.get(name, [0, 0])),
                        "fail": _duration(failed.get(name, 0), 0),
                        "queue": _duration(0, 0),
                        "compute_input": _duration(0, 0),
                        "compute_infer": _duration(*ran),
                        "compute_output": _duration(0, 0),
                        "cache_hit": _duration(0, 0),
                        "cache_miss": _duration(0, 0),
                    },
                    "batch_stats": [],
                }
            )
    return found


def _duration(count: float, micros: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(micros * 1000)}


def _platform(servable: Any, signature: str) -> str:
    engine = servable.engines.get(signature)
    return _PLATFORMS.get(engine.name, engine.name.lower().replace(" ", "_")) if engine is not None else ""


def _tensors(infos: Mapping[str, TensorInfo]) -> list[dict[str, Any]]:
    return [
        {"name": alias, "datatype": datatypes.name_of(info.numpy), "shape": list(info.shape or ())}
        for alias, info in infos.items()
    ]


def _field(alias: str, info: TensorInfo) -> dict[str, Any]:
    datatype = datatypes.name_of(info.numpy)
    return {
        "name": alias,
        "data_type": _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}"),
        "dims": list(info.shape or ()),
    }
