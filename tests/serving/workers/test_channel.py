"""Calls over the management channel return, raise errors, and end with the other process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from ladle.serving.errors import NotFound, ServingError
from ladle.serving.workers.channel import Channel, ChannelClosed


class Ends:
    """Both ends of a channel; the second answers calls."""

    def __init__(self) -> None:
        self.sockets = Pipe()
        self.release = threading.Event()
        self.closed = threading.Event()
        slow = {"add": lambda a, b: a + b, "wait": self._wait, "refuse": self._refuse, "fail": lambda: 1 / 0}
        quick = {"echo": lambda data: data}
        self.first = Channel(self.sockets[0], {"double": lambda x: 2 * x}, quick, on_close=self.closed.set)
        self.second: Channel = Channel(self.sockets[1], {**slow, "ask": lambda x: self.second.call("double", x)}, quick)
        self.first.start()
        self.second.start()

    def _wait(self) -> str:
        assert self.release.wait(30)
        return "done"

    def _refuse(self) -> None:
        raise NotFound("no such thing")


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.release.set()


def test_calls_return_and_may_call_back(ends: Ends) -> None:
    assert ends.first.call("add", 1, 2) == 3
    assert ends.first.call("ask", 21) == 42


def test_a_long_call_does_not_delay_another(ends: Ends) -> None:
    waiting = ends.first.begin("wait")
    assert ends.first.call("add", 1, 2) == 3
    assert not waiting.done()
    ends.release.set()
    assert waiting.result(30) == "done"


def test_a_caller_that_times_out_does_not_break_the_channel(ends: Ends) -> None:
    async def give_up(waiting: Any) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(waiting), 0.01)

    waiting = ends.first.begin("wait")
    asyncio.run(give_up(waiting))
    ends.release.set()
    assert waiting.result(30) == "done"
    assert ends.first.begin("add", 1, 2).result(30) == 3


def test_large_messages_in_both_directions_do_not_deadlock(ends: Ends) -> None:
    data = bytes(4_000_000)  # more than the sockets hold
    waiting: list[Any] = []

    def send(channel: Channel) -> None:
        waiting.extend(channel.begin("echo", data) for _ in range(3))

    senders = [threading.Thread(target=send, args=(channel,), daemon=True) for channel in (ends.first, ends.second)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    assert len(waiting) == 6
    assert all(future.result(30) == data for future in waiting)


def test_errors_come_back_with_their_code(ends: Ends) -> None:
    with pytest.raises(NotFound, match="no such thing"):
        ends.first.call("refuse")
    with pytest.raises(ServingError) as error:
        ends.first.call("fail")
    assert error.value.code == "INTERNAL"
    assert "division" not in str(error.value)


def test_calls_fail_when_the_other_process_ends(ends: Ends) -> None:
    waiting: Any = ends.first.begin("wait")
    with socket.socket(fileno=os.dup(ends.sockets[1].fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ChannelClosed):
        waiting.result(30)
    assert ends.closed.wait(30)
    with pytest.raises(ChannelClosed):
        ends.first.call("add", 1, 2)
