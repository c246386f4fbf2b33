"""Finds picture files in folders and archives and decodes them with Pillow. Every error names the file."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

Read = Callable[[], bytes]


def is_picture(name: str) -> bool:
    """Whether a file name has a known suffix; hidden files are left out."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def pictures(path: Path) -> dict[str, bytes | Path]:
    """The pictures in a folder or an archive by relative name, sorted: paths, or the bytes of an archive's members.

    A folder without pictures may contain one archive instead. Archives are not unpacked to disk.
    """
    if path.is_dir():
        archives = [file for file in path.iterdir() if file.name.lower().endswith(ARCHIVES)]
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        found: dict[str, bytes | Path] = {name: files[name] for name in sorted(files) if is_picture(name)}
        return pictures(archives[0]) if not found and len(archives) == 1 else found
    if not path.name.lower().endswith(ARCHIVES):
        raise DataError(f"{path}: is no folder of pictures; expected a folder or one of {', '.join(ARCHIVES)}")
    try:
        return dict(sorted(_archive(path)))
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read to the end ({error}); get it again") from error


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir() and is_picture(info.filename):
                    yield info.filename, archive.read(info)
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and is_picture(member.name):
                stream = tar.extractfile(member)
                assert stream is not None
                yield member.name, stream.read()


def decode(name: str, data: bytes | Path, mode: str | None) -> Image.Image:
    """Decode a picture and convert it to Pillow's `mode` ("L" for grey, "RGB"); None keeps its mode."""
    try:
        with warnings.catch_warnings():
            # A small file can unpack to gigabytes of pixels. Pillow only warns about it.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
            image.load()  # open() reads only the header; damaged data show here
        if mode and image.mode.startswith("I") and np.asarray(image).max() > 255:
            # Pillow's conversion clips 16-bit grey values at 255; they must be scaled.
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        return image.convert(mode) if mode else image
    except Exception as error:  # a broken picture can raise nearly anything
        raise DataError(f"{name}: cannot be read as a picture ({error}); remove or replace it") from error


def sized(image: Image.Image, height: int | None, width: int | None) -> Image.Image:
    """Scale a picture until it covers height x width, then crop it at the centre; None leaves it unchanged."""
    if height is None or width is None or image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def differ(path: Path, files: dict[str, bytes | Path]) -> bool:
    """Whether the pictures have different sizes. Only their headers are read."""
    sizes: set[tuple[int, int]] = set()
    for name, data in files.items():
        try:
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
                sizes.add(image.size)
        except Exception as error:  # a broken picture can raise nearly anything
            raise DataError(f"{path}/{name}: cannot be read as a picture ({error}); remove or replace it") from error
    return len(sizes) > 1


def stack(path: Path, files: dict[str, bytes | Path], mode: str, height: int | None, width: int | None) -> Array:
    """Decode the pictures of `path` into one array, uint8 [n, h, w, c]; DataError when their sizes differ."""
    x: Array | None = None
    for i, (name, data) in enumerate(files.items()):
        pixels = np.asarray(sized(decode(f"{path}/{name}", data, mode), height, width))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # [h, w, c]
        if x is None:
            x = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape != x.shape[1:]:
            raise DataError(
                f"{path}/{name}: is {pixels.shape[0]}x{pixels.shape[1]}; expected {x.shape[1]}x{x.shape[2]} (height x "
                "width), the size of the first picture: give height and width to scale them all"
            )
        x[i] = pixels
    assert x is not None
    return x
