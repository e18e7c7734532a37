"""What a schedule is, and the folder that the schedules of a home are in.

A schedule is a file, `schedules/NAME.json` in the data folder. The process of `orch up` makes a Prefect
deployment of each, and starts a run for each flow run of it that is due.
"""

import contextlib
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from orchestrator_cli.durable.expressions import expression_faults
from orchestrator_cli.durable.files import make_folders, read_regular, write_atomic
from orchestrator_cli.durable.held_folder import has_mark
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.errors import UsageError
from orchestrator_cli.plan import FrozenModel

FOLDER = "schedules"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
LOCK, SERVED = "lock", "served"
LONG_AGO = datetime.min.replace(tzinfo=UTC)
MAX_BYTES = 1 << 20
"""Of a file in the folder."""
SPOOL = "due"
"""The folder of what is to run besides the times, such as now."""
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
    paused: bool = False

    @field_validator("name", "after")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value and not NAME.match(value):
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
        if self.condition and not self.after:
            raise ValueError("a condition is about the run of another schedule: name it with --after")
        if self.after == self.name:
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


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Trigger(FrozenModel):
    """That a schedule is to run besides its times."""

    schedule: str
    why: str
    key: str
    """There is one run for each."""


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

    # --- what is due besides the times

    def trigger(self, name: str, why: str, key: str = "") -> None:
        """Have a schedule run as soon as possible, and only once for one `key`."""
        folder = self.folder / SPOOL
        make_folders(folder, 0o700)
        key = key or uuid.uuid4().hex
        trigger = Trigger(schedule=name, why=why, key=key)
        write_atomic(folder / f"{key}.json", trigger.model_dump_json(), mode=0o600)

    def triggered(self) -> Iterator[tuple[Path, Trigger]]:
        """What was triggered and not taken up, oldest first, with the file to remove afterwards."""
        paths = (self.folder / SPOOL).glob("*.json")
        for path in sorted(paths, key=_changed_ns):
            with contextlib.suppress(OSError, ValueError):
                yield path, Trigger.model_validate_json(read_regular(path, MAX_BYTES))


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
