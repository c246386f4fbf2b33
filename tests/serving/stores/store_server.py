"""A folder behind HTTP: as a plain web server has it, and by the part of S3's protocol that reading and writing need.

Faults can be set while it runs. Everything else is real: sockets, files, the client's library.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
"""Most objects in one answer to a listing, as in S3."""


class StoreServer:
    """The folder at http://127.0.0.1:PORT/; as S3, each of its folders is a bucket.

    status     answer every request with this status; 0: none
    cut        names of files of which only half is sent, under the full length
    delay_s    seconds before each piece of 1 KiB of a file's content
    requests   method and path of each request so far
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = 0
        self.cut: set[str] = set()
        self.delay_s = 0.0
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which S3's clients use this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "not-to-be-logged",
            "AWS_REGION": "us-east-1",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[StoreServer]:
    server = StoreServer(folder)
    try:
        yield server
    finally:
        server.close()


def _handler(store: StoreServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _begin(self) -> tuple[Path, dict[str, list[str]]] | None:
            store.requests.append(f"{self.command} {self.path}")
            if store.status:
                self._send(store.status, b"<Error><Code>Fault</Code></Error>")
                return None
            parts = urlsplit(self.path)
            return store.folder / unquote(parts.path).lstrip("/"), parse_qs(parts.query, keep_blank_values=True)

        def do_GET(self) -> None:
            if (begun := self._begin()) is None:
                return
            path, query = begun
            if "list-type" in query:
                self._list(path, query)
            elif not path.is_file():
                self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self._file(path)

        do_HEAD = do_GET  # noqa: N815

        def _file(self, path: Path) -> None:
            content = path.read_bytes()
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            headers = {"ETag": tag, "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
            if self.headers.get("If-None-Match") == tag:
                self._send(304, b"", **headers)
                return
            if self.headers.get("If-Match", tag) != tag:
                self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            status = 200
            if bounds := self.headers.get("Range"):
                first, last = bounds.removeprefix("bytes=").split("-")
                status, whole = 206, len(content)
                content = content[int(first) : int(last) + 1]
                headers["Content-Range"] = f"bytes {first}-{int(first) + len(content) - 1}/{whole}"
            self._send(status, content, half=path.name in store.cut, **headers)

        def _list(self, bucket: Path, query: dict[str, list[str]]) -> None:
            if not bucket.is_dir():
                self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
                return
            prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
            keys = sorted(path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file())
            keys = [key for key in keys if key.startswith(prefix) and key > after]
            more = len(keys) > PAGE
            rows = ""
            for key in keys[:PAGE]:
                stat = (bucket / key).stat()
                written = datetime.fromtimestamp(stat.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
                tag = hashlib.md5((bucket / key).read_bytes()).hexdigest()
                rows += (
                    f"<Contents><Key>{escape(key)}</Key><Size>{stat.st_size}</Size><LastModified>{written}"
                    f'</LastModified><ETag>"{tag}"</ETag></Contents>'
                )
            token = f"<NextContinuationToken>{escape(keys[PAGE - 1])}</NextContinuationToken>" if more else ""
            flag = str(more).lower()
            self._send(
                200, f"<ListBucketResult><IsTruncated>{flag}</IsTruncated>{token}{rows}</ListBucketResult>".encode()
            )

        def do_PUT(self) -> None:
            if (begun := self._begin()) is None:
                return
            path, _ = begun
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("If-None-Match") == "*" and path.exists():
                self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self._send(200, b"", ETag=f'"{hashlib.md5(content).hexdigest()}"')

        def do_POST(self) -> None:
            """S3's DeleteObjects."""
            if (begun := self._begin()) is None:
                return
            bucket, _ = begun
            keys = re.findall(r"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode())
            for key in keys:
                (bucket / key).unlink(missing_ok=True)
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._send(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

        def _send(self, status: int, content: bytes, half: bool = False, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if half:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            if not store.delay_s:
                self.wfile.write(content)
                return
            for start in range(0, len(content), 1024):
                time.sleep(store.delay_s)
                self.wfile.write(content[start : start + 1024])
                self.wfile.flush()

    return Handler
