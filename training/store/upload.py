"""Uploads a version to an object store, so that no server takes it before it is whole.

While it is uploaded, the version holds the file `.uploading`; last of all comes its manifest with the size and sha256
of each file. Servers wait for the manifest: docs/object-stores.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from ladle.training.errors import TrainingError, UsageError
from ladle.training.store.publish import number_of

SCHEMES = ("s3", "gs", "az")
CARD = "assets.extra/card.json"
MANIFEST = "assets.extra/manifest.json"
UPLOADING = ".uploading"
_LAST = ("saved_model.pb", "saved_model.pbtxt")


class Target:
    """A repository in an object store. Credentials and endpoint come from the environment, as obstore reads them."""

    def __init__(self, url: str) -> None:
        """UsageError for another kind of URL; TrainingError when obstore is missing."""
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest.strip("/") or re.search(r"[@?#]|(^|/)\.\.?(/|$)", rest):
            raise UsageError(
                f"--to: got {scheme}://…; expected one of "
                f"{', '.join(f'{known}://BUCKET/FOLDER' for known in SCHEMES)}; credentials come from the environment"
            )
        try:
            import obstore
            import obstore.store
        except ImportError:
            raise TrainingError("--to needs the package obstore: pip install 'ladle[cloud]'") from None
        self.url = url.rstrip("/")
        self._obstore = obstore
        options: dict[str, Any] = {"timeout": "10min", "connect_timeout": "5s", "allow_http": _allows_http()}
        try:
            self._store = obstore.store.from_url(self.url, client_options=options)
        except Exception as error:
            raise self._translate(error) from None

    def upload(self, name: str, version: Path) -> str:
        """Upload a version's folder as the model's next version; its URL. TrainingError: the store failed."""
        try:
            number = self._claim(name, int(version.name))
            folder = f"{name}/{number}"
            listed = {}
            paths = sorted(path for path in version.rglob("*") if path.is_file())
            for path in sorted(paths, key=lambda path: path.name in _LAST):
                file = path.relative_to(version).as_posix()
                if file == MANIFEST:
                    continue
                content = _numbered(path, number) if file == CARD else path
                self._obstore.put(self._store, f"{folder}/{file}", content)
                listed[file] = _described(content)
            text = json.dumps({"files": listed}, indent=1)
            self._obstore.put(self._store, f"{folder}/{MANIFEST}", text.encode())
            self._obstore.delete(self._store, f"{folder}/{UPLOADING}")
        except Exception as error:
            raise self._translate(error) from None
        return f"{self.url}/{folder}"

    def _claim(self, name: str, least: int) -> int:
        """The number of the new version, which no other upload gets."""
        taken = set()
        for chunk in self._obstore.list(self._store, name, chunk_size=1000):
            for entry in chunk:
                parts = str(entry["path"]).split("/")
                taken.add(number_of(parts[1]) if len(parts) > 1 else None)
        number = max(least, max((found for found in taken if found is not None), default=0) + 1)
        while True:
            try:
                # Of two writers, the store lets only one create the file.
                self._obstore.put(self._store, f"{name}/{number}/{UPLOADING}", b"", mode="create")
                return number
            except self._obstore.exceptions.AlreadyExistsError:
                number += 1

    def _translate(self, error: Exception) -> TrainingError:
        """The error in one sentence. Never the library's own text: it may hold a signed URL."""
        text = str(error)
        found = re.search(r"status code: (\d{3})", text)
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            why = "there is no such bucket; make it, or check its name and the region"
        elif any(word in text for word in ("169.254.169.254", "metadata.google", "Account must be", "MissingAcc")):
            why = "the environment holds no credentials for this store; set them"
        elif found and found[1] in ("401", "403"):
            why = f"access denied (HTTP {found[1]}); check the credentials in the environment"
        elif found:
            why = f"the store answers HTTP {found[1]}; try again later"
        elif isinstance(error, OSError) and error.strerror:
            why = error.strerror
        else:
            why = "the store does not answer; check the endpoint in the environment"
        return TrainingError(f"{self.url}: {why}")


def _numbered(card: Path, number: int) -> bytes:
    """The model card with the version's number in the store."""
    content = json.loads(card.read_bytes())
    if isinstance(content, dict) and content.get("version") not in (None, number):
        return json.dumps({**content, "version": number}, indent=2, ensure_ascii=False).encode()
    return card.read_bytes()


def _described(content: bytes | Path) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with content.open("rb") as file:
        return {"size": content.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _allows_http() -> bool:
    """Whether the environment names an endpoint without TLS, or allows one by the library's own variables."""
    stores = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))}
    return any(
        ("ENDPOINT" in name and value.startswith("http://"))
        or (name.endswith(("_ALLOW_HTTP", "_USE_EMULATOR")) and value.lower() in ("true", "1"))
        for name, value in stores.items()
    )
