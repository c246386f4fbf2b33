"""HPACK (RFC 7541): decodes the compressed headers of HTTP/2, and encodes headers without compression."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

from ladle.serving.grpc.http2.errors import HeadersTooLargeError, HpackError

Headers = tuple[tuple[bytes, bytes], ...]

_TABLE_BYTES = 4096  # of the dynamic table: HTTP/2's default, never raised by our settings
_MAX_CACHED_BLOCKS = 32
_MAX_CACHED_BLOCK_BYTES = 512
_FIELD_OVERHEAD = 32  # bytes that RFC 7541 §4.1 adds to the size of each field
_MAX_EXCESS = 4  # times the limit; up to here headers are decoded to keep the table right for the next request
_MAX_RESIZES = 2  # of the table before the headers of a block: the smallest and the last (RFC 7541 §4.2)
_END_OF_STRING = 256

_NAMES = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|"
    ":status 204|:status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|"
    "accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|"
    "authorization|cache-control|content-disposition|content-encoding|content-language|content-length|"
    "content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|"
    "proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|"
    "strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
_STATIC_TABLE: tuple[tuple[bytes, bytes], ...] = tuple(
    (name, value) for name, _, value in (line.encode().partition(b" ") for line in _NAMES.split("|"))
)
# The length of each byte's Huffman code, a letter a byte: A is 5 bits. The code is canonical, so lengths determine it.
_LENGTHS = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBAB"
    "CBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPT"
    "PQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ"
)


def _make_codes() -> dict[tuple[int, int], int]:
    lengths = [ord(letter) - ord("A") + 5 for letter in _LENGTHS]
    codes, code, last = {}, 0, 5
    for length, byte in sorted((length, byte) for byte, length in enumerate(lengths)):
        code <<= length - last
        codes[length, code] = byte
        code, last = code + 1, length
    return codes


_CODES = _make_codes()


@lru_cache(maxsize=1)
def _huffman_automaton() -> tuple[list[tuple[int, int]], frozenset[int]]:
    """Decodes four bits a step: each byte takes two look-ups, whatever its code.

    The states are the inner nodes of the code's tree, 0 its root, and a dead one behind the end-of-string code. Returns
    the next state and the byte that was completed (or -1), by 16 * state + bits; and the states in which a string may
    end: after at most seven ones, which are padding (RFC 7541 §5.2).
    """
    children: list[list[int]] = [[0, 0]]  # of each inner node; a leaf is ~byte
    for (length, code), byte in _CODES.items():
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if not children[node][bit]:
                children[node][bit] = len(children)
                children.append([0, 0])
            node = children[node][bit]
        children[node][code & 1] = ~byte
    dead = len(children)
    steps = []
    for state in range(dead):
        for bits in range(16):
            node, symbol = state, -1
            for shift in (3, 2, 1, 0):
                node = children[node][bits >> shift & 1]
                if node == ~_END_OF_STRING:
                    node = dead
                    break
                if node < 0:
                    node, symbol = 0, ~node
            steps.append((node, symbol))
    steps += [(dead, -1)] * 16
    ends, node = {0}, 0
    for _ in range(7):
        node = children[node][1]
        ends.add(node)
    return steps, frozenset(ends)


class Decoder:
    """Decodes the header blocks of one connection, in order.

    max_bytes  of one block's headers once decoded, 32 more for each field (RFC 7541 §4.1)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[tuple[bytes, bytes]] = deque()  # the dynamic table, newest first
        self._table_size = 0
        self._table_limit = _TABLE_BYTES
        # A client that repeats a request repeats its header block byte for byte, once its first requests have filled
        # the dynamic table. Blocks that leave the table as it is mean the same until the next block that changes it.
        self._cache: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers | None:
        """The headers of a block; None when they exceed the limit.

        The cost is bounded by the limit: a step for each compressed byte, and a bounded number of fields, which may be
        references of one byte to entries of 4 KiB. HpackError and HeadersTooLargeError end the connection.
        """
        cached = self._cache.get(block)
        if cached is not None:
            return cached
        if len(block) > _MAX_EXCESS * self._max_bytes:
            raise HeadersTooLargeError(f"got a header block of {len(block)} bytes; expected at most {self._max_bytes}")
        headers: list[tuple[bytes, bytes]] = []
        at, size, changes_table, resizes = 0, 0, False, 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _read_integer(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                limit, at = _read_integer(block, at, 5)
                resizes += 1
                if limit > _TABLE_BYTES or headers or resizes > _MAX_RESIZES:
                    raise HpackError("got a table size update above the limit, after a header, or a third one")
                self._table_limit, changes_table = limit, True
                self._evict(0)
                continue
            else:
                is_indexed = bool(first & 0x40)
                index, at = _read_integer(block, at, 6 if is_indexed else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                header = name, value
                if is_indexed:
                    changes_table = True
                    self._add(header)
            size += len(header[0]) + len(header[1]) + _FIELD_OVERHEAD
            if size <= self._max_bytes:
                headers.append(header)
            elif size > _MAX_EXCESS * self._max_bytes:
                raise HeadersTooLargeError(f"got headers of more than {_MAX_EXCESS} times {self._max_bytes} bytes")
        if size > self._max_bytes:
            self._cache.clear()
            return None
        found = tuple(headers)
        if changes_table or len(self._cache) >= _MAX_CACHED_BLOCKS:
            self._cache.clear()
        if not changes_table and len(block) <= _MAX_CACHED_BLOCK_BYTES:
            self._cache[block] = found
        return found

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 1 <= index <= len(_STATIC_TABLE):
            return _STATIC_TABLE[index - 1]
        index -= len(_STATIC_TABLE) + 1
        if not 0 <= index < len(self._entries):
            raise HpackError("got an index without an entry")
        return self._entries[index]

    def _add(self, header: tuple[bytes, bytes]) -> None:
        size = len(header[0]) + len(header[1]) + _FIELD_OVERHEAD
        self._evict(size)
        if size <= self._table_limit:
            self._entries.appendleft(header)
            self._table_size += size

    def _evict(self, room: int) -> None:
        while self._entries and self._table_size + room > self._table_limit:
            name, value = self._entries.pop()
            self._table_size -= len(name) + len(value) + _FIELD_OVERHEAD


def _read_integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (RFC 7541 §5.1), and where it ends."""
    most = (1 << prefix_bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 28, 7):  # no length or index is larger; without a bound a number could be as long as a frame
        if at >= len(block):
            break
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("got an integer beyond 2^28, or without an end")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise HpackError("got a header without its string")
    is_huffman = block[at] & 0x80
    length, at = _read_integer(block, at, 7)
    data = block[at : at + length]
    if len(data) != length:
        raise HpackError("got a string without its end")
    return (_decode_huffman(data) if is_huffman else data), at + length


def _decode_huffman(data: bytes) -> bytes:
    steps, ends = _huffman_automaton()
    decoded = bytearray()
    state = 0
    for byte in data:
        state, symbol = steps[state << 4 | byte >> 4]
        if symbol >= 0:
            decoded.append(symbol)
        state, symbol = steps[state << 4 | byte & 15]
        if symbol >= 0:
            decoded.append(symbol)
    if state not in ends:
        raise HpackError("got a string with wrong padding, or with the end-of-string code")
    return bytes(decoded)


def encode(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of literals that stay out of the dynamic table, so that one block can be sent on every connection."""
    parts = []
    for name, value in headers:
        parts += [b"\0", _write_length(len(name)), name, _write_length(len(value)), value]
    return b"".join(parts)


def _write_length(value: int) -> bytes:
    """A string's length with a prefix of seven bits (RFC 7541 §5.1); the eighth, Huffman, is off."""
    if value < 127:
        return bytes((value,))
    value -= 127
    found = bytearray(b"\x7f")
    while value >= 128:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
