"""A version of a model appears whole or not at all: written as a draft, renamed when complete.

A draft is a folder whose name is not a number, beside the versions, so that no server takes it for one. Its writer
holds a lock on it; the kernel drops the lock when the writer dies, and the next writer then removes the draft.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

DRAFT = ".tmp-"
"""How the name of a draft begins."""


def versions(folder: Path) -> dict[int, Path]:
    """The versions in a model's folder, lowest first: positive number -> path. Of `1` and `01` the last counts."""
    if not folder.is_dir():
        return {}
    return dict(sorted((number, path) for number, path in _numbered(folder).items() if path.is_dir()))


def number_of(name: str) -> int | None:
    """The positive number that a whole name spells, as a server reads it; None for any other name."""
    # Clients have the same rule in wire/versions.py, which training does not import; a test compares the two.
    # ASCII digits only: str.isdigit() is also true of "²", which int() refuses.
    number = int(name) if re.fullmatch("[0-9]{1,64}", name) else 0
    return number if 0 < number < 2**63 else None


def _numbered(folder: Path) -> dict[int, Path]:
    """What bears a version's number, files too: a server takes them for versions, and no folder can have their name."""
    numbers = ((number_of(name), folder / name) for name in sorted(os.listdir(folder)))
    return {number: path for number, path in numbers if number is not None}


@contextlib.contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A new draft in the model's folder. What is not published by the end of the block is removed.

    Drafts of writers that are gone are removed first. Folders that were made for the draft go with it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    path, lock = _locked_draft(folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # not empty: published, or another writer's
            for parent in made:
                parent.rmdir()


def publish(path: Path, complete: Callable[[int], None]) -> Path:
    """Rename a draft to the next version and return it.

    `complete` is given the version's number and writes what depends on it; it is called again with a higher one when
    another writer was faster.
    """
    sync(path)
    while True:
        version = max(_numbered(path.parent), default=0) + 1
        complete(version)
        target = path.with_name(str(version))
        try:
            path.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            continue
        sync_folder(path.parent)
        return target


def sweep(folder: Path) -> None:
    """Remove the drafts in a folder whose writers are gone."""
    for path in folder.glob(f"{DRAFT}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # a file, or removed in the meantime
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its writer lives, or the file system has no locks: then nobody can tell
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def write_file(path: Path, content: bytes) -> None:
    """Write a file under another name, sync it, and rename it: it is there whole or not at all."""
    temporary = path.with_name(f"{DRAFT}{secrets.token_hex(4)}-{path.name}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked_draft(folder: Path) -> tuple[Path, int]:
    """A new draft and the descriptor that holds its lock; tried anew if a sweep came between the two."""
    while True:
        path = folder / f"{DRAFT}{secrets.token_hex(8)}"
        path.mkdir(parents=True)  # not mkdtemp: a server that runs as another user must read it
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        except OSError:  # no locks on this file system: nobody can sweep here either
            return path, lock
        if path.exists():
            return path, lock
        os.close(lock)


def sync(root: Path) -> None:
    """Make all files and names below a folder survive a power cut."""
    for folder, _, files in os.walk(root):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(folder))
