"""The server's flags: TensorFlow Serving's names and defaults, and some of our own."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Literal

from ladle.serving.runtime.paths import MODEL_NAMES

Value = bool | int | float | str
_CPUS = os.cpu_count() or 1


@dataclass(frozen=True)
class Flag:
    """One flag. Its help says "(ours)" when TensorFlow Serving does not have it.

    use  `yes`; `no`: accepted without effect, because answers are the same; `refused`: the server does not start with
         another value than the default, because it could not do what the flag promises
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
        "Models",
        (
            "repository",
            "",
            "folder of models, or s3://, gs://, az://, https://: serve every <name>/<version>/ in it, also those that "
            "appear later (ours)",
        ),
        ("model_name", "default", "name of the model in --model_base_path"),
        ("model_base_path", "", "folder of one model, with a subfolder per version"),
        ("model_config_file", "", "ModelServerConfig in text format: several models, version policies, labels"),
        ("store_poll_wait_seconds", 10.0, "seconds between looks at object stores for new versions (ours)"),
        (
            "cache_dir",
            "",
            "folder for the versions that are fetched from object stores; default: $LADLE_CACHE/models, else "
            "~/.cache/ladle/models (ours)",
        ),
        (
            "max_cache_bytes",
            -1,
            "bytes that the versions in --cache_dir may take; -1: nine tenths of what is free there (ours)",
        ),
        (
            "traffic_config_file",
            "",
            "JSON file that splits the requests of models among versions and copies them to a shadow; needs "
            "--model_config_file (ours)",
        ),
        ("traffic_config_file_poll_wait_seconds", 1.0, "seconds between reads of that file; 0: read it once (ours)"),
        ("model_config_file_poll_wait_seconds", 0.0, "seconds between reads of that file; 0: read it once"),
        ("allow_config_reload", False, "let HandleReloadConfigRequest replace the models; needs --config_root (ours)"),
        (
            "config_root",
            "",
            "folder that must contain the base paths of configurations that arrive over gRPC; /: any folder (ours)",
        ),
        (
            "allow_model_control",
            False,
            "let clients load and unload models by request, as the Open Inference Protocol has it (ours)",
        ),
        (
            "file_system_poll_wait_seconds",
            1.0,
            "seconds between scans for new versions; 0: scan once; below 0: scan only at a reload",
        ),
        (
            "missing_base_path_stops_poll",
            False,
            "when one base path is missing, update no model at all, as TensorFlow Serving does (ours)",
        ),
        ("allow_version_labels_for_unavailable_models", False, "let a new label name a version that is not loaded"),
        ("saved_model_tags", "serve", "comma-separated tags of the MetaGraph to load"),
        ("model_name_pattern", MODEL_NAMES, "regular expression: folders of --repository that are models (ours)"),
        (
            "allow_symlinks",
            False,
            "follow symbolic links out of the repository or out of a base path; otherwise they are refused (ours)",
        ),
    ),
    *_group(
        "Ports and limits",
        ("host", "", "address to listen on; empty: all (gRPC: all of IPv4); --host=:: is all, IPv6 and IPv4 (ours)"),
        (
            "workers",
            1,
            "processes that share the ports; each serves all models and has its own queues and limits; --share_weights "
            "says what is in memory once (ours)",
        ),
        (
            "share_weights",
            True,
            "workers map the weights of graphs of 1 MiB or more from one file in a folder below $TMPDIR, removed "
            "at the end; false: each worker has its own (ours)",
        ),
        (
            "supervise",
            True,
            "with one worker: start the server again when a crash ends it or when it hangs; false: one process, which "
            "a debugger can follow (ours)",
        ),
        ("port", 8500, "gRPC port"),
        ("grpc_socket_path", "", "path of a UNIX socket for gRPC, in addition to the port"),
        ("rest_api_port", 0, "REST port; 0: no REST"),
        (
            "allow_missing_rest_api",
            False,
            "go on with gRPC alone when the REST port cannot be opened, as TensorFlow Serving does; false: end (ours)",
        ),
        ("rest_api_timeout_in_ms", 30000, "milliseconds that a REST inference may take from its arrival; 0: no limit"),
        ("rest_api_enable_cors_support", False, "send CORS headers with REST answers"),
        (
            "grpc_backend",
            "auto",
            "gRPC server: native (faster), grpcio (TLS, more channel arguments), or auto: native if it can (ours)",
        ),
        ("grpc_channel_arguments", "", "comma-separated name=value pairs for the gRPC server"),
        ("ssl_config_file", "", "SSLConfig in text format, with PEM contents: TLS for the gRPC port and socket"),
        ("enable_grpc_healthcheck_service", True, "grpc.health.v1; it is always on", "no"),
        ("use_alts_credentials", False, "Google ALTS; not supported, use --ssl_config_file"),
        (
            "shutdown_grace_seconds",
            30,
            "seconds that running requests get after SIGTERM; a second SIGTERM stops the server at once (ours)",
        ),
        ("max_request_bytes", 64 * 1024 * 1024, "largest request body in bytes, both packed and unpacked (ours)"),
        (
            "max_buffered_bytes",
            2**30,
            "bytes of all requests that are arriving; over REST, also of those that wait for their answer (ours)",
        ),
        ("max_header_bytes", 64 * 1024, "largest request headers in bytes (ours)"),
        ("max_json_depth", 100, "deepest nesting of lists and objects in a JSON body; 0: no limit (ours)"),
        ("max_image_pixels", 2**24, "largest PNG or JPEG image to decode, in pixels; 0: no limit (ours)"),
        ("max_connections", 4096, "open connections, REST and gRPC counted separately; 0: no limit (ours)"),
        ("max_concurrent_streams", 256, "concurrent requests on one gRPC connection (ours)"),
        (
            "request_read_seconds",
            60.0,
            "seconds in which a request must arrive completely, and the client must take its answer (ours)",
        ),
        ("keep_alive_seconds", 75.0, "seconds after which an idle REST connection is closed (ours)"),
    ),
    *_group(
        "Loading",
        (
            "max_resident_bytes",
            0,
            "bytes of models in memory: load a model at its first request, and unload those used longest ago when they "
            "take more; 0: load all models (ours)",
        ),
        ("max_num_load_retries", 5, "further attempts after a failed load; with --repository, the default is 0"),
        ("load_retry_interval_micros", 60_000_000, "microseconds between attempts"),
        ("retry_changed_versions", True, "load a failed version again when its files change (ours)"),
        ("num_load_threads", 0, "versions that load concurrently; 0: the number of cores"),
        (
            "wait_for_models",
            False,
            "open the ports only when every configured model is loaded, as TensorFlow Serving does (ours)",
        ),
        (
            "version_transition_policy",
            "availability",
            "availability: load the new version, then unload the old one; resource: unload first (ours)",
        ),
        ("num_unload_threads", 0, "unloading needs no thread here", "no"),
        ("enable_model_warmup", True, "run the requests in assets.extra/tf_serving_warmup_requests before serving"),
        ("num_request_iterations_for_warmup", 0, "times that each warm-up request runs; 0: once"),
    ),
    *_group(
        "Answers",
        ("enable_serialization_as_tensor_content", False, "send gRPC outputs as tensor_content"),
        (
            "enable_signature_method_name_check",
            False,
            "refuse a signature whose method name does not fit Predict, Classify or Regress",
        ),
    ),
    *_group(
        "Running models",
        (
            "engine",
            "auto",
            "onnx: verified ONNX graphs only; tensorflow: SavedModels only; auto: the graph if there is one (ours)",
        ),
        (
            "device",
            "cpu",
            "what ONNX Runtime computes on: cpu; cuda:0 and so on, which needs the wheel onnxruntime-gpu and NVIDIA's "
            "driver; auto: cuda:0 if it can be used (ours)",
        ),
        (
            "gpu_memory_limit_bytes",
            0,
            "most of a GPU's memory that each session of a graph takes for tensors; 0: any (ours)",
        ),
        (
            "gpu_arena",
            "exact",
            "how that memory grows. exact: by what a run needs, so that models share a GPU; doubling: by powers of two "
            "(ours)",
        ),
        (
            "gpu_convolutions",
            "estimated",
            "how cuDNN chooses convolutions. estimated; measured: at each new shape, which takes seconds, and before a "
            "version is served at one row and at each of the allowed_batch_sizes (ours)",
        ),
        (
            "gpu_sessions",
            1,
            "sessions of each graph on a GPU; each has memory and streams of its own, so that runs overlap (ours)",
        ),
        ("gpu_io_binding", False, "bind inputs and outputs of a run on the GPU (ours)"),
        (
            "enable_batching",
            False,
            "merge requests that wait while all engines are busy; no request waits for another while one is idle",
        ),
        ("batching_parameters_file", "", "BatchingParameters in text format; needs --enable_batching"),
        (
            "batching_parameters_file_poll_wait_seconds",
            0.0,
            "seconds between reads of that file, or of the files of --enable_per_model_batching_parameters; 0: read "
            "them once (ours)",
        ),
        (
            "enable_per_model_batching_parameters",
            False,
            "read batching_params.pbtxt in the folder of each version instead; a version without it is not batched",
        ),
        ("prefer_tflite_model", False, "run model.tflite where a version has one; needs TensorFlow"),
        (
            "num_tflite_pools",
            _CPUS,
            "concurrent runs of one model.tflite are this times --num_tflite_interpreters_per_pool; "
            "default: the number of cores",
        ),
        ("num_tflite_interpreters_per_pool", 1, "interpreters; see --num_tflite_pools"),
        (
            "tensorflow_intra_op_parallelism",
            0,
            "threads of one run, in both engines; 0: measured per model (ONNX Runtime) or all cores (TensorFlow)",
        ),
        ("tensorflow_inter_op_parallelism", 0, "operations that run concurrently, TensorFlow only; 0: all cores"),
        ("tensorflow_session_parallelism", 0, "sets both of these where they are not given"),
        (
            "tensorflow_process",
            hasattr(socket, "send_fds"),
            "TensorFlow runs in a process of its own, which starts with the first model that needs it and ends with "
            "the last; its crashes do not end the server (ours)",
        ),
        (
            "max_run_bytes",
            -1,
            "memory that one run of a model may need, in bytes: larger batches run in parts, what does not fit is "
            "refused; 0: no limit; -1: a quarter of the memory of the machine or its control group, less with "
            "--workers (ours)",
        ),
        ("max_queued_requests", 1000, "requests of all models that may wait for an engine; 0: no limit (ours)"),
        ("max_queued_requests_per_model", 500, "requests of one model that may wait for an engine; 0: no limit (ours)"),
        ("max_queued_bytes", 256 * 1024 * 1024, "bytes of inputs of all waiting requests; 0: no limit (ours)"),
        (
            "max_queued_seconds",
            1.5,
            "seconds: a request that would wait longer for an engine, and longer than four runs, is refused at once; "
            "so is one that the server read so late; 0: no limit (ours)",
        ),
    ),
    *_group(
        "Metrics and log",
        (
            "monitoring_config_file",
            "",
            "MonitoringConfig in text format: turns on Prometheus metrics on the REST port, and sets their path",
        ),
        (
            "enable_metrics",
            False,
            "without such a file: Prometheus metrics on the REST port (ours)",
        ),
        (
            "metrics_path",
            "/monitoring/prometheus/metrics",
            "path of the metrics, unless such a file has another (ours)",
        ),
        ("access_log", False, "log a line for each request, with its x-request-id, over gRPC and REST alike (ours)"),
        (
            "request_log_dir",
            "",
            "folder for the files of models with a logging_config; without it a logging_config is refused (ours)",
        ),
        ("max_request_log_bytes", 2**30, "bytes of all files with one filename_prefix; the oldest go first (ours)"),
        (
            "request_log_redact",
            "",
            "comma-separated inputs, outputs and tf.Example features whose values are not logged; *: all (ours)",
        ),
        (
            "otlp_endpoint",
            "",
            "http://HOST:PORT of an OpenTelemetry collector that gets the traces; OTEL_* variables count, too (ours)",
        ),
        (
            "profile_dir",
            "",
            "folder of TensorBoard's logs: turns tensorflow.ProfilerService on, which writes profiles below it (ours)",
        ),
        ("log_format", "text", "text, or json: each line of the log is a JSON object (ours)"),
    ),
    *_group(
        "Accepted for compatibility with TensorFlow Serving",
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
