"""The section of docs/benchmarks.md about real requests."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.real.measuring import Row
from benchmarks.servers import rival_servers
from benchmarks.throughput import median

_HEAD = """\
The limit is ONNX Runtime alone on decoded inputs, in a process of its own, in turns with the server: with a thread for
each core beside the 16 connections (2 for the large image), with one caller that has all cores beside the one. The load
generator shares the cores with the server; beside the limit nothing runs. Where the row does not say otherwise, our
server is one process; one core then answers all runs below half a millisecond, such as the LSTM's. CPU is that of all
the server's processes, the gateway's included.

Each rival has as many workers as there are cores (MLServer, whose workers do not start here, has its own process) and
gets the same content in a form that it reads: JSON where the row says JSON; else the bytes of the JPEG, the PNG or the
tensor as they are (mosec, Ray Serve), or raw contents over gRPC (MLServer; Triton, which also gets V2 binary). They
decode with Pillow at 8 bits. The rows over TLS and over a UNIX socket stand beside gRPC over TCP without encryption
(MLServer, Triton). Triton takes part where a tritonserver with an ONNX backend is found.

"""


def markdown(rows: Sequence[Row]) -> str:
    """Two tables: each workload beside its limit, and beside each rival; then what was left out."""
    heads = ("request", "limit, req/s", "Ladle, req/s", "of the limit", "CPU, µs", "engine, ms", "1 conn. p50, ms")
    lines = [_line(row) for row in rows]
    parts = [_HEAD + _table((*heads, "beyond the engine, ms"), lines)]
    names = list(dict.fromkeys(name for row in rows for name in row.rivals))
    if names:
        beside = [_beside(row, names) for row in rows if row.many]
        haproxy = rival_servers.about_haproxy(names)
        parts.append(f"{haproxy} Requests per second of each rival, and Ladle's over the best of them:\n".lstrip())
        parts.append(_table(("request", *names, "Ladle", "over the best"), beside))
    parts += [
        f"Left out: {row.title}: {name}: {' '.join(why.split())}\n"
        for row in rows
        for name, why in row.failures.items()
    ]
    return "\n".join(parts)


def _line(row: Row) -> tuple[str, ...]:
    if not row.many:
        return (row.title, *["—"] * 7)
    return (
        row.title,
        f"{median(row.limit_many):,.0f}",
        f"{median([seen.per_second for seen in row.many]):,.0f}",
        f"{row.share:.0%}",
        f"{median(row.cpu_us):,.0f}",
        f"{row.engine_ms:.2f}",
        f"{median([seen.p50_ms for seen in row.one]):.2f}",
        f"{row.over_ms:.2f}" if row.over_ms >= 0 else f"{row.over_ms:.2f}, within the noise",
    )


def _beside(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    rates = [f"{median(row.rivals[name]):,.4g}" if row.rivals.get(name) else "—" for name in names]
    best = row.best_rival
    ours = median([seen.per_second for seen in row.many])
    return (row.title, *rates, f"{ours:,.4g}", f"{best[1]:.1f}× {best[0]}" if best else "—")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"
