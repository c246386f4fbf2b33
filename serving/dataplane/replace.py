"""HandleReloadConfigRequest: replaces the models and waits until those that were added can answer."""

from __future__ import annotations

import asyncio
from typing import Any

from ladle.serving.errors import Aborted, NotFound, Unknown
from ladle.serving.repository.versions import Configuration, Failure, Versions, describe

_POLL_S = 0.02
_NO_VERSION = "its base path is missing or holds no version; the server loads the first one that appears"


async def replace_models(configuration: Configuration, versions: Versions, config: Any) -> None:
    """Replace the models by those of a ModelServerConfig; return when each added model is available.

    ServingError when the configuration is refused; Unknown, in TensorFlow Serving's words, when an added model fails
    to load; Aborted when another configuration removes an added model first. The other models change meanwhile.
    """
    # Reading and checking touches the disk, so it runs off the event loop.
    added = await asyncio.to_thread(configuration.reload, config)
    decided = versions.is_available if configuration.waits_for_models else versions.is_settled
    while not all(decided(model) or versions.failure(model) for model in added if configuration.is_configured(model)):
        await asyncio.sleep(_POLL_S)
    removed = [model for model in added if not configuration.is_configured(model)]
    if removed:
        raise Aborted(
            f"another configuration, without {', '.join(removed)}, replaced this one before its models loaded"
        )
    missing = [model for model in added if not versions.is_available(model) and not versions.is_loadable(model)]
    if missing:
        failures = [versions.failure(model) or Failure(model, None, NotFound(_NO_VERSION)) for model in missing]
        raise Unknown(f"{len(missing)} model(s) did not become available: {{{describe(failures)}}}")
