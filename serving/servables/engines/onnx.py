"""Runs signatures on ONNX Runtime: graphs that were verified at export, with the model card's steps around them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import mmap
import re
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import DataLoss, InvalidArgument, ResourceExhausted, ServingError
from ladle.serving.runtime import paths, stopping
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.runtime.memory import total_bytes
from ladle.serving.servables import shared_weights
from ladle.serving.servables.engines import empty_inputs, large_runs, onnx_file, onnx_profile
from ladle.serving.servables.engines.gpu.device import Gpu
from ladle.serving.servables.engines.onnx_graph import NUMPY, Graph, computing
from ladle.serving.servables.engines.prober import background, prober
from ladle.serving.servables.engines.run_memory import Measurement, RunMemory
from ladle.serving.servables.latency import Latency
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.steps.elements import counter
from ladle.serving.servables.steps.steps import MAX_IMAGE_PIXELS, Step, Tensors, build

log = logging.getLogger(__name__)

_MEASURED_SHARE = 8  # the process that measures a graph loads it, too: only where there is so many times its size
_MAX_CHOSEN = 256  # output filters of a signature whose choice is kept


@dataclass(frozen=True)
class Plan:
    """How a signature runs: steps, a graph, steps.

    feeds   the graph's inputs, in its order
    images  the step that decodes the signature's one input, if it has such a step and no other input
    chosen  the graph outputs and later steps that a set of outputs needs, by that set
    """

    before: tuple[Step, ...]
    graph: Graph
    feeds: tuple[str, ...]
    after: tuple[Step, ...]
    images: Step | None = None
    chosen: dict[tuple[str, ...], tuple[list[str], list[Step]]] = field(default_factory=dict)


class OnnxEngine:
    """The signatures of one version that have a verified graph."""

    name = "ONNX Runtime"

    def __init__(
        self,
        folder: Path,
        card: Mapping[str, Any],
        signatures: Mapping[str, Signature],
        threads: int = 0,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        max_run_bytes: int = 0,
        gpu: Gpu | None = None,
    ) -> None:
        """Load the graphs that the card lists as verified; DataLoss when a file is not the one that was verified.

        threads           of each run; 0: `tune` measures the best number
        max_image_pixels  largest image that a step decodes, width times height; 0: any
        max_run_bytes     most memory that a run may need; 0: any
        gpu               the GPU that the graphs run on; None: the CPU. FailedPrecondition: it cannot
        """
        if gpu is not None:
            self.name = f"ONNX Runtime (cuda:{gpu.index})"
        self._graphs: dict[str, Graph] = {}
        self.plans: dict[str, Plan] = {}
        verified = card.get("onnx") or {}
        for name, entry in (card.get("signatures") or {}).items():
            file = entry.get("graph")
            signature = signatures.get(name)
            if signature is None or not file or not (verified.get(file) or {}).get("parity"):
                continue
            if file not in self._graphs:
                self._graphs[file] = _open(folder, file, verified[file].get("sha256"), threads, max_run_bytes, gpu)
            if _is_fed_by_numpy(self._graphs[file]):
                plan = _plan(signature, entry, self._graphs[file], folder / "assets", max_image_pixels)
                limits = _limits(verified[file], plan)
                self.plans[name] = dataclasses.replace(plan, before=(*plan.before, *limits)) if limits else plan

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        plan = self.plans[signature]
        names = outputs if type(outputs) is tuple else tuple(outputs)
        if not plan.before and not plan.after:
            return self._run(plan, signature, inputs, names)
        # From its first step to its last, not only for each: between them, the core would seem free to runs that
        # take all cores, and both would then be held up.
        with computing.holding():
            return self._run(plan, signature, inputs, names)

    def _run(self, plan: Plan, signature: str, inputs: Mapping[str, Array], names: tuple[str, ...]) -> dict[str, Array]:
        from_graph, after = _chosen(plan, names)
        if plan.images is not None and plan.images.decoding is not None and from_graph:
            encoded = inputs[plan.images.reads[0]]
            if encoded.ndim == 1:
                count = large_runs.image_count(plan.graph, from_graph, plan.images.decoding, encoded)
                if count < len(encoded):
                    return self._run_parts(signature, inputs, names, count)
        tensors = dict(inputs)
        for step in plan.before:
            step.run(tensors)
        if from_graph:
            feed = {name: tensors[name] for name in plan.feeds}
            try:
                sizes = [array.size for array in feed.values()]
                if 0 in sizes:
                    answers = empty_inputs.run(plan.graph, from_graph, feed)
                else:
                    if plan.graph.smallest:
                        empty_inputs.check_shapes(plan.graph, feed)
                    if plan.graph.count(sizes) > plan.graph.memory.free_elements:
                        answers = large_runs.run(plan.graph, from_graph, feed)
                    else:
                        stop = stopping.running.stop
                        answers = plan.graph.call(from_graph, feed, None if stop is None else large_runs.options(stop))
            except ServingError:
                raise
            except Exception as error:  # ONNX Runtime's exceptions have no common base class
                stop = stopping.current()
                if stop is not None:
                    stop.check()
                raise _refusal(plan.graph, feed, error) from None
            tensors.update(zip(from_graph, answers, strict=True))
        for step in after:
            step.run(tensors)
        return {name: tensors[name] for name in names}

    def prepare(
        self, signature: str, inputs: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Callable[[Mapping[str, Array]], dict[str, Array]] | None:
        """`run` for small inputs of exactly these names, dtypes and shapes, without what these decide.

        None for those that steps change before the graph, and for those that are checked before each run.
        """
        plan = self.plans[signature]
        graph = plan.graph
        from_graph, after = _chosen(plan, outputs)
        sizes = [array.size for array in inputs.values()]
        if plan.before or not from_graph or graph.smallest or 0 in sizes or set(inputs) != set(plan.feeds):
            return None
        elements, running = graph.count(sizes), stopping.running

        def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
            if elements > graph.memory.free_elements or running.stop is not None:
                return self.run(signature, inputs, outputs)
            try:
                tensors = dict(zip(from_graph, graph.call(from_graph, inputs, None), strict=True))
                for step in after:
                    step.run(tensors)
            except Exception:  # the long way says what is wrong
                return self.run(signature, inputs, outputs)
            return {name: tensors[name] for name in outputs}

        return run

    def _run_parts(
        self, signature: str, inputs: Mapping[str, Array], names: tuple[str, ...], count: int
    ) -> dict[str, Array]:
        """The outputs for encoded images, so many of which are decoded at once."""
        [(alias, encoded)] = inputs.items()
        stop = stopping.current()
        whole: dict[str, Array] = {}
        for start in range(0, len(encoded), count):
            if stop is not None:
                stop.check()
            for name, array in self.run(signature, {alias: encoded[start : start + count]}, names).items():
                if not start:
                    whole[name] = np.empty((len(encoded), *array.shape[1:]), array.dtype)
                whole[name][start : start + count] = array
        return whole

    def time_operators(self, signature: str, inputs: Mapping[str, Array]) -> list[tuple[str, float, float]]:
        """Runs a request again, in a session of its own that is profiled: name, start and end of each operator.

        In seconds from the start of the run. ONNX Runtime profiles a session from its making, so the sessions that
        serve are left as they are.
        """
        plan = self.plans[signature]
        tensors = dict(inputs)
        for step in plan.before:
            step.run(tensors)
        return onnx_profile.time_operators(plan.graph, {name: tensors[name] for name in plan.feeds})

    def latency(self, signature: str) -> Latency:
        plan = self.plans[signature]
        return Latency(counter(plan.before), is_steady=not plan.graph.has_loops)

    def close(self) -> None:
        """Nothing outlives the engine."""

    def clock(self, signature: str) -> Callable[[], float]:
        # A run with one thread computes in the caller's: its own clock leaves out what other threads took of the core.
        # On a GPU the caller's thread may sleep meanwhile.
        graph = self.plans[signature].graph
        return time.thread_time if graph.threads == 1 and graph.spread is None else time.perf_counter

    def warm_up_gpu(self, sizes: Sequence[int]) -> None:
        """Run each graph at each number of rows, where a GPU's convolutions are measured at each new shape."""
        for graph in self._graphs.values():
            graph.warm_up_gpu(sizes)

    def tune(self, signature: str, inputs: Mapping[str, Array]) -> None:
        """Measure how many threads suit the signature's graph on these inputs; once for each graph."""
        plan = self.plans[signature]
        if plan.graph.tuned:
            return
        tensors = dict(inputs)
        for step in plan.before:
            step.run(tensors)
        feed = {name: tensors[name] for name in plan.feeds}
        if all(array.size for array in feed.values()):
            empty_inputs.check_shapes(plan.graph, feed)
            plan.graph.memory.trust(plan.graph.elements(feed))
            plan.graph.tune(feed)

    def example(self, signature: str) -> dict[str, Array] | None:
        """Inputs of ones to tune a signature with; None for one with steps before its graph, or with other dtypes."""
        plan = self.plans[signature]
        return None if any(step.adds for step in plan.before) else plan.graph.made_up_row()


def _is_fed_by_numpy(graph: Graph) -> bool:
    """Whether NumPy has the dtypes of all inputs and outputs. It lacks bfloat16, and ONNX strings are not bytes."""
    return all(tensor.type in NUMPY for tensor in (*graph.session.get_inputs(), *graph.session.get_outputs()))


def _open(folder: Path, file: str, sha256: str | None, threads: int, max_run_bytes: int, gpu: Gpu | None) -> Graph:
    if Path(file).name != file:
        raise DataLoss(f"card.json names the graph {file!r}; expected a file name in the version's folder")
    path = folder / file
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if hashlib.sha256(mapped).hexdigest() != sha256:
                raise DataLoss(
                    f"{file} is not the graph that was verified (its sha256 differs); export the version again"
                )
            with memoryview(mapped) as model:
                free, others = _look_into(model, folder, file)
                operations = onnx_file.operations(model)
                may_crash = bool(operations & empty_inputs.CRASHING)
        size_bytes = sum((folder / name).stat().st_size for name in (file, *others) if (folder / name).exists())
    except (OSError, ValueError):  # ValueError: an empty file, or no protobuf message
        raise DataLoss(f"card.json names the graph {file}, which cannot be read; export the version again") from None
    try:
        shared = None
        if free is None and gpu is None and not others:
            shared = shared_weights.share(path, str(sha256), size_bytes)
        graph = Graph(free or str(path), size_bytes, threads, gpu, shared)
        graph.has_loops = not operations.isdisjoint(("Loop", "Scan"))
        if free is not None:
            graph.memory = RunMemory.of_elementwise(max_run_bytes, graph.outputs)
        elif may_crash and not graph.has_fixed_sides():
            found = prober.look_at(path, may_crash)
            graph.smallest = empty_inputs.safe_size(path, found)
            graph.memory = _read_memory(found, max_run_bytes)
        else:
            graph.smallest = 0 if may_crash else None
            graph.memory = RunMemory(max_run_bytes)
            if max_run_bytes and _MEASURED_SHARE * size_bytes <= total_bytes():
                graph.measurement = Measurement(functools.partial(_measure, weakref.ref(graph), path, max_run_bytes))
                background.add(graph.measurement)
        return graph
    except ServingError:  # says what the GPU lacks
        raise
    except Exception as error:
        log.error("%s: %s", path, error)
        raise DataLoss(f"{file} cannot be read as an ONNX graph; export the version again") from None


def _measure(graph: weakref.ref[Graph], path: Path, max_run_bytes: int, in_background: bool) -> None:
    """Measures what runs of a graph need, unless its version was unloaded meanwhile."""
    if graph() is not None:
        asked = background.prober if in_background else prober
        memory = _read_memory(asked.look_at(path, may_crash=False), max_run_bytes)
        if (kept := graph()) is not None:
            kept.memory = memory


def _read_memory(found: Mapping[str, Any], max_run_bytes: int) -> RunMemory:
    return RunMemory(max_run_bytes, found.get("points") or (), found.get("splits", False))


def _look_into(model: memoryview, folder: Path, file: str) -> tuple[bytes | None, list[str]]:
    """The bytes of the graph with inputs of any shape, if it can take them (else None), and its other files.

    DataLoss when another file is outside of the version's folder.
    """
    others = onnx_file.external_files(model)
    if not all(paths.is_inside(folder / name, folder) for name in others):
        raise DataLoss(f"{file} has weights outside of the version's folder; export the version again")
    free = onnx_file.with_free_shapes(model) if not others and onnx_file.is_elementwise(model) else None
    return free, sorted(others)


def _plan(signature: Signature, entry: Mapping[str, Any], graph: Graph, assets: Path, max_image_pixels: int) -> Plan:
    before = tuple(build(step, assets, max_image_pixels) for step in entry.get("before") or [])
    after = tuple(build(step, assets, max_image_pixels) for step in entry.get("after") or [])
    provided = {*signature.inputs, *(name for step in before for name in step.adds)}
    feeds = tuple(graph.inputs)
    missing = [name for name in feeds if name not in provided]
    provided |= {*graph.outputs, *(name for step in after for name in step.adds)}
    missing += [name for name in signature.outputs if name not in provided]
    if missing:
        raise DataLoss(
            f"card.json and saved_model.pb disagree on signature {signature.name}: nothing provides "
            f"{', '.join(missing)}; export the version again"
        )
    adding = [step for step in before if step.adds]
    images = adding[0] if len(adding) == len(signature.inputs) == 1 and adding[0].decoding else None
    return Plan(before, graph, feeds, after, images)


def _limits(verified: Mapping[str, Any], plan: Plan) -> list[Step]:
    """The last steps before a graph: they refuse what it was not verified for, as its entry in the card says."""
    limits = []
    if verified.get("finite"):
        kinds = {given.name: np.dtype(NUMPY[given.type]).kind for given in plan.graph.session.get_inputs()}
        limits.append(_finite_inputs(tuple(name for name in plan.feeds if kinds[name] == "f")))
    if verified.get("refuses_mixed"):
        limits.append(empty_inputs.rows_or_none(plan.graph))
    if verified.get("refuses_empty"):
        limits.append(empty_inputs.with_elements(plan.feeds))
    return limits


def _finite_inputs(floats: tuple[str, ...]) -> Step:
    """Refuses NaN and infinities in these inputs.

    TensorFlow's own answers to them depend on the processor in some operations (softmax), so a graph cannot agree.
    """

    def check(tensors: Tensors) -> None:
        for name in floats:
            if not np.isfinite(tensors[name]).all():
                raise InvalidArgument(
                    f'input "{name}" holds NaN or infinity, for which the ONNX graph was not verified; send finite '
                    "numbers, or start the server with --engine=tensorflow"
                )

    return Step("check_finite", floats, (), check)


def _chosen(plan: Plan, names: tuple[str, ...]) -> tuple[list[str], list[Step]]:
    """`_choose`, kept for the next request."""
    chosen = plan.chosen.get(names)
    if chosen is None:
        if len(plan.chosen) >= _MAX_CHOSEN:
            plan.chosen.clear()
        chosen = plan.chosen[names] = _choose(plan, names)
    return chosen


def _choose(plan: Plan, names: tuple[str, ...]) -> tuple[list[str], list[Step]]:
    """The graph outputs and the later steps that these outputs need: an unused graph output is not computed."""
    needed = set(names)
    after: list[Step] = []
    for step in reversed(plan.after):
        if step.is_check or needed & set(step.adds):
            needed |= set(step.reads)
            after.insert(0, step)
    return [name for name in plan.graph.outputs if name in needed], after


def _refusal(graph: Graph, feed: Mapping[str, Array], error: Exception) -> Exception:
    """ONNX Runtime's error in our words: its own names nodes of the graph, and files of the machine."""
    log_caller_error(log, "the graph refused its inputs: %s", error)
    if "allocate" in str(error).lower():
        return ResourceExhausted("the request needs more memory than there is; send fewer rows at a time")
    if not isinstance(graph.source, bytes):  # bytes are a graph that was rewritten for inputs of any shape
        for name, shape in graph.inputs.items():
            if not empty_inputs.fits(shape, feed[name].shape):
                return InvalidArgument(empty_inputs.misfit(name, shape, feed[name].shape))
    text = str(error)
    if "Integer division by zero" in text or "Integer modulo by zero" in text:
        return InvalidArgument("Integer division by zero")
    outside = re.search(r"out of data bounds, idx=(-?\d+) must be within the inclusive range \[-(\d+),", text)
    if outside:
        return _outside_of_table(feed, *map(int, outside.groups()))
    given_inputs = ", ".join(f'"{name}" {array.dtype} {list(array.shape)}' for name, array in feed.items())
    return InvalidArgument(f"the graph cannot run inputs of these shapes: {given_inputs}")


def _outside_of_table(feed: Mapping[str, Array], found: int, rows: int) -> InvalidArgument:
    """TensorFlow's error for an id outside of a table: which input has it, if the id is a value of one."""
    # Converted graphs move a negative id down by the table's length, as ONNX would count it from the end.
    for value in (found, found + rows):
        for array in feed.values():
            if array.dtype.kind in "iu" and (places := np.argwhere(array == value)).size:
                where = ",".join(map(str, places[0]))
                return InvalidArgument(f"indices[{where}] = {value} is not in [0, {rows})")
    return InvalidArgument(f"indices = {found if found >= 0 else found + rows} is not in [0, {rows})")
