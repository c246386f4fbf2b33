"""Publishes versions atomically: a version is written as a draft and renamed when it is complete.

A draft is a folder beside the versions whose name is not a number, so servers ignore it. Its writer holds a lock on it.
The kernel releases the lock when the writer dies, and the next writer then removes the draft.
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

from ladle.training.errors import TrainingError

DRAFT = ".tmp-"
"""Prefix of a draft's name."""


def versions(folder: Path) -> dict[int, Path]:
    """The versions in a model's folder, lowest first: positive number -> path. If `1` and `01` exist, `1` counts."""
    if not folder.is_dir():
        return {}
    return dict(sorted((number, path) for number, path in _numbered(folder).items() if path.is_dir()))


def newest(repository: Path, name: str) -> Path:
    """The folder of a model's newest version. TrainingError: it has none."""
    found = versions(repository / name)
    if not found:
        raise TrainingError(f"{repository / name} has no version; train it first: ladle train {name}")
    return found[max(found)]


def number_of(name: str) -> int | None:
    """The version number that a folder name spells, as servers read it; None for any other name."""
    # Clients have the same rule in wire/versions.py, which training does not import; a test compares the two.
    # ASCII digits only: str.isdigit() is also true of "²", which int() refuses.
    number = int(name) if re.fullmatch("[0-9]{1,64}", name) else 0
    return number if 0 < number < 2**63 else None


def _numbered(folder: Path) -> dict[int, Path]:
    """Folders and files whose name is a version number. Files count: servers see them, and their names are taken."""
    numbers = ((number_of(name), folder / name) for name in sorted(os.listdir(folder)))
    return {number: path for number, path in numbers if number is not None}


@contextlib.contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A new draft in the model's folder; removed at the end of the block unless it was published.

    Abandoned drafts are removed first. Parent folders that were created for the draft are removed with it.
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
    """Rename a draft to the next version and return its folder.

    complete  called with the version number before the rename, to write files that contain it; called again with a
              higher number when another writer takes the first
    """
    sync(path)
    while True:
        version = max(_numbered(path.parent), default=0) + 1
        complete(version)
        target = path.with_name(str(version))
        try:
            # rename() fails if the target is a file or a folder with files, so of two writers only one gets the number.
            path.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            continue
        sync_folder(path.parent)
        return target


def sweep(folder: Path) -> None:
    """Remove abandoned drafts: those that no living process has locked."""
    for path in folder.glob(f"{DRAFT}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # a file, or just removed by another process
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its writer is alive, or the file system has no locks and nobody can tell
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: under another name, synced to disk, then renamed."""
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
    """Flush the entries of a folder to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked_draft(folder: Path) -> tuple[Path, int]:
    """A new draft and the descriptor that holds its lock."""
    while True:
        path = folder / f"{DRAFT}{secrets.token_hex(8)}"
        path.mkdir(parents=True)  # not mkdtemp: a server that runs as another user must read it
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another process swept the folder before it was locked: try again
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        except OSError:  # the file system has no locks, so nobody can sweep either
            return path, lock
        if path.exists():
            return path, lock
        os.close(lock)


def sync(root: Path) -> None:
    """Flush all files and folders below a folder to disk, so that they survive a power cut."""
    for folder, _, files in os.walk(root):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(folder))
