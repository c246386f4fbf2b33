"""WAV files, decoded as TensorFlow's operation does: float32 [samples, channels] in [-1, 1), and the sample rate."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.limits import check_size

Attributes = Mapping[str, Any]
Function = Callable[..., Any]

_SHORT = "Data too short when trying to read string"


def _decode_wav(attributes: Attributes) -> Function:
    """16-bit PCM alone, as in TensorFlow. Missing samples are zeros; missing channels repeat the last one."""
    channels, samples = (int(attributes.get(name, -1)) for name in ("desired_channels", "desired_samples"))

    def decode(contents: Array) -> tuple[Array, Array]:
        if contents.ndim:
            raise InvalidArgument(f"contents must be scalar, got shape {list(contents.shape)}")
        data = contents.item()
        own, rate, start = _format(data)
        first, count = _data(data, start, 2 * own)
        read = np.frombuffer(data, "<i2", own * count, first).reshape(count, own)
        wanted = (count if samples < 0 else samples, own if channels < 0 else channels)
        check_size(wanted)
        made = np.zeros(wanted, np.float32)
        kept = read[: wanted[0], np.minimum(np.arange(wanted[1]), own - 1)]
        made[: len(kept)] = kept.astype(np.float32) / np.float32(32768)
        return made, np.array(rate, np.int32)

    return decode


def _format(data: bytes) -> tuple[int, int, int]:
    """Channels, sample rate, and where the chunks after the format begin."""
    for at, wanted in ((0, b"RIFF"), (8, b"WAVE"), (12, b"fmt ")):
        found = data[at : at + 4]
        if len(found) < 4:
            raise InvalidArgument(_SHORT)
        if found != wanted:
            said = found.decode("latin-1")
            raise InvalidArgument(
                f"Unexpected field {said}"
                if at == 12
                else f"Header mismatch: Expected {wanted.decode()} but found {said}"
            )
    if len(data) < 36:
        raise InvalidArgument(_SHORT)
    size, kind, channels, rate, per_second, per_sample, bits = struct.unpack_from("<IHHIIHH", data, 16)
    if size not in (16, 18):
        raise InvalidArgument(f"Bad format chunk size for WAV: Expected 16 or 18, but got {size}")
    if kind != 1:
        raise InvalidArgument(f"Bad audio format for WAV: Expected 1 (PCM), but got {kind}")
    if channels == 0:
        raise InvalidArgument("Bad number of channels for WAV: Expected at least 1, but got 0")
    if bits != 16:
        raise InvalidArgument(f"Can only read 16-bit WAV files, but received {bits}")
    if per_sample != 2 * channels:
        raise InvalidArgument(f"Bad bytes per sample in WAV header: Expected {2 * channels} but got {per_sample}")
    if per_second != per_sample * rate % 2**32:
        raise InvalidArgument(f"Bad bytes per second in WAV header: Expected {per_sample * rate} but got {per_second}")
    return channels, rate, 20 + size


def _data(data: bytes, at: int, sample: int) -> tuple[int, int]:
    """Where the samples begin, and how many there are; `sample` is the size of one in bytes.

    As in TensorFlow, the bytes behind the last whole sample are read as another chunk.
    """
    found: tuple[int, int] | None = None
    while at < len(data):
        if at + 8 > len(data):
            raise InvalidArgument(_SHORT)
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            if found is not None:
                raise InvalidArgument("More than one data chunk found in WAV")
            found = at + 8, size // sample
            size -= size % sample
            if at + 8 + size > len(data):
                raise InvalidArgument(_SHORT)
        at += 8 + size
    if found is None:
        raise InvalidArgument("No data chunk found in WAV")
    return found


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {"DecodeWav": _decode_wav}
