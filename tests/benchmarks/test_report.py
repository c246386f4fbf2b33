"""The goals and the Markdown page of a run's results."""

from __future__ import annotations

import json

from benchmarks import report
from benchmarks.contenders import Contender, Launch
from benchmarks.engines import Comparison
from benchmarks.front import Client, Gateway
from benchmarks.goals import check
from benchmarks.load import Load
from benchmarks.machine import describe
from benchmarks.processes import Memory
from benchmarks.results import Results
from benchmarks.startup import Start
from benchmarks.tails import Pair, Tails
from benchmarks.throughput import Measurement, Rounds


def load(per_second: float, p99_ms: float = 2.0) -> Load:
    return Load(int(per_second), 0, 1.0, 400.0, 1.0, p99_ms)


def check_nothing(answer: bytes) -> None:
    pass


def contender(name: str, kind: str) -> Contender:
    return Contender(name, kind, False, "/", b"", lambda port, folder: Launch([]), check_nothing)


def results() -> Results:
    rounds = Rounds()
    figures = {("empty handler (ours)", "empty"): [100, 50], ("Ladle", "ladle"): [80, 30]}
    figures[("mosec", "rival")] = [10, 10]
    for (name, kind), values in figures.items():
        title = f"{name} REST"
        rounds.contenders[title] = contender(name, kind)
        rounds.by_title[title] = [Measurement(load(v), load(v), 1.0, 0.0, 0.5, Memory(90.0, 80.0)) for v in values]
    rounds.failures["Ray Serve REST"] = "ended with 1:\nno"
    found = Results(describe(), rounds, [{"per_second": 4000.0, "p50_ms": 0.25, "p99_ms": 1.0}])
    found.tails = Tails([Pair(load(1, 2.0), load(1, 3.5))], [Pair(load(1, 2.0), load(1, 2.2))])
    found.engines = [Comparison("unet", 1, {"TensorFlow": [load(10)], "ONNX Runtime": [load(9)]})]
    found.workers = "this server has no --workers flag"
    found.four = found.ten = Start(0.5, Memory(90.0, 80.0))
    found.gateway, found.client = Gateway(1.0, 2.5, 100), Client(0.3, 80.0, ["numpy"])
    return found


def test_ratios_are_medians_of_the_rounds_ratios_and_goals_say_whether_they_are_reached() -> None:
    reached = {goal.text: (round(goal.value, 2), goal.reached) for goal in check(results())}
    assert reached["REST over its empty handler"] == (70.0, False)
    assert reached["REST over the best rival"] == (5.5, True)
    assert reached["p99 of LeNet-5 beside U-Net over alone"] == (1.75, False)
    assert reached["p99 of LeNet-5 while a version is swapped"] == (1.1, True)
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
    assert "The fastest of three starts" in text  # unlike the other figures, not a median
    assert json.loads(json.dumps(found.as_dict()))["rounds"]["turns"]["mosec REST"][0]["many"]["requests"] == 10
