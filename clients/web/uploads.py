"""The images of a request: multipart files, raw bytes, or base64 in JSON; checked before the model server sees them."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from ladle.clients.drawing.pictures import png
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import Given

FORMATS = ("PNG", "JPEG", "WEBP")
RAW = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each orientation upright. Pillow's own way writes all of its EXIF anew, which may be odd."""
WANTED = "a multipart file named image, a raw PNG, JPEG or WebP, or JSON with base64 as image"


@dataclass(frozen=True)
class Upload:
    """An image as the model server takes it: the bytes of a PNG or JPEG, upright, and the same as a picture."""

    data: bytes
    picture: Image.Image


def encoded(given: Given) -> list[bytes]:
    """The files of the images that came, still encoded. Problem 400: none, or no base64."""
    if given.raw is not None:
        found = [given.raw] if given.raw else []
    elif given.files:
        found = given.files.get("image", [])
    else:
        texts = given.value.get("images", [given.value["image"]] if "image" in given.value else [])
        found = [decoded(text, "image") for text in texts]
    if not found:
        raise Problem(400, f"No image came; wanted {WANTED}.")
    return found


def uploads(files: Iterable[bytes], max_images: int, max_pixels: int) -> list[Upload]:
    """Problem 413: too large or too many; 415: another format; 422: damaged. `max_pixels`: of all together."""
    files = list(files)
    if len(files) > max_images:
        raise Problem(413, f"{len(files)} images came; at most {max_images} are taken at once.")
    found: list[Upload] = []
    left = max_pixels  # a small file can hold a very large picture
    for data in files:
        found.append(upload(data, left))
        left -= found[-1].picture.width * found[-1].picture.height
    return found


def decoded(text: str, what: str) -> bytes:
    """Base64, plain or URL-safe, padded or not, or a data: URL. Problem 400: none of these."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, f"{what} is not base64.") from None


def upload(data: bytes, max_pixels: int) -> Upload:
    """One image, decoded to its end."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise Problem(413, f"The image has too many pixels; at most {max_pixels} are taken.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise Problem(415, "The file is neither a PNG nor a JPEG nor a WebP image.") from None
    width, height = picture.size
    if width * height > max_pixels:
        raise Problem(
            413, f"The image has {width}×{height} pixels; at most {max_pixels} are left of what a request may hold."
        )
    try:
        picture.load()
        turn = _TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises whatever a damaged file provokes
        raise Problem(422, "The image is damaged: it cannot be decoded to its end.") from None
    if picture.format == "PNG" or (picture.format == "JPEG" and picture.mode in ("L", "RGB") and turn is None):
        return Upload(data, picture)
    upright = picture.convert("RGB")
    if turn is not None:
        upright = upright.transpose(turn)
    return Upload(png(upright), upright)


def reduced(given: Upload, side: int) -> Upload:
    """The image on at most `side` pixels on its longer side: a photograph would keep the server busy for minutes."""
    if max(given.picture.size) <= side:
        return given
    small = given.picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    return Upload(png(small), small)
