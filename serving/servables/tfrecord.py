"""Reads TFRecord files: records with a length, each with two checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ladle.serving.errors import DataLoss

_NOT_A_TFRECORD = "the warm-up file is damaged. Please verify your warmup data is in TFRecord format."


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file; DataLoss when it is cut off or a checksum is wrong."""
    data = path.read_bytes()
    at = 0
    # A record is: length (8 bytes, little-endian), its checksum (4), the content, the content's checksum (4).
    while at < len(data):
        head, checksum = data[at : at + 8], data[at + 8 : at + 12]
        if len(checksum) < 4 or _masked_crc(head) != checksum:
            raise DataLoss(_NOT_A_TFRECORD)
        (length,) = struct.unpack("<Q", head)
        record, checksum = data[at + 12 : at + 12 + length], data[at + 12 + length : at + 16 + length]
        if len(checksum) < 4 or _masked_crc(record) != checksum:
            raise DataLoss(_NOT_A_TFRECORD)
        yield record
        at += 16 + length


def _crc_table() -> list[int]:
    """The CRC of each byte, for the Castagnoli polynomial with its bits reversed."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C as TFRecord stores it: rotated by 15 bits plus a constant.

    The mask is there because the CRC of data that itself contains a CRC is weak.
    """
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
