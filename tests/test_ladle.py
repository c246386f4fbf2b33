"""The front door: which verb goes where, what it says when misused, and how light it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ladle
from ladle import command as ladle_command
from ladle import serve_command
from ladle.clients.library.client import Client

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """`ladle` in a process of its own, after `code`."""
    program = f"import sys; {code}; from ladle import command; sys.exit(command.main({list(arguments)!r}))"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_help_names_every_verb_and_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["--help"]) == 0
    said = capsys.readouterr().out
    for verb in ladle_command.VERBS:
        assert f"\n  {verb} " in said
    assert said.rpartition("examples:")[2].count("ladle ") >= 4


def test_without_a_verb_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: ladle")


def test_a_misspelt_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["clasify"]) == 2
    assert capsys.readouterr().err == "ladle: unknown verb 'clasify'; did you mean classify?\n"


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ladle {ladle.__version__}\n"


def test_dir_lists_the_public_names() -> None:
    assert {"AsyncClient", "Client", "LadleError", "__version__"} <= set(dir(ladle))


def test_importing_ladle_loads_no_package() -> None:
    heavy = "{'numpy', 'grpc', 'argparse', 'tensorflow', 'ladle.clients', 'ladle.command'}"
    code = f"import sys, ladle; ladle.__version__; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_client_is_the_one_of_the_library() -> None:
    assert ladle.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = ladle.Cleint


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        pytest.param(["--model-base-path", "/m", "--port=1"], ["--model_base_path=/m", "--port=1"], id="a-value-apart"),
        pytest.param(
            ["--repository", "/m", "--enable-batching"], ["--repository=/m", "--enable_batching"], id="a-switch"
        ),
        pytest.param(
            ["--repository=/a-b", "--max-num-load-retries", "-1"],
            ["--repository=/a-b", "--max_num_load_retries=-1"],
            id="a-dash-in-a-value",
        ),
    ],
)
def test_serve_writes_flags_as_tensorflow_serving_does(given: list[str], flags: list[str]) -> None:
    translated = serve_command.server_flags(given)
    assert translated[: len(flags)] == flags
    assert {flag.partition("=")[0] for flag in translated} >= {"--port", "--rest_api_port"}


def test_serve_takes_the_repository_of_this_folder_when_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert serve_command.server_flags([]) == [
        f"--repository={tmp_path / 'model_repository'}",
        "--port=8500",
        "--rest_api_port=8501",
        "--enable_metrics=true",
    ]
    assert serve_command.server_flags(["--help"]) == ["--help"]


def test_serve_takes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert serve_command.server_flags(["models", "--port", "1"]) == [
        "--port=1",
        f"--repository={tmp_path / 'models'}",
        "--rest_api_port=8501",
        "--enable_metrics=true",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repo", "models"], "unknown option --repo; did you mean --repository?"),
        (["--rest-api-prot", "1"], "did you mean --rest-api-port"),
        (["a", "b"], "got a and b; expected one folder"),
        (["a", "--model-config-file=c"], "got a beside --model_config_file; expected one folder, or flags that name"),
    ],
    ids=["unknown", "misspelt", "two-folders", "folder-and-flag"],
)
def test_serve_misused_is_exit_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_every_verb_has_a_parser_of_its_own() -> None:
    for name, verb in ladle_command.VERBS.items():
        options = {option for action in verb.parser()._actions for option in action.option_strings}
        assert "--help" in options, name


def test_a_missing_extra_is_one_sentence_that_says_what_to_install() -> None:
    done = run("gateway", code="sys.modules['flask'] = None")
    assert done.returncode == 1
    assert done.stderr == "ladle gateway: flask is not installed; install it with: pip install 'ladle[web]'\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["networks"], ["data", "--json"], ["completion", "bash"], ["serve", "--help"]],
    ids=" ".join,
)
def test_a_reader_that_leaves_early_ends_the_command_quietly(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ladle", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


def test_a_reader_of_the_progress_that_leaves_early_ends_the_command_quietly() -> None:
    command = [sys.executable, "-m", "ladle", "data", "get", "synthetic_blobs"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        running.stderr.close()
    assert running.returncode == 141


@pytest.mark.parametrize("arguments", [["--help"], ["networks"], ["data"], ["doctor"]], ids=" ".join)
def test_a_full_disk_is_one_sentence(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ladle", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ladle {arguments[0]}: ")
    assert done.stderr.endswith("No space left on device\n")
    assert done.stderr.count("\n") == 1


def test_a_closed_output_is_no_fault() -> None:
    script = f"exec {sys.executable} -m ladle networks >&-"
    done = subprocess.run(["sh", "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["networks"], ["networks", "--json"], ["optimize", "--help"]], ids=" ".join)
def test_a_terminal_that_knows_no_unicode_gets_what_it_can_write(arguments: list[str]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "ladle", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if "--json" in arguments:
        assert any("×" in entry["summary"] for entry in json.loads(done.stdout))


def test_the_help_of_serve_begins_with_its_own_defaults() -> None:
    done = subprocess.run([sys.executable, "-m", "ladle", "serve", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ladle serve [FOLDER] [flags]\n")
    assert "REST on port 8501" in done.stdout.partition("usage: python -m ladle.serving")[0]


def test_help_of_a_verb_is_the_verbs_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        ladle_command.main(["help", "data"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ladle data ")
    assert ladle_command.main(["help", "dta"]) == 2
    assert "did you mean data?" in capsys.readouterr().err


def test_an_option_before_the_verb_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["--json", "networks"]) == 2
    assert "got --json first; expected a verb, and its options after it" in capsys.readouterr().err


def test_networks_lists_those_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["networks", "vae", "lenet5", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == ["lenet5", "vae"]


def test_data_lists_every_data_set_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["data", "--json"]) == 0
    names = {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    assert names >= {"fashion_mnist", "imdb"}


def test_data_writes_a_set_as_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ladle_command.main(["data", "write", "synthetic_blobs", str(tmp_path / "blobs")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'blobs'}\n"
    assert list((tmp_path / "blobs" / "test" / "mask").glob("*.png"))


@pytest.mark.parametrize(
    "arguments",
    [["get"], ["list", "mnist"], ["fetch"], ["write", "nuclei"], ["write", "nuclei", "out", "--json"]],
    ids=["no-name", "a-name", "no-such", "no-folder", "no-json"],
)
def test_data_misused_is_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        ladle_command.main(["data", *arguments])
    assert stopped.value.code == 2


@pytest.mark.parametrize("verb", [*ladle_command.GROUPS["ask"], "gateway", "doctor", "data"])
def test_the_help_of_a_verb_ends_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        ladle_command.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"ladle {verb}" in capsys.readouterr().out.rpartition("example")[2]
