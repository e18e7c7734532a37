"""The journal: numbered without gaps, on disk before it is shown, readable after a kill."""

import json
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from orchestrator_cli.errors import RunFailed, StorageFault
from orchestrator_cli.events import (
    AgentStepped,
    AnswerDelta,
    CodeRan,
    Event,
    Noticed,
    PlanProposed,
    SubtaskFinished,
    ToolCalled,
)
from orchestrator_cli.journal.journal import EventStream, JournalTooNew, damage, lock_owner, read_journal
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.state import RunState


class Seen:
    """A view that notes, at each event, what the journal holds."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.events: list[Event] = []
        self.held: list[int] = []
        self.closed = 0

    def __call__(self, event: Event, state: RunState) -> None:
        self.events.append(event)
        self.held.append(self.journal.read_bytes().count(b"\n"))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run" / "journal.jsonl"


def test_fact_is_journaled_before_it_is_shown(journal: Path) -> None:
    seen = Seen(journal)
    stream = EventStream("r", journal, [seen])
    for n in range(3):
        stream.emit(Noticed(message=str(n)))
    stream.close()
    assert seen.held == [1, 2, 3]
    assert [event.seq for event in read_journal(journal)] == [1, 2, 3]
    assert seen.closed == 1


def test_answer_pieces_are_shown_but_not_journaled(journal: Path) -> None:
    seen = Seen(journal)
    stream = EventStream("r", journal, [seen])
    stream.emit(AnswerDelta(text="a"))
    stream.emit(Noticed(message="b"))
    stream.close()
    assert [event.data.kind for event in seen.events] == ["AnswerDelta", "Noticed"]
    assert [event.seq for event in read_journal(journal)] == [1]


def test_passing_facts_do_not_wait_for_a_slow_view(journal: Path) -> None:
    showing, go_on = threading.Event(), threading.Event()

    class Slow(Seen):
        def __call__(self, event: Event, state: RunState) -> None:
            showing.set()
            assert go_on.wait(10)
            super().__call__(event, state)

    slow = Slow(journal)
    stream = EventStream("r", journal, [slow])
    first = threading.Thread(target=stream.emit, args=[Noticed(message="first")])
    first.start()
    assert showing.wait(10)
    for n in range(3):
        stream.emit(AgentStepped(subtask="a", attempt=1, step=n, thought=""))
    assert journal.read_bytes().count(b"\n") == 4
    assert slow.events == []
    go_on.set()
    first.join()
    stream.close()
    assert [event.seq for event in slow.events] == [1, 2, 3, 4]


def test_concurrent_facts_get_consecutive_numbers(journal: Path) -> None:
    seen = Seen(journal)
    stream = EventStream("r", journal, [seen])

    def emit() -> None:
        for n in range(20):
            stream.emit(Noticed(message=str(n)))

    threads = [threading.Thread(target=emit) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()
    assert [event.seq for event in seen.events] == list(range(1, 101))
    assert [event.seq for event in read_journal(journal)] == list(range(1, 101))


def test_view_error_is_raised_once_and_later_events_are_shown(journal: Path) -> None:
    class Full:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def __call__(self, event: Event, state: RunState) -> None:
            if event.seq % 10 == 0:
                raise OSError(28, "No space left on device")
            self.seen.append(event.seq)

        def close(self) -> None:
            """Nothing is held open."""

    full, failed = Full(), []
    stream = EventStream("r", journal, [full])

    def emit() -> None:
        for _ in range(50):
            try:
                stream.emit(Noticed(message="x"))
            except StorageFault as exc:
                failed.append(exc)

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()
    assert len(failed) == 20
    assert full.seen == [n for n in range(1, 201) if n % 10]
    assert [event.seq for event in read_journal(journal)] == list(range(1, 201))


@pytest.mark.parametrize("text", ["one\u2028two\u0085three\r\nfour", "ünï 漢字 \x00 😀"])
def test_any_text_is_read_back_unchanged(journal: Path, text: str) -> None:
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message=text))
    stream.emit(Noticed(message="after"))
    stream.close()
    assert [event.data.message for event in read_journal(journal)] == [text, "after"]  # type: ignore[union-attr]


def test_torn_last_line_is_skipped(journal: Path) -> None:
    stream = EventStream("r", journal, [])
    for text in ("first", "漢字"):
        stream.emit(Noticed(message=text))
    stream.close()
    whole = journal.read_bytes()
    start = whole.index(b"\n") + 1
    for cut in range(start, len(whole) - 1):
        journal.write_bytes(whole[:cut])
        assert [event.seq for event in read_journal(journal)] == [1]


def test_lines_after_a_torn_line_are_read(journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_bytes(b'{"run": "r", "se')
    stream = EventStream("r", journal, [], state=RunState(last=4))
    stream.emit(Noticed(message="on"))
    stream.close()
    assert [event.seq for event in read_journal(journal)] == [5]


def test_unknown_event_kind_is_skipped(journal: Path) -> None:
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message="known"))
    stream.close()
    row = json.loads(journal.read_text())
    row["data"]["kind"] = "Teleported"
    with journal.open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert [event.data.kind for event in read_journal(journal)] == ["Noticed"]


def test_numbers_continue_after_unknown_events(journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_text('{"run": "r", "seq": 7, "schema": 1, "data": {"kind": "Teleported"}}\n')
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message="on"))
    stream.close()
    assert [event.seq for event in read_journal(journal)] == [8]


def test_unknown_fields_are_ignored_at_any_depth(journal: Path) -> None:
    plan = Plan(goal="g", subtasks=(Subtask(id="a", title="t", kind="answer"),))
    stream = EventStream("r", journal, [])
    stream.emit(PlanProposed(plan=plan))
    stream.close()
    row = json.loads(journal.read_text())
    for place in (row, row["data"], row["data"]["plan"], row["data"]["plan"]["subtasks"][0]):
        place["of_tomorrow"] = {"a": 1}
    journal.write_text(json.dumps(row) + "\n")
    assert [event.data for event in read_journal(journal)] == [PlanProposed(plan=plan)]


LONG = "a line\n" * 20_000
ROWS: list[JsonValue] = [{"n": n, "text": "x" * 100} for n in range(2_000)]


def test_large_values_are_stored_apart_and_read_back(journal: Path) -> None:
    nested: JsonValue = {"rows": ROWS, "deep": [{"text": LONG}], "small": 1}
    facts = [
        CodeRan(subtask="s", attempt=1, step=1, code="1", output=LONG),
        SubtaskFinished(
            subtask="s", result=Result(subtask="s", attempt=1, plan_version=1, value=nested), seconds=1
        ),
        Noticed(message="after"),
    ]
    stream = EventStream("r", journal, [])
    for fact in facts:
        stream.emit(fact)
    stream.close()
    assert [event.data for event in read_journal(journal)] == facts
    assert max(map(len, journal.read_bytes().split(b"\n"))) < 2_000
    kept = [path.read_text() for path in journal.with_name("blobs").iterdir()]
    assert sorted(map(len, kept)) == sorted({len(LONG), len(json.dumps(ROWS, indent=1))})
    assert LONG in kept


def test_value_that_looks_like_a_blob_reference_is_unchanged(journal: Path) -> None:
    arguments: dict[str, JsonValue] = {"large": [{"at": ["data"], "sha256": "0" * 64, "form": "text"}]}
    fact = ToolCalled(subtask="s", attempt=1, tool="t", arguments=arguments, outcome="(see blobs/0)", ok=True)
    stream = EventStream("r", journal, [])
    stream.emit(fact)
    stream.close()
    assert [event.data for event in read_journal(journal)] == [fact]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("another")])
def test_missing_or_damaged_blob_is_named(journal: Path, harm: Callable[[Path], object]) -> None:
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message=LONG))
    stream.close()
    (blob,) = journal.with_name("blobs").iterdir()
    harm(blob)
    with pytest.raises(RunFailed, match=blob.name):
        list(read_journal(journal))


def test_a_view_that_cannot_write_ends_the_run_with_a_remedy(journal: Path) -> None:
    class Full(Seen):
        def __call__(self, event: Event, state: RunState) -> None:
            raise OSError(28, "No space left on device")

    stream = EventStream("r", journal, [Full(journal)])
    with pytest.raises(StorageFault, match="No space left") as raised:
        stream.emit(Noticed(message="x"))
    stream.close()
    assert "Free some space" in raised.value.remedy


def test_full_disk_leaves_no_partial_line(journal: Path) -> None:
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message="before"))
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file that may grow by a few bytes takes them and then refuses, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 20, most[1]))
    try:
        with pytest.raises(StorageFault, match=str(journal)):
            stream.emit(Noticed(message="lost"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    stream.emit(Noticed(message="after"))
    stream.close()
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(row["seq"], row["data"]["message"]) for row in rows] == [(1, "before"), (2, "after")]


def written(journal: Path, count: int) -> list[bytes]:
    """The lines of a journal with so many events."""
    stream = EventStream("r", journal, [])
    for n in range(count):
        stream.emit(Noticed(message=f"event {n + 1}"))
    stream.close()
    return journal.read_bytes().splitlines()


@pytest.mark.parametrize(
    "harm",
    [
        lambda line: b"\0" * len(line),
        lambda line: line.replace(b"message", b"massage"),
        lambda _: b"",
        lambda _: b'{"seq":2,"large":[' + b"[" * 100_000,
    ],
    ids=["zeros", "a changed field", "an empty line", "too deep"],
)
def test_damaged_line_is_named_with_its_event(journal: Path, harm: Callable[[bytes], bytes]) -> None:
    lines = written(journal, 4)
    assert damage(journal) == []
    journal.write_bytes(b"\n".join([*lines[:1], harm(lines[1]), *lines[2:]]) + b"\n")
    (named,) = damage(journal)
    assert f"{journal}: line 2 " in named
    assert "event 2 " in named
    assert [event.seq for event in read_journal(journal)] == [1, 3, 4]


def test_line_of_a_killed_writer_is_no_damage(journal: Path) -> None:
    lines = written(journal, 3)
    journal.write_bytes(b"\n".join([lines[0], lines[1][:20], lines[1], lines[2], lines[2][:9]]))
    assert damage(journal) == []


def test_journal_of_a_later_schema_is_refused_with_its_version(journal: Path) -> None:
    (line,) = written(journal, 1)
    row = json.loads(line)
    journal.write_text(json.dumps(row) + "\n" + json.dumps(row | {"seq": 2, "schema": 2}) + "\n")
    with pytest.raises(JournalTooNew, match="schema 2"):
        list(read_journal(journal))
    later = row | {"seq": 3, "schema": 2, "data": {"kind": "RunResumed", "version": "7.1.0"}}
    with journal.open("a") as file:
        file.write(json.dumps(later) + "\n")
    with pytest.raises(JournalTooNew) as refused:
        list(read_journal(journal))
    assert "orch 7.1.0" in refused.value.remedy


@pytest.mark.parametrize("digest", ["/dev/zero", "../journal.jsonl", "A" * 64, 1, None])
def test_a_reference_to_a_file_elsewhere_is_damage(journal: Path, digest: JsonValue) -> None:
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message="x"))
    stream.close()
    large = [{"at": ["data", "message"], "sha256": digest, "form": "text"}]
    row = {**json.loads(journal.read_bytes()), "large": large}
    journal.write_text(json.dumps(row, separators=(",", ":")) + "\n")
    with pytest.raises(RunFailed, match="is damaged"):
        list(read_journal(journal))


def test_nothing_in_the_folder_of_a_run_is_waited_for(journal: Path) -> None:
    stream = EventStream("r", journal, [])
    stream.emit(Noticed(message=LONG))
    stream.close()
    (blob,) = journal.with_name("blobs").iterdir()
    for path in (blob, journal.with_name("lock")):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    with pytest.raises(RunFailed, match=blob.name):
        list(read_journal(journal))
    assert lock_owner(journal.parent) is None
    journal.unlink()
    os.mkfifo(journal)
    with pytest.raises(OSError, match="not a regular file"):
        list(read_journal(journal))
