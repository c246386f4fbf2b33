"""Runs package clients (apt-get, pip, uv, npm) and reports the progress of their downloads."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ladle.training.data.errors import DataError
from ladle.training.data.fetch.progress import Update

POLL_SECONDS = 0.1
COMPLAINTS = ("E:", "ERROR:", "error:", "npm error", "npm ERR!", "×")
"""Prefixes of error lines of apt, pip, uv and npm."""


def pip_download(linux_wheel_of: str) -> tuple[list[str], bool]:
    """The command that fetches a wheel, up to the folder that must follow, and whether it also unpacks the wheel.

    Environments made by uv have no pip. uv cannot download a wheel, but it can install one into a folder. The command
    is empty if neither tool is there.
    """
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif uv := shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)):
        quiet = ["--quiet", "--python", sys.executable, "--no-deps", "--only-binary", ":all:"]
        linux = ["--python-platform", "x86_64-manylinux_2_28", "--python-version", linux_wheel_of]
        return [uv, "pip", "install", *quiet, *(linux if linux_wheel_of else []), "--target"], True
    elif other := shutil.which("pip3") or shutil.which("pip"):
        pip = [other]
    else:
        return [], False
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--retries", "2"]
    linux = ["--implementation", "cp", "--python-version", linux_wheel_of, "--platform", "manylinux_2_28_x86_64"]
    return [*pip, "download", *quiet, *(linux if linux_wheel_of else []), "--dest"], False


def copy(stream: IO[bytes], target: Path, update: Update | None = None, before: int = 0) -> int:
    """Copy a stream to a file and return its size in bytes; `update` gets `before` plus the bytes so far."""
    done = 0
    with open(target, "wb") as out:
        while block := stream.read(1 << 18):
            out.write(block)
            done += len(block)
            if update:
                update(before + done)
    return done


def run(command: Sequence[str], folder: Path, update: Update) -> None:
    """Run a package client in `folder`; the size of the folder on disk is the progress.

    DataError with the client's first error line, else its last line.
    """
    log = folder / "stderr.txt"
    # LC_ALL: the error prefixes are English. TMPDIR: partial downloads then count as progress and go with the folder.
    environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
    with open(log, "wb") as stderr:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
        )
        try:
            while True:
                try:
                    code = process.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    update(_size(folder))
        except BaseException:  # Ctrl-C must leave no client running
            process.kill()
            process.wait()
            raise
    if code != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        complaint = next((line for line in lines if line.strip().startswith(COMPLAINTS)), None)
        tool = Path(command[0]).name if command[1] != "-m" else command[2]
        raise DataError(f"{tool} failed: {(complaint or (lines or [f'exit {code}'])[-1]).strip()}")


def _size(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except OSError:  # renamed or removed meanwhile
                continue
    return total
