"""Offer a running model server more requests than it can answer, and count the answers that come in time.

python -m benchmarks.chaos.overload --grpc-port 8500 --rest-port 8501 --model lenet5
python -m benchmarks.chaos.overload --model unet --times 3 --deadline 2 --seconds 10 --only grpc

Requests leave on a schedule, whether earlier ones have been answered or not. Over gRPC each carries its deadline; over
REST the client closes its connection when the deadline has passed. The peak is measured before, with few requests at
once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import selectors
import socket
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.requests.payloads import PREDICT, grpc_predict, rest_predict
from ladle.serving.grpc.http2 import frames
from ladle.serving.grpc.http2.frames import END_HEADERS, END_STREAM, frame
from ladle.serving.grpc.http2.hpack import encode

PROTOCOLS = ("grpc", "rest")
_GRPC_CONNECTIONS = 8
_STREAMS = 250  # at once on a connection; the server allows 256
_MOST_REST = 1000
_LOOK_EVERY_S = 0.02
_AT_ONCE = 4  # requests in flight while the peak is measured
_OK = b"\x0bgrpc-status\x010"  # as the server writes it, without compression
_NUMPY = {"DT_FLOAT": np.float32, "DT_DOUBLE": np.float64, "DT_INT32": np.int32, "DT_INT64": np.int64}


@dataclass(frozen=True)
class Question:
    """One request: the model, the alias of its input, and the input itself."""

    model: str
    alias: str
    array: Any


@dataclass
class Counts:
    """What became of the requests that were offered over `seconds`.

    offered   requests that were due
    in_time   answered with OK before their deadline
    within    of these, answered within the `seconds`, while requests still came
    late      answered with OK after it
    refused   answered with an error before it
    expired   answered with an error after it, or not at all
    unsent    of the offered ones, those for which the client had no connection left
    wait_s    seconds that the answers in time took
    """

    seconds: float = 0.0
    offered: int = 0
    in_time: int = 0
    within: int = 0
    late: int = 0
    refused: int = 0
    expired: int = 0
    unsent: int = 0
    wait_s: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Answers in time per second, while requests came."""
        return self.within / self.seconds if self.seconds else 0.0

    def add(self, is_ok: bool, took_s: float, deadline_s: float, is_within: bool) -> None:
        """Count an answer that took at least `took_s`."""
        if took_s > deadline_s:
            self.late += is_ok
            self.expired += not is_ok
        else:
            self.in_time += is_ok
            self.within += is_ok and is_within
            self.refused += not is_ok
            if is_ok:
                self.wait_s.append(took_s)


class _Line:
    """A connection. `send` sends a request, `answers` reads what has come: (when it was sent, whether it is OK)."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))  # a full accept queue must not hold up the other requests
        self.unsent = bytearray()
        self.received = bytearray()
        self.sent_at: dict[int, float] = {}

    def free(self) -> bool:
        raise NotImplementedError

    def send(self, now: float) -> None:
        raise NotImplementedError

    def answers(self) -> Iterator[tuple[float, bool]]:
        raise NotImplementedError

    def flush(self) -> None:
        if self.unsent:
            with contextlib.suppress(OSError):  # the socket is full, or `receive` finds that it is closed
                del self.unsent[: self.socket.send(self.unsent)]

    def is_blocked(self) -> bool:
        """Whether the kernel did not take all that was sent."""
        return bool(self.unsent)

    def receive(self) -> bool:
        """Whether the connection is still open."""
        try:
            data = self.socket.recv(2**18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.received += data
        return bool(data)


class _Grpc(_Line):
    def __init__(self, port: int, head: bytes, body: bytes, deadline_s: float) -> None:
        super().__init__(port)
        self._head, self._body, self._deadline_s, self._number = head, body, deadline_s, 1
        self._pending: deque[tuple[int, float]] = deque()  # calls that are not written yet
        window = frames.settings((frames.INITIAL_WINDOW_SIZE, 2**30))
        self.unsent += frames.PREFACE + window + frames.window_update(0, 2**30)

    def free(self) -> bool:
        return len(self.sent_at) < _STREAMS

    def send(self, now: float) -> None:
        number, self._number = self._number, self._number + 2
        self.sent_at[number] = now
        self._pending.append((number, now))

    def flush(self) -> None:
        # As a gRPC client does: a call is written, with the time that is left to it, when the socket takes it.
        super().flush()
        while self._pending and not self.unsent:
            number, sent_at = self._pending.popleft()
            left_ms = max(1, round((sent_at + self._deadline_s - time.monotonic()) * 1000))
            head = self._head + encode([(b"grpc-timeout", b"%dm" % left_ms)])
            self.unsent += frame(frames.HEADERS, END_HEADERS, number, head)
            for start in range(0, len(self._body), 2**14):
                part = self._body[start : start + 2**14]
                is_last = start + 2**14 >= len(self._body)
                self.unsent += frame(frames.DATA, END_STREAM if is_last else 0, number, part)
            super().flush()

    def is_blocked(self) -> bool:
        return bool(self.unsent or self._pending)

    def answers(self) -> Iterator[tuple[float, bool]]:
        at = 0
        while len(self.received) - at >= frames.HEAD_BYTES:
            head, flags, number = frames.FRAME_HEAD.unpack_from(self.received, at)
            end = at + frames.HEAD_BYTES + (head >> 8)
            if len(self.received) < end:
                break
            kind = head & 255
            if kind == frames.SETTINGS and not flags & frames.ACK:
                self.unsent += frame(frames.SETTINGS, frames.ACK, 0)
            elif kind == frames.RST_STREAM or (kind == frames.HEADERS and flags & END_STREAM):
                sent_at = self.sent_at.pop(number, None)
                if sent_at is not None:
                    yield sent_at, kind == frames.HEADERS and _OK in self.received[at:end]
            at = end
        del self.received[:at]


class _Rest(_Line):
    def __init__(self, port: int, head: bytes, body: bytes) -> None:
        super().__init__(port)
        self._request = head + body

    def free(self) -> bool:
        return not self.sent_at

    def send(self, now: float) -> None:
        self.sent_at[0] = now
        self.unsent += self._request

    def answers(self) -> Iterator[tuple[float, bool]]:
        head, blank, rest = self.received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(rest) >= length:
            self.received = rest[length:]
            yield self.sent_at.pop(0), head.split(b" ", 2)[1] == b"200"


def _request(protocol: str, question: Question) -> tuple[bytes, bytes]:
    """Head and body of the request."""
    if protocol == "rest":
        body = rest_predict(question.array)
        head = b"POST /v1/models/%b:predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
        return head % (question.model.encode(), len(body)), body
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", PREDICT.encode()),
        (b":authority", b"h"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    message = grpc_predict(question.model, question.alias, question.array)
    return encode(fields), b"\0" + len(message).to_bytes(4, "big") + message


def offer(
    protocol: str, port: int, question: Question, deadline_s: float, seconds: float, rate: float | None = None
) -> Counts:
    """Send `rate` requests a second for `seconds` and wait for their answers; None: always a few at once."""
    head, body = _request(protocol, question)
    counts, lines, idle = Counts(seconds), set[_Line](), deque[_Line]()
    waiting, in_flight, looked_at = set[_Line](), 0, 0.0  # `waiting`: lines with bytes that the kernel did not take
    most = _GRPC_CONNECTIONS if protocol == "grpc" else _MOST_REST
    start = time.monotonic()
    ends = start + seconds
    with selectors.DefaultSelector() as selector:

        def close(line: _Line) -> None:
            nonlocal in_flight
            counts.expired += len(line.sent_at)
            in_flight -= len(line.sent_at)
            waiting.discard(line)
            selector.unregister(line.socket)
            line.socket.close()
            lines.discard(line)

        def send(now: float) -> None:
            nonlocal in_flight
            counts.offered += 1
            while idle and idle[0] not in lines:
                idle.popleft()
            if not idle:
                if len(lines) >= most:
                    counts.unsent += 1
                    return
                line: _Line = _Grpc(port, head, body, deadline_s) if protocol == "grpc" else _Rest(port, head, body)
                lines.add(line)
                selector.register(line.socket, selectors.EVENT_READ, line)
                idle.append(line)
            line = idle[0]
            line.send(now)
            in_flight += 1
            if protocol == "grpc":
                idle.rotate(-1)
            if not line.free():
                idle.remove(line)
            line.flush()
            if line.is_blocked():
                waiting.add(line)

        while True:
            now = time.monotonic()
            if now < ends:
                due = _AT_ONCE - in_flight if rate is None else int((now - start) * rate) - counts.offered
                for _ in range(due):
                    send(now)
            elif not in_flight or now > ends + deadline_s + 1:
                break
            # What is read below came after this moment. A client that was held up itself must not call it late.
            polled = time.monotonic()
            for key, _ in selector.select(0.001):
                line = key.data
                was_free = line.free()
                is_open = line.receive()
                now = time.monotonic()
                for sent_at, is_ok in line.answers():
                    in_flight -= 1
                    counts.add(is_ok, max(0.0, polled - sent_at), deadline_s, now <= ends)
                if line.is_blocked():
                    waiting.add(line)
                if not is_open:
                    close(line)
                elif line.free() and not was_free:
                    idle.append(line)
            for line in list(waiting):
                line.flush()
                if not line.is_blocked():
                    waiting.discard(line)
            if protocol == "rest" and now - looked_at > _LOOK_EVERY_S:
                looked_at = now
                for line in list(lines):
                    if line.sent_at and now - line.sent_at[0] > deadline_s:
                        close(line)
        for line in list(lines):
            close(line)
    return counts


@dataclass(frozen=True)
class Overload:
    """The peak, with few requests at once, and what became of `times` as many a second."""

    protocol: str
    times: float
    deadline_s: float
    peak: Counts
    flooded: Counts

    @property
    def ratio(self) -> float:
        """Goodput under overload, of the peak."""
        return self.flooded.goodput / self.peak.goodput if self.peak.goodput else 0.0


def measure(
    protocol: str, port: int, question: Question, times: float, deadline_s: float, seconds: float, settle_s: float = 0.0
) -> Overload:
    """The peak, then `times` as many requests for `settle_s`, which are not counted, then for `seconds`."""
    peak = offer(protocol, port, question, 60.0, seconds)
    if settle_s:
        offer(protocol, port, question, deadline_s, settle_s, times * peak.goodput)
    return Overload(
        protocol, times, deadline_s, peak, offer(protocol, port, question, deadline_s, seconds, times * peak.goodput)
    )


HEAD = (
    f"{'protocol':<9} {'peak/s':>8} {'offered/s':>10} {'in time/s':>10} {'of peak':>8} {'late OK':>8} {'refused':>8} "
    f"{'expired':>8} {'unsent':>8} {'median ms':>10}"
)


def row(found: Overload) -> str:
    """A line below HEAD."""
    it = found.flooded
    median_s = sorted(it.wait_s)[len(it.wait_s) // 2] if it.wait_s else float("nan")
    return (
        f"{found.protocol:<9} {found.peak.goodput:>8.0f} {it.offered / it.seconds:>10.0f} {it.goodput:>10.0f} "
        f"{found.ratio:>8.0%} {it.late:>8} {it.refused:>8} {it.expired:>8} {it.unsent:>8} {median_s * 1e3:>10.1f}"
    )


def ask_for(model: str, rest_port: int) -> Question:
    """A row of ones for a model's serving_default, by its metadata; free axes but the first have 64 elements."""
    with urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/v1/models/{model}/metadata") as answer:
        described = json.load(answer)["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    if len(described) != 1:
        raise ValueError(f"{model} takes {', '.join(described)}; expected one input")
    ((alias, info),) = described.items()
    sizes = [int(axis["size"]) for axis in info["tensor_shape"]["dim"]]
    shape = [1 if i == 0 else size if size > 0 else 64 for i, size in enumerate(sizes)]
    return Question(model, alias, np.ones(shape, _NUMPY[info["dtype"]]))


def main(argv: Sequence[str] | None = None) -> int:
    """Overload a running server; 0 done, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos.overload",
        description="Offer a model server more requests than it can answer; count the answers that come in time.",
        epilog="example: python -m benchmarks.chaos.overload --model unet --times 3 --deadline 2 --seconds 10",
    )
    add = parser.add_argument
    add("--grpc-port", type=int, default=8500, help="gRPC port on 127.0.0.1 (default: %(default)s)")
    add("--rest-port", type=int, default=8501, help="REST port on 127.0.0.1 (default: %(default)s)")
    add("--model", default="lenet5", help="a model with one input of numbers (default: %(default)s)")
    add("--only", choices=PROTOCOLS, help="one protocol (default: both)")
    add("--times", type=float, default=3.0, help="requests offered, in peaks (default: %(default)s)")
    add("--deadline", type=float, default=2.0, help="seconds for each answer (default: %(default)s)")
    add("--seconds", type=float, default=10.0, help="of each measurement (default: %(default)s)")
    given = parser.parse_args(argv)
    question = ask_for(given.model, given.rest_port)
    print(HEAD)
    for protocol in PROTOCOLS if given.only is None else (given.only,):
        port = given.grpc_port if protocol == "grpc" else given.rest_port
        found = measure(protocol, port, question, given.times, given.deadline, given.seconds)
        print(row(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
