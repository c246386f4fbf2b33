"""The images of a request: a multipart file, raw bytes, or base64 in JSON; checked before the server sees them."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

from flask import Request
from PIL import Image, ImageOps, UnidentifiedImageError

from clients.pictures import png
from clients.web.config import Config
from clients.web.problems import Problem

FORMATS = ("PNG", "JPEG", "WEBP")
RAW = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
ORIENTATION = 0x0112
WANTED = "a multipart file named image, a raw PNG, JPEG or WebP, or JSON with base64 as image"


@dataclass(frozen=True)
class Upload:
    """An image as the model server takes it: the bytes of a PNG or JPEG, upright, and the same as a picture."""

    data: bytes
    picture: Image.Image


def images(request: Request, config: Config) -> list[Upload]:
    """All images of the request, at least one.

    Problem 400: no image; 413: too large or too many; 415: another type or format; 422: damaged.
    """
    bodies = _bodies(request)
    if not bodies:
        raise Problem(400, f"No image came; wanted {WANTED}.")
    if len(bodies) > config.max_images:
        raise Problem(413, f"{len(bodies)} images came; at most {config.max_images} are taken at once.")
    found: list[Upload] = []
    left = config.max_pixels  # of all together: a small file can hold a very large picture
    for data in bodies:
        found.append(_upload(data, left))
        left -= found[-1].picture.width * found[-1].picture.height
    return found


def json_object(request: Request) -> dict[str, Any]:
    """The JSON object of the request. Problem 400: no JSON object; 415: not said to be JSON."""
    if request.mimetype != "application/json":
        raise Problem(415, f"The body is {request.mimetype or 'of no type'}; wanted application/json.")
    value = request.get_json(silent=True)
    if not isinstance(value, dict):
        raise Problem(400, "The body is not a JSON object.")
    return value


def _bodies(request: Request) -> list[bytes]:
    if request.mimetype == "multipart/form-data":
        return [file.read() for file in request.files.getlist("image")]
    if request.mimetype in RAW:
        data = request.get_data()
        return [data] if data else []
    if request.mimetype != "application/json":
        raise Problem(415, f"The body is {request.mimetype or 'of no type'}; wanted {WANTED}.")
    value = json_object(request)
    given = value.get("images", [value["image"]] if "image" in value else [])
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise Problem(400, "image is not a base64 string, or images is not a list of them.")
    return [_decoded(item) for item in given]


def _decoded(text: str) -> bytes:
    """Base64, plain or URL-safe, padded or not, or a data: URL."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "image is not base64.") from None


def _upload(data: bytes, max_pixels: int) -> Upload:
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
        turned = picture.getexif().get(ORIENTATION, 1) != 1
    except Exception:  # Pillow raises whatever a damaged file provokes
        raise Problem(422, "The image is damaged: it cannot be decoded to its end.") from None
    if picture.format == "PNG" or (picture.format == "JPEG" and picture.mode in ("L", "RGB") and not turned):
        return Upload(data, picture)
    upright = ImageOps.exif_transpose(picture).convert("RGB")
    return Upload(png(upright), upright)
