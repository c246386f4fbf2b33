"""`ladle config`: writes the configuration files for TensorFlow Serving's container or the embedded server."""

from __future__ import annotations

import argparse
import errno
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.clients.wire.versions import find_versions
from ladle.serving.config_writer import index, traffic
from ladle.serving.config_writer.labels import LabelRequest, Plan, decide
from ladle.serving.config_writer.merging import can_be_merged, version_parameters, write_parameters
from ladle.serving.config_writer.traffic import TRAFFIC
from ladle.serving.errors import ServingError
from ladle.serving.repository.config import read_models
from ladle.serving.repository.folders import ModelConfig, Policy
from ladle.serving.runtime.paths import MODEL_NAMES
from ladle.serving.runtime.text_proto import read_text_proto
from ladle.serving.stores import location
from ladle.serving.stores.catalog import INDEX
from ladle.serving.stores.location import is_remote
from ladle.serving.stores.mirror import look

MODELS, BATCHING, MONITORING = "models.config", "batching.config", "monitoring.config"
SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
"""A version holds one of these files."""
DESCRIPTION = f"""\
Write {MODELS} for every model of a repository, with the labels stable and canary. Also write {BATCHING} and
{MONITORING}, unless they exist. A running server reads {MODELS} again.

The label stable keeps its version; canary moves to the newest one. A label moves only to a version that the previous
file already loads. So run this twice after a new version, and check `ladle status` in between.

--split and --shadow also write {TRAFFIC}, for the embedded server's --traffic_config_file; a server that runs reads it
again. A {TRAFFIC} that is there is checked each time.
"""
EPILOG = """examples:
  ladle config                                              model_repository, mounted at /models
  ladle config --promote unet                               stable moves to canary's version
  ladle config --stable unet=1                              and moves back
  ladle config --shadow unet=unet/canary                    traffic.json: canary gets a copy of each request
  ladle config --split unet=stable:95,canary:5              and answers one in twenty of them
  ladle config --split unet= --shadow unet=                 and neither
  ladle config --repository models --mounted-at /srv/models --output conf
  ladle config --repository s3://bucket/models              ./models.config with base paths in the bucket
  ladle config --index                                      the list of files for a web server that shows the folder
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files. The exit code: 0 done, 1 failed, 2 misused."""
    given = build_parser().parse_args(argv)
    is_stored = is_remote(given.repository)
    output = given.output or (Path() if is_stored else Path(given.repository))
    try:
        found = _stored_models(given.repository) if is_stored else _models(Path(given.repository))
        if is_stored and given.index:
            raise ValueError("--index: only a folder that a web server shows needs a list; leave it out")
        given.mounted_at = given.mounted_at or (given.repository if is_stored else "/models")
        requests = _requests(given, found)
        before = {model.name: model for model in read_models(output / MODELS)} if (output / MODELS).exists() else {}
        plans = {name: _plan(name, versions, before.get(name), requests) for name, versions in found.items()}
        routed = traffic.change(output / TRAFFIC, given.split, given.shadow, _planned(plans))
        merged = _write(output, plans, {} if is_stored else found, given.mounted_at)
        if routed is not None and (given.split or given.shadow):
            _replace(output / TRAFFIC, routed)
        if given.index:
            index.write(Path(given.repository), found)
    except ServingError as error:
        print(f"ladle config: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ladle config: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"ladle config: {error}", file=sys.stderr)
        return 2
    gone = sorted(set(before) - set(found))
    if given.json:
        print(json.dumps({"models": _as_json(plans, merged), "gone": gone, "folder": str(output)}, indent=2))
    else:
        print(_as_text(plans, merged, gone, output))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The options of `ladle config`."""
    parser = _Parser(
        prog="ladle config",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--repository",
        default="model_repository",
        metavar="DIR",
        help="folder of the models, or s3://, gs://, az:// or https:// (default: %(default)s)",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the files (default: the repository, or the current folder if that is in a store)",
    )
    add(
        "--mounted-at",
        metavar="PATH",
        help="absolute path of the repository as the server sees it (default: /models, as in the containers; of a "
        "repository in a store, its URL)",
    )
    add("--index", action="store_true", help=f"write {INDEX}, too, which https:// repositories need")
    add("--stable", action="append", default=[], metavar="NAME=VERSION", help="version for stable; repeatable")
    add("--canary", action="append", default=[], metavar="NAME=VERSION", help="version for canary; repeatable")
    add("--promote", action="append", default=[], metavar="NAME", help="move stable to canary's version; repeatable")
    add(
        "--split",
        action="append",
        default=[],
        metavar="NAME=LABEL:PERCENT,…",
        help="share requests to a model among versions; NAME/SPLIT= for another split than default, NAME= for none; "
        "repeatable",
    )
    add(
        "--shadow",
        action="append",
        default=[],
        metavar="NAME=MODEL/LABEL[:PERCENT]",
        help="copy requests to a version and compare its answers; NAME= for none; repeatable",
    )
    add("--json", action="store_true", help="answer in JSON")
    return parser


def _models(repository: Path) -> dict[str, dict[int, Path]]:
    """The SavedModels of a repository: name -> version -> folder. OSError or ValueError when there is none."""
    if not repository.is_dir():
        advice = "`ladle train lenet5 --preset quick` makes one, --repository names another"
        raise FileNotFoundError(errno.ENOENT, f"no such folder; {advice}", str(repository))
    found = {}
    for folder in sorted(repository.iterdir()):
        if not folder.is_dir() or not re.fullmatch(MODEL_NAMES, folder.name):
            continue
        versions = find_versions(folder).items()
        whole = {n: path for n, path in versions if any((path / name).is_file() for name in SAVED_MODELS)}
        if whole:
            found[folder.name] = whole
    if not found:
        raise ValueError(
            f"{repository} has no <name>/<version>/saved_model.pb or .pbtxt; `ladle train lenet5` makes one"
        )
    return found


def _stored_models(url: str) -> dict[str, dict[int, Path]]:
    """The versions in a store, by model; their folders are only names. ServingError when the store fails."""
    found = {
        model: {number: Path(version.path) for number, version in sorted(versions.items()) if version.has_model}
        for model, versions in sorted(look(location.parse(url)).models.items())
        if re.fullmatch(MODEL_NAMES, model)
    }
    if not any(found.values()):
        raise ValueError(
            f"{url} has no <name>/<version>/saved_model.pb or .pbtxt; `ladle export NAME --to` puts one there"
        )
    return {model: versions for model, versions in found.items() if versions}


def _requests(given: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, LabelRequest]:
    """The options --stable, --canary and --promote, by model. ValueError names a bad option."""
    if not given.mounted_at.startswith("/") and not is_remote(given.mounted_at):
        raise ValueError(f"got --mounted-at {given.mounted_at}; expected an absolute path, for example /models")
    asked: dict[str, dict[str, Any]] = {name: {"promote": True} for name in given.promote}
    for label in ("stable", "canary"):
        for text in getattr(given, label):
            name, _, version = text.partition("=")
            if not re.fullmatch("[1-9][0-9]{0,17}", version):
                raise ValueError(f"got --{label} {text}; expected NAME=VERSION, for example unet=2")
            asked.setdefault(name, {})[label] = int(version)
    for name, request in asked.items():
        if name not in found:
            raise ValueError(f"got model {name}; expected one of {', '.join(found)}")
        if "promote" in request and len(request) > 1:
            raise ValueError(
                f"{name}: got --promote with --stable or --canary; give one: --promote moves the label by itself"
            )
    return {name: LabelRequest(**request) for name, request in asked.items()}


def _plan(
    name: str, versions: Mapping[int, Path], before: ModelConfig | None, requests: Mapping[str, LabelRequest]
) -> Plan:
    try:
        return decide(list(versions), before, requests.get(name, LabelRequest()))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _write(
    output: Path, plans: Mapping[str, Plan], found: Mapping[str, Mapping[int, Path]], mounted_at: str
) -> dict[str, list[int]]:
    """Write all files; return the versions whose requests can be batched, by model.

    found  folders of the versions, which get a file if they can be batched; of a store, none
    """
    output.mkdir(parents=True, exist_ok=True)
    ours = resources.files(__package__)
    for name in (BATCHING, MONITORING):
        if not (output / name).exists():
            (output / name).write_text((ours / name).read_text())
    # The files of versions come before models.config: a server that reads it loads a version with its parameters.
    text = version_parameters(read_text_proto(output / BATCHING, pb.BatchingParameters))
    merged = {
        model: [version for version in plan.versions if model in found and can_be_merged(found[model][version])]
        for model, plan in plans.items()
    }
    for model, versions in merged.items():
        for version in versions:
            write_parameters(found[model][version], text)
    _replace(output / MODELS, as_config(plans, mounted_at))
    return merged


def _replace(path: Path, text: str) -> None:
    """Write a file so that a server that reads it meanwhile sees the old one or the new one, never half of it."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text)
    draft.rename(path)


def _planned(plans: Mapping[str, Plan]) -> list[ModelConfig]:
    """The models as the new models.config has them."""
    return [
        ModelConfig(name, Path(name), Policy("specific", versions=tuple(plan.versions)), plan.labels)
        for name, plan in plans.items()
    ]


def as_config(plans: Mapping[str, Plan], mounted_at: str) -> str:
    """A ModelServerConfig in text format."""
    config = pb.ModelServerConfig()
    for name, plan in plans.items():
        entry = config.model_config_list.config.add(
            name=name, base_path=f"{mounted_at.rstrip('/')}/{name}", model_platform="tensorflow"
        )
        entry.model_version_policy.specific.versions.extend(plan.versions)
        entry.version_labels.update(plan.labels)
    return str(text_format.MessageToString(config))


def _as_json(plans: Mapping[str, Plan], merged: Mapping[str, list[int]]) -> dict[str, Any]:
    return {
        name: {
            "versions": plan.versions,
            "labels": plan.labels,
            "pending": plan.pending,
            "merged": merged[name],
        }
        for name, plan in plans.items()
    }


def _as_text(plans: Mapping[str, Plan], merged: Mapping[str, list[int]], gone: Sequence[str], output: Path) -> str:
    width = max(map(len, plans))
    lines = []
    for name, plan in plans.items():
        labels = "  ".join(f"{label} {version}" for label, version in plan.labels.items())
        loaded = f"loads {', '.join(map(str, plan.versions))}"
        batches = "" if merged[name] else "  no batching"
        lines.append(f"{name:<{width}}  {labels}  {loaded}{batches}")
        if plan.pending:
            moves = " and ".join(f"{label} to {version}" for label, version in plan.pending.items())
            lines.append(f"{'':<{width}}  when `ladle status {name}` shows AVAILABLE, run this again to move {moves}")
    lines += [f"{name} is gone" for name in gone]
    return "\n".join([*lines, f"wrote {output / MODELS}"])


if __name__ == "__main__":
    sys.exit(main())
