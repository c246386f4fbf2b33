"""Keeps the server inside its repository: symbolic links may not lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ladle.serving.errors import PermissionDenied

MODEL_NAMES = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
"""A folder of a repository is a model when its whole name matches this regular expression."""


def is_inside(path: Path, root: Path) -> bool:
    """Whether the path is `root` or lies below it, after following all symbolic links."""
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    return real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)


def check_version(folder: Path, root: Path) -> None:
    """PermissionDenied when the version's folder, or a file in it, is a symbolic link out of `root`."""
    if not is_inside(folder, root):
        raise PermissionDenied(
            "the version's folder is a symbolic link out of the repository; "
            "copy it there, or start the server with --allow_symlinks"
        )
    for path in _links(folder):
        if not is_inside(path, root):
            raise PermissionDenied(
                f"{path.relative_to(folder)} is a symbolic link out of the repository; "
                "copy the file there, or start the server with --allow_symlinks"
            )


def _links(folder: Path) -> Iterator[Path]:
    """The symbolic links below a folder. Links to folders are not entered: checking the link itself is enough."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # not a folder, or not readable: loading the version reports it
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _links(Path(entry.path))
