"""Loads and unloads a model at a client's request; it stays so until another request or a new configuration."""

from __future__ import annotations

import asyncio
import time

from ladle.serving.errors import Aborted, DeadlineExceeded, FailedPrecondition
from ladle.serving.repository.versions import Configuration, State, Versions

_POLL_S = 0.02


async def load_model(configuration: Configuration, versions: Versions, name: str, deadline: float | None) -> None:
    """Load what the repository has of a model now; return when it answers requests.

    deadline  time.monotonic() seconds; the load goes on after it

    NotFound: no such model, or it has no version. FailedPrecondition: it could not be loaded, and why. Aborted: another
    request unloaded it meanwhile. DeadlineExceeded: it still loads.
    """
    # The repository is looked at, so this runs off the event loop.
    await asyncio.to_thread(configuration.load, name)
    while True:
        rows = versions.status(name)
        for number, state, error in rows:
            if state is State.LOADING and error is not None:  # it waits for its next attempt
                raise FailedPrecondition(f"{name} version {number} was not loaded: {error.message}")
        if not _is_at_work({state for _, state, _ in rows}, versions, name):
            break
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded(f"{name} still loads; ask whether it is ready")
        await asyncio.sleep(_POLL_S)
    failure = versions.failure(name)
    if failure is not None:
        raise FailedPrecondition(f"{name} version {failure.number} was not loaded: {failure.error.message}")
    if not versions.is_available(name) and not versions.is_loadable(name):
        raise Aborted(f"{name} was unloaded while it was loaded; load it again")


def _is_at_work(states: set[State], versions: Versions, name: str) -> bool:
    """Whether a version is about to become available. One that was loaded, and left for others, is not."""
    if State.LOADING in states:
        return True
    # On demand, a version that begins has nobody who waits for it.
    return (State.START in states and not versions.is_loadable(name)) or (
        State.UNLOADING in states and not versions.is_available(name)
    )


async def unload_model(configuration: Configuration, name: str) -> None:
    """Unload a model; return when no new request reaches it. NotFound: no such model."""
    await asyncio.to_thread(configuration.unload, name)
