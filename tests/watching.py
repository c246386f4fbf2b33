"""Watches which hosts a command and its children ask, and which files they leave in the home folder.

An audit hook in every Python process sees look-ups and connections of Python. strace, where it is installed and
allowed, sees those of libraries too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

HOOK = """
import os, sys

def _watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    file = os.open(os.environ["WATCH_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{event} {host.decode() if isinstance(host, bytes) else host}\\n".encode())
    os.close(file)

sys.addaudithook(_watch)
"""
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_CALLS = "connect,sendto,sendmsg,sendmmsg"


def can_trace() -> bool:
    """Whether strace is installed and may trace."""
    return bool(shutil.which("strace")) and not subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"]).returncode


@dataclass
class Watch:
    """One watched command.

    code   its exit status
    said   its output
    hosts  what it looked up or connected to, this machine left out
    calls  how many look-ups and connections were seen, those to this machine included
    files  what it left in the home folder, relative to it
    """

    code: int
    said: str
    hosts: set[str]
    calls: int
    files: list[str]


def watch(folder: Path, *command: str | Path, cwd: Path, **environment: str) -> Watch:
    """Run a command with an empty home folder and watch it."""
    home, hooks, seen, traced = (folder / name for name in ("home", "hooks", "seen", "traced"))
    for each in (home, hooks):
        each.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK)
    for each in (seen, traced):
        each.touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LADLE_", "ORT_"))}
    path = os.pathsep.join(filter(None, [str(hooks), os.environ.get("PYTHONPATH")]))
    tracing = (
        ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={_CALLS}", "-o", str(traced)] if can_trace() else []
    )
    done = subprocess.run(
        [*tracing, *map(str, command)],
        cwd=cwd,
        env={**kept, "HOME": str(home), "PYTHONPATH": path, "WATCH_FILE": str(seen), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1000,
    )
    asked = [line.partition(" ")[2] for line in seen.read_text().splitlines()]
    asked += [next(filter(None, found)) for found in _ADDRESS.findall(traced.read_text(errors="replace"))]
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    return Watch(done.returncode, done.stdout, {host for host in asked if not _is_here(host)}, len(asked), files)


def _is_here(host: str) -> bool:
    if host in ("None", "", "localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
