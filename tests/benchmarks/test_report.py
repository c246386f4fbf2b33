"""The goals and the Markdown page of a run's results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.engines import Comparison
from benchmarks.front import Client, Gateway
from benchmarks.goals import check
from benchmarks.machine import describe
from benchmarks.profiling.steps import STEPS, Steps
from benchmarks.real.measuring import Row
from benchmarks.real.workloads import LARGE
from benchmarks.requests.load import Load
from benchmarks.results import SECTIONS, Results, from_dict
from benchmarks.servers.processes import Memory
from benchmarks.startup import Start, WorkerMemory
from benchmarks.tails import Pair, Tails
from benchmarks.throughput import Measurement, Rounds


def load(per_second: float, p99_ms: float = 2.0) -> Load:
    return Load(int(per_second), 0, 1.0, 400.0, 1.0, p99_ms)


def row(title: str, per_second: float, p50_ms: float) -> Row:
    one = Load(10, 0, 1.0, 400.0, p50_ms, 20.0)
    return Row(title, [load(per_second)], [one], [300.0], [100.0], [100.0], {"mosec": [20.0], "Ray Serve": [10.0]})


def results() -> Results:
    rounds = Rounds()
    figures = {("empty handler (ours)", "empty"): [100, 50], ("Ladle", "ladle"): [80, 30]}
    figures[("mosec", "rival")] = [10, 10]
    for (name, kind), values in figures.items():
        title = f"{name} REST"
        rounds.kinds[title] = kind, False
        rounds.by_title[title] = [Measurement(load(v), load(v), 1.0, 0.0, 0.5, Memory(90.0, 80.0)) for v in values]
    rounds.failures["Ray Serve REST"] = "ended with 1:\nno"
    here = {**describe(), "load_average": [0.1, 0.1, 0.1]}
    found = Results(here, dict.fromkeys(SECTIONS, here), rounds)
    found.in_process = [{"per_second": 4000.0, "p50_ms": 0.25, "p99_ms": 1.0}]
    pairs = [[Pair(load(1, 2.0), load(1, p99_ms))] for p99_ms in (3.5, 2.18, 2.8)]
    found.tails = Tails(*pairs)
    found.steps = [Steps("REST", 100.0, 20.0, dict.fromkeys(STEPS, 10.0), [("a.py:f: x", 0.5)])]
    found.real = [row("a picture", 50.0, 12.0), row("a text", 95.0, 10.4)]
    found.batching = "not here"
    found.engines = [Comparison("unet", 1, {"TensorFlow": [load(10)], "ONNX Runtime": [load(9)]})]
    found.workers = "this server has no --workers flag"
    found.four = found.ten = Start(0.5, Memory(90.0, 80.0))
    found.gateway, found.client = Gateway(1.0, 2.5, 100), Client(0.3, 80.0, ["numpy"])
    return found


def test_ratios_are_medians_of_the_rounds_ratios_and_goals_say_whether_they_are_reached() -> None:
    reached = {goal.text: (round(goal.value, 2), goal.reached) for goal in check(results())}
    assert reached["REST over its empty handler"] == (70.0, False)
    assert reached["REST over the best Python rival"] == (5.5, True)
    assert reached["p99 of LeNet-5 beside U-Net over alone"] == (1.75, False)
    assert reached["p99 of LeNet-5 while a version is swapped"] == (1.09, True)
    assert reached["p99 of LeNet-5 while 50 models load"] == (1.4, True)
    assert reached["CPU of a request over ONNX Runtime's: REST"] == (5.0, False)
    assert reached["ONNX Runtime over TensorFlow engine"] == (0.9, False)
    assert reached["gateway over direct gRPC, p50"] == (1.5, True)
    assert not any("gRPC" in text and "direct" not in text for text in reached)


def test_the_report_names_every_contender_and_what_was_left_out() -> None:
    found = results()
    text = report.markdown(found)
    assert "| Ladle REST |" in text
    assert "| mosec REST |" in text
    assert "Left out: Ray Serve REST: ended with 1: no" in text
    assert "no --workers flag" in text
    assert "GPU part was not run" in text
    assert "(../Makefile)" in text
    assert "The fastest of three starts" in text  # unlike the other figures, not a median


def test_real_requests_are_judged_by_the_worst_row() -> None:
    goals = [goal for goal in check(results()) if goal.text.startswith("real")]
    share, beyond, rival, any_rival = goals
    assert (round(share.value), share.detail) == (50, "worst of all: a picture; 1 of 2 rows reach it")
    assert (round(beyond.value, 2), beyond.detail) == (2.0, "worst of all: a picture; 1 of 2 rows reach it")
    assert (rival.value, rival.detail) == (2.5, "worst of all: a picture; 1 of 2 rows reach it")
    assert (any_rival.value, any_rival.reached) == (2.5, True)


def test_real_requests_are_never_slower_than_a_rival_and_python_rivals_are_judged_by_themselves() -> None:
    found = results()
    assert found.real is not None
    found.real[0].rivals["Triton"] = [100.0]
    goals = {goal.text: goal for goal in check(found)}
    assert goals["real requests over the best Python rival"].value == 2.5
    every = goals["real requests over any rival, every row"]
    assert (every.value, every.reached) == (0.5, False)
    assert every.detail == "1 of 2 rows miss it; worst of all: a picture, beside Triton"


def test_a_graph_that_does_nothing_is_judged_beside_rivals_and_not_beside_its_limit() -> None:
    found = results()
    found.real = [row(LARGE, 10.0, 90.0), row("a text", 95.0, 10.4)]
    goals = {goal.text: goal for goal in check(found)}
    share = goals["real requests, engines above 1 ms: throughput over the limit"]
    assert share.detail == (
        "worst of all: a text; 1 of 1 rows reach it; without the graph of means, whose engine does almost nothing"
    )
    large = goals["float 1024×1024×3 as JSON over the best rival"]
    assert (large.value, large.reached, large.detail) == (0.5, False, "over mosec")


def test_one_caller_and_a_further_worker_are_judged_by_what_was_measured() -> None:
    found = results()
    found.worker_memory = [WorkerMemory("lenet5", 120.0, 138.0), WorkerMemory("resnet18", 170.0, 215.0)]
    assert "\n| resnet18 | 170 | 215 | 45 |" in report.markdown(found)
    goals = {goal.text: goal for goal in check(found)}
    worker = goals["memory of a further worker (PSS)"]
    assert (worker.value, worker.reached) == (45.0, False)
    assert worker.detail == "lenet5: 138 MB with three, 120 with two; resnet18: 215 MB with three, 170 with two"
    one = goals["p50 of one caller over the empty handler and the engine, REST"]
    assert one.value == pytest.approx(1 / 1.02)
    assert one.detail == "1.000 ms over 1.000 + 0.020 ms"
    found.steps = None
    assert not [goal for goal in check(found) if "the engine, REST" in goal.text]


def test_the_page_says_which_figures_come_from_a_busy_machine() -> None:
    found = results()
    for section, measured in found.machines.items():
        found.machines[section] = {**measured, "cores": 2, "load_average": [20.0 if section == "steps" else 0.1, 0, 0]}
    found.machine = found.machines["steps"]
    text = report.markdown(found)
    assert "Not judged by its goals, for others used the machine meanwhile: Where a small request's time goes." in text
    assert "CPU of a request" not in text
    assert text.count("load average before 20; the machine was busy.") == 1


def test_results_are_the_same_after_a_way_through_json() -> None:
    found = results()
    back = from_dict(json.loads(json.dumps(found.as_dict() | {"targets": []})))
    assert back == found
    assert report.markdown(back) == report.markdown(found)


def test_a_part_measured_anew_keeps_the_other_sections(tmp_path: Path) -> None:
    earlier = results()
    earlier.machines["tails"] = {**earlier.machine, "cores": 1, "time": "2001-01-01T00:00+00:00"}
    (tmp_path / "benchmarks.json").write_text(json.dumps(earlier.as_dict()))
    command_line = [f"--cache={tmp_path / 'cache'}", f"--output={tmp_path}", "--only=client"]
    assert main(command_line) == 0
    page = (tmp_path / "benchmarks.md").read_text()
    assert "Importing `ladle`" in page
    assert "| U-Net requests, one connection | 2.00 | 3.50 | 1.75× |" in page
    assert "Measured elsewhere or earlier" in page.partition("## Tail latency")[2].partition("## Start")[0]
    after = from_dict(json.loads((tmp_path / "benchmarks.json").read_text()))
    assert after.rounds == earlier.rounds
    assert after.client != earlier.client


def test_a_part_is_not_merged_into_results_of_another_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "benchmarks.json").write_text('{"machine": {}, "rounds": null}')
    assert main([f"--cache={tmp_path / 'cache'}", f"--output={tmp_path}", "--only=none"]) == 1
    assert "measure everything, or give another --output" in capsys.readouterr().err
