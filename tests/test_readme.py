"""The README keeps its word: its commands run as written, its pictures and links exist, its figures are recorded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import blocks
from tests.blocks import ROOT, Block

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for block in blocks.read(ROOT / "README.md") if block.language in ("sh", "python")]
TRAINED_BESIDE = ("denoising_autoencoder", "himmelblau")  # what its examples ask beyond the six networks of `make demo`
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def room(zoo: Path, serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A folder as `make demo` and the README's training command leave it, with its server on ports that were free."""
    from ladle import models as registry
    from ladle.training.run import session

    home = tmp_path_factory.mktemp("readme")
    repository = home / "model_repository"
    for name in TRAINED_BESIDE:
        overrides = dict(registry.get(name).tiny)
        session.run(name, overrides=overrides, synthetic=True, repository=repository, runs=home / "runs")
    shutil.copytree(zoo, repository, dirs_exist_ok=True)
    server = serve("--repository", repository, models=[model.name for model in repository.iterdir()])
    return home, {"8500": server.grpc_port, "8501": server.rest_port}


@pytest.mark.parametrize("block", BLOCKS, ids=[block.where for block in BLOCKS])
def test_a_block_of_the_readme_runs(block: Block, room: tuple[Path, dict[str, int]]) -> None:
    done = blocks.run(block, *room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


def test_the_readme_trains_what_its_examples_ask_beyond_the_showcase() -> None:
    assert f"ladle train {' '.join(TRAINED_BESIDE)} " in README


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = set(re.findall(r"\]\(([^)#]+)", README))
    assert len(links) > 10
    assert not sorted(link for link in links if "://" not in link and not (ROOT / link).exists())


def test_the_pictures_are_shown_with_words_and_are_small() -> None:
    shown = dict(re.findall(r"!\[([^\]]*)\]\((docs/pictures/[^)]+)\)", README))
    assert {ROOT / file for file in shown.values()} == set(PICTURES.glob("*.png"))
    assert all(len(words) > 10 for words in shown)
    sizes = {path.name: path.stat().st_size for path in PICTURES.glob("*.png")}
    assert max(sizes.values()) <= 150_000, sizes
    assert sum(sizes.values()) <= 600_000, sizes
    with Image.open(PICTURES / "page.png") as page:
        assert page.width >= 1280


def test_the_figures_of_the_readme_are_the_recorded_ones() -> None:
    from ladle.training.report import results

    entries = json.loads((ROOT / "docs" / "results.json").read_text())
    assert results.with_table(README, entries) == README


def test_examples_that_add_noise_ask_a_network_that_removed_it_when_it_was_measured() -> None:
    pages = [ROOT / "README.md", ROOT / "clients" / "cli" / "parser.py", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    asked = set(re.findall(r"ladle reconstruct (\w+) [^\n]*--noise", text))
    assert asked
    for entry in json.loads((ROOT / "docs" / "results.json").read_text()):
        if entry["network"] in asked:
            assert entry["metrics"]["mended_squared_error"] < entry["metrics"]["corrupted_squared_error"]


def test_the_readme_names_only_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ {4}|`|^\$ )make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_readme_names_only_verbs_that_ladle_has() -> None:
    help_text = subprocess.run([sys.executable, "-m", "ladle", "--help"], capture_output=True, text=True).stdout
    named = set(re.findall(r"^(?: {4})?ladle ([a-z]+)", README, re.MULTILINE))
    assert len(named) > 8
    assert not {verb for verb in named if not re.search(rf"^\s+{verb}\b", help_text, re.MULTILINE)}
