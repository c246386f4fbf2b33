"""Settings that a server takes but that change nothing, each with one sentence for the operator.

TensorFlow Serving takes most of them silently. The table of flags says which never have an effect here; this module
adds those that need another flag, and the fields of the files that flags name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ladle.serving.errors import InvalidArgument

Options = SimpleNamespace
_Row = tuple[tuple[str, ...], Callable[[Options], bool], str]

CONDITIONS: list[_Row] = [
    (
        ("model_name", "model_base_path"),
        lambda o: bool(o.model_config_file or o.repository),
        "beside --model_config_file or --repository, which say what is served",
    ),
    (("model_config_file_poll_wait_seconds",), lambda o: not o.model_config_file, "without --model_config_file"),
    (
        ("traffic_config_file_poll_wait_seconds",),
        lambda o: not o.traffic_config_file,
        "without --traffic_config_file",
    ),
    (("config_root",), lambda o: not o.allow_config_reload, "without --allow_config_reload"),
    (("model_name_pattern",), lambda o: not o.repository, "without --repository"),
    (
        ("missing_base_path_stops_poll", "wait_for_models", "allow_version_labels_for_unavailable_models"),
        lambda o: bool(o.repository),
        "with --repository, whose folders are neither base paths nor labelled",
    ),
    (
        (
            "allow_missing_rest_api",
            "rest_api_timeout_in_ms",
            "rest_api_enable_cors_support",
            "max_json_depth",
            "keep_alive_seconds",
            "monitoring_config_file",
            "enable_metrics",
            "metrics_path",
        ),
        lambda o: not o.rest_api_port,
        "without --rest_api_port",
    ),
    (("enable_metrics",), lambda o: bool(o.monitoring_config_file), "beside --monitoring_config_file, which decides"),
    (
        ("metrics_path",),
        lambda o: not (o.enable_metrics or o.monitoring_config_file),
        "without --enable_metrics or --monitoring_config_file",
    ),
    (("max_request_log_bytes", "request_log_redact"), lambda o: not o.request_log_dir, "without --request_log_dir"),
    (
        ("request_log_dir",),
        lambda o: not o.model_config_file and not o.allow_config_reload,
        "without --model_config_file, whose logging_config says which models are logged",
    ),
    (("supervise",), lambda o: o.workers > 1, "with --workers above 1, which are supervised"),
    (
        ("enable_per_model_batching_parameters", "batching_parameters_file_poll_wait_seconds"),
        lambda o: not o.enable_batching,
        "without --enable_batching",
    ),
    (
        ("batching_parameters_file_poll_wait_seconds",),
        lambda o: o.enable_batching and not (o.batching_parameters_file or o.enable_per_model_batching_parameters),
        "without --batching_parameters_file or --enable_per_model_batching_parameters",
    ),
    (
        ("num_tflite_pools", "num_tflite_interpreters_per_pool"),
        lambda o: not o.prefer_tflite_model,
        "without --prefer_tflite_model",
    ),
    (
        ("tensorflow_inter_op_parallelism",),
        lambda o: o.engine == "onnx",
        "with --engine=onnx, which runs the operations of a graph one after the other",
    ),
    (("prefer_tflite_model",), lambda o: o.engine == "onnx", "with --engine=onnx"),
    (("num_request_iterations_for_warmup",), lambda o: not o.enable_model_warmup, "with --enable_model_warmup=false"),
    (
        ("load_retry_interval_micros",),
        lambda o: o.max_num_load_retries <= 0,
        "where loads are not retried (--max_num_load_retries, 0 with --repository)",
    ),
]
"""Flags, when they have no effect, and the reason after "--flag has no effect"."""


def settings(options: Options, defaults: Mapping[str, object]) -> list[str]:
    """A sentence for each flag, and each field of the files that flags name, that has no effect beside the others.

    defaults  of the flags, by name
    """
    found = [
        f"--{name} has no effect {reason}"
        for names, is_idle, reason in CONDITIONS
        if is_idle(options)
        for name in names
        if getattr(options, name) != defaults[name]
    ]
    for flag, read in _FILES.items():
        path = getattr(options, flag)
        with contextlib.suppress(InvalidArgument):  # the server refuses the file when it starts, and says why
            found += [f"{path}: {sentence}" for sentence in read(Path(path), options)] if path else []
    return found


def _batching(path: Path, options: Options) -> Iterator[str]:
    from ladle.serving.servables.batching_parameters import parse_batching

    if options.enable_batching:
        batching = parse_batching(_read(path, "BatchingParameters"))
        yield from batching.unused(options.enable_per_model_batching_parameters)


def _monitoring(path: Path, options: Options) -> Iterator[str]:
    config = _read(path, "MonitoringConfig").prometheus_config
    if not config.enable and options.rest_api_port:
        yield "it turns no metrics on; for them, write prometheus_config { enable: true }"


def _tls(path: Path, options: Options) -> Iterator[str]:
    config = _read(path, "SSLConfig")
    if config.custom_ca and not config.client_verify:
        yield "custom_ca has no effect without client_verify: true"


def _read(path: Path, name: str) -> Any:
    from ladle.clients.wire import messages
    from ladle.serving.runtime.text_proto import read_text_proto

    return read_text_proto(path, getattr(messages, name), report=False)


_FILES: dict[str, Callable[[Path, Options], Iterator[str]]] = {
    "batching_parameters_file": _batching,
    "monitoring_config_file": _monitoring,
    "ssl_config_file": _tls,
}
