"""The server's flags: TensorFlow Serving's names, syntax and defaults, and a few of our own.

`--name=value`, also `--name value`; a boolean takes `true`, `false` or nothing. The last of repeated flags counts.
An unknown flag is said and skipped, as TensorFlow Serving does.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

from ladle.serving.repository.folders import MODEL_NAMES

Value = bool | int | float | str
_CPUS = os.cpu_count() or 1


@dataclass(frozen=True)
class Flag:
    """One flag.

    use  `yes`; `no`: accepted and without effect, since answers are the same; `refused`: starting with it would
         promise what this server does not do
    """

    name: str
    default: Value
    help: str
    group: str
    use: Literal["yes", "no", "refused"] = "yes"


def _group(name: str, *rows: tuple[str, Value, str] | tuple[str, Value, str, Literal["no", "refused"]]) -> list[Flag]:
    return [Flag(row[0], row[1], row[2], name, row[3] if len(row) == 4 else "yes") for row in rows]


FLAGS = [
    *_group(
        "What is served",
        ("repository", "", "folder whose every folder <name>/<version>/ is served; models may come and go (ours)"),
        ("model_name", "default", "name of the single model"),
        ("model_base_path", "", "folder of the single model, which holds <version>/"),
        ("model_config_file", "", "ModelServerConfig in text format: several models, version policies, labels"),
        ("model_config_file_poll_wait_seconds", 0.0, "seconds between readings of that file; 0: once"),
        ("allow_config_reload", False, "HandleReloadConfigRequest may replace the models; needs config_root (ours)"),
        ("config_root", "", "folder that must hold the base paths of configurations over gRPC; /: any (ours)"),
        ("file_system_poll_wait_seconds", 1.0, "seconds between looks for new versions; 0: once, below 0: at a reload"),
        ("missing_base_path_stops_poll", False, "one missing base path leaves all models as they are (upstream's way)"),
        ("allow_version_labels_for_unavailable_models", False, "new labels may name versions that are not loaded"),
        ("saved_model_tags", "serve", "comma-separated tags of the MetaGraph"),
        ("model_name_pattern", MODEL_NAMES, "what a folder of --repository must be called to be a model (ours)"),
        ("allow_symlinks", False, "symbolic links may lead out of the repository, or out of a base path (ours)"),
    ),
    *_group(
        "Ports and limits",
        ("host", "", "address to listen on; empty: all (ours)"),
        ("workers", 1, "processes that share the ports; each has all models, and limits count for each (ours)"),
        ("port", 8500, "gRPC port"),
        ("grpc_socket_path", "", "UNIX socket for gRPC beside the port"),
        ("rest_api_port", 0, "REST port; 0: no REST"),
        ("rest_api_timeout_in_ms", 30000, "milliseconds from its arrival that a REST inference may take; 0: any"),
        ("rest_api_enable_cors_support", False, "CORS headers on REST answers"),
        ("grpc_backend", "auto", "gRPC server: native (quick), grpcio (TLS, more channel arguments) or auto (ours)"),
        ("grpc_channel_arguments", "", "comma-separated name=value for the gRPC server"),
        ("ssl_config_file", "", "TLS of the gRPC port and socket: SSLConfig in text format, PEM contents inside"),
        ("enable_grpc_healthcheck_service", True, "grpc.health.v1; here always on", "no"),
        ("use_alts_credentials", False, "Google ALTS; not supported: use --ssl_config_file"),
        ("shutdown_grace_seconds", 30, "seconds for running requests after SIGTERM; a second one ends at once (ours)"),
        ("max_request_bytes", 64 * 1024 * 1024, "bytes of a request's body, before and after gzip (ours)"),
        ("max_buffered_bytes", 2**30, "bytes of all requests that arrive, over REST also of those that wait (ours)"),
        ("max_header_bytes", 64 * 1024, "bytes of a request's headers (ours)"),
        ("max_json_depth", 100, "lists and objects in each other in a JSON body; 0: any (ours)"),
        ("max_image_pixels", 2**24, "pixels of an image that is decoded, PNG or JPEG; 0: any (ours)"),
        ("max_connections", 4096, "connections at once, REST and gRPC each; 0: any (ours)"),
        ("max_concurrent_streams", 256, "requests at once on one gRPC connection (ours)"),
        ("request_read_seconds", 60.0, "seconds in which a request must have arrived, or its answer be taken (ours)"),
        ("keep_alive_seconds", 75.0, "seconds that a REST connection may be idle (ours)"),
    ),
    *_group(
        "Loading",
        ("max_num_load_retries", 5, "further attempts after a failed load (with --repository: 0)"),
        ("load_retry_interval_micros", 60_000_000, "microseconds between attempts"),
        ("retry_changed_versions", True, "a version that failed to load is tried again when its files change (ours)"),
        ("num_load_threads", 0, "versions that load at once; 0: as many as cores"),
        ("wait_for_models", False, "ports stay closed until every configured model is loaded (upstream's way)"),
        (
            "version_transition_policy",
            "availability",
            "availability: load the new, then unload; resource: unload first (ours)",
        ),
        ("num_unload_threads", 0, "unloading takes no thread here", "no"),
        ("enable_model_warmup", True, "answer assets.extra/tf_serving_warmup_requests before serving"),
        ("num_request_iterations_for_warmup", 0, "how often each warm-up request is answered; 0: once"),
    ),
    *_group(
        "Answers",
        ("enable_serialization_as_tensor_content", False, "gRPC answers as tensor_content"),
        ("enable_signature_method_name_check", False, "Classify and Regress look at the signature's method name"),
    ),
    *_group(
        "Running",
        (
            "engine",
            "auto",
            "onnx: verified graphs; tensorflow: the SavedModel; auto: a graph where there is one (ours)",
        ),
        ("enable_batching", False, "merge requests that wait while all engines are busy; none waits for others"),
        ("batching_parameters_file", "", "BatchingParameters in text format; needs enable_batching"),
        (
            "enable_per_model_batching_parameters",
            False,
            "read batching_params.pbtxt in each version's folder instead; a version without one is not merged",
        ),
        ("prefer_tflite_model", False, "run a version's model.tflite where there is one (needs TensorFlow)"),
        ("num_tflite_pools", _CPUS, "times num_tflite_interpreters_per_pool: runs of one model.tflite at once"),
        ("num_tflite_interpreters_per_pool", 1, "see num_tflite_pools"),
        (
            "tensorflow_intra_op_parallelism",
            0,
            "threads of a run, both engines; 0: measured (ONNX Runtime), all cores (TensorFlow)",
        ),
        ("tensorflow_inter_op_parallelism", 0, "operations at once, TensorFlow alone; 0: as many as cores"),
        ("tensorflow_session_parallelism", 0, "both of these, where they are not given"),
        ("max_queued_requests", 1000, "requests that may wait for an engine, of all models; 0: any (ours)"),
        ("max_queued_requests_per_model", 500, "requests that may wait for an engine, of one model; 0: any (ours)"),
        ("max_queued_bytes", 256 * 1024 * 1024, "bytes of the inputs of all waiting requests; 0: any (ours)"),
    ),
    *_group(
        "Metrics",
        (
            "monitoring_config_file",
            "",
            "MonitoringConfig in text format: whether Prometheus finds metrics on the REST port, and under which path",
        ),
        ("enable_metrics", False, "without that file: metrics at /monitoring/prometheus/metrics (ours)"),
    ),
    *_group(
        "Accepted for TensorFlow Serving's sake",
        ("rest_api_num_threads", 4 * _CPUS, "one event loop answers REST", "no"),
        ("grpc_max_threads", 4 * _CPUS, "one event loop answers gRPC", "no"),
        ("enable_profiler", True, "", "no"),
        ("tensorflow_session_config_file", "", "", "no"),
        ("platform_config_file", "", "", "no"),
        ("thread_pool_factory_config_file", "", "", "no"),
        ("per_process_gpu_memory_fraction", 0.0, "", "no"),
        ("flush_filesystem_caches", True, "", "no"),
        ("remove_unused_fields_from_bundle_metagraph", True, "", "no"),
        ("mixed_precision", "", "", "no"),
        ("xla_cpu_compilation_enabled", False, "", "no"),
        ("xla_gpu_compilation_enabled", False, "", "no"),
        ("skip_initialize_tpu", False, "", "no"),
    ),
]
_BY_NAME = {flag.name: flag for flag in FLAGS}

EXAMPLES = """\
Examples:
  python -m ladle.serving --repository=model_repository --port=8500 --rest_api_port=8501
  python -m ladle.serving --repository=model_repository --rest_api_port=8501 --workers=4 --enable_metrics
  python -m ladle.serving --model_config_file=models.config --allow_config_reload --config_root=/models
  python -m ladle.serving --model_name=lenet5 --model_base_path=/models/lenet5 --rest_api_port=8501
  python -m ladle.serving --port 8500 --rest_api_port 8501 --model_config_file models.config
"""


class FlagError(Exception):
    """A known flag with a value that it cannot take."""


def parse(arguments: Sequence[str], say: bool = True) -> SimpleNamespace:
    """All flags by name. FlagError for a bad value; what is unknown or has no effect is said on stderr, with `say`."""
    doubts: list[str] = []
    values: dict[str, Value] = {flag.name: flag.default for flag in FLAGS}
    given = set()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, text = argument.removeprefix("--").partition("=")
        flag = _BY_NAME.get(name.replace("-", "_")) if argument.startswith("--") else None
        if flag is None:
            doubts.append(f"unknown argument: {argument} (skipped; --help lists the known ones)")
            if argument.startswith("--") and not equals and rest and not rest[0].startswith("--"):
                doubts.append(f"unknown argument: {rest.pop(0)}")
            continue
        if not equals and isinstance(flag.default, bool):
            text = rest.pop(0) if rest and rest[0] in ("true", "false") else "true"
        elif not equals:
            if not rest:
                raise FlagError(f"--{flag.name} needs a value: --{flag.name}={_kind(flag)}")
            text = rest.pop(0)
        values[flag.name] = _read(flag, text)
        given.add(flag.name)
        if flag.use == "refused" and values[flag.name] != flag.default:
            raise FlagError(f"--{flag.name} is not supported by this server; start it without")
        if flag.use == "no" and values[flag.name] != flag.default:
            doubts.append(f"--{flag.name} has no effect in this server")
    if say and doubts:
        print(*doubts, sep="\n", file=sys.stderr)
    if values["repository"] and "max_num_load_retries" not in given:
        values["max_num_load_retries"] = 0  # there versions are renamed into place: what fails once is broken
    return SimpleNamespace(**values)


def _read(flag: Flag, text: str) -> Value:
    if isinstance(flag.default, str):
        return text
    if isinstance(flag.default, bool):
        if text in ("true", "false"):
            return text == "true"
    elif isinstance(flag.default, int):
        if re.fullmatch("-?[0-9]{1,18}", text):
            return int(text)
    elif re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,3})?", text, re.ASCII | re.IGNORECASE):
        return float(text)
    raise FlagError(f"--{flag.name}={text}: wanted {_kind(flag)}")


def _kind(flag: Flag) -> str:
    return {bool: "true or false", int: "an integer", float: "a number", str: "text"}[type(flag.default)]


def usage() -> str:
    """What --help prints."""
    lines = [
        "usage: python -m ladle.serving --repository=DIR | --model_base_path=DIR | --model_config_file=FILE [flags]"
    ]
    lines += ["", "Serves SavedModels and their verified ONNX graphs the way TensorFlow Serving does."]
    group = ""
    for flag in FLAGS:
        if flag.group != group:
            group = flag.group
            lines += ["", f"{group}:"]
        default = str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
        text = flag.help or "no effect here"
        if flag.help and flag.use == "no":
            text += "; no effect here"
        elif flag.use == "refused":
            text += "; not supported"
        lines.append(f"  --{flag.name}={default if default != '' else '...'}")
        lines.append(f"      {text}")
    lines += ["", "  --version", "      version of the server and of its engines", "", EXAMPLES.rstrip()]
    return "\n".join(lines)
