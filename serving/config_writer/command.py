"""`ladle config`: writes the files that TensorFlow Serving's container, or the embedded server, starts with."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.serving.config_writer.labels import Plan, Wish, decide
from ladle.serving.config_writer.merging import can_be_merged, version_parameters, write_parameters
from ladle.serving.errors import ServingError
from ladle.serving.repository.config import read_models
from ladle.serving.repository.folders import MODEL_NAMES, ModelConfig, find_versions
from ladle.serving.runtime.text_proto import read_text_proto

MODELS, BATCHING, MONITORING = "models.config", "batching.config", "monitoring.config"
DESCRIPTION = f"""\
Write {MODELS} for every model of a repository, with the labels stable and canary, beside {BATCHING} and
{MONITORING}, which are kept where they are there. A server that runs reads {MODELS} again.

stable stays where it was, canary goes to the newest version. A label moves only to a version that the file before
already loads: after a new version, run it twice, and look at `ladle status` in between.
"""
EPILOG = """examples:
  ladle config                                              model_repository, mounted at /models
  ladle config --promote unet                               stable takes the version of canary
  ladle config --stable unet=1                              and back
  ladle config --repository models --mounted-at /srv/models --output conf
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; the exit code: 0 done, 1 failed, 2 misused."""
    given = build_parser().parse_args(argv)
    output = given.output or given.repository
    try:
        found = _models(given.repository)
        wishes = _wishes(given, found)
        before = {model.name: model for model in read_models(output / MODELS)} if (output / MODELS).exists() else {}
        plans = {name: _plan(name, versions, before.get(name), wishes) for name, versions in found.items()}
        merged = _write(output, plans, found, given.mounted_at)
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


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle config`."""
    parser = argparse.ArgumentParser(
        prog="ladle config",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="folder of the models (default: %(default)s)",
    )
    add("--output", type=Path, metavar="DIR", help="folder for the files (default: the repository)")
    add(
        "--mounted-at",
        default="/models",
        metavar="PATH",
        help="where the server sees the repository, an absolute path (default: %(default)s, as in the containers)",
    )
    add("--stable", action="append", default=[], metavar="NAME=VERSION", help="what stable names; repeatable")
    add("--canary", action="append", default=[], metavar="NAME=VERSION", help="what canary names; repeatable")
    add("--promote", action="append", default=[], metavar="NAME", help="stable takes canary's version; repeatable")
    add("--json", action="store_true", help="answer in JSON")
    return parser


def _models(repository: Path) -> dict[str, dict[int, Path]]:
    """The SavedModels of a repository: name -> version -> folder. FileNotFoundError, ValueError: there is none."""
    found = {}
    for folder in sorted(repository.iterdir()):
        if not folder.is_dir() or not re.fullmatch(MODEL_NAMES, folder.name):
            continue
        versions = find_versions(folder) or {}
        whole = {number: path for number, path in versions.items() if (path / "saved_model.pb").is_file()}
        if whole:
            found[folder.name] = whole
    if not found:
        raise ValueError(f"{repository} has no <name>/<version>/saved_model.pb; `ladle train lenet5` makes one")
    return found


def _wishes(given: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, Wish]:
    """What the options ask for, by model. ValueError names an option that cannot be read."""
    if not given.mounted_at.startswith("/"):
        raise ValueError(f"--mounted-at {given.mounted_at}: wanted an absolute path, as /models")
    asked: dict[str, dict[str, Any]] = {name: {"promote": True} for name in given.promote}
    for label in ("stable", "canary"):
        for text in getattr(given, label):
            name, _, version = text.partition("=")
            if not re.fullmatch("[1-9][0-9]{0,17}", version):
                raise ValueError(f"--{label} {text}: wanted NAME=VERSION, as unet=2")
            asked.setdefault(name, {})[label] = int(version)
    for name, wish in asked.items():
        if name not in found:
            raise ValueError(f"there is no model {name}; there is {', '.join(found)}")
        if "promote" in wish and len(wish) > 1:
            raise ValueError(f"{name}: --promote moves its labels, so --stable and --canary cannot; say one")
    return {name: Wish(**wish) for name, wish in asked.items()}


def _plan(name: str, versions: Mapping[int, Path], before: ModelConfig | None, wishes: Mapping[str, Wish]) -> Plan:
    try:
        return decide(list(versions), before, wishes.get(name, Wish()))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _write(
    output: Path, plans: Mapping[str, Plan], found: Mapping[str, Mapping[int, Path]], mounted_at: str
) -> dict[str, list[int]]:
    """Writes all files; the versions that may be merged, by model."""
    output.mkdir(parents=True, exist_ok=True)
    ours = resources.files(__package__)
    for name in (BATCHING, MONITORING):
        if not (output / name).exists():
            (output / name).write_text((ours / name).read_text())
    text = version_parameters(read_text_proto(output / BATCHING, pb.BatchingParameters))
    merged = {
        model: [version for version in plan.versions if can_be_merged(found[model][version])]
        for model, plan in plans.items()
    }
    for model, versions in merged.items():
        for version in versions:
            write_parameters(found[model][version], text)
    draft = output / f".{MODELS}"
    draft.write_text(as_config(plans, mounted_at))
    draft.rename(output / MODELS)  # a server that reads it sees all of it
    return merged


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
        batches = "" if merged[name] else "  not merged into batches"
        lines.append(f"{name:<{width}}  {labels}  {loaded}{batches}")
        if plan.pending:
            moves = " and ".join(f"{label} to {version}" for label, version in plan.pending.items())
            lines.append(f"{'':<{width}}  once `ladle status {name}` says AVAILABLE, run this again: it moves {moves}")
    lines += [f"{name} is not there any more" for name in gone]
    return "\n".join([*lines, f"wrote {output / MODELS}"])


if __name__ == "__main__":
    sys.exit(main())
