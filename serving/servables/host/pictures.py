"""JPEG, PNG, BMP and GIF images, decoded as TensorFlow's operations do: uint8 [h, w, channels], one image at a time."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument

Attributes = Mapping[str, Any]
Function = Callable[..., Any]

_PNG = b"\x89PNG\r\n\x1a\n"
_BMP_HEAD = 32
_BMP_CHANNELS = ((1, 3), (1, 4), (3, 4), (4, 3))  # of a file, and those that are made of them
MAX_PIXELS = "max_image_pixels"
"""The attribute that the server adds: the largest image to decode, width times height; 0 or missing: any."""


def _decode(attributes: Attributes, formats: tuple[str, ...] = ("PNG", "JPEG")) -> Function:
    from PIL import Image  # most models decode no images

    channels, most = int(attributes.get("channels", 0)), int(attributes.get(MAX_PIXELS, 0))
    dtype = attributes.get("dtype", "uint8")
    if dtype not in ("uint8", "float32") or channels not in (0, 1, 3, 4):
        raise ValueError(f"images of {dtype} with {channels} channels")
    if int(attributes.get("ratio", 1)) != 1 or not attributes.get("fancy_upscaling", True):
        raise ValueError("images that are made smaller while they are read")

    def decode(contents: Array) -> Array:
        if contents.ndim:
            raise InvalidArgument(f"contents must be scalar, got shape {list(contents.shape)}")
        data = contents.item()
        try:
            if data.startswith(_PNG):
                _check_png(data)
            with Image.open(io.BytesIO(data), formats=formats) as picture:
                # Opening reads the header alone: refuse before a few bytes unpack into gigabytes.
                if 0 < most < picture.width * picture.height:
                    raise InvalidArgument(
                        f"an image has {picture.width}×{picture.height} pixels; at most {most} are decoded"
                    )
                pixels = _pixels(picture, channels)
        except InvalidArgument:
            raise
        except Exception:  # a damaged file can make Pillow raise anything
            raise InvalidArgument(
                f"a string of {len(data)} bytes is not a readable {' or '.join(formats)} image"
            ) from None
        return pixels.astype(np.float32) / np.float32(255) if dtype == "float32" else pixels

    return decode


def _check_png(data: bytes) -> None:
    """ValueError for a PNG without its end, or with a critical chunk that is unknown or damaged: Pillow reads those."""
    at, name = len(_PNG), b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise ValueError("a PNG without its end")
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        is_critical = not name[0] & 0x20  # a capital letter
        if is_critical and name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            raise ValueError("a PNG has a critical chunk of another kind")
        if is_critical and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("a chunk of a PNG has another checksum")
        at = end + 4


def _pixels(picture: Any, channels: int) -> Array:
    if picture.mode not in ("L", "LA", "RGB", "RGBA", "P", "1"):
        raise InvalidArgument(f"an image is {picture.mode}; expected grey or RGB of 8 bits, with or without alpha")
    if picture.format == "JPEG" and channels == 1:
        picture.draft("L", picture.size)
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode == "1":
        picture = picture.convert("L")
    own = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[picture.mode]
    if channels in (0, own):
        pixels = np.asarray(picture)
        return pixels.reshape(*pixels.shape[:2], own)
    if channels == 1 and own >= 3:
        raise InvalidArgument("an image has colours; expected a grey one")
    return np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(
        picture.height, picture.width, channels
    )


def _decode_bmp(attributes: Attributes) -> Function:
    """TensorFlow reads the head alone that it needs, and pixels of 8, 24 or 32 bits without a palette."""
    channels, most = int(attributes.get("channels", 0)), int(attributes.get(MAX_PIXELS, 0))
    if channels not in (0, 1, 3, 4):
        raise ValueError(f"images with {channels} channels")

    def decode(contents: Array) -> Array:
        if contents.ndim:
            raise InvalidArgument(f"contents must be scalar, got shape {list(contents.shape)}")
        data = contents.item()
        if channels == 1:
            raise InvalidArgument("channels must be 0, 3 or 4 for BMP images, got 1")
        if not data.startswith(b"BM"):
            raise InvalidArgument(f"a string of {len(data)} bytes is not a BMP image")
        if len(data) < _BMP_HEAD:
            raise InvalidArgument(f"Incomplete bmp content, requires at least {_BMP_HEAD} bytes, got {len(data)} bytes")
        start, width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (10, 18, 22))
        own = int.from_bytes(data[28:30], "little", signed=True) // 8
        if own not in (1, 3, 4):
            raise InvalidArgument(f"Number of channels inherent in the image must be 1, 3 or 4, was {own}")
        if channels not in (0, own) and (own, channels) not in _BMP_CHANNELS:
            raise InvalidArgument(f"channels attribute {channels} does not match bits per pixel from file {own * 8}")
        rows = abs(height)
        if width <= 0 or rows == 0 or start < 0:
            raise InvalidArgument(f"a BMP image has {width}×{height} pixels; expected at least one")
        if 0 < most < width * rows:
            raise InvalidArgument(f"an image has {width}×{rows} pixels; at most {most} are decoded")
        stride = (own * width + 3) // 4 * 4
        needed = start + rows * stride
        if len(data) < needed:
            raise InvalidArgument(f"Incomplete bmp content, requires at least {needed} bytes, got {len(data)} bytes")
        read = np.frombuffer(data[start:needed], np.uint8).reshape(rows, stride)
        pixels = read[:: 1 if height < 0 else -1, : width * own].reshape(rows, width, own)
        pixels = pixels[:, :, [0] if own == 1 else [2, 1, 0, 3][:own]]
        if own == 1 and channels > 1:
            pixels = np.repeat(pixels, 3, -1)
        if pixels.shape[-1] < channels:
            pixels = np.concatenate([pixels, np.full((rows, width, 1), 255, np.uint8)], -1)
        return np.ascontiguousarray(pixels[:, :, : channels or own])

    return decode


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {
    "DecodeJpeg": _decode,
    # TensorFlow decodes a JPEG here, too, but with a faster transform that has other values.
    "DecodePng": lambda attributes: _decode(attributes, ("PNG",)),
    "DecodeImage": _decode,
    "DecodeBmp": _decode_bmp,
}
