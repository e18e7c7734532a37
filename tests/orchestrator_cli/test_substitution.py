"""A tool that a plan names is served by one of another name: what changes in the plan."""

from orchestrator_cli.planning.plan import NewTool, Plan, Subtask
from orchestrator_cli.planning.substitution import substituted

CALL = Subtask(id="call", title="Call", kind="tool", tools=("wanted",), inputs={"text": "a"})
AGENT = Subtask(
    id="work", title="Work", kind="agent", role="coder", tools=("read_file", "wanted"), instruction="Use it."
)
NEW = NewTool(name="wanted", purpose="something")
PLAN = Plan(goal="done", subtasks=(CALL, AGENT), new_tools=(NEW,))


def test_subtasks_name_the_other_tool_and_only_agents_are_told_in_words() -> None:
    plan, told = substituted(PLAN, "wanted", "there", {"call", "work"})
    assert (plan["call"].tools, plan["work"].tools) == (("there",), ("read_file", "there"))
    assert plan["call"].instruction == ""
    assert plan["work"].instruction == "Use it.\n\nThe tool `wanted` is there under the name `there`."
    assert [str(repair).split(":")[0] for repair in told] == ["call.tools", "work.tools"]
    assert (plan.new_tools, plan.version) == ((), PLAN.version)


def test_subtasks_that_may_not_change_keep_their_tool_and_its_announcement() -> None:
    plan, told = substituted(PLAN, "wanted", "there", {"work"})
    assert plan["call"] == CALL
    assert plan.new_tools == (NEW,)
    assert len(told) == 1


def test_a_plan_that_does_not_name_it_stays_as_it_is() -> None:
    assert substituted(PLAN, "other", "there", {"call", "work"}) == (PLAN, ())
    assert substituted(PLAN, "wanted", "there", set()) == (PLAN, ())


def test_a_tool_is_named_once_where_a_subtask_has_both() -> None:
    both = AGENT.model_copy(update={"tools": ("there", "wanted")})
    plan, _ = substituted(PLAN.model_copy(update={"subtasks": (both,)}), "wanted", "there", {"work"})
    assert plan["work"].tools == ("there",)
