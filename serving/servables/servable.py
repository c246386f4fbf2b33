"""One loaded version of a model: its signatures, and `run(arrays) -> arrays`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition
from ladle.serving.runtime.native_calls import digest, native_calls
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import Latency
from ladle.serving.servables.saved_model import INIT_OP, Signature, parse_signature
from ladle.serving.telemetry.usage import Usage

_TIMED_EVERY = 16  # runs: reading a thread's clock twice costs a small model a measurable part of its time
_MAX_CALLS = 1024
_UNKNOWN: Any = object()
_SHAPE = operator.attrgetter("shape")


class Ready(NamedTuple):
    """A run of inputs whose names, dtypes and shapes are known.

    form  as native_calls notes it
    run   the outputs by alias
    """

    form: int
    run: Callable[[Mapping[str, Array]], dict[str, Array]]


class Engine(Protocol):
    """What runs the signatures of a version."""

    name: str

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The named outputs by alias. ServingError when the graph refuses the inputs."""

    def clock(self, signature: str) -> Callable[[], float]:
        """The clock that times a run, in seconds: the thread's own if the run uses one thread, else the wall clock."""

    def latency(self, signature: str) -> Latency:
        """An empty Latency for the signature, which knows what decides the time of its runs."""

    def close(self) -> None:
        """Gives up what would outlive the engine, once its version is unloaded; later calls do nothing."""


class Servable:
    """A version in memory.

    definitions  SignatureDef messages by name, from saved_model.pb
    signatures   the same as plain values
    engines      the engine of each signature, by name; a signature without one cannot run
    batching     how concurrent requests are merged; None: not at all
    identity     of the version's files; a crash that one of its requests caused does not count for other files
    latencies    of each signature
    calls        calls that have been checked, by the shape of their requests; prepared runs of merged ones
    in_flight    requests that wait or run; only the event loop changes it, so it needs no lock
    usage        what its requests took
    folder       of its files; None: it has none
    takes_graph  whether it runs on TensorFlow only because no graph was there when it was loaded
    on_idle      called when the last request has ended, once the version is retired; None before that
    on_retire    called with the version once it is retired, for who has requests of it waiting; None: nobody has
    """

    def __init__(
        self,
        name: str,
        version: int,
        definitions: Mapping[str, Any],
        engines: Mapping[str, Engine],
        batching: Batching | None = None,
        identity: int = 0,
        usage: Usage | None = None,
    ) -> None:
        self.usage = usage or Usage()
        self.name = name
        self.version = version
        self.definitions = definitions
        self.signatures: dict[str, Signature] = {key: parse_signature(key, d) for key, d in definitions.items()}
        self.engines = engines
        self.batching = batching
        self.latencies = {key: engines[key].latency(key) if key in engines else Latency() for key in definitions}
        self.folder: Path | None = None
        self.takes_graph = False
        self.in_flight = 0
        self.calls: dict[Hashable, Any] = {}
        self._runs = 0
        self._forms = {key: digest(name, version, identity, key) for key in self.signatures}
        self.on_idle: Callable[[], None] | None = None
        self.on_retire: Callable[[Servable], None] | None = None

    @property
    def engine_names(self) -> str:
        """The engines for the log: the most used one, then the others, as in `ONNX Runtime, TensorFlow (for text)`."""
        by_engine: dict[str, list[str]] = {}
        for signature, engine in sorted(self.engines.items()):
            by_engine.setdefault(engine.name, []).append(signature)
        first, *others = sorted(by_engine, key=lambda name: -len(by_engine[name])) or ["no signatures"]
        return ", ".join([first, *(f"{name} (for {', '.join(by_engine[name])})" for name in others)])

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        size: int | None = None,
        ready: Ready | None = None,
    ) -> dict[str, Array]:
        """Run a signature and return the named outputs by alias. Names and dtypes must have been checked.

        size   of the inputs, as the signature's Latency counts it, if the caller knows it
        ready  what `prepare` returned for inputs like these, if the caller has it

        FailedPrecondition when no engine can run the signature, InvalidArgument for inputs whose shapes have crashed
        the server twice, and what the engine raises.
        """
        engine = self.engines.get(signature)
        if engine is None and signature == INIT_OP:
            raise FailedPrecondition(
                f'Serving signature key "{signature}" of {self.name} belongs to loading the model and cannot be called.'
            )
        if engine is None:
            raise FailedPrecondition(
                f'Serving signature key "{signature}" of {self.name} has no verified ONNX graph and TensorFlow is not '
                "installed where the server runs."
            )
        latency = self.latencies[signature]
        size = latency.size_of(inputs) if size is None else size
        form, run = ready or (self._form(signature, inputs, size), partial(engine.run, signature, outputs=outputs))
        # The call is noted in memory that outlives the process (runtime/native_calls.py), in place: every request
        # comes along here.
        noted = native_calls
        words, free = noted.words, noted.free
        if words[0] != noted.generation:
            noted.refresh()
        is_suspect = form in noted.watched and noted.admit(form)
        slot = free.pop() if free else noted.spare
        words[slot] = form
        try:
            # An answer without rows takes next to nothing and says nothing about the time of a run.
            if not size and not all(array.size for array in inputs.values()):
                return run(inputs)
            self._runs += 1
            if self._runs % _TIMED_EVERY and size.bit_length() in latency.seconds:
                return run(inputs)
            clock = engine.clock(signature)
            start = clock()
            answer = run(inputs)
            latency.record(size, clock() - start)
            return answer
        finally:
            words[slot] = 0
            free.append(slot)
            if is_suspect:
                noted.prove(form)

    def prepare(self, signature: str, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> Ready | None:
        """What `run` does with inputs of exactly these names, dtypes and shapes; None where that saves nothing."""
        make = getattr(self.engines.get(signature), "prepare", None)
        run = make(signature, inputs, outputs) if make is not None else None
        if run is None:
            return None
        return Ready(self._form(signature, inputs, self.latencies[signature].size_of(inputs)), run)

    def prepared(
        self, key: Hashable, signature: str, inputs: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Ready | None:
        """`prepare`, kept in `calls` for the next inputs of these names, dtypes and shapes, for which `key` stands."""
        ready: Ready | None = self.calls.get(key, _UNKNOWN)
        if ready is _UNKNOWN:
            ready = self.prepare(signature, inputs, outputs) if self.latencies[signature].by_shape else None
            self.cache_call(key, ready)
        return ready

    def _form(self, signature: str, inputs: Mapping[str, Array], size: int) -> int:
        """The form of a call, as native_calls notes it. A hash of numbers is the same in every process."""
        return hash((self._forms[signature], size, *map(_SHAPE, inputs.values())))

    def cache_call(self, shape_key: Hashable, call: Any) -> None:
        """Keep a checked call in `calls`. The call must not refer to this servable: it would keep it in memory."""
        if len(self.calls) >= _MAX_CALLS:
            self.calls.clear()
        self.calls[shape_key] = call

    def follow(self, batching: Batching | None) -> None:
        """Merge the requests that come from now on by these parameters. Called on the event loop."""
        self.batching = batching
        self.calls.clear()  # they hold merge keys, which the parameters decide

    def enter(self) -> None:
        """Count a request that has begun to wait or run."""
        self.in_flight += 1

    def leave(self) -> None:
        """Count a request that has been answered."""
        self.in_flight -= 1
        if self.on_idle is not None:
            self.notify_if_idle()

    def notify_if_idle(self) -> None:
        """Call `on_idle` if the version was retired and no request is in flight."""
        if self.on_idle is not None and not self.in_flight:
            for engine in self.engines.values():
                engine.close()
            self.on_idle()

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Call `on_idle` once no request is in flight; at once when there is none."""
        self.on_idle = on_idle
        if self.on_retire is not None:
            self.on_retire(self)
        self.notify_if_idle()
