"""The objects of a store, by way of the library obstore; its errors become ServingErrors in plain words."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ladle.serving.errors import DataLoss, FailedPrecondition, NotFound, PermissionDenied, ServingError, Unavailable
from ladle.serving.stores.location import Location

_PART_BYTES = 32 * 1024 * 1024
_MOST_TEXT = 64 * 1024 * 1024
# A request that takes longer is given up and made again. Large objects are read in parts, each a request of its own;
# many web servers cannot send parts, so that a whole file must arrive in time.
_TIMEOUT = datetime.timedelta(seconds=60)
_HTTP_TIMEOUT = datetime.timedelta(minutes=15)
_RETRIES = {
    "max_retries": 3,
    "retry_timeout": datetime.timedelta(seconds=10),
    "backoff": {
        "init_backoff": datetime.timedelta(milliseconds=100),
        "max_backoff": datetime.timedelta(seconds=2),
        "base": 2,
    },
}


@dataclass(frozen=True)
class Stored:
    """What a listing says of an object.

    size      in bytes
    tag       another one when the content is another: the ETag, else the time of the last write
    modified  time of the last write, in seconds since 1970; 0: not known
    sha256    of the content in hexadecimal digits; "": not known
    """

    size: int
    tag: str = ""
    modified: float = 0.0
    sha256: str = ""


class Objects:
    """The objects below a location.

    store  an obstore store; None: the one that the location names, with credentials and endpoint as the environment
           has them
    """

    def __init__(self, location: Location, store: Any = None) -> None:
        """FailedPrecondition when obstore is not installed; InvalidArgument for settings that it refuses."""
        self.location = location
        try:
            import obstore
        except ImportError:
            raise FailedPrecondition(
                f"{location} is in an object store, and the package obstore is missing: pip install 'ladle[cloud]'"
            ) from None
        self._obstore = obstore
        self._store = store if store is not None else self._connect()

    def _connect(self) -> Any:
        import obstore.store

        is_http = self.location.is_http
        options: dict[str, Any] = {"timeout": _HTTP_TIMEOUT if is_http else _TIMEOUT, "connect_timeout": "5s"}
        if self.location.url.startswith("http://") or _allows_http():
            options["allow_http"] = True
        try:
            return obstore.store.from_url(self.location.url, client_options=options, retry_config=_RETRIES)
        except Exception as error:
            raise self._translate(error) from None

    def list(self) -> dict[str, Stored]:
        """Every object by its path below the location. ServingError says why there is no answer."""
        found = {}
        try:
            for chunk in self._obstore.list(self._store, chunk_size=1000):
                for entry in chunk:
                    modified = entry["last_modified"].timestamp()
                    found[str(entry["path"])] = Stored(entry["size"], entry["e_tag"] or str(modified), modified)
        except Exception as error:
            raise self._translate(error) from None
        return found

    def read(self, path: str, unless_tag: str = "") -> tuple[bytes, str] | None:
        """The content and the ETag of a small object; None when it still has the tag `unless_tag`."""
        try:
            answer = self._obstore.get(self._store, path, options={"if_none_match": unless_tag} if unless_tag else None)
            if answer.meta["size"] > _MOST_TEXT:
                raise DataLoss(f"{path} has {answer.meta['size']} bytes; expected at most {_MOST_TEXT}")
            return bytes(answer.bytes()), answer.meta["e_tag"] or ""
        except ServingError:
            raise
        except self._obstore.exceptions.NotModifiedError:
            return None
        except Exception as error:
            raise self._translate(error, path) from None

    def download(self, path: str, stored: Stored) -> Iterator[bytes]:
        """The content in pieces. DataLoss when it is another object by now; ServingError when the store fails."""
        options = {"if_match": stored.tag} if stored.tag.startswith('"') else {}
        try:
            if self.location.is_http or stored.size <= _PART_BYTES:
                for piece in self._obstore.get(self._store, path, options=options or None).stream():
                    yield bytes(piece)
                return
            for start in range(0, stored.size, _PART_BYTES):
                end = min(start + _PART_BYTES, stored.size)
                part = self._obstore.get(self._store, path, options={**options, "range": (start, end)})
                for piece in part.stream():
                    yield bytes(piece)
        except self._obstore.exceptions.PreconditionError:
            raise DataLoss(f"{path} was written again while it was fetched") from None
        except Exception as error:
            raise self._translate(error, path) from None

    def _translate(self, error: Exception, path: str = "") -> ServingError:
        """The error in one sentence. Never the library's own text: it may hold a signed URL."""
        text = str(error)
        where = f"{self.location}/{path}" if path else str(self.location)
        found = re.search(r"status code: (\d{3})", text)
        status = int(found[1]) if found else 0
        if "NoSuchBucket" in text or "ContainerNotFound" in text or "bucket does not exist" in text:
            return NotFound(f"{where}: there is no such bucket; check its name and the region")
        if _lacks_credentials(text):
            return PermissionDenied(f"{where}: the environment holds no credentials for this store; set them")
        if status in (401, 403) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
            code = f" (HTTP {status})" if status else ""
            return PermissionDenied(f"{where}: access denied{code}; check the credentials in the environment")
        if isinstance(error, FileNotFoundError) or status == 404:
            return NotFound(f"{where}: not found")
        if isinstance(error, OSError):
            return Unavailable(f"{where}: {error.strerror or 'cannot be read'}")
        if status:
            return Unavailable(f"{where}: the store answers HTTP {status}")
        return Unavailable(f"{where}: the store does not answer ({_kind(text)})")


def _allows_http() -> bool:
    """Whether the environment names an endpoint without TLS, or allows one by the library's own variables."""
    # The library reads these itself only where no other client option is given.
    for name, value in os.environ.items():
        is_store = name.startswith(("AWS_", "GOOGLE_", "AZURE_"))
        if is_store and "ENDPOINT" in name and value.startswith("http://"):
            return True
        if is_store and name.endswith(("_ALLOW_HTTP", "_USE_EMULATOR")) and value.lower() in ("true", "1"):
            return True
    return False


def _lacks_credentials(text: str) -> bool:
    # Without credentials the libraries ask the service that cloud machines have for them.
    return any(
        word in text
        for word in ("169.254.169.254", "metadata.google.internal", "Account must be specified", "MissingAcc")
    )


def _kind(text: str) -> str:
    for word, kind in (("Timeout", "timeout"), ("Connect", "no connection"), ("Interrupted", "connection broke off")):
        if f"kind: {word}" in text:
            return kind
    return "connection failed"
