"""What a schedule is, and the folder that the schedules of a home are in.

A schedule is a file, `schedules/NAME.json` in the data folder. The process of `orch up` makes a Prefect
deployment of each, and starts a run for each flow run of it that is due.
"""

import contextlib
import json
import re
import secrets
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, JsonValue, ValidationError, ValidationInfo, field_validator, model_validator

from orchestrator_cli.approvals.deadlines import Patience
from orchestrator_cli.durable.expressions import expression_faults
from orchestrator_cli.durable.files import make_folders, read_regular, sync_folder, write_atomic
from orchestrator_cli.durable.held_folder import has_mark
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.errors import UsageError
from orchestrator_cli.notify_settings import NotifyEvent
from orchestrator_cli.plan import FrozenModel

FOLDER = "schedules"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
EVENT_NAME = re.compile(r"\A(?=.)[\w.:/-]{0,199}\*?\Z", re.ASCII)
LOCK, SERVED = "lock", "served"
LONG_AGO = datetime.min.replace(tzinfo=UTC)
MAX_BYTES = 1 << 20
"""Of a file in the folder."""
KEPT = timedelta(days=30)
"""For how long a flow run may wait for its beginning."""
HOOK_HOST, HOOKS, PORT, TOKENS = "127.0.0.1", "/hooks/", "port", "tokens"
"""Where `orch up` takes requests; the files with its port and with the token of each schedule."""
NOTES = "notes"
"""The folder of why schedules did not run."""
SPOOL = "due"
"""The folder of what is to run besides the times, such as now."""
ASKED = "asked"
"""The folder of the same, once Prefect's server has a flow run for it, by the id of that."""
TIMES = "times"
"""The folder of the last time of each schedule that had a run."""
KNOWN = frozenset({"outcome", "answer", "value"})
"""What a condition may name: how the earlier run ended, its answer, and the value of its only subtask."""


class Schedule(FrozenModel):
    """What runs, when, and what happens if it cannot."""

    name: str
    workspace: str
    mark: str = ""
    """Of the workspace as it was when the schedule was added or it was accepted, see `same_folder`."""
    prompt: str = ""
    process: str = ""
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the process."""
    cron: str = ""
    every_s: float | None = Field(default=None, ge=1)
    at: datetime | None = None
    """Once, at this time of `timezone`."""
    rrule: str = ""
    timezone: str = "UTC"
    anchor: datetime | None = None
    """When a period of `every_s` begins."""
    files: tuple[str, ...] = ()
    """Patterns of files in the workspace; it runs when one of them changes."""
    after: str = ""
    """Another schedule; it runs when a run of that one has completed."""
    condition: str = ""
    """An expression about that run, see `KNOWN`; it runs only if this is true."""
    event: str = ""
    """A name of events of Prefect, which may end in `*`; it runs at each of them."""
    resource: str = ""
    """The id of what the events have to be about."""
    webhook: bool = False
    """Whether a request to `orch up` sets it off."""
    missed: Literal["skip", "once", "all"] = "once"
    """What happens to times that went by while `orch up` did not run."""
    overlap: Literal["skip", "queue", "cancel"] = "queue"
    """What happens to a time at which the run before is still at work; `cancel` ends that one."""
    arguments: tuple[str, ...] = ()
    """Options of `orch ask`, such as its limits."""
    retries: int = Field(default=0, ge=0, le=5)
    """Of the process."""
    max_cost_day: float | None = Field(default=None, gt=0)
    """The most US dollars for its runs of one day."""
    notify: tuple[NotifyEvent, ...] | None = None
    """What of its runs their user is notified of; None if the settings say that."""
    patience: Patience | None = None
    """How long the questions of its runs are open, and the answer then."""
    paused: bool = False

    @field_validator("name", "after")
    @classmethod
    def _is_a_name(cls, value: str, info: ValidationInfo) -> str:
        if not NAME.match(value) and (value or info.field_name == "name"):
            raise ValueError(f"{value!r} is not a valid name: use small letters, digits, - and _")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, LookupError) as exc:
            raise ValueError(f"{value!r} is not a time zone: write one such as Europe/Berlin") from exc
        return value

    @field_validator("event", "resource")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        if value and not EVENT_NAME.match(value):
            raise ValueError(
                f"{value!r} is not a valid name: it may have letters, digits, . _ : / - and end in *"
            )
        return value

    @field_validator("files")
    @classmethod
    def _are_in_the_workspace(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not pattern.strip() or pattern.startswith(("/", "~", "!", "#")) or ".." in pattern.split("/"):
                raise ValueError(f"{pattern!r} names no files of the workspace: write one such as data/*.csv")
        return patterns

    @model_validator(mode="before")
    @classmethod
    def _in_its_zone(cls, fields: Any) -> Any:
        """A time with an offset is the same moment in the zone of the schedule."""
        at = fields.get("at") if isinstance(fields, dict) else None
        if isinstance(at, str):
            try:
                moment = datetime.fromisoformat(at)
                if moment.tzinfo is not None:
                    zone = ZoneInfo(fields.get("timezone") or "UTC")
                    return fields | {"at": moment.astimezone(zone).replace(tzinfo=None)}
            except (OSError, ValueError, LookupError):
                pass  # the field, or that of the zone, is refused
        return fields

    @model_validator(mode="after")
    def _is_whole(self) -> "Schedule":
        if bool(self.prompt) == bool(self.process):
            raise ValueError("give it either a prompt or a process")
        times = [self.cron, self.every_s, self.at, self.rrule]
        if sum(bool(one) for one in times) > 1:
            raise ValueError("give it one of --cron, --every, --at and --rrule")
        if self.resource and not self.event:
            raise ValueError("a resource is that of an event: name one with --on-event")
        if _may_be_of_runs(self.event) and (not self.resource or "*" in self.resource):
            raise ValueError(
                "its own runs would cause such events and start it again without end: "
                "name what they are about with --resource, without a *"
            )
        if self.condition and not self.after:
            raise ValueError("a condition is about the run of another schedule: name it with --after")
        if self.after and self.after == self.name:
            raise ValueError("it cannot run after itself")
        if faults := expression_faults(self.condition, KNOWN) if self.condition else ():
            raise ValueError(f"the condition {faults[0]}")
        return self

    @property
    def replaced(self) -> str:
        """Why it cannot run in the folder at its workspace's path; empty if it can."""
        if has_mark(Path(self.workspace), self.mark):
            return ""
        return (
            f"{self.workspace} is not the folder any more that it was made for; "
            f"if you mean the one that is there: orch schedule accept {self.name}"
        )

    @property
    def is_past(self) -> bool:
        """Whether its only time has gone by."""
        return self.at is not None and self.at.replace(tzinfo=ZoneInfo(self.timezone)) < datetime.now(UTC)

    @property
    def is_left_out(self) -> bool:
        """Whether its only time is one that the clocks of its zone leave out."""
        if self.at is None:
            return False
        zone = ZoneInfo(self.timezone)
        there = self.at.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
        return there.replace(tzinfo=None) != self.at

    @property
    def timing(self) -> dict[str, Any] | None:
        """The schedule in the form of Prefect's API; None if no time starts it."""
        zone = {"timezone": self.timezone}
        if self.cron:
            return {"cron": self.cron, **zone}
        if self.every_s:
            anchor = {"anchor_date": self.anchor.isoformat()} if self.anchor else {}
            return {"interval": self.every_s, **anchor, **zone}
        if self.at:
            return {"rrule": f"DTSTART:{self.at:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY;COUNT=1", **zone}
        return {"rrule": self.rrule, **zone} if self.rrule else None

    @property
    def command(self) -> tuple[str, ...]:
        """What `orch` is called with for each run."""
        if self.process:
            given = (f"{name}={_text(value)}" for name, value in self.inputs.items())
            return ("run", self.process, *given, f"--retries={self.retries}")
        return ("ask", "-", *self.arguments)


def _may_be_of_runs(event: str) -> bool:
    """Whether a name of events may be that of one that Prefect makes of runs."""
    beginning, star, _ = event.partition("*")
    return event.startswith("prefect.") or bool(star and "prefect.".startswith(beginning))


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Trigger(FrozenModel):
    """That a schedule is to run besides its times."""

    schedule: str
    why: str
    key: str
    """There is one run for each."""
    run: str = ""
    """The name that it will have; empty if that does not matter."""
    source: Literal["", "files", "webhook"] = ""
    occasion: str = ""
    """What the source wrote: the body of a request, or the names of files."""


class Note(FrozenModel):
    """That a schedule did not run when it might have."""

    time: datetime
    why: str


class ScheduleStore:
    """The schedules of a home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER

    def all(self) -> dict[str, Schedule]:
        """By name. One that cannot be read is left out; `faults` names it."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                schedule = Schedule.model_validate_json(read_regular(path, MAX_BYTES))
                found[schedule.name] = schedule
        return found

    def get(self, name: str) -> Schedule:
        """Raises `UsageError` if there is none of this name."""
        found = self.all()
        if name not in found:
            names = ", ".join(found) or "none"
            raise UsageError(f"There is no schedule {name}.", f"There are: {names}.")
        return found[name]

    @property
    def served(self) -> tuple[datetime, datetime]:
        """From when until when an `orch up` last ran; the same moment, long ago, if none has."""
        try:
            since, until = json.loads(read_regular(self.folder / SERVED, MAX_BYTES))
            return datetime.fromisoformat(since), datetime.fromisoformat(until)
        except (OSError, ValueError, TypeError):
            return LONG_AGO, LONG_AGO

    @served.setter
    def served(self, period: tuple[datetime, datetime]) -> None:
        text = json.dumps([moment.isoformat() for moment in period])
        write_atomic(self.folder / SERVED, text, sync=False, mode=0o600)

    @property
    def is_served(self) -> bool:
        """Whether an `orch up` runs."""
        try:
            with acquire(self.folder / LOCK, wait_s=0.0):
                return False
        except LockTimeout:
            return True
        except OSError:
            return False

    def put(self, schedule: Schedule) -> None:
        make_folders(self.folder, 0o700)
        write_atomic(self.folder / f"{schedule.name}.json", schedule.model_dump_json(indent=1), mode=0o600)

    def remove(self, name: str) -> None:
        """Raises `UsageError` if there is none of this name."""
        self.get(name)
        (self.folder / f"{name}.json").unlink()
        self.make_token(name, wanted=False)
        (self.folder / NOTES / f"{name}.json").unlink(missing_ok=True)
        (self.folder / TIMES / name).unlink(missing_ok=True)

    @property
    def owner(self) -> str:
        """A name for this home on a server that others use too, made once."""
        path = self.folder / "owner"
        if not path.exists():
            make_folders(self.folder, 0o700)
            write_atomic(path, uuid.uuid4().hex[:12], mode=0o600)
        return read_regular(path).decode()

    @property
    def version(self) -> tuple[tuple[str, int], ...]:
        """Differs after each change."""
        return tuple(sorted((path.name, _changed_ns(path)) for path in self.folder.glob("*.json")))

    # --- what did not happen

    def note(self, name: str, why: str) -> None:
        """Keep why a schedule did not run, instead of what was kept before. Raises `OSError`."""
        make_folders(self.folder / NOTES, 0o700)
        note = Note(time=datetime.now(UTC), why=why)
        write_atomic(self.folder / NOTES / f"{name}.json", note.model_dump_json(), sync=False, mode=0o600)

    def noted(self, name: str) -> Note | None:
        """Why a schedule last did not run; None if it always did."""
        try:
            return Note.model_validate_json(read_regular(self.folder / NOTES / f"{name}.json", MAX_BYTES))
        except (OSError, ValueError):
            return None

    # --- what had its run

    def last_time(self, name: str) -> datetime:
        """The last of its times that had a run; before there is one, when the schedule was last changed."""
        try:
            return datetime.fromisoformat(read_regular(self.folder / TIMES / name, MAX_BYTES).decode())
        except (OSError, ValueError):
            changed = _changed_ns(self.folder / f"{name}.json") / 1e9
            return datetime.fromtimestamp(changed, UTC)

    def keep_last_time(self, name: str, time: datetime) -> None:
        """Raises `OSError`."""
        make_folders(self.folder / TIMES, 0o700)
        write_atomic(self.folder / TIMES / name, time.isoformat(), mode=0o600)

    # --- requests

    def hook_port(self) -> int:
        """The port of all webhooks of this home, chosen once. Raises `OSError`."""
        path = self.folder / PORT
        with contextlib.suppress(OSError, ValueError):
            return int(read_regular(path, MAX_BYTES))
        with socket.socket() as chosen:
            chosen.bind((HOOK_HOST, 0))
            port: int = chosen.getsockname()[1]
        make_folders(self.folder, 0o700)
        write_atomic(path, str(port), mode=0o600)
        return port

    def hook_url(self, name: str = "NAME") -> str:
        return f"http://{HOOK_HOST}:{self.hook_port()}{HOOKS}{name}"

    def token(self, name: str) -> str | None:
        """What a request has to show; None if no token was made."""
        try:
            return read_regular(self.folder / TOKENS / name, MAX_BYTES).decode()
        except (OSError, ValueError):
            return None

    def make_token(self, name: str, *, wanted: bool = True) -> str | None:
        """A token for a schedule; None if it has one. If none is `wanted`, that goes. Raises `OSError`."""
        if not wanted:
            (self.folder / TOKENS / name).unlink(missing_ok=True)
            return None
        if self.token(name) is not None:
            return None
        make_folders(self.folder / TOKENS, 0o700)
        made = secrets.token_urlsafe(32)
        write_atomic(self.folder / TOKENS / name, made, mode=0o600)
        return made

    # --- what is due besides the times

    def trigger(self, name: str, why: str, key: str = "", **more: Any) -> None:
        """Have a schedule run as soon as possible, and only once for one `key`.

        `more`: other fields of the `Trigger`. Raises `OSError`.
        """
        folder = self.folder / SPOOL
        make_folders(folder, 0o700)
        key = key or uuid.uuid4().hex
        trigger = Trigger(schedule=name, why=why, key=key, **more)
        write_atomic(folder / f"{key}.json", trigger.model_dump_json(), mode=0o600)

    def triggered(self) -> Iterator[tuple[Path, Trigger]]:
        """What was triggered and not taken up, oldest first, with the file to remove afterwards."""
        paths = (self.folder / SPOOL).glob("*.json")
        for path in sorted(paths, key=_changed_ns):
            with contextlib.suppress(OSError, ValueError):
                yield path, Trigger.model_validate_json(read_regular(path, MAX_BYTES))

    def keep_asked(self, path: Path, flow_run: str) -> None:
        """Keep what was triggered, from `triggered`, as what a flow run was asked for. Raises `OSError`."""
        make_folders(self.folder / ASKED, 0o700)
        path.replace(self.folder / ASKED / f"{flow_run}.json")
        sync_folder(self.folder / ASKED)

    def asked(self, flow_run: str) -> Trigger | None:
        """What this home has asked for with a flow run; None if it has not asked for it, or it has begun."""
        try:
            return Trigger.model_validate_json(
                read_regular(self.folder / ASKED / f"{flow_run}.json", MAX_BYTES)
            )
        except (OSError, ValueError):
            return None

    def forget_asked(self, flow_run: str) -> None:
        """Raises `OSError`."""
        (self.folder / ASKED / f"{flow_run}.json").unlink(missing_ok=True)

    def forget_old(self) -> None:
        """Forget what was asked for so long ago that its flow run must have been deleted."""
        oldest = (datetime.now(UTC) - KEPT).timestamp() * 1e9
        for path in (self.folder / ASKED).glob("*.json"):
            if _changed_ns(path) < oldest:
                path.unlink(missing_ok=True)


def _changed_ns(path: Path) -> int:
    """When a file was last changed; 0 for a link that leads nowhere, and for one that has just gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def made(**fields: Any) -> Schedule:
    """A schedule of these fields. Raises `UsageError` that names what is wrong."""
    try:
        return Schedule.model_validate(fields)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {said}." if where else f"{said[:1].upper()}{said[1:]}.") from exc
