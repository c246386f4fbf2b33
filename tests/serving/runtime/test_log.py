"""Lines that callers cause are rate-limited."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from ladle.serving.runtime import log


def test_a_message_is_logged_once_a_minute_with_a_count_of_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    logger = logging.getLogger("a caller")
    with caplog.at_level(logging.INFO):
        for i in range(4):
            log.log_caller_error(logger, "refused %d", i)
        log.log_caller_error(logger, "another %s", "kind")
        clock[0] += 60
        log.log_caller_error(logger, "refused %d", 4)
        clock[0] += 60
        log.log_caller_error(logger, "refused %d", 5)
    found = [record.getMessage() for record in caplog.records]
    assert found == ["refused 0", "another kind", "refused 4 (3 more such lines were left out)", "refused 5"]
