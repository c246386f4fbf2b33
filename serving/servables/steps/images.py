"""Decodes PNG and JPEG bytes to float images, and encodes class maps, as the exported TensorFlow signatures do."""

from __future__ import annotations

import functools
import io
import math
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import simplejpeg
from PIL import Image

from ladle.clients.wire.arrays import Array
from ladle.clients.wire.resizing import resize
from ladle.serving.errors import InvalidArgument
from ladle.serving.runtime.cores import cpu_count, lower_priority

# Fewer in all take as long in several threads as in one; 32 photographs take six tenths of the time on two cores.
_PARALLEL_PIXELS = 2**20
_REQUEST_IMAGES = 8  # a request may have as many pixels in all as this many of the largest images
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_SIZE = struct.Struct(">II")
_JPEG_FRAME = struct.Struct(">HHB")  # height, width, colours
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the others define tables
_JPEG_SCAN = 0xDA
_JPEG_SEGMENTS = {0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # tables, restarts, comments, applications
# What each of 256 levels of red, green and blue adds to the grey value (ITU-R BT.601), in the order of the signatures'
# arithmetic: looking up is exact, and five times as fast as computing each pixel.
_RED, _GREEN, _BLUE = (
    np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(k) for k in (0.299, 0.587, 0.114)
)
_GREY = _RED + _GREEN + _BLUE


def decode_batch(encoded: Array, name: str, channels: int, size: tuple[int, int] | None, max_pixels: int = 0) -> Array:
    """Encoded images, bytes [b] -> float32 [b, h, w, channels] in [0, 1].

    name        of the input, for messages
    size        height and width to resize to (bilinear, antialiased); None: keep the images' own, which must agree
    max_pixels  largest image to decode, width times height, and an eighth of the pixels of all images; 0: any

    InvalidArgument names the image that cannot be read.
    """
    if encoded.ndim != 1:
        raise InvalidArgument(f'input "{name}" has shape {list(encoded.shape)}; expected [batch], one image each')
    pixels = _check_heads(encoded, name, channels, size, max_pixels)

    def decode(i: int) -> Array:
        return _decode(encoded[i], f'input "{name}", image {i}', channels, size, max_pixels)

    is_much = len(encoded) > 1 and pixels >= _PARALLEL_PIXELS and cpu_count() > 1
    images = list((_decoders().map if is_much else map)(decode, range(len(encoded))))
    if len(images) == 1:
        return images[0][np.newaxis]  # without a copy
    return np.stack(images) if images else np.zeros((0, *(size or (0, 0)), channels), np.float32)


@functools.cache
def _decoders() -> ThreadPoolExecutor:
    """Threads for the images of one request: Pillow, libjpeg and BLAS let others run meanwhile."""
    return ThreadPoolExecutor(cpu_count(), "decode", initializer=lower_priority)


def _check_heads(encoded: Array, name: str, channels: int, size: tuple[int, int] | None, max_pixels: int) -> int:
    """InvalidArgument as for `decode_batch`, before the first image is decoded; else the pixels of all."""
    left, first, pixels = _REQUEST_IMAGES * max_pixels or math.inf, None, 0
    for i, data in enumerate(encoded):
        own = read_size(data)
        if own is None or 0 < max_pixels < own[0] * own[1]:
            _decode(data, f'input "{name}", image {i}', channels, size, max_pixels)  # says what is wrong with it
            continue
        left -= own[0] * own[1]
        pixels += own[0] * own[1]
        if left < 0:
            raise InvalidArgument(
                f'input "{name}" has {len(encoded)} images of more than {_REQUEST_IMAGES * max_pixels} pixels in all; '
                "send fewer at once"
            )
        first = first or own
        if size is None and own != first:
            raise InvalidArgument(
                f'input "{name}" has images of {first[0]}×{first[1]} and of {own[0]}×{own[1]} pixels; '
                "all images of a request must have one size"
            )
    return pixels


def read_sizes(encoded: Array, max_pixels: int = 0) -> list[tuple[int, int]]:
    """Height and width of each image, from its head; [] if one cannot be read, or if `decode_batch` refuses them."""
    sizes, left = [], _REQUEST_IMAGES * max_pixels or math.inf
    for data in encoded:
        size = read_size(data)
        if size is None:
            return []
        count = size[0] * size[1]
        left -= count
        if left < 0 or 0 < max_pixels < count:
            return []
        sizes.append(size)
    return sizes


def read_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of an image, from its head; None if it cannot be read."""
    # Without Pillow where that is easy, for each request comes along here: the first chunk of a PNG holds the size.
    if data[:16] == _PNG_HEAD and len(data) >= 24:
        width, height = _PNG_SIZE.unpack_from(data, 16)
        return height, width
    if data[:2] == b"\xff\xd8" and (frame := _jpeg_frame(data)) is not None:
        return frame[:2]
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return picture.height, picture.width
    except Exception:  # a damaged file can make Pillow raise anything
        return None


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and number of colours of a JPEG, from its frame header (ITU-T T.81, B.2.2); None where anything is
    unusual."""
    frame, at = None, 2
    while data[at : at + 1] == b"\xff" and at + 10 <= len(data):
        marker = data[at + 1]
        if marker == _JPEG_SCAN:
            return frame
        if marker in _JPEG_FRAMES:
            if frame is not None:  # a second frame would count for Pillow
                return None
            height, width, colours = _JPEG_FRAME.unpack_from(data, at + 5)
            frame = (height, width, colours) if height and width else None
        elif marker not in _JPEG_SEGMENTS:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _decode(data: bytes, what: str, channels: int, size: tuple[int, int] | None, max_pixels: int) -> Array:
    """An image, float32 [h, w, channels]."""
    may_be_grey = channels == 1
    pixels = _decode_jpeg(data, may_be_grey, max_pixels) if data[:2] == b"\xff\xd8" else None
    if pixels is None:
        pixels = _decode_any(data, what, may_be_grey, max_pixels)
    if channels == 3 and size is not None and pixels.shape[:2] != size:
        # Resizing at 8 bits would be faster, but up to 0.004 off; so would decoding a JPEG at a fraction of its size.
        return resize(pixels, *size, scale=1 / 255)
    image = _to_grey(pixels) if channels == 1 else pixels.astype(np.float32) / np.float32(255)
    return image if size is None or image.shape[:2] == size else resize(image, *size)


def _to_grey(pixels: Array) -> Array:
    """uint8 [h, w] or [h, w, 3] -> float32 [h, w, 1]."""
    if pixels.ndim == 2:
        grey: Array = _GREY.take(pixels)
    else:
        grey = _RED.take(pixels[..., 0])
        grey += _GREEN.take(pixels[..., 1])
        grey += _BLUE.take(pixels[..., 2])
    return grey[..., np.newaxis]


def _decode_jpeg(data: bytes, may_be_grey: bool, max_pixels: int) -> Array | None:
    """A JPEG as `_decode_any` does, in six tenths of Pillow's time; None for what Pillow must read or refuse."""
    frame = _jpeg_frame(data)
    if frame is None or frame[2] not in (1, 3) or 0 < max_pixels < frame[0] * frame[1]:
        return None
    is_grey = may_be_grey and frame[2] == 1
    try:
        pixels: Array = simplejpeg.decode_jpeg(data, "GRAY" if is_grey else "RGB")
    except Exception:  # damaged: Pillow decides
        return None
    return pixels[..., 0] if is_grey else pixels


def _decode_any(data: bytes, what: str, may_be_grey: bool, max_pixels: int) -> Array:
    """An image, uint8: [h, w, 3] of RGB, or [h, w] for one without colours if `may_be_grey`.

    InvalidArgument for one that cannot be read, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            # Opening reads the header alone: refuse before a few bytes unpack into gigabytes.
            if 0 < max_pixels < picture.width * picture.height:
                raise InvalidArgument(
                    f"{what} has {picture.width}×{picture.height} pixels; at most {max_pixels} are decoded"
                )
            return np.asarray(picture if may_be_grey and picture.mode == "L" else _in_colour(picture))
    except InvalidArgument:
        raise
    except Exception:  # a damaged file can make Pillow raise anything
        raise InvalidArgument(f"{what} ({len(data)} bytes) is not a readable PNG or JPEG image") from None


def _in_colour(picture: Image.Image) -> Image.Image:
    """RGB at 8 bits: without alpha, palettes expanded, the upper 8 bits of 16."""
    if picture.mode.startswith("I"):
        grey = Image.fromarray((np.asarray(picture).astype(np.int32) >> 8).astype(np.uint8))
        return Image.merge("RGB", (grey, grey, grey))
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which copies in any case


def encode_png_batch(class_maps: Array) -> Array:
    """Class maps, integers [b, h, w] in 0..255 -> bytes [b]: one grey PNG each, whose pixels are class ids."""
    encoded = np.empty(len(class_maps), object)
    for i, class_map in enumerate(class_maps.astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(class_map).save(file, "PNG", compress_level=1)  # half the time, one and a half times the bytes
        encoded[i] = file.getvalue()
    return encoded
