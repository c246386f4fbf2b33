"""Loads a version: opens its engines, answers its warm-up requests, and measures how many threads suit its graphs.

All of this runs in a loading thread, before the first request.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition, ServingError, Unavailable, of_code
from ladle.serving.runtime.memory import trim_memory
from ladle.serving.runtime.native_calls import digest, native_calls
from ladle.serving.runtime.paths import check_version
from ladle.serving.servables import matching, warmup
from ladle.serving.servables.batching_parameters import Batching, read_batching, read_batching_of
from ladle.serving.servables.engines.choose import EngineOptions, engine_options, open_version
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.files import check_files
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# A short warm-up request runs twice more through the servable, which times it: the first run also allocates buffers,
# and a version without a latency would send its first requests to a thread.
_TIMED_RUNS = 2
_TIMED_BELOW_S = 0.05


@dataclass
class Loader:
    """Makes a Servable of a version's folder.

    options             which engines, and which MetaGraph
    warm_up             whether to answer the recorded requests before the version is served
    warm_up_iterations  how often to answer each
    metrics             count loads and warm-ups
    batching            how to merge concurrent requests; None: not at all. It may change: later loads follow
    own_batching        read the parameters from each version's folder; a version without the file is not merged
    allow_symlinks      load a version even if a symbolic link leads out of `root`
    root                folder that versions must not leave; None: the version's base path
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    warm_up: bool = True
    warm_up_iterations: int = 1
    metrics: Metrics = field(default_factory=Metrics)
    batching: Batching | None = None
    own_batching: bool = False
    allow_symlinks: bool = False
    root: Path | None = None

    def __call__(self, name: str, version: int, folder: Path) -> Servable:
        """The servable of a version's folder; ServingError says why it cannot be loaded."""
        start = time.perf_counter()
        code = "UNKNOWN"
        try:
            identity = _identity(folder)
            with native_calls.loading(digest(name, version, identity)):
                servable = self._load(name, version, folder, identity)
            code = "OK"
        except ServingError as error:
            code = error.code
            raise
        except OSError as error:  # of the disk: whoever looks at the status must not search the code for it
            code = Unavailable.code
            log.warning("%s version %d: %s", name, version, error)
            raise Unavailable(f"a file of the version cannot be read: {error.strerror or error}") from None
        finally:
            self.metrics.loaded(name, version, code, time.perf_counter() - start)
            trim_memory()
        milliseconds = 1000 * (time.perf_counter() - start)
        log.info("%s version %d: %s, loaded in %.0f ms", name, version, servable.engine_names, milliseconds)
        return servable

    def _load(self, name: str, version: int, folder: Path, identity: int) -> Servable:
        if not self.allow_symlinks:
            check_version(folder, self.root or folder.parent)
        check_files(folder)
        batching = read_batching_of(folder) if self.batching and self.own_batching else self.batching
        if batching is not None:
            batching.check()
            for sentence in batching.unused_of_version() if self.own_batching else ():
                log.warning("%s version %d: in its batching_params.pbtxt, %s", name, version, sentence)
        definitions, engines, onnx = open_version(folder, self.options)
        usage = self.metrics.usage_of(name, version)
        servable = Servable(name, version, definitions, engines, batching, identity, usage)
        servable.folder = folder
        servable.takes_graph = onnx is None and self.options.kind == "auto" and not self.options.tflite_interpreters
        if servable.takes_graph:
            log.warning(
                "%s version %d has no verified ONNX graph and runs on TensorFlow, which takes more time and memory; if "
                "card.json and its graph arrive, it is loaded again",
                name,
                version,
            )
        if self.warm_up:
            self._warm_up(servable, folder, onnx)
        if onnx is not None:
            for signature in onnx.plans:
                example = onnx.example(signature)
                if example is not None:
                    _tune(onnx, signature, example)
            onnx.warm_up_gpu(batching.allowed_batch_sizes or (1,) if batching is not None else (1,))
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
        """Answer the recorded requests; after each, yield how many have been answered."""
        for count, (name, inputs) in enumerate(warmup.read_requests(folder), 1):
            signature = servable.signatures.get(name)
            if signature is None:
                raise FailedPrecondition(f'warm-up: Serving signature key "{name}" not found.')
            if onnx is not None and name not in onnx.plans:
                yield count
                continue  # would import TensorFlow, which takes seconds, for a signature that may never be used
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
            if time.perf_counter() - start < _TIMED_BELOW_S:
                for _ in range(_TIMED_RUNS):
                    servable.run(name, inputs, outputs)
            yield count


def make_loader(options: SimpleNamespace, metrics: Metrics) -> Loader:
    """The loader that the flags describe; InvalidArgument for unknown engines and bad batching parameters."""
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
        allow_symlinks=options.allow_symlinks,
        root=Path(options.repository).absolute() if options.repository and "://" not in options.repository else None,
    )


def _identity(folder: Path) -> int:
    """A number that changes when a file of the version does."""
    start = len(str(folder))
    files = []
    for where, folders, names in os.walk(folder):
        for path in [os.path.join(where, name) for name in (*folders, *names)]:
            found = os.lstat(path)
            files.append((path[start:], found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return digest(sorted(files))


def _tune(onnx: OnnxEngine, signature: str, inputs: Mapping[str, Array]) -> None:
    try:
        onnx.tune(signature, inputs)
    except Exception as error:  # inputs made up for the measurement may not fit the graph
        log.debug("%s: the number of threads was not measured: %s", signature, error)
