"""HPACK (RFC 7541): reads the compressed headers of HTTP/2, and writes headers plainly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

Headers = tuple[tuple[bytes, bytes], ...]

_TABLE_BYTES = 4096  # of the dynamic table: HTTP/2's default, never raised by our settings
_MAX_KNOWN = 32

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
_STATIC: tuple[tuple[bytes, bytes], ...] = tuple(
    (name, value) for name, _, value in (line.encode().partition(b" ") for line in _NAMES.split("|"))
)
# Bits of each byte's code, a letter a byte: A is 5. The code is canonical: lengths say all.
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


def _make_short() -> list[tuple[int, int]]:
    """By the next eight bits: bits and byte of the code that they begin with; (0, 0) where it is longer."""
    short = [(0, 0)] * 256
    for (length, code), byte in _CODES.items():
        if length <= 8:
            first = code << 8 - length
            short[first : first + (1 << 8 - length)] = [(length, byte)] * (1 << 8 - length)
    return short


_SHORT = _make_short()


class HpackError(Exception):
    """Headers that break the rules or the limit: the connection cannot go on."""


class Decoder:
    """Headers of one connection, block after block. max_bytes: of one block's headers, unpacked, 32 more for each."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[tuple[bytes, bytes]] = deque()  # newest first
        self._size = 0
        self._limit = _TABLE_BYTES
        self._known: dict[bytes, Headers] = {}  # blocks that changed no entry, since the last that did

    def decode(self, block: bytes) -> Headers | None:
        """The headers of a block; None when they are beyond the limit. HpackError when the connection cannot go on."""
        known = self._known.get(block)
        if known is not None:
            return known
        headers: list[tuple[bytes, bytes]] = []
        at, size, changed = 0, 0, False
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _read_integer(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                limit, at = _read_integer(block, at, 5)
                if limit > _TABLE_BYTES or headers:
                    raise HpackError("a table larger than agreed")
                self._limit, changed = limit, True
                self._evict(0)
                continue
            else:
                is_kept = bool(first & 0x40)
                index, at = _read_integer(block, at, 6 if is_kept else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                header = name, value
                if is_kept:
                    changed = True
                    self._add(header)
            size += len(header[0]) + len(header[1]) + 32
            if size <= self._max_bytes:
                headers.append(header)
            elif size > 16 * self._max_bytes:  # too long to read it for the table's sake
                raise HpackError("headers far beyond the limit")
        if size > self._max_bytes:
            self._known.clear()
            return None
        found = tuple(headers)
        if changed or len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        if not changed and len(block) <= 512:
            self._known[block] = found
        return found

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 1 <= index <= len(_STATIC):
            return _STATIC[index - 1]
        index -= len(_STATIC) + 1
        if not 0 <= index < len(self._entries):
            raise HpackError("an index without an entry")
        return self._entries[index]

    def _add(self, header: tuple[bytes, bytes]) -> None:
        size = len(header[0]) + len(header[1]) + 32
        self._evict(size)
        if size <= self._limit:
            self._entries.appendleft(header)
            self._size += size

    def _evict(self, room: int) -> None:
        while self._entries and self._size + room > self._limit:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + 32


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 28, 7):
        if at >= len(block):
            break
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("a number without an end")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise HpackError("a string is missing")
    is_packed = block[at] & 0x80
    length, at = _read_integer(block, at, 7)
    data = block[at : at + length]
    if len(data) != length:
        raise HpackError("a string without its end")
    return (_unpack(data) if is_packed else data), at + length


def _unpack(data: bytes) -> bytes:
    """Huffman's code undone."""
    found = bytearray()
    code = bits = 0  # those read and not yet undone
    for byte in data:
        code = code << 8 | byte
        bits += 8
        while bits >= 8:
            length, symbol = _SHORT[code >> bits - 8]
            if not length:
                length, symbol = _long(code, bits)
                if not length:
                    break
            found.append(symbol)
            bits -= length
            code &= (1 << bits) - 1
    while bits < 8:
        length, symbol = _SHORT[(code << 8 - bits | 0xFF >> bits) & 0xFF]
        if not length or length > bits:
            break
        found.append(symbol)
        bits -= length
        code &= (1 << bits) - 1
    if bits > 7 or code != (1 << bits) - 1:
        raise HpackError("a string with wrong padding")
    return bytes(found)


def _long(code: int, bits: int) -> tuple[int, int]:
    """Bits and byte of a code of more than eight bits; (0, 0) when it has not come whole."""
    for length in range(10, min(bits, 30) + 1):
        symbol = _CODES.get((length, code >> bits - length))
        if symbol == 256:
            raise HpackError("the end within a string")
        if symbol is not None:
            return length, symbol
    return 0, 0


def encode(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as literals that enter no table, so that a block means the same on every connection."""
    parts = []
    for name, value in headers:
        parts += [b"\0", _integer(len(name)), name, _integer(len(value)), value]
    return b"".join(parts)


def _integer(value: int) -> bytes:
    if value < 127:
        return bytes((value,))
    value -= 127
    found = bytearray(b"\x7f")
    while value >= 128:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
