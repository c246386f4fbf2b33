"""Makes the repository, the manager and the watcher from the flags, and decides when the ports may open."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ladle.serving.errors import InvalidArgument, StartError
from ladle.serving.repository import config
from ladle.serving.repository.demand import Demand
from ladle.serving.repository.folders import (
    ConfiguredRepository,
    FolderRepository,
    ModelConfig,
    Repository,
    StoreRepository,
)
from ladle.serving.repository.manager import Load, Manager
from ladle.serving.repository.versions import L, Versions, describe
from ladle.serving.repository.watcher import Watcher
from ladle.serving.stores import location
from ladle.serving.stores.location import is_remote
from ladle.serving.stores.mirror import Mirror

log = logging.getLogger(__name__)


def missing_rest_api(options: SimpleNamespace, why: str) -> None:
    """Says why there is no REST. StartError, unless --allow_missing_rest_api is given."""
    if not options.allow_missing_rest_api:
        raise StartError(f"UNKNOWN: no REST: {why}; choose another --rest_api_port, or give --allow_missing_rest_api")
    log.error("REST is off: %s", why)


def check(options: SimpleNamespace) -> None:
    """InvalidArgument for flags that contradict each other, in TensorFlow Serving's words where it has them."""
    if not options.port and not options.grpc_socket_path:
        raise InvalidArgument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if not options.repository and not options.model_base_path and not options.model_config_file:
        raise InvalidArgument(
            "Both server_options.model_base_path and server_options.model_config_file are empty! "
            "Set one of them, or --repository=DIR."
        )
    if options.repository and (options.model_base_path or options.model_config_file):
        raise InvalidArgument(
            "got --repository together with --model_base_path or --model_config_file; give one of the three"
        )
    if options.batching_parameters_file and not options.enable_batching:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if options.use_alts_credentials and options.ssl_config_file:
        raise InvalidArgument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if options.use_alts_credentials:
        raise InvalidArgument("--use_alts_credentials is not supported; use --ssl_config_file")
    parallelism = (
        options.tensorflow_session_parallelism,
        options.tensorflow_intra_op_parallelism,
        options.tensorflow_inter_op_parallelism,
    )
    if all(threads > 0 for threads in parallelism):
        raise InvalidArgument(
            "Either configure server_options.tensorflow_session_parallelism or (server_options.tensorflow_intra_op_"
            "parallelism, server_options.tensorflow_inter_op_parallelism) separately. You cannot configure all."
        )
    if options.version_transition_policy not in ("availability", "resource"):
        raise InvalidArgument(
            f"unknown --version_transition_policy={options.version_transition_policy}; "
            "expected availability or resource"
        )
    # Whoever reaches the gRPC port could otherwise make the server read any folder of the machine.
    if options.allow_config_reload and not options.config_root:
        raise InvalidArgument(
            "--allow_config_reload needs --config_root=DIR, the folder that must hold the base paths of configurations "
            "sent over gRPC; --config_root=/ allows any folder"
        )
    if options.traffic_config_file and not options.model_config_file:
        raise InvalidArgument(
            "--traffic_config_file needs --model_config_file: only a models.config loads several versions of a model; "
            "`ladle config` writes one"
        )
    if options.max_resident_bytes < 0:
        raise InvalidArgument(f"got --max_resident_bytes={options.max_resident_bytes}; expected 0 or more bytes")
    if options.workers < 1:
        raise InvalidArgument(f"got --workers={options.workers}; expected 1 or more")
    if options.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise InvalidArgument(
            "--workers needs ports that processes can share (SO_REUSEPORT), which this system lacks; leave it out"
        )
    # SO_REUSEPORT spreads the connections to a TCP port over processes; UNIX sockets have nothing like it.
    if options.workers > 1 and options.grpc_socket_path:
        raise InvalidArgument("only one process can serve --grpc_socket_path; leave out --workers, or use --port")
    try:
        re.compile(options.model_name_pattern)
    except re.error as error:
        raise InvalidArgument(
            f"got --model_name_pattern={options.model_name_pattern}; expected a regular expression: {error}"
        ) from None


def make_mirror(options: SimpleNamespace) -> Mirror:
    """The object stores that the flags describe; nothing is opened yet."""
    # A server that looks at folders only once does so with stores, too.
    poll_s = options.store_poll_wait_seconds if options.file_system_poll_wait_seconds > 0 else 0.0
    return Mirror(_cache_dir(options), options.max_cache_bytes, max(0.0, poll_s))


def _cache_dir(options: SimpleNamespace) -> Path:
    if options.cache_dir:
        return Path(options.cache_dir).absolute()
    return Path(os.environ.get("LADLE_CACHE") or Path.home() / ".cache" / "ladle") / "models"


def make_repository(options: SimpleNamespace, mirror: Mirror | None = None) -> Repository:
    """The models of --repository, --model_config_file or --model_base_path; InvalidArgument for unusable ones.

    mirror  of the object stores; its ServingErrors when a store can never answer as things are
    """
    mirror = mirror or make_mirror(options)
    if is_remote(options.repository):
        return StoreRepository(location.parse(options.repository), mirror, names=options.model_name_pattern)
    if options.repository:
        folder = Path(options.repository).absolute()
        if not folder.is_dir():
            raise InvalidArgument(f"--repository={options.repository} is not a folder; create it, even empty")
        return FolderRepository(folder, names=options.model_name_pattern)
    if options.model_config_file:
        models = config.read_models(Path(options.model_config_file), _log_folder(options))
    else:
        config.check_base_path(options.model_name, options.model_base_path)
        path = options.model_base_path
        models = [
            ModelConfig(options.model_name, Path(path), location=location.parse(path) if is_remote(path) else None)
        ]
    return ConfiguredRepository(models, options.missing_base_path_stops_poll, mirror)


def make_manager(
    options: SimpleNamespace,
    load: Load[L],
    threads: int,
    show: Callable[[], None] = lambda: None,
    mirror: Mirror | None = None,
    uses: Callable[[], Mapping[str, float]] = dict,
) -> Manager[L]:
    """The manager that the flags describe.

    load     makes a servable of (model, version, folder)
    threads  versions that load at once, unless --num_load_threads says otherwise
    show     called after each change
    mirror   of the object stores
    uses     number of requests so far by model
    """
    manager = Manager(
        load,
        retries=max(0, options.max_num_load_retries),
        retry_interval_s=max(0.0, options.load_retry_interval_micros / 1e6),
        threads=options.num_load_threads if options.num_load_threads > 0 else threads,
        retry_changed=options.retry_changed_versions,
        unload_first=options.version_transition_policy == "resource",
        show=show,
        files=mirror,
        demand=Demand(options.max_resident_bytes, uses) if options.max_resident_bytes else None,
    )
    if mirror is not None:
        mirror.in_use = manager.folders
    return manager


def make_watcher(options: SimpleNamespace, repository: Repository, manager: Manager[Any]) -> Watcher:
    """The watcher that the flags describe.

    FailedPrecondition when a label names a version that cannot answer; InvalidArgument for unusable traffic.
    """
    return Watcher(
        repository,
        manager,
        poll_wait_s=options.file_system_poll_wait_seconds,
        config_file=Path(options.model_config_file) if options.model_config_file else None,
        config_poll_wait_s=options.model_config_file_poll_wait_seconds,
        allow_unavailable_labels=options.allow_version_labels_for_unavailable_models,
        config_root=Path(options.config_root) if options.config_root else None,
        waits_for_models=options.wait_for_models,
        log_folder=_log_folder(options),
        traffic_file=Path(options.traffic_config_file) if options.traffic_config_file else None,
        traffic_poll_wait_s=options.traffic_config_file_poll_wait_seconds,
    )


def _log_folder(options: SimpleNamespace) -> Path | None:
    """The folder of request logs. InvalidArgument when it is none, or its limit leaves no room for a file."""
    if not options.request_log_dir:
        return None
    folder = Path(options.request_log_dir).absolute()
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidArgument(f"got --request_log_dir={options.request_log_dir}; expected a folder to write into")
    if options.max_request_log_bytes < 2**20:
        raise InvalidArgument(
            f"got --max_request_log_bytes={options.max_request_log_bytes}; expected at least 1048576 (1 MiB)"
        )
    return folder


def is_loaded(options: SimpleNamespace, manager: Versions, watcher: Watcher) -> bool:
    """Whether the ports may open: each configured model is available or has failed.

    Only --wait_for_models waits for a model whose base path is missing or holds no version.
    StartError when models failed and none is available; with --wait_for_models, when any failed.
    """
    repository = watcher.repository
    if not repository.requires_models:  # a folder may fill later, so there is nothing to wait for
        return True
    models = list(repository.configured())
    if not all(manager.is_settled(model) for model in models):
        return False
    failures = [failure for model in models if (failure := manager.failure(model)) is not None]
    if failures and (options.wait_for_models or not manager.available()):
        raise StartError(f"UNKNOWN: {len(failures)} servable(s) did not become available: {{{describe(failures)}}}")
    return not options.wait_for_models or all(
        manager.is_available(model) or manager.is_loadable(model) for model in models
    )
