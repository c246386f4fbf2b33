"""The tutorial on one's own folder of photos, from the first block to the last, in one folder."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from ladle import command
from ladle.clients.web import create_app
from ladle.clients.web.config import Config
from tests import blocks
from tests.blocks import ROOT


def test_photos_are_trained_on_looked_at_served_and_asked(
    tmp_path: Path, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [block for block in blocks.read(ROOT / "docs" / "own-photos.md") if block.reason == "photos"]
    draw, train, look, classify, curl, client, page = steps
    done = blocks.run(draw, tmp_path, {"8500": 0})
    assert done.stdout == "240 photos\n", done.stderr

    # In this process, which has TensorFlow already.
    monkeypatch.chdir(tmp_path)
    for line in (*train.code.splitlines(), *look.code.splitlines()):
        program, *words = shlex.split(line)
        assert program == "ladle"
        assert command.main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert [path.name for path in (tmp_path / "model_repository").iterdir()] == ["shapes"]
    card = json.loads((tmp_path / "model_repository/shapes/1/assets.extra/card.json").read_text())
    assert (card["network"], card["labels"], card["data"]["source"]) == (
        "lenet5",
        ["circle", "square"],
        "user's path: photos",
    )
    assert card["metrics"]["test"]["accuracy"] > 0.7

    server = serve("--repository", tmp_path / "model_repository", models=["shapes"])
    config = Config(server=f"grpc://127.0.0.1:{server.grpc_port}", repository=tmp_path / "model_repository")
    gateway = make_server("127.0.0.1", 0, create_app(config), threaded=True)
    thread = threading.Thread(target=gateway.serve_forever)
    thread.start()
    try:
        ports = {"8500": server.grpc_port, "8501": server.rest_port, "8080": gateway.server_port}
        answers = []
        for step in (classify, curl, client, page):
            done = blocks.run(step, tmp_path, ports)
            assert done.returncode == 0, done.stderr
            answers.append(done.stdout)
    finally:
        gateway.shutdown()
        thread.join()
        gateway.server_close()
    assert "circle" in answers[0]
    [prediction] = json.loads(answers[1])["predictions"]
    assert prediction["label"] == "square"
    assert len(answers[2].splitlines()) == 4
    assert json.loads(answers[3])["results"][0]["label"] in ("circle", "square")
