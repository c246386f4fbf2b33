"""A bounded folder of this machine that holds whole versions of stores.

    <cache>/<store>/<model>/<version>/   a version; it appears by a rename, so it is whole or absent
    <cache>/<store>/<model>/.<version>   which files it has: the fingerprint of the version in the store
    <cache>/<store>/.listing             what the store held when it last answered

One server at a time uses a cache. It removes the versions that nobody has loaded, those used longest ago first, when
another one needs their room.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ladle.serving.errors import InvalidArgument, ResourceExhausted
from ladle.serving.stores import catalog
from ladle.serving.stores.catalog import Catalog
from ladle.serving.stores.location import Location

log = logging.getLogger(__name__)

PART = ".part"
"""Ends the name of a folder in which a version is being fetched."""
_LISTING = ".listing"
_OF_FREE = 0.9
_LOCK_S = 5.0  # a server that was killed a moment ago may still hold its lock


class Cache:
    """The folder, locked for this server until it ends.

    limit   bytes that all versions may take; below 0: nine tenths of what is free, and of what the cache holds already
    in_use  the folders of versions that are loaded or are about to be
    """

    def __init__(self, folder: Path, limit: int, in_use: Callable[[], set[Path]] = set) -> None:
        """InvalidArgument when the folder cannot be made, or when another server uses it."""
        self.folder = folder
        self._in_use = in_use
        self._lock = threading.Lock()
        self._reserved: dict[Path, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InvalidArgument(
                f"--cache_dir={folder}: {error.strerror}; give a folder that can be written"
            ) from None
        self._take()
        self._sizes: dict[Path, int] = {}
        self._sweep()
        held = sum(self._sizes.values())
        self.limit = limit if limit >= 0 else int(_OF_FREE * (shutil.disk_usage(folder).free + held))

    def _take(self) -> None:
        until = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() >= until:
                    os.close(self._descriptor)
                    raise InvalidArgument(
                        f"--cache_dir={self.folder} is in use by another server; give each server its own"
                    ) from None
                time.sleep(0.05)

    def close(self) -> None:
        """Let another server have the folder."""
        os.close(self._descriptor)

    def size(self) -> int:
        """Bytes of all versions, those included that are being fetched."""
        with self._lock:
            return sum(self._sizes.values()) + sum(self._reserved.values())

    def folder_of(self, location: Location, path: str) -> Path:
        """Where the version with this path in the store lies, or will lie."""
        return self.folder / location.folder_name / path

    def has(self, folder: Path, fingerprint: str) -> bool:
        """Whether the whole version is there, with just these files."""
        try:
            return folder.is_dir() and _note(folder).read_text() == fingerprint
        except OSError:
            return False

    def used(self, folder: Path) -> None:
        """Note that a version is loaded now."""
        with contextlib.suppress(OSError):
            os.utime(_note(folder))

    @contextlib.contextmanager
    def filling(self, folder: Path, size: int, fingerprint: str) -> Iterator[Path]:
        """A folder to fetch a version into; at the end of the block it takes its place.

        ResourceExhausted when there is no room for it.
        """
        part = folder.with_name(f".{folder.name}{PART}")
        self._reserve(folder, size)
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            yield part
            _sync(part)
            self._publish(part, folder, size, fingerprint)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            with self._lock:
                self._reserved.pop(folder, None)

    def _publish(self, part: Path, folder: Path, size: int, fingerprint: str) -> None:
        old = folder.with_name(f".{folder.name}.old{PART}")
        with self._lock:
            _note(folder).unlink(missing_ok=True)
            if folder.exists():  # the store has other files under this number by now
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            part.rename(folder)
            _note(folder).write_text(fingerprint)
            _sync_folder(folder.parent)
            self._sizes[folder] = size
        shutil.rmtree(old, ignore_errors=True)

    def _reserve(self, folder: Path, size: int) -> None:
        """Make room for a version."""
        keep = self._in_use() | {folder}
        with self._lock:
            free = self.limit - sum(self._sizes.values()) - sum(self._reserved.values())
            unused = sorted((path for path in self._sizes if path not in keep), key=_last_use)
            while free < size and unused:
                path = unused.pop(0)
                free += self._sizes.pop(path)
                _remove(path)
                log.info("removed %s from the cache", path.relative_to(self.folder))
            if free < size:
                raise ResourceExhausted(
                    f"the version takes {size} bytes and the cache has room for {max(0, free)} of its {self.limit}; "
                    "raise --max_cache_bytes, or serve fewer models"
                )
            self._reserved[folder] = size

    def _sweep(self) -> None:
        """Measure what is there; remove what a server left unfinished."""
        for path in self.folder.rglob(f".*{PART}"):
            shutil.rmtree(path, ignore_errors=True)
        for note in self.folder.glob("*/**/.*"):
            folder = note.with_name(note.name[1:])
            if note.name == _LISTING or note.name.endswith(PART) or not note.is_file() or not folder.name.isdecimal():
                continue
            if folder.is_dir():
                self._sizes[folder] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            else:
                note.unlink()

    def load_catalog(self, location: Location) -> Catalog | None:
        """What the store held when it last answered, to a server before this one; None: not known."""
        try:
            return catalog.from_json((self.folder / location.folder_name / _LISTING).read_text())
        except (OSError, ValueError):
            return None

    def keep_catalog(self, location: Location, found: Catalog) -> None:
        """Note what the store holds, for the next start."""
        folder = self.folder / location.folder_name
        try:
            folder.mkdir(exist_ok=True)
            draft = folder / f"{_LISTING}{PART}"
            draft.write_text(catalog.to_json(found))
            draft.replace(folder / _LISTING)
        except OSError as error:  # only a start without the store would need it
            log.warning("%s: %s", folder, error.strerror)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")


def _last_use(folder: Path) -> float:
    try:
        return _note(folder).stat().st_mtime
    except OSError:
        return 0.0


def _remove(folder: Path) -> None:
    # Without its note, what is left of a version after a crash in between is not taken for a whole one.
    _note(folder).unlink(missing_ok=True)
    gone = folder.with_name(f".{folder.name}.old{PART}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sync(root: Path) -> None:
    """Flush all files below a folder to disk: the next start takes whatever has its name for whole."""
    for where, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(where))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
