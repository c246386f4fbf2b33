"""Imports point one way: between the rooms, between the folders of a room, and between modules.

`ORDER` lists the folders and modules of each room from top to bottom. A line may import itself and the lines below it.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "ladle": {"ladle", "models", "training", "serving", "clients"},
    "training": {"training", "models", "serving.servables.host", "serving.errors"},
    "serving": {"serving", "clients.wire"},
    "models": {"models"},
    "clients": {"clients"},
    "benchmarks": {"benchmarks", "training", "models", "serving", "clients"},
}
"""What each room may import."""
ORDER = {
    "ladle": "__main__ completion_command command doctor_command serve_command data_command version",
    "serving": """
        __main__ command worker_command server ray_serve flags unused config_writer flag_table workers grpc rest
        open_inference request_log dataplane scheduling repository stores servables telemetry runtime errors""",
    "serving.grpc": """
        backend native api open_inference profiler health reflection described reload predict_request predict_response
        unpacking wire calls http2""",
    "serving.rest": "api open_inference routes compression http json",
    "serving.servables": """
        loader files engines warmup steps host servable examples matching saved_model shared_weights latency
        batching_parameters""",
    "training": """
        __main__ options convert check optimize run report export weights evaluate loop strings onnx store data quiet
        arguments errors""",
    "training.data": "commands pipeline augmentation recognise sets registry to_folder readers fetch dataset errors",
    "clients": "__main__ cli web library drawing transport json_output argument_types near_names wire errors",
    "clients.web": """
        __main__ app api verbs uploads service backend catalog distribution repository runs http config worker""",
    "clients.library": "async_client client connect inference explained tasks images preprocess results cards",
    "clients.transport": """
        what_answers rest_async rest grpc base open_inference rest_protocol grpc_protocol protocol metadata casting
        operation tracing address access proxies""",
    "clients.drawing": "contours inline pictures terminal",
    "benchmarks": """
        __main__ report goals results chaos profiling decoders real training tails startup front engines in_process gpu
        ladder optimized throughput servers requests machine""",
    "benchmarks.requests": "untrained payloads load v2 models",
    "benchmarks.servers": "contenders install rival_servers rivals empty limit processes",
    "clients.wire": """
        services open_inference tensors messages descriptors otlp tfrecord rest_json philox varints versions resizing
        arrays""",
}
"""Folders and modules from top to bottom. A folder's `__init__` may import all; only the top line may import it."""
MOST_MODULES = 16
HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "matplotlib"}
MAY_LOAD_TENSORFLOW = {"serving/servables/engines/savedmodel.py", "serving/servables/engines/tflite.py"}


def _name(path: Path) -> str:
    """`serving/rest/api.py` -> `serving.rest.api`; a folder's `__init__.py` is the folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# Path.rglob does not follow the links in ladle/, so each file is found once, at its place in its room.
MODULES = {_name(path): path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}


@functools.cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so when it is itself imported.

    Ours lack the leading `ladle.`; of `from package import name`, a module of ours is the module, else the package.
    """
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
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: got a relative import; expected whole module names"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if str(node.module).split(".")[0] in ("ladle", "benchmarks"):
                names = [name if name.removeprefix("ladle.") in MODULES else str(node.module) for name in names]
        else:
            continue
        found += [(name.removeprefix("ladle."), node not in late) for name in names]
    return found


def own_imports(name: str) -> set[str]:
    """The modules of ours that a module of ours imports, at once or late."""
    modules = {module for module, _ in imports(MODULES[name]) if module in MODULES and module != name}
    return modules - {"ladle"}  # the package itself: every import runs its `__init__` anyway


def below(name: str, parent: str) -> str:
    """The folder or module right below `parent` in which a module lies; empty for others and for `parent` itself."""
    return name.removeprefix(f"{parent}.").split(".")[0] if name.startswith(f"{parent}.") else ""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    names = [name for name in MODULES if name.split(".")[0] == room]
    assert names
    for name in names:
        for module in own_imports(name):
            inside = any(f"{module}.".startswith(f"{allowed}.") for allowed in ROOMS[room])
            assert inside, f"{name} imports {module}"


@pytest.mark.parametrize("parent", ORDER)
def test_a_folder_imports_only_what_stands_below_it(parent: str) -> None:
    order = ORDER[parent].split()
    assert sorted(order) == sorted({below(name, parent) for name in MODULES} - {""})
    wrong = []
    for name in MODULES:
        mine = below(name, parent)
        for module in own_imports(name) if mine else ():
            theirs = below(module, parent)
            if (module == parent and mine != order[0]) or (theirs and order.index(theirs) < order.index(mine)):
                wrong.append(f"{name} imports {module}")
    assert not wrong


def test_command_line_and_web_gateway_import_nothing_of_each_other() -> None:
    for mine, theirs in (("clients.cli", "clients.web"), ("clients.web", "clients.cli")):
        names = [name for name in MODULES if f"{name}.".startswith(f"{mine}.")]
        assert names
        assert {name for name in names for each in own_imports(name) if f"{each}.".startswith(f"{theirs}.")} == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: own_imports(name) for name in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


def test_a_folder_holds_few_modules() -> None:
    """`models/` holds a file for each family of networks; every other folder holds one idea."""
    for folder in {path.parent for path in MODULES.values()} - {ROOT / "models"}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_MODULES, folder


def test_the_code_map_names_every_folder() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    folders = {path.parent for path in MODULES.values() if path.name == "__init__.py"} - {ROOT / "ladle"}
    assert [folder for folder in sorted(folders) if f"{folder.name}/`" not in page] == []


@pytest.mark.parametrize("room", ["serving", "clients"])
def test_serving_and_clients_never_import_tensorflow_when_imported(room: str) -> None:
    for name, path in MODULES.items():
        if name.split(".")[0] != room:
            continue
        file = path.relative_to(ROOT).as_posix()
        for module, at_import in imports(path):
            if module.split(".")[0] in HEAVY:
                assert file in MAY_LOAD_TENSORFLOW, f"{file} imports {module}"
                assert not at_import, f"{file} imports {module} when it is imported"


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
    modules = [
        f"ladle.{name}"
        for name in MODULES
        if name.split(".")[0] in ("serving", "clients") and not name.endswith("__main__")
    ]
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
