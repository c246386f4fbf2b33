"""Several networks trained side by side, each by a process that is `ladle train NAME` with a share of the cores."""

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
from ladle.training.evaluate import functions
from ladle.training.loop import config, run_folder
from ladle.training.report import recorded
from ladle.training.run.board import Board, last

FOLDER = "all"
"""Of the runs: what such a command did, and a log of each network."""
PROCESS_BYTES = 3 << 30
"""Memory that one training is given."""
JUDGED = ("generate", "reconstruct")
"""Tasks whose images are measured by another network, the judge."""
LOOK_SECONDS = 1.0
PROGRAM = (sys.executable, "-m", "ladle.training", "train")
OWN = ("names", "all", "jobs", "json", "help")
"""Options of the command that its processes are not given."""


@dataclass
class Job:
    """One network to be trained.

    command   words after `ladle train`
    needs     names of networks whose versions its evaluation looks for
    expected  seconds that it took before, None where nobody knows
    """

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    expected: float | None = None


@dataclass
class Outcome:
    """How one ended: the line it printed, or else its error; seconds of the whole process."""

    name: str
    code: int
    seconds: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def width(cores: int, memory_bytes: int, gpus: int) -> int:
    """How many trainings at once: one a core as far as memory goes, one only where they would share a GPU."""
    return 1 if gpus else max(1, min(cores, round(memory_bytes / PROCESS_BYTES - 0.2)))


def default_width(gpus: int) -> int:
    """`width` of this machine."""
    return width(cores(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), gpus)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs(networks: Sequence[Network], arguments: argparse.Namespace) -> list[Job]:
    """What `ladle train` with these arguments is for each network; the judge comes before those that it judges."""
    found = []
    for network in networks:
        others = arguments.options - config.types(network.config).keys()
        job = Job(network.name, words(arguments.actions, arguments, others))
        if network.task in JUDGED and network.name != functions.JUDGE:
            job.needs = (functions.JUDGE,)
        job.expected = recorded.seconds(arguments.repository, network.name, arguments.preset)
        found.append(job)
    return found


def words(actions: Iterable[argparse.Action], arguments: argparse.Namespace, leave_out: Iterable[str]) -> list[str]:
    """The options that were given, as they are typed; those at their default and `leave_out` are not among them."""
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
    """What others need first, then the longest; those that nobody knows before them, for they may be long."""
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
    """Train all, `at_once` at a time; how each ended, in the order of `jobs`.

    home     the folder of runs. Where the same jobs were stopped or some failed before, those done are not done again.
    threads  of all together; the cores by default
    program  what is run with a job's name and command; its last line on stdout is the answer, a JSON object

    SIGINT and SIGTERM stop each at a checkpoint; what was not begun then has the code 1 and the error "stopped".
    """
    what = {"networks": {job.name: job.command for job in jobs}}
    with run_folder.opened(home, FOLDER, what, resume, holds=run_folder.TOLD) as folder:
        return asyncio.run(_Together(jobs, folder, at_once, threads or cores(), board, program).run())


class _Together:
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
        self.asked = 0

    async def run(self) -> list[Outcome]:
        self._take_up()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        running: dict[asyncio.Task[Outcome], Job] = {}
        try:
            with self.board:
                while True:
                    while not self.asked and len(running) < self.at_once and (job := self._next(running.values())):
                        share = self.threads // min(self.at_once, len(running) + 1 + len(self.waiting))
                        running[asyncio.create_task(self._one(job, max(1, share)))] = job
                        self.board.started(job.name, self._log(job), [other.name for other in self.waiting])
                    if not running:
                        break
                    ended, _ = await asyncio.wait(running, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                    for task in ended:
                        del running[task]
                        self._ended(task.result())
                    self.board.look()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        every = [self.outcomes.get(job.name, Outcome(job.name, 1, error="stopped")) for job in self.jobs]
        if all(outcome.code == 0 for outcome in every):
            self.folder.tell(exported=[outcome.answer["version"] for outcome in every])
        return every

    def _take_up(self) -> None:
        """Leave out what the stopped command has done."""
        for name, answer in self.folder.told().get("done", {}).items():
            if Path(answer["version"]).is_dir():
                self.outcomes[name] = Outcome(name, 0, answer=answer)
                self.board.found(name, answer)
        self.waiting = [job for job in self.waiting if job.name not in self.outcomes]

    def _next(self, running: Iterable[Job]) -> Job | None:
        """The first that needs nothing which is still to come."""
        coming = {job.name for job in [*running, *self.waiting]}
        for job in self.waiting:
            if not coming & set(job.needs):
                self.waiting.remove(job)
                return job
        return None

    async def _one(self, job: Job, threads: int) -> Outcome:
        began = time.monotonic()
        command = [*self.program, job.name, *job.command, "--json"]
        share = {name: str(threads) for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")}
        with self._log(job).open("ab") as log:
            log.write(f"$ ladle train {job.name} {shlex.join(job.command)}\n".encode())
            log.flush()
            child = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=PIPE, stderr=log, env={**os.environ, **share}, start_new_session=True
            )
            self.children[job.name] = child
            if self.asked:
                child.terminate()
            out, _ = await child.communicate()
        del self.children[job.name]
        code, seconds = child.returncode or 0, time.monotonic() - began
        if code == 0:
            return Outcome(job.name, 0, seconds, json.loads(out.splitlines()[-1]))
        return Outcome(job.name, 1, seconds, error=self._reason(job, code))

    def _ended(self, outcome: Outcome) -> None:
        self.outcomes[outcome.name] = outcome
        if outcome.code == 0:
            self.folder.tell(done={**self.folder.told().get("done", {}), outcome.name: outcome.answer})
        self.board.ended(outcome.name, outcome.seconds, outcome.answer, outcome.error, stopped=self.asked > 0)

    def _reason(self, job: Job, code: int) -> str:
        """The last line of a log, without the program's name; a signal's name where it died of one."""
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return last(self._log(job)).removeprefix("training: ").removeprefix("ladle train: ")

    def _log(self, job: Job) -> Path:
        return self.folder.path / f"{job.name}.log"

    def _stop(self) -> None:
        self.asked += 1
        self.board.say("stopping at a checkpoint ..." if self.asked == 1 else "stopping at once ...")
        for child in self.children.values():
            child.terminate()
