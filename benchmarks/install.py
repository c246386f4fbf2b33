"""Environments of the rivals: one each, made by uv in the cache folder, never the project's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

RIVALS = {
    "mosec": "mosec==0.9.8",
    "MLServer": "mlserver==1.7.1",
    "LitServe": "litserve==0.2.19",
    "BentoML": "bentoml==1.4.39",
    "Ray Serve": "ray[serve]==2.60.0",
}
"""What is installed of each; raise a version here to measure a newer one."""


def pythons(cache: Path, names: Sequence[str], say: Callable[[str], None]) -> dict[str, Path]:
    """The Python of each rival's environment, by name; a rival that cannot be installed is said and left out."""
    found = {}
    for name in names:
        home = cache / "environments" / RIVALS[name].replace("[", "-").replace("]", "").replace("==", "-")
        python = home / "bin" / "python"
        if not (home / "ready").exists():
            say(f"installing {RIVALS[name]} into {home}")
            try:
                _install(home, python, RIVALS[name])
            except (OSError, subprocess.CalledProcessError) as error:
                words = getattr(error, "stderr", None) or str(error)
                say(f"{name} is left out, it cannot be installed: {str(words).strip()[-200:]}")
                continue
        found[name] = python
    return found


def _install(home: Path, python: Path, requirement: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("uv is not installed beside this Python: `make` installs it")
    shared = [f"{name}=={metadata.version(name)}" for name in ("onnxruntime", "orjson")]
    create = [uv, "venv", "-q", "--clear", "--python", sys.executable, str(home)]
    fill = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python), requirement, *shared]
    for command in (create, fill):
        subprocess.run(command, check=True, capture_output=True, text=True)
    (home / "ready").touch()
