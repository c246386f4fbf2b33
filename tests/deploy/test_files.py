"""Dockerfile and compose.yaml: they pass their linters, pin versions, and name files that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ladle.serving.config_writer import command as config_command
from ladle.serving.repository.config import read_models

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
OURS = ("tensorflow-serving", "server", "gateway", "train")
REPOSITORY = "model_repositor[y]"
"""How the Dockerfile names ./model_repository: a pattern, which may match nothing."""
LOCKS = {"server": "serve", "gateway": "web", "train": "cuda"}


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def pins(lock: str) -> dict[str, str]:
    """Version by package; of several lines for one package, the one for the containers' Python."""
    found = re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", (ROOT / lock).read_text(), re.MULTILINE)
    return {name: version for name, version, marker in found if marker not in OTHER_PYTHONS}


OTHER_PYTHONS = {"python_full_version < '3.11'", "python_full_version >= '3.12'"}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(BIN / "hadolint", "Dockerfile")


def test_the_compose_file_fits_the_compose_specification() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_every_source_of_a_copy_exists_and_reaches_the_build(stages: Any) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = 0
    for stage in stages.values():
        for name, value in stage.instructions:
            words = [word for word in value.split() if not word.startswith("--")]
            if name != "COPY" or "--from=" in value:
                continue
            for source in words[:-1]:
                if source == REPOSITORY:  # generated: a checkout may lack it
                    assert "!model_repository" in rules
                    continue
                assert list(ROOT.glob(source)), source
                assert any(f"{source}/".startswith(f"{rule[1:]}/") for rule in rules), f"ignored: {source}"
                copied += 1
    assert copied >= 10


def test_a_build_without_a_target_makes_tensorflow_serving(stages: Any) -> None:
    assert list(stages)[-1] == "tensorflow-serving"


def copy_models(stage: Any, context: Path, image: Path) -> None:
    """What the stage's COPY to /models/ and the command after it leave in `image`, which stands for /models."""
    ((_, sources),) = [
        (at, value.split()[1:-1])
        for at, (name, value) in enumerate(stage.instructions)
        if name == "COPY" and value.endswith(" /models/")
    ]
    image.mkdir()
    for source in (found for pattern in sources for found in sorted(context.glob(pattern))):
        if source.is_dir():  # COPY copies what a folder holds, not the folder
            shutil.copytree(source, image, dirs_exist_ok=True)
        else:
            shutil.copy(source, image)
    (command,) = [json.loads(value) for name, value in stage.instructions if name == "RUN"]
    assert command == ["list_models", "/models"]
    run("bash", ROOT / "deploy" / "tensorflow_serving" / "list_models.sh", image)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A checkout's folder as the Dockerfile needs it, without a model repository."""
    made = tmp_path / "context"
    shutil.copytree(ROOT / "serving" / "config_writer", made / "serving" / "config_writer")
    return made


def test_the_image_has_the_models_of_the_repository_beside_the_dockerfile(
    stages: Any, context: Path, tiny: Any, tmp_path: Path
) -> None:
    home = context / "model_repository"
    tiny.half_plus(2).write(home / "half_plus_two", 3)
    text = tiny.half_plus(3).write(home / "half_plus_three", 1)
    (text / "saved_model.pb").rename(text / "saved_model.pbtxt")  # a model's text form has another name
    (home / "empty" / "1").mkdir(parents=True)
    (home / "not a name" / "1").mkdir(parents=True)
    copy_models(stages["tensorflow-serving"], context, tmp_path / "models")
    models = read_models(tmp_path / "models" / "models.config")
    assert {model.name: model.base_path for model in models} == {
        name: tmp_path / "models" / name for name in ("half_plus_three", "half_plus_two")
    }
    assert (tmp_path / "models" / "half_plus_two" / "3" / "saved_model.pb").is_file()
    for file in ("batching.config", "monitoring.config"):
        assert (tmp_path / "models" / file).read_text() == (ROOT / "serving" / "config_writer" / file).read_text()


def test_the_files_of_a_repository_replace_those_of_the_image(
    stages: Any, context: Path, tiny: Any, tmp_path: Path
) -> None:
    home = context / "model_repository"
    tiny.half_plus(2).write(home / "half_plus_two", 1)
    (home / "monitoring.config").write_text("prometheus_config { enable: false }")
    assert config_command.main(["--repository", str(home), "--mounted-at", str(tmp_path / "models")]) == 0
    copy_models(stages["tensorflow-serving"], context, tmp_path / "models")
    (model,) = read_models(tmp_path / "models" / "models.config")
    assert model.labels == {"stable": 1, "canary": 1}
    assert "false" in (tmp_path / "models" / "monitoring.config").read_text()


def test_an_image_without_a_repository_serves_nothing_and_starts(stages: Any, context: Path, tmp_path: Path) -> None:
    copy_models(stages["tensorflow-serving"], context, tmp_path / "models")
    assert read_models(tmp_path / "models" / "models.config") == []


def test_the_image_serves_with_the_tensorflow_that_exports(stages: Any) -> None:
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert defaults["TENSORFLOW_VERSION"] == pins("requirements.lock")["tensorflow"]
    assert stages["tensorflow-serving"].base.startswith("tensorflow/serving:${TENSORFLOW_VERSION}")
    assert defaults["TENSORFLOW_SERVING_VARIANT"] == "-gpu"


@pytest.mark.parametrize("image", LOCKS)
def test_an_image_has_the_versions_that_are_tested(image: str) -> None:
    tested, installed = pins("requirements.lock"), pins(f"requirements/{image}.lock")
    assert installed
    assert {name: version for name, version in installed.items() if tested.get(name, version) != version} == {}
    text = (ROOT / f"requirements/{image}.lock").read_text()
    assert text.count("--hash=sha256:") >= len(installed)
    assert "://" not in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [*extras[LOCKS[image]], *(extras["train"] if image == "train" else [])]
    named = {re.split(r"[\[><=;]", requirement)[0] for requirement in wanted} - {"ladle"}
    assert named <= set(installed)


def test_images_that_only_serve_have_no_tensorflow() -> None:
    for image in ("server", "gateway"):
        assert {"tensorflow", "keras", "onnx"}.isdisjoint(pins(f"requirements/{image}.lock"))


@pytest.mark.parametrize("image", OURS)
def test_an_image_runs_without_root_and_has_labels(image: str, stages: Any) -> None:
    values = dict(stages[image].instructions)
    uid, gid = map(int, values["USER"].split(":"))
    assert uid > 1000
    assert gid > 1000
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', values["LABEL"]))
    assert set(labels) == {"title", "description", "version", "licenses"}
    assert labels["version"] == version
    if image != "train":  # it ends by itself
        assert stages[image].health()[0] == "healthy"


def test_nothing_secret_is_in_the_files() -> None:
    for name in ("Dockerfile", "compose.yaml"):
        text = (ROOT / name).read_text()
        secrets = re.findall(r"(?i)(?:PASSWORD|KEYS?|TOKEN|SECRET)[A-Z_]*[:=]\s*(\S+)", text)
        assert [value for value in secrets if not re.fullmatch(r"\$\{\w+:-\}", value)] == []


def test_every_service_is_hardened(services: Any) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert all(":latest" not in service["image"] and ":" in service["image"] for _ in [0]), name
        assert "healthcheck" in service or "build" in service, name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro"), volume
            elif source.startswith("${"):
                assert volume.endswith(":ro"), volume


def test_each_profile_has_its_services(services: Any) -> None:
    profiles: dict[str, set[str]] = {}
    for name, service in services.items():
        for profile in service["profiles"]:
            profiles.setdefault(profile, set()).add(name)
    assert profiles == {
        "gpu": {"tensorflow-serving", "gateway"},
        "cpu": {"server", "gateway"},
        "monitoring": {"prometheus", "grafana"},
    }
    (device,) = services["tensorflow-serving"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_gateway_and_prometheus_name_existing_services(services: Any) -> None:
    aliases = {a for s in services.values() for a in s.get("networks", {}).get("default", {}).get("aliases", ())}
    gateway = services["gateway"]["environment"]
    named = {re.split("[/:]+", gateway[f"LADLE_GATEWAY_{field}"])[1] for field in ("SERVER", "REST")}
    assert named <= aliases
    text = (ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text()
    assert set(re.findall(r'"([\w-]+):\d+"', text)) <= set(services)
