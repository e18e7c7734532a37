"""`orch log verify` checks a log by its chain, its recorded end, and the journals of its runs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator_cli import __version__, events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.journal.hash_chain import FOUND, MAX_LOG_MB, SealedBlock, read_log, sealed
from orchestrator_cli.journal.journal import EventStream
from orchestrator_cli.journal.redaction import Redactor
from orchestrator_cli.runs.verify import Audit, audit, kept_text
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.filelog import CUT_OFF, HEADER, FileLog, check_log

RUNS = ("20260701-140322-aaaaaaaa", "20260701-140322-bbbbbbbb")


@dataclass(frozen=True)
class Place:
    """A workspace with a home, and runs that were journaled and logged there."""

    home: Path
    root: Path

    @property
    def log(self) -> Path:
        return self.root / "fileLog.md"

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, workspace=self.root)

    @property
    def blocks(self) -> list[SealedBlock]:
        return list(read_log(self.log.read_bytes()).blocks)

    def run(self, run: str, facts: Iterable[Fact], home: Path | None = None) -> None:
        home = home or self.home
        stream = EventStream(run, home / "runs" / run / "journal.jsonl", [FileLog(self.log, home)])
        for fact in facts:
            stream.emit(fact)
        stream.close()

    def check(self) -> Audit:
        return audit(self.log, self.settings)

    def found(self) -> tuple[str, int]:
        fault = self.check().fault
        assert fault is not None
        return fault.kind, fault.place

    def write(self, texts: Iterable[tuple[str, bytes]]) -> None:
        """A whole new chain of blocks without a hash."""
        before, data = "0" * 64, b""
        for place, (head, text) in enumerate(texts):
            seal = sealed(head, place, before, text)
            data, before = data + text + seal.line.encode(), seal.hash
        self.log.write_bytes(data)


def facts(root: Path, steps: int, version: str = __version__) -> list[Fact]:
    first = events.RunStarted(
        prompt="Count", workspace=str(root), models={}, sandbox="bubblewrap", version=version
    )
    return [first, *(ran(step) for step in range(1, steps + 1))]


def ran(step: int, output: str = "ok") -> events.CodeRan:
    return events.CodeRan(subtask="scan", attempt=1, step=step, code=f"print({step})", output=output)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    made = Place(tmp_path / "home", tmp_path / "work")
    for run in RUNS:
        made.run(run, facts(made.root, 4))
    return made


def test_log_is_compared_with_several_journals(place: Place) -> None:
    found = place.check()
    assert (found.fault, found.notes, found.runs) == (None, (), RUNS)
    assert found.findings.entries == 10


@pytest.mark.parametrize("number", range(1, 11))
def test_altered_entry_is_named_in_a_rewritten_chain(place: Place, number: int) -> None:
    blocks = [(b.seal.head, b.text) for b in place.blocks]
    head, text = blocks[number]
    blocks[number] = head, text.replace(b"Count", b"Steal").replace(b"print", b"exec")
    place.write(blocks)
    assert place.found() == ("altered", number)


@pytest.mark.parametrize("number", [2, 4, 8])
def test_removed_entry_is_noticed_in_a_rewritten_chain(place: Place, number: int) -> None:
    blocks = [(b.seal.head, b.text) for b in place.blocks]
    place.write(blocks[:number] + blocks[number + 1 :])
    assert place.found() == ("removed", number)


def test_invented_entry_is_named_in_a_rewritten_chain(place: Place) -> None:
    blocks = [(b.seal.head, b.text) for b in place.blocks]
    blocks.insert(3, (f"entry 77 run {RUNS[0]}", b"\n**77** all is well\n\n"))
    place.write(blocks)
    assert place.found() == ("inserted", 3)


def test_recorded_end_reveals_a_rewritten_chain(place: Place) -> None:
    for run in RUNS:
        (place.home / "runs" / run / "journal.jsonl").unlink()
    blocks = [(b.seal.head, b.text) for b in place.blocks]
    blocks[2] = blocks[2][0], blocks[2][1].replace(b"print", b"exec")
    place.write(blocks)
    found = place.check()
    assert found.fault is not None
    assert "rewritten" in found.fault.what


@pytest.mark.parametrize("left", [1, 5, 9, 10])
def test_missing_end_is_named(place: Place, left: int) -> None:
    whole = place.log.read_bytes()
    cut = whole.index(place.blocks[left].text, 0) if left > 1 else whole.index(b"\n## Run ")
    place.log.write_bytes(whole[:cut])
    assert place.found() == ("removed", left)


@pytest.mark.parametrize("missing", [1, 2, 50, 200])
def test_truncated_entry_does_not_count_as_torn(place: Place, missing: int) -> None:
    data = place.log.read_bytes()
    place.log.write_bytes(data[:-missing])
    if missing > 1:
        assert place.found() == ("removed", 10)
    else:
        assert place.check().fault is None


def test_another_log_in_its_place_is_noticed(place: Place) -> None:
    blocks = [(b.seal.head, b.text) for b in place.blocks]
    place.write([("log 0123456789abcdef", blocks[0][1]), *blocks[1:]])
    assert place.found() == ("altered", 0)


def test_log_without_its_seals_is_noticed(place: Place) -> None:
    lines = place.log.read_text().splitlines(keepends=True)
    place.log.write_text("".join(line for line in lines if not line.startswith("<!-- orch")))
    assert place.found() == ("altered", 0)


def test_moved_log_and_its_successor_can_be_verified(place: Place) -> None:
    old = place.log.rename(place.root / "old.md")
    place.run("20260702-000000-cccccccc", facts(place.root, 2))
    assert place.check().fault is None
    assert audit(old, place.settings).fault is None
    old.write_text(old.read_text().replace("print(2)", "print(3)"))
    assert audit(old, place.settings).fault is not None


def test_a_copied_log_is_named_and_goes_on_under_an_id_of_its_own(place: Place, tmp_path: Path) -> None:
    copy = Place(place.home, tmp_path / "copy")
    copy.root.mkdir()
    copy.log.write_bytes(place.log.read_bytes())
    found = copy.check()
    assert found.fault is None
    assert any(f"copy of {place.log}" in note for note in found.notes)

    copy.run("20260702-000000-cccccccc", facts(copy.root, 2))
    copy.run("20260703-000000-dddddddd", facts(copy.root, 2))
    assert [block.seal.what for block in copy.blocks if block.seal.what != "entry"] == ["log", "copy"]
    assert f"copy of `{place.log}`" in copy.log.read_text()
    found = copy.check()
    assert found.fault is None
    assert any("copied from another workspace" in note and str(place.log) in note for note in found.notes)

    place.run("20260704-000000-eeeeeeee", facts(place.root, 2))
    assert (place.check().fault, place.check().notes) == (None, ())
    whole = copy.log.read_bytes()
    copy.log.write_bytes(whole[: whole.rindex(b"\n<!-- orch entry")])
    assert copy.check().fault is not None


VERDICT = 'That is your log, and all of it was written by orch: whole."'
LONG = f"20260701-{'whole' * 80}"


@pytest.mark.parametrize("what", ["copy 0123", "cut 9", f"entry 1 run {LONG}"])
@pytest.mark.parametrize("is_sound", [True, False])
def test_what_a_log_says_of_itself_is_quoted_and_short(place: Place, what: str, is_sound: bool) -> None:
    place.root.mkdir(exist_ok=True)
    said = f"{VERDICT}\n  Each entry.\n\x1b]0;own\x07{'W' * 400}\n\n"
    blocks, before = [], "0" * 64
    texts = [("log 0123", "# fileLog\n\n"), *[(what, said)] * 50]
    for number, (head, text) in enumerate(texts):
        seal = sealed(head, number, before, text.encode())
        blocks.append(f"{text}{seal.line}")
        before = seal.hash
    if not is_sound:
        blocks[1] = blocks[1].replace("That", "This")
    place.log.write_text("".join(blocks))
    found = place.check()
    assert (found.fault is None) == is_sound
    lines = [*found.notes, *([found.fault.what] if found.fault else [])]
    assert len(lines) < 30
    for line in lines:
        assert (len(line) < 450, "\n" in line, "\x1b" in line) == (True, False, False)
        assert VERDICT not in line
        assert LONG not in line
        # A sentence of the log is between quotes, of which it can write none.
        if "That is your log" in line:
            assert json.loads(line[line.index('"') :]).startswith(VERDICT)


def test_a_log_that_moved_with_its_workspace_is_no_copy(place: Place, tmp_path: Path) -> None:
    moved = Place(place.home, place.root.rename(tmp_path / "moved"))
    assert (moved.check().fault, moved.check().notes) == (None, ())
    moved.run("20260702-000000-cccccccc", facts(moved.root, 2))
    assert (moved.check().fault, moved.check().notes) == (None, ())
    assert {block.seal.what for block in moved.blocks} == {"log", "entry"}


def test_entries_of_another_home_are_noted(place: Place, tmp_path: Path) -> None:
    place.run("20260702-000000-cccccccc", facts(place.root, 2), tmp_path / "elsewhere")
    found = place.check()
    assert found.fault is None
    assert any("newer than the end recorded" in note for note in found.notes)
    assert any("20260702-000000-cccccccc" in note for note in found.notes)


def test_a_log_that_a_stranger_wrote_is_named_for_good(tmp_path: Path) -> None:
    texts = {
        "plain": b"# fileLog\n\n### 3 \xc2\xb7 approval\n\nrun `aaaaaaaa`\n\nThe user answered yes.\n",
        "sealed": None,
    }
    for name, text in texts.items():
        place = Place(tmp_path / name / "home", tmp_path / name / "work")
        place.root.mkdir(parents=True)
        if text is None:
            place.write([("log abcd", HEADER.encode() + b"\n"), (f"entry 1 run {RUNS[0]}", b"\nyes\n\n")])
        else:
            place.log.write_bytes(text)
        place.run("20260702-000000-cccccccc", facts(place.root, 2))
        assert place.log.read_text().count(FOUND) == 1
        assert CUT_OFF not in place.log.read_text()
        place.run("20260703-000000-dddddddd", facts(place.root, 2))
        found = place.check()
        assert found.fault is None, name
        assert any("was here before" in note for note in found.notes), name


@pytest.mark.parametrize("kind", ["link", "fifo", "large"])
def test_a_log_that_is_no_ordinary_file_is_refused(place: Place, kind: str) -> None:
    place.log.unlink()
    match kind:
        case "link":
            (place.root / "mine.txt").write_text("private")
            place.log.symlink_to(place.root / "mine.txt")
        case "fifo":
            os.mkfifo(place.log)
        case "large":
            place.log.touch()
            os.truncate(place.log, (MAX_LOG_MB + 1) << 20)
    with pytest.raises(UsageError, match=r"fileLog\.md cannot be read"):
        place.check()
    with pytest.raises(UsageError, match="Cannot write the log"):
        FileLog(place.log, place.home)
    with pytest.raises(UsageError, match="Cannot write the log"):
        check_log(place.log)


def test_entries_of_another_version_are_checked_by_chain_only(place: Place) -> None:
    place.run("20260702-000000-cccccccc", facts(place.root, 2, version="0.0.1"))
    journal = place.home / "runs" / "20260702-000000-cccccccc" / "journal.jsonl"
    journal.write_text(journal.read_text().replace("print(1)", "print(7)"))
    found = place.check()
    assert found.fault is None
    assert any("another version" in note for note in found.notes)


def test_documented_program_gets_the_same_result(place: Place) -> None:
    page = (Path(__file__).parents[3] / "docs" / "filelog.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]

    def run() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program, str(place.log)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"whole up to {place.blocks[-1].seal.hash}, and 0 bytes after it\n"
    place.log.write_text(place.log.read_text().replace("print(2)", "print(3)", 1))
    done = run()
    assert done.returncode == 1
    assert "breaks at place 3" in done.stderr


def test_entries_worded_by_another_version_are_no_fault(place: Place) -> None:
    journal = place.home / "runs" / RUNS[0] / "journal.jsonl"
    journal.write_text(journal.read_text().replace("print(1)", "print(7)"))
    assert place.found() == ("altered", 2)
    head = next((place.home / "logs").glob("*.json"))
    head.write_text(json.dumps(json.loads(head.read_text()) | {"forms": [[0, "another"]]}))
    found = place.check()
    assert found.fault is None
    assert "another version" in found.notes[0]
    place.run("20260702-000000-cccccccc", facts(place.root, 1))
    found = place.check()
    assert found.fault is None
    assert "before place 11" in found.notes[0]


# --- logs from before there were hashes


def old_log(count: int) -> str:
    entries = (
        f"\n**{seq}** · run `aaaaaaaa` · note: {seq}\n\n<!-- orch entry {seq} run {RUNS[0]} -->\n"
        for seq in range(1, count + 1)
    )
    return f"{HEADER}{''.join(entries)}"


def test_an_old_log_is_read_and_the_chain_begins_after_it(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    place.log.write_text(old_log(3))
    assert "No entry has a hash" in place.check().notes[0]
    place.run("20260702-000000-cccccccc", facts(place.root, 2))
    assert place.log.read_text().startswith(old_log(3))
    found = place.check()
    assert found.fault is None
    assert "The first 3 entries" in found.notes[0]
    place.log.write_text(place.log.read_text().replace("note: 2", "note: 9"))
    assert place.found() == ("altered", 0)


def test_catching_up_knows_old_and_new_entries(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    place.log.write_text(old_log(1))
    found = [
        Event(run=RUNS[0], seq=seq, time=datetime.now(UTC), data=events.Noticed(message="x"))
        for seq in (1, 2, 3)
    ]
    log = FileLog(place.log, place.home)
    log(found[1])
    log.catch_up(found)
    assert [block.seal.seq for block in place.blocks] == [None, 2, 3]


# --- what was cut off


def test_fragment_of_killed_writer_is_sealed_and_noted(place: Place) -> None:
    whole = place.log.read_bytes()
    last = place.blocks[-1].text + place.blocks[-1].seal.line.encode()
    begin = len(whole) - len(last)
    # The head that was recorded before the last entry.
    head = next((place.home / "logs").glob("*.json"))
    before = place.blocks[-2].seal
    recorded = json.loads(head.read_text()) | {"place": before.place, "hash": before.hash}
    for end in range(begin + 1, len(whole) - 1, 29):
        place.log.write_bytes(whole[:end])
        head.write_text(json.dumps(recorded))
        found = place.check()
        assert found.fault is None, whole[begin:end]
        assert "was cut off" in found.notes[0]
        FileLog(place.log, place.home).catch_up(list(_events(place, RUNS[1])))
        found = place.check()
        assert found.fault is None, (whole[begin:end], found.fault)
        assert "was cut off" in found.notes[0]
        assert place.log.read_text(errors="replace").count(CUT_OFF) <= 1
        assert place.blocks[-1].seal.seq == 5


def _events(place: Place, run: str) -> list[Event]:
    from orchestrator_cli.journal.journal import read_journal

    return list(read_journal(place.home / "runs" / run / "journal.jsonl"))


def test_invented_fragment_is_noticed(place: Place) -> None:
    blocks = [(b.seal.head, b.text) for b in place.blocks]
    text = b"\n**12** \xc2\xb7 run `aaaaaaaa` \xc2\xb7 note: all"
    place.write([*blocks, (f"cut {len(text)}", text + b"\n\n")])
    assert place.found() == ("inserted", 11)


def test_text_added_by_a_person_is_reported_for_good(place: Place) -> None:
    place.log.write_text(place.log.read_text() + "My own note.\n")
    assert place.found() == ("inserted", 11)
    place.run("20260702-000000-cccccccc", facts(place.root, 1))
    assert "My own note.\n" in place.log.read_text()
    assert place.found() == ("inserted", 11)


WRITER = """
import sys
from pathlib import Path
from orchestrator_cli.events import CodeRan
from orchestrator_cli.journal.journal import EventStream
from orchestrator_cli.views.filelog import FileLog
home, root, run = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
stream = EventStream(run, home / "runs" / run / "journal.jsonl", [FileLog(root / "fileLog.md", home)])
for step in range(1, 100_000):
    stream.emit(CodeRan(subtask="a", attempt=1, step=step, code="x = 1\\n" * 5_000, output="y\\n" * 9_000))
"""


def test_chain_continues_after_two_killed_writers(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, tmp_path, run], start_new_session=True)
        for run in RUNS
    ]
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        shown = place.log.read_text(errors="replace") if place.log.is_file() else ""
        if len(shown) > 1_500_000 and all(run in shown for run in RUNS):
            break
        time.sleep(0.01)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    found = place.check()
    assert found.fault is None
    assert len(found.runs) == 2
    for run in RUNS:
        FileLog(place.log, place.home).catch_up(_events(place, run))
    found = place.check()
    assert found.fault is None
    assert found.findings.entries == sum(len(_events(place, run)) for run in RUNS)


# --- what was cut for the log


def test_long_output_is_stored_with_the_run(place: Place) -> None:
    output = "".join(f"line {number}\n" for number in range(3_000))
    place.run("20260702-000000-cccccccc", [*facts(place.root, 0), ran(1, output)])
    (line,) = [line for line in place.log.read_text().splitlines() if "left out" in line]
    digest = line.partition("orch log show ")[2].split(" ")[0]
    assert (place.home / "runs" / "20260702-000000-cccccccc" / "blobs" / digest).read_text() == output
    assert kept_text(place.settings, digest) == kept_text(place.settings, digest[:12]) == output
    assert place.check().fault is None


def test_stored_output_contains_no_secret(place: Place) -> None:
    masks, run = Redactor(), "20260702-000000-cccccccc"
    masks.add("KEY", "hunter2-hunter2")
    journal = place.home / "runs" / run / "journal.jsonl"
    stream = EventStream(run, journal, [FileLog(place.log, place.home)], redact=masks)
    stream.emit(ran(1, "the key is hunter2-hunter2\n" * 9_000))
    stream.close()
    kept = [path for path in journal.parent.rglob("*") if path.is_file()]
    assert len(kept) > 1
    assert not [path for path in (*kept, place.log) if b"hunter2" in path.read_bytes()]
    assert place.check().fault is None


def test_missing_entries_are_written_before_the_end(
    place: Place,
) -> None:
    """Else an entry would seem to have been removed."""
    run = "20260702-000000-cccccccc"
    journal = place.home / "runs" / run / "journal.jsonl"
    log = FileLog(place.log, place.home)
    stream = EventStream(run, journal, [log])
    stream.emit(facts(place.root, 0)[0])
    stream.close()
    stream = EventStream(run, journal, [])  # killed before the view saw it
    stream.emit(ran(1))
    stream.close()
    log = FileLog(place.log, place.home)
    log.complete(_events(place, run))
    stream = EventStream(run, journal, [log])
    stream.emit(events.RunUndone(changes=()))
    stream.close()
    assert place.check().fault is None
    assert [block.seal.seq for block in place.blocks if block.seal.run == run] == [1, 2, 3]


def test_run_in_a_moved_log_is_not_written_again(place: Place) -> None:
    place.log.rename(place.root / "old.md")
    FileLog(place.log, place.home).complete(_events(place, RUNS[0]))
    assert not place.log.exists()


def test_unknown_hash_is_refused(place: Place) -> None:
    for digest, expected in (
        ("abcdef123456", "There is no text"),
        ("../etc", "is not a hash"),
        ("12", "is not a hash"),
    ):
        with pytest.raises(UsageError, match=expected):
            kept_text(place.settings, digest)
