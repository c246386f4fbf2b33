"""A new ModelServerConfig for a server that runs: what is checked, in upstream's order, and what stays if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ladle.serving.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unknown
from ladle.serving.repository.config import check_labels, check_paths, parse_models, read_platform
from ladle.serving.repository.folders import ModelConfig
from ladle.serving.repository.versions import Configuration, Failure, Versions, describe

_LOOK_S = 0.02
_NO_VERSION = "its base path is missing or holds no version; it is served once there is one"


class Acceptance:
    """The configuration in force, and whether another may replace it.

    labels             versions by model and label; replaced as a whole
    is_available       whether a version of a model answers requests
    allow_unavailable  lets a new label name any version
    """

    def __init__(
        self,
        models: Collection[ModelConfig],
        is_available: Callable[[str, int], bool],
        allow_unavailable: bool = False,
    ) -> None:
        """FailedPrecondition when a label may not be given."""
        self._is_available = is_available
        self._allow_unavailable = allow_unavailable
        self._platforms: dict[str, str | None] = {model.name: "tensorflow" for model in models}
        self.labels: Mapping[str, Mapping[str, int]] = {}
        self._label({model.name: dict(model.labels) for model in models})

    def accept(self, config: Any, root: Path | None = None) -> list[ModelConfig]:
        """The models of a ModelServerConfig. root: folder that must hold their base paths.

        InvalidArgument, PermissionDenied or FailedPrecondition when it is refused. As upstream has it, platforms are
        remembered once names, paths and platforms are checked, and labels once they are, whatever is wrong after.
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
        self._platforms = {entry.name: _platform(entry) for entry in entries}
        self._label({entry.name: dict(entry.version_labels) for entry in entries})
        return parse_models(config, root)

    def _label(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        check_labels(labels, self.labels, self._is_available, self._allow_unavailable)
        self.labels = {model: given for model, given in labels.items() if given}


def _platform(entry: Any) -> str | None:
    """The platform if the entry names one as it should; None makes the next configuration free to."""
    try:
        return read_platform(entry)
    except InvalidArgument:
        return None


async def replace_models(configuration: Configuration, versions: Versions, config: Any) -> None:
    """Replaces the models by those of a ModelServerConfig; returns when each that it adds is available.

    ServingError when the configuration is refused; Unknown, in upstream's words, when a model that it adds cannot be
    loaded; Aborted when another configuration takes one away before. The others load and unload meanwhile.
    """
    added = await asyncio.to_thread(configuration.reload, config)
    decided = versions.is_available if configuration.waits_for_models else versions.is_settled
    while not all(decided(model) or versions.failure(model) for model in added if configuration.is_configured(model)):
        await asyncio.sleep(_LOOK_S)
    gone = [model for model in added if not configuration.is_configured(model)]
    if gone:
        raise Aborted(f"another configuration, without {', '.join(gone)}, has replaced this one meanwhile")
    missing = [model for model in added if not versions.is_available(model)]
    if missing:
        failures = [versions.failure(model) or Failure(model, None, NotFound(_NO_VERSION)) for model in missing]
        raise Unknown(f"{len(missing)} model(s) did not become available: {{{describe(failures)}}}")
