"""`make chaos`: floods with a watching client, overload, faults of processes and disk, and a soak; a table at the end.

python -m benchmarks.chaos             about twenty minutes
python -m benchmarks.chaos --quick     about two

The table is Markdown; docs/reliability.md keeps it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.chaos import faults, flood_kinds, floods, overload, soak
from benchmarks.chaos.server import MODEL, Server
from tests.tiny_models import looping

Row = tuple[str, str, str]
_TIMES, _DEADLINE_S = 3.0, 2.0  # of the overload
_SLOW_TURNS, _QUICK_TURNS = 15_000, 300  # of the looping model: about 15 ms and 0.3 ms on an idle core

BEFORE = {
    "kill_worker": "held with several workers; one worker: the server ended",
    "crash": "the server ended (exit 134)",
    "stop_worker": "kept its share of the port for ever",
    "kill_supervisor": "held",
    "terminate": "one worker lost 14 requests of 16 clients, two 15 to 23",
    "many_connections": "lost 14",
    "swaps": "held: 39 swaps, 0 lost",
    "bit_flips": "held",
    "full_disk": "held",
}
"""What was seen before the fixes, by fault; the table keeps it beside the figures of today."""
BEFORE_WORST_S = {
    "rest_not_found": 3.0,
    "rest_health": 3.0,
    "rest_bad_post": 3.0,
    "rest_upgrade": 3.0,
    "rest_ragged": 7.8,
    "window_update": 6.0,
    "empty_data": 6.0,
    "priority": 6.0,
    "unknown_frame": 6.0,
    "long_codes": 6.0,
    "table_references": 6.0,
    "table_resizes": 6.0,
    "grpc_health": 1.8,
}
"""The longest wait of another client before the fixes, in seconds, by flood."""


def _floods(seconds: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        for name in flood_kinds.FLOODS:
            held = floods.measure(name, server.grpc_port, server.rest_port, MODEL, seconds)
            print(floods.row(held), file=sys.stderr, flush=True)
            quiet = max(waits.worst_s for waits in held.quiet.values())
            before = f"{BEFORE_WORST_S[name]:g} s" if name in BEFORE_WORST_S else ""
            yield f"flood `{name}`: longest wait of a watching client", before, _waits(held.worst_s, quiet)


def _waits(worst_s: float, quiet_s: float) -> str:
    return f"{worst_s * 1000:.0f} ms (without the flood {quiet_s * 1000:.0f} ms)"


def _overload(seconds: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        looping().write(Path(folder) / "repository" / "slow", 1)
        with Server(Path(folder)) as server:
            server.wait_for(lambda: server.ask("slow", b'{"instances": [1]}') == "ok")
            for turns, before in ((_SLOW_TURNS, "18 to 53 %"), (_QUICK_TURNS, "4,469 answers came late as OK")):
                question = overload.Question("slow", "x", np.array([turns]))
                for protocol, port in (("grpc", server.grpc_port), ("rest", server.rest_port)):
                    found = overload.measure(protocol, port, question, _TIMES, _DEADLINE_S, seconds, _DEADLINE_S)
                    print(overload.row(found), file=sys.stderr, flush=True)
                    run_ms = 1000 / found.peak.goodput if found.peak.goodput else 0
                    what = (
                        f"{_TIMES:g}× the peak over {protocol}, deadline {_DEADLINE_S:g} s, {run_ms:.1f} ms a request"
                    )
                    yield what, before, f"{found.ratio:.0%} of the peak in time, {found.flooded.late} late"


def _faults(times: int) -> Iterator[Row]:
    for name in faults.FAULTS:
        found = faults.measure(name, times)
        print(faults.row(found), file=sys.stderr, flush=True)
        counts = found.counts
        today = f"lost {counts['lost']}, wrong {counts['wrong']}, refused {counts['refused']} of {sum(counts.values())}"
        yield found.fault, BEFORE[name], f"{today}; {found.gap_s:.2f} s without an answer; {found.note}"


def _soak(seconds: float) -> Iterator[Row]:
    found = soak.measure(seconds)
    print(soak.text(found), file=sys.stderr, flush=True)
    lost = found.counts["lost"] + found.counts["wrong"]
    yield (
        f"soak of {found.seconds:.0f} s, {found.swaps} version swaps",
        "0 errors in 8 minutes, flat memory",
        f"lost {lost}",
    )
    for field, name in (("rss_mb", "resident memory, MB"), ("files", "open files"), ("threads", "threads")):
        yield f"soak: {name}", "", f"{found.last[field]:.0f}, {found.slopes[field]:+.1f} an hour"


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, print the table; 0 done, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description="Flood, break and soak model servers while other clients ask them.",
        epilog="example: python -m benchmarks.chaos --quick --only faults",
    )
    parts = ("floods", "overload", "faults", "soak")
    parser.add_argument("--quick", action="store_true", help="two minutes instead of twenty")
    parser.add_argument("--only", default=",".join(parts), metavar="PART,...", help=f"of {', '.join(parts)}")
    given = parser.parse_args(argv)
    chosen = given.only.split(",")
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"got --only {','.join(unknown)}; expected some of {', '.join(parts)}")
    print(f"load average before the run: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    rows: list[Row] = []
    if "floods" in chosen:
        rows += _floods(0.5 if given.quick else 8.0)
    if "overload" in chosen:
        rows += _overload(2.0 if given.quick else 15.0)
    if "faults" in chosen:
        rows += _faults(1 if given.quick else 10)
    if "soak" in chosen:
        rows += _soak(30.0 if given.quick else 480.0)
    print("| what | before | today |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
