"""The server says in its log when the disk does not answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.serving.repository.folders import FolderRepository, VersionFolders
from ladle.serving.repository.manager import Manager
from ladle.serving.repository.watcher import Watcher
from ladle.serving.servables.servable import Servable


class Said(logging.Handler):
    """Sets `heard` when a line with the text is logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.heard, self.count = text, threading.Event(), 0

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.count += 1
            self.heard.set()


@pytest.fixture
def said(request: pytest.FixtureRequest) -> Iterator[Said]:
    handler = Said(request.param)
    logger = logging.getLogger("ladle.serving.repository.watcher")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Hanging(FolderRepository):
    """A folder on a disk that answers when the test lets it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers = threading.Event()

    def poll(self) -> VersionFolders:
        assert self.answers.wait(30)
        return super().poll()


@pytest.mark.parametrize("said", ["the repository has not answered for"], indirect=True)
def test_a_repository_that_hangs_is_said_once(tmp_path: Path, said: Said) -> None:
    repository = Hanging(tmp_path)
    watcher = Watcher(repository, Manager(lambda *_: Servable("m", 1, {}, {})), poll_wait_s=0, slow_s=0.02)
    starting = threading.Thread(target=watcher.start)
    starting.start()
    assert said.heard.wait(30)
    assert not watcher.is_ready()
    repository.answers.set()
    starting.join()
    assert watcher.is_ready()
    assert said.count == 1
    watcher.stop()


@pytest.mark.parametrize("said", ["m version 1 still loads after"], indirect=True)
def test_a_load_that_hangs_is_said(tmp_path: Path, said: Said) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    answers = threading.Event()

    def load(*_: Any) -> Servable:
        assert answers.wait(30)
        return Servable("m", 1, {}, {})

    watcher = Watcher(FolderRepository(tmp_path), Manager(load), poll_wait_s=0, slow_s=0.02)
    watcher.start()
    assert said.heard.wait(30)
    answers.set()
    watcher.stop()
