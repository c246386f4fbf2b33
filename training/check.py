"""Command line of `python -m ladle.training.check`: can TensorFlow Serving load what was exported, and run it?

The process has what `tensorflow_model_server` has: TensorFlow's own operations. Keras cannot be imported, and a version
is loaded as a graph into a session, never as Python objects.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ladle.training.quiet import without_stderr

# TensorFlow tells of its own start-up otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BLOCKED = ("keras", "tf_keras", "tensorflow_text", "tensorflow_addons")
"""Packages that an operation or a class might come from; no server has them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 if every version can be served, 1 if one cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m ladle.training.check",
        description="Load every version of a model repository as TensorFlow Serving does, list its operations and run "
        "each signature on its recorded request.",
        epilog="examples:\n  python -m ladle.training.check model_repository\n"
        "  python -m ladle.training.check /models --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repository", type=Path, help="folder that holds <name>/<version>/")
    parser.add_argument("--list", action="store_true", help="name every operation")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")
    arguments = parser.parse_args(argv)
    for name in BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
    with without_stderr():
        from ladle.training.export.tfserving_check import check

    versions = sorted(path.parent for path in arguments.repository.glob("*/*/saved_model.pb"))
    if not versions:
        print(f"check: {arguments.repository} holds no <name>/<version>/saved_model.pb", file=sys.stderr)
        return 1
    found = {}
    for version in versions:
        with without_stderr():
            result = found[f"{version.parent.name}/{version.name}"] = check(version)
        if not arguments.json:
            print(f"{version.parent.name} version {version.name}: {result}")
            if arguments.list:
                print(f"  {' '.join(result.operations)}")
            for fault in result.faults:
                print(f"  {fault}")
    if arguments.json:
        print(json.dumps({name: dataclasses.asdict(result) for name, result in found.items()}, indent=1))
    return 1 if any(result.faults for result in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
