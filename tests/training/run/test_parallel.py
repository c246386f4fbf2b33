from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ladle.training import options
from ladle.training.evaluate.headline import card_entry, headline
from ladle.training.run import parallel
from ladle.training.run.board import Board
from ladle.training.run.parallel import Job

ROOT = Path(__file__).resolve().parents[3]
# Stands for a training: it says which cores it was given, fails or waits to be stopped when it is told to.
PROGRAM = """
import json, os, pathlib, signal, sys
name, *rest = sys.argv[1:]
order = pathlib.Path("order")
with order.open("a") as file:
    file.write(f"{name} {os.environ['TF_NUM_INTRAOP_THREADS']}\\n")
def stopped(*_):
    sys.exit("ladle train: stopped at epoch 1 of 2, step 3 of 4")
signal.signal(signal.SIGTERM, stopped)
if "--fail" in rest:
    sys.exit("ladle train: the data cannot be had")
if "--wait" in rest and not pathlib.Path("go").exists():
    print("epoch 1", file=sys.stderr, flush=True)
    os.kill(os.getppid(), signal.SIGTERM)
    signal.pause()
version = pathlib.Path("models", name, "1")
version.mkdir(parents=True, exist_ok=True)
print(json.dumps({"network": name, "version": str(version), "metrics": {"accuracy": 0.5}}))
"""


def train(jobs: list[Job], at_once: int = 2, **settings: Any) -> dict[str, parallel.Outcome]:
    shown = Board({job.name: job.expected for job in jobs}, at_once)
    settings = {"resume": True, "threads": 2, "program": (sys.executable, "-c", PROGRAM), **settings}
    outcomes = parallel.train(jobs, Path("runs"), at_once=at_once, board=shown, **settings)
    return {outcome.name: outcome for outcome in outcomes}


def begun() -> list[list[str]]:
    return [line.split() for line in Path("order").read_text().splitlines()]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_networks_that_others_need_are_trained_first_then_the_longest() -> None:
    jobs = [Job("short", [], expected=1), Job("long", [], expected=9), Job("judge", [], expected=2)]
    jobs += [Job("gan", [], ("judge",), expected=5), Job("new", [])]
    assert [job.name for job in parallel.ordered(jobs)] == ["judge", "new", "long", "gan", "short"]


def test_a_network_that_needs_another_starts_after_it() -> None:
    outcomes = train([Job("vae", [], ("lenet5",)), Job("lenet5", [])], at_once=2)
    assert [name for name, _ in begun()] == ["lenet5", "vae"]
    assert {outcome.code for outcome in outcomes.values()} == {0}


def test_cores_are_shared_and_the_last_one_has_them_all() -> None:
    train([Job("a", [], expected=3), Job("b", [], expected=2), Job("c", [], ("a", "b"), expected=1)])
    assert sorted(begun()[:2]) == [["a", "1"], ["b", "1"]]
    assert begun()[2] == ["c", "2"]


def test_a_failure_stops_no_other_and_the_same_command_retries_it_alone(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job("a", []), Job("b", ["--fail"]), Job("c", [])]
    outcomes = train(jobs)
    assert [outcome.code for outcome in outcomes.values()] == [0, 1, 0]
    assert outcomes["b"].error == "the data cannot be had"
    said = capsys.readouterr().err
    assert "b: failed" in said
    assert "2 of 3 done, 1 failed" in said
    Path("order").unlink()
    assert train(jobs)["a"].answer["version"] == str(Path("models/a/1"))
    assert [name for name, _ in begun()] == ["b"]


def test_the_next_command_trains_everything_again() -> None:
    for _ in range(2):
        train([Job("a", []), Job("b", [])])
    assert len(begun()) == 4


def test_sigterm_stops_all_and_the_same_command_continues(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job("a", [], expected=2), Job("b", ["--wait"], ("a",)), Job("c", [], ("b",))]
    outcomes = train(jobs)
    assert [outcome.code for outcome in outcomes.values()] == [0, 1, 1]
    assert outcomes["b"].error.startswith("stopped at epoch 1 of 2")
    assert outcomes["c"].error == "stopped"
    told = capsys.readouterr().err
    assert "1 of 3 done, 1 stopped, 1 waiting" in told
    assert "failed" not in told
    Path("go").touch()
    assert {outcome.code for outcome in train(jobs).values()} == {0}
    assert [name for name, _ in begun()] == ["a", "b", "b", "c"]


def test_each_log_starts_with_its_command() -> None:
    train([Job("a", ["--data=x y", "--fail"]), Job("b", [])])
    (log,) = Path("runs/all").glob("*/a.log")
    assert log.read_text().splitlines() == [
        "$ ladle train a '--data=x y' --fail",
        "ladle train: the data cannot be had",
    ]


def test_cores_and_memory_limit_how_many_run_at_once_and_a_gpu_runs_one() -> None:
    gib = 1 << 30
    assert parallel.width(2, 8 * gib, 0) == 2
    assert parallel.width(8, 8 * gib, 0) == 2
    assert parallel.width(2, 64 * gib, 0) == 2
    assert parallel.width(1, 1 * gib, 0) == 1
    assert parallel.width(16, 128 * gib, 1) == 1


def test_options_reach_the_processes_as_they_were_typed() -> None:
    from ladle import models

    chosen = [models.get("lenet5"), models.get("vae")]
    parser = options.parser(chosen, dict.fromkeys(("list", "train", "evaluate", "export"), lambda arguments: 0))
    typed = ["--preset", "quick", "--filters", "2,4", "--no-report", "--augment", "--beta", "2", "--synthetic"]
    arguments = parser.parse_args(["train", "lenet5", "vae", "--jobs", "2", "--json", *typed])
    lenet5, vae = parallel.jobs(chosen, arguments)
    common = ["--preset=quick", "--synthetic", "--no-report"]
    assert set(lenet5.command) == {*common, "--filters=2,4", "--augment"}
    assert set(vae.command) == {*common, "--beta=2.0", "--augment"}
    assert (lenet5.needs, vae.needs) == ((), ("lenet5",))
    again = parser.parse_args(["train", "lenet5", *lenet5.command])
    assert again.filters == (2, 4)
    assert again.report is False


def test_time_left_is_estimated_from_expected_and_actual_durations(tmp_path: Path) -> None:
    shown = Board({"a": 10.0, "b": 20.0, "c": None, "d": 30.0}, at_once=2)
    assert shown.left_seconds() == pytest.approx((10 + 20 + 20 + 30) / 2)
    shown.running["a"] = (0.0, tmp_path)
    shown.ended("a", 20.0, {"version": "1"}, "")
    assert shown.left_seconds() == pytest.approx((40 + 40 + 60) / 2)
    shown.running["d"] = (100.0, tmp_path)
    assert shown.left_seconds(now=150.0) == pytest.approx((40 + 40 + 10) / 2)
    assert Board({"a": None}, 1).left_seconds() is None


def test_the_headline_is_the_best_metric_of_a_split() -> None:
    assert headline({"cross_entropy": 0.3, "accuracy": 0.9}) == {"accuracy": 0.9}
    assert headline({"diversity": 0.7, "frechet_distance": 8.0}) == {"frechet_distance": 8.0}
    assert headline({}) == {}
    entry = card_entry({"test": {"loss": 0.1}, "validation": {"accuracy": 0.9}})
    assert entry == {"headline": {"name": "accuracy", "value": 0.9, "split": "validation"}}
    assert card_entry({"test": {}}) == {}


@pytest.mark.slow
def test_each_network_is_trained_by_its_own_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ladle.training", "train", "sentiment_lstm", "lenet5", "--jobs", "2", "--json"]
    command += ["--data", "synthetic_digits", "--epochs", "1", "--train-limit", "64", "--no-report"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert ended.returncode == 1
    (line,) = ended.stdout.splitlines()
    assert json.loads(line)["version"] == str(Path("model_repository/lenet5/1"))
    wrong = "synthetic_digits holds images; expected text for sentiment_lstm: choose another --data"
    assert wrong in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("ladle train: 1 of 2 not trained: sentiment_lstm; ")
    card = json.loads((tmp_path / "model_repository/lenet5/1/assets.extra/card.json").read_text())
    assert (", 1 of them used" in card["machine"]) == (parallel.cores() > 1)
