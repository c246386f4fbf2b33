"""Ports and sockets that the server listens on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

_BACKLOG = 2048
_SETTLE_S = 5.0
_SETTLE_TURNS = 12


def listen(host: str, port: int, share: bool = False) -> socket.socket:
    """A listening TCP socket; host "" for all addresses, IPv6 and IPv4 where the system can. OSError if it cannot be.

    share  other processes may listen on the same port (SO_REUSEPORT)
    """
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=share)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True, reuse_port=share
            )
    return socket.create_server(("", port), backlog=_BACKLOG, reuse_port=share)


def remove_stale_socket(path: Path) -> None:
    """Removes what a killed server left at the path of a UNIX socket; nothing but a socket is removed."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()


async def settle(count: Callable[[], int], limit_s: float) -> None:
    """Returns once `count` has stood still for some turns of the event loop; after five seconds, or `limit_s`, anyhow.

    What waits in a queue of the system, connections say, is lost when a server stops before it has taken them.
    """
    end = time.monotonic() + min(limit_s, _SETTLE_S)
    last, turns = count(), 0
    while turns < _SETTLE_TURNS and time.monotonic() < end:
        await asyncio.sleep(0.005)
        now = count()
        last, turns = now, turns + 1 if now == last else 0


def raise_file_limit() -> None:
    """Lets the process open as many files, connections among them, as the system allows it to."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2**16 if hard == resource.RLIM_INFINITY else min(hard, 2**16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
