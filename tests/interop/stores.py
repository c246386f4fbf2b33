"""Object stores that others wrote, each as a process of its own with an empty bucket.

Each starter yields the environment in which clients find the store, and the URL of its bucket.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import DEADLINE_S, free_port

BUCKET = "bucket"
_ACCOUNT = "devstoreaccount1"
_KEY = base64.b64encode(b"the key of a store for tests, which is in no secret").decode()
Store = tuple[Mapping[str, str], str]


@contextlib.contextmanager
def moto(program: Path, folder: Path) -> Iterator[Store]:
    """moto's server, which speaks S3."""
    port = free_port()
    with _running([program, "-H", "127.0.0.1", "-p", port], lambda: _put(f"http://127.0.0.1:{port}/{BUCKET}")):
        yield _aws(port), f"s3://{BUCKET}/models"


@contextlib.contextmanager
def seaweedfs(program: Path, folder: Path) -> Iterator[Store]:
    """SeaweedFS's S3 gateway with its master, volume server and filer in one process, which only SIGKILL ends."""
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer")}
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    flags += [f"-{name}.port.grpc={free_port()}" for name in ports if name != "s3"]
    flags += [f"-s3.port.grpc={free_port()}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    command = [program, "server", "-s3", "-master.volumeSizeLimitMB=64", *flags]
    with _running(command, lambda: _put(f"http://127.0.0.1:{ports['s3']}/{BUCKET}")):
        yield _aws(ports["s3"]), f"s3://{BUCKET}/models"


@contextlib.contextmanager
def azurite(program: Path, folder: Path) -> Iterator[Store]:
    """Azurite's blob service."""
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", folder, "--silent"]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    env = {
        "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
        "AZURE_STORAGE_ENDPOINT": endpoint,
    }
    with _running(command, lambda: _put_container(endpoint), {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"}):
        yield env, f"az://{BUCKET}/models"


@contextlib.contextmanager
def fake_gcs(program: Path, folder: Path) -> Iterator[Store]:
    """fake-gcs-server. It refuses the library's uploads; `put_in_gcs` puts objects there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", port]
    command += ["-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    (folder / "account.json").write_text(json.dumps(account))
    env = {"GOOGLE_SERVICE_ACCOUNT": str(folder / "account.json"), "GOOGLE_ALLOW_HTTP": "true"}
    with _running(command, lambda: _post(f"{url}/storage/v1/b", json.dumps({"name": BUCKET}).encode())):
        yield {**env, "STORE_URL": url}, f"gs://{BUCKET}/models"


def put_in_gcs(env: Mapping[str, str], path: str, content: bytes) -> None:
    """Upload an object in one request, as Google's own clients do with small ones."""
    query = urllib.parse.urlencode({"uploadType": "media", "name": f"models/{path}"})
    assert _post(f"{env['STORE_URL']}/upload/storage/v1/b/{BUCKET}/o?{query}", content)


@contextlib.contextmanager
def _running(
    command: Sequence[Any], is_open: Callable[[], bool], env: Mapping[str, str] | None = None
) -> Iterator[None]:
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    deadline = time.monotonic() + DEADLINE_S
    try:
        while not is_open():
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command[0]} does not answer"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _aws(port: int) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    return {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def _ask(request: urllib.request.Request) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=60):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 409  # it is there already
    except OSError:
        return False


def _put(url: str) -> bool:
    return _ask(urllib.request.Request(url, method="PUT"))


def _post(url: str, body: bytes) -> bool:
    return _ask(urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST"))


def _put_container(endpoint: str) -> bool:
    """Make the container, signed with Azure's shared key."""
    date = email.utils.formatdate(usegmt=True)
    lines = ["PUT", *[""] * 11, f"x-ms-date:{date}", "x-ms-version:2021-08-06"]
    text = "\n".join([*lines, f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}", "restype:container"])
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {_ACCOUNT}:{signature}",
        "Content-Length": "0",
    }
    return _ask(urllib.request.Request(f"{endpoint}/{BUCKET}?restype=container", method="PUT", headers=headers))
