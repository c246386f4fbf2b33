"""Reads a ModelServerConfig: which models to serve, from which folder, which versions, under which labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import InvalidArgument, PermissionDenied
from ladle.serving.repository.folders import ModelConfig, Policy
from ladle.serving.runtime.paths import is_inside
from ladle.serving.runtime.text_proto import read_text_proto

_TENSORFLOW = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1


def read_models(path: Path) -> list[ModelConfig]:
    """The models of a ModelServerConfig file; InvalidArgument in TensorFlow Serving's words."""
    return parse_models(read_text_proto(path, pb.ModelServerConfig))


def parse_models(config: Any, root: Path | None = None) -> list[ModelConfig]:
    """The models of a ModelServerConfig message; none for an empty message. `root` and errors as in `check_paths`."""
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("got a custom_model_config, which is not supported; expected a model_config_list")
    check_paths(config, root)
    entries = config.model_config_list.config
    for check in (check_platform, _check_logging):
        for entry in entries:
            check(entry)
    return [
        ModelConfig(
            entry.name,
            _path(entry.base_path),
            _parse_policy(entry.model_version_policy),
            dict(entry.version_labels),
            root,
        )
        for entry in entries
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
        if root is not None and not is_inside(_path(entry.base_path), root):
            raise PermissionDenied(f"The base path of model {entry.name} is not below the server's --config_root")


def check_base_path(name: str, base_path: str) -> None:
    """InvalidArgument for a relative base path, and for a URI of a remote file system."""
    if "://" in base_path and not base_path.startswith("file://"):
        raise InvalidArgument(
            f"model {name}: got base path {base_path}; expected an absolute path on the server's own machine; "
            "mount or copy the models there"
        )
    if not _path(base_path).is_absolute():
        raise InvalidArgument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")


def check_platform(entry: Any) -> str:
    """The platform of a ModelConfig message; InvalidArgument unless it is TensorFlow."""
    platform = read_platform(entry)
    if platform != _TENSORFLOW:
        raise InvalidArgument(f"Model {entry.name} requests unsupported platform {platform}")
    return platform


def _check_logging(entry: Any) -> None:
    """InvalidArgument for a logging_config, in TensorFlow Serving's words and ours: neither server logs requests."""
    if entry.HasField("logging_config"):
        raise InvalidArgument(
            f"No request-logger-creator provided. Model {entry.name} has a logging_config, but this server does not "
            "log requests; remove it"
        )


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
