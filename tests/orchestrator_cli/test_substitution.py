"""A tool that a plan names is served by one of another name: what changes in the plan."""

from datetime import UTC, datetime

from orchestrator_cli import events
from orchestrator_cli.events import Event
from orchestrator_cli.execution.plan_changes import causes_for
from orchestrator_cli.plan import NewTool, Patch, Plan, Subtask
from orchestrator_cli.planning.patching import substituted
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import RunState, fold
from orchestrator_cli.state.duplicate_code import cause_of

CALL = Subtask(id="call", title="Call", kind="tool", tools=("wanted",), inputs={"text": "a"})
AGENT = Subtask(
    id="work", title="Work", kind="agent", role="coder", tools=("read_file", "wanted"), instruction="Use it."
)
NEW = NewTool(name="wanted", purpose="something")
PLAN = Plan(goal="done", subtasks=(CALL, AGENT), new_tools=(NEW,))


def test_subtasks_name_the_other_tool_and_only_agents_get_a_hint() -> None:
    plan, changes = substituted(PLAN, "wanted", "there", {"call", "work"})
    assert (plan["call"].tools, plan["work"].tools) == (("there",), ("read_file", "there"))
    assert plan["call"].instruction == ""
    assert plan["work"].instruction == "Use it.\n\nThe tool `wanted` is there under the name `there`."
    assert [str(repair).split(":")[0] for repair in changes] == ["call.tools", "work.tools"]
    assert (plan.new_tools, plan.version) == ((), PLAN.version)


def test_subtasks_that_may_not_change_keep_their_tool_and_its_announcement() -> None:
    plan, changes = substituted(PLAN, "wanted", "there", {"work"})
    assert plan["call"] == CALL
    assert plan.new_tools == (NEW,)
    assert len(changes) == 1


def test_a_plan_that_does_not_name_it_stays_as_it_is() -> None:
    assert substituted(PLAN, "other", "there", {"call", "work"}) == (PLAN, ())
    assert substituted(PLAN, "wanted", "there", set()) == (PLAN, ())


def test_a_tool_is_named_once_where_a_subtask_has_both() -> None:
    both = AGENT.model_copy(update={"tools": ("there", "wanted")})
    plan, _ = substituted(PLAN.model_copy(update={"subtasks": (both,)}), "wanted", "there", {"work"})
    assert plan["work"].tools == ("there",)


def state_after(*facts: events.Fact) -> RunState:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return fold(Event(run="r", seq=n, time=moment, data=fact) for n, fact in enumerate(facts, start=1))  # type: ignore[arg-type]


def test_another_process_goes_on_with_the_plan_as_it_was_changed() -> None:
    plan, changes = substituted(PLAN, "wanted", "there", {"call", "work"})
    repaired = events.PlanRepaired(repairs=tuple(map(str, changes)), plan=plan)
    state = state_after(events.PlanProposed(plan=PLAN), repaired)
    assert (state.plan, len(state.versions)) == (plan, 1)
    slips = events.PlanRepaired(repairs=("call.id: was 'Call', which is no id",))
    assert state_after(slips, events.PlanProposed(plan=PLAN)).plan == PLAN


def test_a_tool_that_serves_under_several_names_is_had_once() -> None:
    reused = [
        events.ToolReused(tool="there", version=1, purpose="-", sha256="-", instead_of=name, reason="-")
        for name in ("wanted", "other")
    ]
    assert state_after(*reused).borrowed == ("there",)


def test_another_process_keeps_the_hint_for_the_reviser() -> None:
    repeated = events.FunctionRepeated(subtask="work", function="parse", mark="1")
    state = state_after(events.PlanProposed(plan=PLAN), repeated)
    assert state.causes == (cause_of(repeated),)
    assert causes_for(state, Settings(revise="auto")) == (cause_of(repeated),)
    assert causes_for(state, Settings(revise="never")) == ()
    patch = Patch(base_version=1, reason="A tool for it.")
    revised = events.PlanRevised(plan=PLAN, patch=patch, cause=str(cause_of(repeated)))
    after = state_after(events.PlanProposed(plan=PLAN), repeated, revised)
    assert (after.causes, after.answered) == ((), frozenset())
