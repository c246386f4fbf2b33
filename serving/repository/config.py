"""Reads a ModelServerConfig: which models to serve, from which folder, which versions, under which labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import InvalidArgument, NotFound, PermissionDenied
from ladle.serving.repository.folders import ModelConfig, Policy, RequestLogging
from ladle.serving.runtime.paths import is_inside
from ladle.serving.runtime.text_proto import read_text_proto
from ladle.serving.stores import location

COLLECTOR = "file"
"""The one type of log collector: TFRecord files in a folder of the server."""
_TENSORFLOW = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1


def read_models(path: Path, log_folder: Path | None = None) -> list[ModelConfig]:
    """The models of a ModelServerConfig file; InvalidArgument in TensorFlow Serving's words."""
    return parse_models(read_text_proto(path, pb.ModelServerConfig), None, log_folder)


def parse_models(config: Any, root: Path | None = None, log_folder: Path | None = None) -> list[ModelConfig]:
    """The models of a ModelServerConfig message; none for an empty message. `root` and errors as in `check_paths`.

    log_folder  that holds the files of request logs; None: no request is logged, and a logging_config is refused
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("got a custom_model_config, which is not supported; expected a model_config_list")
    check_paths(config, root)
    entries = config.model_config_list.config
    for entry in entries:
        check_platform(entry)
    logging = [_parse_logging(entry, log_folder) for entry in entries]
    return [
        ModelConfig(
            entry.name,
            _path(entry.base_path),
            _parse_policy(entry.model_version_policy),
            dict(entry.version_labels),
            root,
            logged,
            location.parse(entry.base_path) if location.is_remote(entry.base_path) else None,
        )
        for entry, logged in zip(entries, logging, strict=True)
    ]


def check_paths(config: Any, root: Path | None = None) -> None:
    """InvalidArgument for a repeated model name and for a base path that is not absolute.

    root  folder that must hold every base path; PermissionDenied for one outside. None: any folder
    """
    names = set()
    for entry in config.model_config_list.config:
        if entry.name in names:
            raise InvalidArgument(f"Illegal to list model {entry.name} multiple times in config list")
        names.add(entry.name)
    # TensorFlow Serving checks all names before the first path, so the second fault of a config never hides the first.
    for entry in config.model_config_list.config:
        check_base_path(entry.name, entry.base_path)
        if root is not None and (location.is_remote(entry.base_path) or not is_inside(_path(entry.base_path), root)):
            raise PermissionDenied(f"The base path of model {entry.name} is not below the server's --config_root")


def check_base_path(name: str, base_path: str) -> None:
    """InvalidArgument for a relative base path, and for a URI of a file system that is not supported."""
    if location.is_remote(base_path):
        try:
            location.parse(base_path)
        except InvalidArgument as error:
            raise InvalidArgument(f"model {name}: {error.message}") from None
        return
    if not _path(base_path).is_absolute():
        raise InvalidArgument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")


def check_platform(entry: Any) -> str:
    """The platform of a ModelConfig message; InvalidArgument unless it is TensorFlow."""
    platform = read_platform(entry)
    if platform != _TENSORFLOW:
        raise InvalidArgument(f"Model {entry.name} requests unsupported platform {platform}")
    return platform


def _parse_logging(entry: Any, folder: Path | None) -> RequestLogging | None:
    """The model's request log; None without a logging_config.

    InvalidArgument, or NotFound for an unknown type, in TensorFlow Serving's words where it has them; PermissionDenied
    for files outside the folder.
    """
    if not entry.HasField("logging_config"):
        return None
    if folder is None:
        raise InvalidArgument(
            f"No request-logger-creator provided. Model {entry.name} has a logging_config, but this server logs no "
            "requests; start it with --request_log_dir=DIR, or remove the logging_config"
        )
    collector, rate = entry.logging_config.log_collector_config, entry.logging_config.sampling_config.sampling_rate
    for message, known in (
        (entry.logging_config, ("log_collector_config", "sampling_config")),
        (entry.logging_config.sampling_config, ("sampling_rate",)),
    ):
        for field, _ in message.ListFields():
            if field.name not in known:
                raise InvalidArgument(
                    f"model {entry.name}: got {field.name} in its logging_config; expected {' and '.join(known)} alone"
                )
    if collector.type != COLLECTOR:
        raise NotFound(
            f"Cannot find LogCollector::Factory for type: {collector.type}. Model {entry.name}: write "
            f'log_collector_config {{ type: "{COLLECTOR}" filename_prefix: ... }}'
        )
    if not 0 <= rate <= 1:
        raise InvalidArgument(f"model {entry.name}: got sampling_rate {rate:g}; expected a share from 0 to 1")
    if not collector.filename_prefix or collector.filename_prefix.endswith("/"):
        raise InvalidArgument(f"model {entry.name}: its logging_config has no filename_prefix; give one")
    prefix = folder / collector.filename_prefix
    if not is_inside(prefix.parent, folder):
        raise PermissionDenied(f"The filename_prefix of model {entry.name} is not below the server's --request_log_dir")
    return RequestLogging(rate, prefix)


def read_platform(entry: Any) -> str:
    """The platform, from model_platform or the deprecated model_type; InvalidArgument unless exactly one is set."""
    if not entry.model_platform and not entry.model_type:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if entry.model_platform and entry.model_type:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if entry.model_type == _MODEL_TYPE_TENSORFLOW:
        return _TENSORFLOW
    return str(entry.model_platform) or "other"


def _path(base_path: str) -> Path:
    return Path(base_path.removeprefix("file://"))


def _parse_policy(policy: Any) -> Policy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return Policy("all")
    if kind == "specific":
        return Policy("specific", versions=tuple(policy.specific.versions))
    return Policy("latest", num_versions=max(1, policy.latest.num_versions))
