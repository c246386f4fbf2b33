"""Symbolic links may lead only to places inside the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ladle.serving.errors import PermissionDenied
from ladle.serving.runtime.paths import check_version, is_inside


def test_a_path_is_inside_if_it_is_below_the_root_after_following_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "root-beside").mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "a")
    for path, inside in (
        (root, True),
        (root / "a" / "not there", True),
        (root / "in", True),
        (root / "out", False),
        (root / ".." / "root-beside", False),
        (Path("/"), False),
    ):
        assert is_inside(path, root) is inside, path
    assert is_inside(Path("/etc"), Path("/"))


@pytest.mark.parametrize("name", ["saved_model.pb", "variables", "assets/labels.txt", "model.onnx", "model.onnx.data"])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    root, version = tmp_path / "root", tmp_path / "root" / "m" / "1"
    (version / "assets").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    check_version(version, root)
    (version / name).symlink_to(tmp_path / "secret")
    with pytest.raises(PermissionDenied, match=f"{name} is a symbolic link out of the repository"):
        check_version(version, root)


def test_links_within_the_repository_are_followed(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (version / "variables").symlink_to(tmp_path / "store")
    (version / "again").symlink_to(version)
    check_version(version, tmp_path)


def test_models_behind_links_are_served_only_with_allow_symlinks(
    serve: Any, tiny: Any, repository: Path, tmp_path: Path
) -> None:
    for name in ("whole", "version", "file"):
        tiny.half_plus(1).write(tmp_path / "elsewhere" / name, 1)
    served = repository / "served"
    served.mkdir()
    tiny.half_plus(1).write(served / "good", 1)
    (served / "whole").symlink_to(tmp_path / "elsewhere" / "whole")
    (served / "version").mkdir()
    (served / "version" / "1").symlink_to(tmp_path / "elsewhere" / "version" / "1")
    published = tiny.half_plus(1).write(served / "file", 1)
    (published / "model.onnx").unlink()
    (published / "model.onnx").symlink_to(tmp_path / "elsewhere" / "file" / "1" / "model.onnx")
    server = serve("--repository", served, models=["good"])
    for model in ("whole", "version", "file"):
        server.wait_for_state(model, 1, "END")
        status = json.loads(server.get(f"/v1/models/{model}")[1])["model_version_status"][0]["status"]
        assert status["error_code"] == "PERMISSION_DENIED"
        assert "is a symbolic link out of the repository" in status["error_message"]
        assert str(tmp_path) not in status["error_message"]
    server.stop()
    server = serve("--repository", served, "--allow_symlinks", models=["good", "whole", "version", "file"])
    server.stop()


def refusal(server: Any, model: str) -> dict[str, str]:
    """Why version 1 of the model is not served."""
    server.wait_for_state(model, 1, "END")
    status: dict[str, str] = json.loads(server.get(f"/v1/models/{model}")[1])["model_version_status"][0]["status"]
    return status


def test_a_graph_and_its_card_read_no_file_outside_their_version(serve: Any, tiny: Any, repository: Path) -> None:
    (repository / "m").mkdir()
    (repository / "m" / "secret").write_bytes(np.ones(1, np.float32).tobytes())
    model = tiny.half_plus(1)
    for graph in model.graphs.values():
        for weight in graph.graph.initializer:
            weight.ClearField("raw_data")
            weight.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", "../secret"), ("length", "4")):
                weight.external_data.add(key=key, value=value)
    model.write(repository / "m", 1)
    labelled = tiny.image_classifier()
    labelled.signatures["serving_default"].after[0]["labels"] = "../../../m/secret"
    labelled.write(repository / "labelled", 1)
    server = serve("--repository", repository)
    status = refusal(server, "m")
    assert status["error_code"] == "DATA_LOSS"
    assert "outside" in status["error_message"]
    assert "secret" not in status["error_message"]
    assert refusal(server, "labelled")["error_message"] == (
        "card.json names the file '../../../m/secret' of a step; expected a file name of the version"
    )
    server.stop()
