"""Pictures in a terminal, in the form that the terminal announces."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ladle.clients.drawing import inline, pictures


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "tmux-256color", "TMUX": "x", "COLORTERM": "truecolor", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({}, None),
    ],
)
def test_the_form_is_the_one_that_the_terminal_announces(environment: dict[str, str], kind: str | None) -> None:
    assert inline.protocol(environment) == kind


def test_a_picture_reaches_kitty_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.effect_noise((90, 90), 90)
    monkeypatch.setenv("TERM", "xterm-kitty")
    stream = Terminal()
    assert inline.show(picture, stream=stream)
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", stream.getvalue())
    assert len(chunks) > 1
    assert chunks[0][0] == "a=T,f=100,m=1"
    assert chunks[-1][0] == "m=0"
    assert base64.b64decode("".join(data for _, data in chunks)) == pictures.png(picture)
    assert inline.escape(b"x", "iterm") == "\x1b]1337;File=inline=1;size=1:eA==\a"


def test_half_blocks_hold_two_pixels_a_cell() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    drawn = inline.half_blocks(Image.fromarray(pixels), 80)
    assert drawn == "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;0;255;0;48;2;9;9;9m▀\x1b[0m"
    wide = inline.half_blocks(Image.new("RGB", (400, 100)), 40).splitlines()
    assert {line.count("▀") for line in wide} == {40}
    assert len(wide) == 5


def test_sixels_say_the_same_picture() -> None:
    pixels = np.random.default_rng(3).integers(0, 2, (13, 17, 1)).astype(np.uint8) * np.array([250, 40, 90], np.uint8)
    drawn = inline.sixel(Image.fromarray(pixels))
    assert drawn.startswith('\x1bPq"1;1;17;13')
    assert drawn.endswith("\x1b\\")
    np.testing.assert_allclose(painted(drawn, 13, 17), pixels, atol=3)


def painted(text: str, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What a terminal makes of sixels."""
    colours = {
        int(i): [round(int(part) * 2.55) for part in rgb] for i, *rgb in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", text)
    }
    canvas = np.zeros((height, width, 3), np.uint8)
    x = y = colour = 0
    body = text.partition("13")[2].removesuffix("\x1b\\")
    for select, count, cell, move in re.findall(r"#(\d+)(?!;|\d)|(?:!(\d+))?([?-~])|([$-])", body):
        if select:
            colour = int(select)
        elif move:
            x, y = 0, y + 6 * (move == "-")
        else:
            end = x + int(count or 1)
            for bit in range(6):
                if (ord(cell) - 63) >> bit & 1:
                    canvas[y + bit, x:end] = colours[colour]
            x = end
    return canvas


def test_pictures_are_shown_in_terminals_only_and_can_be_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.new("RGB", (4, 4))
    assert not inline.show(picture, stream=Terminal())
    assert inline.show(picture, True, Terminal())
    assert not inline.show(picture, True, io.StringIO())
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert inline.show(picture, stream=Terminal())
    assert not inline.show(picture, False, Terminal())
