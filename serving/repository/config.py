"""ModelServerConfig files: which models to serve, from where, under which labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from ladle.serving.repository.folders import ModelConfig, Policy
from ladle.serving.runtime.paths import is_inside
from ladle.serving.runtime.text_proto import read_text_proto

_TENSORFLOW = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1


def read_models(path: Path) -> list[ModelConfig]:
    """The models of a ModelServerConfig file; InvalidArgument in upstream's words."""
    return parse_models(read_text_proto(path, pb.ModelServerConfig))


def parse_models(config: Any, root: Path | None = None) -> list[ModelConfig]:
    """The models of a ModelServerConfig message; an empty one serves nothing. root: see `check_paths`."""
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("custom_model_config is not supported; wanted a model_config_list")
    check_paths(config, root)
    return [
        ModelConfig(
            entry.name,
            _path(entry.base_path),
            _parse_policy(entry.model_version_policy),
            dict(entry.version_labels),
            root,
        )
        for entry in config.model_config_list.config
        if check_platform(entry)
    ]


def check_paths(config: Any, root: Path | None = None) -> None:
    """InvalidArgument for a name given twice or a base path that is no absolute path.

    root  PermissionDenied for a base path that is not below this folder
    """
    names = set()
    for entry in config.model_config_list.config:
        if entry.name in names:
            raise InvalidArgument(f"Illegal to list model {entry.name} multiple times in config list")
        names.add(entry.name)
    for entry in config.model_config_list.config:
        check_base_path(entry.name, entry.base_path)
        if root is not None and not is_inside(_path(entry.base_path), root):
            raise PermissionDenied(f"The base path of model {entry.name} is not below the server's --config_root")


def check_platform(entry: Any) -> str:
    """The platform of a model; InvalidArgument unless it is TensorFlow."""
    platform = read_platform(entry)
    if platform != _TENSORFLOW:
        raise InvalidArgument(f"Model {entry.name} requests unsupported platform {platform}")
    return platform


def read_platform(entry: Any) -> str:
    """The platform that a model names, by the new field or by the deprecated one; InvalidArgument for none or both."""
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


def check_base_path(name: str, base_path: str) -> None:
    """InvalidArgument for a relative base path, and for a URI of a file system that is not this machine's."""
    if "://" in base_path and not base_path.startswith("file://"):
        raise InvalidArgument(
            f"Model {name} is at {base_path}; this server reads folders of its own machine, wanted an absolute path"
        )
    if not _path(base_path).is_absolute():
        raise InvalidArgument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")


def check_labels(
    labels: Mapping[str, Mapping[str, int]],
    before: Mapping[str, Mapping[str, int]],
    is_available: Callable[[str, int], bool],
    allow_unavailable: bool,
) -> None:
    """FailedPrecondition when a label names a version that cannot answer.

    labels, before     versions by model and label, as wanted and as in use
    allow_unavailable  lets a label that is new, or unchanged, name any version
    """
    for model, given in labels.items():
        for label, version in given.items():
            used_for = before.get(model, {}).get(label)
            free = allow_unavailable and used_for in (None, version)
            if not free and not is_available(model, version):
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {model}, "
                    "which is not currently available for inference"
                )
