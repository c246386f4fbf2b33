"""Starting the gateway."""

from __future__ import annotations

import socket

import pytest

from clients.web.__main__ import main


def test_a_port_that_is_taken_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--models", "lenet5"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"ladle gateway: 127.0.0.1:{port}: Address already in use")
    assert said.count("\n") == 1
