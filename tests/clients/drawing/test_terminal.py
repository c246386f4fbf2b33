"""Bars, tables, progress and a text that is written over, for a terminal."""

from __future__ import annotations

import io

import pytest

from ladle.clients.drawing import terminal


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


@pytest.mark.usefixtures("colours")
def test_what_others_wrote_has_no_power_over_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "boot\x1b]0;owned\x07\x9b2J\r"
    assert terminal.plain(evil) == r"boot\x1b]0;owned\x07\x9b2J\x0d"
    assert terminal.plain("größe\n\tboot") == "größe\n\tboot"
    stream = Terminal()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout", stream)
    with terminal.Progress("work", 1, stream) as progress:
        progress.at(1, evil)
    drawn = [terminal.paint(evil, "red"), terminal.bars([(evil, 0.5)]), terminal.table([("A",), (evil,)])]
    for text in [*drawn, stream.getvalue()]:
        assert r"boot\x1b]0;owned\x07" in text
        assert "\x07" not in text


@pytest.mark.usefixtures("colours")
def test_progress_is_drawn_over_itself_and_leaves_nothing_behind() -> None:
    stream = Terminal()
    with terminal.Progress("work", 4, stream) as progress:
        progress.at(4, "last")
    drawn = stream.getvalue().split("\r")
    assert "0%" in drawn[1]
    assert "100%  last" in drawn[2]
    assert drawn[-1] == "\x1b[K"
    silent = io.StringIO()
    with terminal.Progress("work", 4, silent) as progress:
        progress.at(4)
    assert silent.getvalue() == ""


def test_a_screen_writes_over_what_it_showed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    stream = Terminal()
    screen = terminal.Screen(stream)
    screen.show("one\ntwo")
    before = len(stream.getvalue())
    screen.show("a line that is too long")
    assert stream.getvalue()[before:] == "\x1b[2A\ra line th…\x1b[K\n\x1b[J"
    screen.close()
    assert stream.getvalue().endswith("\x1b[?25h")
