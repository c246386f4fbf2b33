"""A run's figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import machine
from benchmarks.engines import Comparison
from benchmarks.models import TITLES
from benchmarks.results import Results
from benchmarks.targets import Target, check
from benchmarks.throughput import Rounds, median

_HEAD = """\
# Benchmarks

Written by `make bench` (`python -m benchmarks`); figures are of the machine and moment below. All contenders run in
turn on the same cores as the load generator, several rounds; ratios are medians of the rounds' ratios, other figures
medians of the rounds. REST is loaded by wrk, gRPC by h2load; each server's answers are checked before and after.
"""
_THROUGHPUT = """\
LeNet-5, one image a request, every output of the graph in the answer. "Empty handler" is the same transport that reads
the request and answers fixed bytes; rivals run the same ONNX graph with the same session settings, with one worker and
with two. "(batching)": with the server's own merging of requests. CPU is the server's, for a request with 16
connections. Ready: from the start of the process to the first right answer. Memory is the process tree's after the
load, resident and with shared pages counted in parts.
"""


def markdown(results: Results) -> str:
    parts = [_HEAD, machine.in_words(results.machine) + "\n"]
    parts += [f"{note}\n" for note in results.notes]
    parts += ["## Targets\n", _targets(check(results))]
    if results.rounds is not None:
        parts += ["## Throughput and latency\n", _THROUGHPUT, _throughput(results)]
    for title, found in (
        ("ONNX Runtime and TensorFlow", results.engines),
        ("Processes", results.workers),
        ("Batching", results.batching),
    ):
        if found is not None:
            parts += [f"## {title}\n", f"Not measured: {found}.\n" if isinstance(found, str) else _comparisons(found)]
    if results.tails is not None:
        parts += ["## Tail under disturbance\n", _tails(results)]
    if results.four is not None and results.ten is not None:
        rows = [
            (name, f"{start.ready_s:.2f}", f"{start.memory.rss_mb:.0f}", f"{start.memory.pss_mb:.0f}")
            for name, start in (("four models (LeNet-5, LSTM, U-Net, ResNet-18)", results.four), ("ten", results.ten))
        ]
        parts += [
            "## Start\n",
            "The quickest of three starts, with --quick of one. Ten: LeNet-5 and the LSTM five times each.\n",
        ]
        parts.append(_table(("models", "ready, s", "RSS, MB", "PSS, MB"), rows))
    if results.gateway is not None:
        found_ms = results.gateway
        failed = f" {found_ms.failed} more were not answered." if found_ms.failed else ""
        parts += [
            "## Gateway\n",
            f"One caller, a PNG to `:classify` against the tensor straight over gRPC, {found_ms.pairs} pairs: p50 "
            f"{found_ms.gateway_ms:.2f} ms and {found_ms.direct_ms:.2f} ms.{failed}\n",
        ]
    if results.client is not None:
        client = results.client
        parts += [
            "## Client\n",
            f"`import ladle` and its `Client`: {client.import_s:.2f} s. Installed files of "
            f"{', '.join(client.packages)}: {client.size_mb:.0f} MB.\n",
        ]
    return "\n".join(parts)


def _targets(targets: Sequence[Target]) -> str:
    rows = [
        (t.text, t.limit_text, t.value_text, "reached" if t.reached else "**not reached**", t.detail) for t in targets
    ]
    return _table(("target", "wanted", "measured", "", ""), rows)


def _throughput(results: Results) -> str:
    rounds = results.rounds
    assert rounds is not None
    parts = []
    for grpc in (False, True):
        titles = [title for kind in ("empty", "ladle", "rival") for title in rounds.titles(kind, grpc)]
        best = rounds.titles("ladle", grpc)[:1]
        rows = [_row(rounds, title, best[0] if best else title) for title in titles]
        heads = ("server", "req/s", "to Ladle", "p50, ms", "p99, ms", "one: p50", "one: p99", "CPU, µs")
        parts.append(_table((*heads, "ready, s", "RSS, MB", "PSS, MB"), rows))
    if results.in_process:
        per_second = median([found["per_second"] for found in results.in_process])
        p99 = median([found["p99_ms"] for found in results.in_process])
        parts.append(
            f"The same SavedModel called in process with TensorFlow, one call after the other: "
            f"{per_second:,.0f} calls/s, p50 {results.in_process_p50_ms:.3f} ms, p99 {p99:.3f} ms.\n"
        )
    parts += [f"Left out: {title}: {_one_line(why)}\n" for title, why in rounds.failures.items()]
    elsewhere = max((turn.elsewhere for turns in rounds.turns.values() for turn in turns), default=0.0)
    parts.append(f"Other processes of the machine used up to {elsewhere:.1f} cores during a load.\n")
    return "\n".join(parts)


def _row(rounds: Rounds, title: str, ours: str) -> tuple[str, ...]:
    def figure(value: float, digits: int) -> str:
        return f"{value:,.{digits}f}"

    return (
        title,
        figure(rounds.median(title, lambda turn: turn.many.per_second), 0),
        figure(rounds.ratio(title, ours), 2),
        figure(rounds.median(title, lambda turn: turn.many.p50_ms), 2),
        figure(rounds.median(title, lambda turn: turn.many.p99_ms), 2),
        figure(rounds.median(title, lambda turn: turn.one.p50_ms), 3),
        figure(rounds.median(title, lambda turn: turn.one.p99_ms), 3),
        figure(rounds.median(title, lambda turn: turn.cpu_us), 0),
        figure(rounds.median(title, lambda turn: turn.ready_s), 2),
        figure(rounds.median(title, lambda turn: turn.memory.rss_mb), 0),
        figure(rounds.median(title, lambda turn: turn.memory.pss_mb), 0),
    )


def _comparisons(found: Sequence[Comparison]) -> str:
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
        for name, pairs in (("U-Net, one connection", tails.beside_unet), ("a version swapped", tails.during_swap))
    ]
    text = "LeNet-5 over gRPC at a steady rate, in pairs: alone, and disturbed.\n\n"
    return text + _table(("disturbance", "p99 alone, ms", "p99 disturbed, ms", "median of ratios"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """How the server ended, and the line of its log that names the error, if one does."""
    end, _, words = text.partition(":")
    said = words.strip().splitlines()
    lines = said if len(said) == 1 else [line for line in said if "Error" in line]
    return " ".join(f"{end}: {lines[-1]}".split())[:200] if lines else end
