"""The drawing of a plan, and the difference of two."""

import re

from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.plan import NewTool, Patch, Plan, Subtask
from orchestrator_cli.views.graph import patch_lines, plan_diff, plan_lines


def subtask(id_: str, *depends_on: str, **fields: object) -> Subtask:
    values = {"id": id_, "title": id_.upper(), "kind": "agent", "depends_on": depends_on, **fields}
    return Subtask.model_validate(values)


PLAN = Plan(
    goal="g",
    subtasks=(
        subtask("scan", role="researcher"),
        subtask("outline"),
        subtask("report", "scan", "outline", tools=("count",), when="scan.value > 0"),
    ),
    new_tools=(NewTool(name="count", purpose="Count"),),
)


def test_a_plan_is_drawn_in_layers_with_its_dependencies() -> None:
    assert plan_lines(PLAN) == [
        " 1 ┬ ○ scan · agent researcher · SCAN",
        "   └ ○ outline · agent · OUTLINE",
        " 2 ─ ○ report · agent · REPORT",
        "         ← scan, outline · tools count (new) · when scan.value > 0",
    ]


def test_states_are_shown() -> None:
    lines = plan_lines(PLAN, {"scan": "done", "outline": "failed", "report": "skipped"})
    assert [line[5] for line in lines if line[5].strip()] == ["✓", "✗", "–"]


def test_the_drawing_can_do_without_unicode() -> None:
    lines = plan_lines(PLAN, {"scan": "done"}, ascii_only=True)
    assert lines[0] == " 1 - v scan - agent researcher - SCAN"
    assert all(line.isascii() for line in lines)


def test_a_circle_is_drawn_rather_than_followed_for_ever() -> None:
    lines = plan_lines(Plan(goal="g", subtasks=(subtask("a"), subtask("b", "c"), subtask("c", "b"))))
    assert [line[:2] for line in lines if line[:2].strip()] == [" 1", " ?"]


ids = st.sampled_from(["a", "b", "c", "d", "e"])
subtasks = st.builds(subtask, ids, ids, ids, title=st.text(max_size=20))
plans = st.lists(subtasks, max_size=5, unique_by=lambda s: s.id).map(
    lambda found: Plan(goal="g", subtasks=tuple(found))
)


@given(plans)
def test_every_subtask_is_drawn_once_and_every_line_is_one_line(plan: Plan) -> None:
    lines = plan_lines(plan)
    drawn = [match.group(1) for line in lines if (match := re.match(r"[ \d?]+[─┬├└] . (\w+) · ", line))]
    assert sorted(drawn) == sorted(plan.ids)
    assert all(len(line.splitlines()) == 1 for line in lines)
    assert plan_lines(plan) == lines


@given(plans, plans)
def test_the_difference_names_exactly_what_changed(before: Plan, after: Plan) -> None:
    lines = plan_diff(before, after)
    named = {sign: {re.split("[ :]", line[2:])[0] for line in lines if line[0] == sign} for sign in "+!-"}
    same = {s.id for s in after.subtasks if s in before.subtasks}
    assert named == {
        "+": set(after.ids - before.ids),
        "!": set(after.ids & before.ids) - same,
        "-": set(before.ids - after.ids),
    }


def test_the_difference_names_every_changed_field_with_both_values() -> None:
    new = PLAN["report"].model_copy(update={"depends_on": ("scan",), "role": "writer", "when": None})
    after = Plan(goal="g", subtasks=(PLAN["scan"], new, subtask("pdf", "scan")), new_tools=PLAN.new_tools)
    assert plan_diff(PLAN, after) == [
        "+ pdf · agent · PDF ← scan",
        "! report: depends_on scan, outline → scan; when scan.value > 0 → none; role none → writer",
        "- outline · agent · OUTLINE",
    ]


def test_a_patch_can_be_shown_without_the_plan_before_it() -> None:
    patch = Patch(base_version=1, reason="r", add=(subtask("a"),), replace=(subtask("b"),), remove=("c",))
    assert patch_lines(patch) == ["+ a · agent · A", "! b · agent · B", "- c"]
