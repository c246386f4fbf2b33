"""Reads batching parameters again while the server runs: new batches follow them, those that wait keep the old ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ladle.serving.errors import ServingError
from ladle.serving.repository.versions import Versions
from ladle.serving.servables.batching_parameters import Batching, read_batching, read_batching_of
from ladle.serving.servables.loader import Loader
from ladle.serving.servables.servable import Servable

log = logging.getLogger(__name__)


class BatchingFiles:
    """The parameters of the server's file, or of each version's own, and the versions that follow them.

    file    of the server
    poll_s  seconds between two looks
    """

    def __init__(self, loader: Loader, versions: Versions, file: Path | None, poll_s: float) -> None:
        self._loader = loader
        self._versions = versions
        self._file = file
        self._poll_s = poll_s
        self._complaints: dict[str, str] = {}

    async def run(self) -> None:
        """Looks at the files until it is cancelled; on the event loop, to which the versions' parameters belong."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self._look()
            except Exception:  # the task must outlive any fault of one look
                log.exception("batching parameters were not read; the next look tries again")

    async def _look(self) -> None:
        # Each look makes its own list: one that outlived it would keep versions in memory that were unloaded.
        servables = [one for numbers in self._versions.serving_map.versions.values() for one in numbers.values()]
        wanted = await asyncio.to_thread(self._read, servables)
        for servable, batching in wanted:
            if servable.batching != batching:
                servable.follow(batching)
                log.info(
                    "%s version %d: new batching parameters: %s", servable.name, servable.version, _shown(batching)
                )

    def _read(self, servables: Sequence[Servable]) -> list[tuple[Servable, Batching | None]]:
        """The parameters that each version should have; a file that cannot be used changes nothing."""
        if self._loader.own_batching:
            return [(one, self._of_version(one)) for one in servables]
        batching = self._of_server()
        return [(one, batching) for one in servables]

    def _of_server(self) -> Batching | None:
        before = self._loader.batching
        assert before is not None
        try:
            batching = read_batching(self._file)
            batching.check()
        except ServingError as error:
            self._complain("the server", error.message)
            return before
        self._complain("the server", "")
        threads, pool = before.num_batch_threads, before.thread_pool_name
        is_other = (batching.num_batch_threads, batching.thread_pool_name) != (threads, pool)
        self._complain("the threads", "num_batch_threads and thread_pool_name count from the next start" * is_other)
        batching = replace(batching, num_batch_threads=threads, thread_pool_name=pool)
        self._loader.batching = batching  # of versions that load later
        return batching

    def _of_version(self, servable: Servable) -> Batching | None:
        before: Batching | None = servable.batching
        if servable.folder is None or not servable.folder.is_dir():  # it is about to be unloaded
            return before
        name = f"{servable.name} version {servable.version}"
        try:
            batching = read_batching_of(servable.folder)
            if batching is not None:
                batching.check()
        except ServingError as error:
            self._complain(name, error.message)
            return before
        self._complain(name, "")
        return batching

    def _complain(self, whose: str, reason: str) -> None:
        """Logs what is wrong with a file once; without a reason, it is right again."""
        if not reason:
            self._complaints.pop(whose, None)
        elif self._complaints.get(whose) != reason:
            log.error("batching parameters of %s not changed: %s", whose, reason)
            self._complaints[whose] = reason


def _shown(batching: Batching | None) -> str:
    if batching is None:
        return "none; its requests are not merged"
    return ", ".join(f"{name} {value}" for name, value in vars(batching).items() if value != getattr(Batching, name))
