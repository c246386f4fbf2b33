"""`ladle doctor`: check this machine, and say how to repair what is wrong."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ladle.clients.argument_types import Parser
from ladle.clients.drawing.terminal import Progress, paint, plain, wrapped
from ladle.clients.library import cards
from ladle.clients.transport.what_answers import NAMES, Protocol, find_protocol, is_rest_model_server
from ladle.clients.wire.versions import find_versions

Compare = Callable[[Path], str]
State = Literal["ok", "note", "broken"]
STYLES = {"ok": "green", "note": "yellow", "broken": "red"}

EXTRAS = {
    "client": ("grpc", "numpy", "PIL", "google.protobuf", "shtab"),
    "serve": ("onnxruntime", "orjson", "simdjson", "httptools", "grpc_reflection", "simplejpeg"),
    "web": ("flask", "gunicorn", "apispec", "limits", "prometheus_client"),
    "train": ("tensorflow", "keras", "onnx", "tf2onnx", "matplotlib", "rich"),
}
"""Modules that the plain install (client) and each extra bring."""
PACKAGES = {
    "grpc": "grpcio",
    "grpc_reflection": "grpcio-reflection",
    "PIL": "pillow",
    "google.protobuf": "protobuf",
    "simdjson": "pysimdjson",
    "prometheus_client": "prometheus-client",
}
"""Names of packages that differ from their module's."""
PYTHON = (3, 11)
PORTS = {8500: "model server, gRPC", 8501: "model server, REST", 8080: "page"}
MODELS = ("saved_model.pb", "saved_model.pbtxt", "model.onnx", "model.tflite")
"""Files that a server can serve a version from; each is enough."""
PARITY = 1e-4
"""How far ONNX Runtime may differ from TensorFlow: absolute, or a hundredth of it relative to the largest value."""


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    state   ok; note: something cannot be used yet; broken: something exists and is wrong
    repair  what to do about it
    """

    what: str
    state: State
    detail: str
    repair: str | None = None


class GraphDiffersError(ValueError):
    """Raised by a comparison: a graph answers otherwise than TensorFlow."""


def python() -> Iterator[Finding]:
    """The interpreter, and the packages of each extra."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        yield Finding("python", "broken", version, "use Python 3.11 or later")
    else:
        yield Finding("python", "ok", version)
    for extra, modules in EXTRAS.items():
        missing = missing_modules(extra)
        package = "ladle" if extra == "client" else f"'ladle[{extra}]'"
        if missing:
            yield Finding(
                f"packages: {extra}", "note", f"not installed: {', '.join(missing)}", f"pip install {package}"
            )
        else:
            yield Finding(f"packages: {extra}", "ok", ", ".join(_version(module) for module in modules))


def ports(numbers: Mapping[int, str] = PORTS) -> Iterator[Finding]:
    """What answers on Ladle's default ports, and whether it is what belongs there."""
    for port, use in numbers.items():
        found = find_protocol("127.0.0.1", port)
        wanted, start = _WANTED[use]
        answers = f"{NAMES[found]} answers"
        if found == "nothing":
            yield Finding(f"port {port}", "note", f"free ({use})", f"start: {start}")
        elif found == "tls http2" and wanted == "http2":
            secured = f"ladle status --address grpcs://localhost:{port} --ca CERTIFICATE"
            yield Finding(f"port {port}", "note", f"{answers}; not asked what it is ({use})", secured)
        elif found != wanted:
            other = f"{answers}; expected {NAMES[wanted]} ({use})"
            yield Finding(f"port {port}", "broken", other, f"stop that program, or: {start} --port {port + 100}")
        elif not _IS_OURS[use](port):
            other = f"{answers}, but not the {use.partition(',')[0]}"
            yield Finding(f"port {port}", "broken", other, f"stop that program, or: {start} --port {port + 100}")
        else:
            yield Finding(f"port {port}", "ok", f"{answers} ({use})")


def repository(folder: Path, compare: Compare | None = None) -> Iterator[Finding]:
    """Whether each version in a model repository is complete: SavedModel, card, graphs with checksum and parity.

    compare  runs both engines on the version's own inputs, and returns how far they differ as a sentence
    """
    if not folder.is_dir():
        yield Finding("repository", "note", f"{folder} does not exist", "ladle train lenet5 --preset quick")
        return
    versions = sorted(
        version for model in folder.iterdir() if model.is_dir() for version in find_versions(model).values()
    )
    if not versions:
        yield Finding("repository", "note", f"{folder} holds no models", "ladle train lenet5 --preset quick")
    for version in versions:
        what = f"model {version.parent.name}/{version.name}"
        again = f"remove {version}, then: ladle train {version.parent.name}"
        try:
            card = cards.read(version) or {}
        except ValueError as error:
            yield Finding(what, "broken", str(error), again)
            continue
        fault = _fault(version, card)
        if fault is None and (doubt := _doubt(card)):
            yield Finding(what, "note", doubt, f"ladle convert {version}")
            continue
        yield Finding(what, "broken", fault, again) if fault else Finding(what, "ok", _summary(card))
        if compare is not None and fault is None and any(version.glob("saved_model.pb*")):
            yield _compared(version, compare, card)


def _compared(version: Path, compare: Compare, card: dict[str, Any]) -> Finding:
    what = f"parity {version.parent.name}/{version.name}"
    try:
        return Finding(what, "ok", compare(version))
    except ModuleNotFoundError as error:
        return Finding(what, "note", f"not run: {error.name} is not installed", "pip install 'ladle[train]'")
    except GraphDiffersError as error:
        # `ladle convert` keeps the graphs that a card calls verified.
        again = f"remove {version / 'assets.extra' / 'card.json'}, then: ladle convert {version}"
        return Finding(what, "broken", str(error), f"ladle train {version.parent.name}" if card.get("task") else again)
    except ValueError as error:
        return Finding(what, "broken", str(error))


def _doubt(card: dict[str, Any]) -> str | None:
    """Why the version has no graph that is known to be right, although nothing is broken; None if it has."""
    optimised = _optimised(card)
    for name, graph in (card.get("onnx") or {}).items():
        parity = graph.get("parity") or {}
        if not parity:
            return f"{name} was never compared with TensorFlow, so it is not served"
        if name in optimised:  # `ladle optimize` measured what its difference costs
            continue
        if (parity.get("max_abs") or 0) > PARITY and (parity.get("max_rel") or 0) > PARITY / 100:
            return f"{name} differs from TensorFlow by {parity['max_abs']:.1e}; expected at most {PARITY:g}"
    return None


def _fault(version: Path, card: dict[str, Any]) -> str | None:
    if not any((version / name).is_file() for name in MODELS):
        return f"no {', '.join(MODELS[:-1])} or {MODELS[-1]}"
    for name, graph in (card.get("onnx") or {}).items():  # none: a SavedModel from elsewhere
        if not (version / name).is_file():
            return f"{name} is missing"
        if hashlib.sha256((version / name).read_bytes()).hexdigest() != graph.get("sha256"):
            return f"{name} has another checksum than when it was verified"
    return None


def _summary(card: dict[str, Any]) -> str:
    if not card:
        return "no card: `ladle convert` writes one"
    data, graphs = card.get("data") or {}, card.get("onnx") or {}
    optimised = _optimised(card)
    verified = [graph for name, graph in graphs.items() if name not in optimised]
    farthest = max(((graph.get("parity") or {}).get("max_abs") or 0.0 for graph in verified), default=0.0)
    told = f"{card.get('task')}, {'SYNTHETIC data' if data.get('synthetic') else data.get('name')}"
    if not graphs:
        return f"{told}, no ONNX graph"
    said = f"{told}, {len(graphs)} graph{'s' if len(graphs) > 1 else ''} as verified"
    said += f", parity {farthest:.0e}" if verified else ""
    return said + "".join(f", {name} {how.get('method')}" for name, how in optimised.items())


def _optimised(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The graphs that `ladle optimize` made, by file."""
    graphs: dict[str, dict[str, Any]] = (card.get("quantized") or {}).get("graphs") or {}
    return graphs


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not installed; nothing is imported."""
    return [module for module in EXTRAS[extra] if not _installed(module)]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _version(module: str) -> str:
    package = PACKAGES.get(module, module)
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def _is_model_server(port: int) -> bool:
    """Whether a model server answers: it says NOT_FOUND for a model that it does not have."""
    from ladle.clients.errors import LadleError, NotFound
    from ladle.clients.library.client import Client

    with Client(f"grpc://localhost:{port}", timeout_s=2) as client:
        try:
            client.status("ladle-doctor")
        except NotFound:
            return True
        except LadleError:
            return False
    return True


def _is_gateway(port: int) -> bool:
    """Whether the gateway answers: it is alive for everyone, and each of its answers has an id."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a port of this machine
    with contextlib.suppress(OSError, ValueError), opener.open(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
        return json.loads(answer.read(4096)) == {"status": "ok"} and "x-request-id" in answer.headers
    return False


_WANTED: dict[str, tuple[Protocol, str]] = {
    PORTS[8500]: ("http2", "ladle serve"),
    PORTS[8501]: ("http1", "ladle serve"),
    PORTS[8080]: ("http1", "ladle gateway"),
}
_IS_OURS: dict[str, Callable[[int], bool]] = {
    PORTS[8500]: _is_model_server,
    PORTS[8501]: lambda port: is_rest_model_server("127.0.0.1", port),
    PORTS[8080]: _is_gateway,
}


def _device(look: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding("device", "ok", look())
    except ModuleNotFoundError as error:
        yield Finding("device", "note", f"not checked: {error.name} is not installed", "pip install 'ladle[serve]'")
    except ImportError as error:  # installed, and broken
        yield Finding("device", "broken", str(error), "pip install --force-reinstall onnxruntime")


def _compiled(look: Callable[[], bool]) -> Iterator[Finding]:
    try:
        is_compiled = look()
    except ModuleNotFoundError:
        return  # the server is not installed, as the packages say
    if is_compiled:
        yield Finding("numbers in JSON", "ok", "read and written by compiled code")
    else:
        yield Finding(
            "numbers in JSON",
            "note",
            "read and written in Python, which takes two to three times as long: there was no C compiler",
            "apt-get install gcc python3-dev, then install ladle again",
        )


def _data(look: Callable[[], dict[str, bool]]) -> Iterator[Finding]:
    try:
        present = look()
    except ModuleNotFoundError as error:
        yield Finding("data", "note", f"not checked: {error.name} is not installed", "pip install 'ladle[train]'")
        return
    here = sorted(name for name, there in present.items() if there)
    yield Finding("data", "ok" if here else "note", f"available: {', '.join(here) or 'none'}")
    absent = sorted(name for name, there in present.items() if not there)
    if absent:
        yield Finding("data", "note", f"not available: {', '.join(absent)}", f"ladle data get {absent[0]}")


def main(
    argv: Sequence[str] | None = None,
    data: Callable[[], dict[str, bool]] | None = None,
    compare: Compare | None = None,
    device: Callable[[], str] | None = None,
    compiled: Callable[[], bool] | None = None,
) -> int:
    """Check everything and print the findings. Returns the exit code: 1 if something is broken.

    data      returns which data sets are on this machine; the client has no data sets
    compare   runs both engines on a version's own inputs; the client has no engine
    device    says what the server's engine can compute on
    compiled  whether the server's compiled code is there
    """
    given = build_parser().parse_args(argv)
    deep = compare if given.deep else None
    found = []
    looks = (
        python(),
        _device(device) if device else (),
        _compiled(compiled) if compiled else (),
        ports(),
        repository(given.repository, deep),
        _data(data) if data else (),
    )
    with Progress("checking", len(looks)) as progress:
        for number, look in enumerate(looks):
            for finding in look:
                found.append(finding)
                progress.at(number, finding.what)
    if given.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        width = max(len(finding.what) for finding in found)
        for finding in found:
            repair = f"  ->  {finding.repair}" if finding.repair else ""
            state = paint(finding.state.ljust(6), STYLES[finding.state])
            first, *more = wrapped(plain(f"{finding.detail}{repair}"), 10 + width)
            print(f"{state}  {plain(f'{finding.what:<{width}}')}  {first}")
            print("".join(f"{' ' * (10 + width)}{line}\n" for line in more), end="")
    return 1 if any(finding.state == "broken" for finding in found) else 0


def build_parser() -> argparse.ArgumentParser:
    """The options of `ladle doctor`."""
    parser = Parser(
        prog="ladle doctor",
        description="Check Python, packages, ports, model repository and data, and say how to repair what is wrong.",
        epilog="examples:\n  ladle doctor --json\n  ladle doctor --deep",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="folder of the models (default: %(default)s)"
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="compare every graph with TensorFlow again, on the model's own inputs (some seconds per model)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser
