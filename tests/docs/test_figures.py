"""The figures of our servers in README.md and docs/ are those of docs/benchmarks.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import goals, report, results
from benchmarks.engines import Comparison
from benchmarks.throughput import Measurement, median
from tests.blocks import ROOT

DOCS = ROOT / "docs"
RECORD = results.from_dict(json.loads((DOCS / "benchmarks.json").read_text()))
LINK = re.compile(r"\]\([^)]*\bbenchmarks\.md[)#]")
UNIT = r"(?:times|µs|ms|s|MB|calls|requests|%)"
FIGURE = re.compile(rf"\d(?: to [\d.,]+\d)? {UNIT}(?!\w)")


def per_second(measured: Measurement) -> float:
    return measured.many.per_second


def comparison(model: str, connections: int) -> Comparison:
    """Batching beside each request by itself."""
    assert isinstance(RECORD.batching, list)
    [one] = [each for each in RECORD.batching if (each.model, each.connections) == (model, connections)]
    return one


def sentences() -> Iterator[tuple[str, str]]:
    """Each page and what it has to say, with the figures of the record."""
    rounds, ten, engines = RECORD.rounds, RECORD.ten, RECORD.engines
    assert rounds
    assert ten
    assert isinstance(engines, list)
    assert RECORD.gateway
    assert RECORD.client

    goal = {goal.text: goal.value for goal in goals.check(RECORD)}
    if "REST over the best Python rival" in goal:  # else others used the machine meanwhile, and no goal is judged
        rest, grpc = goal["REST over the best Python rival"], goal["gRPC over the best Python rival"]
        over = f"Ladle answered {rest:.1f} times (REST) and {grpc:.1f} times (gRPC) the LeNet-5 requests"
        yield "README.md", over
        yield "docs/serve.md", over

    operations = "docs/operations.md"
    one, two = (rounds.median(title, per_second) for title in ("Ladle REST", "Ladle REST, 2 workers"))
    yield operations, f"LeNet-5 went from {one:,.0f} to {two:,.0f} requests a second over REST"
    workers = next(each for each in RECORD.worker_memory or [] if each.model == "lenet5")
    yield (
        operations,
        f"With LeNet-5, two workers took {workers.two_mb:.0f} MB and three {workers.three_mb:.0f} MB; a further one "
        f"adds {workers.further_mb:.0f} MB.",
    )
    memory_mb = ten.memory.pss_mb
    yield operations, f"Ten small models took {memory_mb:.0f} MB"
    resnet, lenet, one_caller = (comparison(*which) for which in (("resnet18", 16), ("lenet5", 16), ("lenet5", 1)))
    busy = " Others used the machine meanwhile." * RECORD.is_busy("batching")
    yield (
        operations,
        f"ResNet-18 answered {resnet.ratio('batching'):.2f} times as many requests, LeNet-5 "
        f"{lenet.ratio('batching'):.2f} times; with one connection, LeNet-5 answered "
        f"{one_caller.ratio('batching'):.2f} times as many.{busy} Ladle's server never",
    )
    slow = median([load.per_second for load in resnet.loads["each by itself"]])
    yield (
        operations,
        f"500 requests may wait for a model: at the {slow:.0f} a second that ResNet-18 managed without "
        f"batching, that is {500 / slow:.1f} seconds",
    )
    yield operations, f"The gateway added {RECORD.gateway.overhead_ms:.2f} ms at the median"

    empty = {name: rounds.median(f"empty handler ({name}) gRPC", per_second) for name in ("ours", "pygrpc-native")}
    grpcio = rounds.median("empty handler (grpcio) gRPC", per_second)
    uvicorn = rounds.ratio("empty handler (ours) REST", "empty handler (uvicorn) REST")
    yield (
        "docs/decisions/0002-own-transports.md",
        f"The empty method answers {empty['ours']:,.0f} calls a second now, on pygrpc-native "
        f"{empty['pygrpc-native']:,.0f} and on grpcio {grpcio:,.0f}; the empty REST handler answers "
        f"{uvicorn:.1f} times as many",
    )
    ratios = [each.ratio("ONNX Runtime") for each in engines]
    decision = "docs/decisions/0003-onnx-runtime.md"
    yield decision, f"It answers {min(ratios):.2f} to {max(ratios):.2f} times as many now"
    yield decision, f"It is ready in {ten.ready_s:.2f} s and holds {memory_mb:.0f} MB (PSS) now"
    yield "docs/decisions/0004-one-package-name.md", f"takes {RECORD.client.import_s:.2f} s now"
    [image] = [row for row in RECORD.real or [] if row.title.startswith("float 1024×1024×3, JSON")]
    assert image.best_rival
    yield (
        "docs/decisions/0007-compiled-numbers.md",
        f"An image of 1024×1024×3 numbers is answered {image.best_rival[1]:.1f} times as often as by the best rival",
    )

    cpu_us = {step.title: step.cpu_us for step in RECORD.steps or []}
    yield (
        "docs/ask/open-inference.md",
        f"a request to LeNet-5 takes {cpu_us['V2 binary']:.0f} µs of the server's processor time as a binary tensor "
        f"over REST, {cpu_us['REST']:.0f} µs as JSON and {cpu_us['gRPC']:.0f} µs over gRPC",
    )


SENTENCES = list(sentences())


def words(text: str) -> str:
    """The text with one blank wherever it has blanks or a new line."""
    return " ".join(text.split())


@pytest.mark.parametrize(("page", "sentence"), SENTENCES, ids=[f"{page} {text[:40]}" for page, text in SENTENCES])
def test_a_figure_is_the_recorded_one(page: str, sentence: str) -> None:
    assert sentence in words((ROOT / page).read_text(encoding="utf-8"))


def test_the_page_of_the_benchmarks_shows_the_record() -> None:
    assert (DOCS / "benchmarks.md").read_text(encoding="utf-8") == report.markdown(RECORD)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_what_refers_to_the_benchmarks_has_checked_figures(page: Path) -> None:
    """A paragraph, or an item of a list, with a link to the benchmarks and figures has one of the sentences above."""
    checked = [sentence for name, sentence in SENTENCES if ROOT / name == page]
    for part in re.split(r"\n\n|\n(?=- )", page.read_text(encoding="utf-8")):
        text = words(part)
        if LINK.search(text) and FIGURE.search(text):
            assert any(sentence in text for sentence in checked), text
