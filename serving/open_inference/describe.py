"""What the protocol says of servers and models: metadata, configuration, statistics, the index of the repository.

Everything here is plain values, in the protocol's names: REST writes them as JSON, gRPC puts them into messages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ladle.clients.wire.open_inference import SIGNATURE
from ladle.serving.dataplane.core import DEFAULT_SIGNATURE, Core, ModelSpec
from ladle.serving.errors import NotFound, Unavailable
from ladle.serving.open_inference import datatypes
from ladle.serving.open_inference.inference import find
from ladle.serving.open_inference.traffic import TRAFFIC, traffic
from ladle.serving.repository.versions import State
from ladle.serving.servables.saved_model import INIT_OP, Signature, TensorInfo
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry import usage
from ladle.serving.telemetry.metrics import Snapshot

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"]
_STATES = {"START": "LOADING", "LOADING": "LOADING", "AVAILABLE": "READY", "UNLOADING": "UNLOADING"}
_PLATFORMS = {"ONNX Runtime": "onnxruntime_onnx", "TensorFlow": "tensorflow_savedmodel"}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING", "": "TYPE_INVALID"}


def server(core: Core) -> dict[str, Any]:
    """Name, version and extensions of the server; `traffic` is ours, of a server with splits and shadows."""
    extensions = [*EXTENSIONS, TRAFFIC] if core.has_traffic else EXTENSIONS
    return {"name": "ladle", "version": _version(), "extensions": extensions}


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
    rows = []
    for row in core.index():
        reason = row["reason"] or ("unloaded" if row["state"] == "END" else "")
        rows.append({**row, "state": _STATES.get(row["state"], "UNAVAILABLE"), "reason": reason})
    return [row for row in rows if row["state"] == "READY"] if only_ready else rows


def metadata(core: Core, spec: ModelSpec) -> dict[str, Any]:
    """Versions, platform, inputs and outputs of a model; the signature is the one that a request would run.

    No inputs and outputs, if a request must choose a signature.
    """
    servable, names, signature = _default(core, spec)
    versions = [status.version for status in core.status(servable.name) if status.state is State.AVAILABLE]
    if spec.version is not None or spec.label is not None:
        versions = [servable.version]
    return {
        "name": servable.name,
        "versions": [str(number) for number in sorted(versions)],
        "platform": platform(servable, signature.name if signature is not None else names[0]),
        **(_described(signature) if signature is not None else {"inputs": [], "outputs": []}),
    }


def config(core: Core, spec: ModelSpec, snapshots: Sequence[Snapshot] = ()) -> dict[str, Any]:
    """The part of a model's configuration that clients read. Shapes hold the batch axis, so max_batch_size is 0.

    snapshots  the metrics of every process of the server; read only if the model has splits or a shadow
    """
    servable, names, signature = _default(core, spec)
    engine = platform(servable, signature.name if signature is not None else names[0])
    inputs, outputs = [], []
    if signature is not None:
        inputs = [
            {**_field(alias, info), "optional": alias in signature.defaults} for alias, info in signature.inputs.items()
        ]
        outputs = [_field(alias, info) for alias, info in signature.outputs.items()]
    parameters = {
        **({SIGNATURE: signature.name} if signature is not None else {}),
        "signatures": ",".join(names),
        **{f"signature.{name}": json.dumps(_described(servable.signatures[name])) for name in names},
    }
    if (told := traffic(core, servable.name, snapshots)) is not None:
        parameters[TRAFFIC] = told
    return {
        "name": servable.name,
        "platform": engine,
        "backend": engine.partition("_")[0],
        "max_batch_size": 0,
        "input": inputs,
        "output": outputs,
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }


def statistics(core: Core, spec: ModelSpec | None, snapshots: Iterable[Snapshot]) -> list[dict[str, Any]]:
    """Counts and times of each version of a model, or of all: of requests over every protocol, since it was loaded.

    spec       a model: all of its versions that answer, or the one that is named; None: all models
    snapshots  the metrics of each process of the server

    NotFound when the server does not know the model.
    """
    number = None
    if spec is not None:
        servable = core.find(spec)
        number = str(servable.version) if spec.version is not None or spec.label is not None else None
    snapshots = list(snapshots)
    found, sizes = usage.totals(snapshots), usage.batches(snapshots)
    return [
        _statistics(row["name"], row["version"], found.get(key), sizes.get(key, {}))
        for row in index(core, only_ready=True)
        for key in [(row["name"], row["version"])]
        if spec is None or (row["name"] == spec.name and number in (None, row["version"]))
    ]


def _statistics(
    name: str, version: str, used: Mapping[str, float] | None, sizes: Mapping[int, Sequence[float]]
) -> dict[str, Any]:
    used = used or dict.fromkeys(usage.FIELDS, 0.0)
    requests = used["requests"]
    # perf_analyzer ends unless the three parts of a computation have the same count.
    return {
        "name": name,
        "version": version,
        "last_inference": int(used["last"] * 1000),
        "inference_count": int(used["rows"]),
        "execution_count": int(used["runs"]),
        "inference_stats": {
            "success": _duration(requests, used["request_s"]),
            "fail": _duration(used["failed"], used["failed_s"]),
            "queue": _duration(requests, used["queue_s"]),
            "compute_input": _duration(requests, 0.0),
            "compute_infer": _duration(requests, used["run_s"]),
            "compute_output": _duration(requests, 0.0),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(runs, 0.0),
                "compute_infer": _duration(runs, seconds),
                "compute_output": _duration(runs, 0.0),
            }
            for size, (runs, seconds) in sorted(sizes.items())
        ],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * 1e9)}


def platform(servable: Any, signature: str) -> str:
    """The protocol's word for the engine of a signature."""
    engine = servable.engines.get(signature)
    if engine is None:
        return ""
    name: str = engine.name.partition(" (")[0]  # what follows is the device
    return _PLATFORMS.get(name, name.lower().replace(" ", "_"))


def _tensors(infos: Mapping[str, TensorInfo]) -> list[dict[str, Any]]:
    return [
        {"name": alias, "datatype": datatypes.name_of(info.numpy), "shape": list(info.shape or ())}
        for alias, info in infos.items()
    ]


def _default(core: Core, spec: ModelSpec) -> tuple[Servable, list[str], Signature | None]:
    """The servable, the names of its signatures, and the one that runs without a name; None: there are several."""
    servable = core.find(spec)
    names = sorted(name for name in servable.signatures if name != INIT_OP)
    if not names or (not spec.signature and DEFAULT_SIGNATURE not in names and len(names) > 1):
        return servable, names or [""], None
    return servable, names, find(core, spec)[1]


def _described(signature: Signature) -> dict[str, Any]:
    """Inputs and outputs of one signature, as `metadata` has those of the signature that would run."""
    return {"inputs": _tensors(signature.inputs), "outputs": _tensors(signature.outputs)}


def _field(alias: str, info: TensorInfo) -> dict[str, Any]:
    datatype = datatypes.name_of(info.numpy)
    return {
        "name": alias,
        "data_type": _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}"),
        "dims": list(info.shape or ()),
    }
