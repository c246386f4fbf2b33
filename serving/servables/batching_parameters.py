"""TensorFlow Serving's BatchingParameters, for the whole server or for one version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import InvalidArgument
from ladle.serving.runtime.cores import cpu_count
from ladle.serving.runtime.text_proto import read_text_proto

FILE = "batching_params.pbtxt"


@dataclass(frozen=True)
class Batching:
    """How to merge requests into batches.

    max_batch_size              most rows of a request, and of a batch unless large requests are split
    batch_timeout_micros        accepted without effect: a request never waits for others while an engine is idle
    max_enqueued_batches        batches of one kind that may wait
    num_batch_threads           batches that run at once, over all models; 0: as many as cores
    allowed_batch_sizes         sizes to pad batches to, increasing; empty: no padding
    pad_variable_length_inputs  merge inputs of different inner sizes, padded with each tensor's first element
    enable_large_batch_splitting  cut requests of more than max_execution_batch_size rows into parts
    max_execution_batch_size    most rows of a batch when large requests are split
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 0
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    @cached_property
    def limit(self) -> int:
        """Most rows of a batch."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def threads(self) -> int:
        """Batches that run at once."""
        return self.num_batch_threads or cpu_count()

    def padded(self, rows: int) -> int:
        """The smallest allowed size that holds so many rows."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)

    def unused(self, per_version: bool) -> list[str]:
        """A sentence for each parameter of the server's file that is set and changes nothing.

        per_version  each version has its own file, and this one only sets the threads
        """
        if per_version:
            same = Batching(num_batch_threads=self.num_batch_threads, thread_pool_name=self.thread_pool_name)
            words = "with --enable_per_model_batching_parameters, only num_batch_threads and thread_pool_name count"
            return [] if self == same else [words]
        return self._never_used()

    def unused_of_version(self) -> list[str]:
        """A sentence for each parameter of a version's own file that is set and changes nothing."""
        threads = "num_batch_threads counts for the whole server; set it in --batching_parameters_file"
        return ([threads] if self.num_batch_threads else []) + self._never_used()

    def _never_used(self) -> list[str]:
        found = []
        if self.batch_timeout_micros:
            found.append("batch_timeout_micros has no effect: no request waits for another while an engine is idle")
        if self.max_execution_batch_size and not self.enable_large_batch_splitting:
            found.append("max_execution_batch_size has no effect without enable_large_batch_splitting")
        return found

    def check(self) -> None:
        """InvalidArgument, in TensorFlow Serving's words, for parameters that contradict each other."""
        if self.max_batch_size < 1:
            raise InvalidArgument(f"max_batch_size must be positive; was {self.max_batch_size}")
        if self.batch_timeout_micros < 0:
            raise InvalidArgument(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.max_enqueued_batches < 0:
            raise InvalidArgument(f"max_enqueued_batches must be non-negative; was {self.max_enqueued_batches}")
        if self.enable_large_batch_splitting and not 0 <= self.max_execution_batch_size <= self.max_batch_size:
            raise InvalidArgument(
                "max_execution_batch_size must be positive and at most max_batch_size; "
                f"was {self.max_execution_batch_size}, max_batch_size is {self.max_batch_size}"
            )
        sizes = self.allowed_batch_sizes
        if any(b <= a for a, b in zip((0, *sizes), sizes, strict=False)):
            raise InvalidArgument("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[-1] != self.limit:
            raise InvalidArgument(
                "Last entry in allowed_batch_sizes must match max_batch_size; "
                f"last entry was {sizes[-1]}; expected {self.limit}"
            )


def read_batching(path: Path | None) -> Batching:
    """The parameters in a text file; the defaults when `path` is None. InvalidArgument for an unreadable file."""
    if path is None:
        return Batching()

    batching = parse_batching(read_text_proto(path, pb.BatchingParameters))
    if batching.num_batch_threads < 0:
        raise InvalidArgument(f"num_batch_threads must be positive; was {batching.num_batch_threads}")
    return batching


def read_batching_of(folder: Path) -> Batching | None:
    """The parameters in a version's own folder; None when it has no such file: its requests are not merged.

    InvalidArgument for an unreadable file.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return read_batching(path)
    except InvalidArgument:
        # The path would tell clients about the machine, so the message leaves it out.
        raise InvalidArgument(f"the version's {FILE} is not a readable BatchingParameters text; correct it") from None


def parse_batching(message: Any) -> Batching:
    """A BatchingParameters message as plain values."""
    values: dict[str, Any] = {
        name: getattr(message, name).value
        for name in (
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
            "enable_large_batch_splitting",
            "max_execution_batch_size",
        )
        if message.HasField(name)
    }
    pool = message.thread_pool_name.value if message.HasField("thread_pool_name") else "batch_threads"
    return Batching(
        **values,
        thread_pool_name=pool,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )
