"""Requests as people send them: photographs, large tensors, many rows, text, masks, pictures, many models, TLS.

python -m benchmarks.real                     every workload, beside its limit and the rivals; minutes
python -m benchmarks.real --only jpeg-rest --rivals none

The limit of a workload is ONNX Runtime alone, in a process of its own: its graph on inputs that are decoded already.
With one caller it has all cores; with many, one thread for each core calls it. Server and limit take turns in each
round.
"""

from __future__ import annotations

import argparse
import base64
import functools
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import install, load, machine, models, payloads
from benchmarks.load import Load, LoadError, Target
from benchmarks.models import ROOT, Array
from benchmarks.processes import Child, StartError, free_port
from benchmarks.throughput import check, median
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

NAMES = ("lenet5", "sentiment_lstm", "unet", "wgan_gp", "efficientnet_lite0")
CONNECTIONS = 16
MODELS = 8
"""Copies of LeNet-5 that a request draws among: the n-th most frequent has weight 1/n (Zipf)."""
TEXT = (
    "I went in expecting very little, and for the first half hour the film seemed to agree with me. Then the sister "
    "arrives, and everything that had looked like clumsy writing turns out to be patience. A warm, funny and strange "
    "picture, and the best thing that its director has made in years."
)
_HEAD = """\
The limit is ONNX Runtime alone on decoded inputs, in a process of its own, in turns with the server: with a thread for
each core beside the 16 connections, with one caller that has all cores beside the one. CPU is that of all the server's
processes, the gateway's included. Rivals have as many workers as there are cores; for JPEG they decode with Pillow. A
row without a rival is one that none of them answers without a program of one's own.

"""
_RUNNING_S = 1.0
_ANSWERED = 0.98
_LSTM = "sentiment_lstm"


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    key     its name on the command line
    title   its name in the table
    model   the model whose graph is the limit
    inputs  the graph's inputs, decoded: what the limit runs
    target  (ports of the server, of its gateway; body file) -> where the request goes
    body    the request
    grpc    whether it is sent over HTTP/2
    rival   a rival's request, if it can answer one of this kind: its body and what its graph file does before the run
    """

    key: str
    title: str
    model: str
    inputs: Mapping[str, Array]
    body: bytes
    target: Callable[[Ports, Path], Target]
    grpc: bool = False
    rival: tuple[bytes, str] | None = None


@dataclass(frozen=True)
class Ports:
    """Where the server listens."""

    grpc: int
    rest: int
    tls: int
    gateway: int
    socket: str


@dataclass
class Row:
    """The loads of a workload, one a round.

    limit_many, limit_one  requests per second of the engine alone, with a thread for each core and with one caller
    """

    title: str
    many: list[Load] = field(default_factory=list)
    one: list[Load] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    limit_many: list[float] = field(default_factory=list)
    limit_one: list[float] = field(default_factory=list)
    rivals: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Throughput as a share of the limit: the median of the rounds' ratios."""
        return median([a.per_second / b for a, b in zip(self.many, self.limit_many, strict=True)])

    @property
    def over_ms(self) -> float:
        """What one caller waits beyond the engine, in milliseconds."""
        return median([a.p50_ms - 1e3 / b for a, b in zip(self.one, self.limit_one, strict=True)])

    @property
    def best_rival(self) -> tuple[str, float] | None:
        """The fastest rival, and our throughput over its: the median of the rounds' ratios."""
        ours = [seen.per_second for seen in self.many]
        ratios = {
            name: median([a / b for a, b in zip(ours, found, strict=False)]) for name, found in self.rivals.items()
        }
        return min(ratios.items(), key=lambda item: item[1]) if ratios else None


def photograph(width: int = 500, height: int = 375) -> bytes:
    """A JPEG with the frequencies of a photograph: random shapes, blurred, and a little grain."""
    from PIL import Image, ImageFilter

    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    blurred = coarse.filter(ImageFilter.GaussianBlur(2))
    grain = random.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(blurred, np.float64) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()


def workloads() -> list[Workload]:
    """All of them, in the order of the table."""
    random = np.random.default_rng(0)
    image = (random.integers(0, 256, (1, 224, 224, 3)) / 255).astype(np.float32)
    small = (random.integers(0, 256, (64, 28, 28, 1)) / 255).astype(np.float32)
    cells = (random.integers(0, 256, (1, 256, 256, 1)) / 255).astype(np.float32)
    jpeg, net, tokens = photograph(), "efficientnet_lite0", random.integers(1, 1000, (1, 80)).astype(np.int32)
    encoded = {"b64": base64.b64encode(jpeg).decode()}
    photo = {"image": image}
    form, kind = _multipart(jpeg)
    numbers = payloads.rest_predict(image)
    rows = payloads.rest_predict(small)
    b64 = json.dumps({"signature_name": "serving_bytes", "instances": [encoded]}).encode()
    given: dict[str, Any] = {"name": "image", "shape": list(image.shape), "datatype": "FP32"}
    given["parameters"] = {"binary_data_size": image.nbytes}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    one_text = json.dumps({"signature_name": "text", "instances": [TEXT]}).encode()
    z = {"z": random.standard_normal((32, 100)).astype(np.float32)}
    one = payloads.rest_predict(small[:1])
    lenet, text, mask = {"image": small[:1]}, {"tokens": tokens}, {"image": cells}
    tensor, batch, single = (
        payloads.grpc_predict(name, "image", array)
        for name, array in ((net, image), ("lenet5", small), ("lenet5", small[:1]))
    )
    by_bytes = _predict(net, [jpeg], "image_bytes", "serving_bytes")
    outlined = _predict("unet", [_png(cells)], "image_bytes", "serving_bytes", ("mask_png_bytes",))
    words = _predict("sentiment_lstm", [TEXT.encode()], "text", "text")
    return [
        Workload("jpeg-rest", "JPEG 500×375, base64 in JSON", net, photo, b64, _rest(net), rival=(b64, "image")),
        Workload("jpeg-grpc", "JPEG 500×375, gRPC", net, photo, by_bytes, _grpc(), True),
        Workload("jpeg-gateway", "JPEG 500×375, form to the gateway", net, photo, form, _gateway(net, kind)),
        Workload("floats-rest", "float 224×224×3, JSON", net, photo, numbers, _rest(net), rival=(numbers, "")),
        Workload("floats-grpc", "float 224×224×3, gRPC", net, photo, tensor, _grpc(), True),
        Workload("floats-v2", "float 224×224×3, V2 binary", net, photo, head + image.tobytes(), _v2(net, len(head))),
        Workload(
            "rows-rest", "64 rows to LeNet-5, JSON", "lenet5", {"image": small}, rows, _rest("lenet5"), rival=(rows, "")
        ),
        Workload("rows-grpc", "64 rows to LeNet-5, gRPC", "lenet5", {"image": small}, batch, _grpc(), True),
        Workload("text-rest", "53 words to the LSTM, JSON", _LSTM, text, one_text, _rest(_LSTM)),
        Workload("text-grpc", "53 words to the LSTM, gRPC", _LSTM, text, words, _grpc(), True),
        Workload("mask-grpc", "PNG 256×256 to U-Net, mask as PNG, gRPC", "unet", mask, outlined, _grpc(), True),
        Workload("pictures-grpc", "32 pictures of WGAN-GP from a seed, gRPC", "wgan_gp", z, _pictures(), _grpc(), True),
        Workload("mixed-rest", f"LeNet-5, {MODELS} models by Zipf, JSON", "lenet5", lenet, one, _mixed()),
        Workload("tls-grpc", "LeNet-5 over TLS, gRPC", "lenet5", lenet, single, _grpc(tls=True), True),
        Workload("socket-grpc", "LeNet-5 over a UNIX socket, gRPC", "lenet5", lenet, single, _grpc(socket=True), True),
    ]


def _rest(model: str) -> Callable[[Ports, Path], Target]:
    return lambda ports, body: Target(ports.rest, f"/v1/models/{model}:predict", body, False)


def _grpc(tls: bool = False, socket: bool = False) -> Callable[[Ports, Path], Target]:
    def target(ports: Ports, body: Path) -> Target:
        port = ports.tls if tls else ports.grpc
        return Target(port, payloads.PREDICT, body, True, tls=tls, socket=ports.socket if socket else "")

    return target


def _v2(model: str, head: int) -> Callable[[Ports, Path], Target]:
    header = ("Inference-Header-Content-Length", str(head))
    path = f"/v2/models/{model}/infer"
    return lambda ports, body: Target(ports.rest, path, body, False, "application/octet-stream", header)


def _gateway(model: str, kind: str) -> Callable[[Ports, Path], Target]:
    return lambda ports, body: Target(ports.gateway, f"/api/v1/models/{model}:classify", body, False, kind)


def _mixed() -> Callable[[Ports, Path], Target]:
    paths = tuple((f"/v1/models/{_copy(n)}:predict", 1 / n) for n in range(1, MODELS + 1))
    return lambda ports, body: Target(ports.rest, paths[0][0], body, False, mixed=paths)


def _copy(number: int) -> str:
    return f"lenet5_copy{number}"


def _predict(model: str, values: Sequence[bytes], alias: str, signature: str, outputs: Sequence[str] = ()) -> bytes:
    request = pb.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    tensors.fill(request.inputs[alias], np.array(values, object), True)
    request.output_filter.extend(outputs)
    data: bytes = request.SerializeToString()
    return data


def _pictures() -> bytes:
    request = pb.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "wgan_gp", "generate"
    tensors.fill(request.inputs["n"], np.array(32, np.int32), True)
    tensors.fill(request.inputs["seed"], np.array(7, np.int64), True)
    data: bytes = request.SerializeToString()
    return data


def _multipart(jpeg: bytes) -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    line = "ladle-benchmark"
    head = f'--{line}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
    head += "Content-Type: image/jpeg\r\n\r\n"
    return head.encode() + jpeg + f"\r\n--{line}--\r\n".encode(), f"multipart/form-data; boundary={line}"


def _png(image: Array) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((image[0, ..., 0] * 255).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


# The limit: ONNX Runtime in a process of its own


class Limit:
    """A child process that runs a workload's graph on request: calls per second with one caller, and with many."""

    def __init__(self, graph: Path, inputs: Mapping[str, Array], scratch: Path) -> None:
        file = scratch / "inputs.npz"
        np.savez(file, **inputs)  # type: ignore[arg-type]
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "benchmarks.limit", str(graph), str(file)]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)

    def measure(self, seconds: float) -> tuple[float, float]:
        """Calls per second with a thread for each core, and with one caller."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise LoadError("got no answer from ONNX Runtime in process; expected it to run the graph")
        found = json.loads(answer)
        return found["many"], found["one"]

    def __enter__(self) -> Limit:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


# Measuring


def measure(
    chosen: Sequence[Workload],
    repository: Path,
    pythons: Mapping[str, Path],
    rounds: int,
    seconds: float,
    log: Callable[[str], None],
) -> list[Row]:
    """Load one server with every workload, and the rivals with those that they can answer."""
    found = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        served = folder / "models"
        for name in sorted({workload.model for workload in chosen}):
            shutil.copytree(repository / name, served / name)
        if any(workload.key == "mixed-rest" for workload in chosen):
            for n in range(1, MODELS + 1):
                shutil.copytree(repository / "lenet5", served / _copy(n))
        keys = {workload.key for workload in chosen}
        servers, ports = _start(stack, served, folder, "tls-grpc" in keys, "jpeg-gateway" in keys)
        for workload in chosen:
            row = Row(workload.title)
            try:
                own = folder / workload.key
                own.mkdir()
                _measure(workload, row, ports, servers, served, pythons, own, rounds, seconds, log)
            except (LoadError, StartError, payloads.WrongAnswerError, OSError) as error:
                row.failures["Ladle"] = str(error)[-300:]
                log(f"  {workload.title}: {row.failures['Ladle']}")
            found.append(row)
    return found


def _start(stack: ExitStack, served: Path, folder: Path, tls: bool, gateway: bool) -> tuple[list[Child], Ports]:
    """Our server, one more with TLS, and a gateway, as the workloads need them."""
    ports = Ports(free_port(), free_port(), free_port(), free_port(), str(folder / "grpc.sock"))
    base = [sys.executable, "-m", "ladle.serving", f"--repository={served}", "--host=127.0.0.1"]
    commands = {
        "server": [*base, f"--port={ports.grpc}", f"--rest_api_port={ports.rest}", f"--grpc_socket_path={ports.socket}"]
    }
    if tls:
        (folder / "ssl.config").write_text(_certificate(folder))
        commands["tls"] = [*base, f"--port={ports.tls}", f"--ssl_config_file={folder / 'ssl.config'}"]
    if gateway:
        commands["gateway"] = [sys.executable, "-m", "ladle.clients.web", f"--port={ports.gateway}"]
        commands["gateway"] += [f"--repository={served}", f"--server=grpc://127.0.0.1:{ports.grpc}"]
    children = [
        stack.enter_context(Child(command, folder / f"{name}.log", cwd=ROOT)) for name, command in commands.items()
    ]
    children[0].wait_until(lambda: len(_ready(ports.rest)) == sum(path.is_dir() for path in served.iterdir()))
    return children, ports


def _ready(port: int) -> list[str]:
    index = json.loads(payloads.post(port, "/v2/repository/index", b"{}"))
    return [entry["name"] for entry in index if entry["state"] == "READY"]


def _certificate(folder: Path) -> str:
    """An SSLConfig with a new key and certificate. LoadError: there is no openssl."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    try:
        subprocess.run(
            [*command, "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise LoadError(f"openssl: {error}; leave out tls-grpc, or install it") from error
    return "".join(f"server_{name}: {json.dumps(file.read_text())}\n" for name, file in (("key", key), ("cert", cert)))


def _measure(
    workload: Workload,
    row: Row,
    ports: Ports,
    servers: Sequence[Child],
    served: Path,
    pythons: Mapping[str, Path],
    folder: Path,
    rounds: int,
    seconds: float,
    log: Callable[[str], None],
) -> None:
    body = folder / "body"
    body.write_bytes(payloads.frame(workload.body) if workload.grpc else workload.body)
    target = workload.target(ports, body)
    graph = models.newest(served, workload.model)
    assert graph is not None
    with ExitStack() as stack:
        limit = stack.enter_context(Limit(graph / "model.onnx", workload.inputs, folder))
        rivals = _rivals(stack, workload, graph / "model.onnx", pythons, folder, row)
        for server in (target, *rivals.values()):
            _warm(server)
        for _ in range(rounds):
            many, one = limit.measure(seconds / 2)
            before = sum(child.cpu_s() for child in servers)
            seen = load.closed_loop(target, CONNECTIONS, seconds)
            used = sum(child.cpu_s() for child in servers) - before
            alone = load.closed_loop(target, 1, seconds / 2)
            for each in (seen, alone):
                check(each)
            _check_answered(seen, alone)
            row.limit_many.append(many)
            row.limit_one.append(one)
            row.many.append(seen)
            row.one.append(alone)
            row.cpu_us.append(used / max(1, seen.requests) * 1e6)
            for name, rival in rivals.items():
                row.rivals.setdefault(name, []).append(load.closed_loop(rival, CONNECTIONS, seconds).per_second)
    best = row.best_rival
    beside = f"  {best[1]:.1f}× {best[0]}" if best else ""
    rate = f"{median([seen.per_second for seen in row.many]):8,.1f}/s  {row.share:5.0%} of the limit"
    log(f"  {row.title:<42} {rate}, p50 of one caller +{row.over_ms:.2f} ms{beside}")


def _check_answered(seen: Load, alone: Load) -> None:
    """LoadError if requests were refused under load: a gRPC error has HTTP status 200, and no message."""
    if seen.size_bytes < _ANSWERED * alone.size_bytes:
        share = seen.size_bytes / alone.size_bytes
        raise LoadError(
            f"got {share:.0%} of the answers' bytes with {CONNECTIONS} connections; expected all: it refuses"
        )


def _warm(target: Target) -> None:
    """Until it answers: a model is measured at its first requests."""
    for _ in range(20):
        seen = load.closed_loop(target, 2, _RUNNING_S)
        if seen.requests and not seen.errors:
            return
    raise LoadError(f"got no answer from {target.path} in 20 loads of 1 s; expected one")


def _rivals(
    stack: ExitStack, workload: Workload, graph: Path, pythons: Mapping[str, Path], folder: Path, row: Row
) -> dict[str, Target]:
    """The rivals that answer such a request, started."""
    if workload.rival is None:
        return {}
    body, decode = workload.rival
    file = folder / "rival"
    file.write_bytes(body)
    host = ["--port", "PORT", "--host", "127.0.0.1"]
    scripts = {
        "mosec": ("/inference", ["mosec_server.py", *host[:2], "--address", "127.0.0.1", "--log-level", "error"]),
        "LitServe": ("/predict", ["litserve_server.py"]),
        "BentoML": ("/predict", ["-m", "bentoml", "serve", "bentoml_service:Predict", *host]),
        "Ray Serve": ("/predict", ["ray_server.py"]),
    }
    found = {}
    for name, (path, words) in scripts.items():
        if name not in pythons:
            continue
        port = free_port()
        # As many processes as our server has cores to run the graph on.
        env = {"GRAPH": str(graph), "PORT": str(port), "WORKERS": str(machine.describe()["cores"]), "BATCH": "1"}
        env |= {"DECODE": decode, "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        env |= {"RAY_AUTH_MODE": "disabled", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
        command = [str(pythons[name]), *(word.replace("PORT", str(port)) for word in words)]
        try:
            child = stack.enter_context(Child(command, folder / f"{name}.log", env, Path(__file__).with_name("rivals")))
            child.wait_until(functools.partial(_answers, port, path, body), 60.0)
        except StartError as error:
            row.failures[name] = str(error)[-200:]
            continue
        found[name] = Target(port, path, file, False)
    return found


def _answers(port: int, path: str, body: bytes) -> bool:
    try:
        payloads.post(port, path, body)
    except payloads.WrongAnswerError:
        return False
    return True


# The page


def markdown(rows: Sequence[Row]) -> str:
    """The section of docs/benchmarks.md."""
    heads: tuple[str, ...] = (
        "request",
        "limit, req/s",
        "Ladle, req/s",
        "of the limit",
        "CPU, µs",
        "engine, ms",
        "1 conn. p50, ms",
    )
    heads += ("beyond the engine, ms", "best rival", "over it")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        if not row.many:
            lines.append(f"| {row.title} | {' | '.join(['—'] * (len(heads) - 1))} |")
            continue
        best = row.best_rival
        cells = (
            row.title,
            f"{median(row.limit_many):,.0f}",
            f"{median([seen.per_second for seen in row.many]):,.0f}",
            f"{row.share:.0%}",
            f"{median(row.cpu_us):,.0f}",
            f"{1e3 / median(row.limit_one):.2f}",
            f"{median([seen.p50_ms for seen in row.one]):.2f}",
            f"{row.over_ms:.2f}",
            best[0] if best else "—",
            f"{best[1]:.1f}×" if best else "—",
        )
        lines.append(f"| {' | '.join(cells)} |")
    left = [
        f"Left out: {row.title}: {name}: {' '.join(why.split())}\n"
        for row in rows
        for name, why in row.failures.items()
    ]
    return _HEAD + "\n".join(lines) + "\n" + ("\n" + "\n".join(left) if left else "")


def as_dict(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """In JSON types."""
    return [asdict(row) for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table. Exit code: 0 done, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real",
        description="Measure real requests beside ONNX Runtime alone and beside other servers.",
        epilog="example:\n  python -m benchmarks.real --only jpeg-rest,jpeg-grpc --rivals mosec --rounds 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path.home() / ".cache" / "ladle" / "bench"
    every = [workload.key for workload in workloads()]
    parser.add_argument("--only", default=",".join(every), help=f"comma-separated, of {', '.join(every)}")
    parser.add_argument("--rivals", default=",".join(install.RIVALS), help="comma-separated servers, or none")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of a load (default: %(default)s)")
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="trained models, if there are some"
    )
    parser.add_argument("--cache", type=Path, default=cache, help="folder for rivals and models")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(argv)

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    wanted = given.only.split(",")
    if unknown := sorted(set(wanted) - set(every)):
        parser.error(f"--only: got {', '.join(unknown)}; expected some of {', '.join(every)}")
    names = [name for name in given.rivals.split(",") if name in install.RIVALS]
    if missing := load.missing():
        log(f"benchmarks.real: {', '.join(missing)} not installed; run apt-get install {' '.join(missing)}")
        return 1
    chosen = [workload for workload in workloads() if workload.key in wanted]
    repository = models.collect(
        given.repository, given.cache, log, [name for name in NAMES if name in {w.model for w in chosen}]
    )
    rows = measure(chosen, repository, install.pythons(given.cache, names, log), given.rounds, given.seconds, log)
    print(json.dumps(as_dict(rows), indent=1) if given.json else markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
