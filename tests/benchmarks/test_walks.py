"""How walks are counted, and walks of a real server and a real gateway."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.profiling import walks
from benchmarks.profiling.recorder import Event
from tests.tiny_models import image_classifier

MOST_MOVES = {"rest": 31, "grpc": 39, "page": 72}
"""Moves between files that each walk may take. Lower a number when its walk gets shorter; never raise one."""


def called(file: str, function: str, *inner: list[Event], thread: int = 1) -> list[Event]:
    """A call, the calls inside it, and its return."""
    return [(thread, True, file, function), *(e for events in inner for e in events), (thread, False, file, function)]


def test_a_call_and_its_return_are_two_moves_between_files() -> None:
    found = walks.walk(called("a.py", "outer", called("b.py", "inner"), called("a.py", "helper")))
    assert (found.calls, found.files, found.moves) == (3, 2, 2)
    assert found.entered == {"a.py": 2, "b.py": 1}


def test_a_comprehension_is_no_call_but_is_a_step() -> None:
    found = walks.walk(called("a.py", "outer", called("a.py", "outer.<locals>.<genexpr>")))
    assert found.calls == 1
    assert [(step.depth, step.function) for step in found.steps] == [(0, "outer"), (1, "outer.<locals>.<genexpr>")]


def test_the_next_callback_of_an_event_loop_is_a_move_when_its_file_is_another() -> None:
    assert walks.walk(called("a.py", "first") + called("b.py", "second")).moves == 1


def test_threads_walk_apart() -> None:
    first, second = called("a.py", "first", thread=1), called("b.py", "second", thread=2)
    found = walks.walk([first[0], second[0], first[1], second[1]])
    assert (found.calls, found.files, found.moves) == (2, 2, 0)


def test_a_return_of_an_earlier_call_is_ignored() -> None:
    assert walks.walk([(1, False, "a.py", "before"), *called("b.py", "now")]).moves == 0


def test_the_most_frequent_walk_is_reported() -> None:
    usual, odd = called("a.py", "answer"), called("a.py", "answer", called("b.py", "timed"))
    assert walks.usual([usual, odd, usual]).files == 1


def test_equal_calls_in_a_row_are_one_line_of_the_tree() -> None:
    found = walks.walk(called("a.py", "outer", called("b.py", "inner"), called("b.py", "inner")))
    assert walks.tree(found) == "a.py:outer\n  b.py:inner  ×2\n"


def test_an_unknown_walk_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        walks.main(["--only", "rest,soap"])
    assert "got soap; expected some of rest, grpc, page, train" in capsys.readouterr().err


def test_real_requests_walk_no_farther_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_classifier().write(tmp_path / "models" / "tiny")
    given = ["--repository", str(tmp_path / "models"), "--model", "tiny", "--only", ",".join(MOST_MOVES), "--json"]
    for _ in range(3):  # on a busy machine a run takes long, and the next ones go to a thread, which is a longer way
        assert walks.main([*given, "--steps", str(tmp_path / "steps")]) == 0
        found = json.loads(capsys.readouterr().out)
        moves = {name: found[name]["moves"] for name in MOST_MOVES}
        if all(0 < moves[name] <= most for name, most in MOST_MOVES.items()):
            break
    assert all(0 < moves[name] <= most for name, most in MOST_MOVES.items()), moves
    rooms = {name: {file.partition("/")[0] for file in found[name]["entered"]} for name in MOST_MOVES}
    assert rooms == {"rest": {"serving"}, "grpc": {"serving"}, "page": {"clients"}}
    # The first and the last thing that a server does with a request, and the model between them.
    functions = [step.partition(":")[2] for step in found["rest"]["steps"]]
    assert functions[0] == "Connection.data_received"
    assert "OnnxEngine.prepare.<locals>.run" in functions
    assert (tmp_path / "steps" / "rest.txt").read_text().startswith("serving/")
