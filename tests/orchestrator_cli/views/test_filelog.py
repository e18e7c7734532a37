"""`fileLog.md`: what a person reads in it, and what cannot be forged in it."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from orchestrator_cli import events
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import AnyFact, Event
from orchestrator_cli.journal.hash_chain import entry_head, read_log, sealed
from orchestrator_cli.plan import NewTool, Patch, Plan, Result, Subtask
from orchestrator_cli.values import FunctionDoc, Usage
from orchestrator_cli.views import filelog
from orchestrator_cli.views.entries import entry_for
from orchestrator_cli.views.filelog import CUT_OFF, FileLog

RUN = "20260701-140322-3f2a9c1b"
COMMENT = re.compile(r"^<!-- orch entry (\d+) run (\S+) place \d+ after \w+ hash \w+ -->$", re.MULTILINE)
PLAN = Plan(
    goal="Count words",
    subtasks=(
        Subtask(id="scan", title="Find files", kind="tool", tools=("list_files",)),
        Subtask(id="report", title="Write it", kind="agent", role="writer", depends_on=("scan",)),
    ),
    new_tools=(NewTool(name="list_files", purpose="List the files"),),
)


def event(fact: AnyFact, seq: int = 1, run: str = RUN) -> Event:
    return Event(run=run, seq=seq, time=datetime(2026, 7, 1, 14, 3, 22, tzinfo=UTC), data=fact)


def closing_comment(here: Event) -> str:
    return sealed(entry_head(here.seq, here.run), 3, "0" * 64, b"").line.rstrip("\n")


def entry(fact: AnyFact, before: Plan | None = None) -> str:
    text = entry_for(event(fact), before)
    assert text is not None
    return text


def started(prompt: str = "Count the words") -> events.RunStarted:
    return events.RunStarted(
        prompt=prompt, workspace="/home/me", models={"agent": "gpt-5"}, sandbox="bubblewrap", version="0.1.0"
    )


def code_ran(code: str = "print(1)", output: str = "1\n", error: str | None = None) -> events.CodeRan:
    return events.CodeRan(subtask="scan", attempt=1, step=2, code=code, output=output, error=error)


def tool_built(foreign: str = "Count words.") -> events.ToolBuilt:
    return events.ToolBuilt(
        tool="count_words",
        version=1,
        purpose=foreign,
        functions=(
            FunctionDoc(name="count_words", signature="count_words(text: str) -> int", doc=foreign),
            FunctionDoc(name="_split", signature="(text: str) -> list[str]", doc="Split at blanks."),
        ),
        permissions="no network",
        trial=("ok: empty text gives 0", foreign),
        sha256="ab" * 32,
        source=foreign,
    )


# --- what it says


def test_a_run_has_a_section_with_its_id_date_and_prompt() -> None:
    text = entry(started())
    assert text.startswith(f"## Run {RUN} — 2026-07-01 14:03:22 UTC\n\n> Count the words\n")
    assert "`bubblewrap`" in text
    assert "agent `gpt-5`" in text


def test_every_entry_names_its_run_number_and_time() -> None:
    head = "### 1 · code run by `scan`, step 2\n\nrun `3f2a9c1b` · 2026-07-01 14:03:22 UTC\n\n"
    assert entry(code_ran()).startswith(head + "```python\nprint(1)\n```")


def test_code_is_shown_with_its_output_and_its_error() -> None:
    text = entry(code_ran(error="ZeroDivisionError: division by zero"))
    assert "Output:\n\n```text\n1\n```" in text
    assert "Error:\n\n```text\nZeroDivisionError: division by zero\n```" in text


def test_output_that_is_too_long_says_how_much_is_missing() -> None:
    text = entry(code_ran(output="x" * 10_000))
    assert "[… 6,000 characters, 0 lines, left out; the whole: orch log show " in text
    assert len(text) < 6_000


def test_changed_files_are_a_table_of_before_and_after() -> None:
    change = events.FileChange(
        path="a|b.txt", change="modified", before_size=10, after_size=2048,
        before_sha256="a" * 64, after_sha256="b" * 64,
    )  # fmt: skip
    text = entry(events.FilesChanged(subtask="scan", attempt=1, changes=(change,)))
    assert "| `a\\|b.txt` | modified | 10 B `aaaaaaaaaaaa` → 2.0 KiB `bbbbbbbbbbbb` |" in text


def test_nothing_changed_is_no_entry() -> None:
    assert entry_for(event(events.FilesChanged(subtask="scan", attempt=1, changes=()))) is None


def test_a_built_tool_is_documented_function_by_function() -> None:
    text = entry(tool_built())
    for part in ("`count_words(text: str) -> int`", "`_split(text: str) -> list[str]`", "> Split at blanks."):
        assert part in text
    assert "permissions: no network" in text
    assert "- ok: empty text gives 0" in text
    assert "ab" * 32 in text
    assert "<details><summary>Source</summary>\n\n```python\nCount words.\n```\n\n</details>" in text


def test_a_called_tool_is_one_line() -> None:
    fact = events.ToolCalled(
        subtask="scan", attempt=1, tool="add", arguments={"a": 1}, outcome="2\n", ok=True
    )
    assert entry(fact).endswith("`scan` called `add(a=1)`, which gave `2`")
    assert "\n" not in entry(fact)


def test_a_plan_is_a_table_with_its_dependencies() -> None:
    text = entry(events.PlanProposed(plan=PLAN))
    assert "| `report` | agent `writer` | Write it | `scan` |  |" in text
    assert "- `list_files`: List the files" in text


def test_a_revision_gives_its_reason_its_cause_and_every_changed_field(tmp_path: Path) -> None:
    new = PLAN["report"].model_copy(update={"title": "Write more", "depends_on": ("scan", "pdf")})
    pdf = Subtask(id="pdf", title="Read PDFs", kind="agent")
    patch = Patch(base_version=1, reason="PDFs too", add=(pdf,), replace=(new,))
    after = PLAN.model_copy(update={"version": 2, "subtasks": (PLAN["scan"], new, pdf)})
    log = FileLog(tmp_path / "fileLog.md")
    log(event(events.PlanProposed(plan=PLAN), 1))
    log(event(events.PlanRevised(plan=after, patch=patch, cause="surprise of scan"), 2))
    text = log.path.read_text()
    assert "- reason: PDFs too\n- cause: surprise of scan" in text
    assert "+ pdf · agent · Read PDFs" in text
    assert "! report: title Write it → Write more; depends_on scan → scan, pdf" in text


def test_a_revision_of_a_plan_that_was_never_seen_still_names_the_subtasks() -> None:
    patch = Patch(base_version=1, reason="r", replace=(PLAN["report"],), remove=("old",))
    text = entry(events.PlanRevised(plan=PLAN, patch=patch, cause="c"), None)
    assert "! report · agent writer · Write it" in text
    assert "- old" in text


def test_the_end_gives_answer_outcome_and_usage() -> None:
    usage = Usage(calls=2, prompt_tokens=1000, completion_tokens=50, unpriced=2)
    text = entry(
        events.RunFinished(outcome="failed", answer="# 42", error="No.", exit_code=1, seconds=61, usage=usage)
    )
    assert text.startswith("### 1 · run failed")
    assert "- 1 min 01 s · 2 calls · 1,050 tokens · unpriced · exit code 1" in text
    assert "Error:\n\n> No." in text
    assert "```markdown\n# 42\n```" in text


# --- what cannot be forged in it

TICKS = ["```", "````", "~~~", "`", "\\", "|", "**", "](", "$$"]
TAGS = [
    "<details>",
    "</details>",
    "<script>",
    "<!--",
    "-->",
    "<!--orch",
    "<http://a>",
    "&lt;",
    "![i](http://a)",
]
BLOCKS = ["# ", "## ", "- ", "> ", "1. ", "===", "---", "[x]: http://a"]
LINES = ["# heading", "## Run 1 — now", f"<!-- orch entry 7 run {RUN} -->", "| a | b |", "    ", "\t"]
CONTROLS = ["\n", "\n\n", "\r", "\x1b[2J", "\x00", "\x85", "\u2028", "\u202e", "\ufeff"]
BAIT = [*TICKS, *TAGS, *BLOCKS, *LINES, *CONTROLS]
PIECE = st.one_of(st.sampled_from(BAIT), st.sampled_from(BAIT), st.text(max_size=8))
FOREIGN = st.lists(PIECE, min_size=1, max_size=12).map("".join)


def facts(foreign: str) -> Iterator[AnyFact]:
    subtask = Subtask(
        id="scan", title=foreign, kind="agent", role=foreign, tools=(foreign,), depends_on=(foreign,)
    )
    plan = Plan(
        goal=foreign, subtasks=(subtask,), why=foreign, new_tools=(NewTool(name=foreign, purpose=foreign),)
    )
    patch = Patch(base_version=1, reason=foreign, add=(subtask,), replace=(subtask,), remove=(foreign,))
    result = Result(subtask="scan", attempt=1, plan_version=1, summary=foreign, surprise=foreign)
    yield started(foreign)
    yield events.Recalled(runs=(foreign,), tools=(foreign,))
    yield events.PlanProposed(plan=plan)
    yield events.PlanRefused(round=1, faults=(foreign,))
    yield events.PlanRepaired(repairs=(foreign,))
    yield events.PlanRevised(plan=plan, patch=patch, cause=foreign)
    yield events.RevisionDeclined(reason=foreign, cause=foreign)
    yield code_ran(foreign, foreign, foreign)
    yield events.ToolCalled(
        subtask="scan", attempt=1, tool=foreign, arguments={foreign: foreign}, outcome=foreign, ok=False
    )
    yield events.ToolNeeded(tool=foreign, purpose=foreign, asked_by=foreign)
    yield events.ToolTried(tool=foreign, round=1, passed=False, results=(foreign, foreign))
    yield tool_built(foreign)
    yield events.ToolReused(tool=foreign, version=1, purpose=foreign, sha256="ab" * 32)
    yield events.ToolRefused(tool=foreign, reasons=(foreign,))
    yield events.FilesChanged(
        subtask="scan", attempt=1, changes=(events.FileChange(path=foreign, change="created"),)
    )
    yield events.SubtaskFinished(subtask="scan", result=result, seconds=1)
    yield events.SubtaskFailed(subtask="scan", attempt=1, reason=foreign, final=True)
    yield events.SubtaskSkipped(subtask="scan", reason=foreign)
    yield events.ResultJudged(subtask="scan", attempt=1, good=False, reason=foreign)
    yield events.EffectBegun(key="k", subtask="scan", attempt=1, what=foreign)
    yield events.EffectEnded(key="k", ok=True, outcome={foreign: foreign})
    yield events.LateResult(result=result)
    yield events.Noticed(message=foreign)
    yield events.FlowStarted(flow_run=foreign, url=foreign)
    yield events.RunFinished(
        outcome="failed", answer=foreign, error=foreign, seconds=1, usage=Usage(), files=(foreign,)
    )


FOLDED = {
    "ToolBuilt": "Source",
    "PlanProposed": "What each subtask is asked",
    "PlanRevised": "The subtasks as they are now",
}


@settings(max_examples=30, deadline=None)
@given(foreign=FOREIGN)
@example(foreign="".join(BAIT))
@example(foreign=" ".join(BAIT))
@example(foreign="\n".join(BAIT))
@example(foreign=LINES[2])
@example(foreign="x\n\n" + LINES[2])
def test_foreign_text_never_becomes_a_heading_a_tag_or_a_further_entry(foreign: str) -> None:
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for fact in facts(foreign):
        here = event(fact)
        comment = closing_comment(here)
        text = f"{entry_for(here)}\n\n{comment}\n"
        tokens = markdown.parse(text)
        assert sum(t.type == "heading_open" for t in tokens) == text.startswith("#"), text
        tags = [t.content.strip() for t in tokens if t.type == "html_block"]
        folded = (
            [f"<details><summary>{FOLDED[fact.kind]}</summary>", "</details>"] if fact.kind in FOLDED else []
        )
        assert tags == [*folded, comment], text
        inline = [child.type for t in tokens for child in t.children or []]
        assert not {"html_inline", "image", "link_open"} & set(inline), text
        assert len(re.findall("<!--\\s*orch", text, re.IGNORECASE)) == 1, text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ufeff]", text), text


@given(run=st.text(max_size=20))
def test_no_run_id_breaks_out_of_the_closing_comment(run: str) -> None:
    comment = closing_comment(event(code_ran(), run=run))
    assert re.fullmatch(
        r"<!-- orch entry 1 run [A-Za-z0-9_.-]* place 3 after \w{64} hash \w{64} -->", comment
    )
    assert "--" not in comment[4:-3]


# --- the file


def test_a_file_begins_with_its_first_entry_and_says_what_it_is(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "fileLog.md")
    assert not log.path.exists()
    log(event(started()))
    log.close()
    assert log.path.read_text().startswith("# fileLog\n")
    assert log.path.read_text().count("# fileLog") == 1


@pytest.mark.parametrize(
    "text", ["my notes", "my notes\n", "```python\nopen fence", "notes <!-- open", "<details>\n"]
)
def test_an_existing_file_is_kept_and_what_it_leaves_open_is_closed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fileLog.md"
    path.write_text(text)
    FileLog(path)(event(code_ran()))
    assert path.read_text().startswith(text)
    assert CUT_OFF not in path.read_text()
    assert "code run by" in _headings(path.read_text())[-1]


def test_a_folder_in_its_place_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "fileLog.md").mkdir()
    with pytest.raises(UsageError) as caught:
        FileLog(tmp_path / "fileLog.md")
    assert "fileLog.md: Is a directory" in caught.value.message
    assert "out of the way" in caught.value.remedy


def test_a_folder_that_does_not_exist_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Make the folder"):
        FileLog(tmp_path / "gone" / "fileLog.md")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("mine")
    (tmp_path / "fileLog.md").symlink_to(tmp_path / "profile")
    with pytest.raises(UsageError, match="ordinary file"):
        FileLog(tmp_path / "fileLog.md")
    assert (tmp_path / "profile").read_text() == "mine"


def test_a_file_that_has_another_name_too_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("mine")
    (tmp_path / "fileLog.md").hardlink_to(tmp_path / "profile")
    with pytest.raises(UsageError, match="hard link"):
        FileLog(tmp_path / "fileLog.md")
    assert (tmp_path / "profile").read_text() == "mine"


def test_a_pipe_in_its_place_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fileLog.md")
    with pytest.raises(UsageError, match="no ordinary file"):
        FileLog(tmp_path / "fileLog.md")


def test_a_disk_that_is_full_leaves_no_half_entry(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from datetime import datetime
from orchestrator_cli.events import CodeRan, Event
from orchestrator_cli.views.filelog import FileLog
from orchestrator_cli.errors import UsageError
log = FileLog(Path(sys.argv[1]))
fact = CodeRan(subtask="a", attempt=1, step=1, code="x" * 500, output="")
log(Event(run="r", seq=1, time=datetime.now(), data=fact))
before = log.path.read_bytes()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, len(before) + 100))
try:
    log(Event(run="r", seq=2, time=datetime.now(), data=fact))
except UsageError as exc:
    sys.exit(0 if log.path.read_bytes() == before and "room" in str(exc) else 3)
"""
    assert (
        subprocess.run([sys.executable, "-c", script, tmp_path / "fileLog.md"], check=False).returncode == 0
    )


def test_log_that_was_moved_away_starts_again(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "fileLog.md")
    log(event(started()))
    log.path.rename(tmp_path / "old.md")
    log(event(code_ran(), 2))
    assert log.path.read_text().startswith("# fileLog")
    assert "code run by" in log.path.read_text()


def test_an_entry_cut_off_anywhere_swallows_nothing_that_follows(tmp_path: Path) -> None:
    path = tmp_path / "fileLog.md"
    FileLog(path)(event(started()))
    whole = path.read_bytes()
    FileLog(path)(event(tool_built("A `tick` and\n```\na fence and <b>"), 2))
    torn = path.read_bytes()
    for end in range(len(whole), len(torn), 3):
        path.write_bytes(torn[:end])
        FileLog(path)(event(code_ran(), 3))
        text = path.read_bytes().decode("utf-8", "replace")
        assert "3 · code run by" in _headings(text)[-1], text
        assert COMMENT.findall(text)[-1] == ("3", RUN)
        assert text.count("<details>") == text.count("</details>") or "<details></details>" in text


WRITER = """
import sys
from pathlib import Path
from datetime import datetime
from orchestrator_cli.events import CodeRan, Event
from orchestrator_cli.views.filelog import FileLog
path, run, count, length = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = FileLog(path, *map(Path, sys.argv[5:]))
print("ready", flush=True)
sys.stdin.readline()
for seq in range(1, count + 1):
    code = "\\n".join(f"{run} {seq} {number}" for number in range(length))
    fact = CodeRan(subtask=run, attempt=1, step=seq, code=code, output="")
    log(Event(run=run, seq=seq, time=datetime.now(), data=fact))
"""


def _writer(
    path: Path, run: str, count: int, length: int, home: Path | None = None
) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, run, str(count), str(length), *([home] if home else [])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _release(process: "subprocess.Popen[str]") -> int:
    process.communicate()
    return process.returncode


def test_entries_of_two_runs_at_once_are_never_torn(tmp_path: Path) -> None:
    path = tmp_path / "fileLog.md"
    writers = [_writer(path, run, 40, 30) for run in ("aaaa", "bbbb")]
    for writer in writers:
        _go(writer)
    assert [_release(writer) for writer in writers] == [0, 0]
    text = path.read_text()
    assert text.count("# fileLog\n") == 1
    found = COMMENT.findall(text)
    assert sorted(found) == sorted((str(seq), run) for run in ("aaaa", "bbbb") for seq in range(1, 41))
    blocks = COMMENT.split(text)
    for block, seq, run in zip(blocks[0::3], blocks[1::3], blocks[2::3], strict=False):
        assert "\n".join(f"{run} {seq} {number}" for number in range(30)) in block


def test_who_can_only_read_the_log_cannot_hold_up_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelog, "FILE_LOCK_WAIT_S", 0.2, raising=False)
    monkeypatch.setattr(filelog, "LOCK_WAIT_S", 2.0)
    path, home = tmp_path / "fileLog.md", tmp_path / "home"
    home.mkdir()
    FileLog(path, home)(event(started(), 1))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        log = FileLog(path, home)
        for seq in range(2, 8):
            log(event(code_ran(), seq))
        assert time.monotonic() - began < 1.0
    assert [seq for seq, _ in COMMENT.findall(path.read_text())] == ["1", "2", "3", "4", "5", "6", "7"]


def test_entries_of_two_runs_of_a_home_are_one_chain_also_while_the_file_is_locked(tmp_path: Path) -> None:
    path, home = tmp_path / "fileLog.md", tmp_path / "home"
    home.mkdir()
    FileLog(path, home)(event(started(), 1))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writers = [_writer(path, run, 20, 3, home) for run in ("aaaa", "bbbb")]
        for writer in writers:
            _go(writer)
        assert [_release(writer) for writer in writers] == [0, 0]
    blocks = read_log(path.read_bytes()).blocks
    assert len(blocks) == 42
    assert [block.seal.after for block in blocks[1:]] == [block.seal.hash for block in blocks[:-1]]


def test_entries_are_whole_after_the_writer_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "fileLog.md"
    FileLog(path)(event(started()))
    for attempt in range(3):
        writer = _writer(path, f"run{attempt}", 100_000, 2_000)
        _go(writer)
        before = path.stat().st_size
        deadline = time.monotonic() + 20
        while path.stat().st_size < before + 200_000 and time.monotonic() < deadline:
            time.sleep(0.005)
        writer.send_signal(signal.SIGKILL)
        _release(writer)
    FileLog(path)(event(code_ran(), 9))
    text = path.read_text()
    blocks = COMMENT.split(text)
    whole = [
        (block, seq, run) for block, seq, run in zip(blocks[0::3], blocks[1::3], blocks[2::3], strict=False)
    ]
    assert len(whole) > 6
    for block, seq, run in whole[1:-1]:
        assert f"{run} {seq} 0\n" in block
        assert f"{run} {seq} 1999\n" in block
    assert "9 · code run by" in _headings(text)[-1]


def _headings(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").parse(text)
    return [inline.content for token, inline in pairwise(tokens) if token.type == "heading_open"]
