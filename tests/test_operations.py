"""docs/operations.md names the pinned versions, existing commands and a roll-out that works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_the_table_has_the_pinned_versions() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    versions = {
        name: re.search(rf"^{name}==([\d.]+)", lock, re.MULTILINE)[1]  # type: ignore[index]
        for name in ("tensorflow", "tensorflow-serving-api")
    }
    keras = re.findall(r"^keras==([\d.]+) ", lock, re.MULTILINE)[0]
    pinned = next(line for line in PAGE.splitlines() if line.endswith("| **the pin** |"))
    assert f"ARG TENSORFLOW_VERSION={versions['tensorflow']}\n" in dockerfile
    assert f"TensorFlow {versions['tensorflow']}, Keras {keras} " in pinned
    assert f"`tensorflow/serving:{versions['tensorflow']}-gpu`" in pinned
    assert f"tensorflow-serving-api {versions['tensorflow-serving-api']} " in pinned


def test_the_page_names_only_existing_verbs_and_the_ports_of_compose() -> None:
    done = subprocess.run([sys.executable, "-m", "ladle", "--help"], cwd=ROOT, capture_output=True, text=True)
    named = set(re.findall(r"(?:`|^(?: {4})?)ladle ([a-z]+)", PAGE, re.MULTILINE))
    assert {"config", "status", "classify"} <= named
    assert {verb for verb in named if not re.search(rf"^\s+{verb}\b", done.stdout, re.MULTILINE)} == set()
    compose = (ROOT / "compose.yaml").read_text()
    sentence = PAGE.split("gRPC is on ")[1].split(", all on")[0]
    assert set(re.findall(r"\d{4}", f"8500 {sentence}")) == set(re.findall(r":(\d{4}):\d{4}", compose))


@pytest.mark.slow
def test_a_version_is_rolled_out_and_back_as_the_page_says(serve: Any, tiny: Any, tmp_path: Path) -> None:
    repository = tmp_path / "model_repository"
    tiny.half_plus(2).write(repository / "unet", 1)
    table = PAGE.split("| step | command | then |")[1].split("\n\n")[0]
    steps = dict(re.findall(r"^\| \**(\w[\w ]*?)\** \| `(ladle config[^`]*)` \|", table, re.MULTILINE))
    assert list(steps) == ["load", "try", "go over", "back", "done"]

    def config(command: str) -> None:
        words = [sys.executable, "-m", *shlex.split(command), "--mounted-at", str(repository)]
        done = subprocess.run(
            words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    config(steps["load"])
    flags = ["--model_config_file_poll_wait_seconds=0.1", "--allow_version_labels_for_unavailable_models=true"]
    server = serve(f"--model_config_file={repository / 'models.config'}", *flags, models=["unet"])
    tiny.half_plus(3).write(repository / "unet", 2)

    def answers(label: str) -> float | None:
        """The answer to 0: 2 from version 1, 3 from version 2."""
        status, body = server.send("POST", f"/v1/models/unet/labels/{label}:predict", b'{"instances": [[0.0]]}')
        return json.loads(body)["predictions"][0][0] if status == 200 else None

    config(steps["load"])
    server.wait_for_state("unet", 2, "AVAILABLE")
    assert (answers("stable"), answers("canary")) == (2, 2)
    for step, stable, canary in (("try", 2, 3), ("go over", 3, 3), ("back", 2, 3)):
        config(steps[step])
        server.wait_for(lambda wanted=(stable, canary): (answers("stable"), answers("canary")) == wanted)
        assert set(server.states("unet").values()) == {"AVAILABLE"}, step
    config(steps["go over"])
    server.wait_for(lambda: answers("stable") == 3)
    config(steps["done"])
    server.wait_for_state("unet", 1, "END")
    assert (answers("stable"), answers("canary")) == (3, 3)
