"""The process of `orch up`: it starts what is due, and looks after the runs in the background.

Prefect's scheduler makes a flow run for each time of a schedule. This process takes the ones that are due,
names each after a run of `orch`, and starts that run in a process of its own, which outlives this one. Which
run a flow run is, for which schedule and with which rights, is put on the disk before the server hears of it.
Every step can be repeated: a run that was reserved and not begun is begun, one that died is resumed, and one
whose end the server does not know is put down. So each due time has one run, whichever process is killed, and
when. What the server says of runs is data: of what this home has not put down itself, it takes up nothing.

Not covered: a second computer that serves the same schedules on a shared server.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from orchestrator_cli.approvals.inbox import send_cancel
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.engine.deployments import UNDER_WAY, Deployments, ScheduledRun
from orchestrator_cli.engine.outbox import fault_of
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.events import RunResumed
from orchestrator_cli.journal.journal import lock_owner
from orchestrator_cli.notify_settings import NotifySettings
from orchestrator_cli.runs.background import (
    background_of,
    begin_reserved,
    go_on,
    journal_size,
    not_started,
    reserve,
    withdraw,
)
from orchestrator_cli.runs.beginnings import began
from orchestrator_cli.runs.find import FoundRun, PastRun, look_at
from orchestrator_cli.runs.page_answers import answered_on_page
from orchestrator_cli.schedules.at_work import (
    AtWork,
    begun_as,
    command_of,
    ended,
    flow_of,
    in_its_place,
    run_id_of,
    settle,
)
from orchestrator_cli.schedules.limits import left_today
from orchestrator_cli.schedules.news import News
from orchestrator_cli.schedules.origins import Origins
from orchestrator_cli.schedules.rates import AT_HOME, AT_THE_SERVER, FILES, OWN, HourlyRate, SourceRates
from orchestrator_cli.schedules.rules import decide, objection
from orchestrator_cli.schedules.schedule import LOCK, LONG_AGO, Schedule, ScheduleStore
from orchestrator_cli.schedules.watch import FileChanges, FileWatch, names_of
from orchestrator_cli.schedules.webhooks import Webhooks
from orchestrator_cli.views.text import label

POLL_S = 1.0
"""Between looks at what is due and at what has ended."""
GAP_S = 30.0
"""The machine slept if the clocks have come apart by so much."""
KEPT_S = 3.0
"""How often it is put down that this process runs."""
LEFT_OUT_AN_HOUR = 60
"""How often it is said of a schedule that it does not run."""
WHY_CHARS, NAME_CHARS = 500, 100
AGAIN = 5
"""How often a run that dies is resumed."""
RESUMABLE = ("died", "interrupted")
LATEST_DAYS = 7
"""A run in the background that died before that is left to its user."""

Say = Callable[[str], None]


class Serving:
    """Serves the schedules of one home until its process is interrupted."""

    def __init__(
        self,
        home: Path,
        connect: Callable[[], AbstractContextManager[Any]],
        say: Say,
        *,
        notify: NotifySettings = NotifySettings(),  # noqa: B008 - it is frozen
        is_shared: bool = False,
        unsent: Path | None = None,
        often: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            connect: a client of Prefect, as a context.
            say: shows one line.
            notify: how the user is notified of what no run can say.
            is_shared: whether others use the server too.
            often: is called in every round.
            unsent: as in `Deployments`.
        """
        self._is_shared, self._unsent, self._often = is_shared, unsent, often
        self._home = home
        self._connect = connect
        self._say = say
        self._store = ScheduleStore(home)
        self._schedules: dict[str, Schedule] = {}
        self._version: object = None
        self._work: list[AtWork] = []
        self._waiting: list[AtWork] = []
        """Runs that wait for a person; another process goes on with them."""
        self._since = datetime.now(UTC)
        self._before = self._store.served
        self._kept = LONG_AGO
        self._looked = time.time() - time.monotonic()
        self._files = FileChanges()
        self._at_home, self._at_the_server = SourceRates(AT_HOME), SourceRates(AT_THE_SERVER)
        self._remarks, self._origins = HourlyRate(LEFT_OUT_AN_HOUR), Origins(home, self._store)
        self._hooks = Webhooks(self._store, say)
        self._news = News(home, notify, say)
        self._fault = ""

    def serve(self) -> None:
        """Start what is due, for ever. A server that is gone is waited for."""
        with self._alone(), FileWatch(self._files.add) as watch, self._hooks, closing(self._news):
            self._watch = watch
            while True:
                self._notice_gap()
                self._hooks.listen()
                try:
                    with self._connect() as client:
                        owner = self._store.owner if self._is_shared else ""
                        self._serve_with(Deployments(client, owner, self._unsent))
                except OSError as exc:
                    self._say_once(f"The disk or the network fails: {exc}")
                except Exception as exc:
                    # Whatever the client raises: the server is restarting, or was killed.
                    self._say_once(f"Prefect's server does not answer: {fault_of(exc)}. It is tried again.")
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
        self._store.forget_old()
        self._fault = ""
        while True:
            now = self._notice_gap()
            self._hooks.listen()
            self._often()
            self._sync(deployments)
            self._look_at_work(deployments)
            self._look_at_page(deployments)
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
                    events = schedule.event, schedule.resource
                    deployments.put(name, about, schedule.timing, digest, not schedule.paused, events)
                except ValueError as exc:
                    self._left_out(name, f"Prefect's server refuses it: {exc}")
        self._watch.follow(self._schedules.values())
        self._version = version

    def _trigger(self, deployments: Deployments) -> None:
        """Have the server make flow runs of what was triggered, and of files that changed."""
        busy = {work.flow.schedule for work in self._work if work.flow}
        for name, files in self._files.take(busy):
            if self._at_home.takes(name, FILES):  # two could change each other's files without end
                why = f"changed: {', '.join(files[:3])}"
                self._store.trigger(name, why, source="files", occasion=names_of(files))
            else:
                self._left_out(name, f"files have changed {AT_HOME[FILES]} times within an hour")
        for path, trigger in self._store.triggered():
            name, made = trigger.schedule, ""
            is_own = trigger.source == OWN  # the others are counted as they come in
            if is_own and not self._at_home.has_room(name, OWN):
                self._left_out(name, f"this home has asked for it {AT_HOME[OWN]} times within an hour")
            elif name in self._schedules:
                given = {"source": trigger.source, "occasion": trigger.occasion}
                made = deployments.trigger(name, trigger.key, trigger.why, run=trigger.run, **given)
            if not made:
                path.unlink(missing_ok=True)
                continue
            self._store.keep_asked(path, made)
            if is_own:
                self._at_home.takes(name, OWN)

    # --- beginning

    def _begin_due(self, deployments: Deployments, now: datetime) -> None:
        at_work = {work.flow.schedule: work for work in self._work if work.flow}
        # What waits for its own run may be much, and would hide what is due of others.
        asked = [
            name
            for name, schedule in self._schedules.items()
            if not (schedule.paused or (schedule.overlap == "queue" and name in at_work))
        ]
        by_schedule = attrgetter("schedule")
        found = [run for run in deployments.due(now, asked) if run.schedule in asked]
        for name, runs in groupby(sorted(found, key=by_schedule), key=by_schedule):
            schedule = self._schedules[name]
            decision = decide(
                schedule,
                list(self._own(deployments, schedule, runs, now)),
                was_missed=self._was_missed,
                is_busy=name in at_work,
                has_room=partial(self._at_the_server.has_room, name),
            )
            for run, why in decision.skip:
                # With its name: two may have come in the same second.
                when = f"at {run.due.astimezone():%Y-%m-%d %H:%M:%S} ({truncate(run.name, NAME_CHARS)})"
                self._skip(deployments, run, why, when if run.is_timed else "")
            if decision.cancels and not at_work[name].is_cancelled:
                at_work[name].is_cancelled = True
                send_cancel(at_work[name].past.folder, "a newer run is due")
            if decision.start is not None:
                self._begin(deployments, schedule, decision.start)

    def _own(
        self, deployments: Deployments, schedule: Schedule, found: Iterable[ScheduledRun], now: datetime
    ) -> Iterator[ScheduledRun]:
        """The flow runs that may begin, with what this home knows of them."""
        for run in (self._origins.of(one, schedule) for one in found):
            if why := self._origins.objection(run, schedule, now):
                self._skip(deployments, run, why)
            else:
                yield run

    def _skip(self, deployments: Deployments, run: ScheduledRun, why: str, when: str = "") -> None:
        deployments.end(run, "CANCELLED", "Skipped", why)
        self._store.forget_asked(run.id)
        self._left_out(run.schedule, why, when)

    def _begin(
        self,
        deployments: Deployments,
        schedule: Schedule,
        flow: ScheduledRun,
        reserved: PastRun | None = None,
    ) -> None:
        """Begin a flow run that is due, or that was claimed for the run that is `reserved`."""
        left = left_today(self._home, schedule)
        if schedule.replaced or (left is not None and left <= 0):
            self._give_up(deployments, schedule, flow)
            if reserved:
                withdraw(reserved)
            return
        run = reserved.run if reserved else run_id_of(flow, self._home)
        past = PastRun(run, self._home, Path(schedule.workspace), schedule.mark)
        about = begun_as(schedule, flow, left)
        reserve(past, about)
        if not (reserved or deployments.claim(flow, past.run)):
            withdraw(past)
            return
        if flow.is_timed:
            self._store.keep_last_time(schedule.name, flow.due)
        self._at_the_server.takes(schedule.name, flow.source)
        process = begin_reserved(past, command_of(schedule, about), schedule.prompt)
        self._store.forget_asked(flow.id)
        self._work.append(AtWork(past, flow, process))
        self._say(f"{schedule.name}: run {past.run}")

    def _give_up(self, deployments: Deployments, schedule: Schedule, flow: ScheduledRun) -> None:
        """End a flow run that may not begin: its folder was replaced, or the money of today is spent."""
        if why := schedule.replaced:
            deployments.end(flow, "CRASHED", "Crashed", why)
            self._news.failed(schedule, "", why)
        else:
            why = f"its runs of today have cost {schedule.max_cost_day:g} dollars"
            deployments.end(flow, "CANCELLED", "Skipped", why)
            self._news.over_budget(schedule, why)
        self._store.forget_asked(flow.id)
        self._left_out(schedule.name, why)

    # --- what is at work

    def _adopt(self, deployments: Deployments) -> None:
        """Take up the runs that an earlier process, or a lost connection, left."""
        known = {work.past.run for work in (*self._work, *self._waiting)}
        oldest = datetime.now(UTC) - timedelta(days=LATEST_DAYS)
        for path in (self._home / "runs").glob("*/background.json"):
            past = PastRun(path.parent.name, self._home, Path())
            about = background_of(past)
            if about is None or about.is_settled or past.run in known:
                continue
            has_journal = past.journal.exists()
            if began(past.journal if has_journal else path) < oldest:
                continue
            flow = flow_of(past, about)
            if flow is None or has_journal or lock_owner(past.folder) is not None:
                self._work.append(AtWork(past, flow))
            else:
                self._take_up_reserved(deployments, past, flow)

    def _take_up_reserved(self, deployments: Deployments, past: PastRun, flow: ScheduledRun) -> None:
        """Begin a run that was reserved and not begun, if its flow run was claimed for it."""
        schedule = self._schedules.get(flow.schedule)
        if schedule is None:
            return
        if deployments.state_of(flow.id) in UNDER_WAY:
            self._say(f"{flow.schedule}: run {past.run}, which was named and not begun")
            self._begin(deployments, schedule, flow, past)
        else:
            withdraw(past)  # what is due, is due again

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
                    self._tell_failed(work.flow, work.past.run, exc.message)

    def _look_at_page(self, deployments: Deployments) -> None:
        """Go on with runs that wait and were answered on Prefect's page."""
        deployments.send_unsent()
        waiting = {work.past.run: work for work in self._waiting}
        asked = [work.past for work in waiting.values()]
        for past in answered_on_page(deployments.request, asked, is_own=not self._is_shared):
            self._waiting.remove(waiting[past.run])
            self._say(f"run {past.run} was answered on Prefect's page")
            self._work.append(AtWork(past, waiting[past.run].flow, go_on(past)))

    def _go_on(self, deployments: Deployments, work: AtWork) -> None:
        """Deal with a run that is not known to be at work."""
        flow = work.flow
        if not work.past.journal.exists():
            settle(work.past)
            raise not_started(work.past, work.process.returncode if work.process else 1)
        found = look_at(work.past)
        work.past = in_its_place(found)
        if found.status == "running":
            self._work.append(AtWork(work.past, flow))
        elif not (found.status in RESUMABLE and self._resume(work, found)):
            if flow is not None:
                self._put_down(deployments, flow, found)
            elif found.status == "paused":
                self._waiting.append(AtWork(work.past, None, size=journal_size(work.past)))
            else:
                settle(work.past)

    def _resume(self, work: AtWork, found: FoundRun) -> bool:
        """Resume a run, unless it was resumed too often or cannot be."""
        times = sum(isinstance(event.data, RunResumed) for event in work.past.events())
        if times >= AGAIN or not work.past.root.is_dir():
            return False
        self._say(f"resuming run {work.past.run}, which {ended(found)}")
        self._work.append(AtWork(work.past, work.flow, go_on(work.past)))
        return True

    def _put_down(self, deployments: Deployments, flow: ScheduledRun, found: FoundRun) -> None:
        """Say how a run ended, to the user and the server, and start what comes after it."""
        end = found.state.finished
        message = (end.error or "").partition("\n")[0] if end else "Its process died."
        states = {
            "completed": ("COMPLETED", "Completed"),
            "cancelled": ("CANCELLED", "Cancelled"),
            "died": ("CRASHED", "Crashed"),
        }
        state, name = states.get(found.status, ("FAILED", "Failed"))
        if found.status != "paused":  # the run itself has said that, with a form for the answer
            deployments.end(flow, state, name, message)
        self._say(
            f"{flow.schedule}: run {found.where.run} {ended(found)}" + (f": {message}" if message else "")
        )
        if found.status == "died":  # any other run has notified its user itself
            self._tell_failed(flow, found.where.run, message)
        if found.status == "paused":
            self._waiting.append(AtWork(in_its_place(found), flow, size=journal_size(found.where)))
            return
        self._files.ran(flow.schedule, found.state.changes)
        for schedule in self._schedules.values():
            if schedule.after != flow.schedule:
                continue
            after = f"after run {found.where.run}"
            if why_not := objection(schedule, found):
                self._left_out(schedule.name, why_not, after)
            else:
                self._store.trigger(schedule.name, after, f"{schedule.name}-after-{found.where.run}")
        settle(found.where)

    def _left_out(self, name: str, why: str, when: str = "") -> None:
        """Say that a schedule does not run, and keep that for `orch schedule show`."""
        said = label(f"{when}: {why}".removeprefix(": "), WHY_CHARS)
        line = f"{name} does not run{' ' if when else ', because '}{said}"
        if line != self._fault and self._remarks.takes(name):
            self._say_once(line)
        with contextlib.suppress(OSError):
            self._store.note(name, said)

    def _tell_failed(self, flow: ScheduledRun, run: str, why: str) -> None:
        if schedule := self._schedules.get(flow.schedule):
            self._news.failed(schedule, run, why)
