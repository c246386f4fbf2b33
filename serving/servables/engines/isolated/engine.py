"""The engine of a version that runs in TensorFlow's process."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    ServingError,
    Unavailable,
    of_code,
)
from ladle.serving.runtime import stopping
from ladle.serving.servables.engines.isolated.process import ProcessEndedError, TensorflowProcess, process
from ladle.serving.servables.latency import Latency

log = logging.getLogger(__name__)

_TWICE, _THRICE = 2, 3
_LEAST_TIMEOUT_MS = 250
_MAX_FORMS = 256
_keys = itertools.count(1)
_alone = threading.Lock()


class IsolatedEngine:
    """All signatures of one version, on TensorFlow or its interpreter.

    definitions  SignatureDef messages by name; of a model.tflite, known once it is loaded
    """

    def __init__(
        self,
        folder: Path,
        definitions: Mapping[str, Any],
        tags: Collection[str] = (),
        threads: tuple[int, int] = (0, 0),
        run_bytes: int = 0,
        interpreters: int = 0,
        on: TensorflowProcess = process,
    ) -> None:
        """Loads nothing yet.

        threads       within and between operations; 0: as many as cores
        run_bytes     memory that the runs in the process may take together; 0: any
        interpreters  of the version's model.tflite; 0: its saved_model.pb is loaded
        """
        self.definitions = dict(definitions)
        self.name = "TensorFlow Lite" if interpreters else "TensorFlow"
        self._process = on
        self._key = next(_keys)
        self._asked = {
            "do": "load",
            "key": self._key,
            "folder": str(folder),
            "tags": list(tags),
            "threads": threads,
            "run_bytes": run_bytes,
            "interpreters": interpreters,
        }
        self._lock = threading.Lock()
        self._end: weakref.finalize[..., Any] | None = None  # once the version was loaded
        self._generation = -1  # of the process that has loaded the version
        self._reloads: threading.Thread | None = None
        self._crashes: Counter[Hashable] = Counter()  # since the form last returned
        self._all_crashes: Counter[Hashable] = Counter()

    def load(self) -> None:
        """Loads the version in the process, which imports TensorFlow first; later calls do nothing. Errors as theirs.

        Unavailable when the process ended twice while it loaded the version.
        """
        with self._lock:
            if self._is_loaded():
                return
            if self._end is None:
                # Most versions have a graph for all but a signature or two, and never need the process.
                self._process.enter()
                self._end = weakref.finalize(self, _unload, self._process, self._key)
                self._end.atexit = False
            written = {name: definition.SerializeToString().hex() for name, definition in self.definitions.items()}
            with self._watched("load", "TensorFlow's process crashed twice while it loaded this version; replace it"):
                answer, _, generation = self._process.call({**self._asked, "definitions": written})
            _raise_error(answer)
            for name, text in answer.get("definitions", {}).items():
                self.definitions[name] = pb.SignatureDef.FromString(bytes.fromhex(text))
            self._generation = generation

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        if not self._is_loaded():
            self._load_again()
        stop = stopping.current()
        names = list(outputs)
        head = {
            "do": "run",
            "key": self._key,
            "signature": signature,
            "inputs": list(inputs),
            "outputs": names,
        }
        if stop is not None:
            stop.check()
            if stop.deadline is not None:
                head["timeout_ms"] = _timeout_ms(stop.deadline - time.monotonic())
        form = signature, *(array.shape for array in inputs.values())
        refusal = (
            "requests with inputs of these shapes crashed TensorFlow's process twice; "
            "they are refused until another version is served"
        )
        with self._watched(form, refusal):
            answer, found, _ = self._process.call(head, list(inputs.values()))
        _raise_error(answer)
        return dict(zip(names, found, strict=True))

    def latency(self, signature: str) -> Latency:
        # TensorFlow's graphs decode images and have loops: their time need not follow the size of the inputs.
        return Latency(is_steady=False)

    def close(self) -> None:
        if self._end is not None:
            self._end()

    def clock(self, signature: str) -> Callable[[], float]:
        return time.perf_counter

    def _is_loaded(self) -> bool:
        return self._generation == self._process.generation

    def _load_again(self) -> None:
        """Loads the version if it never was. After a crash a thread does that, and requests do not wait for it."""
        if self._generation < 0:
            self.load()
            return
        with self._lock:
            if not self._is_loaded() and (self._reloads is None or not self._reloads.is_alive()):
                self._reloads = threading.Thread(target=self._reload, name="reload", daemon=True)
                self._reloads.start()
        if not self._is_loaded():
            raise Unavailable("TensorFlow starts again after a crash; retry later")

    def _reload(self) -> None:
        try:
            self.load()
        except ServingError as error:
            log.error("%s was not loaded again: %s", self._asked["folder"], error)

    @contextmanager
    def _watched(self, form: Hashable, refusal: str) -> Iterator[None]:
        """Counts the crashes of what runs inside; refuses what has ended the process before.

        A form that did so once runs beside no other suspect until it has returned. Two crashes in a row, or three in
        all, are enough.
        """
        crashes = self._crashes.get(form, 0)
        if crashes >= _TWICE or self._all_crashes.get(form, 0) >= _THRICE:
            raise (Unavailable if form == "load" else InvalidArgument)(refusal)
        with _alone if crashes else nullcontext():
            try:
                yield
            except ProcessEndedError as ended:
                if not ended.was_stopped:
                    if len(self._all_crashes) >= _MAX_FORMS:
                        self._crashes.clear()
                        self._all_crashes.clear()
                    self._crashes[form] += 1
                    self._all_crashes[form] += 1
                raise Unavailable("TensorFlow's process ended while it ran this; retry later") from None
            except OSError as error:
                raise ResourceExhausted(f"TensorFlow's process cannot be started: {error.strerror}") from None
        self._crashes.pop(form, None)


def _unload(on: TensorflowProcess, key: int) -> None:
    # In a thread: the last reference to a version may end on the event loop.
    threading.Thread(target=on.leave, args=(key,), name="unload", daemon=True).start()


def _raise_error(answer: Mapping[str, Any]) -> None:
    code = answer.get("code")
    if code == DeadlineExceeded.code:
        raise DeadlineExceeded("the request was not answered in time")
    if code is not None:
        raise of_code(code, answer["message"])


def _timeout_ms(left_s: float) -> int:
    """The next power of two, so that few calls need to be prepared."""
    return max(_LEAST_TIMEOUT_MS, 1 << max(0, round(left_s * 1000)).bit_length())
