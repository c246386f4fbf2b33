"""The calls that run in native code, noted in memory that outlives the process.

ONNX Runtime, TensorFlow and image decoders can end the whole process. Before each call, the process notes its form in
memory that it shares with its supervisor; if the process dies, the supervisor knows what ran (`workers/crashes.py`). A
form is a hash of what decides what native code does: the version, the signature, and the shapes of the inputs; for a
load, the version's files. A form that ended the process is a suspect: suspects run one at a time until they have
returned once. The supervisor marks a form that did it twice as refused.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator

from ladle.serving.errors import InvalidArgument, Unavailable

REQUEST_SLOTS = 64 + 2 * (os.cpu_count() or 1)
"""Requests of a process that are noted at once; further ones share the first slot."""
LOAD_SLOTS = 16
SUSPECTS = 64
SUSPECT, RETURNED, REFUSED = 0, 1, 2
_ROW_WORDS = 3  # form, number of crashes, one of the three states above
_FIRST_ROW = 1  # word 0 counts the changes of the rows
_AREA = _FIRST_ROW + SUSPECTS * _ROW_WORDS
_AREA_WORDS = 1 + REQUEST_SLOTS + LOAD_SLOTS  # heartbeat, slots
_WAIT_S = 1.0  # for another suspect, on the event loop at most this long


def open_file(workers: int) -> int:
    """A file descriptor of new memory for this many processes, all zero. It can be inherited."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ladle-native-calls")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, 8 * (_AREA + workers * _AREA_WORDS))
    return descriptor


def map_file(descriptor: int) -> memoryview:
    """The memory as 64-bit words."""
    return memoryview(mmap.mmap(descriptor, 0)).cast("q")


def rows() -> Iterator[int]:
    """The first words of the rows of suspects: form, number of crashes, state."""
    return iter(range(_FIRST_ROW, _AREA, _ROW_WORDS))


def slots(worker: int) -> tuple[range, range]:
    """The words of a process's slots for requests and for loads; `worker` counts from 0."""
    first = heartbeat(worker) + 1
    return range(first, first + REQUEST_SLOTS), range(first + REQUEST_SLOTS, first + REQUEST_SLOTS + LOAD_SLOTS)


def heartbeat(worker: int) -> int:
    """The word that a process counts up while its event loop runs."""
    return _AREA + worker * _AREA_WORDS


def digest(*parts: object) -> int:
    """A number for these parts, the same in every process."""
    import hashlib  # late: the guardian does without OpenSSL, which takes 4 MB

    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


class NativeCalls:
    """What this process runs in native code. `Servable.run` notes requests without calling in here: it runs for each.

    words       the shared memory; this process's own until `attach`
    free        slots for requests that nothing uses
    watched     rows of the forms that have ended a process, by form; as of `generation`
    """

    def __init__(self) -> None:
        words = 8 * (_AREA + _AREA_WORDS)
        self._use(memoryview(bytearray(words)).cast("q"), 0)

    def _use(self, words: memoryview, worker: int) -> None:
        requests, loads = slots(worker)
        self.words = words
        self.free = list(requests)
        self.generation = 0
        self.watched: dict[int, int] = {}
        self.spare = requests[0]
        self._heartbeat = heartbeat(worker)
        self._free_loads = list(loads)
        self._alone = threading.Lock()
        self._load_alone = threading.Lock()

    def attach(self, descriptor: int, worker: int) -> None:
        """Notes calls in the memory of `open_file` from now on. Called before the first one."""
        self._use(map_file(descriptor), worker)

    def beat(self) -> None:
        """Shows the supervisor that the event loop runs."""
        self.words[self._heartbeat] += 1

    def refresh(self) -> None:
        """Reads the forms to watch. Called when word 0 is not `generation`."""
        self.generation = self.words[0]
        self.watched = {self.words[row]: row for row in rows() if self.words[row]}

    def admit(self, form: int) -> bool:
        """Whether a watched form is a suspect, which runs alone; `prove` must follow. InvalidArgument if refused."""
        state = self._state(form)
        if state == REFUSED:
            raise InvalidArgument(
                "requests with inputs of these shapes crashed the server twice; "
                "they are refused until another version is served"
            )
        if state == RETURNED:
            return False
        self._alone.acquire(timeout=_WAIT_S)
        return True

    def prove(self, form: int) -> None:
        """A suspect has returned."""
        self._set_returned(form)
        with contextlib.suppress(RuntimeError):  # it did not get the lock in time
            self._alone.release()

    @contextlib.contextmanager
    def loading(self, form: int) -> Iterator[None]:
        """Notes a load while it runs. Unavailable for one that is refused."""
        if self.words[0] != self.generation:
            self.refresh()
        state = self._state(form)
        if state == REFUSED:
            raise Unavailable(
                "the server crashed twice while it loaded this version; check the memory limit, or replace the version"
            )
        with self._load_alone if state == SUSPECT else contextlib.nullcontext():
            slot = self._free_loads.pop() if self._free_loads else self.spare
            self.words[slot] = form
            try:
                yield
            finally:
                self.words[slot] = 0
                self._free_loads.append(slot)
                if state == SUSPECT:
                    self._set_returned(form)

    def _state(self, form: int) -> int:
        row = self.watched.get(form)
        return RETURNED if row is None or self.words[row] != form else self.words[row + 2]

    def _set_returned(self, form: int) -> None:
        row = self.watched.get(form)
        if row is not None and self.words[row] == form and self.words[row + 2] == SUSPECT:
            self.words[row + 2] = RETURNED


native_calls = NativeCalls()
