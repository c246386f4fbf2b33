"""ModelServerConfig files: which models to serve, from where, under which labels."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from clients.wire import messages as pb
from serving.errors import FailedPrecondition, InvalidArgument
from serving.repository import ModelConfig, Policy

_TENSORFLOW = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1


def read_text_proto(path: Path, message: Any) -> Any:
    """A text-format file as a message of this class.

    InvalidArgument when it cannot be parsed; where and why goes to stderr, as TensorFlow Serving has it.
    """
    from google.protobuf import text_format  # a tenth of the start-up time, for this alone

    try:
        return text_format.Parse(path.read_text(), message(), descriptor_pool=pb.POOL)
    except OSError as error:
        raise InvalidArgument(f"Invalid protobuf file: '{path}': {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = re.sub(r"^(\d+:\d+) : ", r"\1: ", str(error))
        print(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {reason}", file=sys.stderr, flush=True)
        raise InvalidArgument(f"Invalid protobuf file: '{path}'") from None


def read_models(path: Path) -> list[ModelConfig]:
    """The models of a ModelServerConfig file; InvalidArgument in upstream's words."""
    return parse_models(read_text_proto(path, pb.ModelServerConfig))


def parse_models(config: Any) -> list[ModelConfig]:
    """The models of a ModelServerConfig message; an empty one serves nothing."""
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("custom_model_config is not supported; wanted a model_config_list")
    models = [_parse_model(entry) for entry in config.model_config_list.config]
    names = set()
    for model in models:
        if model.name in names:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        check_base_path(model.name, str(model.base_path))
    return models


def _parse_model(entry: Any) -> ModelConfig:
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
    platform = entry.model_platform or (_TENSORFLOW if entry.model_type == _MODEL_TYPE_TENSORFLOW else "other")
    if platform != _TENSORFLOW:
        raise InvalidArgument(f"Model {entry.name} requests unsupported platform {platform}")
    base_path = entry.base_path.removeprefix("file://")
    return ModelConfig(
        entry.name, Path(base_path), _parse_policy(entry.model_version_policy), dict(entry.version_labels)
    )


def _parse_policy(policy: Any) -> Policy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return Policy("all")
    if kind == "specific":
        return Policy("specific", versions=tuple(policy.specific.versions))
    return Policy("latest", num_versions=max(1, policy.latest.num_versions))


def check_base_path(name: str, base_path: str) -> None:
    """InvalidArgument for a relative base path."""
    if not Path(base_path).is_absolute():
        raise InvalidArgument(f"Expected model {name} to have an absolute path or URI; got base_path()={base_path}")


def check_labels(
    models: Collection[ModelConfig],
    before: Mapping[str, Mapping[str, int]],
    is_available: Callable[[str, int], bool],
    allow_unavailable: bool,
) -> None:
    """FailedPrecondition when a label names a version that cannot answer.

    before             labels in use, by model
    allow_unavailable  lets a label that is new, or unchanged, name any version
    """
    for model in models:
        for label, version in model.labels.items():
            used_for = before.get(model.name, {}).get(label)
            free = allow_unavailable and used_for in (None, version)
            if not free and not is_available(model.name, version):
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {model.name}, "
                    "which is not currently available for inference"
                )
