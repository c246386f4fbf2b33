"""Converts the models of the collection and compares what a server answers with what TensorFlow answers.

    python -m tests.collection.measure                  every model; the figure, and what failed
    python -m tests.collection.measure nms "tf1 loop"   these models
    python -m tests.collection.measure --write tests/collection/coverage.json     for docs/export.md

Each model runs in a process of its own, so that a crash is counted and ends nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).with_name("coverage.json")


@dataclass
class Outcome:
    """How a model fared.

    graphs      signatures with a graph
    reasons     signature -> why it has none
    wrong       answers of the server that are not TensorFlow's: what differs
    refused     requests that TensorFlow answers and the graph refuses
    crash       the signal or the exception that ended the process
    operations  TensorFlow operations of the signatures with a graph
    """

    name: str
    graphs: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    crash: str = ""
    requests: int = 0
    operations: list[str] = field(default_factory=list)
    seconds: float = 0.0


def requests(case: Any, specs: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    """Requests that a caller may send: usual ones, then extremes, NaN, ids outside tables, no rows, many, odd sizes.

    The last have one row in one input beside five in the others.
    """
    random = np.random.default_rng(20)
    for rows, length, kind in (
        (3, 0, "usual"), (1, 1, "usual"), (33, 0, "usual"), (4, 0, "hard"), (1, 0, "hard"), (19, 1, "hard"),
        (2, 0, "not finite"), (0, 0, "usual"),
    ):  # fmt: skip
        yield {name: _array(random, case, name, spec, rows, length, kind) for name, spec in specs.items()}
    for odd in specs if len(specs) > 1 else ():
        yield {
            name: _array(random, case, name, spec, 1 if name == odd else 5, 0, "usual") for name, spec in specs.items()
        }


def _array(random: Any, case: Any, name: str, spec: Any, rows: int, length: int, kind: str) -> np.ndarray:
    shape = [None, 4] if spec.shape.rank is None else spec.shape.as_list()
    free = [rows, *(case.lengths[(length + n) % 2 if n > 1 else length] for n in range(1, len(shape)))]
    sizes = [free[n] if size is None else size for n, size in enumerate(shape)]
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    low, high = case.ranges.get(name, (None, None))
    if spec.dtype.is_floating:
        if kind == "usual" or (low is not None and kind == "hard"):
            values = random.uniform(-2 if low is None else low, 2 if high is None else high, sizes)
        elif kind == "hard":
            values = random.choice([0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.0, 1e-4, 30.0, -30.0, 255.0], sizes)
        else:
            values = np.where(
                random.random(sizes) < 0.3, random.choice([np.nan, np.inf, -np.inf], sizes), random.normal(size=sizes)
            )
        return values.astype(dtype)
    if spec.dtype.is_bool:
        return random.integers(0, 2, sizes).astype(bool)
    limits = np.iinfo(dtype)
    if kind == "usual":
        least, most = (0, 4) if low is None else (int(low), int(high))
        return random.integers(least, most, sizes, endpoint=True).astype(dtype)
    edge = [0, 1, 2, 3, 5, 7, 9, 100] + ([-1, -7] if limits.min < 0 else [])
    if kind == "not finite":
        edge = [int(limits.min), int(limits.max), 0, 1]
    if low is not None:
        edge = [int(low), int(high), int(high) + 1, int(low) - 1 if limits.min < 0 else 0]
    return random.choice(np.array(edge, object), sizes).astype(dtype)


def difference(expected: np.ndarray, got: np.ndarray, relative: float = 1e-4) -> str:
    """What two outputs differ in; empty if nothing. Floats may differ by `relative` of the largest."""
    # Some kernels of TensorFlow hand on an input without rows as it is, whatever shape they would give it.
    is_rowless = expected.ndim == got.ndim > 0 and len(expected) == len(got) == 0
    if (expected.shape != got.shape and not is_rowless) or expected.dtype != got.dtype:
        return f"{got.dtype} {list(got.shape)}, not {expected.dtype} {list(expected.shape)}"
    if not expected.size:
        return ""
    if expected.dtype.kind in "fV" or expected.dtype.name == "bfloat16":
        digits = {"float16": 4e-3, "bfloat16": 3e-2}.get(expected.dtype.name, relative)
        a, b = expected.astype(np.float64), got.astype(np.float64)
        if not np.array_equal(np.isnan(a), np.isnan(b)) or not np.array_equal(a[np.isinf(a)], b[np.isinf(a)]):
            return "NaN or infinity elsewhere"
        finite = np.isfinite(a)
        if not finite.any():
            return ""
        distance = np.abs(a[finite] - b[finite]).max()
        spread = max(1e-3, np.abs(a[finite]).max())
        return f"by {distance:.2g} of {spread:.2g}" if not distance <= digits * spread else ""
    if expected.dtype == np.uint8:
        far = np.abs(expected.astype(int) - got.astype(int)).max() > 1
        return "by more than a level" if far else ""
    return "" if np.array_equal(expected, got) else f"{int((expected != got).sum())} of {expected.size} entries"


def measure(
    case: Any, folder: Path, crashed: Sequence[Mapping[str, str]] = (), descriptor: int | None = None
) -> Outcome:
    """Build, convert and ask a model in this process."""
    import tensorflow as tf

    from ladle.clients.wire import tensors
    from ladle.serving.errors import ServingError
    from ladle.serving.servables.engines.onnx import OnnxEngine
    from ladle.serving.servables.saved_model import INIT_OP, parse_signature, read_card, read_signature_defs
    from ladle.training.export.attempts import Attempt, Attempts
    from ladle.training.export.conversion import convert
    from ladle.training.export.version import ConvertError
    from ladle.training.onnx.rewrites.inline import with_own_names
    from ladle.training.store import savedmodel

    start, outcome = time.monotonic(), Outcome(case.name)
    if not folder.exists():
        case.build(folder)
    try:
        result = convert(folder, Attempts([Attempt(**each) for each in crashed], descriptor))
    except ConvertError as error:
        outcome.reasons = {"serving_default": str(error)}
        return outcome
    outcome.graphs, outcome.reasons = sorted(result.graphs), dict(result.reasons)
    outcome.seconds = round(time.monotonic() - start, 1)
    card = read_card(folder)
    if card is None or not outcome.graphs:
        return outcome
    defined = {n: parse_signature(n, d) for n, d in read_signature_defs(folder).items() if n != INIT_OP}
    engine = OnnxEngine(folder, card, defined)
    loaded = savedmodel.load(folder)
    for name in outcome.graphs:
        function = with_own_names(loaded.signatures[name], list(defined[name].inputs))
        outputs = tuple(defined[name].outputs)
        outcome.operations += operations(function)
        parity = card["onnx"][card["signatures"][name]["graph"]]["parity"]
        relative = max(1e-4, parity.get("relative", 0))
        if any(info.dtype == tf.string.as_datatype_enum for info in defined[name].inputs.values()):
            continue
        for n, arrays in enumerate(requests(case, function.structured_input_signature[1])):
            told = f"{name}, request {n} ({', '.join(f'{k} {a.dtype} {list(a.shape)}' for k, a in arrays.items())})"
            os.write(descriptor, json.dumps({"ask": told}).encode() + b"\n") if descriptor is not None else None
            try:
                expected: Any = {
                    k: np.asarray(v.numpy(), object) if v.dtype == tf.string else v.numpy()
                    for k, v in function(**{k: tf.constant(a) for k, a in arrays.items()}).items()
                }
            except (tf.errors.OpError, ValueError) as error:
                expected = error
            try:
                sent = {k: a.view(tensors.BFLOAT16) if a.dtype.name == "bfloat16" else a for k, a in arrays.items()}
                answer: Any = engine.run(name, sent, outputs)
                got: Any = {
                    k: a.view(tf.bfloat16.as_numpy_dtype) if a.dtype == tensors.BFLOAT16 else a
                    for k, a in answer.items()
                }
            except ServingError as error:
                got = error
            outcome.requests += 1
            if isinstance(expected, Exception):
                is_empty = not isinstance(got, Exception) and not any(np.asarray(value).size for value in got.values())
                if not isinstance(got, Exception) and not is_empty:  # an answer without rows claims nothing
                    outcome.wrong.append(
                        f"{told}: answered what TensorFlow refuses ({str(expected).splitlines()[0][:120]})"
                    )
            elif isinstance(got, Exception):
                outcome.refused.append(f"{told}: {str(got)[:160]}")
            else:
                outcome.wrong += [
                    f"{told}: {k} differs, {d}"
                    for k in outputs
                    if (d := difference(expected[k], np.asarray(got[k]), relative))
                ]
    outcome.operations = sorted(set(outcome.operations))
    outcome.seconds = round(time.monotonic() - start, 1)
    return outcome


def operations(function: Any) -> list[str]:
    """The operations of a function and of those that it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return [node.op for node in nodes]


def _work(name: str, folder: str, crashed: list[dict[str, str]], log: str, pipe: Any) -> None:
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    import tensorflow as tf

    from tests.collection import collection

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    case = next(case for case in collection.CASES if case.name == name)
    try:
        outcome = measure(case, Path(folder), crashed, descriptor)
    except Exception as error:  # a fault of the collection or of the converter: it is counted
        outcome = Outcome(
            name, crash=f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        )
    pipe.send(dataclasses.asdict(outcome))


def measure_apart(name: str, folder: Path) -> Outcome:
    """Build, convert and ask a model in a process of its own; what crashes TensorFlow is left out of another try."""
    context = multiprocessing.get_context("fork")  # a child need not import TensorFlow again
    crashed: list[dict[str, str]] = []
    log = folder.with_suffix(".log")
    while True:
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(name, str(folder), crashed, str(log), send))
        child.start()
        send.close()
        try:
            outcome = Outcome(**receive.recv())
        except EOFError:
            outcome = None
        child.join()
        if outcome is not None:
            return outcome
        lines = log.read_text().splitlines() if log.exists() else []
        last = json.loads(lines[-1]) if lines else None
        if last is None or "engine" not in last or last in crashed or len(crashed) == 24:
            return Outcome(name, crash=f"signal {-(child.exitcode or 0)} in {last}")
        crashed.append(last)


def entry(case: Any, outcome: Outcome) -> dict[str, Any]:
    """What is kept of an outcome."""
    return {
        "group": case.group,
        "strings": case.strings,
        "signatures": len(outcome.graphs) + len(outcome.reasons),
        "graphs": len(outcome.graphs),
        "wrong": bool(outcome.wrong),
        "crash": bool(outcome.crash),
        "requests": outcome.requests,
        "operations": outcome.operations if outcome.graphs and not outcome.wrong else [],
    }


def write(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the entries of models to those that the file has, and say which operations are converted by what."""
    from tf2onnx.handler import tf_op

    from ladle.training.onnx.complex_numbers import REPLACED
    from ladle.training.onnx.decompositions import DECOMPOSITIONS
    from ladle.training.onnx.operations import CONVERTERS

    known = json.loads(path.read_text())["models"] if path.is_file() else {}
    by = dict.fromkeys(tf_op.create_mapping(18, []), "tf2onnx")
    by |= dict.fromkeys(CONVERTERS, "Ladle's converter") | dict.fromkeys(DECOMPOSITIONS, "simpler operations")
    by |= {name: by.get(name, "pairs of floats") for name in REPLACED}
    content = {"models": dict(sorted({**known, **entries}.items())), "operations": dict(sorted(by.items()))}
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    """Measure, print, and keep the result if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models; all without any")
    parser.add_argument("--large", action="store_true", help="the large ones, too, which take a minute each")
    parser.add_argument("--group", action="append", help="models of this group")
    parser.add_argument("--part", default="0/1", help="the Nth of M parts, counted from 0: several can run at once")
    parser.add_argument("--write", type=Path, help=f"add the result to this file, as tests/collection/{RESULT.name}")
    parser.add_argument("--verbose", action="store_true", help="print what the graph refuses and TensorFlow answers")
    arguments = parser.parse_args()
    import onnxruntime  # noqa: F401  the children find it imported
    import tf2onnx  # noqa: F401

    from tests.collection import collection

    cases = [c for c in collection.CASES if (not arguments.names or c.name in arguments.names)]
    cases = [c for c in cases if not arguments.group or c.group in arguments.group]
    cases = [c for c in cases if arguments.large or arguments.names or not c.is_large]
    first, step = map(int, arguments.part.split("/"))
    outcomes: dict[str, tuple[Any, Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for n, case in enumerate(cases[first::step]):
            outcome = measure_apart(case.name, Path(folder) / str(n))
            outcomes[case.name] = case, outcome
            state = "graph" if outcome.graphs and not outcome.reasons else "some" if outcome.graphs else "none"
            state = "CRASH" if outcome.crash else "WRONG" if outcome.wrong else state
            why = outcome.crash or "; ".join(sorted(set(outcome.reasons.values())))
            print(f"{state:5} {case.name:28} {outcome.seconds:5.1f} s {why}", flush=True)
            for line in [*outcome.wrong, *(f"refused: {line}" for line in outcome.refused if arguments.verbose)]:
                print(f"        {line}", flush=True)
            if arguments.write:
                write(arguments.write, {name: entry(*each) for name, each in outcomes.items()})
    for strings in (False, True):
        chosen = [outcome for case, outcome in outcomes.values() if case.strings is strings]
        count = sum(len(o.graphs) + len(o.reasons) for o in chosen)
        graphs = sum(len(o.graphs) for o in chosen)
        wrong, crashed = sum(bool(o.wrong) for o in chosen), sum(bool(o.crash) for o in chosen)
        kind = "with" if strings else "without"
        print(f"{kind} strings: {graphs} of {count} signatures of {len(chosen)} models have a graph")
        print(f"  {wrong} models wrong, {crashed} crashed, {sum(o.requests for o in chosen)} requests")
    reasons = [r for case, outcome in outcomes.values() if not case.strings for r in outcome.reasons.values()]
    for reason, number in Counter(re.sub(r'"[^"]*"|\d+', "…", r)[:70] for r in reasons).most_common():
        print(f"{number:4} {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
