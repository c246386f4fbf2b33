"""Every example that a `--help` ends with: asked of a live server, or, where it would take long, parsed."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from ladle import command as ladle_command
from ladle.clients.cli import completion

ROOT = Path(__file__).resolve().parent.parent
RUN = {*ladle_command.GROUPS["ask"], "report", "bench", "completion"}
"""Verbs whose examples are run; of the others it is seen that they parse."""
FRONTS = (
    (r"python -m ladle.training", ""),
    (r"python -m ladle.serving", "serve"),
    (r"ladle", ""),
)


def help_of(verb: str) -> str:
    if verb == "serve":  # the server ends its process
        command = [sys.executable, "-m", "ladle.serving", "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        ladle_command.main([verb, "--help"])
    return said.getvalue()


def examples(verb: str) -> list[list[str]]:
    """The arguments of `ladle` in each example of a verb's help; what explains them is left out."""
    found = []
    for line in re.split(r"(?im)^examples?:", help_of(verb))[-1].splitlines():
        line = line.strip()
        if line.startswith("in production"):
            break
        for pattern, instead in FRONTS:
            matched = re.match(rf"{pattern}\b\s*", line)
            if matched:
                plain = re.split(r"\s{3,}", line[matched.end() :])[0]
                found.append([*([instead] if instead else []), *shlex.split(plain, comments=True)])
                break
    return found


@pytest.fixture(scope="module")
def room(
    zoo: Path, serve: Callable[..., Any], tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A folder with the files that the examples name, and a server of small models."""
    home = tmp_path_factory.mktemp("help")
    repository = home / "model_repository"
    repository.mkdir()
    for model in zoo.iterdir():
        shutil.copytree(model, repository / model.name)
    shutil.copytree(zoo / "vae", repository / "denoising_autoencoder")  # the example of `ladle reconstruct`
    axis = {"axis": np.array([1])}
    for name, columns in (("house_prices", 13), ("linear_regression", 1)):
        rows = {"x": ("float32", [-1, columns])}
        answer = {"y": ("float32", [-1, 1])}
        sums = helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=1)
        graph = tiny.onnx_model([sums], rows, answer, axis)
        tiny.Model({"serving_default": tiny.Signature(rows, answer)}, {"model.onnx": graph}).write(repository / name)
    starts = {"x": ("float32", [-1, 2])}
    answer = {"minimum": ("float32", [-1, 2]), "value": ("float32", [-1]), "path": ("float32", [-1, 1, 2])}
    still = [
        helper.make_node("Identity", ["x"], ["minimum"]),
        helper.make_node("ReduceSum", ["x", "axis"], ["value"], keepdims=0),
        helper.make_node("Unsqueeze", ["x", "axis"], ["path"]),
    ]
    graph = tiny.onnx_model(still, starts, answer, axis)
    tiny.Model({"serving_default": tiny.Signature(starts, answer)}, {"model.onnx": graph}).write(
        repository / "himmelblau"
    )
    image = {"image": ("float32", [-1, 28, 28, 1])}
    halves = {"half": image["image"], "rest": image["image"]}
    nodes = [helper.make_node("Mul", ["image", "share"], [name]) for name in halves]
    graph = tiny.onnx_model(nodes, image, halves, {"share": np.float32(0.5)})
    tiny.Model({"serving_default": tiny.Signature(image, halves)}, {"model.onnx": graph}).write(repository / "filters")
    samples = zoo / "lenet5" / "1" / "assets.extra" / "samples"
    for name, sample in (("shoe", "0"), ("boot", "1"), ("cells", "2")):
        (home / f"{name}.png").write_bytes((samples / f"{sample}.png").read_bytes())
    card = json.loads((zoo / "lenet5" / "1" / "assets.extra" / "card.json").read_text())
    size = [part or 1 for part in card["signatures"]["serving_default"]["inputs"]["image"]["shape"]]
    np.save(home / "image.npy", np.zeros(size, np.float32))
    card = json.loads((zoo / "vae" / "1" / "assets.extra" / "card.json").read_text())
    np.save(home / "code.npy", np.zeros(card["signatures"]["decode"]["inputs"]["code"]["shape"][1], np.float32))
    (home / "reviews.txt").write_text("a fine film\ndull\n")
    server = serve("--repository", repository, models=[path.name for path in repository.iterdir()])
    return home, server


def test_a_verb_has_one_summary() -> None:
    """`ladle --help` and `ladle VERB --help` say the same; the first does not import the parsers."""
    for verb in [*ladle_command.GROUPS["ask"], "bench"]:
        summary = ladle_command.VERBS[verb].summary
        assert f"{summary[0].upper()}{summary[1:]}." in help_of(verb)


@pytest.mark.parametrize("verb", [verb for verb in ladle_command.VERBS if verb in RUN])
def test_an_example_runs(
    verb: str, room: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, server = room
    monkeypatch.chdir(home)
    monkeypatch.setenv("LADLE_ADDRESS", f"grpc://127.0.0.1:{server.grpc_port}")
    found = examples(verb)
    assert found
    for arguments in found:
        assert arguments[0] == verb
        if "<" in arguments:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(arguments.pop()).read_bytes())))
            arguments.remove("<")
        if verb == "decode":  # the code of a smaller model
            arguments[2] = ",".join(arguments[2].split(",")[: len(np.load(home / "code.npy"))])
        if verb == "bench":
            arguments += ["--seconds", "0.4", "--warm-up", "0.1", "--connections", "2"]
            arguments += ["--rest-address", f"http://127.0.0.1:{server.rest_port}"]
        if (verb == "report" and "--open" in arguments) or "--watch" in arguments:
            continue  # a viewer, and no end
        assert ladle_command.main(arguments) == 0, (arguments, capsys.readouterr().err)
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("verb", [verb for verb in ladle_command.VERBS if verb not in RUN])
def test_an_example_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = examples(verb)
    assert any(arguments[0] == verb for arguments in found)
    if verb != "serve":  # with TensorFlow Serving's own flags
        assert help_of(verb).startswith(f"usage: ladle {verb}")
    for name, *arguments in found:
        if name == "serve":
            from ladle.serving import flags

            assert vars(flags.parse(arguments))
            assert "unknown argument" not in capsys.readouterr().err
            continue
        if "--help" in arguments:
            continue
        if name == "train":  # its options are those of the networks that it names
            from ladle.training.__main__ import build_parser

            parser = completion.of_verb(build_parser(["train", *arguments]), "train")
        else:
            parser = ladle_command.VERBS[name].parser()
        assert isinstance(parser.parse_args(arguments), argparse.Namespace)
