"""Flags, read as TensorFlow Serving reads them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ladle.serving import flags
from ladle.serving.command import main
from ladle.serving.flag_table import FLAGS


def test_a_value_follows_an_equals_sign_or_a_space() -> None:
    options = flags.parse(["--port=1", "--rest_api_port", "2", "--model_name=a=b", "--host", ""])
    assert (options.port, options.rest_api_port, options.model_name, options.host) == (1, 2, "a=b", "")


def test_the_last_of_repeated_flags_counts() -> None:
    assert flags.parse(["--port=1", "--port=2"]).port == 2


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--enable_model_warmup=false"], False),
        (["--enable_model_warmup=true"], True),
        (["--enable_model_warmup"], True),
        (["--enable_model_warmup", "false"], False),
    ],
)
def test_booleans_are_true_or_false_or_bare(arguments: list[str], value: bool) -> None:
    assert flags.parse([*arguments, "--port=7"]).enable_model_warmup is value


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--port=http", "got --port=http; expected an integer"),
        ("--enable_model_warmup=1", "got --enable_model_warmup=1; expected true or false"),
        ("--port", "--port needs a value: --port=an integer"),
    ],
)
def test_a_bad_value_is_refused(argument: str, message: str) -> None:
    with pytest.raises(flags.FlagError, match=message):
        flags.parse([argument])


def test_unknown_flags_are_reported_and_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    options = flags.parse(["--tensorflow_magic=1", "--more", "magic", "stray", "--port=9"])
    assert options.port == 9
    printed = capsys.readouterr().err
    for argument in ("--tensorflow_magic=1", "--more", "magic", "stray"):
        assert f"unknown argument: {argument}" in printed


def test_flags_without_effect_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    flags.parse(["--num_unload_threads=2", "--tensorflow_session_parallelism=0"])
    assert capsys.readouterr().err == "--num_unload_threads has no effect in this server\n"


def test_help_names_every_flag_and_ends_with_an_example() -> None:
    text = flags.usage()
    assert all(f"--{flag.name}=" in text for flag in FLAGS)
    assert text.splitlines()[-1].startswith("  python -m ladle.serving --port 8500")


def test_a_flag_that_begins_with_version_does_not_print_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version_transition_policy=none", "--repository=.", "--supervise=false"]) == 255
    assert "unknown --version_transition_policy=none" in capsys.readouterr().out


def test_a_reader_of_the_help_may_leave() -> None:
    command = [sys.executable, "-m", "ladle.serving", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141
