"""Bars, tables and pictures for a terminal."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from clients import pictures, terminal


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.usefixtures("colours")
def test_colour_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal.paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert terminal.paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.paint("x", "red", Terminal()) == "x"


@pytest.mark.parametrize(("share", "drawn"), [(0, "    "), (0.5, "██  "), (0.53125, "██▏ "), (1, "████"), (7, "████")])
def test_a_bar_is_filled_by_eighths_of_a_cell(share: float, drawn: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert terminal.bar(share, 4, stream) == drawn


def test_a_bar_is_of_hashes_where_blocks_cannot_be_written() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert terminal.bar(0.5, 4, stream) == "##  "


def test_bars_stand_under_one_another() -> None:
    lines = terminal.bars([("boot", 0.75), ("sandal", 0.25)]).splitlines()
    assert [len(line) for line in lines] == [len(lines[0])] * 2
    assert lines[0].endswith(" 75.0%")


def test_a_table_has_even_columns() -> None:
    assert terminal.table([("A", "B"), ("long", "x")]) == "A     B\nlong  x"


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, None),
    ],
)
def test_pictures_are_for_terminals_that_announce_them(environment: dict[str, str], kind: str | None) -> None:
    assert terminal.protocol(environment) == kind


@pytest.mark.usefixtures("colours")
def test_a_picture_reaches_the_terminal_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.effect_noise((80, 80), 90)
    assert not terminal.show(picture, Terminal())
    monkeypatch.setenv("TERM", "xterm-kitty")
    stream = Terminal()
    assert terminal.show(picture, stream)
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", stream.getvalue())
    assert len(chunks) > 1
    assert chunks[0][0] == "a=T,f=100,m=1"
    assert chunks[-1][0] == "m=0"
    assert base64.b64decode("".join(data for _, data in chunks)) == pictures.png(picture)
    assert terminal.escape(b"x", "iterm") == "\x1b]1337;File=inline=1;size=1:eA==\a"
