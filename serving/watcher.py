"""Polls the repository and the configuration file while the server runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from serving.config import check_labels, read_models
from serving.errors import ServingError
from serving.manager import Manager
from serving.repository import ConfiguredRepository, ModelConfig, Repository

log = logging.getLogger(__name__)


class Watcher:
    """Keeps the manager's wanted versions, and the labels, as the repository and the configuration say.

    labels            versions by model and label; replaced as a whole
    poll_wait_s       pause between polls of the file system; 0: poll once, below 0: never
    config_file       read again every `config_poll_wait_s` if that is above 0; a bad file changes nothing
    allow_unavailable_labels   whether a new label may name a version that is not loaded
    """

    def __init__(
        self,
        repository: Repository,
        manager: Manager,
        poll_wait_s: float = 1.0,
        config_file: Path | None = None,
        config_poll_wait_s: float = 0.0,
        allow_unavailable_labels: bool = False,
    ) -> None:
        self.repository = repository
        self.manager = manager
        self.labels: Mapping[str, Mapping[str, int]] = {}
        self._poll_wait_s = poll_wait_s
        self._config_file = config_file
        self._config_poll_wait_s = config_poll_wait_s
        self._allow_unavailable_labels = allow_unavailable_labels
        self._stop = threading.Event()
        self._adopt_labels(list(repository.configured().values()))

    def start(self) -> None:
        """Polls once, then goes on in a thread. ServingError when a label may not be given."""
        if self._poll_wait_s >= 0:
            self.poll()
        if self._poll_wait_s > 0 or self._config_poll_wait_s > 0:
            threading.Thread(target=self._run, name="watcher", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def poll(self) -> None:
        self.manager.set_wanted(self.repository.poll())

    def apply(self, models: list[ModelConfig]) -> None:
        """Replaces the configuration; ServingError, and no change, when it is not acceptable."""
        assert isinstance(self.repository, ConfiguredRepository)
        self._adopt_labels(models)
        self.repository.replace(models)
        self.poll()

    def _adopt_labels(self, models: list[ModelConfig]) -> None:
        check_labels(models, self.labels, self._is_available, self._allow_unavailable_labels)
        self.labels = {model.name: dict(model.labels) for model in models if model.labels}

    def _is_available(self, model: str, version: int) -> bool:
        return version in self.manager.available().get(model, [])

    def _run(self) -> None:
        never = float("inf")
        next_poll = time.monotonic() + self._poll_wait_s if self._poll_wait_s > 0 else never
        next_config = time.monotonic() + self._config_poll_wait_s if self._config_poll_wait_s > 0 else never
        while not self._stop.wait(max(0.0, min(next_poll, next_config) - time.monotonic())):
            try:
                if time.monotonic() >= next_config:
                    next_config = time.monotonic() + self._config_poll_wait_s
                    self._reread()
                if time.monotonic() >= next_poll:
                    next_poll = time.monotonic() + self._poll_wait_s
                    self.poll()
            except Exception:
                log.exception("polling failed; the next poll tries again")

    def _reread(self) -> None:
        assert self._config_file is not None
        try:
            models = read_models(self._config_file)
            assert isinstance(self.repository, ConfiguredRepository)
            if models != list(self.repository.configured().values()):
                self.apply(models)
                log.info("configuration read again: %s", ", ".join(model.name for model in models) or "no models")
        except ServingError as error:
            log.error("configuration not changed: %s", error)
