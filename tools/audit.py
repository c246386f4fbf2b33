"""Checks the locked packages against known holes: the floors in requirements/floors.toml, then the advisories of today.

    python -m tools.audit              both; `make audit`
    python -m tools.audit --offline    the floors alone

The floors are in the repository, so they hold without a network. The advisories come from `pip-audit`, which uv
fetches; where it or its service cannot be reached, the command says so and the floors decide.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (
    "requirements.lock",
    "requirements/server.lock",
    "requirements/gateway.lock",
    "requirements/train.lock",
    "requirements/compile.lock",
)
_PIP_AUDIT = "pip-audit==2.10.1"


def read_floors() -> tuple[str, dict[str, dict[str, Any]]]:
    """The day of the last check, and floor, advisories and hole by package."""
    found = tomllib.loads((ROOT / "requirements/floors.toml").read_text())
    checked = found.pop("checked")
    return str(checked), found


def pins(lock: str) -> list[tuple[str, str]]:
    """Names and versions that a lock pins; a package may have several, for different systems."""
    return re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^ ;\\]+)", lock, re.MULTILINE)


def below_floor(found: Sequence[tuple[str, str]], floors: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A sentence for each pinned package that is older than its floor."""
    for name, version in found:
        floor = floors.get(name)
        if floor is not None and Version(version) < Version(floor["floor"]):
            yield (
                f"got {name} {version}; expected {floor['floor']} or later: {floor['hole']} "
                f"({', '.join(floor['advisories'])})"
            )


def allowed_below_floor(requirements: Sequence[str], floors: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A sentence for each requirement of pyproject.toml that allows a version below the package's floor."""
    for text in requirements:
        requirement = Requirement(text)
        floor = floors.get(requirement.name)
        lowest = max((Version(each.version) for each in requirement.specifier if each.operator == ">="), default=None)
        if floor is not None and (lowest is None or lowest < Version(floor["floor"])):
            yield f"got {text}; expected {requirement.name}>={floor['floor']}: {floor['hole']}"


def requirements() -> list[str]:
    """All requirements of pyproject.toml, those of the extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(text for extra in extras for text in extra)]


def advisories(lock: Path) -> tuple[list[str], int] | None:
    """A sentence for each advisory, and how many packages were looked up; None where nothing could be asked."""
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), "tool", "run", _PIP_AUDIT, "--disable-pip", "--require-hashes", "--progress-spinner=off"]
    done = subprocess.run([*command, "--format=json", "-r", str(lock)], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    asked = [package for package in found if "skip_reason" not in package]  # the service knows none of the others
    sentences = [
        f"got {package['name']} {package['version']}; {hole['id']} ({', '.join(hole['aliases'])}) is fixed in "
        f"{' or '.join(hole['fix_versions']) or 'no release yet'}"
        for package in asked
        for hole in package["vulns"]
    ]
    return sentences, len(asked)


def main(arguments: Sequence[str]) -> int:
    """Prints what is wrong; the exit status: 1 if anything is."""
    parser = argparse.ArgumentParser(description="Check the locked packages against known holes.")
    parser.add_argument("--offline", action="store_true", help="check only against requirements/floors.toml")
    given = parser.parse_args(arguments)
    checked, floors = read_floors()
    wrong = [f"pyproject.toml: {text}" for text in allowed_below_floor(requirements(), floors)]
    for lock in LOCKS:
        wrong += [f"{lock}: {text}" for text in below_floor(pins((ROOT / lock).read_text()), floors)]
    print(f"{len(LOCKS)} locks and pyproject.toml against {len(floors)} floors of {checked}")
    if not given.offline:
        for lock in LOCKS:
            sentences, asked = advisories(ROOT / lock) or ([], 0)
            wrong += [f"{lock}: {text}" for text in sentences]
            pinned = len(set(pins((ROOT / lock).read_text())))
            if asked:
                print(f"{lock}: {asked} of {pinned} packages against the advisories of today")
            else:
                print(f"{lock}: nobody answers for today's advisories; only the floors were checked")
    print(*wrong, sep="\n" if wrong else "", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
