"""The container's own command line and files start the embedded server, and every model answers rightly."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from ladle import command as ladle_command
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.library.client import Client
from ladle.clients.wire import messages as pb
from ladle.serving.flag_table import FLAGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files that `ladle config` writes, as if it were mounted at /models."""
    home = tmp_path_factory.mktemp("mounted") / "models"
    shutil.copytree(tiny_repository, home)
    assert ladle_command.main(["config", "--repository", str(home), "--mounted-at", str(home)]) == 0
    return home


@pytest.fixture(scope="module")
def started(models: Path, stages: Any, services: Any, serve: Callable[..., Any]) -> Any:
    """The embedded server, with the command line of the container that hosts TensorFlow Serving."""
    stage, service = stages["tensorflow-serving"], services["tensorflow-serving"]
    assert "entrypoint" not in service
    program, *fixed = stage.last("ENTRYPOINT")
    assert program == "tensorflow_model_server"
    given = [*fixed, *service.get("command", stage.last("CMD"))]
    own = [flag for flag in given if not flag.startswith(("--port=", "--rest_api_port="))]  # ports that are free here
    assert len(given) == len(own) + 2
    mapped = [flag.replace("=/models/", f"={models}/") for flag in own]
    names = [path.name for path in models.iterdir() if path.is_dir()]
    return serve(*mapped, models=names)


def test_the_flags_are_tensorflow_servings_own(stages: Any) -> None:
    said = [*stages["tensorflow-serving"].last("ENTRYPOINT")[1:], *stages["tensorflow-serving"].last("CMD")]
    known = {flag.name: flag for flag in FLAGS}
    for text in said:
        name, equals, value = text.removeprefix("--").partition("=")
        assert equals, f"{text}: TensorFlow Serving takes --name=value alone"
        assert value
        assert "(ours)" not in known[name].help, name


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("label", [None, "stable", "canary"])
def test_every_model_answers_rightly(protocol: str, label: str | None, started: Any) -> None:
    port = started.grpc_port if protocol == "grpc" else started.rest_port
    x = np.array([[1.0], [2.0], [4.0]], np.float32)
    with Client(f"{protocol}://localhost:{port}") as client:
        for model, offset in (("half_plus_two", 2), ("half_plus_three", 3)):
            answer = client.predict(model, {"x": x}, label=label)
            assert answer["y"].tolist() == (x / 2 + offset).tolist()
        assert client.classify("classifier", np.array([[0, 255], [0, 0]], np.uint8), label=label).label == "coat"
        same = client.predict("identities", {"x": np.arange(3)}, signature="int64", label=label)
        assert next(iter(same.values())).tolist() == [0, 1, 2]


def test_concurrent_requests_each_get_their_own_answer(started: Any) -> None:
    async def ask() -> list[float]:
        async with AsyncClient(f"grpc://localhost:{started.grpc_port}") as client:
            inputs = [{"x": np.array([[number]], np.float32)} for number in range(100)]
            answers = await asyncio.gather(*(client.predict("half_plus_two", one) for one in inputs))
        return [float(answer["y"][0, 0]) for answer in answers]

    assert asyncio.run(ask()) == [number / 2 + 2 for number in range(100)]


def test_the_health_check_passes_only_while_the_server_answers(started: Any, stages: Any, tiny: Any) -> None:
    _, port, path = stages["tensorflow-serving"].health()
    assert port == "8501"
    assert (
        path
        in text_format.Parse(
            (ROOT / "serving/config_writer/monitoring.config").read_text(), pb.MonitoringConfig()
        ).prometheus_config.path
    )
    healthy = ROOT / "deploy" / "tensorflow_serving" / "healthy.sh"
    assert os.access(healthy, os.X_OK)

    def check(*words: str) -> int:
        return subprocess.run([healthy, *words], env={"PATH": "/nowhere"}, capture_output=True).returncode

    assert check(str(started.rest_port), path) == 0
    assert check(str(started.rest_port), "/v2/health/ready") == 0
    assert check(str(started.rest_port), "/v1/models/none") != 0
    assert check(str(tiny.free_port()), path) != 0


def test_metrics_are_where_the_file_says(started: Any) -> None:
    status, text = started.get("/monitoring/prometheus/metrics")
    assert status == 200
    assert b":tensorflow:serving:request_count" in text


def test_an_image_without_models_is_healthy(serve: Callable[..., Any], tmp_path: Path) -> None:
    subprocess.run(["bash", ROOT / "deploy" / "tensorflow_serving" / "list_models.sh", tmp_path], check=True)
    server = serve(
        f"--model_config_file={tmp_path / 'models.config'}",
        f"--monitoring_config_file={ROOT / 'serving' / 'config_writer' / 'monitoring.config'}",
    )
    assert server.get("/monitoring/prometheus/metrics")[0] == 200
    assert json.loads(server.get("/v1/models/lenet5")[1])["error"]
