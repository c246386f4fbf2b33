"""The gateway's side of the model server: one client for the process, opened when it is first needed."""

from __future__ import annotations

import threading
from functools import cached_property

from clients.client import Client
from clients.errors import InvalidArgument
from clients.web.catalog import Catalog, described, verbs
from clients.web.config import Config
from clients.web.problems import Problem


class Backend:
    """Config, client and catalog of one application. Threads share it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._opening = threading.Lock()
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client. It is opened late because a channel does not survive the fork that makes gunicorn's workers."""
        with self._opening:
            if self._client is None:
                self._client = Client(self.config.server, timeout_s=self.config.timeout_s)
            return self._client

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.config, self.client)

    def verbs(self, name: str) -> list[str]:
        """What the model answers, by the signatures that the server has now. NotFound: it has no such model."""
        try:
            return verbs(described(self.client.transport.known_metadata(name, timeout_s=self.config.timeout_s)))
        except InvalidArgument as error:
            raise Problem(404, str(error)) from None
