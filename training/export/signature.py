"""Makes a verified graph of one signature."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.training.export import with_steps
from ladle.training.export.attempts import ONNX_RUNTIME, TENSORFLOW, Attempts
from ladle.training.export.comparison import LENGTHS, compare_hard, compare_usual, is_finite_only, mixes_rowless
from ladle.training.export.made_up import LIMITS, Arrays, Specs
from ladle.training.onnx import ranges
from ladle.training.onnx.convert import NotConvertibleError, session, to_onnx
from ladle.training.onnx.external import Weights, forget, size_bytes
from ladle.training.onnx.parity import RELATIVE, MismatchError, Parity, Run, compare
from ladle.training.onnx.rewrites import checks
from ladle.training.onnx.rewrites.inline import Pure
from ladle.training.onnx.rewrites.small_images import least_side
from ladle.training.onnx.steadiness import Steadiness
from ladle.training.store import savedmodel
from ladle.training.strings.split import needs_host

LARGE_BYTES = 2**30
"""Weights of larger models lie in a file beside the graph: a protobuf message holds 2 GB, and converters copy it."""
_LONGEST, _MOST_LENGTHS = 1024, 12
"""Of the lengths that the shapes in a function name: the greatest, and how many are tried."""
_ALL_INTEGERS = 2**64
"""The bound where no integer can be the size of a tensor: a huge one would use up the memory."""
_OF_EVEN = ("Angle", "SelfAdjointEigV2", "Svd")
"""Operations of which silence shows more than noise: beside 0, a digit decides what angles and vectors are."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Converted:
    """The graph of a signature, how closely it agrees, and whether that holds for finite numbers alone.

    relative  difference that was allowed, relative to the largest magnitude of an output
    weights   file of the weights of a large model; None: the graph contains them
    after     the card's entries of the steps that follow the graph
    before    the same of those that come first
    refuses_empty  it differs on tensors without elements
    refuses_mixed  it answers inputs without rows beside inputs with rows, which TensorFlow refuses
    programs  what runs on the host before and after the graph: content of the file, entry in the card
    """

    model: bytes
    parity: Parity
    is_finite_only: bool
    relative: float
    weights: Path | None
    after: list[dict[str, str]]
    programs: Mapping[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    refuses_empty: bool = False
    refuses_mixed: bool = False
    before: Sequence[dict[str, str]] = ()

    def steps(self, stem: str) -> tuple[dict[str, list[dict[str, Any]]], dict[str, bytes]]:
        """The card's steps before and after the graph, and the files that hold their programs."""
        steps: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
        files: dict[str, bytes] = {}
        for when, (content, description) in self.programs.items():
            file = f"{stem}.{when}.npz"
            files[file] = content
            steps[when] = [{**description, "file": file, "sha256": hashlib.sha256(content).hexdigest()}]
        return steps, files

    @property
    def notes(self) -> dict[str, Any]:
        """Further entries of the card for the graph."""
        file = {} if self.weights is None else {"weights": self.weights.name}
        finite = {"finite": True} if self.is_finite_only else {}
        empty = {"refuses_empty": True} if self.refuses_empty else {}
        mixed = {"refuses_mixed": True} if self.refuses_mixed else {}
        return {**finite, **empty, **mixed, **file}

    @property
    def as_dict(self) -> dict[str, Any]:
        """The parity as the card keeps it; `relative` only if more was allowed than for float32."""
        return self.parity.as_dict() | ({"relative": self.relative} if self.relative > RELATIVE else {})


@dataclass(frozen=True)
class SignatureConversion:
    """One signature on its way to a verified graph.

    weights_path  where the weights of a large model go
    tolerance     allowed difference, relative to the largest magnitude of an output, if the user gave one
    checks        the checks that it makes, such as `Assert`
    is_vain       whether it changes variables on which no output depends
    """

    name: str
    function: Any
    warm: Sequence[Arrays]
    attempts: Attempts
    tell: Tell
    weights_path: Callable[[], Path]
    tolerance: float | None = None
    checks: Collection[str] = ()
    is_vain: bool = False

    def make(self) -> Converted:
        """The graph of the signature and its parity; NotConvertibleError or MismatchError if it has none."""
        specs = self.function.structured_input_signature[1]
        for kind, tensors in (("input", specs), ("output", self.function.structured_outputs)):
            for alias, spec in tensors.items():
                if not isinstance(spec, (tf.TensorSpec, tf.Tensor)):
                    raise NotConvertibleError(
                        f'{kind} "{alias}" is a ragged or sparse tensor; export its dense parts as {kind}s of their own'
                    )
        is_large = size_bytes(getattr(self.function, "variables", ())) > LARGE_BYTES
        pure, demands = self._lifted()
        function = self.function if pure is None else pure.function
        demanded = [{"op": "require", "input": name, "message": text} for name, text in demands.items()]
        if not is_large and needs_host(function):
            made = with_steps.make(
                self.name, function, self.function, demands, self.warm, self.attempts, self.tell, self.tolerance
            )
            return Converted(
                made.model,
                made.parity,
                made.is_finite_only,
                made.relative,
                None,
                demanded,
                made.programs,
                made.refuses_empty,
            )
        start = time.monotonic()
        self.tell(f"{self.name}: converting ...")
        weights = Weights() if is_large else None
        renamed = {name: f"{name}:out" for name in self.function.structured_outputs if name in specs}
        compute = self.function if pure is None else pure.compute
        graph = to_onnx(_with_names(compute, renamed), specs, weights=weights)
        unsafe = ranges.unsafe_cast(graph)
        if unsafe:
            raise NotConvertibleError(unsafe)
        path = None
        if weights is not None:
            path = self.weights_path()
            weights.write(graph, path)
        model = graph.SerializeToString()
        forget(graph)
        self.tell(
            f"{self.name}: {len(graph.graph.node)} operations after {time.monotonic() - start:.0f} s; comparing ..."
        )
        run = _with_names(session(model if path is None else _beside(path, model)), {n: o for o, n in renamed.items()})
        wide, narrow = _brains(specs), _brains(self.function.structured_outputs)
        run = _widened(run, narrow) if wide or narrow else run
        run = self.attempts.watched(checks.demanding(run, demands), self.name, ONNX_RUNTIME)
        reference = self.attempts.watched(functools.partial(savedmodel.run, self.function), self.name, TENSORFLOW)
        relative = max(ranges.relative(graph), self.tolerance or 0)
        pools = any(node.op_type in ("AveragePool", "MaxPool") for node in graph.graph.node)
        deciding = ranges.deciding(graph)
        single = {name for name, spec in specs.items() if spec.shape.rank == 0 or spec.shape.num_elements() == 1}
        after = [
            *demanded,
            *({"op": "narrow", "input": renamed.get(name, name)} for name in narrow),
            *({"op": "rename", "input": inner, "output": name} for name, inner in renamed.items()),
        ]
        before = [{"op": "widen", "input": name} for name in wide]
        if not specs:
            found = compare(reference, run, [{}], 1, relative, by_spread=True)
            return Converted(model, found, False, relative, path, after)
        least = least_side(graph)
        steady = Steadiness(reference) if ranges.is_smooth(graph) else None
        found, length, integers = compare_usual(
            reference,
            run,
            specs,
            self.warm,
            relative,
            least=least,
            own_lengths=self._own_lengths,
            tell=lambda text: self.tell(f"{self.name}: {text}"),
            steady=steady,
        )
        windows = any(node.op_type in ("Conv", "ConvTranspose") for node in graph.graph.node)
        hard = functools.partial(
            compare_hard,
            *(reference, run, specs, length, LIMITS[-1] if deciding else _ALL_INTEGERS, relative),
            small=deciding & single,
            with_even=_uses(self.function, _OF_EVEN),
            with_short=not pools,
            may_refuse_short=windows,
            spreads=found.spreads,
            steady=steady,
        )
        try:
            found = found.joined(hard())
        except MismatchError:
            if not ranges.orders_computed(graph):
                raise
            # Which of equal scores comes first depends on their last digit, in TensorFlow on their place in a vector.
            found = found.joined(hard(is_mixed=True))
        self.tell(f"{self.name}: compared on {found.inputs} inputs after {time.monotonic() - start:.0f} s")
        # Which boxes NaN leaves out depends on the order of comparisons, which random values seldom show.
        is_finite = any(node.op_type == "NonMaxSuppression" for node in graph.graph.node)
        is_finite |= is_finite_only(reference, run, specs, length, least, integers, relative, found.spreads, steady)
        # Servers keep inputs without rows from the others.
        crashes = any(node.op_type in with_steps.CRASH_WHEN_EMPTY for node in graph.graph.node)
        is_mixed = not crashes and mixes_rowless(reference, run, specs, length)
        return Converted(model, found, is_finite, relative, path, after, refuses_mixed=is_mixed, before=before)

    def _lifted(self) -> tuple[Pure | None, dict[str, str]]:
        """The function without effects, and what is demanded of its boolean outputs; None if it can stay as it is."""
        is_needed = checks.is_needed(self.function) and not needs_host(self.function)  # the host refuses by itself
        if not (self.checks or self.is_vain or is_needed or checks.has_references(self.function)):
            return None, {}
        try:
            return checks.lifted(self.function)
        except checks.NestedCheckError as error:
            kinds = ", ".join(self.checks) or str(error)
            raise NotConvertibleError(
                f"it refuses some values ({kinds}) in a loop or branch; an ONNX graph would answer them"
            ) from error

    def _own_lengths(self) -> list[int]:
        """Lengths that the shapes in the function name, such as that of a kernel."""
        shapes = [variable.shape for variable in getattr(self.function, "variables", ())]
        graph = self.function.graph.as_graph_def()
        inner = [node for function in graph.library.function for node in function.node_def]
        shapes += [
            tf.TensorShape(node.attr["shape"].shape) for node in (*graph.node, *inner) if node.op == "EnsureShape"
        ]
        sizes = {size for shape in shapes if shape.rank for size in shape.as_list() if size}
        return sorted(size for size in sizes if size <= _LONGEST and size not in LENGTHS)[:_MOST_LENGTHS]


def _with_names(run: Callable[..., Any], names: Mapping[str, str]) -> Callable[..., Any]:
    """The same function, in which the outputs have these names. `names` maps its own to them."""
    if not names:
        return run

    def renamed(*arguments: Any, **tensors: Any) -> dict[str, Any]:
        return {names.get(name, name): value for name, value in run(*arguments, **tensors).items()}

    return renamed


def _brains(specs: Specs) -> list[str]:
    """The names of those that are bfloat16."""
    return [name for name, spec in specs.items() if spec.dtype == tf.bfloat16]


def _widened(run: Run, narrow: Collection[str]) -> Run:
    """The same function, which takes bfloat16 as it takes float32, and gives these outputs as bfloat16."""

    def of_brains(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        brain = tf.bfloat16.as_numpy_dtype
        wide = {name: array.astype(np.float32) if array.dtype == brain else array for name, array in arrays.items()}
        return {name: array.astype(brain) if name in narrow else array for name, array in run(wide).items()}

    return of_brains


def _beside(weights: Path, model: bytes) -> str:
    """The path of a file with the graph, in the folder of its weights."""
    path = weights.with_name("graph.onnx")
    path.write_bytes(model)
    return str(path)


def _uses(function: Any, operations: Collection[str]) -> bool:
    """Whether a signature has one of these operations."""
    graph = function.graph.as_graph_def()
    return any(node.op in operations for part in (graph, *graph.library.function) for node in _nodes_of(part))


def _nodes_of(part: Any) -> Any:
    return part.node_def if hasattr(part, "node_def") else part.node
