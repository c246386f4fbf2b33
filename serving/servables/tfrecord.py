"""Reads TFRecord files: records with a length, each with two checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

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


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C as TFRecord stores it: rotated by 15 bits plus a constant.

    The mask is there because the CRC of data that itself contains a CRC is weak.
    """
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
