"""Load from native generators: wrk over HTTP/1.1, h2load over HTTP/2 (gRPC) or at a steady rate, and their output."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""Debian package of each program."""

# Lua for wrk: a POST with a body from a file, and a summary in one line of JSON, times in microseconds.
_SCRIPT = """\
wrk.method = "POST"
wrk.body = io.open({body}, "rb"):read("*a")
wrk.headers["content-type"] = {content_type}
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nSUMMARY {{"requests": %d, "us": %d, "bytes": %d, "errors": %d, "p50": %d, "p99": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50.0), latency:percentile(99.0)))
end
"""
_SUMMARY = re.compile(r"^SUMMARY (\{.*\})$", re.MULTILINE)
_REQUESTS = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$", re.MULTILINE)
_FINISHED = re.compile(r"^finished in ([0-9.]+)(us|ms|s),", re.MULTILINE)
_DATA = re.compile(r"^traffic: .* \((\d+)\) data$", re.MULTILINE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class LoadError(RuntimeError):
    """The generator did not run, or its output says nothing that could be read."""


@dataclass(frozen=True)
class Load:
    """What a generator saw.

    seconds     that it ran
    requests    answered with HTTP status 200
    errors      answered otherwise or not at all
    size_bytes  received for each request, headers included over HTTP/1.1, payload alone over HTTP/2
    cpu_s       CPU seconds of the generator itself
    """

    requests: int
    errors: int
    seconds: float
    size_bytes: float
    p50_ms: float
    p99_ms: float
    cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Target:
    """Where a request goes and what it is.

    grpc  the body is a gRPC frame; sent over HTTP/2
    """

    port: int
    path: str
    body: Path
    grpc: bool
    content_type: str = "application/json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


def missing() -> list[str]:
    """Debian packages of the generators that are not installed."""
    return [package for program, package in PACKAGES.items() if shutil.which(program) is None]


def closed_loop(target: Target, connections: int, seconds: float) -> Load:
    """Each connection sends its next request when the last is answered."""
    return _h2load(target, connections, seconds) if target.grpc else _wrk(target, connections, seconds)


def steady(target: Target, per_second: float, seconds: float, connections: int = 4) -> Load:
    """Requests at a rate, whether or not the last ones are answered: up to 32 of a connection run at once over gRPC.

    Over HTTP/1.1 a connection has one request at a time, so a slow answer delays the next request.
    """
    rate = max(1, round(per_second / connections))
    options = [f"--rps={rate}", "-m", "32" if target.grpc else "1"]
    return _h2load(target, connections, seconds, options)


def _wrk(target: Target, connections: int, seconds: float) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(body=json.dumps(str(target.body)), content_type=json.dumps(target.content_type)))
        script.flush()
        # wrk takes whole seconds.
        whole = max(1, round(seconds))
        text, cpu_s = _run(["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "-s", script.name, target.url], whole)
    return parse_wrk(text, cpu_s)


def _h2load(target: Target, connections: int, seconds: float, options: Sequence[str] = ("-m", "1")) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ["h2load", "-t1", f"-c{connections}", "-D", f"{round(seconds * 1000)}ms", f"--log-file={log}"]
        kind = "application/grpc" if target.grpc else target.content_type
        command += [*options, "-d", str(target.body), "-H", f"content-type: {kind}"]
        command += ["-H", "te: trailers"] if target.grpc else ["--h1"]
        text, cpu_s = _run([*command, target.url], seconds)
        return parse_h2load(text, log.read_text() if log.exists() else "", cpu_s)


def parse_wrk(text: str, cpu_s: float = 0.0) -> Load:
    """What our Lua script made wrk print; LoadError when it is not there."""
    found = _SUMMARY.search(text)
    if found is None:
        raise LoadError(f"wrk said no summary: {text[-300:]!r}")
    told = json.loads(found[1])
    answered = max(1, told["requests"])
    return Load(
        told["requests"] - told["errors"],
        told["errors"],
        told["us"] / 1e6,
        told["bytes"] / answered,
        told["p50"] / 1e3,
        told["p99"] / 1e3,
        cpu_s,
    )


def parse_h2load(text: str, log: str, cpu_s: float = 0.0) -> Load:
    """h2load's summary and its log: a line a request, with its start, HTTP status and microseconds."""
    requests, finished, data = _REQUESTS.search(text), _FINISHED.search(text), _DATA.search(text)
    if requests is None or finished is None or data is None:
        raise LoadError(f"h2load said no summary: {text[-300:]!r}")
    rows = [line.split("\t") for line in log.splitlines()]
    times = sorted(int(row[2]) for row in rows if row[1] == "200")
    succeeded, *failed = (int(number) for number in requests.groups())
    seconds = float(finished[1]) * _SECONDS[finished[2]]
    return Load(
        succeeded,
        sum(failed),
        seconds,
        int(data[1]) / max(1, succeeded),
        percentile(times, 50) / 1e3,
        percentile(times, 99) / 1e3,
        cpu_s,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of sorted values, the smallest that so many percent do not exceed; nan of none."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _run(command: Sequence[str], seconds: float) -> tuple[str, float]:
    """Its output and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadError(f"{command[0]}: {error}") from error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise LoadError(f"{command[0]} ended with {done.returncode}: {done.stderr[-300:] or done.stdout[-300:]}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
