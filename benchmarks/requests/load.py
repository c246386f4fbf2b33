"""Run the load generators wrk (HTTP/1.1) and h2load (HTTP/2, or a steady rate) and parse their output."""

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

JSON, BINARY = "application/json", "application/octet-stream"
ANY = ("accept", "*/*")
"""A header that changes nothing."""
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""The Debian package of each program."""

# A Lua script for wrk: POST a body from a file and print a summary as one line of JSON, times in microseconds.
_SCRIPT = """\
wrk.method = "POST"
wrk.body = io.open({body}, "rb"):read("*a")
wrk.headers["content-type"] = {content_type}
wrk.headers[{header}] = {value}
local mixed, total = {mixed}, 0
for _, each in ipairs(mixed) do total = total + each[2] end
if total > 0 then
  request = function()
    local at = math.random() * total
    for _, each in ipairs(mixed) do
      at = at - each[2]
      if at <= 0 then return wrk.format(nil, each[1]) end
    end
    return wrk.format(nil, mixed[1][1])
  end
end
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
    """A load generator failed, its output has no summary, or the load it made was not answered."""


@dataclass(frozen=True)
class Load:
    """The result of one load, as the generator measured it.

    requests    number of requests with a successful answer
    errors      number of requests with another answer or none
    seconds     duration of the load
    size_bytes  bytes received per request; wrk counts headers, h2load does not
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
    """A request and the address that it is sent to.

    body    file with the request body; a gRPC frame if `grpc`
    grpc    send over HTTP/2
    header  one more header and its value; over HTTP/1.1 only
    tls     over TLS; the certificate is not checked
    socket  path of a UNIX socket in place of the port; over HTTP/2 only
    mixed   other paths that take the same body, with their weights, among which each request draws; over HTTP/1.1 only
    """

    port: int
    path: str
    body: Path
    grpc: bool
    content_type: str = JSON
    header: tuple[str, str] = ANY
    tls: bool = False
    socket: str = ""
    mixed: tuple[tuple[str, float], ...] = ()

    @property
    def url(self) -> str:
        return f"http{'s' * self.tls}://127.0.0.1:{self.port}{self.path}"


def missing() -> list[str]:
    """Debian packages of the load generators that are not installed."""
    return [package for program, package in PACKAGES.items() if shutil.which(program) is None]


def closed_loop(target: Target, connections: int, seconds: float) -> Load:
    """Closed loop: each connection sends its next request as soon as the last is answered."""
    return _h2load(target, connections, seconds) if target.grpc else _wrk(target, connections, seconds)


def steady(target: Target, per_second: float, seconds: float, connections: int = 4) -> Load:
    """Send requests at a fixed rate, even while earlier ones are unanswered: over gRPC up to 32 per connection.

    Over HTTP/1.1 a connection carries one request at a time, so a slow answer delays the next request.
    """
    rate = max(1, round(per_second / connections))
    options = [f"--rps={rate}", "-m", "32" if target.grpc else "1"]
    return _h2load(target, connections, seconds, options)


def _wrk(target: Target, connections: int, seconds: float) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        header, value = map(json.dumps, target.header)
        mixed = ", ".join(f"{{{json.dumps(path)}, {weight!r}}}" for path, weight in target.mixed)
        body, kind = json.dumps(str(target.body)), json.dumps(target.content_type)
        script.write(_SCRIPT.format(body=body, content_type=kind, header=header, value=value, mixed=f"{{{mixed}}}"))
        script.flush()
        # wrk accepts whole seconds only.
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
        command += ["-B", f"unix:{target.socket}"] if target.socket else []
        text, cpu_s = _run([*command, target.url], seconds)
        return parse_h2load(text, log.read_text() if log.exists() else "", cpu_s)


def parse_wrk(text: str, cpu_s: float = 0.0) -> Load:
    """The summary that our Lua script prints. Raises LoadError if it is missing."""
    found = _SUMMARY.search(text)
    if found is None:
        raise LoadError(
            f"got no summary from wrk; expected a line SUMMARY {{...}}; its output ends with {text[-300:]!r}"
        )
    summary = json.loads(found[1])
    answered = max(1, summary["requests"])
    return Load(
        summary["requests"] - summary["errors"],
        summary["errors"],
        summary["us"] / 1e6,
        summary["bytes"] / answered,
        summary["p50"] / 1e3,
        summary["p99"] / 1e3,
        cpu_s,
    )


def parse_h2load(text: str, log: str, cpu_s: float = 0.0) -> Load:
    """h2load's summary, and percentiles from its log. Raises LoadError if the summary is missing.

    The log has a line for each request: start, HTTP status and duration in microseconds, separated by tabs.
    """
    requests, finished, data = _REQUESTS.search(text), _FINISHED.search(text), _DATA.search(text)
    if requests is None or finished is None or data is None:
        raise LoadError(
            f"got no summary from h2load; expected lines 'finished in', 'requests:' and 'traffic:'; "
            f"its output ends with {text[-300:]!r}"
        )
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
    """The value that `percent` of the sorted values do not exceed; nan if there are no values."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _run(command: Sequence[str], seconds: float) -> tuple[str, float]:
    """The command's output and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadError(f"{command[0]}: {error}") from error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise LoadError(
            f"{command[0]} ended with exit code {done.returncode}: {done.stderr[-300:] or done.stdout[-300:]}"
        )
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
