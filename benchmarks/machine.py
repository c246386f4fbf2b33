"""The machine, versions and time of a measurement, for the report."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime", "tensorflow", "grpcio", "pygrpc-native", "uvicorn", "uvloop", "httptools", "pysimdjson")


def describe() -> dict[str, Any]:
    """Processor, cores, memory in GB of 10^9 bytes, versions, time in UTC, and load average."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) * 1024 / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def in_words(machine: Mapping[str, Any]) -> str:
    """The dictionary of `describe` as a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:g} GB, {machine['system']}, Python "
        f"{machine['python']}; {versions}. {machine['time']}, "
        f"load average before the run: {machine['load_average'][0]:g}."
    )


def is_busy(machine: Mapping[str, Any]) -> bool:
    """Whether others used it when it was described: more threads wanted to run than there are cores."""
    return bool(machine["load_average"][0] > machine["cores"])


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
