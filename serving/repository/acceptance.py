"""Decides whether a new ModelServerConfig may replace the current one: TensorFlow Serving's checks, in its order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.repository.config import check_paths, parse_models, read_platform
from ladle.serving.repository.folders import ModelConfig

Labels = Mapping[str, Mapping[str, int]]
"""Version numbers by model and label."""


class Acceptance:
    """The platforms and labels in force, against which the next configuration is checked.

    labels             version numbers by model and label; replaced as a whole
    is_available       (model, version) -> whether the version answers requests
    allow_unavailable  lets a label that is new, or unchanged, name any version
    log_folder         that holds the files of request logs (`config.parse_models`)
    """

    def __init__(
        self,
        models: Collection[ModelConfig],
        is_available: Callable[[str, int], bool],
        allow_unavailable: bool = False,
        log_folder: Path | None = None,
    ) -> None:
        """FailedPrecondition when a label names a version that cannot answer."""
        self._is_available = is_available
        self._allow_unavailable = allow_unavailable
        self._log_folder = log_folder
        self._platforms: dict[str, str | None] = {model.name: "tensorflow" for model in models}
        self.labels: Labels = {}
        self._set_labels({model.name: dict(model.labels) for model in models})

    def accept(self, config: Any, root: Path | None = None) -> list[ModelConfig]:
        """The models of a ModelServerConfig. root: folder that must hold their base paths.

        InvalidArgument, PermissionDenied or FailedPrecondition when the configuration is refused.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise FailedPrecondition(
                "Cannot transition to requested config. "
                "It is only legal to transition from one ModelConfigList to another."
            )
        check_paths(config, root)
        entries = config.model_config_list.config
        for entry in entries:
            before = self._platforms.get(entry.name)
            if before is not None and (platform := read_platform(entry)) != before:
                raise InvalidArgument(
                    f"Illegal to change a model's platform. For model {entry.name} platform was {before} "
                    f"and new platform requested is {platform}"
                )
        # TensorFlow Serving keeps the new platforms, then the new labels, even if a later check refuses the rest.
        self._platforms = {entry.name: _platform(entry) for entry in entries}
        self._set_labels({entry.name: dict(entry.version_labels) for entry in entries})
        return parse_models(config, root, self._log_folder)

    def _set_labels(self, labels: Labels) -> None:
        check_labels(labels, self.labels, self._is_available, self._allow_unavailable)
        self.labels = {model: given for model, given in labels.items() if given}


def check_labels(
    labels: Labels, before: Labels, is_available: Callable[[str, int], bool], allow_unavailable: bool
) -> None:
    """FailedPrecondition when a label names a version that cannot answer; arguments as in `Acceptance`.

    before  the labels in force
    """
    for model, given in labels.items():
        for label, version in given.items():
            current = before.get(model, {}).get(label)
            # A label in use never moves to a version that is not loaded: its requests would begin to fail.
            may_wait = allow_unavailable and current in (None, version)
            if not may_wait and not is_available(model, version):
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {model}, "
                    "which is not currently available for inference"
                )


def _platform(entry: Any) -> str | None:
    """The platform of a valid entry; None for an invalid one, so that the next configuration may set any platform."""
    try:
        return read_platform(entry)
    except InvalidArgument:
        return None
