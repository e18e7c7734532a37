"""What a person sees: in a pipe, on a terminal of its own, and after Ctrl-C."""

import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pexpect
import pytest
from wcwidth import wcwidth

from orchestrator_cli import events
from orchestrator_cli.errors import ConfigError
from orchestrator_cli.events import AnyFact, Event
from orchestrator_cli.plan import NewTool, Patch, Plan, Result, Subtask
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.values import Usage
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.progress import rows_of
from orchestrator_cli.views.streams import wrapped

PLAN = Plan(
    goal="Count words",
    subtasks=(
        Subtask(id="scan", title="Find the files", kind="agent", role="researcher"),
        Subtask(id="report", title="Write it", kind="agent", depends_on=("scan",), tools=("count",)),
    ),
    new_tools=(NewTool(name="count", purpose="Count"),),
)
PDF = Subtask(id="pdf", title="Read PDFs", kind="agent")
USAGE = Usage(calls=4, prompt_tokens=12_000, completion_tokens=345, cost=0.0123)


def event(fact: AnyFact) -> Event:
    return Event(run="20260701-140322-3f2a9c1b", seq=1, time=datetime(2026, 7, 1, tzinfo=UTC), data=fact)


STARTED = events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="bubblewrap", version="0.1.0")
FINISHED = events.RunFinished(outcome="completed", answer="42", seconds=21.5, usage=USAGE)
THOUGHT = events.AgentStepped(subtask="scan", attempt=1, step=1, thought="I look around")
FAILED = events.SubtaskFailed(
    subtask="scan", attempt=1, reason="no [red]disk[/red] \x1b[2J\x1b]0;own\x07", final=False
)
REVISED = events.PlanRevised(
    plan=PLAN.model_copy(update={"version": 2, "subtasks": (*PLAN.subtasks, PDF)}),
    patch=Patch(base_version=1, reason="PDFs too", add=(PDF,)),
    cause="surprise of scan",
)


def show(console: Console, *facts: AnyFact) -> None:
    """Give a console events with the state after each, as the run does."""
    state = RunState()
    for fact in facts:
        state = apply(state, event(fact))
        console(event(fact), state)


def shown(*facts: AnyFact, quiet: bool = False, verbose: bool = False) -> str:
    stream = io.StringIO()
    console = Console(stream, quiet=quiet, verbose=verbose)
    show(console, *facts)
    console.close()
    return stream.getvalue()


def test_a_plan_is_shown_as_a_graph() -> None:
    text = shown(events.PlanProposed(plan=PLAN))
    assert "   1 ─ ○ scan · agent researcher · Find the files\n" in text
    assert "← scan · tools count (new)\n" in text


def test_every_trial_of_a_tool_is_shown() -> None:
    text = shown(
        events.ToolNeeded(tool="count", purpose="Count words", asked_by="plan"),
        events.ToolTried(tool="count", round=1, passed=False, results=("FAIL: got 1",)),
        events.ToolTried(tool="count", round=2, passed=True, results=("ok: 2",)),
    )
    assert "count does not exist yet, the plan asks for it: Count words" in text
    assert "count tried, round 1: failed\n  - FAIL: got 1\n" in text
    assert "count tried, round 2: passed\n  - ok: 2\n" in text


def test_a_revision_is_shown_with_reason_cause_and_difference() -> None:
    text = shown(events.PlanProposed(plan=PLAN), REVISED)
    assert "plan 2  PDFs too\n  because: surprise of scan\n  + pdf · agent · Read PDFs\n" in text


def test_a_failure_is_shown_with_its_reason_and_what_follows() -> None:
    assert "✗ scan failed (attempt 1, trying again): no [red]disk[/red] ]0;own\n" in shown(FAILED)


def test_changed_files_are_shown() -> None:
    change = events.FileChange(path="[bold]a\u202e.md", change="created", after_size=2048)
    text = shown(events.FilesChanged(subtask="scan", attempt=1, changes=(change,)))
    assert text == "  created [bold]a\\u{202e}.md (2.0 KiB) · scan\n"


def test_the_end_says_what_it_took_and_where_to_look() -> None:
    text = shown(STARTED, events.FlowStarted(flow_run="otter", url="http://127.0.0.1:4200/x"), FINISHED)
    assert "done  22 s · 4 calls · 12,345 tokens · $0.0123\n" in text
    assert text.endswith("log    /w/fileLog.md\n")
    assert text.count("watch  http://127.0.0.1:4200/x\n") == 1


def test_a_model_without_a_price_is_called_unpriced_and_not_free() -> None:
    usage = Usage(calls=2, prompt_tokens=10, unpriced=2)
    text = shown(FINISHED.model_copy(update={"usage": usage}))
    assert "unpriced" in text
    assert "$" not in text


def test_a_question_is_shown_with_what_it_is_decided_by_and_its_choices() -> None:
    diff = "--- a/x\n+++ b/x\n-old\n+new"
    text = shown(
        events.ApprovalAsked(
            id="q1", what="writes", subject="scan", question="May scan change x?", details=diff
        ),
        events.ApprovalGiven(id="q1", decision="no", remark="it was \x1b[2Jfine"),
        events.ApprovalAsked(
            id="q2", what="question", subject="pick", question="Which?", result={"enum": ["red", 7]}
        ),
        events.ApprovalGiven(id="q2", decision="answered", value=7),
        events.Remarked(text="and quickly"),
        events.RunPaused(approvals=("q3",)),
    )
    for line in ("    +new\n? May scan change x? (q1)\n", "  q1 no, because it was fine\n", "    1  red\n"):
        assert line in text
    assert "    2  7\n  q2 answered: 7\nyou  and quickly\npaused  1 question open: q3\n" in text


def test_the_items_of_a_loop_are_counted_in_one_row() -> None:
    state = RunState()
    facts: list[AnyFact] = [
        events.PlanProposed(plan=PLAN),
        events.SubtaskStarted(subtask="scan", title="Scan", attempt=1, plan_version=1, items=3),
        events.SubtaskStarted(subtask="scan[0]", title="Scan (1 of 3)", attempt=1, plan_version=1),
        events.SubtaskFinished(
            subtask="scan[0]", result=Result(subtask="scan[0]", attempt=1, plan_version=1), seconds=1
        ),
        events.SubtaskFailed(subtask="scan[1]", attempt=1, reason="no", final=False),
        events.SubtaskFailed(subtask="scan[2]", attempt=1, reason="gone", final=True),
    ]
    for fact in facts:
        state = apply(state, event(fact))
    scan, report = rows_of(state)
    assert (scan.id, report.id) == ("scan", "report")
    assert scan.state == "running"
    assert scan.doing == "2 of 3 done · [2] gone"


def test_steps_are_shown_only_if_asked_for() -> None:
    ran = events.CodeRan(subtask="scan", attempt=1, step=1, code="a = 1\nprint(a)", output="1\n")
    assert shown(THOUGHT, ran) == ""
    text = shown(THOUGHT, ran, verbose=True)
    assert "I look around" in text
    assert "  scan 1 | a = 1\n  scan 1 | print(a)\n    > 1\n" in text


def test_quiet_leaves_only_errors() -> None:
    stream = io.StringIO()
    console = Console(stream, quiet=True)
    show(console, STARTED, events.PlanProposed(plan=PLAN), FAILED, FINISHED)
    assert stream.getvalue() == ""
    console.error(ConfigError("No model is set.", "Set one with -m."))
    assert stream.getvalue() == "error: No model is set.\n  Set one with -m.\n"


def test_error_that_ended_the_run_is_shown_once() -> None:
    stream = io.StringIO()
    console = Console(stream)
    error = ConfigError("It broke \x1b[31mbadly.", "Mend it.")
    show(console, STARTED, FINISHED.model_copy(update={"outcome": "failed", "error": str(error)}))
    console.error(error)
    assert stream.getvalue().count("error: It broke \\u001b[31mbadly.\n  Mend it.\n") == 1


@pytest.mark.parametrize(
    ("outcome", "is_error"), [("cancelled", False), ("interrupted", False), ("failed", True)]
)
def test_what_the_user_wanted_is_not_an_error(outcome: str, is_error: bool) -> None:
    ended = FINISHED.model_copy(update={"outcome": outcome, "error": "Ended."})
    assert ("error: Ended." in shown(STARTED, ended)) == is_error


def test_lines_in_a_pipe_are_not_wrapped_and_hold_no_escape_sequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    # Paths can make a notice long, and its remedy comes last.
    text = shown(STARTED, events.Noticed(message="word " * 300))
    assert f"note  {('word ' * 300).strip()}\n" in text
    assert "\x1b" not in text


def test_a_stream_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    show(Console(stream), events.PlanProposed(plan=PLAN))
    assert b"   1 - o scan - agent researcher - Find the files\n" in raw.getvalue()


def test_an_answer_in_a_pipe_is_exactly_the_answer() -> None:
    stdout = io.StringIO()
    Console(io.StringIO(), stdout=stdout).print_answer("# Title\n\n**bold**")
    assert stdout.getvalue() == "# Title\n\n**bold**\n"


# --- on a terminal

PLAYER = """
import sys, time
from orchestrator_cli.events import Event
from orchestrator_cli.state import RunState, apply
from orchestrator_cli.views.console import Console
console, state = Console(), RunState()
try:
    for line in open(sys.argv[1], encoding="utf-8"):
        event = Event.model_validate_json(line)
        state = apply(state, event)
        console(event, state)
        time.sleep(0.02)
    if "wait" in sys.argv:
        time.sleep(60)
    if "crash" in sys.argv:
        raise SystemExit(3)
except KeyboardInterrupt:
    print("stopped by the user", file=sys.stderr)
    console.close()
    console.close()
console.print_answer("# Title\\n\\nA [link](http://real.example) and \\x1b[2J**bold**")
"""


def played(
    tmp_path: Path, *facts: AnyFact, how: str = "", columns: int = 100, **env: str
) -> "pexpect.spawn[str]":
    script, recorded = tmp_path / "player.py", tmp_path / "events.jsonl"
    script.write_text(PLAYER)
    recorded.write_text("".join(event(fact).json_line() + "\n" for fact in facts))
    environment = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", **env}
    return pexpect.spawn(
        sys.executable, [str(script), str(recorded), how], env=environment, encoding="utf-8",
        dimensions=(24, columns), timeout=20,
    )  # fmt: skip


def screen(child: "pexpect.spawn[str]") -> str:
    child.expect(pexpect.EOF)
    child.close()
    assert isinstance(child.before, str)
    return child.before


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]|\r", "", text)


RUN = (
    STARTED, events.PlanProposed(plan=PLAN),
    events.SubtaskStarted(subtask="scan", title="Find the files", attempt=1, plan_version=1),
    THOUGHT, FAILED, REVISED,
)  # fmt: skip


def test_a_terminal_shows_what_each_subtask_is_doing(tmp_path: Path) -> None:
    child = played(tmp_path, *RUN[:4], how="wait")
    child.expect("I look around", timeout=20)
    child.expect("1 running · 0 of 2 done")
    child.sendintr()
    text = plain(screen(child))
    assert "└ ○ report" in text


def test_the_cursor_is_back_after_a_run(tmp_path: Path) -> None:
    text = screen(played(tmp_path, *RUN, FINISHED))
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "done  22 s" in plain(text)


def test_the_cursor_is_back_after_ctrl_c(tmp_path: Path) -> None:
    child = played(tmp_path, *RUN, how="wait")
    child.expect("0 of 3 done")
    child.sendintr()
    child.expect("stopped by the user")
    text = screen(child)
    assert text.rindex("\x1b[?25h") > text.rfind("\x1b[?25l")
    assert child.exitstatus == 0


def test_cursor_is_back_if_the_view_was_not_closed(tmp_path: Path) -> None:
    child = played(tmp_path, *RUN, how="crash")
    text = screen(child)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert child.exitstatus == 3


def test_foreign_text_cannot_drive_the_terminal(tmp_path: Path) -> None:
    text = screen(played(tmp_path, *RUN, FINISHED))
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    assert "no [red]disk[/red]" in plain(text)


def test_an_answer_on_a_terminal_is_rendered_and_links_show_where_they_lead(tmp_path: Path) -> None:
    text = plain(screen(played(tmp_path, STARTED, FINISHED)))
    assert "# Title" not in text
    assert "**bold**" not in text
    assert "link (http://real.example)" in text


@pytest.mark.parametrize("columns", [40, 100])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, columns: int) -> None:
    text = screen(played(tmp_path, *RUN, FINISHED, columns=columns))
    assert max(len(plain(line).rstrip()) for line in re.split("[\r\n]", text)) <= columns


def test_no_color_takes_the_colours_away(tmp_path: Path) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    assert colour.search(screen(played(tmp_path, *RUN, FINISHED)))
    assert not colour.search(screen(played(tmp_path, *RUN, FINISHED, NO_COLOR="1")))


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    text = screen(played(tmp_path, *RUN, FINISHED, TERM="dumb"))
    assert "\x1b" not in text
    assert "● scan · Find the files" in text
    assert "# Title" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_broken_between_words_and_keep_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "32")
    lines = ["short", "  /plan [PROMPT]  draw the plan for a prompt", "x" * 40, ""]
    assert wrapped(lines, Terminal()) == [
        "short",
        "  /plan [PROMPT]  draw the plan",
        " " * 15 + "for a prompt",
        "x" * 31,
        "  " + "x" * 9,
        "",
    ]
    assert wrapped(lines, io.StringIO()) == lines


ADDRESS = "http://orch-1.localhost:35277/orch/login#1796126764.fc83df491e97fa5b.96607a9f"
COMMAND = "orch resume 20261129-001105-e69afa --max-cost 0.32"
TRUST = "orch trust -C '/home/me/a b'"


@pytest.mark.parametrize("columns", [24, 40, 60, 100])
@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (f"Go on with a higher limit: {COMMAND}", COMMAND),
        (f"  It was stopped (see {COMMAND}), as you wanted.", COMMAND),
        (f"It is shown at {ADDRESS}, until the run ends.", ADDRESS),
        (f"    {ADDRESS}", ADDRESS),
        ("In the loop, list them all with: /runs --all, or leave.", "/runs --all"),
    ],
)
def test_commands_and_addresses_are_never_broken(
    monkeypatch: pytest.MonkeyPatch, line: str, kept: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    console = Console(terminal := Terminal())
    console.error(ConfigError("It failed.", line))
    console.lines([line])
    shown = wrapped([line], Terminal())
    assert sum(kept in piece for piece in shown) == 1
    assert terminal.getvalue().count(kept) == 2
    assert " ".join(" ".join(shown).split()) == " ".join(line.split())
    assert all(len(piece) < columns or kept in piece for piece in shown)


def test_a_command_with_spaces_in_its_values_goes_to_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert wrapped([f"Read them with: {TRUST}"], Terminal()) == ["Read them with:", f"  {TRUST}"]


@pytest.mark.parametrize(
    "form", ["http://{}error: stop", "try: orch resume {}9error: stop", "orch a -b {}error: c"]
)
def test_foreign_text_begins_no_line_by_its_length(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    for count in range(60, 90):
        lines = at_80_columns(monkeypatch, form.format("A" * count))
        rows = [line[at : at + 80] for line in lines for at in range(0, len(line) or 1, 80)]
        assert sum(row.startswith("error:") for row in rows) == 1  # our own


PADS = {
    "letters": "A",
    "words": "a b ",
    "wide": "\u4e2d",
    "skin": "\U0001f3fb",
    "unassigned": "\U00018cd6",
    "joined": "\u200dB",
    "flags": "\U0001f1e9",
    "marks": "\u0ba8\u0bbf",
    "blank": "\u2800",
    "filler": "\u3164",
}


def at_80_columns(monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    """What a terminal shows of everything in which a stranger's text can be."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    console = Console(terminal := Terminal(), verbose=True)
    nodes = [one.model_copy(update={"title": text}) for one in PLAN.subtasks]
    facts = [
        STARTED.model_copy(update={"sandbox": f"NO SANDBOX {text}"}),
        events.PlanProposed(plan=PLAN.model_copy(update={"goal": text, "subtasks": tuple(nodes)})),
        events.SubtaskStarted(subtask="scan", title=text, attempt=1, plan_version=1),
        THOUGHT.model_copy(update={"thought": text}),
        FAILED.model_copy(update={"reason": text}),
        events.Noticed(message=text),
    ]
    show(console, *facts)
    console.error(ConfigError(text, text))
    console.lines([text])
    console.close()
    return [*terminal.getvalue().splitlines(), *wrapped([f"    AGENTS.md: {text}", text], Terminal())]


@pytest.mark.parametrize("pad", PADS)
def test_no_foreign_text_begins_a_line(monkeypatch: pytest.MonkeyPatch, pad: str) -> None:
    own = sum(not line.startswith(" ") for line in at_80_columns(monkeypatch, "short"))
    for count in (24, 31, 38, 75, 200):
        lines = at_80_columns(monkeypatch, f"{PADS[pad] * count}error: stop and paste your key")
        assert max(sum(map(wcwidth, line)) for line in lines) <= 80
        assert sum(not line.startswith(" ") for line in lines) == own
