"""The process of `orch up`: it starts what is due, and looks after the runs in the background.

Prefect's scheduler makes a flow run for each time of a schedule. This process takes the ones that are due,
names each after a run of `orch`, and starts that run in a process of its own, which outlives this one. Every
step can be repeated: a run that was named and not begun is begun, one that died is resumed, and one whose end
the server does not know is put down. So each due time has one run, whichever process is killed, and when.

Not covered: a second computer that serves the same schedules on a shared server.
"""

import contextlib
import hashlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from orchestrator_cli.approvals.inbox import send_cancel
from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.engine.deployments import Deployments, ScheduledRun
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.events import RunResumed
from orchestrator_cli.journal.journal import lock_owner
from orchestrator_cli.runs.background import (
    BackgroundRun,
    background_of,
    begin,
    go_on,
    journal_size,
    not_started,
    write_background,
)
from orchestrator_cli.runs.find import FoundRun, PastRun, look_at, past_run
from orchestrator_cli.runtime import RUN_ID, new_run_id
from orchestrator_cli.schedules.rules import decide
from orchestrator_cli.schedules.schedule import LOCK, LONG_AGO, Schedule, ScheduleStore
from orchestrator_cli.schedules.watch import FileWatch
from orchestrator_cli.views.streams import sole_value

POLL_S = 1.0
"""Between looks at what is due and at what has ended."""
GAP_S = 30.0
"""The machine slept if the clocks have come apart by so much."""
KEPT_S = 3.0
"""How often it is put down that this process runs."""
FILES_AN_HOUR = 30
"""How often changed files have a schedule run."""
AGAIN = 5
"""How often a run that dies is resumed."""
RESUMABLE = ("died", "interrupted")
OWN_S = 5.0
"""For how long after a run what it changed may still be reported."""
LATEST_DAYS = 7
"""A run in the background that died before that is left to its user."""

Say = Callable[[str], None]


@dataclass
class _AtWork:
    """A run that is at work."""

    past: PastRun
    flow: ScheduledRun | None
    """The flow run that it belongs to; None for one that a person started."""
    process: "subprocess.Popen[bytes] | None" = None
    """None if an earlier process started it."""
    is_cancelled: bool = False
    size: int = 0
    """Of its journal, if it waits for a person."""

    @property
    def is_over(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        return lock_owner(self.past.folder) is None


class Serving:
    """Serves the schedules of one home until its process is interrupted."""

    def __init__(
        self,
        home: Path,
        connect: Callable[[], AbstractContextManager[Any]],
        say: Say,
        *,
        is_shared: bool = False,
    ) -> None:
        """
        Args:
            connect: a client of Prefect, as a context.
            say: shows one line.
            is_shared: whether others use the server too.
        """
        self._is_shared = is_shared
        self._home = home
        self._connect = connect
        self._say = say
        self._store = ScheduleStore(home)
        self._schedules: dict[str, Schedule] = {}
        self._version: object = None
        self._work: list[_AtWork] = []
        self._waiting: list[_AtWork] = []
        """Runs that wait for a person; another process goes on with them."""
        self._since = datetime.now(UTC)
        self._before = self._store.served
        self._kept = LONG_AGO
        self._looked = time.time() - time.monotonic()
        self._files_at: dict[str, deque[float]] = {}
        """When changed files had a schedule run."""
        self._changes: dict[str, frozenset[str]] = {}
        """Files that have changed, by the schedule that waits for them."""
        self._changed_by: dict[str, tuple[frozenset[str], float]] = {}
        """What the last run of a schedule changed, and until when that may still be reported."""
        self._changing = threading.Lock()
        self._fault = ""

    def serve(self) -> None:
        """Start what is due, for ever. A server that is gone is waited for."""
        with self._alone(), FileWatch(self._on_change) as watch:
            self._watch = watch
            while True:
                self._notice_gap()
                try:
                    with self._connect() as client:
                        self._serve_with(Deployments(client, self._store.owner if self._is_shared else ""))
                except OSError as exc:
                    self._say_once(f"The disk or the network fails: {exc}")
                except Exception as exc:
                    # Whatever the client raises: the server is restarting, or was killed.
                    self._say_once(f"Prefect's server does not answer: {str(exc) or type(exc).__name__}")
                time.sleep(POLL_S)

    def _say_once(self, line: str) -> None:
        if line != self._fault:
            self._fault = line
            self._say(line)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises `UsageError` if another process serves this home."""
        self._store.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock = acquire(self._store.folder / LOCK, wait_s=1.0)
        except LockTimeout as exc:
            raise UsageError("orch up is running already for this data folder.", "End it first.") from exc
        with lock:
            yield

    # --- the loop

    def _serve_with(self, deployments: Deployments) -> None:
        self._version = None
        self._sync(deployments)
        self._adopt(deployments)
        self._fault = ""
        while True:
            now = self._notice_gap()
            self._sync(deployments)
            self._look_at_work(deployments)
            self._trigger(deployments)
            self._begin_due(deployments, now)
            time.sleep(POLL_S)

    def _notice_gap(self) -> datetime:
        """The time; times that went by while the machine slept are missed."""
        now, looked = datetime.now(UTC), time.time() - time.monotonic()
        if looked - self._looked > GAP_S:  # the second clock stands still meanwhile
            self._since, self._before = now, self._store.served
        self._looked = looked
        if now - self._kept > timedelta(seconds=KEPT_S):
            self._kept, self._store.served = now, (self._since, now)
        return now

    def _was_missed(self, due: datetime) -> bool:
        """Whether neither this `orch up` ran at a time, nor the one before."""
        return due < self._since and not (self._before[0] <= due <= self._before[1])

    def _sync(self, deployments: Deployments) -> None:
        """Make the deployments what the schedules are. One that has not changed keeps what is due of it."""
        if self._version == (version := self._store.version):
            return
        self._schedules = self._store.all()
        there = deployments.read()
        for name in there.keys() - self._schedules.keys():
            deployments.remove(name)
        for name, schedule in self._schedules.items():
            digest = hashlib.sha256(schedule.model_dump_json().encode()).hexdigest()[:16]
            if there.get(name) != digest:
                about = schedule.prompt or f"Runs the process {schedule.process}."
                try:
                    deployments.put(name, about, schedule.timing, digest, not schedule.paused)
                except ValueError as exc:
                    self._say(f"{name}: Prefect's server refuses it: {exc}")
        self._watch.follow(self._schedules.values())
        self._version = version

    def _trigger(self, deployments: Deployments) -> None:
        """Have the server make flow runs of what was triggered, and of files that changed."""
        busy = {work.flow.schedule for work in self._work if work.flow}
        for name in list(self._changes):
            if name in busy:
                continue
            with self._changing:
                files = self._changes.pop(name) - self._own_changes(name)
            if files and self._may_follow(name):
                self._store.trigger(name, f"changed: {', '.join(sorted(files)[:3])}")
        for path, trigger in self._store.triggered():
            if trigger.schedule in self._schedules:
                deployments.trigger(trigger.schedule, trigger.key, trigger.why)
            path.unlink(missing_ok=True)

    def _may_follow(self, name: str) -> bool:
        """Whether changed files may have a schedule run again: two could change each other's without end."""
        times = self._files_at.setdefault(name, deque(maxlen=FILES_AN_HOUR))
        if len(times) == FILES_AN_HOUR and time.monotonic() - times[0] < 3600:
            self._say_once(
                f"{name}: files have changed {FILES_AN_HOUR} times within an hour; more has to wait"
            )
            return False
        times.append(time.monotonic())
        return True

    def _on_change(self, name: str, files: frozenset[str]) -> None:
        """In the thread that watches: what a run changes itself is not known before its end."""
        with self._changing:
            self._changes[name] = self._changes.get(name, frozenset()) | files

    def _own_changes(self, name: str) -> frozenset[str]:
        """What the last run of a schedule has just changed."""
        files, until = self._changed_by.get(name, (frozenset(), 0.0))
        return files if time.monotonic() < until else frozenset()

    # --- beginning

    def _begin_due(self, deployments: Deployments, now: datetime) -> None:
        at_work = {work.flow.schedule: work for work in self._work if work.flow}
        # What waits for its own run may be much, and would hide what is due of others.
        asked = [
            name
            for name, schedule in self._schedules.items()
            if not (schedule.paused or (schedule.overlap == "queue" and name in at_work))
        ]
        due = deployments.due(now, asked)
        for name, runs in groupby(sorted(due, key=lambda run: run.schedule), key=lambda run: run.schedule):
            schedule = self._schedules[name]
            decision = decide(schedule, list(runs), was_missed=self._was_missed, is_busy=name in at_work)
            for run, why in decision.skip:
                deployments.end(run, "CANCELLED", "Skipped", why)
                self._say(f"{name}: skipped {run.due.astimezone():%Y-%m-%d %H:%M:%S}, because {why}")
            if decision.cancels and not at_work[name].is_cancelled:
                at_work[name].is_cancelled = True
                send_cancel(at_work[name].past.folder, "a newer run is due")
            if decision.start is not None:
                self._begin(deployments, schedule, decision.start)

    def _begin(self, deployments: Deployments, schedule: Schedule, flow: ScheduledRun) -> None:
        past = PastRun(new_run_id(), self._home, Path(schedule.workspace), schedule.mark)
        left = self._left_today(schedule)
        if why := schedule.replaced:
            deployments.end(flow, "CRASHED", "Crashed", why)
            self._say(f"{schedule.name}: not started, because {why}")
        elif left is not None and left <= 0:
            why = f"its runs of today have cost {schedule.max_cost_day:g} dollars"
            deployments.end(flow, "CANCELLED", "Skipped", why)
            self._say(f"{schedule.name}: skipped, because {why}")
        elif deployments.claim(flow, past.run):
            self._start(schedule, past, flow, left)
            self._say(f"{schedule.name}: run {past.run}")

    def _start(
        self, schedule: Schedule, past: PastRun, flow: ScheduledRun, left: float | None = None
    ) -> None:
        limit = () if left is None or schedule.process else (f"--max-cost={left:.4f}",)
        about = BackgroundRun(
            arguments=(*schedule.arguments, *limit), schedule=schedule.name, flow_run=flow.id
        )
        process = begin(past, (*schedule.command, *limit), schedule.prompt, about)
        self._work.append(_AtWork(past, flow, process))

    def _left_today(self, schedule: Schedule) -> float | None:
        """What its runs of today may still cost; None if there is no limit."""
        if schedule.max_cost_day is None:
            return None
        spent = 0.0
        for folder in (self._home / "runs").glob(f"{datetime.now():%Y%m%d}-*"):
            past = PastRun(folder.name, self._home, Path(schedule.workspace))
            about = background_of(past)
            if about is not None and about.schedule == schedule.name and past.journal.exists():
                spent += look_at(past).state.usage.cost
        return schedule.max_cost_day - spent

    # --- what is at work

    def _adopt(self, deployments: Deployments) -> None:
        """Take up the runs that an earlier process, or a lost connection, left."""
        known = {work.past.run for work in (*self._work, *self._waiting)}
        oldest = f"{datetime.now() - timedelta(days=LATEST_DAYS):%Y%m%d}"
        for path in sorted((self._home / "runs").glob("*/background.json")):
            past = PastRun(path.parent.name, self._home, Path())
            about = background_of(past)
            if about is not None and not about.is_settled and past.run not in known and past.run >= oldest:
                known.add(past.run)
                flow = _flow_of(past, about)
                if flow is None or past.journal.exists() or lock_owner(past.folder) is not None:
                    self._work.append(_AtWork(past, flow))
                elif schedule := self._schedules.get(flow.schedule):
                    self._start(schedule, _in_place_of(schedule, past), flow)
        for flow in deployments.under_way():
            schedule = self._schedules.get(flow.schedule)
            past = PastRun(flow.name, self._home, Path())
            if not RUN_ID.fullmatch(flow.name) or flow.name in known:
                continue  # the name of one that something else has begun is not ours
            if schedule is not None and background_of(past) is None:
                self._say(f"{flow.schedule}: run {flow.name}, which was named and not begun")
                self._start(schedule, _in_place_of(schedule, past), flow)

    def _look_at_work(self, deployments: Deployments) -> None:
        for work in [work for work in self._waiting if journal_size(work.past) != work.size]:
            self._waiting.remove(work)
            self._work.append(work)
        for work in [work for work in self._work if work.is_over]:
            self._work.remove(work)
            try:
                self._go_on(deployments, work)
            except OrchError as exc:
                self._say(f"run {work.past.run}: {exc.message}")
                if work.flow is not None:
                    deployments.end(work.flow, "CRASHED", "Crashed", exc.message)

    def _go_on(self, deployments: Deployments, work: _AtWork) -> None:
        """Deal with a run that is not known to be at work."""
        flow = work.flow
        if not work.past.journal.exists():
            _settle(work.past)
            raise not_started(work.past, work.process.returncode if work.process else 1)
        found = look_at(work.past)
        work.past = _in_its_place(found)
        if found.status == "running":
            self._work.append(_AtWork(work.past, flow))
        elif not (found.status in RESUMABLE and self._resume(work, found)):
            if flow is not None:
                self._put_down(deployments, flow, found)
            elif found.status != "paused":
                _settle(work.past)

    def _resume(self, work: _AtWork, found: FoundRun) -> bool:
        """Resume a run, unless it was resumed too often or cannot be."""
        times = sum(isinstance(event.data, RunResumed) for event in work.past.events())
        if times >= AGAIN or not work.past.root.is_dir():
            return False
        self._say(f"resuming run {work.past.run}, which {_ended(found)}")
        self._work.append(_AtWork(work.past, work.flow, go_on(work.past)))
        return True

    def _put_down(self, deployments: Deployments, flow: ScheduledRun, found: FoundRun) -> None:
        """Say how a run ended, to the user and the server, and start what comes after it."""
        end = found.state.finished
        message = (end.error or "").partition("\n")[0] if end else "Its process died."
        states = {
            "completed": ("COMPLETED", "Completed"),
            "cancelled": ("CANCELLED", "Cancelled"),
            "paused": ("PAUSED", "Paused"),
            "died": ("CRASHED", "Crashed"),
        }
        state, name = states.get(found.status, ("FAILED", "Failed"))
        deployments.end(flow, state, name, message)
        self._say(
            f"{flow.schedule}: run {found.where.run} {_ended(found)}" + (f": {message}" if message else "")
        )
        if found.status == "paused":
            self._waiting.append(_AtWork(found.where, flow, size=journal_size(found.where)))
            return
        self._changed_by[flow.schedule] = frozenset(found.state.changes), time.monotonic() + OWN_S
        for schedule in self._schedules.values():
            if schedule.after == flow.schedule and self._follows(schedule, found):
                key = f"{schedule.name}-after-{found.where.run}"
                self._store.trigger(schedule.name, f"after run {found.where.run}", key)
        _settle(found.where)

    def _follows(self, schedule: Schedule, found: FoundRun) -> bool:
        if not schedule.condition:
            return found.status == "completed"
        end = found.state.finished
        known = {
            "outcome": found.status,
            "answer": end.answer if end else "",
            "value": sole_value(found.state),
        }
        try:
            return holds(schedule.condition, known)
        except ExpressionFailed as exc:
            self._say(f"{schedule.name}: its condition cannot be evaluated: {exc}")
            return False


def _flow_of(past: PastRun, about: BackgroundRun) -> ScheduledRun | None:
    """The flow run that a run is; None if a person started it."""
    if not about.schedule:
        return None
    return ScheduledRun(about.flow_run, about.schedule, datetime.now(UTC), past.run, False, "RUNNING")


def _settle(past: PastRun) -> None:
    """Put down that there is no more to be done about a run."""
    if (about := background_of(past)) is not None:
        write_background(past, about.model_copy(update={"is_settled": True}))


def _ended(found: FoundRun) -> str:
    words = {"died": "has died", "paused": "waits for you", "interrupted": "was interrupted"}
    return words.get(found.status, found.status)


def _in_place_of(schedule: Schedule, past: PastRun) -> PastRun:
    """A run that has not begun, in the workspace of its schedule."""
    return replace(past, root=Path(schedule.workspace), mark=schedule.mark)


def _in_its_place(found: FoundRun) -> PastRun:
    """The run in the workspace that its journal names."""
    return past_run(found.where.journal) or found.where
