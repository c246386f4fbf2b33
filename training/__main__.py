"""Command line of the training room: list, train, evaluate, export."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ladle.training import options
from ladle.training.arguments import MISUSED
from ladle.training.quiet import importing_tensorflow

if TYPE_CHECKING:
    from ladle.models import Network
    from ladle.training.run.request import Request

DONE, FAILED = 0, 1
READER_LEFT = 141
FEW = 100
"""A list names the number of test examples if it is below this: such a figure says little."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 failed, 2 misused."""
    given = list(sys.argv[1:] if argv is None else argv)
    # Help, lists and wrong arguments need no TensorFlow: each command imports it when it begins to work.
    arguments, unknown = build_parser(given).parse_known_args(given)
    if unknown:  # reported by the command's own parser, which knows its options
        arguments.parser.refuse(unknown)
    from ladle.training.data import DataError
    from ladle.training.errors import TrainingError, UsageError

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(arguments.run(arguments))
    except UsageError as error:
        return _fail(arguments, error, MISUSED)
    except (TrainingError, DataError) as error:
        return _fail(arguments, error, FAILED)
    except OSError as error:
        # `ladle` ends quietly if the reader of the output has left, and says so if the output takes no more.
        if error.filename is None:
            raise
        return _fail(arguments, f"{error.filename}: {error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return _fail(arguments, "stopped", FAILED)
    finally:
        signal.signal(signal.SIGTERM, before)


def build_parser(given: Sequence[str] = ("train", "--all")) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of the networks that the arguments `given` name (default: all)."""
    return options.parser(_networks_named(given), VERBS)


def networks(repository: Path) -> list[dict[str, Any]]:
    """All networks that can be trained, in JSON types. `measured` has a network's metrics, or null."""
    from ladle import models
    from ladle.training.loop import config
    from ladle.training.report import recorded

    found, measured = [], recorded.measured(repository)
    for name in models.names():
        network = models.described(name)
        entry = {"name": name, "task": network.task, "summary": network.summary, "parameters": network.parameters}
        entry |= {"data": network.config.data, "presets": list(network.presets), "source": network.source}
        entry |= {"aim": network.aim, "measured": measured.get(name)}
        found.append({**entry, "config": config.as_dict(network.config)})
    return found


def _list(arguments: argparse.Namespace) -> int:
    from ladle.training.evaluate.headline import shown

    wanted = {_described(name).name for name in arguments.names}
    rows = [row for row in networks(arguments.repository) if not wanted or row["name"] in wanted]
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return DONE
    width = max(60, shutil.get_terminal_size().columns)
    print(f"{'NETWORK':<23} {'TASK':<11} {'WEIGHTS':>10}  MEASURED")
    for row in rows:
        entry = row["measured"] or {}
        # A quick preset may train a much smaller network than the defaults: its metric stands beside its own weights.
        weights = f"{entry.get('parameters') or row['parameters']:,}" if _described(row["name"]).trained else "—"
        metric = shown(entry.get("metrics", {}), entry.get("folds")) or (
            "nothing to measure" if entry else "not measured"
        )
        print(f"{row['name']:<23} {row['task']:<11} {weights:>10}  {metric}")
        text = f"{row['summary']} {_origin(entry)}".strip()
        print(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))
    return DONE


def _origin(measured: Mapping[str, Any]) -> str:
    """Where a metric comes from: 'Measured on fashion_mnist, preset quick. Baseline: majority class 0.1.'

    Empty if there is none. A test split of few examples says how few they are.
    """
    if not measured:
        return ""
    data = f"{'SYNTHETIC data: ' if measured['synthetic'] else ''}{measured['data']}"
    preset = f", preset {measured['preset']}" if measured["preset"] else ""
    version = f", version {Path(measured['version']).name}" if measured["version"] else ""
    few = measured.get("examples", FEW)
    data = f"{few} example{'' if few == 1 else 's'} of {data}" if 0 < few < FEW else data
    baseline = f" Baseline: {measured['baseline']}." if measured.get("baseline") else ""
    return f"Measured on {data}{preset}{version}.{baseline}"


def _train(arguments: argparse.Namespace) -> int:
    from ladle import models
    from ladle.training.data import DataError
    from ladle.training.errors import InterruptedRunError, TrainingError, UsageError
    from ladle.training.loop import config

    if arguments.all and arguments.names:
        raise UsageError(f"got --all and {' '.join(arguments.names)}; give one or the other")
    names = models.names() if arguments.all else list(dict.fromkeys(arguments.names))
    if not names:
        raise UsageError("got no network; give names, or --all; `ladle networks` lists them")
    for described in [_described(name) for name in names]:
        preset = config.preset_of(described, arguments.preset, arguments.config)
        config.compose(described, preset, config.read(arguments.config, described) if arguments.config else {})
    if arguments.name and len(names) > 1:
        raise UsageError(f"--name: got {len(names)} networks; expected one, as a name belongs to one model")
    _own_path(arguments)
    _start_tensorflow()
    from ladle.training.loop import devices, hosts
    from ladle.training.run import parallel, request, session

    request.check_name(arguments.name)
    networks = [request.get(name) for name in names]
    # All of them before the first is trained: a wrong option must not show up hours later.
    requests = [_request(network, arguments) for network in networks]
    at_once = 1 if hosts.count() > 1 else arguments.jobs or parallel.default_width(devices.gpus())
    if min(at_once, len(networks)) > 1:
        return _train_in_parallel(arguments, networks, at_once)
    code = DONE
    for each in requests:
        try:
            version = session.train(each)
        except (InterruptedRunError, UsageError):
            raise
        except (TrainingError, DataError) as error:  # the other networks are still trained
            code = _fail(arguments, error, FAILED)
            continue
        if hosts.chief():
            answer = {"network": each.network.name, "model": each.model, "version": str(version.folder)}
            _print({**answer, "metrics": version.metrics}, arguments.json)
    return code


def _train_in_parallel(arguments: argparse.Namespace, networks: Sequence[Network], at_once: int) -> int:
    from ladle.training.run import board, parallel

    jobs = parallel.jobs(networks, arguments)
    shown = board.board({job.name: job.expected for job in jobs}, at_once)
    outcomes = parallel.train(jobs, arguments.runs, at_once=at_once, resume=arguments.resume, board=shown)
    for outcome in outcomes:
        if outcome.code == DONE:
            _print(outcome.answer, arguments.json)
    failed = [outcome.name for outcome in outcomes if outcome.code != DONE]
    if not failed:
        return DONE
    return _fail(
        arguments,
        f"{len(failed)} of {len(outcomes)} not trained: {', '.join(failed)}; the same command continues with them",
        FAILED,
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    if not (arguments.repository / arguments.name).is_dir():  # a name of the user's own, with --name
        _described(arguments.name)
    from ladle.training.store import publish

    version = publish.newest(arguments.repository, arguments.name)
    _start_tensorflow()
    from ladle.training.evaluate import evaluate, functions
    from ladle.training.run import request, session

    prepared = request.of_version(version, arguments.data_path, arguments.synthetic, arguments.skip_broken)
    result = evaluate.evaluate(functions.exported(version), prepared, arguments.repository, arguments.split)
    for note in result.notes:
        session.say(f"{arguments.name}: {note}")
    answer = {"network": arguments.name, "version": str(version), "data": prepared.dataset.provenance.name}
    answer |= {"synthetic": prepared.dataset.provenance.synthetic, "split": arguments.split}
    _print({**answer, "metrics": result.metrics}, arguments.json)
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    if arguments.to:
        return _upload(arguments)
    if not (arguments.runs / arguments.name).is_dir() and not arguments.run_folder:
        _described(arguments.name)
    files = _keras_files(arguments)
    _start_tensorflow()
    from ladle.training.loop import run_folder
    from ladle.training.run import session

    folder = arguments.run_folder or run_folder.newest(arguments.runs, arguments.name)
    if files:
        session.save_keras(arguments.name, folder, files)
        if arguments.json:
            _print({"network": arguments.name, "files": list(map(str, files))}, True)
        else:
            print("\n".join(map(str, files)), flush=True)
        return DONE
    version = session.export_run(
        arguments.name, folder, arguments.repository, arguments.data_path, arguments.skip_broken
    )
    _print({"network": arguments.name, "version": str(version.folder)}, arguments.json)
    return DONE


def _upload(arguments: argparse.Namespace) -> int:
    from ladle.training.errors import UsageError
    from ladle.training.store import publish, upload

    if _keras_files(arguments) or arguments.run_folder:
        raise UsageError("--to uploads a version of the repository; give it without --run, --keras, --h5 and --weights")
    target = upload.Target(arguments.to)  # a wrong URL must not show up after the export
    if not publish.versions(arguments.repository / arguments.name):
        _start_tensorflow()
        from ladle.training.loop import run_folder
        from ladle.training.run import session

        folder = run_folder.newest(arguments.runs, arguments.name)
        session.export_run(arguments.name, folder, arguments.repository, arguments.data_path, arguments.skip_broken)
    version = publish.newest(arguments.repository, arguments.name)
    url = target.upload(arguments.name, version)
    if arguments.json:
        _print({"network": arguments.name, "version": str(version), "url": url}, True)
    else:
        print(url, flush=True)
    return DONE


def _keras_files(arguments: argparse.Namespace) -> list[Path]:
    """The Keras files to write. UsageError: an ending that is another format's."""
    from ladle.training.errors import UsageError

    files = []
    for option, ending in options.KERAS_FILES.items():
        path: Path | None = getattr(arguments, option)
        if path is None:
            continue
        # `.weights.h5` also ends in `.h5`, but Keras reads it as weights alone.
        if not path.name.endswith(ending) or (option == "h5" and path.name.endswith(".weights.h5")):
            raise UsageError(f"--{option}: got {path.name}; expected a name that ends in {ending}")
        files.append(path)
    return files


def _request(network: Network, arguments: argparse.Namespace) -> Request:
    """What the command line asks of one network."""
    from ladle.training import data
    from ladle.training.errors import UsageError
    from ladle.training.loop import config
    from ladle.training.run import request

    given = {k: v for k, v in vars(arguments).items() if k in arguments.options}
    path = _own_path(arguments)
    name = arguments.data
    if name in data.names() or (name is not None and arguments.data_path is not None):
        given["data"] = name
    usual = {*config.types(network.config)}
    table: dict[str, Any] = {}
    if name is None or given.get("data") in (None, "table"):
        network, table, sentence = request.for_table(
            network, path, arguments.target, arguments.task, arguments.skip_broken
        )
        if sentence:
            print(f"{network.name}: {sentence}", file=sys.stderr, flush=True)
    elif arguments.target is not None or arguments.task is not None:
        raise UsageError(f"--target and --task belong to a table of your own; got the data set {given['data']}")
    # Options of the other named networks do not apply to this one.
    fields = config.types(network.config)
    if table and (wrong := sorted((given.keys() & usual) - fields.keys())):
        option = wrong[0].replace("_", "-")
        raise UsageError(f"{network.name}: --{option} does not apply to a table; leave it out")
    given |= table
    return request.compose_own(
        network,
        config.preset_of(network, arguments.preset, arguments.config),
        {k: v for k, v in given.items() if k in fields},
        arguments.config,
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
        name=arguments.name,
        skip_broken=arguments.skip_broken,
    )


def _own_path(arguments: argparse.Namespace) -> Path | None:
    """The user's own files: what --data-path names, or --data if it names no data set. UsageError: there are none."""
    from ladle.training import data
    from ladle.training.errors import UsageError

    path: Path | None = arguments.data_path
    if path is None and arguments.data is not None and arguments.data not in data.names():
        path = Path(arguments.data)
    if path is None or path.expanduser().exists():
        return path
    home = path.expanduser().parent
    beside = [file.name for file in home.iterdir()] if home.is_dir() else []
    near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, beside, 1)]
    if arguments.data_path is None:
        near += difflib.get_close_matches(arguments.data, data.names(), 1)
    what = "data set, file or folder" if arguments.data_path is None else "file or folder"
    advice = f"did you mean {' or '.join(near)}?" if near else "`ladle data` lists the data sets"
    raise UsageError(f"{path}: no such {what}; {advice}")


def _networks_named(given: Sequence[str]) -> list[Network]:
    """The networks whose options the command line may hold: those it names, else all; none for other commands.

    Also none for `train --help`, which is short without the options of all networks.
    """
    if not given or given[0] != "train" or (len(given) > 1 and {*given[1:]} <= {"-h", "--help"}):
        return []
    from ladle import models

    names = models.names()
    named = [word for word in given[1:] if word in names]
    return [models.described(name) for name in named or names]


def _described(name: str) -> Network:
    """A network without its builder. UsageError: there is none of that name."""
    from ladle import models
    from ladle.training.errors import UsageError

    try:
        return models.described(name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
        return
    from ladle.training.loop.progress import shown

    figures = {k: v for k, v in answer.get("metrics", {}).items() if isinstance(v, int | float)}
    print(f"{answer['version']}  {shown(figures)}".rstrip(), flush=True)


def _fail(arguments: argparse.Namespace, error: object, code: int) -> int:
    print(f"{arguments.parser.prog}: {error}", file=sys.stderr)
    return code


def _start_tensorflow() -> None:
    """Import TensorFlow without its start-up messages; with TF_CPP_MIN_LOG_LEVEL=0 it prints them."""
    if "tensorflow" not in sys.modules:
        with importing_tensorflow():
            from ladle.training.loop import devices

            devices.start()


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    # As Ctrl-C: between the training loops, which have handlers of their own, there is nothing to save.
    raise KeyboardInterrupt


VERBS = {"list": _list, "train": _train, "evaluate": _evaluate, "export": _export}


def _alone() -> int:
    """`main`, for `python -m ladle.training`: 141 if the reader of the output has left, as `head` does."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes nowhere, without an error at the end
        return READER_LEFT
    return status


if __name__ == "__main__":
    sys.exit(_alone())
