"""Command line: what is measured, in which order, and where it is saved."""

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

from benchmarks import contenders, engines, front, install, load, machine, models, payloads, report, startup, tails
from benchmarks.contenders import Contender, Running
from benchmarks.in_process import InProcess
from benchmarks.models import Subject
from benchmarks.processes import StartError
from benchmarks.results import Results
from benchmarks.targets import check
from benchmarks.throughput import Settings, measure

SECTIONS = ("throughput", "engines", "workers", "batching", "tails", "start", "gateway", "client")
QUICK = ("throughput", "tails", "start", "gateway", "client")
EPILOG = """examples:
  python -m benchmarks                        everything, about twenty minutes; writes docs/benchmarks.md and .json
  python -m benchmarks --quick                no rivals, one or two rounds, under two minutes; writes nothing
  python -m benchmarks --only throughput --rivals mosec,MLServer --rounds 5 --output /tmp/figures
wrk and h2load come from Debian: apt-get install wrk nghttp2-client
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit code: 0 done, 1 the work failed, 2 wrong usage. A target not reached is no failure."""
    given = _parse(argv)
    if missing := _install_generators():
        return _failed(f"{', '.join(missing)} not installed: apt-get install {' '.join(missing)}")
    given.cache.mkdir(parents=True, exist_ok=True)
    try:
        results = _measure(given)
    except (load.LoadError, StartError, payloads.WrongAnswerError) as error:
        return _failed(str(error))
    except subprocess.CalledProcessError as error:
        return _failed(f"{' '.join(map(str, error.cmd))}: {str(error.stderr or error).strip()[-500:]}")
    text = report.markdown(results)
    print(text)
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        told = results.as_dict() | {"targets": [asdict(t) | {"reached": t.reached} for t in check(results)]}
        (given.output / "benchmarks.md").write_text(text)
        (given.output / "benchmarks.json").write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _measure(given: argparse.Namespace) -> Results:
    sections = given.only
    results = Results(machine.describe())
    repository = models.collect(given.repository, given.cache, _say)
    subjects = [models.subject(repository, name) for name in models.NAMES]
    by_name = {subject.name: subject for subject in subjects}
    lenet, unet = by_name["lenet5"], by_name["unet"]
    rounds, seconds = given.rounds, given.seconds
    with tempfile.TemporaryDirectory() as folder:
        small = repository.parent / "small"
        _only(repository / lenet.name, small)
        if "start" in sections:
            _say("start")
            starts = 1 if given.quick else 3
            ten = startup.ten(repository, Path(folder) / "ten")
            results.four = min((startup.start(repository) for _ in range(starts)), key=lambda start: start.ready_s)
            results.ten = min((startup.start(ten) for _ in range(starts)), key=lambda start: start.ready_s)
        if "throughput" in sections:
            _say("throughput: 16 connections, then one")
            pythons = install.pythons(given.cache, given.rivals, _say)
            with InProcess(lenet, Path(folder)) as tensorflow:

                def after_round() -> None:
                    results.in_process.append(tensorflow.measure(seconds / 2))

                settings = Settings(rounds, seconds)
                all_contenders = _contenders(lenet, small, pythons, given.quick)
                results.rounds = measure(all_contenders, settings, _say, after_round)
        comparisons: dict[str, Callable[[], list[engines.Comparison] | str]] = {
            "engines": lambda: engines.engines(subjects, repository, rounds, seconds, _say),
            "workers": lambda: engines.workers(lenet, small, rounds, seconds, _say),
            "batching": lambda: engines.batching([lenet, by_name["resnet18"]], repository, rounds, seconds, _say),
        }
        for name, compare in comparisons.items():
            if name in sections:
                _say(name)
                setattr(results, name, compare())
        if "tails" in sections:
            _say("tails")
            results.tails = tails.measure(lenet, unet, repository, given.pairs, 2 if given.quick else 4, _say)
        if "gateway" in sections:
            _say("gateway")
            results.gateway = front.gateway(lenet, small, pairs=200 if given.quick else 1000)
        if "client" in sections:
            _say("client")
            results.client = front.client()
    return results


def _contenders(lenet: Subject, repository: Path, pythons: dict[str, Path], quick: bool) -> list[Contender]:
    """Ours next to empty handlers, then the rivals."""
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
    """What our server answers: empty handlers answer the same."""
    with tempfile.TemporaryDirectory() as folder, Running(contender, Path(folder)) as running:
        send = payloads.call if contender.grpc else payloads.post
        return send(running.port, contender.path, contender.request)


def _only(model: Path, target: Path) -> None:
    """A repository of that one model."""
    target.mkdir(exist_ok=True)
    shutil.rmtree(target / model.name, ignore_errors=True)
    shutil.copytree(model, target / model.name)


def _install_generators() -> list[str]:
    """Debian packages that are still missing; installs them where that is allowed, as `make` does for chromium."""
    packages = load.missing()
    if packages and os.path.exists("/usr/bin/apt-get") and os.geteuid() == 0:
        _say(f"installing Debian's {' and '.join(packages)}")
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", *packages], capture_output=True)
        packages = load.missing()
    return packages


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Ladle's servers next to empty handlers, TensorFlow in process and other model servers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ladle" / "bench"
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="models; those not there are exported with untrained weights (default: %(default)s)",
    )
    parser.add_argument("--cache", type=Path, default=cache, help="rivals and models (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="no rivals, short loads, under two minutes")
    parser.add_argument("--only", type=_names(SECTIONS), help=f"some of {','.join(SECTIONS)}")
    parser.add_argument("--rivals", type=_names(install.RIVALS), help=f"some of {','.join(install.RIVALS)}, or none")
    parser.add_argument("--rounds", type=int, help="turns of each contender (default: 3; quick: 2)")
    parser.add_argument("--seconds", type=float, help="of a load (default: 3; quick: 1)")
    parser.add_argument("--pairs", type=int, help="of steady loads, alone and disturbed (default: 7; quick: 1)")
    parser.add_argument("--output", type=Path, help="folder of benchmarks.md and .json (default: docs; quick: none)")
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
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return read


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _failed(message: str) -> int:
    _say(f"benchmarks: {message}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
