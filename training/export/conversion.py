"""Adds verified ONNX graphs to any SavedModel, for `ladle convert`.

Each signature is converted and compared with TensorFlow. Graphs that agree are written beside the SavedModel, and the
model card says which signature runs which graph. Nothing else in the folder changes. A SavedModel is a program, and the
comparison runs it: convert only models that you would serve.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from google.protobuf import message, text_format
from tensorflow.core.protobuf import saved_model_pb2

from ladle.training.export import with_steps
from ladle.training.export.advice import obstacle
from ladle.training.export.attempts import ONNX_RUNTIME, TENSORFLOW, Attempts, CrashError
from ladle.training.onnx import effects, ranges
from ladle.training.onnx.convert import OPSET, PRODUCER, NotConvertibleError, first_line, session, to_onnx
from ladle.training.onnx.external import Weights, size_bytes
from ladle.training.onnx.graphs import BATCHES
from ladle.training.onnx.noise import FLOATS, INTEGERS, hard, noise, not_finite, with_floats, with_integers
from ladle.training.onnx.parity import RELATIVE, MismatchError, Parity, Run, compare
from ladle.training.onnx.rewrites import checks
from ladle.training.onnx.rewrites.inline import Pure
from ladle.training.onnx.rewrites.small_images import least_side
from ladle.training.onnx.same import fingerprints
from ladle.training.store import card, publish, savedmodel, warmup
from ladle.training.strings.split import needs_host

ROWS = 64
"""Random rows in the comparison, besides those of the warm-up requests."""
LARGE_BYTES = 2**30
"""Weights of larger models lie in a file beside the graph: a protobuf message holds 2 GB, and converters copy it."""
_FEWEST_ROWS, _SECONDS = 16, 10.0
"""A model that takes longer for ROWS rows is compared on fewer."""
_LENGTHS = (32, 64, 224, 16, 8, 1)
"""Lengths of free axes other than the batch, tried in turn: a SavedModel does not say which lengths it accepts."""
_LONGEST, _MOST_LENGTHS = 1024, 12
"""Of the lengths that the shapes in a function name: the greatest, and how many are tried."""
_LONGER = ((1, 8), (15, 3))
"""Added to an accepted length, in turn over the free axes: a shape that a graph computes can be right only at powers of
two."""
_SHORTER = (3, 2)
"""The same, of short inputs, except to pooling: TensorFlow crashes where its window does not fit."""
_MANY = 40
"""Rows at which a kernel computes several values at once."""
_FEW_ELEMENTS = 2**12
"""Most elements of a row that is repeated so often."""
_LIMITS = (7, 128, 100_000, 2**25)
"""Bounds of the integers in hard inputs. TensorFlow refuses a whole request for one id beyond a table, so small ids are
tried by themselves."""
_ALL_INTEGERS = 2**64
"""The bound where no integer can be the size of a tensor: a huge one would use up the memory."""
_FEW = 128
"""The bound of a number that decides how large a tensor is, or how long a loop runs."""

ALONE = Attempts()
"""Runs that no other process watches."""

Tell = Callable[[str], None]
Arrays = dict[str, np.ndarray]
Specs = Mapping[str, tf.TensorSpec]


class ConvertError(ValueError):
    """Raised by `convert` when a folder cannot be converted; the message says why. No file was changed."""


@dataclass
class Conversion:
    """Result of converting a version folder.

    graphs   signature -> its ONNX file, new or kept
    parity   signature -> how closely that graph agrees with TensorFlow
    reasons  signature -> why it has no graph
    obstacles  signature -> the operation that stopped its conversion, the layer that made it, and the cure
    seconds  signature -> how long its conversion took; without those that had a graph before
    """

    folder: Path
    graphs: dict[str, str] = field(default_factory=dict)
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    obstacles: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def complete(self) -> bool:
        """Whether every signature that was asked for has a graph."""
        return bool(self.graphs) and not self.reasons

    @property
    def done(self) -> bool:
        """Whether serving_default has a graph; in a model without serving_default, whether any signature has one."""
        return "serving_default" in self.graphs or (bool(self.graphs) and "serving_default" not in self.reasons)


def convert(
    directory: Path,
    attempts: Attempts = ALONE,
    tell: Tell = lambda line: None,
    *,
    only: Collection[str] = (),
    tolerance: float | None = None,
    reason: str = "",
    write: bool = True,
) -> Conversion:
    """Add ONNX graphs and a card to a version folder, or to the newest version in a model's folder.

    attempts  watches the runs. On some inputs TensorFlow ends the process; `ladle convert` runs this in a child
    tell      gets lines that say how far the conversion is
    only      the signatures to convert; empty: all
    tolerance allowed difference of float outputs, relative to the largest magnitude of each; the card keeps it
    reason    why it may be that large, for the card
    write     whether to write graphs and card; the folder stays as it is otherwise

    Signatures with a graph are skipped, unless another SavedModel was exported to the folder since. A graph that an
    earlier version made for a signature with state or checks is no longer used.

    ConvertError when there is no SavedModel, TensorFlow cannot load it, or a graph would overwrite a file of the user.
    """
    folder = version_folder(directory)
    try:
        old = card.read(folder)
        saved = _saved_model(folder)
        loaded = savedmodel.load(folder)
        warm = warmup.read(folder / warmup.FILE) if (folder / warmup.FILE).is_file() else []
    except savedmodel.LoadError as error:  # it names the folder already
        raise ConvertError(str(error)) from error
    except (ValueError, OSError, message.Error, text_format.ParseError, tf.errors.OpError) as error:
        raise ConvertError(f"{folder} cannot be loaded: {first_line(error)}") from error
    if unknown := sorted(set(only) - set(loaded.signatures)):
        known = ", ".join(sorted(loaded.signatures)) or "none"
        raise ConvertError(f'{folder} has no signature "{unknown[0]}"; expected one of {known}')
    methods, findings = _methods(saved), [effects.find(graph) for graph in saved.meta_graphs]
    # Signatures that cannot be served by a graph, whatever it answers in a comparison.
    stay = {name: reason for found in findings for name, reason in found.reasons.items()}
    checked = {name: kinds for found in findings for name, kinds in found.checks.items()}
    vain = {name for found in findings for name in found.vain}
    checksum = savedmodel.checksum(folder)
    # The card of a model that was in this folder before: its graphs answer as that model did.
    stale = old is not None and old.get("saved_model", {}).get("sha256", checksum) != checksum
    content = (None if stale else old) or _new_card(folder)
    entries, graphs = dict(content["signatures"]), dict(content["onnx"])
    with contextlib.ExitStack() as drafts:
        draft = functools.cache(
            lambda: (
                drafts.enter_context(publish.draft(folder))
                if write
                else Path(drafts.enter_context(tempfile.TemporaryDirectory()))
            )
        )
        try:
            result = Conversion(folder)
            files: dict[str, bytes] = {}
            weights: dict[str, Path] = {}
            prints = {name: text for graph in saved.meta_graphs for name, text in fingerprints(graph).items()}
            twins: dict[str, str] = {}  # the first signature of each fingerprint
            is_changed = stale
            asked = [name for name in loaded.signatures if not only or name in only]
            for number, name in enumerate(sorted(asked, key=lambda name: (name != "serving_default", name)), 1):
                function, started = loaded.signatures[name], time.monotonic()
                twin = twins.setdefault(prints.get(name, name), name)
                kept = entries.get(name, {}).get("graph")
                if kept and name in stay and content["task"] is None:  # an earlier version made it a graph
                    del entries[name]
                    kept, is_changed = None, True
                if kept and (graphs.get(kept) or {}).get("parity"):
                    result.graphs[name], result.parity[name] = kept, graphs[kept]["parity"]
                    continue
                graphs.pop(kept, None)  # it was never compared, so no server runs it
                specs = function.structured_input_signature[1]
                entry = functools.partial(
                    card.signature, methods.get(name, "predict"), specs, function.structured_outputs
                )
                try:
                    if name in stay:
                        raise NotConvertibleError(stay[name])
                    if twin in result.reasons:
                        raise NotConvertibleError(result.reasons[twin])
                    if twin in result.graphs:
                        steps = {when: entries[twin].get(when, []) for when in ("before", "after")}
                        entries[name] = entry(graph=result.graphs[twin], before=steps["before"], after=steps["after"])
                        result.graphs[name], result.parity[name], is_changed = (
                            result.graphs[twin],
                            result.parity[twin],
                            True,
                        )
                        continue
                    file = _file_name(name, graphs)
                    real = [w.inputs for w in warm if w.signature == name]
                    made = _Conversion(
                        name,
                        function,
                        real,
                        attempts,
                        functools.partial(_numbered, tell, f"[{number}/{len(asked)}] "),
                        functools.partial(_data_file, draft, file),
                        tolerance,
                        checked.get(name, ()),
                        name in vain,
                    ).make()
                except Exception as error:
                    if not isinstance(error, NotConvertibleError | MismatchError):
                        if isinstance(error, ConvertError | OSError):
                            raise
                        # A model that nobody has seen before must not end the conversion of its other signatures.
                        error = NotConvertibleError(
                            f"the converter failed on it ({type(error).__name__}: {first_line(error)})"
                        )
                    result.reasons[name] = str(error)
                    result.obstacles[name] = obstacle(str(error), function).as_dict()
                    result.seconds[name] = round(time.monotonic() - started, 1)
                    entries.setdefault(name, entry(reason=str(error)))
                    continue
                equal = [file for file, written in files.items() if written == made.model and not made.programs]
                file = equal[0] if equal else file
                files[file], is_changed = made.model, True
                steps, programs = made.steps(Path(file).stem)
                files |= programs
                if made.weights is not None:
                    weights[file] = made.weights
                measured = made.as_dict | ({"reason": reason} if tolerance is not None else {})
                graphs[file] = card.graph(made.model, OPSET, measured) | made.notes
                first, last = [*made.before, *steps["before"]], [*steps["after"], *made.after]
                entries[name] = entry(graph=file, before=first, after=last)
                result.graphs[name], result.parity[name] = file, measured
                result.seconds[name] = round(time.monotonic() - started, 1)
            for name in loaded.signatures.keys() - set(asked) - entries.keys():  # the card has every signature
                of = loaded.signatures[name]
                entries[name] = card.signature(
                    methods.get(name, "predict"),
                    of.structured_input_signature[1],
                    of.structured_outputs,
                    reason="it was not asked for",
                )
            if is_changed and write:
                content |= {"signatures": entries, "onnx": graphs, "saved_model": {"sha256": checksum}}
                before = old["onnx"] if stale and old else {}
                obsolete = {*before, *(f"{file}.data" for file, graph in before.items() if "weights" in graph)}
                obsolete |= set(card.programs(old)) if stale and old else set()
                _write(
                    folder, files, weights, content, obsolete - set(files) - {path.name for path in weights.values()}
                )
            return result
        except OSError as error:
            raise ConvertError(f"{folder} cannot be written: {error.strerror}") from error


def _numbered(tell: Tell, prefix: str, line: str) -> None:
    tell(prefix + line)


def _data_file(draft: Callable[[], Path], graph: str) -> Path:
    return draft() / f"{graph}.data"


def version_folder(directory: Path) -> Path:
    """The folder itself if it holds a SavedModel, else its newest version; ConvertError if there is neither."""
    if (directory / "saved_model.pb").is_file() or (directory / "saved_model.pbtxt").is_file():
        return directory
    if not directory.is_dir():
        raise ConvertError(f"{directory} is not a folder; give a SavedModel or a folder of versions")
    versions = publish.versions(directory)
    if versions:
        return version_folder(versions[max(versions)])
    models = sorted(child.name for child in directory.iterdir() if child.is_dir() and publish.versions(child))
    if models:
        raise ConvertError(f"{directory} holds several models; give one of {', '.join(models)}")
    raise ConvertError(f"{directory} holds neither saved_model.pb nor a version; give a SavedModel")


@dataclass(frozen=True)
class _Converted:
    """The graph of a signature, how closely it agrees, and whether that holds for finite numbers alone.

    relative  difference that was allowed, relative to the largest magnitude of an output
    weights   file of the weights of a large model; None: the graph contains them
    after     the card's entries of the steps that follow the graph
    before    the same of those that come first
    refuses_empty  it differs on tensors without elements
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
        empty = {"refuses_empty": True} if self.refuses_empty else {}
        return {**({"finite": True} if self.is_finite_only else {}), **empty, **file}

    @property
    def as_dict(self) -> dict[str, Any]:
        """The parity as the card keeps it; `relative` only if more was allowed than for float32."""
        return self.parity.as_dict() | ({"relative": self.relative} if self.relative > RELATIVE else {})


@dataclass(frozen=True)
class _Conversion:
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

    def make(self) -> _Converted:
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
            return _Converted(
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
            return _Converted(model, found, False, relative, path, after)
        found, length, integers = self._compare(reference, run, specs, relative, least_side(graph))
        windows = any(node.op_type in ("Conv", "ConvTranspose") for node in graph.graph.node)
        found = found.joined(
            compare_hard(
                *(reference, run, specs, length, _LIMITS[-1] if deciding else _ALL_INTEGERS, relative),
                small=deciding & single,
                with_even=_has_angles(self.function),
                with_short=not pools,
                may_refuse_short=windows,
                spreads=found.spreads,
            )
        )
        self.tell(f"{self.name}: compared on {found.inputs} inputs after {time.monotonic() - start:.0f} s")
        # Which boxes NaN leaves out depends on the order of comparisons, which random values seldom show.
        is_finite_only = any(node.op_type == "NonMaxSuppression" for node in graph.graph.node)
        is_finite_only |= _is_finite_only(reference, run, specs, length, integers, relative, found.spreads)
        return _Converted(model, found, is_finite_only, relative, path, after, before=before)

    def _lifted(self) -> tuple[Pure | None, dict[str, str]]:
        """The function without effects, and what is demanded of its boolean outputs; None if it can stay as it is."""
        is_needed = checks.is_needed(self.function) and not needs_host(self.function)  # the host refuses by itself
        if not (self.checks or self.is_vain or is_needed):
            return None, {}
        try:
            return checks.lifted(self.function)
        except checks.NestedCheckError as error:
            kinds = ", ".join(self.checks) or str(error)
            raise NotConvertibleError(
                f"it refuses some values ({kinds}) in a loop or branch; an ONNX graph would answer them"
            ) from error

    def _compare(self, reference: Run, run: Run, specs: Specs, relative: float, least: int) -> tuple[Parity, int, str]:
        """The parity on warm-up requests and random inputs, and what TensorFlow accepted.

        That is the length of free axes, and the integers, of INTEGERS.

        least  the graph refuses images with a shorter side
        """
        refusal: Exception | None = None
        has_integers = any(spec.dtype.is_integer for spec in specs.values())
        has_floats = any(spec.dtype.is_floating for spec in specs.values())
        floats_of, integers_of = FLOATS if has_floats else FLOATS[:1], INTEGERS if has_integers else INTEGERS[:1]
        lengths = [*_LENGTHS, *self._own_lengths()] if _has_lengths(specs) else _LENGTHS[:1]
        lengths = [length for length in lengths if length >= least] or [least]
        for floats, integers, length in itertools.product(floats_of, integers_of, lengths):
            requests = _Random(specs, self.warm, length, integers, floats)
            try:
                found = compare(reference, run, requests, 0, relative, by_spread=True)
            except MismatchError:
                raise
            except (tf.errors.OpError, ValueError, TypeError, CrashError) as error:
                # A refusal says more about the inputs that it wants than a crash.
                refusal = error if refusal is None or isinstance(refusal, CrashError) else refusal
            else:
                return dataclasses.replace(found, inputs=requests.rows + sum(map(_rows, self.warm))), length, integers
        if self.warm:
            return self._compare_real(reference, run, relative), _LENGTHS[0], INTEGERS[0]
        if isinstance(refusal, CrashError):
            raise NotConvertibleError(
                "TensorFlow crashes on random inputs of every size; add warm-up requests with real inputs"
            )
        raise NotConvertibleError(
            f"TensorFlow refuses random inputs ({first_line(refusal)}); add warm-up requests with real inputs"
        )

    def _own_lengths(self) -> list[int]:
        """Lengths that the shapes in the function name, such as that of a kernel."""
        shapes = [variable.shape for variable in getattr(self.function, "variables", ())]
        graph = self.function.graph.as_graph_def()
        inner = [node for function in graph.library.function for node in function.node_def]
        shapes += [
            tf.TensorShape(node.attr["shape"].shape) for node in (*graph.node, *inner) if node.op == "EnsureShape"
        ]
        sizes = {size for shape in shapes if shape.rank for size in shape.as_list() if size}
        return sorted(size for size in sizes if size <= _LONGEST and size not in _LENGTHS)[:_MOST_LENGTHS]

    def _compare_real(self, reference: Run, run: Run, relative: float) -> Parity:
        """The parity on the warm-up requests alone: some models refuse random inputs, such as edges without nodes."""
        rows = sum(map(_rows, self.warm))
        self.tell(f"{self.name}: TensorFlow refuses random inputs; comparing on the warm-up requests alone ...")
        try:
            return dataclasses.replace(compare(reference, run, self.warm, 0, relative, by_spread=True), inputs=rows)
        except MismatchError:
            raise
        except (tf.errors.OpError, ValueError, TypeError, CrashError) as error:
            raise NotConvertibleError(f"TensorFlow refuses the warm-up requests ({first_line(error)})") from error


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


def compare_hard(
    reference: Run,
    run: Run,
    specs: Specs,
    length: int,
    most: int = _LIMITS[-1],
    relative: float = RELATIVE,
    *,
    small: Collection[str] = (),
    with_even: bool = False,
    with_short: bool = True,
    may_refuse_short: bool = False,
    spreads: Mapping[str, float] | None = None,
) -> Parity:
    """Compare the engines on values and sizes at which they tend to differ; MismatchError as `compare`.

    most        largest integer in the inputs
    relative    allowed difference of float outputs, relative to their largest magnitude
    small       inputs of at most _FEW: sizes, and numbers of steps
    with_even   whether to compare on silence, too: zeros, and one value throughout
    with_short  whether free axes are short, too
    may_refuse_short  whether the graph may refuse those: where a window finds no place in an image, TensorFlow goes on
                with an image without pixels, and ONNX Runtime refuses it
    spreads     of the float outputs on usual inputs

    What TensorFlow refuses, the graph has to refuse, too.
    """
    found = _compare_outcomes(reference, run, _hard(specs, length, most, small), relative, spreads)
    if with_even:
        found = found.joined(_compare_outcomes(reference, run, _even(specs, length), relative, spreads))
    if not with_short:
        return found
    short = _short(specs)
    return found.joined(_compare_outcomes(reference, run, short, relative, spreads, may_refuse=may_refuse_short))


def _compare_outcomes(
    reference: Run,
    run: Run,
    requests: Iterable[Arrays],
    relative: float,
    spreads: Mapping[str, float] | None,
    *,
    may_refuse: bool = False,
) -> Parity:
    accepted = []
    for request in requests:
        try:
            reference(request)
        except (tf.errors.ResourceExhaustedError, CrashError):
            continue
        except (tf.errors.OpError, ValueError, TypeError) as error:
            if _accepts(run, request):
                raise MismatchError(f"it answers inputs that TensorFlow refuses: {first_line(error)}") from error
        else:
            if not may_refuse or _accepts(run, request):
                accepted.append(request)
    rows = sum(map(_rows, accepted))
    return compare(reference, run, accepted, rows, relative, by_spread=True, spreads=spreads)


def _is_finite_only(
    reference: Run,
    run: Run,
    specs: Specs,
    length: int,
    integers: str,
    relative: float,
    spreads: Mapping[str, float],
) -> bool:
    """Whether the engines differ on NaN or infinities, as in a softmax. Servers refuse such values then."""
    if not any(spec.dtype.is_floating for spec in specs.values()):
        return False
    random = np.random.default_rng(2)
    lengths: list[tuple[int, ...]] = [(length,)] * 5
    if _has_lengths(specs):  # what is resized to a size may grow or shrink
        lengths += [(max(1, length // 4),), tuple(length + more for more in _LONGER[-1])]
    shares = ((8, 0.02), (8, 0.5), (1, 0.9), (2, 0.3), (3, 0.3), (2, 0.1), (2, 0.1))
    requests = [
        with_integers(
            random,
            specs,
            {name: not_finite(random, spec, _free_rows(spec, rows), sizes, share) for name, spec in specs.items()},
            integers,
        )
        for (rows, share), sizes in zip(shares, lengths, strict=False)
    ]
    try:
        _compare_outcomes(reference, run, requests, relative, spreads)
    except MismatchError:
        return True
    return False


def _accepts(run: Run, request: Arrays) -> bool:
    try:
        run(request)
    except CrashError:
        return True
    except Exception:  # ONNX Runtime's exceptions have no common base class
        return False
    return True


def _hard(specs: Specs, length: int, largest: int, small: Collection[str] = ()) -> Iterator[Arrays]:
    """Zeros, negative and large values; other lengths of free axes, odd ones among them; first axes that differ."""
    random = np.random.default_rng(1)
    limits = [*(most for most in _LIMITS if most < largest), largest]
    for most in limits if any(spec.dtype.is_integer for spec in specs.values()) else limits[-1:]:
        # Values of a vector are computed otherwise than those that remain at its end: few rows and many.
        for count in (4, 1, _many(specs, length)) if most == largest else (4,):
            yield {
                name: hard(random, spec, _free_rows(spec, count), (length,), min(most, _FEW) if name in small else most)
                for name, spec in specs.items()
            }
    if _has_lengths(specs):
        for more in _LONGER:
            lengths = tuple(length + n for n in more)
            yield {name: noise(random, spec, _free_rows(spec, 2), lengths) for name, spec in specs.items()}
    if len(specs) > 1:
        for rows in ((1, 5), (3, 2)):
            yield {
                name: noise(random, spec, _free_rows(spec, rows[n % 2]), (length,))
                for n, (name, spec) in enumerate(specs.items())
            }


def _short(specs: Specs) -> Iterator[Arrays]:
    """Free axes that are short, besides the first."""
    if _has_lengths(specs):
        random = np.random.default_rng(3)
        yield {name: noise(random, spec, _free_rows(spec, 2), _SHORTER) for name, spec in specs.items()}


def _even(specs: Specs, length: int) -> Iterator[Arrays]:
    """Inputs in which all values are the same."""
    random = np.random.default_rng(4)
    for value in (0.0, 0.5):
        arrays = {name: noise(random, spec, _free_rows(spec, 2), (length,)) for name, spec in specs.items()}
        yield {name: np.full_like(array, value) for name, array in arrays.items()}


def _has_angles(function: Any) -> bool:
    """Whether a signature computes angles of complex numbers: beside 0, a digit decides which they are."""
    graph = function.graph.as_graph_def()
    return any(node.op == "Angle" for part in (graph, *graph.library.function) for node in _nodes_of(part))


def _nodes_of(part: Any) -> Any:
    return part.node_def if hasattr(part, "node_def") else part.node


def _has_lengths(specs: Specs) -> bool:
    """Whether an axis besides the first is free."""
    return any(None in spec.shape[1:] for spec in specs.values() if spec.shape.rank)


def _many(specs: Specs, length: int) -> int:
    """_MANY rows, or fewer of large inputs: TensorFlow and ONNX Runtime take seconds for those."""
    shapes = [spec.shape[1:].as_list() for spec in specs.values() if spec.shape.rank]
    elements = sum(math.prod(length if size is None else size for size in shape) for shape in shapes)
    return max(4, min(_MANY, _MANY * _FEW_ELEMENTS // max(1, elements)))


def _free_rows(spec: tf.TensorSpec, rows: int) -> int | None:
    """`rows` if the first axis is free; None if its length is fixed."""
    return rows if spec.shape.rank is None or (spec.shape.rank and spec.shape[0] is None) else None


def _rows(request: Arrays) -> int:
    """Rows of a request; 1 for one without a batch."""
    first = next(iter(request.values()))
    return first.shape[0] if first.ndim else 1


class _Random:
    """The warm-up requests, then ROWS random rows like the first of them: fewer of a model that takes seconds for one.

    rows  how many random rows there were
    """

    def __init__(
        self, specs: Specs, warm: Sequence[Arrays], length: int, integers: str = INTEGERS[0], floats: str = FLOATS[0]
    ) -> None:
        self._specs, self._warm, self._length, self.rows = specs, warm, length, 0
        self._integers, self._floats = integers, floats
        self._random = np.random.default_rng(0)

    def __iter__(self) -> Iterator[Arrays]:
        yield from self._warm
        free = all(_free_rows(spec, 1) for spec in self._specs.values())
        if not free:
            start = time.monotonic()
            while self.rows < ROWS and (self.rows < _FEWEST_ROWS or time.monotonic() - start < _SECONDS):
                yield self._rows(None)
                self.rows += 1
            return
        # Several batch sizes. The first run also prepares the engines, so the second shows what a row takes.
        every = self._rows(ROWS)
        few, some, _ = BATCHES
        yield self._first(few, every)
        start = time.monotonic()
        yield self._first(some, every)
        row_s = (time.monotonic() - start) / some
        self.rows = int(max(_FEWEST_ROWS, min(ROWS, _SECONDS / max(row_s, 1e-9))))
        yield self._first(self.rows, every)

    def _first(self, rows: int, every: Arrays) -> Arrays:
        cut = {name: array[:rows] for name, array in every.items()}
        return with_integers(self._random, self._specs, cut, "bits" if self._warm else self._integers)

    def _rows(self, count: int | None) -> Arrays:
        like = self._warm[0] if self._warm else {}
        made = {n: noise(self._random, spec, count, (self._length,), like.get(n)) for n, spec in self._specs.items()}
        made = with_floats(self._specs, made, self._floats)
        return with_integers(self._random, self._specs, made, "bits" if self._warm else self._integers)


def _saved_model(folder: Path) -> saved_model_pb2.SavedModel:
    saved = saved_model_pb2.SavedModel()
    if (folder / "saved_model.pb").is_file():
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    else:
        text_format.Parse((folder / "saved_model.pbtxt").read_text(encoding="utf-8"), saved)
    if len(saved.meta_graphs) > 1:  # the others are not served
        served = [graph for graph in saved.meta_graphs if set(graph.meta_info_def.tags) == set(savedmodel.TAGS)]
        del saved.meta_graphs[:]
        saved.meta_graphs.extend(served)
    return saved


def _methods(saved: saved_model_pb2.SavedModel) -> dict[str, str]:
    """The method of each signature: predict, classify or regress. A loaded SavedModel no longer knows it."""
    found = {name: d.method_name.rpartition("/")[2] for g in saved.meta_graphs for name, d in g.signature_def.items()}
    return {name: method if method in warmup.METHODS else "predict" for name, method in found.items()}


def _file_name(signature: str, taken: Collection[str]) -> str:
    """A free file name: model.onnx for serving_default, else the signature's name in ASCII."""
    stem = "model" if signature == "serving_default" else re.sub(r"[^\w-]+", "_", signature, flags=re.ASCII)
    names = itertools.chain([f"{stem}.onnx"], (f"{stem}_{n}.onnx" for n in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _new_card(folder: Path) -> dict[str, Any]:
    """A card for a SavedModel that has none: everything about its training is unknown."""
    number = publish.number_of(folder.name)
    return {
        "format": card.FORMAT,
        "network": folder.resolve().name if number is None else folder.resolve().parent.name,
        "task": None,
        "version": number or 1,
        "created": card.now(),
        "description": "A SavedModel that Ladle did not train.",
        "config": {},
        "preset": None,
        "seed": None,
        "data": {},
        "labels": None,
        "metrics": {},
        "epochs": None,
        "training_seconds": None,
        "machine": None,
        "signatures": {},
        "onnx": {},
        "parameters": None,
        "size_bytes": 0,
        "versions": card.versions(),
        "commit": card.commit(),
    }


def _write(
    folder: Path,
    files: Mapping[str, bytes],
    weights: Mapping[str, Path],
    content: dict[str, Any],
    obsolete: Collection[str],
) -> None:
    """Write the graphs, then the card: servers ignore a graph that no card names, so a crash in between is harmless.

    weights  files of weights by the graph's file; they are moved into the folder
    """
    for file in files:
        if not _is_ours(folder / file):
            raise ConvertError(f"{folder / file} exists, and no card names it; move it away")
    for file, path in weights.items():
        if (folder / path.name).exists() and not (folder / file).exists():
            raise ConvertError(f"{folder / path.name} exists, and no card names it; move it away")
        path.with_name("graph.onnx").unlink(missing_ok=True)
    # The weights are below the folder already, in their draft.
    size = card.size_bytes(folder) - _size(folder / card.FILE) + sum(map(len, files.values()))
    written: list[Path] = []
    try:
        (folder / card.FILE).parent.mkdir(exist_ok=True)
        with publish.draft(folder) as draft:
            for file, model in files.items():
                (draft / file).write_bytes(model)
            (draft / "card.json").write_bytes(card.encode({**content, "size_bytes": size}))
            publish.sync(draft)
            for file in files:
                written.append((draft / file).replace(folder / file))
            for path in weights.values():
                publish.sync(path.parent)
                written.append(path.replace(folder / path.name))
            publish.sync_folder(folder)
            (draft / "card.json").replace(folder / card.FILE)
        publish.sync_folder((folder / card.FILE).parent)
        for file in obsolete:
            (folder / file).unlink(missing_ok=True)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise ConvertError(f"{folder} cannot be written: {error.strerror}") from error


def _is_ours(path: Path) -> bool:
    """Whether the file may be written: it is missing, or a conversion was killed before it wrote the card."""
    if path.suffix == ".npz":
        return True  # graph files of the same stem are checked, and nobody else writes *.before.npz
    try:
        return not path.exists() or onnx.load(path, load_external_data=False).producer_name == PRODUCER
    except message.Error:
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
