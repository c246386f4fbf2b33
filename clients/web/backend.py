"""The gateway's side of the model server: one client for the process, and the version of each model that answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from flask import g

from ladle.clients.errors import InvalidArgument, NotFound
from ladle.clients.library import tasks
from ladle.clients.library.client import CallOptions, Client
from ladle.clients.transport.protocol import Deadline
from ladle.clients.web.catalog import Catalog
from ladle.clients.web.config import Config
from ladle.clients.web.http.measures import Measures
from ladle.clients.web.http.problems import Problem

T = TypeVar("T")

AGE_S = 1.0
"""For how long a version counts as the one that answers."""


@dataclass(frozen=True)
class Model:
    """A version of a model that can be asked, and its signatures."""

    name: str
    version: int
    signatures: tasks.Signatures


class Backend:
    """Config, client, catalog and measures of one application. Threads share it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.measures = Measures()
        self._opening = threading.Lock()
        self._client: Client | None = None
        self._models: dict[tuple[str, int | None], tuple[float, Model]] = {}

    @property
    def client(self) -> Client:
        """The client. It is opened late because a channel does not survive the fork that makes gunicorn's workers."""
        if self._client is None:
            with self._opening:
                if self._client is None:
                    config = self.config
                    self._client = Client(
                        config.server, timeout_s=config.timeout_s, ca=config.ca, api_key=config.server_key
                    )
        return self._client

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.config, self.client)

    def model(self, name: str, version: int | None = None) -> Model:
        """The version that answers now (or `version`). Problem 404: the server has none such."""
        key = (name, version)
        asked, model = self._models.get(key, (0.0, None))
        if model is None or time.monotonic() - asked > AGE_S:
            try:
                metadata = self.client.metadata(name, version)
            except InvalidArgument as error:
                raise Problem(404, str(error)) from None
            if model is None or model.version != metadata.version:
                model = Model(name, metadata.version, tasks.of_metadata(metadata))
            if len(self._models) > 1000:  # callers choose the version
                self._models.clear()
            self._models[key] = (time.monotonic(), model)
        return model

    def knows(self, name: str) -> bool:
        """Whether the server has told of the model lately: names that callers make up are not counted."""
        return (name, None) in self._models

    def forget(self, name: str) -> None:
        for key in [key for key in list(self._models) if key[0] == name]:  # other threads add to it
            self._models.pop(key, None)


class Question:
    """What one request asks of one model: every call goes to the same version, within one time-out, and is timed.

    Problem 404: the server does not know the model, or the model does not answer the verb.
    """

    def __init__(self, backend: Backend, name: str, verb: str, version: int | None) -> None:
        self.backend, self._verb, self._wanted = backend, verb, version
        self._deadline = Deadline("the model server", backend.config.timeout_s)
        self.model = backend.model(name, version)
        self.server_s = 0.0
        if verb not in self.model.signatures.verbs:
            answered = ", ".join(f":{each}" for each in self.model.signatures.verbs) or "nothing here"
            raise Problem(404, f"{name} does not answer :{verb}; it answers {answered}.")
        g.verb = verb

    @property
    def which(self) -> CallOptions:
        """The version of a call, and the seconds that are left for it. DeadlineExceeded: none are."""
        return {"version": self.model.version, "timeout_s": self._deadline.left_s()}

    def ask(self, question: Callable[[Model], T]) -> T:
        """`question(model)`; once more with the version that has taken its place when it is gone."""
        start = time.perf_counter()
        try:
            try:
                return question(self.model)
            except NotFound:
                if self._wanted is not None:
                    raise
                self.backend.forget(self.model.name)
                self.model = self.backend.model(self.model.name)
                return question(self.model)
        finally:
            seconds = time.perf_counter() - start
            self.server_s += seconds
            g.server_s = self.server_s
            self.backend.measures.asked(self.model.name, self._verb, seconds)
