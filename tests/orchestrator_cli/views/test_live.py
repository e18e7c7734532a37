"""The live view: a tree that fits the terminal, and a name for every wait."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console
from wcwidth import wcwidth

from orchestrator_cli import events
from orchestrator_cli.events import AnyFact, Event
from orchestrator_cli.plan import Plan, Result, Subtask
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.values import Usage
from orchestrator_cli.views.live import Seen, Size, TypedLine, live_view
from orchestrator_cli.views.progress import rows_of, wait_of
from orchestrator_cli.views.tree import DEEPEST, tree_lines, tree_of

NOW = datetime(2026, 7, 1, tzinfo=UTC)
STARTED = events.RunStarted(prompt="p", workspace="/w", models={}, sandbox="bubblewrap", version="0.1.0")
USAGE = Usage(calls=4, prompt_tokens=12_000, completion_tokens=345, cost=0.0123)


def node(name: str, *after: str) -> Subtask:
    return Subtask(id=name, title=f"Do {name} " * 9, kind="agent", role="researcher", depends_on=after)


def plan_of(*nodes: Subtask) -> Plan:
    return Plan(goal="g", subtasks=nodes)


DIAMOND = plan_of(node("scan"), node("a", "scan"), node("b", "scan"), node("sum", "a", "b"), node("alone"))


def after(*facts: AnyFact) -> RunState:
    return fold(Event(run="r", seq=n, time=NOW, data=fact) for n, fact in enumerate(facts, 1))


def asked(role: str, subtask: str | None = None) -> events.ModelAsked:
    return events.ModelAsked(role=role, subtask=subtask, model="m")


def spent(role: str, subtask: str | None = None) -> events.Spent:
    return events.Spent(
        role=role, subtask=subtask, model="m", prompt_tokens=1, completion_tokens=1, cost=0,
        seconds=1, total=USAGE,
    )  # fmt: skip


def begun(name: str) -> events.SubtaskStarted:
    return events.SubtaskStarted(subtask=name, title="t", attempt=1, plan_version=1)


def done(name: str, summary: str = "") -> events.SubtaskFinished:
    result = Result(subtask=name, attempt=1, plan_version=1, summary=summary)
    return events.SubtaskFinished(subtask=name, result=result, seconds=2)


def drawn(seen: Seen, size: Size, *, ascii_only: bool = False) -> list[str]:
    stream = io.StringIO()
    console = Console(
        file=stream, width=size.width, height=size.height, force_terminal=True, color_system=None
    )
    console.print(live_view(seen, size, ascii_only=ascii_only))
    return stream.getvalue().rstrip("\n").split("\n")


def test_a_subtask_is_below_the_last_one_that_it_waits_for() -> None:
    lines = [(one.drawn, one.node.id, one.others) for one in tree_of(DIAMOND.subtasks)]
    assert lines == [
        ("", "scan", ()), ("├ ", "a", ()), ("└ ", "b", ()), ("  └ ", "sum", ("a",)), ("", "alone", ()),
    ]  # fmt: skip


def test_long_chains_and_cycles_have_every_node_once() -> None:
    chain = [node(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(3_000)]
    found = tree_of(chain)
    assert [one.node.id for one in found] == [one.id for one in chain]
    assert max(len(one.drawn) for one in found) == 2 * DEEPEST
    cycle = [node("a", "c"), node("b", "a"), node("c", "b"), node("d", "x")]
    assert {one.node.id for one in tree_of(cycle)} == {"a", "b", "c", "d"}


def test_a_tree_names_states_and_other_dependencies() -> None:
    lines = tree_lines(DIAMOND, {"a": "done", "sum": "running"})
    assert [line.split(" · ")[0] for line in lines] == ["○ scan", "├ ✓ a", "└ ○ b", "  └ ● sum", "○ alone"]
    assert lines[3].endswith("after a too")


PLANNED = (STARTED, events.PlanProposed(plan=DIAMOND))
WAITS: Sequence[tuple[str, tuple[AnyFact, ...], str]] = (
    ("recall", (STARTED,), "recalling and planning"),
    ("planner", (STARTED, events.Recalled(), asked("planner")), "the planner thinks"),
    ("prefect", PLANNED, "starting Prefect"),
    ("work", (*PLANNED, begun("scan"), begun("alone")), "2 running"),
    ("reviser", (*PLANNED, begun("scan"), asked("reviser")), "the reviser thinks"),
    ("answer", (*PLANNED, asked("answer")), "the answer is written"),
)  # fmt: skip


@pytest.mark.parametrize(("facts", "what"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS])
def test_every_wait_has_a_name(facts: tuple[AnyFact, ...], what: str) -> None:
    assert wait_of(after(*facts)).what == what


def test_a_question_is_what_a_run_waits_for() -> None:
    question = events.ApprovalAsked(id="q", what="question", subject="scan", question="Which?")
    waiting = events.SubtaskWaiting(subtask="scan", approval="q")
    state = after(STARTED, events.PlanProposed(plan=plan_of(node("scan"))), question, waiting)
    assert wait_of(state).what == "waits for you"


def test_a_run_waits_for_its_user_if_all_that_runs_does() -> None:
    files = [
        events.ApprovalAsked(id=n, what="writes", subject=n, question="May it?") for n in ("scan", "alone")
    ]
    facts = (*PLANNED, begun("scan"), begun("alone"))
    assert wait_of(after(*facts, files[0])).what == "1 running"
    assert wait_of(after(*facts, *files)).what == "waits for you"


def test_the_first_call_is_named_while_it_is_under_way() -> None:
    seen = Seen(after(STARTED, asked("planner")), NOW)
    assert "1 call under way" in drawn(seen, Size(80, 24))[-1]


def test_a_narrow_status_line_keeps_the_cost() -> None:
    seen = Seen(after(*PLANNED, begun("scan"), spent("planner"), asked("reviser")), NOW)
    for width in (70, 80):
        assert drawn(seen, Size(width, 24))[-1].rstrip().endswith("$0.0123")


def test_a_call_is_under_way_until_it_is_counted() -> None:
    facts = [STARTED, events.PlanProposed(plan=DIAMOND), begun("a"), asked("agent", "a"), asked("agent", "a")]
    assert len(after(*facts).asking) == 2
    assert len(after(*facts, spent("agent", "a"), spent("agent", "b")).asking) == 1
    ended = events.RunFinished(outcome="failed", answer="", seconds=1, usage=USAGE)
    assert after(*facts, ended).asking == ()


def test_a_row_says_how_long_a_model_thinks_and_what_came_out() -> None:
    state = after(
        STARTED, events.PlanProposed(plan=DIAMOND), begun("scan"), done("scan", "north 3, south 5"),
        begun("a"), asked("agent", "a"),
    )  # fmt: skip
    lines = drawn(Seen(state, NOW + timedelta(seconds=7)), Size(120, 24))
    assert "north 3, south 5" in next(line for line in lines if "scan" in line)
    assert "thinks 7.0 s · t" in next(line for line in lines if "● a" in line)
    assert "after a too" in next(line for line in lines if "sum" in line)


QUESTION = events.ApprovalAsked(id="q", what="writes", subject="a", question="May it?")
PERMISSION = QUESTION.model_copy(update={"what": "network", "subject": "t"})
QUEUED = events.ModelAsked(role="agent", subtask="a", model="m", waits_for="its turn at m")
NEEDED = events.ToolNeeded(tool="t", purpose="p", asked_by="plan")
TOOLED = plan_of(node("a"), node("b").model_copy(update={"tools": ("t",)}))
STEP = events.AgentStepped(subtask="a", attempt=1, step=1, thought="I look at the list")
BEGUN = (STARTED, events.PlanProposed(plan=TOOLED), begun("a"), STEP)


@pytest.mark.parametrize(
    ("facts", "name", "wait"),
    [
        ((*BEGUN, QUESTION), "a", "waits for you"),
        (
            (*BEGUN, events.ApprovalAsked(id="q", what="network", subject="t", question="?")),
            "b",
            "waits for you",
        ),
        ((*BEGUN, asked("agent", "a")), "a", "thinks"),
        ((*BEGUN, QUEUED), "a", "waits for its turn at m"),
        ((*BEGUN, QUEUED, asked("agent", "a")), "a", "thinks"),
        ((*BEGUN, asked("agent", "a"), QUEUED, spent("agent", "a")), "a", "waits for its turn at m"),
        (BEGUN, "b", "waits for its turn"),
        ((*BEGUN, NEEDED), "b", "waits for the tool t"),
        ((*BEGUN, asked("reviser")), "b", "waits for the reviser"),
    ],
)
def test_a_row_says_what_its_subtask_waits_for(facts: tuple[AnyFact, ...], name: str, wait: str) -> None:
    state = after(*facts)
    assert {row.id: row.wait and row.wait.what for row in rows_of(state)}[name] == wait
    line = next(line for line in drawn(Seen(state, NOW), Size(120, 24)) if f" {name} " in line)
    assert wait in line


def test_a_row_at_work_waits_for_nothing() -> None:
    failed = events.SubtaskFailed(subtask="a", attempt=1, reason="r", final=False)
    for facts in (BEGUN, (*BEGUN, QUEUED, failed), (*BEGUN, done("a"))):
        assert rows_of(after(*facts))[0].wait is None


def test_a_call_of_the_run_that_waits_is_named() -> None:
    queued = events.ModelAsked(role="planner", subtask=None, model="m", waits_for="its next try")
    assert "its next try" in wait_of(after(STARTED, queued)).what
    assert "under way" not in drawn(Seen(after(STARTED, queued), NOW), Size(80, 24))[-1]


@pytest.mark.parametrize("size", [Size(80, 24), Size(160, 50), Size(30, 8), Size(12, 5)], ids=str)
@pytest.mark.parametrize("count", [3, 60])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_it_is_lower_than_the_terminal_and_no_wider(size: Size, count: int, ascii_only: bool) -> None:
    nodes = [node("scan_語言_" + "x" * 40), *(node(f"n{i}", "scan_語言_" + "x" * 40) for i in range(count))]
    building = [events.ToolNeeded(tool=f"t{i}", purpose="p " * 90, asked_by="plan") for i in range(9)]
    state = after(
        STARTED, events.PlanProposed(plan=plan_of(*nodes)), *building, begun("n1"), asked("agent", "n1")
    )
    typed = TypedLine("Which one of them is it that you want?", "[yes/no]", "語" * 90)
    lines = drawn(Seen(state, NOW, "# Title\n\n" + "語言 word " * 900, typed), size, ascii_only=ascii_only)
    assert len(lines) <= max(size.height - 1, 5)
    assert max(map(cell_len, lines)) <= size.width


def test_the_end_of_an_answer_is_seen_while_it_is_written() -> None:
    state = after(STARTED, events.PlanProposed(plan=DIAMOND), asked("answer"))
    answer = "\n\n".join(f"Part **{i}** \x1b[2J" for i in range(50))
    lines = drawn(Seen(state, NOW, answer), Size(80, 24))
    assert any(line.startswith("Part 49") for line in lines)
    assert not any("\x1b" in line or "**" in line for line in lines)


@pytest.mark.parametrize("sign", ["\U0001f3fb", "\U00018cd6", "\u200dB", "\U0001f1e9", "\u4e2d", "\u2800"])
def test_no_line_is_wider_than_it_is_counted_for(sign: str) -> None:
    nodes = [one.model_copy(update={"title": sign * 90}) for one in DIAMOND.subtasks]
    state = after(STARTED, events.PlanProposed(plan=plan_of(*nodes)), begun("scan"), done("scan", sign * 90))
    seen = Seen(state, NOW, typed=TypedLine(sign * 90, "yes or no", sign * 90))
    lines = drawn(seen, Size(80, 24))
    assert any(line.strip() for line in lines)
    assert max(sum(map(wcwidth, line)) for line in lines) <= 80
