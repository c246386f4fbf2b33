"""When a connection's bytes arrived, as nearly as a server can know: a busy event loop reads them later."""

from __future__ import annotations

import array
import contextlib
import socket
import struct
import sys
from collections import deque
from typing import Any

if sys.platform == "linux":
    import fcntl
    import termios

LAG_S = 5e-3
"""Bytes that may have waited for less than this count as having arrived when they are read: asking Linux takes 5 µs."""
GAP_S = 1e-3
"""A busy spell ends when the event loop reads nothing for this long."""
MUCH_BYTES = 2**16
"""When one read returns so many, more may wait in the kernel."""
_LAST_RECEIVED_AT = 52  # byte of `tcpi_last_data_recv` in Linux's struct tcp_info
_MILLISECONDS = struct.Struct("I")


class BusySpell:
    """The time for which the event loop has read and answered without a pause, in `time.monotonic()` seconds.

    since  the start of its first read
    ended  the end of its last one
    """

    __slots__ = ("ended", "since")

    def __init__(self) -> None:
        self.since = self.ended = 0.0


busy_spell = BusySpell()


class Arrivals:
    """What has arrived on a connection.

    read_at    when it was read last, in `time.monotonic()` seconds. What is read next has arrived since then, and since
               the busy spell began: an idle loop reads at once
    is_behind  more waited in the kernel then

    `of` must see every read of at least MUCH_BYTES, and those while `is_behind`.
    """

    def __init__(self, transport: Any) -> None:
        self.read_at = 0.0
        self.is_behind = False
        self._socket = transport.get_extra_info("socket")
        self._marks: deque[tuple[int, float]] = deque()  # by this time, bytes up to this position had arrived
        self._position = 0

    def of(self, size: int, now: float) -> float:
        """`time.monotonic()` seconds by which the `size` bytes that have just been read had all arrived."""
        arrived = now
        if sys.platform != "linux" or self._socket is None:
            return arrived
        self._position += size
        while self._marks and self._marks[0][0] < self._position:
            self._marks.popleft()
        if self._marks:
            arrived = min(arrived, self._marks[0][1])
        with contextlib.suppress(OSError):
            waiting = array.array("i", [0])
            fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, waiting)
            if waiting[0]:
                self._marks.append((self._position + waiting[0], now))
            elif self._socket.family in (socket.AF_INET, socket.AF_INET6):
                # Nothing more has come: the last segment that came is the end of what was read.
                info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
                arrived = min(arrived, now - _MILLISECONDS.unpack_from(info, _LAST_RECEIVED_AT)[0] / 1000)
        self.is_behind = bool(self._marks)
        return arrived
