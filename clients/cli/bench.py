"""`ladle bench`: latency and throughput of a signature on a running server."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import numpy as np

from ladle.clients.cli.load_generator import Measured, Plan, made_up, measure, unread
from ladle.clients.cli.options import access, resolve, version_of
from ladle.clients.cli.predict import read_inputs
from ladle.clients.drawing import terminal
from ladle.clients.json_output import print_json
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.library.client import Client

PERCENTS = (50, 90, 99)


def bench(client: Client, given: argparse.Namespace) -> None:
    """Measure one protocol, or both in turn, and print the results. ValueError: no request was answered."""
    plan = Plan(given.seconds, given.warm_up, given.timeout, given.rate, given.connections)
    results = {}
    for target in targets(given):
        name = "rest" if target.startswith("http") else "grpc"
        total_s = plan.warm_up_s + plan.seconds
        with terminal.Progress(f"{name}: measuring", total_s) as progress:
            results[name] = asyncio.run(_measure(target, given, plan, progress))
    rows = [{"protocol": name, **figures(result)} for name, result in results.items()]
    if given.output:
        from ladle.clients.cli.latency_chart import chart

        chart(results, _title(given)).save(given.output, "PNG")
    if given.json:
        load = {"rate": given.rate} if given.rate else {"connections": given.connections}
        answer = {"model": given.name, "signature": given.signature, **load, "seconds": given.seconds}
        print_json({**answer, "results": rows, "output": given.output and str(given.output)})
    else:
        print(_title(given))
        print(_table(rows))
        if given.output:
            print(f"wrote {given.output}")
    if not any(row["answered"] for row in rows):
        codes = ", ".join(sorted({code for row in rows for code in row["errors"]}))
        raise ValueError(f"got only errors: {codes}; expected answers")


def targets(given: argparse.Namespace) -> list[str]:
    """The address for each protocol. InvalidArgument: the REST port is not known."""
    if given.protocol != "both":
        return [resolve(given.address, given.protocol)]
    return [resolve(given.address, "grpc"), resolve(given.rest_address or given.address, "rest")]


async def _measure(target: str, given: argparse.Namespace, plan: Plan, progress: terminal.Progress) -> Measured:
    async with AsyncClient(target, given.timeout, **access(given)) as client:
        metadata = await client.metadata(given.name, **version_of(given))
        signature = metadata.signature(given.signature)
        inputs = dict(made_up(signature, given.batch, given.size))
        if given.input:
            inputs |= signature.arrays(given.name, read_inputs(given.input, signature.inputs))
        # One request that is checked and read in full, so that errors show before the load.
        await client.predict(given.name, inputs, given.signature, **version_of(given))
        request = client.transport.protocol.predict_request(
            given.name, inputs, given.signature, given.version, given.label, None
        )
        return await measure(client.transport, unread(request), plan, progress.at)


def figures(measured: Measured) -> dict[str, Any]:
    """The figures of a measurement; latencies in milliseconds."""
    percentiles = {f"p{percent}_ms": measured.percentile_ms(percent) for percent in PERCENTS}
    mean = 1000 * float(np.mean(measured.latency_s)) if measured.latency_s else None
    return {
        "answered": len(measured.latency_s),
        "per_second": measured.rate,
        "mean_ms": mean,
        **percentiles,
        "max_ms": measured.percentile_ms(100),
        "errors": measured.errors,
    }


def _title(given: argparse.Namespace) -> str:
    load = f"{given.rate:g} requests per second" if given.rate else f"{given.connections} at a time"
    return f"{given.name}, {given.signature}: {load} for {given.seconds:g} s"


def _table(rows: list[dict[str, Any]]) -> str:
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f} ms"

    heading = ("PROTOCOL", "ANSWERED", "PER SECOND", "P50", "P90", "P99", "MAX", "ERRORS")
    cells = [
        (
            row["protocol"],
            str(row["answered"]),
            f"{row['per_second']:.0f}",
            *(ms(row[f"p{percent}_ms"]) for percent in PERCENTS),
            ms(row["max_ms"]),
            ", ".join(f"{code} {count}" for code, count in sorted(row["errors"].items())) or "none",
        )
        for row in rows
    ]
    return terminal.table([heading, *cells], {"none": "green"})
