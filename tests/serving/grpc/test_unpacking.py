"""What compressed messages unpack to is bounded: on one connection, and in all."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.varints import varint
from ladle.serving.grpc.calls import StatusError
from ladle.serving.grpc.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    HEAD_BYTES,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
)
from ladle.serving.grpc.http2.hpack import encode
from ladle.serving.grpc.unpacking import Held, Room, unpack_small

MIB = 2**20
MESSAGES, SIZE = 12, 63 * MIB
PREDICT, WATCH = f"/{services.PREDICTION}/Predict", f"/{services.HEALTH}/Watch"


def bomb(message: bytes) -> bytes:
    """A gRPC body of some 64 kB: the message, and 63 MiB of zeros in a field that it does not have."""
    packed = gzip.compress(message + varint(1000 << 3 | 2) + varint(SIZE) + bytes(SIZE))
    assert len(packed) < 70_000
    return b"\1" + len(packed).to_bytes(4, "big") + packed


def send_all(server: Any, path: str, body: bytes, count: int) -> list[bytes]:
    """Sends as many calls at once on one connection; the last header block of each."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"h")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"grpc-encoding", b"gzip")]
    head = encode(fields)
    ends: dict[int, bytes] = {}
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=60) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        for number in range(1, 2 * count, 2):
            client.sendall(frame(HEADERS, END_HEADERS, number, head) + frame(DATA, END_STREAM, number, body))
        read = b""
        while len(ends) < count:
            part = client.recv(2**16)
            assert part, server.log.read_text()[-3000:]
            read += part
            while len(read) >= HEAD_BYTES:
                first, flags, number = FRAME_HEAD.unpack_from(read)
                if len(read) < HEAD_BYTES + (first >> 8):
                    break
                if first & 255 == HEADERS and flags & END_STREAM:
                    ends[number] = read[HEAD_BYTES : HEAD_BYTES + (first >> 8)]
                read = read[HEAD_BYTES + (first >> 8) :]
    return list(ends.values())


def resident_mib(server: Any, key: str) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return float(status.split(f"{key}:")[1].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc/self/status")
def test_messages_that_unpack_to_much_more_wait_for_each_other(serve: Any, tiny_repository: Path) -> None:
    flags = [f"--max_buffered_bytes={256 * MIB}", "--supervise=false"]
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two"])
    before = resident_mib(server, "VmRSS")
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    tensors.fill(request.inputs["x"], np.array([[1.0]], np.float32))
    ends = send_all(server, PREDICT, bomb(request.SerializeToString()), MESSAGES)
    assert ends == [encode([(b"grpc-status", b"0")])] * MESSAGES
    refused = send_all(server, WATCH, bomb(b""), MESSAGES)
    assert all(b"larger than max" in end for end in refused)
    assert server.get("/v2/health/live")[0] == 200
    # All at once they are 756 MiB, and their messages as much again.
    assert resident_mib(server, "VmHWM") - before < 450
    assert server.stop() == 0


def test_room_is_shared_between_connections_and_given_in_turn() -> None:
    async def main() -> None:
        room, packed = Room(400), gzip.compress(b"a" * 60)
        one, two = [Held("one") for _ in range(3)], Held("two")
        assert room.take_now(one[0], 80)
        waiting = [asyncio.ensure_future(room.unpack(held, packed, b"gzip", 60)) for held in (one[1], one[2], two)]
        assert await waiting[2] == b"a" * 60  # the other connection does not wait for the first one's share
        assert not waiting[0].done()
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        room.give(one[0])
        assert await waiting[1] == b"a" * 60
        assert (one[0].size, one[1].size, one[2].size, two.size) == (0, 0, 60, 60)
        room.give(one[2])
        with pytest.raises(StatusError, match="larger than max"):
            await room.unpack(one[0], packed, b"gzip", 30)
        with pytest.raises(StatusError, match="damaged"):
            await room.unpack(one[0], packed[:-9], b"gzip", 60)
        assert one[0].size == 0

    asyncio.run(main())


def test_small_messages_are_unpacked_at_once_and_others_are_not() -> None:
    assert unpack_small(gzip.compress(b"abc"), b"gzip", 100) == b"abc"
    assert unpack_small(gzip.compress(bytes(101)), b"gzip", 100) is None
    assert unpack_small(gzip.compress(bytes(MIB)), b"gzip", 2 * MIB) is None
    assert unpack_small(gzip.compress(b"abc")[:-9], b"gzip", 100) is None
