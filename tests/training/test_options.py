"""The command line of the training room, as far as it needs no network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ladle.training import arguments, options

ROOT = Path(__file__).resolve().parents[2]
# Prints the heavy packages that a command imported, after its own output.
PROGRAM = """
import contextlib, sys
from ladle import command
with contextlib.suppress(SystemExit):
    command.main(sys.argv[1:])
print(*({"tensorflow", "keras", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["networks", "--help"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["export", "--help"],
        ["convert", "--help"],
        ["export"],
        ["evaluate", "lenet5", "--unknown"],
    ],
    ids=" ".join,
)
def test_help_and_wrong_options_need_no_tensorflow(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"ladle {arguments[0]}" in ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1] == ""


def test_help_ends_with_examples_of_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    parser = options.parser([], dict.fromkeys(options.EXAMPLES, lambda arguments: 0))
    for command, program in options.PROGRAMS.items():
        with pytest.raises(SystemExit):
            parser.parse_args([command, "--help"])
        examples = capsys.readouterr().out.partition("examples:\n")[2].strip().splitlines()
        assert examples
        assert all(line.strip().startswith(program) for line in examples)


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_jobs_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = options.parser([], dict.fromkeys(options.EXAMPLES, lambda arguments: 0))
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["train", "--all", f"--jobs={count}"])
    assert ended.value.code == arguments.MISUSED
    assert f"got '{count}'; expected an integer of 1 or more" in capsys.readouterr().err
