"""Rates, latencies and batch sizes, from the Prometheus metrics of the model server and of the gateway."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ladle.clients.errors import LadleError
from ladle.clients.transport.access import Access
from ladle.clients.transport.proxies import route
from ladle.clients.web.http.problems import log

WINDOW_S = 10.0
"""Rates and quantiles cover about this many seconds."""
FRESH_S = 0.5
"""Metrics this young are not read again."""
TIMEOUT_S = 2.0
MAX_BYTES = 8_000_000
_TF, _OWN = ":tensorflow:serving:", ":ladle:serving:"
_GATEWAY = "ladle_gateway_"


@dataclass
class Counts:
    """Counts of a model since the server started. `buckets`: cumulative counts by upper limit in milliseconds."""

    requests: float = 0
    errors: float = 0
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    runs: float = 0
    rows: float = 0


Scrape = dict[str, Counts]


class Source:
    """The last scrapes of one set of metrics. Threads share it."""

    def __init__(self, scrape: Callable[[], Scrape]) -> None:
        self._scrape = scrape
        self._lock = threading.Lock()
        self._history: list[tuple[float, Scrape]] = []
        self._failure: tuple[float, Exception] | None = None

    def figures(self) -> dict[str, Any]:
        """Totals since the start; rates, median and 99th percentile between the oldest and the newest scrape kept.

        Raises what the scrape raises, and for TIMEOUT_S raises it again without a scrape: otherwise requests that wait
        for the lock would each wait for a time-out in turn.
        """
        with self._lock:
            now = time.monotonic()
            if not self._history or now - self._history[-1][0] > FRESH_S:
                self._history = [entry for entry in self._history if now - entry[0] <= 1.5 * WINDOW_S]
                self._history.append((now, self._fresh()))
            while len(self._history) > 2 and now - self._history[1][0] >= WINDOW_S:
                self._history.pop(0)
            (start, before), (end, after) = self._history[0], self._history[-1]
        models = [
            {"name": name, **_figures(before.get(name, Counts()), counts, end - start)}
            for name, counts in sorted(after.items())
        ]
        everything = _figures(_total(before.values()), _total(after.values()), end - start)
        everything.pop("batch_size")
        return {"window_s": round(end - start, 3), **everything, "models": models}

    def _fresh(self) -> Scrape:
        if self._failure is not None and time.monotonic() - self._failure[0] < TIMEOUT_S:
            raise self._failure[1]
        try:
            return self._scrape()
        except Exception as error:
            self._failure = (time.monotonic(), error)
            raise


def parse_server(text: str) -> Scrape:
    """Counts by model from the text of a model server: TensorFlow Serving's metrics, and Ladle's own if it has them."""
    found: Scrape = defaultdict(Counts)
    for sample in _samples(text):
        labels, name = sample.labels, sample.name.removesuffix("_total")  # the parser adds it to every counter
        counts = found[labels["model_name"]] if labels.get("model_name") else None
        if counts is None:
            continue
        if name == f"{_TF}request_count" and labels.get("status") != "OK":
            counts.requests += sample.value
            counts.errors += sample.value
        elif name == f"{_TF}request_latency_count" and labels.get("API"):  # "": a request for status or metadata
            counts.requests += sample.value
        elif name == f"{_TF}request_latency_bucket" and labels.get("API"):
            counts.buckets[float(labels["le"]) / 1000] += sample.value
        elif name == f"{_OWN}runtime_latency_count":
            counts.runs += sample.value
        elif name == f"{_OWN}row_count":
            counts.rows += sample.value
    return {name: counts for name, counts in found.items() if counts.requests}


def parse_gateway(text: str) -> Scrape:
    """Counts by model from the text of the gateway."""
    found: Scrape = defaultdict(Counts)
    for sample in _samples(text):
        labels, name = sample.labels, sample.name
        if not labels.get("model"):
            continue
        counts = found[labels["model"]]
        if name == f"{_GATEWAY}requests_total":
            counts.requests += sample.value
            counts.errors += sample.value if labels["status"] >= "400" else 0
        elif name == f"{_GATEWAY}request_duration_seconds_bucket":
            counts.buckets[float(labels["le"]) * 1000] += sample.value
    return dict(found)


@dataclass(frozen=True)
class PrometheusEndpoint:
    """Prometheus text at an address that the operator chose, read with the model server's credentials and proxy."""

    url: str
    access: Access
    proxy: str | None = None

    def text(self) -> str:
        """The text. OSError, HTTPException or ValueError: it cannot be read; InvalidArgument: the CA cannot be."""
        request = urllib.request.Request(self.url, headers={"Accept": "text/plain"})  # noqa: S310
        for name, value in self.access.headers():
            request.add_unredirected_header(name, value)  # a redirect to another host must not get the key
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            text: str = answer.read(MAX_BYTES).decode("utf-8", "replace")
            return text

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        address = urlsplit(self.url)
        way = route(address.scheme, address.netloc, self.proxy)
        proxies = {} if way.proxy is None else {address.scheme: way.proxy.url}
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler(proxies)]
        if address.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=self.access.ssl_context()))
        return urllib.request.build_opener(*handlers)


def read(source: Source | None) -> tuple[dict[str, Any] | None, str | None]:
    """The model server's figures, or why there are none."""
    if source is None:
        return None, "The gateway does not know the address of the model server's metrics; start it with --rest."
    try:
        return source.figures(), None
    except urllib.error.HTTPError as error:
        log.warning("metrics of the model server: %s", error)
        return None, f"Got status {error.code} instead of metrics; start the model server with --enable_metrics."
    except (OSError, ValueError, HTTPException, LadleError) as error:
        log.warning("metrics of the model server: %s", error)
        return None, "The model server's metrics cannot be read."


def quantile(before: Counts, after: Counts, share: float) -> float | None:
    """The latency that `share` of the requests between two scrapes did not exceed, in ms; None without requests.

    As Prometheus's `histogram_quantile`: linear within a bucket.
    """
    limits = sorted(after.buckets)
    counts = [after.buckets[limit] - before.buckets.get(limit, 0) for limit in limits]
    if not counts or counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    low, below = 0.0, 0.0
    for limit, count in zip(limits, counts, strict=True):
        if count >= rank:
            if limit == float("inf"):
                return low
            return low + (limit - low) * (rank - below) / (count - below)
        low, below = limit, count
    return low


def _figures(before: Counts, after: Counts, seconds: float) -> dict[str, Any]:
    if after.requests < before.requests:  # the server has restarted
        before = Counts()
    p50, p99 = (quantile(before, after, share) for share in (0.5, 0.99))
    return {
        "requests": int(after.requests),
        "errors": int(after.errors),
        "requests_per_second": round((after.requests - before.requests) / seconds, 3) if seconds else None,
        "p50_ms": None if p50 is None or not seconds else round(p50, 3),
        "p99_ms": None if p99 is None or not seconds else round(p99, 3),
        "batch_size": round(after.rows / after.runs, 3) if after.runs else None,
    }


def _total(counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for each in counts:
        total.requests += each.requests
        total.errors += each.errors
        for limit, count in each.buckets.items():
            total.buckets[limit] += count
    return total


def _samples(text: str) -> Iterable[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples
