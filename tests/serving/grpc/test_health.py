"""Watching health: one poll for all watchers, and every watcher gets each change."""

from __future__ import annotations

import asyncio
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.grpc.health import Health

WATCHERS = 100


def test_one_poll_serves_all_watchers() -> None:
    polls, ready = 0, False

    def is_ready() -> bool:
        nonlocal polls
        polls += 1
        return ready

    async def main() -> None:
        nonlocal polls, ready
        health = Health(is_ready)
        payload = pb.HealthCheckRequest().SerializeToString()
        streams: list[Any] = [health.watch(payload, None) for _ in range(WATCHERS)]

        async def next_of_all() -> set[str]:
            answers = await asyncio.gather(*(anext(stream) for stream in streams))
            return {pb.ServingStatus.Name(pb.HealthCheckResponse.FromString(answer).status) for answer in answers}

        assert await next_of_all() == {"NOT_SERVING"}
        changes = asyncio.ensure_future(next_of_all())
        await asyncio.sleep(0)
        polls, ready = 0, True
        assert await changes == {"SERVING"}
        assert polls < WATCHERS / 10
        health.drain()
        assert await next_of_all() == {"NOT_SERVING"}
        for stream in streams:
            assert [answer async for answer in stream] == []
        assert health._poller is None

    asyncio.run(main())
