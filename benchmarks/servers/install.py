"""Virtual environments of the rivals: uv makes one for each in the cache folder, apart from the project's own.

Triton alone is not installed: it is used where it is found.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from benchmarks.servers import rival_servers

RIVALS = {
    "mosec": "mosec==0.9.8",
    "MLServer": "mlserver==1.7.1",
    "LitServe": "litserve==0.2.19",
    "BentoML": "bentoml==1.4.39",
    "Ray Serve": "ray[serve]==2.60.0",
}
"""The requirement of each rival; raise a version here to measure a newer release."""
NAMES = (*RIVALS, "Triton")


def programs(cache: Path, names: Sequence[str], log: Callable[[str], None]) -> dict[str, Path]:
    """The interpreter of each rival, and Triton's binary. What cannot be installed or found is logged and left out."""
    found = {}
    for name in names:
        if name == "Triton":
            if (binary := rival_servers.find_triton()) is None:
                log(f"Triton is left out: {rival_servers.NO_TRITON}")
            else:
                found[name] = binary
            continue
        home = cache / "environments" / RIVALS[name].replace("[", "-").replace("]", "").replace("==", "-")
        python = home / "bin" / "python"
        ready = home / "ready"
        if not ready.exists() or ready.read_text() != "\n".join(_shared()):
            log(f"installing {RIVALS[name]} into {home}")
            try:
                _install(home, python, RIVALS[name])
            except (OSError, subprocess.CalledProcessError) as error:
                reason = getattr(error, "stderr", None) or str(error)
                log(f"{name} is left out; its installation failed: {str(reason).strip()[-200:]}")
                continue
        found[name] = python
    return found


def _install(home: Path, python: Path, requirement: str) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("found no uv next to this Python; run `make` to install it")
    create = [uv, "venv", "-q", "--clear", "--python", sys.executable, str(home)]
    fill = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python), requirement, *_shared()]
    for command in (create, fill):
        subprocess.run(command, check=True, capture_output=True, text=True)
    (home / "ready").write_text("\n".join(_shared()))


def _shared() -> list[str]:
    """What every rival gets in the versions that we have, so that only the servers differ."""
    return [f"{name}=={metadata.version(name)}" for name in ("onnxruntime", "orjson", "pillow")]
