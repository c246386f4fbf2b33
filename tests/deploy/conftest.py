"""The Dockerfile's stages and the services of compose.yaml, for the tests that check them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """A stage of the Dockerfile: what it is made from, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, name: str) -> list[str]:
        """The arguments of the last ENTRYPOINT, CMD, in the form of a list."""
        values = [value for instruction, value in self.instructions if instruction == name]
        return [str(part) for part in json.loads(values[-1])] if values else []

    def health(self) -> list[str]:
        """The command of the health check."""
        (value,) = [value for instruction, value in self.instructions if instruction == "HEALTHCHECK"]
        return [str(part) for part in json.loads(value.partition("CMD ")[2])]


@pytest.fixture(scope="session")
def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile, by name."""
    found: dict[str, Stage] = {}
    current = Stage("")
    for entry in DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes())).structure:
        name, value = entry["instruction"], entry["value"]
        if name == "FROM":
            base, _, stage = value.partition(" AS ")
            current = found[stage] = Stage(base)
        elif name != "COMMENT":
            current.instructions.append((name, value))
    return found


@pytest.fixture(scope="session")
def services() -> Mapping[str, Any]:
    """The services of compose.yaml, by name."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found
