"""Measure and print real requests alone, without the rest of docs/benchmarks.md.

python -m benchmarks.real                     every workload, beside its limit and the rivals; ten minutes
python -m benchmarks.real --only jpeg-rest --rivals none
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.real import measuring, page
from benchmarks.real.workloads import NAMES, workloads
from benchmarks.requests import load, models
from benchmarks.servers import install


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table. Exit code: 0 done, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real",
        description="Measure real requests beside ONNX Runtime alone and beside other servers.",
        epilog="example:\n  python -m benchmarks.real --only jpeg-rest,jpeg-grpc --rivals mosec --rounds 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path.home() / ".cache" / "ladle" / "bench"
    every = workloads()
    keys = [workload.key for workload in every]
    parser.add_argument("--only", default=",".join(keys), help=f"comma-separated, of {', '.join(keys)}")
    parser.add_argument("--rivals", default=",".join(install.NAMES), help="comma-separated servers, or none")
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
    if unknown := sorted(set(wanted) - set(keys)):
        parser.error(f"--only: got {', '.join(unknown)}; expected some of {', '.join(keys)}")
    names = [name for name in given.rivals.split(",") if name in install.NAMES]
    if missing := load.missing():
        log(f"benchmarks.real: {', '.join(missing)} not installed; run apt-get install {' '.join(missing)}")
        return 1
    chosen = [workload for workload in every if workload.key in wanted]
    needed = {workload.model for workload in chosen}
    names_needed = [name for name in NAMES if name in needed]
    repository = models.collect(given.repository, given.cache, log, names_needed, "real")
    settings = measuring.Settings(given.rounds, given.seconds)
    rows = measuring.measure(chosen, repository, install.programs(given.cache, names, log), settings, log)
    print(json.dumps([asdict(row) for row in rows], indent=1) if given.json else page.markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
