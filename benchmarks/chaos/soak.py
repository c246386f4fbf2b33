"""Mixed requests and version swaps for minutes: do memory, open files or threads grow?

python -m benchmarks.chaos.soak --seconds 480
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.chaos.server import Callers, Server, loaded

_SWAP_EVERY_S = 2.0
_WARM_UP_SHARE = 0.4  # of the time, in which caches, pools and the allocator fill
_FIELDS = ("rss_mb", "files", "threads")


@dataclass(frozen=True)
class Soaked:
    """Resident memory in MB of 10^6 bytes, open files and threads of the server's processes, over time.

    counts  of the callers' requests, by outcome
    swaps   version swaps
    last    value at the end, by field
    slopes  growth per hour after the warm-up, by field
    """

    seconds: float
    counts: dict[str, int]
    swaps: int
    last: dict[str, float]
    slopes: dict[str, float]


def _sample(server: Server) -> dict[str, float]:
    found = dict.fromkeys(_FIELDS, 0.0)
    for pid in {server.process.pid, server.worker()}:
        with contextlib.suppress(OSError):
            found["rss_mb"] += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            found["files"] += len(os.listdir(f"/proc/{pid}/fd"))
            found["threads"] += len(os.listdir(f"/proc/{pid}/task"))
    return found


def measure(seconds: float) -> Soaked:
    """Ask a server for so long, and swap its model's version every two seconds."""
    with tempfile.TemporaryDirectory() as folder, loaded(Path(folder), "--enable_metrics") as (server, callers):
        began = time.monotonic()
        odd = threading.Thread(target=_ask_oddly, args=(server, began + seconds))
        odd.start()
        times, samples = [], []
        while (now := time.monotonic() - began) < seconds:
            server.publish()
            times.append(now)
            samples.append(_sample(server))
            threading.Event().wait(_SWAP_EVERY_S)
        odd.join()
        return _summary(seconds, callers, len(times), times, samples)


def _ask_oddly(server: Server, until: float) -> None:
    """Asks for models that do not exist, with bodies that are wrong, and with more and more rows."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        rows = ", ".join(["[1.0]"] * (1 + number % 500))
        bodies = (b"{", b'{"instances": [["a"]]}', f'{{"instances": [{rows}]}}'.encode())
        server.ask(f"unknown-{number % 2000}" if number % 4 == 3 else "m", bodies[number % 3])


def _summary(
    seconds: float, callers: Callers, swaps: int, times: Sequence[float], samples: Sequence[dict[str, float]]
) -> Soaked:
    first = int(len(times) * _WARM_UP_SHARE)
    hours = np.array(times[first:]) / 3600
    slopes = {field: float(np.polyfit(hours, [s[field] for s in samples[first:]], 1)[0]) for field in _FIELDS}
    return Soaked(seconds, dict(callers.counts), swaps, samples[-1], slopes)


def text(found: Soaked) -> str:
    """The result in two lines."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found.counts.items())
    growth = ", ".join(f"{field} {found.last[field]:.0f} ({found.slopes[field]:+.1f} an hour)" for field in _FIELDS)
    return f"{found.seconds:.0f} s with {found.swaps} version swaps: {counts}\n{growth}"


def main(argv: Sequence[str] | None = None) -> int:
    """Soak a server; 0 done, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos.soak",
        description="Ask a model server for minutes, swap versions, measure the growth of memory, files and threads.",
        epilog="example: python -m benchmarks.chaos.soak --seconds 480",
    )
    parser.add_argument("--seconds", type=float, default=480.0, help="(default: %(default)s)")
    print(text(measure(parser.parse_args(argv).seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
