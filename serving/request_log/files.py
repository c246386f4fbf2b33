"""The files of one `filename_prefix`: TFRecord files that are closed at a size, the oldest removed at a total size."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import IO

SUFFIX = ".tfrecord"
_FILES = 8  # of one process that together hold the most bytes


class RecordFiles:
    """Files `PREFIX-TIME-PROCESS-NUMBER.tfrecord`, so that processes never share one.

    prefix     path of the files without its end; its folder is made when it is missing
    max_bytes  of all files of this prefix, those of earlier and of other processes among them
    processes  that write with this prefix, each a file of its own at a time
    """

    def __init__(self, prefix: Path, max_bytes: int, processes: int = 1) -> None:
        self._prefix = prefix
        self._max_bytes = max_bytes
        self._file_bytes = max_bytes // (_FILES * processes)
        self._reserved = self._file_bytes * processes
        self._file: IO[bytes] | None = None
        self._written = 0
        self._number = 0

    @property
    def max_record_bytes(self) -> int:
        """A larger record is never written."""
        return self._file_bytes

    def write(self, record: bytes) -> None:
        """Appends a record. OSError when the disk refuses it; the next record then goes to a new file."""
        if self._file is not None and (self._written + len(record) > self._file_bytes or self._is_removed()):
            self.close()
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(record)
            self._written += len(record)
        except OSError:
            self.close()
            raise

    def flush(self) -> None:
        """Gives what was written to the system, so that a reader sees whole records."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Closes the file that is written; the next record opens another."""
        file, self._file, self._written = self._file, None, 0
        if file is not None:
            with contextlib.suppress(OSError):  # a full disk refuses what is buffered a second time
                file.close()

    def _open(self) -> IO[bytes]:
        self._prefix.parent.mkdir(parents=True, exist_ok=True)
        self._remove_oldest()
        self._number += 1
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"{self._prefix.name}-{moment}-{os.getpid()}-{self._number:05d}{SUFFIX}"
        # Requests may be private: only the user that runs the server reads them.
        descriptor = os.open(self._prefix.with_name(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return os.fdopen(descriptor, "wb")

    def _is_removed(self) -> bool:
        """Whether another process, or a person, has removed the file that is written."""
        return self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0

    def _remove_oldest(self) -> None:
        """Leaves room for one more file of each process."""
        found = []
        for path in self._prefix.parent.glob(f"{_escape(self._prefix.name)}-*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process has removed it
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes - self._reserved:
                break
            path.unlink(missing_ok=True)
            total -= size


def _escape(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
