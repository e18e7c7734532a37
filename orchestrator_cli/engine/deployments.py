"""Schedules as Prefect sees them: a deployment each, whose flow runs `orch up` starts when they are due.

A flow run gets the name of the run of `orch` that it is, so that this run continues it on the server: its
graph is on the page of the deployment.
"""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from orchestrator_cli.engine.outbox import fault_of, is_refused, send_unsent

FLOW = "orch"
TAG = "orch-schedule"
UNDER_WAY = ("PENDING", "RUNNING", "PAUSED")
"""States of a flow run that was claimed and has not ended."""
MOST = 200
SEARCH_S = 3.0
"""How long the next time of a schedule is searched for; most take some milliseconds."""
SOURCE, OCCASION = "source", "occasion"
"""Parameters of a flow run."""
OCCASION_BYTES = 64 * 1024
"""Linux gives a program at most twice as much in one variable."""
RUN_EVENTS = ("prefect.flow-run.", "prefect.task-run.")
EVENT = (
    f"{{% filter truncate({OCCASION_BYTES}, True) %}}"
    '{"event": {{ event.event | tojson }}, "occurred": {{ event.occurred | string | tojson }}, '
    '"resource": {{ event.resource.id | tojson }}, "payload": {{ event.payload | tojson }}}'
    "{% endfilter %}"
)
"""What a run is given of an event, as Prefect's server fills it in."""


@dataclass(frozen=True)
class ScheduledRun:
    """A flow run of a deployment, as a server describes it: what this home knows of it is in `origins`."""

    id: str
    schedule: str
    due: datetime
    name: str
    is_timed: bool
    """Whether the scheduler made it, rather than a person or another run."""
    state: str
    """Such as `SCHEDULED`."""
    source: str = ""
    """What made it, if not a time: `files`, `webhook` or `event`."""
    occasion: str = ""
    """What it wrote: foreign text."""
    run: str = ""
    """The run that it was asked for; empty if none was named."""


class Deployments:
    """The deployments on a server. Every method raises what the client raises if the server is gone."""

    def __init__(self, client: Any, owner: str = "", unsent: Path | None = None) -> None:
        """
        Args:
            owner: whose schedules they are, on a server that others use too.
            unsent: the folder of what runs could not send, if they keep it.
        """
        self._client = client
        self._unsent = unsent
        self._flow = f"{FLOW} {owner}".strip()
        self._flow_id = ""
        self._ids: dict[str, str] = {}
        """Of deployments, by the names of their schedules."""

    def read(self) -> dict[str, str]:
        """The versions of the deployments there are, by name."""
        own = {
            "flows": {"name": {"any_": [self._flow]}},
            "deployments": {"tags": {"all_": [TAG]}},
        }
        rows = self._all("/deployments/filter", own)
        self._ids = {row["name"]: str(row["id"]) for row in rows}
        return {row["name"]: row["version"] or "" for row in rows}

    def put(
        self,
        name: str,
        about: str,
        timing: dict[str, Any] | None,
        version: str,
        active: bool,
        events: tuple[str, str] = ("", ""),
    ) -> None:
        """Make a deployment, or replace the one of this name with all that is due of it.

        Args:
            timing: its times, in the form of Prefect's API; None if no time starts it.
            events: a name of events that start it, which may end in `*`, and the id of a resource.

        Raises `ValueError` if the server refuses it, or if its own runs would start it.
        """
        self._flow_id = self._flow_id or self._post("/flows/", {"name": self._flow})["id"]
        schedules = [{"schedule": timing, "active": active}] if timing else []
        row = {
            "flow_id": self._flow_id,
            "name": name,
            "description": about,
            "version": "" if events[0] else version,  # until its automation is there too
            "tags": [TAG],
            "schedules": schedules,
            "paused": not active,
            "enforce_parameter_schema": False,
        }
        try:
            self._ids[name] = str(self._post("/deployments/", row)["id"])
            self._remove_automation(name)
            if events[0]:
                self._check_is_foreign(events[1])
                self._post("/automations/", self._automation(name, about, events, active))
                self._post("/deployments/", {**row, "version": version})
        except Exception as exc:
            if is_refused(exc):
                raise ValueError(fault_of(exc)) from exc
            raise

    def _check_is_foreign(self, resource: str) -> None:
        """Raise `ValueError` if events about a resource are those of runs of these deployments.

        Each such run would start another without end, on the server alone.
        """
        own = {f"prefect.flow.{self._flow_id}", f"prefect.tag.{TAG}"}
        if resource in own | {f"prefect.deployment.{one}" for one in self._ids.values()}:
            raise ValueError(f"{resource} is a schedule of orch: use --after instead of --on-event")

    def _automation(self, name: str, about: str, events: tuple[str, str], active: bool) -> dict[str, Any]:
        """Starts the deployment at each event, with what the event says."""
        return {
            "name": f"{FLOW} schedule {name}",
            "description": about,
            "enabled": active,
            "tags": [TAG],
            "trigger": {"type": "event", "posture": "Reactive", **_matching(*events)},
            "actions": [
                {
                    "type": "run-deployment",
                    "source": "selected",
                    "deployment_id": self._ids[name],
                    "parameters": {
                        SOURCE: "event",
                        OCCASION: {"__prefect_kind": "jinja", "template": EVENT},
                    },
                }
            ],
            "owner_resource": f"prefect.deployment.{self._ids[name]}",
        }

    def _remove_automation(self, name: str) -> None:
        path, owner = "/automations/owned-by/{resource_id}", f"prefect.deployment.{self._ids[name]}"
        self._client.request("DELETE", path, path_params={"resource_id": owner})

    def remove(self, name: str) -> None:
        if name in self._ids:
            self._remove_automation(name)
            self._client.request("DELETE", "/deployments/{id}", path_params={"id": self._ids.pop(name)})

    def trigger(
        self, name: str, key: str, why: str, *, run: str = "", source: str = "", occasion: str = ""
    ) -> str:
        """Make a flow run that is due now, once for one `key`; its id, or nothing if it cannot be made.

        Args:
            run: its name; by default the server makes one up.
            source: what it is made for, and `occasion` what that wrote: see `ScheduledRun`.
        """
        row = {
            "state": {"type": "SCHEDULED", "name": "Scheduled", "message": why},
            "idempotency_key": key,
            "parameters": {SOURCE: source, OCCASION: occasion} if source else {},
            **({"name": run} if run else {}),
        }
        if name not in self._ids:
            return ""
        made = self._unless_gone(f"/deployments/{self._ids[name]}/create_flow_run", row)
        return _flow_run_id(made) if made else ""

    def due(self, before: datetime, of: Iterable[str]) -> list[ScheduledRun]:
        """The flow runs of these schedules that are due before a time, oldest first, `MOST` at once."""
        ids = [self._ids[name] for name in of if name in self._ids]
        if not ids:
            return []
        row = {
            "deployment_ids": ids,
            "scheduled_before": before.isoformat(),
            "limit": MOST,
        }
        return self._runs(self._post("/deployments/get_scheduled_flow_runs", row))

    def state_of(self, flow_run: str) -> str:
        """The type of the state of a flow run; nothing if it is gone."""
        try:
            row = self._client.request("GET", f"/flow_runs/{flow_run}").json()
        except Exception as exc:
            if is_refused(exc):
                return ""
            raise
        return str(row["state_type"])

    def claim(self, run: ScheduledRun, name: str) -> bool:
        """Give a flow run that is due to the run of this name; False if another has taken it."""
        self._client.request("PATCH", f"/flow_runs/{run.id}", json={"name": name})
        pending = {"state": {"type": "PENDING", "name": "Pending"}}
        return bool(self._post(f"/flow_runs/{run.id}/set_state", pending)["status"] == "ACCEPT")

    def end(self, run: ScheduledRun, state: str, name: str, message: str) -> None:
        """Put down how a flow run has ended, or that it is not begun; `state` is a type such as `CRASHED`."""
        row = {"state": {"type": state, "name": name, "message": message}, "force": True}
        self._unless_gone(f"/flow_runs/{run.id}/set_state", row)

    def send_unsent(self) -> None:
        """Send what runs could not, such as one that has ended before it had reached the server."""
        if self._unsent is not None:
            send_unsent(self._unsent, self._client)

    def request(self, method: str, path: str, body: Any) -> Any:
        """Make any request; its JSON."""
        reply = self._client.request(method, path, json=body)
        return reply.json() if reply.content else None

    def _runs(self, rows: Iterable[dict[str, Any]]) -> list[ScheduledRun]:
        names = {id_: name for name, id_ in self._ids.items()}
        found = [
            ScheduledRun(
                id=_flow_run_id(row),
                schedule=names.get(str(row["deployment_id"]), ""),
                due=datetime.fromisoformat(row["expected_start_time"] or row["created"]),
                name=str(row["name"]),
                is_timed=bool(row["auto_scheduled"]),
                state=str(row["state_type"]),
                source=_text(row, SOURCE),
                occasion=_text(row, OCCASION),
            )
            for row in rows
        ]
        return sorted(found, key=lambda run: run.due)

    def _all(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """All rows that a filter finds; the server gives `MOST` at once."""
        rows: list[dict[str, Any]] = []
        while True:
            found = self._post(path, {**body, "limit": MOST, "offset": len(rows)})
            rows += found
            if len(found) < MOST:
                return rows

    def _unless_gone(self, path: str, body: Any) -> Any:
        """As `_post`, for something that a person may have deleted on Prefect's page; then None."""
        try:
            return self._post(path, body)
        except Exception as exc:
            if not is_refused(exc):
                raise
        return None

    def _post(self, path: str, body: Any) -> Any:
        return self._client.request("POST", path, json=body).json()


def _matching(event: str, resource: str) -> dict[str, Any]:
    """Which events a trigger matches. Events of a run are about it, and its deployment is related to it."""
    found: dict[str, Any] = {"expect": [event]}
    if not resource:
        return found
    of_runs = event.startswith(RUN_EVENTS) and not resource.startswith(RUN_EVENTS)
    return found | {"match_related" if of_runs else "match": {"prefect.resource.id": resource}}


def _flow_run_id(row: dict[str, Any]) -> str:
    """Raises `ValueError` for what is none: it becomes a part of paths."""
    return str(UUID(str(row["id"])))


def _text(row: dict[str, Any], parameter: str) -> str:
    """A parameter of a flow run, which a person may have written on Prefect's page."""
    value = (row.get("parameters") or {}).get(parameter, "")
    return as_occasion(value) if isinstance(value, str) else ""


def as_occasion(text: str) -> str:
    """The text as any program can be given it in its environment: at most `OCCASION_BYTES` of UTF-8."""
    encoded = text.replace("\0", "\ufffd").encode(errors="replace")
    return encoded[:OCCASION_BYTES].decode(errors="ignore")


def next_time(timing: dict[str, Any]) -> datetime | None:
    """When a flow run is due next, as Prefect's scheduler finds it; None if never.

    Raises `ValueError` if Prefect does not take these times, finds none within 50 years, or searches longer
    than `SEARCH_S`: its scheduler would, at each look, and do nothing else meanwhile.
    """
    return next(iter(_times(timing, None, 1)), None)


def has_time(timing: dict[str, Any], moment: datetime) -> bool:
    """Whether a moment is one of these times, as Prefect's scheduler finds them. Raises as `next_time`."""

    def finds(start: datetime, count: int) -> bool:
        # Not `==`: a time that clocks show twice equals none in another zone.
        return any(one.timestamp() == moment.timestamp() for one in _times(timing, start, count))

    if "interval" in timing:
        return _is_of_interval(timing, moment)
    # A time of `cron` that the clocks leave out is found from before only: an hour of minutes.
    return finds(moment, 1) or ("cron" in timing and finds(moment - timedelta(minutes=60), 61))


def _is_of_interval(timing: dict[str, Any], moment: datetime) -> bool:
    """As `has_time`. Whether days follow the clocks depends on where Prefect's scheduler begins to count."""
    if "anchor_date" not in timing:
        raise ValueError("only the server knows when the first interval began")
    every, zone = timedelta(seconds=timing["interval"]), ZoneInfo(timing["timezone"])
    since = moment - datetime.fromisoformat(timing["anchor_date"])
    year = (moment.astimezone(zone) - timedelta(days=30 * n) for n in range(13)) if every.days else ()
    now = moment.astimezone(zone).utcoffset() or timedelta()
    shifts = {timedelta(), *((one.utcoffset() or timedelta()) - now for one in year)}
    return any((since - shift) % every == timedelta() for shift in shifts)


def _times(timing: dict[str, Any], start: datetime | None, count: int) -> list[datetime]:
    """The first times from a moment on, or from now on. Raises as `next_time`."""
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

    kind: Any = CronSchedule if "cron" in timing else RRuleSchedule if "rrule" in timing else IntervalSchedule
    schedule = kind.model_validate(timing)
    found: Queue[list[datetime] | Exception] = Queue()

    def search() -> None:
        try:
            found.put(asyncio.run(schedule.get_dates(n=count, start=start or datetime.now(UTC))))
        except Exception as exc:
            found.put(exc)

    threading.Thread(target=search, daemon=True).start()  # it may have no end
    try:
        dates = found.get(timeout=SEARCH_S)
    except Empty as exc:
        raise ValueError("the next one is too far from the first; begin a rule with a later DTSTART") from exc
    if isinstance(dates, Exception):
        raise dates
    return dates
