"""TFRecord files: records with a length, each with two checksums (CRC-32C)."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a file. ValueError: it is cut off, a checksum is wrong, or it is no TFRecord file at all."""
    with path.open("rb") as file:
        left = path.stat().st_size
        # A record is: length (8 bytes, little-endian), its checksum (4), the content, the content's checksum (4).
        while head := file.read(8):
            length_checksum = file.read(4)
            if len(length_checksum) < 4 or _masked_crc(head) != length_checksum:
                raise ValueError(f"{path} is not a TFRecord file, or is damaged")
            (length,) = struct.unpack("<Q", head)
            left -= 16 + length
            if left < 0:
                raise ValueError(f"{path} is cut off")
            content = file.read(length)
            if _masked_crc(content) != file.read(4):
                raise ValueError(f"{path} is damaged: a checksum is wrong")
            yield content


def frame(content: bytes) -> bytes:
    """A record as it stands in a file."""
    head = struct.pack("<Q", len(content))
    return head + _masked_crc(head) + content + _masked_crc(content)


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C as TFRecord stores it: rotated by 15 bits plus a constant.

    The mask is there because the CRC of data that itself contains a CRC is weak.
    """
    crc = _crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c(data: bytes) -> int:
    try:
        import google_crc32c
    except ImportError:  # the bare client has no such package; this takes about 0.1 s for a megabyte
        crc, table = 0xFFFFFFFF, _table()
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    return int(google_crc32c.value(data))


@functools.cache
def _table() -> list[int]:
    """The remainders of each byte for the Castagnoli polynomial, bits reversed (RFC 3720 B.4)."""
    found = []
    for remainder in range(256):
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
        found.append(remainder)
    return found
