"""The images of a request: files of a form, raw bytes, or base64 in JSON.

Format and size are checked before the model server gets an image. It decodes the pixels anyway, so it finds the damaged
ones.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from ladle.clients.drawing.pictures import png
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import ParsedRequest

FORMATS = ("PNG", "JPEG", "WEBP")
RAW = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes an image of each EXIF orientation upright.

Not `ImageOps.exif_transpose`: it writes the EXIF data back, and fails on data that breaks the rules, as cameras do.
"""
DAMAGED = "Got a damaged image; expected one that can be decoded completely."
EXPECTED = "a multipart file named image, a raw PNG, JPEG or WebP, or JSON with base64 as image"


@dataclass(frozen=True)
class Upload:
    """An upright image.

    data    the bytes of a PNG or JPEG that the model server can decode
    opened  the image, whose pixels may not have been decoded: most answers need none here
    """

    data: bytes
    opened: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.opened.size

    @property
    def picture(self) -> Image.Image:
        """The image, decoded completely. Problem 422: it is damaged."""
        try:
            self.opened.load()
        except Exception:  # a damaged file can make Pillow raise almost any exception
            raise Problem(422, DAMAGED) from None
        return self.opened


def images_of(request: ParsedRequest, max_images: int, max_pixels: int) -> list[Upload]:
    """The images of a request. Problem 400: there are none, or not in base64; and the problems of `decode_all`."""
    if request.raw is not None:
        files: Sequence[bytes] = [request.raw] if request.raw else []
    elif request.files:
        files = request.files.get("image", [])
    else:
        texts = request.json.get("images", [request.json["image"]] if "image" in request.json else [])
        files = [from_base64(text, "image") for text in texts]
    if not files:
        raise Problem(400, f"Got no image; expected {EXPECTED}.")
    return decode_all(files, max_images, max_pixels)


def decode_all(files: Sequence[bytes], max_images: int, max_pixels: int) -> list[Upload]:
    """Problem 413: too many, or more than `max_pixels` in all; 415: not a supported format; 422: a damaged head."""
    if len(files) > max_images:
        raise Problem(413, f"Got {len(files)} images; expected at most {max_images}.")
    found: list[Upload] = []
    left = max_pixels  # pixels, not bytes: a small file can hold a very large image
    for data in files:
        found.append(decode(data, left))
        width, height = found[-1].size
        left -= width * height
    return found


def from_base64(text: str, what: str) -> bytes:
    """Base64, plain or URL-safe, padded or not, or a data: URL. Problem 400: it is none of these."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, f"{what}: got text that is not base64; expected an image in base64.") from None


def decode(data: bytes, max_pixels: int) -> Upload:
    """One image, decoded only if it is sent on in another form. Problem 413, 415, 422: as `decode_all`."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise Problem(413, f"Got an image with too many pixels; expected at most {max_pixels}.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise Problem(415, "Got a file that is no image; expected PNG, JPEG or WebP.") from None
    width, height = picture.size
    if width * height > max_pixels:
        raise Problem(
            413,
            f"Got an image of {width}×{height} pixels; expected at most {max_pixels} more in this request.",
        )
    # The model server decodes these as they are; anything else becomes an upright PNG.
    if picture.format == "PNG":
        return Upload(data, picture)
    try:
        turn = _UPRIGHT.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # as in `Upload.picture`
        raise Problem(422, DAMAGED) from None
    if picture.format == "JPEG" and picture.mode in ("L", "RGB") and turn is None:
        return Upload(data, picture)
    upright = Upload(data, picture).picture.convert("RGB")
    if turn is not None:
        upright = upright.transpose(turn)
    return Upload(png(upright), upright)


def shrink(image: Upload, side: int) -> Upload:
    """The image with at most `side` pixels on its longer side. Segmenting a whole photograph would take minutes."""
    if max(image.size) <= side:
        return image
    small = image.picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    return Upload(png(small), small)
