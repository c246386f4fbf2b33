"""Every verb as a stranger first types it: with --help, a wrong name or no server. None of these loads TensorFlow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ladle import command as ladle_command

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import contextlib, io, json, sys
from ladle import command
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command.main(arguments)
        except SystemExit as end:
            code = end.code
    heavy = sorted({"tensorflow", "keras", "matplotlib"} & set(sys.modules))
    print(json.dumps([code, out.getvalue(), err.getvalue(), heavy]), flush=True)
"""
NOBODY = ["--address", "grpc://127.0.0.1:1"]
"""No server listens on port 1."""

HELP = {verb: [verb, "--help"] for verb in ladle_command.VERBS if verb != "serve"}
WORKS = {
    "networks": ["networks"],
    "networks-json": ["networks", "--json"],
    "train-help": ["train", "lenet5", "--help"],
    "data": ["data"],
    **{f"completion-{shell}": ["completion", shell] for shell in ("bash", "zsh", "tcsh", "fish")},
}
"""What is done without TensorFlow."""
WRONG = {
    "replay": (["replay", "absent.tfrecord", *NOBODY], 1, "absent.tfrecord"),
    "train": (["train", "lenet55"], 2, "unknown network 'lenet55'; did you mean lenet5?"),
    "train-options": (["train", "lenet55", "--epochs", "3"], 2, "unknown network 'lenet55'; did you mean lenet5?"),
    "train-all": (["train", "vae", "--all"], 2, "got --all and vae; give one or the other"),
    "train-data": (
        ["train", "vae", "--data", "fashion_mnits"],
        2,
        "file or folder; did you mean fashion_mnist?",
    ),
    "train-path": (
        ["train", "mlp", "--data", "tsts", "--target", "x"],
        2,
        "tsts: no such data set, file or folder",
    ),
    "train-nothing": (["train"], 2, "got no network"),
    "train-preset": (
        ["train", "lenet5", "--preset", "fast"],
        2,
        "expected one of quick, full, mnist, none",
    ),
    "train-config": (["train", "lenet5", "--config", "no.json"], 2, "no.json: cannot be read"),
    "networks": (["networks", "lenet55"], 2, "unknown network 'lenet55'; did you mean lenet5?"),
    "doctor-more": (["doctor", "a", "b"], 2, "unexpected arguments a b; expected options only"),
    "evaluate-more": (
        ["evaluate", "lenet5", "2"],
        2,
        "unexpected argument 2; expected NAME; see",
    ),
    "evaluate": (["evaluate", "lenet55"], 2, "did you mean lenet5?"),
    "evaluate-none": (
        ["evaluate", "lenet5", "--repository", "nowhere"],
        1,
        "nowhere/lenet5 has no version; train it first",
    ),
    "export": (["export", "lenet55"], 2, "did you mean lenet5?"),
    "export-file": (["export", "lenet5", "--keras", "a.h5"], 2, "expected a name that ends in .keras"),
    "data": (["data", "get", "fashion_mnits"], 2, 'unknown data set "fashion_mnits"; did you mean fashion_mnist?'),
    "config-option": (["config", "--stabel", "unet=1"], 2, "--stabel"),
    "train-option": (["train", "lenet5", "--epohcs", "1"], 2, "unknown option --epohcs; did you mean --epochs?"),
    "serve": (["serve", "--rest-api-prot", "1"], 2, "unknown option --rest-api-prot; did you mean --rest-api-port?"),
    "config": (["config", "--repository", "nowhere"], 1, "nowhere: no such folder; `ladle train lenet5"),
    "config-output": (["config", "extra"], 2, "extra"),
    "choice": (["evaluate", "lenet5", "--split", "tets"], 2, "argument --split: got 'tets'; did you mean test?"),
    "choice-ask": (["status", "--protocol", "udp"], 2, "argument --protocol: got 'udp'; expected one of grpc, rest"),
    "gateway-port": (["gateway", "--port", "0x"], 2, "argument --port: got '0x'; expected a port, 0 to 65535"),
    "bench-batch": (["bench", "lenet5", "--batch", "a"], 2, "got 'a'; expected a whole number from 1 on"),
    "serve-port": (["serve", "--port", "99999"], 2, "got --port=99999; expected a port, 0 to 65535"),
    "serve-text": (["serve", "--rest-api-port", "abc"], 2, "got --rest_api_port=abc; expected an integer"),
    "serve-value": (["serve", "--port"], 2, "--port needs a value; see ladle serve --help"),
    "report": (["report", "lenet55", "--repository", "nowhere"], 1, "nowhere"),
    "completion": (["completion", "csh"], 2, "csh"),
    "gateway": (["gateway", "--prot", "1"], 2, "unknown option --prot; did you mean --port?"),
    "demo": (["demo", "--onec"], 2, "unknown option --onec; did you mean --once?"),
    "doctor": (["doctor", "--deeper"], 2, "unknown option --deeper; did you mean --deep?"),
    "optimize": (["optimize", "lenet5", "--repository", "nowhere"], 1, "nowhere/lenet5 has no version; train it first"),
    "optimize-tolerance": (["optimize", "lenet5", "--tolerance", "-1"], 2, "-1"),
    "convert": (["convert"], 2, "the following arguments are required: MODEL"),
    "classify-file": (["classify", "lenet5", "a.png", "--tpo", "3"], 2, "unknown option --tpo; did you mean --top?"),
    "metadata": (["metadata", "lenet5", "vae"], 2, "unexpected argument vae; expected NAME; see ladle metadata --help"),
    "segment": (["segment", "unet", "a.png", "--mask", "m.jpg"], 2, "expected a name that ends in one of .png, .bmp"),
    "generate": (["generate", "vae", "--output", "a.pgn"], 2, "expected a name that ends in one of .png, .jpg"),
    "encode": (["encode", "vae", "a.png", "--output", "a.txt"], 2, "expected a name that ends in .npy"),
    "bench": (["bench", "lenet5", "--rate", "x"], 2, "x"),
}
"""Arguments, exit code, and words of the error."""
ASKED: dict[str, list[str]] = {
    "status": [],
    "metadata": ["lenet5"],
    "predict": ["lenet5", "--input", "image=0"],
    "classify": ["lenet5", "{image}"],
    "sentiment": ["sentiment_lstm", "good"],
    "neighbours": ["sentiment_lstm", "good"],
    "generate": ["vae"],
    "segment": ["unet", "{image}"],
    "reconstruct": ["vae", "{image}"],
    "filter": ["filters", "{image}"],
    "interpolate": ["vae", "{image}", "{image}"],
    "encode": ["vae", "{image}"],
    "decode": ["vae", "1,2"],
    "regress": ["linear_regression", "1"],
    "minimise": ["himmelblau", "1,0"],
    "bench": ["lenet5"],
}
"""The verbs that ask a server, with the arguments that they need."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, list[str]]]:
    """Exit code, stdout, stderr and heavy packages of each command line, all run in one process."""
    from PIL import Image

    image = tmp_path_factory.mktemp("verbs") / "image.png"
    Image.new("L", (28, 28)).save(image)
    lines = [*HELP.values(), *WORKS.values(), *(given for given, _, _ in WRONG.values())]
    for verb, given in ASKED.items():
        lines.append([verb, *(str(image) if word == "{image}" else word for word in given), *NOBODY])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(lines), cwd=ROOT, capture_output=True, text=True, check=True
    )
    keys = [*(f"help {n}" for n in HELP), *(f"works {n}" for n in WORKS), *(f"wrong {n}" for n in WRONG)]
    keys += [f"asks {name}" for name in ASKED]
    answers: list[Any] = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(keys, answers, strict=True))


def test_no_verb_is_left_out() -> None:
    assert {*HELP, "serve"} == set(ladle_command.VERBS)
    assert set(ASKED) == {*ladle_command.GROUPS["ask"], "bench"}
    without_a_mistake = set(ladle_command.VERBS) - set(ASKED) - {given[0] for given, _, _ in WRONG.values()}
    assert without_a_mistake == set()


def test_none_loads_tensorflow(said: dict[str, tuple[int, str, str, list[str]]]) -> None:
    assert {key: heavy for key, (_, _, _, heavy) in said.items() if heavy} == {}


@pytest.mark.parametrize("verb", HELP)
def test_help_is_an_answer(verb: str, said: dict[str, tuple[int, str, str, list[str]]]) -> None:
    code, out, err, _ = said[f"help {verb}"]
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: ladle {verb}")
    assert "  ladle " in re.split(r"examples?:\n|enable it:\n", out)[-1]


@pytest.mark.parametrize("name", WORKS)
def test_lists_and_scripts_are_answers(name: str, said: dict[str, tuple[int, str, str, list[str]]]) -> None:
    code, out, err, _ = said[f"works {name}"]
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 10


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence(name: str, said: dict[str, tuple[int, str, str, list[str]]]) -> None:
    given, expected, words = WRONG[name]
    code, out, err, _ = said[f"wrong {name}"]
    assert (code, out) == (expected, "")
    assert err.startswith(f"ladle {given[0]}: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ASKED)
def test_a_missing_server_is_one_sentence(verb: str, said: dict[str, tuple[int, str, str, list[str]]]) -> None:
    code, out, err, _ = said[f"asks {verb}"]
    assert (code, out) == (1, "")
    assert err == f"ladle {verb}: nothing answers at 127.0.0.1:1; start it with `ladle serve`\n"
