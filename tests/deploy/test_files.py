"""Dockerfile and compose.yaml: well made, pinned, and naming what is there."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
OURS = ("tensorflow-serving", "server", "gateway", "train")
LOCKS = {"server": "serve", "gateway": "web", "train": "cuda"}


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def pins(lock: str) -> dict[str, str]:
    """Package and version of each line, that for the containers' Python where there are several."""
    found = re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", (ROOT / lock).read_text(), re.MULTILINE)
    return {name: version for name, version, marker in found if marker not in OTHER_PYTHONS}


OTHER_PYTHONS = {"python_full_version < '3.11'", "python_full_version >= '3.12'"}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(BIN / "hadolint", "Dockerfile")


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
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
                assert list(ROOT.glob(source)), source
                assert any(fnmatch.fnmatch(source.split("/")[0], rule[1:]) for rule in rules), f"ignored: {source}"
                copied += 1
    assert copied >= 10


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


def test_what_only_serves_has_no_tensorflow() -> None:
    for image in ("server", "gateway"):
        assert {"tensorflow", "keras", "onnx"}.isdisjoint(pins(f"requirements/{image}.lock"))


@pytest.mark.parametrize("image", OURS)
def test_an_image_runs_as_nobody_and_says_what_it_is(image: str, stages: Any) -> None:
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


def test_every_service_is_shut_in(services: Any) -> None:
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


def test_the_gateway_and_prometheus_name_servers_that_are_there(services: Any) -> None:
    aliases = {a for s in services.values() for a in s.get("networks", {}).get("default", {}).get("aliases", ())}
    gateway = services["gateway"]["environment"]
    named = {re.split("[/:]+", gateway[f"LADLE_GATEWAY_{field}"])[1] for field in ("SERVER", "REST")}
    assert named <= aliases
    text = (ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text()
    assert set(re.findall(r'"([\w-]+):\d+"', text)) <= set(services)
