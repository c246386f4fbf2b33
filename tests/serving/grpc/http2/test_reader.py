"""Bytes to frames: a request that arrives as a whole is read at once, and says what its frames say."""

from __future__ import annotations

import pytest

from ladle.serving.grpc.http2.connection import whole_request
from ladle.serving.grpc.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PREFACE,
    SETTINGS,
    frame,
)
from ladle.serving.grpc.http2.reader import FrameReader

HEAD, BODY = frame(HEADERS, END_HEADERS, 5, b"block"), frame(DATA, END_STREAM, 5, b"body")
WHOLE = {
    "a request": HEAD + BODY,
    "a request without a body": HEAD + frame(DATA, END_STREAM, 5, b""),
    "a request on stream 0, which the connection refuses": frame(HEADERS, END_HEADERS, 0, b"block")
    + frame(DATA, END_STREAM, 0, b"body"),
}
OTHER = {
    "nothing": b"",
    "headers alone": HEAD,
    "a part of the body": (HEAD + BODY)[:-1],
    "two requests": (HEAD + BODY) * 2,
    "a body that goes on": HEAD + frame(DATA, 0, 5, b"body"),
    "a body on another stream": HEAD + frame(DATA, END_STREAM, 7, b"body"),
    "a padded body": HEAD + frame(DATA, END_STREAM | PADDED, 5, b"\1body\0"),
    "headers that end the stream": frame(HEADERS, END_HEADERS | END_STREAM, 5, b"block") + BODY,
    "headers with a priority": frame(HEADERS, END_HEADERS | HAS_PRIORITY, 5, b"\0" * 5 + b"block") + BODY,
    "a block that goes on": frame(HEADERS, 0, 5, b"block") + BODY,
    "the reserved bit": frame(HEADERS, END_HEADERS, 5 | 1 << 31, b"block")
    + frame(DATA, END_STREAM, 5 | 1 << 31, b"body"),
    "two frames of data": BODY * 2,
}


def reader() -> FrameReader:
    """One that has read the preface and SETTINGS."""
    made = FrameReader(2**16)
    assert made.read(PREFACE + frame(SETTINGS, 0, 0))[1] is None
    return made


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_request_is_what_its_frames_are(case: str) -> None:
    found = whole_request(WHOLE[case])
    assert found is not None
    number, block, body = found
    frames, error = reader().read(WHOLE[case])
    assert error is None
    assert frames == [
        (HEADERS, END_HEADERS, number, block, len(block)),
        (DATA, END_STREAM, number, body, len(body)),
    ]


@pytest.mark.parametrize("case", OTHER)
def test_anything_else_is_left_to_the_frames(case: str) -> None:
    assert whole_request(OTHER[case]) is None


def test_a_reader_is_between_frames_when_it_holds_no_part_of_one() -> None:
    begun = FrameReader(2**16)
    assert not begun.is_between
    for data, is_between in (
        (PREFACE, False),
        (frame(SETTINGS, 0, 0), True),
        (HEAD[:4], False),
        (HEAD[4:8], False),
        (HEAD[8:], True),
        (frame(HEADERS, 0, 7, b"a part of a block"), False),
    ):
        assert begun.read(data)[1] is None
        assert begun.is_between is is_between
