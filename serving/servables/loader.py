"""Loads a version: reads its folder, chooses engines, chooses threads, warms it up. Runs off the request path."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition, ServingError, of_code
from ladle.serving.runtime.memory import trim_memory
from ladle.serving.runtime.paths import check_version
from ladle.serving.servables import matching, warmup
from ladle.serving.servables.batching_parameters import Batching, read_batching, read_batching_of
from ladle.serving.servables.engines.choose import EngineOptions, engine_options, open_version
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_MEASURED_RUNS = 2
_MEASURED_BELOW_S = 0.05


@dataclass(frozen=True)
class Loader:
    """Makes a Servable of a version's folder.

    options            which engines, and which MetaGraph
    warm_up            whether recorded requests are answered before the version is served
    warm_up_iterations how often each
    metrics            where loads and warm-ups are counted
    batching           how concurrent requests are merged; None: they are not
    own_batching       versions bring their own parameters, and are not merged without
    confine            refuses versions that leave `root`, or else their base path, through a symbolic link
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    warm_up: bool = True
    warm_up_iterations: int = 1
    metrics: Metrics = field(default_factory=Metrics)
    batching: Batching | None = None
    own_batching: bool = False
    confine: bool = True
    root: Path | None = None

    def __call__(self, name: str, version: int, folder: Path) -> Servable:
        """ServingError says why the version cannot be served."""
        start = time.perf_counter()
        code = "UNKNOWN"
        try:
            servable = self._load(name, version, folder)
            code = "OK"
        except ServingError as error:
            code = error.code
            raise
        finally:
            self.metrics.loaded(name, version, code, time.perf_counter() - start)
            trim_memory()
        milliseconds = 1000 * (time.perf_counter() - start)
        log.info("%s version %d: %s, loaded in %.0f ms", name, version, servable.engine_names, milliseconds)
        return servable

    def _load(self, name: str, version: int, folder: Path) -> Servable:
        if self.confine:
            check_version(folder, self.root or folder.parent)
        batching = read_batching_of(folder) if self.batching and self.own_batching else self.batching
        if batching is not None:
            batching.check()
        definitions, engines, onnx = open_version(folder, self.options)
        servable = Servable(name, version, definitions, engines, batching)
        if self.warm_up:
            self._warm_up(servable, folder, onnx)
        if onnx is not None:
            for signature in onnx.plans:
                example = onnx.example(signature)
                if example is not None:
                    _tune(onnx, signature, example)
        return servable

    def _warm_up(self, servable: Servable, folder: Path, onnx: OnnxEngine | None) -> None:
        start, records, code = time.perf_counter(), 0, "UNKNOWN"
        try:
            for records in self._replay(servable, folder, onnx):  # noqa: B007
                pass
            code = "OK"
        except ServingError as error:
            code = error.code
            raise
        finally:
            if records or code != "OK":
                self.metrics.warmup(str(folder), code, time.perf_counter() - start, records)

    def _replay(self, servable: Servable, folder: Path, onnx: OnnxEngine | None) -> Iterator[int]:
        """Answers the recorded requests; gives how many have been."""
        for count, (name, inputs) in enumerate(warmup.read_requests(folder), 1):
            signature = servable.signatures.get(name)
            if signature is None:
                raise FailedPrecondition(f'warm-up: Serving signature key "{name}" not found.')
            if onnx is not None and name not in onnx.plans:
                yield count
                continue  # would import TensorFlow for a signature that may never be asked for
            matching.check_names(signature, inputs)
            matching.check_dtypes(signature, inputs)
            inputs = dict(matching.complete(signature, inputs))
            outputs = tuple(signature.outputs)
            start = time.perf_counter()
            try:
                for _ in range(max(1, self.warm_up_iterations)):
                    servable.engines[name].run(name, inputs, outputs)
            except Exception as error:
                code = getattr(error, "code", "UNKNOWN")
                raise of_code(code, f"a recorded warm-up request failed: {error}") from error
            if onnx is not None:
                _tune(onnx, name, inputs)
            if time.perf_counter() - start < _MEASURED_BELOW_S:
                for _ in range(_MEASURED_RUNS):
                    servable.run(name, inputs, outputs)
            yield count


def make_loader(options: SimpleNamespace, metrics: Metrics) -> Loader:
    """The loader that the flags describe; InvalidArgument when they cannot be met."""
    file = Path(options.batching_parameters_file) if options.batching_parameters_file else None
    batching = read_batching(file) if options.enable_batching else None
    if batching is not None:
        metrics.thread_pool = batching.thread_pool_name
    return Loader(
        options=engine_options(options),
        warm_up=options.enable_model_warmup,
        warm_up_iterations=max(1, options.num_request_iterations_for_warmup),
        metrics=metrics,
        batching=batching,
        own_batching=options.enable_per_model_batching_parameters,
        confine=not options.allow_symlinks,
        root=Path(options.repository).absolute() if options.repository else None,
    )


def _tune(onnx: OnnxEngine, signature: str, inputs: Mapping[str, Array]) -> None:
    try:
        onnx.tune(signature, inputs)
    except Exception as error:  # inputs made up for the measurement may not suit the graph
        log.debug("%s: threads not measured: %s", signature, error)
