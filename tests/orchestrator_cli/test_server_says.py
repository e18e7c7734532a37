"""What a Prefect server says of flow runs is data: which of them begin, as what, and how often."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator_cli.engine.server import import_prefect
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import RunStarted
from orchestrator_cli.journal.journal import EventStream
from orchestrator_cli.runs.background import BackgroundRun, background_of, begin
from orchestrator_cli.runs.find import PastRun
from orchestrator_cli.schedules import serve
from orchestrator_cli.schedules.origins import BEGUN, NOT_ITS_TIME
from orchestrator_cli.schedules.rates import AT_HOME, AT_THE_SERVER, EVENT, OWN, PAGE
from orchestrator_cli.schedules.rules import TOO_MANY
from orchestrator_cli.schedules.schedule import ScheduleStore, made

ROUNDS = 3
MINUTELY = {"cron": "* * * * *"}
NEVER = {"cron": "0 3 29 2 *"}
"""Not while the tests run."""


class Gone(Exception):
    code = 404


class Died(BaseException):
    """`orch up` was killed."""


class Server:
    """A client of a Prefect server that keeps its rules, until `lies` are added to what is due."""

    def __init__(self) -> None:
        self.flow_runs: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.lies: Callable[[], list[dict[str, Any]]] = list
        self.before: Callable[[str, str, Any], None] = lambda *_: None
        """Called with each request before it is answered, and `after` before the reply is given."""
        self.after: Callable[[str, str, Any], None] = lambda *_: None
        self._keys: dict[str, str] = {}

    def row(self, name: str = "brave-fox", *, deployment: str = "one", **fields: Any) -> dict[str, Any]:
        """A flow run that is due now, made by the scheduler."""
        now = datetime.now(UTC).isoformat()
        return {
            "id": str(uuid.uuid4()),
            "deployment_id": self.deployments[deployment]["id"],
            "expected_start_time": now,
            "created": now,
            "name": name,
            "auto_scheduled": True,
            "state_type": "SCHEDULED",
            "parameters": {},
        } | fields

    def add(self, *args: Any, **fields: Any) -> dict[str, Any]:
        row = self.row(*args, **fields)
        self.flow_runs[row["id"]] = row
        return row

    def request(self, method: str, path: str, json: Any = None, path_params: Any = None) -> Any:
        self.before(method, path, json)
        reply = self._reply(method, path.strip("/").split("/"), json)
        self.after(method, path, json)
        return SimpleNamespace(json=lambda: reply, content=b"{}")

    def _reply(self, method: str, path: list[str], body: Any) -> Any:
        match method, path:
            case "POST", ["deployments", "filter"]:
                return list(self.deployments.values())
            case "POST", ["deployments"]:
                new = {"id": str(uuid.uuid4()), "name": body["name"]}
                row = self.deployments.setdefault(body["name"], new)
                row["version"] = body["version"]
                return row
            case "POST", ["deployments", "get_scheduled_flow_runs"]:
                due = [row for row in self.flow_runs.values() if row["state_type"] == "SCHEDULED"]
                return due + self.lies()
            case "POST", ["deployments", _, "create_flow_run"]:
                id_ = self._keys.get(body["idempotency_key"])
                given = {"auto_scheduled": False, "parameters": body["parameters"]}
                row = self.flow_runs[id_] if id_ else self.add(body.get("name", "quick-hare"), **given)
                self._keys[body["idempotency_key"]] = row["id"]
                return row
            case "PATCH", ["flow_runs", id_]:
                self.flow_runs.get(id_, {}).update(body)
            case "POST", ["flow_runs", id_, "set_state"]:
                row, type_ = self.flow_runs.setdefault(id_, self.row(id=id_)), body["state"]["type"]
                if type_ == "PENDING" and row["state_type"] != "SCHEDULED":
                    return {"status": "ABORT"}
                row |= {"state_type": type_, "message": body["state"].get("message", "")}
                return {"status": "ACCEPT"}
            case "GET", ["flow_runs", id_]:
                if id_ not in self.flow_runs:
                    raise Gone
                return self.flow_runs[id_]
        return [] if path[-1] == "filter" else {"id": str(uuid.uuid4())}


class Served:
    """A home whose `orch up` is served a few rounds at a time; its runs end at once, or are at work."""

    def __init__(self, home: Path) -> None:
        self.home, self.server, self.store = home, Server(), ScheduleStore(home)
        self.workspace = home.parent / "work"
        self.workspace.mkdir()
        self.begun: list[tuple[PastRun, tuple[str, ...]]] = []
        self.said: list[str] = []
        self.ends = True

    def add(self, name: str = "one", **fields: Any) -> None:
        self.store.put(made(name=name, workspace=str(self.workspace), prompt="Go.", **fields))
        self.store.keep_last_time(name, datetime.now(UTC) - timedelta(hours=1))

    def begin(self, past: PastRun, command: tuple[str, ...], _: str) -> Any:
        self.begun.append((past, command))
        return SimpleNamespace(poll=lambda: 0 if self.ends else None, returncode=0)

    def up(self, rounds: int = ROUNDS) -> None:
        """Serve until it has gone round so often, or has died."""
        left = iter(range(rounds))

        def often() -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        @contextmanager
        def connect() -> Iterator[Server]:
            often()  # also if each round fails
            yield self.server

        with pytest.raises((KeyboardInterrupt, Died)):
            serve.Serving(self.home, connect, self.said.append, often=often).serve()

    @property
    def runs(self) -> list[str]:
        return [past.run for past, _ in self.begun]

    def about(self, n: int = 0) -> BackgroundRun:
        found = background_of(self.begun[n][0])
        assert found is not None
        return found

    def note(self, name: str = "one") -> str:
        note = self.store.noted(name)
        return note.why if note else ""


@pytest.fixture(scope="module", autouse=True)
def prefect() -> None:
    import_prefect()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    found = Served(tmp_path / "home")
    monkeypatch.setattr(serve, "begin_reserved", found.begin)
    monkeypatch.setattr(serve, "go_on", lambda past: found.begin(past, ("resume",), ""))
    monkeypatch.setattr(serve, "POLL_S", 0.0)
    found.add(**NEVER)
    found.up(1)  # so that the server knows it
    return found


def stopped_run(home: Path, workspace: Path, run: str = "20261201-090000-abcdef") -> Path:
    """The folder of a run that a person began at a terminal, and that has not ended."""
    folder = home / "runs" / run
    stream = EventStream(run, folder / "journal.jsonl", [])
    stream.emit(RunStarted(prompt="Pay.", workspace=str(workspace), models={}, version="1", sandbox="none"))
    stream.close()
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "SCHEDULED"])
@pytest.mark.parametrize("timed", [True, False])
def test_a_run_of_a_person_is_not_taken_for_that_of_a_flow_run(
    served: Served, state: str, timed: bool
) -> None:
    served.add(arguments=("--yes",), **NEVER)
    folder = stopped_run(served.home, served.workspace)
    before = files_in(folder)
    served.server.add(folder.name, state_type=state, auto_scheduled=timed)
    served.up()
    served.up()
    assert files_in(folder) == before
    assert folder.name not in served.runs


def test_nothing_begins_in_the_folder_of_a_run(served: Served) -> None:
    folder = stopped_run(served.home, served.workspace)
    before = files_in(folder)
    with pytest.raises(UsageError):
        begin(PastRun(folder.name, served.home, served.workspace), ("ask", "-"), "Go.", BackgroundRun())
    assert files_in(folder) == before


@pytest.mark.parametrize("name", ["20200101-000000-00000a", "99991231-235959-00000a"])
def test_the_id_of_a_run_is_never_that_which_a_server_chose(served: Served, name: str) -> None:
    served.server.add(name, auto_scheduled=False)
    served.up()
    [run] = served.runs
    assert run != name
    assert run.startswith(f"{datetime.now():%Y%m%d}")


def test_a_time_that_the_schedule_does_not_have_starts_nothing(served: Served) -> None:
    served.server.lies = lambda: [served.server.row()]
    served.up(20)
    assert served.begun == []
    assert served.note() == NOT_ITS_TIME
    assert sum(NOT_ITS_TIME in line for line in served.said) == 1


@pytest.mark.parametrize("overlap", ["queue", "skip", "cancel"])
def test_a_time_has_one_run_however_often_it_is_named(served: Served, overlap: str) -> None:
    served.add(**MINUTELY, overlap=overlap, missed="all")
    due = datetime.now(UTC).replace(second=0, microsecond=0).isoformat()
    served.server.lies = lambda: [served.server.row(expected_start_time=due)]
    served.up(9)
    served.up(9)  # also by the next `orch up`
    assert len(served.begun) == 1
    assert served.note() == BEGUN


def test_times_that_are_to_come_or_were_before_the_schedule_start_nothing(served: Served) -> None:
    served.add(**MINUTELY, missed="all")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    times = [now + timedelta(minutes=9), now - timedelta(days=400)]
    served.server.lies = lambda: [served.server.row(expected_start_time=one.isoformat()) for one in times]
    served.up(9)
    assert served.begun == []


def test_a_time_that_was_missed_is_made_up_for(served: Served) -> None:
    served.add(**MINUTELY, missed="all")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    for minutes in (3, 2, 1):
        served.server.add(expected_start_time=(now - timedelta(minutes=minutes)).isoformat())
    served.up(9)
    assert [served.about(n).due for n in range(3)] == [now - timedelta(minutes=m) for m in (3, 2, 1)]


def test_a_clock_that_was_ahead_does_not_stop_a_schedule(served: Served) -> None:
    served.add(**MINUTELY)
    served.store.keep_last_time("one", datetime.now(UTC) + timedelta(days=365))
    served.server.add(expected_start_time=datetime.now(UTC).replace(second=0, microsecond=0).isoformat())
    served.up()
    assert len(served.begun) == 1


@pytest.mark.parametrize(
    ("said", "fields", "source"),
    [
        ("", {}, PAGE),
        ("files", {}, PAGE),
        ("webhook", {}, PAGE),
        ("event", {}, PAGE),
        ("event", {"event": "shop.*"}, EVENT),
    ],
)
def test_a_server_starts_a_schedule_so_often_an_hour(
    served: Served, said: str, fields: dict[str, str], source: str
) -> None:
    served.add(**NEVER, **fields)
    given = {"source": said, "occasion": "ordered"}
    served.server.lies = lambda: [served.server.row(auto_scheduled=False, parameters=given)]
    served.up(AT_THE_SERVER[source] + 20)
    assert len(served.begun) == AT_THE_SERVER[source]
    assert served.note() == TOO_MANY[source]
    assert served.about().occasion == "ordered"


def test_what_this_home_asks_for_has_a_rate_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 5
    monkeypatch.setattr(serve, "AT_HOME", AT_HOME | {OWN: most})
    for _ in range(most + 3):
        served.store.trigger("one", "now")
    served.up(most + 9)
    assert len(served.begun) == most
    assert str(most) in served.note()


@pytest.mark.parametrize("other", [{}, {"deployment_id": str(uuid.uuid4())}])
def test_a_schedule_that_is_paused_or_unknown_is_not_started(served: Served, other: dict[str, str]) -> None:
    served.add("paused", **NEVER)
    served.up(1)
    served.add("paused", paused=True, **NEVER)
    served.server.lies = lambda: [served.server.row(deployment="paused", auto_scheduled=False, **other)]
    served.server.add(auto_scheduled=False)
    served.up()
    assert [served.about(n).schedule for n in range(len(served.begun))] == ["one"]


def test_what_was_asked_for_here_is_begun_as_it_was_asked(served: Served) -> None:
    run = "20261201-100000-abcdef"
    served.store.trigger("one", "webhook", run, run=run, source="webhook", occasion="{}")
    served.store.trigger("one", "asked")

    def spoil(*_: Any) -> None:
        for row in served.server.flow_runs.values():
            row |= {"name": "20200101-000000-00000a", "parameters": {"source": "event", "occasion": "evil"}}

    served.server.after = spoil
    served.up(5)
    assert served.runs[0] == run
    assert [served.about(n).occasion for n in (0, 1)] == ["{}", ""]
    assert not list((served.store.folder / "asked").iterdir())


def test_a_person_can_have_a_run_of_a_time_run_again(served: Served) -> None:
    served.add(**MINUTELY)
    due = datetime.now(UTC).replace(second=0, microsecond=0).isoformat()
    row = served.server.add(expected_start_time=due)
    served.up()
    row |= {"state_type": "SCHEDULED", "expected_start_time": datetime.now(UTC).isoformat()}
    served.up()
    assert len(set(served.runs)) == 2


def claimed(method: str, path: str, body: Any) -> bool:
    return path.endswith("set_state") and body["state"]["type"] == "PENDING"


@pytest.mark.parametrize("moment", ["before", "after", "begin"])
@pytest.mark.parametrize("by", ["time", "webhook", "page"])
def test_a_killed_orch_up_leaves_one_run_of_each_flow_run(
    served: Served, monkeypatch: pytest.MonkeyPatch, moment: str, by: str
) -> None:
    served.add(**MINUTELY)
    served.ends = False
    if by == "time":
        served.server.add(expected_start_time=datetime.now(UTC).replace(second=0, microsecond=0).isoformat())
    elif by == "page":
        served.server.add(auto_scheduled=False)
    else:
        served.store.trigger("one", "webhook", "20261201-100000-abcdef", source="webhook", occasion="{}")

    def die(*given: Any) -> None:
        if moment == "begin" or claimed(*given):
            raise Died

    if moment == "begin":
        with monkeypatch.context() as patched:
            patched.setattr(serve, "begin_reserved", die)
            served.up()
    else:
        setattr(served.server, moment, die)
        served.up()
        setattr(served.server, moment, lambda *_: None)
    assert served.begun == []
    served.up()
    assert len(served.begun) == 1
    [flow] = served.server.flow_runs.values()
    assert (flow["name"], flow["state_type"]) == (served.runs[0], "PENDING")
    assert served.about().flow_run == flow["id"]
    assert served.about().occasion == ("{}" if by == "webhook" else "")
    assert [path.name for path in (served.home / "runs").iterdir()] == served.runs


def test_a_flow_run_that_another_took_leaves_nothing(served: Served) -> None:
    row = served.server.add(auto_scheduled=False)
    served.server.before = lambda *given: row.update(state_type="CANCELLED") if claimed(*given) else None
    served.up()
    assert served.begun == []
    assert not any((served.home / "runs").iterdir())


def test_a_run_that_died_long_ago_is_left_to_its_user_whatever_its_name(served: Served) -> None:
    old, new = "99991231-235959-00000a", "20200101-000000-00000a"
    for run, days in ((old, 30), (new, 0)):
        folder = stopped_run(served.home, served.workspace, run)
        journal = folder / "journal.jsonl"
        row = json.loads(journal.read_text())
        row["time"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        journal.write_text(json.dumps(row, separators=(",", ":")) + "\n")
        (folder / "background.json").write_text(BackgroundRun().model_dump_json())
    served.up()
    assert set(served.runs) == {new}


FORGED = "x)\n2026-12-01 03:00:00  one: run 1 completed\n\x1b]0;hi\x07\u202e" + "y" * 5000


def test_a_name_of_a_server_forges_no_line(served: Served) -> None:
    served.add(**MINUTELY, missed="skip")
    late = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=9)
    served.server.lies = lambda: [served.server.row(FORGED, expected_start_time=late.isoformat())]
    served.up()
    note = served.note()
    for text in [note, *served.said]:
        assert text.isprintable()
        assert len(text) < 1000
    assert "\\x1b" in note
