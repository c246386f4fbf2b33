"""Command line: run the chosen sections in order and write the report."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import (
    contenders,
    engines,
    front,
    install,
    load,
    machine,
    models,
    payloads,
    real,
    report,
    startup,
    steps,
    tails,
)
from benchmarks.contenders import Contender, RunningServer
from benchmarks.goals import check
from benchmarks.in_process import InProcess
from benchmarks.models import Subject
from benchmarks.processes import StartError
from benchmarks.results import Results
from benchmarks.throughput import Settings, measure

SECTIONS = ("throughput", "engines", "workers", "batching", "real", "steps", "tails", "start", "gateway", "client")
QUICK = ("throughput", "tails", "start", "gateway", "client")
EPILOG = """examples:
  python -m benchmarks                        run everything in about 40 minutes; write docs/benchmarks.md and .json
  python -m benchmarks --quick                skip rivals, run 1 or 2 rounds in under 2 minutes; write no file
  python -m benchmarks --only throughput --rivals mosec,MLServer --rounds 5 --output /tmp/figures
wrk and h2load come from Debian: apt-get install wrk nghttp2-client
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report. Exit code: 0 done, 1 failed, 2 misused. A missed goal is not a failure."""
    options = _parse(argv)
    if missing := _install_generators():
        return _fail(f"{', '.join(missing)} not installed; run apt-get install {' '.join(missing)}")
    options.cache.mkdir(parents=True, exist_ok=True)
    try:
        results = _measure(options)
    except (load.LoadError, StartError, payloads.WrongAnswerError) as error:
        return _fail(str(error))
    except subprocess.CalledProcessError as error:
        return _fail(f"{' '.join(map(str, error.cmd))}: {str(error.stderr or error).strip()[-500:]}")
    text = report.markdown(results)
    print(text)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        data = results.as_dict() | {"targets": [asdict(goal) | {"reached": goal.reached} for goal in check(results)]}
        (options.output / "benchmarks.md").write_text(text)
        (options.output / "benchmarks.json").write_text(json.dumps(data, indent=1) + "\n")
    return 0


def _measure(options: argparse.Namespace) -> Results:
    sections = options.only
    results = Results(machine.describe())
    repository = models.collect(options.repository, options.cache, _log)
    subjects = [models.subject(repository, name) for name in models.NAMES]
    by_name = {subject.name: subject for subject in subjects}
    lenet, unet = by_name["lenet5"], by_name["unet"]
    rounds, seconds = options.rounds, options.seconds
    with tempfile.TemporaryDirectory() as folder:
        small = repository.parent / "small"
        _copy_model(repository / lenet.name, small)
        if "start" in sections:
            _log("start")
            starts = 1 if options.quick else 3
            ten = startup.ten(repository, Path(folder) / "ten")
            results.four = min((startup.start(repository) for _ in range(starts)), key=lambda start: start.ready_s)
            results.ten = min((startup.start(ten) for _ in range(starts)), key=lambda start: start.ready_s)
        if "throughput" in sections:
            _log("throughput: 16 connections, then 1")
            pythons = install.pythons(options.cache, options.rivals, _log)
            with InProcess(lenet, Path(folder)) as tensorflow:

                def after_round() -> None:
                    results.in_process.append(tensorflow.measure(seconds / 2))

                settings = Settings(rounds, seconds)
                all_contenders = _contenders(lenet, small, pythons, options.quick)
                results.rounds = measure(all_contenders, settings, _log, after_round)
        comparisons: dict[str, Callable[[], list[engines.Comparison] | str]] = {
            "engines": lambda: engines.engines(subjects, repository, rounds, seconds, _log),
            "workers": lambda: engines.workers(lenet, small, rounds, seconds, _log),
            "batching": lambda: engines.batching([lenet, by_name["resnet18"]], repository, rounds, seconds, _log),
        }
        for name, compare in comparisons.items():
            if name in sections:
                _log(name)
                setattr(results, name, compare())
        if "real" in sections:
            _log("real requests")
            pythons = install.pythons(options.cache, options.rivals, _log)
            more = models.collect(options.repository, options.cache, _log, real.NAMES)
            results.real = real.measure(real.workloads(), more, pythons, rounds, seconds, _log)
        if "steps" in sections:
            _log("steps")
            results.steps = steps.measure(lenet, small, seconds)
        if "tails" in sections:
            _log("tails")
            results.tails = tails.measure(lenet, unet, repository, options.pairs, 2 if options.quick else 4, _log)
        if "gateway" in sections:
            _log("gateway")
            results.gateway = front.gateway(lenet, small, pairs=200 if options.quick else 1000)
        if "client" in sections:
            _log("client")
            results.client = front.client()
    return results


def _contenders(lenet: Subject, repository: Path, pythons: dict[str, Path], quick: bool) -> list[Contender]:
    """Our servers and empty handlers first, then the rivals."""
    rest = contenders.ladle(lenet, repository, grpc=False)
    grpc = contenders.ladle(lenet, repository, grpc=True)
    json_answer, message = _answer(rest), _answer(grpc)
    found = [contenders.empty("http", lenet, json_answer), rest, contenders.empty("uvicorn", lenet, json_answer)]
    found += [contenders.empty("http2", lenet, message), grpc]
    if importlib.util.find_spec("pygrpc_native"):
        found.append(contenders.empty("pygrpc-native", lenet, message))
    if not quick:
        flags = ["--grpc_backend=grpcio"]
        found.append(contenders.empty("grpcio", lenet, message))
        found.append(contenders.ladle(lenet, repository, grpc=True, flags=flags, name="Ladle (grpcio)"))
        found += [contenders.ladle(lenet, repository, grpc=protocol, workers=2) for protocol in (False, True)]
        found += [
            contenders.ladle(lenet, repository, protocol, ["--enable_batching"], "Ladle (batching)", workers)
            for workers in (1, 2)
            for protocol in (False, True)
        ]
        found += [rival for workers in (1, 2) for rival in contenders.rivals(lenet, pythons, workers)]
    return found


def _answer(contender: Contender) -> bytes:
    """Our server's answer, which the empty handlers send too, so that they differ from ours in work alone."""
    with tempfile.TemporaryDirectory() as folder, RunningServer(contender, Path(folder)) as running:
        send = payloads.call if contender.grpc else payloads.post
        return send(running.port, contender.path, contender.request)


def _copy_model(model: Path, target: Path) -> None:
    """Make `target` a repository of this model."""
    target.mkdir(exist_ok=True)
    shutil.rmtree(target / model.name, ignore_errors=True)
    shutil.copytree(model, target / model.name)


def _install_generators() -> list[str]:
    """Install missing load generators when run as root on Debian; return the packages that are still missing."""
    packages = load.missing()
    if packages and os.path.exists("/usr/bin/apt-get") and os.geteuid() == 0:
        _log(f"installing {' and '.join(packages)} with apt-get")
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", *packages], capture_output=True)
        packages = load.missing()
    return packages


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Ladle's servers against empty handlers, TensorFlow in process and other model servers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ladle" / "bench"
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="model repository; missing models are exported with untrained weights (default: %(default)s)",
    )
    parser.add_argument("--cache", type=Path, default=cache, help="folder for rivals and models (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="skip rivals and run short loads; takes under 2 minutes")
    parser.add_argument("--only", type=_names(SECTIONS), help=f"comma-separated sections of {','.join(SECTIONS)}")
    parser.add_argument(
        "--rivals", type=_names(install.RIVALS), help=f"comma-separated servers of {','.join(install.RIVALS)}; or none"
    )
    parser.add_argument("--rounds", type=int, help="rounds for each contender (default: 3; quick: 2)")
    parser.add_argument("--seconds", type=float, help="seconds of each load (default: 3; quick: 1)")
    parser.add_argument("--pairs", type=int, help="pairs of steady loads, alone and disturbed (default: 7; quick: 1)")
    parser.add_argument(
        "--output", type=Path, help="folder for benchmarks.md and .json (default: docs; quick: no files)"
    )
    # --quick changes the other defaults, so it is read before they are set.
    quick = parser.parse_known_args(argv)[0].quick
    parser.set_defaults(
        only=QUICK if quick else SECTIONS,
        rivals=() if quick else tuple(install.RIVALS),
        rounds=2 if quick else 3,
        seconds=1.0 if quick else 3.0,
        pairs=1 if quick else 7,
        output=None if quick else Path("docs"),
    )
    return parser.parse_args(argv)


def _names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name and name != "none")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"got {name!r}; expected one of {', '.join(known)}")
        return names

    return read


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(message: str) -> int:
    _log(f"benchmarks: {message}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
