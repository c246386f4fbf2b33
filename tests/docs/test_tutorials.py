"""The tutorials, from the first block to the last, in one folder: as a reader does them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ladle.clients.web import create_app
from ladle.clients.web.config import Config
from tests import blocks
from tests.blocks import ROOT, Block


def tutorial(page: str, word: str) -> list[Block]:
    """The blocks of a page that carry `<!-- run: word -->`, in order."""
    found = [block for block in blocks.read(ROOT / "docs" / page) if (block.mark, block.reason) == ("run", word)]
    assert len(found) > 1
    return found


@pytest.mark.slow  # three processes with TensorFlow
def test_a_savedmodel_is_converted_named_served_and_asked(tmp_path: Path, serve: Callable[..., Any]) -> None:
    steps = tutorial("own-savedmodel.md", "savedmodel")
    made = [
        step
        for step in steps
        if "my_models" in step.code and "localhost" not in step.code and "Client" not in step.code
    ]
    asked = [step for step in steps if step not in made]
    assert [step.language for step in made] == ["python", "sh", "sh"]
    for step in made:
        done = blocks.run(step, tmp_path, {"8500": 0, "8501": 0})
        assert done.returncode == 0, done.stderr
    assert "serving_default  " in done.stdout or done.stdout == "circle\nsquare\n"
    assert (tmp_path / "my_models" / "shapes" / "1" / "assets.extra" / "card.json").is_file()

    server = serve("--repository", tmp_path / "my_models", models=["shapes"])
    ports = {"8500": server.grpc_port, "8501": server.rest_port}
    answers = []
    for step in asked:
        done = blocks.run(step, tmp_path, ports)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    described, classified, named, predicted = answers
    assert "AVAILABLE" in described
    assert "float32 [?, 28, 28, 1]" in described
    assert classified.startswith("square.png  1\n")
    assert named.startswith("square 0.")
    assert '"predictions": [[' in predicted

    config = Config(server=f"grpc://127.0.0.1:{server.grpc_port}", repository=tmp_path / "my_models")
    page = create_app(config).test_client()
    answer = page.post(
        "/api/v1/models/shapes:classify", data=(tmp_path / "square.png").read_bytes(), content_type="image/png"
    )
    assert answer.get_json()["results"][0]["label"] == "square"
