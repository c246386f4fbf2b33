"""The blocks of code in docs/: each runs as written, or says why not and is at least understood by its command."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import blocks, conftest
from tests.blocks import ROOT, Block

DOCS = ROOT / "docs"
WRITTEN_BY_COMMANDS = {"benchmarks.md", "gpu.md", "optimized-models.md", "results.md", "training-speed.md"}
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.name not in WRITTEN_BY_COMMANDS)
BLOCKS = [block for page in PAGES for block in blocks.read(page)]

NOT_RUN = {
    "trains": "training takes minutes and real data; tests/training and `make slow` train",
    "makes": "a target of the Makefile, which other tests check or are",
    "installs": "changes an environment; tests/test_install.py installs the wheel",
    "serves": "runs until it is stopped; every block that is run has such servers beside it",
    "docker": "needs Docker, which `make check-deploy` does without",
    "cluster": "needs a Kubernetes cluster; tests/deploy render and check what it is given",
    "other-host": "names a host that does not exist",
    "needs-data": "fetches a data set or needs one",
    "needs-savedmodel": "needs a SavedModel of the reader's; tests/training convert some",
    "needs-grpcurl": "needs grpcurl; tests/serving/grpc ask the reflection service",
    "needs-protoc": "needs protoc and grpc-java",
    "takes-long": "measures, imports TensorFlow or loads every model with it; other tests run it on less",
    "destroys": "renames what other blocks ask",
    "fragment": "a part of a program",
}
"""Why a block is not run: the word behind `<!-- not run:` and its meaning."""
PROGRAMS = {"sh": "bash", "python": sys.executable, "js": "node", "go": "go", "java": "java"}
"""What runs a language; a test is skipped where it is not installed."""
SHOWN = {"text", "json"}
"""Languages of output, layouts and examples of files."""

RUN = [block for block in BLOCKS if block.language in PROGRAMS and not block.mark]
LEFT_OUT = [block for block in BLOCKS if block.mark == "not run"]


ASKABLE = [name for name in conftest.SHOWN if any(re.search(rf"\b{name}\b", block.code) for block in RUN)]
"""The networks that blocks ask: no other is trained for them."""


@pytest.fixture(scope="module")
def room(
    trained_networks: Callable[..., Path],
    serve: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, dict[str, int]]]:
    """A folder as `make demo` leaves it, with a model server and a gateway on ports that were free."""
    from werkzeug.serving import make_server

    from ladle.clients.web import create_app
    from ladle.clients.web.config import Config

    home = tmp_path_factory.mktemp("docs")
    repository = shutil.copytree(trained_networks(ASKABLE), home / "model_repository")
    server = serve("--repository", repository, models=[model.name for model in repository.iterdir()])
    addresses = f"grpc://localhost:{server.grpc_port}", f"http://localhost:{server.rest_port}"
    config = Config(server=addresses[0], rest=addresses[1], repository=repository)
    gateway = make_server("127.0.0.1", 0, create_app(config), threaded=True)
    thread = threading.Thread(target=gateway.serve_forever)
    thread.start()
    yield home, {"8500": server.grpc_port, "8501": server.rest_port, "8080": gateway.server_port}
    gateway.shutdown()
    thread.join()
    gateway.server_close()


@pytest.mark.parametrize("block", RUN, ids=[block.where for block in RUN])
def test_a_block_runs(block: Block, room: tuple[Path, dict[str, int]]) -> None:
    if shutil.which(PROGRAMS[block.language]) is None:
        pytest.skip(f"{PROGRAMS[block.language]} is not installed")
    done = blocks.run(block, *room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '"error": "' not in done.stdout


def test_every_block_is_of_a_known_language_and_every_reason_is_a_known_one() -> None:
    assert len(RUN) > 30
    assert {block.language for block in BLOCKS} <= {*PROGRAMS, *SHOWN}
    assert {block.reason for block in LEFT_OUT} == set(NOT_RUN)
    comments = [comment for page in PAGES for comment in re.findall(r"<!-- (?:not )?run: .*", page.read_text())]
    assert len(comments) == sum(1 for block in BLOCKS if block.mark), "a comment stands alone, or its reason has blanks"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(DOCS)) for page in PAGES])
def test_code_is_fenced(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"\n\n(?: {4}|\t)\S.*", prose), "an indented block is run by no test"


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block."""
    lines = re.sub(r"\\\n", " ", block.code).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


ASKED = [
    (block.where, words[words.index("ladle") :] if words[0] != "python" else words)
    for block in LEFT_OUT
    if block.language == "sh" and block.reason != "needs-protoc"
    for words in commands(block)
    if words[0] in ("ladle", "python")
]


@pytest.mark.parametrize(("where", "words"), ASKED, ids=[f"{where} {' '.join(words)}" for where, words in ASKED])
def test_a_command_that_is_not_run_is_understood(
    where: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if words[:4] == ["ladle", "serve", "--on", "ray"]:
        from ladle.serving.ray_serve.command import build_parser

        assert build_parser().parse_args(words[2:])
    elif words[:3] == ["python", "-m", "ladle.serving"] or words[:2] == ["ladle", "serve"]:
        from ladle import serve_command
        from ladle.serving import flags

        flags.parse(words[3:] if words[0] == "python" else serve_command.server_flags(words[2:]))
        assert "unknown argument" not in capsys.readouterr().err
    elif words[0] == "ladle" and "--help" not in words:
        assert parser(words[1], words[2:]).parse_args(words[2:])


def parser(verb: str, arguments: list[str]) -> argparse.ArgumentParser:
    """The parser of a verb; for `train` with the options of the networks that are named."""
    from ladle import command
    from ladle.clients.cli import completion
    from ladle.training.__main__ import build_parser

    if verb != "train":
        return command.VERBS[verb].parser()
    # The example network of docs/network.md is no registered one; its options are those of any classifier.
    named = ["lenet5" if name == "small_cnn" else name for name in arguments]
    return completion.of_verb(build_parser(["train", *named]), "train")


@pytest.mark.slow
def test_the_example_network_is_built_trained_served_and_asked(tmp_path: Path, serve: Callable[..., Any]) -> None:
    [block] = [block for block in BLOCKS if block.reason == "network"]
    (tmp_path / "small_cnn.py").write_text(block.code)
    program = """if True:
        import sys
        from ladle import command, models
        models.__path__.append(sys.argv[1])
        network = models.get("small_cnn")
        config = network.configured()
        model = network.build(config)
        assert model.count_params() == network.parameters
        assets = models.Assets(labels=tuple("0123456789"))
        answers = network.signatures(model, config, assets)["serving_default"](**network.example(config))
        assert answers["probabilities"].shape == (4, 10)
        assert command.main(["networks"]) == 0
        few = ["--synthetic", "--train-limit", "200", "--epochs", "1", "--no-report"]
        sys.exit(command.main(["train", "small_cnn", *few]))
    """
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\nsmall_cnn " in done.stdout
    server = serve("--repository", tmp_path / "model_repository", models=["small_cnn"])
    [asking] = [block for block in BLOCKS if "ladle classify small_cnn" in block.code]
    ask = dataclasses.replace(asking, code=asking.code.replace("ladle serve\n", ""))
    done = blocks.run(ask, tmp_path, {"8500": server.grpc_port, "8501": server.rest_port})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.png  ")


def test_the_signature_on_the_page_of_the_card_is_one_of_a_real_card(
    trained_networks: Callable[..., Path],
) -> None:
    [block] = [block for block in blocks.read(DOCS / "reference" / "card.md") if block.language == "json"]
    card = json.loads((trained_networks(["lenet5"]) / "lenet5" / "1" / "assets.extra" / "card.json").read_text())
    assert json.loads(block.code) == card["signatures"]["serving_bytes"]
