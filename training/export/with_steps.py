"""Makes a graph with host steps around it for a signature with strings, tables or hashes, and compares it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from ladle.serving.errors import ServingError
from ladle.serving.servables.host.program import Program, decode
from ladle.training.export.attempts import ONNX_RUNTIME, TENSORFLOW, Attempts, CrashError
from ladle.training.onnx import ranges
from ladle.training.onnx.convert import NotConvertibleError, first_line, session, to_onnx
from ladle.training.onnx.parity import MismatchError, Parity, Run, compare
from ladle.training.onnx.rewrites.checks import demanding
from ladle.training.store import savedmodel
from ladle.training.strings.split import Split, empty_core, split
from ladle.training.strings.texts import Samples

Arrays = dict[str, np.ndarray]
CRASH_WHEN_EMPTY = {"Einsum", "GRU", "LSTM", "RNN"}
"""Operations of ONNX that an empty axis may crash. Servers keep empty inputs from graphs that have them."""


@dataclass(frozen=True)
class Hosted:
    """A graph, the programs `before` and `after` it (content, card entry), and their agreement with TensorFlow."""

    model: bytes
    programs: dict[str, tuple[bytes, dict[str, Any]]]
    parity: Parity
    is_finite_only: bool
    refuses_empty: bool
    relative: float


class _SkippedError(Exception):
    """A request that no server gives to the graph."""


def make(
    name: str,
    function: Any,
    signature: Any,
    demands: Mapping[str, str],
    warm: Sequence[Arrays],
    attempts: Attempts,
    tell: Callable[[str], None],
    tolerance: float | None = None,
) -> Hosted:
    """Divide a signature, convert its core, and compare the whole; NotConvertibleError or MismatchError say why not.

    function   the signature's, or one that has its checks as boolean outputs
    signature  its own function
    demands    messages by the boolean outputs that have to be true
    tolerance  allowed difference, relative to the largest magnitude of an output, if the user gave one
    """
    start = time.monotonic()
    specs = function.structured_input_signature[1]
    tell(f"{name}: dividing it into host steps and a graph ...")
    parts = split(function)
    made = {"before": parts.before, "after": parts.after}
    programs = {when: (part.encoded(), _described(part)) for when, part in made.items() if part is not None}
    samples = Samples(parts.frozen, specs, warm)
    reference = attempts.watched(lambda arrays: savedmodel.run(signature, arrays), name, TENSORFLOW)
    if parts.core is None:
        graph = empty_core()
    else:
        inputs = _with_ranks(parts, samples)
        graph = to_onnx(parts.core, inputs)
        unsafe = ranges.unsafe_cast(graph)
        if unsafe:
            raise NotConvertibleError(unsafe)
    model = graph.SerializeToString()
    tell(f"{name}: {len(graph.graph.node)} operations after {time.monotonic() - start:.0f} s; comparing ...")
    composed = _Composed(parts, graph, model, programs)
    run = attempts.watched(demanding(composed, demands), name, ONNX_RUNTIME)
    relative = max(ranges.relative(graph), tolerance or 0)
    found = _compare(reference, run, composed, samples, warm, relative)
    tell(f"{name}: compared on {found.inputs} inputs after {time.monotonic() - start:.0f} s")
    finite_only = not _agrees_beyond_finite(reference, run, composed, samples, relative)
    if finite_only and parts.core is None:
        raise MismatchError("its steps differ from TensorFlow on NaN or infinity")
    return Hosted(model, programs, found, finite_only, composed.refuses_empty, relative)


def _described(program: Program) -> dict[str, Any]:
    """What the card says of a program besides its file."""
    return {"op": "host", "reads": program.reads, "adds": program.adds, "operations": program.ops}


def _with_ranks(parts: Split, samples: Samples) -> dict[str, tf.TensorSpec]:
    """The specs of the core's inputs; of an unknown rank, that of the tensors which the steps make."""
    if all(spec.shape.rank is not None for spec in parts.specs.values()):
        return parts.specs
    run = None if parts.before is None else parts.before.compiled()
    for request in samples.requests():
        tensors = dict(request)
        try:
            if run is not None:
                run(tensors)
        except ServingError:
            continue
        return {
            name: spec if spec.shape.rank is not None else tf.TensorSpec([None] * tensors[name].ndim, spec.dtype)
            for name, spec in parts.specs.items()
        }
    raise NotConvertibleError("the host steps refuse made-up inputs; add warm-up requests with real inputs")


class _Composed:
    """The steps and the graph as a server runs them: the programs are read back from their files.

    refuses_empty  the graph differs from TensorFlow on tensors without elements, such as a text without words; servers
                   refuse those
    """

    def __init__(
        self, parts: Split, graph: onnx.ModelProto, model: bytes, programs: Mapping[str, tuple[bytes, Any]]
    ) -> None:
        self._first, self._last = (
            decode(programs[when][0]).compiled() if when in programs else None for when in ("before", "after")
        )
        self._core = session(model) if parts.core is not None else None
        self._feeds = [value.name for value in graph.graph.input]
        self._may_crash = any(node.op_type in CRASH_WHEN_EMPTY for node in graph.graph.node)
        self._outputs = list(parts.frozen.outputs)
        self.refuses_empty = self.was_empty = False

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors, self.was_empty = dict(arrays), False
        if self._first is not None:
            self._first(tensors)
        if self._core is not None:
            feed = {name: np.asarray(tensors[name], order="C") for name in self._feeds}
            self.was_empty = any(not array.size for array in feed.values())
            if self.was_empty and (self._may_crash or self.refuses_empty):
                raise _SkippedError
            tensors |= self._core(feed)
        if self._last is not None:
            self._last(tensors)
        return {name: tensors[name] for name in self._outputs}


def _compare(
    reference: Run, run: Run, composed: _Composed, samples: Samples, warm: Sequence[Arrays], relative: float
) -> Parity:
    """The parity on all samples; at least one request with rows must be answered."""
    answered, refusal = _outcomes(reference, run, composed, samples.requests(), relative)
    if answered is None:
        answered, _ = _outcomes(reference, run, composed, samples.other_requests(), relative)
    if answered is None:
        hint = "the warm-up requests" if warm else "made-up inputs"
        raise NotConvertibleError(
            f"TensorFlow refuses {hint} ({first_line(refusal)}); add warm-up requests with real inputs"
        )
    hard, _ = _outcomes(reference, run, composed, samples.hard_requests(), relative)
    return answered if hard is None else answered.joined(hard)


def _outcomes(
    reference: Run, run: Run, composed: _Composed, requests: Iterable[Arrays], relative: float
) -> tuple[Parity | None, Exception | None]:
    """The parity on the requests that TensorFlow answers, and one of its refusals; the steps must refuse the others."""
    found: Parity | None = None
    refusal: Exception | None = None
    for request in requests:
        try:
            expected = reference(request)
        except (tf.errors.ResourceExhaustedError, CrashError) as error:
            refusal = error
            continue
        except (tf.errors.OpError, ValueError, TypeError) as error:
            refusal = error
            if _accepts(run, request):
                if composed.was_empty:
                    composed.refuses_empty = True
                    continue
                raise MismatchError(
                    f"it answers inputs that TensorFlow refuses ({_shown(request)}): {first_line(error)}"
                ) from error
            continue
        try:
            got = run(request)
        except (_SkippedError, CrashError):
            continue
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            if composed.was_empty:
                composed.refuses_empty = True
                continue
            raise MismatchError(
                f"it refuses inputs that TensorFlow answers ({_shown(request)}): {first_line(error)}"
            ) from error
        try:
            same = compare(_fixed(expected), _fixed(got), [request], _rows(request), relative)
        except MismatchError as error:
            if composed.was_empty:
                composed.refuses_empty = True
                continue
            raise MismatchError(f"{error} ({_shown(request)})") from error
        found = same if found is None else found.joined(same)
    return found, refusal


def _fixed(answer: Mapping[str, np.ndarray]) -> Run:
    return lambda arrays: answer


def _accepts(run: Run, request: Arrays) -> bool:
    try:
        run(request)
    except (_SkippedError, CrashError):
        return False
    except Exception:  # ONNX Runtime's exceptions have no common base class
        return False
    return True


def _agrees_beyond_finite(reference: Run, run: Run, composed: _Composed, samples: Samples, relative: float) -> bool:
    try:
        _outcomes(reference, run, composed, samples.not_finite(), relative)
    except MismatchError:
        return False
    return True


def _rows(request: Arrays) -> int:
    first = next(iter(request.values()), np.zeros(()))
    return first.shape[0] if first.ndim else 1


def _shown(request: Arrays) -> str:
    """The inputs of a request, short."""
    return ", ".join(
        f"{name}={array.ravel()[0]!r}"[:60] if array.size == 1 else f"{name} {array.dtype} {list(array.shape)}"
        for name, array in request.items()
    )
