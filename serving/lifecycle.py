"""What the flags make of a server: its repository, its manager, its watcher, and why it cannot start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from serving import config
from serving.errors import InvalidArgument
from serving.manager import Load, Manager
from serving.repository import ConfiguredRepository, FolderRepository, ModelConfig, Repository
from serving.watcher import Watcher


class StartError(Exception):
    """Why the server does not start: `<CODE>: <message>`."""


def check(options: SimpleNamespace) -> None:
    """InvalidArgument, in upstream's words where it has them, for flags that contradict each other."""
    if not options.port and not options.grpc_socket_path:
        raise InvalidArgument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if not options.repository and not options.model_base_path and not options.model_config_file:
        raise InvalidArgument(
            "Both server_options.model_base_path and server_options.model_config_file are empty! "
            "Name one of them, or --repository=DIR."
        )
    if options.repository and (options.model_base_path or options.model_config_file):
        raise InvalidArgument("--repository stands alone; leave out --model_base_path and --model_config_file")
    if options.batching_parameters_file and not options.enable_batching:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )


def make_repository(options: SimpleNamespace) -> Repository:
    """The folder, the configured models or the single model; InvalidArgument when it cannot be."""
    if options.repository:
        folder = Path(options.repository).absolute()
        if not folder.is_dir():
            raise InvalidArgument(f"--repository={options.repository} is not a folder; make it, models may come later")
        return FolderRepository(folder)
    if options.model_config_file:
        return ConfiguredRepository(config.read_models(Path(options.model_config_file)))
    config.check_base_path(options.model_name, options.model_base_path)
    return ConfiguredRepository([ModelConfig(options.model_name, Path(options.model_base_path))])


def make_manager(options: SimpleNamespace, load: Load, threads: int) -> Manager:
    """A manager that loads with `load`, `threads` versions at once unless the flags say how many."""
    return Manager(
        load,
        retries=max(0, options.max_num_load_retries),
        retry_interval_s=max(0.0, options.load_retry_interval_micros / 1e6),
        threads=options.num_load_threads if options.num_load_threads > 0 else threads,
    )


def make_watcher(options: SimpleNamespace, repository: Repository, manager: Manager) -> Watcher:
    """Polls as the flags say; FailedPrecondition when a label may not be given."""
    return Watcher(
        repository,
        manager,
        poll_wait_s=options.file_system_poll_wait_seconds,
        config_file=Path(options.model_config_file) if options.model_config_file else None,
        config_poll_wait_s=options.model_config_file_poll_wait_seconds,
        allow_unavailable_labels=options.allow_version_labels_for_unavailable_models,
    )


def check_start(manager: Manager, models: list[str]) -> None:
    """StartError when models have failed to load and none is available."""
    failed = [version for model in models if (version := manager.failure(model)) is not None]
    if failed and not manager.available():
        reasons = "".join(
            f"{{{{name: {v.model} version: {v.number}}} due to error: {v.error.code}: {v.error.message}}}, "
            for v in failed
            if v.error is not None
        )
        raise StartError(f"UNKNOWN: {len(failed)} servable(s) did not become available: {{{reasons}}}")
