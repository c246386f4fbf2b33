"""Train several networks at once. Each is a process of `ladle train NAME` with its share of the cores."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladle.models import Network
from ladle.training.loop import config, run_folder
from ladle.training.report import recorded
from ladle.training.run.board import Board, last_line

FOLDER = "all"
"""Subfolder of the runs for these commands: what each did, and a log for each network."""
PROCESS_BYTES = 3 << 30
"""Memory reserved for one training."""
MEASURED_BY_FEATURES = ("generate", "reconstruct")
"""Tasks whose images are compared in the features of another network, a classifier."""
REFRESH_SECONDS = 1.0
PROGRAM = (sys.executable, "-m", "ladle", "train")
OWN = ("names", "all", "jobs", "json", "help")
"""Options that the command keeps for itself and does not pass to its processes."""


@dataclass
class Job:
    """One network to train.

    command   arguments after `ladle train NAME`
    needs     networks to train first, because its evaluation uses their versions
    expected  seconds that this network took before, None if unknown
    """

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    expected: float | None = None


@dataclass
class Outcome:
    """How a job ended.

    seconds  duration of the whole process
    answer   the JSON object that it printed
    error    its last log line, if it failed
    """

    name: str
    code: int
    seconds: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def width(cores: int, memory_bytes: int, gpus: int) -> int:
    """How many trainings run at once: one a core if memory allows, but a single one if they would share a GPU."""
    # Rounded, less a margin for the rest of the system: 8 GiB hold two trainings, not three.
    return 1 if gpus else max(1, min(cores, round(memory_bytes / PROCESS_BYTES - 0.2)))


def default_width(gpus: int) -> int:
    """`width` for this machine."""
    return width(cores(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), gpus)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs(networks: Sequence[Network], arguments: argparse.Namespace) -> list[Job]:
    """A job for each network with the options of a `ladle train` command line that apply to it."""
    extractors = tuple(network.name for network in networks if network.feature_extractor)
    found = []
    for network in networks:
        others = arguments.options - config.types(network.config).keys()
        job = Job(network.name, as_typed(arguments.actions, arguments, others))
        if network.task in MEASURED_BY_FEATURES and not network.takes:
            job.needs = extractors
        preset = config.preset_of(network, arguments.preset, arguments.config)
        job.expected = recorded.seconds(arguments.repository, network.name, preset)
        found.append(job)
    return found


def as_typed(actions: Iterable[argparse.Action], arguments: argparse.Namespace, leave_out: Iterable[str]) -> list[str]:
    """The given options as command-line words, without those at their default and those in `leave_out`."""
    typed: list[str] = []
    given, left_out = vars(arguments), {*OWN, *leave_out}
    for action in actions:
        value = given.get(action.dest)
        if action.dest in left_out or not action.option_strings or value is None or value == action.default:
            continue
        flag = action.option_strings[0]
        if isinstance(action, argparse.BooleanOptionalAction):
            typed.append(flag if value else f"--no-{flag[2:]}")
        elif value is True:
            typed.append(flag)
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
            typed.append(f"{flag}={shown}")
    return typed


def ordered(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that others need first, then the longest. Those without a known duration count as the longest.

    A long job that starts last would run alone at the end, with the other cores idle.
    """
    needed = {name for job in jobs for name in job.needs}
    return sorted(jobs, key=lambda job: (job.name not in needed, -(job.expected or float("inf"))))


def train(
    jobs: Sequence[Job],
    home: Path,
    *,
    at_once: int,
    resume: bool,
    board: Board,
    threads: int | None = None,
    program: Sequence[str] = PROGRAM,
) -> list[Outcome]:
    """Train all, `at_once` at a time; their outcomes in the order of `jobs`.

    home     the folder of runs. If the same jobs were interrupted or failed before, those already done are skipped
    threads  for all processes together; by default the number of cores
    program  called with a job's name and command; its last line on stdout is the answer, a JSON object

    SIGINT and SIGTERM stop every process at a checkpoint. Jobs that had not started then have code 1 and the error
    "stopped".
    """
    what = {"networks": {job.name: job.command for job in jobs}}
    with run_folder.opened(home, FOLDER, what, resume, holds=run_folder.DESCRIPTION) as folder:
        return asyncio.run(_Scheduler(jobs, folder, at_once, threads or cores(), board, program).run())


class _Scheduler:
    def __init__(
        self,
        jobs: Sequence[Job],
        folder: run_folder.RunFolder,
        at_once: int,
        threads: int,
        board: Board,
        program: Sequence[str],
    ) -> None:
        self.jobs, self.folder, self.board, self.program = jobs, folder, board, program
        self.at_once, self.threads = at_once, threads
        self.waiting = ordered(jobs)
        self.outcomes: dict[str, Outcome] = {}
        self.children: dict[str, Process] = {}
        self.signals = 0

    async def run(self) -> list[Outcome]:
        self._skip_done()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        running: dict[asyncio.Task[Outcome], Job] = {}
        try:
            with self.board:
                while True:
                    while not self.signals and len(running) < self.at_once and (job := self._next(running.values())):
                        # The last jobs share the cores among fewer processes.
                        share = self.threads // min(self.at_once, len(running) + 1 + len(self.waiting))
                        running[asyncio.create_task(self._train(job, max(1, share)))] = job
                        self.board.started(job.name, self._log(job), [other.name for other in self.waiting])
                    if not running:
                        break
                    ended, _ = await asyncio.wait(running, timeout=REFRESH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                    for task in ended:
                        del running[task]
                        self._ended(task.result())
                    self.board.refresh()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        every = [self.outcomes.get(job.name, Outcome(job.name, 1, error="stopped")) for job in self.jobs]
        if all(outcome.code == 0 for outcome in every):
            self.folder.update(exported=[outcome.answer["version"] for outcome in every])
        return every

    def _skip_done(self) -> None:
        """Skip the jobs that the interrupted command has done."""
        for name, answer in self.folder.entries().get("done", {}).items():
            if Path(answer["version"]).is_dir():
                self.outcomes[name] = Outcome(name, 0, answer=answer)
                self.board.skipped(name, answer)
        self.waiting = [job for job in self.waiting if job.name not in self.outcomes]

    def _next(self, running: Iterable[Job]) -> Job | None:
        """The first waiting job that needs no job that still runs or waits."""
        unfinished = {job.name for job in [*running, *self.waiting]}
        for job in self.waiting:
            if not unfinished & set(job.needs):
                self.waiting.remove(job)
                return job
        return None

    async def _train(self, job: Job, threads: int) -> Outcome:
        start = time.monotonic()
        command = [*self.program, job.name, *job.command, "--json"]
        share = {name: str(threads) for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")}
        with self._log(job).open("ab") as log:
            log.write(f"$ ladle train {job.name} {shlex.join(job.command)}\n".encode())
            log.flush()
            # A session of its own: Ctrl-C in the terminal then reaches this process alone, which stops its children
            # once. Otherwise each child would get two signals, and the second one skips the checkpoint.
            child = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=PIPE, stderr=log, env={**os.environ, **share}, start_new_session=True
            )
            self.children[job.name] = child
            if self.signals:
                child.terminate()
            out, _ = await child.communicate()
        del self.children[job.name]
        code, seconds = child.returncode or 0, time.monotonic() - start
        if code == 0:
            return Outcome(job.name, 0, seconds, json.loads(out.splitlines()[-1]))
        return Outcome(job.name, 1, seconds, error=self._reason(job, code))

    def _ended(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        if outcome.code == 0:
            self.folder.update(done={**self.folder.entries().get("done", {}), outcome.name: outcome.answer})
        self.board.ended(outcome.name, outcome.seconds, outcome.answer, outcome.error, stopped=self.signals > 0)

    def _reason(self, job: Job, code: int) -> str:
        """Why a process failed: the signal that killed it, else its last log line without the program's name."""
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return last_line(self._log(job)).removeprefix("ladle train: ")

    def _log(self, job: Job) -> Path:
        return self.folder.path / f"{job.name}.log"

    def _stop(self) -> None:
        self.signals += 1
        self.board.say("stopping at a checkpoint ..." if self.signals == 1 else "stopping at once ...")
        for child in self.children.values():
            child.terminate()
