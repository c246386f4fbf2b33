"""`ladle status`: once, as a stream of lines, and in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ladle.clients.cli.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


def test_all_models_are_listed_where_the_server_can(tiny_server: Any, capsys: Any) -> None:
    for address in (f"grpc://127.0.0.1:{tiny_server.grpc_port}", f"http://127.0.0.1:{tiny_server.rest_port}"):
        assert main(["status", "--json", "--address", address]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert {(row["model"], row["version"], row["state"]) for row in rows} == {
            (name, 1, "AVAILABLE") for name in ("half_plus_two", "half_plus_three", "classifier", "identities")
        }


def watch(*arguments: str, **how: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ladle.clients", "status", "--watch", "--interval", "0.05", *arguments]
    return subprocess.Popen(command, cwd=ROOT, **how)


def test_watching_in_json_prints_a_line_each_and_reports_when_the_server_stops(server: Any) -> None:
    with watch("unet", "--json", "--address", f"grpc://{server.grpc}", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        looks = [json.loads(running.stdout.readline()) for _ in range(2)]
        assert [row["state"] for look in looks for row in look["models"]] == ["AVAILABLE"] * 2
        running.send_signal(signal.SIGINT)
        running.stdout.read()
        assert running.wait(30) == 0


def test_a_server_that_is_not_there_is_waited_for() -> None:
    address = "grpc://localhost:1"
    with watch("unet", "--json", "--address", address, "--timeout", "0.2", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        look = json.loads(running.stdout.readline())
        assert look["models"] == []
        assert "localhost:1" in look["error"]
        running.send_signal(signal.SIGINT)
        running.stdout.read()
        assert running.wait(30) == 0


def test_in_a_terminal_the_table_is_written_over_until_ctrl_c(server: Any) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with watch("unet", "--address", f"grpc://{server.grpc}", stdout=theirs, env=environment) as running:
        os.close(theirs)
        seen = b""
        while seen.count(b"\x1b[3A") < 2:  # heading, columns, one model
            seen += os.read(ours, 65536)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
        while b"\x1b[?25h" not in seen:  # the cursor is shown again
            seen += os.read(ours, 65536)
    os.close(ours)
    assert b"\x1b[2J" not in seen  # nothing is blanked: no flicker
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    assert re.search(r"unet +3 +AVAILABLE", plain)
    assert "Ctrl-C to stop" in plain
