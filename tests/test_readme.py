"""Every command of the README that asks something works as written, in the README's own folder layout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def room(zoo: Path, serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A folder as `make demo` leaves it, with its server on ports that were free."""
    home = tmp_path_factory.mktemp("readme")
    (home / "model_repository").symlink_to(zoo)
    server = serve("--repository", zoo, models=[model.name for model in zoo.iterdir()])
    return home, {"8500": server.grpc_port, "8501": server.rest_port}


def with_ports(text: str, ports: dict[str, int]) -> str:
    return re.sub(r"localhost:(\d+)", lambda found: f"localhost:{ports[found[1]]}", text)


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[f"{n}-{b[0]}" for n, b in enumerate(BLOCKS)])
def test_a_block_of_the_readme_runs(language: str, code: str, room: tuple[Path, dict[str, int]]) -> None:
    home, ports = room
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LADLE_ADDRESS": f"grpc://localhost:{ports['8500']}",
    }
    done = subprocess.run([*command, with_ports(code, ports)], cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


def test_the_readme_has_a_measured_figure_of_every_headline_network() -> None:
    for name in ("lenet5", "resnet18", "sentiment_lstm", "unet", "vae", "wgan_gp"):
        assert re.search(rf"^\| `{name}` \| quick \| \w+ \| test, ", README, re.MULTILINE), name


def test_the_readme_names_only_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_readme_names_only_verbs_that_ladle_has() -> None:
    help_text = subprocess.run([sys.executable, "-m", "ladle", "--help"], capture_output=True, text=True).stdout
    named = set(re.findall(r"^(?: {4})?ladle ([a-z]+)", README, re.MULTILINE))
    assert len(named) > 8
    assert not {verb for verb in named if not re.search(rf"^\s+{verb}\b", help_text, re.MULTILINE)}
