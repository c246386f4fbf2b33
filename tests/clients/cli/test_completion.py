"""Completion scripts: of every verb, and accepted by the shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ladle import command as ladle_command
from ladle.clients.cli import completion
from ladle.clients.cli.parser import build_parser


@pytest.mark.parametrize("shell", completion.ENABLE)
def test_every_verb_and_its_options_are_completed(shell: str) -> None:
    verbs = ladle_command.parsers()
    assert all(parser is not None for _, parser in verbs.values())
    script = completion.script(shell, verbs)
    for name in ladle_command.VERBS:
        assert name in script
    for option in ("opacity", "preset", "rest-api-port", "max-pixels", "deep", "once"):
        assert option in script


def test_bash_completes_a_verb_an_option_and_a_model(tmp_path: Path) -> None:
    parser = build_parser()
    verbs = {name: ("", completion.of_verb(parser, name)) for name in ("classify", "status", "segment")}
    (tmp_path / "model_repository" / "lenet5").mkdir(parents=True)
    script = tmp_path / "ladle.bash"
    script.write_text(completion.script("bash", verbs))

    def complete(*words: str) -> set[str]:
        line = " ".join(words)
        program = (
            f"source {script}; COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
            f"COMP_LINE='{line}'; COMP_POINT={len(line)}; _shtab_ladle ladle '{words[-1]}'; "
            + "printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert complete("ladle", "s") == {"status", "segment"}
    assert "--opacity" in complete("ladle", "segment", "--op")
    assert complete("ladle", "classify", "le") == {"lenet5"}
    (tmp_path / "model_repository" / "$(>owned)").mkdir()
    complete("ladle", "classify", "")
    assert not (tmp_path / "owned").exists()


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_accepts_its_script(tmp_path: Path) -> None:
    script = tmp_path / "_ladle"
    script.write_text(completion.script("zsh", {"status": ("", completion.of_verb(build_parser(), "status"))}))
    subprocess.run(["zsh", "-n", script], check=True)
