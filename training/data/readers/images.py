"""Finds picture files in folders and archives and decodes them with Pillow. Every error names the file."""

from __future__ import annotations

import io
import os
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2")
OTHERS = (".avif", ".heic", ".heif", ".svg", ".psd", ".cr2", ".nef", ".arw", ".dng")
"""Pictures that Pillow may not read. They are named with the broken ones, not passed over in silence."""
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
OTHER_ARCHIVES = (".rar", ".7z", ".bz2", ".xz", ".zst", ".tbz2", ".txz")
"""Archives that are not read."""
SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information")
"""What macOS, network drives and Windows put beside the user's files, in lower case."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

NAMED = 5
"""Broken files that an error or a note names; it counts the others."""
ORIENTATION = 0x0112
"""EXIF tag."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes a picture of each EXIF orientation upright, as in the gateway."""


def is_picture(name: str) -> bool:
    """Whether a relative name has a known suffix; hidden files are left out, and those in hidden folders."""
    path = PurePosixPath(name)
    return path.suffix.lower() in (*SUFFIXES, *OTHERS) and not any(map(is_hidden, path.parts))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's: .DS_Store, .ipynb_checkpoints, __MACOSX."""
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in SYSTEM_FOLDERS


def pictures(path: Path) -> dict[str, bytes | Path]:
    """The pictures in a folder or an archive by relative name, sorted: paths, or the bytes of an archive's members.

    A folder without pictures may contain one archive instead. Archives are not unpacked to disk. DataError: a folder or
    an archive cannot be read.
    """
    if path.is_dir():
        found: dict[str, bytes | Path] = {name: file for name, file in files_below(path).items() if is_picture(name)}
        for name in found:
            if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
                shown = os.fsencode(name).decode(errors="replace")
                raise DataError(f"{path}/{shown}: its name is not UTF-8, so no label or card can hold it; rename it")
        archives = [] if found else [file for file in path.iterdir() if file.name.lower().endswith(ARCHIVES)]
        return pictures(archives[0]) if len(archives) == 1 else found
    if not path.name.lower().endswith(ARCHIVES):
        raise DataError(f"{path}: is no folder of pictures; expected a folder or one of {', '.join(ARCHIVES)}")
    try:
        return dict(sorted(_archive(path)))
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read to the end ({error}); get it again") from error
    except RuntimeError as error:  # as zipfile says that it wants a password, or does not know a compression
        cause = "needs a password" if "encrypted" in str(error) else "is packed in a way that Python does not read"
        raise DataError(f"{path}: {cause}; unpack it and give the folder") from error


def files_below(path: Path) -> dict[str, Path]:
    """The files below a folder by relative name, sorted, also through links to folders; hidden ones are left out.

    A link that leads back to a folder above it is not followed. DataError: a folder may not be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); give yourself the right to, or move it")

    found: dict[str, Path] = {}
    above = {os.fspath(path): {os.path.realpath(path)}}
    for folder, folders, names in os.walk(path, followlinks=True, onerror=refuse):
        here = above.pop(folder)
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in folders if not is_hidden(name)}
        folders[:] = [name for name in real if real[name] not in here]
        above.update({os.path.join(folder, name): here | {real[name]} for name in folders})
        for name in names:
            file = Path(folder, name)
            # A link to nowhere stays, so that it is named as broken; a pipe would never end.
            if not is_hidden(name) and (file.is_file() or not file.exists()):
                found[file.relative_to(path).as_posix()] = file
    return {name: found[name] for name in sorted(found)}


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
    """Decode a picture, turn it upright as its EXIF data say, and convert it to Pillow's `mode`; None keeps its mode.

    mode  "L" for grey, "RGB"; of 16-bit greys the upper 8 bits count, as in the servers
    """
    try:
        return _decode(data, mode)
    except Exception as error:  # a broken picture can raise nearly anything
        raise DataError(
            f"{name}: cannot be read as a picture ({_cause(data, error)}); remove or replace it, or give --skip-broken"
        ) from error


def _decode(data: bytes | Path, mode: str | None) -> Image.Image:
    with warnings.catch_warnings():
        # A small file can unpack to gigabytes of pixels. Pillow only warns about it.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image: Image.Image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
        image.load()  # open() reads only the header; damaged data show here
    turn = UPRIGHT.get(_orientation(image))
    image = image if turn is None else image.transpose(turn)
    if mode and image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its pixels have 32 bits; expected 8 or 16")
        # All alike, however dark: a scale for each picture would change what the pictures say of each other.
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if mode and image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; expected 8 or 16 bits")
    return image.convert(mode) if mode else image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 without one, or where the EXIF data break their rules, as some cameras' do."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow's reader of EXIF lets through nearly anything
        return 1


def _cause(data: bytes | Path, error: Exception) -> str:
    size = len(data) if isinstance(data, bytes) else data.stat().st_size if data.is_file() else 1
    if size and isinstance(error, UnidentifiedImageError):  # Pillow's sentence names the file once more, or a buffer
        return "its content is of no known format; save it as JPEG or PNG"
    return "it is empty" if not size else str(error) or type(error).__name__


def grey(files: Iterable[bytes | Path]) -> bool:
    """Whether all pictures that can be read are grey. Only their headers are read."""
    for data in files:
        try:
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
                if image.mode not in ("1", "L", "LA", "La", "F") and not image.mode.startswith("I"):
                    return False
        except Exception:  # noqa: S112  (it is named when it is decoded)
            continue
    return True


def sized(image: Image.Image, height: int | None, width: int | None) -> Image.Image:
    """Scale a picture until it covers height x width, then crop it at the centre; None leaves it unchanged."""
    if height is None or width is None or image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def differ(files: Iterable[bytes | Path]) -> bool:
    """Whether the pictures have different sizes. Only their headers are read."""
    sizes: set[tuple[int, int]] = set()
    for data in files:
        try:
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
                turned = _orientation(image) >= 5  # a quarter turn
                sizes.add(image.size[::-1] if turned else image.size)
        except Exception:  # noqa: S112  (it is named when it is decoded)
            continue
    return len(sizes) > 1


def stack(
    path: Path,
    files: Mapping[str, bytes | Path],
    mode: str,
    height: int | None,
    width: int | None,
    skip_broken: bool = False,
) -> tuple[Array, list[str]]:
    """Decode the pictures of `path` into one array, uint8 [n, h, w, c]; and the names of those left out as broken.

    DataError: pictures are broken and `skip_broken` is not set, none can be read, or their sizes differ.
    """
    x: Array | None = None
    broken: dict[str, DataError] = {}
    for name, data in files.items():
        try:
            image = decode(f"{path}/{name}", data, mode)
        except DataError as error:
            broken[name] = error
            continue
        pixels = np.asarray(sized(image, height, width))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # [h, w, c]
        if x is None:
            x, count = np.empty((len(files), *pixels.shape), np.uint8), 0
        if pixels.shape != x.shape[1:]:
            raise DataError(
                f"{path}/{name}: is {pixels.shape[0]}x{pixels.shape[1]}; expected {x.shape[1]}x{x.shape[2]} (height x "
                "width), the size of the first picture: give --height and --width to scale them all"
            )
        x[count] = pixels
        count += 1
    refuse_broken(path, broken, len(files), skip_broken)
    assert x is not None
    return x[:count], list(broken)


def refuse_broken(path: Path, broken: Mapping[str, DataError], count: int, skip: bool) -> None:
    """DataError unless all of `count` files can be read, or the broken ones are to be skipped and others remain."""
    if not broken or (skip and len(broken) < count):
        return
    if len(broken) == 1 and not skip:
        raise next(iter(broken.values()))
    names = ", ".join(list(broken)[:NAMED]) + (", ..." if len(broken) > NAMED else "")
    cause = str(next(iter(broken.values()))).partition("(")[2].rpartition(")")[0]
    advice = "add some that can" if len(broken) == count else "remove or replace them, or give --skip-broken"
    raise DataError(f"{path}: {len(broken)} of {count} pictures cannot be read: {names} (the first: {cause}); {advice}")


def left_out(broken: Sequence[str]) -> str:
    """A note for the card on the broken files that were left out; empty if there are none."""
    if not broken:
        return ""
    names = ", ".join(broken[:NAMED]) + (", ..." if len(broken) > NAMED else "")
    return f"; {len(broken)} broken picture{'s' * (len(broken) > 1)} left out: {names}"
