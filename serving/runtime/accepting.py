"""Accepts all connections that wait, not one in each iteration of the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

_AT_ONCE = 1024
"""Connections accepted before those that are open have their turn."""


async def accept_on(listening: socket.socket, make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Serves a listening socket; `make` makes the protocol of each connection.

    uvloop accepts one connection in an iteration of its loop. A loop that a thousand busy connections keep for 50 ms
    would take 20 new ones a second, and the kernel's queue would hold the others until they gave up.
    """
    loop = asyncio.get_running_loop()
    opening = set[asyncio.Task[Any]]()
    is_due = False

    def accept_the_rest() -> None:
        nonlocal is_due
        is_due = False
        for _ in range(_AT_ONCE):
            try:
                accepted, _address = listening.accept()
            except OSError:  # none waits, or the event loop's own accept meets the same error and deals with it
                return
            task = loop.create_task(loop.connect_accepted_socket(make, accepted))
            opening.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(opening.discard)

    def make_first() -> asyncio.Protocol:
        nonlocal is_due
        if not is_due:
            is_due = True
            loop.call_soon(accept_the_rest)
        return make()

    listening.setblocking(False)
    create = loop.create_server if listening.family in (socket.AF_INET, socket.AF_INET6) else loop.create_unix_server
    return await create(make_first, sock=listening, backlog=2048)
