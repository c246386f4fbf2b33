"""Command line: run the chosen sections in order and write the report."""

from __future__ import annotations

import argparse
import functools
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
from typing import Any

from benchmarks import engines, front, machine, report, startup, tails
from benchmarks.goals import check
from benchmarks.in_process import InProcess
from benchmarks.profiling import steps
from benchmarks.real import measuring, workloads
from benchmarks.requests import load, models, payloads
from benchmarks.requests.models import Subject
from benchmarks.results import SECTIONS, Results, from_dict
from benchmarks.servers import contenders, install, rival_servers
from benchmarks.servers.contenders import Contender, RunningServer
from benchmarks.servers.processes import StartError
from benchmarks.throughput import Settings, measure

_WITHOUT_LOAD = {"start", "gateway", "client"}
QUICK = ("throughput", "tails", "start", "gateway", "client")
EPILOG = """examples:
  python -m benchmarks                        run everything in about 40 minutes; write docs/benchmarks.md and .json
  python -m benchmarks --quick                skip rivals, run 1 or 2 rounds in under 2 minutes; write no file
  python -m benchmarks --only real,steps      measure these; keep the other sections of docs/benchmarks.json
  python -m benchmarks --only none            write the page anew from docs/benchmarks.json
  python -m benchmarks --only throughput --rivals mosec,MLServer --rounds 5 --output /tmp/figures
wrk and h2load come from Debian: apt-get install wrk nghttp2-client
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report. Exit code: 0 done, 1 failed, 2 misused. A missed goal is not a failure."""
    options = _parse(argv)
    if (set(options.only) - _WITHOUT_LOAD) and (missing := _install_generators()):
        return _fail(f"{', '.join(missing)} not installed; run apt-get install {' '.join(missing)}")
    options.cache.mkdir(parents=True, exist_ok=True)
    file = None if options.output is None else options.output / "benchmarks.json"
    try:
        results = _before(file) if options.is_part else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return _fail(f"{file}: {error}; measure everything, or give another --output")
    results = results or Results(machine.describe())
    failed = _measure(options, results)
    print(report.markdown(results))
    return _fail(f"not measured: {', '.join(failed)}") if failed else 0


def _before(file: Path | None) -> Results | None:
    """The results in the file, of which a part is measured anew; None: there is no file."""
    return from_dict(json.loads(file.read_text())) if file is not None and file.exists() else None


def _write(results: Results, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    data = results.as_dict() | {"targets": [asdict(goal) | {"reached": goal.reached} for goal in check(results)]}
    (output / "benchmarks.json").write_text(json.dumps(data, indent=1) + "\n")
    (output / "benchmarks.md").write_text(report.markdown(results))


def _measure(options: argparse.Namespace, results: Results) -> list[str]:
    """Measure the chosen sections into `results`; those that failed, which stay as they were.

    Files are written after each section, so that a run that ends early keeps what it has.
    """
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        run = _Run(options, Path(scratch))
        for name in [name for name in SECTIONS if name in options.only]:
            _log(name)
            here = machine.describe()
            try:
                found = getattr(run, name)()
            except (load.LoadError, StartError, payloads.WrongAnswerError) as error:
                _log(f"  {error}")
                failed.append(name)
                continue
            except subprocess.CalledProcessError as error:
                _log(f"  {' '.join(map(str, error.cmd))}: {str(error.stderr or error).strip()[-500:]}")
                failed.append(name)
                continue
            results.machine = results.machines[name] = here
            for field, value in found.items():
                setattr(results, field, value)
            if options.output is not None:
                _write(results, options.output)
    if not options.only and options.output is not None:
        _write(results, options.output)
    return failed


class _Run:
    """A method for each section: the fields of `Results` that it measures."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self._options, self._scratch = options, scratch
        self._rounds, self._seconds = options.rounds, options.seconds

    @functools.cached_property
    def _repository(self) -> Path:
        return models.collect(self._options.repository, self._options.cache, _log)

    @functools.cached_property
    def _subjects(self) -> dict[str, Subject]:
        return {name: models.subject(self._repository, name) for name in models.NAMES}

    @property
    def _lenet(self) -> Subject:
        return self._subjects["lenet5"]

    @functools.cached_property
    def _small(self) -> Path:
        """A repository of LeNet-5 alone."""
        _copy_model(self._repository / "lenet5", self._scratch / "small")
        return self._scratch / "small"

    def throughput(self) -> dict[str, Any]:
        programs = install.programs(self._options.cache, self._options.rivals, _log)
        in_process: list[dict[str, float]] = []
        with InProcess(self._lenet, self._scratch) as tensorflow:

            def after_round() -> None:
                in_process.append(tensorflow.measure(self._seconds / 2))

            found = _contenders(self._lenet, self._small, programs, self._options.quick)
            rounds = measure(found, Settings(self._rounds, self._seconds), _log, after_round)
        if "Triton" in self._options.rivals and "Triton" not in programs:
            rounds.failures["Triton"] = rival_servers.NO_TRITON
        return {"rounds": rounds, "in_process": in_process}

    def engines(self) -> dict[str, Any]:
        subjects = list(self._subjects.values())
        return {"engines": engines.engines(subjects, self._repository, self._rounds, self._seconds, _log)}

    def workers(self) -> dict[str, Any]:
        return {"workers": engines.workers(self._lenet, self._small, self._rounds, self._seconds, _log)}

    def batching(self) -> dict[str, Any]:
        subjects = [self._lenet, self._subjects["resnet18"]]
        return {"batching": engines.batching(subjects, self._repository, self._rounds, self._seconds, _log)}

    def real(self) -> dict[str, Any]:
        options = self._options
        programs = install.programs(options.cache, options.rivals, _log)
        repository = models.collect(options.repository, options.cache, _log, workloads.NAMES, "real")
        settings = measuring.Settings(self._rounds, self._seconds)
        return {"real": measuring.measure(workloads.workloads(), repository, programs, settings, _log)}

    def steps(self) -> dict[str, Any]:
        return {"steps": steps.measure(self._lenet, self._small, self._seconds, rounds=self._rounds)}

    def tails(self) -> dict[str, Any]:
        seconds = 2 if self._options.quick else 4
        unet, pairs = self._subjects["unet"], self._options.pairs
        return {"tails": tails.measure(self._lenet, unet, self._repository, pairs, seconds, _log)}

    def start(self) -> dict[str, Any]:
        ten = startup.ten(self._repository, self._scratch / "ten")
        times = 1 if self._options.quick else 3
        four, ten_models = (
            min((startup.start(repository) for _ in range(times)), key=lambda start: start.ready_s)
            for repository in (self._repository, ten)
        )
        names = ("lenet5",) if self._options.quick else ("lenet5", "resnet18")
        memory = [startup.workers(self._repository, name) for name in names]
        return {"four": four, "ten": ten_models, "worker_memory": memory}

    def gateway(self) -> dict[str, Any]:
        return {"gateway": front.gateway(self._lenet, self._small, pairs=200 if self._options.quick else 1000)}

    def client(self) -> dict[str, Any]:
        return {"client": front.client()}


def _contenders(lenet: Subject, repository: Path, programs: dict[str, Path], quick: bool) -> list[Contender]:
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
        found.append(contenders.ladle_v2(lenet, repository))
        found += [contenders.ladle(lenet, repository, grpc=protocol, workers=2) for protocol in (False, True)]
        found += [
            contenders.ladle(lenet, repository, protocol, ["--enable_batching"], "Ladle (batching)", workers)
            for workers in (1, 2)
            for protocol in (False, True)
        ]
        found += [rival for workers in (1, 2) for rival in contenders.rivals(lenet, programs, workers)]
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
    parser.add_argument(
        "--only",
        type=_names(SECTIONS),
        help=f"comma-separated sections of {','.join(SECTIONS)}, or none; the others stay as they "
        "are in the JSON of --output",
    )
    parser.add_argument(
        "--rivals", type=_names(install.NAMES), help=f"comma-separated servers of {','.join(install.NAMES)}; or none"
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
        only=QUICK if quick else tuple(SECTIONS),
        rivals=() if quick else install.NAMES,
        rounds=2 if quick else 3,
        seconds=1.0 if quick else 3.0,
        pairs=1 if quick else 7,
        output=None if quick else Path("docs"),
    )
    options = parser.parse_args(argv)
    options.is_part = set(options.only) != set(SECTIONS)
    return options


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
