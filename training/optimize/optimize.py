"""Optimises a version: makes faster graphs, measures them against the present ones, and writes the winners."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ladle.training.errors import TrainingError
from ladle.training.onnx import convert
from ladle.training.optimize import candidates, pairs
from ladle.training.optimize.candidates import Candidate
from ladle.training.optimize.scores import Judge, Run
from ladle.training.store import card, publish

TOLERANCE = 0.5
"""Most points of the headline that a faster graph may lose."""
_ONLY_ONE_FILE = "its weights lie in a file of their own, which the optimisation does not read"

Tell = Callable[[str], None]
Measure = Callable[[Run, Run, Mapping[str, np.ndarray]], Sequence[pairs.Speed]]


@dataclass
class Tried:
    """What was found out about a candidate for a graph.

    speed   of the request that gains least; None: it did not run
    value   the headline with it; None: not measured, as it is not faster
    reason  why it is not kept; empty for a winner
    """

    method: str
    speed: pairs.Speed | None = None
    size_bytes: int = 0
    value: float | None = None
    reason: str = ""


@dataclass
class Result:
    """What `ladle optimize` found.

    graphs    the candidates for each graph, by file
    headline  {"name", "split", "before", "after"}; None: no candidate was faster, so nothing was evaluated
    kept      the method that won, by file
    version   the folder of the new version; None: nothing won, or nothing was to be written
    """

    before: Path
    graphs: dict[str, list[Tried]] = field(default_factory=dict)
    headline: dict[str, Any] | None = None
    kept: dict[str, str] = field(default_factory=dict)
    version: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """In JSON types."""
        found = dataclasses.asdict(self)
        return {**found, "before": str(self.before), "version": None if self.version is None else str(self.version)}


def optimize(
    version: Path,
    content: Mapping[str, Any],
    judge: Judge,
    runs: Mapping[str, Run],
    *,
    tolerance: float = TOLERANCE,
    methods: Collection[str] = tuple(candidates.METHODS.values()),
    write: bool = True,
    measure: Measure = pairs.measure,
    tell: Tell = lambda line: None,
) -> Result:
    """Look for faster graphs of a version that are as good, and write the next version with them.

    content    the version's card
    judge      real inputs of the graphs, and their measure
    runs       the present graphs by file, as `sessions` opens them
    tolerance  most points of the headline that the new graphs may lose together
    methods    which candidates are made
    write      False: measure alone
    measure    times two graphs on the same inputs

    A graph that the judge's measure never runs stays as it is, since nobody would know whether it is good.
    """
    result = Result(version)
    with tempfile.TemporaryDirectory(prefix="ladle-optimize-") as folder:
        faster: dict[str, list[tuple[Tried, Candidate, Run]]] = {}
        for number, (file, run) in enumerate(runs.items()):
            own = Path(folder) / str(number)
            own.mkdir()
            result.graphs[file] = []
            inputs = judge.inputs.get(file)
            if inputs is None or not min(map(len, inputs.values())):
                result.graphs[file].append(Tried("none", reason="there are no real inputs for it"))
                continue
            if _has_external_weights(version / file):
                result.graphs[file].append(Tried("none", reason=_ONLY_ONE_FILE))
                continue
            for candidate in candidates.make(version / file, inputs, own, methods):
                tried, new = _timed(candidate, run, inputs, measure)
                result.graphs[file].append(tried)
                tell(f"{file}: {tried.method}: {tried.reason or said(tried.speed)}")
                if new is not None:
                    faster.setdefault(file, []).append((tried, candidate, new))
        if faster:
            _choose(result, faster, judge, runs, tolerance, tell)
        if result.kept and write:
            paths = {
                file: next(c.path for t, c, _ in faster[file] if t.method == method)
                for file, method in result.kept.items()
            }
            result.version = _write(result, content, judge, runs, paths, tolerance)
    return result


def sessions(version: Path, content: Mapping[str, Any]) -> dict[str, Run]:
    """The graphs of a version that its signatures run, each on one thread. TrainingError: one cannot be loaded."""
    files = dict.fromkeys(entry["graph"] for entry in content["signatures"].values() if entry.get("graph"))
    try:
        return {file: convert.session(str(version / file), threads=1) for file in files}
    except convert.NotConvertibleError as error:
        raise TrainingError(f"{version}: {error}; export the version again") from error


def _timed(
    candidate: Candidate, before: Run, inputs: Mapping[str, np.ndarray], measure: Measure
) -> tuple[Tried, Run | None]:
    if candidate.path is None:
        return Tried(candidate.method, reason=candidate.reason), None
    try:
        run = convert.session(str(candidate.path), threads=1)
        speeds = measure(before, run, inputs)
    except Exception as error:  # ONNX Runtime has kernels for some combinations only, and says so when it runs
        return Tried(candidate.method, reason=f"it does not run: {convert.first_line(error)}"), None
    reason = pairs.too_slow(speeds)
    tried = Tried(candidate.method, pairs.worst(speeds), candidate.path.stat().st_size, reason=reason)
    return tried, None if reason else run


def _choose(
    result: Result,
    faster: Mapping[str, list[tuple[Tried, Candidate, Run]]],
    judge: Judge,
    runs: Mapping[str, Run],
    tolerance: float,
    tell: Tell,
) -> None:
    """For each graph keep the fastest candidate with which the headline stays within the tolerance."""
    tell("measuring the present graphs ...")
    first = judge.score(runs)
    chosen, latest = dict(runs), first
    for file, each in faster.items():
        for tried, _, run in sorted(
            each, key=lambda entry: entry[0].speed.ratio if entry[0].speed else 0, reverse=True
        ):
            if file in result.kept:
                tried.reason = f"{result.kept[file]} is faster"
                continue
            if file not in first.asked:
                tried.reason = f"nothing measures {file}: the {judge.split} split does not run it"
                continue
            tell(f"{file}: measuring {tried.method} ...")
            score = judge.score({**chosen, file: run})
            tried.value = score.value
            tried.reason = pairs.too_poor(first.name, first.value, score.value, tolerance)
            tell(f"{file}: {tried.method}: {first.name.replace('_', ' ')} {first.value:.4f} → {score.value:.4f}")
            if not tried.reason:
                result.kept[file], latest = tried.method, score
                chosen[file] = run
    result.headline = {"name": first.name, "split": judge.split, "before": first.value, "after": latest.value}
    result.headline["metrics"] = dict(latest.metrics)


def _write(
    result: Result,
    content: Mapping[str, Any],
    judge: Judge,
    runs: Mapping[str, Run],
    paths: Mapping[str, Path | None],
    tolerance: float,
) -> Path:
    """The next version: a copy with the new graphs and a card that says so."""
    assert result.headline is not None
    after = dict(result.headline)
    metrics = after.pop("metrics")
    entry = dict(content) | {"onnx": dict(content["onnx"]), "created": card.now()}
    entry["quantized"] = {
        "from_version": content["version"],
        "graphs": {},
        "headline": after,
        "tolerance": tolerance,
        "processor": candidates.processor(),
        "threads": 1,
        "onnxruntime": onnxruntime.__version__,
    }
    if metrics:
        entry["metrics"] = {**content["metrics"], judge.split: metrics}
    if (content.get("headline") or {}).get("split") == judge.split:
        entry["headline"] = {**content["headline"], "value": after["after"]}
    with publish.draft(result.before.parent) as folder:
        shutil.copytree(result.before, folder, dirs_exist_ok=True)
        (folder / card.FILE).unlink()
        for file, path in paths.items():
            assert path is not None
            made = path.read_bytes()
            tried = next(each for each in result.graphs[file] if each.method == result.kept[file])
            assert tried.speed is not None
            entry["quantized"]["graphs"][file] = {
                "method": tried.method,
                "ratio": round(tried.speed.ratio, 3),
                "before_ms": round(tried.speed.before_ms, 4),
                "after_ms": round(tried.speed.after_ms, 4),
                "rows": tried.speed.rows,
                "calibration_rows": min(map(len, judge.inputs[file].values())),
                "size_bytes_before": (result.before / file).stat().st_size,
            }
            (folder / file).write_bytes(made)
            parity = differences(runs[file], convert.session(made, threads=1), judge.inputs[file])
            opset = max(
                each.version for each in onnx.load(path, load_external_data=False).opset_import if not each.domain
            )
            entry["onnx"][file] = {**content["onnx"][file], **card.graph(made, opset, parity)}
        entry["size_bytes"] = card.size_bytes(folder)
        return publish.publish(
            folder,
            lambda number: publish.write_file(folder / card.FILE, card.encode({**entry, "version": number})),
        )


def differences(before: Run, after: Run, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The card's `parity` of a new graph: how far its answers are from those of the graph that it replaces."""
    expected, got = before(inputs), after(inputs)
    largest = relative = 0.0
    equal = True
    for name, a in expected.items():
        if not np.issubdtype(a.dtype, np.floating):
            equal &= bool(np.array_equal(a, got[name]))
            continue
        finite = np.isfinite(a) & np.isfinite(got[name])
        off = float(np.abs(a[finite].astype(np.float64) - got[name][finite]).max(initial=0.0))
        largest = max(largest, off)
        relative = max(relative, off / (float(np.abs(a[finite]).max(initial=0.0)) or 1.0))
    rows = min(map(len, inputs.values()))
    return {"inputs": rows, "max_abs": largest, "max_rel": relative, "argmax_equal": equal}


def said(speed: pairs.Speed | None) -> str:
    """A speed in words."""
    if speed is None:
        return "not run"
    rows = f"{speed.rows} row{'s' * (speed.rows > 1)}"
    return f"{speed.ratio:.2f}× as fast ({speed.before_ms:.3g} → {speed.after_ms:.3g} ms, {rows})"


def _has_external_weights(path: Path) -> bool:
    model = onnx.load(path, load_external_data=False)
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
