"""What programs read of a run."""

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

from orchestrator_cli import events
from orchestrator_cli.errors import ConfigError, Interrupted
from orchestrator_cli.events import AnyFact, Event, FileChange
from orchestrator_cli.plan import Patch, Plan, Result, Subtask
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.values import Usage
from orchestrator_cli.views.envelope import Envelope
from orchestrator_cli.views.streams import JsonLines, envelope_line

PLAN = Plan(goal="g", subtasks=(Subtask(id="a", title="A", kind="agent"),))
ADDED = Subtask(id="b", title="B", kind="agent")


def event(fact: AnyFact, seq: int = 1) -> Event:
    return Event(run="r1", seq=seq, time=datetime(2026, 7, 1, tzinfo=UTC), data=fact)


def started() -> events.RunStarted:
    return events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="bubblewrap", version="0.1.0")


def changed(*changes: FileChange) -> events.FilesChanged:
    return events.FilesChanged(subtask="a", attempt=1, changes=changes)


def enveloped(*facts: AnyFact) -> dict[str, object]:
    view = Envelope()
    state = RunState()
    for seq, fact in enumerate(facts, 1):
        state = apply(state, event(fact, seq))
        view(event(fact, seq), state)
    view.close()
    result = view.result()
    assert json.loads(envelope_line(result)) == result
    return result


def test_every_event_is_one_line_that_reads_back_as_the_same_event() -> None:
    stream = io.StringIO()
    view = JsonLines(stream)
    sent = [event(started(), 1), event(events.Noticed(message="a\nb\u2028c\x85d \U0001f600"), 2)]
    for one in sent:
        view(one, RunState())
    view.close()
    lines = stream.getvalue().splitlines()
    assert [Event.model_validate_json(line) for line in lines] == sent
    assert all(json.loads(line)["schema"] == events.SCHEMA for line in lines)


def test_a_stream_without_unicode_still_gets_whole_json() -> None:
    raw = io.BytesIO()
    one = event(events.Noticed(message="größer \U0001f600"))
    stream = io.TextIOWrapper(raw, encoding="ascii")
    JsonLines(stream)(one, RunState())
    assert Event.model_validate_json(raw.getvalue()) == one


def test_a_reader_that_goes_away_ends_the_lines_and_not_the_run() -> None:
    script = """
import sys
from datetime import datetime
from orchestrator_cli.events import Event, Noticed
from orchestrator_cli.state import RunState
from orchestrator_cli.views.streams import JsonLines
view = JsonLines(sys.stdout)
for seq in range(1, 5000):
    view(Event(run="r", seq=seq, time=datetime.now(), data=Noticed(message="x" * 100)), RunState())
print("went on", file=sys.stderr)
"""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.read(reader, 100)
    os.close(reader)
    assert process.communicate(timeout=30)[1] == "went on\n"
    assert process.returncode == 0


def test_the_envelope_holds_the_last_plan_its_revisions_and_the_end() -> None:
    revised = PLAN.model_copy(update={"version": 2, "subtasks": (*PLAN.subtasks, ADDED)})
    usage = Usage(calls=1, prompt_tokens=5, unpriced=1)
    result = Result(subtask="a", attempt=1, plan_version=1, summary="ok")
    found = enveloped(
        started(),
        events.PlanProposed(plan=PLAN),
        events.SubtaskFinished(subtask="a", result=result, seconds=1.0),
        events.PlanRevised(plan=revised, patch=Patch(base_version=1, reason="more", add=(ADDED,)), cause="c"),
        events.ToolBuilt(
            tool="t", version=1, purpose="p", functions=(), permissions="", trial=(), sha256="ab", source=""
        ),
        events.RunFinished(outcome="completed", answer="42", seconds=2.5, usage=usage),
    )
    assert found["run"] == "r1"
    assert (found["outcome"], found["answer"], found["exit_code"]) == ("completed", "42", 0)
    assert Plan.model_validate(found["plan"]) == revised
    assert found["states"] == {"a": "done", "b": "pending"}
    assert found["revisions"][0]["reason"] == "more"  # type: ignore[index]
    assert found["tools"] == [{"tool": "t", "version": 1, "sha256": "ab"}]
    assert Usage.model_validate(found["usage"]) == usage
    assert found["error"] is None


def test_files_are_net_changes_over_the_whole_run() -> None:
    found = enveloped(
        changed(FileChange(path="new", change="created", after_sha256="1")),
        changed(FileChange(path="new", change="modified", before_sha256="1", after_sha256="2")),
        changed(FileChange(path="brief", change="created", after_sha256="1")),
        changed(FileChange(path="brief", change="deleted", before_sha256="1")),
        changed(FileChange(path="old", change="modified", before_sha256="a", after_sha256="b")),
        changed(FileChange(path="old", change="deleted", before_sha256="b")),
        changed(FileChange(path="back", change="deleted", before_sha256="a")),
        changed(FileChange(path="back", change="created", after_sha256="c")),
    )
    files = {f["path"]: (f["change"], f["before_sha256"], f["after_sha256"]) for f in found["files"]}  # type: ignore[attr-defined]
    assert files == {
        "new": ("created", None, "2"),
        "old": ("deleted", "a", None),
        "back": ("modified", "a", "c"),
    }


def test_an_error_before_the_run_is_an_envelope_too() -> None:
    result = Envelope().result(ConfigError("No model is set.", "Set one with -m."))
    assert (result["run"], result["outcome"], result["exit_code"]) == (None, "failed", 3)
    assert result["error"] == {"message": "No model is set.", "remedy": "Set one with -m."}
    assert Envelope().result(Interrupted("Stopped."))["outcome"] == "interrupted"


def test_a_failed_run_gives_what_happened_and_the_remedy() -> None:
    end = events.RunFinished(
        outcome="failed", answer="", error="It broke.\nMend it.", exit_code=1, seconds=1, usage=Usage()
    )
    found = enveloped(started(), end)
    assert found["error"] == {"message": "It broke.", "remedy": "Mend it."}
    assert found["exit_code"] == 1
