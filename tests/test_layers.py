"""Imports point one way, and what only asks or serves needs no TensorFlow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "models": {"models"},
    "training": {"training", "models"},
    "serving": {"serving", "ladle.clients.wire"},
    "clients": {"clients"},
}
HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "matplotlib"}
MAY_LOAD_TENSORFLOW = {"serving/servables/engines/savedmodel.py", "serving/servables/engines/tflite.py"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text())
    late = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write whole module names, not relative ones"
            # `from clients import wire` names ladle.clients.wire, `from models import get` names models.
            found += [(f"{node.module}.{alias.name}", node not in late) for alias in node.names]
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    assert files(room)
    for path in files(room):
        for module, _ in imports(path):
            if module.split(".")[0] in ALLOWED:
                inside = any(f"{module}.".startswith(f"{allowed}.") for allowed in ALLOWED[room])
                assert inside, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("room", ["serving", "clients"])
def test_serving_and_clients_never_import_tensorflow_when_imported(room: str) -> None:
    for path in files(room):
        name = path.relative_to(ROOT).as_posix()
        for module, at_import in imports(path):
            if module.split(".")[0] in HEAVY:
                assert name in MAY_LOAD_TENSORFLOW, f"{name} imports {module}"
                assert not at_import, f"{name} imports {module} when it is imported"


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the packages of the client, serve and web extras alone, out of uv's cache."""
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("uv is not installed beside this Python: `make test` installs it")
    home = tmp_path_factory.mktemp("bare")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
    extras = ["--extra", "serve", "--extra", "web", "--constraint", ROOT / "requirements.lock"]
    wanted = home / "requirements.txt"
    resolve = [uv, "pip", "compile", "-q", "--offline", ROOT / "pyproject.toml", *extras, "-o", wanted]
    install = [uv, "pip", "install", "-q", "--offline", "--python", home / "bin" / "python", "-r", wanted]
    for command in (resolve, install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and "offline" in done.stderr.lower():
            pytest.skip("the packages are not in uv's cache, and tests download nothing")
        assert done.returncode == 0, done.stderr
    return home


def run_bare(environment: Path, code: str) -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/")}
    python = environment / "bin" / "python"
    done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, cwd=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clients_and_serving_import_where_no_tensorflow_is_installed(bare_environment: Path) -> None:
    modules = sorted(
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for room in ("serving", "clients")
        for path in files(room)
        if path.name not in ("__main__.py", "generate.py")
    )
    code = (
        "import importlib, importlib.util, sys\n"
        "assert importlib.util.find_spec('tensorflow') is None\n"
        f"for name in {['ladle', *modules]!r}: importlib.import_module(name)\n"
        "print(len(sys.modules))"
    )
    assert int(run_bare(bare_environment, code)) > 0


@pytest.mark.parametrize(
    "arguments", [["-m", "ladle.serving", "--help"], ["-m", "ladle.clients", "--help"], ["-m", "ladle", "--help"]]
)
def test_help_answers_where_no_tensorflow_is_installed(bare_environment: Path, arguments: list[str]) -> None:
    code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, *{arguments!r}]).returncode)"
    assert "usage" in run_bare(bare_environment, code).lower()


def test_the_gateway_answers_where_no_tensorflow_is_installed(bare_environment: Path, tiny_server: Any) -> None:
    code = (
        "import io, sys\n"
        "from PIL import Image\n"
        "from ladle.clients.web import Config, create_app\n"
        f"config = Config(server='grpc://127.0.0.1:{tiny_server.grpc_port}', models=('classifier',))\n"
        "web, file = create_app(config).test_client(), io.BytesIO()\n"
        "Image.new('L', (2, 2), 250).save(file, 'PNG')\n"
        "for path in ('/readyz', '/api/v1/models', '/openapi.json', '/docs', '/metrics', '/'):\n"
        "    assert web.get(path).status_code == 200, path\n"
        "answer = web.post('/api/v1/models/classifier:classify', data=file.getvalue(), content_type='image/png')\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(answer.get_json())"
    )
    assert "'label': " in run_bare(bare_environment, code)
