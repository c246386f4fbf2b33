"""Command line: list, train, evaluate, export."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ladle.training import options
from ladle.training.quiet import without_stderr

DONE, FAILED, MISUSED = 0, 1, options.MISUSED


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 the work failed, 2 wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    # General help comes without TensorFlow; the options of a network are known only with it.
    arguments = options.parser(_networks(given), VERBS).parse_args(given)
    _start()
    from ladle.training.data import DataError
    from ladle.training.errors import TrainingError, UsageError
    from ladle.training.export.export import ExportError

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(arguments.run(arguments))
    except UsageError as error:
        return _failed(error, MISUSED)
    except (TrainingError, DataError, ExportError) as error:
        return _failed(error, FAILED)
    except KeyboardInterrupt:
        return _failed("stopped", FAILED)
    finally:
        signal.signal(signal.SIGTERM, before)


def networks(repository: Path) -> list[dict[str, Any]]:
    """Each network that can be trained, for `ladle networks`: JSON types only; what was measured, or null."""
    from ladle import models
    from ladle.training.loop import config
    from ladle.training.report import recorded

    found, measured = [], recorded.measured(repository)
    for name in models.names():
        network = models.get(name)
        entry = {"name": name, "task": network.task, "summary": network.summary, "parameters": network.parameters}
        entry |= {"data": network.config.data, "presets": list(network.presets), "source": network.source}
        entry |= {"aim": network.aim, "measured": measured.get(name)}
        found.append({**entry, "config": config.as_dict(network.config)})
    return found


def _list(arguments: argparse.Namespace) -> int:
    from ladle.training.loop.progress import shown

    rows = networks(arguments.repository)
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return DONE
    for row in rows:
        told = row["measured"] or {"data": row["data"]}
        where = f"version {Path(told['version']).name}" if told.get("version") else told.get("preset") or ""
        data = f"{told['data']}{' SYNTHETIC' if told.get('synthetic') else ''}"
        print(
            f"{row['name']:<23} {row['task']:<11} {row['parameters']:>11,} weights  {data:<16} "
            f"{shown(told.get('metrics', {})) or 'not measured':<24} {where:<10} {row['summary']}"
        )
    return DONE


def _train(arguments: argparse.Namespace) -> int:
    from ladle import models
    from ladle.training.data import DataError
    from ladle.training.errors import InterruptedRunError, TrainingError, UsageError
    from ladle.training.export.export import ExportError
    from ladle.training.loop import devices, hosts
    from ladle.training.run import parallel, session

    names = models.names() if arguments.all else list(dict.fromkeys(arguments.names))
    if not names:
        raise UsageError("no network is named; give names or --all: `ladle networks` lists them")
    wanted = [session.get(name) for name in names]
    requests = {network.name: _request(network, arguments) for network in wanted}
    at_once = 1 if hosts.count() > 1 else arguments.jobs or parallel.default_width(devices.gpus())
    if min(at_once, len(wanted)) > 1:
        return _together(arguments, wanted, at_once)
    code = DONE
    for name, request in requests.items():
        try:
            version = session.train(name, request)
        except (InterruptedRunError, UsageError):
            raise
        except (TrainingError, DataError, ExportError) as error:  # the others are trained all the same
            code = _failed(error, FAILED)
            continue
        if not hosts.chief():
            continue
        card = json.loads((version / "assets.extra" / "card.json").read_text(encoding="utf-8"))
        _print({"network": name, "version": str(version), "metrics": card["metrics"]["test"]}, arguments.json)
    return code


def _together(arguments: argparse.Namespace, wanted: Sequence[Any], at_once: int) -> int:
    """Train several networks side by side."""
    from ladle.training.run import board, parallel

    jobs = parallel.jobs(wanted, arguments)
    shown = board.board({job.name: job.expected for job in jobs}, at_once)
    outcomes = parallel.train(jobs, arguments.runs, at_once=at_once, resume=arguments.resume, board=shown)
    for outcome in outcomes:
        if outcome.code == DONE:
            _print(outcome.answer, arguments.json)
    failed = [outcome.name for outcome in outcomes if outcome.code != DONE]
    if not failed:
        return DONE
    told = "the same command trains those again or goes on with them"
    return _failed(f"{len(failed)} of {len(outcomes)} not done: {', '.join(failed)}; {told}", FAILED)


def _evaluate(arguments: argparse.Namespace) -> int:
    from ladle.training.evaluate import evaluate, functions
    from ladle.training.run import session

    session.get(arguments.name)
    version = functions.newest(arguments.repository, arguments.name)
    prepared = session.of_version(version, arguments.data_path, arguments.synthetic)
    result = evaluate.evaluate(functions.exported(version), prepared, arguments.repository, arguments.split)
    for note in result.notes:
        session.say(f"{arguments.name}: {note}")
    answer = {"network": arguments.name, "version": str(version), "data": prepared.dataset.provenance.name}
    answer |= {"synthetic": prepared.dataset.provenance.synthetic, "split": arguments.split}
    _print({**answer, "metrics": result.metrics}, arguments.json)
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    from ladle.training.loop import run_folder
    from ladle.training.run import session

    session.get(arguments.name)
    folder = arguments.run_folder or run_folder.newest(arguments.runs, arguments.name)
    version = session.export_run(arguments.name, folder, arguments.repository, arguments.data_path)
    _print({"network": arguments.name, "version": str(version)}, arguments.json)
    return DONE


def _request(network: Any, arguments: argparse.Namespace) -> Any:
    """What the command line asks of one network; the data set's name and the path of own files are told apart."""
    from ladle.training import data
    from ladle.training.loop import config
    from ladle.training.run import session

    known = config.types(network.config)
    given = {k: v for k, v in vars(arguments).items() if k in arguments.options}
    path, name = arguments.data_path, arguments.data
    if name is not None:
        if name in data.names():
            given["data"] = name
        elif path is None and Path(name).exists():
            path = Path(name)
        else:
            given["data"] = name  # the data room names the nearest ones
    # An option that only another of the named networks has is that network's alone.
    mine = {k: v for k, v in given.items() if k in known}
    file = config.read(arguments.config, network) if arguments.config else {}
    config.compose(network, arguments.preset, file, mine)
    return session.Request(
        preset=arguments.preset,
        overrides=mine,
        file=arguments.config,
        data_path=path,
        base_weights=arguments.base_weights,
        initial_weights=arguments.initial_weights,
        synthetic=arguments.synthetic,
        synthetic_if_missing=arguments.synthetic_if_missing,
        repository=arguments.repository,
        runs=arguments.runs,
        resume=arguments.resume,
        precision=arguments.precision,
        xla=arguments.xla,
        report=arguments.report,
    )


def _networks(given: Sequence[str]) -> list[Any]:
    """The networks whose options the command line may hold."""
    if not given or given[0] != "train":
        return []
    _start()
    from ladle import models

    named = [models.get(word) for word in given[1:] if word in models.names()]
    return named or [models.get(name) for name in models.names()]


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
        return
    from ladle.training.loop.progress import shown

    figures = {k: v for k, v in answer.get("metrics", {}).items() if isinstance(v, int | float)}
    print(f"{answer['version']}  {shown(figures)}".rstrip(), flush=True)


def _failed(error: object, code: int) -> int:
    print(f"training: {error}", file=sys.stderr)
    return code


def _start() -> None:
    """Import TensorFlow without the lines that its libraries write of themselves; TF_CPP_MIN_LOG_LEVEL=0 keeps them."""
    if "tensorflow" in sys.modules or os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return
    with without_stderr():
        from ladle.training.loop import devices

        devices.start()


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


VERBS = {"list": _list, "train": _train, "evaluate": _evaluate, "export": _export}

if __name__ == "__main__":
    sys.exit(main())
