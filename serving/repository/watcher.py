"""Polls the repository and the configuration file while the server runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.serving.errors import FailedPrecondition, NotFound, ServingError
from ladle.serving.repository.acceptance import Acceptance
from ladle.serving.repository.folders import (
    ConfiguredRepository,
    ModelConfig,
    Repository,
    RequestLogging,
    VersionFolders,
)
from ladle.serving.repository.manager import Manager
from ladle.serving.repository.traffic import Traffic
from ladle.serving.repository.traffic_file import TrafficFile
from ladle.serving.runtime.text_proto import read_text_proto

log = logging.getLogger(__name__)

_REPEAT_S = 60.0


class Watcher:
    """Keeps the manager's aspired versions, and the labels, as the repository and the configuration have them.

    poll_wait_s         seconds between polls of the file system; 0: poll once, below 0: at a new configuration only
    config_file         read again every `config_poll_wait_s` seconds if that is above 0; a bad file changes nothing
    allow_unavailable_labels  whether a new label may name a version that is not loaded
    config_root         folder that must hold the base paths of configurations sent over gRPC
    waits_for_models    whether start-up and reloads wait for a model that has no version yet
    log_folder          that holds the files of request logs; None: no request is logged
    traffic_file        read again every `traffic_poll_wait_s` seconds if that is above 0; a bad file changes nothing
    slow_s              after how many seconds the log says that the repository does not answer, or a version still
                        loads; then once a minute
    """

    def __init__(
        self,
        repository: Repository,
        manager: Manager[Any],
        poll_wait_s: float = 1.0,
        config_file: Path | None = None,
        config_poll_wait_s: float = 0.0,
        allow_unavailable_labels: bool = False,
        config_root: Path | None = None,
        waits_for_models: bool = False,
        slow_s: float = 30.0,
        log_folder: Path | None = None,
        traffic_file: Path | None = None,
        traffic_poll_wait_s: float = 0.0,
    ) -> None:
        """FailedPrecondition when a label names a version that cannot answer; InvalidArgument for unusable traffic."""
        self.repository = repository
        self.manager = manager
        self.waits_for_models = waits_for_models
        self._poll_wait_s = poll_wait_s
        self._config_file = config_file
        self._config_poll_wait_s = config_poll_wait_s
        self._config_root = config_root
        self._config = read_text_proto(config_file, pb.ModelServerConfig) if config_file else None
        # One poll or configuration at a time. Re-entrant, because a new configuration polls while it holds the lock.
        self._changing = threading.RLock()
        self._stop = threading.Event()
        self._slow_s = slow_s
        self._poll_began: float | None = None
        self._was_ready = False
        self._aspired: VersionFolders = {}
        self._starting: frozenset[str] = frozenset()
        self._unloaded: set[str] = set()  # by request; it outlives neither a new configuration nor the process
        self._acceptance = Acceptance(
            repository.configured().values(), self._is_available, allow_unavailable_labels, log_folder
        )
        self._logging = _logging_of(repository.configured().values())
        self._traffic_poll_wait_s = traffic_poll_wait_s if traffic_file is not None else 0.0
        self._traffic_file = (
            TrafficFile(traffic_file, repository.configured(), self.labels, self._is_answered) if traffic_file else None
        )

    @property
    def logging(self) -> Mapping[str, RequestLogging]:
        """The request log of each model that has one."""
        return self._logging

    @property
    def traffic(self) -> Traffic:
        """How requests are split and copied, by model."""
        return self._traffic_file.traffic if self._traffic_file is not None else {}

    @property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Version numbers by model and label."""
        return self._acceptance.labels

    def start(self) -> None:
        """Poll once, then go on in a thread."""
        threading.Thread(target=self._watch_storage, name="slow-storage", daemon=True).start()
        if self._poll_wait_s >= 0:
            self.poll(at_start=True)
        if max(self._poll_wait_s, self._config_poll_wait_s, self._traffic_poll_wait_s) > 0:
            threading.Thread(target=self._run, name="watcher", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its current poll."""
        self._stop.set()

    def poll(self, at_start: bool = False) -> None:
        """Look at the repository once."""
        with self._changing:
            self._poll_began = time.monotonic()
            found = self.repository.poll()
            self._aspired = {model: {} if model in self._unloaded else numbers for model, numbers in found.items()}
            if at_start:
                self._starting = frozenset(self._aspired)
            self.manager.set_aspired_versions(self._aspired)
            self._poll_began = None

    def is_configured(self, model: str) -> bool:
        return model in self.repository.configured()

    def is_ready(self) -> bool:
        """Whether every configured model is available.

        With --repository, whether each has once loaded or failed, and a version answers or the folder holds none.
        """
        if self.repository.requires_models:
            models = [model for model in self.repository.configured() if model not in self._unloaded]
            return all(self.manager.is_available(model) or self.manager.is_loadable(model) for model in models)
        # A model that appears later must not take the others out of a load balancer while it loads.
        if not self._was_ready:
            self._was_ready = self.repository.is_readable and all(map(self._is_tried, self._aspired.items()))
        if not self._was_ready:
            return False
        if self.manager.available() or self.manager.loadable():
            return True
        return self.repository.is_readable and not any(self._aspired.values())

    def _is_tried(self, aspired: tuple[str, Mapping[int, Path]]) -> bool:
        model, versions = aspired
        return not versions or (bool(self.manager.status(model)) and self.manager.is_settled(model))

    def starting(self) -> frozenset[str]:
        """The models that were there at the start and have neither loaded nor failed yet."""
        return frozenset(model for model in self._starting if not self.manager.is_settled(model))

    def is_starting(self, model: str) -> bool:
        return model in self.starting()

    def reload(self, config: Any) -> list[str]:
        """Replace the configuration by a ModelServerConfig that came over gRPC; the names of the added models.

        ServingError when it is refused; the models then stay as they are.
        """
        return self._apply(config, self._config_root)

    def load(self, model: str) -> None:
        """Begin to load what the repository has of a model now. NotFound: no such model, or no version of it."""
        with self._changing:
            self._unloaded.discard(model)
            self.poll()
            if not self.is_configured(model):
                raise NotFound(f"got the model {model!r:.100}, which the repository does not have; check its name")
            if not self._aspired.get(model):
                raise NotFound(f"{model} has no version that could be loaded; put one into its folder")
            self.manager.retry(model)

    def unload(self, model: str) -> None:
        """Unload a model, and keep it so until `load` or a new configuration. NotFound: no such model."""
        with self._changing:
            if not self.is_configured(model):
                raise NotFound(f"got the model {model!r:.100}, which the repository does not have; check its name")
            self._unloaded.add(model)
            self._aspired = {**self._aspired, model: {}}
            self.manager.set_aspired_versions(self._aspired)

    def _apply(self, config: Any, root: Path | None) -> list[str]:
        repository = self.repository
        if not isinstance(repository, ConfiguredRepository):
            raise FailedPrecondition(
                "This server serves the models of a folder (--repository), which no configuration can replace; "
                "start it with --model_config_file."
            )
        with self._changing:
            before = repository.configured()
            models = self._acceptance.accept(config, root)
            repository.replace(models)
            self._unloaded.clear()
            self._logging = _logging_of(models)
            self.poll()
            return [model.name for model in models if model.name not in before]

    def _is_available(self, model: str, version: int) -> bool:
        return version in self.manager.available().get(model, [])

    def _is_answered(self, model: str, version: int) -> bool:
        return self._is_available(model, version) or self.manager.is_loadable(model)

    def _run(self) -> None:
        never = float("inf")
        next_poll = time.monotonic() + self._poll_wait_s if self._poll_wait_s > 0 else never
        next_config = time.monotonic() + self._config_poll_wait_s if self._config_poll_wait_s > 0 else never
        next_traffic = time.monotonic() + self._traffic_poll_wait_s if self._traffic_poll_wait_s > 0 else never
        while not self._stop.wait(max(0.0, min(next_poll, next_config, next_traffic) - time.monotonic())):
            try:
                if time.monotonic() >= next_config:
                    next_config = time.monotonic() + self._config_poll_wait_s
                    self._reread()
                if time.monotonic() >= next_poll:
                    next_poll = time.monotonic() + self._poll_wait_s
                    self._starting = self.starting()  # a model that is removed and comes back does not start again
                    self.poll()
                if time.monotonic() >= next_traffic:
                    next_traffic = time.monotonic() + self._traffic_poll_wait_s
                    self._look_at_traffic()
            except Exception:  # the thread must outlive any fault of one poll, or new versions never load again
                log.exception("polling failed; the next poll tries again")

    def _look_at_traffic(self) -> None:
        assert self._traffic_file is not None
        if self._traffic_file.look(self.repository.configured(), self.labels):
            self.manager.show()

    def _watch_storage(self) -> None:
        """Say in the log when the disk does not answer: reading it then waits for ever, without an error."""
        said = 0.0
        while not self._stop.wait(self._slow_s / 2):
            now = time.monotonic()
            began = self._poll_began
            slow = []
            if began is not None and now - began >= self._slow_s:
                slow.append(f"the repository has not answered for {now - began:.0f} s")
            slow += [f"{name} still loads after {s:.0f} s" for name, s in self.manager.loading() if s >= self._slow_s]
            if slow and now >= said + _REPEAT_S:
                said = now
                log.warning("%s; a network disk may hang", "; ".join(slow))

    def _reread(self) -> None:
        """Apply the configuration file if its content differs from the last one applied."""
        assert self._config_file is not None
        try:
            config = read_text_proto(self._config_file, pb.ModelServerConfig)
            if config == self._config:
                return
            self._apply(config, None)  # whoever writes the file may name any folder, so there is no root
            self._config = config
            models = [entry.name for entry in config.model_config_list.config]
            log.info("new configuration: %s", ", ".join(models) or "no models")
        except ServingError as error:
            log.error("configuration not changed: %s", error)


def _logging_of(models: Iterable[ModelConfig]) -> dict[str, RequestLogging]:
    return {model.name: model.logging for model in models if model.logging is not None}
