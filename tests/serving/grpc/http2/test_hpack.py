"""HPACK against the examples of RFC 7541, appendix C, and against what breaks its rules."""

from __future__ import annotations

import contextlib
import random
import time

import pytest

from ladle.serving.grpc.http2.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, HeadersTooLargeError, HpackError
from ladle.serving.grpc.http2.hpack import _CODES, Decoder, encode

FIRST = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"))
THIRD = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
)
PLAIN = [
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
]
HUFFMAN = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
]


def huffman_block(text: bytes) -> bytes:
    """A header block with one field, whose name is the text in Huffman's code."""
    codes = {byte: f"{code:0{length}b}" for (length, code), byte in _CODES.items()}
    bits = "".join(codes[byte] for byte in text)
    bits += "1" * (-len(bits) % 8)
    compressed = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    block = encode([(compressed, b"")])
    return bytes((block[0], block[1] | 0x80)) + block[2:]


@pytest.mark.parametrize("blocks", [PLAIN, HUFFMAN], ids=["plain", "Huffman"])
def test_the_examples_of_the_standard_are_decoded(blocks: list[str]) -> None:
    decoder = Decoder(10_000)
    found = [decoder.decode(bytes.fromhex(block)) for block in blocks]
    assert found == [FIRST, (*FIRST, (b"cache-control", b"no-cache")), THIRD]


def test_every_byte_is_decoded_from_its_huffman_code() -> None:
    rng = random.Random(7)
    for text in (bytes(range(256)), b"", *(rng.randbytes(rng.randrange(90)) for _ in range(300))):
        assert Decoder(10_000).decode(huffman_block(text)) == ((text, b""),)


def test_a_repeated_block_is_decoded_by_the_present_table() -> None:
    decoder = Decoder(10_000)
    newest = b"\xbe"
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder.decode(newest) == ((b"a", b"b"),)
    assert decoder.decode(newest) == ((b"a", b"b"),)
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.decode(newest) == ((b"c", b"d"),)
    decoder.decode(b"\x20")  # a table of no size
    with pytest.raises(HpackError):
        decoder.decode(newest)


def test_old_entries_leave_the_table() -> None:
    decoder = Decoder(100_000)
    for _ in range(3):
        decoder.decode(b"\x40\x01a\x7f\xe1\x0b" + b"b" * 1632)  # 1665 bytes with their 32
    assert decoder.decode(b"\xbf") == ((b"a", b"b" * 1632),)
    with pytest.raises(HpackError):
        decoder.decode(b"\xc0")


def test_encoded_headers_decode_to_the_same_headers() -> None:
    headers = ((b":status", b"200"), (b"grpc-message", b"x" * 5000), (b"empty", b""))
    assert Decoder(10_000).decode(encode(headers)) == headers


def test_headers_beyond_the_limit_are_dropped_and_far_beyond_it_an_error() -> None:
    decoder = Decoder(1000)
    assert decoder.decode(encode([(b"a", b"b" * 1000)])) is None
    assert decoder.decode(b"\x82") == ((b":method", b"GET"),)
    decoder.decode(b"\x40\x01a\x7f\x85\x06" + b"b" * 900)
    with pytest.raises(HeadersTooLargeError) as caught:
        decoder.decode(b"\xbe" * 100)
    assert caught.value.code == ENHANCE_YOUR_CALM
    with pytest.raises(HeadersTooLargeError):
        decoder.decode(b"\x80" * 4001)  # not an HpackError: it is refused before it is decoded


@pytest.mark.parametrize(
    "block",
    [huffman_block(b"\n" * 69_000), huffman_block(b"e" * 400_000), b"\x82" * 260_000, b"\xbe" * 260_000],
    ids=["longest codes", "shortest codes", "small entries", "large entries"],
)
def test_the_worst_header_blocks_of_256_kib_take_milliseconds(block: bytes) -> None:
    decoder = Decoder(2**16)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000)
    assert len(block) <= 2**18
    start = time.thread_time()
    with contextlib.suppress(HeadersTooLargeError):
        decoder.decode(block)
    assert time.thread_time() - start < 0.1


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\xff", b"\x40", b"\x40\x01", b"\x40\x05ab", b"\xbe", b"\x3f\xff\xff\xff\x7f",
     b"\x40\x81\x00\x01b", b"\x40\x84\xff\xff\xff\xff\x00", b"\x82\x20"],
    ids=["index 0", "endless number", "no name", "no length", "short", "no entry", "large table", "padding",
         "end of string", "late table size"],
)  # fmt: skip
def test_malformed_blocks_are_compression_errors(block: bytes) -> None:
    with pytest.raises(HpackError) as caught:
        Decoder(10_000).decode(block)
    assert caught.value.code == COMPRESSION_ERROR


def test_random_bytes_are_headers_or_an_error() -> None:
    rng = random.Random(7)
    decoder = Decoder(10_000)
    outcomes = set()
    for _ in range(5000):
        try:
            outcomes.add(type(decoder.decode(rng.randbytes(rng.randrange(1, 60)))))
        except HpackError:
            outcomes.add(HpackError)
    assert outcomes == {tuple, HpackError}
