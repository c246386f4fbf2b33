"""One loaded version of a model: its signatures, and `run(arrays) -> arrays`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import Pace, size_of
from ladle.serving.servables.saved_model import Signature, parse_signature

_TIMED = 16  # of so many runs one is timed, once one of its size has been
_MAX_CALLS = 1024


class Engine(Protocol):
    """What a servable runs on."""

    name: str

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The outputs asked for, by alias. ServingError when the graph refuses the inputs."""

    def clock(self, signature: str) -> Callable[[], float]:
        """What times a run: the thread's own clock where it computes alone, else the wall's, in seconds."""


class Servable:
    """A version in memory.

    definitions  SignatureDef messages by name, as saved_model.pb holds them
    signatures   the same as plain values
    engines      what runs each signature, by name
    batching     how concurrent requests are merged; None: they are not
    calls        calls that have been checked, by the shape of their requests
    in_flight    requests waiting or running now; only the event loop changes it
    """

    def __init__(
        self,
        name: str,
        version: int,
        definitions: Mapping[str, Any],
        engines: Mapping[str, Engine],
        batching: Batching | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.definitions = definitions
        self.signatures: dict[str, Signature] = {key: parse_signature(key, d) for key, d in definitions.items()}
        self.engines = engines
        self.batching = batching
        self.paces = {key: Pace() for key in definitions}
        self.in_flight = 0
        self.calls: dict[Hashable, Any] = {}
        self._runs = 0
        self._on_idle: Callable[[], None] | None = None

    @property
    def engine_names(self) -> str:
        """For people: the engines behind the signatures, as in `ONNX Runtime, TensorFlow (for text)`."""
        by_engine: dict[str, list[str]] = {}
        for signature, engine in sorted(self.engines.items()):
            by_engine.setdefault(engine.name, []).append(signature)
        first, *others = sorted(by_engine, key=lambda name: -len(by_engine[name])) or ["no signatures"]
        return ", ".join([first, *(f"{name} (for {', '.join(by_engine[name])})" for name in others)])

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], size: int | None = None
    ) -> dict[str, Array]:
        """Runs a signature. Inputs have its names and dtypes, and this size (`size_of`); outputs are its aliases."""
        engine = self.engines.get(signature)
        if engine is None:
            raise FailedPrecondition(
                f'Serving signature key "{signature}" of {self.name} has no verified ONNX graph and TensorFlow is not '
                "installed where the server runs."
            )
        size = size_of(inputs) if size is None else size
        pace = self.paces[signature]
        self._runs += 1
        if self._runs % _TIMED and pace.measured_s(size) is not None:
            return engine.run(signature, inputs, outputs)
        clock = engine.clock(signature)
        start = clock()
        answer = engine.run(signature, inputs, outputs)
        pace.record(size, clock() - start)
        return answer

    def cache_call(self, shape_key: Hashable, call: Any) -> None:
        """Keeps a checked call in `calls`. The call must not refer to this servable: it would keep it in memory."""
        if len(self.calls) >= _MAX_CALLS:
            self.calls.clear()
        self.calls[shape_key] = call

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1
        if self._on_idle is not None and not self.in_flight:
            self._on_idle()

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Calls `on_idle` once no request runs any more; at once when none does."""
        self._on_idle = on_idle
        if not self.in_flight:
            on_idle()
