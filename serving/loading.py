"""Loads a version: reads its folder, chooses engines, chooses threads, warms it up. Runs off the request path."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving import matching, warmup
from serving.errors import FailedPrecondition, ServingError, of_code
from serving.metrics import Metrics
from serving.onnx_engine import OnnxEngine
from serving.saved_model import parse_signature, read_card, read_signature_defs
from serving.savedmodel_engine import SavedModelEngine, is_available
from serving.servable import Engine, Servable

Array = np.ndarray[Any, np.dtype[Any]]
log = logging.getLogger(__name__)

_MEASURED_RUNS = 2
_MEASURED_BELOW_S = 0.05
_INIT_OP = "__saved_model_init_op"


@dataclass(frozen=True)
class Loader:
    """Makes a Servable of a version's folder.

    tags               of the MetaGraph that is served
    warm_up            whether recorded requests are answered before the version is served
    warm_up_iterations how often each
    metrics            where loads and warm-ups are counted
    """

    tags: tuple[str, ...] = ("serve",)
    warm_up: bool = True
    warm_up_iterations: int = 1
    metrics: Metrics = field(default_factory=Metrics)

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
        milliseconds = 1000 * (time.perf_counter() - start)
        log.info("%s version %d: %s, loaded in %.0f ms", name, version, servable.engine_names, milliseconds)
        return servable

    def _load(self, name: str, version: int, folder: Path) -> Servable:
        definitions = read_signature_defs(folder, self.tags)
        engines, onnx = self._engines(folder, definitions)
        servable = Servable(name, version, definitions, engines)
        if self.warm_up:
            self._warm_up(servable, folder, onnx)
        if onnx is not None:
            for signature in onnx.plans:
                example = onnx.example(signature)
                if example is not None:
                    _tune(onnx, signature, example)
        return servable

    def _engines(self, folder: Path, definitions: Mapping[str, Any]) -> tuple[dict[str, Engine], OnnxEngine | None]:
        signatures = {name: parse_signature(name, definition) for name, definition in definitions.items()}
        card = read_card(folder)
        onnx = OnnxEngine(folder, card, signatures) if card else None
        if onnx is not None and not onnx.plans:
            onnx = None
        tensorflow = SavedModelEngine(folder, self.tags, signatures)
        if onnx is None:
            tensorflow.load()
        engines: dict[str, Engine] = {}
        for name in definitions:
            if onnx is not None and name in onnx.plans:
                engines[name] = onnx
            elif name != _INIT_OP and (onnx is None or is_available()):
                engines[name] = tensorflow
        return engines, onnx

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


def _tune(onnx: OnnxEngine, signature: str, inputs: Mapping[str, Array]) -> None:
    try:
        onnx.tune(signature, inputs)
    except Exception as error:  # inputs made up for the measurement may not suit the graph
        log.debug("%s: threads not measured: %s", signature, error)
