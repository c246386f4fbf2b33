"""A load generator: one request repeated in an open or a closed loop, with the latency of every answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ladle.clients.errors import LadleError
from ladle.clients.transport.base import AsyncTransport
from ladle.clients.transport.metadata import Signature, TensorInfo
from ladle.clients.transport.operation import BrokenConnection, NotExecuted, Send
from ladle.clients.wire.arrays import Array

SPIN_S = 0.0015
"""asyncio's timers may fire this late, so the end of a wait is spent polling the clock."""
MAX_OPEN = 10_000
"""Most open requests. Beyond that an open loop waits, and the wait counts as latency."""


@dataclass(frozen=True)
class Plan:
    """A measurement.

    rate         requests per second of an open loop; None: a closed loop
    connections  open requests of a closed loop
    """

    seconds: float
    warm_up_s: float
    timeout_s: float
    rate: float | None = None
    connections: int = 1


@dataclass
class Measured:
    """The answers after the warm-up.

    at_s       when each answered request was due, in seconds from the end of the warm-up
    latency_s  its latency; in an open loop from when it was due, so that a server that stalls cannot hide it
    errors     failed requests by code
    seconds    from the end of the warm-up to the last answer
    """

    at_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latency_s) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: float) -> float | None:
        """The latency that `percent` of the answers did not exceed; None without answers."""
        if not self.latency_s:
            return None
        return 1000 * float(np.percentile(self.latency_s, percent, method="higher"))


async def measure(
    transport: AsyncTransport, request: Any, plan: Plan, progress: Callable[[float], None] = lambda done_s: None
) -> Measured:
    """Send `request` as planned. Calls `progress` with the seconds that have passed."""
    result = Measured()
    headers = transport.protocol.access.headers()
    start = time.perf_counter()
    steady, end = start + plan.warm_up_s, start + plan.warm_up_s + plan.seconds
    # `send` and not `predict`: no retries, which would hide errors, and no checks, which would cost the generator time.
    targets = len(transport.protocol.hosts)

    async def ask(due: float, number: int) -> None:
        code = "OK"
        try:
            transport.protocol.content(await transport.send(Send(request, number % targets, headers, plan.timeout_s)))
        except Exception as error:
            code = _code(transport, error, plan.timeout_s)
        now = time.perf_counter()
        if due < steady:  # warm-up
            return
        result.seconds = max(result.seconds, now - steady)
        if code != "OK":
            result.errors[code] = result.errors.get(code, 0) + 1
            return
        result.at_s.append(due - steady)
        result.latency_s.append(now - due)

    async def tell() -> None:
        while True:
            progress(min(time.perf_counter() - start, end - start))
            await asyncio.sleep(0.1)

    teller = asyncio.create_task(tell())
    try:
        if plan.rate is None:
            await asyncio.gather(*(_worker(ask, number, plan.connections, end) for number in range(plan.connections)))
        else:
            await _open_loop(ask, plan.rate, start, end)
    finally:
        teller.cancel()
    return result


async def _worker(ask: Callable[[float, int], Any], number: int, step: int, end: float) -> None:
    while (now := time.perf_counter()) < end:
        await ask(now, number)
        number += step


async def _open_loop(ask: Callable[[float, int], Any], rate: float, start: float, end: float) -> None:
    open_now: set[asyncio.Task[None]] = set()
    number, due = 0, start
    while due < end:
        if (wait_s := due - time.perf_counter()) > SPIN_S:
            await asyncio.sleep(wait_s - SPIN_S)
        while time.perf_counter() < due or len(open_now) >= MAX_OPEN:
            await asyncio.sleep(0)
        task = asyncio.create_task(ask(due, number))
        open_now.add(task)
        task.add_done_callback(open_now.discard)
        number += 1
        due = start + number / rate  # from the start, so that rounding does not add up
    if open_now:
        await asyncio.gather(*open_now)


def _code(transport: AsyncTransport, error: Exception, timeout_s: float) -> str:
    raised = error if isinstance(error, LadleError) else transport.protocol.explain(error, timeout_s, "")
    if isinstance(raised, NotExecuted | BrokenConnection):
        raised = raised.error
    return raised.code if isinstance(raised, LadleError) else "UNKNOWN"


class _Unread:
    """A message class that does not parse: answers are counted, not read."""

    @staticmethod
    def FromString(data: bytes) -> bytes:  # noqa: N802
        return data


def unread(request: Any) -> Any:
    """The request with an answer that stays bytes, which leaves the generator more time for the load."""
    return replace(request, response=_Unread) if hasattr(request, "response") else request


def made_up(signature: Signature, batch: int, size: int) -> dict[str, Array]:
    """Inputs with the declared dtypes and shapes: noise in [0, 1], ones, a sentence or a picture."""
    return {name: _made_up(name, info, batch, size) for name, info in signature.inputs.items()}


def _made_up(name: str, info: TensorInfo, batch: int, size: int) -> Array:
    declared = (None,) if info.shape is None else info.shape
    free = [batch, *[size] * len(declared)]
    shape = tuple(free[axis] if length is None else length for axis, length in enumerate(declared))
    if info.dtype == "string":
        return np.full(shape, _picture(size) if name.endswith("_bytes") else b"a fine film with a warm heart", object)
    if info.numpy.kind == "f":
        return np.random.default_rng(0).random(shape).astype(info.numpy)
    return np.ones(shape, info.numpy)


def _picture(size: int) -> bytes:
    from ladle.clients.drawing import pictures

    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    return pictures.png(pictures.to_image(noise.astype(np.uint8)))


def by_second(measured: Measured, percent: float) -> Mapping[int, float]:
    """The percentile of each second's latencies, in milliseconds."""
    seconds: dict[int, list[float]] = {}
    for at_s, latency_s in zip(measured.at_s, measured.latency_s, strict=True):
        seconds.setdefault(int(at_s), []).append(latency_s)
    return {at: 1000 * float(np.percentile(values, percent)) for at, values in sorted(seconds.items())}
