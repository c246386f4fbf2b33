"""Images as callers have them, as the tensors that a signature takes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ladle.clients.errors import InvalidArgument
from ladle.clients.transport.metadata import TensorInfo, describe
from ladle.clients.wire.arrays import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    Image = str | os.PathLike[str] | bytes | BinaryIO | PillowImage | np.ndarray[Any, np.dtype[Any]]
    """A path, an encoded PNG, JPEG, WebP, BMP, GIF or TIFF, an open file, a Pillow image, or an array.

    Arrays are uint8, or float in [0, 1]. Batch and channel axes of arrays may be missing.
    """
else:
    Image = Any
    PillowImage = Any  # Pillow takes a tenth of a second to import, and most callers have no Pillow images


ORIENTATION = 0x0112
"""EXIF tag."""
EXIF_BYTES = 65536
"""EXIF data stand in the first segments of a JPEG, each of at most 64 KiB."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM")
"""What own pictures are trained on, in Pillow's names."""


def encoded(image: Any) -> bytes | None:
    """The PNG or JPEG that the server decodes; None for arrays.

    A Pillow image, or a file of another format, is encoded as PNG, so that all are resized and turned grey alike.
    InvalidArgument: a file cannot be read.
    """
    if isinstance(image, bytes):
        return _sent(image)
    if isinstance(image, str | os.PathLike):
        try:
            return _sent(Path(image).read_bytes())
        except OSError as error:
            raise InvalidArgument(f"cannot read the image {os.fspath(image)}: {error.strerror}") from None
    if isinstance(image, np.ndarray):
        return None
    if hasattr(image, "read"):
        data = image.read()
        if not isinstance(data, bytes):
            raise InvalidArgument("got an image file opened as text; open it in binary mode: open(path, 'rb')")
        return _sent(data)
    if hasattr(image, "convert") and hasattr(image, "save"):  # a Pillow image, without importing Pillow to ask
        try:
            return _png(upright(image))
        except ValueError as error:
            raise InvalidArgument(f"got a Pillow image of mode {image.mode}: {error}") from None
    return None


def _sent(data: bytes) -> bytes:
    """A PNG or JPEG as it is; turned by its EXIF data or in another format, as an upright PNG; else the bytes.

    Cameras write the pixels as the sensor lay. The models were trained on upright pictures of any format, and the
    decoders of servers read PNG and JPEG, and no EXIF.
    """
    jpeg, png = data.startswith(b"\xff\xd8"), data.startswith(b"\x89PNG")
    if (jpeg or png) and (b"Exif\0\0" if jpeg else b"eXIf") not in data[:EXIF_BYTES]:
        return data
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
            picture.load()  # turns a TIFF
            turned = upright(picture)
            return data if turned is picture and (jpeg or png) else _png(turned)
    except Exception:  # damaged data can make Pillow raise almost anything; the server says what is wrong with them
        return data


def _png(picture: PillowImage) -> bytes:
    """A Pillow image as PNG. ValueError: it holds more than PNG does."""
    if picture.mode == "F" or (picture.mode == "I" and np.asarray(picture).max() > 0xFFFF):
        raise ValueError("its pixels have 32 bits; expected 8 or 16")
    file = io.BytesIO()
    picture = picture if picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16") else picture.convert("RGB")
    picture.save(file, "PNG", compress_level=1)  # it is sent once, so speed counts more than size
    return file.getvalue()


def upright(picture: PillowImage) -> PillowImage:
    """A picture as its EXIF data turn it; the same object if they do not, or break their own rules."""
    from PIL import Image as Pillow

    turns = Pillow.Transpose
    try:
        orientation = int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow's reader of EXIF lets through nearly anything
        return picture
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def batch_of(images: Any) -> list[bytes] | Array:
    """Several images as one batch: encoded ones as a list of bytes, arrays as one array.

    InvalidArgument: they are of both kinds, of different shapes, or none.
    """
    if isinstance(images, np.ndarray):
        return images
    if isinstance(images, str | bytes | os.PathLike):
        raise InvalidArgument("got one image where several are expected; put it into a list")
    images = list(images)
    for row, image in enumerate(images):
        if image is None or isinstance(image, int | float):  # a missing value of a table is None or NaN
            raise InvalidArgument(f"row {row} is {image}; expected an image")
    data = [encoded(image) for image in images]
    found = [each for each in data if each is not None]
    if found and len(found) == len(data):
        return found
    if found:
        raise InvalidArgument("got encoded images together with arrays; expected images of one kind")
    shapes = sorted({np.shape(image) for image in images})
    if len(shapes) != 1:
        raise InvalidArgument(f"got images of the shapes {shapes}; expected at least one, all of the same shape")
    return np.stack([np.asarray(image) for image in images])


def pixels(image: bytes | str | os.PathLike[str], info: TensorInfo, what: str, name: str = "bytes") -> Array:
    """An encoded image, or a file, as float32 [h, w, c] in [0, 1], with the size and channels that `info` declares.

    For signatures that take no bytes; the result is the one that the exported graphs compute. `name` names bytes.
    InvalidArgument: not a PNG or JPEG, or `info` declares no image.
    """
    from PIL import Image as Pillow

    from ladle.clients.library import preprocess

    shape = info.shape or ()
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise InvalidArgument(f"{what}: got an image; expected {info}")
    data = encoded(image)
    assert data is not None
    try:
        with Pillow.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return preprocess.pixels(picture, shape[1], shape[2], shape[-1])
    except Exception:  # Pillow lets through whatever its decoders raise on damaged files
        name = name if isinstance(image, bytes) else os.fspath(image)
        raise InvalidArgument(f"{what}: got {name}, not a readable PNG or JPEG image") from None


def decoded_batch(images: Sequence[bytes], names: Sequence[Any], info: TensorInfo, what: str) -> Array:
    """`pixels` of several images, float32 [b, h, w, c]; as uint8 for a model that takes those.

    InvalidArgument: they differ in size and `info` fixes none.
    """
    arrays = [
        pixels(data, info, what, str(name) if isinstance(name, str | os.PathLike) else "bytes")
        for data, name in zip(images, names, strict=True)
    ]
    if len({array.shape for array in arrays}) > 1:
        raise InvalidArgument(f"{what}: got images of different sizes; expected one size in a batch")
    stacked = np.stack(arrays)
    return np.rint(stacked * 255).astype(np.uint8) if info.dtype == "uint8" else stacked


def batch(image: Any, info: TensorInfo, what: str) -> tuple[Array, bool]:
    """An array as float32 [b, h, w, c] in [0, 1], and whether it came without a batch axis.

    A model of uint8 images gets arrays of uint8 as they are. InvalidArgument names what came and what `info` declares.
    """
    given = np.asarray(image)
    bytewise = info.dtype == "uint8" and given.dtype == np.uint8
    scaled = given if bytewise else _scale(given, what)
    shape = info.shape or (None, None, None, None)
    if len(shape) != 4:  # a model of flat images: the caller shapes them
        single = len(shape) == scaled.ndim + 1
        array = scaled[None] if single else scaled
    else:
        array, single = _with_axes(scaled, shape[-1])
    if not (bytewise or info.dtype in ("float32", "float64", "float16")) or not info.admits(array.shape):
        either = "" if info.dtype == "uint8" else ", or uint8 of that shape"
        raise InvalidArgument(f"{what}: got {describe(given)}; expected {info}{either}")
    return array.astype(info.numpy, copy=False), single


def _scale(given: Array, what: str) -> Array:
    if given.dtype == np.uint8:
        return given.astype(np.float32) / np.float32(255)
    if given.dtype.kind == "b":
        return given.astype(np.float32)
    if given.dtype.kind != "f":
        raise InvalidArgument(f"{what}: got {describe(given)}; expected uint8, or float in [0, 1]")
    # Written so that NaN is refused too.
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        low, high = float(given.min()), float(given.max())
        raise InvalidArgument(f"{what}: got values from {low:g} to {high:g}; expected float in [0, 1], or uint8")
    return given.astype(np.float32, copy=False)


def _with_axes(given: Array, channels: int | None) -> tuple[Array, bool]:
    """[h, w], [h, w, c] and, for one channel, [b, h, w] -> [b, h, w, c]; anything else as it is."""
    if given.ndim == 2:
        return given[None, :, :, None], True
    if given.ndim == 3:
        if channels == 1 and given.shape[-1] != 1:
            return given[..., None], False
        return given[None], True
    return given, False
