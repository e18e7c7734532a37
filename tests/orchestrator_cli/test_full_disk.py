"""A disk that is full, read-only or broken stops a run and decides nothing; `orch resume` continues it."""

import errno
from dataclasses import dataclass
from typing import Any

import pytest
from command import Orch
from disk_faults import disk
from endpoint import Endpoint
from scripted_model import Cast, code, coder, decided, judged, plan, tool_call
from toolsmith_replies import CASED, SPECIFIED, WRITTEN

PLAN = plan(coder("one"), coder("two", ["one"], judge="The file is there."))
TOOL = plan(
    coder("one"),
    tool_call("two", "count_vowels", ["one"], text="banana"),
    new_tools=[{"name": "count_vowels", "purpose": "counts the vowels of a text"}],
)
ONE = code("open('one.txt', 'w').write('1')\nfinal_answer('one is done')")
TWO = code("open('mine.txt', 'w').write('2')\nfinal_answer('two' * 40_000)")
TWO_STARTS = '"kind":"SubtaskStarted","subtask":"two"'


@dataclass(frozen=True)
class Place:
    name: str
    env: dict[str, str]
    plan: str = PLAN


PLACES = (
    Place("journal", disk("*/journal.jsonl", since=TWO_STARTS)),
    Place("journal sync", disk("*/journal.jsonl", number=errno.EIO, since='"kind":"CodeRan"', after=1)),
    Place("end of journal", disk("*/journal.jsonl", since='"kind":"RunFinished"')),
    Place("blobs", disk("*/runs/*/blobs/*")),
    Place("workspace lock", disk("*/locks/*", number=errno.EROFS, since=TWO_STARTS)),
    Place("checkout", disk("*/checkouts/*", since=TWO_STARTS)),
    Place("copy in checkout", disk("*/checkouts/*/mine.txt", number=errno.EDQUOT, since=TWO_STARTS)),
    Place("staging", disk("*/workspace/.orch-*", since=TWO_STARTS)),
    Place("replaced content", disk("*/undo/blobs/*", since=TWO_STARTS)),
    Place("commit record", disk("*/commits/*", since=TWO_STARTS)),
    Place("commit history", disk("*/undo/0*.json", number=errno.EIO, since=TWO_STARTS)),
    Place("log", disk("*/workspace/fileLog.md", since=TWO_STARTS)),
    Place("seal of log", disk("*/home/logs/*", since=TWO_STARTS)),
    Place("tool library", disk("*/tools/count_vowels/*"), TOOL),
    Place("tool lock", disk("*/tools/.locks/*"), TOOL),
    Place("read-only home", disk("*/home/*", number=errno.EROFS, since=TWO_STARTS)),
)


def cast(planned: str) -> Cast:
    """Enough for more than the run needs; a judge or a reviser is asked at most once."""
    return Cast(
        planner=[planned],
        agents={"Do one": [ONE] * 2, "Do two": [TWO] * 3},
        toolsmith=[SPECIFIED, CASED, WRITTEN] * 2,
        judge=[judged(True, "It is.")] * 3,
        reviser=[decided("keep", "It is hopeless.")] * 2,
        answer=["All is done."] * 2,
    )


def verdicts(orch: Orch) -> list[dict[str, Any]]:
    kinds = ("SubtaskFailed", "SubtaskSkipped", "ToolRefused", "PlanRevised", "RevisionDeclined")
    return [fact for fact in orch.events() if fact["kind"] in kinds]


def finished(orch: Orch) -> list[str]:
    return [fact["subtask"] for fact in orch.events("SubtaskFinished")]


@pytest.mark.slow  # about 5 s each
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_disk_fault_stops_the_run_and_resume_goes_on(orch: Orch, endpoint: Endpoint, place: Place) -> None:
    (orch.workspace / "mine.txt").write_text("mine")
    endpoint.reply = cast(place.plan)
    stopped = orch("ask", "Do both.", **place.env)
    assert verdicts(orch) == []
    assert stopped.code == 3, stopped.err
    assert f"orch resume {orch.journal().parent.name}" in stopped.error
    assert stopped.error.startswith(f"error: {orch.home.parent}/"), stopped.error
    assert "Traceback" not in stopped.err
    assert stopped.out == ""
    before = finished(orch)
    done = orch("resume", "last")
    assert (done.code, done.out) == (0, "All is done.\n"), done.err
    assert finished(orch) == ["one", "two"]
    assert finished(orch)[: len(before)] == before
    assert verdicts(orch) == []
    assert endpoint.of("reviser") == []
    assert orch.file("one.txt") == "1"
    assert orch.file("mine.txt") == ("2" if place.plan == PLAN else "mine")
    assert orch.remains() == []
    assert orch("log", "verify").code == 0


UNDONE = (
    disk("*/workspace/.orch-*/*"),
    disk("*/undo/blobs/*", number=errno.EDQUOT),
    disk("*/commits/*", number=errno.EIO),
    disk("*/runs/*/lock"),
)


@pytest.fixture(scope="module")
def changed(stage: tuple[Orch, Endpoint]) -> Orch:
    """A user whose last run changed a file."""
    orch, endpoint = stage
    (orch.workspace / "mine.txt").write_text("mine")
    write = code("open('mine.txt', 'w').write('2')\nfinal_answer('done')")
    endpoint.reply = Cast(planner=[plan(coder("one"))], agents={"Do one": [write]})
    assert orch("ask", "Do it.").code == 0
    return orch


@pytest.mark.parametrize("env", UNDONE)
def test_an_undo_that_the_disk_does_not_take_changes_nothing(changed: Orch, env: dict[str, str]) -> None:
    done = changed("undo", "last", **env)
    assert (done.code, done.error.startswith(f"error: {changed.home.parent}/")) == (3, True), done.err
    assert ".." not in done.error
    assert (changed.file("mine.txt"), changed.remains()) == ("2", [])


def test_full_memory_takes_no_answer_away(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = cast(PLAN)
    full = disk("*/home/memory/*", since='"kind":"SubtaskFinished","subtask":"two"')
    done = orch("ask", "Do both.", **full)
    assert (done.code, done.out) == (0, "All is done.\n"), done.err
    assert "could not be remembered" in done.err
    assert verdicts(orch) == []
