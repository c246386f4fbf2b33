"""The gateway's side of the model server: one client per process, and the version of each model that answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from flask import g

from ladle.clients.errors import DeadlineExceeded, InvalidArgument, NotFound
from ladle.clients.library import tasks
from ladle.clients.library.client import CallOptions, Client
from ladle.clients.web.catalog import Catalog
from ladle.clients.web.config import Config
from ladle.clients.web.http.metrics import GatewayMetrics
from ladle.clients.web.http.problems import Problem

T = TypeVar("T")

PREDICT = "predict"
"""The verb of every model: any signature, tensors in and out."""
MAX_AGE_S = 1.0
"""The latest version of a model is looked up again after this long."""
MAX_VERSIONS = 1000
"""Cached versions. Callers choose the numbers, so there must be a limit."""


@dataclass(frozen=True)
class Model:
    """A served version of a model, and its signatures."""

    name: str
    version: int
    signatures: tasks.Signatures


class Backend:
    """Config, client, catalog and metrics of one application. Threads share it.

    latest  when each model's latest version was looked up, and that version
    served  names of the models that the server has answered for, whichever version was asked for
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = GatewayMetrics()
        self.latest: dict[str, tuple[float, Model]] = {}
        self.served: set[str] = set()
        self._versions: dict[tuple[str, int], Model] = {}
        self._opening = threading.Lock()
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client, made at its first use: a channel does not survive the fork that makes gunicorn's workers."""
        if self._client is None:
            with self._opening:
                if self._client is None:
                    self._client = self._make_client()
                    # --models may hide some, and a wrong name must cost no further requests.
                    self._client.transport.protocol.suggests_models = False
        return self._client

    def check(self) -> None:
        """InvalidArgument: the settings name no address or proxy, or TLS files that cannot be used."""
        self._make_client().close()

    def _make_client(self) -> Client:
        config = self.config
        return Client(
            config.server,
            timeout_s=config.timeout_s,
            ca=config.ca,
            api_key=config.server_key,
            proxy=config.server_proxy,
        )

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.config, self.client)

    def model(self, name: str, version: int | None = None) -> Model:
        """The latest version, at most MAX_AGE_S old, or `version`. Problem 404: it is not served, or not shown."""
        self.catalog.check_name(name)
        if version is not None:
            key = (name, version)
            if key not in self._versions:
                if len(self._versions) >= MAX_VERSIONS:
                    self._versions.clear()
                self._versions[key] = self._look_up(name, version)
            return self._versions[key]
        at, model = self.latest.get(name, (0.0, None))
        if model is None or time.monotonic() - at > MAX_AGE_S:
            found = self._look_up(name, None)
            # The same object while the version is the same: its signatures cache what they derive.
            model = found if model is None or model.version != found.version else model
            self.latest[name] = time.monotonic(), model
        return model

    def _look_up(self, name: str, version: int | None) -> Model:
        try:
            metadata = self.client.metadata(name, version)
        except InvalidArgument as error:  # a name that no model can have
            raise Problem(404, str(error)) from None
        self.served.add(name)
        return Model(name, metadata.version, self.catalog.signatures(metadata))


class ModelRequest:
    """The calls that one HTTP request makes to one model: to one version while that is served, within one
    time-out, and timed.

    Problem 404: the server does not serve the model, or the model does not have the verb.
    """

    def __init__(self, backend: Backend, name: str, verb: str, version: int | None) -> None:
        self.backend, self.client = backend, backend.client
        self._verb, self._version = verb, version
        self._end = time.monotonic() + backend.config.timeout_s
        self.model = backend.model(name, version)
        self.server_s = 0.0
        if verb not in (*self.model.signatures.verbs, PREDICT):
            verbs = ", ".join(f":{each}" for each in (*self.model.signatures.verbs, PREDICT))
            raise Problem(404, f"{name} does not answer :{verb}; it answers {verbs}.")
        g.verb = verb

    def call(self, function: Callable[[Model, CallOptions], T]) -> T:
        """`function(model, options)`; if the version is gone, once more with the version that took its place.

        The options choose the version and pass on the time that is left. DeadlineExceeded: none is.
        """
        start = time.perf_counter()
        try:
            try:
                return function(self.model, self._options())
            except NotFound:
                if self._version is not None:  # the caller asked for this version and no other
                    raise
                self.backend.latest.pop(self.model.name, None)
                self.model = self.backend.model(self.model.name)
                return function(self.model, self._options())
        finally:
            seconds = time.perf_counter() - start
            self.server_s += seconds
            g.server_s = self.server_s
            self.backend.metrics.model_seconds.labels(self.model.name, self._verb).observe(seconds)

    def _options(self) -> CallOptions:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(f"no answer within {self.backend.config.timeout_s:g} s")
        return {"version": self.model.version, "timeout_s": left_s}

    def result(self, **members: Any) -> dict[str, Any]:
        """The JSON response: the model, its version, the server's time, and `members`."""
        server_ms = round(1000 * self.server_s, 3)
        return {"model": self.model.name, "version": self.model.version, "server_ms": server_ms, **members}
