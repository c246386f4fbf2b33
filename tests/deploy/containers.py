"""Builds images from the Dockerfile with buildah and runs them in namespaces, without a container engine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/ladle-check-python"
"""Debian with its own Python, in the place of the image that the Dockerfile names; kept from run to run."""
UNNEEDED = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)
"""What slim images leave out, too."""
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
DEADLINE_S = 120

# As `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges` has it.
ISOLATE = """
set -e
root=$1 hosts=$2 work=$3 target=$4 mode=$5 user=$6; shift 6
mount --make-rprivate /
mkdir -p "$root$target" "$root/dev" "$root/proc" "$root/tmp"; touch "$root/etc/hosts"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3; mknod -m 666 "$root/dev/urandom" c 1 9; mkdir -m 1777 "$root/dev/shm"
mount --bind "$hosts" "$root/etc/hosts"
mount --bind "$work" "$root$target"
mount -o "remount,bind,$mode" "$root$target"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" env -i "$@"
"""
LOOPBACK = """
import fcntl, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up, running
print(flush=True)
sys.stdin.read()
"""


def run(*command: str | Path, timeout: float = 1800) -> str:
    """The output of a command; AssertionError with the output when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def make_base(folder: Path) -> None:
    """Puts BASE, a Debian made by debootstrap, into buildah's storage unless it is there."""
    if run("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return
    root = folder / "debian"
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root)
    for path in UNNEEDED:
        shutil.rmtree(root / path, ignore_errors=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")  # its name in the image that the Dockerfile names
    shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    container = run("buildah", "from", "scratch")
    run("cp", "-a", f"{root}/.", run("buildah", "mount", container))
    run("buildah", "umount", container)
    run("buildah", "commit", "--quiet", "--rm", container, BASE)


class Image:
    """A target of the Dockerfile, built, and its file system mounted.

    config  as an engine reads it: Entrypoint, Cmd, Env, User, WorkingDir, Healthcheck
    """

    def __init__(self, target: str, context: Path = ROOT) -> None:
        self.name = f"localhost/ladle-check-{target}"
        command = ["buildah", "build", "--isolation=chroot", "--pull-never", "--format=docker", "--no-cache"]
        run(*command, f"--build-arg=PYTHON_IMAGE={BASE}", f"--target={target}", f"--tag={self.name}", context)
        self.config: Mapping[str, Any] = json.loads(run("buildah", "inspect", "--type=image", self.name))["Docker"][
            "config"
        ]

    def size_mb(self) -> int:
        """Megabytes of the image's files."""
        container = run("buildah", "from", "--pull-never", self.name)
        try:
            return int(run("du", "-sb", run("buildah", "mount", container)).split()[0]) // 10**6
        finally:
            run("buildah", "rm", container)

    def remove(self) -> None:
        run("buildah", "rmi", "--force", self.name)


class Network:
    """A network namespace: its ports cannot collide with those of this machine."""

    def __init__(self) -> None:
        command = ["unshare", "--net", sys.executable, "-c", LOOPBACK]
        self.holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        self.holder.stdout.readline()
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def ask(self, code: str, *arguments: str) -> str:
        """What a Python program of this machine, with Ladle's client, prints there."""
        return run(*self.enter, "env", f"PYTHONPATH={ROOT}", sys.executable, "-c", code, *arguments)

    def close(self) -> None:
        self.holder.communicate()


class Container:
    """A started image: its user, a read-only root, /tmp in memory, no privileges, `work` mounted at `target`."""

    def __init__(
        self,
        image: Image,
        network: Network,
        work: Path,
        target: str = "/models",
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        writable: bool = False,
    ) -> None:
        self._container = run("buildah", "from", "--pull-never", image.name)
        root = run("buildah", "mount", self._container)
        self.image, self.log = image, work.parent / f"{self._container}.log"
        hosts = work.parent / "hosts"
        hosts.write_text("127.0.0.1 localhost model-server\n")
        config = image.config
        values = {**dict(entry.split("=", 1) for entry in config["Env"]), **(environment or {})}
        self._environment = [f"{name}={value}" for name, value in values.items()]
        words = [*config["Entrypoint"], *(config["Cmd"] or [] if command is None else command)]
        mode = "rw" if writable else "ro"
        isolated = [*network.enter, "unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", ISOLATE]
        given = [root, str(hosts), str(work), target, mode, config["User"]]
        inside = [f"--chdir={config['WorkingDir']}", *self._environment, *words]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*isolated, "isolated", *given, *inside], stdout=log, stderr=log)

    def pid(self) -> int:
        """The first process in it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as its user."""
        uid, gid = self.image.config["User"].split(":")
        enter = ["nsenter", f"--target={self.pid()}", "--mount", "--net", "--pid", "--root", "--wd"]
        user = [f"--setuid={uid}", f"--setgid={gid}", "env", "-i", *self._environment]
        return subprocess.run([*enter, *user, *command], capture_output=True, text=True, timeout=60)

    def wait_until_healthy(self) -> None:
        """Returns when its own health check says so."""
        test = self.image.config["Healthcheck"]["Test"]
        assert test[0] == "CMD"
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if Path(f"/proc/{self.process.pid}/root").exists() and self._check(test[1:]):
                return
            time.sleep(0.2)
        raise AssertionError(f"never healthy:\n{self.log.read_text()}")

    def _check(self, command: Sequence[str]) -> bool:
        try:
            return self.execute(*command).returncode == 0
        except (OSError, IndexError):  # it has not begun
            return False

    def wait(self, timeout: float = DEADLINE_S) -> int:
        """Its exit status, when it ends by itself."""
        return self.process.wait(timeout)

    def terminate(self) -> int:
        """Its exit status after SIGTERM, as `docker stop` sends it."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.process.wait(35)

    def remove(self) -> None:
        if self.process.poll() is None:
            # The change of user takes the signal of --kill-child away.
            with contextlib.suppress(IndexError, ProcessLookupError, FileNotFoundError):
                os.kill(self.pid(), signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        run("buildah", "rm", self._container)


def without_nvidia(folder: Path) -> Path:
    """The build's context with a train.lock that leaves out NVIDIA's packages, which are gigabytes and need a GPU."""
    shutil.copytree(ROOT, folder, ignore=lambda path, names: _not_copied(Path(path), names))
    lock = folder / "requirements" / "train.lock"
    lock.write_text(re.sub(r"^nvidia-.*\n(?:    .*\n)+", "", lock.read_text(), flags=re.MULTILINE))
    assert "\nnvidia" not in lock.read_text()
    return folder


def _not_copied(folder: Path, names: list[str]) -> set[str]:
    copied = {
        "Dockerfile",
        ".dockerignore",
        "ladle",
        "deploy",
        "models",
        "training",
        "serving",
        "clients",
        "requirements",
    }
    return set(names) - copied if folder == ROOT else {"__pycache__"} & set(names)
