"""The ports and sockets on which the server listens."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

_BACKLOG = 2048
_SETTLE_S = 5.0
_QUIET_LOOKS = 12
_MAX_FILES = 2**16


def listen(host: str, port: int, share: bool = False) -> socket.socket:
    """A listening TCP socket; host "" or "::" for all addresses, IPv6 and IPv4 where the system has both.

    share  lets other processes listen on the same port (SO_REUSEPORT)

    OSError if it fails; `reason` says why.
    """
    if host not in ("", "::"):
        return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG, reuse_port=share)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # the kernel knows IPv6, but no interface has it
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True, reuse_port=share
            )
    return socket.create_server(("", port), backlog=_BACKLOG, reuse_port=share)


def listen_unix(path: str) -> socket.socket:
    """A listening UNIX socket in place of one that a killed server left. OSError if it fails."""
    remove_stale_socket(Path(path))
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


Keep = Callable[[str, Callable[[], socket.socket]], socket.socket]
"""Returns the listening socket of an address, or one that the function makes; `guardian.Link.keep` remembers it."""


def make_now(address: str, make: Callable[[], socket.socket]) -> socket.socket:
    """A `Keep` that remembers nothing."""
    return make()


def _family(host: str) -> socket.AddressFamily:
    """IPv4 where the host has it."""
    families = {row[0] for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)}
    return socket.AF_INET if socket.AF_INET in families else socket.AF_INET6


def show_address(host: str, port: int) -> str:
    """`127.0.0.1:8500`, `[::1]:8500`; all IPv4 addresses without a host."""
    return f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"  # noqa: S104


def reason(error: OSError) -> str:
    """Why the system cannot listen, in its own words."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)  # Python adds the address to `error.strerror`


def probe_socket(path: str) -> None:
    """Listens on a new UNIX socket at this path, and removes it. OSError if it fails."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
    Path(path).unlink()


def remove_stale_socket(path: Path) -> None:
    """Removes the UNIX socket that a killed server left at this path; anything but a socket stays.

    OSError: a server listens there.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
        with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(ConnectionRefusedError):
            asking.setblocking(False)  # a server whose queue is full has not left either
            with contextlib.suppress(BlockingIOError):
                asking.connect(str(path))
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()


# A classic BPF program, which sees each TCP segment from its header on: if byte 13 has the SYN bit, drop the segment,
# else keep it. An instruction is (code, jump if true, jump if false, operand).
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
_SO_ATTACH_FILTER = 26


def block_new_connections(listening: socket.socket) -> None:
    """Stops new TCP connections to this socket (Linux only); those that have begun can still be accepted.

    A client that tries to connect meanwhile sends its SYN again a second later, and is refused once the socket is
    closed: it then knows that the server got nothing. Closing at once would reset connections in the accept queue,
    and their clients may have sent a request already.
    """
    if sys.platform != "linux" or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN))
    with contextlib.suppress(OSError):  # a sandbox may forbid it; then the server stops as on other systems
        header = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(program))
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


async def settle(count: Callable[[], int], limit_s: float) -> None:
    """Waits until `count` has stayed the same for 60 ms; at most 5 s, and at most `limit_s` seconds.

    Connections still in the kernel's accept queue are lost if the server stops before accepting them.
    """
    import asyncio  # here: the guardian's process imports this module, and has no event loop

    end = time.monotonic() + min(limit_s, _SETTLE_S)
    last, quiet_looks = count(), 0
    while quiet_looks < _QUIET_LOOKS and time.monotonic() < end:
        await asyncio.sleep(0.005)
        now = count()
        last, quiet_looks = now, quiet_looks + 1 if now == last else 0


def raise_file_limit() -> None:
    """Raises the limit of open files, and so of connections, as far as the system allows, up to 65,536."""
    # The soft limit is usually 1,024, fewer than --max_connections: clients beyond it would wait without an answer.
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
