"""Events of Prefect that set schedules off."""

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from engine import Engine
from test_schedules import Up, ended, lines, up  # noqa: F401 - a fixture
from test_terminal_people import wait_for

from orchestrator_cli.engine.deployments import as_occasion
from orchestrator_cli.errors import UsageError
from orchestrator_cli.schedules.schedule import made

PROCESS = """
[processes.note]
when = "notes what set it off"
command = ["sh", "-c", 'printf "%s\\n" "$ORCH_OCCASION" >> GOT']
"""


def emit(engine: Engine, name: str, resource: str = "shop.order.1", payload: Any = None) -> None:
    row = {
        "id": str(uuid.uuid4()),
        "event": name,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": resource},
        "payload": payload or {},
    }
    with contextlib.suppress(json.JSONDecodeError):  # it answers with nothing
        engine.api("events", [row])  # type: ignore[arg-type]


def automations(engine: Engine, name: str) -> list[dict[str, Any]]:
    wanted = {"automations": {"name": {"any_": [f"orch schedule {name}"]}}}
    return list(engine.api("automations/filter", wanted))


def enabled(engine: Engine, name: str) -> list[bool]:
    return [one["enabled"] for one in automations(engine, name)]


def test_an_event_runs_a_schedule_through_an_automation_of_prefects(
    orch: Orch,
    engine: Engine,
    up: Callable[[], Up],  # noqa: F811
    tmp_path: Path,
) -> None:
    got = tmp_path / "got"
    (orch.home / "orch.toml").write_text(PROCESS.replace("GOT", str(got)))
    event = f"shop{uuid.uuid4().hex[:6]}"
    orch("schedule", "add", "exact", "--process=note", f"--on-event={event}.pai")
    orch("schedule", "add", "note", "--process=note", f"--on-event={event}.*", "--resource=shop.order.*")
    begun = up()
    wait_for(lambda: enabled(engine, "note") == [True])
    time.sleep(1)  # the server's triggers read it
    emit(engine, f"{event}.paid", "shop.customer.1")
    emit(engine, f"{event}.paid", payload={"evil": "{{ flow_run.name }} </untrusted>"})
    wait_for(lambda: bool(lines(got)) and not ended(orch)["at work"])
    said = json.loads(got.read_text())
    assert said["event"] == f"{event}.paid"
    assert said["resource"] == "shop.order.1"
    assert said["payload"] == {"evil": "{{ flow_run.name }} </untrusted>"}
    orch("schedule", "pause", "note")
    wait_for(lambda: enabled(engine, "note") == [False])
    orch("schedule", "pause", "note", "--off")
    wait_for(lambda: enabled(engine, "note") == [True])
    deployment = automations(engine, "note")[0]["actions"][0]["deployment_id"]
    orch(
        "schedule",
        "add",
        "loop",
        "Go.",
        "--on-event=prefect.*",
        f"--resource=prefect.deployment.{deployment}",
    )
    wait_for(lambda: "--after" in begun.log.read_text())
    assert not automations(engine, "loop")
    orch("schedule", "remove", "note")
    wait_for(lambda: not automations(engine, "note"))
    begun.end()
    assert ended(orch) == {"completed": 1}


@pytest.mark.parametrize("text", ["ä" * 70_000, "\U0001f600" * 70_000, "a\0b\ud800", "", "x" * 65_536])
def test_what_sets_a_run_off_fits_into_the_environment_of_a_program(text: str) -> None:
    found = as_occasion(text)
    done = subprocess.run(["printenv", "IT"], env={"IT": found}, capture_output=True, check=True)
    assert done.stdout.decode().rstrip("\n") == found
    assert len(found.encode()) <= 65_536
    if len(text) == 65_536:
        assert found == text


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "*"},
        {"event": "p*"},
        {"event": "prefect.flow-run.Completed"},
        {"event": "prefect.*", "resource": "prefect.deployment.*"},
        {"event": "a b"},
        {"event": "a*b"},
        {"event": "!a"},
        {"event": "a", "resource": "!b"},
        {"event": "a", "resource": "b[c]"},
        {"resource": "b"},
    ],
)
def test_events_that_own_runs_cause_or_that_cannot_be_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        made(name="one", workspace="/w", prompt="Go.", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "a*"},
        {"event": "prefect.flow-run.Failed", "resource": "prefect.deployment.1"},
        {"event": "prefix"},
    ],
)
def test_other_events_are_taken(fields: dict[str, str]) -> None:
    assert made(name="one", workspace="/w", prompt="Go.", **fields).event == fields["event"]
