"""Commands within sentences name verbs and options that exist."""

from __future__ import annotations

import re
import shlex

import pytest

from ladle import command
from tests.blocks import ROOT
from tests.docs.test_blocks import DOCS, parser

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = {"VERB", "help", "Predict"}
"""What follows `ladle` without being a verb; the last is a span in docs/tracing-and-logs.md."""


def inline() -> list[tuple[str, list[str]]]:
    """Page and words of each `ladle …` within a sentence; a shell's pipe ends it."""
    found = set()
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for text in re.findall(r"`(ladle [^`|]*)", prose):
            found.add((str(page.relative_to(ROOT)), tuple(shlex.split(text))))
    return [(page, list(words)) for page, words in sorted(found) if words[1] not in NAMES and words[1][0] != "-"]


COMMANDS = inline()


@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS}))
def test_verbs_and_options_exist(page: str) -> None:
    for words in [words for where, words in COMMANDS if where == page]:
        assert words[1] in command.VERBS, words
        options = [word.partition("=")[0] for word in words[2:] if word.startswith("--")]
        if not options or words[1] == "serve":  # flags of the server, whose parser is another
            continue
        parsers = [parser(words[1], words[2:])]
        for action in parsers[0]._actions:
            parsers += action.choices.values() if isinstance(action.choices, dict) else ()
        known = {option for each in parsers for action in each._actions for option in action.option_strings}
        assert set(options) <= known, words
