"""Picture files: found in folders and archives, decoded with Pillow. Each failure names the file."""

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

Read = Callable[[], bytes]


def is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def pictures(path: Path) -> dict[str, bytes | Path]:
    """Pictures of a folder or an archive by their relative names, sorted.

    A folder without pictures may hold one archive. An archive is never unpacked to disk.
    """
    if path.is_dir():
        archives = [file for file in path.iterdir() if file.name.lower().endswith(ARCHIVES)]
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        found: dict[str, bytes | Path] = {name: files[name] for name in sorted(files) if is_picture(name)}
        return pictures(archives[0]) if not found and len(archives) == 1 else found
    if not path.name.lower().endswith(ARCHIVES):
        raise DataError(f"{path}: is neither a folder nor one of {', '.join(ARCHIVES)}")
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
    """A picture in Pillow's `mode` ("L" grey, "RGB"), or as it is with None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
            image.load()
        if mode and image.mode.startswith("I") and np.asarray(image).max() > 255:
            # Pillow would clip 16-bit greys, not scale them.
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        return image.convert(mode) if mode else image
    except Exception as error:  # a broken picture can raise nearly anything
        raise DataError(f"{name}: is not a picture that can be read ({error})") from error


def sized(image: Image.Image, height: int | None, width: int | None) -> Image.Image:
    """Scaled until it covers height x width, then cut at the centre; None leaves a picture as it is."""
    if height is None or width is None or image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def differ(path: Path, files: dict[str, bytes | Path]) -> bool:
    """Whether the pictures are of more than one size; only their headers are read."""
    sizes: set[tuple[int, int]] = set()
    for name, data in files.items():
        try:
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
                sizes.add(image.size)
        except Exception as error:  # a broken picture can raise nearly anything
            raise DataError(f"{path}/{name}: is not a picture that can be read ({error})") from error
    return len(sizes) > 1


def stack(path: Path, files: dict[str, bytes | Path], mode: str, height: int | None, width: int | None) -> Array:
    """Decode the pictures of `path` into one array: uint8 [n, h, w, c]. DataError when their sizes differ."""
    x: Array | None = None
    for i, (name, data) in enumerate(files.items()):
        pixels = np.asarray(sized(decode(f"{path}/{name}", data, mode), height, width))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # [h, w, c]
        if x is None:
            x = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape != x.shape[1:]:
            raise DataError(
                f"{path}/{name}: is {pixels.shape[0]}x{pixels.shape[1]}, the first picture {x.shape[1]}x{x.shape[2]} "
                "(height x width); give height and width to scale them all"
            )
        x[i] = pixels
    assert x is not None
    return x
