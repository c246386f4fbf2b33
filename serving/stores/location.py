"""Base paths that lie in an object store: s3://, gs://, az://, https:// and http://."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ladle.serving.errors import InvalidArgument

SCHEMES = ("s3", "gs", "az", "https", "http")


@dataclass(frozen=True)
class Location:
    """A place in a store: a repository, or the base path of one model.

    url  without a slash at its end, and without credentials
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def is_http(self) -> bool:
        """Whether a plain web server is asked, which cannot list what it has."""
        return self.url.startswith("http")

    @property
    def name(self) -> str:
        """The last part of the path; of a base path, the model's folder."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> Location:
        """The place one level up."""
        return Location(self.url.rpartition("/")[0])

    @property
    def folder_name(self) -> str:
        """A folder name that belongs to this place alone."""
        readable = re.sub("[^A-Za-z0-9.-]+", "-", self.url)[:60]
        return f"{readable}-{hashlib.sha256(self.url.encode()).hexdigest()[:10]}"


def is_remote(path: str) -> bool:
    """Whether a base path names another file system than the machine's own."""
    return "://" in path and not path.startswith("file://")


def parse(url: str) -> Location:
    """The place that a URL names; InvalidArgument for another scheme, a missing bucket, and credentials in the URL."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise InvalidArgument(
            f"got {scheme}://, a file system that this server cannot read; expected a folder of its own machine, or "
            f"{', '.join(f'{known}://' for known in SCHEMES[:4])}: copy or mount the models there"
        )
    parts = urlsplit(url)
    # Whatever a URL holds may reach a log, so credentials come from the environment alone.
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidArgument(
            f"got a {scheme}:// path with a user, a query or a fragment; expected "
            f"{scheme}://BUCKET/FOLDER: credentials come from the environment"
        )
    if not parts.netloc or any(part in (".", "..") for part in rest.split("/")):
        raise InvalidArgument(f"got {url}; expected {scheme}://BUCKET/FOLDER")
    return Location(f"{scheme}://{rest.strip('/')}")
