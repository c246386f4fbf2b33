"""The results of a run as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.engines import Comparison
from benchmarks.goals import Goal, check
from benchmarks.profiling import steps
from benchmarks.real import page as real_requests
from benchmarks.requests.models import ROOT, TITLES
from benchmarks.results import Results
from benchmarks.servers import rival_servers
from benchmarks.tails import LOADED, PER_SECOND
from benchmarks.throughput import Rounds, median

_HEAD = """\
# Benchmarks

`make bench` (`python -m benchmarks`) writes this page. The figures hold for the machine and the times below. The
contenders run one after another on the same cores as the load generator, in several rounds. A ratio is the median of
the rounds' ratios; any other figure is the median of the rounds. wrk loads REST and h2load loads gRPC. Each server's
answers are checked before and after the load.
"""
_GPU = """\
The GPU part was not run, for no NVIDIA GPU was at hand: [`make bench-gpu`](../Makefile) measures training and serving
where there is one.
"""
_GPU_PAGE = "gpu.md"
_BUSY = "; the machine was busy"
_THROUGHPUT = """\
Each request to LeNet-5 holds one image; each answer holds every output of the graph. An empty handler reads the request
and answers with fixed bytes. Rivals run the same ONNX graph with the same session settings, with one worker and with
two. "(batching)" means that the server merges requests into batches. "1 conn." columns are measured with one
connection, the other rates and latencies with 16. CPU is the server's CPU time per request. Ready is the time from
process start to the first correct answer. Triton has an instance of the graph for each worker and merges no requests:
its figures stand beside Ladle's without batching. RSS and PSS are the memory of all the server's processes after the
load; PSS divides a shared page among the processes that share it.
"""


def markdown(results: Results) -> str:
    """The page, with a section for each part that was measured."""
    sections: dict[str, tuple[str, Callable[[], str]]] = {
        "throughput": ("Throughput and latency", lambda: f"{_THROUGHPUT}\n{_throughput(results)}"),
        "steps": ("Where a small request's time goes", lambda: steps.markdown(results.steps or [])),
        "real": ("Real requests", lambda: real_requests.markdown(results.real or [])),
        "engines": ("ONNX Runtime and TensorFlow", lambda: _comparisons(results.engines)),
        "workers": ("Processes", lambda: _comparisons(results.workers)),
        "batching": ("Batching", lambda: _comparisons(results.batching)),
        "tails": ("Tail latency under disturbance", lambda: _tails(results)),
        "start": ("Start", lambda: _start(results)),
        "gateway": ("Gateway", lambda: _gateway(results)),
        "client": ("Client", lambda: _client(results)),
    }
    gpu = f"[On a GPU]({_GPU_PAGE}) has the figures of the GPU part.\n"
    measured_there = (ROOT / "docs" / _GPU_PAGE).exists()
    parts = [_HEAD, machine.in_words(results.machine) + "\n", gpu if measured_there else _GPU, "## Goals\n"]
    busy = [title for key, (title, _) in sections.items() if results.is_busy(key)]
    if busy:
        parts.append(f"Not judged by its goals, for others used the machine meanwhile: {', '.join(busy)}.\n")
    parts.append(_goals(check(results)))
    for key, (title, text) in sections.items():
        if key in results.machines:
            parts += [f"## {title}\n", _when(results.machine, results.machines[key]), text()]
    return "\n".join(parts)


def _when(newest: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """When a section was measured, and on what if the newest section was measured on something else."""
    moments = ("time", "load_average")
    if any(newest.get(key) != value for key, value in measured.items() if key not in moments):
        return f"Measured elsewhere or earlier: {machine.in_words(measured)}\n"
    return (
        f"{measured['time']}, load average before {measured['load_average'][0]:g}{_BUSY * machine.is_busy(measured)}.\n"
    )


def _start(results: Results) -> str:
    assert results.four is not None
    assert results.ten is not None
    rows = [
        (name, f"{start.ready_s:.2f}", f"{start.memory.rss_mb:.0f}", f"{start.memory.pss_mb:.0f}")
        for name, start in (
            ("four models (LeNet-5, LSTM, U-Net, ResNet-18)", results.four),
            ("ten models", results.ten),
        )
    ]
    text = (
        "The fastest of three starts (of one with `--quick`). The ten models are five copies each of LeNet-5 and "
        "the LSTM.\n\n"
    )
    page = text + _table(("models", "ready, s", "RSS, MB", "PSS, MB"), rows)
    if results.worker_memory:
        page += "\n\nPSS of a server with several workers, once its processes are quiet:\n\n"
        entries = [
            (each.model, f"{each.two_mb:.0f}", f"{each.three_mb:.0f}", f"{each.further_mb:.0f}")
            for each in results.worker_memory
        ]
        page += _table(("model", "two workers, MB", "three workers, MB", "a further one, MB"), entries)
    return page


def _gateway(results: Results) -> str:
    found_ms = results.gateway
    assert found_ms is not None
    failed = f" The gateway did not answer {found_ms.failed} more." if found_ms.failed else ""
    return (
        "One caller sends an image as a tensor directly to the model server over gRPC, then as a PNG to the "
        f"gateway's `:classify`, {found_ms.pairs} times. The p50 is {found_ms.direct_ms:.2f} ms directly and "
        f"{found_ms.gateway_ms:.2f} ms through the gateway.{failed}\n"
    )


def _client(results: Results) -> str:
    client = results.client
    assert client is not None
    return (
        f"Importing `ladle` and its `Client` takes {client.import_s:.2f} s. The installed files of "
        f"{', '.join(client.packages)} take {client.size_mb:.0f} MB.\n"
    )


def _goals(goals: Sequence[Goal]) -> str:
    rows = [
        (t.text, t.limit_text, t.value_text, "reached" if t.reached else "**not reached**", t.detail) for t in goals
    ]
    return _table(("figure", "goal", "measured", "result", "details"), rows)


def _throughput(results: Results) -> str:
    rounds = results.rounds
    assert rounds is not None
    parts = []
    for grpc in (False, True):
        titles = [title for kind in ("empty", "ladle", "rival") for title in rounds.titles(kind, grpc)]
        best = rounds.titles("ladle", grpc)[:1]
        rows = [_row(rounds, title, best[0] if best else title) for title in titles]
        heads = (
            "server",
            "req/s",
            "ratio to Ladle",
            "p50, ms",
            "p99, ms",
            "1 conn. p50, ms",
            "1 conn. p99, ms",
            "CPU, µs",
        )
        parts.append(_table((*heads, "ready, s", "RSS, MB", "PSS, MB"), rows))
    if results.in_process:
        per_second = median([found["per_second"] for found in results.in_process])
        p99 = median([found["p99_ms"] for found in results.in_process])
        parts.append(
            f"The same SavedModel called in process with TensorFlow, one call after another: "
            f"{per_second:,.0f} calls/s, p50 {results.in_process_p50_ms:.3f} ms, p99 {p99:.3f} ms.\n"
        )
    failures = dict(rounds.failures)
    if not any(title.startswith("Triton") for title in (*rounds.kinds, *failures)):
        failures["Triton"] = "not measured; it needs a tritonserver with an ONNX backend on the path"
    parts += [f"Left out: {title}: {_one_line(why)}\n" for title, why in failures.items()]
    if haproxy := rival_servers.about_haproxy(rounds.kinds):
        parts.append(f"{haproxy}\n")
    elsewhere = max((measured.elsewhere for found in rounds.by_title.values() for measured in found), default=0.0)
    parts.append(f"Other processes on the machine used up to {elsewhere:.1f} cores during a load.\n")
    return "\n".join(parts)


def _row(rounds: Rounds, title: str, ours: str) -> tuple[str, ...]:
    def figure(value: float, digits: int) -> str:
        return f"{value:,.{digits}f}"

    return (
        title,
        figure(rounds.median(title, lambda measured: measured.many.per_second), 0),
        figure(rounds.ratio(title, ours), 2),
        figure(rounds.median(title, lambda measured: measured.many.p50_ms), 2),
        figure(rounds.median(title, lambda measured: measured.many.p99_ms), 2),
        figure(rounds.median(title, lambda measured: measured.one.p50_ms), 3),
        figure(rounds.median(title, lambda measured: measured.one.p99_ms), 3),
        figure(rounds.median(title, lambda measured: measured.cpu_us), 0),
        figure(rounds.median(title, lambda measured: measured.ready_s), 2),
        figure(rounds.median(title, lambda measured: measured.memory.rss_mb), 0),
        figure(rounds.median(title, lambda measured: measured.memory.pss_mb), 0),
    )


def _comparisons(found: Sequence[Comparison] | str | None) -> str:
    if found is None or isinstance(found, str):
        return f"Not measured: {found}.\n"
    names = list(found[0].loads)
    heads = ["model", "connections"]
    for name in names:
        heads += [f"{name}, req/s", "p50, ms", "p99, ms"]
    rows = []
    for comparison in found:
        row = [TITLES.get(comparison.model, comparison.model), str(comparison.connections)]
        for name in names:
            loads = comparison.loads[name]
            row.append(f"{median([seen.per_second for seen in loads]):,.0f}")
            row.append(f"{median([seen.p50_ms for seen in loads]):.2f}")
            row.append(f"{median([seen.p99_ms for seen in loads]):.2f}")
        rows.append((*row, f"{comparison.ratio(names[-1]):.2f}×"))
    return _table((*heads, "ratio"), rows)


def _tails(results: Results) -> str:
    tails = results.tails
    assert tails is not None
    rows = [
        (
            name,
            f"{median([pair.alone.p99_ms for pair in pairs]):.2f}",
            f"{median([pair.disturbed.p99_ms for pair in pairs]):.2f}",
            f"{tails.ratio(pairs):.2f}×",
        )
        for name, pairs in (
            ("U-Net requests, one connection", tails.beside_unet),
            ("a version swap", tails.during_swap),
            (f"{LOADED} models load", tails.while_loading),
        )
        if pairs
    ]
    text = (
        f"{PER_SECOND} LeNet-5 requests a second arrive over gRPC. Each pair measures them alone, then disturbed; the "
        f"ratio is the median of {len(tails.beside_unet)} pairs.\n\n"
    )
    return text + _table(("disturbance", "p99 alone, ms", "p99 disturbed, ms", "ratio"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """How the server ended, and the last line of its log that names an error, if there is one."""
    end, _, tail = text.partition(":")
    logged = tail.strip().splitlines()
    lines = logged if len(logged) == 1 else [line for line in logged if "Error" in line]
    return " ".join(f"{end}: {lines[-1]}".split())[:200] if lines else end
