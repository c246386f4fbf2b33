"""Checks the files of a version before any is opened, so that an error names the file and no load waits for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ladle.serving.errors import FailedPrecondition, PermissionDenied

# Files are opened with the rights of the effective user, which `access` checks only if it is told to.
_EFFECTIVE = os.access in os.supports_effective_ids


def check_files(folder: Path) -> None:
    """PermissionDenied for a file or folder that the server may not read, FailedPrecondition for a FIFO or device.

    Opening a FIFO would wait for somebody who writes into it. A missing folder passes: the load reports it.
    """
    try:
        os.stat(folder)
    except PermissionError:
        raise _unreadable("the version's folder") from None
    except OSError:
        return
    paths = [str(folder)]  # not Path: fifty versions that appear at once are loaded beside requests
    for where, folders, names in os.walk(folder):
        paths += [os.path.join(where, name) for name in sorted((*folders, *names))]
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError:  # a symbolic link to nothing, or removed since the walk listed it
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise FailedPrecondition(f"{_name(path, folder)} is a {_kind(mode)}; expected a regular file: replace it")
        needed = os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK
        if not os.access(path, needed, effective_ids=_EFFECTIVE):
            raise _unreadable(_name(path, folder))


def _name(path: str, folder: Path) -> str:
    return os.path.relpath(path, folder) if path != str(folder) else "the version's folder"


def _unreadable(name: str) -> PermissionDenied:
    return PermissionDenied(f"{name} cannot be read: permission denied; allow the server's user to read it")


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "FIFO"
    return "socket" if stat.S_ISSOCK(mode) else "device"
