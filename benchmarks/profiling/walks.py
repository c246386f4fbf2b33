"""Count the calls, the files and the moves between files of four requests through our code.

python -m benchmarks.profiling.walks                     trace this checkout
python -m benchmarks.profiling.walks --root ../before    trace another checkout with the packages of this environment
python -m benchmarks.profiling.walks --only rest,grpc --steps /tmp/steps

A walk is what one request does in a process. The process has answered such requests before:

rest   a Predict over REST, inside the model server
grpc   a Predict over gRPC, inside the model server
page   a click on the page: a PNG to the gateway's :classify, inside the gateway
train  `ladle train` of a tiny LeNet-5: what comes before the training loop and after it

Only functions of our rooms count. A call is a call of a named function; a comprehension or a lambda is part of the
function around it. A move is a call or a return that leads to another file. Each request is traced several times, and
the most frequent walk is reported, because a timer or a measurement now and then lengthens one.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.profiling.recorder import Event
from benchmarks.requests import models, payloads
from benchmarks.requests.models import ROOT, Subject
from benchmarks.servers.processes import Child, StartError, free_port

WALKS = ("rest", "grpc", "page", "train")
TITLES = {"rest": "REST predict", "grpc": "gRPC predict", "page": "click on the page", "train": "ladle train"}
WARM_UP = 60
"""Requests before the first traced one: the server measures a model and caches request shapes on its first requests."""
TRACED = 15
TINY = {"filters": [2, 4], "units": [16, 12], "epochs": 1, "batch_size": 16}
MODEL = "lenet5"
_FOR_PAGE = {"accept": "application/json", "content-type": "image/png"}
_RECORDER = Path(__file__).with_name("recorder.py")


@dataclass(frozen=True)
class Step:
    """A call: the function, its file, and how many of our functions were running around it."""

    depth: int
    file: str
    function: str


@dataclass(frozen=True)
class Walk:
    """What one request did.

    calls    number of calls of named functions
    files    number of distinct files
    moves    number of calls and returns that led to another file
    entered  how often each file was entered, the most frequent first
    steps    all calls in order, with comprehensions and lambdas
    """

    calls: int
    files: int
    moves: int
    entered: dict[str, int]
    steps: list[Step]


def walk(events: Sequence[Event]) -> Walk:
    """Count a recorder's events."""
    steps: list[Step] = []
    entered: Counter[str] = Counter()
    moves = 0
    for thread in dict.fromkeys(event[0] for event in events):
        open_files: list[str] = []
        here = ""
        for _, is_call, file, function in (event for event in events if event[0] == thread):
            if is_call:
                steps.append(Step(len(open_files), file, function))
                open_files.append(file)
            elif open_files:
                open_files.pop()
            if open_files and open_files[-1] != here:
                moves += here != ""
                here = open_files[-1]
                entered[here] += 1
    calls = sum(not step.function.endswith(">") for step in steps)
    return Walk(calls, len({step.file for step in steps}), moves, dict(entered.most_common()), steps)


def usual(traces: Sequence[Sequence[Event]]) -> Walk:
    """The most frequent walk of the traces."""
    walks = [walk(trace) for trace in traces]
    seen = Counter(tuple(each.steps) for each in walks)
    steps, _ = seen.most_common(1)[0]
    return next(each for each in walks if tuple(each.steps) == steps)


class Recorded:
    """A process of the checkout `root` with a recorder in it."""

    def __init__(self, root: Path, log: Path, what: str, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(_RECORDER), str(root), what, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, "PYTHONPATH": str(root)},
                cwd=log.parent,
            )

    def trace(self, request: Callable[[], object]) -> list[Event]:
        """The events of one request."""
        self._say("start")
        self.events()  # it records now
        request()
        self._say("stop")
        return self.events()

    def events(self) -> list[Event]:
        """Read the next line of the recorder. StartError: the process has ended without writing one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise StartError(f"the recorded process has ended: {self._log.read_text(errors='replace')[-600:]}")
        return [(thread, is_call, file, function) for thread, is_call, file, function in json.loads(line)]

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def measure(root: Path, names: Sequence[str], repository: Path | None, model: str, scratch: Path) -> dict[str, Walk]:
    """Trace the named walks of a checkout.

    repository  holds the image classifier `model`; None: an untrained one is exported
    """
    if repository is None and set(names) - {"train"}:
        repository = scratch / "repository"
        command = [sys.executable, "-m", "benchmarks.requests.untrained", model, str(repository)]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    found: dict[str, Walk] = {}
    if repository is not None:
        subject = models.subject(repository, model)
        ways = {"rest": _rest, "grpc": _grpc, "page": _page}
        found = {name: ways[name](root, repository, subject, scratch) for name in names if name in ways}
    if "train" in names:
        found["train"] = _train(root, scratch)
    return found


def _rest(root: Path, repository: Path, subject: Subject, scratch: Path) -> Walk:
    port = free_port()
    body = payloads.rest_predict(subject.array)
    with (
        Recorded(root, scratch / "rest.log", "server", *_flags(repository, free_port(), port)) as server,
        _posting(port, f"/v1/models/{subject.name}:predict", body, {"content-type": "application/json"}) as post,
    ):
        _wait(server, post)
        payloads.check_json(post(), subject.expected)
        return _traced(server, post)


def _grpc(root: Path, repository: Path, subject: Subject, scratch: Path) -> Walk:
    import grpc

    port = free_port()
    message = payloads.grpc_predict(subject.name, subject.alias, subject.array)
    with (
        Recorded(root, scratch / "grpc.log", "server", *_flags(repository, port, free_port())) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        _wait(server, lambda: payloads.call(port, payloads.PREDICT, message))
        call = partial(channel.unary_unary(payloads.PREDICT), message, timeout=30)
        payloads.check_predict(call(), subject.expected)
        return _traced(server, call)


def _page(root: Path, repository: Path, subject: Subject, scratch: Path) -> Walk:
    port, grpc_port = free_port(), free_port()
    module = "ladle.serving" if (root / "ladle").is_dir() else "serving"
    command = [sys.executable, "-m", module, *_flags(repository, grpc_port, free_port())]
    env = {"PYTHONPATH": str(root)}
    with (
        Child(command, scratch / "server.log", env, scratch) as server,
        Recorded(
            root, scratch / "page.log", "gateway", str(port), f"grpc://127.0.0.1:{grpc_port}", str(repository)
        ) as gateway,
    ):
        message = payloads.grpc_predict(subject.name, subject.alias, subject.array)
        server.wait_until(partial(_answers, lambda: payloads.call(grpc_port, payloads.PREDICT, message)))
        path = f"/api/v1/models/{subject.name}:classify?seen=true"  # as the page asks
        with _posting(port, path, payloads.png(subject.array[0, :, :, 0]), _FOR_PAGE) as post:
            _wait(gateway, post)
            payloads.check_json(json.dumps(_probabilities(post())).encode(), subject.expected)
            return _traced(gateway, post)


def _train(root: Path, scratch: Path) -> Walk:
    (scratch / "tiny.json").write_text(json.dumps(TINY))
    arguments = [MODEL, "--config", "tiny.json", "--synthetic", "--json"]
    arguments += ["--jobs", "1", "--repository", str(scratch / "trained"), "--runs", str(scratch / "runs")]
    with Recorded(root, scratch / "train.log", "train", *arguments) as command:
        return walk(command.events())


def _flags(repository: Path, port: int, rest_port: int) -> list[str]:
    flags = [f"--repository={repository}", "--host=127.0.0.1", f"--port={port}", f"--rest_api_port={rest_port}"]
    return [*flags, "--supervise=false"]  # the process that is recorded must be the one that answers


@contextlib.contextmanager
def _posting(port: int, path: str, body: bytes, headers: dict[str, str]) -> Iterator[Callable[[], bytes]]:
    """A function that posts the body over one keep-alive connection and returns the content of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def post() -> bytes:
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(str(error)) from error
        except OSError:
            connection.close()
            raise
        if answer.status != 200:
            raise payloads.WrongAnswerError(f"{path} answered {answer.status}: {content[:200]!r}")
        return content

    try:
        yield post
    finally:
        connection.close()


def _wait(recorded: Recorded, request: Callable[[], object]) -> None:
    """Wait until the process answers. StartError: it has ended."""
    while not _answers(request):
        if recorded.process.poll() is not None:
            recorded.events()


def _answers(request: Callable[[], object]) -> bool:
    try:
        request()
    except (OSError, payloads.WrongAnswerError):
        return False
    return True


def _traced(recorded: Recorded, request: Callable[[], object]) -> Walk:
    for _ in range(WARM_UP):
        request()
    return usual([recorded.trace(request) for _ in range(TRACED)])


def _probabilities(content: bytes) -> list[float]:
    """The probabilities in an answer of the gateway, in order of class id."""
    top = json.loads(content)["results"][0]["top"]
    return [entry["probability"] for entry in sorted(top, key=lambda entry: int(entry["class_id"]))]


def table(walks: dict[str, Walk]) -> str:
    """One line for each walk; below them, the files that each walk enters most often."""
    lines = [f"{'walk':<18} {'calls':>6} {'files':>6} {'moves':>6}"]
    lines += [f"{TITLES[name]:<18} {it.calls:>6} {it.files:>6} {it.moves:>6}" for name, it in walks.items()]
    for name, it in walks.items():
        most = [f"{file} {count}" for file, count in list(it.entered.items())[:8]]
        lines += ["", f"{TITLES[name]} enters most often: {', '.join(most)}"]
    return "\n".join(lines) + "\n"


def tree(it: Walk) -> str:
    """The calls of a walk in order, indented. Equal calls in a row share a line."""
    lines: list[tuple[str, int]] = []
    for step in it.steps:
        line = f"{'  ' * step.depth}{step.file}:{step.function}"
        if lines and lines[-1][0] == line:
            lines[-1] = line, lines[-1][1] + 1
        else:
            lines.append((line, 1))
    return "".join(f"{line}{f'  ×{count}' if count > 1 else ''}\n" for line, count in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Trace; the exit code: 0 done, 1 the work failed, 2 wrong usage."""
    given = _parse(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            repository = None if given.repository is None else given.repository.resolve()
            walks = measure(given.root.resolve(), given.only, repository, given.model, Path(folder))
    except (StartError, payloads.WrongAnswerError, OSError) as error:
        print(f"benchmarks.profiling.walks: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"benchmarks.profiling.walks: {' '.join(error.cmd)}: {error.stderr.strip()[-500:]}", file=sys.stderr)
        return 1
    if given.steps is not None:
        given.steps.mkdir(parents=True, exist_ok=True)
        for name, it in walks.items():
            (given.steps / f"{name}.txt").write_text(tree(it))
    print(
        json.dumps({name: _brief(it) for name, it in walks.items()}, indent=1) if given.json else table(walks), end=""
    )
    return 0


def _brief(it: Walk) -> dict[str, Any]:
    return asdict(it) | {"steps": [f"{step.file}:{step.function}" for step in it.steps]}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiling.walks",
        description="Trace what one request does inside our processes: calls, files, and moves from file to file.",
    )
    add = parser.add_argument
    add("--root", type=Path, default=ROOT, metavar="DIR", help="checkout whose code is traced (default: this one)")
    add("--only", type=_names, default=WALKS, metavar="WALK,...", help=f"of {', '.join(WALKS)} (default: all)")
    add("--repository", type=Path, metavar="DIR", help="models to serve (default: an untrained LeNet-5 is exported)")
    add("--model", default=MODEL, metavar="NAME", help="image classifier in --repository (default: %(default)s)")
    add("--steps", type=Path, metavar="DIR", help="write all calls of each walk in order to DIR/WALK.txt")
    add("--json", action="store_true", help="answer in JSON")
    return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := sorted(set(names) - set(WALKS)):
        raise argparse.ArgumentTypeError(f"got {', '.join(unknown)}; expected some of {', '.join(WALKS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
