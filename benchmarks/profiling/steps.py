"""Where the server's CPU time of a small request goes: read, decode, queue, bind, run, encode, write.

python -m benchmarks.profiling.steps                    LeNet-5 over REST, gRPC and V2 binary, with and without batching
python -m benchmarks.profiling.steps --lines 20         also the lines that take most

The server runs under `benchmarks.profiling.sampler`, which looks every millisecond of CPU time at the line of ours that
runs. A step's share of the samples, times the CPU time of a request, is its time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real.servers import Limit
from benchmarks.requests import load, models, payloads
from benchmarks.requests.load import LoadError, Target
from benchmarks.requests.models import ROOT, Subject
from benchmarks.servers.processes import StartError, free_port
from benchmarks.throughput import check, median

STEPS = ("read", "decode", "queue", "bind", "run", "encode", "write")
MEANINGS = {
    "read": "sockets, HTTP and HTTP/2 frames, headers, routes",
    "decode": "the message or the JSON becomes arrays",
    "queue": "limits, deadlines, batches, threads",
    "bind": "names, dtypes and shapes; steps around the graph; counters",
    "run": "ONNX Runtime",
    "encode": "arrays become the message or the JSON",
    "write": "headers, frames, sockets",
}
_BY_FILE = (
    ("decode", r"rest/json/(request|values|examples|text)|grpc/(predict_request|unpacking)|wire/(rest_json|arrays)"),
    ("encode", r"rest/json/(response|numbers)|grpc/predict_response"),
    ("queue", r"serving/scheduling/|runtime/(large_work|eager_task|stopping)"),
    ("bind", r"serving/(servables|dataplane|repository|telemetry)/"),
    ("read", r"serving/(grpc|rest|runtime)/|clients/wire/"),
)
_LINES = 40
_RUN = re.compile(r"graph\.call\(|\.call\(outputs|narrow\.call|session\.call|large_runs\.run")
_WRITE = re.compile(r"\.write\(|\.writelines\(|transport\.write|encode_trailers|_send\(")
_ENCODE = re.compile(r"\bencode|to_json|_answer\(|serialize", re.IGNORECASE)


@dataclass(frozen=True)
class Steps:
    """The CPU time of a request, in microseconds, and of each step.

    engine_us  one call of ONNX Runtime alone, in a process of its own, just before
    lines      share of the samples by file, function and line, the largest first
    """

    title: str
    cpu_us: float
    engine_us: float
    step_us: dict[str, float]
    lines: list[tuple[str, float]]

    @property
    def over_engine(self) -> float:
        """The server's CPU time as a multiple of the engine's own."""
        return self.cpu_us / self.engine_us


def step_of(file: str, function: str, line: str) -> str:
    """The step to which a line of ours belongs."""
    if _RUN.search(line) and "engines/" in file:
        return "run"
    if "open_inference" in file:
        writes = file.endswith("/response.py") or function.startswith("_write") or _ENCODE.search(function)
        return "encode" if writes else "decode"
    step = next((step for step, pattern in _BY_FILE if re.search(pattern, file)), "read")
    return "write" if step == "read" and _WRITE.search(line) else step


def shares(samples: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Share of the samples in each step."""
    counts: Counter[str] = Counter()
    for file, function, line, count in samples:
        counts[step_of(file, function, line)] += count
    total = sum(counts.values()) or 1
    return {step: counts[step] / total for step in STEPS}


class Sampled:
    """Our server under the sampler."""

    def __init__(self, repository: Path, flags: Sequence[str], log: Path) -> None:
        self.grpc, self.rest, self._log = free_port(), free_port(), log
        command = [
            sys.executable,
            "-m",
            "benchmarks.profiling.sampler",
            f"--repository={repository}",
            "--host=127.0.0.1",
        ]
        command += [f"--port={self.grpc}", f"--rest_api_port={self.rest}", "--supervise=false", *flags]
        pipe = subprocess.PIPE
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=file, text=True, cwd=ROOT)

    def take(self) -> list[list[Any]]:
        """The samples since the last call. StartError: the server has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise StartError(f"the sampled server has ended: {self._log.read_text(errors='replace')[-600:]}")
        return list(json.loads(answer))

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def __enter__(self) -> Sampled:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def targets(subject: Subject, ports: Sampled, folder: Path) -> dict[str, Target]:
    """A request to LeNet-5 in each form."""
    binary, head = payloads.v2_binary(subject.alias, subject.array)
    bodies = {
        "REST": payloads.rest_predict(subject.array),
        "gRPC": payloads.frame(payloads.grpc_predict(subject.name, subject.alias, subject.array)),
        "V2 binary": binary,
    }
    files = {}
    for form, body in bodies.items():
        files[form] = folder / form.replace(" ", "-")
        files[form].write_bytes(body)
    length = payloads.binary_header(head)
    return {
        "REST": Target(ports.rest, f"/v1/models/{subject.name}:predict", files["REST"], False),
        "gRPC": Target(ports.grpc, payloads.PREDICT, files["gRPC"], True),
        "V2 binary": Target(
            ports.rest, f"/v2/models/{subject.name}/infer", files["V2 binary"], False, load.BINARY, length
        ),
    }


def measure(subject: Subject, repository: Path, seconds: float, connections: int = 16, rounds: int = 3) -> list[Steps]:
    """The steps of each form, without batching and with it: of the round whose ratio to the engine is the median."""
    found = []
    for batching, flags in ((False, []), (True, ["--enable_batching=true"])):
        with (
            tempfile.TemporaryDirectory() as scratch,
            Limit(subject.graph, {subject.alias: subject.array}, Path(scratch)) as limit,
            Sampled(repository, flags, Path(scratch) / "log") as server,
        ):
            forms = targets(subject, server, Path(scratch))
            for target in forms.values():
                _warm(target, connections)
            measured: dict[str, list[Steps]] = {form: [] for form in forms}
            for _ in range(rounds):
                for form, target in forms.items():
                    title = f"{form}{', batching' if batching else ''}"
                    measured[form].append(_measure_once(title, target, server, limit, seconds, connections))
            for each in measured.values():
                found.append(sorted(each, key=lambda one: one.over_engine)[rounds // 2])
    return found


def _measure_once(title: str, target: Target, server: Sampled, limit: Limit, seconds: float, connections: int) -> Steps:
    """One load, with the engine alone before and after it: other users of the machine come and go."""
    _, engine_before = limit.measure(0.5)
    server.take()
    before = server.cpu_s()
    seen = load.closed_loop(target, connections, seconds)
    cpu_us = (server.cpu_s() - before) / max(1, seen.requests) * 1e6
    samples = server.take()
    _, engine_after = limit.measure(0.5)
    check(seen)
    total = sum(count for *_, count in samples) or 1
    lines = [(f"{file}:{function}: {line}", count / total) for file, function, line, count in samples]
    of_step = {step: share * cpu_us for step, share in shares(samples).items()}
    most = sorted(lines, key=lambda each: -each[1])[:_LINES]
    return Steps(title, cpu_us, (1e6 / engine_before + 1e6 / engine_after) / 2, of_step, most)


def _warm(target: Target, connections: int) -> None:
    """Load it until it answers everything: it starts, and then measures the model at its first requests."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(LoadError):
            if (seen := load.closed_loop(target, connections, 1.0)).requests and not seen.errors:
                return
        time.sleep(0.1)  # a load that is refused ends at once
    raise LoadError(f"got no answer from {target.path} in 60 s; expected one")


def markdown(found: Sequence[Steps]) -> str:
    """The section of docs/benchmarks.md."""
    heads = ("LeNet-5, 16 connections", "CPU, µs", "over the engine", *(f"{step}, µs" for step in STEPS))
    rows = [
        (
            each.title,
            f"{each.cpu_us:.0f}",
            f"{each.over_engine:.1f}×",
            *(f"{each.step_us[step]:.0f}" for step in STEPS),
        )
        for each in found
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)]
    about = "; ".join(f"*{step}*: {meaning}" for step, meaning in MEANINGS.items())
    engine_us = median([each.engine_us for each in found])
    text = (
        f"The server's CPU time of a request, by the line of ours that a sampler saw every millisecond. {about}. One "
        f"call of ONNX Runtime alone, in a process of its own, takes {engine_us:.0f} µs. Each row is "
        "the round whose ratio is the median; the engine is measured before and after each load."
    )
    return f"{text}\n\n" + "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table. Exit code: 0 done, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiling.steps", description="Say where the CPU time of a small request goes."
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="trained models, if any")
    cache = Path.home() / ".cache" / "ladle" / "bench"
    parser.add_argument("--cache", type=Path, default=cache, help="folder for models (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of a load (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=0, help="print so many lines that take most")
    given = parser.parse_args(argv)

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if missing := load.missing():
        log(f"benchmarks.profiling.steps: {', '.join(missing)} not installed; run apt-get install {' '.join(missing)}")
        return 1
    try:
        with tempfile.TemporaryDirectory() as folder:
            collected = models.collect(given.repository, given.cache, log, ["lenet5"])
            shutil.copytree(collected / "lenet5", Path(folder) / "lenet5")
            found = measure(models.subject(Path(folder), "lenet5"), Path(folder), given.seconds)
    except (LoadError, StartError) as error:
        log(f"benchmarks.profiling.steps: {error}")
        return 1
    print(markdown(found))
    for each in found if given.lines else ():
        print(f"{each.title}:")
        for line, share in each.lines[: given.lines]:
            print(f"  {share:6.1%}  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
